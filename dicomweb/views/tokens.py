"""Tokens on the settings page: made, with the secret shown once, and revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyramid.view import view_config

from dicomweb import tokens
from dicomweb.languages import gettext
from dicomweb.resources import TokenResource, TokensContainer
from dicomweb.security import Permission
from dicomweb.views import SeeOther, see_other


@view_config(context=TokensContainer, request_method="GET", permission=Permission.SETTINGS_READ)
def list_tokens(context: TokensContainer, request: Any) -> SeeOther:
    """Lead to the page that lists the tokens."""
    return see_other(request, "/settings/access")


@view_config(context=TokensContainer, request_method="POST", renderer="token.jinja2", permission=Permission.TOKEN_CHANGE)
def add_token(context: TokensContainer, request: Any) -> dict[str, Any]:
    """Make a token and show its secret: the answer itself, because no other page may ever be able to show it."""
    fields = {name: request.POST.get(name, "") for name in ("name", "scope", "ends")}
    now = datetime.now(UTC)
    try:
        if fields["scope"] not in ("read", "write"):
            raise tokens.TokenRefused(gettext("Please choose what the token may do."))
        expires_at = tokens.end_of_day(fields["ends"])
        token, secret = tokens.add(
            request.dbsession, fields["name"], writes=fields["scope"] == "write", expires_at=expires_at, now=now
        )
    except tokens.TokenRefused as error:
        request.response.status = 400
        return {"error": str(error), "fields": fields, "token": None}
    return {"token": token, "secret": secret, "error": None}


@view_config(context=TokenResource, name="revoke", request_method="GET", renderer="revoke.jinja2", permission=Permission.TOKEN_CHANGE)
def ask_before_revoking(context: TokenResource, request: Any) -> dict[str, Any]:
    """Tell what will stop working, and ask."""
    return {"token": context.token}


@view_config(context=TokenResource, name="revoke", request_method="POST", permission=Permission.TOKEN_CHANGE)
def revoke_token(context: TokenResource, request: Any) -> SeeOther:
    """Revoke a token."""
    tokens.revoke(request.dbsession, context.token.id)
    return see_other(request, "/settings/access", message="revoked")
