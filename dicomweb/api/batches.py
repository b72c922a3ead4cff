"""``/api/batches``: what arrived together, what went wrong, and what can be done about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicomweb import batches
from dicomweb.api import schemas
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, page, service
from dicomweb.batches import BatchGone
from dicomweb.listing import take_page
from dicomweb.models import BATCH_STATUS, Batch, Outcome, escape_path
from dicomweb.security import Permission

ERRORS_SHOWN = 100
_ERRORS = ("error", "conflict")
_NOTICES = ("duplicate", "skipped")
_ID = "The number of the batch."
_BEING_DELETED = "The batch is being deleted."

collection = service("batches", "/batches", "Batches")
one = service("batch", "/batches/{id}", "One batch")
its_errors = service("batch.errors", "/batches/{id}/errors", "The errors of a batch", traverse="/batches/{id}")
its_notices = service("batch.notices", "/batches/{id}/notices", "The notices of a batch", traverse="/batches/{id}")
again = service("batch.retry", "/batches/{id}/retry", "Retry", traverse="/batches/{id}")
kept = service("batch.keep", "/batches/{id}/keep", "Keep", traverse="/batches/{id}")

SERVICES = (collection, one, its_errors, its_notices, again, kept)


@collection.get(
    schema=schemas.request(schemas.BatchFilters),
    validators=(checked,),
    permission=Permission.BATCH_READ,
    tags=["batches"],
    operation_id="list_batches",
    response_schemas=schemas.answers(schemas.page_of(schemas.BatchRow), "A page of batches."),
)
def list_batches(request: Any) -> dict[str, Any]:
    """List batches."""
    wanted = request.validated
    statement = sa.select(Batch)
    if "status" in wanted:
        statement = statement.where(Batch.status == wanted["status"])
    if "has_error" in wanted:
        statement = statement.where(Batch.has_error == wanted["has_error"])
    if "name" in wanted:
        statement = statement.where(Batch.name.icontains(wanted["name"], autoescape=True))
    column, descending = wanted["sort"].removeprefix("-"), wanted["sort"].startswith("-")
    by = getattr(Batch, column)
    order = () if column == "id" else (by.desc() if descending else by.asc(),)
    found = take_page(
        request.dbsession,
        statement,
        Batch.id,
        number=wanted["page"],
        size=wanted["page_size"],
        newest_first=descending,
        order=order,
    )
    return page(request, found, [batch_row(request, batch) for batch in found.rows])


@one.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_READ,
    tags=["batches"],
    operation_id="get_batch",
    response_schemas=schemas.answers(schemas.Batch, "The batch.", 404),
)
def get_batch(request: Any) -> dict[str, Any]:
    """Show one batch with its first hundred errors."""
    return batch_details(request, request.context.batch)


@one.delete(
    schema=schemas.request(schemas.Deletion, identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_DELETE,
    tags=["batches"],
    operation_id="delete_batch",
    response_schemas=schemas.answers(
        schemas.Batch, "The batch, which a worker deletes at delete_at, or now.", 404, 409, 413, 415, status=202
    ),
)
def delete_batch(request: Any) -> dict[str, Any]:
    """Delete a batch with all its images; it can be kept until its delete_at, and is shown as deleting until a worker is through."""
    batch = request.context.batch
    minutes = 0 if request.validated["at_once"] else request.registry.settings["dicomweb"]["cleanup.undo_minutes"]
    if not batches.delete_later(request.dbsession, batch, minutes=minutes, now=datetime.now(UTC)):
        raise Refused(409, _BEING_DELETED if batch.deleting else "The batch is to be deleted already; at_once does it now.")
    request.response.status_int = 202
    return batch_details(request, batch)


@kept.post(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_DELETE,
    tags=["batches"],
    operation_id="keep_batch",
    response_schemas=schemas.answers(schemas.Batch, "The batch, which is kept.", 404, 409, 413, 415),
)
def keep_batch(request: Any) -> dict[str, Any]:
    """Take back that a batch is to be deleted, before its delete_at."""
    batch = request.context.batch
    if not batches.keep(request.dbsession, batch):
        raise Refused(409, _BEING_DELETED if batch.deleting else "The batch is not to be deleted.")
    return batch_details(request, batch)


@again.post(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_RETRY,
    tags=["batches"],
    operation_id="retry_batch",
    response_schemas=schemas.answers(
        schemas.Retried, "The failed files are imported again.", 404, 409, 413, 415, status=202
    ),
)
def retry_batch(request: Any) -> dict[str, Any]:
    """Import the failed files of a batch again. Files in conflict have been imported, and stay as they are."""
    batch = request.context.batch
    if batch.deleting:
        raise Refused(409, _BEING_DELETED)
    chunk_files = request.registry.settings["dicomweb"]["import.chunk_files"]
    try:
        retried = batches.retry(request.dbsession, batch, chunk_files=chunk_files, now=datetime.now(UTC))
    except BatchGone:
        # Somebody else deleted it meanwhile.
        raise Refused(409, _BEING_DELETED) from None
    request.response.status_int = 202
    return {"retried": retried, "batch_url": address(request, "batches", batch.id)}


@its_errors.get(
    schema=schemas.request(schemas.Paging, identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_READ,
    tags=["batches"],
    operation_id="list_batch_errors",
    response_schemas=schemas.answers(schemas.page_of(schemas.FileError), "A page of errors.", 404),
)
def list_batch_errors(request: Any) -> dict[str, Any]:
    """List the files of a batch that could not be imported, or are in conflict with another image."""
    return _outcomes(request, _ERRORS)


@its_notices.get(
    schema=schemas.request(schemas.Paging, identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_READ,
    tags=["batches"],
    operation_id="list_batch_notices",
    response_schemas=schemas.answers(schemas.page_of(schemas.FileError), "A page of notices.", 404),
)
def list_batch_notices(request: Any) -> dict[str, Any]:
    """List the files of a batch that were left out on purpose: duplicates, and files that are no images."""
    return _outcomes(request, _NOTICES)


def _outcomes(request: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    wanted = request.validated
    statement = sa.select(Outcome).where(Outcome.batch_id == request.context.batch.id, Outcome.kind.in_(kinds))
    found = take_page(request.dbsession, statement, Outcome.id, number=wanted["page"], size=wanted["page_size"])
    return page(request, found, [file_error(request, outcome) for outcome in found.rows])


def batch_row(request: Any, batch: Batch) -> dict[str, Any]:
    """Represent a batch in a list."""
    return {
        "id": batch.id,
        "url": address(request, "batches", batch.id),
        "name": batch.name,
        "source": batch.source,
        "path": None if batch.path is None else escape_path(batch.path),
        "status": batch.status,
        "status_text": BATCH_STATUS[batch.status],
        "deleting": batch.deleting,
        "delete_at": batch.delete_at,
        "has_error": batch.has_error,
        "progress": batches.progress(batch),
        "created_at": batch.created_at,
        "modified_at": batch.modified_at,
        "files_count": batch.file_count,
        "done_count": batch.done_count,
        "images_count": batch.image_count,
        "errors_count": batch.error_count,
        "notices_count": batch.notice_count,
        "bytes": batch.byte_count,
        "images_url": f"{request.script_name}/api/images?batch={batch.id}",
        "errors_url": address(request, "batches", batch.id, "errors"),
        "notices_url": address(request, "batches", batch.id, "notices"),
    }


def batch_details(request: Any, batch: Batch) -> dict[str, Any]:
    """Represent a batch with its first errors."""
    first = (
        sa.select(Outcome)
        .where(Outcome.batch_id == batch.id, Outcome.kind.in_(_ERRORS))
        .order_by(Outcome.id)
        .limit(ERRORS_SHOWN)
    )
    return {
        **batch_row(request, batch),
        "errors": [file_error(request, outcome) for outcome in request.dbsession.scalars(first)],
    }


def file_error(request: Any, outcome: Outcome) -> dict[str, Any]:
    """Represent what became of a file that did not simply become an image."""
    return {
        "id": outcome.id,
        "file": escape_path(outcome.path),
        "kind": outcome.kind,
        "code": outcome.code,
        "message": outcome.message,
        "when": outcome.at,
        "size": outcome.size,
        "image": outcome.image_id,
        "image_url": address(request, "images", outcome.image_id),
        "other_image": outcome.other_image_id,
        "other_image_url": address(request, "images", outcome.other_image_id),
    }
