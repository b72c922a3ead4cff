"""RT plans (PS3.3 A.20, C.8.8): prescriptions, groups of fractions, and beams."""

from __future__ import annotations

from typing import NamedTuple

from dicomweb.languages import gettext
from dicomweb.objects.elements import Header, date, facts, item, items, reference, text, whole

MOST_ROWS = 500
Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


class Plan(NamedTuple):
    """tables: title, headings and rows each. structures: SOPInstanceUID of the structure set it was made on."""

    title: str
    facts: list[tuple[str, str]]
    tables: list[Table]
    structures: str


def read_plan(header: Header) -> Plan:
    """Read a plan for photons or ions."""
    told = facts(header, {gettext("Name"): "300A0003", gettext("Description"): "300A0004", gettext("Intent"): "300A000A", gettext("Geometry"): "300A000C", gettext("Approval"): "300E0002"})
    if day := date(text(header, "300A0006")):
        told.insert(0, (gettext("Date"), day))
    prescriptions: list[tuple[str, ...]] = [
        (text(one, "300A0012"), text(one, "300A0014").lower(), text(one, "300A0016"), text(one, "300A0020").lower(), _dose(text(one, "300A0026")))
        for one in items(header, "300A0010")[:MOST_ROWS]
    ]
    groups: list[tuple[str, ...]] = [
        (text(one, "300A0071"), text(one, "300A0078"), text(one, "300A0080"), text(one, "300A00A0")) for one in items(header, "300A0070")[:MOST_ROWS]
    ]
    beams: list[tuple[str, ...]] = [_beam(one) for one in (items(header, "300A00B0") or items(header, "300A03A2"))[:MOST_ROWS]]
    tables: list[Table] = [
        (gettext("Prescriptions"), (gettext("Number"), "Of", gettext("Description"), gettext("Kind"), gettext("Dose")), prescriptions),
        (gettext("Groups of fractions"), (gettext("Number"), gettext("Fractions"), gettext("Beams"), gettext("Brachytherapy set-ups")), groups),
        (gettext("Beams"), (gettext("Number"), gettext("Name"), gettext("Kind"), gettext("Radiation"), gettext("Energy"), gettext("Gantry"), gettext("Control points"), gettext("Machine")), beams),
    ]
    return Plan(text(header, "300A0002") or gettext("Plan"), told, [table for table in tables if table[2]], reference(item(header, "300C0060"))[1])


def _beam(beam: Header) -> tuple[str, ...]:
    points = items(beam, "300A0111") or items(beam, "300A03A8")
    first = points[0] if points else {}
    energy, gantry = text(first, "300A0114"), text(first, "300A011E")
    return (
        text(beam, "300A00C0"), text(beam, "300A00C2"), text(beam, "300A00C4").lower(), text(beam, "300A00C6").lower(), f"{energy} MeV" if energy else "",
        f"{gantry}°" if gantry else "", str(whole(beam, "300A0110") or len(points) or ""), text(beam, "300A00B2"),
    )  # fmt: skip


def _dose(value: str) -> str:
    return f"{value} Gy" if value else ""
