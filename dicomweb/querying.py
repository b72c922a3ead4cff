"""``dicomweb query`` and ``dicomweb diff``: the same answers from the database itself and from a server that runs elsewhere.

``Local`` and ``Remote`` answer alike, in the shapes of the API (docs: ``/api``), and both raise ``asking.Mistake`` for a question
that cannot be understood and ``CannotAnswer`` for everything else.
"""

from __future__ import annotations

import base64
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import asking, query, search
from dicomweb.db import make_engine, work
from dicomweb.models import Image
from dicomweb.settings import Settings

PAGE = 1000
_CHUNK = 1 << 16
# A question over many images takes a while, and a server that is gone should not take for ever.
_SECONDS = 300
# A column of a table is no wider than this.
_WIDEST = 60


class CannotAnswer(Exception):
    """There is no answer; the text says why."""


class Answers(Protocol):
    """Who can be asked."""

    def page(self, asked: dict[str, str], *, size: int, after: str | None) -> dict[str, Any]:
        """Give a page of a result: count, sentence, columns, results, and after, the cursor of the next page or None."""

    def facets(self, asked: dict[str, str], fields: str, limit: int) -> list[dict[str, Any]]:
        """Give facets of a result."""

    def export(self, asked: dict[str, str], kind: str) -> Iterator[bytes]:
        """Give all of a result as a file."""

    def diff(self, one: int, other: int) -> list[dict[str, Any]]:
        """Give what differs between the headers of two images."""


class Local:
    """Asks the database."""

    def __init__(self, settings: Settings) -> None:
        self._engine = make_engine(settings.database_url)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def page(self, asked: dict[str, str], *, size: int, after: str | None) -> dict[str, Any]:
        """Give a page of a result."""
        question = _read(asked)
        with self._session() as dbsession, asking.mistakes("q", question.text):
            found = search.find(
                dbsession,
                question.node,
                level=question.level,
                columns=question.column_names,
                sort=question.sort,
                size=max(1, size),
                after=after,
            )
        return {
            "count": found.total,
            "query": query.unparse(question.node),
            "sentence": query.sentence(question.node),
            "level": question.level,
            "columns": [{"name": name} for name in question.column_names],
            "results": [{"id": row.id, "image": row.image_id, "values": dict(row.values)} for row in found.rows] if size else [],
            "after": found.next,
        }

    def facets(self, asked: dict[str, str], fields: str, limit: int) -> list[dict[str, Any]]:
        """Give facets of a result."""
        question = _read(asked)
        with self._session() as dbsession:
            made = asking.read_facets(dbsession, question, [(field, limit) for field in asking.read_fields(fields, "facet")])
        return [
            {
                "path": facet.field.path,
                "keyword": facet.field.keyword,
                "total": facet.total,
                "missing": facet.missing,
                "more": facet.more,
                "values": [{"text": value.text, "count": value.count} for value in facet.values],
            }
            for facet in made
        ]

    def export(self, asked: dict[str, str], kind: str) -> Iterator[bytes]:
        """Give all of a result as a file."""
        question = _read(asked)
        with self._session() as dbsession, asking.mistakes("q", question.text):
            yield from search.export(
                dbsession, question.node, level=question.level, columns=question.column_names, format=kind
            )

    def diff(self, one: int, other: int) -> list[dict[str, Any]]:
        """Give what differs between the headers of two images."""
        with self._session() as dbsession, asking.mistakes("id", ""):
            images = []
            for key in (one, other):
                image = dbsession.get(Image, key)
                if image is None:
                    raise CannotAnswer(f"There is no image {key}.")
                images.append(image)
            return [
                {"path": row.path, "keyword": row.keyword, "vr": row.vr, "one": row.a, "other": row.b}
                for row in search.diff(dbsession, *images)
            ]

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with work(self._engine, read_only=True) as dbsession:
                yield dbsession
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.InterfaceError) as error:
            raise CannotAnswer(
                f"The database cannot be read ({type(error).__name__}); `dicomweb migrate` makes a new one."
            ) from error


class Remote:
    """Asks a server over its API."""

    def __init__(self, url: str, password: Callable[[], str]) -> None:
        """Make a client. url: the address of the application; password: asked when it is needed. Raises CannotAnswer."""
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise CannotAnswer(f"{url} is no address such as http://127.0.0.1:6543.")
        self._url = url.rstrip("/")
        self._password = password
        self._authorization = ""
        self._opener = urllib.request.build_opener(_NoRedirects)

    def close(self) -> None:
        """Nothing stays open."""

    def page(self, asked: dict[str, str], *, size: int, after: str | None) -> dict[str, Any]:
        """Give a page of a result."""
        found = self._json("/api/search", {**asked, "size": str(size), **({"after": after} if after else {})})
        following = urlsplit(found["next"] or "").query
        return {**found, "after": dict(parse_qsl(following)).get("after")}

    def facets(self, asked: dict[str, str], fields: str, limit: int) -> list[dict[str, Any]]:
        """Give facets of a result."""
        known = {name: value for name, value in asked.items() if name in ("q", "level")}
        found: list[dict[str, Any]] = self._json("/api/search/facets", {**known, "fields": fields, "limit": str(limit)})["facets"]
        return found

    def export(self, asked: dict[str, str], kind: str) -> Iterator[bytes]:
        """Give all of a result as a file."""
        known = {name: value for name, value in asked.items() if name != "sort"}
        with self._open("/api/search/export", {**known, "format": kind}) as answer:
            try:
                while chunk := answer.read(_CHUNK):
                    yield chunk
            except (HTTPException, OSError) as error:
                raise CannotAnswer("The server broke off; what was written is not complete.") from error

    def diff(self, one: int, other: int) -> list[dict[str, Any]]:
        """Give what differs between the headers of two images."""
        found: list[dict[str, Any]] = self._json(f"/api/images/{one}/diff/{other}", {})["elements"]
        return found

    def _json(self, path: str, parameters: dict[str, str]) -> Any:
        with self._open(path, parameters) as answer:
            try:
                return orjson.loads(answer.read())
            except (ValueError, HTTPException, OSError) as error:
                raise CannotAnswer(f"{self._url} does not answer as this application does.") from error

    def _open(self, path: str, parameters: dict[str, str]) -> Any:
        given = {name: value for name, value in parameters.items() if value}
        request = urllib.request.Request(f"{self._url}{path}?{urlencode(given)}")  # noqa: S310  Only http and https.
        if self._authorization:
            request.add_header("Authorization", self._authorization)
        try:
            return self._opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 401 and not self._authorization:
                    text = base64.b64encode(f"program:{self._password()}".encode()).decode()
                    self._authorization = f"Basic {text}"
                    return self._open(path, parameters)
                raise self._refusal(error, given) from None
        except (OSError, HTTPException, ValueError) as error:
            raise CannotAnswer(f"{self._url} does not answer: {getattr(error, 'reason', error)}.") from error

    def _refusal(self, error: urllib.error.HTTPError, given: dict[str, str]) -> Exception:
        if error.code == 401:
            return CannotAnswer("This is not the password.")
        try:
            problem = orjson.loads(error.read())["errors"][0]
            sentence = problem["description"]
        except (ValueError, KeyError, IndexError, TypeError, OSError):
            return CannotAnswer(f"{self._url} answered {error.code}.")
        if error.code != 400 or problem["name"] not in given:
            return CannotAnswer(sentence)
        position, length = problem.get("position"), problem.get("length", 0)
        more = problem.get("expected", ""), problem.get("suggestion")
        return asking.Mistake(problem["name"], given[problem["name"]], sentence, position, length, *more)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the password is for the server that was named, and for no other."""

    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        """Refuse."""


def _read(asked: dict[str, str]) -> asking.Question:
    return asking.read_question(
        asked.get("q", ""),
        level=asked.get("level", "image"),
        columns=asked.get("columns", ""),
        sort=asked.get("sort", ""),
        now=datetime.now(UTC),
    )


def pages(answers: Answers, asked: dict[str, str], *, most: int | None) -> Iterator[dict[str, Any]]:
    """Give the pages of a result, up to so many rows; at least one page."""
    after, given = None, 0
    while True:
        size = PAGE if most is None else min(PAGE, most - given)
        page = answers.page(asked, size=size, after=after)
        yield page
        given += len(page["results"])
        after = page["after"]
        if after is None or given == most:
            return


def tabulate(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """Give the lines of a table for a terminal; right: the columns whose texts stand at the right."""
    cells = [[_cut(printable(text)) for text in row] for row in (heads, *rows)]
    widths = [max(_width(row[number]) for row in cells) for number in range(len(heads))]
    for number, row in enumerate(cells):
        padded = []
        for column, text in enumerate(row):
            space = " " * (widths[column] - _width(text))
            padded.append(space + text if column in right else text + space)
        yield "  ".join(padded).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def printable(text: str) -> str:
    """Write a text so that a terminal only shows it: what is no visible character becomes an escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _cut(text: str) -> str:
    if len(text) * 2 <= _WIDEST or _width(text) <= _WIDEST:
        return text
    taken, width = 0, 0
    for letter in text:
        width += _width(letter)
        if width >= _WIDEST:
            break
        taken += 1
    return f"{text[:taken]}…"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text
    )
