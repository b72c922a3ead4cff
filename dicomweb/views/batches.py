"""Batch pages: images, errors, notices, and what can be done with a batch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pyramid.view import view_config

from dicomweb import asking, batches, jobs, ohif
from dicomweb.asking import Mistake
from dicomweb.listing import Page, take_page
from dicomweb.models import BATCH_STATUS, Batch, Image, Outcome
from dicomweb.resources import BatchResource, ImagesContainer
from dicomweb.search import labels_of, list_images, list_labels, series_of_batch
from dicomweb.security import Permission
from dicomweb.views import SeeOther, page_number, see_other
from dicomweb.views.messages import message
from dicomweb.views.search import search_address, shown_label

IMAGES_OF_A_PAGE = 50
OUTCOMES_OF_A_PAGE = 50
SERIES_SHOWN = 100
CODES_SHOWN = 50
FAILED_JOBS_SHOWN = 5


@view_config(context=BatchResource, renderer="batch.jinja2", permission=Permission.BATCH_READ)
def show_batch(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show a batch and its images."""
    batch_id = context.batch.id
    on_it = labels_of(request.dbsession, "batch", [batch_id]).get(batch_id, ())
    return {
        **batch_status(context, request),
        "message": message(request),
        "labels": [shown_label(name) for name in on_it],
        "known_labels": list_labels(request.dbsession),
    }


@view_config(context=BatchResource, name="status", renderer="_batch.jinja2", permission=Permission.BATCH_READ)
def batch_status(context: BatchResource, request: Any) -> dict[str, Any]:
    """Give what changes on the page of a batch while it is imported."""
    batch, dbsession = context.batch, request.dbsession
    series = series_of_batch(dbsession, batch.id, SERIES_SHOWN + 1)
    images = list_images(dbsession, batch_id=batch.id, number=page_number(request), size=IMAGES_OF_A_PAGE)
    return {
        **_summary(batch),
        "series": series[:SERIES_SHOWN],
        "more_series": len(series) > SERIES_SHOWN,
        "search_address": search_address(f"batch:{batch.id}"),
        "series_addresses": {
            row.series.id: search_address(f"batch:{batch.id}", SeriesInstanceUID=row.series.series_instance_uid) for row in series
        },
        "ohif_addresses": {
            row.series.id: address
            for row in series
            if (address := ohif.viewer_address(row.series.study.study_instance_uid, row.series.series_instance_uid))
        },
        "page": images,
        "failed_jobs": jobs.failed_of_batch(dbsession, batch.id, FAILED_JOBS_SHOWN),
        "running": batch.deleting or batch.status != "DONE",
    }


@view_config(context=BatchResource, name="errors", renderer="errors.jinja2", permission=Permission.BATCH_READ)
def show_errors(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show which files of a batch failed, and why."""
    return {**_outcomes(context, request, ("error", "conflict")), "message": message(request)}


@view_config(context=BatchResource, name="notices", renderer="notices.jinja2", permission=Permission.BATCH_READ)
def show_notices(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show which files of a batch were duplicates or left out on purpose."""
    return _outcomes(context, request, ("duplicate", "skipped"))


def _outcomes(context: BatchResource, request: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    batch, dbsession = context.batch, request.dbsession
    code = request.GET.get("code", "")
    of_batch = (Outcome.batch_id == batch.id, Outcome.kind.in_(kinds))
    grouped = sa.select(Outcome.code, sa.func.count()).where(*of_batch).group_by(Outcome.code)
    codes = dbsession.execute(grouped.order_by(sa.func.count().desc(), Outcome.code).limit(CODES_SHOWN)).all()
    wanted = sa.select(Outcome).where(*of_batch)
    page = take_page(
        dbsession,
        wanted.where(Outcome.code == code) if code else wanted,
        Outcome.id,
        number=page_number(request),
        size=OUTCOMES_OF_A_PAGE,
    )
    return {**_summary(batch), "codes": codes, "code": code, "page": page, "links": _linked_images(request, page), "sum": sum(n for _, n in codes)}


def _linked_images(request: Any, page: Page) -> dict[int, str]:
    """Give the addresses of the images that the outcomes of a page name and that still exist."""
    ids = {key for outcome in page.rows for key in (outcome.image_id, outcome.other_image_id) if key is not None}
    if not ids:
        return {}
    rows = request.dbsession.execute(sa.select(Image.id, Image.batch_id).where(Image.id.in_(ids)))
    return {image_id: f"/batches/{batch_id}/images/{image_id}" for image_id, batch_id in rows}


@view_config(context=BatchResource, name="retry", request_method="POST", permission=Permission.BATCH_RETRY)
def retry_batch(context: BatchResource, request: Any) -> SeeOther:
    """Have the failed files of a batch imported again."""
    chunk_files = request.registry.settings["dicomweb"]["import.chunk_files"]
    try:
        count = batches.retry(request.dbsession, context.batch, chunk_files=chunk_files, now=datetime.now(UTC))
    except batches.BatchGone:
        return see_other(request, context, message="already-deleting")
    return see_other(request, context, message="retry" if count else "nothing-failed")


@view_config(context=BatchResource, name="label", request_method="POST", permission=Permission.LABEL_CHANGE)
def label_batch(context: BatchResource, request: Any) -> SeeOther:
    """Put a label on a batch, or take it off."""
    put = request.POST.get("do") != "remove"
    try:
        name = request.POST.get("label", "")
        asking.change_label_of(request.dbsession, "batch", [context.batch.id], name, put=put, now=datetime.now(UTC))
    except Mistake:
        return see_other(request, f"/batches/{context.batch.id}", message="not-labelled")
    return see_other(request, f"/batches/{context.batch.id}", message="labelled-one" if put else "unlabelled-one")


@view_config(context=BatchResource, name="delete", request_method="GET", renderer="delete.jinja2", permission=Permission.BATCH_DELETE)
def ask_before_delete(context: BatchResource, request: Any) -> dict[str, Any]:
    """Tell exactly what will be deleted, and ask."""
    series = series_of_batch(request.dbsession, context.batch.id, SERIES_SHOWN + 1)
    # What came over the network is nowhere else that we know of.
    mode = request.registry.settings["dicomweb"]["import.mode"] if context.batch.source == "folder" else "move"
    return {**_summary(context.batch), "series_count": len(series), "series_shown": SERIES_SHOWN, "mode": mode, "error": None}


@view_config(context=BatchResource, name="delete", request_method="POST", renderer="delete.jinja2", permission=Permission.BATCH_DELETE)
def delete_batch(context: BatchResource, request: Any) -> Any:
    """Delete a batch: only when what was shown is what there is, and when it was asked for twice."""
    batch = context.batch
    if request.POST.get("sure") != "yes":
        error = "Please tick the box to say that you are sure."
    elif request.POST.get("images") != str(batch.image_count):
        error = "The batch has changed since you were asked; please look again at what will be deleted."
    else:
        begun = batches.delete(request.dbsession, batch, now=datetime.now(UTC))
        return see_other(request, "/", message="deleting" if begun else "already-deleting")
    request.response.status = 400
    return {**ask_before_delete(context, request), "error": error}


@view_config(context=ImagesContainer, permission=Permission.BATCH_READ)
def list_images_of_batch(context: ImagesContainer, request: Any) -> SeeOther:
    """Lead to the page that lists the images."""
    parent = context.__parent__
    return see_other(request, parent if isinstance(parent, BatchResource) else "/")


def _summary(batch: Batch) -> dict[str, Any]:
    return {"batch": batch, "progress": batches.progress(batch), "status_sentence": BATCH_STATUS[batch.status]}
