"""What a written number, date, time or age means; and that the index means the same by what it can read."""

from datetime import date, datetime
from struct import pack, unpack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicomweb.index.numbers import DECIMAL_VRS as INDEX_DECIMAL_VRS
from dicomweb.index.numbers import number
from dicomweb.query.numbers import DECIMAL_VRS, NUMBER_VRS, Interval, calendar_interval, interval, relative_day
from tests.unit.dicomweb.query.strategies import NOW

TABLE: list[tuple[str, str, tuple[float, float, bool] | None]] = [
    ("DS", "1.5", (1.5, 1.5, False)),
    ("DS", " -1e3 ", (-1000.0, -1000.0, False)),
    ("DS", "1_000", None),
    ("DS", "nan", None),
    ("DS", "1e999", None),
    ("DS", "٣", None),
    ("DS", "", None),
    ("DS", "1" * 401, None),
    ("UN", "736", (736, 736, False)),
    ("LO", "12", None),
    ("DA", "2020", (20200101, 20201231, False)),
    ("DA", "202002", (20200201, 20200231, False)),
    ("DA", "2020-02", (20200201, 20200231, False)),
    ("DA", "2020.02.03", (20200203, 20200203, False)),
    ("DA", "2020-2-3", None),
    ("DA", "2020-0203", None),
    ("DA", "2020-13", None),
    ("DA", "2020-01-32", None),
    ("DA", "today", (20240331, 20240331, False)),
    ("DA", "YESTERDAY", (20240330, 20240330, False)),
    ("DA", "-1m", (20240229, 20240229, False)),
    ("DA", "+1y", (20250331, 20250331, False)),
    ("TM", "9:30", (93000, 93100, True)),
    ("TM", "09", (90000, 100000, True)),
    ("TM", "23", (230000, 240000, True)),
    ("TM", "0930", (93000, 93100, True)),
    ("TM", "09:30:15", (93015, 93016, True)),
    ("TM", "09:30:15.25", (93015.25, 93015.25, False)),
    ("TM", "09:30.5", None),
    ("TM", "24:00", None),
    ("TM", "09:60", None),
    ("DT", "2020", (20200101000000, 20210000000000, True)),
    ("DT", "2020-01", (20200101000000, 20200200000000, True)),
    ("DT", "2020-01-31", (20200131000000, 20200132000000, True)),
    ("DT", "2020-01-31T9:30", (20200131093000, 20200131093100, True)),
    ("DT", "2020-01-31 09:30:15", (20200131093015, 20200131093016, True)),
    ("DT", "202001310930", (20200131093000, 20200131093100, True)),
    ("DT", "20200131093015.5+0100", (20200131093015.5, 20200131093015.5, False)),
    ("DT", "2020-01T09:30", None),
    ("DT", "2020-13", None),
    ("DT", "20201301093000", None),
    ("DT", "2020-01-31T", None),
    ("DT", "today", (20240331000000, 20240332000000, True)),
    ("AS", "063Y", (63 * 365.25, 63 * 365.25, False)),
    ("AS", "6m", (6 * 30.4375, 6 * 30.4375, False)),
    ("AS", "63", None),
    ("AS", "1000Y", None),
]


@pytest.mark.parametrize(("vr", "text", "expected"), TABLE)
def test_a_written_value_means_these_numbers(vr: str, text: str, expected: tuple[float, float, bool] | None) -> None:
    assert interval(vr, text, NOW) == (None if expected is None else Interval(*expected))


def test_a_number_of_32_bits_is_found_by_its_decimals() -> None:
    (kept,) = unpack("<f", pack("<f", 0.1))
    found = interval("FL", "0.1")
    assert found is not None
    assert found.low <= number("FL", str(kept)) <= found.high  # type: ignore[operator]
    assert interval("FD", "0.1") == Interval(0.1, 0.1)
    assert interval("FL", "1e300") == Interval(1e300, 1e300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-30d", date(2024, 3, 1)),
        ("-2w", date(2024, 3, 17)),
        ("-1m", date(2024, 2, 29)),
        ("-1y", date(2023, 3, 31)),
        ("+1m", date(2024, 4, 30)),
        ("tomorrow", date(2024, 4, 1)),
        ("-999999999d", date(1, 1, 1)),
        ("+999999999y", date(9999, 12, 31)),
        ("-999999999m", date(1, 1, 31)),
        ("30d", None),
        ("-d", None),
        ("-1h", None),
        ("-1000000000d", None),
        ("-٣d", None),
        ("", None),
    ],
)  # fmt: skip
def test_days_are_counted_from_today(text: str, expected: date | None) -> None:
    assert relative_day(text, NOW) == expected
    assert relative_day(text, None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023", (20230101000000, 20240101000000)),
        ("2023-12", (20231201000000, 20240101000000)),
        ("2024-02-29", (20240229000000, 20240301000000)),
        ("2023-02-29", None),
        ("2023-12-31T23", (20231231230000, 20240101000000)),
        ("2023-12-31T23:59", (20231231235900, 20240101000000)),
        ("2023-12-31T23:59:59.5", (20231231235959, 20240101000000)),
        ("2023-12-31T23:59:60", None),
        ("9999", None),
        ("0000", None),
        ("-7d", (20240324000000, 20240325000000)),
        ("soon", None),
    ],
)  # fmt: skip
def test_moments_of_the_calendar_end_where_the_next_begins(text: str, expected: tuple[float, float] | None) -> None:
    assert calendar_interval(text, NOW) == (None if expected is None else Interval(*expected, high_open=True))


_written = st.one_of(
    st.text("0123456789.:+-eTDWMY _", max_size=24),
    st.text(max_size=6),
    st.from_regex(r"[0-9]{4}(\.?[01][0-9]\.?[0-3][0-9])?([0-2][0-9]){0,3}(\.[0-9]{1,6})?([+-][0-9]{4})?", fullmatch=True),
    st.from_regex(r"[0-2][0-9](:?[0-6][0-9](:?[0-6][0-9](\.[0-9]{1,6})?)?)?", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}[DWMY]", fullmatch=True),
    st.floats().map(str),
    st.datetimes().map(lambda moment: moment.strftime("%Y%m%d%H%M%S.%f")),
)


@settings(deadline=None)
@given(st.sampled_from(sorted(NUMBER_VRS)), _written)
@example("DT", "2024.5")
@example("DT", "2020-0131")
@example("TM", "10:1501")
@example("DA", "20200231")
@example("TM", "235960")
def test_what_the_index_reads_is_read_the_same(vr: str, text: str) -> None:
    expected = number(vr, text)
    if expected is None:
        return
    found = interval(vr, text)
    assert found is not None
    if vr == "FL":
        assert found.low <= expected <= found.high
    else:
        assert found.low == expected
        assert found.low < found.high if found.high_open else found.low <= found.high


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(1, 1, 1)), st.sampled_from([4, 6, 8, 10, 12, 14]))  # noqa: DTZ001
def test_an_imprecise_value_means_all_it_could_be(moment: datetime, digits: int) -> None:
    # The number of a date and time is exact to 4 milliseconds, and what is nearer to the next second is that second.
    moment = moment.replace(microsecond=min(moment.microsecond, 990_000))
    text = f"{moment.year:04}{moment:%m%d%H%M%S.%f}"
    found = interval("DT", text[:digits])
    held = number("DT", text)
    assert found is not None
    assert held is not None
    assert found.low <= held < found.high
    assert found.high_open


def test_the_vrs_that_have_numbers_are_those_of_the_index() -> None:
    assert DECIMAL_VRS == INDEX_DECIMAL_VRS
    assert {vr for vr in ("DA", "TM", "DT", "AS") if number(vr, {"DA": "20200101", "AS": "001Y"}.get(vr, "20")) is not None or vr == "DT"} | DECIMAL_VRS == NUMBER_VRS
