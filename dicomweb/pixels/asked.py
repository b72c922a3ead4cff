"""What can be asked of a child, and what it answers; plain values that travel between the processes as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

# A mammogram has 20 million, a digitised film up to 30; more is no picture for a browser.
MAX_PIXELS = 64 << 20
# Of one decoded frame, which both processes hold whole.
MAX_FRAME_BYTES = 256 << 20
# Width or height of a picture that was asked for; a larger one than the image itself only repeats pixels.
LARGEST_VIEWPORT = 8192
# Of the volume that a slice is cut out of: what has to be read for one slice through all images.
MAX_IMAGES_OF_A_VOLUME = 4096


class CannotRender(Exception):
    """A frame cannot be shown; ``code`` for programs, and the text, without header values, for people.

    Codes: no-pixels, no-frame, undecodable, too-large, missing; and of the children: busy, slow, crashed.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Frame(NamedTuple):
    """Which frame: a byte range of a file, and the number of the frame in it, from 1."""

    path: Path
    offset: int
    length: int
    number: int = 1


class Window(NamedTuple):
    """A window of values, in units after the modality transformation (PS3.3 C.11.2.1.2).

    function: LINEAR, LINEAR_EXACT or SIGMOID.
    """

    center: float
    width: float
    function: str = "LINEAR"


class Region(NamedTuple):
    """A part of an image in its pixels, from its upper left corner; a negative width or height flips it (PS3.18 8.3.5.1.4)."""

    x: float
    y: float
    width: float
    height: float


class Viewport(NamedTuple):
    """The box that a picture has to fit in, keeping its aspect ratio, and the part of the image that is shown; 0: up to the edge."""

    width: int
    height: int
    region: Region | None = None


class Look(NamedTuple):
    """How a picture is to look; what is None is as the header says.

    kind: png or jpeg. quality: of a JPEG, 1 to 100.
    """

    kind: str = "png"
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = 90


class Plain(NamedTuple):
    """A decoded frame: native, little endian, colours as RGB, padded to a whole number of nothing.

    bits: allocated for a sample; with 1 the pixels are packed, the first one in the lowest bit (PS3.5 8.1.1).
    """

    data: bytes
    rows: int
    columns: int
    samples: int
    bits: int


class Cut(NamedTuple):
    """A slice through a volume whose images lie at equal steps.

    frames: of the images, in the order of the steps. origin: the first pixel of the first image, in mm. axes: what one pixel to the
    right, one pixel down and one image further means, each a vector in mm. plane: axial, coronal or sagittal. position: of the
    plane along its axis in mm, None: through the middle. mirrored: seen from the other side.
    """

    frames: tuple[Frame, ...]
    origin: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    plane: str
    position: float | None = None
    mirrored: bool = False


def frame_json(frame: Frame) -> list[Any]:
    """Write a frame as JSON can hold it: a path is bytes."""
    return [os.fsencode(frame.path).hex(), frame.offset, frame.length, frame.number]


def read_frame(written: list[Any]) -> Frame:
    """Read back what ``frame_json`` wrote."""
    path, *numbers = written
    return Frame(Path(os.fsdecode(bytes.fromhex(path))), *numbers)


def look_json(look: Look) -> list[Any]:
    """Write a look as JSON can hold it."""
    return [look.kind, look.window, look.viewport, look.quality]


def read_look(written: list[Any]) -> Look:
    """Read back what ``look_json`` wrote."""
    kind, window, viewport, quality = written
    if viewport is not None:
        width, height, region = viewport
        viewport = Viewport(width, height, None if region is None else Region(*region))
    return Look(kind, None if window is None else Window(*window), viewport, quality)


def read_cut(written: list[Any]) -> Cut:
    """Read back a cut that was written with its frames by ``frame_json``."""
    frames, origin, axes, plane, position, mirrored = written
    right, down, next_image = map(tuple, axes)
    return Cut(tuple(map(read_frame, frames)), tuple(origin), (right, down, next_image), plane, position, mirrored)
