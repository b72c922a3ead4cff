"""The pages, found by traversal: a view says its context (a resource), perhaps a name, its template and its permission.

A GET page reads and renders; a change is a POST that ends in a redirect with ``see_other``. **A view holds no rules**: it
calls a verb of ``batches`` or ``jobs``. What a page shows again and again comes from a template whose name begins with an
underscore, and is the same in the whole page and in the fragment that htmx fetches.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.tweens import INGRESS

from dicomweb.assets import AssetsMissing, asset_url
from dicomweb.languages import counted, gettext, ngettext, script_texts, spoken
from dicomweb.models import BATCH_STATUS, IMAGE_STATUS, OUTCOME_KIND
from dicomweb.views import formats
from dicomweb.views.looks import look_of

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
# The names of built files change with their content.
STATIC_SECONDS = 365 * 86400
# Nine digits times any page size fit into every database's offset.
_PAGE = re.compile(r"[1-9][0-9]{0,8}")

log = logging.getLogger(__name__)


class SeeOther(HTTPSeeOther):
    """A redirect to a path of this application.

    WebOb would complete the path with the Host header of the request, which the client chooses; a path is enough for
    every browser (RFC 9110 10.2.2).
    """

    def _abs_headerlist(self, environ: dict[str, Any]) -> list[tuple[str, str]]:
        return self._headerlist


def see_other(request: Any, place: Any, *names: str, message: str | None = None) -> SeeOther:
    """Redirect to a resource (or a path) of this application, which then shows a message from ``messages.MESSAGES``."""
    path = place if isinstance(place, str) else request.resource_path(place, *names)
    return SeeOther(location=f"{path}?done={message}" if message else path)


def page_number(parameters: Mapping[str, str]) -> int:
    """Give the number of the page of a list that ``page`` asks for; what is no such number is the first page."""
    text = parameters.get("page", "1")
    return int(text) if _PAGE.fullmatch(text) else 1


def add_globals(event: Any) -> None:
    """Give every template what the layout needs; nothing of it asks the database, so that error pages work without it."""
    request = event.get("request")
    if request is None:
        return
    settings = request.registry.settings["dicomweb"]
    event["asset_url"] = _asset_url
    event["look"] = look_of(request)
    event["language"] = spoken()
    event["script_texts"] = _script_texts(spoken())
    event["lockdown"] = settings["lockdown.mode"]
    event["here"] = request.environ["PATH_INFO"]
    event["now"] = datetime.now(UTC)
    event["batch_sentences"] = BATCH_STATUS
    event["image_sentences"] = IMAGE_STATUS
    event["outcome_sentences"] = OUTCOME_KIND


class TextsOfTemplates:
    """What ``_`` and ``trans`` of the templates say, for pyramid_jinja2, which knows a domain for each package."""

    def __init__(self, domain: str) -> None:
        pass

    @staticmethod
    def gettext(text: str) -> str:
        """Say a text in the language of the page."""
        return gettext(text)

    @staticmethod
    def ngettext(one: str, many: str, number: int) -> str:
        """Say the text for a number in the language of the page."""
        return ngettext(one, many, number)


@cache
def _script_texts(language: str) -> Markup:
    return htmlsafe_json_dumps(script_texts(language), ensure_ascii=False)


def _asset_url(name: str) -> str:
    try:
        return asset_url(name)
    except AssetsMissing as error:
        # A page without its style is better than no page.
        log.error("%s", error)
        return f"/static/dist/{name}"


def includeme(config: Any) -> None:
    """Add the pages, the templates' filters and the static files."""
    config.add_settings(
        {
            "jinja2.undefined": "strict",
            "jinja2.trim_blocks": True,
            "jinja2.lstrip_blocks": True,
            "jinja2.filters": {name: getattr(formats, name) for name in formats.FILTERS},
            "jinja2.globals": {"counted": counted},
            "jinja2.i18n.gettext": TextsOfTemplates,
            "jinja2.newstyle": True,
        }
    )
    config.include("pyramid_jinja2")
    config.add_jinja2_search_path(str(TEMPLATES))
    config.add_subscriber(add_globals, "pyramid.events.BeforeRender")
    # Outside the exception views, whose pages are in a language too.
    config.add_tween("dicomweb.views.looks.language_tween", under=INGRESS)
    config.add_static_view("static", "dicomweb:static", cache_max_age=STATIC_SECONDS)
    config.include("dicomweb.views.ohif")
    config.scan("dicomweb.views")
