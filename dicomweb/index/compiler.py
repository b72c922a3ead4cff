"""From an expression to SQL, group by group.

Each leaf says three things: in which groups every image matches because all have the value in common (*whole*), in which
some may because of a column whose zone allows it (*perhaps*), and which images of given groups match by their columns
(*opened*). Through And, Or and Not this gives for every group whether it *may* hold matches and whether it *must*: all of
its images match. Only groups that may and need not are opened, image by image.

So there are two steps. ``Search.find`` looks at groups only: how many images are in groups that must, and which groups are
``part``: may and need not. Statements after that have these tables::

    part        id               groups to be opened
    hits        key, group_id    the images of part that match

Two statements, because SQLite copies a named table into each place that uses it: in one statement every leaf would bring
every other one with it.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from dataclasses import replace
from math import inf, isfinite, isnan
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.index.dialect import Dialect, containing, dialect_of, matching
from dicomweb.index.expressions import (
    NOTHING,
    And,
    Anywhere,
    Between,
    Contains,
    Equals,
    EqualsFolded,
    Exists,
    Expression,
    Leaf,
    Like,
    Name,
    Not,
    OfBatches,
    OfImages,
    OfSeries,
    OneOf,
    Or,
    PathLeaf,
    check_depth,
    everything,
    leaves,
    split_pattern,
)
from dicomweb.index.sql import Sql, all_of, any_of, embedded, joined, sql
from dicomweb.index.values import LAST, PREFIX, Kind, bound, bound_path, fold, header_ids, possible_header_ids
from dicomweb.models import GROUP_SIZE

# When more groups than this are to be opened, promoted rows are cheaper than columns.
MANY_GROUPS = 400
# So many hits are sent to the database again rather than looked for again.
MOST_KEPT = 500_000
# How many rows of a field are counted to see where most of its values are.
_SAMPLE = 200

_BITS = GROUP_SIZE.bit_length() - 1
# As in the index on it.
_HEADER_PREFIX = sql(f"substr(h.folded, 1, {PREFIX})")
# That image i belongs to group p: a range of the unique key; an equality would make PostgreSQL hash the whole table.
IN_GROUP = sql(f"i.header_key BETWEEN p.id * {GROUP_SIZE} AND p.id * {GROUP_SIZE} + {GROUP_SIZE - 1}")


class _KnownField(NamedTuple):
    id: int
    promoted: bool
    varies: bool  # it is more often a column than common to a group


class Search:
    """The search for the images that match one expression.

    It reads what is known of the paths from the database, in one statement.

    after, before: only groups are looked at that may have images with a larger (a smaller) header key; with count_all these
    are only the groups that ``whole`` names.
    negate: of what is not so, look for the opposite (``is_negated``), which leaves out few groups and opens the same ones.
    Raises ExpressionTooLarge.
    """

    images: int
    """How many images are in groups that match as a whole; from ``find`` on."""

    whole: Any
    """The ids of these groups, as far as they were asked for, in the form that ``groups`` takes."""

    hits: int
    """How many images match besides; from ``keep_hits`` on."""

    def __init__(
        self, dbsession: Session, expression: Expression, *, after: int = -1, before: int | None = None, negate: bool = True, count_all: bool = False
    ) -> None:
        self.dialect: Dialect = dialect_of(dbsession)
        self._dbsession = dbsession
        self._after = after
        self._before = before
        self._count_all = count_all
        self._fields = _known_fields(dbsession, {bound_path(leaf.path) for leaf in leaves(expression) if isinstance(leaf, PathLeaf)})
        self._sought = self._simplified(expression)
        check_depth(self._sought)
        self.is_negated = False
        if negate and isinstance(self._sought, Not):
            self._sought = self._sought.operand
            self.is_negated = True
        self._tables: dict[str, Sql] = {}
        self._whole_tables: dict[int, Sql] = {}
        self._selects: dict[int, Sql] = {}
        self._part: Any = None
        self._part_count = 0
        self._kept_hits: Any = None

    def find(self, *, most_whole: int | None = 0) -> Search:
        """Look at the groups, in one statement.

        most_whole: how many ids of groups that match as a whole are wanted, the nearest to the bound first; None is all of them.
        """
        must = self._must(self._sought)
        groups = sql("TRUE") if self._count_all else self._bounds(sql("g.id"))
        # The rows of a promoted range are its hits, whichever groups they are in.
        may = must if self._is_promoted(self._sought) else self._may(self._sought)
        self.add_table(
            "candidates",
            sql("SELECT g.id, g.images, {must} AS must FROM header_group g WHERE {groups} AND {may}", must=must, groups=groups, may=may),
        )
        limit = sql("") if most_whole is None else sql("LIMIT {most}", most=most_whole)
        found = sql(
            "SELECT (SELECT sum(images) FROM candidates WHERE must) AS images, "
            "(SELECT {collected} FROM (SELECT id FROM candidates WHERE must AND {bounds} ORDER BY id {order} {limit}) w) AS whole, "
            "(SELECT count(*) FROM candidates WHERE NOT must) AS parts, "
            "(SELECT {collected} FROM candidates WHERE NOT must) AS part",
            collected=self.dialect.collected(sql("id")), bounds=self._bounds(sql("id")), limit=limit, order=sql("ASC" if self._before is None else "DESC"),
        )  # fmt: skip
        self.images, self.whole, self._part_count, self._part = self._dbsession.execute(self.statement(found)).one()
        self.images = int(self.images or 0)
        self._tables, self._whole_tables = {}, {}
        return self

    def _bounds(self, group_id: Sql) -> Sql:
        bounds = [sql("{group_id} >= {first}", group_id=group_id, first=self._after // GROUP_SIZE)] if self._after >= 0 else []
        if self._before is not None:
            bounds.append(sql("{group_id} <= {last}", group_id=group_id, last=self._before // GROUP_SIZE))
        return all_of(bounds)

    @property
    def has_hits(self) -> bool:
        """Whether there can be hits besides the groups that match as a whole."""
        return self._part_count > 0 or self._is_promoted(self._sought)

    def keep_hits(self) -> Search:
        """Count the hits, and keep them for the next statements when they are few enough to be sent back."""
        self.hits = 0
        if self.has_hits:
            self.add_hits()
            found = sql(
                "SELECT (SELECT count(*) FROM hits), (SELECT {collected} FROM (SELECT key FROM hits LIMIT {most} + 1) h)",
                collected=self.dialect.collected(sql("key")), most=MOST_KEPT,
            )  # fmt: skip
            self.hits, keys = self._dbsession.execute(self.statement(found)).one()
            self._tables, self._whole_tables = {}, {}
            if self.hits <= MOST_KEPT:
                self._kept_hits = keys
        return self

    def add_hits(self, series_ids: Sql | None = None) -> None:
        """Make ``part`` and ``hits`` part of the next statement; series_ids: only of groups that hold one of the series this selects."""
        among = sql("SELECT group_id FROM group_series WHERE series_id IN ({ids})", ids=series_ids) if series_ids else sql("")
        part = self.groups(self._part)
        self.add_table("part", sql("SELECT id FROM ({part}) p WHERE id IN ({among})", part=part, among=among) if series_ids else part)
        if not self.has_hits:
            hits = sql("SELECT id AS key, id AS group_id FROM part")
        elif self._kept_hits is not None:
            hits = sql("SELECT id AS key, id >> {bits} AS group_id FROM ({ids}) h", bits=sql(str(_BITS)), ids=self.groups(self._kept_hits))
        else:
            hits = self._hits(self._sought)
        self.add_table("hits", sql("SELECT key, group_id FROM ({hits}) h WHERE group_id IN ({among})", hits=hits, among=among) if series_ids else hits)

    def again(self) -> Search:
        """Give the same search for another statement."""
        other = copy(self)
        other._tables, other._whole_tables, other._selects = {}, {}, dict(self._selects)
        return other

    def add_groups(self) -> None:
        """Make ``groups`` part of the next statement: id, images (how many match) and whole (1 or 0) of the groups that have some.

        It stands on ``hits``, and on ``find`` having looked for all groups.
        """
        self.add_table(
            "groups",
            sql(
                "SELECT id, images, 1 AS whole FROM header_group WHERE id IN ({whole}) "
                "UNION ALL SELECT group_id, count(*), 0 FROM hits GROUP BY group_id",
                whole=self.groups(self.whole),
            ),
        )

    def groups(self, ids: Any) -> Sql:
        """Select the ids of groups that were found."""
        return self.dialect.given(ids)

    def add_table(self, name: str, select: Sql) -> Sql:
        """Name a select for the rest of the statement."""
        self._tables[name] = select
        return sql(name)

    def statement(self, select: Sql) -> sa.TextClause:
        """Make a statement of a select and the tables that were named before."""
        return self.with_tables(select).statement()

    def with_tables(self, select: Sql) -> Sql:
        """Put the tables that were named before a select."""
        named = (sql("{name} AS MATERIALIZED ({select})", name=sql(name), select=table) for name, table in self._tables.items())
        return sql("WITH {tables} {select}", tables=joined(", ", named), select=select)

    def _is_promoted(self, expression: Expression) -> bool:
        return isinstance(expression, Between) and self._field(expression).promoted

    def _field(self, leaf: PathLeaf) -> _KnownField:
        return self._fields[bound_path(leaf.path)]

    def _simplified(self, expression: Expression) -> Expression:
        """Take out what is decided without looking, and nesting that says nothing."""
        match expression:
            case And(operands) | Or(operands):
                conjunction = isinstance(expression, And)
                neutral, decisive = (everything(), NOTHING) if conjunction else (NOTHING, everything())
                flat: list[Expression] = []
                for operand in map(self._simplified, operands):
                    if operand == decisive:
                        return decisive
                    if type(operand) is type(expression):
                        flat.extend(operand.operands)
                    elif operand != neutral:
                        flat.append(operand)
                if len(flat) == 1:
                    return flat[0]
                return And(tuple(flat)) if conjunction else Or(tuple(flat))
            case Not(operand):
                inner = self._simplified(operand)
                if isinstance(inner, Not):
                    return inner.operand
                if inner == NOTHING:
                    return everything()
                return NOTHING if inner == everything() else Not(inner)
            case Anywhere(text):
                return expression if fold(text) else everything()
            case OneOf(_, texts) if not texts:
                return NOTHING
            case Between(_, low, high) if not all(end is None or isfinite(end) for end in (low, high)):
                # Every number lies between the infinities, and none beyond them.
                if isnan(low or 0) or isnan(high or 0) or low == inf or high == -inf:
                    return NOTHING
                return self._simplified(replace(expression, low=None if low == -inf else low, high=None if high == inf else high))
            case OfSeries() | OfBatches() | OfImages():
                return expression
        return expression if bound_path(expression.path) in self._fields else NOTHING

    # What a leaf says.

    def _whole(self, leaf: Leaf) -> Sql:
        """Name the table of the groups that match as a whole, the same for all uses in a statement."""
        if id(leaf) not in self._whole_tables:
            self._whole_tables[id(leaf)] = self.add_table(f"whole_{len(self._whole_tables)}", self._select_whole(leaf))
        return self._whole_tables[id(leaf)]

    def _select_whole(self, leaf: Leaf) -> Sql:
        match leaf:
            case OfBatches(batch_ids):
                return sql("SELECT id FROM header_group WHERE batch_id IN ({ids})", ids=self._given(batch_ids))
            case OfSeries(series_ids):
                return sql(
                    "SELECT s.group_id AS id FROM group_series s WHERE s.series_id IN ({ids}) AND NOT EXISTS "
                    "(SELECT 1 FROM group_series o WHERE o.group_id = s.group_id AND o.series_id NOT IN ({ids}))",
                    ids=self._given(series_ids),
                )
            case OfImages():
                return sql("SELECT id FROM header_group WHERE FALSE")
            case Anywhere(text):
                return sql(
                    "SELECT w.group_id AS id FROM header h JOIN group_header w ON w.field_id = h.field_id AND w.header_id = h.id "
                    "WHERE h.id & 7 = {text} AND {mentions}",
                    text=sql(str(int(Kind.TEXT))), mentions=self.dialect.mentions(fold(text)),
                )  # fmt: skip
        of_field = sql("SELECT w.group_id AS id FROM group_header w WHERE w.field_id = {field}", field=self._field(leaf).id)
        match leaf:
            case Exists():
                return of_field
            case Equals(path, text):
                first, last = header_ids(bound_path(path), bound(text))
                return sql("{of_field} AND w.header_id BETWEEN {first} AND {last}", of_field=of_field, first=first, last=last)
            case OneOf(path, texts):
                ids = [id_ for text in texts for id_ in possible_header_ids(bound_path(path), bound(text))]
                return sql("{of_field} AND {among}", of_field=of_field, among=self.dialect.one_of(sql("w.header_id"), ids))
        return sql(
            "SELECT w.group_id AS id FROM header h JOIN group_header w ON w.field_id = {field} AND w.header_id = h.id "
            "WHERE h.field_id = {field} AND {matches}",
            field=self._field(leaf).id, matches=self._header_matches(leaf),
        )  # fmt: skip

    def _header_matches(self, leaf: Leaf) -> Sql:
        folded = sql("h.folded")
        match leaf:
            case Between():
                return all_of([sql("h.number IS NOT NULL"), *_within(sql("h.number"), leaf)])
            case EqualsFolded(_, text):
                first = sql("{prefix} = {text}", prefix=_HEADER_PREFIX, text=fold(text)[:PREFIX])
                return all_of([first, sql("h.folded = {text}", text=fold(text))])
            case Like(_, pattern) if prefix := _literal_prefix(pattern)[:PREFIX]:
                first = sql("{prefix} BETWEEN {low} AND {high}", prefix=_HEADER_PREFIX, low=prefix, high=prefix + LAST)
                return all_of([first, _folded_matches(leaf, folded)])
        return _folded_matches(leaf, folded)

    def _zone(self, leaf: PathLeaf | Anywhere) -> Sql:
        """Say of a group_column c that it may have a value that matches."""
        if isinstance(leaf, Anywhere):
            return all_of([sql("c.words IS NOT NULL"), containing(sql("c.words"), fold(leaf.text))])
        zone = [sql("c.field_id = {field}", field=self._field(leaf).id)]
        match leaf:
            case Between(_, low, high):
                zone.append(sql("c.number_min IS NOT NULL"))
                zone += _ends(sql("c.number_max"), low, None) + _ends(sql("c.number_min"), None, high)
            case Equals(_, text) | EqualsFolded(_, text):
                zone.append(_overlaps(fold(bound(text)), fold(bound(text))))
            case OneOf(_, texts):
                folded = [fold(bound(text)) for text in texts]
                zone.append(_overlaps(min(folded), max(folded)))
            case Like(_, pattern) if prefix := _literal_prefix(pattern):
                zone.append(_overlaps(prefix, prefix + LAST))
            case Contains(_, text):
                zone.append(any_of([sql("c.words IS NULL"), containing(sql("c.words"), fold(text))]))
            case Name():
                longest = max((fold(part) for part in split_pattern(leaf.compared()[0])[0]), key=len)
                zone.append(any_of([sql("c.words IS NULL"), containing(sql("c.words"), longest)]))
        return all_of(zone)

    def _perhaps(self, leaf: Leaf) -> Sql:
        """Select the groups some of whose images may match by themselves."""
        match leaf:
            case OfBatches():
                return sql("SELECT id FROM header_group WHERE FALSE")
            case OfSeries(series_ids):
                return sql("SELECT group_id FROM group_series WHERE series_id IN ({ids})", ids=self._given(series_ids))
            case OfImages():
                return sql("SELECT group_id FROM ({keys}) k", keys=self._given_keys(leaf))
        return sql("SELECT c.group_id FROM group_column c WHERE {zone}", zone=self._zone(leaf))

    def _opened(self, leaf: Leaf) -> Sql:
        """Select key and group_id of the images of part that match by themselves, some of them perhaps twice."""
        match leaf:
            case OfBatches():
                return sql("SELECT id AS key, id AS group_id FROM part WHERE FALSE")
            case OfSeries(series_ids):
                return sql("{images} WHERE i.series_id IN ({ids})", images=images_of(sql("part")), ids=self._given(series_ids))
            case OfImages():
                return sql("SELECT key, group_id FROM ({keys}) k WHERE group_id IN (SELECT id FROM part)", keys=self._given_keys(leaf))
            case Between():
                each = self.dialect.each(sql("c.numbers"))
            case Equals() | OneOf() | Exists():
                each = self.dialect.each_text(sql("c.texts"))
            case _:
                each = self.dialect.each_text(sql("coalesce(c.folded, c.texts)"))
        opened = sql(
            "SELECT c.group_id * {size} + {ordinal} AS key, c.group_id AS group_id FROM group_column c {join} "
            "WHERE {zone} AND c.group_id IN (SELECT id FROM part) AND {matches}",
            size=sql(str(GROUP_SIZE)), ordinal=each.ordinal, join=each.join, zone=self._zone(leaf), matches=self._value_matches(leaf, each.value),
        )  # fmt: skip
        if not isinstance(leaf, Between) or not self._is_promoted(leaf) or self._part_count <= MANY_GROUPS:
            return opened
        return sql("SELECT key, group_id FROM ({rows}) r WHERE group_id IN (SELECT id FROM part)", rows=self._promoted_rows(leaf))

    def _value_matches(self, leaf: Leaf, value: Sql) -> Sql:
        match leaf:
            case Between():
                return all_of([sql("{value} IS NOT NULL", value=value), *_within(value, leaf, self.dialect)])
            case Equals(_, text):
                return sql("{value} = {text}", value=value, text=bound(text))
            case OneOf(_, texts):
                return self.dialect.one_of(value, [bound(text) for text in texts])
            case Exists():
                return sql("{value} IS NOT NULL", value=value)
            case EqualsFolded(_, text):
                return sql("{value} = {text}", value=value, text=fold(text))
        return _folded_matches(leaf, value)

    def _promoted_rows(self, leaf: Between) -> Sql:
        ends = all_of([sql("field_id = {field}", field=self._field(leaf).id), *_within(sql("number"), leaf)])
        return sql("SELECT header_key AS key, header_key >> {bits} AS group_id FROM promoted_number WHERE {ends}", bits=sql(str(_BITS)), ends=ends)

    def _given_keys(self, leaf: OfImages) -> Sql:
        keys = self._given(leaf.header_keys)
        return sql("SELECT given AS key, given >> {bits} AS group_id FROM ({keys}) s", bits=sql(str(_BITS)), keys=keys)

    def _given(self, select: sa.Select[Any]) -> Sql:
        """Make a piece of a select that a leaf was given, once for all its uses."""
        if id(select) not in self._selects:
            # A NULL among them would make "not one of them" neither true nor false.
            given = select.subquery("s")
            (column,) = given.columns
            self._selects[id(select)] = embedded(self._dbsession, sa.select(column.label("given")).where(column.is_not(None)))
        return self._selects[id(select)]

    # What an expression says.

    def _may(self, expression: Expression) -> Sql:
        """Say of a header_group g that some of its images may match."""
        match expression:
            case And(operands):
                # Groups are reached by the first condition and held to the others, each looked up in a hash table: PostgreSQL, which cannot
                # know that two values are common together, would compare all groups of one with all of the other.
                others = (sql("({may}) IS TRUE", may=self._may(operand)) for operand in operands[1:])
                return all_of([*map(self._may, operands[:1]), *others])
            case Or(operands):
                return any_of(map(self._may, operands))
            case Not(operand):
                return sql("NOT {must}", must=self._must(operand))
        # One IN, from which a database can start; two of them joined by OR would make it walk over all groups.
        return sql("g.id IN (SELECT id FROM {whole} UNION ALL {perhaps})", whole=self._whole(expression), perhaps=self._perhaps(expression))

    def _must(self, expression: Expression) -> Sql:
        """Say of a header_group g that all of its images match."""
        match expression:
            case And(operands):
                return all_of(map(self._must, operands))
            case Or(operands):
                return any_of(map(self._must, operands))
            case Not(operand):
                return sql("NOT {may}", may=self._may(operand))
        return sql("g.id IN (SELECT id FROM {whole})", whole=self._whole(expression))

    def _hit(self, expression: Expression, key: Sql, group_id: Sql) -> Sql:
        """Say of an image of part that it matches."""
        match expression:
            case And(operands):
                return all_of(self._hit(operand, key, group_id) for operand in operands)
            case Or(operands):
                return any_of(self._hit(operand, key, group_id) for operand in operands)
            case Not(operand):
                return sql("NOT {hit}", hit=self._hit(operand, key, group_id))
        return sql(
            "({group_id} IN (SELECT id FROM {whole}) OR {key} IN (SELECT key FROM ({opened}) o))",
            group_id=group_id, whole=self._whole(expression), key=key, opened=self._opened(expression),
        )  # fmt: skip

    def _hits(self, expression: Expression) -> Sql:
        """Select key and group_id of the images of part that match, each once."""
        match expression:
            case And(operands):
                for driver in operands:
                    # Start from the column that varies most instead of all images of part.
                    if isinstance(driver, PathLeaf) and not isinstance(driver, Exists) and self._field(driver).varies:
                        common = sql("(SELECT id FROM part WHERE id IN (SELECT id FROM {whole}))", whole=self._whole(driver))
                        rest = [self._hit(operand, sql("d.key"), sql("d.group_id")) for operand in operands if operand is not driver]
                        return sql(
                            "SELECT d.key, d.group_id FROM (SELECT key, group_id FROM ({opened}) o UNION {images}) d WHERE {rest}",
                            opened=self._opened(driver), images=images_of(common), rest=all_of(rest),
                        )  # fmt: skip
            case Or(operands):
                # A group of part has none of these in common, or it would match as a whole.
                single = [operand for operand in operands if not isinstance(operand, And | Or | Not)]
                if single and len(single) == len(operands):
                    return joined(" UNION ", (sql("SELECT key, group_id FROM ({opened}) o", opened=self._opened(leaf)) for leaf in single))
            case Between() if self._is_promoted(expression):
                wanted = [sql("key > {after}", after=-1 if self._count_all else self._after), sql("group_id NOT IN (SELECT id FROM {whole})", whole=self._whole(expression))]
                if self._before is not None and not self._count_all:
                    wanted.append(sql("key < {before}", before=self._before))
                return sql("SELECT DISTINCT key, group_id FROM ({rows}) r WHERE {wanted}", rows=self._promoted_rows(expression), wanted=all_of(wanted))
            case Not():
                pass
            case _:
                return sql("SELECT DISTINCT key, group_id FROM ({opened}) o", opened=self._opened(expression))
        return sql("{images} WHERE {hit}", images=images_of(sql("part")), hit=self._hit(expression, sql("i.header_key"), sql("p.id")))


def look(dbsession: Session, expression: Expression) -> Search:
    """Find all images that match, for several questions in one transaction: what takes an expression takes this too."""
    return Search(dbsession, expression, negate=False).find(most_whole=None).keep_hits()


def search_groups(dbsession: Session, asked: Expression | Search, series_ids: Sql | None = None) -> Search:
    """Find all images that match, with ``hits`` and ``groups`` for the next statement; series_ids: see ``add_hits``."""
    search = asked.again() if isinstance(asked, Search) else Search(dbsession, asked, negate=False).find(most_whole=None)
    search.add_hits(series_ids)
    search.add_groups()
    return search


def images_of(groups: Sql) -> Sql:
    """Select key and group_id of all images of groups."""
    return sql(
        "SELECT i.header_key AS key, p.id AS group_id FROM {groups} p JOIN image i ON {in_group}", groups=groups, in_group=IN_GROUP
    )


def _known_fields(dbsession: Session, paths: Collection[str]) -> dict[str, _KnownField]:
    if not paths:
        return {}
    some = "(SELECT count(*) FROM (SELECT 1 FROM {table} t WHERE t.field_id = f.id LIMIT {sample}) s)"
    columns, common = (sql(some, table=sql(table), sample=_SAMPLE) for table in ("group_column", "group_header"))
    found = sql(
        "SELECT f.path, f.id, f.promoted, {columns} >= {common} FROM field f WHERE {wanted}",
        columns=columns, common=common, wanted=dialect_of(dbsession).one_of(sql("f.path"), paths),
    )  # fmt: skip
    return {path: _KnownField(*known) for path, *known in dbsession.execute(found.statement())}


def _ends(number: Sql, low: float | None, high: float | None) -> list[Sql]:
    ends = [] if low is None else [sql("{number} >= {low}", number=number, low=float(low))]
    return ends if high is None else [*ends, sql("{number} <= {high}", number=number, high=float(high))]


def _within(number: Sql, leaf: Between, dialect: Dialect | None = None) -> list[Sql]:
    """Say that a number lies where the leaf says; dialect: when the number is read from an array."""
    ends = []
    for end, is_open, relation in ((leaf.low, leaf.low_open, ">"), (leaf.high, leaf.high_open, "<")):
        if end is not None:
            bound_ = sql("{end}", end=float(end)) if dialect is None else dialect.parsed(float(end))
            ends.append(sql("{number} {relation} {end}", number=number, relation=sql(relation if is_open else relation + "="), end=bound_))
    return ends


def _overlaps(smallest: str, largest: str) -> Sql:
    return sql("c.text_min <= {largest} AND c.text_max >= {smallest}", largest=largest, smallest=smallest)


def _literal_prefix(pattern: str) -> str:
    return fold(split_pattern(pattern)[0][0])


def _folded_matches(leaf: Leaf, text: Sql) -> Sql:
    match leaf:
        case Contains(_, needle) | Anywhere(needle):
            return containing(text, fold(needle))
        case Like(_, pattern):
            parts, wildcards = split_pattern(pattern)
            return matching(text, [fold(part) for part in parts], wildcards)
        case Name():
            pattern, of_components = leaf.compared()
            parts, wildcards = split_pattern(pattern)
            parts = [fold(part) for part in parts]
            parts[0] = "=" + parts[0]
            parts[-1] += "="
            runs = sql("replace({text}, '^', '=')" if of_components else "rtrim({text}, '^')", text=text)
            return matching(sql("('=' || {runs} || '=')", runs=runs), ["", *parts, ""], ["*", *wildcards, "*"])
    raise TypeError(f"{type(leaf).__name__} compares no folded text")
