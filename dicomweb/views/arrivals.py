"""What waits in the watched folders: the button that says it is complete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyramid.view import view_config

from dicomweb import batches
from dicomweb.resources import ArrivalResource
from dicomweb.security import Permission
from dicomweb.views import SeeOther, see_other


@view_config(context=ArrivalResource, name="import", request_method="POST", permission=Permission.ARRIVAL_IMPORT)
def import_now(context: ArrivalResource, request: Any) -> SeeOther:
    """Import a waiting folder now."""
    batch = batches.import_now(request.dbsession, context.arrival, now=datetime.now(UTC))
    return see_other(request, "/", message="import" if batch else "not-importable")
