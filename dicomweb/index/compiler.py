"""From an expression to SQL, group by group.

Each leaf says three things: in which groups every image matches because all have the value in common (*whole*), in which
some may because of a column whose zone allows it (*perhaps*), and which images of given groups match by their columns
(*opened*). Through And, Or and Not this gives for every group whether it *may* hold matches and whether it *must*: all of
its images match. Only groups that may and need not are opened, image by image::

    candidates  groups that may, with ``must``
    part        those of them that need not
    hits        the images of part that match

so that a count is the sum of the images of groups that must, and the number of hits. All three are materialised: otherwise
PostgreSQL would merge them and walk over all images.
"""

from __future__ import annotations

from collections.abc import Collection
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
    Not,
    OfBatches,
    OfImages,
    OfSeries,
    OneOf,
    Or,
    PathLeaf,
    everything,
    leaves,
    split_pattern,
)
from dicomweb.index.tables import (
    field,
    group_column,
    group_header,
    group_series,
    header,
    header_group,
    image,
    promoted_number,
)
from dicomweb.index.values import LAST, PREFIX, Kind, bound, bound_path, fold, header_ids
from dicomweb.models import GROUP_SIZE

# When more groups than this are to be opened, promoted rows are cheaper than columns.
MANY_GROUPS = 400
# How many rows of a field are counted to see where most of its values are.
_SAMPLE = 200

_GROUP_BITS: sa.ColumnElement[int] = sa.literal_column(str(GROUP_SIZE.bit_length() - 1), sa.Integer)
# Written out as in the index on it, which a database does not use when they are parameters.
_HEADER_PREFIX: sa.ColumnElement[str] = sa.func.substr(header.c.folded, sa.literal_column("1"), sa.literal_column(str(PREFIX)), type_=sa.Text)
_HEADER_KIND = header.c.id.bitwise_and(sa.literal_column("7"))


class Matches(NamedTuple):
    """The images that match, as parts of a statement."""

    candidates: sa.CTE  # id, images, must: the groups that may hold matches
    hits: sa.CTE  # key, group_id: the matching images of groups that need not

    def total(self) -> sa.ColumnElement[int]:
        """Count the images."""
        whole = sa.select(sa.func.sum(self.candidates.c.images)).where(self.candidates.c.must).scalar_subquery()
        return sa.func.coalesce(whole, 0) + sa.select(sa.func.count()).select_from(self.hits).scalar_subquery()


class _KnownField(NamedTuple):
    id: int
    promoted: bool
    varies: bool  # it is more often a column than common to a group


class Compiler:
    """Compiles one expression; reads what is known of its paths from the database, in one statement.

    after: only groups are looked at that may have images with a larger header key.
    Raises ExpressionTooLarge.
    """

    def __init__(self, dbsession: Session, expression: Expression, *, after: int = -1) -> None:
        self.dialect: Dialect = dialect_of(dbsession)
        self._after = after
        self._fields = _known_fields(dbsession, {bound_path(leaf.path) for leaf in leaves(expression) if isinstance(leaf, PathLeaf)})
        self._whole: dict[int, sa.CTE] = {}
        self.expression = self._simplified(expression)

    def matches(self, expression: Expression | None = None) -> Matches:
        """Compile the expression, or an operand of it."""
        expression = self.expression if expression is None else expression
        groups = sa.select(header_group.c.id, header_group.c.images)
        if self._after >= 0:
            groups = groups.where(header_group.c.id >= self._after // GROUP_SIZE)
        if isinstance(expression, Between) and self._field(expression).promoted:
            return self._promoted_matches(expression, groups)
        candidates = self._materialised(groups.add_columns(self._must(expression).label("must")).where(self._may(expression)), "candidates")
        part = self._materialised(sa.select(candidates.c.id).where(sa.not_(candidates.c.must)), "part")
        return Matches(candidates, self._materialised(self._hits(expression, part), "hits"))

    def images_of(self, groups: sa.CTE | sa.Subquery) -> sa.Select[Any]:
        """Select key and group_id of all images of groups."""
        return sa.select(image.c.header_key.label("key"), groups.c.id.label("group_id")).select_from(groups.join(image, in_group(groups.c.id)))

    def field_id(self, path: str) -> int | None:
        """Give the id of a path that the expression names, None when nothing has it."""
        known = self._fields.get(bound_path(path))
        return known.id if known else None

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
            case OfSeries() | OfBatches() | OfImages():
                return expression
            case _:
                return expression if bound_path(expression.path) in self._fields else NOTHING

    # What a leaf says.

    def _whole_groups(self, leaf: Leaf) -> sa.CTE:
        """Give the groups that match as a whole; the same for all uses in a statement."""
        if id(leaf) not in self._whole:
            self._whole[id(leaf)] = self._materialised(self._select_whole(leaf), f"whole_{len(self._whole)}")
        return self._whole[id(leaf)]

    def _select_whole(self, leaf: Leaf) -> sa.Select[Any]:
        groups = sa.select(group_header.c.group_id.label("id"))
        match leaf:
            case OfBatches(batch_ids):
                return sa.select(header_group.c.id.label("id")).where(header_group.c.batch_id.in_(batch_ids))
            case OfSeries(series_ids):
                other = group_series.alias()
                others = sa.exists().where(other.c.group_id == group_series.c.group_id, other.c.series_id.not_in(series_ids))
                return sa.select(group_series.c.group_id.label("id")).where(group_series.c.series_id.in_(series_ids), ~others)
            case OfImages():
                return groups.where(sa.false())
            case Anywhere(text):
                found = (group_header.c.field_id == header.c.field_id) & (group_header.c.header_id == header.c.id)
                mentioned = self.dialect.mentions(fold(text))
                return groups.join(header, found).where(sa.literal_column(str(int(Kind.TEXT))) == _HEADER_KIND, mentioned)
        field_id = self._field(leaf).id
        groups = groups.where(group_header.c.field_id == field_id)
        match leaf:
            case Exists():
                return groups
            case Equals(path, text):
                return groups.where(group_header.c.header_id.between(*header_ids(bound_path(path), bound(text))))
            case OneOf(path, texts):
                ids = [first + kind for text in texts for first, _ in [header_ids(bound_path(path), bound(text))] for kind in Kind]
                return groups.where(self.dialect.within(group_header.c.header_id, ids))
        return groups.join(header, header.c.id == group_header.c.header_id).where(header.c.field_id == field_id, self._header_matches(leaf))

    def _header_matches(self, leaf: Leaf) -> sa.ColumnElement[bool]:
        match leaf:
            case Between(_, low, high):
                return sa.and_(header.c.number.is_not(None), *_within_ends(header.c.number, low, high))
            case EqualsFolded(_, text):
                folded = fold(text)
                return sa.and_(_HEADER_PREFIX.between(folded[:PREFIX], folded[:PREFIX]), header.c.folded == folded)
            case Like(_, pattern):
                prefix = _literal_prefix(pattern)[:PREFIX]
                return sa.and_(_folded_matches(leaf, header.c.folded), *([_HEADER_PREFIX.between(prefix, prefix + LAST)] if prefix else []))
        return _folded_matches(leaf, header.c.folded)

    def _zone(self, leaf: PathLeaf | Anywhere) -> sa.ColumnElement[bool]:
        """Say of a GroupColumn that it may have a value that matches."""
        if isinstance(leaf, Anywhere):
            return sa.and_(group_column.c.words.is_not(None), containing(group_column.c.words, fold(leaf.text)))
        zone = [group_column.c.field_id == self._field(leaf).id]
        match leaf:
            case Between(_, low, high):
                zone.append(group_column.c.number_min.is_not(None))
                if low is not None:
                    zone.append(group_column.c.number_max >= low)
                if high is not None:
                    zone.append(group_column.c.number_min <= high)
            case Equals(_, text) | EqualsFolded(_, text):
                zone += [group_column.c.text_min <= fold(bound(text)), group_column.c.text_max >= fold(bound(text))]
            case OneOf(_, texts):
                folded = [fold(bound(text)) for text in texts] or [""]
                zone += [group_column.c.text_min <= max(folded), group_column.c.text_max >= min(folded)]
            case Like(_, pattern):
                prefix = _literal_prefix(pattern)
                zone += [group_column.c.text_min <= prefix + LAST, group_column.c.text_max >= prefix] if prefix else []
            case Contains(_, text):
                zone.append(sa.or_(group_column.c.words.is_(None), containing(group_column.c.words, fold(text))))
        return sa.and_(*zone)

    def _select_perhaps(self, leaf: Leaf) -> sa.Select[Any]:
        """Select the groups some of whose images may match by themselves."""
        match leaf:
            case OfBatches():
                return sa.select(header_group.c.id).where(sa.false())
            case OfSeries(series_ids):
                return sa.select(group_series.c.group_id).where(group_series.c.series_id.in_(series_ids))
            case OfImages(header_keys):
                return sa.select(header_keys.subquery().c[0].bitwise_rshift(_GROUP_BITS))
        return sa.select(group_column.c.group_id).where(self._zone(leaf))

    def _opened(self, leaf: Leaf, part: sa.CTE) -> sa.Subquery:
        """Give key and group_id of the images of part that match by themselves, some of them perhaps twice."""
        part_ids = sa.select(part.c.id)
        match leaf:
            case OfBatches():
                return self.images_of(part).where(sa.false()).subquery()
            case OfSeries(series_ids):
                return self.images_of(part).where(image.c.series_id.in_(series_ids)).subquery()
            case OfImages(header_keys):
                keys = header_keys.subquery()
                group_id = keys.c[0].bitwise_rshift(_GROUP_BITS)
                return sa.select(keys.c[0].label("key"), group_id.label("group_id")).where(group_id.in_(part_ids)).subquery()
            case Between():
                array: Any = group_column.c.numbers
            case Equals() | OneOf() | Exists():
                array = group_column.c.texts
            case _:
                array = sa.type_coerce(sa.func.coalesce(group_column.c.folded, group_column.c.texts), group_column.c.texts.type)
        opened, value, ordinal = self.dialect.unnest(array)
        found = (
            sa.select((group_column.c.group_id * GROUP_SIZE + ordinal).label("key"), group_column.c.group_id.label("group_id"))
            .join(opened, sa.true())
            .where(self._zone(leaf), group_column.c.group_id.in_(part_ids), self._value_matches(leaf, value))
        )
        if not isinstance(leaf, Between) or not self._field(leaf).promoted:
            return found.subquery()
        # Which of the two is decided once, when the statement runs: the field id of the other one becomes NULL. Written so
        # that it is part of the index key; SQLite would scan all rows otherwise.
        many = sa.select(sa.func.count()).select_from(part).scalar_subquery() > MANY_GROUPS
        field_id = self._field(leaf).id
        rows = self._promoted_rows(leaf, sa.case((many, field_id))).subquery()
        return sa.union_all(
            found.where(group_column.c.field_id == sa.case((sa.not_(many), field_id))),
            sa.select(rows.c.key, rows.c.group_id).where(rows.c.group_id.in_(part_ids)),
        ).subquery()

    def _value_matches(self, leaf: Leaf, value: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        match leaf:
            case Between(_, low, high):
                low_, high_ = (None if end is None else self.dialect.parsed(end) for end in (low, high))
                return sa.and_(value.is_not(None), *_within_ends(value, low_, high_))
            case Equals(_, text):
                return value == bound(text)
            case OneOf(_, texts):
                return self.dialect.within(value, [bound(text) for text in texts])
            case Exists():
                return value.is_not(None)
            case EqualsFolded(_, text):
                return value == fold(text)
        return _folded_matches(leaf, value)

    def _promoted_rows(self, leaf: Between, field_id: Any) -> sa.Select[Any]:
        keys = sa.select(promoted_number.c.header_key.label("key"), promoted_number.c.header_key.bitwise_rshift(_GROUP_BITS).label("group_id"))
        return keys.where(promoted_number.c.field_id == field_id, *_within_ends(promoted_number.c.number, leaf.low, leaf.high))

    # What an expression says.

    def _may(self, expression: Expression) -> sa.ColumnElement[bool]:
        """Say of a HeaderGroup that some of its images may match."""
        match expression:
            case And(operands):
                return sa.and_(sa.true(), *map(self._may, operands))
            case Or(operands):
                return sa.or_(sa.false(), *map(self._may, operands))
            case Not(operand):
                return sa.not_(self._must(operand))
        # One IN, from which a database can start; two of them joined by OR would make it walk over all groups.
        return header_group.c.id.in_(sa.union_all(sa.select(self._whole_groups(expression).c.id), self._select_perhaps(expression)))

    def _must(self, expression: Expression) -> sa.ColumnElement[bool]:
        """Say of a HeaderGroup that all of its images match."""
        match expression:
            case And(operands):
                return sa.and_(sa.true(), *map(self._must, operands))
            case Or(operands):
                return sa.or_(sa.false(), *map(self._must, operands))
            case Not(operand):
                return sa.not_(self._may(operand))
        return header_group.c.id.in_(sa.select(self._whole_groups(expression).c.id))

    def _hit(self, expression: Expression, key: Any, group_id: Any, part: sa.CTE) -> sa.ColumnElement[bool]:
        """Say of an image of part that it matches."""
        match expression:
            case And(operands):
                return sa.and_(sa.true(), *(self._hit(operand, key, group_id, part) for operand in operands))
            case Or(operands):
                return sa.or_(sa.false(), *(self._hit(operand, key, group_id, part) for operand in operands))
            case Not(operand):
                return sa.not_(self._hit(operand, key, group_id, part))
        whole = sa.select(self._whole_groups(expression).c.id)
        return sa.or_(group_id.in_(whole), key.in_(sa.select(self._opened(expression, part).c.key)))

    def _hits(self, expression: Expression, part: sa.CTE) -> Any:
        """Select key and group_id of the images of part that match, each once."""
        match expression:
            case And(operands):
                driver = next((operand for operand in operands if self._drives(operand)), None)
                if driver is not None and not isinstance(driver, And | Or | Not):
                    # Start from the column that varies most instead of all images of part.
                    common = sa.select(part.c.id).where(part.c.id.in_(sa.select(self._whole_groups(driver).c.id))).subquery()
                    opened = self._opened(driver, part)
                    start = sa.union(sa.select(opened.c.key, opened.c.group_id), self.images_of(common)).subquery()
                    rest = [self._hit(operand, start.c.key, start.c.group_id, part) for operand in operands if operand is not driver]
                    return sa.select(start.c.key, start.c.group_id).where(*rest)
            case Or(operands) if all(not isinstance(operand, And | Or | Not) for operand in operands):
                # A group of part has none of these in common, or it would match as a whole.
                opened_all = [self._opened(operand, part) for operand in operands if not isinstance(operand, And | Or | Not)]
                if opened_all:
                    return sa.union(*(sa.select(opened.c.key, opened.c.group_id) for opened in opened_all))
        if not isinstance(expression, And | Or | Not):
            opened = self._opened(expression, part)
            return sa.select(opened.c.key, opened.c.group_id).distinct()
        return self.images_of(part).where(self._hit(expression, image.c.header_key, part.c.id, part))

    def _drives(self, expression: Expression) -> bool:
        return isinstance(expression, PathLeaf) and not isinstance(expression, Exists) and self._field(expression).varies

    def _promoted_matches(self, leaf: Between, groups: Any) -> Matches:
        """Compile a promoted range alone: its rows are the hits."""
        candidates = self._materialised(groups.add_columns(sa.true().label("must")).where(self._must(leaf)), "candidates")
        rows = self._promoted_rows(leaf, self._field(leaf).id)
        if self._after >= 0:
            rows = rows.where(promoted_number.c.header_key > self._after)
        found = rows.subquery()
        hits = sa.select(found.c.key, found.c.group_id).distinct().where(found.c.group_id.not_in(sa.select(candidates.c.id)))
        return Matches(candidates, self._materialised(hits, "hits"))

    def _materialised(self, statement: Any, name: str) -> sa.CTE:
        return statement.cte(name).prefix_with("MATERIALIZED")


def in_group(group_id: Any) -> sa.ColumnElement[bool]:
    """Say of an Image that it belongs to a group; a range of the unique key, never an equality on a computed group."""
    return image.c.header_key.between(group_id * GROUP_SIZE, group_id * GROUP_SIZE + (GROUP_SIZE - 1))


def _known_fields(dbsession: Session, paths: Collection[str]) -> dict[str, _KnownField]:
    if not paths:
        return {}

    def some(column: Any) -> Any:
        rows = sa.select(sa.literal_column("1")).where(column == field.c.id).limit(_SAMPLE).correlate(field).subquery()
        return sa.select(sa.func.count()).select_from(rows).scalar_subquery()

    varies = some(group_column.c.field_id) >= some(group_header.c.field_id)
    found = sa.select(field.c.path, field.c.id, field.c.promoted, varies).where(dialect_of(dbsession).within(field.c.path, paths))
    return {path: _KnownField(*known) for path, *known in dbsession.execute(found)}


def _within_ends(number: Any, low: Any, high: Any) -> list[sa.ColumnElement[bool]]:
    ends = []
    if low is not None:
        ends.append(number >= low)
    if high is not None:
        ends.append(number <= high)
    return ends


def _literal_prefix(pattern: str) -> str:
    return fold(split_pattern(pattern)[0][0])


def _folded_matches(leaf: Leaf, text: Any) -> sa.ColumnElement[bool]:
    match leaf:
        case Contains(_, needle) | Anywhere(needle):
            return containing(text, fold(needle))
        case Like(_, pattern):
            parts, wildcards = split_pattern(pattern)
            return matching(text, [fold(part) for part in parts], wildcards)
    raise TypeError(f"{type(leaf).__name__} compares no folded text")
