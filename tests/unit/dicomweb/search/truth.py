"""What a query means, said a second time: image by image over their values, without index, groups and SQL.

Only folding and numbers are shared with the application; they have tests of their own.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from dicomweb import query
from dicomweb.index.values import fold
from dicomweb.query.numbers import NUMBER_VRS
from tests.unit.dicomweb.index.truth import Value

_fold = lru_cache(maxsize=None)(fold)


@dataclass
class Known:
    """What brute force knows of an image. labels: those on it, its series, study and batch."""

    key: int
    image_id: int
    series_id: int
    study_id: int
    batch_id: int
    batch: str
    status: str
    added: datetime | None
    values: Sequence[Value]
    labels: set[str] = field(default_factory=set)

    def id(self, level: str) -> int:
        """Give what a page of a level is ordered by."""
        return {"image": self.key, "series": self.series_id, "study": self.study_id}[level]


def at(field_: query.Field, values: Iterable[Value]) -> list[Value]:
    """Give the values of a field."""
    return [value for value in values if value.path == field_.path or (field_.any_depth and value.path.endswith("/" + field_.path))]


def matches(node: query.Node, known: Known) -> bool:
    """Tell whether an image matches."""
    match node:
        case query.And(operands):
            return all(matches(operand, known) for operand in operands)
        case query.Or(operands):
            return any(matches(operand, known) for operand in operands)
        case query.Not(operand):
            return not matches(operand, known)
        case query.Words(text):
            return any(_fold(text) in value.folded for value in known.values if value.is_text)
        case query.Term(field_, test):
            here = at(field_, known.values)
            match test:
                case query.Exists():
                    return bool(here)
                case query.Missing():
                    return not here
                case query.Text() if field_.vr == "PN" and test.pattern.strip("^"):
                    return any(name_matches(test, value.folded) for value in here)
                case query.Text():
                    return any(pattern(test).fullmatch(value.folded) for value in here)
                case query.Range():
                    return any(value.number is not None and within(test, value.number) for value in here)
        case query.Meta("batch", query.Text() as test):
            return bool(pattern(test).fullmatch(_fold(known.batch))) or test.pattern == str(known.batch_id)
        case query.Meta("status", query.Text() as test):
            return bool(pattern(test).fullmatch(_fold(known.status)))
        case query.Meta("label", query.Text() as test):
            return any(pattern(test).fullmatch(_fold(label)) for label in known.labels)
        case query.Meta("label", query.Exists()):
            return bool(known.labels)
        case query.Meta("label", query.Missing()):
            return not known.labels
        case query.Meta("id", query.Range() as test):
            return within(test, known.image_id)
        case query.Meta("added", query.Range() as test):
            return known.added is not None and within(test, float(f"{known.added:%Y%m%d%H%M%S.%f}"))
    raise TypeError(node)


@lru_cache(maxsize=10_000)
def pattern(test: query.Text) -> re.Pattern[str]:
    """Make a regular expression of a text test."""
    if not test.wildcards:
        return re.compile(re.escape(_fold(test.pattern)))
    made = ""
    for token in re.findall(r"\\[*?\\]|.", test.pattern, re.DOTALL):
        made += {"*": ".*", "?": "."}.get(token) or re.escape(_fold(token[-1]))
    return re.compile(made, re.DOTALL)


def name_matches(test: query.Text, name: str) -> bool:
    """Tell whether whole component groups of a name match, or, when neither ``^`` nor ``=`` is asked for, whole components."""
    parts = name.rstrip("^").split("=") if {"^", "="} & set(test.pattern) else name.replace("^", "=").split("=")
    asked = pattern(query.Text(test.pattern.rstrip("^"), test.wildcards))
    runs = ("=".join(parts[first:last]) for first in range(len(parts)) for last in range(first + 1, len(parts) + 1))
    return any(asked.fullmatch(run) for run in runs)


def within(test: query.Range, number: float) -> bool:
    """Tell whether a number passes a range."""
    low = test.low is None or (number > test.low if test.low_open else number >= test.low)
    return low and (test.high is None or (number < test.high if test.high_open else number <= test.high))


class Truth:
    """All images, and the answers to queries about them."""

    def __init__(self, images: Iterable[Known]) -> None:
        self.images = sorted(images, key=lambda known: known.key)

    def found(self, node: query.Node) -> list[Known]:
        """Give the images that match, in the order of import."""
        return [known for known in self.images if matches(node, known)]

    @staticmethod
    def rows(found: Sequence[Known], level: str) -> dict[int, list[Known]]:
        """Give the rows of a level in order: id -> its matching images."""
        rows: dict[int, list[Known]] = defaultdict(list)
        for known in found:
            rows[known.id(level)].append(known)
        return dict(sorted(rows.items()))

    @staticmethod
    def facet(found: Sequence[Known], field_: query.Field, level: str) -> list[tuple[str, int]]:
        """Count the texts of a field among the rows of a level."""
        having: dict[str, set[int]] = defaultdict(set)
        for known in found:
            for value in at(field_, known.values):
                having[value.text].add(known.id(level))
        return sorted(((text, len(ids)) for text, ids in having.items()), key=lambda item: (-item[1], item[0]))

    @staticmethod
    def place(known: Known, path: str, descending: bool) -> tuple[Any, ...]:
        """Give what a row is sorted by: its smallest value, numbers before texts, nothing last."""
        places = [(0, value.number, "") if value.number is not None else (1, 0.0, value.folded[:200]) for value in known.values if value.path == path]
        if not places:
            return (1,)
        kind, number, text = min(places)
        if descending:
            return (0, -kind, -number, [-ord(character) for character in text] + [1])
        return (0, kind, number, text)

    def sorted_rows(self, found: Sequence[Known], level: str, order: Sequence[tuple[str, bool]]) -> list[int]:
        """Give the ids of the rows of a level in an order of paths."""
        rows = self.rows(found, level)
        return sorted(rows, key=lambda id_: (*(self.place(rows[id_][0], path, descending) for path, descending in order), id_))


def random_field(drawn: random.Random, images: Sequence[Known]) -> query.Field:
    """Draw a field that some image has, sometimes at any depth."""
    path = drawn.choice(drawn.choice(images).values).path
    if drawn.random() < 0.15:
        return query.field_at(path.rpartition("/")[2], any_depth=True)
    return query.field_at(path)


def random_leaf(drawn: random.Random, images: Sequence[Known]) -> query.Node:
    """Draw a condition that some image matches, mostly."""
    known = drawn.choice(images)
    value = drawn.choice(known.values)
    any_depth = "/" in value.path and drawn.random() < 0.4
    field_ = query.field_at(value.path.rpartition("/")[2], any_depth=True) if any_depth else query.field_at(value.path)
    start = drawn.randrange(max(len(value.text), 1))
    some = value.text[start : start + drawn.randint(1, 6)]
    some = some.swapcase() if drawn.random() < 0.3 else some
    chance = drawn.random()
    if value.number is not None and chance < 0.45:
        width = drawn.choice([0, 0, 1, 20, abs(value.number) * 0.2])
        low = drawn.choice([None, *[value.number - width] * 3])
        high = drawn.choice([None, *[value.number + width] * 3])
        return query.Term(field_, query.Range(low, high, drawn.random() < 0.3, drawn.random() < 0.3, ""))
    if chance < 0.55:
        return query.Term(field_, query.Text(value.text.swapcase()[:3000]))
    if chance < 0.62:
        return query.Term(field_, drawn.choice([query.Exists(), query.Missing()]))
    if chance < 0.7:
        return query.Words(some or "x")
    if chance < 0.85:
        escaped = re.sub(r"([*?\\])", r"\\\1", value.text[:200])
        patterns = [escaped[:3].rstrip("\\") + "*", "*" + value.text[-3:].replace("\\", "?"), "*" + some.replace("\\", "?") + "*", "?" * 4, "*", escaped]
        return query.Term(field_, query.Text(drawn.choice(patterns), True))
    return random_meta(drawn, known)


def random_meta(drawn: random.Random, known: Known) -> query.Node:
    """Draw a condition that is in no header."""
    name = drawn.choice(["batch", "batch", "status", "label", "label", "id", "added"])
    if name == "id":
        test: query.Test = query.Range(known.image_id - drawn.randrange(20), drawn.choice([None, known.image_id]), False, drawn.random() < 0.5, "")
    elif name == "added":
        moment = float(f"{known.added:%Y%m%d%H%M%S}") if known.added else 20200101000000.0
        test = query.Range(drawn.choice([None, moment]), drawn.choice([None, moment]), drawn.random() < 0.5, drawn.random() < 0.5, "")
    elif name == "label":
        names = [query.Text(label) for label in ("first", "ZWEITES", "prüfen", "pruf", "none")]
        test = drawn.choice([*names, query.Text("*e*", True), query.Exists(), query.Missing()])
    elif name == "status":
        test = drawn.choice([query.Text("done"), query.Text("NEW"), query.Text("*o*", True)])
    else:
        test = drawn.choice([query.Text(known.batch.upper()), query.Text(str(known.batch_id)), query.Text(known.batch[:2] + "*", True), query.Text("?")])
    return query.Meta(name, test)


def random_node(drawn: random.Random, images: Sequence[Known], depth: int = 3) -> query.Node:
    """Draw a tree of And, Or and Not over random conditions."""
    if depth == 0 or drawn.random() < 0.25:
        return random_leaf(drawn, images)
    kind = drawn.choice([query.And, query.And, query.Or, query.Not])
    if kind is query.Not:
        return query.Not(random_node(drawn, images, depth - 1))
    return kind(tuple(random_node(drawn, images, depth - 1) for _ in range(drawn.choice([2, 2, 3]))))


def has_numbers(field_: query.Field) -> bool:
    """Tell whether the dictionary knows numbers of a field."""
    return field_.vr in NUMBER_VRS
