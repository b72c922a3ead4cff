"""The text of a query becomes a tree, by recursive descent; each character is looked at a bounded number of times.

    query       alternative { OR alternative }
    alternative condition { [AND] condition }
    condition   (NOT | -) condition | ( query ) | name : test | name : ( test { [OR] test } ) | word | "phrase" | *
    test        exists | missing | [< <= > >= =] value | value .. value | value .. | .. value
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dicomweb.languages import N_, gettext, grouped
from dicomweb.query.errors import QuerySyntaxError, shown
from dicomweb.query.fields import (
    META_NAMES,
    Field,
    escaped,
    is_creator_bracket,
    nearest,
    resolve,
    tag_at,
    tag_or_keyword,
)
from dicomweb.query.numbers import (
    CALENDAR_VRS,
    NUMBER_VRS,
    UNKNOWN_VR,
    Interval,
    calendar_interval,
    interval,
    relative_steps,
)
from dicomweb.query.tree import (
    EVERYTHING,
    Exists,
    Meta,
    Missing,
    Node,
    Range,
    Term,
    Test,
    Text,
    Words,
    all_of,
    any_of,
    depth,
    negated,
)
from dicomweb.query.writing import COMPARISONS, RESERVED, unparse, write_value

MOST_CHARACTERS = 10_000
MOST_TERMS = 256
DEEPEST = 32

STATUSES = ("NEW", "PROCESSING", "DONE")
_CONDITION = N_("a condition such as Modality:CT, or a word")
# A path of the index has at most 512 characters, which keywords make longer. Further on no colon is looked for.
_NAME_CHARACTERS = 2_000
_LARGEST_ID = 2.0**53
_ENDS = frozenset('()"')
# What a value of each VR looks like.
_EXAMPLES = {
    "DA": N_("a date such as 2020-01-31"),
    "TM": N_("a time such as 09:30"),
    "DT": N_("a date and time such as 2020-01-31T09:30"),
    "AS": N_("an age such as 63Y"),
}


def parse(text: str, *, now: datetime | None = None) -> Node:
    """Read a query; an empty one is everything.

    now: what ``today`` and ``-30d`` count from; without it they are errors. Raises QuerySyntaxError, and nothing else.
    """
    _check(text)
    node = _Parser(text, now).parse()
    if depth(node) > DEEPEST:
        raise QuerySyntaxError(gettext("The conditions are nested deeper than %(most)s", most=DEEPEST), 0, len(text))
    # So that what is said back can be asked again.
    if len(unparse(node)) > MOST_CHARACTERS:
        raise QuerySyntaxError(gettext("With all names written out the query has more than %(most)s characters", most=grouped(MOST_CHARACTERS)), 0, len(text))
    return node


def equals(field: Field, value: str) -> Term:
    """Give the condition that an element has this value of a header, as the language has it: a number by what it is worth."""
    if field.vr == "PN" and value and not {"^", "="} & set(value):
        # Alone it would be any component.
        value += "^"
    found = interval(field.vr, value) if field.vr in NUMBER_VRS else None
    return Term(field, _equal_range(found, value) if found else Text(value))


def _equal_range(found: Interval, value: str) -> Range:
    return Range(found.low, found.high, False, found.high_open, write_value(value.strip()))


def _check(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise QuerySyntaxError(gettext("The query has more than %(most)s characters", most=grouped(MOST_CHARACTERS)), MOST_CHARACTERS, len(text) - MOST_CHARACTERS)
    if text.isprintable():
        return
    for position, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise QuerySyntaxError(gettext("%(character)s is half of a surrogate pair and no character", character=f"U+{ord(character):04X}"), position, 1)
        if (character < " " and character not in "\t\n\r") or "\x7f" <= character < "\xa0":
            expected = gettext("%(escape)s in a value", escape=f"\\x{ord(character):02x}") if character != "\0" else ""
            raise QuerySyntaxError(gettext("%(character)s is a control character", character=f"U+{ord(character):04X}"), position, 1, expected=expected)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value as it was written.

    text: without quotes and escapes. pattern: the same with wildcards, as ``Text`` has them. wildcards: there are some.
    """

    text: str
    pattern: str
    wildcards: bool
    quoted: bool
    start: int
    end: int


class _Parser:
    def __init__(self, text: str, now: datetime | None) -> None:
        self.text = text
        self.now = now
        self.at = 0
        self.terms = 0

    def parse(self) -> Node:
        self._skip()
        if self._ended():
            return EVERYTHING
        node = self._query(0)
        if not self._ended():
            raise QuerySyntaxError(gettext("This parenthesis closes nothing"), self.at, 1, expected=gettext("( before it"))
        return node

    def _query(self, nesting: int) -> Node:
        alternatives = [self._alternative(nesting)]
        while self._take("OR"):
            alternatives.append(self._alternative(nesting))
        return any_of(alternatives)

    def _alternative(self, nesting: int) -> Node:
        conditions = [self._condition(nesting)]
        while True:
            self._skip()
            if self._ended() or self._next() == ")" or self._word() == "OR":
                return all_of(conditions)
            self._take("AND")
            conditions.append(self._condition(nesting))

    def _condition(self, nesting: int) -> Node:
        self._skip()
        start = self.at
        if self._ended():
            raise QuerySyntaxError(gettext("The query ends where a condition should follow"), start, expected=gettext(_CONDITION))
        if nesting > DEEPEST:
            raise QuerySyntaxError(gettext("The conditions are nested deeper than %(most)s", most=DEEPEST), start, 1)
        if self._take("NOT"):
            return negated(self._condition(nesting + 1))
        word = self._word()
        if word in RESERVED:
            raise QuerySyntaxError(gettext("%(word)s stands between two conditions; in quotes it is a word", word=word), start, len(word), expected=gettext(_CONDITION))
        character = self._next()
        if character == "-":
            self.at += 1
            if self._ended() or self._next().isspace():
                raise QuerySyntaxError(gettext("The minus means not, and stands directly before a condition"), start, 1, expected=gettext(_CONDITION))
            return negated(self._condition(nesting + 1))
        if character == ")":
            raise QuerySyntaxError(gettext("There is no condition before this parenthesis"), start, 1, expected=gettext(_CONDITION))
        end = name_end(self.text, self.at)
        if end is not None:
            return self._term(end)
        if character == "(":
            self.at += 1
            node = self._query(nesting + 1)
            self._close(start)
            return node
        return self._words()

    def _words(self) -> Node:
        start = self.at
        value = self._value(in_range=False)
        self._count(start)
        text: str | None = value.text
        if not value.quoted:
            if value.wildcards and value.pattern == "*":
                return EVERYTHING
            self._check_comparison(value)
            # Free text is found anywhere in a value, as if there were stars around it.
            text = _literal(value.pattern) if value.wildcards else text
            if text is None:
                message = gettext("Free text has no wildcards within; in quotes * and ? stand for themselves")
                raise QuerySyntaxError(message, start, value.end - start, expected=gettext("a name before it, such as PatientName:a*b"))
        if not text or text.isspace():
            raise QuerySyntaxError(gettext("There is nothing to search for in this text"), start, self.at - start, expected=gettext("a word"))
        return Words(text)

    def _check_comparison(self, value: _Value) -> None:
        for sign in COMPARISONS:
            name, found, rest = self.text[value.start : value.end].partition(sign)
            if found and name:
                try:
                    field = resolve(name, suggest=False).name
                except QuerySyntaxError:
                    break
                written = f"{field}:{sign}{rest}" if sign != "=" else f"{field}:{rest}"
                raise QuerySyntaxError(gettext("Between the name of an element and its value stands a colon"), value.start, value.end - value.start, suggestion=written)

    def _term(self, end: int) -> Node:
        start, name = self.at, self.text[self.at : end]
        if not name:
            raise QuerySyntaxError(gettext("There is no name before the colon"), start, 1, expected=gettext("a name such as Modality directly before it"))
        meta = name.casefold()
        field = None if meta in META_NAMES else resolve(name, start)
        self.at = end + 1
        self._skip()
        if self._ended() or self._next() == ")":
            raise QuerySyntaxError(gettext("There is no value after %(name)s", name=shown(name)), self.at, expected=_expected(field, meta))
        if self._next() != "(":
            return self._leaf(field, meta)
        opened = self.at
        self.at += 1
        found: list[Node] = []
        while True:
            self._skip()
            if self._ended() or (self._next() == ")" and found):
                break
            word = self._word()
            if found and word == "OR":
                self._take("OR")
                self._skip()
            elif word in RESERVED:
                message = gettext("A list has values, of which one must be there; in quotes %(word)s is one", word=word)
                raise QuerySyntaxError(message, self.at, len(word), expected=gettext("another value or )"))
            found.append(self._leaf(field, meta))
        self._close(opened)
        return any_of(found)

    def _leaf(self, field: Field | None, meta: str) -> Node:
        start = self.at
        if self._ended() or self._next() in "()":
            raise QuerySyntaxError(gettext("There is no value here"), start, 0 if self._ended() else 1, expected=_expected(field, meta))
        self._count(start)
        test = self._test(field, meta)
        if not self._ended() and self._next() != ")" and not self._next().isspace():
            message = gettext("A value with a quotation mark or parenthesis in it stands in quotes, and something else after a space")
            raise QuerySyntaxError(message, self.at, 1, expected=gettext("a space"))
        return Meta(meta, test) if field is None else Term(field, test)

    def _test(self, field: Field | None, meta: str) -> Test:
        start = self.at
        sign = next((sign for sign in COMPARISONS if self.text.startswith(sign, start)), "")
        if sign:
            self.at += len(sign)
            self._skip()
            value = self._value()
            if self._at_dots():
                expected = gettext("%(sign)svalue or value..value", sign=sign)
                raise QuerySyntaxError(gettext("A comparison and a range exclude each other"), start, self.at + 2 - start, expected=expected)
            if sign == "=":
                return self._equal(field, meta, value)
            self._check_order(field, meta, sign, start)
            return _compared(sign, self._number(field, meta, value), value)
        first = None if self._at_dots() else self._value()
        if first and not self._at_dots():
            word = "" if first.quoted else first.text.casefold()
            if word in ("exists", "missing"):
                return self._presence(field, meta, word, first)
            return self._equal(field, meta, first)
        self.at += 2
        last = None if self._at_end_of_value() else self._value()
        if self._at_dots() or (first is None and last is None):
            raise QuerySyntaxError(gettext("A range has two ends, of which one may be left out"), start, self.at - start, expected=gettext("1..2, 1.. or ..2"))
        self._check_order(field, meta, "..", start)
        low = self._number(field, meta, first) if first else None
        high = self._number(field, meta, last) if last else None
        if low and high and low.low > high.high:
            raise QuerySyntaxError(gettext("The range ends before it begins"), start, self.at - start, expected=gettext("the smaller end first"))
        written = f"{write_value(first.text.strip()) if first else ''}..{write_value(last.text.strip()) if last else ''}"
        return Range(low.low if low else None, high.high if high else None, False, bool(high and high.high_open), written)

    def _presence(self, field: Field | None, meta: str, word: str, value: _Value) -> Test:
        if field is None and meta != "label":
            raise QuerySyntaxError(gettext("Every image has %(name)s", name=meta), value.start, value.end - value.start, expected=_expected(field, meta))
        return Exists() if word == "exists" else Missing()

    def _equal(self, field: Field | None, meta: str, value: _Value) -> Test:
        length = value.end - value.start
        if field is not None and field.vr == "SQ":
            message = gettext("%(name)s is a sequence, which has items and no value", name=field.name)
            expected = gettext("exists, missing, or an element of it such as %(name)s", name=f"{field.name}.CodeValue")
            raise QuerySyntaxError(message, value.start, length, expected=expected)
        if value.text.endswith(",") and not value.quoted and not self._ended() and self._next().isspace():
            message = gettext("Values of a list stand apart by spaces; a comma that belongs to a value stands in quotes")
            raise QuerySyntaxError(message, value.end - 1, 1, expected=gettext("a space"))
        if meta == "status":
            return self._status(value)
        vr = field.vr if field else "LO"
        if meta in ("added", "id") or (vr in NUMBER_VRS and not value.wildcards):
            found = self._interval(field, meta, value)
            if found is not None:
                return _equal_range(found, value.text)
            if field is None:
                raise self._no_number(field, meta, value)
        if vr == "AT" and not value.wildcards:
            return Text(tag_or_keyword(value.text) or value.text)
        return Text(value.pattern, True) if value.wildcards else Text(value.text)

    def _status(self, value: _Value) -> Test:
        if value.text.upper() not in STATUSES or value.wildcards:
            suggestion = nearest(value.text, STATUSES)
            message = gettext("%(value)s is no status", value=shown(value.text))
            raise QuerySyntaxError(message, value.start, value.end - value.start, expected=", ".join(STATUSES), suggestion=suggestion)
        return Text(value.text.upper())

    def _check_order(self, field: Field | None, meta: str, sign: str, start: int) -> None:
        vr = field.vr if field else {"added": "DT", "id": "IS", "batch": "IS"}.get(meta, "LO")
        if vr in NUMBER_VRS or vr == UNKNOWN_VR:
            return
        name = f"{field.name} ({vr})" if field else meta
        message = gettext("%(name)s is no number, date, time or age, and cannot be compared with %(sign)s", name=name, sign=sign)
        raise QuerySyntaxError(message, start, self.at - start, expected=gettext("a value, with wildcards or in quotes") if vr != "SQ" else gettext("exists or missing"))

    def _number(self, field: Field | None, meta: str, value: _Value) -> Interval:
        found = None if value.wildcards else self._interval(field, meta, value)
        if found is None:
            raise self._no_number(field, meta, value)
        return found

    def _interval(self, field: Field | None, meta: str, value: _Value) -> Interval | None:
        vr = field.vr if field else {"added": "DT", "id": "IS", "batch": "IS"}[meta]
        text = value.text.strip()
        if vr in CALENDAR_VRS and self.now is None and relative_steps(text):
            message = gettext("%(value)s counts from today, which is not known here", value=shown(text))
            raise QuerySyntaxError(message, value.start, value.end - value.start, expected=gettext("a date such as 2020-01-31"))
        if meta == "added" and field is None:
            return calendar_interval(text, self.now)
        found = interval(vr, text, self.now)
        if field is None and found and not (found.low.is_integer() and 0 <= found.low < _LARGEST_ID):
            return None
        return found

    def _no_number(self, field: Field | None, meta: str, value: _Value) -> QuerySyntaxError:
        expected = _expected(field, meta)
        what = f"{field.name} ({field.vr})" if field else meta
        message = gettext("%(value)s cannot be read as what %(name)s has", value=shown(value.text), name=what)
        return QuerySyntaxError(message, value.start, value.end - value.start, expected=expected)

    def _value(self, in_range: bool = True) -> _Value:
        """Read one value; a bare one ends at a space, a quotation mark, a parenthesis, and before two dots."""
        start = self.at
        quoted = not self._ended() and self._next() == '"'
        self.at += quoted
        text: list[str] = []
        pattern: list[str] = []
        wildcards = False
        while True:
            if self._ended():
                if quoted:
                    raise QuerySyntaxError(gettext("This quotation mark is never closed"), start, 1, expected=gettext('a closing "'))
                break
            character = self._next()
            if quoted and character == '"':
                self.at += 1
                break
            if quoted and character in "\t\n\r":
                raise QuerySyntaxError(gettext("A quoted text stands on one line"), self.at, 1, expected={"\t": r"\t", "\n": r"\n", "\r": r"\r"}[character])
            if not quoted and (character.isspace() or character in _ENDS or (in_range and self.text.startswith("..", self.at))):
                break
            if character == "\\":
                character, self.at = escaped(self.text, self.at)
                pattern.append("\\" + character if character in "*?\\" else character)
            else:
                self.at += 1
                wildcards = wildcards or character in "*?"
                pattern.append(character)
            text.append(character)
        if self.at == start:
            raise QuerySyntaxError(gettext("There is no value here"), start, expected=gettext("a value"))
        return _Value("".join(text), "".join(pattern), wildcards, quoted, start, self.at)

    def _word(self) -> str:
        """Give AND, OR or NOT when it stands here as a word, in any case; "" for everything else."""
        for word in RESERVED:
            after = self.text[self.at + len(word) : self.at + len(word) + 1]
            if self.text[self.at : self.at + len(word)].upper() == word and (not after or after.isspace() or after in _ENDS):
                return word
        return ""

    def _take(self, word: str) -> bool:
        self._skip()
        found = self._word() == word
        self.at += len(word) * found
        return found

    def _close(self, opened: int) -> None:
        self._skip()
        if self._ended():
            raise QuerySyntaxError(gettext("This parenthesis is never closed"), opened, 1, expected=")")
        self.at += 1

    def _count(self, position: int) -> None:
        self.terms += 1
        if self.terms > MOST_TERMS:
            raise QuerySyntaxError(gettext("The query has more than %(most)s conditions", most=MOST_TERMS), position, 1)

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _ended(self) -> bool:
        return self.at >= len(self.text)

    def _next(self) -> str:
        return self.text[self.at]

    def _at_dots(self) -> bool:
        return self.text.startswith("..", self.at)

    def _at_end_of_value(self) -> bool:
        return self._ended() or self._next().isspace() or self._next() == ")"


def _compared(sign: str, found: Interval, value: _Value) -> Range:
    written = sign + write_value(value.text.strip())
    if sign == "<":
        return Range(None, found.low, False, True, written)
    if sign == "<=":
        return Range(None, found.high, False, found.high_open, written)
    if sign == ">=":
        return Range(found.low, None, False, False, written)
    return Range(found.high, None, not found.high_open, False, written)


def _expected(field: Field | None, meta: str) -> str:
    if field is None:
        return {
            "batch": gettext("the name or number of a batch"),
            "status": ", ".join(STATUSES),
            "label": gettext("a label, exists or missing"),
            "added": gettext("a date, or a date and time, such as 2020-01-31T09:30"),
            "id": gettext("the whole number of an image"),
        }[meta]
    if field.vr == "SQ":
        return gettext("exists or missing")
    example = N_("a number") if field.vr in NUMBER_VRS or field.vr == UNKNOWN_VR else N_("a value")
    return gettext(_EXAMPLES.get(field.vr, example))


def _literal(pattern: str) -> str | None:
    """Give the text of a pattern without the stars at its ends; None when it has other wildcards."""
    characters: list[str] = []
    at, starred = len(pattern) - len(pattern.lstrip("*")), False
    while at < len(pattern):
        wildcard = pattern[at] in "*?"
        if pattern[at] == "?" or (starred and not wildcard):
            return None
        at += pattern[at] == "\\"
        starred = starred or wildcard
        if not wildcard:
            characters.append(pattern[at])
        at += 1
    return "".join(characters)


def name_end(text: str, at: int) -> int | None:
    """Tell where the colon is that ends the name that begins at ``at``, None when no name does. Raises QuerySyntaxError."""
    part = at
    stop = min(len(text), at + _NAME_CHARACTERS)
    while at < stop:
        character = text[at]
        if character == ":":
            return at
        if at == part and character == '"':
            at = behind_quotes(text, at)
            if at < len(text) and text[at] in "./":
                continue
            return None
        if at == part and character == "(" and tag_at(text, at):
            at += tag_at(text, at)
        elif character == "[" and is_creator_bracket(text, part, at):
            end = text.find("]", at)
            if end < 0:
                raise QuerySyntaxError(gettext("This bracket is never closed"), at, 1, expected=gettext("a private creator and ]"))
            at = end + 1
        elif character.isspace() or character in _ENDS or character == "\\":
            return None
        else:
            at += 1
            if character in "./":
                part = at
    return None


def behind_quotes(text: str, at: int) -> int:
    """Tell where the quoted text ends that begins at ``at``, beyond the end of the text when it is never closed."""
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at + 1
