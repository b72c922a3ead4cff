"""RT structure sets (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8): which structures there are, and what is drawn of each."""

from __future__ import annotations

from typing import NamedTuple

from dicomweb.languages import gettext
from dicomweb.objects.elements import Header, date, facts, items, number, text, values, whole

MOST_STRUCTURES = 2000
MOST_SERIES = 50


class Structure(NamedTuple):
    """colour: red, green and blue, 0 to 255. contours, points: how many are drawn. volume: in ml, as the header says."""

    number: str
    name: str
    kind: str
    colour: tuple[int, int, int] | None
    contours: int
    points: int
    shapes: str
    volume: float | None
    made: str


class Structures(NamedTuple):
    """series: UIDs of those it was drawn on."""

    title: str
    facts: list[tuple[str, str]]
    rows: list[Structure]
    series: list[str]
    left_out: int


def read_structures(header: Header) -> Structures:
    """Read a structure set; of very many structures the first."""
    drawn = {text(one, "30060084"): one for one in items(header, "30060039")}
    observed = {text(one, "30060084"): one for one in items(header, "30060080")}
    found = items(header, "30060020")
    rows = [_structure(one, drawn, observed) for one in found[:MOST_STRUCTURES]]
    told = facts(header, {gettext("Name"): "30060004", gettext("Description"): "30060006", gettext("Approval"): "300E0002"})
    if day := date(text(header, "30060008")):
        told.insert(0, (gettext("Date"), day))
    return Structures(text(header, "30060002") or gettext("Structures"), told, rows, _series(header), len(found) - len(rows))


def _structure(roi: Header, drawn: dict[str, Header], observed: dict[str, Header]) -> Structure:
    key = text(roi, "30060022")
    outline, seen = drawn.get(key, {}), observed.get(key, {})
    contours = items(outline, "30060040")
    shapes = sorted({text(one, "30060042").replace("_", " ").lower() for one in contours[:1000]} - {""})
    points = sum(whole(one, "30060046") or len(values(one, "30060050")) // 3 for one in contours)
    return Structure(
        key, text(roi, "30060026"), text(seen, "300600A4").replace("_", " ").lower(), _colour(outline), len(contours), points, ", ".join(shapes),
        number(roi, "3006002C"), text(roi, "30060036").replace("_", " ").lower(),
    )  # fmt: skip


def _colour(outline: Header) -> tuple[int, int, int] | None:
    try:
        red, green, blue = (min(255, max(0, int(value))) for value in values(outline, "3006002A"))
    except (TypeError, ValueError):
        return None
    return red, green, blue


def _series(header: Header) -> list[str]:
    found = [
        text(series, "0020000E")
        for frame in items(header, "30060010")[:MOST_SERIES]
        for study in items(frame, "30060012")[:MOST_SERIES]
        for series in items(study, "30060014")[:MOST_SERIES]
    ]
    return list(dict.fromkeys(filter(None, found)))[:MOST_SERIES]
