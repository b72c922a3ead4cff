"""What is the same in every request: checked parameters, bodies nobody asked for, pages of lists."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import colander
import orjson
from cornice import Service
from pyramid.response import Response

from dicomweb.api import errors
from dicomweb.api.schemas import Query
from dicomweb.listing import Page
from dicomweb.resources import Root

# More than any body the API takes.
MAX_BODY = 64 * 1024


def service(name: str, path: str, description: str, *, traverse: str | None = None) -> Service:
    """Make a service below ``/api`` whose context is the place in the tree that ``traverse`` names; by default its own path."""
    return Service(
        name=f"api.{name}",
        path=path,
        description=description,
        factory=Root,
        traverse=traverse or path,
        renderer="api_json",
        error_handler=errors.invalid,
    )


def checked(request: Any, schema: colander.MappingSchema, **_options: Any) -> None:
    """Validate query string and body of a request against its schema into ``request.validated``.

    Every parameter or member that is unknown, empty or given twice is an error, so that a misspelt filter cannot pass for
    none; so is a body nobody asked for.
    """
    query: Query = schema["querystring"]
    names = [node.name for node in query.children]
    given = request.GET
    for name in dict.fromkeys(given):
        if name not in names:
            known = f"the parameters are {', '.join(names)}" if names else "there are none here"
            request.errors.add("querystring", name, f"There is no such parameter; {known}.")
        elif len(given.getall(name)) > 1:
            request.errors.add("querystring", name, "The parameter is given more than once.")
        elif given[name] == "":
            request.errors.add("querystring", name, "The parameter is empty.")
    if not request.errors:
        _deserialize(request, "querystring", query, dict(given))
    if request.method not in ("GET", "HEAD"):
        _read_body(request, schema.get("body"))


def _deserialize(request: Any, location: str, schema: colander.MappingSchema, given: dict[str, Any]) -> None:
    try:
        request.validated.update(schema.deserialize(given))
    except colander.Invalid as error:
        for name, message in error.asdict(translate=request.localizer.translate).items():
            request.errors.add(location, name.partition(".")[2], message if message.endswith(".") else f"{message}.")


def _read_body(request: Any, schema: colander.MappingSchema | None) -> None:
    # Read to one byte beyond the limit: a chunked body does not say how long it is.
    body = request.body_file.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        request.errors.add("body", "", f"The body is larger than {MAX_BODY} bytes.")
        request.errors.status = 413
        return
    if body and request.content_type != "application/json":
        wanted = "a JSON object" if schema is not None else "no body, or a JSON object without members"
        request.errors.add("header", "Content-Type", f"This takes {wanted}.")
        request.errors.status = 415
        return
    if not body and schema is None:
        return
    try:
        members = orjson.loads(body)
    except ValueError:
        request.errors.add("body", "", "The body is not JSON.")
        return
    if not isinstance(members, dict):
        request.errors.add("body", "", "The body is not a JSON object.")
        return
    names = [] if schema is None else [node.name for node in schema.children]
    for name in members:
        if name not in names:
            known = f"the members are {', '.join(names)}" if names else "this takes none"
            request.errors.add("body", name, f"There is no such member; {known}.")
    if schema is not None and not request.errors:
        _deserialize(request, "body", schema, members)


def page(request: Any, found: Page, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Answer a page of a list: the addresses of its neighbours keep all parameters.

    The page before one beyond the end is the last one, so that following ``previous`` always leads back.
    """

    def address(number: int) -> str:
        parameters = {**request.GET, "page": str(number)}
        return f"{request.path}?{urlencode(parameters)}"

    return {
        "count": found.count,
        "next": address(found.number + 1) if found.number < found.pages else None,
        "previous": address(min(found.number - 1, found.pages)) if found.number > 1 else None,
        "results": results,
    }


def address(request: Any, kind: str, key: int | None, *more: str) -> str | None:
    """Give the address of a thing, relative to the host; None when there is no thing."""
    return None if key is None else "/".join((f"{request.script_name}/api", kind, str(key), *more))


def nothing() -> Response:
    """Answer that it is done, and that there is nothing to say."""
    return Response(status=204, content_type=None, charset=None)
