"""``scan_batch``: list the files of a batch and cut them into chunks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dicomweb import batches, jobs
from dicomweb.imports.folders import refusal
from dicomweb.imports.importer import Importer
from dicomweb.imports.outcomes import add_outcomes, outcome
from dicomweb.languages import N_, gettext
from dicomweb.models import Batch, Job, unescape_path

# Below this many files it is not worth waking another worker.
SMALL_CHUNK = 64

SYSTEM_FILES = frozenset({".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", ".directory"})


SYSTEM_FILE = N_("A file of the operating system, no image.")


def is_system_file(path: str) -> bool:
    """Tell by its name whether a file is one that operating systems leave in folders."""
    name = os.path.basename(path)
    return name in SYSTEM_FILES or name.startswith("._")


class Entry(NamedTuple):
    """One directory entry below a batch: a file to import, or the reason why it is none."""

    path: str
    size: int | None
    mtime_ns: int | None
    kind: str = ""
    code: str = ""
    message: str = ""


def scan_batch(importer: Importer, job: Job) -> None:
    """List a folder of a batch, add its files as NEW images in path order, and cut them into chunks."""
    below = unescape_path(job.payload["below"])
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
    sentinel = importer.settings["watch.sentinel"] if batch.source == "folder" else None
    entries = sorted(walk(batch.path or "", below, sentinel=sentinel), key=lambda entry: os.fsencode(entry.path))
    files = [entry for entry in entries if not entry.kind]
    others = [entry for entry in entries if entry.kind]
    now = importer.clock()
    rows = [
        {
            "batch_id": batch.id,
            "path": entry.path,
            "status": "NEW",
            "version": 0,
            "size": entry.size,
            "mtime_ns": entry.mtime_ns,
        }
        for entry in files
    ]
    chunks = cut(files, importer.settings["import.chunk_files"], importer.settings["workers.count"])
    with importer.work() as dbsession:
        jobs.finish(dbsession, job, now=now)
        skipped = sum(entry.kind == "skipped" for entry in others)
        # First, because it locks the batch: the ids of two scans of one batch must not mix, as chunks are ranges of ids.
        batches.record_scan(
            dbsession, batch.id, found=len(entries), failed=len(others) - skipped, skipped=skipped, now=now
        )
        batches.add_files(dbsession, batch.id, rows, chunks=chunks, now=now)
        notes = [outcome(entry.path, entry.kind, entry.code, entry.message, entry.size) for entry in others]
        add_outcomes(dbsession, batch.id, notes, now)


def walk(root: str, below: str, *, sentinel: str | None) -> Iterator[Entry]:
    """List every entry below a folder; links and special files are named, never followed or opened.

    The sentinel of the folder itself is no content. A folder that cannot be listed is one entry with the reason.
    """
    folders = [below]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                listed = list(found)
        except OSError as error:
            message = gettext("The folder cannot be read: %(error)s.", error=error.strerror)
            yield Entry(folder, None, None, "error", batches.FOLDER_UNREADABLE, message)
            continue
        for entry in listed:
            path = os.path.join(folder, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                refused = refusal(error)
                yield Entry(path, None, None, "error", refused.code, str(refused))
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISLNK(status.st_mode):
                yield Entry(path, None, None, "error", "not-a-file", N_("This is a symbolic link; links are not followed."))
            elif not stat.S_ISREG(status.st_mode):
                yield Entry(path, None, None, "error", "not-a-file", N_("This is a pipe, socket or device, not a file."))
            elif path == sentinel:
                continue
            elif is_system_file(entry.name):
                yield Entry(
                    path,
                    status.st_size,
                    status.st_mtime_ns,
                    "skipped",
                    "system-file",
                    SYSTEM_FILE,
                )
            else:
                yield Entry(path, status.st_size, status.st_mtime_ns)


def cut(files: Sequence[Entry], most: int, workers: int) -> list[tuple[int, int]]:
    """Cut files in path order into chunks: (first, end) positions.

    At most ``most`` files, about equally many each; fewer when that keeps all workers busy, though not so few that groups of
    a handful of images result; a chunk that is at least half full ends where a folder ends, since a folder is mostly a series
    and whole series make small groups.
    """
    size = max(min(most, SMALL_CHUNK), min(most, -(-len(files) // workers)))
    size = -(-len(files) // max(1, -(-len(files) // size)))
    chunks: list[tuple[int, int]] = []
    first = 0
    while first < len(files):
        end = min(first + size, len(files))
        if end < len(files):
            for border in range(end, first + size // 2, -1):
                if os.path.dirname(files[border].path) != os.path.dirname(files[border - 1].path):
                    end = border
                    break
        chunks.append((first, end))
        first = end
    return chunks
