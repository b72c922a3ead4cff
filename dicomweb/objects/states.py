"""Presentation states (PS3.3 A.33): how images were looked at, said in words."""

from __future__ import annotations

from typing import NamedTuple

from dicomweb.languages import gettext
from dicomweb.objects.elements import Header, date, facts, items, number, reference, text, values

MOST_LINES = 500


class State(NamedTuple):
    """lines: what it does to the images, a sentence each. texts: written into them. instances: (class, SOPInstanceUID) of the images."""

    title: str
    facts: list[tuple[str, str]]
    lines: list[str]
    texts: list[str]
    instances: list[tuple[str, str]]


def read_state(header: Header) -> State:
    """Read a presentation state; of one that says very much the beginning."""
    told = facts(header, {gettext("Description"): "00700081", gettext("Made by"): "00700084"})
    if day := date(text(header, "00700082")):
        told.insert(0, (gettext("Date"), day))
    instances = [reference(image) for series in items(header, "00081115")[:MOST_LINES] for image in items(series, "00081140")[:MOST_LINES]]
    annotations = items(header, "00700001")[:MOST_LINES]
    texts = [text(one, "00700006") for annotation in annotations for one in items(annotation, "00700008")[:MOST_LINES]]
    return State(text(header, "00700080") or gettext("Presentation state"), told, _lines(header, annotations), [one for one in texts if one][:MOST_LINES], instances[:MOST_LINES])


def _lines(header: Header, annotations: list[Header]) -> list[str]:
    lines: list[str] = []
    for one in items(header, "00283110")[:MOST_LINES]:
        center, width = text(one, "00281050"), text(one, "00281051")
        lines.append(gettext("Window of width %(width)s around %(center)s.", width=width, center=center) if width else gettext("A table of grey values (VOI LUT)."))
    turned = number(header, "00700042")
    if turned:
        lines.append(gettext("Turned by %(turned)s°.", turned=f"{turned:g}"))
    if text(header, "00700041") == "Y":
        lines.append(gettext("Mirrored left and right."))
    if shape := text(header, "20500020"):
        lines.append(gettext("Inverted.") if shape == "INVERSE" else gettext("Not inverted."))
    for one in items(header, "0070005A")[:MOST_LINES]:
        corners = [f"{text(one, tag)}".replace("\\", ", ") for tag in ("00700052", "00700053")]
        lines.append(gettext("Shown from pixel %(first)s to %(last)s (%(how)s).", first=corners[0], last=corners[1], how=text(one, "00700100").lower() or gettext("size not said")))
    shutters = [str(value).lower() for value in values(header, "00181600")]
    if shutters:
        lines.append(gettext("Covered outside of a shutter (%(shutters)s).", shutters=', '.join(shutters)))
    drawn: dict[str, int] = {}
    for annotation in annotations:
        for one in items(annotation, "00700009"):
            kind = text(one, "00700023").lower() or "shape"
            drawn[kind] = drawn.get(kind, 0) + 1
    if drawn:
        lines.append(gettext("Drawn into the images: %(shapes)s.", shapes=', '.join((f'{count} × {kind}' for kind, count in drawn.items()))))
    layers = [text(one, "00700002") for one in items(header, "00700060")[:MOST_LINES]]
    if layers:
        lines.append(gettext("Layers: %(layers)s.", layers=', '.join(layers)))
    return lines[:MOST_LINES]
