"""Pictures that move: a GIF that fits, with the timing and the loop of the one that was given."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Iterator, Sequence

from attrs import define, evolve, field, frozen
from PIL import Image, ImageChops

from mmsclient.pictures._containers.container import Animation, Container
from mmsclient.pictures._containers.gif import first_image
from mmsclient.pictures._decoding import TURNS, is_opaque, opened, scaled, told_as_damaged

__all__ = ["MovingPicture", "animated", "check_frames"]

MOST_FRAMES = 600
MOST_PIXELS = 20_000_000
"""Frames, and pixels in all of them, that are kept in memory; a GIF of the API's size holds no more of either."""

FLOOR = 200
"""Pixels of the longer side below which colours are given up first, and then frames."""
LEAST_COLOURS = 16

MOST_DELAY = 655_350
"""Milliseconds that a frame of a GIF can be shown."""

SAMPLES, SAMPLE_SIDE = 12, 64
"""Frames from which the palette is chosen, and the longest side that they are looked at with."""


@frozen(kw_only=True)
class MovingPicture:
    """A GIF that fits."""

    data: bytes
    width: int
    height: int
    frames: int
    colours: int


@frozen
class _Frame:
    image: Image.Image
    """RGBA, upright; each pixel is wholly transparent or not at all."""
    delay: int
    """Milliseconds."""


@frozen
class _Plan:
    """What is left of the picture."""

    factor: float = 1.0
    """Of its sides, as they were read."""
    step: int = 1
    """One in so many of the frames that were read."""
    colours: int = 256

    def smaller(self, share: float, longest: int, frames: int) -> _Plan:
        """The next one, where of this one's file only `share` fits. Its longest side, and the frames that were read."""
        if longest > FLOOR:
            return evolve(self, factor=self.factor * max(0.7, min(0.9, math.sqrt(share) * 0.97), FLOOR / longest))
        if self.colours > LEAST_COLOURS:
            return evolve(self, colours=self.colours // (4 if share < 0.5 and self.colours > 64 else 2))
        if self.step < frames:
            return evolve(self, step=min(frames, max(self.step + 1, math.ceil(self.step / share))))
        return evolve(self, factor=self.factor * 0.7)


def animated(container: Container, animation: Animation, size: tuple[int, int], max_bytes: int) -> MovingPicture:
    """The best GIF found in at most `max_bytes`; `size` is before it is turned."""
    read = list(_frames(container, animation, size))
    is_covered = all(is_opaque(frame.image) for frame in read)
    plan = _Plan()
    palette = _palette(read, plan.colours)
    while True:
        width, height = scaled(read[0].image.size, plan.factor)
        kept = list(_fewer(read, plan.step))
        frames = (_scaled(frame, plan.factor) for frame in kept)
        file = _File((width, height), palette, plan.colours, is_covered=is_covered)
        size_needed = file.write(frames, len(kept), animation.loops, max_bytes)
        if size_needed <= max_bytes:
            data = bytes(file.data)
            return MovingPicture(data=data, width=width, height=height, frames=len(kept), colours=plan.colours)
        before, plan = plan, plan.smaller(max_bytes / size_needed, max(width, height), len(read))
        if plan.colours != before.colours:
            palette = _palette(read, plan.colours)


def check_frames(container: Container, animation: Animation) -> None:
    """Decode all frames. Raises whatever Pillow does for a damaged one."""
    for _ in _decoded(container, len(animation.delays)):
        pass


def _decoded(container: Container, count: int) -> Iterator[Image.Image]:
    with told_as_damaged():
        image = opened(container)
    for number in range(count):
        with told_as_damaged():
            image.seek(number)
            image.load()
        yield image


def _frames(container: Container, animation: Animation, size: tuple[int, int]) -> Iterator[_Frame]:
    """As many frames, as large, as may be kept in memory."""
    count = len(animation.delays)
    too_many = count * size[0] * size[1] / MOST_PIXELS
    if too_many > 1 and max(size) > FLOOR:
        size = scaled(size, max(math.sqrt(1 / too_many), FLOOR / max(size)))
    step = max(1, math.ceil(count / MOST_FRAMES), math.ceil(count * size[0] * size[1] / MOST_PIXELS))
    turn = TURNS.get(container.orientation)
    for number, image in enumerate(_decoded(container, count)):
        if number % step:
            continue
        whole = image.convert("RGBA").crop((0, 0, container.width, container.height))
        if whole.size != size:
            whole = whole.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        if turn is not None:
            whole = whole.transpose(turn)
        yield _Frame(_hard(whole), min(MOST_DELAY, sum(animation.delays[number : number + step])))


def _fewer(frames: Sequence[_Frame], step: int) -> Iterator[_Frame]:
    """One in `step` frames, each shown for as long as those that it stands for."""
    for start in range(0, len(frames), step):
        delay = sum(frame.delay for frame in frames[start : start + step])
        yield _Frame(frames[start].image, min(MOST_DELAY, delay))


def _scaled(frame: _Frame, factor: float) -> _Frame:
    if factor == 1.0:
        return frame
    size = scaled(frame.image.size, factor)
    return evolve(frame, image=_hard(frame.image.resize(size, Image.Resampling.LANCZOS)))


def _hard(image: Image.Image) -> Image.Image:
    """`image`, in which each pixel is wholly transparent or not at all."""
    image.putalpha(image.getchannel("A").point([0] * 128 + [255] * 128))
    return image


# The file -------------------------------------------------------------------------------------------------------------


@define
class _File:
    """A GIF that is written."""

    size: tuple[int, int]
    palette: Image.Image
    colours: int
    is_covered: bool = field(kw_only=True)
    """Nothing in it is transparent: what is the same as in the frame before needs not be drawn again."""
    data: bytearray = field(factory=bytearray)

    def write(self, frames: Iterable[_Frame], count: int, loops: int | None, max_bytes: int) -> int:
        """Write the `count` frames, and return the size: an estimate, with not all written, where it is too much."""
        nothing = self.colours - 1  # the index of what is transparent
        self.data += _header(self.size, self.palette, self.colours, loops)
        before: Image.Image | None = None
        for number, frame in enumerate(frames, 1):
            now = _indices(frame.image, self.palette, nothing)
            left, top, part = _what_changed(before, now, nothing) if self.is_covered else (0, 0, now)
            self.data += _control(frame.delay, nothing, keeps=self.is_covered) + _image(part, left, top)
            before = now
            if len(self.data) > max_bytes and number < count:
                return max(max_bytes + 1, len(self.data) * count // number)
        self.data += b";"
        return len(self.data)


def _palette(frames: Sequence[_Frame], colours: int) -> Image.Image:
    """An image whose palette suits all frames, with the last of `colours` left for what is transparent."""
    samples = frames[:: math.ceil(len(frames) / SAMPLES)]
    width, height = scaled(samples[0].image.size, min(1.0, SAMPLE_SIDE / max(samples[0].image.size)))
    sheet = Image.new("RGB", (width, height * len(samples)))
    for number, sample in enumerate(samples):
        sheet.paste(sample.image.convert("RGB").resize((width, height), Image.Resampling.NEAREST), (0, number * height))
    return sheet.quantize(colours - 1, method=Image.Quantize.MEDIANCUT)


def _indices(image: Image.Image, palette: Image.Image, nothing: int) -> Image.Image:
    """The index of each pixel in the palette, as an image of mode L."""
    nearest = image.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    indices = Image.frombytes("L", image.size, nearest.tobytes())
    indices.paste(nothing, mask=ImageChops.invert(image.getchannel("A")))
    return indices


def _what_changed(before: Image.Image | None, now: Image.Image, nothing: int) -> tuple[int, int, Image.Image]:
    """The part of `now` that differs, where it lies; within it what is the same is transparent."""
    if before is None:
        return 0, 0, now
    same = ImageChops.difference(before, now).point([255] + [0] * 255)
    box = ImageChops.invert(same).getbbox() or (0, 0, 1, 1)
    part = now.crop(box)
    part.paste(nothing, mask=same.crop(box))
    return box[0], box[1], part


def _header(size: tuple[int, int], palette: Image.Image, colours: int, loops: int | None) -> bytes:
    bits = colours.bit_length() - 1
    table = bytes(palette.getpalette("RGB") or ())[: 3 * colours].ljust(3 << bits, b"\0")
    repeated = b"" if loops is None else b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", loops) + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", *size, 0xF0 | bits - 1, 0, 0) + table + repeated


def _control(delay: int, nothing: int, *, keeps: bool) -> bytes:
    """How long a frame is shown, and whether it stays under the next one or is taken away."""
    disposal = 1 if keeps else 2
    return b"!\xf9\x04" + struct.pack("<BHBB", disposal << 2 | 1, round(delay / 10), nothing, 0)


def _image(indices: Image.Image, left: int, top: int) -> bytes:
    file = io.BytesIO()
    indices.save(file, "GIF", optimize=False, interlace=False)
    block = first_image(file.getvalue())
    width, height = indices.size
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + block[10:]
