"""What a search asks for (PS3.18 8.3.4 and 10.6.1): its parameters become a query, and from it an expression of the header index.

Every parameter that is none of the few of the protocol names an attribute: by keyword, tag or dotted path of these, a private element by
creator (``0019[GEMS_ACQU_01]02``) or by its tag, whichever creator has it. What cannot be understood is refused with 400: a
filter that is silently left out gives what nobody asked for. The rules of matching are those of PS3.4 C.2.2.2, with the folding
of our index (case, accents, width): docs/dicomweb.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from dicomweb import index, query, search
from dicomweb.db import among
from dicomweb.index.dialect import dialect_of
from dicomweb.models import Field, GroupSeries, Image, Series, Study
from dicomweb.query.numbers import CALENDAR_VRS, NUMBER_VRS, Interval, interval
from dicomweb.rs import attributes
from dicomweb.rs.errors import Refused
from dicomweb.rs.instances import is_text
from dicomweb.search.finding import ids_of_level

# More rows than one answer has; the Warning says how many remain.
MOST_RESULTS = 10_000
# Attributes of one request; more than any address can hold that is meant.
MOST_KEYS = 200
_NUMBER = re.compile(r"[0-9]{1,15}")
_OF_SCOPE = {attributes.STUDY_UID: "studies", attributes.SERIES_UID: "series", attributes.SOP_UID: "instances"}
_PRIVATE = re.compile(r"(?P<group>[0-9A-Fa-f]{3}[13579BDFbdf])(?P<block>[1-9A-Fa-f][0-9A-Fa-f])(?P<element>[0-9A-Fa-f]{2})")
_BINARY_VRS = frozenset("OB OD OF OL OV OW".split())
# In these a backslash is text; in all others it stands between values (PS3.5 6.2).
_TEXT_VRS = frozenset("ST LT UT UR".split())
_PROTOCOL = frozenset("limit offset includefield fuzzymatching emptyvaluematching multiplevaluematching accept charset".split())
_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


class Key(NamedTuple):
    """An attribute that was named. fields: what it means in the index. tag: of its top level, None for a private one by its creator."""

    name: str
    fields: tuple[query.Field, ...]
    top: str | None
    vr: str


class Scope(NamedTuple):
    """The UIDs of the studies, series and instances that are looked at; None: all. They are columns of their rows."""

    studies: frozenset[str] | None = None
    series: frozenset[str] | None = None
    instances: frozenset[str] | None = None

    def within(self, study_uid: str | None, series_uid: str | None) -> Scope:
        """Give what is left of it within the study and the series of an address."""
        return Scope(_both(self.studies, study_uid), _both(self.series, series_uid), self.instances)

    def is_empty(self) -> bool:
        """Tell whether nothing can be within it."""
        return any(uids is not None and not any(map(is_text, uids)) for uids in self)

    def is_plain(self, level: str) -> bool:
        """Tell whether the rows of a level answer it: what is below it would choose the image that stands for a row of it."""
        match level:
            case "study":
                return self.series is None and self.instances is None
            case "series":
                return self.instances is None
        return self.instances is not None or all(uids is None or len(uids) == 1 for uids in (self.studies, self.series))

    def expressions(self) -> list[index.Expression]:
        """Make conditions of it."""
        found: list[index.Expression] = []
        if self.studies is not None:
            found.append(index.OfSeries(sa.select(Series.id).join(Study, Study.id == Series.study_key).where(among(Study.study_instance_uid, self.studies))))
        if self.series is not None:
            found.append(index.OfSeries(sa.select(Series.id).where(among(Series.series_instance_uid, self.series))))
        if self.instances is not None:
            found.append(index.OfImages(sa.select(Image.header_key).where(Image.header_key.is_not(None), among(Image.sop_instance_uid, self.instances))))
        return found


def _both(uids: frozenset[str] | None, of_address: str | None) -> frozenset[str] | None:
    if of_address is None:
        return uids
    return frozenset({of_address}) if uids is None else uids & {of_address}


class Question(NamedTuple):
    """A search: where is looked and what must match, what is to be given beside what always is, and which part of it."""

    scope: Scope
    expression: index.Expression
    included: tuple[Key, ...]
    everything: bool
    limit: int
    offset: int
    warnings: tuple[str, ...]


def read_question(dbsession: Session, parameters: Any) -> Question:
    """Read the parameters of a search. Raises Refused (400).

    parameters: of the query string, as WebOb gives them. Reads the paths of private tags, a statement each.
    """
    limit, offset = _number(parameters, "limit"), _number(parameters, "offset")
    fuzzy = _flag(parameters, "fuzzymatching")
    empty = _flag(parameters, "emptyvaluematching")
    _flag(parameters, "multiplevaluematching")
    included, everything = _included(dbsession, parameters.getall("includefield"))
    by_key: dict[tuple[query.Field, ...], tuple[Key, list[str]]] = {}
    for name, value in parameters.items():
        if name not in _PROTOCOL:
            key = _key(dbsession, name)
            by_key.setdefault(key.fields or (query.field_at(name.upper()),), (key, []))[1].append(value)
    if len(by_key) + len(included) > MOST_KEYS:
        raise Refused(400, f"A search has at most {MOST_KEYS} attributes.")
    scope = {name: uids for key, values in by_key.values() for name, uids in _named(key, values)}
    conditions = [pair for pair in by_key.values() if not any(_named(*pair))]
    expressions = [found for key, values in conditions if (found := _expression(dbsession, key, values, empty)) is not None]
    return Question(
        scope=Scope(**scope),
        expression=expressions[0] if len(expressions) == 1 else index.And(tuple(expressions)),
        included=(*included, *(key for key, _ in by_key.values())),
        everything=everything,
        limit=MOST_RESULTS if limit is None else min(limit, MOST_RESULTS),
        offset=offset or 0,
        warnings=(_FUZZY,) if fuzzy else (),
    )


def _number(parameters: Any, name: str) -> int | None:
    values = parameters.getall(name)
    if not values:
        return None
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise Refused(400, f"The parameter {name} is one whole number from 0 on.")
    return int(values[0])


def _flag(parameters: Any, name: str) -> bool:
    values = parameters.getall(name)
    if len(values) > 1 or any(value not in ("true", "false") for value in values):
        raise Refused(400, f"The parameter {name} is true or false.")
    return values == ["true"]


def _included(dbsession: Session, values: Iterable[str]) -> tuple[list[Key], bool]:
    names = dict.fromkeys(name.strip() for value in values for name in _split(value) if name.strip())
    everything = "all" in names
    if len(names) > MOST_KEYS:
        raise Refused(400, f"A search has at most {MOST_KEYS} attributes.")
    return [_key(dbsession, name) for name in names if name != "all"], everything


def _split(value: str) -> list[str]:
    """Split at commas, but for those in the name of a private creator."""
    parts, start, in_creator = [], 0, False
    for place, character in enumerate(value):
        if character == "," and not in_creator:
            parts.append(value[start:place])
            start = place + 1
        elif character in "[]":
            in_creator = character == "["
    return [*parts, value[start:]]


def _key(dbsession: Session, name: str) -> Key:
    if not name.isprintable() or len(name) > 500:
        raise Refused(400, "The name of an attribute has characters or a length that no name has.")
    segments = name.replace("/", ".").split(".")
    if "[" not in name and any(map(_PRIVATE.fullmatch, segments)):
        return _private_key(dbsession, name, segments)
    try:
        field = query.resolve(name, suggest=False)
    except query.QuerySyntaxError:
        raise Refused(400, f"{name} is no attribute and no parameter that is known.") from None
    if field.any_depth:
        raise Refused(400, f"{name} is no attribute: the path of an attribute is written as a whole.")
    top = field.path.split("/")[0]
    return Key(name, (field,), None if "[" in top else top, field.vr)


def _private_key(dbsession: Session, name: str, segments: Sequence[str]) -> Key:
    """Find what a private tag means: the block in it is a matter of one file, so each creator's element with this number."""
    likes: list[str] = []
    patterns: list[str] = []
    for segment in segments:
        if private := _PRIVATE.fullmatch(segment):
            group, element = private["group"].upper(), private["element"].upper()
            likes.append(f"{group}[%]{element}")
            patterns.append(rf"{group}\[[^\]]*\]{element}")
        else:
            try:
                path = query.resolve(segment, suggest=False).path
            except query.QuerySyntaxError:
                raise Refused(400, f"{name} is no attribute and no parameter that is known.") from None
            likes.append(path)
            patterns.append(re.escape(path))
    pattern = re.compile("/".join(patterns))
    found = sa.select(Field.path, Field.vr).where(Field.path.like("/".join(likes))).order_by(Field.id).limit(100)
    fields = {path: vr for path, vr in dbsession.execute(found) if pattern.fullmatch(path)}
    vr = next(iter(fields.values()), "UN")
    top = segments[0].upper() if _PRIVATE.fullmatch(segments[0]) else likes[0]
    return Key(name, tuple(map(query.field_at, fields)), top, vr)


def _named(key: Key, written: Sequence[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Give what a condition adds to the scope, when it names UIDs of a level."""
    name = _OF_SCOPE.get(key.fields[0].path) if len(key.fields) == 1 else None
    values = [value for one in written for value in _values(key, one)] if name else []
    if name and all(value and value.isprintable() and not _has_wildcards(value) for value in values):
        yield name, frozenset(values)


def _expression(dbsession: Session, key: Key, written: Sequence[str], empty: bool) -> index.Expression | None:
    """Make the condition of one attribute, any of the values written; None for one that everything matches."""
    values = [value for one in written for value in _values(key, one)]
    # PS3.4 C.2.2.2.3: an empty value, and asterisks alone, match also what has no value and no element.
    if any(not value.strip("*") for value in values):
        return None
    if any(not value.isprintable() for value in values):
        raise Refused(400, f"The value of {key.name} has a control character.")
    if key.top in attributes.NOT_MATCHED or key.vr == "SQ" or key.vr in _BINARY_VRS:
        raise Refused(400, f"{key.name} is not matched; it can be named in includefield.")
    try:
        match key.top:
            case attributes.AVAILABILITY:
                return None if any(_simple_match(value, "ONLINE") for value in values) else index.Or(())
            case attributes.MODALITIES:
                return _with_modality(values, empty)
            case attributes.SOP_CLASSES:
                return _with_class(dbsession, values, empty)
            case attributes.AVAILABLE_SYNTAX:
                return _any_of(dbsession, _key(dbsession, "TransferSyntaxUID"), values, empty)
        return _any_of(dbsession, key, values, empty)
    except search.SearchError as error:
        raise Refused(400, str(error)) from error


def _values(key: Key, written: str) -> list[str]:
    """Split what is written for an attribute: lists of UIDs and codes by commas or backslashes, others by backslashes."""
    if key.vr in _TEXT_VRS or key.vr == "UN":
        return [written.strip(" ")]
    return [value.strip(" ") for value in (re.split(r"[,\\]", written) if key.vr in ("UI", "CS") else written.split("\\"))]


def _simple_match(pattern: str, text: str) -> bool:
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern), text, re.IGNORECASE) is not None


def _with_modality(values: Sequence[str], empty: bool) -> index.Expression:
    """Say that the study has a series of one of these modalities, whichever series or image is looked for.

    Answered by the rows of the series, from which the answer tells the modalities too.
    """
    tests = [_modality(value, empty) for value in values]
    other = aliased(Series)
    held = sa.exists().where(GroupSeries.series_id == Series.id)
    studies = sa.select(Series.study_key).where(sa.or_(*tests), held)
    return index.OfSeries(sa.select(other.id).where(other.study_key.in_(studies)))


def _modality(value: str, empty: bool) -> sa.ColumnElement[bool]:
    folded = sa.func.upper(Series.modality)
    if _has_wildcards(value):
        pattern = re.sub(r"([%_\\])", r"\\\1", value.upper()).replace("*", "%").replace("?", "_")
        return folded.like(pattern, escape="\\")
    return folded == ("" if empty and value == '""' else value.upper())


def _with_class(dbsession: Session, values: Sequence[str], empty: bool) -> index.Expression:
    """Say that the study has an image of one of these SOP classes, whichever series or image is looked for."""
    having = ids_of_level(dbsession, _any_of(dbsession, _key(dbsession, "SOPClassUID"), values, empty), "study")
    # Looked up now: a search within a search is more than SQLite's parser takes.
    studies = list(dbsession.scalars(having))
    return index.OfSeries(sa.select(Series.id).where(dialect_of(dbsession).within(Series.study_key, studies)))


def _any_of(dbsession: Session, key: Key, values: Sequence[str], empty: bool) -> index.Expression:
    exact = tuple(value for value in values if key.vr == "UI" and not _has_wildcards(value))
    nodes = [_node(field, value, empty) for value in values if value not in exact for field in key.fields]
    found: list[index.Expression] = [index.OneOf(field.path, exact) for field in key.fields] if exact else []
    if nodes:
        found.append(search.compile_query(dbsession, query.any_of(nodes)))
    return found[0] if len(found) == 1 else index.Or(tuple(found))


def _has_wildcards(value: str) -> bool:
    return "*" in value or "?" in value


def _node(field: query.Field, value: str, empty: bool) -> query.Node:
    if empty and value == '""':
        # PS3.4 C.2.2.2.7: no value, or no element.
        return query.any_of([query.Term(field, query.Missing()), query.Term(field, query.Text(""))])
    if _has_wildcards(value):
        return query.Term(field, query.Text(value.replace("\\", "\\\\"), wildcards=True))
    if field.vr in CALENDAR_VRS or field.vr == "TM":
        return query.Term(field, _range(field, value))
    if field.vr in NUMBER_VRS:
        return query.Term(field, _as_range(_known(field, interval(field.vr, value), value), value))
    text = query.Term(field, query.Text(value))
    number = interval(field.vr, value) if field.vr == "UN" else None
    return query.any_of([text, query.Term(field, _as_range(number, value))]) if number else text


def _known(field: query.Field, found: Interval | None, value: str) -> Interval:
    if found is None:
        raise Refused(400, f"{value} is no value of {field.name}, whose VR is {field.vr}.")
    return found


def _as_range(found: Interval, value: str) -> query.Range:
    return query.Range(found.low, found.high, False, found.high_open, value)


def _range(field: query.Field, value: str) -> query.Range:
    """Read a date, a time or both, or a range of these (PS3.4 C.2.2.2.5): ``20200101-20200630``, ``-0930``."""
    for place in _hyphens(field.vr, value):
        first, last = value[:place].strip(), value[place + 1 :].strip()
        low, high = interval(field.vr, first) if first else None, interval(field.vr, last) if last else None
        if (first or last) and bool(first) == (low is not None) and bool(last) == (high is not None):
            return query.Range(low and low.low, high and high.high, False, bool(high and high.high_open), value)
    return _as_range(_known(field, interval(field.vr, value), value), value)


def _hyphens(vr: str, value: str) -> list[int]:
    """Give where a range may be divided, the likeliest first; what may be a date with hyphens or an offset from UTC is not divided."""
    if "-" in value.strip("-") and interval(vr, value) is not None:
        return []
    return [match.start() for match in re.finditer("-", value)]
