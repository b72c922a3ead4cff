"""Values of paths counted over the matching images, series or studies, and numbers counted in intervals.

What a group has in common counts for all its matching images at once; only what varies is looked at image by image. An image
(series, study) counts once for each value or interval, however many of its paths and values fall there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from dicomweb.index.compiler import Search, search_groups
from dicomweb.index.dialect import Dialect, Each
from dicomweb.index.expressions import Expression
from dicomweb.index.sql import Sql, joined, sql
from dicomweb.index.values import bound_path
from dicomweb.models import GROUP_SIZE


class Extent(NamedTuple):
    """The smallest and the largest number."""

    low: float
    high: float


def tally(dbsession: Session, asked: Expression | Search, paths: Collection[str], *, level: str, limit: int) -> list[tuple[str, int]]:
    """Give the most frequent values of some paths, with the number of images, series or studies that have each.

    level: ``image``, ``series`` or ``study``. The most frequent come first, and among equals the smaller text.
    """
    search = _prepared(dbsession, asked, paths)
    dialect = search.dialect
    search.add_table(
        "common",
        sql("SELECT DISTINCT groups.id AS group_id, {text} AS label {headers}", text=dialect.by_code_point("coalesce(h.text, h.folded)"), headers=_HEADERS),
    )
    each = dialect.each_text(sql("c.texts"))
    value = sql("{value} {order}", value=each.value, order=_order(dialect))
    _add_varying(search, value, each, _ALL_COLUMNS)
    select = sql(
        "SELECT label, {number} FROM ({counted}) b GROUP BY label ORDER BY 2 DESC, label LIMIT {limit}",
        number=_NUMBER[level], counted=_counted(level), limit=limit,
    )  # fmt: skip
    return [(text, int(count)) for text, count in dbsession.execute(search.statement(select))]


def tally_numbers(dbsession: Session, asked: Expression | Search, paths: Collection[str], *, level: str, bounds: Sequence[float]) -> list[int]:
    """Count the images, series or studies that have a number in each interval.

    bounds: ascending; interval 0 ends before the first of them, the last one begins with the last. Gives one count more than
    there are bounds.
    """
    search = _prepared(dbsession, asked, paths)
    dialect = search.dialect
    search.add_table(
        "common",
        sql(
            "SELECT DISTINCT groups.id AS group_id, {label} AS label {headers} AND h.number IS NOT NULL",
            label=_interval(sql("h.number"), [sql("{bound}", bound=float(bound)) for bound in bounds]), headers=_HEADERS,
        ),
    )  # fmt: skip
    each = dialect.each(sql("c.numbers"))
    label = _interval(each.value, [dialect.parsed(float(bound)) for bound in bounds])
    _add_varying(search, label, each, _ALL_COLUMNS)
    select = sql("SELECT label, {number} FROM ({counted}) b GROUP BY label", number=_NUMBER[level], counted=_counted(level))
    counts = [0] * (len(bounds) + 1)
    for place, count in dbsession.execute(search.statement(select)):
        counts[place] = int(count)
    return counts


def extent(dbsession: Session, asked: Expression | Search, paths: Collection[str]) -> Extent | None:
    """Give the smallest and largest number of some paths among the matching images, None without any."""
    search = _prepared(dbsession, asked, paths)
    each = search.dialect.each(sql("c.numbers"))
    # The zone of a column is exact, so only groups that match in part are opened.
    select = sql(
        "SELECT min(low), max(high) FROM (SELECT h.number AS low, h.number AS high {headers} "
        "UNION ALL SELECT c.number_min, c.number_max {columns} AND groups.whole = 1 "
        "UNION ALL SELECT {value}, {value} FROM (SELECT c.group_id, c.numbers, groups.whole {columns} AND groups.whole = 0) c {join} "
        "WHERE {value} IS NOT NULL AND {hit}) b",
        headers=_HEADERS, columns=_COLUMNS, value=each.value, join=each.join, hit=_hit(each.ordinal),
    )  # fmt: skip
    low, high = dbsession.execute(search.statement(select)).one()
    return None if low is None else Extent(float(low), float(high))


def count_having(dbsession: Session, asked: Expression | Search, paths: Collection[str], *, level: str) -> int:
    """Count the images, series or studies that have one of some paths, with or without a value."""
    search = _prepared(dbsession, asked, paths)
    search.add_table("headed", sql("SELECT DISTINCT w.group_id {groups_headers}", groups_headers=_GROUP_HEADERS))
    search.add_table(
        "columns",
        sql(
            "SELECT c.group_id, c.texts, c.numbers, c.places, groups.whole, groups.whole = 1 AND c.images = groups.images AS complete {columns} "
            "AND groups.id NOT IN (SELECT group_id FROM headed)",
            columns=_COLUMNS,
        ),
    )
    # Of columns with something for each image of a group none needs to be opened.
    search.add_table("common", sql("SELECT group_id, 1 AS label FROM headed UNION SELECT group_id, 1 FROM columns WHERE complete"))
    each = search.dialect.each_text(sql("c.texts"))
    _add_varying(search, sql("1"), each, sql("SELECT * FROM columns WHERE NOT complete"))
    select = sql("SELECT {number} FROM ({counted}) b", number=_NUMBER[level], counted=_counted(level))
    return int(dbsession.scalar(search.statement(select)) or 0)


_GROUP_HEADERS = sql("FROM groups JOIN group_header w ON w.group_id = groups.id WHERE w.field_id IN (SELECT id FROM fields)")
_HEADERS = sql(
    "FROM groups JOIN group_header w ON w.group_id = groups.id JOIN header h ON h.id = w.header_id WHERE w.field_id IN (SELECT id FROM fields)"
)
# No condition on a column alone: SQLite would make a filter of all columns there are. That a column has no numbers is seen when it is opened.
_COLUMNS = sql("FROM group_column c JOIN groups ON groups.id = c.group_id WHERE c.field_id IN (SELECT id FROM fields)")
_ALL_COLUMNS = sql("SELECT c.group_id, c.texts, c.numbers, c.places, groups.whole {columns}", columns=_COLUMNS)
_NUMBER = {"image": sql("sum(unit)"), "series": sql("count(DISTINCT unit)"), "study": sql("count(DISTINCT unit)")}


def _prepared(dbsession: Session, asked: Expression | Search, paths: Collection[str]) -> Search:
    """Begin a statement that knows ``fields`` and ``groups``: those that match as a whole (whole is 1), or as many images as hit."""
    search = search_groups(dbsession, asked)
    wanted = search.dialect.one_of(sql("path"), [bound_path(path) for path in paths]) if paths else sql("FALSE")
    search.add_table("fields", sql("SELECT id FROM field WHERE {wanted}", wanted=wanted))
    # Most groups hold one series, so that their single hits need not be looked up.
    search.add_table("part_series", sql("SELECT group_id, min(series_id) AS series_id, count(*) AS number FROM group_series WHERE group_id IN (SELECT id FROM groups WHERE whole = 0) GROUP BY group_id"))
    search.add_table(
        "hit_series",
        sql(
            "SELECT group_id, series_id FROM part_series WHERE number = 1 UNION SELECT hits.group_id, i.series_id FROM hits "
            "JOIN image i ON i.header_key = hits.key WHERE hits.group_id IN (SELECT group_id FROM part_series WHERE number > 1)"
        ),
    )
    return search


def _add_varying(search: Search, label: Sql, each: Each, opened: Sql) -> None:
    """Add ``varying``: key, group_id and label of the values that matching images have by themselves; opened: selects columns."""
    search.add_table("opened", opened)
    search.add_table(
        "varying",
        sql(
            "SELECT DISTINCT c.group_id * {size} + {ordinal} AS key, c.group_id AS group_id, {label} AS label FROM opened c {join} WHERE {value} IS NOT NULL AND {hit}",
            size=sql(str(GROUP_SIZE)), ordinal=each.ordinal, label=label, join=each.join, value=each.value, hit=_hit(each.ordinal),
        ),
    )  # fmt: skip


def _hit(ordinal: Sql) -> Sql:
    return sql("(c.whole = 1 OR c.group_id * {size} + {ordinal} IN (SELECT key FROM hits))", size=sql(str(GROUP_SIZE)), ordinal=ordinal)


def _counted(level: str) -> Sql:
    if level == "image":
        return sql(
            "SELECT common.label AS label, groups.images AS unit FROM common JOIN groups ON groups.id = common.group_id UNION ALL "
            "SELECT v.label, 1 FROM varying v LEFT JOIN common ON common.group_id = v.group_id AND common.label = v.label WHERE common.group_id IS NULL"
        )
    of_series = (
        sql("SELECT common.label AS label, s.series_id AS series_id FROM common JOIN groups ON groups.id = common.group_id AND groups.whole = 1 JOIN group_series s ON s.group_id = common.group_id"),
        sql("SELECT common.label, s.series_id FROM common JOIN hit_series s ON s.group_id = common.group_id"),
        sql("SELECT v.label, i.series_id FROM varying v JOIN image i ON i.header_key = v.key"),
    )
    by_series = joined(" UNION ", of_series)
    if level == "series":
        return sql("SELECT label, series_id AS unit FROM ({by_series}) s", by_series=by_series)
    return sql("SELECT s.label AS label, r.study_key AS unit FROM ({by_series}) s JOIN series r ON r.id = s.series_id", by_series=by_series)


def _interval(number: Sql, bounds: Sequence[Sql]) -> Sql:
    if not bounds:
        return sql("0")
    cases = joined(" ", (sql("WHEN {number} < {bound} THEN {place}", number=number, bound=bound, place=sql(str(place))) for place, bound in enumerate(bounds)))
    return sql("CASE {cases} ELSE {last} END", cases=cases, last=sql(str(len(bounds))))


def _order(dialect: Dialect) -> Sql:
    return dialect.by_code_point("")
