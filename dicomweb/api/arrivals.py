"""``/api/arrivals``: what waits in the watched folders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicomweb import batches
from dicomweb.api import schemas
from dicomweb.api.batches import batch_details
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, page, service
from dicomweb.listing import take_page
from dicomweb.models import Arrival, escape_path
from dicomweb.security import Permission

_ID = "The number of the arrival."

collection = service("arrivals", "/arrivals", "Arrivals")
one = service("arrival", "/arrivals/{id}", "One arrival")
now = service("arrival.import", "/arrivals/{id}/import", "Import now", traverse="/arrivals/{id}")

SERVICES = (collection, one, now)


@collection.get(
    schema=schemas.request(schemas.Paging),
    validators=(checked,),
    permission=Permission.ARRIVAL_READ,
    tags=["arrivals"],
    operation_id="list_arrivals",
    response_schemas=schemas.answers(schemas.page_of(schemas.Arrival), "A page of arrivals."),
)
def list_arrivals(request: Any) -> dict[str, Any]:
    """List what waits in the watched folders."""
    wanted = request.validated
    found = take_page(
        request.dbsession, sa.select(Arrival), Arrival.id, number=wanted["page"], size=wanted["page_size"]
    )
    return page(request, found, [_arrival(request, arrival) for arrival in found.rows])


@one.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.ARRIVAL_READ,
    tags=["arrivals"],
    operation_id="get_arrival",
    response_schemas=schemas.answers(schemas.Arrival, "The arrival.", 404),
)
def get_arrival(request: Any) -> dict[str, Any]:
    """Show what waits in one folder."""
    return _arrival(request, request.context.arrival)


@now.post(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.ARRIVAL_IMPORT,
    tags=["arrivals"],
    operation_id="import_arrival",
    response_schemas=schemas.answers(
        schemas.Batch, "The batch that the folder became.", 404, 409, 413, 415, status=201
    ),
)
def import_arrival(request: Any) -> dict[str, Any]:
    """Import a waiting folder as it is, because somebody says that it is complete."""
    batch = batches.import_now(request.dbsession, request.context.arrival, now=datetime.now(UTC))
    if batch is None:
        raise Refused(409, "Only a folder can become a batch, and only once.")
    request.response.status_int = 201
    return batch_details(request, batch)


def _arrival(request: Any, arrival: Arrival) -> dict[str, Any]:
    return {
        "id": arrival.id,
        "url": address(request, "arrivals", arrival.id),
        "path": escape_path(arrival.path),
        "is_folder": arrival.is_folder,
        "files_count": arrival.files,
        "bytes": arrival.bytes,
        "reason": arrival.reason,
        "seen_at": arrival.seen_at,
        "changed_at": arrival.changed_at,
        "import_url": address(request, "arrivals", arrival.id, "import") if arrival.is_folder else None,
    }
