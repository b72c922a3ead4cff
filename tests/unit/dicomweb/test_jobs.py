"""The job table: who gets a job, who keeps it, and what happens when it fails, on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from zope.sqlalchemy import mark_changed

from dicomweb import jobs
from dicomweb.db import make_engine, work
from dicomweb.models import Job, Worker
from tests import services
from tests.importing import children, rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = 60.0


class Bell:
    """Notes what was rung."""

    def __init__(self) -> None:
        self.rung: list[int] = []

    def ring(self, job_ids: list[int]) -> bool:
        self.rung += job_ids
        return True


def owe(engine: sa.Engine, *, delay: float = 0.0, now: datetime = NOW) -> int:
    with work(engine) as dbsession:
        return jobs.enqueue(dbsession, "import_chunk", {"first": 1}, now=now, delay=delay).id


def claim(engine: sa.Engine, *, worker: str = "a", now: datetime = NOW) -> Job | None:
    with work(engine) as dbsession:
        return jobs.claim_next(dbsession, worker=worker, lease=LEASE, now=now)


def job_of(engine: sa.Engine, job_id: int) -> Job:
    [job] = rows(engine, sa.select(Job).where(Job.id == job_id))
    assert isinstance(job, Job)
    return job


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_the_job_that_is_due_the_longest_is_claimed_first(engine: sa.Engine) -> None:
    late = owe(engine, now=after(-5))
    first = owe(engine, now=after(-10))
    later = owe(engine, delay=30)
    claimed = [claim(engine), claim(engine)]
    assert [job and job.id for job in claimed] == [first, late]
    assert claim(engine) is None
    job = claim(engine, now=after(30))
    assert job is not None
    assert (job.id, job.status, job.attempts, job.worker, job.lease_until) == (later, "running", 1, "a", after(90))


def test_a_job_that_is_named_is_claimed_once(engine: sa.Engine) -> None:
    job_id = owe(engine, delay=10)
    with work(engine) as dbsession:
        assert jobs.claim(dbsession, job_id, worker="a", lease=LEASE, now=NOW) is None
    with work(engine) as dbsession:
        assert jobs.claim(dbsession, job_id, worker="a", lease=LEASE, now=after(10)) is not None
    with work(engine) as dbsession:
        assert jobs.claim(dbsession, job_id, worker="b", lease=LEASE, now=after(10)) is None
        assert jobs.claim(dbsession, 123456, worker="b", lease=LEASE, now=after(10)) is None


def test_five_processes_claim_each_job_once(engine: sa.Engine, database_url: str) -> None:
    count = 60
    for _ in range(count):
        owe(engine)
    engine.dispose()

    def take(number: int) -> None:
        own = make_engine(database_url)
        while (job := claim(own, worker=f"w{number}")) is not None:
            with work(own) as dbsession:
                jobs.finish(dbsession, job, now=NOW)

    assert children(5, take) == [0] * 5
    assert rows(engine, sa.select(Job.status)) == ["done"] * count
    assert rows(engine, sa.select(Job.attempts)) == [1] * count


def test_a_worker_that_lost_its_lease_rolls_its_work_back(engine: sa.Engine) -> None:
    job_id = owe(engine)
    first = claim(engine, worker="slow")
    assert first is not None
    with work(engine) as dbsession:
        assert jobs.sweep(dbsession, max_attempts=5, now=after(59)) == []
    assert job_of(engine, job_id).status == "running"
    with work(engine) as dbsession:
        jobs.sweep(dbsession, max_attempts=5, now=after(61))
    second = claim(engine, worker="quick", now=after(61))
    assert second is not None
    assert (second.id, second.attempts, second.error) == (job_id, 2, jobs.WORKER_DIED)

    def end_late() -> None:
        with work(engine) as dbsession:
            dbsession.add(Worker(name="work of the slow one", started_at=NOW, seen_at=NOW))
            dbsession.flush()
            jobs.finish(dbsession, first, now=after(62))

    with pytest.raises(jobs.LeaseLost):
        end_late()
    assert rows(engine, sa.select(Worker)) == []
    with work(engine) as dbsession:
        jobs.finish(dbsession, second, now=after(63))
    job = job_of(engine, job_id)
    assert (job.status, job.finished_at, job.error, job.lease_until) == ("done", after(63), None, None)


@pytest.mark.parametrize("end", ["finish", "hand_back", "fail"])
def test_an_attempt_that_was_taken_over_by_the_same_worker_cannot_end_the_job(engine: sa.Engine, end: str) -> None:
    owe(engine)
    first = claim(engine)
    assert first is not None
    with work(engine) as dbsession:
        jobs.sweep(dbsession, max_attempts=5, now=after(61))
    assert claim(engine, now=after(61)) is not None
    more = {"error": "x", "max_attempts": 5} if end == "fail" else {}
    with work(engine) as dbsession, pytest.raises(jobs.LeaseLost):
        getattr(jobs, end)(dbsession, first, **more, now=after(62))


def test_a_sign_of_life_keeps_the_job_a_worker_is_on_and_no_other(engine: sa.Engine) -> None:
    owe(engine), owe(engine)
    forgotten, current = claim(engine), claim(engine)
    assert forgotten is not None
    assert current is not None
    for seconds in (30, 60, 90):
        with work(engine) as dbsession:
            jobs.renew(dbsession, worker="a", job_id=current.id, lease=LEASE, now=after(seconds))
            jobs.sweep(dbsession, max_attempts=5, now=after(seconds))
    assert job_of(engine, current.id).status == "running"
    assert job_of(engine, forgotten.id).status == "queued"
    with work(engine) as dbsession:
        assert [worker.name for worker in jobs.alive_workers(dbsession, now=after(120))] == ["a"]
        assert jobs.alive_workers(dbsession, now=after(121)) == []
        jobs.renew(dbsession, worker="a", job_id=None, lease=LEASE, now=after(150))
        jobs.sweep(dbsession, max_attempts=5, now=after(151))
    assert job_of(engine, current.id).status == "queued"


def test_a_failing_job_is_tried_again_later_and_later_and_then_waits_for_a_person(engine: sa.Engine) -> None:
    job_id = owe(engine)
    moment = NOW
    pauses = []
    for attempt in range(1, 6):
        job = claim(engine, now=moment)
        assert job is not None
        assert job.attempts == attempt
        with work(engine) as dbsession:
            jobs.fail(dbsession, job, f"attempt {attempt}", max_attempts=5, now=moment)
        job = job_of(engine, job_id)
        assert job.error == f"attempt {attempt}"
        assert claim(engine, now=moment) is None
        pauses.append((job.due_at - moment).total_seconds())
        moment = job.due_at
    assert pauses[:4] == [1, 5, 20, 60]
    assert job.status == "failed"
    assert claim(engine, now=after(10_000)) is None
    with work(engine) as dbsession:
        assert jobs.counts(dbsession) == {"queued": 0, "running": 0, "done": 0, "failed": 1}
        assert jobs.retry(dbsession, dbsession.get_one(Job, job_id), now=after(20_000))
    with work(engine) as dbsession:
        assert not jobs.retry(dbsession, dbsession.get_one(Job, job_id), now=after(20_000))
    job = claim(engine, now=after(20_000))
    assert job is not None
    assert job.attempts == 1


def test_a_job_that_is_handed_back_does_not_count_the_attempt(engine: sa.Engine) -> None:
    job_id = owe(engine)
    for _ in range(7):
        job = claim(engine)
        assert job is not None
        with work(engine) as dbsession:
            jobs.hand_back(dbsession, job, now=NOW)
    job = job_of(engine, job_id)
    assert (job.status, job.attempts, job.worker, job.error) == ("queued", 0, None, None)


def test_what_a_dead_worker_held_comes_back_at_once_and_fails_when_it_did_so_too_often(engine: sa.Engine) -> None:
    job_id = owe(engine)
    owe(engine)
    with work(engine) as dbsession:
        jobs.renew(dbsession, worker="dead", job_id=None, lease=LEASE, now=NOW)
    for attempt in range(1, 4):
        assert job_of(engine, job_id).status == "queued"
        with work(engine) as dbsession:
            job = jobs.claim(dbsession, job_id, worker="dead", lease=LEASE, now=NOW)
        assert job is not None
        assert job.attempts == attempt
        with work(engine) as dbsession:
            jobs.release(dbsession, "another", max_attempts=3, now=NOW)
            jobs.release(dbsession, "dead", max_attempts=3, now=NOW)
    job = job_of(engine, job_id)
    assert (job.status, job.error, job.attempts) == ("failed", jobs.WORKER_DIED, 3)
    assert rows(engine, sa.select(Worker)) == []
    with work(engine) as dbsession:
        assert jobs.counts(dbsession) == {"queued": 1, "running": 0, "done": 0, "failed": 1}


def test_a_sweep_names_the_jobs_nobody_started(engine: sa.Engine) -> None:
    waiting = owe(engine)
    owe(engine, delay=100)
    with work(engine) as dbsession:
        assert jobs.sweep(dbsession, max_attempts=5, now=after(9)) == []
        assert jobs.sweep(dbsession, max_attempts=5, now=after(10)) == [waiting]


def test_done_jobs_are_forgotten_and_their_ids_never_come_again(engine: sa.Engine) -> None:
    job_id = owe(engine)
    job = claim(engine)
    assert job is not None
    with work(engine) as dbsession:
        jobs.finish(dbsession, job, now=NOW)
        jobs.forget_done(dbsession, before=NOW)
        assert jobs.counts(dbsession)["done"] == 1
        jobs.forget_done(dbsession, before=after(1))
        assert jobs.counts(dbsession)["done"] == 0
    assert owe(engine) > job_id


def test_the_doorbell_rings_after_the_commit_and_only_then(engine: sa.Engine) -> None:
    bell = Bell()
    with work(engine, doorbell=bell) as dbsession:
        first = jobs.enqueue(dbsession, "a", {}, now=NOW)
        second = jobs.enqueue(dbsession, "b", {}, now=NOW)
        jobs.enqueue(dbsession, "later", {}, now=NOW, delay=5)
        assert bell.rung == []
    assert bell.rung == [first.id, second.id]


def test_the_doorbell_never_rings_for_what_was_rolled_back(engine: sa.Engine) -> None:
    bell = Bell()

    def owe_in_vain() -> None:
        with work(engine, doorbell=bell) as dbsession:
            jobs.enqueue(dbsession, "a", {}, now=NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        owe_in_vain()
    assert bell.rung == []
    assert rows(engine, sa.select(Job)) == []


def test_a_session_that_was_rolled_back_rings_again_for_what_it_commits_next(engine: sa.Engine) -> None:
    bell = Bell()
    with work(engine, doorbell=bell) as dbsession:
        jobs.enqueue(dbsession, "lost", {}, now=NOW)
        dbsession.info["tm"].abort()
        dbsession.info["tm"].begin()
        kept = jobs.enqueue(dbsession, "kept", {}, now=NOW)
        mark_changed(dbsession)
    assert bell.rung == [kept.id]
    assert rows(engine, sa.select(Job.kind)) == ["kept"]


def test_with_the_broker_gone_a_job_is_still_owed(
    engine: sa.Engine, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    bell = jobs.Doorbell(f"redis+socket://{tmp_path}/nobody.sock")
    with work(engine, doorbell=bell) as dbsession:
        jobs.enqueue(dbsession, "a", {}, now=NOW)
    assert [record.levelname for record in caplog.records if record.name == "dicomweb.jobs"] == ["WARNING"]
    assert bell.ring([1]) is False
    assert claim(engine) is not None


def test_the_doorbell_reaches_the_broker(broker_url: str, redis_socket: str) -> None:
    assert jobs.Doorbell(broker_url).ring([1, 2, 3])
    assert services.redis_client(redis_socket).llen(jobs.QUEUE.name) == 3


@pytest.fixture
def two_claims(engine: sa.Engine) -> list[Job | None]:
    """One job, claimed by two threads whose transactions overlap."""
    job_id = owe(engine)
    claims: list[Job | None] = []
    ready = threading.Barrier(2)

    def take(name: str) -> None:
        ready.wait()
        with work(engine) as dbsession:
            claims.append(jobs.claim(dbsession, job_id, worker=name, lease=LEASE, now=NOW))

    threads = [threading.Thread(target=take, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return claims


def test_a_doubled_message_starts_its_job_once(two_claims: list[Job | None]) -> None:
    assert sum(job is not None for job in two_claims) == 1
