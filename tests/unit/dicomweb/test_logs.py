import logging

from dicomweb.logs import LineFormatter


def line(message: str, *arguments: object, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    return LineFormatter().format(logging.LogRecord("some.logger", logging.WARNING, __file__, 1, message, arguments, info))


def test_a_record_is_one_line_with_its_level_and_logger() -> None:
    text = line("%d files", 3)
    assert text.endswith("some.logger: 3 files")
    assert " WARNING " in text


def test_a_hostile_name_cannot_forge_a_second_line_or_steer_the_terminal() -> None:
    text = line("cannot read %s", "a\n2026-01-01 ERROR forged\r\x1b[2J\u2028b\udc80")
    assert text.isprintable()
    assert r"a\n2026-01-01 ERROR forged\r\x1b[2J\u2028b\udc80" in text


def test_an_exception_tells_its_kind_and_place_but_not_what_it_quotes() -> None:
    try:
        try:
            raise KeyError("Key (patient_name)=(Doe^Jane) already exists")
        except KeyError as cause:
            raise ValueError("Doe^Jane") from cause
    except ValueError as error:
        text = line("it failed", error=error)
    assert "ValueError from KeyError at test_logs.py:" in text
    assert "Doe" not in text
    assert "\n" not in text


def test_the_time_is_utc_whatever_the_machine_thinks() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "y", (), None)
    record.created, record.msecs = 0.0, 5.0
    assert LineFormatter().format(record).startswith("1970-01-01T00:00:00.005Z ")
