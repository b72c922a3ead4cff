import math

import pytest

from dicomweb.index.numbers import number


@pytest.mark.parametrize(
    ("vr", "text", "expected"),
    [
        ("DS", "1.5", 1.5),
        ("DS", " -1.5e3 ", -1500.0),
        ("DS", "+.5", 0.5),
        ("IS", "5.", 5.0),
        ("FD", "1e-05", 1e-05),
        ("FL", "nan", None),
        ("FD", "inf", None),
        ("FD", "-Infinity", None),
        ("DS", "1e400", None),
        ("DS", "1_000", None),
        ("IS", "٣", None),
        ("IS", "0x10", None),
        ("DS", "", None),
        ("DS", "1,5", None),
        ("UV", "18446744073709551615", 18446744073709551615.0),
        ("DA", "20200229", 20200229.0),
        ("DA", "2020.02.29", 20200229.0),
        ("DA", "20201301", None),
        ("DA", "20200100", None),
        ("DA", "2020", None),
        ("DA", "20200101-20200201", None),
        ("TM", "10", 100000.0),
        ("TM", "1011", 101100.0),
        ("TM", "101112.345678", 101112.345678),
        ("TM", "10:11:12", 101112.0),
        ("TM", "10:11", 101100.0),
        ("TM", "235960", 235960.0),
        ("TM", "240000", None),
        ("TM", "101160.5", 101160.5),
        ("TM", "1", None),
        ("DT", "2020", 20200101000000.0),
        ("DT", "202002", 20200201000000.0),
        ("DT", "20200229101112.5+0100", 20200229101112.5),
        ("DT", "20201301", None),
        ("AS", "010D", 10.0),
        ("AS", "002W", 14.0),
        ("AS", "004M", 121.75),
        ("AS", "050Y", 18262.5),
        ("AS", "050", None),
        ("LO", "12", None),
        ("UN", "12", None),
        ("UI", "1.2", None),
    ],
)
def test_the_number_of_a_value(vr: str, text: str, expected: float | None) -> None:
    assert number(vr, text) == expected


def test_nought_has_no_sign() -> None:
    assert math.copysign(1, number("DS", "-0.0") or 0.0) == 1.0
    assert number("DS", "-0") == 0.0
