"""Which batches a filter lets through, and in which order; patients, studies and series by text and order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import work
from dicomweb.models import Patient, Series, Study
from dicomweb.search import batch_lists, labels, list_series, list_studies, lists
from dicomweb.search.batch_lists import BatchFilter
from tests.functional.pages import NOW, batch


@pytest.fixture
def dbsession(engine: sa.Engine) -> Iterator[Session]:
    """Five batches, of which one is being deleted and one has a label; three patients with a study and a series each."""
    with work(engine) as filling:
        filling.add_all([
            batch("Knee left", image_count=5, byte_count=100),
            batch("knee_right", image_count=50, byte_count=10, has_error=True, error_count=3, source="stow"),
            batch("100%", status="PROCESSING", created_at=NOW + timedelta(days=2)),
            batch("gone", deleting=True),
            batch("hip", created_at=NOW - timedelta(days=3), image_count=7),
        ])  # fmt: skip
        filling.flush()
        labels.add_label(filling, "Reviewed", "batch", [1], now=NOW)
        for number, (name, id_, day) in enumerate((("Muster^Anna", "S-2", "20200101"), ("Beispiel^Bernd", "A-9", "20230515"), ("", "X", "")), 1):
            filling.add(Patient(patient_id=id_, patient_name=name, patient_birth_date="", patient_sex="FMO"[number - 1]))
            filling.flush()
            filling.add(
                Study(study_instance_uid=f"1.2.{number}", patient_key=number, study_date=day, study_time="", accession_number=f"ACC{number}",
                      study_id="", study_description=f"study {number}", referring_physician_name="")
            )  # fmt: skip
            filling.flush()
            filling.add(
                Series(series_instance_uid=f"1.3.{number}", study_key=number, modality=("CT", "MR", "CT")[number - 1], series_number="1",
                       series_description=f"axial {number}", series_date="", series_time="", body_part_examined="", protocol_name="")
            )  # fmt: skip
    with work(engine, read_only=True) as reading:
        yield reading


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (BatchFilter(), ["hip", "gone", "100%", "knee_right", "Knee left"]),
        (BatchFilter(name="KNEE"), ["knee_right", "Knee left"]),
        (BatchFilter(name="e_r"), ["knee_right"]),
        (BatchFilter(name="0%"), ["100%"]),
        (BatchFilter(status="DONE"), ["hip", "knee_right", "Knee left"]),
        (BatchFilter(status=batch_lists.DELETING), ["gone"]),
        (BatchFilter(source="stow"), ["knee_right"]),
        (BatchFilter(label="reviewed"), ["Knee left"]),
        (BatchFilter(label="nothing"), []),
        (BatchFilter(errors=True), ["knee_right"]),
        (BatchFilter(errors=False, status="DONE"), ["hip", "Knee left"]),
        (BatchFilter(since=NOW + timedelta(days=1)), ["100%"]),
        (BatchFilter(until=NOW), ["hip"]),
    ],
)
def test_a_filter_lets_through_what_it_says(dbsession: Session, wanted: BatchFilter, names: list[str]) -> None:
    page = batch_lists.list_batches(dbsession, wanted, number=1, size=10, total=5)
    assert [one.name for one in page.rows] == names
    assert page.count == len(names)
    chosen = batch_lists.batches_of(dbsession, batch_lists.batch_ids(dbsession, wanted, most=10))
    assert [one.name for one in chosen] == [name for name in names if name != "gone"]


def test_batches_are_sorted_by_what_is_asked_and_then_by_id(dbsession: Session) -> None:
    by_images = batch_lists.list_batches(dbsession, BatchFilter(), sort="images", descending=True, number=1, size=3)
    assert [one.image_count for one in by_images.rows] == [50, 7, 5]
    assert {name for name in batch_lists.SORTS if batch_lists.list_batches(dbsession, BatchFilter(), sort=name, descending=False, number=1, size=9).count == 5} == set(batch_lists.SORTS)


def test_sums_are_those_of_the_batches(dbsession: Session) -> None:
    found = batch_lists.batches_of(dbsession, [1, 2, 4, 99])
    assert batch_lists.sum_up(found) == batch_lists.BatchSums(2, 55, 110, 3, 0)


def test_people_are_found_by_each_word_and_by_order(dbsession: Session) -> None:
    def names(**how: object) -> list[str]:
        return [row.patient.patient_name for row in lists.list_patients(dbsession, number=1, size=10, **how).rows]  # type: ignore[arg-type]

    assert names(text="anna s-2") == ["Muster^Anna"]
    assert names(text="anna a-9") == []
    assert names(sort="name") == ["", "Beispiel^Bernd", "Muster^Anna"]
    assert names(sort="name", newest_first=True) == ["Muster^Anna", "Beispiel^Bernd", ""]
    assert names(sex="M") == ["Beispiel^Bernd"]


def test_studies_and_series_are_found_by_text_uid_modality_and_date(dbsession: Session) -> None:
    def studies(**how: object) -> list[str]:
        return [row.study.study_description for row in list_studies(dbsession, number=1, size=10, **how).rows]  # type: ignore[arg-type]

    def series(**how: object) -> list[str]:
        return [row.series.series_description for row in list_series(dbsession, number=1, size=10, **how).rows]  # type: ignore[arg-type]

    assert studies(text="bernd") == studies(text="acc2") == studies(text="1.2.2") == ["study 2"]
    assert studies(text="1.2") == []
    assert studies(modality="CT") == ["study 1", "study 3"]
    assert studies(since="20200101", until="20200101") == ["study 1"]
    assert studies(until="20991231", sort="date", newest_first=True) == ["study 2", "study 1"]
    assert studies(sort="patient") == ["study 3", "study 2", "study 1"]
    assert studies(patient_key=2) == ["study 2"]
    assert series(text="muster axial") == series(text="1.3.1") == ["axial 1"]
    assert series(sort="patient", modality="CT") == ["axial 3", "axial 1"]
    assert {name for name in lists.SERIES_SORTS if len(series(sort=name)) == 3} == set(lists.SERIES_SORTS)
    assert {name for name in lists.STUDY_SORTS if len(studies(sort=name)) == 3} == set(lists.STUDY_SORTS)
    assert lists.modalities(dbsession) == ["CT", "MR"]
