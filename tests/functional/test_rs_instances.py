"""UIDs of an address mean the images they name, in blocks, in a number of statements that does not grow with the images."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Image
from dicomweb.rs import instances
from dicomweb.settings import Settings
from dicomweb.storage import Storage
from tests import dicom_files
from tests.functional import api_data
from tests.statements import statements

STUDY = dicom_files.uid("study", "shared")


def found(engine: sa.Engine, *uids: str) -> list[instances.Instance]:
    with work(engine, read_only=True) as dbsession:
        return [instance for block in instances.find(dbsession, *uids) for instance in block]


@pytest.mark.usefixtures("imported")
def test_a_study_has_the_instances_of_its_series_in_the_order_of_import(engine: sa.Engine, settings: Settings) -> None:
    of_study = found(engine, STUDY)
    assert len(of_study) == 5
    assert [one.header_key for one in of_study] == sorted(one.header_key for one in of_study)
    storage = Storage(settings.var / "storage", sync=False)
    for one in of_study:
        assert one.study_uid == STUDY
        assert one.sop_uid.encode() in one.locate(storage).read()
    first = of_study[0]
    assert {one.series_uid for one in found(engine, STUDY, first.series_uid)} == {first.series_uid}
    assert found(engine, STUDY, first.series_uid, first.sop_uid) == [first]


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("uids", [("1.2",), (STUDY, "1.2"), (STUDY, "\x00"), ("\ud800",), ("",), ("1" * 10_000,)])
def test_unknown_uids_mean_nothing(engine: sa.Engine, uids: tuple[str, ...]) -> None:
    assert found(engine, *uids) == []


@pytest.mark.usefixtures("imported")
def test_an_instance_is_only_in_its_own_series(engine: sa.Engine) -> None:
    one, *_, last = found(engine, STUDY)
    assert one.series_uid != last.series_uid
    assert found(engine, STUDY, last.series_uid, one.sop_uid) == []
    assert found(engine, "1.2", one.series_uid, one.sop_uid) == []


def test_of_a_conflict_the_first_image_is_the_instance_until_it_is_gone(engine: sa.Engine, importer: Importer, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    dicom_files.write_series(first, images=2, seed="s")
    dicom_files.write_series(second, images=2, seed="s", ImageComments="other bytes")
    api_data.import_folder(importer, first)
    study, series = dicom_files.uid("study", "s"), dicom_files.uid("series", "s")
    before = found(engine, study)
    with work(engine) as dbsession:
        place = instances.locate(dbsession, study)
        assert place is not None
        fingerprint = place.fingerprint()
    api_data.import_folder(importer, second)
    assert found(engine, study) == found(engine, study, series) == before
    assert found(engine, study, series, before[0].sop_uid) == before[:1]
    with work(engine) as dbsession:
        assert len(instances.shadowed_keys(dbsession)) == 2
        place = instances.locate(dbsession, study)
        assert place is not None
        assert place.fingerprint() != fingerprint
        assert dbsession.scalar(sa.select(sa.func.count(Image.id))) == 4


def test_the_number_of_statements_does_not_grow_with_the_images_of_a_group(engine: sa.Engine, importer: Importer, tmp_path: Path) -> None:
    counts = []
    for number in (2, 40):
        dicom_files.write_series(tmp_path / str(number), images=number, seed=f"n{number}")
        api_data.import_folder(importer, tmp_path / str(number))
        with statements(engine) as ran:
            assert len(found(engine, dicom_files.uid("study", f"n{number}"))) == number
        counts.append(len(ran))
    assert counts[0] == counts[1] <= 4
