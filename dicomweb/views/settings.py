"""The settings pages that show how the application is set up and how it does: watcher, workers, jobs, storage, settings, versions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.view import view_config

from dicomweb import batches, jobs, watching
from dicomweb.languages import gettext
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
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@view_config(context=SettingsResource, renderer="settings.jinja2", permission=Permission.SETTINGS_READ)
def show_settings(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show how the application does: watcher, workers, jobs, storage."""
    disk = request.registry["storage"].usage()
    return {
        **settings_status(context, request),
        "totals": batches.totals(request.dbsession),
        "disk": {"free": disk[1], "total": disk[2], "filled": 1 - disk[1] / disk[2] if disk[2] else 0.0},
        "storage": request.registry["storage"].root,
        "database": request.dbsession.get_bind().dialect.name,
        "database_bytes": _database_bytes(request.dbsession),
        "message": message(request),
    }


@view_config(context=SettingsResource, name="status", renderer="_settings.jinja2", permission=Permission.SETTINGS_READ)
def settings_status(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Give what changes on the settings page."""
    dbsession, settings, now = request.dbsession, request.registry.settings["dicomweb"], datetime.now(UTC)
    failed = sa.select(Job).where(Job.status == "failed")
    running = sa.select(Job).where(Job.status == "running").limit(WORKERS_SHOWN)
    alive: list[Worker] = jobs.alive_workers(dbsession, now=now)
    return {
        "watcher": watching.status(settings, now=now),
        "wish": watching.read_wish(dbsession),
        "alive": alive[:WORKERS_SHOWN],
        "alive_count": len(alive),
        "workers": settings["workers.count"],
        "doing": {job.worker: job for job in dbsession.scalars(running)},
        "jobs": jobs.counts(dbsession),
        "job_status": JOB_STATUS,
        "page": take_page(dbsession, failed, Job.id, number=page_number(request.GET), size=JOBS_OF_A_PAGE, newest_first=True),
    }


@view_config(context=SettingsResource, name="watcher", request_method="POST", permission=Permission.WATCHER_CHANGE)
def change_watcher(context: SettingsResource, request: Any) -> SeeOther:
    """Want the watcher to stop, to start, or to look once more."""
    now, do = datetime.now(UTC), request.POST.get("do", "")
    match do:
        case "stop" | "start":
            watching.wish_rest(request.dbsession, do == "stop", now=now)
        case "rescan":
            watching.wish_rescan(request.dbsession, now=now)
        case _:
            raise HTTPBadRequest("The watcher can be stopped, started, and told to look once more.")
    return see_other(request, "/settings", message=f"watcher-{do}")


@view_config(context=SettingsResource, name="queue", renderer="queue.jinja2", permission=Permission.JOB_READ)
def show_queue(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show the jobs of one status."""
    dbsession = request.dbsession
    status = request.GET.get("status", "")
    counts = jobs.counts(dbsession)
    if status not in JOB_STATUS:
        status = next((name for name in ("running", "queued", "failed") if counts[name]), "queued")
    wanted = sa.select(Job).where(Job.status == status)
    # What comes next is shown first where something is to come, what came last where it is over.
    over = status in ("done", "failed")
    page = take_page(
        dbsession, wanted, Job.id, number=page_number(request.GET), size=JOBS_OF_A_PAGE, count=counts[status], newest_first=over
    )
    return {"page": page, "counts": counts, "status": status, "job_status": JOB_STATUS, "message": message(request)}


@view_config(context=SettingsResource, name="retry-failed", request_method="POST", permission=Permission.JOB_RETRY)
def retry_failed_jobs(context: SettingsResource, request: Any) -> SeeOther:
    """Try all failed jobs again."""
    again = jobs.retry_failed(request.dbsession, now=datetime.now(UTC))
    return see_other(request, "/settings/queue", message="jobs-retry" if again else "job-not-failed")


@view_config(context=JobResource, name="retry", request_method="POST", permission=Permission.JOB_RETRY)
def retry_job(context: JobResource, request: Any) -> SeeOther:
    """Try a failed job again."""
    again = jobs.retry(request.dbsession, context.job, now=datetime.now(UTC))
    return see_other(request, "/settings", message="job-retry" if again else "job-not-failed")


@view_config(context=SettingsResource, name="values", renderer="values.jinja2", permission=Permission.SETTINGS_READ)
def show_values(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show the settings in force and where each comes from, the versions, and where errors are reported."""
    settings = request.registry.settings["dicomweb"]
    return {
        "rows": [(row, _shown(row, settings[row.name]), settings.source(row.name)) for row in SETTINGS],
        "sentry": urlsplit(settings["sentry.dsn"]).hostname if settings["sentry.dsn"] else None,
        "versions": versions(request.dbsession),
        "message": message(request),
    }


def versions(dbsession: Any) -> list[tuple[str, str]]:
    """Name what the application is made of, and which version of it runs."""
    dialect = dbsession.get_bind().dialect
    server = sa.text("SHOW server_version" if dialect.name == "postgresql" else "SELECT sqlite_version()")
    return [
        ("DICOM Database", metadata.version("dicomweb")),
        (gettext("Schema of the database"), dbsession.scalar(sa.text("SELECT version_num FROM alembic_version")) or "unknown"),
        (DATABASES.get(dialect.name, dialect.name), dbsession.scalar(server)),
        ("Python", platform.python_version()),
        *((name, metadata.version(name)) for name in ("pydicom", "pyramid", "SQLAlchemy", "kombu")),
        (gettext("System"), f"{platform.system()} {platform.release()}"),
    ]


def _database_bytes(dbsession: Any) -> int:
    if dbsession.get_bind().dialect.name == "postgresql":
        return int(dbsession.scalar(sa.text("SELECT pg_database_size(current_database())")))
    return int(dbsession.scalar(sa.text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")))


def _shown(row: Setting, value: Any) -> str:
    if row.secret:
        return gettext("set (hidden)") if value else gettext("not set")
    match row.kind, value:
        case "switch", _:
            return gettext("on") if value else gettext("off")
        case "bytes", _:
            return size(value)
        case "seconds" | "minutes" | "days", _:
            return f"{value:g}"
        case _, tuple():
            return (os.pathsep if row.kind == "folders" else " ").join(str(part) for part in value)
        case _:
            return str(value) if value != "" else gettext("not set")
