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


def test_a_traceback_stays_in_the_line() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        text = line("it failed", error=error)
    assert "Traceback" in text
    assert "ValueError: why" in text
    assert "\n" not in text


def test_the_time_is_utc_whatever_the_machine_thinks() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "y", (), None)
    record.created, record.msecs = 0.0, 5.0
    assert LineFormatter().format(record).startswith("1970-01-01T00:00:00.005Z ")
