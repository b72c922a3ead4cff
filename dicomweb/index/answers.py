"""Answers to expressions: counts, pages, keys, facets, series. Each takes at most four statements, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.index.compiler import IN_GROUP, Search, images_of, search_groups
from dicomweb.index.expressions import Expression
from dicomweb.index.sql import Sql, all_of, embedded, sql
from dicomweb.index.values import bound_path
from dicomweb.models import GROUP_SIZE


def count(dbsession: Session, expression: Expression) -> int:
    """Count the images that match."""
    search = Search(dbsession, expression).find()
    hits = 0
    if search.has_hits:
        search.add_hits()
        hits = dbsession.scalar(search.statement(sql("SELECT count(*) FROM hits"))) or 0
    if search.is_negated:
        return int(dbsession.scalar(_EVERYTHING.statement()) or 0) - search.images - hits
    return search.images + hits


def page(dbsession: Session, expression: Expression, *, limit: int, after: int = -1, before: int | None = None) -> list[int]:
    """Give the header keys of the next matching images in key order, which is the order of import.

    after: the last key of the page before. before: give the last images before this key instead. Images that arrive
    meanwhile never shift a page.
    """
    search = Search(dbsession, expression, after=after, before=before)
    found = list(dbsession.scalars(search.statement(_page(search, limit, after, before))).all())
    return found if before is None else found[::-1]


def count_and_page(dbsession: Session, expression: Expression, *, limit: int, after: int = -1, before: int | None = None) -> tuple[int, list[int]]:
    """Give what ``count`` and what ``page`` give, looking once."""
    search = Search(dbsession, expression, after=after, before=before, count_all=True)
    keys = _page(search, limit, after, before)
    counted = sql("SELECT count(*) AS number, -1 AS key FROM hits")
    if search.is_negated:
        counted = sql("SELECT ({everything}) - count(*) AS number, -1 AS key FROM hits", everything=_EVERYTHING)
    rows = dbsession.execute(search.statement(sql("{counted} UNION ALL SELECT 0, key FROM ({keys}) k", counted=counted, keys=keys))).all()
    total = sum(int(number) for number, _ in rows)
    return total - search.images if search.is_negated else total + search.images, sorted(key for _, key in rows if key >= 0)


_EVERYTHING = sql("SELECT sum(images) FROM header_group")


def _page(search: Search, limit: int, after: int, before: int | None) -> Sql:
    """Look for the groups, and select the keys of a page, from its beginning or, with before, from its end."""
    bounds: dict[str, Any] = {"limit": limit, "in_group": IN_GROUP, "order": sql("ASC" if before is None else "DESC")}
    beyond_of_image, beyond = _beyond("i.header_key", after, before), _beyond("key", after, before)
    if search.is_negated:
        # A walk over the groups that the opposite does not cover, which ends as soon as the page is full.
        search.find(most_whole=None).add_hits()
        return sql(
            "SELECT i.header_key AS key FROM header_group p JOIN image i ON {in_group} WHERE p.id NOT IN ({whole}) AND {groups} "
            "AND {beyond} AND i.header_key NOT IN (SELECT key FROM hits) ORDER BY p.id {order}, i.header_key {order} LIMIT {limit}",
            whole=search.groups(search.whole), beyond=beyond_of_image, **bounds,
            groups=sql("p.id >= {first}", first=after // GROUP_SIZE) if before is None else sql("p.id <= {last}", last=before // GROUP_SIZE),
        )  # fmt: skip
    # Each group has at least one image, and of the first one all may be behind us.
    search.find(most_whole=limit + 1).add_hits()
    search.add_table("whole", search.groups(search.whole))
    of_whole = sql(
        "{images} WHERE {beyond} ORDER BY p.id {order}, i.header_key {order} LIMIT {limit}",
        images=images_of(sql("whole")), beyond=beyond_of_image, **bounds,
    )  # fmt: skip
    single = sql("SELECT key FROM hits WHERE {beyond} ORDER BY key {order} LIMIT {limit}", beyond=beyond, **bounds)
    return sql(
        "SELECT key FROM (SELECT key FROM ({of_whole}) w UNION ALL SELECT key FROM ({single}) s) b ORDER BY key {order} LIMIT {limit}",
        of_whole=of_whole, single=single, **bounds,
    )  # fmt: skip


def _beyond(key: str, after: int, before: int | None) -> Sql:
    """Say that a key is beyond the page before."""
    beyond = [sql("{key} > {after}", key=sql(key), after=after)]
    return all_of(beyond if before is None else [*beyond, sql("{key} < {before}", key=sql(key), before=before)])


def keys(dbsession: Session, asked: Expression | Search) -> Iterator[int]:
    """Give the header keys of all matching images in key order, streamed."""
    statement = sql("{keys} ORDER BY key", keys=_keys(dbsession, asked)).statement()
    yield from dbsession.scalars(statement, execution_options={"yield_per": 10_000})


def select_keys(dbsession: Session, expression: Expression) -> sa.Select[tuple[int]]:
    """Give a select of the header keys (its column is ``key``) of all matching images, to be part of a larger statement.

    The groups are looked at now, so it is for the transaction it was made in.
    """
    found = _keys(dbsession, expression).statement().columns(sa.column("key", sa.BigInteger)).subquery()
    return sa.select(found.c.key)


def facet(dbsession: Session, asked: Expression | Search, path: str, limit: int) -> list[tuple[str, int]]:
    """Give the most frequent values of a path among the matching images, with the number of images that have each.

    An image counts for each of its values. The most frequent come first, and among equals the smaller text.
    """
    search = search_groups(dbsession, asked)
    each = search.dialect.each_text(sql("c.texts"))
    field_id = sql("(SELECT id FROM field WHERE path = {path})", path=bound_path(path))
    common = sql(
        "SELECT coalesce(h.text, h.folded) AS text, w.images FROM (SELECT w.header_id, sum(groups.images) AS images FROM groups "
        "JOIN group_header w ON w.group_id = groups.id WHERE w.field_id = {field} GROUP BY w.header_id) w JOIN header h ON h.id = w.header_id",
        field=field_id,
    )
    search.add_table(
        "opened",
        sql(
            "SELECT c.group_id, c.texts, c.places, groups.whole FROM group_column c JOIN groups ON groups.id = c.group_id WHERE c.field_id = {field}",
            field=field_id,
        ),
    )
    varying = sql(
        "SELECT {value} AS text, 1 AS images FROM opened c {join} "
        "WHERE {value} IS NOT NULL AND (c.whole = 1 OR c.group_id * {size} + {ordinal} IN (SELECT key FROM hits))",
        value=each.value, join=each.join, ordinal=each.ordinal, size=sql(str(GROUP_SIZE)),
    )  # fmt: skip
    select = sql(
        "SELECT text, sum(images) FROM (SELECT {sorted} AS text, images FROM ({common}) common "
        "UNION ALL SELECT {sorted}, images FROM ({varying}) varying) b GROUP BY text ORDER BY sum(images) DESC, text LIMIT {limit}",
        common=common, varying=varying, sorted=search.dialect.by_code_point("text"), limit=limit,
    )  # fmt: skip
    return [(text, int(images)) for text, images in dbsession.execute(search.statement(select))]


def series_of(dbsession: Session, expression: Expression, *, limit: int | None = None, after: int = -1) -> list[int]:
    """Give the ids of the series that have matching images, ascending."""
    found = select_series(dbsession, expression).subquery()
    return list(dbsession.scalars(sa.select(found.c.series_id).where(found.c.series_id > after).order_by(found.c.series_id).limit(limit)))


def count_series(dbsession: Session, expression: Expression) -> int:
    """Count the series that have matching images."""
    return dbsession.scalar(sa.select(sa.func.count()).select_from(select_series(dbsession, expression).subquery())) or 0


def select_series(dbsession: Session, asked: Expression | Search) -> sa.Select[tuple[int]]:
    """Give a select of the ids (its column is ``series_id``) of the series that have matching images, each once.

    The groups are looked at now, so it is for the transaction it was made in.
    """
    search = search_groups(dbsession, asked)
    select = sql(
        "SELECT s.series_id FROM group_series s JOIN groups ON groups.id = s.group_id WHERE groups.whole = 1 "
        "UNION SELECT i.series_id FROM image i JOIN hits ON hits.key = i.header_key"
    )
    found = search.with_tables(select).statement().columns(sa.column("series_id", sa.BigInteger)).subquery()
    return sa.select(found.c.series_id)


def select_firsts(
    dbsession: Session, asked: Expression | Search, series_ids: sa.Select[Any] | None = None
) -> sa.Select[tuple[int, int, int]]:
    """Give a select of ``series_id``, ``key`` and ``images``: of each series that has matching images the smallest header key of these, and their number.

    series_ids: only of the series that this selects.
    """
    among = None if series_ids is None else embedded(dbsession, series_ids)
    search = search_groups(dbsession, asked, among)
    search.add_table(
        "firsts",
        sql(
            "SELECT s.series_id, min(s.group_id) AS id, sum(s.images) AS images FROM group_series s JOIN groups ON groups.id = s.group_id "
            "WHERE groups.whole = 1 AND {among} GROUP BY s.series_id",
            among=sql("TRUE") if among is None else sql("s.series_id IN ({ids})", ids=among),
        ),
    )
    select = sql(
        "SELECT series_id, min(key) AS key, sum(images) AS images FROM ("
        "SELECT p.series_id, (SELECT i.header_key FROM image i WHERE {in_group} AND i.series_id = p.series_id ORDER BY i.header_key LIMIT 1) AS key, "
        "p.images FROM firsts p UNION ALL "
        "SELECT i.series_id, min(i.header_key), count(*) FROM image i JOIN hits ON hits.key = i.header_key WHERE {among} GROUP BY i.series_id"
        ") b GROUP BY series_id",
        in_group=IN_GROUP, among=sql("TRUE") if among is None else sql("i.series_id IN ({ids})", ids=among),
    )  # fmt: skip
    columns = [sa.column(name, sa.BigInteger) for name in ("series_id", "key", "images")]
    found = search.with_tables(select).statement().columns(*columns).subquery()
    return sa.select(found.c.series_id, found.c.key, found.c.images)


def page_of_parents(dbsession: Session, expression: Expression, level: str, *, limit: int, offset: int) -> dict[int, int]:
    """Give the ids of a page of the series or studies that have matching images, ascending, with the smallest header key of these images.

    level: series or study.
    """
    search = search_groups(dbsession, expression)
    parent = sql("s.id" if level == "series" else "s.study_key")
    search.add_table(
        "page",
        sql(
            "SELECT DISTINCT {parent} AS id FROM series s WHERE s.id IN ("
            "SELECT g.series_id FROM group_series g JOIN groups ON groups.id = g.group_id WHERE groups.whole = 1 "
            "UNION SELECT i.series_id FROM image i JOIN hits ON hits.key = i.header_key) ORDER BY 1 LIMIT {limit} OFFSET {offset}",
            parent=parent, limit=limit, offset=offset,
        ),
    )  # fmt: skip
    search.add_table("parents", sql("SELECT s.id AS series_id, page.id FROM page JOIN series s ON {parent} = page.id", parent=parent))
    search.add_table(
        "firsts",
        sql(
            "SELECT parents.id AS parent, g.series_id, min(g.group_id) AS id FROM parents JOIN group_series g ON g.series_id = parents.series_id "
            "JOIN groups ON groups.id = g.group_id WHERE groups.whole = 1 GROUP BY parents.id, g.series_id"
        ),
    )
    select = sql(
        "SELECT parent, min(key) FROM ("
        "SELECT p.parent, (SELECT i.header_key FROM image i WHERE {in_group} AND i.series_id = p.series_id ORDER BY i.header_key LIMIT 1) AS key FROM firsts p "
        "UNION ALL SELECT parents.id, i.header_key FROM image i JOIN hits ON hits.key = i.header_key JOIN parents ON parents.series_id = i.series_id"
        ") b WHERE key IS NOT NULL GROUP BY parent ORDER BY parent",
        in_group=IN_GROUP,
    )
    return {row[0]: row[1] for row in dbsession.execute(search.statement(select))}


def _keys(dbsession: Session, asked: Expression | Search) -> Sql:
    search = search_groups(dbsession, asked)
    of_whole = images_of(sql("(SELECT id FROM groups WHERE whole = 1)"))
    return search.with_tables(sql("SELECT key FROM ({of_whole}) w UNION ALL SELECT key FROM hits", of_whole=of_whole))
