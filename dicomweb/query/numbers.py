"""Which numbers a written value means: a date without its day is a whole month, a time without its second a whole minute.

The numbers are those by which the index searches: a date is yyyymmdd, a time hhmmss.ffffff, both together
yyyymmddhhmmss.ffffff, an age is in days. The index reads what a header may hold; here more is read, because people write more.
"""

from __future__ import annotations

import struct
from calendar import monthrange
from datetime import date, datetime, timedelta
from math import isfinite
from typing import NamedTuple

DECIMAL_VRS = frozenset("DS IS FL FD US SS UL SL SV UV".split())
CALENDAR_VRS = frozenset("DA DT".split())
NUMBER_VRS = DECIMAL_VRS | CALENDAR_VRS | frozenset("TM AS".split())
# The VR of a private element that no dictionary knows; its values may be numbers.
UNKNOWN_VR = "UN"

_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
# No number, date or time that is meant is written longer.
_CHARACTERS = 400
_DATES = frozenset("0000 0000-00 000000 0000-00-00 0000.00.00 00000000".split())
_TIMES = frozenset("00 00:00 0000 00:00:00 00:0000 0000:00 000000".split())
_DATE_TIMES = frozenset("0000 000000 00000000 0000000000 000000000000 00000000000000".split())
_LENGTHS = {8: timedelta(days=1), 10: timedelta(hours=1), 12: timedelta(minutes=1), 14: timedelta(seconds=1)}
_RELATIVE = {"yesterday": -1, "today": 0, "tomorrow": 1}


class Interval(NamedTuple):
    """Numbers from low to high; with high_open, high itself is not among them."""

    low: float
    high: float
    high_open: bool = False


def interval(vr: str, text: str, now: datetime | None = None) -> Interval | None:
    """Give the numbers that a written value means for an element of this VR, None when it means none.

    now: what ``today`` and ``-30d`` count from; without it they mean nothing.
    """
    text = text.strip()
    if len(text) > _CHARACTERS:
        return None
    if vr in DECIMAL_VRS or vr == UNKNOWN_VR:
        return _decimal(vr, text)
    if vr in CALENDAR_VRS:
        day = relative_day(text, now)
        if vr == "DA":
            digits = _digits_of(day) if day else _day(text)
            return _of_day(digits) if digits else None
        moment = (_digits_of(day), "") if day else _moment(text)
        return _of_moment(*moment) if moment else None
    if vr == "TM":
        time = _time(text)
        return _of_time(0.0, *time) if time else None
    return _age(text) if vr == "AS" else None


def calendar_interval(text: str, now: datetime | None = None) -> Interval | None:
    """Give the moments that a written date, or date and time, means, all of them in the calendar; fractions of a second are left out."""
    day = relative_day(text, now)
    moment = (_digits_of(day), "") if day else _moment(text.strip())
    if moment is None:
        return None
    digits = moment[0]
    try:
        first = datetime.strptime(digits + "00000101000000"[len(digits) :], "%Y%m%d%H%M%S")  # noqa: DTZ007
        if len(digits) == 4:
            after = first.replace(year=first.year + 1)
        elif len(digits) == 6:
            after = first + timedelta(days=monthrange(first.year, first.month)[1])
        else:
            after = first + _LENGTHS[len(digits)]
    except (ValueError, OverflowError):
        return None
    return Interval(_as_number(first), _as_number(after), high_open=True)


def relative_day(text: str, now: datetime | None) -> date | None:
    """Give the day that ``today``, ``yesterday``, ``-30d``, ``-2w``, ``-6m``, ``+1y`` means, None for everything else.

    A day that is not in the calendar is the first or last one that is.
    """
    steps = relative_steps(text)
    if steps is None or now is None:
        return None
    count, unit = steps
    today = now.date()
    if unit in "DW":
        ordinal = today.toordinal() + count * int(_DAYS[unit])
        return date.fromordinal(min(max(ordinal, 1), date.max.toordinal()))
    months = today.year * 12 + today.month - 1 + count * (12 if unit == "Y" else 1)
    months = min(max(months, 12), date.max.year * 12 + 11)
    year, month = divmod(months, 12)
    return date(year, month + 1, min(today.day, monthrange(year, month + 1)[1]))


def relative_steps(text: str) -> tuple[int, str] | None:
    """Split ``-30d`` into -30 and D; ``today`` is nought days. None for everything else."""
    lowered = text.casefold()
    if lowered in _RELATIVE:
        return _RELATIVE[lowered], "D"
    digits, unit = text[1:-1], text[-1:].upper()
    if text[:1] not in ("-", "+") or not unit or unit not in _DAYS or not 0 < len(digits) < 10 or not _are_digits(digits):
        return None
    return int(text[0] + digits), unit


def _decimal(vr: str, text: str) -> Interval | None:
    # Python reads more than DICOM writes: underscores, digits of other scripts.
    if "_" in text or not text.isascii():
        return None
    try:
        value = float(text) + 0.0
    except ValueError:
        return None
    if not isfinite(value):
        return None
    if vr == "FL":
        # A header has what is left of the number in 32 bits.
        try:
            (kept,) = struct.unpack("<f", struct.pack("<f", value))
        except OverflowError:
            kept = value
        return Interval(min(value, kept), max(value, kept))
    return Interval(value, value)


def _of_day(digits: str) -> Interval | None:
    month, day = int(digits[4:6] or 1), int(digits[6:8] or 1)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    rest = len(digits) - 4
    return Interval(float(digits + "0101"[rest:]), float(digits + "1231"[rest:]))


def _of_moment(digits: str, fraction: str) -> Interval | None:
    day = _of_day(digits[:8])
    if day is None:
        return None
    if len(digits) > 8 or fraction:
        return _of_time(day.low, digits[8:], fraction)
    return Interval(day.low * 1_000_000, (int(digits) + 1) * 10.0 ** (14 - len(digits)), high_open=True)


def _of_time(day: float, digits: str, fraction: str) -> Interval | None:
    hour, minute, second = float(digits[:2] or 0), float(digits[2:4] or 0), float(digits[4:6] or 0)
    # A second of 60 is a leap second.
    if hour >= 24 or minute >= 60 or second > 60:
        return None
    # Added up in the order in which the index does it, so that the last bit is the same.
    low = day * 1_000_000 + (hour * 10000 + minute * 100 + second + float(f".{fraction or 0}"))
    if fraction:
        return Interval(low, low)
    return Interval(low, day * 1_000_000 + (int(digits) + 1) * 10.0 ** (6 - len(digits)), high_open=True)


def _day(text: str) -> str | None:
    """Give the 4, 6 or 8 digits of a date."""
    shape, digits = _shape(text)
    return digits if shape in _DATES else None


def _time(text: str) -> tuple[str, str] | None:
    """Give the 2, 4 or 6 digits of a time, and those of its fraction."""
    whole, point, fraction = text.partition(".")
    shape, digits = _shape(whole)
    if shape[:2] == "0:":
        shape, digits = "0" + shape, "0" + digits
    if shape not in _TIMES or (point and (len(digits) != 6 or not _is_fraction(fraction))):
        return None
    return digits, fraction


def _moment(text: str) -> tuple[str, str] | None:
    """Give the 4 to 14 digits of a date and time, and those of its fraction."""
    for separator in ("T", " "):
        day, found, time = text.partition(separator)
        if found:
            digits, seconds = _day(day), _time(time)
            return (digits + seconds[0], seconds[1]) if digits and len(digits) == 8 and seconds else None
    alone = _day(text)
    if alone:
        return alone, ""
    # An offset from UTC is not applied, because the index does not either.
    if text[-5:-4] in ("+", "-") and _are_digits(text[-4:]):
        text = text[:-5]
    text, point, fraction = text.partition(".")
    if _shape(text)[0] not in _DATE_TIMES or (point and not _is_fraction(fraction)):
        return None
    return text, fraction


def _age(text: str) -> Interval | None:
    digits, unit = text[:-1], text[-1:].upper()
    if unit not in _DAYS or not 0 < len(digits) < 4 or not _are_digits(digits):
        return None
    days = int(digits) * _DAYS[unit]
    return Interval(days, days)


def _digits_of(day: date) -> str:
    return f"{day.year:04}{day.month:02}{day.day:02}"


def _as_number(moment: datetime) -> float:
    return float(f"{moment.year:04}{moment.month:02}{moment.day:02}{moment:%H%M%S}")


def _shape(text: str) -> tuple[str, str]:
    """Give a text with its digits as noughts, and its digits."""
    shape = "".join("0" if character in "0123456789" else character for character in text)
    return shape, "".join(character for character in text if character in "0123456789")


def _is_fraction(text: str) -> bool:
    return 0 < len(text) < 7 and _are_digits(text)


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
