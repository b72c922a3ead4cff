"""What is answered when a request is not carried out: JSON with one sentence for each thing that is wrong.

``{"status": "error", "errors": [{"location", "name", "description"}]}`` with the status that fits, wherever below ``/api``
the request fails: in the lockdown, in a validator, in a view, in the commit. The descriptions say nothing of the inside.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken, URLDecodeError
from pyramid.httpexceptions import HTTPException, HTTPForbidden, HTTPMethodNotAllowed, HTTPNotFound
from pyramid.response import Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = logging.getLogger(__name__)

PREFIX = "/api/"


class Refused(Exception):
    """A view cannot carry out a request.

    status: 4xx. description: why, as a sentence. location, name: which part of the request it is about. more: other members
    of ``schemas.Problem``.
    """

    def __init__(
        self, status: int, description: str, *, location: str = "url", name: str = "", **more: str | int
    ) -> None:
        super().__init__(description)
        self.status = status
        self.problem: dict[str, str | int] = {**problem(description, location=location, name=name), **more}


def problem(description: str, *, location: str = "", name: str = "") -> dict[str, str]:
    """Make one entry of the answer."""
    return {"location": location, "name": name, "description": description}


def refusal(status: int, problems: Iterable[Mapping[str, str | int]], headers: Iterable[tuple[str, str]] = ()) -> Response:
    """Make the answer. A 4xx or 5xx rolls the transaction back."""
    # Not everything in a request is text that UTF-8 can hold; what an error repeats of it need not be exact.
    entries = [
        {
            key: value if isinstance(value, int) else str(value).encode("utf-8", "replace").decode()
            for key, value in entry.items()
        }
        for entry in problems
    ]
    body = orjson.dumps({"status": "error", "errors": entries})
    response = Response(body, status=status, content_type="application/json", charset=None)
    for name, value in headers:
        response.headers[name] = value
    return response


def invalid(request: Any) -> Response:
    """Answer what the validators of a service found."""
    return refusal(request.errors.status, request.errors)


class BelowApi:
    """A view predicate: the request is one to the API, and not to a page."""

    def __init__(self, wanted: bool, config: Any) -> None:
        self._wanted = wanted

    def text(self) -> str:
        """Describe the predicate in messages of the framework."""
        return f"below_api = {self._wanted}"

    phash = text

    def __call__(self, context: Any, request: Any) -> bool:
        # Not path_info, which fails for bytes that are not UTF-8. The page with Swagger UI is at the prefix itself.
        path = request.environ.get("PATH_INFO", "")
        return self._wanted == (path.startswith(PREFIX) and path != PREFIX)


def refused(error: Refused, request: Any) -> Response:
    """Answer what a view refused."""
    return refusal(error.status, [error.problem])


def not_found(error: HTTPNotFound, request: Any) -> Response:
    """Answer that an address leads nowhere."""
    return refusal(404, [problem("There is no such thing.", location="url")])


def forbidden(error: HTTPForbidden, request: Any) -> Response:
    """Answer that the password is needed, or that it does not help."""
    try:
        known = request.identity is not None
    except HTTPForbidden as nobody:
        # With the lockdown off and a foreign Host, the question who is asking has no answer.
        return refusal(403, [problem(str(nobody.detail), location="header", name="Host")])
    if known:
        return refusal(403, [problem("This is not allowed.", location="url")])
    # Browsers open a dialog of their own at this header; a script of a page says who it is and shows the lockdown page.
    script = request.headers.get("X-Requested-With", "").lower() == "xmlhttprequest"
    scheme = "Session" if script else 'Basic realm="DICOM Database", charset="UTF-8"'
    sentence = "The password is needed: HTTP Basic with any user name, or the cookie of a browser session."
    return refusal(401, [problem(sentence, location="header", name="Authorization")], [("WWW-Authenticate", scheme)])


def forged(error: BadCSRFToken | BadCSRFOrigin, request: Any) -> Response:
    """Answer that a change did not come from our own pages."""
    if isinstance(error, BadCSRFOrigin):
        return refusal(
            400, [problem("This change was asked for by another web site.", location="header", name="Origin")]
        )
    sentence = "A change in a browser session needs the token of the session in this header."
    return refusal(400, [problem(sentence, location="header", name="X-CSRF-Token")])


def method_not_allowed(error: HTTPMethodNotAllowed, request: Any) -> Response:
    """Answer which methods an address has."""
    allowed = ", ".join(sorted(error.allow or ()))
    return refusal(
        405,
        [problem(f"This address has only {allowed}.", location="method", name=request.method)],
        [("Allow", allowed)],
    )


def http_error(error: HTTPException, request: Any) -> Response:
    """Answer any other error that has a status, keeping when to try again."""
    kept = [(name, error.headers[name]) for name in ("Retry-After",) if name in error.headers]
    description = error.detail or HTTPStatus(error.status_int).phrase
    return refusal(error.status_int, [problem(str(description))], kept)


def undecodable(error: UnicodeDecodeError, request: Any) -> Response:
    """Answer that an address holds bytes that are not UTF-8."""
    return refusal(400, [problem("The address is not UTF-8.", location="url")])


def database_away(error: Exception, request: Any) -> Response:
    """Answer that the database cannot be reached."""
    log.error("The database cannot be reached (%s).", type(error).__name__)
    return refusal(503, [problem("The database cannot be reached; try again later.")], [("Retry-After", "5")])


def failed(error: Exception, request: Any) -> Response:
    """Answer that the application failed; where goes to the log, but not the text of the error, which may hold header values."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("A request to the API failed with %s at %s", type(error).__name__, where)
    return refusal(500, [problem("The application failed; its log says more.")])


def includeme(config: Any) -> None:
    """Register the answers for everything below ``/api``."""
    config.add_view_predicate("below_api", BelowApi)
    for view, contexts in (
        (not_found, (HTTPNotFound,)),
        (forbidden, (HTTPForbidden,)),
        (forged, (BadCSRFToken, BadCSRFOrigin)),
        (method_not_allowed, (HTTPMethodNotAllowed,)),
        (http_error, (HTTPException,)),
        (undecodable, (UnicodeDecodeError, URLDecodeError)),
        (database_away, (OperationalError, InterfaceError, PoolTimeoutError)),
        (refused, (Refused,)),
        (failed, (Exception,)),
    ):
        for context in contexts:
            config.add_exception_view(view, context=context, below_api=True)
