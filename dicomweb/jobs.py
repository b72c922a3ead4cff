"""The job table: what the workers owe.

A row is the truth; the broker message that names it is only a doorbell. ``enqueue`` writes the row in the caller's
transaction and rings after its commit; a doorbell that was lost, doubled or never rung changes nothing but the waiting time,
because every worker also looks at the table now and then (``claim_next``) and sweeps it (``sweep``).

A worker holds a job by a lease that it renews. ``finish`` belongs in the transaction that does the work: it fails with
``LeaseLost`` when another worker has taken the job meanwhile, which rolls the work back. So a job has an effect exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import kombu
import kombu.pools
import sqlalchemy as sa
from kombu.exceptions import KombuError
from sqlalchemy.orm import Session

from dicomweb.db import change
from dicomweb.languages import N_
from dicomweb.models import Job, Worker

log = logging.getLogger(__name__)

QUEUE = kombu.Queue("dicomweb.jobs", durable=True)
# A doorbell that is not answered may ring again soon; the claim of the job decides who answers.
TRANSPORT_OPTIONS = {
    "visibility_timeout": 60,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
    "socket_keepalive": True,
}
# How long a queued job may wait for its doorbell before a sweep rings again.
RING_AGAIN_SECONDS = 10
ALIVE_SECONDS = 30
_BACK_OFF_SECONDS = (1, 5, 20, 60, 300)
# The error of a job whose last attempt ended with its worker.
WORKER_DIED = N_("The worker died while it was on this job.")


class LeaseLost(Exception):
    """Another worker holds the job now; what was done for it must be rolled back."""


class Doorbell:
    """Tells idle workers that there is something to do."""

    def __init__(self, broker_url: str) -> None:
        self._connection = kombu.Connection(broker_url, transport_options=TRANSPORT_OPTIONS, connect_timeout=1)

    def ring(self, job_ids: Iterable[int]) -> bool:
        """Publish a message for each job; never raises, because the sweep rings again. Tells whether all went out."""
        try:
            with kombu.pools.producers[self._connection].acquire(block=True, timeout=2) as producer:
                for job_id in job_ids:
                    producer.publish(
                        {"job": job_id},
                        serializer="json",
                        routing_key=QUEUE.name,
                        declare=[QUEUE],
                        retry=True,
                        retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.1},
                    )
            return True
        except (KombuError, OSError, *self._connection.connection_errors, *self._connection.channel_errors) as error:
            log.warning(
                "The broker cannot be reached (%s); workers will find the jobs a little later.", type(error).__name__
            )
            return False


def enqueue(
    dbsession: Session,
    kind: str,
    payload: dict[str, Any],
    *,
    now: datetime,
    batch_id: int | None = None,
    delay: float = 0.0,
) -> Job:
    """Owe a job: a row in the caller's transaction, and a doorbell after its commit."""
    job = Job(
        kind=kind,
        payload=payload,
        batch_id=batch_id,
        status="queued",
        attempts=0,
        due_at=now + timedelta(seconds=delay),
        created_at=now,
    )
    dbsession.add(job)
    dbsession.flush()
    if delay == 0:
        _ring_after_commit(dbsession, job.id)
    return job


def begin(
    dbsession: Session,
    kind: str,
    payload: dict[str, Any],
    *,
    batch_id: int,
    worker: str,
    lease: float,
    now: datetime,
) -> Job:
    """Owe a job that the caller does itself, right after its transaction; when its lease lapses the workers do it."""
    job = Job(
        kind=kind,
        payload=payload,
        batch_id=batch_id,
        status="running",
        attempts=1,
        due_at=now,
        created_at=now,
        started_at=now,
        worker=worker,
        lease_until=now + timedelta(seconds=lease),
    )
    dbsession.add(job)
    dbsession.flush()
    return job


def _ring_after_commit(dbsession: Session, job_id: int) -> None:
    doorbell = dbsession.info.get("doorbell")
    if doorbell is None:
        return
    transaction = dbsession.info["tm"].get()
    joined, job_ids = dbsession.info.get("ringing", (None, []))
    if joined is not transaction:
        job_ids = []
        dbsession.info["ringing"] = transaction, job_ids

        def ring(success: bool) -> None:
            if success:
                doorbell.ring(job_ids)

        transaction.addAfterCommitHook(ring)
    job_ids.append(job_id)


def claim(dbsession: Session, job_id: int, *, worker: str, lease: float, now: datetime) -> Job | None:
    """Take one queued job that is due; None when somebody else has it, or nothing is owed any more."""
    taken = change(
        dbsession,
        sa.update(Job)
        .where(Job.id == job_id, Job.status == "queued", Job.due_at <= now)
        .values(
            status="running",
            worker=worker,
            attempts=Job.attempts + 1,
            started_at=now,
            lease_until=now + timedelta(seconds=lease),
        ),
    )
    return dbsession.get(Job, job_id, populate_existing=True) if taken else None


def claim_next(dbsession: Session, *, worker: str, lease: float, now: datetime) -> Job | None:
    """Take the job that has been due the longest, or None."""
    waiting = (
        sa.select(Job.id)
        .where(Job.status == "queued", Job.due_at <= now)
        .order_by(Job.due_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = dbsession.scalar(waiting)
    return None if job_id is None else claim(dbsession, job_id, worker=worker, lease=lease, now=now)


def renew(
    dbsession: Session, *, worker: str, job_id: int | None, lease: float, now: datetime, memory: int | None = None
) -> None:
    """Give a sign of life: the worker is alive, and keeps the job it is on.

    Only that one: what an earlier process of the same name held, or this one could not give back, must lapse. memory: bytes
    that the worker has now.
    """
    if not change(dbsession, sa.update(Worker).where(Worker.name == worker).values(seen_at=now, memory=memory)):
        dbsession.add(Worker(name=worker, started_at=now, seen_at=now, memory=memory))
    change(
        dbsession,
        sa.update(Job)
        .where(Job.id == job_id, Job.worker == worker, Job.status == "running")
        .values(lease_until=now + timedelta(seconds=lease)),
    )


def finish(dbsession: Session, job: Job, *, now: datetime) -> None:
    """Mark a job done, in the transaction that did it. Raises LeaseLost."""
    _leave(dbsession, job, status="done", finished_at=now, lease_until=None, error=None)


def hand_back(dbsession: Session, job: Job, *, now: datetime) -> None:
    """Give an unfinished job back, not counting the attempt: the worker has to stop. Raises LeaseLost."""
    _leave(dbsession, job, status="queued", attempts=Job.attempts - 1, due_at=now, worker=None, lease_until=None)
    _ring_after_commit(dbsession, job.id)


def fail(dbsession: Session, job: Job, error: str, *, max_attempts: int, now: datetime) -> None:
    """Note that an attempt failed: try again later, or, after ``max_attempts``, wait for a person. Raises LeaseLost."""
    if job.attempts >= max_attempts:
        _leave(dbsession, job, status="failed", finished_at=now, lease_until=None, error=error)
    else:
        pause = _BACK_OFF_SECONDS[min(job.attempts, len(_BACK_OFF_SECONDS)) - 1]
        _leave(
            dbsession,
            job,
            status="queued",
            due_at=now + timedelta(seconds=pause),
            worker=None,
            lease_until=None,
            error=error,
        )


def _leave(dbsession: Session, job: Job, **values: Any) -> None:
    mine = sa.update(Job).where(
        Job.id == job.id, Job.status == "running", Job.worker == job.worker, Job.attempts == job.attempts
    )
    if not change(dbsession, mine.values(**values)):
        raise LeaseLost(f"job {job.id} is held by another worker")


def sweep(dbsession: Session, *, max_attempts: int, now: datetime) -> list[int]:
    """Take back the jobs of workers that gave no sign of life, and tell which due jobs nobody has started.

    Returns the ids whose doorbell should ring again, at most a thousand.
    """
    lapsed = (Job.status == "running", Job.lease_until < now)
    _take_back(dbsession, lapsed, max_attempts=max_attempts, now=now)
    change(dbsession, sa.delete(Worker).where(Worker.seen_at < now - timedelta(days=1)))
    late = now - timedelta(seconds=RING_AGAIN_SECONDS)
    return list(
        dbsession.scalars(
            sa.select(Job.id).where(Job.status == "queued", Job.due_at <= late).order_by(Job.due_at).limit(1000)
        )
    )


def release(dbsession: Session, worker: str, *, max_attempts: int, now: datetime) -> None:
    """Take back what a worker held that is known to be dead, without waiting for its lease to lapse."""
    _take_back(dbsession, (Job.status == "running", Job.worker == worker), max_attempts=max_attempts, now=now)
    change(dbsession, sa.delete(Worker).where(Worker.name == worker))


def _take_back(dbsession: Session, which: tuple[Any, ...], *, max_attempts: int, now: datetime) -> None:
    failed = {"status": "failed", "finished_at": now, "lease_until": None, "error": WORKER_DIED}
    change(dbsession, sa.update(Job).where(*which, Job.attempts >= max_attempts).values(**failed))
    queued = {"status": "queued", "due_at": now, "worker": None, "lease_until": None, "error": WORKER_DIED}
    change(dbsession, sa.update(Job).where(*which).values(**queued))


def retry(dbsession: Session, job: Job, *, now: datetime) -> bool:
    """Try a failed job again from the beginning; False when it has not failed."""
    again = {"status": "queued", "attempts": 0, "due_at": now, "worker": None, "finished_at": None}
    if not change(dbsession, sa.update(Job).where(Job.id == job.id, Job.status == "failed").values(**again)):
        return False
    dbsession.expire(job)
    _ring_after_commit(dbsession, job.id)
    return True


def retry_failed(dbsession: Session, *, now: datetime, most: int = 1000) -> int:
    """Try the failed jobs again from the beginning, the oldest first and at most so many; tell how many."""
    failed = dbsession.scalars(sa.select(Job).where(Job.status == "failed").order_by(Job.id).limit(most)).all()
    return sum(retry(dbsession, job, now=now) for job in failed)


def failed_of_batch(dbsession: Session, batch_id: int, limit: int) -> list[Job]:
    """The jobs of a batch that wait for a person, the oldest first."""
    failed = sa.select(Job).where(Job.batch_id == batch_id, Job.status == "failed")
    return list(dbsession.scalars(failed.order_by(Job.id).limit(limit)))


def counts(dbsession: Session) -> dict[str, int]:
    """How many jobs there are of each status."""
    rows = dict(dbsession.execute(sa.select(Job.status, sa.func.count()).group_by(Job.status)).all())
    return {status: rows.get(status, 0) for status in ("queued", "running", "done", "failed")}


def forget_done(dbsession: Session, *, before: datetime) -> None:
    """Remove the rows of jobs that were done before a moment."""
    change(dbsession, sa.delete(Job).where(Job.status == "done", Job.finished_at < before))


def alive_workers(dbsession: Session, *, now: datetime) -> list[Worker]:
    """The workers that gave a sign of life lately, the oldest first."""
    return list(
        dbsession.scalars(
            sa.select(Worker)
            .where(Worker.seen_at >= now - timedelta(seconds=ALIVE_SECONDS))
            .order_by(Worker.started_at, Worker.name)
        )
    )
