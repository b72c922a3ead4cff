"""Which RT structure sets were drawn on a series, and on which series a structure set was drawn, among the images of its patient.

A structure set names its series (PS3.3 C.8.8.5, C.8.8.6), their images, or at least the frame of reference that its coordinates belong to; what it
names first and what is there decides. All in a number of statements that does not depend on how much there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index, objects
from dicomweb.models import Image, Series, Study

MODALITY = "RTSTRUCT"
# Of one patient, the newest ones.
MOST_SETS = 50
MOST_SERIES = 200
MOST_IMAGES = 5000
# Where one structure set can be looked at.
MOST_PLACES = 8
_FRAME_OF_REFERENCE = "00200052"
_TAGS = ("30060002", "30060008", "30060010", "30060020")


class StructureSet(NamedTuple):
    """A structure set that was drawn on a series. day: StructureSetDate as it is written there."""

    image_id: int
    batch_id: int
    title: str
    day: str


class Place(NamedTuple):
    """A series on which a structure set was drawn, and the image of it to begin with."""

    image_id: int
    batch_id: int
    series: Series


def sets_of(dbsession: Session, series: Series | None, sop_uids: Iterable[str], frame_of_reference: str) -> list[StructureSet]:
    """Find the structure sets that were drawn on a series; in two statements, and one when the patient has none."""
    if series is None:
        return []
    rows = dbsession.execute(
        sa.select(Image.id, Image.batch_id, Image.header_key)
        .join(Series, Series.id == Image.series_id)
        .join(Study, Study.id == Series.study_key)
        .where(Study.patient_key == series.study.patient_key, Series.modality == MODALITY, Image.status == "DONE", Image.header_key.is_not(None))
        .order_by(Image.id.desc())
        .limit(MOST_SETS)
    ).all()
    if not rows:
        return []
    headers = _elements(dbsession, [row.header_key for row in rows], _TAGS)
    uids = set(sop_uids)
    found = []
    for row in rows:
        header = headers.get(row.header_key, {})
        drawn = objects.read_drawn(header)
        if drawn.series:
            fits = series.series_instance_uid in drawn.series
        else:
            fits = not uids.isdisjoint(drawn.images) or frame_of_reference in drawn.frames_of_reference
        if fits:
            told = objects.read_structures(header)
            found.append(StructureSet(row.id, row.batch_id, told.title, next((text for name, text in told.facts if name == "Date"), "")))
    return found


def places_of(dbsession: Session, series: Series | None, header: Mapping[str, Any]) -> list[Place]:
    """Find the series on which a structure set of this header was drawn, each with the middle one of the images that are named, or of all; in at most three statements.

    series: that of the structure set itself.
    """
    if series is None:
        return []
    drawn = objects.read_drawn(header)
    columns = (Image.id, Image.batch_id, Image.instance_number, Image.sop_instance_uid, Image.header_key, Series)
    of_patient = (
        sa.select(*columns)
        .join(Series, Series.id == Image.series_id)
        .join(Study, Study.id == Series.study_key)
        .where(Study.patient_key == series.study.patient_key, Series.modality != MODALITY, Image.status == "DONE", Image.pixel_offset.is_not(None))
    )
    if drawn.images or drawn.series:
        named = sa.or_(Image.sop_instance_uid.in_(drawn.images), Series.series_instance_uid.in_(drawn.series))
        if rows := dbsession.execute(of_patient.where(named).order_by(Image.id).limit(MOST_IMAGES)).all():
            return _middle_ones(rows, set(drawn.images))
    first = of_patient.with_only_columns(sa.func.min(Image.id)).group_by(Image.series_id).order_by(None).limit(MOST_SERIES)
    rows = dbsession.execute(of_patient.where(Image.id.in_(first)).order_by(Image.id)).all()
    frames = _elements(dbsession, [row.header_key for row in rows if row.header_key is not None], (_FRAME_OF_REFERENCE,))
    same = [row for row in rows if _first_value(frames.get(row.header_key, {})) in drawn.frames_of_reference]
    return _middle_ones(same, set())


def _middle_ones(rows: Sequence[Any], named: set[str]) -> list[Place]:
    of_series: dict[int, list[Any]] = {}
    for row in rows:
        of_series.setdefault(row.Series.id, []).append(row)
    places = []
    for images in list(of_series.values())[:MOST_PLACES]:
        wanted = [one for one in images if one.sop_instance_uid in named] or images
        wanted.sort(key=lambda one: (one.instance_number or 0, one.id))
        middle = wanted[len(wanted) // 2]
        places.append(Place(middle.id, middle.batch_id, middle.Series))
    return places


def _elements(dbsession: Session, header_keys: Sequence[int], tags: Sequence[str]) -> dict[int, dict[str, Any]]:
    return {key: own for group in index.read_elements(dbsession, header_keys, tags) for key, own in group.by_image()}


def _first_value(elements: Mapping[str, Any]) -> str:
    values = elements.get(_FRAME_OF_REFERENCE, {}).get("Value") or [""]
    return values[0] if isinstance(values[0], str) else ""
