"""Find images, series, studies and header elements: lists with exact counts, in a constant number of statements whatever the page.

How many images a series has is read from ``group_series``, which the header index keeps exact, and never counted from
the image table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydicom.datadict import keyword_for_tag
from sqlalchemy.orm import Session, joinedload

from dicomweb import index
from dicomweb.listing import Page, take_page
from dicomweb.models import GROUP_SIZE, Batch, GroupSeries, HeaderGroup, Image, Outcome, Patient, Series, Study

# Written as text and not bound, because SQLite uses a partial index only when its condition is in the statement itself.
_OPEN = Image.status != sa.literal_column("'DONE'")

# By what lists are sorted: first what is named, then by id. An empty value comes first, as it sorts.
PATIENT_SORTS: dict[str, Any] = {
    "id": Patient.id,
    "name": Patient.patient_name,
    "patient-id": Patient.patient_id,
    "birth-date": Patient.patient_birth_date,
}
STUDY_SORTS: dict[str, Any] = {
    "id": Study.id,
    "date": Study.study_date,
    "description": Study.study_description,
    "accession": Study.accession_number,
    "patient": Patient.patient_name,
}
SERIES_SORTS: dict[str, Any] = {
    "id": Series.id,
    "modality": Series.modality,
    "number": Series.series_number,
    "description": Series.series_description,
    "date": Study.study_date,
    "patient": Patient.patient_name,
}

_PUBLIC_TAG = re.compile(r"[0-9A-F]{8}")


class SeriesRow(NamedTuple):
    """A series, and how many images of it are here."""

    series: Series
    images: int


class PatientRow(NamedTuple):
    """A patient, and how many studies, series and images of it are here."""

    patient: Patient
    studies: int
    series: int
    images: int


class HeaderRow(NamedTuple):
    """A path that some image has: its keyword (empty without one), how many images have it, and a few values."""

    path: str
    keyword: str
    vr: str
    images: int
    examples: tuple[str, ...]


class BatchShare(NamedTuple):
    """A batch, and how many images of something it holds."""

    batch: Batch
    images: int


class StudyRow(NamedTuple):
    """A study, how many series and images of it are here, and the modalities of its series in alphabetical order."""

    study: Study
    series: int
    images: int
    modalities: tuple[str, ...]


def list_images(
    dbsession: Session,
    *,
    batch_id: int | None = None,
    status: str | None = None,
    series_id: int | None = None,
    sop_instance_uid: str | None = None,
    has_error: bool | None = None,
    number: int,
    size: int,
    newest_first: bool = False,
) -> Page:
    """List images with their series and studies, in the order in which the application met them.

    status: one of IMAGE_STATUS. has_error: only images that are in conflict with another one, or only those that are not.
    """
    # A conflict is the only error that leaves an image.
    conflicts = sa.select(Outcome.image_id).where(Outcome.kind == "conflict", Outcome.image_id.is_not(None))
    statement = sa.select(Image).options(joinedload(Image.series).joinedload(Series.study))
    if batch_id is not None:
        statement = statement.where(Image.batch_id == batch_id)
    if series_id is not None:
        statement = statement.where(Image.id.in_(_image_ids_of_series(series_id)))
    if sop_instance_uid is not None:
        statement = statement.where(Image.sop_instance_uid == sop_instance_uid)
    if has_error is not None:
        statement = statement.where(Image.id.in_(conflicts) if has_error else Image.id.not_in(conflicts))
    count = None
    if status in (None, "DONE") and series_id is None and sop_instance_uid is None and has_error is None:
        count = _count_by_batches(dbsession, batch_id, done_only=status == "DONE")
    if status == "DONE":
        statement = statement.where(Image.status == status)
    elif status is not None:
        statement = statement.where(Image.status == status, _OPEN)
    return take_page(dbsession, statement, Image.id, number=number, size=size, count=count, newest_first=newest_first)


def list_series(
    dbsession: Session,
    *,
    batch_id: int | None = None,
    study_id: int | None = None,
    modality: str | None = None,
    series_instance_uid: str | None = None,
    text: str = "",
    sort: str = "id",
    number: int,
    size: int,
    newest_first: bool = False,
) -> Page:
    """List series as ``SeriesRow`` with study and patient loaded.

    text: part of the name or ID of the patient, of the description, or the whole UID. sort: one of SERIES_SORTS, ``id`` is the
    order in which the application met them; newest_first turns it round.
    """
    joins = _Joins(sort if sort in ("patient", "date") else "", text)
    statement = joins.of_series(sa.select(Series).options(joinedload(Series.study).joinedload(Study.patient)))
    if text:
        texts = (Patient.patient_name, Patient.patient_id, Series.series_description)
        statement = statement.where(_contains(text, texts, Series.series_instance_uid))
    if batch_id is not None:
        statement = statement.where(Series.id.in_(_series_ids_of_batch(batch_id)))
    if study_id is not None:
        statement = statement.where(Series.study_key == study_id)
    if modality is not None:
        statement = statement.where(Series.modality == modality)
    if series_instance_uid is not None:
        statement = statement.where(Series.series_instance_uid == series_instance_uid)
    order = _order(SERIES_SORTS, sort, newest_first)
    page = take_page(dbsession, statement, Series.id, number=number, size=size, newest_first=newest_first, order=order)
    return replace(page, rows=series_rows(dbsession, page.rows))


def list_studies(
    dbsession: Session,
    *,
    batch_id: int | None = None,
    patient_id: str | None = None,
    accession_number: str | None = None,
    study_date: str | None = None,
    study_instance_uid: str | None = None,
    patient_key: int | None = None,
    modality: str | None = None,
    since: str = "",
    until: str = "",
    text: str = "",
    sort: str = "id",
    number: int,
    size: int,
    newest_first: bool = False,
) -> Page:
    """List studies as ``StudyRow`` with patient loaded.

    patient_id: the text of (0010,0020) PatientID, exactly. study_date, since, until: (0008,0020) StudyDate as YYYYMMDD, both ends
    included. modality: of one of its series. text: part of the name or ID of the patient, of the description or accession number,
    or the whole UID. sort: one of STUDY_SORTS, ``id`` is the order in which the application met them; newest_first turns it round.
    """
    joins = _Joins(sort if sort == "patient" else "", text)
    statement = joins.of_studies(sa.select(Study).options(joinedload(Study.patient)))
    if text:
        texts = (Patient.patient_name, Patient.patient_id, Study.study_description, Study.accession_number)
        statement = statement.where(_contains(text, texts, Study.study_instance_uid))
    if patient_key is not None:
        statement = statement.where(Study.patient_key == patient_key)
    if modality is not None:
        statement = statement.where(Study.id.in_(sa.select(Series.study_key).where(Series.modality == modality)))
    if since:
        statement = statement.where(Study.study_date >= since)
    if until:
        statement = statement.where(Study.study_date <= until, Study.study_date != "")
    if batch_id is not None:
        statement = statement.where(
            Study.id.in_(sa.select(Series.study_key).where(Series.id.in_(_series_ids_of_batch(batch_id))))
        )
    if patient_id is not None:
        statement = statement.where(
            Study.patient_key.in_(sa.select(Patient.id).where(Patient.patient_id == patient_id))
        )
    if accession_number is not None:
        statement = statement.where(Study.accession_number == accession_number)
    if study_date is not None:
        statement = statement.where(Study.study_date == study_date)
    if study_instance_uid is not None:
        statement = statement.where(Study.study_instance_uid == study_instance_uid)
    order = _order(STUDY_SORTS, sort, newest_first)
    page = take_page(dbsession, statement, Study.id, number=number, size=size, newest_first=newest_first, order=order)
    return replace(page, rows=study_rows(dbsession, page.rows))


def list_patients(
    dbsession: Session,
    *,
    text: str = "",
    sex: str | None = None,
    sort: str = "id",
    number: int,
    size: int,
    newest_first: bool = False,
) -> Page:
    """List patients as ``PatientRow``. text: part of the name or the ID. sort: one of PATIENT_SORTS."""
    statement = sa.select(Patient)
    if text:
        statement = statement.where(_contains(text, (Patient.patient_name, Patient.patient_id)))
    if sex is not None:
        statement = statement.where(Patient.patient_sex == sex)
    order = _order(PATIENT_SORTS, sort, newest_first)
    page = take_page(dbsession, statement, Patient.id, number=number, size=size, newest_first=newest_first, order=order)
    return replace(page, rows=patient_rows(dbsession, page.rows))


class _Joins:
    """What a statement over series or studies is joined with, because it is sorted by it or looked for in it."""

    def __init__(self, *reasons: str) -> None:
        self._needed = any(reasons)

    def of_studies(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return statement.join(Patient, Patient.id == Study.patient_key) if self._needed else statement

    def of_series(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return self.of_studies(statement.join(Study, Study.id == Series.study_key)) if self._needed else statement


def _order(sorts: dict[str, Any], sort: str, descending: bool) -> tuple[sa.ColumnElement[Any], ...]:
    if sort == "id":
        return ()
    return (sorts[sort].desc() if descending else sorts[sort].asc(),)


def _contains(text: str, columns: Sequence[Any], uid: Any = None) -> sa.ColumnElement[bool]:
    """Say that each word is part of one of some columns, in any case; or that the text is a UID."""
    words = [sa.or_(*(column.icontains(word, autoescape=True) for column in columns)) for word in text.split()]
    found = sa.and_(sa.true(), *words)
    return found if uid is None else sa.or_(found, uid == text.strip())


def list_headers(dbsession: Session, *, text: str = "", number: int, size: int) -> Page:
    """List header elements as ``HeaderRow``, in the order of their paths.

    text: only those whose path begins with it, or whose keyword contains it, in any case. A page is put together from
    ``index.MOST_FIELDS`` paths at a time.
    """
    wanted, prefix = text.casefold(), text.upper()
    paths = [
        path
        for path in index.field_paths(dbsession)
        if not text or path.upper().startswith(prefix) or wanted in keyword_of(path).casefold()
    ]
    shown = paths[(number - 1) * size : number * size]
    rows = []
    for start in range(0, len(shown), index.MOST_FIELDS):
        for found in index.summarise_fields(dbsession, shown[start : start + index.MOST_FIELDS]):
            rows.append(HeaderRow(found.path, keyword_of(found.path), found.vr, found.images, found.examples))
    return Page(len(paths), number, size, rows)


@lru_cache(maxsize=100_000)
def keyword_of(path: str) -> str:
    """Give the keyword of the last element of a path (PS3.6); empty for a private or unknown one."""
    tag = path.rpartition("/")[2]
    return keyword_for_tag(int(tag, 16)) if _PUBLIC_TAG.fullmatch(tag) else ""


def series_of_batch(dbsession: Session, batch_id: int, limit: int) -> list[SeriesRow]:
    """Give the first series of a batch with study and patient loaded, and how many images of each are in the batch."""
    images = sa.func.sum(GroupSeries.images)
    counted = dbsession.execute(
        sa.select(GroupSeries.series_id, images)
        .join(HeaderGroup, HeaderGroup.id == GroupSeries.group_id)
        .where(HeaderGroup.batch_id == batch_id)
        .group_by(GroupSeries.series_id)
        .order_by(GroupSeries.series_id)
        .limit(limit)
    ).all()
    wanted = sa.select(Series).where(Series.id.in_([series_id for series_id, _ in counted]))
    loaded = dbsession.scalars(wanted.options(joinedload(Series.study).joinedload(Study.patient)))
    found = {series.id: series for series in loaded}
    return [SeriesRow(found[series_id], int(count)) for series_id, count in counted]


def series_rows(dbsession: Session, series: Sequence[Series]) -> list[SeriesRow]:
    """Add to each series how many images it has, in one statement."""
    images = count_images(dbsession, [one.id for one in series])
    return [SeriesRow(one, images[one.id]) for one in series]


def study_rows(dbsession: Session, studies: Sequence[Study]) -> list[StudyRow]:
    """Add to each study what it holds, in one statement."""
    keys = [study.id for study in studies]
    held: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    for key, modality, series, images in dbsession.execute(
        sa.select(
            Series.study_key,
            Series.modality,
            sa.func.count(Series.id.distinct()),
            sa.func.coalesce(sa.func.sum(GroupSeries.images), 0),
        )
        .outerjoin(GroupSeries, GroupSeries.series_id == Series.id)
        .where(Series.study_key.in_(keys))
        .group_by(Series.study_key, Series.modality)
    ):
        held[key][modality] = (series, int(images))
    return [
        StudyRow(
            study,
            sum(series for series, _ in held[study.id].values()),
            sum(images for _, images in held[study.id].values()),
            tuple(sorted(modality for modality in held[study.id] if modality)),
        )
        for study in studies
    ]


def patient_rows(dbsession: Session, patients: Sequence[Patient]) -> list[PatientRow]:
    """Add to each patient what it holds, in one statement."""
    held = {
        key: (studies, series, int(images))
        for key, studies, series, images in dbsession.execute(
            sa.select(
                Study.patient_key,
                sa.func.count(Study.id.distinct()),
                sa.func.count(Series.id.distinct()),
                sa.func.coalesce(sa.func.sum(GroupSeries.images), 0),
            )
            .join(Series, Series.study_key == Study.id)
            .outerjoin(GroupSeries, GroupSeries.series_id == Series.id)
            .where(Study.patient_key.in_([patient.id for patient in patients]))
            .group_by(Study.patient_key)
        )
    }
    return [PatientRow(patient, *held.get(patient.id, (0, 0, 0))) for patient in patients]


def modalities(dbsession: Session) -> list[str]:
    """Give the modalities of the series that are here, in alphabetical order."""
    return sorted(filter(None, dbsession.scalars(sa.select(Series.modality).distinct())))


def batches_with(dbsession: Session, series_ids: sa.Select[Any], limit: int) -> list[BatchShare]:
    """Give the first batches that hold images of the series that a statement selects, with how many of them."""
    images = sa.func.sum(GroupSeries.images)
    shares = (
        sa.select(HeaderGroup.batch_id, images)
        .join(GroupSeries, GroupSeries.group_id == HeaderGroup.id)
        .where(GroupSeries.series_id.in_(series_ids))
        .group_by(HeaderGroup.batch_id)
        .order_by(HeaderGroup.batch_id)
        .limit(limit)
        .subquery()
    )
    rows = dbsession.execute(sa.select(Batch, shares.c[1]).join(shares, shares.c[0] == Batch.id).order_by(Batch.id))
    return [BatchShare(batch, int(count)) for batch, count in rows]


def count_images(dbsession: Session, series_ids: Iterable[int]) -> dict[int, int]:
    """Count the images of each series."""
    images = dict.fromkeys(series_ids, 0)
    for series_id, count in dbsession.execute(
        sa.select(GroupSeries.series_id, sa.func.sum(GroupSeries.images))
        .where(GroupSeries.series_id.in_(list(images)))
        .group_by(GroupSeries.series_id)
    ):
        images[series_id] = int(count)
    return images


def _image_ids_of_series(series_id: int) -> sa.Select[Any]:
    """Select the images of a series.

    The image table has no index on its series: the groups that hold the series say which header keys to look at.
    """
    return (
        sa.select(Image.id)
        .join(
            GroupSeries,
            sa.and_(
                Image.header_key >= GroupSeries.group_id * GROUP_SIZE,
                Image.header_key < (GroupSeries.group_id + 1) * GROUP_SIZE,
            ),
        )
        .where(GroupSeries.series_id == series_id, Image.series_id == series_id)
    )


def _series_ids_of_batch(batch_id: int) -> sa.Select[Any]:
    return (
        sa.select(GroupSeries.series_id)
        .join(HeaderGroup, HeaderGroup.id == GroupSeries.group_id)
        .where(HeaderGroup.batch_id == batch_id)
    )


def _count_by_batches(dbsession: Session, batch_id: int | None, *, done_only: bool) -> int:
    """Count the images of one batch or of all, those that are DONE or all, without reading them.

    The batches count theirs in the transactions that add and remove them. Only what is not DONE, and what is left of batches
    that are being deleted, is counted in the table: with a million images that took a tenth of the time.
    """
    which = () if batch_id is None else (Batch.id == batch_id,)
    deleting = sa.select(Batch.id).where(Batch.deleting, *which)
    counts = [
        sa.select(sa.func.coalesce(sa.func.sum(Batch.image_count), 0)).where(~Batch.deleting, *which),
        sa.select(sa.func.count(Image.id)).where(Image.batch_id.in_(deleting)),
        sa.select(sa.func.count(Image.id)).where(_OPEN, Image.batch_id.not_in(deleting)),
    ]
    if batch_id is not None:
        counts[2] = counts[2].where(Image.batch_id == batch_id)
    if done_only:
        counts = [counts[0], counts[1].where(Image.status == "DONE")]
    return sum(
        int(count) for count in dbsession.execute(sa.select(*(count.scalar_subquery() for count in counts))).one()
    )
