"""Answers to expressions: counts, pages, keys, facets, series. Each takes two statements, whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.index.compiler import Compiler, Matches, in_group
from dicomweb.index.expressions import Expression, Not
from dicomweb.index.tables import field, group_column, group_header, group_series, header, header_group, image
from dicomweb.index.values import bound_path
from dicomweb.models import GROUP_SIZE


def count(dbsession: Session, expression: Expression) -> int:
    """Count the images that match."""
    compiler = Compiler(dbsession, expression)
    if isinstance(compiler.expression, Not):
        matches = compiler.matches(compiler.expression.operand)
        remaining = sa.select(sa.func.sum(header_group.c.images)).where(_not_whole(matches)).scalar_subquery()
        hits = sa.select(sa.func.count()).select_from(matches.hits).scalar_subquery()
        return int(dbsession.scalar(sa.select(sa.func.coalesce(remaining, 0) - hits)) or 0)
    return int(dbsession.scalar(sa.select(compiler.matches().total())) or 0)


def page(dbsession: Session, expression: Expression, *, limit: int, after: int = -1) -> list[int]:
    """Give the header keys of the next matching images in key order, which is the order of import.

    after: the last key of the page before. Images that arrive meanwhile never shift a page.
    """
    compiler = Compiler(dbsession, expression, after=after)
    if isinstance(compiler.expression, Not):
        # A walk over the groups that the operand does not cover, which ends as soon as the page is full.
        matches = compiler.matches(compiler.expression.operand)
        walk = (
            sa.select(image.c.header_key)
            .select_from(header_group)
            .join(image, in_group(header_group.c.id))
            .where(
                _not_whole(matches),
                header_group.c.id >= after // GROUP_SIZE,
                image.c.header_key > after,
                image.c.header_key.not_in(sa.select(matches.hits.c.key)),
            )
        )
        return list(dbsession.scalars(walk.order_by(header_group.c.id, image.c.header_key).limit(limit)))
    matches = compiler.matches()
    # Each group has at least one image, and the first one may be used up to its last.
    whole = sa.select(matches.candidates.c.id).where(matches.candidates.c.must, matches.candidates.c.id >= after // GROUP_SIZE)
    first = whole.order_by(matches.candidates.c.id).limit(limit + 1).cte("first").prefix_with("MATERIALIZED")
    of_whole = compiler.images_of(first).where(image.c.header_key > after).order_by(first.c.id, image.c.header_key).limit(limit).subquery()
    hits = sa.select(matches.hits.c.key).where(matches.hits.c.key > after).order_by(matches.hits.c.key).limit(limit).subquery()
    both = sa.union_all(sa.select(of_whole.c.key), sa.select(hits.c.key)).order_by("key").limit(limit)
    return list(dbsession.scalars(both))


def keys(dbsession: Session, expression: Expression) -> Iterator[int]:
    """Give the header keys of all matching images in key order, streamed."""
    statement = select_keys(dbsession, expression).order_by("key").execution_options(yield_per=10_000)
    yield from dbsession.scalars(statement)


def select_keys(dbsession: Session, expression: Expression) -> sa.CompoundSelect[Any]:
    """Give the statement that selects the header keys (named key) of all matching images, to be part of a larger one."""
    compiler = Compiler(dbsession, expression)
    matches = compiler.matches()
    whole = sa.select(matches.candidates.c.id).where(matches.candidates.c.must).subquery()
    of_whole = compiler.images_of(whole).subquery()
    return sa.union_all(sa.select(of_whole.c.key), sa.select(matches.hits.c.key))


def facet(dbsession: Session, expression: Expression, path: str, limit: int) -> list[tuple[str, int]]:
    """Give the most frequent values of a path among the matching images, with the number of images that have each.

    An image counts for each of its values. The most frequent come first, and among equals the smaller text.
    """
    compiler = Compiler(dbsession, expression)
    matches = compiler.matches()
    dialect = compiler.dialect
    field_id = sa.select(field.c.id).where(field.c.path == bound_path(path)).scalar_subquery()
    groups = _images_by_group(matches)
    common = (
        sa.select(sa.func.coalesce(header.c.text, header.c.folded).label("text"), groups.c.images)
        .select_from(group_header)
        .join(groups, groups.c.id == group_header.c.group_id)
        .join(header, header.c.id == group_header.c.header_id)
        .where(group_header.c.field_id == field_id)
    )
    columns = (
        sa.select(group_column.c.group_id, group_column.c.texts, matches.candidates.c.must)
        .join(matches.candidates, matches.candidates.c.id == group_column.c.group_id, isouter=True)
        .where(group_column.c.field_id == field_id, group_column.c.group_id.in_(sa.select(groups.c.id)))
    )
    opened_columns = columns.cte("columns").prefix_with("MATERIALIZED")
    opened, value, ordinal = dialect.unnest(opened_columns.c.texts)
    varying = (
        sa.select(value.label("text"), sa.literal(1).label("images"))
        .select_from(opened_columns)
        .join(opened, sa.true())
        .where(
            value.is_not(None),
            sa.or_(
                sa.func.coalesce(opened_columns.c.must, sa.false()),
                (opened_columns.c.group_id * GROUP_SIZE + ordinal).in_(sa.select(matches.hits.c.key)),
            ),
        )
    )
    both = sa.union_all(common, varying).subquery()
    images = sa.func.sum(both.c.images)
    by_text = sa.select(both.c.text, images).group_by(both.c.text)
    rows = dbsession.execute(by_text.order_by(images.desc(), dialect.by_code_point(both.c.text)).limit(limit))
    return [(text, int(total)) for text, total in rows]


def series_of(dbsession: Session, expression: Expression, *, limit: int | None = None, after: int = -1) -> list[int]:
    """Give the ids of the series that have matching images, ascending."""
    found = _series(dbsession, expression).subquery()
    return list(dbsession.scalars(sa.select(found.c.series_id).where(found.c.series_id > after).order_by(found.c.series_id).limit(limit)))


def count_series(dbsession: Session, expression: Expression) -> int:
    """Count the series that have matching images."""
    return int(dbsession.scalar(sa.select(sa.func.count()).select_from(_series(dbsession, expression).subquery())) or 0)


def select_series(dbsession: Session, expression: Expression) -> Any:
    """Give the statement that selects the ids (named series_id) of the series that have matching images."""
    return _series(dbsession, expression)


def _series(dbsession: Session, expression: Expression) -> Any:
    matches = Compiler(dbsession, expression).matches()
    whole = sa.select(group_series.c.series_id).join(matches.candidates, matches.candidates.c.id == group_series.c.group_id).where(matches.candidates.c.must)
    single = sa.select(image.c.series_id).join(matches.hits, matches.hits.c.key == image.c.header_key)
    return sa.union(whole, single)


def _images_by_group(matches: Matches) -> sa.CTE:
    whole = sa.select(matches.candidates.c.id, matches.candidates.c.images).where(matches.candidates.c.must)
    opened = sa.select(matches.hits.c.group_id.label("id"), sa.func.count().label("images")).group_by(matches.hits.c.group_id)
    return sa.union_all(whole, opened).cte("groups").prefix_with("MATERIALIZED")


def _not_whole(matches: Matches) -> sa.ColumnElement[bool]:
    return header_group.c.id.not_in(sa.select(matches.candidates.c.id).where(matches.candidates.c.must))
