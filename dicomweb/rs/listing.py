"""The attributes of studies and series in plain lists, from their rows: many times as fast as from the documents of the index.

The rows hold what the first image said: its first value, and only the beginning of a very long one. What they do not hold is read
from the documents, and so are rows whose first image has one of those attributes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import among, fetch
from dicomweb.models import GROUP_SIZE, Field, GroupColumn, GroupHeader, Patient, Series, Study

# A text of this length may have been cut when the row was written.
_LONGEST = 200
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_OF_STUDY: dict[str, tuple[Any, str]] = {
    "00080020": (Study.study_date, "DA"),
    "00080030": (Study.study_time, "TM"),
    "00080050": (Study.accession_number, "SH"),
    "00080090": (Study.referring_physician_name, "PN"),
    "00081030": (Study.study_description, "LO"),
    "00100010": (Patient.patient_name, "PN"),
    "00100020": (Patient.patient_id, "LO"),
    "00100030": (Patient.patient_birth_date, "DA"),
    "00100040": (Patient.patient_sex, "CS"),
    "0020000D": (Study.study_instance_uid, "UI"),
    "00200010": (Study.study_id, "SH"),
}
_OF_SERIES: dict[str, tuple[Any, str]] = {
    "00080021": (Series.series_date, "DA"),
    "00080031": (Series.series_time, "TM"),
    "00080060": (Series.modality, "CS"),
    "0008103E": (Series.series_description, "LO"),
    "0020000E": (Series.series_instance_uid, "UI"),
    "00200011": (Series.series_number, "IS"),
}
# Made once: to put a statement together takes longer than to answer it.
_STUDIES = sa.select(Study.id, *(column for column, _ in _OF_STUDY.values())).join(Patient, Patient.id == Study.patient_key)
_SERIES = (
    sa.select(Series.id, *(column for column, _ in (*_OF_STUDY.values(), *_OF_SERIES.values())))
    .join(Study, Study.id == Series.study_key)
    .join(Patient, Patient.id == Study.patient_key)
)
_ROWS = {"study": _STUDIES.where(among(Study.id, "ids")), "series": _SERIES.where(among(Series.id, "ids"))}
_FIELDS = sa.select(Field.id).where(among(Field.path, "paths"))
_HAVING = sa.union(
    *(sa.select(table.group_id).where(among(table.field_id, "fields"), among(table.group_id, "groups")) for table in (GroupHeader, GroupColumn))
)


def read_rows(dbsession: Session, level: str, firsts: Mapping[int, int], tags: Collection[str]) -> dict[int, dict[str, bytes]]:
    """Give the attributes of studies or series: header key of the first image -> tag -> serialised DICOM JSON element.

    firsts: id of the study or series -> that key. tags: what is wanted; an attribute without a value is left out. Rows that do not
    hold all of it are left out. Takes three statements.
    """
    columns = {**_OF_STUDY, **(_OF_SERIES if level == "series" else {})}
    incomplete = _groups_having(dbsession, [tag for tag in tags if tag not in columns], {key // GROUP_SIZE for key in firsts.values()})
    complete = [id_ for id_, key in firsts.items() if key // GROUP_SIZE not in incomplete]
    if not complete:
        return {}
    found = {}
    for id_, *texts in fetch(dbsession, _ROWS[level], ids=complete):
        if all(len(text) < _LONGEST for text in texts):
            found[firsts[id_]] = {tag: _element(vr, text) for (tag, (_, vr)), text in zip(columns.items(), texts, strict=True) if text and tag in tags}
    return found


def _groups_having(dbsession: Session, tags: Iterable[str], groups: Collection[int]) -> set[int]:
    """Give those of some groups of which some image has one of these elements."""
    fields = fetch(dbsession, _FIELDS, paths=list(tags)).scalars().all()
    return set(fetch(dbsession, _HAVING, fields=fields, groups=groups).scalars()) if fields else set()


def _element(vr: str, text: str) -> bytes:
    value: Any = text
    if vr == "PN":
        value = {name: group for name, group in zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("=", 2), strict=False) if group}
    elif vr == "IS" and _INTEGER.fullmatch(text):
        value = int(text)
    return orjson.dumps({"vr": vr, "Value": [value]})
