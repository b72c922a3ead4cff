"""How a worker ends a job, whatever its handler does; without a broker, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from dicomweb import batches, jobs
from dicomweb.db import work
from dicomweb.imports import Importer, Stopping
from dicomweb.models import Job
from dicomweb.models import Worker as WorkerRow
from dicomweb.settings import Settings
from dicomweb.storage import StorageFull
from tests.importing import importer_of, rows
from workers.consumer import Worker


def owe(engine: sa.Engine, kind: str = "task") -> None:
    with work(engine) as dbsession:
        jobs.enqueue(dbsession, kind, {}, now=datetime.now(UTC))


def the_job(engine: sa.Engine) -> Job:
    [job] = rows(engine, sa.select(Job))
    assert isinstance(job, Job)
    return job


def done_by(engine: sa.Engine, settings: Settings, handler: Callable[[Importer, Job], None]) -> Job:
    """The job after one attempt by a handler."""
    owe(engine)
    assert Worker(importer_of(engine, settings), {"task": handler}).work_on(jobs.claim_next)
    return the_job(engine)


def raising(error: BaseException) -> Callable[[Importer, Job], None]:
    def handler(_importer: Importer, _job: Job) -> None:
        raise error

    return handler


def test_a_handler_that_ends_its_job_leaves_it_done(engine: sa.Engine, settings: Settings) -> None:
    def handler(importer: Importer, job: Job) -> None:
        with importer.work() as dbsession:
            jobs.finish(dbsession, job, now=importer.clock())

    job = done_by(engine, settings, handler)
    assert (job.status, job.attempts, job.error) == ("done", 1, None)


def test_a_worker_that_has_to_stop_hands_its_job_back(engine: sa.Engine, settings: Settings) -> None:
    job = done_by(engine, settings, raising(Stopping()))
    assert (job.status, job.attempts, job.worker) == ("queued", 0, None)


def test_an_error_is_noted_without_what_it_says_because_that_may_be_of_a_patient(
    engine: sa.Engine, settings: Settings
) -> None:
    job = done_by(engine, settings, raising(ValueError("Doe^John")))
    assert (job.status, job.attempts) == ("queued", 1)
    assert job.error == "ValueError in task; the log of the workers says more."
    assert job.due_at > datetime.now(UTC)


def test_a_full_disk_is_told_in_its_own_words(engine: sa.Engine, settings: Settings) -> None:
    job = done_by(engine, settings, raising(StorageFull("The disk is full.")))
    assert (job.status, job.error) == ("queued", "The disk is full.")


def test_a_job_of_a_deleted_batch_is_done(engine: sa.Engine, settings: Settings) -> None:
    assert done_by(engine, settings, raising(batches.BatchGone("x"))).status == "done"


def test_a_lost_lease_changes_nothing(engine: sa.Engine, settings: Settings) -> None:
    job = done_by(engine, settings, raising(jobs.LeaseLost("x")))
    assert (job.status, job.attempts) == ("running", 1)


def test_a_job_nobody_knows_fails_and_the_worker_lives(engine: sa.Engine, settings: Settings) -> None:
    owe(engine, "unknown")
    worker = Worker(importer_of(engine, settings), {})
    assert worker.work_on(jobs.claim_next)
    assert the_job(engine).error == "LookupError in unknown; the log of the workers says more."
    assert not worker.work_on(jobs.claim_next)


def test_a_worker_without_a_job_says_that_it_lives_and_keeps_no_job_alive(
    engine: sa.Engine, settings: Settings
) -> None:
    """What an earlier process of the same name held, as a container that was restarted, must lapse."""
    owe(engine)
    worker = Worker(importer_of(engine, settings), {})
    with work(engine) as dbsession:
        old = jobs.claim_next(dbsession, worker=worker.name, lease=60, now=datetime.now(UTC))
    assert old is not None
    worker._renew()
    assert the_job(engine).lease_until == old.lease_until
    assert rows(engine, sa.select(WorkerRow.name)) == [worker.name]


def test_the_job_a_worker_is_on_is_kept(engine: sa.Engine, settings: Settings) -> None:
    owe(engine)
    leases: list[datetime | None] = []

    def handler(_importer: Importer, _job: Job) -> None:
        leases.append(the_job(engine).lease_until)
        worker._renew()
        leases.append(the_job(engine).lease_until)

    worker = Worker(importer_of(engine, settings), {"task": handler})
    worker.work_on(jobs.claim_next)
    assert leases[0] is not None
    assert leases[1] is not None
    assert leases[1] > leases[0]


@pytest.mark.parametrize("body", [None, [], "x", {"job": "1"}, {"job": 0}, {"job": -1}, {"job": 10**30}, {"job": None}])
def test_a_message_of_any_shape_is_acknowledged_and_starts_nothing(
    engine: sa.Engine, settings: Settings, body: object
) -> None:
    class Message:
        acknowledged = 0

        def ack(self) -> None:
            self.acknowledged += 1

    message = Message()
    Worker(importer_of(engine, settings), {}).on_message(body, message)
    assert message.acknowledged == 1


def test_the_database_being_away_is_waited_for(engine: sa.Engine, settings: Settings) -> None:
    worker = Worker(importer_of(engine, settings), {})
    worker.stop()
    with work(engine) as dbsession:
        dbsession.execute(sa.text("DROP TABLE job"))
    assert worker.work_on(jobs.claim_next) is False
