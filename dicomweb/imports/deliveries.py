"""Files that come over the network, a STOW-RS request or a DIMSE association, become a batch.

They are written into a folder of their own below the state folder, and one transaction makes the batch and the jobs that
import them; from there on it is the pipeline of dropped folders. A file that is stored is removed from the folder; one
that failed stays, so that it can be tried again. Until the batch is there the folder is held by a lock, which ends with the
process; so what is not held and belongs to no batch is what a dead process left. ``clear_left`` removes that of a request,
which was never answered, and makes a batch of that of an association, of which each object was confirmed by itself.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from dicomweb import batches, jobs
from dicomweb.imports.importer import Importer, incoming_folder
from dicomweb.imports.scanning import SMALL_CHUNK
from dicomweb.models import Batch, Job, Outcome, Upload
from dicomweb.settings import Settings
from dicomweb.storage import failure_of

if TYPE_CHECKING:
    from dicomweb.imports.chunks import Verdict

# A folder is held a moment after it was made.
_HELD_SECONDS = 5


class Sender(NamedTuple):
    """Who sent a delivery, as columns of ``Upload``. begun_at: when the first byte came."""

    name: str
    address: str
    begun_at: datetime


class Delivery:
    """The folder of one delivery, held until ``close``.

    ``files`` are the files so far: (name, size). ``mark``: a short text that tells deliveries apart. Used by one thread.
    """

    def __init__(self, settings: Settings, source: str) -> None:
        """Make the folder. source: ``stow`` or ``dimse``. Raises StorageFailed."""
        self.files: list[tuple[str, int]] = []
        self.mark = secrets.token_hex(3)
        self._sync = settings["storage.sync"]
        self.folder = incoming_folder(settings) / f"{source}-{self.mark}{secrets.token_hex(12)}"
        try:
            self.folder.mkdir(mode=0o700, parents=True)
            self._held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise failure_of(error) from error
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def add(self, blocks: Iterable[bytes]) -> None:
        """Write one file block by block. Raises StorageFailed, and whatever the blocks raise."""
        path = self._next()
        size = 0
        try:
            with path.open("xb", buffering=0) as file:
                for block in blocks:
                    size += _write(file.fileno(), block)
        except OSError as error:
            raise failure_of(error) from error
        self.files.append((path.name, size))

    def take(self, path: Path) -> None:
        """Move a file of the same file system in. Raises StorageFailed."""
        target = self._next()
        try:
            path.rename(target)
            size = target.stat().st_size
        except OSError as error:
            raise failure_of(error) from error
        self.files.append((target.name, size))

    def make_durable(self, names: Iterable[str] | None = None) -> None:
        """Write files, of themselves all that are still there, through to the disk. Raises StorageFailed."""
        if not self._sync:
            return
        try:
            for name in [name for name, _ in self.files] if names is None else names:
                with suppress(FileNotFoundError):
                    _sync(self.folder / name, os.O_RDONLY)
            with suppress(FileNotFoundError):
                _sync(self.folder, os.O_RDONLY | os.O_DIRECTORY)
                _sync(self.folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise failure_of(error) from error

    def abandon(self) -> None:
        """Remove everything; there is no batch."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._held)

    def _next(self) -> Path:
        # Numbers and not names of the sender: nothing on the disk is named after what somebody sent.
        return self.folder / f"{len(self.files) + 1:06}.dcm"


def announce(
    importer: Importer,
    delivery: Delivery,
    name: str,
    *,
    source: str,
    sender: Sender | None = None,
    only_study: str | None = None,
    inline: str | None = None,
) -> tuple[Batch, Job | None]:
    """Make a delivery a batch, with the jobs that import it, in one transaction.

    sender: None when nobody knows any more. inline: the name of a caller that imports all files at once itself, by the job that is given then: it holds the job as
    a worker does, and when it dies a worker takes it over.
    """
    return _announce(
        importer, delivery.folder, delivery.files, name, source=source, sender=sender, only_study=only_study, inline=inline
    )


def _announce(
    importer: Importer,
    folder: Path,
    files: Sequence[tuple[str, int]],
    name: str,
    *,
    source: str,
    sender: Sender | None = None,
    only_study: str | None = None,
    inline: str | None = None,
) -> tuple[Batch, Job | None]:
    now = importer.clock()
    with importer.work() as dbsession:
        batch, ids = batches.add_delivery(
            dbsession,
            name,
            source=source,
            path=str(folder),
            files=files,
            only_study=only_study,
            now=now,
        )
        if sender is not None:
            dbsession.add(
                Upload(
                    folder=folder.name,
                    batch_id=batch.id,
                    joined=False,
                    sender=sender.name,
                    address=sender.address,
                    file_count=len(files),
                    byte_count=sum(size for _, size in files),
                    begun_at=sender.begun_at,
                    at=now,
                )
            )
        if inline is not None:
            held = jobs.begin(
                dbsession,
                "import_chunk",
                {"first": ids[0], "last": ids[-1]},
                batch_id=batch.id,
                worker=inline,
                lease=importer.settings["jobs.lease_seconds"],
                now=now,
            )
            return batch, held
        for first, last in _chunks(importer.settings, ids):
            jobs.enqueue(dbsession, "import_chunk", {"first": first, "last": last}, batch_id=batch.id, now=now)
    return batch, None


def _chunks(settings: Settings, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Cut the files into about as many chunks as there are workers, but no smaller than is worth waking one."""
    most = settings["import.chunk_files"]
    size = max(min(most, SMALL_CHUNK), min(most, -(-len(ids) // settings["workers.count"])))
    return [(ids[start], ids[min(start + size, len(ids)) - 1]) for start in range(0, len(ids), size)]


def remove_delivered(importer: Importer, batch: Batch, verdicts: Sequence[Verdict]) -> None:
    """Remove the delivered and uploaded files that are stored now, and the folders that become empty."""
    incoming = incoming_folder(importer.settings)
    emptied = set()
    for verdict in verdicts:
        candidate = verdict.candidate
        if candidate.place is not None:
            path = incoming / candidate.place
        elif batch.source not in ("folder", "upload"):
            path = Path(batch.path or "") / candidate.path
        else:
            continue
        emptied.add(path.parent)
        # By reference, the image that a duplicate equals may exist only where it was found, and that may vanish.
        if verdict.duplicate_of is None or importer.settings["import.mode"] != "reference":
            with suppress(OSError):
                path.unlink()
    for folder in emptied:
        while folder != incoming and incoming in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent


def remove_delivery(settings: Settings, path: str) -> None:
    """Remove the folder of a delivery whose batch is deleted; any other folder stays."""
    if Path(path).parent == incoming_folder(settings):
        shutil.rmtree(path, ignore_errors=True)


def clear_left(importer: Importer) -> int:
    """Remove what dead processes left: deliveries without a batch, and stored files; tell how many folders are gone."""
    try:
        entries = list(os.scandir(incoming_folder(importer.settings)))
    except FileNotFoundError:
        return 0
    # An upload may go on when the web server is there again; ``uploads`` sees to what nobody goes on with.
    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("upload-")]
    return sum(_clear(importer, Path(entry.path)) for entry in folders)


def _clear(importer: Importer, folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if importer.clock().timestamp() - os.fstat(descriptor).st_mtime < _HELD_SECONDS:
            return False
        # Looked up only after the lock is had: who held it has announced the batch, or is dead.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.name.startswith("dimse-") and _is_unknown(importer, folder):
            _announce_left(importer, folder)
        kept = _still_needed(importer, folder)
        for name in os.listdir(folder):
            if kept is not None and name not in kept:
                (folder / name).unlink(missing_ok=True)
        if kept is not None and not kept:
            folder.rmdir()
    except OSError:
        # Another process holds it, or the disk does not let go; the next start looks again.
        return False
    finally:
        os.close(descriptor)
    return not folder.exists()


def _is_unknown(importer: Importer, folder: Path) -> bool:
    with importer.work(read_only=True) as dbsession:
        return dbsession.scalar(sa.select(Batch.id).where(Batch.path == str(folder))) is None


def _announce_left(importer: Importer, folder: Path) -> None:
    files = [(path.name, path.stat().st_size) for path in sorted(folder.glob("*.dcm"))]
    if files:
        name = f"DIMSE {importer.clock():%Y-%m-%d %H:%M:%S} interrupted {folder.name[6:12]}"
        _announce(importer, folder, files, name, source="dimse")


def _still_needed(importer: Importer, folder: Path) -> set[str] | None:
    """Give the files that remove_delivered would have left; None: all of them, the import goes on."""
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.scalar(sa.select(Batch).where(Batch.path == str(folder), Batch.source != "folder"))
        if batch is None:
            return set()
        if batch.status != "DONE":
            return None
        kinds = ("error", "duplicate") if importer.settings["import.mode"] == "reference" else ("error",)
        left = sa.select(Outcome.path).where(Outcome.batch_id == batch.id, Outcome.kind.in_(kinds))
        return set(dbsession.scalars(left))


def wait_until_done(importer: Importer, batch_id: int, *, seconds: float) -> bool:
    """Wait for a batch to be done; tell whether it is. A batch that is deleted meanwhile is done too."""
    end = time.monotonic() + seconds
    pause = 0.01
    while True:
        with importer.work(read_only=True) as dbsession:
            status = dbsession.scalar(sa.select(Batch.status).where(Batch.id == batch_id))
        if status in ("DONE", None):
            return True
        left = end - time.monotonic()
        if left <= 0 or importer.stopping():
            return False
        time.sleep(min(pause, left))
        pause = min(0.25, pause * 1.3)


def _write(fd: int, block: bytes) -> int:
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]
    return len(block)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
