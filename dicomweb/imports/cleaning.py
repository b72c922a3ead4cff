"""The source folders of imported batches are removed: only what is stored for certain, and nothing that a person did not name.

A batch may be cleaned when it came as a dropped folder, is done, and has no error. Of its folder goes

* a file whose bytes are those that are stored (an image, or a duplicate of one), both read and compared once more;
* what the import left out on purpose (files of the operating system, a DICOMDIR);
* a folder that is empty then, and at last the sentinel and the dropped folder itself.

Whatever else lies there (files that came later, links, what changed since) stays, and its folder with it. No link is followed. All
of it may be done twice, and be interrupted anywhere.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import batches, jobs
from dicomweb.db import change
from dicomweb.imports.importer import Importer, Stopping, batch_of
from dicomweb.languages import N_, counted, gettext
from dicomweb.models import Arrival, Batch, Cleanup, Image, Job, Outcome, Pack
from dicomweb.settings import Settings
from dicomweb.storage import FileRange, Storage

# So many clean-ups are asked for at once; whoever wants more asks again.
AT_ONCE = 1000
# What says that nothing can be removed there, and not that one file cannot.
_LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)
_NOT_STORED = N_("The stored copy of this batch is not complete, so its source folder is kept.")
# After so many entries the batch is looked at again.
_LOOK_AGAIN = 64
# Each folder below the other takes a descriptor; what lies deeper stays.
_DEEPEST = 200


class CannotClean(Exception):
    """The source folder of a batch must not or cannot be removed; the text is a sentence that says why."""


class Cleanable(NamedTuple):
    """What a clean-up would remove: so many batches, their images and the bytes of these."""

    batches: int
    images: int
    bytes: int


class Swept(NamedTuple):
    """What a clean-up found: the files that are gone (by it, or already) and their bytes, and what stays."""

    files: int
    bytes: int
    kept: int
    folder_gone: bool


class _Source(NamedTuple):
    """A file that may go. sha256: of the stored bytes; stored: where these are; both None for what was left out on purpose."""

    sha256: bytes | None
    size: int
    stored: FileRange | None


@dataclass(slots=True)
class _Sweep:
    """What a clean-up may do, and what it has done so far.

    since: what was left out and changed after this moment stays. stopping: asked before each entry; may raise CannotClean.
    """

    sources: dict[str, _Source]
    sentinel: str
    since: datetime
    stopping: Callable[[], bool]
    files: int = 0
    bytes: int = 0


def cleanable(*, older_than: timedelta | None = None, now: datetime) -> sa.Select[Any]:
    """Select the batches whose source folders can be removed; with an age only those that did not change for so long."""
    # What was refused may be asked for again; what is gone, or is going, may not.
    over = sa.exists().where(Cleanup.batch_id == Batch.id, Cleanup.status.in_(("asked", "done", "kept")))
    wanted = sa.select(Batch).where(
        Batch.source == "folder", Batch.status == "DONE", ~Batch.has_error, ~Batch.deleting, Batch.delete_at.is_(None), ~over
    )
    return wanted if older_than is None else wanted.where(Batch.modified_at <= now - older_than)


def count_cleanable(dbsession: Session, *, older_than: timedelta | None = None, now: datetime) -> Cleanable:
    """Tell how much could be removed."""
    sums = (sa.func.count(Batch.id), sa.func.sum(Batch.image_count), sa.func.sum(Batch.byte_count))
    counted = cleanable(older_than=older_than, now=now).with_only_columns(*sums, maintain_column_froms=True)
    return Cleanable(*(int(number or 0) for number in dbsession.execute(counted).one()))


def why_not(settings: Settings, batch: Batch) -> str | None:
    """Say why the source folder of a batch cannot be removed, as far as its row and the settings tell; None when it can."""
    if settings["import.mode"] == "reference":
        return gettext("Files are indexed where they are (import.mode is reference): the source folders hold the only copy.")
    if batch.source != "folder":
        return gettext("This batch did not come as a folder; what came over the network is not kept beside what is stored.")
    if batch.deleting or batch.delete_at is not None:
        return gettext("The batch is to be deleted.")
    if batch.status != "DONE":
        return gettext("The batch is not done yet.")
    if batch.has_error:
        return gettext("Some files of the batch could not be imported, or are in conflict; its folder is kept.")
    folder = Path(batch.path or "")
    if folder.parent not in settings["watch.folders"]:
        return gettext("The folder is not in a watched folder (any more).")
    if any(root.is_relative_to(folder) for root in settings["watch.folders"]):
        return gettext("The folder is a watched folder itself, or one lies in it.")
    return None


def ask_clean(dbsession: Session, batch: Batch, settings: Settings, *, now: datetime, automatic: bool = False) -> None:
    """Have the source folder of a batch removed by a worker. Raises CannotClean."""
    if (reason := why_not(settings, batch)) is not None:
        raise CannotClean(reason)
    before = dbsession.get(Cleanup, batch.id)
    pending = (Job.batch_id == batch.id, Job.kind == "clean_source", Job.status.in_(("queued", "running")))
    # A job that has failed for good waits for a person, who may as well ask here.
    if before is not None and before.status == "asked" and dbsession.scalar(sa.select(sa.exists().where(*pending))):
        raise CannotClean(gettext("A worker is about to remove the folder already."))
    if before is not None:
        change(dbsession, sa.delete(Cleanup).where(Cleanup.batch_id == batch.id))
        dbsession.expunge(before)
    dbsession.add(Cleanup(batch_id=batch.id, status="asked", asked_at=now, automatic=automatic))
    jobs.enqueue(dbsession, "clean_source", {}, batch_id=batch.id, now=now)


def clean_all(dbsession: Session, settings: Settings, *, older_than: timedelta | None, now: datetime, automatic: bool = False) -> int:
    """Have the source folders of all batches that can be cleaned removed, at most AT_ONCE; tell how many."""
    asked = 0
    for batch in dbsession.scalars(cleanable(older_than=older_than, now=now).order_by(Batch.id).limit(AT_ONCE)).all():
        before = dbsession.get(Cleanup, batch.id)
        if automatic and before is not None and before.ended_at is not None and now - before.ended_at < timedelta(days=1):
            # What could not be removed is not tried each minute.
            continue
        try:
            ask_clean(dbsession, batch, settings, now=now, automatic=automatic)
        except CannotClean:
            continue
        asked += 1
    return asked


def clean_old(dbsession: Session, settings: Settings, *, now: datetime) -> int:
    """Have those source folders removed that the setting says are old enough; tell how many."""
    days = settings["cleanup.source_days"]
    if not days or settings["import.mode"] == "reference":
        return 0
    return clean_all(dbsession, settings, older_than=timedelta(days=days), now=now, automatic=True)


def clean_source(importer: Importer, job: Job) -> None:
    """Remove the source folder of a batch, as far as everything in it is stored."""
    batch_id = batch_of(job)
    sweep = None
    try:
        with importer.work(read_only=True) as dbsession:
            batch = _still_cleanable(dbsession, importer, batch_id)
            sources = _plan(dbsession, importer, batch)
        stopping = _looking_again(importer, batch_id)
        sweep = _Sweep(sources, importer.settings["watch.sentinel"], batch.created_at, stopping)
        swept = _sweep(Path(batch.path or ""), sweep)
        outcome = {"files": swept.files, "bytes": swept.bytes, "kept": swept.kept, **_ending(swept)}
    except CannotClean as error:
        outcome = {"status": "refused", "reason": str(error)}
        if sweep is not None:
            outcome |= {"files": sweep.files, "bytes": sweep.bytes}
    with importer.work() as dbsession:
        jobs.finish(dbsession, job, now=importer.clock())
        ended = sa.update(Cleanup).where(Cleanup.batch_id == batch_id, Cleanup.status == "asked")
        change(dbsession, ended.values(ended_at=importer.clock(), **outcome))


def _ending(swept: Swept) -> dict[str, Any]:
    if swept.folder_gone:
        return {"status": "done", "reason": None}
    if not swept.kept:
        return {"status": "kept", "reason": N_("The folder itself stayed: not imported with this batch, or changed since.")}
    left = counted(
        "%(n)s entry in the folder stayed: not imported with this batch, or changed since.",
        "%(n)s entries in the folder stayed: not imported with this batch, or changed since.",
        swept.kept,
    )
    return {"status": "kept", "reason": left}


def _still_cleanable(dbsession: Session, importer: Importer, batch_id: int) -> Batch:
    """Give a batch whose source folder may be removed. Raises CannotClean."""
    batch = dbsession.get(Batch, batch_id)
    if batch is None:
        raise CannotClean(N_("The batch is gone."))
    if (reason := why_not(importer.settings, batch)) is not None:
        raise CannotClean(reason)
    return batch


def _looking_again(importer: Importer, batch_id: int) -> Callable[[], bool]:
    """Make a function that tells whether to stop, and now and then whether the batch is still one that may be cleaned."""
    asked = itertools.count(1)

    def stopping() -> bool:
        if importer.stopping():
            return True
        if next(asked) % _LOOK_AGAIN == 0:
            # Somebody may have begun to delete it, or to import more into it.
            with importer.work(read_only=True) as dbsession:
                _still_cleanable(dbsession, importer, batch_id)
        return False

    return stopping


def _plan(dbsession: Session, importer: Importer, batch: Batch) -> dict[str, _Source]:
    """Tell which files may go, by their paths in the folder. Raises CannotClean."""
    # Also of a folder that this one lies in: watched folders may lie in each other.
    above = [str(folder) for folder in (Path(batch.path or ""), *Path(batch.path or "").parents)]
    same_folder = sa.select(Batch).where(Batch.path.in_(above), Batch.id != batch.id)
    if any(other.status != "DONE" or other.has_error for other in dbsession.scalars(same_folder)):
        raise CannotClean(N_("Another batch was made of the same folder, and is not done or has errors."))
    if dbsession.scalar(sa.select(sa.exists().where(Arrival.path == batch.path))):
        raise CannotClean(N_("The folder waits in the watched folder to be imported once more."))
    sources = dict(_stored(dbsession, importer.storage, batch))
    left_out = sa.select(Outcome.path, Outcome.size).where(Outcome.batch_id == batch.id, Outcome.kind == "skipped")
    # What was uploaded into the batch has names that a file of the folder may have too.
    for path, size in dbsession.execute(left_out.where(Outcome.place.is_(None))):
        sources.setdefault(path, _Source(None, size or 0, None))
    return sources


def _stored(dbsession: Session, storage: Storage, batch: Batch) -> list[tuple[str, _Source]]:
    columns = (Image.sha256, Image.size, Image.pack_id, Image.pack_offset)
    images = sa.select(Image.path, *columns).where(Image.batch_id == batch.id)
    twins = sa.select(Outcome.path, *columns).join(Image, Image.id == Outcome.image_id)
    twins = twins.where(Outcome.batch_id == batch.id, Outcome.kind == "duplicate")
    found, ends = [], defaultdict[int, int](int)
    for path, sha256, size, pack_id, offset in (*dbsession.execute(images), *dbsession.execute(twins)):
        if pack_id is None or sha256 is None:
            raise CannotClean(N_("Files of this batch were indexed where they are: the source folder holds the only copy."))
        ends[pack_id] = max(ends[pack_id], (offset or 0) + (size or 0))
        found.append((path, sha256, pack_id, offset or 0, size or 0))
    names = dict(dbsession.execute(sa.select(Pack.id, Pack.name).where(Pack.id.in_(ends))).all()) if ends else {}
    for pack_id, end in ends.items():
        # The one look that tells a storage which is not mounted, or was emptied, from one that is well.
        try:
            size = storage.path(names[pack_id]).stat().st_size
        except (KeyError, OSError):
            size = -1
        if size < end:
            raise CannotClean(_NOT_STORED)
    return [
        (path, _Source(sha256, size, storage.range(names[pack_id], offset, size))) for path, sha256, pack_id, offset, size in found
    ]


def _sweep(folder: Path, sweep: _Sweep) -> Swept:
    """Remove what may go. Raises CannotClean, Stopping."""
    sources = sweep.sources
    try:
        root = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CannotClean(gettext("The watched folder cannot be read: %(error)s.", error=error.strerror)) from None
    try:
        try:
            top = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        except FileNotFoundError:
            return Swept(len(sources), sum(source.size for source in sources.values()), 0, folder_gone=True)
        except OSError as error:
            raise CannotClean(gettext("The folder cannot be opened, or is a link: %(error)s.", error=error.strerror)) from None
        try:
            remaining, others = _empty(top, "", sweep)
            gone = not remaining and not others and _remove_top(root, top, folder.name, sweep.sentinel)
        finally:
            os.close(top)
    finally:
        os.close(root)
    kept = [sources[path].size for path in remaining]
    total = sum(source.size for source in sources.values())
    return Swept(len(sources) - len(kept), total - sum(kept), len(kept) + others, gone)


def _empty(fd: int, prefix: str, sweep: _Sweep) -> tuple[list[str], int]:
    """Empty a folder that is open; give the named files that stay, and how many other entries stay."""
    remaining: list[str] = []
    others = 0
    try:
        with os.scandir(fd) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        return [], 1
    for entry in entries:
        if sweep.stopping():
            raise Stopping
        path = os.path.join(prefix, entry.name)
        if entry.is_dir(follow_symlinks=False):
            below, other = _empty_below(fd, entry.name, path, sweep)
            remaining += below
            others += other
        elif path == sweep.sentinel:
            # It goes last: without it a folder that stays would wait to be imported again.
            continue
        elif path in sweep.sources and entry.is_file(follow_symlinks=False):
            source = sweep.sources[path]
            if not _remove(fd, entry.name, source, sweep.since):
                remaining.append(path)
                continue
            sweep.files += 1
            sweep.bytes += source.size
        else:
            others += 1
    return remaining, others


def _empty_below(fd: int, name: str, path: str, sweep: _Sweep) -> tuple[list[str], int]:
    if path.count(os.sep) > _DEEPEST:
        return [], 1
    try:
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return [], 1
    try:
        remaining, others = _empty(below, path, sweep)
    finally:
        os.close(below)
    if not remaining and not others:
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            _refuse_if_locked(error)
            others = 1
    return remaining, others


def _remove(fd: int, name: str, source: _Source, since: datetime) -> bool:
    """Remove a file when it is what it was; tell whether it is gone. Raises CannotClean."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    with open(file, "rb") as opened:
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size != source.size:
            return False
        if source.sha256 is None or source.stored is None:
            if seen.st_mtime > since.timestamp():
                return False
        else:
            try:
                if hashlib.file_digest(opened, "sha256").digest() != source.sha256:
                    return False
            except OSError:
                return False
            if not source.stored.is_intact(source.sha256):
                raise CannotClean(_NOT_STORED)
    try:
        now = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if (now.st_ino, now.st_dev, now.st_mtime_ns) != (seen.st_ino, seen.st_dev, seen.st_mtime_ns):
            return False
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        _refuse_if_locked(error)
        return False
    return True


def _remove_top(root: int, top: int, name: str, sentinel: str) -> bool:
    try:
        if sentinel in os.listdir(top):
            os.unlink(sentinel, dir_fd=top)
        os.rmdir(name, dir_fd=root)
    except OSError as error:
        _refuse_if_locked(error)
        return False
    return True


def _refuse_if_locked(error: OSError) -> None:
    if error.errno in _LOCKED:
        read_only = N_("The watched folder is mounted read-only where the workers run, so nothing more could be removed.")
        locked = N_("The watched folder may not be changed where the workers run, so nothing more could be removed.")
        raise CannotClean(read_only if error.errno == errno.EROFS else locked) from None


def read_only_roots(settings: Settings) -> Sequence[Path]:
    """Tell which watched folders this process sees as mounted read-only."""
    locked = []
    for folder in settings["watch.folders"]:
        try:
            if os.statvfs(folder).f_flag & os.ST_RDONLY:
                locked.append(folder)
        except OSError:
            # It is not mounted here at all; the workers will tell.
            continue
    return locked


def kept_files(dbsession: Session, *, limit: int) -> list[tuple[Batch, int, int]]:
    """List the batches whose failed files are kept, the newest first: (batch, files, bytes)."""
    newest = sa.select(Batch.id).where(Batch.has_error, ~Batch.deleting).order_by(Batch.id.desc()).limit(limit)
    counted = (
        sa.select(Outcome.batch_id, sa.func.count(Outcome.id), sa.func.coalesce(sa.func.sum(Outcome.size), 0))
        .where(Outcome.batch_id.in_(newest), batches.retryable())
        .group_by(Outcome.batch_id)
    )
    numbers = {batch_id: (files, int(size or 0)) for batch_id, files, size in dbsession.execute(counted)}
    found = dbsession.scalars(sa.select(Batch).where(Batch.id.in_(numbers)).order_by(Batch.id.desc()))
    return [(batch, *numbers[batch.id]) for batch in found]
