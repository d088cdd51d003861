"""An alert that shows what happened: the last readings as a chart, sent to who is on call.

    python alert_with_chart.py readings.csv 8.0 alert.state +61400000000 +61400000001

`readings.csv` holds `time,value`, the newest last. Run it every minute: one message goes out when the value rises above
the limit, and none until it has been below again. Exit status: 0 all is well or it was sent, 1 it could not be sent.
"""

import asyncio
import csv
import io
import logging
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from mmsclient import AsyncMMSClient, MMSError, OutcomeUnknownError

SIZE, MARGIN = (640, 360), 40
SHOWN = 120
"""Readings in the chart."""

log = logging.getLogger("alert")


def readings(path: str) -> list[tuple[str, float]]:
    """Times and values, the last of them."""
    with open(path, newline="", encoding="utf-8") as file:
        return [(row["time"], float(row["value"])) for row in csv.DictReader(file)][-SHOWN:]


def chart(rows: list[tuple[str, float]], limit: float) -> bytes:
    """A PNG of a few kilobytes; 380 000 bytes are the most that a message takes."""
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    top = max(limit, *(value for _, value in rows)) * 1.1 or 1.0
    width, height = SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN

    def at(place: int, value: float) -> tuple[float, float]:
        return MARGIN + width * place / max(1, len(rows) - 1), MARGIN + height * (1 - max(0.0, value) / top)

    draw.line([at(0, limit), at(len(rows) - 1, limit)], fill="red", width=2)
    draw.line([at(place, value) for place, (_, value) in enumerate(rows)], fill="navy", width=3)
    draw.text((MARGIN, SIZE[1] - MARGIN + 8), f"{rows[0][0]}  to  {rows[-1][0]}", fill="black")
    draw.text((MARGIN, MARGIN - 20), f"limit {limit:g}, now {rows[-1][1]:g}", fill="red")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def is_due(rows: list[tuple[str, float]], limit: float, state: Path) -> bool:
    """The value is above `limit`, and nobody was alerted of that yet."""
    if not rows or rows[-1][1] <= limit:
        state.unlink(missing_ok=True)
        return False
    return not state.exists()


async def alert(mms: AsyncMMSClient, rows: list[tuple[str, float]], limit: float, on_call: list[str]) -> str:
    """Send the alert: `sent`, `unknown` where it may have gone out, or nothing where it surely did not."""
    text = f"{rows[-1][0]}: {rows[-1][1]:g}, above {limit:g}"
    try:
        log.info("%s", await mms.send(to=on_call, text=text, image=chart(rows, limit), subject="Alert"))
    except OutcomeUnknownError as error:  # a second one every minute helps nobody
        log.warning("%s", error)
        return "unknown"
    except MMSError as error:
        log.error("%s", error)  # noqa: TRY400 - the error says it all in a line
        return ""
    return "sent"


def main(path: str, limit: str, state: str, *on_call: str) -> int:
    """The check, with the key from MMSCLIENT_APP_KEY; the exit status."""
    rows = readings(path)
    if not is_due(rows, float(limit), Path(state)):
        return 0

    async def send() -> str:
        async with AsyncMMSClient() as mms:
            return await alert(mms, rows, float(limit), list(on_call))

    outcome = asyncio.run(send())
    if outcome:  # else the next run tries again
        Path(state).write_text(outcome, encoding="utf-8")
    return 0 if outcome == "sent" else 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(main(*sys.argv[1:]))
