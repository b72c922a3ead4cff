"""Who gets in: the password, the browsers that gave it, and the tokens of programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyramid.httpexceptions import HTTPTooManyRequests
from pyramid.security import remember
from pyramid.view import view_config

from dicomweb import passwords, sessions, tokens
from dicomweb.languages import gettext
from dicomweb.passwords import PasswordRefused
from dicomweb.resources import SettingsResource
from dicomweb.security import Permission, session_token
from dicomweb.views import SeeOther, see_other
from dicomweb.views.formats import browser_name
from dicomweb.views.messages import message


@view_config(context=SettingsResource, name="access", renderer="access.jinja2", permission=Permission.SETTINGS_READ)
def show_access(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show the password's form, the sessions and the tokens."""
    token = session_token(request)
    mine = sessions.hash_of(token)[: sessions.NAME_LETTERS] if token else ""
    running = sessions.every(request.dbsession, now=datetime.now(UTC))
    return {
        "sessions": [
            {"row": row, "name": sessions.name_of(row), "browser": browser_name(row.browser), "mine": sessions.name_of(row) == mine}
            for row in running
        ],
        "from_environment": bool(request.registry.settings["dicomweb"]["lockdown.password"]),
        "shortest": passwords.SHORTEST,
        "password_error": None,
        "tokens": tokens.every(request.dbsession),
        "fields": {"name": "", "scope": "read", "ends": ""},
        "message": message(request),
    }


@view_config(
    context=SettingsResource, name="password", request_method="POST", renderer="access.jinja2", permission=Permission.PASSWORD_CHANGE
)
def change_password(context: SettingsResource, request: Any) -> Any:
    """Set another password for whoever knows the one in force; every other browser has to give it again."""
    settings = request.registry.settings["dicomweb"]
    old, new = request.POST.get("old", ""), request.POST.get("new", "")
    status = 400
    try:
        if settings["lockdown.password"]:
            raise PasswordRefused(gettext("The password is given by lockdown.password (DICOMWEB_PASSWORD); change it there."))
        if not settings["lockdown.mode"]:
            raise PasswordRefused(gettext("The lockdown is off, so no password is in force."))
        if not request.registry["lock"].opens(old, request.remote_addr or ""):
            status = 403
            raise PasswordRefused(gettext("The old password is not right; nothing was changed."))
        if new != request.POST.get("again", ""):
            raise PasswordRefused(gettext("The new password was not given twice in the same way."))
        passwords.set_password(settings, new)
    except PasswordRefused as refused:
        request.response.status = status
        return {**show_access(context, request), "password_error": str(refused)}
    except HTTPTooManyRequests as refused:
        request.response.status = 429
        request.response.headers["Retry-After"] = refused.headers["Retry-After"]
        return {**show_access(context, request), "password_error": refused.detail}
    sessions.end_all(request.dbsession)
    response = see_other(request, "/settings/access", message="password")
    if request.identity.kind == "session":
        response.headers.extend(remember(request, "session"))
    return response


@view_config(context=SettingsResource, name="end-session", request_method="POST", permission=Permission.SESSION_END)
def end_session(context: SettingsResource, request: Any) -> SeeOther:
    """End one session; the browser has to give the password again."""
    ended = sessions.end_named(request.dbsession, request.POST.get("session", ""))
    return see_other(request, "/settings/access", message="session-ended" if ended else "session-gone")


@view_config(context=SettingsResource, name="end-sessions", request_method="POST", permission=Permission.SESSION_END)
def end_other_sessions(context: SettingsResource, request: Any) -> SeeOther:
    """End all sessions but that of this browser."""
    ended = sessions.end_all(request.dbsession, but_of=session_token(request))
    return see_other(request, "/settings/access", message="sessions-ended" if ended else "session-gone")
