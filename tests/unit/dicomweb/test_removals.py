"""What a removed image leaves to others, and how its bytes go."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import batches, removals
from dicomweb.models import Batch, Discard, Image, Job
from dicomweb.settings import Settings
from tests.dicom_files import write_series
from tests.importing import (
    bytes_of,
    changed,
    check_consistency,
    codes_of,
    drain_everything,
    images_of,
    import_folder,
    importer_of,
    rows,
    storage_of,
)


@pytest.fixture
def data(settings: Settings) -> Path:
    """The watched root with three folders that hold the same two files."""
    data: Path = settings["watch.folders"][0]
    write_series(data / "a", 2, seed=1)
    for name in "bc":
        shutil.copytree(data / "a", data / name)
    return data


def delete(engine: sa.Engine, settings: Settings, batch: Batch, *also: Batch) -> None:
    """Have batches deleted in one transaction, and do it."""
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        for one in (batch, *also):
            batches.delete(dbsession, dbsession.get_one(Batch, one.id), now=importer.clock())
    drain_everything(importer)


@pytest.mark.parametrize("mode", ["copy", "move", "reference"])
def test_one_twin_takes_the_place_of_a_deleted_image_and_the_others_become_its_duplicates(
    engine: sa.Engine, settings: Settings, data: Path, mode: str
) -> None:
    chosen = changed(settings, import__mode=mode)
    first, second, third = (import_folder(engine, chosen, data / name) for name in "abc")
    delete(engine, chosen, first)
    check_consistency(engine, storage_of(settings))
    assert set(codes_of(engine, second).values()) == {"imported"}
    assert set(codes_of(engine, third).values()) == {"duplicate"}
    for image in images_of(engine, second).values():
        assert len(bytes_of(engine, settings, image)) == image.size


def test_a_batch_that_is_being_deleted_inherits_nothing(engine: sa.Engine, settings: Settings, data: Path) -> None:
    first, second, third = (import_folder(engine, settings, data / name) for name in "abc")
    delete(engine, settings, second, first)
    assert [batch.id for batch in rows(engine, sa.select(Batch))] == [third.id]
    assert set(codes_of(engine, third).values()) == {"imported"}
    check_consistency(engine, storage_of(settings))


def test_an_heir_whose_batch_goes_before_it_is_imported_leaves_the_bytes_to_the_next(
    engine: sa.Engine, settings: Settings, data: Path
) -> None:
    first, second, third = (import_folder(engine, settings, data / name) for name in "abc")
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        images = dbsession.scalars(sa.select(Image).where(Image.batch_id == first.id)).all()
        removals.delete_images(dbsession, images, now=importer.clock())
        dbsession.execute(sa.update(Job).where(Job.kind == "import_chunk").values(status="done"))
    delete(engine, settings, second)
    shutil.rmtree(data)
    assert set(codes_of(engine, third).values()) == {"imported"}
    check_consistency(engine, storage_of(settings))


def test_discarded_bytes_are_erased_once_and_a_second_time_harms_nothing(
    engine: sa.Engine, settings: Settings, data: Path
) -> None:
    batch = import_folder(engine, settings, data / "a")
    importer = importer_of(engine, settings)
    image = images_of(engine, batch)["IM00001.dcm"]
    with importer.work() as dbsession:
        removals.delete_images(dbsession, [dbsession.get_one(Image, image.id)], now=importer.clock())
    [row] = rows(engine, sa.select(Discard))
    assert (row.offset, row.length) == (image.pack_offset, image.size)
    pack = storage_of(settings).path(row.name)
    assert b"DICM" in pack.read_bytes()[row.offset : row.offset + row.length]
    for _ in range(2):
        with importer.work() as dbsession:
            assert removals.erase_discarded(dbsession, importer.storage)
    assert pack.read_bytes()[row.offset : row.offset + row.length] == bytes(row.length)
    drain_everything(importer)
    check_consistency(engine, storage_of(settings))
