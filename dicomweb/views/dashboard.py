"""The dashboard: what waits, what is being done, what there is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pyramid.view import view_config

from dicomweb import batches, jobs, watching
from dicomweb.languages import gettext
from dicomweb.listing import take_page
from dicomweb.models import BATCH_SOURCE, Arrival
from dicomweb.resources import BatchesContainer, Root
from dicomweb.search import batch_lists
from dicomweb.search.batch_lists import BatchFilter
from dicomweb.search.finding import labels_of
from dicomweb.security import Permission
from dicomweb.views import see_other
from dicomweb.views.messages import message
from dicomweb.views.places import ListPlace, begin_of, chosen, end_of
from dicomweb.views.search import shown_label

BATCHES_OF_A_PAGE = 25
# More is no dashboard; the API lists all of them.
ARRIVALS_SHOWN = 20
_FILTERS = ("name", "status", "source", "label", "errors", "since", "until")


def batches_place(parameters: Mapping[str, str]) -> ListPlace:
    """Read which batches an address asks for."""
    return ListPlace(
        parameters, "/", filters=_FILTERS, sorts=batch_lists.SORTS, usual="-id", largest_first=("id", "images", "size", "created", "modified", "errors")
    )


def batch_filter(place: ListPlace) -> BatchFilter:
    """Give what is wanted of the batches; what a filter cannot be does not narrow."""
    return BatchFilter(
        name=place["name"],
        status=chosen(place["status"], batch_lists.STATUSES),
        source=chosen(place["source"], BATCH_SOURCE),
        label=place["label"],
        errors={"yes": True, "no": False}.get(place["errors"]),
        since=begin_of(place["since"]),
        until=end_of(place["until"]),
    )


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
    place = batches_place(request.GET)
    page = batch_lists.list_batches(
        dbsession,
        batch_filter(place),
        sort=place.sort,
        descending=place.descending,
        number=place.number,
        size=BATCHES_OF_A_PAGE,
        total=totals.batches,
    )
    on_them = labels_of(dbsession, "batch", [batch.id for batch in page.rows])
    return {
        "watcher": watching.status(settings, now=now),
        "alive": len(jobs.alive_workers(dbsession, now=now)),
        "workers": settings["workers.count"],
        "jobs": jobs.counts(dbsession),
        "arrivals": arrivals,
        "totals": totals,
        "place": place,
        "page": page,
        "labels": {id_: [shown_label(name) for name in names] for id_, names in on_them.items()},
        "known_labels": [(name, name) for name in batch_lists.label_names(dbsession)],
        "statuses": [(status, gettext(status)) for status in batch_lists.STATUSES],
        "sources": BATCH_SOURCE,
        "source_names": [(source, gettext(source)) for source in BATCH_SOURCE],
        "progress": batches.progress,
        "folder": settings["watch.folders"][0],
        "sentinel": settings["watch.sentinel"],
    }


@view_config(context=BatchesContainer, permission=Permission.BATCH_READ)
def list_batches(context: BatchesContainer, request: Any) -> Any:
    """Lead to the dashboard, which lists the batches."""
    return see_other(request, "/")
