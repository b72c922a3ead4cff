"""Source folders are removed: all of what is stored, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb import batches, imports, jobs
from dicomweb.db import make_engine, work
from dicomweb.imports import CannotClean, cleaning
from dicomweb.models import Arrival, Batch, Cleanup, Image, Job, Sample
from dicomweb.settings import Settings
from tests.dicom_files import image_bytes, truncated_bytes, write_series
from tests.importing import (
    Clock,
    bytes_of,
    changed,
    check_consistency,
    children,
    drain,
    drain_everything,
    images_of,
    import_folder,
    importer_of,
    reload,
    rows,
    storage_of,
)
from workers.chores import do_chores

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def folder(settings: Settings) -> Path:
    """An empty folder in the watched root."""
    folder: Path = settings["watch.folders"][0] / "knee"
    folder.mkdir()
    return folder


def ask(engine: sa.Engine, settings: Settings, batch: Batch) -> None:
    with work(engine) as dbsession:
        imports.ask_clean(dbsession, dbsession.get_one(Batch, batch.id), settings, now=datetime.now(UTC))


def cleaned(engine: sa.Engine, batch: Batch) -> Cleanup:
    (row,) = rows(engine, sa.select(Cleanup).where(Cleanup.batch_id == batch.id))
    return row  # type: ignore[no-any-return]


def clean(engine: sa.Engine, settings: Settings, batch: Batch) -> Cleanup:
    """Ask for it and have it done."""
    ask(engine, settings, batch)
    drain_everything(importer_of(engine, settings))
    return cleaned(engine, batch)


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def test_the_folder_goes_and_nothing_beside_it(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    files = write_series(folder / "series", 3, seed=1)
    shutil.copy(files[0], folder / "twin")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "empty" / "below").mkdir(parents=True)
    (folder / ".done").touch()
    neighbour = folder.with_name("knee 2")
    write_series(neighbour, 2, seed=2)
    before = {path.name: path.read_bytes() for path in files}
    batch = import_folder(engine, settings, folder)
    row = clean(engine, settings, batch)
    assert (row.status, row.reason, row.kept) == ("done", None, 0)
    assert row.files == 5, "three images, a duplicate and a file of the operating system"
    assert row.bytes == sum(map(len, before.values())) + len(before[files[0].name]) + 1
    assert not folder.exists()
    assert len(left_in(neighbour)) == 2
    images = images_of(engine, batch)
    assert len(images) == 3
    assert all(hashlib.sha256(bytes_of(engine, settings, image)).digest() == image.sha256 for image in images.values())
    check_consistency(engine, storage_of(settings))


def test_what_was_not_imported_stays_and_is_told(engine: sa.Engine, settings: Settings, folder: Path, tmp_path: Path) -> None:
    files = write_series(folder / "series", 4, seed=1)
    (folder / ".done").touch()
    batch = import_folder(engine, settings, folder)
    outside = tmp_path / "precious"
    write_series(outside, 2, seed="precious")
    (folder / "late.txt").write_text("came later")
    (folder / "link").symlink_to(outside)
    (folder / "series" / "file link").symlink_to(files[0])
    with files[1].open("ab") as file:
        file.write(b"more")
    files[2].write_bytes(image_bytes("another"))
    row = clean(engine, settings, batch)
    assert left_in(folder) == {"late.txt", "link", f"series/{files[1].name}", f"series/{files[2].name}", "series/file link", ".done"}
    assert len(left_in(outside)) == 2
    assert (row.status, row.files, row.kept) == ("kept", 2, 5)
    assert row.reason == "5 entries in the folder stayed: not imported with this batch, or changed since."


def test_a_link_put_in_the_place_of_a_folder_is_not_followed(
    engine: sa.Engine, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    files = write_series(folder / "series", 2, seed=1)
    batch = import_folder(engine, settings, folder)
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder / "series")
    (folder / "series").symlink_to(tmp_path / "copy" / "series")
    assert clean(engine, settings, batch).status == "kept"
    assert left_in(tmp_path / "copy") == {f"series/{path.name}" for path in files}
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "copy")
    with work(engine) as dbsession:
        dbsession.delete(dbsession.get_one(Cleanup, batch.id))
    row = clean(engine, settings, batch)
    assert (row.status, row.files) == ("refused", 0)
    assert "is a link" in (row.reason or "")
    assert left_in(tmp_path / "copy") == {f"series/{path.name}" for path in files}


def refusal(engine: sa.Engine, settings: Settings, batch: Batch) -> str:
    """Why it is refused when it is asked for."""
    with pytest.raises(CannotClean) as refused:
        ask(engine, settings, batch)
    return str(refused.value)


def test_what_must_not_be_removed_is_refused_when_it_is_asked_for(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    assert "only copy" in refusal(engine, changed(settings, import__mode="reference"), batch)
    assert "not in a watched folder" in refusal(engine, changed(settings, watch__folders="elsewhere"), batch)
    for columns, reason in (
        ({"status": "PROCESSING"}, "not done"),
        ({"has_error": True}, "could not be imported"),
        ({"source": "stow"}, "did not come as a folder"),
        ({"delete_at": datetime.now(UTC)}, "is to be deleted"),
    ):
        with work(engine) as dbsession:
            dbsession.execute(sa.update(Batch).values({"status": "DONE", "has_error": False, "source": "folder", "delete_at": None, **columns}))
        assert reason in refusal(engine, settings, batch), columns
    assert len(left_in(folder)) == 2


def refused_by_the_worker(engine: sa.Engine, settings: Settings, batch: Batch, folder: Path) -> str:
    """Why the worker, who looks at the truth, refuses it; nothing may be gone then."""
    before = left_in(folder)
    row = clean(engine, settings, batch)
    assert (row.status, row.files) == ("refused", 0)
    assert left_in(folder) == before
    return row.reason or ""


def test_files_that_were_indexed_where_they_are_stay(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, changed(settings, import__mode="reference"), folder)
    assert "only copy" in refused_by_the_worker(engine, settings, batch, folder)


def test_without_the_stored_bytes_the_source_stays(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    (pack,) = storage_of(settings).root.rglob("*.pack")
    kept = pack.read_bytes()
    pack.write_bytes(kept[:-1])
    assert "not complete" in refused_by_the_worker(engine, settings, batch, folder)
    pack.unlink()
    assert "not complete" in refused_by_the_worker(engine, settings, batch, folder)
    pack.write_bytes(kept)
    assert clean(engine, settings, batch).status == "done"


def test_the_stored_bytes_are_read_before_the_source_goes(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    (pack,) = storage_of(settings).root.rglob("*.pack")
    pack.write_bytes(bytes(pack.stat().st_size))
    assert "not complete" in refused_by_the_worker(engine, settings, batch, folder)


@on_sqlite
def test_a_folder_that_is_a_watched_folder_too_stays(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder / "inner", 2, seed=1)
    outer = import_folder(engine, settings, folder)
    both = changed(settings, watch__folders=os.pathsep.join((str(folder.parent), str(folder))))
    assert "a watched folder itself" in refusal(engine, both, outer)
    inner = import_folder(engine, both, folder / "inner")
    with work(engine) as dbsession:
        dbsession.execute(sa.update(Batch).where(Batch.id == outer.id).values(status="PROCESSING"))
    assert "Another batch" in refused_by_the_worker(engine, both, inner, folder)


@on_sqlite
def test_what_was_left_out_and_changed_since_or_cannot_be_read_stays(
    engine: sa.Engine, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(folder, 1, seed=1)
    (folder / ".DS_Store").write_bytes(b"x")
    batch = import_folder(engine, settings, folder)
    (folder / ".DS_Store").write_bytes(b"y")

    def broken(*_arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cleaning.hashlib, "file_digest", broken)
    row = clean(engine, settings, batch)
    assert (row.status, row.files, row.kept) == ("kept", 0, 2)
    assert len(left_in(folder)) == 2


@on_sqlite
def test_a_clean_up_whose_job_has_failed_can_be_asked_for_again(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder, 1, seed=1)
    batch = import_folder(engine, settings, folder)
    ask(engine, settings, batch)
    assert "about to remove" in refusal(engine, settings, batch)
    with work(engine) as dbsession:
        dbsession.execute(sa.update(Job).where(Job.kind == "clean_source").values(status="failed"))
    ask(engine, settings, batch)
    assert drain(importer_of(engine, settings)) == 1
    assert cleaned(engine, batch).status == "done"


@on_sqlite
def test_a_batch_that_is_deleted_meanwhile_keeps_the_rest_of_its_folder(
    engine: sa.Engine, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(folder, 4, seed=1)
    batch = import_folder(engine, settings, folder)
    ask(engine, settings, batch)
    monkeypatch.setattr(cleaning, "_LOOK_AGAIN", 1)
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        job = jobs.claim_next(dbsession, worker="w", lease=60, now=importer.clock())
    assert job is not None
    looks = iter((False, False))

    def stopping() -> bool:
        if next(looks, True):
            with work(engine) as dbsession:
                batches.delete_later(dbsession, dbsession.get_one(Batch, batch.id), minutes=30, now=datetime.now(UTC))
        return False

    importer.stopping = stopping
    imports.clean_source(importer, job)
    row = cleaned(engine, batch)
    assert (row.status, row.reason, row.files) == ("refused", "The batch is to be deleted.", 2)
    assert len(left_in(folder)) == 2


def test_a_folder_that_another_batch_needs_stays(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    now = datetime.now(UTC)
    with work(engine) as dbsession:
        waits = Arrival(path=str(folder), is_folder=True, reason="Waits.", seen_at=now, changed_at=now)
        dbsession.add(waits)
    assert "imported once more" in refused_by_the_worker(engine, settings, batch, folder)
    with work(engine) as dbsession:
        dbsession.execute(sa.delete(Arrival))
    (folder / "cut").write_bytes(truncated_bytes(seed="cut"))
    assert import_folder(engine, settings, folder).has_error
    assert "Another batch" in refused_by_the_worker(engine, settings, batch, folder)


def test_a_folder_that_may_not_be_changed_is_told_of(
    engine: sa.Engine, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test may run as root, whom no permission stops; so the system's answer for a read-only mount is given instead."""
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)

    def unlink(*_arguments: Any, **_options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cleaning.os, "unlink", unlink)
    assert "mounted read-only" in refused_by_the_worker(engine, settings, batch, folder)
    monkeypatch.undo()
    assert clean(engine, settings, batch).status == "done"


def test_a_clean_up_that_was_killed_is_finished_by_another_worker(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    files = write_series(folder / "series", 12, seed=1)
    (folder / ".done").touch()
    batch = import_folder(engine, settings, folder)
    ask(engine, settings, batch)

    def die_in_the_middle(_number: int) -> None:
        importer = importer_of(make_engine(settings.database_url), settings)
        with importer.work() as dbsession:
            job = jobs.claim_next(dbsession, worker="dying", lease=60, now=importer.clock())
        assert job is not None
        looks = iter(range(6))
        importer.stopping = lambda: next(looks, None) is None and os.kill(os.getpid(), signal.SIGKILL) is not None
        imports.clean_source(importer, job)

    assert children(1, die_in_the_middle) == [-signal.SIGKILL]
    assert 0 < len(left_in(folder)) < 13
    assert cleaned(engine, batch).status == "asked"
    clock = Clock()
    importer = importer_of(engine, settings)
    importer.clock = clock
    clock.forward(61)
    with importer.work() as dbsession:
        jobs.sweep(dbsession, max_attempts=5, now=clock())
    drain_everything(importer)
    row = cleaned(engine, batch)
    assert (row.status, row.files) == ("done", 12)
    assert row.bytes == sum(image.size or 0 for image in images_of(engine, batch).values())
    assert not folder.exists()
    assert len(files) == 12
    check_consistency(engine, storage_of(settings))


def test_the_setting_removes_what_is_old_enough_by_itself_once_a_day(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    importer = importer_of(engine, changed(settings, cleanup__source_days="2"))
    clock = Clock()
    importer.clock = clock
    do_chores(importer)
    clock.forward(49 * 3600)
    late = folder / "late"
    late.write_text("x")
    do_chores(importer)
    assert [row.automatic for row in rows(engine, sa.select(Cleanup))] == [True]
    do_chores(importer)
    drain_everything(importer)
    assert left_in(folder) == {"late"}
    assert cleaned(engine, batch).status == "kept"
    assert len(rows(engine, sa.select(Sample))) == 2
    clock.forward(120)
    do_chores(importer)
    assert rows(engine, sa.select(Job).where(Job.status == "queued")) == []


class TestADeletionThatCanBeTakenBack:
    def begin(self, engine: sa.Engine, batch: Batch, minutes: float = 30) -> datetime:
        now = datetime.now(UTC)
        with work(engine) as dbsession:
            assert batches.delete_later(dbsession, dbsession.get_one(Batch, batch.id), minutes=minutes, now=now)
            assert not batches.delete_later(dbsession, dbsession.get_one(Batch, batch.id), minutes=minutes, now=now)
        return now

    def test_begins_when_its_time_comes_and_not_before(
        self, engine: sa.Engine, settings: Settings, folder: Path
    ) -> None:
        write_series(folder, 3, seed=1)
        batch = import_folder(engine, settings, folder)
        self.begin(engine, batch)
        importer = importer_of(engine, settings)
        clock = Clock()
        importer.clock = clock
        clock.forward(29 * 60)
        do_chores(importer)
        drain_everything(importer)
        assert len(images_of(engine, batch)) == 3
        clock.forward(120)
        do_chores(importer)
        do_chores(importer)
        assert reload(engine, batch).deleting
        with work(engine) as dbsession:
            assert not batches.keep(dbsession, dbsession.get_one(Batch, batch.id))
        drain_everything(importer)
        assert rows(engine, sa.select(Batch)) == rows(engine, sa.select(Image)) == []
        assert len(left_in(folder)) == 3
        check_consistency(engine, storage_of(settings))

    def test_is_taken_back_without_a_trace(self, engine: sa.Engine, settings: Settings, folder: Path) -> None:
        write_series(folder, 3, seed=1)
        batch = import_folder(engine, settings, folder)
        now = self.begin(engine, batch)
        with work(engine) as dbsession:
            assert batches.keep(dbsession, dbsession.get_one(Batch, batch.id))
            assert batches.delete_due(dbsession, now=now + timedelta(days=1)) == 0
        check_consistency(engine, storage_of(settings))

    def test_leaves_the_bytes_that_another_batch_was_given_too(
        self, engine: sa.Engine, settings: Settings, folder: Path
    ) -> None:
        files = write_series(folder, 3, seed=1)
        other = folder.with_name("hip")
        other.mkdir()
        shutil.copy(files[0], other)
        batch, heir = import_folder(engine, settings, folder), import_folder(engine, settings, other)
        with work(engine, read_only=True) as dbsession:
            assert batches.shared_files(dbsession, dbsession.get_one(Batch, batch.id)) == 1
            assert batches.shared_files(dbsession, dbsession.get_one(Batch, heir.id)) == 0
        assert clean(engine, settings, heir).status == "done"
        self.begin(engine, batch)
        importer = importer_of(engine, settings)
        clock = Clock()
        importer.clock = clock
        clock.forward(31 * 60)
        do_chores(importer)
        drain_everything(importer)
        (image,) = images_of(engine, heir).values()
        assert bytes_of(engine, settings, image) == files[0].read_bytes()
        check_consistency(engine, storage_of(settings))
