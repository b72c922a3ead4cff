"""Pages of a list: an exact count and one bounded slice, in two statements whatever the page number."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


class Page(NamedTuple):
    """One page: how many rows there are in all, which page this is, and its rows."""

    count: int
    number: int
    size: int
    rows: list[Any]

    @property
    def pages(self) -> int:
        """How many pages there are; an empty list has one."""
        return max(1, -(-self.count // self.size))


def take_page(dbsession: Session, statement: sa.Select[Any], key: Any, *, number: int, size: int, count: int | None = None, newest_first: bool = False) -> Page:
    """Take one page of the entities a statement selects, ordered by a unique ``key`` column.

    The offset runs over the keys alone, which an index answers, so page 10,000 of a million costs milliseconds; the rows
    are then fetched by their keys. count: the total when the caller knows it, else it is counted.
    """
    if count is None:
        count = dbsession.scalar(statement.with_only_columns(sa.func.count(), maintain_column_froms=True).order_by(None)) or 0
    order = key.desc() if newest_first else key.asc()
    keys = statement.with_only_columns(key, maintain_column_froms=True).order_by(order).limit(size).offset((number - 1) * size).subquery()
    rows = dbsession.scalars(statement.where(key.in_(sa.select(keys.c[0]))).order_by(order)).unique().all() if count else []
    return Page(count, number, size, list(rows))
