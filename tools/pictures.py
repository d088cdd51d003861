"""`python -m tools.pictures`: the pictures of the demo and of a campaign, drawn by the command itself.

Both run against the sandbox, in a few seconds. Make them again when what the command prints has changed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from unittest.mock import patch

from rich.console import Console
from rich.terminal_theme import MONOKAI

import mmsclient.cli
from mmsclient.cli import screens
from mmsclient.cli.output import Form
from mmsclient.cli.sample_image import sunset
from mmsclient.sandbox import Ending, Sandbox

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
WIDTH = 108


@contextmanager
def recorded(command: str, target: Path) -> Iterator[None]:
    """What the command prints on a terminal, as an SVG: without what a terminal draws over again."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, ExitStack() as patches:
        screen = Console(
            file=nowhere,
            width=WIDTH,
            height=50,
            record=True,
            force_terminal=True,
            color_system="truecolor",
            _environ={"TERM": "dumb"},
        )
        for found in iter_modules(mmsclient.cli.__path__):
            module = import_module(f"mmsclient.cli.{found.name}")
            if hasattr(module, "Console"):
                patches.enter_context(patch.object(module, "Console", lambda *_, **__: screen))
        patches.enter_context(patch.object(screens, "is_steerable", lambda console: True))  # it is drawn at its end
        patches.enter_context(patch("rich._console", screen))
        patches.enter_context(patch.object(Form, "chosen", lambda as_json: Form.TABLE))
        screen.print(f"[bold green]$[/] {command}", highlight=False)
        yield
    drawn = screen.export_svg(title="mmsclient", theme=MONOKAI, unique_id=target.stem)
    fetches_nothing = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    lines = "\n".join(line.rstrip() for line in fetches_nothing.splitlines())
    target.write_text(f"{lines}\n", encoding="utf-8")


def draw(command: str, target: Path) -> None:
    """Run `command` and draw what it prints."""
    with recorded(command, target):
        mmsclient.cli.main(command.split()[1:])


def main() -> None:
    """Draw all."""
    draw("mmsclient demo", PICTURES / "demo.svg")
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        Path(folder, "sale.png").write_bytes(sunset())
        numbers = [f"+6140000{n:04}" for n in range(2498)] + [f"+6140000{Ending.REFUSED}", "400", "+61400000001"]
        Path(folder, "list.csv").write_text("mobile\n" + "\n".join(numbers) + "\n", encoding="utf-8")
        os.environ |= {"MMSCLIENT_APP_KEY": sandbox.app_key, "MMSCLIENT_BASE_URL": sandbox.url}
        os.chdir(folder)
        draw(
            "mmsclient bulk send list.csv --text Sale --image sale.png --journal spring.db --yes",
            PICTURES / "campaign.svg",
        )
        os.chdir(PICTURES)


if __name__ == "__main__":
    main()
