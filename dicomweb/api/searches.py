"""``/api/searches``: searches with a name, and how many each finds now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from pyramid.response import Response

from dicomweb import asking
from dicomweb.api import schemas, search_schemas
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, nothing, service
from dicomweb.api.search import refused
from dicomweb.models import SavedSearch
from dicomweb.search import saved as saved_searches
from dicomweb.security import Permission

_ID = "The number of the saved search."

collection = service("searches", "/searches", "Saved searches")
one = service("searches.one", "/searches/{id}", "One saved search")

SERVICES = (collection, one)


@collection.get(
    schema=schemas.request(),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["saved searches"],
    operation_id="list_searches",
    response_schemas=schemas.answers(search_schemas.SavedSearches, "The saved searches."),
)
def list_searches(request: Any) -> dict[str, Any]:
    """List the saved searches, each with what it finds now."""
    return {"results": [_saved(request, saved) for saved in saved_searches.list_saved(request.dbsession)]}


@collection.post(
    schema=schemas.request(body=search_schemas.NewSearch),
    validators=(checked,),
    permission=Permission.SEARCH_SAVE,
    tags=["saved searches"],
    operation_id="save_search",
    response_schemas=schemas.answers(search_schemas.SavedSearch, "The saved search.", 413, 415, status=201),
)
def save_search(request: Any) -> dict[str, Any]:
    """Save a search under a name; one that has the name already is replaced."""
    wanted = request.validated
    try:
        columns = asking.read_columns(",".join(wanted["columns"])) if wanted["columns"] else ()
        with asking.mistakes("query", wanted["query"]):
            saved = saved_searches.save_search(
                request.dbsession,
                wanted["name"],
                wanted["query"],
                level=wanted["level"],
                columns=[column.name for column in columns],
                now=datetime.now(UTC),
            )
    except asking.Mistake as mistake:
        raise refused(mistake, "body") from None
    request.response.status_int = 201
    return _saved(request, saved)


@one.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["saved searches"],
    operation_id="get_search",
    response_schemas=schemas.answers(search_schemas.SavedSearch, "The saved search.", 404),
)
def get_search(request: Any) -> dict[str, Any]:
    """Show a saved search and how many it finds now."""
    return _saved(request, request.context.search)


@one.delete(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.SEARCH_SAVE,
    tags=["saved searches"],
    operation_id="delete_search",
    response_schemas=schemas.answers(None, "The saved search is forgotten.", 404, 413, 415, status=204),
)
def delete_search(request: Any) -> Response:
    """Forget a saved search."""
    if not saved_searches.delete_saved(request.dbsession, request.context.search.name):
        raise Refused(404, "There is no such thing.")
    return nothing()


def _saved(request: Any, saved: SavedSearch) -> dict[str, Any]:
    try:
        with asking.mistakes("query", saved.query):
            count: int | None = saved_searches.count_saved(request.dbsession, saved, now=datetime.now(UTC))
    except asking.Mistake:
        count = None
    asked = {"q": saved.query, "level": saved.level, "columns": ",".join(saved.columns)}
    parameters = urlencode({name: value for name, value in asked.items() if value})
    return {
        "id": saved.id,
        "url": address(request, "searches", saved.id),
        "name": saved.name,
        "query": saved.query,
        "level": saved.level,
        "columns": list(saved.columns),
        "created_at": saved.created_at,
        "count": count,
        "search_url": f"{request.script_name}/api/search?{parameters}",
    }
