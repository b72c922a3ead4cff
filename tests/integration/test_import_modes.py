"""copy, move and reference; a full disk; a file that ends its worker; the cost in statements."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb import batches, headers, jobs
from dicomweb.db import make_engine
from dicomweb.imports import Stopping, import_chunk, reading, remove_sources
from dicomweb.models import Batch, Image, Job, Pack
from dicomweb.settings import Settings
from dicomweb.storage import CANNOT_STORE, BytesMissing
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
    images_of,
    import_folder,
    importer_of,
    largest_file,
    outcomes_of,
    reload,
    rows,
    storage_of,
)
from tests.statements import statements


@pytest.fixture
def folder(settings: Settings) -> Path:
    """An empty folder in the watched root."""
    folder: Path = settings["watch.folders"][0] / "knee"
    folder.mkdir()
    return folder


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_copy_leaves_the_source_as_it_is(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    files = write_series(folder, 3, seed=1)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    batch = import_folder(engine, settings, folder)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before
    shutil.rmtree(folder)
    for path, (data, _) in before.items():
        assert bytes_of(engine, settings, images_of(engine, batch)[path.name]) == data
    check_consistency(engine, storage_of(settings))


def test_move_removes_what_is_stored_and_nothing_else(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    moving = changed(settings, import__mode="move")
    files = write_series(folder / "series", 3, seed=1)
    write_series(folder / "mixed", 2, seed=2)
    shutil.copy(files[0], folder / "duplicate")
    (folder / "conflict").write_bytes(image_bytes("1/0", StudyDescription="other"))
    (folder / "mixed" / "cut").write_bytes(truncated_bytes(seed="cut"))
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "link").symlink_to(files[0])
    (folder / ".done").touch()
    stored = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    batch = import_folder(engine, moving, folder)
    assert left_in(folder) == {"mixed/cut", ".DS_Store", "link", ".done"}
    assert not (folder / "series").exists()
    images = images_of(engine, batch)
    assert all(bytes_of(engine, settings, images[path]) == data for path, data in stored.items() if path in images)
    assert len(images) == 6
    check_consistency(engine, storage_of(settings))


def test_move_keeps_a_source_that_changed_after_it_was_read(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    files = write_series(folder, 4, seed=1)
    importer = importer_of(engine, changed(settings, import__mode="move"))
    claim_folder(engine, folder)
    assert drain(importer, most=2) == 2
    assert left_in(folder) == {path.name for path in files}, "a source was removed before its chunk was committed"
    with files[0].open("ab") as file:
        file.write(b"more")
    files[1].write_bytes(image_bytes("another"))
    files[2].unlink()
    files[2].symlink_to(files[0])
    drain_everything(importer)
    assert left_in(folder) == {path.name for path in files[:3]}
    check_consistency(engine, storage_of(settings))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("happened", ["lost", "deleted"])
def test_move_keeps_a_source_whose_stored_copy_is_lost_or_goes(
    engine: sa.Engine, settings: Settings, folder: Path, happened: str
) -> None:
    write_series(folder, 2, seed=1)
    importer = importer_of(engine, changed(settings, import__mode="move"))
    batch = claim_folder(engine, folder)
    assert drain(importer, most=2) == 2
    with importer.work() as dbsession:
        removal = jobs.claim_next(dbsession, worker="w", lease=60, now=importer.clock())
        assert removal is not None
        if happened == "deleted":
            batches.delete(dbsession, dbsession.get_one(Batch, batch.id), now=importer.clock())
    if happened == "lost":
        (pack,) = storage_of(settings).root.rglob("*.pack")
        pack.write_bytes(bytes(pack.stat().st_size))
        remove_sources(importer, removal)
    else:
        with pytest.raises(batches.BatchGone):
            remove_sources(importer, removal)
    assert len(left_in(folder)) == 2


def test_a_crash_between_the_commit_and_the_removal_removes_the_sources_later(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    files = write_series(folder, 4, seed=1)
    moving = changed(settings, import__mode="move")
    clock = Clock()
    importer = importer_of(engine, moving)
    importer.clock = clock
    batch = claim_folder(engine, folder)
    assert drain(importer, most=2) == 2
    with importer.work() as dbsession:
        removal = jobs.claim_next(dbsession, worker="dying", lease=60, now=clock())
    assert removal is not None
    assert removal.kind == "remove_sources"
    files[0].unlink()
    clock.forward(61)
    with importer.work() as dbsession:
        jobs.sweep(dbsession, max_attempts=5, now=clock())
    drain_everything(importer)
    assert left_in(folder) == set()
    assert reload(engine, batch).image_count == 4
    check_consistency(engine, storage_of(settings))


def test_move_keeps_the_source_when_the_chunk_is_rolled_back(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    files = write_series(folder, 2, seed=1)
    importer = importer_of(engine, changed(settings, import__mode="move"))
    claim_folder(engine, folder)
    drain(importer, most=1)
    importer.stopping = lambda: True
    with importer.work() as dbsession:
        job = jobs.claim_next(dbsession, worker="a", lease=60, now=importer.clock())
    assert job is not None
    with pytest.raises(Stopping):
        import_chunk(importer, job)
    assert left_in(folder) == {path.name for path in files}
    assert not storage_of(settings).root.exists() or left_in(storage_of(settings).root) == set()


def test_reference_indexes_files_where_they_are(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    pointing = changed(settings, import__mode="reference")
    files = write_series(folder / "series", 3, seed=1)
    shutil.copy(files[0], folder / "z-duplicate")
    batch = import_folder(engine, pointing, folder)
    assert not storage_of(settings).root.exists()
    assert rows(engine, sa.select(Pack)) == []
    images = images_of(engine, batch)
    assert len(images) == 3
    assert bytes_of(engine, settings, images["series/IM00002.dcm"]) == files[1].read_bytes()
    check_consistency(engine, storage_of(settings))
    files[1].unlink()
    with pytest.raises(BytesMissing, match="cannot be opened"):
        bytes_of(engine, settings, images["series/IM00002.dcm"])


def test_a_missing_pack_and_a_shortened_one_are_told_and_a_changed_byte_is_found_by_its_hash(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    """There is no fsck yet: a reader is told of missing bytes, only whoever hashes finds a changed one."""
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    [image, last] = [image for _, image in sorted(images_of(engine, batch).items())]
    [pack] = storage_of(settings).root.rglob("*.pack")
    whole = pack.read_bytes()
    pack.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    assert bytes_of(engine, settings, image) == whole[:700] + bytes([whole[700] ^ 1]) + whole[701 : image.size]
    with pytest.raises(AssertionError, match="are not those that were imported"):
        check_consistency(engine, storage_of(settings))
    pack.write_bytes(whole[:-1])
    with pytest.raises(BytesMissing, match="shorter"):
        bytes_of(engine, settings, last)
    pack.unlink()
    with pytest.raises(BytesMissing, match="cannot be opened"):
        bytes_of(engine, settings, image)


def test_a_full_disk_fails_the_job_with_a_sentence_and_stores_nothing_half(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 6, seed=1)
    (folder / "large").write_bytes(image_bytes("large", Rows=2048, Columns=2048, PixelData=bytes(8 << 20)))
    clock = Clock()
    importer = importer_of(engine, settings)
    importer.clock = clock
    batch = claim_folder(engine, folder)
    with largest_file(7 << 20):
        for attempt in range(1, 6):
            drain(importer)
            [job] = rows(engine, sa.select(Job).where(Job.kind == "import_chunk"))
            assert (job.attempts, job.error) == (attempt, f"{CANNOT_STORE}: the disk of the state folder is full.")
            assert left_in(storage_of(settings).root) == set()
            assert rows(engine, sa.select(Pack)) == []
            clock.forward(1000)
    assert job.status == "failed"
    assert reload(engine, batch).status == "PROCESSING"
    assert codes_of(engine, batch) == {}
    with importer.work() as dbsession:
        assert jobs.retry(dbsession, dbsession.get_one(Job, job.id), now=clock())
    drain_everything(importer)
    assert set(codes_of(engine, batch).values()) == {"imported"}
    check_consistency(engine, storage_of(settings))


def test_a_storage_that_cannot_be_written_is_no_error_of_the_files(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 3, seed=1)
    storage_of(settings).root.write_text("in the way")
    clock = Clock()
    importer = importer_of(engine, settings)
    importer.clock = clock
    batch = claim_folder(engine, folder)
    drain(importer)
    [job] = rows(engine, sa.select(Job).where(Job.kind == "import_chunk"))
    assert job.status == "queued"
    assert job.error.startswith(CANNOT_STORE)
    assert codes_of(engine, batch) == {}
    storage_of(settings).root.unlink()
    clock.forward(1000)
    drain_everything(importer)
    assert set(codes_of(engine, batch).values()) == {"imported"}
    check_consistency(engine, storage_of(settings))


def test_a_file_that_ends_its_worker_is_isolated_and_the_others_are_imported(
    engine: sa.Engine, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is made to end the process at one file; each worker is a real process that really ends."""
    write_series(folder, 7, seed=1)
    (folder / "IM00004b.dcm").write_bytes(image_bytes("poison", StudyDescription="POISON"))
    batch = claim_folder(engine, folder)
    drain(importer_of(engine, settings), most=1)
    engine.dispose()
    really_read = headers.read_header

    def read_header(data: bytes, **options: Any) -> headers.Header:
        if b"POISON" in data:
            os._exit(7)
        return really_read(data, **options)

    monkeypatch.setattr(reading.headers, "read_header", read_header)

    def work_until_the_end(_number: int) -> None:
        own = make_engine(settings.database_url)
        drain(importer_of(own, settings))

    ends = 0
    while children(1, work_until_the_end) == [7]:
        ends += 1
        assert ends < 20, "the file is never given up"
        importer = importer_of(engine, settings)
        with importer.work() as dbsession:
            [dead] = dbsession.scalars(sa.select(Job.worker).where(Job.status == "running"))
            jobs.release(dbsession, dead, max_attempts=settings["jobs.max_attempts"], now=importer.clock())
        engine.dispose()
    codes = codes_of(engine, batch)
    assert codes.pop("IM00004b.dcm") == "ends-worker"
    assert list(codes.values()) == ["imported"] * 7
    assert outcomes_of(engine, batch)["IM00004b.dcm"].message.startswith("Reading this file ended the worker")
    assert reload(engine, batch).status == "DONE"
    check_consistency(engine, storage_of(settings))


def test_a_file_the_reader_fails_on_by_a_defect_keeps_only_itself_from_being_imported(
    engine: sa.Engine, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(folder, 7, seed=1)
    (folder / "odd").write_bytes(image_bytes("odd", StudyDescription="POISON"))
    really_read = headers.read_header

    def read_header(data: bytes, **options: Any) -> headers.Header:
        if b"POISON" in data:
            raise RuntimeError("a defect")
        return really_read(data, **options)

    monkeypatch.setattr(reading.headers, "read_header", read_header)
    batch = import_folder(engine, settings, folder)
    assert (batch.status, batch.image_count, batch.error_count) == ("DONE", 7, 1)
    assert codes_of(engine, batch)["odd"] == "reader-failed"
    check_consistency(engine, storage_of(settings))
    monkeypatch.undo()
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        assert batches.retry(dbsession, dbsession.get_one(Batch, batch.id), chunk_files=256, now=importer.clock()) == 1
    drain_everything(importer)
    assert list(codes_of(engine, batch).values()) == ["imported"] * 8
    check_consistency(engine, storage_of(settings))


def statements_of(engine: sa.Engine, settings: Settings, folder: Path) -> int:
    """How many statements the one chunk of a folder takes."""
    importer = importer_of(engine, settings)
    claim_folder(engine, folder)
    drain(importer, most=1)
    with statements(engine) as ran:
        assert drain(importer, most=1) == 1
    return len(ran)


def test_a_chunk_takes_the_same_number_of_statements_whatever_its_size(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    whole = changed(settings, workers__count="1")
    sizes = (16, 64, 16)
    for number, size in enumerate(sizes):
        write_series(folder / str(number), size, seed=number)
    # The first chunk of all also adds the paths.
    first, *counts = [statements_of(engine, whole, folder / str(number)) for number in range(len(sizes))]
    assert counts[0] == counts[1]
    assert first <= counts[0] + 2
    assert counts[0] < 50
    assert len(rows(engine, sa.select(Image))) == sum(sizes)
    check_consistency(engine, storage_of(settings))
