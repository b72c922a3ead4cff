"""The settings page: watcher, workers, jobs, tokens, the settings in force, storage."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pyramid.view import view_config

from dicomweb import batches, jobs, tokens, watching
from dicomweb.listing import take_page
from dicomweb.models import JOB_STATUS, Job, Worker
from dicomweb.resources import JobResource, SettingsResource
from dicomweb.security import Permission
from dicomweb.settings import SETTINGS, Setting
from dicomweb.views import SeeOther, page_number, see_other
from dicomweb.views.formats import size
from dicomweb.views.messages import message

JOBS_OF_A_PAGE = 20
WORKERS_SHOWN = 50


@view_config(context=SettingsResource, renderer="settings.jinja2", permission=Permission.SETTINGS_READ)
def show_settings(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show how the application is set up and how it does."""
    settings = request.registry.settings["dicomweb"]
    _used, free, total = request.registry["storage"].usage()
    return {
        **settings_status(context, request),
        "rows": [(row, _shown(row, settings[row.name]), settings.source(row.name)) for row in SETTINGS],
        "totals": batches.totals(request.dbsession),
        "disk": {"free": free, "total": total, "filled": 1 - free / total if total else 0.0},
        "storage": request.registry["storage"].root,
        "database": request.dbsession.get_bind().dialect.name,
        "tokens": tokens.every(request.dbsession),
        "fields": {"name": "", "scope": "read", "ends": ""},
        "message": message(request),
    }


@view_config(context=SettingsResource, name="status", renderer="_settings.jinja2", permission=Permission.SETTINGS_READ)
def settings_status(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Give what changes on the settings page."""
    dbsession, settings, now = request.dbsession, request.registry.settings["dicomweb"], datetime.now(UTC)
    failed = sa.select(Job).where(Job.status == "failed")
    running = sa.select(Job.worker, Job.kind, Job.batch_id).where(Job.status == "running").limit(WORKERS_SHOWN)
    alive: list[Worker] = jobs.alive_workers(dbsession, now=now)
    return {
        "watcher": watching.status(settings, now=now),
        "alive": alive[:WORKERS_SHOWN],
        "alive_count": len(alive),
        "workers": settings["workers.count"],
        "folders": settings["watch.folders"],
        "doing": {worker: (kind, batch_id) for worker, kind, batch_id in dbsession.execute(running)},
        "jobs": jobs.counts(dbsession),
        "job_status": JOB_STATUS,
        "page": take_page(dbsession, failed, Job.id, number=page_number(request), size=JOBS_OF_A_PAGE, newest_first=True),
    }


@view_config(context=JobResource, name="retry", request_method="POST", permission=Permission.JOB_RETRY)
def retry_job(context: JobResource, request: Any) -> SeeOther:
    """Try a failed job again."""
    again = jobs.retry(request.dbsession, context.job, now=datetime.now(UTC))
    return see_other(request, "/settings", message="job-retry" if again else "job-not-failed")


def _shown(row: Setting, value: Any) -> str:
    if row.secret:
        return "set (hidden)" if value else "not set"
    match row.kind, value:
        case "switch", _:
            return "on" if value else "off"
        case "bytes", _:
            return size(value)
        case "seconds", _:
            return f"{value:g}"
        case _, tuple():
            return (os.pathsep if row.kind == "folders" else " ").join(str(part) for part in value)
        case _:
            return str(value) if value != "" else "not set"
