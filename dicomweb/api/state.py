"""``/api/watcher``: how the application is, for programs that look after it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicomweb import batches, jobs, watching
from dicomweb.api import schemas
from dicomweb.api.requests import checked, service
from dicomweb.models import Arrival, escape_path
from dicomweb.security import Permission

watcher = service("watcher", "/watcher", "The state of the application", traverse="/")

SERVICES = (watcher,)


@watcher.get(
    schema=schemas.request(),
    validators=(checked,),
    permission=Permission.USE,
    tags=["state"],
    operation_id="get_state",
    response_schemas=schemas.answers(schemas.State, "The state."),
)
def get_state(request: Any) -> dict[str, Any]:
    """Show the watcher, the workers that are alive, the queue, and what there is in all."""
    settings = request.registry.settings["dicomweb"]
    now = datetime.now(UTC)
    status = watching.status(settings, now=now)
    return {
        "watcher": {
            "active": status.active,
            "sentence": status.sentence,
            "pid": status.pid,
            "since": status.since,
            "seen_at": status.seen,
            "folders": [
                {"path": escape_path(root.path), "ok": root.ok, "sentence": root.sentence} for root in status.roots
            ],
        },
        "workers": [
            {"name": worker.name, "started_at": worker.started_at, "seen_at": worker.seen_at}
            for worker in jobs.alive_workers(request.dbsession, now=now)
        ],
        "workers_expected": settings["workers.count"],
        "queue": jobs.counts(request.dbsession),
        "waiting": request.dbsession.scalar(sa.select(sa.func.count(Arrival.id))) or 0,
        "totals": batches.totals(request.dbsession)._asdict(),
    }
