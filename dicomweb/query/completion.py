"""What could be written at the cursor: names, operators, and which element's values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from dicomweb.query.errors import QuerySyntaxError
from dicomweb.query.fields import (
    ANY_DEPTH,
    COMMON,
    META_NAMES,
    Field,
    creators,
    describe,
    keywords,
    known_creators,
    private_elements,
    resolve,
    tag_or_keyword,
)
from dicomweb.query.numbers import CALENDAR_VRS, NUMBER_VRS, UNKNOWN_VR
from dicomweb.query.parser import MOST_CHARACTERS, STATUSES, behind_quotes, name_end
from dicomweb.query.writing import COMPARISONS, RESERVED, write_value

_META_HELP = {
    "batch": "the batch, by number or name",
    "status": "the status of the batch",
    "label": "a label of the image, its series, study or batch",
    "added": "when the image was added, in UTC",
    "id": "the number of the image",
}
_ORDERED = (
    ("<=", "at most"),
    (">=", "at least"),
    ("<", "less than"),
    (">", "more than"),
)
_DAYS = (("today", "this day"), ("-7d..today", "the last seven days"), ("-1m..today", "the last month"), ("-1y..today", "the last year"))
_PRESENCE = (("exists", "is there"), ("missing", "is not there"))
_JOINS = (("OR ", "one of the conditions holds"), ("-", "the next condition does not hold"), ("(", "conditions that belong together"))
_NAME_CHARACTERS = 500
_HEX = frozenset("0123456789ABCDEF")
# Where a creator may stand without quotes.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Option(NamedTuple):
    """One way to go on. text: what replaces the part from ``Completion.start`` to ``Completion.end``. label: how it is shown."""

    text: str
    label: str
    help: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What could be written at the cursor.

    kind: ``field`` is the name of an element or a word, ``value`` something behind a colon, ``operator`` what joins the condition
    before the cursor with another. prefix: what is written of it. field, meta: whose values; the values that exist are not
    among the options, and are written with ``write_value``. start, end: the part that is replaced, in code points.
    """

    kind: Literal["field", "value", "operator"]
    prefix: str
    start: int
    end: int
    field: Field | None
    meta: str
    options: list[Option]


class _Place(NamedTuple):
    """Where the cursor is. subject: the name before the colon, None when it is at a name or word."""

    start: int
    subject: str | None
    joins: bool


def complete(text: str, cursor: int, *, limit: int = 12) -> Completion:
    """Tell what could be written at the cursor of a query, which need not be whole or right; at most ``limit`` options."""
    cursor = max(0, min(cursor, len(text), MOST_CHARACTERS))
    place = _place(text[:cursor])
    end = cursor
    while end < len(text) and not text[end].isspace() and text[end] not in '()"' and (place.subject is not None or text[end] != ":"):
        end += 1
    if place.subject is None:
        prefix = text[place.start : cursor]
        behind = "" if text[end : end + 1] == ":" else ":"
        joins = [Option(join, join.strip(), help_) for join, help_ in _JOINS if join.startswith(prefix.upper())] if place.joins else []
        options = [*joins, *_names(prefix, behind, limit)][:limit]
        return Completion("operator" if joins and not prefix else "field", prefix, place.start, end, None, "", options)
    return _complete_value(text, place, cursor, end, limit)


def _complete_value(text: str, place: _Place, cursor: int, end: int, limit: int) -> Completion:
    subject = place.subject or ""
    meta = subject.casefold() if subject.casefold() in META_NAMES else ""
    field = None
    if not meta:
        try:
            field = resolve(subject, suggest=False)
        except QuerySyntaxError:
            return Completion("value", "", cursor, end, None, "", [])
    start = place.start
    sign = next((sign for sign in COMPARISONS if text.startswith(sign, start, cursor)), "")
    start += len(sign)
    dots = text.find("..", start, cursor)
    if dots >= 0 and '"' not in text[start:dots]:
        start = dots + 2
    written = text[start:cursor]
    prefix = written[1:].replace('\\"', '"') if written.startswith('"') else written
    options = [] if written.startswith('"') else [option for option in _tests(field, meta, bool(sign) or start > place.start) if option.text.startswith(prefix)]
    return Completion("value", prefix, start, end, field, meta, options[:limit])


def _tests(field: Field | None, meta: str, bounded: bool) -> Iterator[Option]:
    """Give what may follow the colon beside values. bounded: a comparison or the dots of a range are there already."""
    vr = field.vr if field else {"added": "DT", "id": "IS"}.get(meta, "")
    if meta == "status":
        yield from (Option(status, status, "") for status in STATUSES)
    if not bounded:
        if vr in NUMBER_VRS or vr == UNKNOWN_VR:
            yield from (Option(sign, sign, help_) for sign, help_ in _ORDERED)
        if field or meta == "label":
            yield from (Option(word, word, help_) for word, help_ in _PRESENCE)
    if vr in CALENDAR_VRS:
        yield from (Option(word, word, help_) for word, help_ in _DAYS if not bounded or ".." not in word)


def _place(typed: str) -> _Place:
    at, joins, subject = 0, False, None
    while True:
        while at < len(typed) and (typed[at].isspace() or typed[at] in "()"):
            if typed[at] == ")":
                subject, joins = None, True
            elif typed[at] == "(" and subject is None:
                joins = False
            at += 1
        if at == len(typed):
            return _Place(at, subject, joins)
        if subject is None:
            if typed[at] == "-":
                at, joins = at + 1, False
                continue
            colon = _colon(typed, at)
            if colon is not None:
                name, at = typed[at:colon], colon + 1
                while at < len(typed) and typed[at].isspace():
                    at += 1
                if at < len(typed) and typed[at] == "(":
                    subject, at = name, at + 1
                    continue
                start, at = at, _behind_value(typed, at)
                if at >= len(typed):
                    return _Place(start, name, False)
                joins = True
                continue
        start, at = at, _behind_value(typed, at)
        if at >= len(typed):
            return _Place(start, subject, joins)
        joins = typed[start:at].upper() not in RESERVED


def _colon(typed: str, at: int) -> int | None:
    try:
        return name_end(typed, at)
    except QuerySyntaxError:
        return None


def _behind_value(text: str, at: int) -> int:
    """Tell where a value or word ends; beyond the text when its quotation mark is not closed."""
    while at < len(text) and not text[at].isspace() and text[at] not in "()":
        at = behind_quotes(text, at) if text[at] == '"' else at + 2 if text[at] == "\\" else at + 1
    return at


def _names(prefix: str, behind: str, limit: int) -> list[Option]:
    if len(prefix) > _NAME_CHARACTERS:
        return []
    head, tail = _split_last(prefix)
    if not head:
        if prefix.startswith('"'):
            return _creators(prefix[1:], limit)
        metas = [Option(name + behind, name, _META_HELP[name]) for name in META_NAMES if name.startswith(prefix.casefold())]
        depth = [Option("**.", "**.", "an element at any depth")] if prefix and ANY_DEPTH.startswith(prefix) else []
        fields = [_option("", keyword, behind) for keyword in _matching(prefix, limit) if keyword.casefold() not in META_NAMES]
        return [*metas, *depth, *fields, *(_creators(prefix, limit) if len(prefix) > 2 else ())]
    found = creators(_split_last(head[:-1])[1].strip('"'))
    if not found:
        return [_option(head, keyword, behind) for keyword in _matching(tail, limit)] if _holds_elements(head[:-1]) else []
    options = [
        Option(f"{head}{name}{behind}", name, segments[0] if len(segments) == 1 else "several elements")
        for creator in found
        for name, segments in private_elements(creator).items()
        if tail.casefold() in name.casefold()
    ]
    return sorted(options, key=lambda option: not option.label.casefold().startswith(tail.casefold()))


def _holds_elements(name: str) -> bool:
    if name == ANY_DEPTH:
        return True
    try:
        return resolve(name, suggest=False).vr in ("SQ", UNKNOWN_VR)
    except QuerySyntaxError:
        return False


def _creators(prefix: str, limit: int) -> list[Option]:
    found = [creator for creator in known_creators() if creator.casefold().startswith(prefix.casefold())][:limit]
    return [Option(f"{creator if _PLAIN.issuperset(creator) else _in_quotes(creator)}.", creator, "private creator") for creator in found]


def _in_quotes(creator: str) -> str:
    written = write_value(creator)
    return written if written.startswith('"') else f'"{written}"'


def _split_last(name: str) -> tuple[str, str]:
    """Split a name behind its last dot that is in no bracket and in no quotes."""
    at = last = 0
    while at < len(name):
        if name[at] == '"':
            at = behind_quotes(name, at)
            continue
        if name[at] == "[" and "]" in name[at:]:
            at = name.index("]", at)
        elif name[at] in "./":
            last = at + 1
        at += 1
    return name[:last], name[last:]


def _option(head: str, keyword: str, behind: str) -> Option:
    vr, help_ = describe(keyword)
    return Option(f"{head}{keyword}{'.' if vr == 'SQ' and behind else behind}", keyword, help_)


@cache
def _folded_keywords() -> tuple[tuple[str, str, str], ...]:
    """Give all keywords casefolded and as they are, and their tags; common ones first, then in alphabetical order."""
    ordered = dict.fromkeys((*COMMON, *sorted(keywords())))
    return tuple((keyword.casefold(), keyword, tag_or_keyword(keyword) or "") for keyword in ordered)


def _matching(prefix: str, limit: int) -> list[str]:
    wanted = prefix.casefold()
    digits = wanted.replace(",", "").upper()
    if len(digits) > 3 and _HEX.issuperset(digits):
        of_tag = [keyword for _, keyword, tag in _folded_keywords() if tag.startswith(digits)]
        if of_tag:
            return of_tag[:limit]
    beginning: list[str] = []
    containing: list[str] = []
    for folded, keyword, _ in _folded_keywords():
        if folded.startswith(wanted):
            beginning.append(keyword)
            if len(beginning) == limit:
                break
        elif wanted in folded and len(containing) < limit:
            containing.append(keyword)
    return [*beginning, *containing][:limit]
