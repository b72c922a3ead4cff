"""What is odd about the data that a search gives, told beside its results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.db import among, fetch
from dicomweb.models import GROUP_SIZE, Field, GroupColumn, GroupHeader, GroupSeries, Header, Image, Series

_PATIENT_ID = "00100020"
# Made once: to put a statement together takes longer than to answer it.
_FIELD = sa.select(Field.id).where(Field.path == sa.bindparam("path"))
_IN_COMMON = (
    sa.select(Series.study_key, Header.folded)
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .join(GroupHeader, GroupHeader.group_id == GroupSeries.group_id)
    .join(Header, Header.id == GroupHeader.header_id)
    # Plus nothing: from the groups of the studies SQLite comes to the few that are asked for, from the field to all groups there are.
    .where(GroupHeader.field_id + 0 == sa.bindparam("field"), Header.field_id + 0 == sa.bindparam("field"), among(Series.study_key, "studies"))
    .distinct()
)
_IN_COLUMNS = (
    sa.select(Image.header_key, Series.study_key)
    .select_from(Series)
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .join(GroupColumn, sa.and_(GroupColumn.group_id == GroupSeries.group_id, GroupColumn.slot == 0))
    .join(Image, sa.and_(Image.header_key.between(GroupSeries.group_id * GROUP_SIZE, GroupSeries.group_id * GROUP_SIZE + GROUP_SIZE - 1), Image.series_id == Series.id))
    .where(GroupColumn.field_id == sa.bindparam("field"), among(Series.study_key, "studies"))
)


def studies_of_several_patients(dbsession: Session, study_ids: Collection[int]) -> set[int]:
    """Give those of some studies whose images have different PatientIDs, in at most five statements.

    A StudyInstanceUID is one study whoever has it (PS3.3 C.7.2.1); that it is used for two patients is a mistake of its maker.
    """
    return {study_id for study_id, patients in values_of_studies(dbsession, study_ids, _PATIENT_ID).items() if len(patients) > 1}


def values_of_studies(dbsession: Session, study_ids: Collection[int], path: str) -> dict[int, set[str]]:
    """Give the folded values that the images of studies have at a path, in at most five statements.

    Images are looked at one by one only in groups that do not share the value.
    """
    field_id = fetch(dbsession, _FIELD, path=path).scalar()
    if field_id is None or not study_ids:
        return {}
    values: dict[int, set[str]] = defaultdict(set)
    for study_id, value in fetch(dbsession, _IN_COMMON, field=field_id, studies=study_ids):
        values[study_id].add(value)
    studies = {key: study_id for key, study_id in fetch(dbsession, _IN_COLUMNS, field=field_id, studies=study_ids) if key is not None}
    for key, (_, value) in index.read_smallest(dbsession, studies, path).items() if studies else ():
        values[studies[key]].add(value)
    return values
