"""What is answered when a request is not carried out: ``{"message": "..."}`` with the status that fits (PS3.18 8.6).

Wherever below ``/dicom-web`` the request fails: in the lockdown, in a view, in the commit. The messages say nothing of the inside.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken, URLDecodeError
from pyramid.httpexceptions import HTTPException, HTTPForbidden, HTTPMethodNotAllowed, HTTPNotFound
from pyramid.response import Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dicomweb.rs.uris import PREFIX

log = logging.getLogger(__name__)


class Refused(Exception):
    """A view cannot carry out a request. status: 4xx or 5xx. message: why, as a sentence. headers: of the answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class NotAcceptable(Refused):
    """Nothing of what is there is what the client takes."""

    def __init__(self, message: str) -> None:
        super().__init__(406, message)


def nothing_here() -> Refused:
    """Make the error for UIDs that are not known."""
    return Refused(404, "There is no such study, series or instance.")


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Make the answer. A 4xx or 5xx rolls the transaction back."""
    # What an error repeats of a request need not be text that UTF-8 can hold.
    body = orjson.dumps({"message": message.encode("utf-8", "replace").decode()})
    response = Response(body, status=status, content_type="application/json", charset=None)
    response.headers.update(headers or {})
    return response


class BelowPrefix:
    """A view predicate: the request is one to DICOMweb."""

    def __init__(self, wanted: bool, config: Any) -> None:
        self._wanted = wanted

    def text(self) -> str:
        """Describe the predicate in messages of the framework."""
        return f"below_dicomweb = {self._wanted}"

    phash = text

    def __call__(self, context: Any, request: Any) -> bool:
        # Not path_info, which fails for bytes that are not UTF-8.
        path = request.environ.get("PATH_INFO", "")
        return self._wanted == (path == PREFIX or path.startswith(PREFIX + "/"))


def refused(error: Refused, request: Any) -> Response:
    """Answer what a view refused."""
    return refusal(error.status, error.message, error.headers)


def not_found(error: HTTPNotFound, request: Any) -> Response:
    """Answer that an address leads nowhere."""
    return refusal(404, "There is no such resource.")


def forbidden(error: HTTPForbidden, request: Any) -> Response:
    """Answer that the password is needed, or that it does not help."""
    try:
        known = request.identity is not None
    except HTTPForbidden as nobody:
        # With the lockdown off and a foreign Host, the question who is asking has no answer.
        return refusal(403, str(nobody.detail))
    if known:
        return refusal(403, "This is not allowed.")
    # Browsers open a dialog of their own at this header; a script of a page says who it is.
    script = request.headers.get("X-Requested-With", "").lower() == "xmlhttprequest"
    scheme = "Session" if script else 'Basic realm="DICOM Database", charset="UTF-8"'
    return refusal(401, "The password is needed: HTTP Basic with any user name, or the cookie of a browser session.", {"WWW-Authenticate": scheme})


def forged(error: BadCSRFToken | BadCSRFOrigin, request: Any) -> Response:
    """Answer that a change was asked for by another web site."""
    return refusal(403, "This change was asked for by another web site.")


def method_not_allowed(error: HTTPMethodNotAllowed, request: Any) -> Response:
    """Answer which methods a resource has."""
    allowed = ", ".join(sorted(error.allow or ()))
    return refusal(405, f"This resource has only {allowed}.", {"Allow": allowed})


def http_error(error: HTTPException, request: Any) -> Response:
    """Answer any other error that has a status, keeping when to try again."""
    kept = {name: error.headers[name] for name in ("Retry-After",) if name in error.headers}
    return refusal(error.status_int, str(error.detail or HTTPStatus(error.status_int).phrase), kept)


def undecodable(error: UnicodeDecodeError, request: Any) -> Response:
    """Answer that an address holds bytes that are not UTF-8."""
    return refusal(400, "The address is not UTF-8.")


def database_away(error: Exception, request: Any) -> Response:
    """Answer that the database cannot be reached."""
    log.error("The database cannot be reached (%s).", type(error).__name__)
    return refusal(503, "The database cannot be reached; try again later.", {"Retry-After": "5"})


def failed(error: Exception, request: Any) -> Response:
    """Answer that the application failed; where goes to the log, but not the text of the error, which may hold header values."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("A request to DICOMweb failed with %s at %s", type(error).__name__, where)
    return refusal(500, "The application failed; its log says more.")


def includeme(config: Any) -> None:
    """Register the answers for everything below the prefix."""
    config.add_view_predicate("below_dicomweb", BelowPrefix)
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
            config.add_exception_view(view, context=context, below_dicomweb=True)
