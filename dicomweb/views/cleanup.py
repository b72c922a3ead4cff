"""Cleaning up: source folders of imported batches, deletions that can still be taken back, and what is kept of failed files.

Nothing is removed by a link: each action is asked for on a page that tells what it will do, and done by a worker.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pyramid.httpexceptions import HTTPNotFound
from pyramid.view import view_config
from sqlalchemy.orm import Session

from dicomweb import batches, imports
from dicomweb.imports import CannotClean, Cleanable
from dicomweb.imports.cleaning import AT_ONCE
from dicomweb.languages import gettext
from dicomweb.listing import take_page
from dicomweb.models import Batch, Cleanup
from dicomweb.resources import BatchResource, SettingsResource
from dicomweb.security import Permission
from dicomweb.views import SeeOther, page_number, see_other
from dicomweb.views.dashboard import batches_place
from dicomweb.views.messages import message
from dicomweb.views.places import parameters_of

BATCHES_OF_A_PAGE = 20
LEAVING_SHOWN = 50
KEPT_SHOWN = 20
PAST_SHOWN = 20
_DAYS = re.compile(r"[0-9]{1,5}")
_ID = re.compile(r"[1-9][0-9]{0,17}")


@view_config(context=SettingsResource, name="cleanup", renderer="cleanup.jinja2", permission=Permission.SETTINGS_READ)
def show_cleanup(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Show what can be cleaned up, what is leaving, and what is kept."""
    dbsession, settings, now = request.dbsession, request.registry.settings["dicomweb"], datetime.now(UTC)
    by_reference = settings["import.mode"] == "reference"
    wanted = imports.cleanable(now=now)
    totals = Cleanable(0, 0, 0) if by_reference else imports.count_cleanable(dbsession, now=now)
    leaving = sa.select(Batch).where(Batch.delete_at.is_not(None)).order_by(Batch.delete_at).limit(LEAVING_SHOWN)
    past = (
        sa.select(Cleanup, Batch).join(Batch, Batch.id == Cleanup.batch_id).order_by(Cleanup.asked_at.desc(), Cleanup.batch_id.desc()).limit(PAST_SHOWN)
    )
    return {
        "by_reference": by_reference,
        "locked_roots": imports.read_only_roots(settings),
        "source_days": settings["cleanup.source_days"],
        "undo_minutes": settings["cleanup.undo_minutes"],
        "totals": totals,
        "page": take_page(
            dbsession, wanted, Batch.id, number=page_number(request.GET), size=BATCHES_OF_A_PAGE, count=totals.batches, newest_first=True
        ),
        "leaving": dbsession.scalars(leaving).all(),
        "kept_shown": KEPT_SHOWN,
        "kept": imports.kept_files(dbsession, limit=KEPT_SHOWN),
        "past": dbsession.execute(past).all(),
        "message": message(request),
    }


@view_config(
    context=SettingsResource, name="clean", request_method="GET", renderer="clean.jinja2", permission=Permission.SOURCE_REMOVE
)
def ask_before_cleaning(context: SettingsResource, request: Any) -> dict[str, Any]:
    """Tell exactly what will be removed, and ask."""
    dbsession, settings, now = request.dbsession, request.registry.settings["dicomweb"], datetime.now(UTC)
    batch, days = _wanted(dbsession, request.GET)
    if batch is not None:
        reason = imports.why_not(settings, batch)
        totals = Cleanable(1, batch.image_count, batch.byte_count)
    else:
        reason = gettext("Files are indexed where they are (import.mode is reference).") if settings["import.mode"] == "reference" else None
        totals = imports.count_cleanable(dbsession, older_than=timedelta(days=days or 0), now=now)
        if not totals.batches and reason is None:
            reason = gettext("There is no source folder that can be removed.")
    return {
        "batch": batch,
        "days": days,
        "totals": totals,
        "at_once": AT_ONCE,
        "reason": reason,
        "locked_roots": imports.read_only_roots(settings),
        "error": None,
    }


@view_config(
    context=SettingsResource, name="clean", request_method="POST", renderer="clean.jinja2", permission=Permission.SOURCE_REMOVE
)
def clean(context: SettingsResource, request: Any) -> Any:
    """Have source folders removed: only when what was shown is what there is."""
    dbsession, settings, now = request.dbsession, request.registry.settings["dicomweb"], datetime.now(UTC)
    batch, days = _wanted(dbsession, request.POST)
    asked = _asked(context, request)
    if request.POST.get("batches") != str(asked["totals"].batches):
        request.response.status = 400
        return {**asked, "error": gettext("There are more or fewer batches than you were shown; please look again at what will be removed.")}
    if batch is not None:
        try:
            imports.ask_clean(dbsession, batch, settings, now=now)
        except CannotClean as error:
            request.response.status = 400
            return {**asked, "error": str(error)}
        return see_other(request, "/settings/cleanup", message="cleaning")
    many = imports.clean_all(dbsession, settings, older_than=timedelta(days=days or 0), now=now)
    return see_other(request, "/settings/cleanup", message="cleaning" if many else "nothing-to-clean")


def _asked(context: SettingsResource, request: Any) -> dict[str, Any]:
    batch, days = _wanted(request.dbsession, request.POST)
    request.GET.update({"batch": str(batch.id)} if batch is not None else {"days": str(days)})
    return ask_before_cleaning(context, request)


def _wanted(dbsession: Session, given: Any) -> tuple[Batch | None, int | None]:
    """Read which batch is meant, or how old those are that are meant."""
    if "batch" in given:
        text = given["batch"]
        batch = dbsession.get(Batch, int(text)) if _ID.fullmatch(text) else None
        if batch is None:
            raise HTTPNotFound(gettext("There is no such batch."))
        return batch, None
    text = given.get("days", "0").strip()
    return None, int(text) if _DAYS.fullmatch(text) else 0


@view_config(context=BatchResource, name="keep", request_method="POST", permission=Permission.BATCH_DELETE)
def keep_batch(context: BatchResource, request: Any) -> SeeOther:
    """Take the deletion of a batch back."""
    kept = batches.keep(request.dbsession, context.batch)
    done = "kept" if kept else "not-leaving"
    if "list" in request.POST:
        return see_other(request, batches_place(parameters_of(request.POST["list"])).here(done=done))
    return see_other(request, f"/batches/{context.batch.id}", message=done)
