"""What is odd about a batch: each oddity is made, and found where it is and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.models import Batch
from dicomweb.search import quality
from dicomweb.search.identity import IDENTIFYING
from dicomweb.search.lists import keyword_of
from dicomweb.settings import Settings
from tests import dicom_files, importing
from tests.statements import statements

Judge = Callable[[str], quality.Quality]


@pytest.fixture
def judge(engine: sa.Engine, settings: Settings) -> Judge:
    """Import a folder below the watched one, and judge the batch that it becomes."""

    def made(name: str) -> quality.Quality:
        batch = importing.import_folder(engine, settings, settings["watch.folders"][0] / name)
        with work(engine, read_only=True) as dbsession:
            return quality.judge_batch(dbsession, batch.id)

    return made


def codes(found: quality.Quality) -> list[str]:
    return [note.code for note in found.notes]


def note(found: quality.Quality, code: str) -> quality.Note:
    return next(one for one in found.notes if one.code == code)


def write(folder: Path, seed: str, images: int = 8, **keywords: Any) -> list[Path]:
    return dicom_files.write_series(folder, images=images, seed=seed, **keywords)


def test_nothing_is_said_of_a_series_in_order(judge: Judge, settings: Settings) -> None:
    write(settings["watch.folders"][0] / "good", "good")
    found = judge("good")
    assert codes(found) == []
    assert (found.looked_at, found.is_part, found.removed) == (8, False, 0)
    assert found.private == (("EXAMPLE PRIVATE 1.0", 8),)


def test_missing_slices_are_counted(judge: Judge, settings: Settings) -> None:
    folder = settings["watch.folders"][0] / "gap"
    files = write(folder, "gap", images=12, SeriesDescription="t1")
    for file in (files[4], files[5], files[9]):
        file.unlink()
    found = judge("gap")
    assert codes(found) == ["gap"]
    (place,) = note(found, "gap").places
    assert (place.kind, place.name, place.images, place.remark) == ("series", "CT 2 t1", 9, "3 missing in 2 gaps")


def test_two_orientations_in_one_series_are_told(judge: Judge, settings: Settings) -> None:
    folder = settings["watch.folders"][0] / "mixed"
    write(folder / "a", "mixed")
    same = {"SeriesInstanceUID": dicom_files.uid("series", "mixed"), "StudyInstanceUID": dicom_files.uid("study", "mixed")}
    (folder / "localizer.dcm").write_bytes(
        dicom_files.image_bytes("localizer", **same, ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"])
    )
    found = judge("mixed")
    assert codes(found) == ["mixed-orientation"]
    assert note(found, "mixed-orientation").places[0].remark == "2 orientations"


def test_uids_that_are_used_twice_are_told(judge: Judge, settings: Settings) -> None:
    folder = settings["watch.folders"][0] / "reused"
    study = dicom_files.uid("study", "shared")
    write(folder / "a", "one", images=3, StudyInstanceUID=study, PatientID="P1")
    write(folder / "b", "two", images=3, StudyInstanceUID=study, PatientID="P2")
    write(folder / "c", "three", images=3, SeriesInstanceUID=dicom_files.uid("series", "one"))
    (folder / "conflict.dcm").write_bytes(dicom_files.image_bytes("one/0", ImageComments="other bytes"))
    found = judge("reused")
    assert set(codes(found)) >= {"conflict", "several-patients", "several-studies"}
    assert note(found, "conflict").images == 1
    assert [place.kind for place in note(found, "several-patients").places] == ["study"]
    assert {place.kind for place in note(found, "several-studies").places} == {"series"}


def test_what_is_no_uid_and_what_has_none_is_told(judge: Judge, settings: Settings) -> None:
    folder = settings["watch.folders"][0] / "uids"
    write(folder, "uids", images=3)
    series = dicom_files.image_bytes("series", SeriesInstanceUID="1.2." + "3" * 60)
    # pydicom refuses to write it.
    (folder / "series.dcm").write_bytes(series.replace(b"1.2." + b"3" * 60, b"1.2.0" + b"3" * 59))
    (folder / "zero.dcm").write_bytes(dicom_files.image_bytes("zero", SOPInstanceUID="1.2.3.45").replace(b"1.2.3.45", b"1.2.03.4"))
    (folder / "none.dcm").write_bytes(dicom_files.image_bytes("none", SeriesInstanceUID=None))
    (folder / "space.dcm").write_bytes(dicom_files.image_bytes("space", FrameOfReferenceUID=None))
    found = judge("uids")
    assert set(codes(found)) == {"bad-uid", "missing-uid", "no-frame-of-reference"}
    assert {(place.kind, place.remark or place.name) for place in note(found, "bad-uid").places} == {
        ("series", "SeriesInstanceUID"), ("element", "SOPInstanceUID"),
    }  # fmt: skip
    assert note(found, "missing-uid").images == note(found, "no-frame-of-reference").images == 1


@pytest.mark.usefixtures("silent_pydicom")
def test_another_vr_than_the_dictionary_has_is_told(judge: Judge, settings: Settings) -> None:
    folder = settings["watch.folders"][0] / "vr"
    folder.mkdir()
    right = dicom_files.image_bytes("vr")
    folder.joinpath("wrong.dcm").write_bytes(right.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00SH"))
    found = judge("vr")
    assert [(place.name, place.remark, place.images) for place in note(found, "wrong-vr").places] == [("PatientID", "SH instead of LO", 1)]


def test_who_is_told_about_is_counted_also_within_sequences_and_not_when_empty(judge: Judge, settings: Settings) -> None:
    folder = settings["watch.folders"][0] / "who"
    write(folder / "a", "who", images=3, InstitutionName="", OperatorsName="")
    named = dicom_files.image("named", OperatorsName="Op^Anna", BurnedInAnnotation="YES", PatientIdentityRemoved="YES")
    named.RequestAttributesSequence = [dicom_files.image("item", PixelData=None)]
    (folder / "named.dcm").write_bytes(dicom_files.file_bytes(named))
    (folder / "echo.dcm").write_bytes(dicom_files.image_bytes("echo", Modality="US"))
    found = judge("who")
    present = {one.keyword: (one.images, one.nested) for one in found.identity}
    assert present["PatientName"] == (5, 1)
    assert present["OperatorsName"] == (1, 0)
    assert "InstitutionName" not in present
    assert found.removed == 1
    assert (note(found, "burned-in").images, note(found, "perhaps-burned-in").images) == (1, 1)


def test_every_identifying_element_is_one_of_the_dictionary_and_named_once() -> None:
    assert all(keyword_of(one.tag) for one in IDENTIFYING)
    assert len({one.tag for one in IDENTIFYING}) == len(IDENTIFYING)


def test_a_larger_batch_takes_no_more_statements_and_no_more_than_a_bound_is_looked_at(
    engine: sa.Engine, judge: Judge, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings["watch.folders"][0]
    for part in range(3):
        write(folder / "large" / str(part), f"large {part}", images=6)
    write(folder / "small", "small", images=4)
    counts = []
    for name in ("small", "large"):
        judge(name)
        with work(engine, read_only=True) as dbsession, statements(engine) as ran:
            quality.judge_batch(dbsession, dbsession.scalars(sa.select(sa.func.max(Batch.id))).one())
        counts.append(len(ran))
    assert counts[0] == counts[1] <= 12
    monkeypatch.setattr(quality, "MOST_IMAGES", 5)
    with work(engine, read_only=True) as dbsession:
        found = quality.judge_batch(dbsession, dbsession.scalars(sa.select(sa.func.max(Batch.id))).one())
    assert (found.looked_at, found.is_part) == (5, True)
    assert max(one.images for one in found.identity) == 5
