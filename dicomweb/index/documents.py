"""The document of a group: one compressed blob from which the complete header of each of its images is rebuilt exactly.

Elements come as serialised JSON and are never parsed: those equal in all images are kept once, neighbours as one run of
bytes; the others as one column a tag, with one cell an image. Rebuilding an image joins runs and cells. Control characters
separate the parts, as JSON has none of them outside of its strings and only escaped ones inside::

    series ids (JSON, one an image, null when it was removed)
    SECTION  file meta: entries     SECTION  data set: entries      (tags ascending)
    entry:   bytes                             in all images
             bytes CELL bytes CELL bytes ...   what precedes each cell, then the cells; an empty cell: not in this image
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import zstandard

# Higher levels save a tenth and take several times as long.
LEVEL = 9
# How a JSON element refers to bulk data: this mark and the path, so that the reader puts the instance's address in its place.
MARK = "\x01"
_MARKED = b'"BulkDataURI":' + orjson.dumps(MARK)[:-1]

_SECTION, _ENTRY, _CELL = b"\x1d", b"\x1e", b"\x1f"
# What the tag takes of an element: "00080060":
_TAG = slice(1, 9)
_VALUE = slice(11, None)


class _Entry(NamedTuple):
    """One column, or (cells is None) bytes that are the same in all images."""

    head: bytes
    cells: Sequence[bytes] | None


class Document(NamedTuple):
    """An opened document."""

    series_ids: list[int | None]
    meta: list[_Entry]
    elements: list[_Entry]
    has_bulk_data: bool

    def header(self, ordinal: int, bulk_prefix: bytes) -> bytes:
        """Build the DICOM JSON object (PS3.18 Annex F) of one image, tags ascending; bulk data gets the prefix."""
        parts = [head if cells is None else head + cells[ordinal] for head, cells in self.elements if cells is None or cells[ordinal]]
        built = b"{" + b",".join(parts) + b"}"
        return built.replace(_MARKED, b'"BulkDataURI":"' + bulk_prefix) if self.has_bulk_data else built

    def file_meta(self, ordinal: int) -> dict[str, bytes]:
        """Give the elements of the file meta group of one image: tag -> DICOM JSON element."""
        parts = [head if cells is None else head + cells[ordinal] for head, cells in self.meta if cells is None or cells[ordinal]]
        return {part[_TAG].decode(): part[_VALUE] for part in parts}


def pack(series_ids: Sequence[int], metas: Sequence[Mapping[str, bytes]], elements: Sequence[Mapping[str, bytes]]) -> bytes:
    """Make the document of a group from the series, the file meta group and the data set of each of its images.

    The mappings have top-level tags (8 hexadecimal digits) and serialised, compact DICOM JSON elements.
    Raises ValueError when an element is no JSON.
    """
    return _compress(list(series_ids), _entries(metas), _joined(_entries(elements)))


def open_document(document: bytes) -> Document:
    """Open a document."""
    raw = zstandard.decompress(document)
    series_ids, meta, elements = raw.split(_SECTION)
    return Document(orjson.loads(series_ids), _split(meta), _split(elements), _MARKED in elements)


class Picked(NamedTuple):
    """Some elements of all images: those that all share, parsed, and the cells of the others, empty where an image has none."""

    series_ids: list[int | None]
    shared: dict[str, Any]
    varying: dict[str, Sequence[bytes]]


def pick(document: bytes, tags: Collection[str] | None, groups: Collection[str] = ()) -> Picked:
    """Read the elements with these tags, and all of these groups (4 hexadecimal digits), file meta included; without tags all.

    Nothing else is taken apart, so few tags take a fraction of the time of ``open_document``.
    """
    series_ids, *sections = zstandard.decompress(document).split(_SECTION)
    if tags is None:
        return _all(series_ids, sections)
    wanted = frozenset(tags)
    pattern = _pattern(wanted, frozenset(groups))
    shared: dict[str, Any] = {}
    varying: dict[str, Sequence[bytes]] = {}
    for section in sections:
        for entry in section.split(_ENTRY) if section else ():
            if _CELL in entry:
                tag = entry[_TAG].decode()
                if tag in wanted or tag[:4] in groups:
                    varying[tag] = entry.split(_CELL)[1:]
            elif pattern.search(entry):
                # Only a whole parse tells where an element ends, and that a tag is not within another one.
                for tag, element in orjson.loads(b"{" + entry + b"}").items():
                    if tag in wanted or tag[:4] in groups:
                        shared[tag] = element
    return Picked(orjson.loads(series_ids), shared, varying)


@lru_cache(maxsize=256)
def _pattern(tags: frozenset[str], groups: frozenset[str]) -> re.Pattern[bytes]:
    """Make what finds one of these tags, or one of these groups, where an element may begin."""
    by_group: dict[str, list[str]] = {group: ["...."] for group in groups}
    for tag in tags:
        by_group.setdefault(tag[:4], []).append(tag[4:])
    return re.compile('"(?:{})":'.format("|".join(f"{group}(?:{'|'.join(ends)})" for group, ends in by_group.items())).encode())


def _all(series_ids: bytes, sections: Iterable[bytes]) -> Picked:
    shared: dict[str, Any] = {}
    varying: dict[str, Sequence[bytes]] = {}
    for section in sections:
        for head, cells in _split(section):
            if cells is None:
                shared |= orjson.loads(b"{" + head + b"}")
            else:
                varying[head[_TAG].decode()] = cells
    return Picked(orjson.loads(series_ids), shared, varying)


def without(document: bytes, ordinals: Collection[int]) -> bytes:
    """Make the document again without some of its images; the others keep their ordinals."""
    series_ids, meta, elements, _ = open_document(document)
    kept: list[int | None] = [None if ordinal in ordinals else series_id for ordinal, series_id in enumerate(series_ids)]
    return _compress(kept, _emptied(meta, ordinals), _emptied(elements, ordinals))


def _entries(images: Sequence[Mapping[str, bytes]]) -> list[_Entry]:
    entries = []
    tags = list(images[0])
    if tags == sorted(tags) and all(list(image) == tags for image in images):
        columns: Iterable[tuple[bytes, ...] | list[bytes]] = zip(*(image.values() for image in images), strict=True)
    else:
        tags = sorted(set().union(*images))
        columns = ([image.get(tag, b"") for image in images] for tag in tags)
    for tag, cells in zip(tags, columns, strict=True):
        head = b'"%s":' % tag.encode()
        entries.append(_Entry(head + cells[0], None) if cells.count(cells[0]) == len(cells) else _Entry(head, cells))
    return entries


def _joined(entries: Iterable[_Entry]) -> list[_Entry]:
    joined: list[_Entry] = []
    run: list[bytes] = []
    for entry in entries:
        if entry.cells is None:
            run.append(entry.head)
            continue
        if run:
            joined.append(_Entry(b",".join(run), None))
            run = []
        joined.append(entry)
    if run:
        joined.append(_Entry(b",".join(run), None))
    return joined


def _emptied(entries: Iterable[_Entry], ordinals: Collection[int]) -> list[_Entry]:
    emptied = []
    for head, cells in entries:
        kept = None if cells is None else [b"" if ordinal in ordinals else cell for ordinal, cell in enumerate(cells)]
        if kept is None or any(kept):
            emptied.append(_Entry(head, kept))
    return emptied


def _split(section: bytes) -> list[_Entry]:
    entries = []
    for entry in section.split(_ENTRY) if section else ():
        head, *cells = entry.split(_CELL)
        entries.append(_Entry(head, cells or None))
    return entries


def _compress(series_ids: list[int | None], meta: Sequence[_Entry], elements: Sequence[_Entry]) -> bytes:
    sections = [_ENTRY.join(head if cells is None else _CELL.join((head, *cells)) for head, cells in section) for section in (meta, elements)]
    raw = _SECTION.join((orjson.dumps(series_ids), *sections))
    separators = [2, max(len(meta) - 1, 0) + max(len(elements) - 1, 0), sum(len(cells) for _, cells in (*meta, *elements) if cells is not None)]
    if [raw.count(separator) for separator in (_SECTION, _ENTRY, _CELL)] != separators:
        raise ValueError("a header element with a bare control character is no JSON")
    return zstandard.compress(raw, LEVEL)
