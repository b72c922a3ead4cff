"""The address of a list: how it is filtered and sorted, and which page of it is shown. Every click is a link to another address."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from dicomweb.views import page_number

LONGEST_TEXT = 200
LONGEST_ADDRESS = 8000
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Head(NamedTuple):
    """The head of a column that can be sorted by. sorted: ascending, descending or empty."""

    address: str
    sorted: str


class ListPlace:
    """What the address of a list says.

    filters: the names of its parameters. sorts: what it can be sorted by. usual: the order without ``sort``, with a minus before it
    when the largest comes first. largest_first: columns of which a
    click shows the largest first.
    """

    def __init__(
        self,
        parameters: Mapping[str, str],
        path: str,
        *,
        filters: Sequence[str],
        sorts: Collection[str],
        usual: str,
        largest_first: Collection[str] = (),
    ) -> None:
        self.path = path
        self.given = {name: parameters.get(name, "").strip()[:LONGEST_TEXT] for name in filters}
        asked = parameters.get("sort", "")
        self._asked = asked if asked.removeprefix("-") in sorts and asked != usual else ""
        self._usual = usual
        self._largest_first = largest_first
        self.number = page_number(parameters)

    def __getitem__(self, name: str) -> str:
        return self.given[name]

    @property
    def sort(self) -> str:
        """By what the list is sorted."""
        return (self._asked or self._usual).removeprefix("-")

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return (self._asked or self._usual).startswith("-")

    @property
    def is_filtered(self) -> bool:
        """Whether the list is narrowed."""
        return any(self.given.values())

    @property
    def sort_parameter(self) -> str:
        """What a form repeats to keep the order; empty for the usual one."""
        return self._asked

    def address(self, path: str | None = None, **changes: str) -> str:
        """Give the address of this list with some changes, at its first page unless ``page`` is among them."""
        given = {**self.given, "sort": self._asked, **changes}
        parts = [(name, value) for name, value in given.items() if value]
        path = self.path if path is None else path
        return f"{path}?{urlencode(parts)}" if parts else path

    def here(self, path: str | None = None, **changes: str) -> str:
        """Give the address of this page of the list with some changes."""
        return self.address(path, page=str(self.number) if self.number > 1 else "", **changes)

    @property
    def text(self) -> str:
        """Write this page of the list as a form repeats it, and as ``parameters_of`` reads it."""
        return self.here("").removeprefix("?")

    @property
    def pages(self) -> str:
        """Give what the number of a page is put behind, as the pager wants it."""
        address = self.address()
        return f"{address}{'&' if '?' in address else '?'}"

    def head(self, name: str) -> Head:
        """Give where a click on the head of a column leads: to this order, or to the opposite one."""
        if name == self.sort:
            turned = name if self.descending else f"-{name}"
        else:
            turned = f"-{name}" if name in self._largest_first else name
        how = "" if name != self.sort else "descending" if self.descending else "ascending"
        return Head(self.address(sort="" if turned == self._usual else turned), how)


def parameters_of(text: str) -> dict[str, str]:
    """Read what a form repeats of a list; it may say which list it was, and never to which address one is led."""
    try:
        return dict(parse_qsl(text[:LONGEST_ADDRESS], max_num_fields=50))
    except ValueError:
        return {}


def chosen(text: str, among: Collection[str]) -> str:
    """Give a parameter when it is one of some values, else nothing."""
    return text if text in among else ""


def day(text: str) -> date | None:
    """Read a date as ``2026-01-31``; None for what is none."""
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def begin_of(text: str) -> datetime | None:
    """Give the moment at which a day begins, in UTC."""
    found = day(text)
    return None if found is None else datetime(found.year, found.month, found.day, tzinfo=UTC)


def end_of(text: str) -> datetime | None:
    """Give the moment at which a day is over, in UTC."""
    begins = begin_of(text)
    return None if begins is None or begins.year == 9999 else begins + timedelta(days=1)
