"""`python -m mmsclient`: the command `mmsclient`."""

import sys

from mmsclient.cli import main

if __name__ == "__main__":
    sys.exit(main())
