"""Pages for what goes wrong. None of them asks the database, and none shows the text of an exception."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from pyramid.csrf import BadCSRFOrigin, BadCSRFToken
from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import HTTPException
from pyramid.response import Response
from pyramid.view import exception_view_config, forbidden_view_config, notfound_view_config

from dicomweb.languages import N_, gettext
from dicomweb.security import SESSION_COOKIE
from dicomweb.views import SeeOther, see_other

log = logging.getLogger(__name__)

_TEXTS = {
    400: (N_("This request cannot be understood"), N_("Go back and try again.")),
    401: (N_("The password is needed"), N_("The user name may be anything; the password was missing or wrong.")),
    403: (N_("This is not allowed"), N_("You may not see or do this.")),
    404: (N_("There is nothing here"), N_("It may have been deleted, or the address has a typing error.")),
    405: (N_("This cannot be done here"), N_("Go back and use the buttons of the page.")),
    429: (N_("That is too much at once"), N_("Try again in a moment.")),
    500: (N_("Something went wrong"), N_("The error was noted in the log of the web server. Nothing that you asked for was changed.")),
    503: (N_("The database does not answer"), N_("Please try again in a moment. Nothing that you asked for was changed.")),
}


@notfound_view_config(append_slash=False, renderer="failure.jinja2")
def show_not_found(context: Any, request: Any) -> dict[str, Any]:
    """Say that there is nothing."""
    return _failure(request, 404)


@forbidden_view_config(renderer="failure.jinja2")
def show_forbidden(context: Any, request: Any) -> Any:
    """Lead to the lockdown page, or say that this is not allowed."""
    if not request.registry.settings["dicomweb"]["lockdown.mode"]:
        # The only reason there can be: the request was made to another name than this machine's.
        return _failure(request, 403, N_("With the lockdown off, only requests to an address of this machine itself are answered."))
    if request.identity is not None:
        return _failure(request, 403)
    if request.authorization is not None:
        request.response.headers["WWW-Authenticate"] = 'Basic realm="DICOM Database", charset="UTF-8"'
        return _failure(request, 401)
    if request.headers.get("Tus-Resumable"):
        # The script of the upload page says it in the words of that page.
        return Response(gettext("Your session has ended."), status=401, content_type="text/plain", charset="UTF-8")
    if request.headers.get("HX-Request"):
        # A fragment cannot show the lockdown page; the whole page, loaded again, can.
        return Response(status=401, headers={"HX-Refresh": "true"}, content_type="text/plain")
    if request.method not in ("GET", "HEAD"):
        return see_other(request, "/login", message="again")
    path = quote(request.environ["PATH_INFO"].encode("latin-1")) + (f"?{request.query_string}" if request.query_string else "")
    return SeeOther(location="/login" if path == "/" else f"/login?next={quote(path, safe='/')}")


@exception_view_config(context=BadCSRFToken, renderer="failure.jinja2")
def show_old_page(context: Any, request: Any) -> Any:
    """Say that a page was open for too long."""
    if request.environ["PATH_INFO"] == "/login":
        return see_other(request, "/login", message="again")
    return _failure(request, 400, N_("The page was open for too long. Go back, load it again, and try again."))


@exception_view_config(context=BadCSRFOrigin, renderer="failure.jinja2")
def show_foreign_request(context: Any, request: Any) -> dict[str, Any]:
    """Say that another web site asked."""
    return _failure(request, 400, N_("This change was asked for by another web site, and was not made."))


@exception_view_config(context=URLDecodeError, renderer="failure.jinja2")
def show_unreadable_address(context: Any, request: Any) -> dict[str, Any]:
    """Say that the address is no text."""
    return _failure(request, 400)


@exception_view_config(context=HTTPException, renderer="failure.jinja2")
def show_http_failure(context: Any, request: Any) -> Any:
    """Show any other answer that is an error; leave redirects as they are."""
    if context.status_code < 400:
        return context
    request.response.headers.update({name: context.headers[name] for name in ("Retry-After", "Allow") if name in context.headers})
    return _failure(request, context.status_code, str(context.detail) if context.status_code == 429 else None)


@exception_view_config(context=sa.exc.OperationalError, renderer="failure.jinja2")
@exception_view_config(context=sa.exc.InterfaceError, renderer="failure.jinja2")
@exception_view_config(context=sa.exc.TimeoutError, renderer="failure.jinja2")
def show_database_away(context: Any, request: Any) -> dict[str, Any]:
    """Say that the database does not answer."""
    log.error("The database does not answer (%s).", type(context).__name__, exc_info=context)
    request.response.headers["Retry-After"] = "5"
    return _failure(request, 503)


@exception_view_config(context=Exception, renderer="failure.jinja2")
def show_error(context: Exception, request: Any) -> dict[str, Any]:
    """Say that something went wrong."""
    log.error("A page failed with %s.", type(context).__name__, exc_info=context)
    return _failure(request, 500)


def _failure(request: Any, status: int, sentence: str | None = None) -> dict[str, Any]:
    request.response.status = status
    title, text = _TEXTS.get(status, _TEXTS[500 if status >= 500 else 400])
    return {"status": status, "title": title, "sentence": sentence or text, "inside": SESSION_COOKIE in request.cookies}
