"""What was indexed, read back: complete headers from the documents, and which paths there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.index.dialect import Dialect, dialect_of
from dicomweb.index.documents import Document, open_document
from dicomweb.index.tables import field, group_column, group_header, header, header_group
from dicomweb.index.values import PREFIX
from dicomweb.models import GROUP_SIZE, GroupDocument

EXAMPLES = 5
EXAMPLE_LENGTH = 200
# A page of fields asks for the examples of all of them at once; SQLite joins at most 500 questions.
MOST_FIELDS = 200


class FieldSummary(NamedTuple):
    """A path, and what is there."""

    path: str
    vr: str
    images: int
    examples: tuple[str, ...]


def read_headers(dbsession: Session, header_keys: Collection[int], *, bulk_prefix: Callable[[int], bytes]) -> dict[int, bytes]:
    """Give the complete header of each image as a DICOM JSON object (PS3.18 Annex F), tags ascending, without file meta.

    bulk_prefix: header key -> what precedes the path in the address of bulk data, as JSON text bytes. Keys that are not
    indexed are left out.
    """
    return {key: document.header(ordinal, bulk_prefix(key)) for key, ordinal, document in _documents(dbsession, header_keys)}


def read_meta(dbsession: Session, header_keys: Collection[int]) -> dict[int, dict[str, bytes]]:
    """Give the file meta group of each image: tag -> DICOM JSON element. Keys that are not indexed are left out."""
    return {key: document.file_meta(ordinal) for key, ordinal, document in _documents(dbsession, header_keys)}


def count_fields(dbsession: Session, *, prefix: str = "") -> int:
    """Count the paths that begin with a prefix and that some image has."""
    return int(dbsession.scalar(sa.select(sa.func.count()).select_from(field).where(_is_used(prefix))) or 0)


def list_fields(dbsession: Session, *, prefix: str = "", after: str = "", offset: int = 0, limit: int) -> list[FieldSummary]:
    """Give the paths that begin with a prefix and that some image has, in code point order.

    after: only paths behind this one; offset: how many of these to leave out. At most MOST_FIELDS are given. The number of
    images is exact and read from the groups, so a page takes longer the more groups there are; examples are a few values that
    happen to come first, cut at EXAMPLE_LENGTH.
    """
    dialect = dialect_of(dbsession)
    path = dialect.by_code_point(field.c.path)
    wanted = sa.select(field.c.id, field.c.path, field.c.vr).where(_is_used(prefix), path > after)
    return _summarise(dbsession, dialect, dbsession.execute(wanted.order_by(path).offset(offset).limit(min(limit, MOST_FIELDS))).all())


def field_paths(dbsession: Session) -> list[str]:
    """Give all paths that some image has, in code point order."""
    path = dialect_of(dbsession).by_code_point(field.c.path)
    return list(dbsession.scalars(sa.select(field.c.path).where(_is_used("")).order_by(path)))


def summarise_fields(dbsession: Session, paths: Collection[str]) -> list[FieldSummary]:
    """Tell what is there of at most MOST_FIELDS paths, in code point order; see ``list_fields``."""
    dialect = dialect_of(dbsession)
    wanted = sa.select(field.c.id, field.c.path, field.c.vr).where(field.c.path.in_(paths))
    return _summarise(dbsession, dialect, dbsession.execute(wanted.order_by(dialect.by_code_point(field.c.path))).all())


def _summarise(dbsession: Session, dialect: Dialect, fields: Sequence[Any]) -> list[FieldSummary]:
    if not fields:
        return []
    ids = [found.id for found in fields]
    images = _images_having(dbsession, dialect, ids)
    examples = _examples(dbsession, dialect, ids)
    return [FieldSummary(found.path, found.vr, images[found.id], tuple(examples[found.id])) for found in fields]


def _is_used(prefix: str) -> sa.ColumnElement[bool]:
    # What a batch leaves behind when it is deleted are paths that nobody has any more.
    used = sa.or_(*(sa.exists().where(of_group.c.field_id == field.c.id) for of_group in (group_header, group_column)))
    return sa.and_(sa.func.substr(field.c.path, 1, len(prefix)) == prefix, used) if prefix else used


def _images_having(dbsession: Session, dialect: Dialect, field_ids: Sequence[int]) -> dict[int, int]:
    common = sa.select(group_header.c.field_id, group_header.c.group_id).where(dialect.within(group_header.c.field_id, field_ids)).distinct().cte("common")
    columns = sa.select(group_column.c.field_id, group_column.c.group_id, group_column.c.images).where(dialect.within(group_column.c.field_id, field_ids))
    varying = columns.distinct().subquery()
    # Where all images have one of the values in common, the columns add no image.
    beside = sa.and_(common.c.field_id == varying.c.field_id, common.c.group_id == varying.c.group_id)
    both = sa.union_all(
        sa.select(common.c.field_id, header_group.c.images).join(header_group, header_group.c.id == common.c.group_id),
        sa.select(varying.c.field_id, varying.c.images).join(common, beside, isouter=True).where(common.c.field_id.is_(None)),
    ).subquery()
    return {id_: int(images) for id_, images in dbsession.execute(sa.select(both.c.field_id, sa.func.sum(both.c.images)).group_by(both.c.field_id))}


def _examples(dbsession: Session, dialect: Dialect, field_ids: Sequence[int]) -> dict[int, list[str]]:
    first = sa.func.substr(header.c.folded, sa.literal_column("1"), sa.literal_column(str(PREFIX)))
    text = sa.func.coalesce(header.c.text, header.c.folded).label("text")
    common = _each(field_ids, lambda id_: sa.select(header.c.field_id, text).where(header.c.field_id == id_).order_by(first).limit(EXAMPLES))
    columns = _each(field_ids, lambda id_: sa.select(group_column.c.field_id, group_column.c.texts).where(group_column.c.field_id == id_).limit(1))
    found: dict[int, dict[str, None]] = defaultdict(dict)
    for id_, value in dbsession.execute(common):
        found[id_][value] = None
    for id_, values in dbsession.execute(columns):
        for value in dialect.values(values):
            if value is not None and len(found[id_]) < EXAMPLES:
                found[id_][value] = None
    return defaultdict(list, {id_: [value[:EXAMPLE_LENGTH] for value in values] for id_, values in found.items()})


def _each(field_ids: Sequence[int], question: Callable[[int], sa.Select[Any]]) -> sa.CompoundSelect[Any]:
    return sa.union_all(*(sa.select(question(id_).subquery()) for id_ in field_ids))


def _documents(dbsession: Session, header_keys: Collection[int]) -> Iterator[tuple[int, int, Document]]:
    wanted: dict[int, list[int]] = defaultdict(list)
    for key in header_keys:
        wanted[key // GROUP_SIZE].append(key % GROUP_SIZE)
    found = sa.select(GroupDocument.group_id, GroupDocument.document).where(dialect_of(dbsession).within(GroupDocument.group_id, wanted))
    for group_id, packed in dbsession.execute(found):
        document = open_document(packed)
        for ordinal in wanted[group_id]:
            if ordinal < len(document.series_ids) and document.series_ids[ordinal] is not None:
                yield group_id * GROUP_SIZE + ordinal, ordinal, document
