"""Find images, series or studies: an exact total and pages that nobody's import shifts.

A series or study is found when one of its images is. Its row shows what the first of these images (in the order of import)
says, and how many there are.

*Order.* The order of import (header key; series and study ids) is cheap at any size, forwards and backwards, and so is the
newest first (``sort=[("added", True)]``). Any other column is sorted exactly too, but all rows have to be looked at for
every page; above MOST_SORTED rows that is refused. A page begins behind the last row of the page before (keyset), so images that
arrive meanwhile neither repeat nor hide a row that was there. (Sorted by values, a series or study moves when another of its
images becomes the first.)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.index.dialect import dialect_of
from dicomweb.languages import gettext
from dicomweb.models import Batch, Image, Label, LabelLink, Series
from dicomweb.search.columns import LEVELS, Column, read_values, resolve_column, resolve_columns
from dicomweb.search.compiling import compile_query
from dicomweb.search.errors import BadCursor, SearchError
from dicomweb.search.firsts import first_images
from dicomweb.search.sorting import Place, sorted_page

MOST_ROWS = 1000
# No header key and no id comes near.
_LAST = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One image, series or study that was found.

    id: its own. first: the header key of its first matching image; image_id, series_id, study_id, batch_id and batch are of that
    image too. images: how many of its images match. values: name of a column -> text, columns without a value left out.
    """

    id: int
    first: int
    image_id: int
    series_id: int
    study_id: int
    batch_id: int
    batch: str
    images: int
    values: Mapping[str, str]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a result: how many rows there are in all, those of the page, and the cursors of the pages around it."""

    total: int
    rows: Sequence[Row]
    next: str | None
    previous: str | None
    level: str
    columns: tuple[str, ...] = field(default=())


def count(dbsession: Session, node: query.Node, level: str = "image") -> int:
    """Count the images, series or studies that match. Raises SearchError."""
    return count_found(dbsession, compile_query(dbsession, node), level)


def find(
    dbsession: Session,
    node: query.Node,
    *,
    level: str = "image",
    columns: Sequence[query.Field | str],
    sort: Sequence[tuple[query.Field | str, bool]] = (),
    size: int = 50,
    after: str | None = None,
) -> Found:
    """Find a page of images, series or studies, in a constant number of statements.

    sort: columns and whether they descend. after: a cursor of the page before (``Found.next``, or ``previous`` for the way
    back). Raises SearchError, of which UnknownColumn, TooBroad (see the module) and BadCursor are kinds.
    """
    if not 1 <= size <= MOST_ROWS:
        raise SearchError(gettext("A page has 1 to %(most)s rows.", most=MOST_ROWS))
    _check_level(level)
    shown = resolve_columns(columns)
    order = [(resolve_column(column), descending) for column, descending in sort]
    expression = compile_query(dbsession, node)
    place = _read_cursor(after, level, order)
    asked: index.Expression | index.Search = expression
    if not _is_import_order(order):
        asked = index.look(dbsession, expression)
        total = count_found(dbsession, asked, level)
        places, before, behind = sorted_page(dbsession, asked, level, order, size=size, total=total, place=place)
    else:
        if level != "image":
            asked = index.look(dbsession, expression)
        newest_first = bool(order) and order[0][1]
        total, ids, before, behind = _page(dbsession, asked, level, size, place, newest_first=newest_first)
        places = [Place((), id_) for id_ in ids]
    rows = fetch_rows(dbsession, asked, level, [place.id for place in places], shown)
    return Found(
        total=total,
        rows=rows,
        next=_write_cursor(places[-1], level, order, backwards=False) if places and behind else None,
        previous=_write_cursor(places[0], level, order, backwards=True) if places and before else None,
        level=level,
        columns=tuple(column.name for column in shown),
    )


def ids_of_level(dbsession: Session, asked: index.Expression | index.Search, level: str) -> sa.Select[Any]:
    """Give a select of the ids (its column is ``id``) of the series or studies that have matching images, each once."""
    found = index.select_series(dbsession, asked).subquery()
    if level == "series":
        return sa.select(found.c.series_id.label("id"))
    return sa.select(Series.study_key.label("id")).join(found, found.c.series_id == Series.id).distinct()


def ids_after(dbsession: Session, asked: index.Search, level: str, last: int, size: int) -> list[int]:
    """Give the next ids of the series or studies that have matching images, ascending."""
    ids = ids_of_level(dbsession, asked, level).subquery()
    return list(dbsession.scalars(sa.select(ids.c.id).where(ids.c.id > last).order_by(ids.c.id).limit(size)).all())


def count_found(dbsession: Session, asked: index.Expression | index.Search, level: str) -> int:
    """Count the images, series or studies that have matching images."""
    if level == "image":
        return asked.images + asked.hits if isinstance(asked, index.Search) else index.count(dbsession, asked)
    _check_level(level)
    # Single images are found first: of these the database knows how many there are when it looks for their series.
    looked = asked if isinstance(asked, index.Search) else index.look(dbsession, asked)
    return dbsession.scalar(sa.select(sa.func.count()).select_from(ids_of_level(dbsession, looked, level).subquery())) or 0


def _check_level(level: str) -> None:
    if level not in LEVELS:
        raise SearchError(gettext("The level is image, series or study."))


def _page(
    dbsession: Session, asked: index.Expression | index.Search, level: str, size: int, place: tuple[Place, bool] | None, *, newest_first: bool
) -> tuple[int, list[int], bool, bool]:
    """Give the total, the ids (header keys of images) of a page in the order of import; and whether there are more before and behind it."""
    cursor, backwards = (place[0].id, place[1]) if place else (None, False)
    # A page back in the reversed order is a page forward in the order itself.
    descending = newest_first != backwards
    one_more = size + 1
    if isinstance(asked, index.Search):
        total, found = _ids_of_page(dbsession, asked, level, cursor, one_more, descending=descending)
    elif descending:
        total, found = index.count_and_page(dbsession, asked, limit=one_more, before=_LAST if cursor is None else cursor)
        found.reverse()
    else:
        total, found = index.count_and_page(dbsession, asked, limit=one_more, after=-1 if cursor is None else cursor)
    more, found = len(found) > size, found[:size]
    if backwards:
        return total, found[::-1], more, True
    return total, found, cursor is not None, more


def _ids_of_page(
    dbsession: Session, asked: index.Search, level: str, cursor: int | None, limit: int, *, descending: bool
) -> tuple[int, list[int]]:
    """Count the series or studies, and give the ids of those that come next, in one statement."""
    ids = ids_of_level(dbsession, asked, level).cte("ids")
    wanted = sa.select(ids.c.id).order_by(ids.c.id.desc() if descending else ids.c.id).limit(limit)
    if cursor is not None:
        wanted = wanted.where(ids.c.id < cursor if descending else ids.c.id > cursor)
    page = wanted.subquery()
    counted: Any = sa.select(sa.func.count().label("number"), sa.literal_column("-1").label("id")).select_from(ids)
    rows = dbsession.execute(sa.union_all(counted, sa.select(sa.literal_column("0"), page.c.id))).all()
    found = sorted((id_ for _, id_ in rows if id_ >= 0), reverse=descending)
    return sum(number for number, _ in rows), found


def fetch_rows(
    dbsession: Session,
    asked: index.Expression | index.Search,
    level: str,
    ids: Sequence[int],
    columns: Sequence[Column],
    *,
    longest: int | None = 1000,
) -> list[Row]:
    """Read the rows with these ids (header keys of images), in that order; what was removed meanwhile is left out."""
    if not ids:
        return []
    firsts = {id_: (id_, 1) for id_ in ids} if level == "image" else first_images(dbsession, asked, level, ids)
    facts = _facts(dbsession, [first for first, _ in firsts.values()])
    paths = {column.path for column in columns if column.path is not None}
    texts = dict(read_values(dbsession, list(facts), paths, longest=longest))
    own = {id_: _OWN_ID[level](facts[first]) for id_, (first, _) in firsts.items() if first in facts}
    labels = labels_of(dbsession, level, list(own.values()))
    rows = []
    for id_ in ids:
        if id_ not in own:
            continue
        first, images = firsts[id_]
        fact = facts[first]
        on_it = labels.get(own[id_], ())
        values = {column.name: texts[first][column.path] for column in columns if column.path is not None and column.path in texts.get(first, ())}
        for column in columns:
            if column.path is None:
                values[column.name] = _FACT[column.name](own[id_], images, fact, on_it)
        rows.append(
            Row(
                id=own[id_], first=first, image_id=fact.id, series_id=fact.series_id, study_id=fact.study_key, batch_id=fact.batch_id,
                batch=fact.name, images=images, values=values, labels=on_it,
            )
        )  # fmt: skip
    return rows


def labels_of(dbsession: Session, level: str, ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Give the labels on some batches, studies, series or images themselves, in alphabetical order."""
    target = getattr(LabelLink, f"{level}_id")
    linked = sa.select(target, Label.name).join(Label, Label.id == LabelLink.label_id).where(dialect_of(dbsession).within(target, ids))
    found: dict[int, list[str]] = {}
    for id_, name in dbsession.execute(linked):
        found.setdefault(id_, []).append(name)
    return {id_: tuple(sorted(names)) for id_, names in found.items()}


def _facts(dbsession: Session, keys: Collection[int]) -> dict[int, Any]:
    found = (
        sa.select(Image.header_key, Image.id, Image.series_id, Series.study_key, Image.batch_id, Batch.name, Image.path, Image.added_at)
        .join(Batch, Batch.id == Image.batch_id)
        .join(Series, Series.id == Image.series_id)
        .where(dialect_of(dbsession).within(Image.header_key, keys))
    )
    return {row.header_key: row for row in dbsession.execute(found)}


_OWN_ID: dict[str, Callable[[Any], int]] = {
    "image": lambda fact: fact.id,
    "series": lambda fact: fact.series_id,
    "study": lambda fact: fact.study_key,
}
_FACT: dict[str, Callable[[int, int, Any, tuple[str, ...]], str]] = {
    "id": lambda own, images, fact, labels: str(own),
    "images": lambda own, images, fact, labels: str(images),
    "label": lambda own, images, fact, labels: ", ".join(labels),
    "batch": lambda own, images, fact, labels: fact.name,
    "path": lambda own, images, fact, labels: _printable(fact.path),
    "added": lambda own, images, fact, labels: fact.added_at.isoformat(timespec="seconds") if fact.added_at else "",
}


def _printable(path: str) -> str:
    # A file name may have bytes that are no UTF-8, which Python keeps as lone surrogates.
    return path.encode("utf-8", "replace").decode() if not path.isascii() else path


def _is_import_order(order: Sequence[tuple[Column, bool]]) -> bool:
    return [column.name for column, _ in order] in ([], ["added"])


def _fingerprint(level: str, order: Sequence[tuple[Column, bool]]) -> str:
    said = orjson.dumps([level, [[column.path or column.name, descending] for column, descending in order]])
    return hashlib.blake2b(said, digest_size=6).hexdigest()


def _write_cursor(place: Place, level: str, order: Sequence[tuple[Column, bool]], *, backwards: bool) -> str:
    said = orjson.dumps([_fingerprint(level, order), backwards, place.id, list(place.values)])
    return base64.urlsafe_b64encode(said).decode().rstrip("=")


def _read_cursor(cursor: str | None, level: str, order: Sequence[tuple[Column, bool]]) -> tuple[Place, bool] | None:
    if cursor is None:
        return None
    try:
        match orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))):
            case [str(mark), bool(backwards), int(id_), list(values)] if (
                mark == _fingerprint(level, order) and -1 <= id_ <= _LAST and Place.is_valid(values, 0 if _is_import_order(order) else len(order))
            ):
                return Place(tuple(tuple(value) for value in values), id_), backwards
    except (ValueError, binascii.Error):
        pass
    raise BadCursor(gettext("That page is none of this search; begin at the first one."))
