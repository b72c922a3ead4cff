"""``/api/series`` and ``/api/studies``: what the images belong to."""

from __future__ import annotations

from typing import Any

from dicomweb import search
from dicomweb.api import schemas
from dicomweb.api.requests import address, checked, page, service
from dicomweb.models import Patient
from dicomweb.search import SeriesRow, StudyRow
from dicomweb.security import Permission

_SERIES_ID = "The number of the series."
_STUDY_ID = "The number of the study."

all_series = service("series", "/series", "Series")
one_series = service("series.one", "/series/{id}", "One series")
all_studies = service("studies", "/studies", "Studies")
one_study = service("studies.one", "/studies/{id}", "One study")

SERVICES = (all_series, one_series, all_studies, one_study)


@all_series.get(
    schema=schemas.request(schemas.SeriesFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["series and studies"],
    operation_id="list_series",
    response_schemas=schemas.answers(schemas.page_of(schemas.Series), "A page of series."),
)
def list_series(request: Any) -> dict[str, Any]:
    """List series."""
    wanted = request.validated
    found = search.list_series(
        request.dbsession,
        batch_id=wanted.get("batch"),
        study_id=wanted.get("study"),
        modality=wanted.get("modality"),
        series_instance_uid=wanted.get("series_instance_uid"),
        number=wanted["page"],
        size=wanted["page_size"],
        newest_first=wanted["sort"] == "-id",
    )
    return page(request, found, [_series(request, row) for row in found.rows])


@one_series.get(
    schema=schemas.request(identified=_SERIES_ID),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["series and studies"],
    operation_id="get_series",
    response_schemas=schemas.answers(schemas.Series, "The series.", 404),
)
def get_series(request: Any) -> dict[str, Any]:
    """Show one series."""
    return _series(request, search.series_rows(request.dbsession, [request.context.series])[0])


@all_studies.get(
    schema=schemas.request(schemas.StudyFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["series and studies"],
    operation_id="list_studies",
    response_schemas=schemas.answers(schemas.page_of(schemas.Study), "A page of studies."),
)
def list_studies(request: Any) -> dict[str, Any]:
    """List studies."""
    wanted = request.validated
    found = search.list_studies(
        request.dbsession,
        batch_id=wanted.get("batch"),
        patient_id=wanted.get("patient_id"),
        accession_number=wanted.get("accession_number"),
        study_date=wanted.get("study_date"),
        study_instance_uid=wanted.get("study_instance_uid"),
        number=wanted["page"],
        size=wanted["page_size"],
        newest_first=wanted["sort"] == "-id",
    )
    return page(request, found, [_study(request, row) for row in found.rows])


@one_study.get(
    schema=schemas.request(identified=_STUDY_ID),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["series and studies"],
    operation_id="get_study",
    response_schemas=schemas.answers(schemas.Study, "The study.", 404),
)
def get_study(request: Any) -> dict[str, Any]:
    """Show one study."""
    return _study(request, search.study_rows(request.dbsession, [request.context.study])[0])


def _series(request: Any, row: SeriesRow) -> dict[str, Any]:
    series = row.series
    return {
        "id": series.id,
        "url": address(request, "series", series.id),
        "series_instance_uid": series.series_instance_uid,
        "modality": series.modality,
        "series_number": series.series_number,
        "series_description": series.series_description,
        "series_date": series.series_date,
        "series_time": series.series_time,
        "body_part_examined": series.body_part_examined,
        "protocol_name": series.protocol_name,
        "images_count": row.images,
        "images_url": f"{request.script_name}/api/images?series={series.id}",
        "study": series.study_key,
        "study_url": address(request, "studies", series.study_key),
        "study_instance_uid": series.study.study_instance_uid,
        "patient": _patient(series.study.patient),
    }


def _study(request: Any, row: StudyRow) -> dict[str, Any]:
    study = row.study
    return {
        "id": study.id,
        "url": address(request, "studies", study.id),
        "study_instance_uid": study.study_instance_uid,
        "study_date": study.study_date,
        "study_time": study.study_time,
        "accession_number": study.accession_number,
        "study_id": study.study_id,
        "study_description": study.study_description,
        "referring_physician_name": study.referring_physician_name,
        "modalities": list(row.modalities),
        "series_count": row.series,
        "images_count": row.images,
        "series_url": f"{request.script_name}/api/series?study={study.id}",
        "patient": _patient(study.patient),
    }


def _patient(patient: Patient) -> dict[str, Any]:
    return {
        "patient_id": patient.patient_id,
        "patient_name": patient.patient_name,
        "patient_birth_date": patient.patient_birth_date,
        "patient_sex": patient.patient_sex,
    }
