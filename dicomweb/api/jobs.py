"""``/api/jobs``: what the workers owe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicomweb import jobs
from dicomweb.api import schemas
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, page, service
from dicomweb.listing import take_page
from dicomweb.models import JOB_STATUS, Job
from dicomweb.security import Permission

_ID = "The number of the job."

collection = service("jobs", "/jobs", "Jobs")
one = service("job", "/jobs/{id}", "One job")
again = service("job.retry", "/jobs/{id}/retry", "Retry", traverse="/jobs/{id}")

SERVICES = (collection, one, again)


@collection.get(
    schema=schemas.request(schemas.JobFilters),
    validators=(checked,),
    permission=Permission.JOB_READ,
    tags=["jobs"],
    operation_id="list_jobs",
    response_schemas=schemas.answers(schemas.page_of(schemas.Job), "A page of jobs."),
)
def list_jobs(request: Any) -> dict[str, Any]:
    """List jobs; those that are done are forgotten after a while."""
    wanted = request.validated
    statement = sa.select(Job)
    if "status" in wanted:
        statement = statement.where(Job.status == wanted["status"])
    if "batch" in wanted:
        statement = statement.where(Job.batch_id == wanted["batch"])
    newest_first = wanted["sort"] == "-id"
    found = take_page(
        request.dbsession, statement, Job.id, number=wanted["page"], size=wanted["page_size"], newest_first=newest_first
    )
    return page(request, found, [_job(request, job) for job in found.rows])


@one.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.JOB_READ,
    tags=["jobs"],
    operation_id="get_job",
    response_schemas=schemas.answers(schemas.Job, "The job.", 404),
)
def get_job(request: Any) -> dict[str, Any]:
    """Show one job."""
    return _job(request, request.context.job)


@again.post(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.JOB_RETRY,
    tags=["jobs"],
    operation_id="retry_job",
    response_schemas=schemas.answers(
        schemas.Job, "The job, which waits for a worker again.", 404, 409, 413, 415, status=202
    ),
)
def retry_job(request: Any) -> dict[str, Any]:
    """Try a failed job again from the beginning."""
    job = request.context.job
    if not jobs.retry(request.dbsession, job, now=datetime.now(UTC)):
        raise Refused(409, "The job has not failed.")
    request.response.status_int = 202
    return _job(request, job)


def _job(request: Any, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "url": address(request, "jobs", job.id),
        "kind": job.kind,
        "status": job.status,
        "status_text": JOB_STATUS[job.status],
        "batch": job.batch_id,
        "batch_url": address(request, "batches", job.batch_id),
        "attempts": job.attempts,
        "worker": job.worker,
        "error": job.error,
        "created_at": job.created_at,
        "due_at": job.due_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "retry_url": address(request, "jobs", job.id, "retry") if job.status == "failed" else None,
    }
