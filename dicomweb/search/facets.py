"""Facets: which values an element has in a result, with counts, or how its numbers are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.languages import gettext
from dicomweb.query.numbers import NUMBER_VRS
from dicomweb.search.columns import LEVELS
from dicomweb.search.compiling import compile_query, paths_of
from dicomweb.search.errors import SearchError
from dicomweb.search.finding import count_found

MOST_VALUES = 1000
# About so many bars; the steps between them are round.
_BARS = 20
# Of a longer value nobody makes a condition, and the language has no room for it.
_LONGEST_TERM = 500
# No time is written so.
_MIDNIGHT = 240_000


@dataclass(frozen=True, slots=True)
class FacetValue:
    """One value as it was written, how many rows have it, and the condition that finds them (text of the language, or "")."""

    text: str
    count: int
    query: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval of a histogram: low is in it, high is not; both as numbers of the index and as they are written."""

    low: float
    high: float
    low_text: str
    high_text: str
    count: int
    query: str


@dataclass(frozen=True, slots=True)
class Facet:
    """What an element has in a result.

    values: the most frequent first. more: there are other values than these. histogram: of numbers, dates and times with more
    values than were asked for, else empty. total: how many rows the result has; missing: how many of them do not have the
    element. A row counts for each of its values. A folded search for a value may find more, because it ignores case and accents.
    """

    field: query.Field
    level: str
    values: tuple[FacetValue, ...]
    more: bool
    histogram: tuple[Bar, ...]
    total: int
    missing: int


def facet(dbsession: Session, node: query.Node, field: query.Field, *, level: str = "image", limit: int = 20) -> Facet:
    """Count the values of one element; see ``facets_of``."""
    (found,) = facets_of(dbsession, node, [(field, limit)], level=level)
    return found


def facets_of(
    dbsession: Session, node: query.Node, wanted: Sequence[tuple[query.Field, int]], *, level: str = "image"
) -> list[Facet]:
    """Count the values of some elements among the images, series or studies that a query finds, looking for these once.

    wanted: elements, and how many values of each. A series or study has the values that its matching images have; it misses the
    element when none of these has it. Raises SearchError.
    """
    if level not in LEVELS:
        raise SearchError(gettext("The level is image, series or study."))
    if not all(1 <= limit <= MOST_VALUES for _, limit in wanted):
        raise SearchError(gettext("A facet has 1 to %(most_values)s values.", most_values=MOST_VALUES))
    asked = index.look(dbsession, compile_query(dbsession, node))
    total = count_found(dbsession, asked, level)
    return [_facet(dbsession, asked, field, level, limit, total) for field, limit in wanted]


def _facet(dbsession: Session, asked: index.Search, field: query.Field, level: str, limit: int, total: int) -> Facet:
    paths = paths_of(dbsession, field)
    having = index.count_having(dbsession, asked, paths, level=level)
    if level == "image" and len(paths) == 1:
        found = index.facet(dbsession, asked, paths[0], limit + 1)
    else:
        found = index.tally(dbsession, asked, paths, level=level, limit=limit + 1)
    histogram: tuple[Bar, ...] = ()
    if len(found) > limit and field.vr in NUMBER_VRS:
        histogram = _histogram(dbsession, asked, field, paths, level)
    values = tuple(FacetValue(text, count, _condition(field, text)) for text, count in found[:limit])
    return Facet(field, level, values, len(found) > limit, histogram, total, total - having)


def _condition(field: query.Field, text: str) -> str:
    if len(text) > _LONGEST_TERM:
        return ""
    try:
        return query.unparse(query.equals(field, text))
    except ValueError:
        return ""


def _histogram(dbsession: Session, asked: index.Search, field: query.Field, paths: Sequence[str], level: str) -> tuple[Bar, ...]:
    found = index.extent(dbsession, asked, paths)
    if found is None:
        return ()
    edges = _edges(field.vr, found.low, found.high)
    counts = index.tally_numbers(dbsession, asked, paths, level=level, bounds=edges)
    # Nothing lies before the first edge, nor behind the last.
    bars = []
    for low, high, counted in zip(edges, edges[1:], counts[1:], strict=False):
        low_text, high_text = _written(field.vr, low), _written(field.vr, high)
        below = "" if field.vr == "TM" and high >= _MIDNIGHT else f" {field.name}:<{high_text}"
        bars.append(Bar(low, high, low_text, high_text, counted, f"{field.name}:>={low_text}{below}"))
    return tuple(bars)


def _edges(vr: str, low: float, high: float) -> list[float]:
    """Give round numbers from at most ``low`` to more than ``high``."""
    if vr == "DA":
        return _day_edges(low, high, 1.0)
    if vr == "DT":
        return _day_edges(low // 1_000_000, high // 1_000_000, 1_000_000.0)
    if vr == "TM":
        first, last = int(low) // 10_000, int(high) // 10_000
        if last > first:
            return [hour * 10_000.0 for hour in range(first, last + 2)]
        first, last = int(low) // 100, int(high) // 100
        return [_next_minute(minute) for minute in range(first, last + 2)]
    if vr == "AS":
        return _steps(low / 365.25, high / 365.25, smallest=1.0, unit=365.25)
    return _steps(low, high)


def _next_minute(hhmm: int) -> float:
    # Of the minute behind the 59th of an hour the number is that of the next hour.
    hour, minute = divmod(hhmm, 100)
    return (hour * 100 + minute) * 100.0 if minute < 60 else (hour + 1) * 10_000.0


def _steps(low: float, high: float, *, smallest: float = 0.0, unit: float = 1.0) -> list[float]:
    width = max((high - low) / _BARS, smallest, abs(high) * 1e-12, 1e-300)
    power = 10.0 ** math.floor(math.log10(width))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= width * 0.999999)
    first = math.floor(low / step)
    edges = [_round(number * step, power) * unit for number in range(first, math.floor(high / step) + 2)]
    # What rounding may have moved.
    if edges[0] > low * unit:
        edges.insert(0, low * unit)
    if edges[-1] <= high * unit:
        edges.append(math.nextafter(high * unit, math.inf))
    return edges


def _round(number: float, power: float) -> float:
    digits = -math.floor(math.log10(power))
    return round(number, min(digits, 300)) + 0.0 if digits < 300 else number


def _day_edges(low: float, high: float, unit: float) -> list[float]:
    """Give the first days of years, quarters or months, or days, as yyyymmdd."""
    first, last = _calendar_day(low), _calendar_day(high)
    days = (last - first).days
    if days < 2 * _BARS:
        found = [date.fromordinal(ordinal) for ordinal in range(first.toordinal(), min(last.toordinal() + 2, date.max.toordinal() + 1))]
    else:
        months = 1 if days < 31 * _BARS else 3 if days < 92 * _BARS else 12 * max(1, round(days / 366 / _BARS))
        month = (first.year * 12 + first.month - 1) // months * months
        found = []
        while not found or found[-1] <= last:
            year, of_year = divmod(month, 12)
            if year > date.max.year:
                break
            found.append(date(max(year, 1), of_year + 1, 1))
            month += months
    edges = [(day.year * 10_000 + day.month * 100 + day.day) * unit for day in found]
    if edges[-1] <= high * unit:
        edges.append((high + 1) * unit)
    return [min(edges[0], low * unit), *edges[1:]]


def _calendar_day(number: float) -> date:
    """Give the day that yyyymmdd means, the last of its month when it has not so many."""
    year, month, day = int(number) // 10_000, int(number) // 100 % 100, int(number) % 100
    for last in (day, 30, 29, 28):
        try:
            return date(min(max(year, 1), date.max.year), month, last)
        except ValueError:
            continue
    raise ValueError(f"{number} is no day")


def _written(vr: str, number: float) -> str:
    if vr == "DA":
        return f"{int(number):08d}"
    if vr == "DT":
        return f"{int(number) // 1_000_000:08d}"
    if vr == "TM":
        return f"{int(number) // 10_000:02d}:{int(number) // 100 % 100:02d}"
    if vr == "AS":
        return f"{round(number / 365.25)}Y"
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
