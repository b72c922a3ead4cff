"""The contours of an RT structure set (PS3.3 C.8.8.6), as plain polygons that a viewer draws, and what they were drawn on (C.8.8.5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dicomweb.objects.elements import Header, items, text, values
from dicomweb.objects.structures import MOST_SERIES, MOST_STRUCTURES, Structure, read_structures

# What a browser draws without delay; at 0.01 mm this is about 5 MB of JSON.
MOST_POINTS = 250_000
MOST_CONTOURS = 20_000
# Of contours that are too long for the header index, each of which is read from the file.
MOST_READ = 200
# The images that contours name, of which the first that is there tells the series.
MOST_INSTANCES = 200
# A point is three numbers; 0.01 mm is finer than any pixel.
_DECIMALS = 2
_LARGEST = 1e6


class Contours(NamedTuple):
    """What is drawn of one structure. frame_of_reference: of its coordinates, or empty. lines: (GeometricType, x y z x y z … in mm)."""

    structure: Structure
    frame_of_reference: str
    lines: list[tuple[str, list[float]]]


class Drawing(NamedTuple):
    """All contours that there was room for. left_out: how many there was none for, or that cannot be read."""

    title: str
    structures: list[Contours]
    points: int
    left_out: int


class Drawn(NamedTuple):
    """What a structure set was drawn on: UIDs of series, of images and of frames of reference."""

    series: list[str]
    images: list[str]
    frames_of_reference: list[str]


def read_drawn(header: Header) -> Drawn:
    """Read what a structure set was drawn on; of each kind as many as are looked for."""
    frames = items(header, "30060010")[:MOST_SERIES]
    uids = [text(frame, "00200052") for frame in frames] + [text(one, "30060024") for one in items(header, "30060020")[:MOST_STRUCTURES]]
    return Drawn(read_structures(header).series, _first(_images(header), MOST_INSTANCES), _first(uids, MOST_SERIES))


def _first(uids: Any, most: int) -> list[str]:
    found: dict[str, None] = {}
    for uid in uids:
        if uid:
            found[uid] = None
        if len(found) == most:
            break
    return list(found)


def _images(header: Header) -> Iterator[str]:
    for roi in items(header, "30060039")[:MOST_STRUCTURES]:
        for contour in items(roi, "30060040"):
            for image in items(contour, "30060016")[:1]:
                yield text(image, "00081155")
    for frame in items(header, "30060010")[:MOST_SERIES]:
        for study in items(frame, "30060012")[:MOST_SERIES]:
            for series in items(study, "30060014")[:MOST_SERIES]:
                for image in items(series, "30060016"):
                    yield text(image, "00081155")


def read_contours(header: Header, read: Callable[[str], bytes | None], most: int = MOST_POINTS) -> Drawing:
    """Read the contours of the structures, in their order, until there are ``most`` points.

    read: gives the value of an element that the header only refers to, by its path, or None where that cannot be had.
    """
    told = read_structures(header)
    frames = {text(one, "30060022"): text(one, "30060024") for one in items(header, "30060020")}
    places = {text(one, "30060084"): (at, one) for at, one in enumerate(items(header, "30060039"))}
    room, contours, reads, left_out = most, MOST_CONTOURS, MOST_READ, 0
    structures = []
    for structure in told.rows:
        at, roi = places.get(structure.number, (0, {}))
        lines: list[tuple[str, list[float]]] = []
        for number, contour in enumerate(items(roi, "30060040")):
            numbers: list[float] = []
            if room > 0 and contours > 0:
                element = contour.get("30060050")
                if isinstance(element, dict) and "BulkDataURI" in element:
                    reads -= 1
                    content = read(f"30060039/{at}/30060040/{number}/30060050") if reads >= 0 else None
                    numbers = _numbers(content.decode("ascii", "replace").split("\\")) if content else []
                else:
                    numbers = _numbers(values(contour, "30060050"))
            if not numbers or len(numbers) // 3 > room:
                left_out += 1
                continue
            room -= len(numbers) // 3
            contours -= 1
            lines.append((text(contour, "30060042"), numbers))
        structures.append(Contours(structure, frames.get(structure.number, ""), lines))
    return Drawing(told.title, structures, most - room, left_out)


def _numbers(found: list[Any]) -> list[float]:
    """Give x y z x y z …; nothing when there is one among them that is no place in a patient."""
    if not found or len(found) % 3:
        return []
    try:
        numbers = [round(float(value), _DECIMALS) for value in found]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if all(math.isfinite(value) and abs(value) < _LARGEST for value in numbers) else []
