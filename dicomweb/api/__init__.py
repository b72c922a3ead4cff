"""The REST API: everything below ``/api``, for programs; people try it out on the page with Swagger UI at ``/api`` itself.

A module here is one kind of thing, such as ``batches``. It makes its services with ``requests.service``, decorates one
function for each operation, and names the services in ``SERVICES``. An operation says

* ``schema``: what a request may say, from ``schemas``; ``validators=(checked,)`` enforces it;
* ``permission``: what one must be allowed; the context comes from the resource tree, so what is missing is a 404;
* ``response_schemas``: each status it answers with, and the shape of the answer; the tests hold every answer to it.

The function reads ``request.validated`` and ``request.context``, calls a verb (``batches``, ``search``, ``removals``) and
gives a dictionary. It holds no rules; what cannot be done is an ``errors.Refused``. Answers never hold an absolute address.
"""

from __future__ import annotations

from typing import Any

import orjson

from dicomweb.api import (
    arrivals,
    batches,
    errors,
    headers,
    images,
    jobs,
    labels,
    openapi,
    search,
    searches,
    series,
    state,
)
from dicomweb.security import Permission

MODULES = (search, searches, labels, batches, arrivals, images, headers, series, jobs, state)


def _render(value: Any, system: dict[str, Any]) -> bytes:
    system["request"].response.content_type = "application/json"
    system["request"].response.charset = None
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def _services(config: Any) -> None:
    for module in MODULES:
        for service in module.SERVICES:
            config.add_cornice_service(service)
    config.add_cornice_service(openapi.specification)


def includeme(config: Any) -> None:
    """Add the API; its error answers are for everything below ``/api``, whoever fails there."""
    # Cornice's own would leave errors as they are, and clash with those of the pages.
    config.add_settings(handle_exceptions=False)
    config.include("cornice")
    config.include("cornice_swagger")
    config.include("pyramid_jinja2")
    config.include(errors)
    config.add_renderer("api_json", lambda info: _render)
    config.include(_services, route_prefix="/api")
    for name, path in (("api.page", "/api"), ("api.page.slash", "/api/")):
        config.add_route(name, path)
        config.add_view(
            openapi.show_page,
            route_name=name,
            request_method="GET",
            renderer="dicomweb:templates/swagger.jinja2",
            permission=Permission.USE,
        )
