"""`mmsclient picture`: makes pictures fit, and shows what they are and give away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import asdict
from cyclopts import App, Parameter

from mmsclient._reading.image_file import FITTING
from mmsclient._words import counted
from mmsclient.bulk import CampaignImage, PictureColumn
from mmsclient.cli.output import Form, OneJSON, printable, show_facts, to_json
from mmsclient.cli.status import Status, UsageError
from mmsclient.cli.whole import WHOLE
from mmsclient.pictures import FITS_ANY_TEXT, MAX_SIZE, FittedPicture, PictureFacts, examine
from mmsclient.pictures import fit as fit_picture

app: App = App(name="picture", default_parameter=Parameter(negative=()))


@app.command
def fit(
    image: Path,
    output: Path,
    *,
    max_bytes: Annotated[int, WHOLE] = FITS_ANY_TEXT,
    max_width: Annotated[int, WHOLE] = MAX_SIZE[0],
    max_height: Annotated[int, WHOLE] = MAX_SIZE[1],
    overwrite: Annotated[bool, Parameter(show_default=False)] = False,
    json: OneJSON = False,
) -> None:
    """Make a picture fit: scaled down, upright, without its metadata. Needs the extra `images`.

    Parameters
    ----------
    image
        JPEG, PNG, GIF, WebP, TIFF, BMP, or HEIC where pillow-heif is installed.
    output
        File to write: a JPEG, PNG or GIF, as it turns out. Never the one that is read.
    max_bytes
        Of the result, from 2000 to 380000.
    max_width
        Pixels.
    max_height
        Pixels.
    overwrite
        Replace the output where it is there already.
    """
    if output.exists() and image.exists() and output.samefile(image):
        raise UsageError(f"the output is the picture itself: {output}")
    if output.exists() and not overwrite:
        raise UsageError(f"the output is there already: {output}; choose another name, or give --overwrite")
    picture = fit_picture(image, max_bytes=max_bytes, max_size=(max_width, max_height))
    output.write_bytes(picture.data)
    show_fitted(picture, Form.chosen(json), output)


@app.command
def show(image: Path, *, json: OneJSON = False) -> int:
    """Show what a picture is and gives away. Exit status 1 if the API does not take it as it is.

    Parameters
    ----------
    image
        File of the picture.
    """
    facts = examine(image)
    _show_facts(facts, Form.chosen(json))
    return Status.DONE if facts.is_sendable else Status.FAILED


def is_missing(image: Path) -> bool:
    """There is no such file."""
    return not image.exists()


async def picture_of(image: Path | None, column: str | None, *, fit: bool, form: Form) -> CampaignImage:
    """The picture of a campaign: a file, made to fit where that is asked for, or the column with each one's own."""
    if column is not None and image is None:
        return PictureColumn(column)
    if image is None or column is not None:
        raise UsageError("--image and --image-column: give one, the picture of all or the column with each one's file")
    return await fitted(image, form) if fit else image


async def fitted(image: Path, form: Form) -> FittedPicture:
    """The picture made to fit; what was done to it is printed, unless that is for scripts."""
    picture = await FITTING.run(fit_picture, image)
    if form is not Form.JSON:
        show_fitted(picture, form)
    return picture


def show_fitted(picture: FittedPicture, form: Form, output: Path | None = None) -> None:
    """What was done to a picture."""
    if form is Form.JSON:
        fields = asdict(picture, filter=lambda attribute, _: attribute.name not in ("data", "source_digest"))
        print(to_json({"output": str(output), "size": picture.size, **fields}))
        return
    changed = f"; {', '.join(picture.changed)}" if picture.changed else "; as it was given"
    print(printable(f"{picture}{changed}"))


def _show_facts(facts: PictureFacts, form: Form) -> None:
    if form is Form.JSON:
        print(to_json({**asdict(facts), "is_sendable": facts.is_sendable}))
        return
    rows = {
        "Format": facts.format,
        "Pixels": f"{facts.width} x {facts.height}"
        + (f", {counted(facts.frames, 'frame')}" if facts.frames > 1 else ""),
        "Size": f"{facts.size} bytes",
        "Metadata": ", ".join(facts.metadata) or "none",
        "Place": "it says where it was taken" if facts.tells_place else "it does not say where it was taken",
        "As it is": "the API takes it" if facts.is_sendable else f"the API does not take it: {facts.objection}",
    }
    show_facts(rows, form)
