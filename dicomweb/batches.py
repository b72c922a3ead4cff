"""The life of a batch: claimed, scanned, filled chunk by chunk, done, retried, deleted.

**Only this module writes ``Batch.status`` and its counters**, each time with one UPDATE that also refuses a batch which is
being deleted; so a worker that comes too late rolls back instead of adding to what is going away. The counters make every
list of batches answer without counting rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import jobs
from dicomweb.db import change
from dicomweb.models import (
    JOB_STATUS,
    Arrival,
    Batch,
    Claim,
    Image,
    Instant,
    Job,
    Outcome,
    Series,
    Study,
    Upload,
    escape_path,
)

# An outcome with this code stands for a whole folder; to retry it means to scan again.
FOLDER_UNREADABLE = "folder-unreadable"
# Codes that begin so are of archives that were uploaded, or of entries of one.
OF_ARCHIVE = "archive-"


class BatchGone(Exception):
    """The batch is deleted, or is being deleted; nothing may be added to it."""


class Waiting(NamedTuple):
    """Something in a watched root that is not a batch yet, as the watcher sees it."""

    path: str
    is_folder: bool
    files: int
    bytes: int
    changed_at: datetime
    reason: str


class Timeline(NamedTuple):
    """How a batch was imported. Moments are None when they are not yet, or no longer, known.

    scanned_at: when the last folder was listed. chunks: jobs that import, by status; done ones are forgotten after some days. workers:
    how many processes share the work. rate: files with an outcome a second since the first chunk was begun.
    """

    arrived_at: datetime | None
    claimed_at: datetime
    scanned_at: datetime | None
    began_at: datetime | None
    done_at: datetime | None
    chunks: dict[str, int]
    workers: int
    rate: float | None


class Totals(NamedTuple):
    """What there is in all."""

    batches: int
    images: int
    series: int
    studies: int
    bytes: int
    errors: int


def claim_arrival(dbsession: Session, path: str, *, stamp: str, now: datetime, name: str | None = None) -> Batch | None:
    """Make a complete folder a batch, with the job that scans it; None when this arrival is a batch already.

    The arrival is its path and its stamp, so that the same one can never become two batches.
    """
    try:
        with dbsession.begin_nested():
            dbsession.add(Claim(path_sha256=_path_sha256(path), stamp=stamp))
    except sa.exc.IntegrityError:
        return None
    batch = _new_batch(
        dbsession,
        name or os.path.basename(path),
        source="folder",
        path=path,
        open_scans=1,
        created_at=now,
        modified_at=now,
        arrived_at=dbsession.scalar(sa.select(Arrival.seen_at).where(Arrival.path == path)),
    )
    change(dbsession, sa.delete(Arrival).where(Arrival.path == path))
    jobs.enqueue(dbsession, "scan_batch", {"below": ""}, batch_id=batch.id, now=now)
    return batch


def add_delivery(
    dbsession: Session,
    name: str,
    *,
    source: str,
    path: str,
    files: Sequence[tuple[str, int]],
    only_study: str | None = None,
    now: datetime,
) -> tuple[Batch, list[int]]:
    """Make files that came over the network a batch; give it and the ids of its images, in the order of the files.

    source: ``stow`` or ``dimse``. path: the folder the files lie in. files: (path in it, size). The caller owes the jobs that
    import them: there is nothing to scan.
    """
    batch = _new_batch(
        dbsession,
        name,
        status="PROCESSING",
        source=source,
        path=path,
        only_study=only_study,
        open_scans=0,
        file_count=len(files),
        created_at=now,
        modified_at=now,
        began_at=now,
    )
    rows = [
        {"batch_id": batch.id, "path": file, "status": "PROCESSING", "version": 0, "size": size} for file, size in files
    ]
    ids = list(dbsession.scalars(sa.insert(Image).returning(Image.id, sort_by_parameter_order=True), rows))
    return batch, ids


def add_upload(dbsession: Session, name: str, *, path: str, now: datetime) -> Batch:
    """Make a batch of the source ``upload``, which has no file yet: ``extend`` adds them. path: where the first ones lie."""
    return _new_batch(
        dbsession, name, source="upload", path=path, open_scans=0, file_count=0, created_at=now, modified_at=now
    )


def extend(
    dbsession: Session,
    batch_id: int,
    *,
    files: Sequence[dict[str, Any]],
    chunks: Iterable[tuple[int, int]],
    archives: Sequence[dict[str, Any]],
    skipped: int,
    now: datetime,
) -> None:
    """Add uploaded files to a batch, with the jobs that unpack and import them; a batch that was done is processed again.

    files: ``path`` (for people), ``place`` and ``size`` of each, in path order; chunks: (first, end) positions in them. archives:
    the same three of each, to be unpacked. skipped: how many more have an outcome already. Raises BatchGone.
    """
    # First, because it locks the batch: chunks are ranges of ids, which must not mix with those of a scan.
    _advance(
        dbsession,
        batch_id,
        now=now,
        open_scans=len(archives),
        file_count=len(files) + skipped,
        done_count=skipped,
        notice_count=skipped,
    )
    if dbsession.scalar(sa.select(Batch.delete_at).where(Batch.id == batch_id)) is not None:
        # It would take away what was never meant to go.
        raise BatchGone(f"batch {batch_id} is to be deleted")
    rows = [{**file, "batch_id": batch_id, "status": "NEW", "version": 0} for file in files]
    add_files(dbsession, batch_id, rows, chunks=chunks, now=now)
    for archive in archives:
        jobs.enqueue(dbsession, "unpack_archive", archive, batch_id=batch_id, now=now)


def _new_batch(dbsession: Session, wanted: str, *, status: str = "NEW", **columns: Any) -> Batch:
    name = _printable_name(wanted)
    while True:
        batch = Batch(name=name, status=status, **columns)
        try:
            with dbsession.begin_nested():
                dbsession.add(batch)
        except sa.exc.IntegrityError:
            # The name is taken, perhaps at this very moment; look for another one.
            name = _free_name(dbsession, wanted)
            continue
        return batch


def claimed_stamps(dbsession: Session, paths: Sequence[str]) -> dict[str, set[str]]:
    """Tell for each path the stamps under which it became a batch, also one that was deleted since."""
    stamps: dict[str, set[str]] = {path: set() for path in paths}
    by_hash = {_path_sha256(path): path for path in paths}
    hashes = sorted(by_hash)
    for start in range(0, len(hashes), 500):
        some = sa.select(Claim.path_sha256, Claim.stamp).where(Claim.path_sha256.in_(hashes[start : start + 500]))
        for path_sha256, stamp in dbsession.execute(some):
            stamps[by_hash[path_sha256]].add(stamp)
    return stamps


def _path_sha256(path: str) -> bytes:
    return hashlib.sha256(os.fsencode(path)).digest()


def report_arrivals(dbsession: Session, seen: Sequence[Waiting], *, now: datetime) -> None:
    """Note what waits in the watched roots now: exactly what the watcher saw, and since when."""
    known = {arrival.path: arrival for arrival in dbsession.scalars(sa.select(Arrival))}
    for waiting in seen:
        arrival = known.pop(waiting.path, None)
        if arrival is None:
            arrival = Arrival(path=waiting.path, seen_at=now)
            dbsession.add(arrival)
        arrival.is_folder = waiting.is_folder
        arrival.files = waiting.files
        arrival.bytes = waiting.bytes
        arrival.changed_at = waiting.changed_at
        arrival.reason = waiting.reason
    for arrival in known.values():
        dbsession.delete(arrival)
    dbsession.flush()


def import_now(dbsession: Session, arrival: Arrival, *, now: datetime) -> Batch | None:
    """Make a waiting folder a batch because a person says it is complete; None for a loose file."""
    if not arrival.is_folder:
        return None
    try:
        folder = os.stat(arrival.path, follow_symlinks=False)
        inode = f"{folder.st_dev}:{folder.st_ino}"
    except OSError:
        # The web server may run where the folder is not mounted; the scan will tell.
        inode = "-"
    return claim_arrival(dbsession, arrival.path, stamp=f"asked {inode} {now.isoformat()}", now=now)


def _free_name(dbsession: Session, wanted: str) -> str:
    name = _printable_name(wanted)
    pattern = name.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    taken = set(
        dbsession.scalars(
            sa.select(Batch.name).where(sa.or_(Batch.name == name, Batch.name.like(f"{pattern} (%)", escape="!")))
        )
    )
    number = 2
    free = name
    while free in taken:
        free = f"{name} ({number})"
        number += 1
    return free


def _printable_name(wanted: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in escape_path(wanted)).strip()[:200] or "batch"


def add_files(
    dbsession: Session,
    batch_id: int,
    rows: Sequence[dict[str, Any]],
    *,
    chunks: Iterable[tuple[int, int]],
    now: datetime,
) -> list[int]:
    """Add the files a scan found as NEW images, with a job for each chunk, and give the ids of the images.

    rows: columns of Image, in path order. chunks: (first, end) positions in ``rows``.
    """
    if not rows:
        return []
    ids = list(dbsession.scalars(sa.insert(Image).returning(Image.id, sort_by_parameter_order=True), rows))
    for first, end in chunks:
        jobs.enqueue(dbsession, "import_chunk", {"first": ids[first], "last": ids[end - 1]}, batch_id=batch_id, now=now)
    return ids


def record_scan(dbsession: Session, batch_id: int, *, found: int, failed: int, skipped: int, now: datetime) -> None:
    """Note that a folder of the batch is listed: how many entries it has and how many have an outcome already.

    Raises BatchGone.
    """
    _advance(
        dbsession,
        batch_id,
        now=now,
        open_scans=-1,
        file_count=found,
        done_count=failed + skipped,
        error_count=failed,
        notice_count=skipped,
    )


def record_outcomes(
    dbsession: Session, batch_id: int, *, images: int, errors: int, notices: int, files: int, size: int, now: datetime
) -> None:
    """Note the outcomes of some files: how many became images, errors (conflicts too) and notices. Raises BatchGone.

    Comes last in a transaction, because all workers of a batch meet in this row.
    """
    _advance(
        dbsession,
        batch_id,
        now=now,
        done_count=files,
        image_count=images,
        error_count=errors,
        notice_count=notices,
        byte_count=size,
    )


def record_removal(dbsession: Session, batch_id: int, *, images: int, errors: int, size: int, now: datetime) -> None:
    """Note that images of a batch were removed, and with them some conflicts. Raises BatchGone."""
    _advance(
        dbsession,
        batch_id,
        now=now,
        file_count=-images,
        done_count=-images,
        image_count=-images,
        error_count=-errors,
        byte_count=-size,
    )


def reopen(dbsession: Session, batch_id: int, *, notices: int, now: datetime) -> None:
    """Note that files that were only noticed are to be imported after all. Raises BatchGone."""
    _advance(dbsession, batch_id, now=now, done_count=-notices, notice_count=-notices)


def _advance(dbsession: Session, batch_id: int, *, now: datetime, begun: bool = False, **steps: int) -> None:
    values: dict[str, Any] = {name: getattr(Batch, name) + step for name, step in steps.items() if step}
    if begun:
        values["began_at"] = sa.func.coalesce(Batch.began_at, sa.literal(now, Instant))
    new = {
        name: values.get(name, getattr(Batch, name))
        for name in ("done_count", "file_count", "open_scans", "error_count")
    }
    finished = sa.and_(new["done_count"] >= new["file_count"], new["open_scans"] <= 0)
    # What happens to a batch that is done, such as the removal of an image, does not make it done later.
    done_at = sa.case((~finished, None), (Batch.status == "DONE", Batch.done_at), else_=sa.literal(now, Instant))
    advanced = change(
        dbsession,
        sa.update(Batch)
        .where(Batch.id == batch_id, ~Batch.deleting)
        .values(
            **values,
            status=sa.case((finished, "DONE"), else_="PROCESSING"),
            has_error=new["error_count"] > 0,
            modified_at=now,
            done_at=done_at,
        ),
    )
    if not advanced:
        raise BatchGone(f"batch {batch_id} is deleted")


def begin_chunk(dbsession: Session, batch_id: int, first: int, last: int, *, now: datetime) -> None:
    """Show that some images are being processed now. Raises BatchGone."""
    _advance(dbsession, batch_id, now=now, begun=True)
    change(
        dbsession,
        sa.update(Image)
        .where(Image.batch_id == batch_id, Image.id.between(first, last), Image.status == "NEW")
        .values(status="PROCESSING"),
    )


def retryable() -> sa.ColumnElement[bool]:
    """Tell of an outcome whether its file can be tried again: what was refused inside an archive is nowhere but in it."""
    of_archive = Outcome.code.startswith(OF_ARCHIVE, autoescape=True)
    return sa.and_(Outcome.kind == "error", sa.or_(~of_archive, Outcome.place.is_not(None)))


def can_retry(dbsession: Session, batch: Batch) -> bool:
    """Tell whether any file of a batch can be tried again; asks the database only of a batch that has errors."""
    which = sa.exists().where(Outcome.batch_id == batch.id, retryable())
    return batch.has_error and bool(dbsession.scalar(sa.select(which)))


def retry(dbsession: Session, batch: Batch, *, chunk_files: int, now: datetime, code: str | None = None) -> int:
    """Import the failed files of a batch again; tell how many. Conflicts are no failures, and stay. Raises BatchGone.

    code: only those that failed for this reason.
    """
    which = [Outcome.batch_id == batch.id, retryable()]
    if code is not None:
        which.append(Outcome.code == code)
    failed = list(dbsession.scalars(sa.select(Outcome).where(*which).order_by(Outcome.id)))
    if not failed:
        return 0
    folders = [outcome.path for outcome in failed if outcome.code == FOLDER_UNREADABLE]
    archives = [outcome for outcome in failed if outcome.code.startswith(OF_ARCHIVE)]
    files = [
        outcome for outcome in failed if outcome.code != FOLDER_UNREADABLE and not outcome.code.startswith(OF_ARCHIVE)
    ]
    _advance(
        dbsession,
        batch.id,
        now=now,
        open_scans=len(folders) + len(archives),
        file_count=-len(folders) - len(archives),
        done_count=-len(failed),
        error_count=-len(failed),
    )
    change(dbsession, sa.delete(Outcome).where(*which))
    for folder in folders:
        jobs.enqueue(dbsession, "scan_batch", {"below": escape_path(folder)}, batch_id=batch.id, now=now)
    for outcome in archives:
        archive = {"path": escape_path(outcome.path), "place": outcome.place, "size": outcome.size}
        jobs.enqueue(dbsession, "unpack_archive", archive, batch_id=batch.id, now=now)
    rows = [
        {
            "batch_id": batch.id,
            "path": outcome.path,
            "place": outcome.place,
            "status": "NEW",
            "version": 0,
            "size": outcome.size,
        }
        for outcome in files
    ]
    add_files(
        dbsession,
        batch.id,
        rows,
        chunks=[(start, min(start + chunk_files, len(rows))) for start in range(0, len(rows), chunk_files)],
        now=now,
    )
    dbsession.expire(batch)
    return len(failed)


def delete_later(dbsession: Session, batch: Batch, *, minutes: float, now: datetime) -> bool:
    """Have a batch deleted after so many minutes, until when that can be taken back; False when it is decided already.

    Until then it is a batch like any other: it is imported to its end, found and shown, and the pages say what becomes of it. With 0
    minutes it is deleted at once.
    """
    if minutes <= 0:
        return delete(dbsession, batch, now=now)
    decided = change(
        dbsession,
        sa.update(Batch)
        .where(Batch.id == batch.id, ~Batch.deleting, Batch.delete_at.is_(None))
        .values(delete_at=now + timedelta(minutes=minutes)),
    )
    dbsession.expire(batch)
    return bool(decided)


def keep(dbsession: Session, batch: Batch) -> bool:
    """Take back that a batch is to be deleted; False when nobody wanted that, or it is too late."""
    kept = change(
        dbsession,
        sa.update(Batch).where(Batch.id == batch.id, ~Batch.deleting, Batch.delete_at.is_not(None)).values(delete_at=None),
    )
    dbsession.expire(batch)
    return bool(kept)


def deletions_due(dbsession: Session, *, now: datetime) -> bool:
    """Tell whether the time to take a deletion back is over for some batch."""
    return bool(dbsession.scalar(sa.select(sa.exists().where(Batch.delete_at <= now, ~Batch.deleting))))


def delete_due(dbsession: Session, *, now: datetime) -> int:
    """Begin the deletions whose time has come; tell how many."""
    due = sa.select(Batch).where(Batch.delete_at <= now, ~Batch.deleting).order_by(Batch.id).limit(100)
    return sum(delete(dbsession, batch, now=now, due=True) for batch in dbsession.scalars(due).all())


def delete(dbsession: Session, batch: Batch, *, now: datetime, due: bool = False) -> bool:
    """Have a batch deleted with all its images; False when it is being deleted already.

    due: only when the time of its deletion has come, which somebody may take back at this very moment.
    """
    beginning = sa.update(Batch).where(Batch.id == batch.id, ~Batch.deleting)
    if due:
        beginning = beginning.where(Batch.delete_at <= now)
    if not change(dbsession, beginning.values(deleting=True, delete_at=None, modified_at=now)):
        return False
    change(dbsession, sa.delete(Job).where(Job.batch_id == batch.id, Job.status == "queued"))
    jobs.enqueue(dbsession, "delete_batch", {}, batch_id=batch.id, now=now)
    dbsession.expire(batch)
    return True


def shared_files(dbsession: Session, batch: Batch) -> int:
    """Tell how many files of other batches are duplicates of images of this one, and inherit their bytes when it is deleted."""
    shared = (
        sa.select(sa.func.count(Outcome.id))
        .join(Image, Image.id == Outcome.image_id)
        .where(Image.batch_id == batch.id, Outcome.batch_id != batch.id, Outcome.kind == "duplicate")
    )
    return dbsession.scalar(shared) or 0


def progress(batch: Batch) -> float:
    """How much of a batch has an outcome, from 0 to 1."""
    if batch.status == "DONE":
        return 1.0
    return batch.done_count / batch.file_count if batch.file_count else 0.0


def timeline(dbsession: Session, batch: Batch, *, now: datetime) -> Timeline:
    """Tell how a batch is or was imported, from its row and those of its jobs that are still there, in two statements."""
    of_batch = sa.select(Job).where(Job.batch_id == batch.id, Job.kind.in_(("scan_batch", "import_chunk")))
    by_status = of_batch.with_only_columns(Job.kind, Job.status, sa.func.count(), sa.func.max(Job.finished_at, type_=Instant))
    chunks = dict.fromkeys(JOB_STATUS, 0)
    scanned_at = None
    for kind, status, count, last in dbsession.execute(by_status.group_by(Job.kind, Job.status)):
        if kind == "import_chunk":
            chunks[status] = count
        elif status == "done":
            scanned_at = last
    workers = dbsession.scalar(of_batch.with_only_columns(sa.func.count(Job.worker.distinct()))) or 0
    seconds = ((batch.done_at or now) - batch.began_at).total_seconds() if batch.began_at else 0.0
    rate = batch.done_count / seconds if seconds > 0 and batch.done_count else None
    return Timeline(batch.arrived_at, batch.created_at, scanned_at, batch.began_at, batch.done_at, chunks, workers, rate)


def senders(dbsession: Session, batch: Batch, most: int) -> list[Upload]:
    """Tell who sent files of a batch over the network, the first ones first."""
    return list(dbsession.scalars(sa.select(Upload).where(Upload.batch_id == batch.id).order_by(Upload.id).limit(most)))


def totals(dbsession: Session) -> Totals:
    """Count what there is, from the counters of the batches."""
    sums = sa.select(
        sa.func.count(Batch.id),
        sa.func.coalesce(sa.func.sum(Batch.image_count), 0),
        sa.func.coalesce(sa.func.sum(Batch.byte_count), 0),
        sa.func.coalesce(sa.func.sum(Batch.error_count), 0),
        sa.select(sa.func.count(Series.id)).scalar_subquery(),
        sa.select(sa.func.count(Study.id)).scalar_subquery(),
    )
    batches, images, size, errors, series, studies = dbsession.execute(sums).one()
    return Totals(int(batches), int(images), int(series), int(studies), int(size), int(errors))
