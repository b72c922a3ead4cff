"""How values are written on pages: the filters of the templates."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from dicomweb.languages import N_, counted, gettext, grouped, said_again, with_point
from dicomweb.models import Series, escape_path

FILTERS = (
    "age", "browser_name", "clock", "count", "dicom_date", "duration", "instant", "last_name", "marked", "of_level", "path", "percent", "rate", "series_name", "size",
    "translated",
)  # fmt: skip

# Names of the database that pages show, through the filter ``translated``.
_NAMES = (
    N_("NEW"), N_("PROCESSING"), N_("DONE"), N_("DELETING"), N_("folder"), N_("upload"), N_("queued"), N_("running"), N_("done"), N_("failed"),
    N_("image"), N_("series"), N_("study"), N_("scan batch"), N_("import chunk"), N_("unpack archive"), N_("delete batch"), N_("clean source"),
    N_("discard bytes"), N_("Watched."),
)  # fmt: skip

_BETWEEN_BACKTICKS = re.compile(r"`([^`]+)`")
# What a browser calls itself names its forefathers too; the first that fits is the one it is.
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (("Android", "Android"), ("iPhone", "iOS"), ("iPad", "iOS"), ("Windows", "Windows"), ("Mac OS", "macOS"), ("Linux", "Linux"))
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(octets: int | None) -> str:
    """Write a number of bytes: ``1.4 MB``."""
    if octets is None:
        return "–"
    value = float(octets)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{octets} B" if unit == "B" else f"{with_point(f'{value:.1f}')} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def count(number: int | None) -> str:
    """Write a number: ``1,234,567``."""
    return "–" if number is None else grouped(number)


def of_level(number: int, level: str) -> str:
    """Write how many there are of what a search finds at a level: ``1 image``, ``35 series``."""
    if level == "study":
        return counted("%(n)s study", "%(n)s studies", number)
    if level == "series":
        return counted("%(n)s series", "%(n)s series", number)
    return counted("%(n)s image", "%(n)s images", number)


def translated(text: str | None) -> str | None:
    """Say a text of ours in the language of the page; what no catalogue has stays as it is, and is no markup."""
    return said_again(str(text)) if text else text


def percent(part: float) -> int:
    """Write a part of 1 as a whole percentage; 100 only when nothing is missing."""
    return 100 if part >= 1 else min(99, int(part * 100))


def instant(moment: datetime | None) -> Markup:
    """Write a moment in UTC; the page's script writes it in the local time of the browser instead."""
    if moment is None:
        return Markup("–")
    # The morph of a refresh must not put UTC back for a moment.
    return Markup('<time datetime="{}" hx-morph-skip-children>{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M UTC")
    )


def clock(moment: datetime) -> Markup:
    """Write the time of a moment that is near, in UTC; the page's script writes that of the browser's place instead."""
    return Markup('<time datetime="{}" data-clock hx-morph-skip-children>{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%H:%M UTC")
    )


def path(text: str) -> str:
    """Write a path: what is no text, and what a page would not show, as an escape."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in escape_path(text))


def last_name(text: str) -> str:
    """Give the last name of a path."""
    return os.path.basename(text)


def dicom_date(text: str) -> str:
    """Write a date (VR DA) as ``2026-11-21``; what is none as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isascii() and text.isdigit() else text


def series_name(series: Series) -> str:
    """Name a series by its number and description."""
    return " ".join(part for part in (series.series_number, series.series_description) if part) or "–"


def marked(text: str) -> Markup:
    """Write a text of ours: what stands between backticks is what somebody types."""
    return Markup(_BETWEEN_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  The text was escaped before.


def browser_name(user_agent: str) -> str:
    """Name a browser and its system by what it called itself: ``Firefox on Linux``."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), user_agent[:40] or gettext("Unknown browser"))
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return gettext("%(browser)s on %(system)s", browser=browser, system=system) if system else browser


def hex_lines(data: bytes) -> Iterator[tuple[str, str, str]]:
    """Write bytes sixteen a line: where they stand, as hexadecimal digits, and as text in which what is no ASCII is a dot."""
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        yield f"{start:04x}", part.hex(" "), text


def duration(span: timedelta | None) -> str:
    """Write how long something took: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if span is None:
        return "–"
    seconds = max(0.0, span.total_seconds())
    if seconds < 10:
        return f"{with_point(f'{seconds:.1f}')} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{counted('%(n)s day', '%(n)s days', whole // 86400)} {whole % 86400 // 3600} h"


def rate(number: float) -> str:
    """Write how many there are a second."""
    return grouped(round(number)) if number >= 9.95 else with_point(f"{number:.1f}")


def age(span: timedelta) -> str:
    """Write how long something has lasted: ``3 minutes``."""
    seconds = max(0, int(span.total_seconds()))
    if seconds >= 86400:
        return counted("%(n)s day", "%(n)s days", seconds // 86400)
    if seconds >= 3600:
        return counted("%(n)s hour", "%(n)s hours", seconds // 3600)
    if seconds >= 60:
        return counted("%(n)s minute", "%(n)s minutes", seconds // 60)
    return counted("%(n)s second", "%(n)s seconds", seconds)
