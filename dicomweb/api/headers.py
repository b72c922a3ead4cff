"""``/api/headers``: which header elements there are."""

from __future__ import annotations

from typing import Any

from dicomweb import search
from dicomweb.api import schemas
from dicomweb.api.requests import checked, page, service
from dicomweb.security import Permission

collection = service("headers", "/headers", "Header elements", traverse="/images")

SERVICES = (collection,)


@collection.get(
    schema=schemas.request(schemas.HeaderFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["headers"],
    operation_id="list_headers",
    response_schemas=schemas.answers(schemas.page_of(schemas.HeaderElement), "A page of header elements."),
)
def list_headers(request: Any) -> dict[str, Any]:
    """List the header elements that some image has, nested and private ones too, in the order of their paths."""
    wanted = request.validated
    found = search.list_headers(
        request.dbsession, text=wanted.get("text", ""), number=wanted["page"], size=wanted["page_size"]
    )
    return page(request, found, [_element(row) for row in found.rows])


def _element(row: search.HeaderRow) -> dict[str, Any]:
    return {
        "path": row.path,
        "keyword": row.keyword,
        "vr": row.vr,
        "images_count": row.images,
        "examples": list(row.examples),
    }
