"""The lockdown page: one password."""

from __future__ import annotations

import re
from typing import Any

from pyramid.httpexceptions import HTTPTooManyRequests
from pyramid.security import NO_PERMISSION_REQUIRED, forget, remember
from pyramid.view import view_config

from dicomweb.languages import gettext
from dicomweb.resources import Root
from dicomweb.security import Permission
from dicomweb.views import see_other
from dicomweb.views.messages import message

# A path of this application: one slash, then neither a second one nor a backslash, which browsers take for one.
_OWN_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


def own_path(text: str) -> str:
    """Give a text when it is a path of this application, else the path of the dashboard."""
    return text if _OWN_PATH.fullmatch(text) and not text.startswith(("/login", "/logout")) else "/"


@view_config(context=Root, name="login", request_method="GET", renderer="login.jinja2", permission=NO_PERMISSION_REQUIRED)
def show_login(context: Root, request: Any) -> Any:
    """Ask for the password."""
    target = own_path(request.GET.get("next", "/"))
    if request.identity is not None:
        return see_other(request, target)
    return {"next": target, "message": message(request), "error": None}


@view_config(context=Root, name="login", request_method="POST", renderer="login.jinja2", permission=NO_PERMISSION_REQUIRED)
def log_in(context: Root, request: Any) -> Any:
    """Begin a session."""
    target = own_path(request.POST.get("next", "/"))
    if not request.registry.settings["dicomweb"]["lockdown.mode"]:
        return see_other(request, target)
    try:
        right = request.registry["lock"].opens(request.POST.get("password", ""), request.remote_addr or "")
    except HTTPTooManyRequests as refused:
        request.response.status = 429
        request.response.headers["Retry-After"] = refused.headers["Retry-After"]
        return {"next": target, "message": None, "error": refused.detail}
    if not right:
        request.response.status = 403
        return {"next": target, "message": None, "error": gettext("This is not the password.")}
    response = see_other(request, target)
    response.headers.extend(remember(request, "session"))
    return response


@view_config(context=Root, name="logout", request_method="POST", permission=Permission.SESSION_END)
def log_out(context: Root, request: Any) -> Any:
    """End the session."""
    response = see_other(request, "/login", message="ended")
    response.headers.extend(forget(request))
    # Frames may stay in the browser's cache; not beyond the session.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response
