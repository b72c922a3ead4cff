"""What was indexed, read back: complete headers from the documents, and which paths there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import among, fetch
from dicomweb.index.dialect import Dialect, dialect_of, matching
from dicomweb.index.documents import Document, open_document, pick
from dicomweb.index.sql import Sql, joined, sql
from dicomweb.index.values import LAST, PREFIX, bound_path, fold
from dicomweb.models import GROUP_SIZE, GroupDocument

EXAMPLES = 5
MOST_COLUMNS = 20
MOST_GROUPS = 10_000
EXAMPLE_LENGTH = 200
# A page of fields asks for the examples of all of them at once; SQLite joins at most 500 questions.
MOST_FIELDS = 200
# Made once: to put a statement together takes longer than to answer it.
_DOCUMENTS = sa.select(GroupDocument.group_id, GroupDocument.document).where(among(GroupDocument.group_id, "groups"))


class FieldSummary(NamedTuple):
    """A path, and what is there."""

    path: str
    vr: str
    images: int
    examples: tuple[str, ...]


class GroupElements(NamedTuple):
    """Elements of the images of one group: header keys are ``first`` and an ordinal. Bulk data keeps its ``MARK``.

    shared: tag -> parsed DICOM JSON element that all images have. varying: tag -> JSON of each image by its ordinal, empty where
    there is none.
    """

    first: int
    ordinals: Sequence[int]
    shared: dict[str, Any]
    varying: dict[str, Sequence[bytes]]

    def of(self, ordinal: int) -> dict[str, Any]:
        """Give the elements of one image, parsed: tag -> DICOM JSON element."""
        return self.shared | {tag: orjson.loads(cells[ordinal]) for tag, cells in self.varying.items() if cells[ordinal]}

    def by_image(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the header key and the elements of each image."""
        for ordinal in self.ordinals:
            yield self.first + ordinal, self.of(ordinal)


def read_headers(dbsession: Session, header_keys: Collection[int], *, bulk_prefix: Callable[[int], bytes]) -> dict[int, bytes]:
    """Give the complete header of each image as a DICOM JSON object (PS3.18 Annex F), tags ascending, without file meta.

    bulk_prefix: header key -> what precedes the path in the address of bulk data, as JSON text bytes. Keys that are not
    indexed are left out.
    """
    return {key: document.header(ordinal, bulk_prefix(key)) for key, ordinal, document in _documents(dbsession, header_keys)}


def read_meta(dbsession: Session, header_keys: Collection[int]) -> dict[int, dict[str, bytes]]:
    """Give the file meta group of each image: tag -> DICOM JSON element. Keys that are not indexed are left out."""
    return {key: document.file_meta(ordinal) for key, ordinal, document in _documents(dbsession, header_keys)}


def read_elements(
    dbsession: Session, header_keys: Collection[int], tags: Collection[str] | None, groups: Collection[str] = ()
) -> Iterator[GroupElements]:
    """Give some top-level elements of some images, those with these tags and all of these groups, file meta included; without tags all.

    Of few tags many times as fast as ``read_headers``, because nothing else is parsed. Keys that are not indexed are left out.
    """
    for group_id, ordinals, packed in _packed(dbsession, header_keys):
        series_ids, shared, varying = pick(packed, tags, groups)
        yield GroupElements(group_id * GROUP_SIZE, _there(ordinals, series_ids), shared, varying)


def read_smallest(dbsession: Session, header_keys: Collection[int], path: str) -> dict[int, tuple[float | None, str]]:
    """Give of each image its smallest value at a path as (number, folded text), numbers before texts; images without are left out.

    Read from the tables, in two statements and without opening a document.
    """
    dialect = dialect_of(dbsession)
    wanted: dict[int, list[int]] = defaultdict(list)
    for key in header_keys:
        wanted[key // GROUP_SIZE].append(key % GROUP_SIZE)
    if not wanted:
        return {}
    bounds = {"field": sql("(SELECT id FROM field WHERE path = {path})", path=bound_path(path)), "among": dialect.one_of(sql("w.group_id"), list(wanted))}
    common: dict[int, tuple[float | None, str]] = {}
    shared = sql(
        "SELECT w.group_id, h.number, h.folded FROM group_header w JOIN header h ON h.id = w.header_id WHERE w.field_id = {field} AND {among}", **bounds
    )
    for group_id, number, folded in dbsession.execute(shared.statement()):
        common[group_id] = min(common.get(group_id, (number, folded)), (number, folded), key=_in_order)
    found = {group_id * GROUP_SIZE + ordinal: common[group_id] for group_id in common for ordinal in wanted[group_id]}
    varying = sql("SELECT w.group_id, w.numbers, coalesce(w.folded, w.texts), w.places FROM group_column w WHERE w.field_id = {field} AND {among}", **bounds)
    for group_id, packed, texts, places in dbsession.execute(varying.statement()):
        folds = dialect.spread(dialect.values(texts), places)
        numbers = dialect.values(packed) if packed is not None else ()
        for ordinal in wanted[group_id]:
            value = folds[ordinal] if ordinal < len(folds) else None
            if value is not None:
                key, of_image = group_id * GROUP_SIZE + ordinal, (numbers[ordinal] if numbers else None, value)
                found[key] = min(found.get(key, of_image), of_image, key=_in_order)
    return found


def _in_order(value: tuple[float | None, str]) -> tuple[bool, float, str]:
    number, folded = value
    return (True, 0.0, folded) if number is None else (False, number, "")


def begin_with(dbsession: Session, path: str, prefix: str, *, limit: int) -> list[tuple[str, int]]:
    """Give values of a path that begin with a folded text, and at least how many images have each, in any order and in four statements.

    Looks at ``limit`` values of the dictionary in the order of their folded texts, at MOST_GROUPS groups that have one of them
    in common, and at MOST_COLUMNS columns.
    """
    dialect = dialect_of(dbsession)
    folded = fold(prefix)
    field_id = dbsession.scalar(sql("SELECT id FROM field WHERE path = {path}", path=bound_path(path)).statement())
    if field_id is None:
        return []
    start = folded[:PREFIX]
    of_dictionary = sql(
        "SELECT h.id, coalesce(h.text, h.folded) FROM header h WHERE h.field_id = {field} "
        "AND substr(h.folded, 1, {length}) BETWEEN {start} AND {end} AND {matches} ORDER BY substr(h.folded, 1, {length}) LIMIT {limit}",
        field=field_id, length=sql(str(PREFIX)), start=start, end=start + LAST, matches=matching(sql("h.folded"), [folded, ""], ["*"]), limit=limit,
    )  # fmt: skip
    texts: dict[int, str] = dict(dbsession.execute(of_dictionary.statement()).all())
    found: Counter[str] = Counter()
    if texts:
        # A value that all images of the archive share must not take long, nor take the look from the others.
        counted = sql(
            "SELECT given.id, (SELECT sum(g.images) FROM "
            "(SELECT w.group_id FROM group_header w WHERE w.field_id = {field} AND w.header_id = given.id LIMIT {most}) few "
            "JOIN header_group g ON g.id = few.group_id) FROM ({given}) given",
            field=field_id, most=MOST_GROUPS // len(texts), given=dialect.given(dialect.array(list(texts))),
        )  # fmt: skip
        for id_, images in dbsession.execute(counted.statement()):
            found[texts[id_]] += int(images or 0)
    varying = sql(
        "SELECT c.texts, c.folded, c.places FROM group_column c "
        "WHERE c.field_id = {field} AND c.text_min <= {end} AND c.text_max >= {start} LIMIT {columns}",
        field=field_id, start=start, end=start + LAST, columns=MOST_COLUMNS,
    )  # fmt: skip
    for packed, packed_folds, places in dbsession.execute(varying.statement()):
        texts_ = dialect.spread(dialect.values(packed), places)
        folds = texts_ if packed_folds is None else dialect.spread(dialect.values(packed_folds), places)
        found.update([text for text, of_text in zip(texts_, folds, strict=True) if text is not None and of_text is not None and of_text.startswith(folded)])
    return list(found.items())


def count_fields(dbsession: Session, *, prefix: str = "") -> int:
    """Count the paths that begin with a prefix and that some image has."""
    return int(dbsession.scalar(sql("SELECT count(*) FROM field f WHERE {used}", used=_is_used(prefix)).statement()) or 0)


def list_fields(dbsession: Session, *, prefix: str = "", after: str = "", offset: int = 0, limit: int) -> list[FieldSummary]:
    """Give the paths that begin with a prefix and that some image has, in code point order.

    after: only paths behind this one; offset: how many of these to leave out. At most MOST_FIELDS are given. The number of
    images is exact and read from the groups, so a page takes longer the more groups there are; examples are a few values that
    happen to come first, cut at EXAMPLE_LENGTH.
    """
    dialect = dialect_of(dbsession)
    wanted = sql(
        "SELECT id, path, vr FROM field f WHERE {used} AND {path} > {after} ORDER BY {path} LIMIT {limit} OFFSET {offset}",
        used=_is_used(prefix), path=dialect.by_code_point("path"), after=after, limit=min(limit, MOST_FIELDS), offset=offset,
    )  # fmt: skip
    return _summarise(dbsession, dialect, dbsession.execute(wanted.statement()).all())


def field_paths(dbsession: Session) -> list[str]:
    """Give all paths that some image has, in code point order."""
    path = dialect_of(dbsession).by_code_point("path")
    return list(dbsession.scalars(sql("SELECT path FROM field f WHERE {used} ORDER BY {path}", used=_is_used(""), path=path).statement()))


def summarise_fields(dbsession: Session, paths: Collection[str]) -> list[FieldSummary]:
    """Tell what is there of at most MOST_FIELDS paths, in code point order; see ``list_fields``."""
    dialect = dialect_of(dbsession)
    wanted = sql(
        "SELECT id, path, vr FROM field f WHERE {among} AND {used} ORDER BY {path}",
        among=dialect.one_of(sql("path"), paths), used=_is_used(""), path=dialect.by_code_point("path"),
    )  # fmt: skip
    return _summarise(dbsession, dialect, dbsession.execute(wanted.statement()).all() if paths else ())


def _summarise(dbsession: Session, dialect: Dialect, fields: Sequence[Any]) -> list[FieldSummary]:
    if not fields:
        return []
    ids = [found.id for found in fields]
    images = _images_having(dbsession, dialect, ids)
    examples = _examples(dbsession, dialect, ids)
    return [FieldSummary(found.path, found.vr, images[found.id], tuple(examples[found.id])) for found in fields]


def _is_used(prefix: str) -> Sql:
    # What a batch leaves behind when it is deleted are paths that nobody has any more.
    return sql(
        "substr(f.path, 1, {length}) = {prefix} AND (EXISTS (SELECT 1 FROM group_header WHERE field_id = f.id) "
        "OR EXISTS (SELECT 1 FROM group_column WHERE field_id = f.id))",
        length=len(prefix), prefix=prefix,
    )  # fmt: skip


def _images_having(dbsession: Session, dialect: Dialect, field_ids: Sequence[int]) -> dict[int, int]:
    # Where all images of a group have one of the values in common, its columns add no image.
    counted = sql(
        "WITH common AS MATERIALIZED (SELECT DISTINCT field_id, group_id FROM group_header WHERE {wanted}), "
        "varying AS MATERIALIZED (SELECT DISTINCT field_id, group_id, images FROM group_column WHERE {wanted}) "
        "SELECT field_id, sum(images) FROM ("
        "SELECT common.field_id, g.images FROM common JOIN header_group g ON g.id = common.group_id UNION ALL "
        "SELECT varying.field_id, varying.images FROM varying LEFT JOIN common "
        "ON common.field_id = varying.field_id AND common.group_id = varying.group_id WHERE common.group_id IS NULL"
        ") b GROUP BY field_id",
        wanted=dialect.one_of(sql("field_id"), field_ids),
    )
    return {field_id: int(images) for field_id, images in dbsession.execute(counted.statement())}


def _examples(dbsession: Session, dialect: Dialect, field_ids: Sequence[int]) -> dict[int, list[str]]:
    common = (
        "SELECT * FROM (SELECT field_id, coalesce(text, folded) FROM header WHERE field_id = {field} "
        "ORDER BY substr(folded, 1, {prefix}) LIMIT {examples}) h"
    )
    varying = "SELECT * FROM (SELECT field_id, texts FROM group_column WHERE field_id = {field} LIMIT 1) c"
    found: dict[int, dict[str, None]] = {field_id: {} for field_id in field_ids}
    for field_id, text in dbsession.execute(_for_each(common, field_ids)):
        found[field_id][text] = None
    for field_id, texts in dbsession.execute(_for_each(varying, field_ids)):
        for text in dialect.values(texts):
            if text is not None and len(found[field_id]) < EXAMPLES:
                found[field_id][text] = None
    return {field_id: [text[:EXAMPLE_LENGTH] for text in texts] for field_id, texts in found.items()}


def _for_each(select: str, field_ids: Sequence[int]) -> sa.TextClause:
    return joined(" UNION ALL ", (sql(select, field=field_id, prefix=sql(str(PREFIX)), examples=EXAMPLES) for field_id in field_ids)).statement()


def _documents(dbsession: Session, header_keys: Collection[int]) -> Iterator[tuple[int, int, Document]]:
    for group_id, ordinals, packed in _packed(dbsession, header_keys):
        document = open_document(packed)
        for ordinal in _there(ordinals, document.series_ids):
            yield group_id * GROUP_SIZE + ordinal, ordinal, document


def _packed(dbsession: Session, header_keys: Collection[int]) -> Iterator[tuple[int, list[int], bytes]]:
    """Give the documents of some images, and the ordinals of these."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for key in header_keys:
        wanted[key // GROUP_SIZE].append(key % GROUP_SIZE)
    for group_id, packed in fetch(dbsession, _DOCUMENTS, groups=wanted):
        yield group_id, wanted[group_id], packed


def _there(ordinals: Sequence[int], series_ids: Sequence[int | None]) -> list[int]:
    return [ordinal for ordinal in ordinals if ordinal < len(series_ids) and series_ids[ordinal] is not None]
