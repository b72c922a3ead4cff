"""Histograms: round edges around all numbers, and conditions that find what a bar counts."""

from __future__ import annotations

from datetime import date

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.index.numbers import number
from dicomweb.search.facets import _edges
from tests.unit.dicomweb.search.conftest import Import

_days = st.builds(lambda year, month, day: float(year * 10_000 + month * 100 + day), st.integers(0, 9999), st.integers(1, 12), st.integers(1, 31))
_times = st.builds(lambda hour, minute, second: float(hour * 10_000 + minute * 100 + second), st.integers(0, 23), st.integers(0, 59), st.integers(0, 60))


def check(vr: str, first: float, second: float) -> None:
    low, high = sorted((first, second))
    edges = _edges(vr, low, high)
    assert edges == sorted(set(edges))
    assert edges[0] <= low
    assert edges[-1] > high
    assert 2 <= len(edges) <= 100


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_edges_enclose_numbers(first: float, second: float) -> None:
    check("DS", first, second)


@given(_days, _days)
def test_edges_enclose_days(first: float, second: float) -> None:
    check("DA", first, second)


@given(_days, _times, _days, _times)
def test_edges_enclose_moments(day: float, time: float, other_day: float, other_time: float) -> None:
    check("DT", day * 1_000_000 + time, other_day * 1_000_000 + other_time)


@given(_times, _times)
def test_edges_enclose_times(first: float, second: float) -> None:
    check("TM", first, second)


@given(st.integers(0, 999 * 366), st.integers(0, 999 * 366))
def test_edges_enclose_ages(first: float, second: float) -> None:
    check("AS", float(first), float(second))


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("StudyDate", [date.fromordinal(730_000 + 40 * step).strftime("%Y%m%d") for step in range(12)]),
        ("StudyTime", [f"{hour:02d}{hour * 2 % 60:02d}00" for hour in range(0, 24, 2)]),
        ("PatientAge", [f"{age:03d}Y" for age in range(1, 96, 8)]),
        ("SliceLocation", [f"{step * 1.7 - 9:.2f}" for step in range(12)]),
        ("AcquisitionDateTime", [f"2024{month:02d}15101112" for month in range(1, 13)]),
    ],
)
def test_the_condition_of_a_bar_finds_what_it_counts(engine: sa.Engine, import_images: Import, keyword: str, values: list[str]) -> None:
    import_images("one", *({keyword: value} for value in values))
    with work(engine, read_only=True) as dbsession:
        field = query.resolve(keyword)
        facet = search.facet(dbsession, query.EVERYTHING, field, limit=3)
        assert facet.more
        assert sum(bar.count for bar in facet.histogram) == len(values)
        for bar in facet.histogram:
            assert search.count(dbsession, query.parse(bar.query)) == bar.count, bar
            assert bar.count == sum(bar.low <= (number(field.vr, value) or 0) < bar.high for value in values)
        for value in facet.values:
            assert search.count(dbsession, query.parse(value.query)) == value.count


def test_values_of_a_facet_lead_to_queries_whatever_they_are(engine: sa.Engine, import_images: Import) -> None:
    texts = ['a "b" (c)', "AND", "*", "-x:y", "missing", "ü" * 400, "z" * 600, "a\tb", ""]
    import_images("one", *({"ImageComments": text} for text in texts))
    with work(engine, read_only=True) as dbsession:
        facet = search.facet(dbsession, query.EVERYTHING, query.resolve("ImageComments"))
        found = {value.text: value.query and search.count(dbsession, query.parse(value.query)) for value in facet.values}
    assert found == {text: "" if len(text) > 500 else 1 for text in texts}


@pytest.mark.parametrize("wrong", [{"level": "patient"}, {"limit": 0}, {"limit": 1001}])
def test_what_cannot_be_counted_is_refused(engine: sa.Engine, wrong: dict[str, object]) -> None:
    with work(engine, read_only=True) as dbsession, pytest.raises(search.SearchError):
        search.facet(dbsession, query.EVERYTHING, query.resolve("Modality"), **wrong)  # type: ignore[arg-type]
