"""How the pages write durations, rates and bytes."""

from datetime import timedelta

import pytest

from dicomweb.views import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (12.4, "12 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (90_000, "1 day 1 h")],
)
def test_a_duration_is_as_exact_as_it_is_short(seconds: float, text: str) -> None:
    assert formats.duration(timedelta(seconds=seconds)) == text


def test_no_duration_is_a_dash() -> None:
    assert formats.duration(None) == "–"


@pytest.mark.parametrize(("number", "text"), [(0.26, "0.3"), (9.94, "9.9"), (12.5, "12"), (1234.5, "1,234")])
def test_a_rate_has_a_decimal_when_it_is_small(number: float, text: str) -> None:
    assert formats.rate(number) == text


def test_bytes_are_written_sixteen_a_line_with_a_dot_for_what_is_no_ascii() -> None:
    data = bytes(range(0x3C, 0x4C)) + b"\x00\x7f\xffA"
    assert list(formats.hex_lines(data)) == [
        ("0000", "3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b", "<=>?@ABCDEFGHIJK"),
        ("0010", "00 7f ff 41", "···A"),
    ]
    assert list(formats.hex_lines(b"")) == []
