"""The number that a header value is searched and sorted by."""

from __future__ import annotations

import re
from math import isfinite

DECIMAL_VRS = frozenset("DS IS FL FD US SS UL SL SV UV".split())
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}

_DATE = re.compile(r"([0-9]{4})(?:([0-9]{2})([0-9]{2})|\.([0-9]{2})\.([0-9]{2}))")
_TIME = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(\.[0-9]{1,6})?)?)?")
_DATE_TIME = re.compile(r"([0-9]{4})([0-9]{2})?([0-9]{2})?([0-9]{2})?([0-9]{2})?([0-9]{2})?(\.[0-9]{1,6})?(?:[+-][0-9]{4})?")
_AGE = re.compile(r"([0-9]{1,3})([DWMY])")


def number(vr: str, text: str) -> float | None:
    """Give the number by which a value is searched, None when it has none; never infinite or NaN.

    A date is yyyymmdd, a time hhmmss.ffffff, both together yyyymmddhhmmss.ff, each also as ACR-NEMA wrote it
    (yyyy.mm.dd, hh:mm:ss); what is left out counts as the earliest, and an offset from UTC is not applied, because the
    other times of a header have none. An age is in days (a year 365.25, a month 30.4375). PS3.5 6.2.
    """
    if vr in DECIMAL_VRS:
        return _decimal(text)
    text = text.strip()
    if vr == "DA":
        date = _DATE.fullmatch(text)
        return _date(*(int(part) for part in date.groups() if part)) if date else None
    if vr == "TM":
        time = _TIME.fullmatch(text)
        return _time(*(float(part or 0) for part in time.groups())) if time else None
    if vr == "DT":
        return _date_time(text)
    if vr == "AS":
        age = _AGE.fullmatch(text)
        return int(age[1]) * _DAYS[age[2]] if age else None
    return None


def _decimal(text: str) -> float | None:
    # Python reads more than DICOM writes: underscores, digits of other scripts.
    if "_" in text or not text.isascii():
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # Adding nought makes -0.0 the same number as 0.0 on every database.
    return value + 0.0 if isfinite(value) else None


def _date(year: int, month: int, day: int) -> float | None:
    return float(year * 10000 + month * 100 + day) if 1 <= month <= 12 and 1 <= day <= 31 else None


def _time(hour: float, minute: float, second: float, fraction: float) -> float | None:
    # A second of 60 is a leap second.
    return hour * 10000 + minute * 100 + second + fraction if hour < 24 and minute < 60 and second <= 60 else None


def _date_time(text: str) -> float | None:
    parts = _DATE_TIME.fullmatch(text)
    if parts is None:
        return None
    date = _date(int(parts[1]), int(parts[2] or 1), int(parts[3] or 1))
    time = _time(float(parts[4] or 0), float(parts[5] or 0), float(parts[6] or 0), float(parts[7] or 0))
    return date * 1_000_000 + time if date is not None and time is not None else None
