"""How pages look to one browser: theme, density and dates, kept in a cookie of that browser and nowhere else.

The choices are attributes of the ``html`` element, which styles and scripts look at; so they hold on every page, without any style
or script in it, also on the lockdown page and on those for errors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pyramid.view import view_config

from dicomweb.resources import SettingsResource
from dicomweb.security import Permission
from dicomweb.views import SeeOther, see_other
from dicomweb.views.looks import CHOICES, LOOK_COOKIE, LOOK_SECONDS, look_of, written
from dicomweb.views.messages import message


class Choice(NamedTuple):
    """One question of the page: its name, its words, and (value, words, is it chosen) of each answer."""

    name: str
    words: str
    answers: list[tuple[str, str, bool]]


@view_config(
    context=SettingsResource, name="appearance", request_method="GET", renderer="appearance.jinja2", permission=Permission.SETTINGS_READ
)
def show_appearance(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show what can be chosen."""
    look = look_of(request)._asdict()
    choices = [
        Choice(name, words, [(value, meaning, value == look[name]) for value, meaning in answers.items()])
        for name, (words, answers) in CHOICES.items()
    ]
    return {"choices": choices, "message": message(request)}


@view_config(context=SettingsResource, name="appearance", request_method="POST", permission=Permission.USE)
def choose_appearance(context: SettingsResource, request: Any) -> SeeOther:
    """Keep what was chosen in a cookie."""
    response = see_other(request, "/settings/appearance", message="look")
    response.set_cookie(
        LOOK_COOKIE,
        written({name: request.POST.get(name, "") for name in CHOICES}),
        max_age=LOOK_SECONDS,
        path="/",
        samesite="Lax",
        secure=request.scheme == "https",
    )
    return response
