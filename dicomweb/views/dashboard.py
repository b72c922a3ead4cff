"""The dashboard: what waits, what is being done, what there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pyramid.view import view_config

from dicomweb import batches, jobs, watching
from dicomweb.listing import take_page
from dicomweb.models import Arrival, Batch
from dicomweb.resources import BatchesContainer, Root
from dicomweb.security import Permission
from dicomweb.views import page_number, see_other
from dicomweb.views.messages import message

BATCHES_OF_A_PAGE = 25
# More is no dashboard; the API lists all of them.
ARRIVALS_SHOWN = 20


@view_config(context=Root, renderer="dashboard.jinja2", permission=Permission.USE)
def show_dashboard(context: Root, request: Any) -> dict[str, Any]:
    """Show everything at a glance."""
    return {**dashboard_status(context, request), "message": message(request)}


@view_config(context=Root, name="status", renderer="_dashboard.jinja2", permission=Permission.USE)
def dashboard_status(context: Root, request: Any) -> dict[str, Any]:
    """Give what changes on the dashboard."""
    dbsession, settings, now = request.dbsession, request.registry.settings["dicomweb"], datetime.now(UTC)
    arrivals = take_page(dbsession, sa.select(Arrival), Arrival.id, number=1, size=ARRIVALS_SHOWN)
    totals = batches.totals(dbsession)
    page = take_page(
        dbsession, sa.select(Batch), Batch.id, number=page_number(request), size=BATCHES_OF_A_PAGE, count=totals.batches, newest_first=True
    )
    return {
        "watcher": watching.status(settings, now=now),
        "alive": len(jobs.alive_workers(dbsession, now=now)),
        "workers": settings["workers.count"],
        "jobs": jobs.counts(dbsession),
        "arrivals": arrivals,
        "totals": totals,
        "page": page,
        "progress": batches.progress,
        "folder": settings["watch.folders"][0],
        "sentinel": settings["watch.sentinel"],
    }


@view_config(context=BatchesContainer, permission=Permission.BATCH_READ)
def list_batches(context: BatchesContainer, request: Any) -> Any:
    """Lead to the dashboard, which lists the batches."""
    return see_other(request, "/")
