"""Answers that are made while they are sent, with a database session of their own: that of the request has ended by then."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from sqlalchemy.orm import Session

from dicomweb.db import work


class Stream:
    """The body of an answer, in pieces.

    The first piece is made at once, so that what cannot be done is an exception while it can still be answered. Whoever
    serves the answer closes it, which ends the session, also when the client has gone away.
    """

    def __init__(self, request: Any, pieces: Callable[[Session], Iterator[bytes]]) -> None:
        """Begin the body; pieces: makes it from a session that only reads."""
        self._made = _with_session(request.registry["engine"], pieces)
        self._first: bytes | None = next(self._made, b"")

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._made)

    def close(self) -> None:
        """End it, wherever it is."""
        self._made.close()


def _with_session(engine: Any, pieces: Callable[[Session], Iterator[bytes]]) -> Generator[bytes]:
    with work(engine, read_only=True) as dbsession:
        yield from pieces(dbsession)
