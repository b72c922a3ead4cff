"""Downloads of the search page and the console: the file, how far it is, and a way to stop it.

The file is an ordinary download, which the browser writes to its disk; a page without scripts needs no more. A page with scripts
gives the download a name, asks how far it is by that name, and shows it.
"""

from __future__ import annotations

import re
from typing import Any

from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound, HTTPTooManyRequests
from pyramid.response import Response
from pyramid.view import view_config

from dicomweb.asking import Mistake
from dicomweb.exports import FILE_NAMES, KINDS, MEDIA_TYPES, Export, Exports, TooManyExports
from dicomweb.resources import SearchResource
from dicomweb.security import Permission
from dicomweb.views import see_other
from dicomweb.views.formats import of_level
from dicomweb.views.search import Place, read_place

_NAME = re.compile(r"[0-9a-f]{32}")


@view_config(context=SearchResource, name="export", request_method="GET", permission=Permission.IMAGE_READ)
def export_result(context: SearchResource, request: Any) -> Any:
    """Give all of a result as a file."""
    place, kind, name = Place.of(request.GET), request.GET.get("format", ""), request.GET.get("name", "")
    if kind not in KINDS or (name and not _NAME.fullmatch(name)):
        raise HTTPBadRequest()
    registry = request.registry
    exports: Exports = registry["exports"]
    try:
        export = exports.begin(registry["engine"], registry["storage"], read_place(place), kind, name=name)
    except Mistake:
        # The search page says what is wrong.
        return see_other(request, place.address())
    except TooManyExports as error:
        raise HTTPTooManyRequests(str(error)) from None
    media_type = MEDIA_TYPES[kind]
    return Response(
        app_iter=export,
        content_type=media_type,
        charset="utf-8" if media_type.startswith("text/") else None,
        content_disposition=f'attachment; filename="{FILE_NAMES[kind]}"',
    )


@view_config(context=SearchResource, name="progress", renderer="json", permission=Permission.IMAGE_READ)
def show_progress(context: SearchResource, request: Any) -> dict[str, Any]:
    """Tell how far a download is."""
    export = _named(request, request.GET)
    request.response.cache_control = "no-store"
    return {
        "state": export.state,
        "done": export.done,
        "total": export.total,
        "octets": export.octets,
        "all": None if export.total is None else of_level(export.total, export.level),
    }


@view_config(context=SearchResource, name="stop", request_method="POST", renderer="json", permission=Permission.IMAGE_READ)
def stop_export(context: SearchResource, request: Any) -> dict[str, Any]:
    """Stop a download."""
    _named(request, request.POST).stop()
    return {}


def _named(request: Any, parameters: Any) -> Export:
    exports: Exports = request.registry["exports"]
    export = exports.find(parameters.get("name", ""))
    if export is None:
        raise HTTPNotFound()
    return export
