"""Patients, studies and series: found, or added in a short transaction of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import headers
from dicomweb.db import insert_missing
from dicomweb.imports.importer import Importer
from dicomweb.models import Patient, Series, Study

_PATIENT = {
    "patient_id": "00100020",
    "patient_name": "00100010",
    "patient_birth_date": "00100030",
    "patient_sex": "00100040",
}


_STUDY = {
    "study_instance_uid": "0020000D",
    "study_date": "00080020",
    "study_time": "00080030",
    "accession_number": "00080050",
    "study_id": "00200010",
    "study_description": "00081030",
    "referring_physician_name": "00080090",
}


_SERIES = {
    "series_instance_uid": "0020000E",
    "modality": "00080060",
    "series_number": "00200011",
    "series_description": "0008103E",
    "series_date": "00080021",
    "series_time": "00080031",
    "body_part_examined": "00180015",
    "protocol_name": "00181030",
}


# Beyond any honest value, but, of characters of four bytes, within the 2,704 bytes PostgreSQL can index: alone, or the
# three of a patient together.
_LONGEST = 512
_LONGEST_OF_PATIENT = 200


def ensure_series(importer: Importer, found: Sequence[headers.Header]) -> dict[tuple[str, str], int]:
    """Give the id of each (StudyInstanceUID, SeriesInstanceUID) of some headers, adding rows that are missing.

    In a short transaction of its own, sorted, before the chunk is written: so chunks of one series never wait for each other.
    """
    first: dict[tuple[str, str], headers.Header] = {}
    for header in found:
        first.setdefault((header.value("0020000D"), header.value("0020000E")), header)
    if not first:
        return {}
    with importer.work(read_only=True) as dbsession:
        known = _known_series(dbsession, first)
    if len(known) < len(first):
        with importer.work() as dbsession:
            _add_series(dbsession, {uids: header for uids, header in sorted(first.items()) if uids not in known})
            known = _known_series(dbsession, first)
    return known


def _known_series(dbsession: Session, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    rows = dbsession.execute(
        sa.select(Study.study_instance_uid, Series.series_instance_uid, Series.id)
        .join(Study, Study.id == Series.study_key)
        .where(Series.series_instance_uid.in_(sorted({series for _, series in wanted})))
    )
    return {(study, series): row for study, series, row in rows if (study, series) in wanted}


def _add_series(dbsession: Session, missing: dict[tuple[str, str], headers.Header]) -> None:
    studies = {study: header for (study, _), header in missing.items()}
    patients = {study: _texts(header, _PATIENT, _LONGEST_OF_PATIENT) for study, header in studies.items()}
    unique = {_patient_key(row): row for row in patients.values()}
    insert_missing(dbsession, Patient, [row for _, row in sorted(unique.items())])
    by_key = {
        (row.patient_id, row.patient_name, row.patient_birth_date): row.id
        for row in dbsession.scalars(
            sa.select(Patient).where(Patient.patient_id.in_(sorted({key[0] for key in unique})))
        )
    }
    rows = [
        {**_texts(header, _STUDY), "patient_key": by_key[_patient_key(patients[study])]}
        for study, header in sorted(studies.items())
    ]
    insert_missing(dbsession, Study, rows)
    study_keys = dict(
        dbsession.execute(
            sa.select(Study.study_instance_uid, Study.id).where(Study.study_instance_uid.in_(sorted(studies)))
        ).all()
    )
    insert_missing(
        dbsession,
        Series,
        [{**_texts(header, _SERIES), "study_key": study_keys[study]} for (study, _), header in missing.items()],
    )


def _patient_key(patient: dict[str, str]) -> tuple[str, str, str]:
    return patient["patient_id"], patient["patient_name"], patient["patient_birth_date"]


def _texts(header: headers.Header, columns: dict[str, str], longest: int = _LONGEST) -> dict[str, str]:
    return {column: header.value(path)[:longest] for column, path in columns.items()}
