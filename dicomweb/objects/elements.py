"""How values are taken out of a header that may say anything: what is not as the Standard wants it is as if it were not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Header = Mapping[str, Any]
# Of one value on a page; the table of fields has the whole.
LONGEST_TEXT = 20_000


def values(header: Header, tag: str) -> list[Any]:
    """Give the values of an element."""
    element = header.get(tag)
    found = element.get("Value") if isinstance(element, Mapping) else None
    return found if isinstance(found, list) else []


def text(header: Header, tag: str) -> str:
    """Give the value of an element as people write it."""
    return "\\".join(_text(value) for value in values(header, tag))[:LONGEST_TEXT]


def _text(value: Any) -> str:
    match value:
        case None | Mapping() if not value:
            return ""
        case Mapping():
            return str(value.get("Alphabetic") or value.get("Ideographic") or value.get("Phonetic") or "")
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case _:
            return str(value)


def items(header: Header, tag: str) -> list[Header]:
    """Give the items of a sequence."""
    return [item for item in values(header, tag) if isinstance(item, Mapping)]


def item(header: Header, tag: str) -> Header:
    """Give the first item of a sequence; without one an empty one."""
    found = items(header, tag)
    return found[0] if found else {}


def number(header: Header, tag: str) -> float | None:
    """Give the first value of an element as a number."""
    found = values(header, tag)[:1]
    try:
        value = float(found[0]) if found else math.nan
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def whole(header: Header, tag: str) -> int:
    """Give the first value of an element as a whole number; 0 when it is none."""
    value = number(header, tag)
    return int(value) if value is not None and 0 <= value < 1 << 53 else 0


def code(header: Header, tag: str) -> str:
    """Say a coded concept: its meaning, else its value (PS3.3 8.8)."""
    concept = item(header, tag)
    return text(concept, "00080104") or text(concept, "00080100")


def date(found: str) -> str:
    """Write a date (VR DA or the beginning of DT) as ``2026-11-21``; what is none as it is."""
    return f"{found[:4]}-{found[4:6]}-{found[6:8]}" if len(found) >= 8 and found[:8].isascii() and found[:8].isdigit() else found


def moment(found: str) -> str:
    """Write a date and time (VR DT) as ``2026-11-21 10:20:30``; what is none as it is."""
    day, rest = date(found), found[8:14]
    return f"{day} {rest[:2]}:{rest[2:4]}{':' + rest[4:6] if len(rest) > 4 else ''}" if day != found and len(rest) >= 4 and rest.isdigit() else day


def time(found: str) -> str:
    """Write a time (VR TM) as ``10:20:30``; what is none as it is."""
    return f"{found[:2]}:{found[2:4]}{':' + found[4:6] if len(found) >= 6 else ''}" if len(found) >= 4 and found[:4].isascii() and found[:4].isdigit() else found


def reference(header: Header) -> tuple[str, str]:
    """Give class and UID of the instance that an item refers to (PS3.3 10.8)."""
    return text(header, "00081150"), text(header, "00081155")


def facts(header: Header, named: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give (name, text) of those of some elements that have a value; named: name -> tag."""
    return [(name, found) for name, tag in named.items() if (found := text(header, tag))]
