"""The tree of a query: what is asked, without how it is answered.

Trees are normal when they are made with ``all_of``, ``any_of`` and ``negated``, as the parser does: no And directly in an And, no
Or in an Or, no Not of a Not, and at least two operands, but for ``EVERYTHING``, the And of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dicomweb.query.fields import Field


@dataclass(frozen=True, slots=True)
class Text:
    r"""A value is this text, or matches this pattern; folded (case, accents, width) and as a whole.

    wildcards: ``*`` is any text, ``?`` one character, and ``\`` takes these and itself literally. Without wildcards every
    character of ``pattern`` stands for itself, and "" is an element without a value.
    """

    pattern: str
    wildcards: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """The number of a value lies between two; None is an open end.

    low_open, high_open: the end itself does not belong to it. shown: the test as it is written in the language.
    """

    low: float | None
    high: float | None
    low_open: bool
    high_open: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The element is there, with or without a value."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The element is not there."""


Test = Text | Range | Exists | Missing


@dataclass(frozen=True, slots=True)
class Words:
    """Some text of the header contains this one, folded."""

    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """A value of an element passes a test; of several values, any."""

    field: Field
    test: Test


@dataclass(frozen=True, slots=True)
class Meta:
    """What the application knows of an image passes a test.

    name: ``batch`` (Text: name or number of the batch, Range: number), ``status`` (Text: of the batch, NEW, PROCESSING or DONE), ``label`` (Text, Exists,
    Missing), ``added`` (Range: yyyymmddhhmmss in UTC, always a moment of the calendar), ``id`` (Range: the number of the image).
    """

    name: str
    test: Test


@dataclass(frozen=True, slots=True)
class And:
    """All of these; without any, every image."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of these."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not this."""

    operand: Node


Leaf = Words | Term | Meta
Node = Leaf | And | Or | Not

EVERYTHING = And(())


def all_of(nodes: Iterable[Node]) -> Node:
    """Join conditions that must all hold; of none, everything."""
    operands: list[Node] = []
    for node in nodes:
        operands.extend(node.operands if isinstance(node, And) else (node,))
    return operands[0] if len(operands) == 1 else And(tuple(operands))


def any_of(nodes: Iterable[Node]) -> Node:
    """Join conditions of which one must hold. Raises ValueError without any."""
    operands: list[Node] = []
    for node in nodes:
        operands.extend(node.operands if isinstance(node, Or) else (node,))
    if not operands:
        raise ValueError("one of no conditions is no condition")
    return operands[0] if len(operands) == 1 else Or(tuple(operands))


def negated(node: Node) -> Node:
    """Turn a condition round."""
    return node.operand if isinstance(node, Not) else Not(node)


def leaves(node: Node) -> Iterator[Leaf]:
    """Give the leaves of a tree from left to right."""
    for leaf, _ in _leaves(node):
        yield leaf


def depth(node: Node) -> int:
    """Tell how deep a tree is nested; a leaf alone is not."""
    return max((depth for _, depth in _leaves(node)), default=0)


def _leaves(node: Node) -> Iterator[tuple[Leaf, int]]:
    open_: list[tuple[Node, int]] = [(node, 0)]
    while open_:
        current, depth = open_.pop()
        if isinstance(current, And | Or):
            open_.extend((operand, depth + 1) for operand in reversed(current.operands))
        elif isinstance(current, Not):
            open_.append((current.operand, depth + 1))
        else:
            yield current, depth
