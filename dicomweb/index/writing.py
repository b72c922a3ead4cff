"""Header groups into the database and out of it again; the caller owns the transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import among, fetch, work
from dicomweb.index.dialect import Dialect, dialect_of
from dicomweb.index.documents import open_document, without
from dicomweb.index.groups import Column, Prepared, column
from dicomweb.index.values import bound_path
from dicomweb.models import (
    GROUP_SIZE,
    Field,
    GroupColumn,
    GroupDocument,
    GroupHeader,
    GroupSeries,
    Header,
    HeaderGroup,
    PromotedNumber,
)

_COLUMN = ["group_id", "field_id", "slot", "images", "number_min", "number_max", "text_min", "text_max", "words", "numbers", "texts", "folded", "places"]
# Made once: to put a statement together takes longer than to answer it.
_FIELDS = sa.select(Field.path, Field.id, Field.promoted).where(among(Field.path, "paths"))
_PROMOTED = ["field_id", "number", "header_key"]


class UnknownFields(Exception):
    """A path has no row yet: ``ensure_fields`` was not called, or the database was restored since."""


def ensure_fields(engine: sa.Engine, prepared: Prepared) -> None:
    """Make the rows of paths that were never seen, in an own short transaction.

    Apart, because many workers meet the same new paths at the same moment and would wait for each other until they commit.
    A path that is new and promoted stays so (``promote`` changes it).
    """
    with work(engine, read_only=True) as dbsession:
        known = _fields(dbsession, prepared.fields)
    new = [
        {"path": path, "vr": prepared.fields[path], "promoted": path in prepared.promoted}
        for path in sorted(prepared.fields.keys() - known.keys())
    ]
    if new:
        with work(engine) as dbsession:
            dbsession.execute(sa.text("INSERT INTO field (path, vr, promoted) VALUES (:path, :vr, :promoted) ON CONFLICT DO NOTHING"), new)


def write(dbsession: Session, prepared: Prepared, batch_id: int) -> list[int]:
    """Write prepared groups and give the header key of each member, in the order in which they were prepared.

    The series and the batch must exist. A chunk takes the same number of statements whatever is in it; the dictionary,
    which several writers share, comes last and sorted, so that they wait briefly and never for each other in a circle.
    Raises UnknownFields when ``ensure_fields`` was not called.
    """
    dialect = dialect_of(dbsession)
    dbsession.flush()
    dialect.lock_dictionary(dbsession, exclusive=False)
    fields = _fields(dbsession, prepared.fields)
    if len(fields) < len(prepared.fields):
        raise UnknownFields(f"{len(prepared.fields) - len(fields)} paths have no row; call ensure_fields first")
    numbered = list(zip(dialect.reserve_group_ids(dbsession, len(prepared.groups)), prepared.groups, strict=True))
    dialect.insert(dbsession, HeaderGroup, ["id", "batch_id", "images"], [(id_, batch_id, len(group.members)) for id_, group in numbered])
    dialect.insert(
        dbsession,
        GroupSeries,
        ["group_id", "series_id", "images"],
        [(id_, series_id, images) for id_, group in numbered for series_id, images in group.series.items()],
    )
    dialect.insert(
        dbsession,
        GroupHeader,
        ["field_id", "header_id", "group_id"],
        sorted((fields[path].id, header_id, id_) for id_, group in numbered for path, header_id in group.headers),
    )
    columns = [(id_, fields[column.path].id, column) for id_, group in numbered for column in group.columns]
    dialect.insert(dbsession, GroupColumn, _COLUMN, [_column_row(dialect, *row) for row in columns])
    dialect.insert(
        dbsession,
        PromotedNumber,
        _PROMOTED,
        sorted(
            {
                (field_id, number, id_ * GROUP_SIZE + ordinal)
                for id_, field_id, column in columns
                if column.numbers and fields[column.path].promoted
                for ordinal, number in enumerate(column.numbers)
                if number is not None
            }
        ),
    )
    dialect.insert(dbsession, GroupDocument, ["group_id", "document"], [(id_, group.document) for id_, group in numbered])
    dialect.insert_headers(dbsession, [(id_, fields[path].id, text, folded, number) for id_, path, text, folded, number in prepared.headers])
    keys = [0] * sum(len(group.members) for group in prepared.groups)
    for id_, group in numbered:
        for ordinal, position in enumerate(group.members):
            keys[position] = id_ * GROUP_SIZE + ordinal
    return keys


def delete_groups(dbsession: Session, group_ids: Collection[int]) -> None:
    """Delete everything of some groups, and what the dictionary holds for them alone; the paths stay.

    The images must not refer to the groups any more when the transaction ends. To be called before other rows of that
    transaction are locked: on PostgreSQL it waits for all who are writing, and they may want those rows. The promoted numbers
    of all the groups are in memory at once, so some hundred groups at a time are enough.
    """
    dialect = dialect_of(dbsession)
    dbsession.flush()
    dialect.lock_dictionary(dbsession, exclusive=True)
    _delete_promoted(dbsession, dialect, group_ids)
    _delete_groups(dbsession, dialect, group_ids)


def remove_images(dbsession: Session, header_keys: Collection[int]) -> None:
    """Delete everything of single images: afterwards no value that only they had is found anywhere.

    Values that the rest of their group has too stay, as the rest has them. A key that is not there changes nothing. To be
    called before other rows of the transaction are locked, as ``delete_groups``.
    """
    dialect = dialect_of(dbsession)
    dbsession.flush()
    dialect.lock_dictionary(dbsession, exclusive=True)
    gone: dict[int, set[int]] = defaultdict(set)
    for key in header_keys:
        gone[key // GROUP_SIZE].add(key % GROUP_SIZE)
    documents = dict(
        dbsession.execute(sa.select(GroupDocument.group_id, GroupDocument.document).where(dialect.within(GroupDocument.group_id, gone))).all()
    )
    emptied, changed = [], []
    of_series: Counter[tuple[int, int]] = Counter()
    for group_id, document in documents.items():
        series_ids = open_document(document).series_ids
        there = {ordinal for ordinal in gone[group_id] if ordinal < len(series_ids) and series_ids[ordinal] is not None}
        gone[group_id] = there
        if len(there) == len(series_ids) - series_ids.count(None):
            emptied.append(group_id)
        elif there:
            changed.append(group_id)
            documents[group_id] = without(document, there)
            of_series.update((group_id, series_id) for ordinal in there if (series_id := series_ids[ordinal]) is not None)
    if changed:
        _delete_promoted(dbsession, dialect, changed, gone)
        _empty_columns(dbsession, dialect, changed, gone)
        dbsession.execute(sa.update(GroupDocument), [{"group_id": group_id, "document": documents[group_id]} for group_id in changed])
        dbsession.connection().execute(
            sa.update(HeaderGroup).where(HeaderGroup.id == sa.bindparam("group")).values(images=HeaderGroup.images - sa.bindparam("fewer")),
            [{"group": group_id, "fewer": len(gone[group_id])} for group_id in changed],
        )
        dbsession.connection().execute(
            sa.update(GroupSeries)
            .where(GroupSeries.group_id == sa.bindparam("group"), GroupSeries.series_id == sa.bindparam("series"))
            .values(images=GroupSeries.images - sa.bindparam("fewer")),
            [{"group": group_id, "series": series_id, "fewer": fewer} for (group_id, series_id), fewer in of_series.items()],
        )
        _execute(dbsession, sa.delete(GroupSeries).where(dialect.within(GroupSeries.group_id, changed), GroupSeries.images == 0))
    if emptied:
        _delete_promoted(dbsession, dialect, emptied)
        _delete_groups(dbsession, dialect, emptied)


def promote(dbsession: Session, paths: Collection[str]) -> None:
    """Let exactly these paths have rows for their varying numbers, as far as they are known; new ones get them as they come.

    Reads all columns of what changes, so it is for a change of settings: seconds for a million images.
    """
    dialect = dialect_of(dbsession)
    dbsession.flush()
    # Whoever writes now may have read the old answer; the dictionary's lock keeps writers out until this is done.
    dialect.lock_dictionary(dbsession, exclusive=True)
    wanted = Field.path.in_([bound_path(path) for path in paths])
    added = list(dbsession.scalars(sa.select(Field.id).where(wanted, ~Field.promoted)))
    dropped = list(dbsession.scalars(sa.select(Field.id).where(~wanted, Field.promoted)))
    _execute(dbsession, sa.delete(PromotedNumber).where(dialect.within(PromotedNumber.field_id, dropped)))
    _execute(dbsession, sa.update(Field).values(promoted=wanted).where(dialect.within(Field.id, added + dropped)))
    columns = sa.select(GroupColumn.group_id, GroupColumn.field_id, GroupColumn.numbers).where(
        dialect.within(GroupColumn.field_id, added), GroupColumn.number_min.is_not(None)
    )
    for part in dbsession.execute(columns, execution_options={"yield_per": 1000}).partitions():
        dialect.insert(dbsession, PromotedNumber, _PROMOTED, sorted(_promoted_rows(dialect, part)))


def _fields(dbsession: Session, paths: Collection[str]) -> dict[str, Any]:
    return {row[0]: row for row in fetch(dbsession, _FIELDS, paths=paths)}


def _column_row(dialect: Dialect, group_id: int, field_id: int, column: Column) -> tuple[Any, ...]:
    arrays = [None if values is None else dialect.array(values) for values in (column.numbers, column.texts, column.folded)]
    zones = (column.number_min, column.number_max, column.text_min, column.text_max)
    places = None if column.places is None else dialect.places(column.places)
    return (group_id, field_id, column.slot, column.images, *zones, column.words, *arrays, places)


def _delete_groups(dbsession: Session, dialect: Dialect, group_ids: Collection[int]) -> None:
    used = sa.select(GroupHeader.header_id).distinct().where(dialect.within(GroupHeader.group_id, group_ids))
    header_ids = list(dbsession.scalars(used))
    for column_ in (GroupHeader.group_id, GroupColumn.group_id, GroupSeries.group_id, GroupDocument.group_id, HeaderGroup.id):
        _execute(dbsession, sa.delete(column_.class_).where(dialect.within(column_, group_ids)))
    still_used = sa.exists().where(GroupHeader.field_id == Header.field_id, GroupHeader.header_id == Header.id)
    _execute(dbsession, sa.delete(Header).where(dialect.within(Header.id, header_ids), ~still_used))


def _delete_promoted(
    dbsession: Session, dialect: Dialect, group_ids: Collection[int], ordinals: Mapping[int, Collection[int]] | None = None
) -> None:
    # The columns still have the numbers, so the rows are found by their whole key and need no index besides.
    columns = (
        sa.select(GroupColumn.group_id, GroupColumn.field_id, GroupColumn.numbers)
        .join(Field, Field.id == GroupColumn.field_id)
        .where(Field.promoted, dialect.within(GroupColumn.group_id, group_ids), GroupColumn.number_min.is_not(None))
    )
    rows = _promoted_rows(dialect, dbsession.execute(columns))
    dialect.delete_promoted(
        dbsession, [row for row in rows if ordinals is None or row[2] % GROUP_SIZE in ordinals[row[2] // GROUP_SIZE]]
    )


def _promoted_rows(dialect: Dialect, columns: Iterable[Any]) -> set[tuple[int, float, int]]:
    return {
        (field_id, number, group_id * GROUP_SIZE + ordinal)
        for group_id, field_id, numbers in columns
        for ordinal, number in enumerate(dialect.values(numbers))
        if number is not None
    }


def _empty_columns(dbsession: Session, dialect: Dialect, group_ids: Collection[int], gone: Mapping[int, Collection[int]]) -> None:
    """Write the columns of some groups again without the values of those images that are gone."""
    old: dict[tuple[int, int], list[Any]] = defaultdict(list)
    found = sa.select(
        GroupColumn.group_id,
        GroupColumn.field_id,
        GroupColumn.slot,
        GroupColumn.words,
        GroupColumn.numbers,
        GroupColumn.texts,
        GroupColumn.places,
    ).where(dialect.within(GroupColumn.group_id, group_ids))
    for row in dbsession.execute(found):
        old[row.group_id, row.field_id].append(row)
    kept = []
    for (group_id, field_id), rows in old.items():
        texts = [_nulled(dialect.spread(dialect.values(row.texts), row.places), gone[group_id]) for row in rows]
        having = sum(any(text is not None for text in of_image) for of_image in zip_longest(*texts))
        for row, texts_left in zip(rows, texts, strict=True):
            if any(text is not None for text in texts_left):
                numbers = None if row.numbers is None else _nulled(dialect.values(row.numbers), gone[group_id])
                left = column("", row.slot, having, is_text=row.words is not None, texts=texts_left, numbers=numbers)
                kept.append(_column_row(dialect, group_id, field_id, left))
    _execute(dbsession, sa.delete(GroupColumn).where(dialect.within(GroupColumn.group_id, group_ids)))
    dialect.insert(dbsession, GroupColumn, _COLUMN, kept)


def _nulled(values: Sequence[Any], ordinals: Collection[int]) -> list[Any]:
    return [None if ordinal in ordinals else value for ordinal, value in enumerate(values)]


def _execute(dbsession: Session, statement: Any) -> None:
    # No row of the index is ever held as an object that would have to be kept in step.
    dbsession.execute(statement, execution_options={"synchronize_session": False})
