"""``python -m workers``: the real program with a real broker; stopped, killed, without broker, with junk in the queue."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import kombu
import pytest
import sqlalchemy as sa

from dicomweb import batches, jobs
from dicomweb.db import work
from dicomweb.models import Batch, Job, Worker
from dicomweb.settings import Settings
from tests import services
from tests.dicom_files import image_bytes, write_series
from tests.importing import check_consistency, codes_of, reload, rows, storage_of
from tests.programs import Program, program, wait_for


@pytest.fixture
def folder(settings: Settings) -> Path:
    """An empty folder in the watched root."""
    folder: Path = settings["watch.folders"][0] / "knee"
    folder.mkdir()
    return folder


@pytest.fixture
def workers(settings: Settings, broker_url: str) -> Iterator[Program]:
    """Two worker processes, not started yet."""
    workers = program(
        settings, "workers", broker_url, workers="2", jobs__lease_seconds="3", jobs__sweep_seconds="1",
        import__chunk_files="8",
    )  # fmt: skip
    yield workers
    workers.stop()


def drop(engine: sa.Engine, folder: Path, broker_url: str | None) -> Batch:
    """Claim a folder, and ring."""
    doorbell = jobs.Doorbell(broker_url) if broker_url else None
    with work(engine, doorbell=doorbell) as dbsession:
        moment = datetime.now(UTC)
        batch = batches.claim_arrival(dbsession, str(folder), stamp=moment.isoformat(), now=moment)
    assert batch is not None
    return batch


def alive(engine: sa.Engine) -> list[str]:
    return sorted(rows(engine, sa.select(Worker.name)))


def is_done(engine: sa.Engine, batch: Batch) -> bool:
    return reload(engine, batch).status == "DONE" and not rows(engine, sa.select(Job).where(Job.status != "done"))


def test_a_dropped_folder_is_imported_and_sigterm_ends_everything(
    engine: sa.Engine, settings: Settings, folder: Path, workers: Program, broker_url: str
) -> None:
    write_series(folder, 30, seed=1)
    workers.start()
    wait_for(lambda: len(alive(engine)) == 2, "the workers show that they live")
    batch = drop(engine, folder, broker_url)
    wait_for(lambda: is_done(engine, batch), "the batch is done")
    pids = workers.children()
    assert len(pids) == 2
    assert workers.terminate() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert alive(engine) == [], "a worker that leaves says so"
    assert set(codes_of(engine, batch).values()) == {"imported"}
    check_consistency(engine, storage_of(settings))


def test_sigterm_in_the_middle_hands_the_chunk_back_uncounted(
    engine: sa.Engine, settings: Settings, folder: Path, workers: Program, broker_url: str
) -> None:
    """The chunk reads from a file whose reading is made to last by its size; it is stopped between two files."""
    for number in range(40):
        (folder / f"{number:03}").write_bytes(image_bytes(number) + bytes(6 << 20))
    batch = drop(engine, folder, broker_url)
    workers.start()
    running = sa.select(Job).where(Job.kind == "import_chunk", Job.status == "running")
    wait_for(lambda: rows(engine, running), "a chunk is being imported")
    assert workers.terminate() == 0
    left = rows(engine, sa.select(Job).where(Job.kind == "import_chunk", Job.status != "done"))
    assert left
    assert {(job.status, job.attempts, job.worker, job.error) for job in left} == {("queued", 0, None, None)}
    workers.start()
    wait_for(lambda: is_done(engine, batch), "the batch is done")
    workers.terminate()
    assert len(codes_of(engine, batch)) == 40
    check_consistency(engine, storage_of(settings))


def test_with_the_broker_gone_the_workers_find_the_jobs_by_themselves(
    engine: sa.Engine, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    write_series(folder, 10, seed=1)
    nowhere = f"redis+socket://{tmp_path}/nobody.sock"
    workers = program(settings, "workers", nowhere, workers="2")
    try:
        workers.start()
        wait_for(lambda: len(alive(engine)) == 2, "the workers live without a broker")
        batch = drop(engine, folder, nowhere)
        wait_for(lambda: is_done(engine, batch), "the batch is done")
        assert workers.terminate() == 0
    finally:
        workers.stop()
    assert "The broker cannot be reached" in workers.log()
    check_consistency(engine, storage_of(settings))


def test_junk_in_the_queue_is_acknowledged_and_harms_nobody(
    engine: sa.Engine, settings: Settings, folder: Path, workers: Program, broker_url: str, redis_socket: str
) -> None:
    write_series(folder, 5, seed=1)
    with kombu.Connection(broker_url) as connection:
        producer = connection.Producer()
        junk: list[object] = [
            None,
            [],
            "text",
            5,
            {"job": "x"},
            {"job": True},
            {"job": -1},
            {"job": 10**30},
            {"job": 1.5},
            {},
        ]
        for body in junk:
            producer.publish(body, serializer="json", routing_key=jobs.QUEUE.name, declare=[jobs.QUEUE])
        for body, kind in (
            (b"\xff\x00{", "application/json"),
            (b"cos\nsystem\n(S'true'\ntR.", "application/x-python-serialize"),
        ):
            producer.publish(
                body, content_type=kind, content_encoding="binary", routing_key=jobs.QUEUE.name, declare=[jobs.QUEUE]
            )
    workers.start()
    wait_for(lambda: len(alive(engine)) == 2, "the workers live")
    before = workers.children()
    batch = drop(engine, folder, broker_url)
    wait_for(lambda: is_done(engine, batch), "the batch is done")
    client = services.redis_client(redis_socket)
    wait_for(lambda: not client.llen(jobs.QUEUE.name) and not client.hlen("unacked"), "the queue is empty")
    assert workers.children() == before, "a worker died of a message"
    assert workers.terminate() == 0
    check_consistency(engine, storage_of(settings))


def test_a_killed_worker_is_replaced_and_its_job_comes_back(
    engine: sa.Engine, settings: Settings, folder: Path, workers: Program, broker_url: str
) -> None:
    for number in range(24):
        (folder / f"{number:03}").write_bytes(image_bytes(number) + bytes(6 << 20))
    batch = drop(engine, folder, broker_url)
    workers.start()
    running = sa.select(Job.worker).where(Job.kind == "import_chunk", Job.status == "running")
    held: list[str] = []

    def is_held() -> bool:
        held[:] = rows(engine, running)
        return bool(held)

    wait_for(is_held, "a chunk is being imported")
    pid = int(held[0].rpartition(":")[2])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(workers.children()) == 2 and pid not in workers.children(), "another worker is started")
    wait_for(lambda: is_done(engine, batch), "the batch is done")
    workers.terminate()
    assert f"worker {pid} ended with -9" in workers.log()
    check_consistency(engine, storage_of(settings))


def test_workers_die_with_their_killed_supervisor_and_others_take_over(
    engine: sa.Engine, settings: Settings, folder: Path, workers: Program, broker_url: str
) -> None:
    for number in range(24):
        (folder / f"{number:03}").write_bytes(image_bytes(number) + bytes(6 << 20))
    batch = drop(engine, folder, broker_url)
    workers.start()
    running = sa.select(Job.worker).where(Job.kind == "import_chunk", Job.status == "running")
    wait_for(lambda: rows(engine, running), "a chunk is being imported")
    pids = workers.children()
    workers.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers are dead too")
    workers.start()
    wait_for(lambda: is_done(engine, batch), "the batch is done")
    workers.terminate()
    check_consistency(engine, storage_of(settings))
