"""Why a search is not answered; each message is a sentence for the one who asked, and holds no header value."""

from __future__ import annotations


class SearchError(ValueError):
    """The search cannot be answered as it was asked."""


class TooLarge(SearchError):
    """The query has more conditions than one statement can hold."""


class TooBroad(SearchError):
    """The result is too large for what was asked about it; a narrower query is answered."""


class UnknownColumn(SearchError):
    """No column or field has that name."""


class BadCursor(SearchError):
    """The cursor is none that this search gave out."""
