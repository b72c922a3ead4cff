"""``import_chunk``: the files of one chunk become images, in one transaction together with the end of their job.

Read without a lock, judge against what is here, store the bytes, prepare the header index; then write everything at once,
unless another transaction changed what was looked up: then look again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import batches, headers, index, jobs, removals
from dicomweb.db import is_overtaken
from dicomweb.imports.deliveries import remove_delivered
from dicomweb.imports.families import ensure_series
from dicomweb.imports.importer import Importer, Stopping, batch_of
from dicomweb.imports.outcomes import NoImage, add_outcomes, outcome
from dicomweb.imports.reading import Candidate, Reader
from dicomweb.imports.sources import pack_fragments
from dicomweb.languages import N_
from dicomweb.models import OUTCOME_KIND, Batch, Image, Job, Pack
from dicomweb.storage import CANNOT_STORE, PackWriter

# How often a chunk looks again when others were quicker; each time somebody else has got on.
_COLLISIONS = 8
# After so many failed attempts of a chunk it is cut in two, until the one file that ends its worker is alone.
_SPLIT_AFTER = 2

# The table and not the model: an UPDATE of many rows by the unit of work would look each of them up.
_IMAGE = cast("sa.Table", Image.__table__)


class Verdict(NamedTuple):
    """What becomes of a candidate: its version, or the image it duplicates; and the image it conflicts with."""

    candidate: Candidate
    version: int | None
    duplicate_of: int | None
    conflict_with: int | None


class Known(NamedTuple):
    """An image that is here already."""

    image_id: int
    version: int
    sha256: bytes


class Chunk(NamedTuple):
    """What became of the files of a chunk."""

    verdicts: Sequence[Verdict]
    refused: Sequence[NoImage]


def import_chunk(importer: Importer, job: Job) -> None:
    """Import the files of one chunk and end its job, in one transaction.

    Raises Stopping, storage.StorageFailed, jobs.LeaseLost, batches.BatchGone; then nothing of the chunk was kept.
    """
    with importer.work() as dbsession:
        first, last = job.payload["first"], job.payload["last"]
        batches.begin_chunk(dbsession, batch_of(job), first, last, now=importer.clock())
    import_begun_chunk(importer, job)


def import_begun_chunk(importer: Importer, job: Job) -> Chunk | None:
    """Do what ``import_chunk`` does, for a chunk that is shown as being processed already; tell what became of its files.

    None: the chunk was cut in two instead.
    """
    first, last = job.payload["first"], job.payload["last"]
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
        rows = dbsession.execute(
            sa.select(Image, Pack.name)
            .outerjoin(Pack, Pack.id == Image.pack_id)
            .where(Image.batch_id == batch.id, Image.id.between(first, last), Image.status != "DONE")
            .order_by(Image.id)
        ).all()
    importer.storage.remove_left(batch.id, job.id, job.attempts)
    if job.attempts > _SPLIT_AFTER and _split(importer, job, [image for image, _ in rows]):
        return None
    pack = importer.storage.write_pack(batch.id, job.id, job.attempts)
    candidates: list[Candidate] = []
    refused: list[NoImage] = []
    with ExitStack() as given_up:
        given_up.callback(pack.abandon)
        with closing(Reader(importer, batch, pack)) as reader:
            for image, pack_name in rows:
                if importer.stopping():
                    raise Stopping
                result = reader.read(image, pack_name)
                if isinstance(result, Candidate):
                    candidates.append(result)
                else:
                    refused.append(result)
            verdicts = _commit_chunk(importer, job, batch, reader, pack, candidates, refused, given_up)
    remove_delivered(importer, batch, verdicts)
    return Chunk(verdicts, refused)


def _split(importer: Importer, job: Job, images: Sequence[Image]) -> bool:
    """Cut a chunk in two that keeps failing; a file that alone ends its worker is given up. False: try it as it is."""
    now = importer.clock()
    if (job.error or "").startswith(CANNOT_STORE):
        # No file is to blame.
        return False
    if len(images) > 1:
        middle = len(images) // 2
        with importer.work() as dbsession:
            jobs.finish(dbsession, job, now=now)
            for part in (images[:middle], images[middle:]):
                jobs.enqueue(
                    dbsession,
                    "import_chunk",
                    {"first": part[0].id, "last": part[-1].id},
                    batch_id=job.batch_id,
                    now=now,
                )
        return True
    if images and job.error == jobs.WORKER_DIED and job.attempts >= importer.settings["jobs.max_attempts"]:
        image = images[0]
        refused = NoImage(
            image.id,
            image.path,
            image.size,
            "error",
            "ends-worker",
            N_("Reading this file ended the worker process again and again."),
            image.place,
        )
        with importer.work() as dbsession:
            jobs.finish(dbsession, job, now=now)
            _write_refused(dbsession, batch_of(job), [refused], now)
            batches.record_outcomes(dbsession, batch_of(job), images=0, errors=1, notices=0, files=1, size=0, now=now)
        return True
    return False


def _commit_chunk(
    importer: Importer,
    job: Job,
    batch: Batch,
    reader: Reader,
    pack: PackWriter,
    candidates: Sequence[Candidate],
    refused: Sequence[NoImage],
    given_up: ExitStack,
) -> Sequence[Verdict]:
    withdrawn: set[int] = set()
    overtaken: Exception = Stopping()
    for _ in range(_COLLISIONS):
        with importer.work(read_only=True) as dbsession:
            existing = _existing(dbsession, candidates)
        verdicts = judge(candidates, existing)
        fresh = [verdict for verdict in verdicts if verdict.version is not None]
        for verdict in verdicts:
            if verdict.duplicate_of is not None and verdict.candidate.image_id not in withdrawn:
                withdrawn.add(verdict.candidate.image_id)
                reader.withdraw(verdict.candidate)
        if any(verdict.candidate.image_id in withdrawn for verdict in fresh):
            # The image this one duplicated was deleted a moment ago, and its own bytes are given up: begin again.
            raise Stopping
        series = ensure_series(importer, [verdict.candidate.header for verdict in fresh])
        prepared = index.prepare(
            [_member(verdict.candidate.header, series) for verdict in fresh], promoted=importer.promoted
        )
        index.ensure_fields(importer.engine, prepared)
        pack.close()
        # A connection that is lost during the commit leaves open whether the rows are there; so from here on the pack stays.
        # If they are not, the next attempt removes it.
        abandon = given_up.pop_all()
        try:
            with importer.work() as dbsession:
                _write_chunk(dbsession, importer, job, batch, pack, verdicts, refused, existing, series, prepared)
            return verdicts
        except (batches.BatchGone, jobs.LeaseLost):
            abandon.close()
            with importer.work() as dbsession:
                removals.forget_childless(dbsession, series.values())
            raise
        except Exception as error:
            if not (isinstance(error, (_Overtaken, index.UnknownFields)) or is_overtaken(error)):
                raise
            overtaken = error
            given_up.push(abandon)
    raise overtaken


class _Overtaken(Exception):
    """Another transaction changed what this one had looked up; look again."""


def _write_chunk(
    dbsession: Session,
    importer: Importer,
    job: Job,
    batch: Batch,
    pack: PackWriter,
    verdicts: Sequence[Verdict],
    refused: Sequence[NoImage],
    existing: dict[str, list[Known]],
    series: dict[tuple[str, str], int],
    prepared: index.Prepared,
) -> None:
    now = importer.clock()
    jobs.finish(dbsession, job, now=now)
    if _existing(dbsession, [verdict.candidate for verdict in verdicts], hold=True) != existing:
        raise _Overtaken
    fresh = [verdict for verdict in verdicts if verdict.version is not None]
    pack_id = None
    stored = sum(verdict.candidate.pack_offset is not None and not verdict.candidate.adopted for verdict in fresh)
    if stored:
        row = Pack(name=pack.name, images=stored)
        dbsession.add(row)
        dbsession.flush()
        pack_id = row.id
    keys = index.write(dbsession, prepared, batch.id)
    if fresh:
        rows = [
            {"row": verdict.candidate.image_id, **_columns(verdict, key, series, pack_id, now)}
            for verdict, key in sorted(
                zip(fresh, keys, strict=True), key=lambda pair: (pair[0].candidate.sop_instance_uid, pair[0].version)
            )
        ]
        update = (
            sa.update(_IMAGE)
            .where(_IMAGE.c.id == sa.bindparam("row"))
            .values({name: sa.bindparam(name) for name in rows[0] if name != "row"})
        )
        dbsession.connection().execute(update, rows)
    duplicates = [verdict for verdict in verdicts if verdict.duplicate_of is not None]
    _write_refused(dbsession, batch.id, refused, now)
    _write_duplicates(dbsession, batch.id, duplicates, now, keeps_files=importer.settings["import.mode"] == "reference")
    conflicts = [verdict for verdict in fresh if verdict.version and verdict.version > 0]
    _write_conflicts(dbsession, batch.id, conflicts, now)
    if importer.settings["import.mode"] == "move" and batch.source == "folder" and (fresh or duplicates):
        jobs.enqueue(
            dbsession,
            "remove_sources",
            {"first": job.payload["first"], "last": job.payload["last"]},
            batch_id=batch.id,
            now=now,
        )
    skipped = sum(no_image.kind == "skipped" for no_image in refused)
    batches.record_outcomes(
        dbsession,
        batch.id,
        images=len(fresh),
        errors=len(conflicts) + len(refused) - skipped,
        notices=len(duplicates) + skipped,
        files=len(verdicts) + len(refused),
        size=sum(verdict.candidate.size for verdict in fresh),
        now=now,
    )


def _existing(dbsession: Session, candidates: Sequence[Candidate], *, hold: bool = False) -> dict[str, list[Known]]:
    """Find the images that have the SOPInstanceUIDs of some candidates; hold: none of them may be deleted meanwhile."""
    known: dict[str, list[Known]] = defaultdict(list)
    uids = sorted({candidate.sop_instance_uid for candidate in candidates})
    for start in range(0, len(uids), 500):
        same = sa.select(Image.sop_instance_uid, Image.id, Image.version, Image.sha256).where(
            Image.sop_instance_uid.in_(uids[start : start + 500]), Image.status == "DONE"
        )
        same = same.order_by(Image.sop_instance_uid, Image.version)
        for uid, image_id, version, sha256 in dbsession.execute(
            same.with_for_update(read=True, key_share=True) if hold else same
        ):
            known[uid or ""].append(Known(image_id, version, sha256 or b""))
    return dict(known)


def judge(candidates: Sequence[Candidate], existing: dict[str, list[Known]]) -> list[Verdict]:
    """Decide what becomes of each candidate: same SOPInstanceUID and same bytes is a duplicate, other bytes a conflict.

    The files of the chunk itself count too, in path order.
    """
    known = {uid: list(images) for uid, images in existing.items()}
    verdicts = []
    for candidate in candidates:
        same = known.setdefault(candidate.sop_instance_uid, [])
        twin = next((image for image in same if image.sha256 == candidate.sha256), None)
        if twin is not None:
            verdicts.append(Verdict(candidate, None, twin.image_id, None))
            continue
        version = same[-1].version + 1 if same else 0
        verdicts.append(Verdict(candidate, version, None, same[0].image_id if same else None))
        same.append(Known(candidate.image_id, version, candidate.sha256))
    return verdicts


def _member(header: headers.Header, series: dict[tuple[str, str], int]) -> index.Member:
    return index.Member(
        series_id=series[header.value("0020000D"), header.value("0020000E")],
        modality=header.value("00080060"),
        elements=header.elements,
        json=header.json,
        meta=header.meta,
    )


def _columns(
    verdict: Verdict, key: int, series: dict[tuple[str, str], int], pack_id: int | None, now: datetime
) -> dict[str, Any]:
    candidate = verdict.candidate
    header = candidate.header
    pixels = header.pixel_data
    columns: dict[str, Any] = {
        "status": "DONE",
        "place": None,
        "sop_instance_uid": candidate.sop_instance_uid,
        "version": verdict.version,
        "series_id": series[header.value("0020000D"), header.value("0020000E")],
        "header_key": key,
        "instance_number": _whole_number(header.value("00200013")),
        "element_count": len(header.elements),
        "sha256": candidate.sha256,
        "size": candidate.size,
        "pixel_offset": pixels.offset if pixels else None,
        "pixel_length": pixels.length if pixels else None,
        "frame_table": pack_fragments(pixels.fragments) if pixels and pixels.encapsulated else None,
        "added_at": now,
    }
    columns["pack_offset"] = candidate.pack_offset
    columns["pack_id"] = candidate.pack_id if candidate.adopted or candidate.pack_offset is None else pack_id
    return columns


def _write_refused(dbsession: Session, batch_id: int, refused: Sequence[NoImage], now: datetime) -> None:
    removals.forget_images(dbsession, [no_image.image_id for no_image in refused], now=now)
    add_outcomes(
        dbsession,
        batch_id,
        [outcome(item.path, item.kind, item.code, item.message, item.size, place=item.place) for item in refused],
        now,
    )


def _write_duplicates(
    dbsession: Session, batch_id: int, duplicates: Sequence[Verdict], now: datetime, *, keeps_files: bool
) -> None:
    # Another file may be the duplicate of an image that inherited its bytes and turns out to be a duplicate itself.
    heirs = {v.candidate.image_id: v.duplicate_of for v in duplicates if v.candidate.adopted and v.duplicate_of}
    removals.relink_duplicates(dbsession, heirs)
    removals.forget_images(dbsession, [verdict.candidate.image_id for verdict in duplicates], now=now)
    rows = [
        outcome(
            verdict.candidate.path,
            "duplicate",
            "duplicate",
            OUTCOME_KIND["duplicate"],
            verdict.candidate.size,
            place=verdict.candidate.place if keeps_files else None,
            image_id=verdict.duplicate_of,
        )
        for verdict in duplicates
    ]
    add_outcomes(dbsession, batch_id, rows, now)


def _write_conflicts(dbsession: Session, batch_id: int, conflicts: Sequence[Verdict], now: datetime) -> None:
    rows = [
        outcome(
            verdict.candidate.path,
            "conflict",
            "conflict",
            OUTCOME_KIND["conflict"],
            verdict.candidate.size,
            image_id=verdict.candidate.image_id,
            other_image_id=verdict.conflict_with,
        )
        for verdict in conflicts
    ]
    add_outcomes(dbsession, batch_id, rows, now)


def _whole_number(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if -(1 << 63) <= number < 1 << 63 else None
