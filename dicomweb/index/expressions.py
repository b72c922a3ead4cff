"""What can be asked of the index: leaves about one image each, joined by ``And``, ``Or`` and ``Not``.

A leaf that names a path matches an image when any of the image's values at that path does. *Folded* comparisons ignore
case, accents and width (``values.fold``). What is not indexed matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicomweb.index.values import TEXT_LENGTH
from dicomweb.languages import gettext

# Nobody writes more by hand; SQLite takes a quarter of a second to parse so many. Many values of one path are one leaf (OneOf).
MOST_LEAVES = 256
# What SQLite parses, once what only repeats its surroundings (an And within an And) is taken out ...
DEEPEST = 16
# ... and what may be written.
DEEPEST_WRITTEN = 256


class ExpressionTooLarge(ValueError):
    """The expression has too many leaves, is nested too deep, or has a pattern that is too long."""


@dataclass(frozen=True, slots=True)
class Equals:
    """A value is exactly this text; "" is an element without a value."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class EqualsFolded:
    """A value is this text, folded."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value is exactly one of these texts: an Or of Equals, however many they are."""

    path: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Like:
    r"""A value matches a pattern, folded: ``*`` is any text, ``?`` one character, and ``\`` takes these (and itself) literally."""

    path: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Name:
    r"""A name of a person (PS3.5 6.2.1) matches a pattern, folded, as in ``Like``.

    It is enough that component groups as they stand side by side match, or, when the pattern has neither ``^`` nor ``=``,
    components: ``yamada``, ``山田*``, ``山田^太郎`` and ``yamada^tarou=山田^*`` all match ``Yamada^Tarou=山田^太郎``. Empty components
    at the end say nothing, so ``smith^`` is a whole group.
    """

    path: str
    pattern: str

    def compared(self) -> tuple[str, bool]:
        """Give the pattern without empty components at its end, and whether it is compared with single components."""
        pattern = self.pattern.rstrip("^")
        return pattern, "^" not in self.pattern and "=" not in pattern


@dataclass(frozen=True, slots=True)
class Contains:
    """A value contains this text, folded."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """The number of a value (see ``numbers.number``) lies between two; None is no bound.

    Both bounds are included unless they are said to be open.
    """

    path: str
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False


@dataclass(frozen=True, slots=True)
class Exists:
    """The path is there, with or without a value."""

    path: str


@dataclass(frozen=True, slots=True)
class Anywhere:
    """Some text of the header contains this one, folded; numbers, dates, times, ages, tags and UIDs are no text."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class OfSeries:
    """The image belongs to one of the series whose ids this selects."""

    series_ids: sa.Select[Any]


@dataclass(frozen=True, slots=True, eq=False)
class OfBatches:
    """The image belongs to one of the batches whose ids this selects."""

    batch_ids: sa.Select[Any]


@dataclass(frozen=True, slots=True, eq=False)
class OfImages:
    """The image is one of those whose header keys this selects."""

    header_keys: sa.Select[Any]


@dataclass(frozen=True, slots=True)
class And:
    """All of these; without any, every image."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of these; without any, no image."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not this."""

    operand: Expression


PathLeaf = Equals | EqualsFolded | OneOf | Like | Name | Contains | Between | Exists
Leaf = PathLeaf | Anywhere | OfSeries | OfBatches | OfImages
Expression = Leaf | And | Or | Not

NOTHING = Or(())


def everything() -> Expression:
    """Give the expression that all indexed images match."""
    return And(())


def leaves(expression: Expression) -> Iterator[Leaf]:
    """Give the leaves of an expression. Raises ExpressionTooLarge."""
    count = 0
    open_: list[tuple[Expression, int]] = [(expression, 0)]
    while open_:
        current, depth = open_.pop()
        if depth > DEEPEST_WRITTEN:
            raise ExpressionTooLarge(gettext("the expression is nested deeper than %(most)s", most=DEEPEST_WRITTEN))
        if isinstance(current, And | Or):
            open_.extend((operand, depth + 1) for operand in reversed(current.operands))
        elif isinstance(current, Not):
            open_.append((current.operand, depth + 1))
        else:
            count += 1
            if count > MOST_LEAVES:
                raise ExpressionTooLarge(gettext("the expression has more than %(most)s conditions", most=MOST_LEAVES))
            if isinstance(current, Like) and len(current.pattern) > TEXT_LENGTH:
                raise ExpressionTooLarge(gettext("a pattern has more than %(most)s characters", most=TEXT_LENGTH))
            yield current


def check_depth(expression: Expression) -> None:
    """Raise ExpressionTooLarge when a simplified expression is nested too deep."""
    level: list[Expression] = [expression]
    for _ in range(DEEPEST + 1):
        level = [
            operand
            for current in level
            if isinstance(current, And | Or | Not)
            for operand in ((current.operand,) if isinstance(current, Not) else current.operands)
        ]
        if not level:
            return
    raise ExpressionTooLarge(gettext("the expression is nested deeper than %(most)s", most=DEEPEST))


def split_pattern(pattern: str) -> tuple[list[str], list[str]]:
    """Split a pattern into its literal parts and the wildcards between them, one fewer."""
    parts, wildcards = [""], []
    for token in re.findall(r"\\[*?\\]|.", pattern, re.DOTALL):
        if token in ("*", "?"):
            wildcards.append(token)
            parts.append("")
        else:
            parts[-1] += token[-1] if len(token) == 2 else token
    return parts, wildcards
