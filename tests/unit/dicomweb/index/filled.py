"""A database filled with generated images, next to what brute force knows of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.db import work
from dicomweb.models import Batch, Image, Patient, Series, Study
from tests.unit.dicomweb.index.corpus import Generated

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROMOTED = ("00201041", "00200013", "00080032")
TABLES = ("header_group", "group_series", "group_header", "group_column", "promoted_number", "group_document", "header", "field")


def add_parents(dbsession: Session, series_ids: Collection[int], batch_ids: Collection[int] = (1,)) -> None:
    """Add the batches and series that images refer to; those that are there already stay."""
    if dbsession.get(Study, 1) is None:
        dbsession.add(Patient(id=1, patient_id="", patient_name="", patient_birth_date="", patient_sex=""))
        dbsession.flush()
        texts = dict.fromkeys(("study_date", "study_time", "accession_number", "study_id", "study_description", "referring_physician_name"), "")
        dbsession.add(Study(id=1, study_instance_uid="1.2", patient_key=1, **texts))
        dbsession.flush()
    names = ("modality", "series_number", "series_description", "series_date", "series_time", "body_part_examined", "protocol_name")
    known = set(dbsession.scalars(sa.select(Series.id)))
    dbsession.add_all(
        Series(id=id_, series_instance_uid=f"1.2.{id_}", study_key=1, **dict.fromkeys(names, "")) for id_ in sorted(set(series_ids) - known)
    )
    for id_ in batch_ids:
        if dbsession.get(Batch, id_) is None:
            dbsession.add(Batch(id=id_, name=f"batch {id_}", created_at=NOW, modified_at=NOW))
    dbsession.flush()


def import_chunk(engine: sa.Engine, part: Sequence[Generated], *, batch_id: int = 1, promoted: Collection[str] = PROMOTED) -> list[int]:
    """Index one chunk as an import does, and store its images; gives their header keys."""
    prepared = index.prepare([image.member for image in part], promoted=promoted)
    index.ensure_fields(engine, prepared)
    with work(engine) as dbsession:
        keys = index.write(dbsession, prepared, batch_id)
        add_images(dbsession, part, keys, batch_id)
    return keys


def add_images(dbsession: Session, part: Sequence[Generated], keys: Sequence[int], batch_id: int) -> None:
    """Add the Image rows of a chunk that was written."""
    rows = [
        {
            "batch_id": batch_id, "path": image.uid, "status": "DONE", "version": 0, "series_id": image.member.series_id, "header_key": key,
            "sop_instance_uid": f"{image.uid}.{key}",
        }
        for image, key in zip(part, keys, strict=True)
    ]  # fmt: skip
    dbsession.execute(sa.insert(Image), rows)


def import_all(engine: sa.Engine, images: Sequence[Generated], *, chunk: int = 128, batch_id: int = 1) -> dict[int, Generated]:
    """Import images chunk by chunk: header key -> image."""
    with work(engine) as dbsession:
        add_parents(dbsession, {image.member.series_id for image in images}, [batch_id])
    imported: dict[int, Generated] = {}
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        imported.update(zip(import_chunk(engine, part, batch_id=batch_id), part, strict=True))
    return imported


def remove(engine: sa.Engine, keys: Iterable[int]) -> None:
    """Remove single images from the index, and their rows."""
    keys = list(keys)
    with work(engine) as dbsession:
        index.remove_images(dbsession, keys)
        dbsession.execute(sa.delete(Image).where(Image.header_key.in_(keys)), execution_options={"synchronize_session": False})


def rows_of(dbsession: Session) -> dict[str, int]:
    """Count the rows of each header table."""
    return {name: dbsession.scalar(sa.text(f"SELECT count(*) FROM {name}")) or 0 for name in TABLES}
