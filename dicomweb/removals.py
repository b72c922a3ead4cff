"""Images, series, batches: removed so that nothing is left of them.

Rows, header values, stored bytes and empty parents go in one transaction; the bytes themselves are erased right after it by
the job ``discard_bytes``, because a rolled back transaction could not bring them back. A file of another batch that was
noticed as a *duplicate* of a removed image takes its place: it inherits the stored bytes and is imported again, so that
deleting one batch never loses what another one was given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import batches, index, jobs
from dicomweb.db import change
from dicomweb.models import (
    GROUP_SIZE,
    Batch,
    Discard,
    GroupSeries,
    HeaderGroup,
    Image,
    Job,
    Outcome,
    Pack,
    Patient,
    Series,
    Study,
)
from dicomweb.storage import Storage

# How much of a batch is removed in one transaction.
_GROUPS = 8
_IMAGES = 1000

# The table and not the model: an UPDATE of many rows by the unit of work would look each of them up.
_OUTCOME = cast("sa.Table", Outcome.__table__)


def delete_images(dbsession: Session, images: Sequence[Image], *, now: datetime) -> None:
    """Remove single images of one batch with everything that hangs on them."""
    if not images:
        return
    _lock(dbsession, [image.id for image in images])
    index.remove_images(dbsession, [image.header_key for image in images if image.header_key is not None])
    _delete(dbsession, images, now=now)
    by_batch: dict[int, list[Image]] = defaultdict(list)
    for image in images:
        by_batch[image.batch_id].append(image)
    for batch_id, gone in sorted(by_batch.items()):
        ids = [image.id for image in gone]
        conflicts = change(
            dbsession,
            sa.delete(Outcome).where(
                Outcome.batch_id == batch_id, Outcome.kind == "conflict", Outcome.image_id.in_(ids)
            ),
        )
        batches.record_removal(
            dbsession,
            batch_id,
            images=len(gone),
            errors=conflicts,
            size=sum(image.size or 0 for image in gone),
            now=now,
        )


def delete_some(dbsession: Session, job: Job, *, now: datetime) -> bool:
    """Remove a part of a batch that is being deleted, and at last the batch; tell whether it is gone."""
    batch_id = job.batch_id
    groups = list(
        dbsession.scalars(
            sa.select(HeaderGroup.id).where(HeaderGroup.batch_id == batch_id).order_by(HeaderGroup.id).limit(_GROUPS)
        )
    )
    if groups:
        keys = sa.or_(
            *(Image.header_key.between(group * GROUP_SIZE, group * GROUP_SIZE + GROUP_SIZE - 1) for group in groups)
        )
        images = list(dbsession.scalars(sa.select(Image).where(keys)))
        _lock(dbsession, [image.id for image in images])
        series = set(dbsession.scalars(sa.select(GroupSeries.series_id).where(GroupSeries.group_id.in_(groups))))
        index.delete_groups(dbsession, groups)
        _delete(dbsession, images, now=now, series=series)
        return False
    images = list(dbsession.scalars(sa.select(Image).where(Image.batch_id == batch_id).limit(_IMAGES)))
    if images:
        _delete(dbsession, images, now=now)
        return False
    change(dbsession, sa.delete(Outcome).where(Outcome.batch_id == batch_id))
    change(dbsession, sa.delete(Job).where(Job.batch_id == batch_id, Job.id != job.id))
    change(dbsession, sa.delete(Batch).where(Batch.id == batch_id))
    # A worker that died, or came too late, may have left some of its chunk that never got an image.
    forget_childless(dbsession)
    return True


def _delete(dbsession: Session, images: Sequence[Image], *, now: datetime, series: Collection[int] = ()) -> None:
    """Remove image rows that are out of the header index, leave their bytes to heirs or discard them, tidy up parents."""
    ids = [image.id for image in images]
    heirs = _bequeath(dbsession, images, now=now)
    forget_images(dbsession, ids, now=now, keep_bytes_of=heirs)
    change(dbsession, sa.update(Outcome).where(Outcome.other_image_id.in_(ids)).values(other_image_id=None))
    # Duplicates within the batch itself inherit nothing: people see the file as one image, and removed it.
    twins = sa.update(Outcome).where(Outcome.image_id.in_(ids), Outcome.kind == "duplicate")
    change(dbsession, twins.values(image_id=None))
    forget_childless(dbsession, {*series, *(image.series_id for image in images if image.series_id is not None)})


def _lock(dbsession: Session, image_ids: Sequence[int]) -> None:
    # An import that is about to note a duplicate of one of these images holds its row: wait for it, to see its note.
    dbsession.execute(sa.select(Image.id).where(Image.id.in_(image_ids)).order_by(Image.id).with_for_update()).all()


def _bequeath(dbsession: Session, images: Sequence[Image], *, now: datetime) -> set[int]:
    """Give the bytes of images to files of other batches that were noticed as their duplicates; which images had heirs."""
    by_id = {image.id: image for image in images}
    own = {image.batch_id for image in images}
    twins = dbsession.scalars(
        sa.select(Outcome)
        .join(Batch, Batch.id == Outcome.batch_id)
        .where(Outcome.image_id.in_(by_id), Outcome.kind == "duplicate", Outcome.batch_id.not_in(own), ~Batch.deleting)
        .order_by(Outcome.id)
    ).all()
    by_batch: dict[int, list[Outcome]] = defaultdict(list)
    for twin in twins:
        by_batch[twin.batch_id].append(twin)
    heirs: dict[int, int] = {}
    for batch_id, outcomes in sorted(by_batch.items()):
        # One twin inherits the bytes, and the others become its duplicates; without bytes each reads its own file again.
        first = {outcome.image_id: outcome for outcome in reversed(outcomes)}
        moving = [
            outcome
            for outcome in outcomes
            if by_id[outcome.image_id or 0].pack_id is None
            or (first[outcome.image_id] is outcome and outcome.image_id not in heirs)
        ]
        if not moving:
            continue
        try:
            batches.reopen(dbsession, batch_id, notices=len(moving), now=now)
        except batches.BatchGone:
            # Somebody began to delete that batch a moment ago; it needs no heirs any more.
            continue
        rows = []
        for outcome in moving:
            image = by_id[outcome.image_id or 0]
            stored = image.pack_id is not None
            rows.append(
                {
                    "batch_id": batch_id,
                    "path": outcome.path,
                    "place": None if stored else outcome.place,
                    "status": "NEW",
                    "version": 0,
                    "size": image.size if stored else outcome.size,
                    "sha256": image.sha256 if stored else None,
                    "pack_id": image.pack_id,
                    "pack_offset": image.pack_offset,
                }
            )
        change(dbsession, sa.delete(Outcome).where(Outcome.id.in_([outcome.id for outcome in moving])))
        ids = batches.add_files(dbsession, batch_id, rows, chunks=[(0, len(rows))], now=now)
        heirs.update(
            {
                image_id: heir
                for image_id, heir in zip((outcome.image_id for outcome in moving), ids, strict=True)
                if image_id is not None and by_id[image_id].pack_id is not None
            }
        )
    relink_duplicates(dbsession, heirs, but_of=own)
    return set(heirs)


def relink_duplicates(dbsession: Session, heirs: Mapping[int, int], *, but_of: Collection[int] = ()) -> None:
    """Let files that were noticed as duplicates of some images be duplicates of others from now on; old -> new id."""
    if heirs:
        relink = (
            sa.update(_OUTCOME)
            .where(_OUTCOME.c.image_id == sa.bindparam("old"), _OUTCOME.c.kind == "duplicate")
            .where(*(_OUTCOME.c.batch_id != batch_id for batch_id in but_of))
            .values(image_id=sa.bindparam("new"))
        )
        dbsession.connection().execute(relink, [{"old": old, "new": new} for old, new in sorted(heirs.items())])


def forget_images(
    dbsession: Session, image_ids: Collection[int], *, now: datetime, keep_bytes_of: Collection[int] = ()
) -> None:
    """Remove image rows, and have the bytes that only they had erased."""
    if not image_ids:
        return
    stored = sa.select(Image.id, Image.pack_id, Image.pack_offset, Image.size).where(
        Image.id.in_(image_ids), Image.pack_id.is_not(None)
    )
    by_pack: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for image_id, pack_id, offset, size in dbsession.execute(stored):
        if image_id not in keep_bytes_of:
            by_pack[pack_id or 0].append((offset or 0, size or 0))
    change(dbsession, sa.delete(Image).where(Image.id.in_(image_ids)))
    for pack_id, ranges in sorted(by_pack.items()):
        change(dbsession, sa.update(Pack).where(Pack.id == pack_id).values(images=Pack.images - len(ranges)))
        name, left = dbsession.execute(sa.select(Pack.name, Pack.images).where(Pack.id == pack_id)).one()
        if left > 0:
            dbsession.execute(
                sa.insert(Discard), [{"name": name, "offset": offset, "length": size} for offset, size in ranges]
            )
        else:
            change(dbsession, sa.delete(Pack).where(Pack.id == pack_id))
            dbsession.execute(sa.insert(Discard), [{"name": name}])
    if by_pack:
        jobs.enqueue(dbsession, "discard_bytes", {}, now=now)


def forget_childless(dbsession: Session, series_ids: Collection[int] | None = None) -> None:
    """Remove those of some series (of all) that have no image any more, and studies and patients that are empty then."""
    of_series: sa.ColumnElement[bool] = sa.true()
    of_studies: sa.ColumnElement[bool] = sa.true()
    of_patients: sa.ColumnElement[bool] = sa.true()
    if series_ids is not None:
        ids = sorted(series_ids)
        of_series = Series.id.in_(ids)
        studies = set(dbsession.scalars(sa.select(Series.study_key).where(of_series)))
        of_studies = Study.id.in_(studies)
        of_patients = Patient.id.in_(set(dbsession.scalars(sa.select(Study.patient_key).where(of_studies))))
    childless = ~sa.exists().where(GroupSeries.series_id == Series.id)
    change(dbsession, sa.delete(Series).where(of_series, childless))
    change(dbsession, sa.delete(Study).where(of_studies, ~sa.exists().where(Series.study_key == Study.id)))
    change(dbsession, sa.delete(Patient).where(of_patients, ~sa.exists().where(Study.patient_key == Patient.id)))


def erase_strays(dbsession: Session, storage: Storage, batch_id: int) -> None:
    """Erase what died workers left of a batch that is being deleted: packs without a row. Heirs keep those with one."""
    kept = dbsession.scalars(sa.select(Pack.name).where(Pack.name.startswith(f"{batch_id}/")))
    storage.erase_strays(batch_id, set(kept))


def erase_discarded(dbsession: Session, storage: Storage) -> bool:
    """Erase bytes that were discarded by a committed transaction; tell whether that was all."""
    rows = dbsession.scalars(sa.select(Discard).order_by(Discard.id).limit(_IMAGES)).all()
    for row in rows:
        storage.discard(row.name, row.offset, row.length)
    change(dbsession, sa.delete(Discard).where(Discard.id.in_([row.id for row in rows])))
    return len(rows) < _IMAGES
