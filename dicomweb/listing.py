"""Pages of a list: an exact count and one bounded slice, in two statements whatever the page number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True)
class Page:
    """One page: how many rows there are in all, which page this is, and its rows."""

    count: int
    number: int
    size: int
    rows: list[Any]

    @property
    def pages(self) -> int:
        """How many pages there are; an empty list has one."""
        return max(1, -(-self.count // self.size))


def take_page(
    dbsession: Session,
    statement: sa.Select[Any],
    key: Any,
    *,
    number: int,
    size: int,
    count: int | None = None,
    newest_first: bool = False,
    order: Sequence[sa.ColumnElement[Any]] = (),
) -> Page:
    """Take one page of the entities a statement selects, ordered by a unique ``key`` column.

    The offset runs over the keys alone, which an index answers, so page 10,000 of a million costs milliseconds; the rows
    are then fetched by their keys. count: the total when the caller knows it, else it is counted. order: what comes before
    the key in the order.
    """
    if count is None:
        counting = statement.with_only_columns(sa.func.count(), maintain_column_froms=True).order_by(None)
        count = dbsession.scalar(counting) or 0
    if (number - 1) * size >= count:
        # Also keeps offsets that no database can hold away from it.
        return Page(count, number, size, [])
    ordering = (*order, key.desc() if newest_first else key.asc())
    keys = statement.with_only_columns(key, maintain_column_froms=True).order_by(None).order_by(*ordering)
    wanted = keys.limit(size).offset((number - 1) * size).subquery()
    rows = dbsession.scalars(statement.where(key.in_(sa.select(wanted.c[0]))).order_by(None).order_by(*ordering))
    return Page(count, number, size, list(rows.unique().all()))
