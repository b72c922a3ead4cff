"""The number that a header value is searched and sorted by."""

import re
from math import isfinite

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DATE = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|\.(\d\d)\.(\d\d))", re.ASCII)
TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{1,6})?)?)?", re.ASCII)
DATE_TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\.\d{1,6})?([+-]\d{4})?", re.ASCII)
AGE = re.compile(r"(\d{1,3})([DWMY])", re.ASCII)
DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
DECIMAL_VRS = frozenset("DS IS FL FD US SS UL SL SV UV".split())


def number(vr: str, text: str) -> float | None:
    """Return the number by which ``text`` is searched, None when it has none.

    Numbers are themselves (never infinite, never NaN). A date is yyyymmdd, a time hhmmss.ffffff and a date with time
    yyyymmddhhmmss.ff; what is left out counts as the earliest (month and day 1, hour 0), an offset from UTC is ignored as
    the header's other times have none. An age is in days: a year is 365.25, a month 30.4375 days. PS3.5 6.2.
    """
    text = text.strip()
    if vr in DECIMAL_VRS:
        value = float(text) if DECIMAL.fullmatch(text) else None
        return value if value is not None and isfinite(value) else None
    if vr == "DA":
        date = DATE.fullmatch(text)
        return _date(*(int(part) for part in date.groups() if part)) if date else None
    if vr == "TM":
        time = TIME.fullmatch(text)
        return _time(*(float(part or 0) for part in time.groups())) if time else None
    if vr == "DT":
        return _date_time(text)
    if vr == "AS":
        age = AGE.fullmatch(text)
        return int(age[1]) * DAYS[age[2]] if age else None
    return None


def _date(year: int, month: int, day: int) -> float | None:
    return float(year * 10000 + month * 100 + day) if 1 <= month <= 12 and 1 <= day <= 31 else None


def _time(hour: float, minute: float, second: float, fraction: float) -> float | None:
    # A second of 60 is a leap second.
    return hour * 10000 + minute * 100 + second + fraction if hour < 24 and minute < 60 and second <= 60 else None


def _date_time(text: str) -> float | None:
    parts = DATE_TIME.fullmatch(text)
    if parts is None:
        return None
    date = _date(int(parts[1]), int(parts[2] or 1), int(parts[3] or 1))
    time = _time(float(parts[4] or 0), float(parts[5] or 0), float(parts[6] or 0), float(parts[7] or 0))
    return date * 1_000_000 + time if date is not None and time is not None else None
