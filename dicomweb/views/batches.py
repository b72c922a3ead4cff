"""Batch pages: images, errors, notices, and what can be done with a batch."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from pyramid.httpexceptions import HTTPNotFound
from pyramid.view import view_config

from dicomweb import asking, batches, imports, jobs, ohif, query, search
from dicomweb.asking import Mistake
from dicomweb.imports import reasons
from dicomweb.languages import gettext
from dicomweb.listing import Page, take_page
from dicomweb.models import BATCH_SOURCE, BATCH_STATUS, Batch, Cleanup, Image, Outcome, Series
from dicomweb.resources import BatchResource, ImagesContainer
from dicomweb.search import labels_of, list_images, list_labels, quality, series_of_batch
from dicomweb.search.identity import OFTEN_WRITTEN_INTO
from dicomweb.security import Permission
from dicomweb.views import SeeOther, page_number, see_other
from dicomweb.views.fates import FATES, HARMLESS, fates_of
from dicomweb.views.formats import hex_lines
from dicomweb.views.messages import message
from dicomweb.views.search import search_address, shown_label

IMAGES_OF_A_PAGE = 50
OUTCOMES_OF_A_PAGE = 50
SERIES_SHOWN = 100
CODES_SHOWN = 50
FAILED_JOBS_SHOWN = 5
SENDERS_SHOWN = 5
VARYING_SHOWN = 60
# Larger batches are judged when somebody asks: it takes about 75 microseconds an image.
JUDGED_UNASKED = 5000
ID = re.compile(r"[1-9][0-9]{0,17}")


class ShownCode(NamedTuple):
    """A reason why files did not become images: its code, what it means, and how many files and bytes it is about.

    retryable: how many of them can be tried again.
    """

    code: str
    reason: reasons.Reason
    files: int
    size: int
    retryable: int


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
    cleanup = dbsession.get(Cleanup, batch.id) if batch.source == "folder" else None
    refused = imports.why_not(request.registry.settings["dicomweb"], batch) is not None
    series = series_of_batch(dbsession, batch.id, SERIES_SHOWN + 1)
    images = list_images(dbsession, batch_id=batch.id, number=page_number(request.GET), size=IMAGES_OF_A_PAGE)
    return {
        **_summary(batch),
        "timeline": batches.timeline(dbsession, batch, now=datetime.now(UTC)),
        "cleanup": cleanup,
        "can_retry": batches.can_retry(dbsession, batch),
        "can_clean": not refused and (cleanup is None or cleanup.status in ("kept", "refused")),
        "senders": batches.senders(dbsession, batch, SENDERS_SHOWN + 1),
        "senders_shown": SENDERS_SHOWN,
        "source_sentence": BATCH_SOURCE.get(batch.source, batch.source),
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
        "varies_addresses": {row.series.id: f"/batches/{batch.id}/varies?series={row.series.id}" for row in series},
        "page": images,
        "judged_unasked": images.number == 1 and batch.image_count <= JUDGED_UNASKED,
        "failed_jobs": jobs.failed_of_batch(dbsession, batch.id, FAILED_JOBS_SHOWN),
        "running": batch.deleting or batch.status != "DONE",
    }


@view_config(context=BatchResource, name="quality", renderer="quality.jinja2", permission=Permission.IMAGE_READ)
def show_quality(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show what is odd about the data of a batch, and who they tell about."""
    return {**_summary(context.batch), **quality_notes(context, request)}


@view_config(context=BatchResource, name="quality-notes", renderer="_quality.jinja2", permission=Permission.IMAGE_READ)
def quality_notes(context: BatchResource, request: Any) -> dict[str, Any]:
    """Give the same as a part of the page of the batch."""
    batch = context.batch
    judged = quality.judge_batch(request.dbsession, batch.id)
    images = f"batch:{batch.id}"
    return {
        "batch": batch,
        "quality": judged,
        "present": [(one, search_address(f"{images} {one.tag}:exists")) for one in judged.identity],
        "place_address": {
            (place.kind, place.id): "" if place.kind == "element" else f"/{'studies' if place.kind == 'study' else 'series'}/{place.id}"
            for note in judged.notes
            for place in note.places
        },
        "note_address": {
            "burned-in": search_address(images, BurnedInAnnotation="YES"),
            "no-class": search_address(f"{images} SOPClassUID:missing"),
            "no-frame-of-reference": search_address(f"{images} FrameOfReferenceUID:missing ImagePositionPatient:exists"),
            "perhaps-burned-in": search_address(f"{images} -BurnedInAnnotation:(YES NO) Modality:({' '.join(OFTEN_WRITTEN_INTO)})"),
            "conflict": f"/batches/{batch.id}/errors?code=conflict",
            "missing-uid": f"/batches/{batch.id}/errors?code=missing-uid",
        },
    }


@view_config(context=BatchResource, name="varies", renderer="_varies.jinja2", permission=Permission.IMAGE_READ)
def varies_in_series(context: BatchResource, request: Any) -> dict[str, Any]:
    """Give what varies among the images of one series of a batch, as a part of its page."""
    number = request.GET.get("series", "")
    series = request.dbsession.get(Series, int(number)) if ID.fullmatch(number) else None
    if series is None:
        raise HTTPNotFound()
    return varying(request, f"batch:{context.batch.id}..{context.batch.id}", series)


def varying(request: Any, query_text: str, series: Series) -> dict[str, Any]:
    """Give what varies among the images of a series that a query finds besides."""
    address = search_address(query_text, SeriesInstanceUID=series.series_instance_uid)
    whole = address.replace("/search?", "/search/varies?", 1)
    try:
        uid = query.equals(query.resolve("SeriesInstanceUID"), series.series_instance_uid)
        found = search.varies(request.dbsession, query.all_of([asking.read_query(query_text), uid]))
    except (Mistake, search.SearchError) as error:
        return {"series": series, "varying": [], "constant": 0, "more": 0, "address": whole, "error": str(error)}
    changing = [(query.field_at(one.path).name, one) for one in found if not one.constant]
    return {
        "series": series,
        "varying": changing[:VARYING_SHOWN],
        "constant": len(found) - len(changing),
        "more": max(0, len(changing) - VARYING_SHOWN),
        "address": whole,
        "error": "",
    }


@view_config(context=BatchResource, name="errors", renderer="errors.jinja2", permission=Permission.BATCH_READ)
def show_errors(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show which files of a batch failed, and why."""
    return {**_outcomes(context, request, ("error", "conflict")), "message": message(request)}


@view_config(context=BatchResource, name="bytes", renderer="bytes.jinja2", permission=Permission.BATCH_READ)
def show_first_bytes(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show the beginning of a file that failed."""
    return {**_summary(context.batch), **first_bytes(context, request)}


@view_config(context=BatchResource, name="bytes-part", renderer="_bytes.jinja2", permission=Permission.BATCH_READ)
def first_bytes(context: BatchResource, request: Any) -> dict[str, Any]:
    """Give the same as a part of the page of the errors."""
    number, batch = request.GET.get("file", ""), context.batch
    outcome = request.dbsession.get(Outcome, int(number)) if ID.fullmatch(number) else None
    if outcome is None or outcome.batch_id != batch.id:
        raise HTTPNotFound()
    try:
        data, error = reasons.first_bytes(request.registry.settings["dicomweb"], batch, outcome), ""
    except reasons.Refused as refused:
        data, error = b"", str(refused)
    return {"outcome": outcome, "lines": list(hex_lines(data)), "count": len(data), "error": error}


@view_config(context=BatchResource, name="notices", renderer="notices.jinja2", permission=Permission.BATCH_READ)
def show_notices(context: BatchResource, request: Any) -> dict[str, Any]:
    """Show which files of a batch were duplicates or left out on purpose."""
    return _outcomes(context, request, ("duplicate", "skipped"))


def _outcomes(context: BatchResource, request: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    batch, dbsession = context.batch, request.dbsession
    code = request.GET.get("code", "")
    of_batch = (Outcome.batch_id == batch.id, Outcome.kind.in_(kinds))
    sums = (sa.func.count(), sa.func.coalesce(sa.func.sum(Outcome.size), 0), sa.func.sum(sa.case((batches.retryable(), 1), else_=0)))
    grouped = sa.select(Outcome.code, *sums).where(*of_batch).group_by(Outcome.code)
    counted = dbsession.execute(grouped.order_by(sa.func.count().desc(), Outcome.code).limit(CODES_SHOWN)).all()
    codes = [ShownCode(one, reasons.REASONS.get(one, reasons.OTHER), count, int(size), int(again)) for one, count, size, again in counted]
    wanted = sa.select(Outcome).where(*of_batch)
    page = take_page(
        dbsession,
        wanted.where(Outcome.code == code) if code else wanted,
        Outcome.id,
        number=page_number(request.GET),
        size=OUTCOMES_OF_A_PAGE,
    )
    return {
        **_summary(batch),
        "codes": codes,
        "code": code,
        "reason": next((one for one in codes if one.code == code), None),
        "page": page,
        "links": _linked_images(request, page),
        "sum": sum(one.files for one in codes),
        "retryable": sum(one.retryable for one in codes),
    }


def _linked_images(request: Any, page: Page) -> dict[int, str]:
    """Give the addresses of the images that the outcomes of a page name and that still exist."""
    ids = {key for outcome in page.rows for key in (outcome.image_id, outcome.other_image_id) if key is not None}
    if not ids:
        return {}
    rows = request.dbsession.execute(sa.select(Image.id, Image.batch_id).where(Image.id.in_(ids)))
    return {image_id: f"/batches/{batch_id}/images/{image_id}" for image_id, batch_id in rows}


@view_config(context=BatchResource, name="retry", request_method="POST", permission=Permission.BATCH_RETRY)
def retry_batch(context: BatchResource, request: Any) -> SeeOther:
    """Have the failed files of a batch imported again, all or those that failed for one reason."""
    chunk_files = request.registry.settings["dicomweb"]["import.chunk_files"]
    code = request.POST.get("code") or None
    try:
        count = batches.retry(request.dbsession, context.batch, chunk_files=chunk_files, now=datetime.now(UTC), code=code)
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
    settings = request.registry.settings["dicomweb"]
    return {
        **_summary(context.batch),
        "series_count": len(series),
        "series_shown": SERIES_SHOWN,
        "fates": fates_of(request.dbsession, settings, [context.batch]),
        "fate_sentences": FATES,
        "harmless": HARMLESS,
        "shared": batches.shared_files(request.dbsession, context.batch),
        "undo_minutes": 0 if context.batch.delete_at else settings["cleanup.undo_minutes"],
        "error": None,
    }


@view_config(context=BatchResource, name="delete", request_method="POST", renderer="delete.jinja2", permission=Permission.BATCH_DELETE)
def delete_batch(context: BatchResource, request: Any) -> Any:
    """Delete a batch: only when what was shown is what there is, and when it was asked for twice."""
    batch = context.batch
    if request.POST.get("sure") != "yes":
        error = gettext("Please tick the box to say that you are sure.")
    elif request.POST.get("images") != str(batch.image_count):
        error = gettext("The batch has changed since you were asked; please look again at what will be deleted.")
    else:
        # Who asks again for what is to be deleted anyway wants it now.
        at_once = batch.delete_at is not None or request.POST.get("when") == "now"
        minutes = 0 if at_once else request.registry.settings["dicomweb"]["cleanup.undo_minutes"]
        begun = batches.delete_later(request.dbsession, batch, minutes=minutes, now=datetime.now(UTC))
        if begun and minutes:
            # Its page says when that will be, and offers to keep it.
            return see_other(request, f"/batches/{batch.id}")
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
