"""Many processes at once, and deletion in the middle: afterwards every file is stored once and nothing is left over."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import batches, jobs, removals
from dicomweb.db import make_engine, work
from dicomweb.imports import Importer, chunks
from dicomweb.models import Batch, Image, Job, Outcome, Series
from dicomweb.settings import Settings
from tests.dicom_files import image_bytes, truncated_bytes, write_series
from tests.importing import (
    Clock,
    bytes_of,
    changed,
    check_consistency,
    children,
    claim_folder,
    codes_of,
    drain,
    drain_everything,
    draining,
    exit_codes,
    images_of,
    import_folder,
    importer_of,
    outcomes_of,
    reload,
    rows,
    storage_of,
)
from workers.tasks import HANDLERS


@pytest.fixture
def data(settings: Settings) -> Path:
    """The watched root."""
    data: Path = settings["watch.folders"][0]
    return data


def delete_batch(engine: sa.Engine, settings: Settings, batch: Batch, *, drained: bool = True) -> None:
    """Have a batch deleted, and do it."""
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        assert batches.delete(dbsession, dbsession.get_one(Batch, batch.id), now=importer.clock())
    if drained:
        drain_everything(importer)


def delete_image(engine: sa.Engine, settings: Settings, image: Image) -> None:
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        removals.delete_images(dbsession, [dbsession.get_one(Image, image.id)], now=importer.clock())
    drain_everything(importer)


def check_empty(engine: sa.Engine, settings: Settings, *but: str) -> None:
    """No row of any table, no value of a header, no file."""
    check_consistency(engine, storage_of(settings))
    kept = {"job", "worker", "field", "claim", "alembic_version", *but}
    with work(engine, read_only=True) as dbsession:
        for table in sa.inspect(engine).get_table_names():
            if table not in kept and not table.startswith("header_words") and not table.startswith("sqlite"):
                assert dbsession.scalar(sa.text(f'SELECT count(*) FROM "{table}"')) == 0, table
    assert not list(storage_of(settings).root.rglob("*"))


def test_five_processes_import_overlapping_folders_and_every_file_is_stored_once(
    engine: sa.Engine, settings: Settings, data: Path
) -> None:
    small = changed(settings, import__chunk_files="8")
    for number in range(3):
        write_series(data / "0" / str(number), 24, seed=number)
    (data / "0" / "text").write_bytes(b"no image")
    (data / "0" / "conflict").write_bytes(image_bytes("0/0", StudyDescription="other"))
    for copy in range(1, 5):
        shutil.copytree(data / "0", data / str(copy))
    claimed = [claim_folder(engine, data / str(copy)) for copy in range(5)]
    engine.dispose()
    with draining(small, 5) as importing:
        assert exit_codes(importing) == [0] * 5
    drain(importer_of(engine, small))
    assert Counter(rows(engine, sa.select(Job.status))).keys() == {"done"}
    all_codes = Counter(code for batch in claimed for code in codes_of(engine, batch).values())
    assert all_codes == {"imported": 72, "conflict": 1, "duplicate": 4 * 73, "not-dicom": 5}
    assert len(rows(engine, sa.select(Series))) == 4
    check_consistency(engine, storage_of(settings))


def test_one_arrival_is_one_batch_also_when_five_processes_claim_it_at_once(
    engine: sa.Engine, settings: Settings, data: Path
) -> None:
    (data / "knee").mkdir()
    (data / "sub" / "knee").mkdir(parents=True)
    engine.dispose()

    def claim(number: int) -> None:
        own = make_engine(settings.database_url)
        for stamp in range(10):
            with work(own) as dbsession:
                batches.claim_arrival(dbsession, str(data / "knee"), stamp=str(stamp), now=datetime.now(UTC))
            with work(own) as dbsession:
                path = str(data / "sub" / "knee")
                batches.claim_arrival(dbsession, path, stamp=f"{number} {stamp}", now=datetime.now(UTC))

    assert children(5, claim) == [0] * 5
    paths = Counter(rows(engine, sa.select(Batch.path)))
    assert paths == {str(data / "knee"): 10, str(data / "sub" / "knee"): 50}
    names = ["knee", *(f"knee ({number})" for number in range(2, 61))]
    assert sorted(rows(engine, sa.select(Batch.name))) == sorted(names)
    assert len(rows(engine, sa.select(Job))) == 60


def test_a_deleted_batch_leaves_no_row_no_value_and_no_file(engine: sa.Engine, settings: Settings, data: Path) -> None:
    write_series(data / "a", 12, seed=1)
    (data / "a" / "cut").write_bytes(truncated_bytes(seed="cut"))
    (data / "a" / "conflict").write_bytes(image_bytes("1/0", StudyDescription="other"))
    shutil.copy(data / "a" / "IM00001.dcm", data / "a" / "twin")
    batch = import_folder(engine, settings, data / "a")
    delete_batch(engine, settings, batch)
    check_empty(engine, settings)
    again = import_folder(engine, settings, data / "a")
    assert again.id > batch.id
    assert again.name == "a"
    check_consistency(engine, storage_of(settings))


def test_deleting_one_batch_leaves_what_another_one_shares_with_it(
    engine: sa.Engine, settings: Settings, data: Path
) -> None:
    files = write_series(data / "a", 10, seed=1)
    stored = {path.name: path.read_bytes() for path in files}
    (data / "b").mkdir()
    for path in files[:6]:
        shutil.copy(path, data / "b")
    shutil.copy(files[0], data / "b" / "twin")
    shutil.copytree(data / "b", data / "c")
    first, second, third = (import_folder(engine, settings, data / name) for name in "abc")
    shutil.rmtree(data)
    delete_batch(engine, settings, first)
    check_consistency(engine, storage_of(settings))
    heirs = images_of(engine, second)
    assert {path: bytes_of(engine, settings, image) for path, image in heirs.items()} == {
        path.name: stored[path.name] for path in files[:6]
    }
    assert codes_of(engine, second)["twin"] == "duplicate"
    assert set(codes_of(engine, third).values()) == {"duplicate"}, "its sources are gone, so it must not need them"
    delete_batch(engine, settings, second)
    check_consistency(engine, storage_of(settings))
    assert len(images_of(engine, third)) == 6
    delete_batch(engine, settings, third)
    check_empty(engine, settings)


def test_a_deleted_image_leaves_the_others_as_they_are(engine: sa.Engine, settings: Settings, data: Path) -> None:
    files = write_series(data / "a", 10, seed=1)
    shutil.copy(files[3], data / "a" / "twin")
    (data / "a" / "conflict").write_bytes(image_bytes("1/5", StudyDescription="other"))
    (data / "a" / "z-single").write_bytes(image_bytes("single", PatientID="SINGLE"))
    batch = import_folder(engine, settings, data / "a")
    images = images_of(engine, batch)
    order = ["IM00004.dcm", "conflict", "z-single", "IM00001.dcm"]
    for name in order:
        delete_image(engine, settings, images[name])
        check_consistency(engine, storage_of(settings))
        assert name not in images_of(engine, batch)
    assert outcomes_of(engine, batch)["twin"].image_id is None
    batch = reload(engine, batch)
    assert (batch.image_count, batch.error_count, batch.has_error, batch.notice_count) == (8, 0, False, 1)
    for path in files[4:]:
        assert bytes_of(engine, settings, images[path.name]) == path.read_bytes()
    for name in images.keys() - set(order):
        delete_image(engine, settings, images[name])
    check_consistency(engine, storage_of(settings))
    check_empty(engine, settings, "batch", "outcome")


def test_the_first_of_two_conflicting_images_can_be_deleted(engine: sa.Engine, settings: Settings, data: Path) -> None:
    (data / "a").mkdir()
    for name in "abc":
        (data / "a" / name).write_bytes(image_bytes(1, StudyDescription=name))
    batch = import_folder(engine, settings, data / "a")
    delete_image(engine, settings, images_of(engine, batch)["a"])
    check_consistency(engine, storage_of(settings))
    assert {row.other_image_id for row in outcomes_of(engine, batch).values()} == {None}
    again = import_folder(engine, settings, data / "a")
    assert codes_of(engine, again) == {"a": "conflict", "b": "duplicate", "c": "duplicate"}
    check_consistency(engine, storage_of(settings))


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_batch_deleted_while_it_is_imported_is_gone_at_the_end(
    engine: sa.Engine, settings: Settings, data: Path, after: int
) -> None:
    """After so many jobs; one more chunk is in the hands of a worker, and commits too late."""
    small = changed(settings, import__chunk_files="4")
    write_series(data / "a", 16, seed=1)
    batch = claim_folder(engine, data / "a")
    importer = importer_of(engine, small)
    drain(importer, most=after)
    late = Importer(engine=engine, settings=small, storage=storage_of(settings))
    asked = []

    def delete_meanwhile() -> bool:
        if not asked:
            asked.append(True)
            delete_batch(engine, small, batch, drained=False)
        return False

    if after:
        late.stopping = delete_meanwhile
        with late.work() as dbsession:
            job = jobs.claim_next(dbsession, worker="late", lease=60, now=late.clock())
        assert job is not None

        with pytest.raises(batches.BatchGone):
            HANDLERS[job.kind](late, job)
        with late.work() as dbsession:
            jobs.finish(dbsession, job, now=late.clock())
    else:
        delete_batch(engine, small, batch, drained=False)
    drain_everything(importer)
    check_empty(engine, settings)


def test_what_a_killed_worker_left_goes_with_its_batch(engine: sa.Engine, settings: Settings, data: Path) -> None:
    """Killed after it wrote bytes, series and study, before the commit; then the batch is deleted."""
    write_series(data / "a", 6, seed=1)
    batch = claim_folder(engine, data / "a")
    drain(importer_of(engine, settings), most=1)
    engine.dispose()

    def die_at_the_commit(_number: int) -> None:
        chunks._write_chunk = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        drain(importer_of(make_engine(settings.database_url), settings))

    assert children(1, die_at_the_commit) == [-signal.SIGKILL]
    assert list(storage_of(settings).root.rglob("*.pack"))
    assert rows(engine, sa.select(Series))
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        [dead] = dbsession.scalars(sa.select(Job.worker).where(Job.status == "running"))
        jobs.release(dbsession, dead, max_attempts=5, now=importer.clock())
    delete_batch(engine, settings, batch)
    check_empty(engine, settings)


def test_five_processes_import_and_delete_the_same_study_until_nothing_is_left(
    engine: sa.Engine, settings: Settings, data: Path
) -> None:
    small = changed(settings, import__chunk_files="6")
    write_series(data / "0", 18, seed=1)
    for copy in range(1, 5):
        shutil.copytree(data / "0", data / str(copy))
    engine.dispose()

    def import_and_delete(number: int) -> None:
        own = make_engine(settings.database_url)
        importer = importer_of(own, small)
        for turn in range(4):
            batch = claim_folder(own, data / str(number), stamp=f"{number} {turn}")
            drain(importer, most=3)
            with importer.work() as dbsession:
                batches.delete(dbsession, dbsession.get_one(Batch, batch.id), now=importer.clock())
            drain(importer, most=5)

    assert children(5, import_and_delete) == [0] * 5
    importer = importer_of(engine, small)
    importer.clock = clock = Clock()
    for _ in range(10):
        drain(importer)
        clock.forward(1000)
    assert [(job.kind, job.error) for job in rows(engine, sa.select(Job).where(Job.status != "done"))] == []
    assert rows(engine, sa.select(Outcome)) == []
    check_empty(engine, settings)


def test_two_scans_of_one_batch_never_mix_their_chunks(engine: sa.Engine, settings: Settings, data: Path) -> None:
    """Several folders of a batch that are scanned again at once: each chunk is a range of ids of one scan alone."""
    for number in range(5):
        write_series(data / "a" / str(number), 2, seed=number)
        for name in range(400):
            (data / "a" / str(number) / f"{name}.txt").write_bytes(b"no image")
    batch = claim_folder(engine, data / "a")
    with work(engine) as dbsession:
        dbsession.execute(sa.update(Batch).values(open_scans=5))
        dbsession.execute(sa.delete(Job))
        for number in range(5):
            jobs.enqueue(dbsession, "scan_batch", {"below": str(number)}, batch_id=batch.id, now=datetime.now(UTC))
    engine.dispose()

    def scan(_number: int) -> None:
        drain(importer_of(make_engine(settings.database_url), settings), most=1)

    assert children(5, scan) == [0] * 5
    ranges = sorted(
        (payload["first"], payload["last"])
        for payload in rows(engine, sa.select(Job.payload).where(Job.kind == "import_chunk"))
    )
    assert len(ranges) >= 5
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))
    drain_everything(importer_of(engine, settings))
    assert Counter(codes_of(engine, batch).values()) == {"imported": 10, "not-dicom": 2000}
    check_consistency(engine, storage_of(settings))
