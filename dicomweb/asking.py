"""What people ask, read into what ``search`` answers; the same for the pages, the API, the command line and the console.

A question is a few texts: a query, a level, columns, an order. ``read_question`` makes a ``Question`` of them, or raises a
``Mistake`` that says which of the texts is wrong, where, and what was perhaps meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import query, search
from dicomweb.languages import N_, gettext
from dicomweb.models import Batch, Label
from dicomweb.search import completing, labels

LEVELS = {"image": N_("Images"), "series": N_("Series"), "study": N_("Studies")}
LEVEL_WORDS = {"image": ("image", "images"), "series": ("series", "series"), "study": ("study", "studies")}
FORMATS = {"csv": "CSV", "tsv": "TSV", "ndjson": "NDJSON", "parquet": "Parquet"}
MEDIA_TYPES = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
LONGEST_TEXT = query.MOST_CHARACTERS
# Nobody completes a longer value.
_LONGEST_VALUE = 200
# Names in a list, separated by commas or spaces; a private creator in brackets or quotes may have both in it.
_NAME = re.compile(r'(?:\[[^\]]*\]|"[^"]*"|[^,\s\["]|["\[])+')


class Mistake(ValueError):
    """A question cannot be understood.

    name: which of its texts, by the name of its parameter: q, columns, sort, fields, after. text: that text. position,
    length: which part of it, in characters. expected: what could stand there. suggestion: what to write instead of the part.
    """

    def __init__(
        self, name: str, text: str, sentence: str, position: int | None = None, length: int = 0, expected: str = "", suggestion: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.name = name
        self.text = text
        self.sentence = sentence if sentence.endswith(".") else f"{sentence}."
        self.position = position
        self.length = length
        self.expected = expected
        self.suggestion = suggestion

    @property
    def mended(self) -> str | None:
        """The text with the suggestion in its place."""
        if self.suggestion is None or self.position is None:
            return None
        return self.text[: self.position] + self.suggestion + self.text[self.position + self.length :]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer. name: as it is written and shown. field: the element it shows; None for a fact, see ``search.FACTS``."""

    name: str
    field: query.Field | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. columns: what is shown, never empty. sort: names of columns, and whether the largest comes first."""

    text: str
    node: query.Node
    level: str
    columns: tuple[Column, ...]
    sort: tuple[tuple[str, bool], ...] = ()

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


def read_question(text: str, *, level: str = "image", columns: str = "", sort: str = "", now: datetime | None = None) -> Question:
    """Read a question. Raises Mistake."""
    node = read_query(text, now=now)
    chosen = read_columns(columns) if columns else read_columns(",".join(search.DEFAULT_COLUMNS[level]))
    return Question(text, node, level, chosen, read_sort(sort))


def read_query(text: str, *, now: datetime | None = None) -> query.Node:
    """Read the text of a query. Raises Mistake."""
    with mistakes("q", text):
        return query.parse(text, now=now)


def read_columns(text: str, name: str = "columns") -> tuple[Column, ...]:
    """Read names of columns, separated by commas or spaces: keywords, tags, nested and private elements, facts. Raises Mistake."""
    found = []
    for match in _NAME.finditer(text):
        if match.group() in search.FACTS:
            found.append(Column(match.group(), None))
            continue
        with mistakes(name, text):
            field = query.resolve(match.group(), match.start())
        if field.any_depth:
            raise Mistake(name, text, gettext("A column is one element; ** stands for many"), match.start(), len(match.group()))
        found.append(Column(field.name, field))
    if not found:
        raise Mistake(name, text, gettext("No column is named"), 0, expected=gettext("keywords or tags, separated by commas"))
    return tuple(dict.fromkeys(found))


def read_fields(text: str, name: str = "fields") -> tuple[query.Field, ...]:
    """Read names of elements, separated by commas or spaces. Raises Mistake."""
    found = []
    for column in read_columns(text, name):
        if column.field is None:
            raise Mistake(name, text, gettext("%(name)s is no element of the header", name=column.name), expected=gettext("keywords or tags"))
        found.append(column.field)
    return tuple(found)


def read_sort(text: str) -> tuple[tuple[str, bool], ...]:
    """Read names of columns to order by; one with a minus puts the largest first. Raises Mistake."""
    found = []
    for match in _NAME.finditer(text):
        name = match.group().removeprefix("-")
        descending = match.group().startswith("-")
        if not name:
            raise Mistake("sort", text, gettext("A minus stands before a column"), match.start(), 1, gettext("a keyword or a tag"))
        found.append((read_columns(name, "sort")[0].name, descending))
    return tuple(found)


@contextmanager
def mistakes(name: str, text: str) -> Iterator[None]:
    """Make a Mistake of what the language or the search refuses."""
    try:
        yield
    except query.QuerySyntaxError as error:
        raise Mistake(name, text, error.message, error.position, error.length, error.expected, error.suggestion) from error
    except search.UnknownColumn as error:
        raise Mistake("columns" if name == "q" else name, text, str(error)) from error
    except search.BadCursor as error:
        raise Mistake("after", "", str(error)) from error
    except search.SearchError as error:
        raise Mistake(name, text, str(error)) from error


# --- The query as a list of conditions, each of which a click adds or takes away ----------------------------------------


def conditions(node: query.Node) -> tuple[query.Node, ...]:
    """Give the conditions that must all hold."""
    return node.operands if isinstance(node, query.And) else (node,)


def has(node: query.Node, condition: query.Node) -> bool:
    """Tell whether a query demands a condition, which may itself be several."""
    return set(conditions(condition)) <= set(conditions(node))


def added(node: query.Node, condition: query.Node) -> query.Node:
    """Add a condition to a query that does not demand it yet."""
    return node if has(node, condition) else query.all_of([node, condition])


def without(node: query.Node, condition: query.Node) -> query.Node:
    """Take a condition out of a query."""
    unwanted = set(conditions(condition))
    return query.all_of([one for one in conditions(node) if one not in unwanted])


def toggled(node: query.Node, condition: query.Node) -> query.Node:
    """Add a condition to a query, or take it out when it is there."""
    return without(node, condition) if has(node, condition) else added(node, condition)


# --- Facets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a facet, or a range of numbers; condition: what finds it, None for a value that no query can write."""

    text: str
    count: int
    condition: query.Node | None


@dataclass(frozen=True, slots=True)
class Facet:
    """What there is of an element. more: there are other values; histogram: the values are ranges of numbers, in their order."""

    field: query.Field
    total: int
    missing: int
    more: bool
    histogram: bool
    values: tuple[Value, ...]


def read_facets(dbsession: Session, question: Question, wanted: Sequence[tuple[query.Field, int]]) -> list[Facet]:
    """Count so many values of each of some elements in what a question finds, looking for it once. Raises Mistake."""
    with mistakes("q", question.text):
        return [_facet(found) for found in search.facets_of(dbsession, question.node, wanted, level=question.level)]


def _facet(found: search.Facet) -> Facet:
    if found.histogram:
        bars = [bar for bar in found.histogram if bar.count]
        values = tuple(Value(_range_text(found.field, bar), bar.count, _condition(bar.query)) for bar in bars)
        return Facet(found.field, found.total, found.missing, False, True, values)
    values = tuple(Value(one.text, one.count, _condition(one.query)) for one in found.values)
    return Facet(found.field, found.total, found.missing, found.more, False, values)


def _range_text(field: query.Field, bar: search.Bar) -> str:
    if field.vr != "DA":
        return f"{bar.low_text} – {bar.high_text}"
    try:
        first = date.fromisoformat(bar.low_text)
        last = date.fromisoformat(bar.high_text) - timedelta(days=1)
    except (ValueError, OverflowError):
        # An edge that is no day of the calendar.
        return f"{bar.low_text} – {bar.high_text}"
    # Whole years and months are named; the upper end does not belong to the range.
    whole_months = first.day == 1 and (last + timedelta(days=1)).day == 1
    form = "%Y-%m-%d" if not whole_months else "%Y-%m" if first.month != 1 or last.month != 12 else "%Y"
    texts = [day.strftime(form) for day in (first, last)]
    return " – ".join(dict.fromkeys(texts))


def _condition(text: str) -> query.Node | None:
    try:
        return query.parse(text) if text else None
    except query.QuerySyntaxError:
        # A value that is longer than a query may be.
        return None


# --- Completion -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Completion:
    """What could be written at the cursor; start and end, in characters: what an option replaces."""

    kind: str
    prefix: str
    start: int
    end: int
    options: tuple[query.Option, ...]


def complete(dbsession: Session, text: str, cursor: int, *, limit: int) -> Completion:
    """Complete a query, with the values that there are."""
    found = query.complete(text, cursor, limit=limit)
    options = list(found.options)
    if found.kind == "value" and len(options) < limit:
        values: list[query.Option] = []
        if found.field is not None:
            values = _existing_values(dbsession, found.field, found.prefix, limit)
        elif found.meta in ("batch", "label"):
            model = Batch if found.meta == "batch" else Label
            names = sa.select(model.name).where(model.name.icontains(found.prefix, autoescape=True))
            values = [_value_option(name, found.meta) for name in dbsession.scalars(names.order_by(model.name).limit(limit))]
        written = {option.text for option in values}
        options = [*values, *(option for option in options if option.text not in written)]
    return Completion(found.kind, found.prefix, found.start, found.end, tuple(options[:limit]))


def complete_fields(text: str, cursor: int, *, limit: int) -> Completion:
    """Complete a list of names of elements."""
    start = next((match.start() for match in _NAME.finditer(text) if match.start() < cursor <= match.end()), cursor)
    end = next((match.end() for match in _NAME.finditer(text) if match.start() == start), cursor)
    found = query.complete(text[start:cursor], cursor - start, limit=limit)
    facts = [query.Option(name, name, gettext(help_)) for name, help_ in search.FACTS.items() if cursor > start and name.startswith(text[start:cursor])]
    fields = [
        query.Option(option.text.removesuffix(":"), option.label.removesuffix(":"), option.help)
        for option in found.options
        if found.kind == "field" and option.text.removesuffix(":") not in search.FACTS
    ]
    return Completion("field", text[start:cursor], start, end, (*facts, *fields)[:limit])


def _existing_values(dbsession: Session, field: query.Field, prefix: str, limit: int) -> list[query.Option]:
    try:
        existing = completing.complete_values(dbsession, field, prefix, limit)
    except search.TooBroad:
        # The query itself will say so.
        return []
    return [_value_option(value, f"{images:,} {LEVEL_WORDS['image'][images != 1]}") for value, images in existing if len(value) <= _LONGEST_VALUE]


def _value_option(value: str, help_: str) -> query.Option:
    return query.Option(query.write_value(value), value or "(empty)", help_)


# --- Labels ---------------------------------------------------------------------------------------------------------


def change_label(dbsession: Session, question: Question, name: str, *, put: bool, now: datetime) -> int:
    """Put a label on all that a question finds, or take it off; tell on how many that changed something. Raises Mistake."""
    with mistakes("label", name):
        if put:
            return labels.add_label_to_found(dbsession, name, question.node, question.level, now=now)
        return labels.remove_label_from_found(dbsession, name, question.node, question.level)


def change_label_of(dbsession: Session, kind: str, ids: Sequence[int], name: str, *, put: bool, now: datetime) -> int:
    """Put a label on some batches, studies, series or images, or take it off; tell on how many that changed something. Raises Mistake."""
    with mistakes("label", name):
        if put:
            return labels.add_label(dbsession, name, kind, ids, now=now)
        return labels.remove_label(dbsession, name, kind, ids)
