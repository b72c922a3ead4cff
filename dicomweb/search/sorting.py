"""Results in the order of chosen columns.

Of an element with several values the smallest decides, numbers (dates, times and ages too) before texts, texts folded and by
their first LONGEST characters; what has no such element comes last in both directions, and equal rows stay in the order of
import. All rows of the result are looked at for each page, in blocks, which is why MOST_SORTED bounds them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.index.dialect import dialect_of
from dicomweb.languages import gettext, grouped
from dicomweb.models import Batch, Image, Label, LabelLink
from dicomweb.search.columns import Column
from dicomweb.search.errors import TooBroad
from dicomweb.search.firsts import first_images, own_ids

MOST_SORTED = 100_000
LONGEST = 200

Value = tuple[int, float | str]  # 0 and a number, 1 and a folded text, 2 for what is missing
_MISSING: Value = (2, 0.0)


class Place(NamedTuple):
    """Where a row is in an order: the values of the columns it is sorted by, and its id (of an image its header key)."""

    values: tuple[Value, ...]
    id: int

    @staticmethod
    def is_valid(values: Sequence[Any], columns: int) -> bool:
        """Tell whether these values, from a cursor that anybody may have written, can be compared with others."""
        return len(values) == columns and all(map(_is_value, values))


def _is_value(value: Any) -> bool:
    match value:
        case [1, str()]:
            return True
        case [0 | 2, bool()]:
            return False
        case [0 | 2, int() | float() as number]:
            return isfinite(number)
    return False


class _Falling:
    """A value that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def __lt__(self, other: _Falling) -> bool:
        return other.value < self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Falling) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def sorted_page(
    dbsession: Session,
    asked: index.Search,
    level: str,
    order: Sequence[tuple[Column, bool]],
    *,
    size: int,
    total: int,
    place: tuple[Place, bool] | None,
) -> tuple[list[Place], bool, bool]:
    """Give the places of a page, and whether there are more before and behind it. Raises TooBroad.

    place: the row the page begins behind, or, when it is True, ends before.
    """
    if total > MOST_SORTED:
        raise TooBroad(
            gettext("More than %(most_sorted)s rows are not sorted by other columns than the order of import; please narrow the search.", most_sorted=grouped(MOST_SORTED))
        )
    rows = _places(dbsession, asked, level, [column for column, _ in order])
    falling = [descending for _, descending in order]

    def key(row: Place) -> tuple[Any, ...]:
        parts: list[Any] = []
        for value, falls in zip(row.values, falling, strict=True):
            parts += (value[0] == 2, _Falling(value) if falls else value)
        return (*parts, row.id)

    if place is None:
        page = heapq.nsmallest(size + 1, rows, key=key)
        return page[:size], False, len(page) > size
    cursor, backwards = place
    end = key(cursor)
    if backwards:
        page = heapq.nlargest(size + 1, (row for row in rows if key(row) < end), key=key)
        return page[:size][::-1], len(page) > size, True
    page = heapq.nsmallest(size + 1, (row for row in rows if key(row) > end), key=key)
    return page[:size], True, len(page) > size


def _places(dbsession: Session, asked: index.Search, level: str, columns: Sequence[Column]) -> list[Place]:
    if level == "image":
        firsts = {key: (key, 1) for key in index.keys(dbsession, asked)}
    else:
        firsts = first_images(dbsession, asked, level)
    keys = [first for first, _ in firsts.values()]
    values: list[Sequence[Value]] = []
    for column in columns:
        if column.path is not None:
            found = index.read_smallest(dbsession, keys, column.path)
            values.append([_value(found.get(key)) for key in keys])
        elif column.name == "images":
            values.append([(0, float(images)) for _, images in firsts.values()])
        else:
            by_key = _FACTS[column.name](dbsession, level, keys)
            values.append([by_key.get(key, _MISSING) for key in keys])
    return [Place(of_row, id_) for id_, of_row in zip(firsts, zip(*values, strict=True), strict=True)]


def _value(found: tuple[float | None, str] | None) -> Value:
    if found is None:
        return _MISSING
    number, folded = found
    return (0, number) if number is not None else (1, folded[:LONGEST])


def _text(text: str) -> Value:
    return (1, index.fold(text)[:LONGEST])


def _of_images(dbsession: Session, column: Any, keys: Sequence[int]) -> dict[int, Any]:
    """Give a column of the image table: header key -> value."""
    return dict(dbsession.execute(sa.select(Image.header_key, column).where(dialect_of(dbsession).within(Image.header_key, keys))).all())


def _batches(dbsession: Session, level: str, keys: Sequence[int]) -> dict[int, Value]:
    del level
    names = {id_: _text(name) for id_, name in dbsession.execute(sa.select(Batch.id, Batch.name))}
    return {key: names[batch_id] for key, batch_id in _of_images(dbsession, Image.batch_id, keys).items() if batch_id in names}


def _paths(dbsession: Session, level: str, keys: Sequence[int]) -> dict[int, Value]:
    del level
    return {key: _text(path) for key, path in _of_images(dbsession, Image.path, keys).items()}


def _added(dbsession: Session, level: str, keys: Sequence[int]) -> dict[int, Value]:
    del level
    return {key: (0, added.timestamp()) for key, added in _of_images(dbsession, Image.added_at, keys).items() if added is not None}


def _ids(dbsession: Session, level: str, keys: Sequence[int]) -> dict[int, Value]:
    return {key: (0, float(id_)) for key, id_ in own_ids(dbsession, level, keys).items()}


def _labels(dbsession: Session, level: str, keys: Sequence[int]) -> dict[int, Value]:
    own = own_ids(dbsession, level, keys)
    target = getattr(LabelLink, f"{level}_id")
    linked = sa.select(target, Label.name).join(Label, Label.id == LabelLink.label_id).where(target.is_not(None))
    smallest: dict[int, Value] = {}
    for id_, name in dbsession.execute(linked):
        smallest[id_] = min(smallest.get(id_, _MISSING), _text(name))
    return {key: smallest[id_] for key, id_ in own.items() if id_ in smallest}


_FACTS: dict[str, Callable[[Session, str, Sequence[int]], dict[int, Value]]] = {
    "id": _ids,
    "batch": _batches,
    "path": _paths,
    "added": _added,
    "label": _labels,
}
