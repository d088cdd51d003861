"""What the client is measured by, against its peers: `python -m benchmarks`."""
