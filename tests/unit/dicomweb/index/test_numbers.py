"""The number a value is searched by."""

from dicomweb.index.numbers import number


def test_numbers_are_what_the_index_sorts_by() -> None:
    table: list[tuple[str, str, float | None]] = [
        ("DS", "1.5", 1.5),
        ("DS", " -1e3 ", -1000.0),
        ("DS", "1_000", None),
        ("DS", "nan", None),
        ("DS", "1e999", None),
        ("DS", "", None),
        ("IS", "+7", 7.0),
        ("US", "512", 512.0),
        ("FD", "inf", None),
        ("DA", "20240131", 20240131.0),
        ("DA", "2024.01.31", 20240131.0),
        ("DA", "20241331", None),
        ("DA", "2024013", None),
        ("TM", "101501.25", 101501.25),
        ("TM", "10:15:01", 101501.0),
        ("TM", "10", 100000.0),
        ("TM", "2561", None),
        ("DT", "20240131101501", 20240131101501.0),
        ("DT", "2024", 20240101000000.0),
        ("DT", "20240131101501.5+0100", 20240131101501.5),
        ("AS", "063Y", 63 * 365.25),
        ("AS", "002W", 14.0),
        ("AS", "63", None),
        ("LO", "12", None),
    ]
    assert [number(vr, text) for vr, text, _ in table] == [expected for _, _, expected in table]
