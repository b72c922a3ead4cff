"""The life of a batch, without files: names, arrivals, counters and who may still add to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import batches
from dicomweb.batches import BatchGone, Waiting
from dicomweb.db import work
from dicomweb.models import Arrival, Batch, Job
from tests.importing import rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def claim(engine: sa.Engine, path: str, *, stamp: str = "1", name: str | None = None) -> Batch | None:
    with work(engine) as dbsession:
        return batches.claim_arrival(dbsession, path, stamp=stamp, now=NOW, name=name)


def waiting(path: str, *, is_folder: bool = True, files: int = 1) -> Waiting:
    return Waiting(path, is_folder, files, 10 * files, NOW, "It waits for .done.")


def test_an_arrival_becomes_one_batch_with_one_scan(engine: sa.Engine) -> None:
    batch = claim(engine, "/data/knee")
    assert batch is not None
    assert (batch.name, batch.status, batch.source, batch.open_scans) == ("knee", "NEW", "folder", 1)
    assert claim(engine, "/data/knee") is None
    assert claim(engine, "/data/knee", stamp="2") is not None
    assert [(job.kind, job.payload) for job in rows(engine, sa.select(Job))] == [("scan_batch", {"below": ""})] * 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/a%b_c", "a%b_c"),
        ("/data/tab\tbell\x07\u202e", "tab?bell??"),
        ("/data/" + "x" * 255, "x" * 200),
        ("/data/\udcff\udcfe", "\\xff\\xfe"),
        ("/data/ ", "batch"),
        ("/data/Ünïcode 画像", "Ünïcode 画像"),
    ],
)
def test_a_name_is_printable_bounded_and_unique(engine: sa.Engine, path: str, name: str) -> None:
    names = [batch.name for stamp in "123" if (batch := claim(engine, path, stamp=stamp)) is not None]
    assert names == [name, f"{name} (2)", f"{name} (3)"]
    assert {batch.path for batch in rows(engine, sa.select(Batch))} == {path}


def test_a_name_that_looks_like_a_numbered_one_is_no_trap(engine: sa.Engine) -> None:
    names = [claim(engine, f"/data/{name}", stamp=str(n)) for n, name in enumerate(["a (2)", "a", "a", "a (2)", "A"])]
    assert [batch and batch.name for batch in names] == ["a (2)", "a", "a (3)", "a (2) (2)", "A"]


def test_what_waits_is_exactly_what_the_watcher_saw(engine: sa.Engine) -> None:
    with work(engine) as dbsession:
        batches.report_arrivals(dbsession, [waiting("/data/a"), waiting("/data/b"), waiting("/data/\udcff")], now=NOW)
    later = NOW + timedelta(minutes=1)
    with work(engine) as dbsession:
        seen = [waiting("/data/b", files=7), waiting("/data/c", is_folder=False), waiting("/data/\udcff")]
        batches.report_arrivals(dbsession, seen, now=later)
    found = {row.path: (row.files, row.bytes, row.is_folder, row.seen_at) for row in rows(engine, sa.select(Arrival))}
    assert found == {
        "/data/b": (7, 70, True, NOW),
        "/data/c": (1, 10, False, later),
        "/data/\udcff": (1, 10, True, NOW),
    }
    assert claim(engine, "/data/b") is not None
    assert {row.path for row in rows(engine, sa.select(Arrival))} == {"/data/c", "/data/\udcff"}


def test_import_now_takes_a_folder_as_often_as_asked_and_never_a_loose_file(engine: sa.Engine, tmp_path: Path) -> None:
    names = []
    for minute in range(2):
        now = NOW + timedelta(minutes=minute)
        with work(engine) as dbsession:
            seen = [waiting(str(tmp_path)), waiting("/loose", is_folder=False)]
            batches.report_arrivals(dbsession, seen, now=now)
            folder, loose = dbsession.scalars(sa.select(Arrival).order_by(Arrival.is_folder.desc()))
            assert batches.import_now(dbsession, loose, now=now) is None
            batch = batches.import_now(dbsession, folder, now=now)
            assert batch is not None
            names.append(batch.name)
            assert batches.import_now(dbsession, folder, now=now) is None
    assert names == [tmp_path.name, f"{tmp_path.name} (2)"]


def test_a_batch_is_done_when_every_scan_and_every_file_is(engine: sa.Engine) -> None:
    batch = claim(engine, "/data/a")
    assert batch is not None

    def now_is() -> tuple[str, int, int, bool]:
        [row] = rows(engine, sa.select(Batch))
        return row.status, row.done_count, row.file_count, row.has_error

    with work(engine) as dbsession:
        batches.record_scan(dbsession, batch.id, found=3, failed=1, skipped=0, now=NOW)
    assert now_is() == ("PROCESSING", 1, 3, True)
    with work(engine) as dbsession:
        batches.record_outcomes(dbsession, batch.id, images=1, errors=0, notices=0, files=1, size=5, now=NOW)
    assert now_is() == ("PROCESSING", 2, 3, True)
    assert batches.progress(rows(engine, sa.select(Batch))[0]) == pytest.approx(2 / 3)
    with work(engine) as dbsession:
        batches.record_outcomes(dbsession, batch.id, images=0, errors=0, notices=1, files=1, size=0, now=NOW)
    assert now_is() == ("DONE", 3, 3, True)
    with work(engine) as dbsession:
        totals = batches.totals(dbsession)
    assert totals == batches.Totals(batches=1, images=1, series=0, studies=0, bytes=5, errors=1)


def test_the_times_of_a_batch_are_noted_once_and_outlive_its_jobs(engine: sa.Engine) -> None:
    with work(engine) as dbsession:
        batches.report_arrivals(dbsession, [waiting("/data/a", files=2)], now=NOW - timedelta(minutes=5))
    batch = claim(engine, "/data/a")
    assert batch is not None

    def later(seconds: int) -> datetime:
        return NOW + timedelta(seconds=seconds)

    with work(engine) as dbsession:
        batches.record_scan(dbsession, batch.id, found=2, failed=0, skipped=0, now=later(1))
        batches.begin_chunk(dbsession, batch.id, 1, 2, now=later(2))
        batches.begin_chunk(dbsession, batch.id, 3, 4, now=later(3))
    with work(engine) as dbsession:
        batches.record_outcomes(dbsession, batch.id, images=1, errors=0, notices=0, files=1, size=5, now=later(7))
        running = batches.timeline(dbsession, dbsession.get_one(Batch, batch.id, populate_existing=True), now=later(12))
    assert (running.done_at, running.rate) == (None, pytest.approx(0.1))
    with work(engine) as dbsession:
        batches.record_outcomes(dbsession, batch.id, images=1, errors=0, notices=0, files=1, size=5, now=later(22))
    with work(engine) as dbsession:
        batches.record_removal(dbsession, batch.id, images=1, errors=0, size=5, now=later(90))
        dbsession.execute(sa.delete(Job))
    with work(engine) as dbsession:
        told = batches.timeline(dbsession, dbsession.get_one(Batch, batch.id), now=later(100))
    assert (told.arrived_at, told.claimed_at, told.began_at, told.done_at) == (NOW - timedelta(minutes=5), NOW, later(2), later(22))
    assert (sum(told.chunks.values()), told.workers, told.scanned_at) == (0, 0, None)


def test_nothing_is_added_to_a_batch_that_is_being_deleted(engine: sa.Engine) -> None:
    batch = claim(engine, "/data/a")
    assert batch is not None
    with work(engine) as dbsession:
        row = dbsession.get_one(Batch, batch.id)
        assert batches.delete(dbsession, row, now=NOW)
        assert not batches.delete(dbsession, row, now=NOW)
    assert rows(engine, sa.select(Job.kind)) == ["delete_batch"]
    late = {
        "scan": lambda dbsession: batches.record_scan(dbsession, batch.id, found=1, failed=0, skipped=0, now=NOW),
        "chunk": lambda dbsession: batches.begin_chunk(dbsession, batch.id, 1, 2, now=NOW),
        "outcomes": lambda dbsession: batches.record_outcomes(
            dbsession, batch.id, images=1, errors=0, notices=0, files=1, size=1, now=NOW
        ),
        "removal": lambda dbsession: batches.record_removal(dbsession, batch.id, images=1, errors=0, size=1, now=NOW),
        "heirs": lambda dbsession: batches.reopen(dbsession, batch.id, notices=1, now=NOW),
    }
    for add in late.values():
        with work(engine) as dbsession, pytest.raises(BatchGone):
            add(dbsession)
    [row] = rows(engine, sa.select(Batch))
    assert (row.image_count, row.file_count, row.deleting) == (0, 0, True)


def test_a_batch_without_failures_has_nothing_to_retry(engine: sa.Engine) -> None:
    batch = claim(engine, "/data/a")
    assert batch is not None
    with work(engine) as dbsession:
        assert batches.retry(dbsession, dbsession.get_one(Batch, batch.id), chunk_files=8, now=NOW) == 0
    assert len(rows(engine, sa.select(Job))) == 1
