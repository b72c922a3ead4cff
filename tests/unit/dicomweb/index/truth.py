"""What an expression means, said a second time: image by image over the elements, without groups and without SQL.

Only folding, numbers and cutting are shared with the index; they have tests of their own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from dicomweb.index import (
    And,
    Anywhere,
    Between,
    Contains,
    Equals,
    EqualsFolded,
    Exists,
    Expression,
    Like,
    Member,
    Name,
    Not,
    OneOf,
    Or,
)
from dicomweb.index.expressions import split_pattern
from dicomweb.index.numbers import number
from dicomweb.index.values import bound, bound_path, fold

_NO_TEXT = {"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL", "SV", "UV", "DA", "TM", "DT", "AS", "UI", "AT", "SQ"}


class Value(NamedTuple):
    """One value of an image."""

    path: str
    text: str
    number: float | None
    is_text: bool
    folded: str


_fold = lru_cache(maxsize=None)(fold)


def values_of(member: Member) -> list[Value]:
    """Give the values of an image, each text of a path once; a number when any of its VRs makes it one."""
    found: dict[tuple[str, str], Value] = {}
    for path, vr, texts in member.elements:
        for text in [text for text in texts if text] or [""]:
            text = bound(text)
            of_text = number(vr, text)
            is_text = vr not in _NO_TEXT or (bool(text) and of_text is None and vr not in ("UI", "AT", "SQ"))
            value = Value(bound_path(path), text, of_text, is_text, _fold(text))
            known = found.get(value[:2])
            if known is None or (known.number is None and (of_text is not None or (known.is_text and not is_text))):
                found[value[:2]] = value
    return list(found.values())


def matches(expression: Expression, values: Iterable[Value]) -> bool:
    """Tell whether an image with these values matches."""
    match expression:
        case And(operands):
            return all(matches(operand, values) for operand in operands)
        case Or(operands):
            return any(matches(operand, values) for operand in operands)
        case Not(operand):
            return not matches(operand, values)
        case Anywhere(text):
            folded = _fold(text)
            return not folded or any(folded in value.folded for value in values if value.is_text)
    path = bound_path(expression.path)
    here = [value for value in values if value.path == path]
    match expression:
        case Exists():
            return bool(here)
        case Equals(_, text):
            return any(value.text == bound(text) for value in here)
        case OneOf(_, texts):
            return any(value.text == bound(text) for value in here for text in texts)
        case EqualsFolded(_, text):
            return any(value.folded == _fold(text) for value in here)
        case Contains(_, text):
            return any(_fold(text) in value.folded for value in here)
        case Like(_, pattern):
            parts, wildcards = split_pattern(pattern)
            translated = "".join({"*": ".*", "?": "."}[wildcard] + re.escape(fold(part)) for wildcard, part in zip(wildcards, parts[1:], strict=True))
            expected = re.compile(re.escape(fold(parts[0])) + translated, re.DOTALL)
            return any(expected.fullmatch(value.folded) for value in here)
        case Name(_, pattern):
            return any(_name(pattern, value.folded) for value in here)
        case Between(_, low, high):
            numbers = [value.number for value in here if value.number is not None]
            return any((low is None or low <= found) and (high is None or found <= high) for found in numbers)
    raise TypeError(expression)


def _name(pattern: str, name: str) -> bool:
    groups = name.rstrip("^").split("=") if {"^", "="} & set(pattern) else name.replace("^", "=").split("=")
    runs = ["=".join(groups[first:last]) for first in range(len(groups)) for last in range(first + 1, len(groups) + 1)]
    asked = Like("", pattern.rstrip("^"))
    return any(matches(asked, [Value("", run, None, True, run)]) for run in runs)


def random_leaf(drawn: random.Random, images: Sequence[Sequence[Value]]) -> Expression:
    """Draw a leaf that some image matches, mostly."""
    value = drawn.choice(drawn.choice(images))
    start = drawn.randrange(max(len(value.text), 1))
    some = value.text[start : start + drawn.randint(1, 6)]
    if drawn.random() < 0.3:
        some = some.swapcase()
    chance = drawn.random()
    if value.number is not None and chance < 0.4:
        width = drawn.choice([0, 0, 1, 20, abs(value.number) * 0.2])
        return Between(value.path, drawn.choice([None, *[value.number - width] * 3]), drawn.choice([None, *[value.number + width] * 3]))
    if chance < 0.5:
        return Equals(value.path, value.text)
    if chance < 0.55:
        return EqualsFolded(value.path, value.text.swapcase())
    if chance < 0.6:
        return OneOf(value.path, (value.text, *(drawn.choice(drawn.choice(images)).text for _ in range(3))))
    if chance < 0.68:
        return Exists(value.path)
    if chance < 0.78:
        return Contains(value.path, some)
    if chance < 0.85:
        return Anywhere(some)
    escaped = re.sub(r"([*?\\])", r"\\\1", value.text[:200])
    if chance < 0.95:
        patterns = [escaped[:3] + "*", "*" + value.text[-3:], value.text[:2] + "?" + value.text[3:200], some + "*", "*" + some + "*", "?" * 4, "*", escaped]
        return drawn.choice([Like, Like, Name])(value.path, drawn.choice(patterns))
    return drawn.choice([Exists("00990010"), Equals("00990010", "x"), Not(Exists("00990010")), And(()), Or(()), Between(value.path)])


def random_tree(drawn: random.Random, images: Sequence[Sequence[Value]], depth: int = 3) -> Expression:
    """Draw a tree of And, Or and Not over random leaves."""
    if depth == 0 or drawn.random() < 0.25:
        return random_leaf(drawn, images)
    kind = drawn.choice([And, And, Or, Not])
    if kind is Not:
        return Not(random_tree(drawn, images, depth - 1))
    return kind(tuple(random_tree(drawn, images, depth - 1) for _ in range(drawn.choice([2, 2, 3]))))
