"""One worker process: a message comes in, the job it names is claimed and handled, the message is acknowledged.

Messages make it quick; the job table makes it certain. Between messages the worker looks at the table itself, so that with
the broker gone imports go on, only slower.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import kombu
import sqlalchemy as sa
from kombu.exceptions import KombuError
from kombu.mixins import ConsumerMixin
from kombu.utils.limits import TokenBucket

from dicomweb import batches, imports, jobs
from dicomweb.imports import Importer, Stopping
from dicomweb.models import Job
from dicomweb.processes import resident_bytes
from dicomweb.storage import StorageFailed
from workers.chores import do_chores

log = logging.getLogger(__name__)

Handler = Callable[[Importer, Job], None]


def worker_name() -> str:
    """Name this process: host and pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Worker(ConsumerMixin):
    """Consumes doorbells until it is told to stop.

    ``stop`` may be called from a signal handler: it only sets a flag.
    """

    def __init__(self, importer: Importer, handlers: dict[str, Handler]) -> None:
        self.connection = kombu.Connection(
            importer.settings.broker_url, transport_options=jobs.TRANSPORT_OPTIONS, connect_timeout=1
        )
        # A broker that comes and goes is no reason to slow down: what is owed is in the table.
        self.restart_limit = TokenBucket(10, 10)
        self.connect_max_retries = 1  # type: ignore[assignment]  # kombu declares None, and means a number
        self.should_stop = False
        self.name = worker_name()
        self._importer = importer
        self._handlers = handlers
        self._lease = importer.settings["jobs.lease_seconds"]
        self._job_id: int | None = None
        self._next_look = 0.0
        self._next_sweep = 0.0
        importer.stopping = lambda: self.should_stop

    def stop(self) -> None:
        """Stop after the file that is being read; its chunk is handed back."""
        self.should_stop = True

    def run(self, _tokens: int = 1, **options: Any) -> None:
        """Work until stopped. The process may be killed at any moment; nothing is lost by that."""
        life = threading.Thread(target=self._show_life, name="sign of life", daemon=True)
        life.start()
        # kombu wraps the errors of connecting in its own, and leaves those of talking as they are.
        unreachable = (KombuError, OSError, *self.connection.connection_errors, *self.connection.channel_errors)
        while not self.should_stop:
            try:
                for _ in self.consume(limit=None):
                    pass
            except unreachable as error:
                log.warning(
                    "The broker cannot be reached (%s); looking at the job table instead.", type(error).__name__
                )
                self.on_iteration()
                self._pause(2.0)
        self._leave()

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        """Consume the queue one message at a time, JSON only."""
        return [consumer(queues=[jobs.QUEUE], callbacks=[self.on_message], accept=["json"], prefetch_count=1)]

    def on_message(self, body: Any, message: kombu.Message) -> None:
        """Do the job that a message names, then acknowledge it: after the commit, and after a failure too."""
        try:
            job_id = body.get("job") if isinstance(body, dict) else None
            if isinstance(job_id, int) and 0 < job_id < 1 << 63:
                self.work_on(lambda dbsession, **claim: jobs.claim(dbsession, job_id, **claim))
        finally:
            message.ack()

    def on_iteration(self) -> None:
        """Between messages: do what is owed and nobody rang for, and sweep now and then."""
        moment = time.monotonic()
        if moment < self._next_look:
            return
        self._next_look = moment + 1.0
        if moment >= self._next_sweep:
            self._next_sweep = moment + self._importer.settings["jobs.sweep_seconds"]
            self._guarded(self._sweep)
        while not self.should_stop and self.work_on(jobs.claim_next):
            pass

    def work_on(self, claim: Callable[..., Job | None]) -> bool:
        """Claim a job and do it; tell whether there was one."""
        job = self._guarded(lambda: self._claim(claim))
        if job is None:
            return False
        log.info("job %s %s of batch %s, attempt %s", job.id, job.kind, job.batch_id, job.attempts)
        self._job_id = job.id
        try:
            self._handle(job)
        finally:
            self._job_id = None
        return True

    def _claim(self, claim: Callable[..., Job | None]) -> Job | None:
        with self._importer.work(read_only=True) as dbsession:
            # On SQLite a claim takes the only write lock; do not ask for it when there is nothing to claim.
            if not dbsession.scalar(
                sa.select(sa.exists().where(Job.status == "queued", Job.due_at <= self._importer.clock()))
            ):
                return None
        with self._importer.work() as dbsession:
            return claim(dbsession, worker=self.name, lease=self._lease, now=self._importer.clock())

    def _handle(self, job: Job) -> None:
        handler = self._handlers.get(job.kind)
        try:
            if handler is None:
                raise LookupError(f"no worker knows how to do {job.kind}")
            handler(self._importer, job)
        except Stopping:
            self._guarded(lambda: self._end(job, jobs.hand_back))
        except jobs.LeaseLost:
            log.warning("job %s was taken over by another worker; this attempt is rolled back", job.id)
        except batches.BatchGone:
            log.info("job %s: its batch is deleted", job.id)
            self._guarded(lambda: self._end(job, jobs.finish))
        except StorageFailed as error:
            self._failed(job, str(error))
        except Exception as error:  # a broken job must not end the worker; it is tried again, then shown as failed
            log.exception("job %s %s failed", job.id, job.kind)
            self._failed(job, f"{type(error).__name__} in {job.kind}; the log of the workers says more.")

    def _failed(self, job: Job, sentence: str) -> None:
        limit = self._importer.settings["jobs.max_attempts"]
        self._guarded(
            lambda: self._end(
                job, lambda dbsession, job, now: jobs.fail(dbsession, job, sentence, max_attempts=limit, now=now)
            )
        )

    def _end(self, job: Job, end: Callable[..., None]) -> None:
        with self._importer.work() as dbsession:
            end(dbsession, job, now=self._importer.clock())

    def _sweep(self) -> None:
        with self._importer.work() as dbsession:
            late = jobs.sweep(
                dbsession, max_attempts=self._importer.settings["jobs.max_attempts"], now=self._importer.clock()
            )
        do_chores(self._importer)
        if late and self._importer.doorbell is not None:
            self._importer.doorbell.ring(late)
        # What a web server or a listener that was killed left lying.
        imports.clear_left(self._importer)
        imports.clear_uploads(self._importer)

    def _show_life(self) -> None:
        while not self.should_stop:
            self._guarded(self._renew)
            self._pause(min(10.0, self._lease / 3))

    def _renew(self) -> None:
        with self._importer.work() as dbsession:
            now = self._importer.clock()
            jobs.renew(
                dbsession, worker=self.name, job_id=self._job_id, lease=self._lease, now=now, memory=resident_bytes()
            )

    def _leave(self) -> None:
        limit = self._importer.settings["jobs.max_attempts"]

        def leave() -> None:
            with self._importer.work() as dbsession:
                jobs.release(dbsession, self.name, max_attempts=limit, now=self._importer.clock())

        self._guarded(leave)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Do something with the database; when it is away, say so, wait a little, and go on."""
        try:
            return action()
        except jobs.LeaseLost:
            return None
        except sa.exc.DBAPIError as error:
            log.warning("The database cannot be used (%s); trying again.", type(error.orig).__name__)
            self._pause(1.0)
            return None

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.should_stop and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.2, left))
