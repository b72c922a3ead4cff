"""Answers to expressions: counts, pages, keys, facets, series. Each takes two statements, three for large expressions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.index.compiler import IN_GROUP, Compiler, images_of
from dicomweb.index.expressions import Expression, Not
from dicomweb.index.sql import Sql, all_of, sql
from dicomweb.index.values import bound_path
from dicomweb.models import GROUP_SIZE

_NOT_WHOLE = sql("p.id NOT IN (SELECT id FROM candidates WHERE must)")


def count(dbsession: Session, expression: Expression) -> int:
    """Count the images that match."""
    compiler = Compiler(dbsession, expression)
    if isinstance(compiler.expression, Not):
        # What the operand does not cover as a whole, without what it finds there.
        compiler.find(compiler.expression.operand)
        total = sql("(SELECT sum(p.images) FROM header_group p WHERE {not_whole}), 0) - (SELECT count(*) FROM hits)", not_whole=_NOT_WHOLE)
    else:
        compiler.find()
        total = sql("(SELECT sum(images) FROM candidates WHERE must), 0) + (SELECT count(*) FROM hits)")
    return int(dbsession.scalar(compiler.statement(sql("SELECT coalesce({total}", total=total)).statement()) or 0)


def page(dbsession: Session, expression: Expression, *, limit: int, after: int = -1, before: int | None = None) -> list[int]:
    """Give the header keys of the next matching images in key order, which is the order of import.

    after: the last key of the page before. before: give the last images before this key instead. Images that arrive
    meanwhile never shift a page.
    """
    compiler = Compiler(dbsession, expression, after=after, before=before)
    bounds: dict[str, Any] = {
        "limit": limit, "in_group": IN_GROUP, "not_whole": _NOT_WHOLE, "order": sql("ASC" if before is None else "DESC"), "beyond": _beyond("key", after, before),
        "groups": sql("p.id >= {first}", first=after // GROUP_SIZE) if before is None else sql("p.id <= {last}", last=before // GROUP_SIZE),
    }  # fmt: skip
    if isinstance(compiler.expression, Not):
        # A walk over the groups that the operand does not cover, which ends as soon as the page is full.
        compiler.find(compiler.expression.operand)
        select = sql(
            "SELECT i.header_key AS key FROM header_group p JOIN image i ON {in_group} WHERE {not_whole} AND {groups} "
            "AND {beyond} AND i.header_key NOT IN (SELECT key FROM hits) ORDER BY p.id {order}, i.header_key {order} LIMIT {limit}",
            **bounds | {"beyond": _beyond("i.header_key", after, before)},
        )
    else:
        compiler.find()
        # Each group has at least one image, and of the first one all may be behind us.
        compiler.add_table("first", sql("SELECT p.id FROM candidates p WHERE p.must AND {groups} ORDER BY p.id {order} LIMIT {limit} + 1", **bounds))
        of_whole = sql(
            "{images} WHERE {beyond} ORDER BY p.id {order}, i.header_key {order} LIMIT {limit}",
            images=images_of(sql("first")), **bounds | {"beyond": _beyond("i.header_key", after, before)},
        )  # fmt: skip
        single = sql("SELECT key FROM hits WHERE {beyond} ORDER BY key {order} LIMIT {limit}", **bounds)
        select = sql(
            "SELECT key FROM (SELECT key FROM ({of_whole}) w UNION ALL SELECT key FROM ({single}) s) b ORDER BY key {order} LIMIT {limit}",
            of_whole=of_whole, single=single, **bounds,
        )  # fmt: skip
    found = list(dbsession.scalars(compiler.statement(select).statement()))
    return found if before is None else found[::-1]


def _beyond(key: str, after: int, before: int | None) -> Sql:
    """Say that a key is beyond the page before."""
    beyond = [sql("{key} > {after}", key=sql(key), after=after)]
    return all_of(beyond if before is None else [*beyond, sql("{key} < {before}", key=sql(key), before=before)])


def keys(dbsession: Session, expression: Expression) -> Iterator[int]:
    """Give the header keys of all matching images in key order, streamed."""
    statement = sql("{keys} ORDER BY key", keys=_keys(dbsession, expression)).statement()
    yield from dbsession.scalars(statement, execution_options={"yield_per": 10_000})


def select_keys(dbsession: Session, expression: Expression) -> sa.Select[tuple[int]]:
    """Give a select of the header keys (its column is ``key``) of all matching images, to be part of a larger statement."""
    found = _keys(dbsession, expression).statement().columns(sa.column("key", sa.BigInteger)).subquery()
    return sa.select(found.c.key)


def facet(dbsession: Session, expression: Expression, path: str, limit: int) -> list[tuple[str, int]]:
    """Give the most frequent values of a path among the matching images, with the number of images that have each.

    An image counts for each of its values. The most frequent come first, and among equals the smaller text.
    """
    compiler = Compiler(dbsession, expression)
    compiler.find()
    each = compiler.dialect.each_text(sql("c.texts"))
    field_id = sql("(SELECT id FROM field WHERE path = {path})", path=bound_path(path))
    compiler.add_table(
        "groups", sql("SELECT id, images, 1 AS whole FROM candidates WHERE must UNION ALL SELECT group_id, count(*), 0 FROM hits GROUP BY group_id")
    )
    common = sql(
        "SELECT coalesce(h.text, h.folded) AS text, groups.images FROM groups JOIN group_header w ON w.group_id = groups.id "
        "JOIN header h ON h.id = w.header_id WHERE w.field_id = {field}",
        field=field_id,
    )
    compiler.add_table(
        "opened",
        sql("SELECT c.group_id, c.texts, c.places, groups.whole FROM group_column c JOIN groups ON groups.id = c.group_id WHERE c.field_id = {field}", field=field_id),
    )
    varying = sql(
        "SELECT {value} AS text, 1 AS images FROM opened c {join} "
        "WHERE {value} IS NOT NULL AND (c.whole = 1 OR c.group_id * {size} + {ordinal} IN (SELECT key FROM hits))",
        value=each.value, join=each.join, ordinal=each.ordinal, size=sql(str(GROUP_SIZE)),
    )  # fmt: skip
    select = sql(
        "SELECT text, sum(images) FROM (SELECT {sorted} AS text, images FROM ({common}) common "
        "UNION ALL SELECT {sorted}, images FROM ({varying}) varying) b GROUP BY text ORDER BY sum(images) DESC, text LIMIT {limit}",
        common=common, varying=varying, sorted=compiler.dialect.by_code_point("text"), limit=limit,
    )  # fmt: skip
    return [(text, int(images)) for text, images in dbsession.execute(compiler.statement(select).statement())]


def series_of(dbsession: Session, expression: Expression, *, limit: int | None = None, after: int = -1) -> list[int]:
    """Give the ids of the series that have matching images, ascending."""
    found = select_series(dbsession, expression).subquery()
    return list(dbsession.scalars(sa.select(found.c.series_id).where(found.c.series_id > after).order_by(found.c.series_id).limit(limit)))


def count_series(dbsession: Session, expression: Expression) -> int:
    """Count the series that have matching images."""
    return dbsession.scalar(sa.select(sa.func.count()).select_from(select_series(dbsession, expression).subquery())) or 0


def select_series(dbsession: Session, expression: Expression) -> sa.Select[tuple[int]]:
    """Give a select of the ids (its column is ``series_id``) of the series that have matching images, each once."""
    compiler = Compiler(dbsession, expression)
    compiler.find()
    select = sql(
        "SELECT s.series_id FROM group_series s JOIN candidates c ON c.id = s.group_id WHERE c.must "
        "UNION SELECT i.series_id FROM image i JOIN hits ON hits.key = i.header_key"
    )
    found = compiler.statement(select).statement().columns(sa.column("series_id", sa.BigInteger)).subquery()
    return sa.select(found.c.series_id)


def select_firsts(dbsession: Session, expression: Expression) -> sa.Select[tuple[int, int, int]]:
    """Give a select of ``series_id``, ``key`` and ``images``: of each series that has matching images the smallest header key of these, and their number."""
    compiler = Compiler(dbsession, expression)
    compiler.find()
    compiler.add_table(
        "firsts",
        sql(
            "SELECT s.series_id, min(s.group_id) AS id, sum(s.images) AS images FROM group_series s JOIN candidates c ON c.id = s.group_id "
            "WHERE c.must GROUP BY s.series_id"
        ),
    )
    select = sql(
        "SELECT series_id, min(key) AS key, sum(images) AS images FROM ("
        "SELECT p.series_id, (SELECT i.header_key FROM image i WHERE {in_group} AND i.series_id = p.series_id ORDER BY i.header_key LIMIT 1) AS key, "
        "p.images FROM firsts p UNION ALL "
        "SELECT i.series_id, min(i.header_key), count(*) FROM image i JOIN hits ON hits.key = i.header_key GROUP BY i.series_id"
        ") b GROUP BY series_id",
        in_group=IN_GROUP,
    )
    columns = [sa.column(name, sa.BigInteger) for name in ("series_id", "key", "images")]
    found = compiler.statement(select).statement().columns(*columns).subquery()
    return sa.select(found.c.series_id, found.c.key, found.c.images)


def _keys(dbsession: Session, expression: Expression) -> Sql:
    compiler = Compiler(dbsession, expression)
    compiler.find()
    of_whole = images_of(sql("(SELECT id FROM candidates WHERE must)"))
    return compiler.statement(sql("SELECT key FROM ({of_whole}) w UNION ALL SELECT key FROM hits", of_whole=of_whole))
