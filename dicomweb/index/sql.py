"""SQL put together from pieces, values always apart from the text.

Queries over headers are made of dozens of small pieces; building and compiling them as SQLAlchemy expressions takes many
times as long as the database needs to answer. Here a piece is a template; what stands in braces is either another piece or
a value, which becomes a parameter. **Nothing but pieces written in this package gets into the text.**
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

_NAMED = {"sqlite": sqlite.dialect(paramstyle="named"), "postgresql": postgresql.dialect(paramstyle="named")}


class _Value(NamedTuple):
    value: Any
    type: sa.types.TypeEngine[Any] | None


class Sql:
    """A piece of SQL."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[str | _Value]) -> None:
        self._parts = tuple(parts)

    def __iter__(self) -> Iterator[str | _Value]:
        return iter(self._parts)

    def statement(self) -> sa.TextClause:
        """Make a statement of it."""
        text: list[str] = []
        values: list[sa.BindParameter[Any]] = []
        for part in self._parts:
            if isinstance(part, str):
                text.append(part)
            else:
                name = f"value_{len(values)}"
                text.append(f":{name}")
                # Unique, so that a statement may be made of several such statements.
                values.append(sa.bindparam(name, part.value, part.type, unique=True))
        return _text("".join(text)).bindparams(*values)


@lru_cache(maxsize=1024)
def _text(text: str) -> sa.TextClause:
    return sa.text(text)


def sql(template: str, **values: Any) -> Sql:
    """Make a piece from a template: ``{name}`` is a piece, or a value to be bound."""
    parts: list[str | _Value] = []
    for place, part in enumerate(_parsed(template)):
        if place % 2 == 0:
            parts.append(part)
            continue
        value = values[part]
        if isinstance(value, Sql):
            parts.extend(value)
        else:
            parts.append(_Value(value, None))
    return Sql(parts)


def joined(separator: str, pieces: Iterable[Sql]) -> Sql:
    """Join pieces."""
    parts: list[str | _Value] = []
    for piece in pieces:
        if parts:
            parts.append(separator)
        parts.extend(piece)
    return Sql(parts)


def all_of(conditions: Iterable[Sql]) -> Sql:
    """Join conditions by AND; none of them is true."""
    return sql("({conditions})", conditions=joined(" AND ", conditions)) if (conditions := list(conditions)) else sql("TRUE")


def any_of(conditions: Iterable[Sql]) -> Sql:
    """Join conditions by OR; none of them is false."""
    return sql("({conditions})", conditions=joined(" OR ", conditions)) if (conditions := list(conditions)) else sql("FALSE")


def embedded(dbsession: Session, select: sa.Select[Any]) -> Sql:
    """Make a piece of a SQLAlchemy select."""
    compiled = select.compile(dialect=_NAMED[dbsession.get_bind().dialect.name], compile_kwargs={"render_postcompile": True})
    parts: list[str | _Value] = []
    for place, part in enumerate(re.split(r"(?<!:):(\w+)", str(compiled))):
        if place % 2 == 0:
            parts.append(part.replace(":", r"\:"))
        else:
            # The parameters of an IN list are numbered after the one they were.
            bound = compiled.binds.get(part)
            bound = compiled.binds[part.rpartition("_")[0]] if bound is None else bound
            parts.append(_Value(compiled.params[part], bound.type))
    return Sql(parts)


@lru_cache(maxsize=1024)
def _parsed(template: str) -> list[str]:
    """Split a template into text, name, text, name, ... text."""
    return re.split(r"\{(\w+)\}", template)
