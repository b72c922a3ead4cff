"""Patients, studies and series: lists of what is here besides the batches it came in, and a page of each."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from pyramid.view import view_config

from dicomweb import asking
from dicomweb.asking import Mistake
from dicomweb.models import Patient, Series, Study
from dicomweb.resources import (
    PatientResource,
    PatientsContainer,
    SeriesContainer,
    SeriesResource,
    StudiesContainer,
    StudyResource,
)
from dicomweb.search import (
    labels_of,
    list_images,
    list_labels,
    list_series,
    list_studies,
    lists,
    series_rows,
    study_rows,
)
from dicomweb.security import Permission
from dicomweb.views import SeeOther, page_number, see_other
from dicomweb.views.batches import varying
from dicomweb.views.messages import message
from dicomweb.views.places import ListPlace, day
from dicomweb.views.search import search_address, shown_label

ROWS_OF_A_PAGE = 50
IMAGES_OF_A_PAGE = 50
# Of what came in more batches the first ones are named.
BATCHES_SHOWN = 20
# (0010,0040) PatientSex, PS3.3 C.7.1.1.
SEXES = ("F", "M", "O")


@view_config(context=PatientsContainer, renderer="patients.jinja2", permission=Permission.IMAGE_READ)
def list_all_patients(context: PatientsContainer, request: Any) -> dict[str, Any]:
    """List the patients."""
    place = ListPlace(request.GET, "/patients", filters=("q", "sex"), sorts=lists.PATIENT_SORTS, usual="-id", largest_first=("id",))
    page = lists.list_patients(
        request.dbsession,
        text=place["q"],
        sex=place["sex"] if place["sex"] in SEXES else None,
        sort=place.sort,
        number=place.number,
        size=ROWS_OF_A_PAGE,
        newest_first=place.descending,
    )
    return {"level": "patient", "place": place, "page": page, "sexes": SEXES}


@view_config(context=StudiesContainer, renderer="studies.jinja2", permission=Permission.IMAGE_READ)
def list_all_studies(context: StudiesContainer, request: Any) -> dict[str, Any]:
    """List the studies."""
    place = ListPlace(
        request.GET, "/studies", filters=("q", "modality", "since", "until"), sorts=lists.STUDY_SORTS, usual="-id", largest_first=("id", "date")
    )
    page = list_studies(
        request.dbsession,
        text=place["q"],
        modality=place["modality"] or None,
        since=_dicom_day(place["since"]),
        until=_dicom_day(place["until"]),
        sort=place.sort,
        number=place.number,
        size=ROWS_OF_A_PAGE,
        newest_first=place.descending,
    )
    return {"level": "study", "place": place, "page": page, "modalities": _modalities(request), **_labels(request, "study", [row.study.id for row in page.rows])}


@view_config(context=SeriesContainer, renderer="series_list.jinja2", permission=Permission.IMAGE_READ)
def list_all_series(context: SeriesContainer, request: Any) -> dict[str, Any]:
    """List the series."""
    place = ListPlace(request.GET, "/series", filters=("q", "modality"), sorts=lists.SERIES_SORTS, usual="-id", largest_first=("id", "date"))
    page = list_series(
        request.dbsession,
        text=place["q"],
        modality=place["modality"] or None,
        sort=place.sort,
        number=place.number,
        size=ROWS_OF_A_PAGE,
        newest_first=place.descending,
    )
    return {"level": "series", "place": place, "page": page, "modalities": _modalities(request), **_labels(request, "series", [row.series.id for row in page.rows])}


def _modalities(request: Any) -> list[tuple[str, str]]:
    return [(modality, modality) for modality in lists.modalities(request.dbsession)]


def _labels(request: Any, kind: str, ids: list[int]) -> dict[str, Any]:
    on_them = labels_of(request.dbsession, kind, ids)
    return {"labels": {id_: [shown_label(name) for name in names] for id_, names in on_them.items()}}


def _dicom_day(text: str) -> str:
    found: date | None = day(text)
    return "" if found is None else found.strftime("%Y%m%d")


@view_config(context=PatientResource, renderer="patient.jinja2", permission=Permission.IMAGE_READ)
def show_patient(context: PatientResource, request: Any) -> dict[str, Any]:
    """Show a patient and the studies of it."""
    patient, dbsession = context.patient, request.dbsession
    page = list_studies(dbsession, patient_key=patient.id, sort="date", newest_first=True, number=page_number(request.GET), size=ROWS_OF_A_PAGE)
    of_patient = sa.select(Series.id).join(Study, Study.id == Series.study_key).where(Study.patient_key == patient.id)
    (row,) = lists.patient_rows(dbsession, [patient])
    namesakes = sa.select(Patient).where(Patient.patient_id == patient.patient_id, Patient.id != patient.id, Patient.patient_id != "")
    return {
        "patient": patient,
        "row": row,
        "page": page,
        "shares": lists.batches_with(dbsession, of_patient, BATCHES_SHOWN + 1),
        "shown": BATCHES_SHOWN,
        # The same ID under another name or birth date: perhaps a misspelling, perhaps another hospital.
        "namesakes": list(dbsession.scalars(namesakes.order_by(Patient.id).limit(BATCHES_SHOWN))),
        "images_address": search_address(PatientID=patient.patient_id, PatientName=patient.patient_name)
        or search_address(PatientID=patient.patient_id)
        or search_address(PatientName=patient.patient_name),
        **_labels(request, "study", [one.study.id for one in page.rows]),
    }


@view_config(context=StudyResource, renderer="study.jinja2", permission=Permission.IMAGE_READ)
def show_study(context: StudyResource, request: Any) -> dict[str, Any]:
    """Show a study and its series."""
    study, dbsession = context.study, request.dbsession
    page = list_series(dbsession, study_id=study.id, number=page_number(request.GET), size=ROWS_OF_A_PAGE)
    (row,) = study_rows(dbsession, [study])
    return {
        "study": study,
        "row": row,
        "page": page,
        "shares": lists.batches_with(dbsession, sa.select(Series.id).where(Series.study_key == study.id), BATCHES_SHOWN + 1),
        "shown": BATCHES_SHOWN,
        "images_address": search_address(StudyInstanceUID=study.study_instance_uid),
        **_own_labels(request, "study", study.id),
        **_labels(request, "series", [one.series.id for one in page.rows]),
        "message": message(request),
    }


@view_config(context=SeriesResource, renderer="series.jinja2", permission=Permission.IMAGE_READ)
def show_series(context: SeriesResource, request: Any) -> dict[str, Any]:
    """Show a series and its images."""
    series, dbsession = context.series, request.dbsession
    (row,) = series_rows(dbsession, [series])
    return {
        "series": series,
        "row": row,
        "page": list_images(dbsession, series_id=series.id, number=page_number(request.GET), size=IMAGES_OF_A_PAGE),
        "shares": lists.batches_with(dbsession, sa.select(Series.id).where(Series.id == series.id), BATCHES_SHOWN + 1),
        "shown": BATCHES_SHOWN,
        "images_address": search_address(SeriesInstanceUID=series.series_instance_uid),
        **_own_labels(request, "series", series.id),
        "message": message(request),
    }


@view_config(context=SeriesResource, name="varies", renderer="_varies.jinja2", permission=Permission.IMAGE_READ)
def varies_in_series(context: SeriesResource, request: Any) -> dict[str, Any]:
    """Give what varies among the images of a series, as a part of its page."""
    return varying(request, "", context.series)


def _own_labels(request: Any, kind: str, id_: int) -> dict[str, Any]:
    on_it = labels_of(request.dbsession, kind, [id_]).get(id_, ())
    return {"own_labels": [shown_label(name) for name in on_it], "known_labels": list_labels(request.dbsession)}


@view_config(context=StudyResource, name="label", request_method="POST", permission=Permission.LABEL_CHANGE)
def label_study(context: StudyResource, request: Any) -> SeeOther:
    """Put a label on a study, or take it off."""
    return _label(request, "study", context.study.id, f"/studies/{context.study.id}")


@view_config(context=SeriesResource, name="label", request_method="POST", permission=Permission.LABEL_CHANGE)
def label_series(context: SeriesResource, request: Any) -> SeeOther:
    """Put a label on a series, or take it off."""
    return _label(request, "series", context.series.id, f"/series/{context.series.id}")


def _label(request: Any, kind: str, id_: int, address: str) -> SeeOther:
    put = request.POST.get("do") != "remove"
    try:
        asking.change_label_of(request.dbsession, kind, [id_], request.POST.get("label", ""), put=put, now=datetime.now(UTC))
    except Mistake:
        return see_other(request, address, message="not-labelled")
    return see_other(request, address, message="labelled-one" if put else "unlabelled-one")
