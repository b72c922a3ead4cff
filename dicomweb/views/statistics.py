"""Numbers over time, as charts and as tables: the script of the page draws the tables that are in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pyramid.view import view_config

from dicomweb import batches, statistics
from dicomweb.resources import StatisticsResource
from dicomweb.security import Permission

DAYS = 30
# Of the growth in these days a point is shown for each so many hours: more make a page that takes long and tells no more.
HOURS = 6
MODALITIES_SHOWN = 20


@view_config(context=StatisticsResource, renderer="statistics.jinja2", permission=Permission.USE)
def show_statistics(context: StatisticsResource, request: Any) -> dict[str, Any]:
    """Show imports by day, modalities, the growth of the storage, and the queue over the last hour."""
    dbsession, now = request.dbsession, datetime.now(UTC)
    modalities = statistics.modalities(dbsession)
    rest = modalities[MODALITIES_SHOWN:]
    return {
        "days": statistics.imports_by_day(dbsession, days=DAYS, now=now),
        "modalities": modalities[:MODALITIES_SHOWN],
        "rest": (len(rest), sum(row.series for row in rest), sum(row.images for row in rest)),
        "growth": statistics.samples_since(dbsession, now - timedelta(days=DAYS), hours=HOURS),
        "hour": statistics.samples_since(dbsession, now - timedelta(hours=1)),
        "totals": batches.totals(dbsession),
    }
