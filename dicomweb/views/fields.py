"""The table of fields of an image: rows from its header as a DICOM JSON object (PS3.18 Annex F)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from pydicom.datadict import dictionary_description, dictionary_has_tag, keyword_for_tag, private_dictionary_description

from dicomweb import query
from dicomweb.headers.dictionary import path_of
from dicomweb.languages import gettext

# What a browser draws without a pause; what is left out is found with the filter, which looks at everything.
MOST_ROWS = 4000
# More values of one element are shown as one text.
MOST_LINKS = 8
# Of a longer value the page shows the beginning, of a much longer one it leads to the whole.
SHORT = 120
LONG = 4000


@dataclass
class Row:
    """One element: what the table shows of it.

    path: its place in the header, ``00400275/1/00400009`` with the numbers of the items it is nested in. values: each value and
    the address of the search for it, when there are few and short ones. items: of a sequence, the rows of each item. text is cut
    at LONG characters; length tells how long it is.
    """

    path: str
    tag: str
    keyword: str
    name: str
    vr: str
    private: bool
    text: str = ""
    length: int = 0
    note: str = ""
    values: list[tuple[str, str]] = field(default_factory=list)
    items: list[list[Row]] = field(default_factory=list)

    @property
    def short(self) -> str:
        """The beginning of the value."""
        return self.text if self.length <= SHORT else self.text[:SHORT] + "…"

    @property
    def is_cut(self) -> bool:
        """Is there more than ``short``?"""
        return self.length > SHORT

    @property
    def is_long(self) -> bool:
        """Is there more than ``text``?"""
        return self.length > LONG


class Table:
    """The rows of a header that contain some text, as many as a page shows."""

    def __init__(self, header: dict[str, Any], wanted: str = "") -> None:
        """Make the table; wanted: what tag, keyword, name or value must contain, in any case; of a sequence something within."""
        self._wanted = wanted.casefold()
        self.shown = 0
        self.left_out = 0
        self.rows = self._rows(header, "", "")

    def _rows(self, elements: dict[str, Any], above: str, indexed: str) -> list[Row]:
        creators: dict[tuple[str, str], str] = {}
        rows = []
        for tag, element in elements.items():
            creator = _note_creator(creators, tag, element)
            row = _row(tag, element, creator, above)
            path = indexed + path_of(int(tag, 16), creator or "")
            if element.get("vr") == "SQ":
                row.items = [
                    self._rows(item or {}, f"{above}{tag}/{number}/", f"{path}/")
                    for number, item in enumerate(element.get("Value", ()), 1)
                ]
            elif not row.is_cut:
                row.values = _values(path, element)
            if not self._wanted or self._matches(row, element) or any(row.items):
                if self.shown >= MOST_ROWS:
                    self.left_out += 1
                    continue
                self.shown += 1
                rows.append(row)
        return rows

    def _matches(self, row: Row, element: dict[str, Any]) -> bool:
        text = value_text(element) if row.is_long else row.text
        return any(self._wanted in part.casefold() for part in (row.tag, row.path, row.keyword, row.name, text))


def value_text(element: dict[str, Any]) -> str:
    """Write the value of an element as people write it: several values with a backslash between them."""
    values = element.get("Value")
    if values is None:
        return ""
    return "\\".join(_one(value) for value in values)


def _values(path: str, element: dict[str, Any]) -> list[tuple[str, str]]:
    values = [_one(value) for value in element.get("Value", ())]
    if not any(values) or len(values) > MOST_LINKS:
        return []
    found = query.field_at(path)
    return [(text, _address(found, text) if text else "") for text in values]


def _address(found: query.Field, text: str) -> str:
    try:
        written = query.unparse(query.equals(found, text))
        # What the language cannot say has no link: half of a surrogate pair, a path that is too long for a name.
        query.parse(written)
    except ValueError:
        return ""
    return f"/search?{urlencode({'q': written})}"


def find(header: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Find an element by the path of its row; None when there is none."""
    *above, tag = path.split("/")
    elements = header
    for sequence, number in zip(above[::2], above[1::2], strict=False):
        items = elements.get(sequence, {}).get("Value", ())
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= len(items)):
            return None
        elements = items[int(number[:9]) - 1] or {}
    found = elements.get(tag)
    return found if isinstance(found, dict) else None


def _note_creator(creators: dict[tuple[str, str], str], tag: str, element: dict[str, Any]) -> str | None:
    """Give the private creator of an element; remember it when the element is one (PS3.5 7.8.1)."""
    if not int(tag[:4], 16) % 2:
        return None
    if tag[4:6] == "00" and tag[6:] >= "10":
        creators[tag[:4], tag[6:]] = value_text(element)
        return ""
    return creators.get((tag[:4], tag[4:6]), "")


def _row(tag: str, element: dict[str, Any], creator: str | None, above: str) -> Row:
    number = int(tag, 16)
    private = creator is not None
    keyword = name = ""
    if not private:
        keyword = keyword_for_tag(number)
        name = dictionary_description(number) if dictionary_has_tag(number) else gettext("Unknown element")
    elif tag[4:6] == "00":
        name = gettext("Private creator")
    else:
        name = _private_name(number, creator or "") or gettext("Private element")
    row = Row(f"{above}{tag}", f"({tag[:4]},{tag[4:]})", keyword, name, str(element.get("vr", "")), private)
    if private and creator:
        row.note = creator
    if element.get("vr") == "SQ":
        return row
    if "BulkDataURI" in element or "InlineBinary" in element:
        inline = str(element.get("InlineBinary", ""))
        row.text = f"binary, {len(inline) * 3 // 4 - inline[-2:].count('='):,} bytes" if inline else "binary"
        row.length = len(row.text)
        return row
    text = value_text(element)
    row.length = len(text)
    row.text = text[:LONG]
    return row


def _private_name(number: int, creator: str) -> str:
    try:
        return private_dictionary_description(number, creator).strip("[]")
    except KeyError:
        return ""


def _one(value: Any) -> str:
    match value:
        case None:
            return ""
        case {"Alphabetic": _} | {"Ideographic": _} | {"Phonetic": _}:
            return "=".join(value.get(part, "") for part in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case _:
            return str(value)


def walk(rows: list[Row]) -> Iterator[Row]:
    """Give all rows, nested ones included."""
    for row in rows:
        yield row
        for item in row.items:
            yield from walk(item)
