"""Structured reports (PS3.3 C.17.3) as a tree that people can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dicomweb.languages import gettext
from dicomweb.objects.elements import Header, code, date, facts, item, items, moment, reference, text, time, values
from dicomweb.objects.kinds import class_name

MOST_ITEMS = 3000
DEEPEST = 30
_RELATIONS = {
    "HAS OBS CONTEXT": "context", "HAS ACQ CONTEXT": "acquisition", "HAS CONCEPT MOD": "", "HAS PROPERTIES": "", "INFERRED FROM": "inferred from",
    "SELECTED FROM": "selected from", "CONTAINS": "",
}  # fmt: skip


@dataclass
class Item:
    """One content item: its name, its value, and what belongs to it.

    instance: SOPInstanceUID of what it refers to. relation: to the item above, where it needs to be said.
    """

    kind: str
    name: str
    value: str = ""
    relation: str = ""
    instance: str = ""
    items: list[Item] = field(default_factory=list)


class Report(NamedTuple):
    """title, facts: what the document is. root: its content. left_out: items that are not shown."""

    title: str
    facts: list[tuple[str, str]]
    root: Item
    left_out: int


def read_report(header: Header) -> Report:
    """Read a report; of a very long or deep one the beginning."""
    counter = _Counter()
    root = _item(header, counter, 0)
    told = facts(header, {gettext("Completion"): "0040A491", gettext("Verification"): "0040A493", gettext("Author"): "0040A075"})
    observers = [text(one, "0040A075") for one in items(header, "0040A073")]
    if any(observers):
        told.append((gettext("Verified by"), ", ".join(filter(None, observers[:20]))))
    if day := date(text(header, "00080023")):
        told.insert(0, (gettext("Date"), f"{day} {time(text(header, '00080033'))}".strip()))
    return Report(root.name or gettext("Report"), told, root, counter.left_out)


class _Counter:
    def __init__(self) -> None:
        self.shown = 0
        self.left_out = 0


def _item(header: Header, counter: _Counter, depth: int) -> Item:
    counter.shown += 1
    kind = text(header, "0040A040")
    value, instance = _value(header, kind)
    made = Item(kind, code(header, "0040A043"), value, _RELATIONS.get(text(header, "0040A010"), ""), instance)
    for child in items(header, "0040A730"):
        if counter.shown >= MOST_ITEMS or depth >= DEEPEST:
            counter.left_out += 1
        else:
            made.items.append(_item(child, counter, depth + 1))
    return made


def _value(header: Header, kind: str) -> tuple[str, str]:
    """Give the value of a content item, and the instance it refers to."""
    if "0040DB73" in header:
        return gettext("see item %(item)s", item=".".join(map(str, values(header, "0040DB73")))), ""
    match kind:
        case "NUM":
            measured = item(header, "0040A300")
            unit = text(item(measured, "004008EA"), "00080100")
            written = f"{text(measured, '0040A30A')} {'' if unit in ('1', '{ratio}') else unit}".strip()
            return written or code(header, "0040A301") or gettext("no value"), ""
        case "CODE":
            return code(header, "0040A168"), ""
        case "DATE":
            return date(text(header, "0040A121")), ""
        case "TIME":
            return time(text(header, "0040A122")), ""
        case "DATETIME":
            return moment(text(header, "0040A120")), ""
        case "IMAGE" | "COMPOSITE" | "WAVEFORM":
            sop_class, uid = reference(item(header, "00081199"))
            frames = text(item(header, "00081199"), "00081160")
            return f"{class_name(sop_class) or kind.lower()}{f', frame {frames}' if frames else ''}", uid
        case "SCOORD" | "SCOORD3D":
            size = 3 if kind == "SCOORD3D" else 2
            return f"{text(header, '00700023').lower()}, {len(values(header, '00700022')) // size} points", ""
        case "TCOORD":
            return text(header, "0040A130").lower(), ""
        case _:
            return next((found for tag in ("0040A160", "0040A123", "0040A124") if (found := text(header, tag))), ""), ""
