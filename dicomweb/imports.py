"""Files become images of a batch: scan, read, store, index; each step safe to repeat.

``scan_batch`` lists a folder and cuts its files into chunks. ``import_chunk`` reads and hashes the files of one chunk without
any lock, writes their bytes as one pack, and commits images, header index and outcomes in one short transaction together
with the end of its job. A chunk that is done twice changes nothing; a chunk that was interrupted anywhere left nothing but a
pack that its next attempt removes.

Every file gets exactly one outcome: it is an image, or it has an ``Outcome`` row that says why not (a conflict has both).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydicom.datadict import tag_for_keyword
from sqlalchemy.orm import Session

from dicomweb import batches, headers, index, jobs, removals
from dicomweb.db import Base, insert_missing, is_overtaken, work
from dicomweb.models import OUTCOME_KIND, Batch, Image, Job, Outcome, Pack, Patient, Series, Study, unescape_path
from dicomweb.settings import SettingError, Settings
from dicomweb.storage import BytesMissing, FileRange, PackWriter, Storage

# Files up to this size are read whole; larger ones are copied block by block and never held in memory.
WHOLE_FILE_BYTES = 32 << 20
_HEAD_BYTES = 1 << 20
_COLLISIONS = 8
# After so many attempts of a chunk that ended its worker, the chunk is cut in two, until the one bad file is alone.
_SPLIT_AFTER = 2
# Longer UIDs than any index can hold are no UIDs; those of 65 and more characters are wrong (PS3.5 9.1) but kept.
_MAX_UID = 256

SYSTEM_FILES = frozenset({".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", ".directory"})

_OS_ERRORS = {
    errno.EACCES: ("permission-denied", "The importer may not read this file."),
    errno.EPERM: ("permission-denied", "The importer may not read this file."),
    errno.ENOENT: ("file-gone", "The file is no longer there."),
    errno.ENOTDIR: ("file-gone", "The file is no longer there."),
    errno.ELOOP: ("not-a-file", "This is a symbolic link; links are not followed."),
    errno.ENXIO: ("not-a-file", "This is not a file."),
    errno.ENAMETOOLONG: ("name-too-long", "The path of the file is too long."),
}


class Stopping(Exception):
    """The job goes back to the queue, and nothing of it was kept: the worker has to stop, or must begin again."""


class Refused(Exception):
    """A file cannot be imported: a short code, and a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Importer:
    """What a worker needs to import: where the rows, the bytes and the settings are.

    stopping: asked between files; clock: tells the time.
    """

    engine: sa.Engine
    settings: Settings
    storage: Storage
    doorbell: jobs.Doorbell | None = None
    stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    promoted: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.promoted = frozenset(_path_of_keyword(keyword) for keyword in self.settings["index.promoted"])

    def work(self, *, read_only: bool = False) -> Any:
        """Open a unit of work whose jobs ring this importer's doorbell."""
        return work(self.engine, read_only=read_only, doorbell=self.doorbell)


def _path_of_keyword(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise SettingError(f"index.promoted (DICOMWEB_INDEX_PROMOTED): {keyword} is not a DICOM keyword.")
    return f"{tag:08X}"


# ---------------------------------------------------------------------------------------------------------------- scanning


class Entry(NamedTuple):
    """One directory entry below a batch: a file to import, or the reason why it is none."""

    path: str
    size: int | None
    mtime_ns: int | None
    kind: str | None = None
    code: str = ""
    message: str = ""


def scan_batch(importer: Importer, job: Job) -> None:
    """List a folder of a batch, add its files as NEW images in path order, and cut them into chunks."""
    below = unescape_path(job.payload["below"])
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
    sentinel = importer.settings["watch.sentinel"] if batch.source == "folder" else None
    entries = sorted(walk(batch.path or "", below, sentinel=sentinel), key=lambda entry: os.fsencode(entry.path))
    files = [entry for entry in entries if entry.kind is None]
    others = [entry for entry in entries if entry.kind is not None]
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
        batches.add_files(dbsession, batch.id, rows, chunks=chunks, now=now)
        _add_outcomes(
            dbsession,
            batch.id,
            [_outcome(entry.path, entry.kind, entry.code, entry.message, entry.size) for entry in others],
            now,
        )
        skipped = sum(entry.kind == "skipped" for entry in others)
        batches.record_scan(
            dbsession, batch.id, found=len(entries), failed=len(others) - skipped, skipped=skipped, now=now
        )


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
            yield Entry(
                folder, None, None, "error", batches.FOLDER_UNREADABLE, f"The folder cannot be read: {error.strerror}."
            )
            continue
        for entry in listed:
            path = os.path.join(folder, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                code, message = _OS_ERRORS.get(
                    error.errno or 0, ("unreadable", f"The file cannot be read: {error.strerror}.")
                )
                yield Entry(path, None, None, "error", code, message)
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISLNK(status.st_mode):
                yield Entry(path, None, None, "error", "not-a-file", "This is a symbolic link; links are not followed.")
            elif not stat.S_ISREG(status.st_mode):
                yield Entry(path, None, None, "error", "not-a-file", "This is a pipe, socket or device, not a file.")
            elif path == sentinel:
                continue
            elif entry.name in SYSTEM_FILES or entry.name.startswith("._"):
                yield Entry(
                    path,
                    status.st_size,
                    status.st_mtime_ns,
                    "skipped",
                    "system-file",
                    "A file of the operating system, no image.",
                )
            else:
                yield Entry(path, status.st_size, status.st_mtime_ns)


def cut(files: Sequence[Entry], most: int, workers: int) -> list[tuple[int, int]]:
    """Cut files in path order into chunks: (first, end) positions.

    At most ``most`` files; fewer when that keeps all workers busy; a chunk that is at least half full ends where a folder
    ends, since a folder is mostly a series and whole series make small groups.
    """
    size = max(min(most, 32), min(most, -(-len(files) // workers)))
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


# ----------------------------------------------------------------------------------------------------------------- reading


class Candidate(NamedTuple):
    """A file that was read: everything its rows need."""

    image_id: int
    path: str
    size: int
    sha256: bytes
    header: headers.Header
    sop_instance_uid: str
    pack_id: int | None
    pack_offset: int | None

    @property
    def adopted(self) -> bool:
        """Its bytes are in a pack already, which another image left to it."""
        return self.pack_id is not None


class NoImage(NamedTuple):
    """A file that is no image, and why."""

    image_id: int
    path: str
    size: int | None
    kind: str
    code: str
    message: str


class Folder:
    """Opens files below the folder of a batch without ever passing through a symbolic link."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._open: tuple[str, int] | None = None

    def open(self, path: str) -> int:
        """Open a regular file for reading and give its descriptor. Raises OSError, Refused."""
        parent, name = os.path.split(path)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder(parent))
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Refused("not-a-file", "This is not a file.")
        return fd

    def _folder(self, parent: str) -> int:
        if self._open is not None and self._open[0] == parent:
            return self._open[1]
        self.close()
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parent.split(os.sep) if parent else ():
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        self._open = (parent, fd)
        return fd

    def remove(self, path: str, sha256: bytes) -> None:
        """Remove a file whose bytes have this hash, and its folder when that becomes empty; leave everything else."""
        try:
            fd = self.open(path)
        except (OSError, Refused):
            return
        with open(fd, "rb") as source:
            if hashlib.file_digest(source, "sha256").digest() != sha256:
                return
        parent, name = os.path.split(path)
        with suppress(OSError):
            os.unlink(name, dir_fd=self._folder(parent))
            if parent and not os.listdir(self._folder(parent)):
                os.rmdir(os.path.join(self._root, parent))
                self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


class Reader:
    """Reads the files of one chunk and appends the bytes of those that may become images to its pack."""

    def __init__(self, importer: Importer, batch: Batch, pack: PackWriter) -> None:
        self._settings = importer.settings
        self._storage = importer.storage
        self._stores = importer.settings["import.mode"] != "reference"
        self._folder = Folder(batch.path or "")
        self._pack = pack
        self._limits = headers.Limits(
            depth=importer.settings["headers.max_depth"],
            elements=importer.settings["headers.max_elements"],
            inflated_bytes=importer.settings["headers.max_inflated_bytes"],
        )

    def read(self, image: Image, pack_name: str | None) -> Candidate | NoImage:
        """Read one file. Raises StorageFull."""
        try:
            if pack_name is not None:
                return self._adopt(image, self._storage.range(pack_name, image.pack_offset or 0, image.size or 0))
            return self._read(image)
        except Refused as refused:
            return self._no_image(image, "error", refused.code, str(refused))
        except headers.HeaderError as error:
            return self._no_image(image, "error", error.code, str(error))
        except BytesMissing as error:
            return self._no_image(image, "error", "unreadable", str(error))
        except OSError as error:
            code, message = _OS_ERRORS.get(
                error.errno or 0, ("unreadable", f"The file cannot be read: {error.strerror}.")
            )
            return self._no_image(image, "error", code, message)

    def close(self) -> None:
        """Close what is open."""
        self._folder.close()

    def _read(self, image: Image) -> Candidate | NoImage:
        fd = self._folder.open(image.path)
        try:
            before = os.fstat(fd)
            if before.st_size > self._settings["import.max_file_bytes"]:
                raise Refused(
                    "too-large",
                    f"The file has {before.st_size:,} bytes; at most {self._settings['import.max_file_bytes']:,} are taken.",
                )
            if before.st_size <= WHOLE_FILE_BYTES:
                candidate = self._read_whole(image, fd, before.st_size)
            else:
                candidate = self._read_large(image, fd, before.st_size)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            if isinstance(candidate, Candidate):
                self.withdraw(candidate)
            raise Refused("changed-while-reading", "The file changed while it was read; it was probably not complete.")
        return candidate

    def _read_whole(self, image: Image, fd: int, size: int) -> Candidate | NoImage:
        # One byte more than the file had, so that a file that grows is noticed.
        data = os.read(fd, size + 1)
        while len(data) < size and (more := os.read(fd, size - len(data))):
            data += more
        if len(data) != size:
            raise Refused("changed-while-reading", "The file changed while it was read; it was probably not complete.")
        header = self._header(image, data, size, None)
        if header.is_dicomdir:
            return self._dicomdir(image, size)
        uid = identity(header)
        offset = self._pack.append(data) if self._stores else None
        return Candidate(image.id, image.path, size, hashlib.sha256(data).digest(), header, uid, None, offset)

    def _read_large(self, image: Image, fd: int, size: int) -> Candidate | NoImage:
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            left = size
            while left and (block := os.read(fd, min(left, _HEAD_BYTES))):
                digest.update(block)
                left -= len(block)
                yield block
            if left:
                raise Refused(
                    "changed-while-reading", "The file changed while it was read; it was probably not complete."
                )

        def pread(offset: int, length: int) -> bytes:
            return os.pread(fd, length, offset)

        header = self._header(image, os.pread(fd, _HEAD_BYTES, 0), size, pread)
        if header.is_dicomdir:
            return self._dicomdir(image, size)
        uid = identity(header)
        offset = None
        if self._stores:
            offset = self._pack.append_blocks(blocks()).offset
        else:
            for _ in blocks():
                pass
        return Candidate(image.id, image.path, size, digest.digest(), header, uid, None, offset)

    def _adopt(self, image: Image, source: FileRange) -> Candidate | NoImage:
        header = self._header(image, source.pread(0, min(source.length, WHOLE_FILE_BYTES)), source.length, source.pread)
        return Candidate(
            image.id,
            image.path,
            source.length,
            image.sha256 or b"",
            header,
            identity(header),
            image.pack_id,
            image.pack_offset,
        )

    def _header(
        self, image: Image, data: bytes, size: int, pread: Callable[[int, int], bytes] | None
    ) -> headers.Header:
        try:
            return headers.read_header(data, size=size, pread=pread, limits=self._limits)
        except headers.Unreadable:
            if size > WHOLE_FILE_BYTES or pread is not None:
                raise
            return headers.read_with_pydicom(data, limits=self._limits)

    def withdraw(self, candidate: Candidate) -> None:
        """Take the bytes of a candidate back that does not become an image."""
        if candidate.pack_offset is not None and not candidate.adopted:
            self._pack.withdraw(candidate.pack_offset, candidate.size)

    def _dicomdir(self, image: Image, size: int) -> NoImage:
        return self._no_image(
            image,
            "skipped",
            "dicomdir",
            "A DICOMDIR is a table of contents, no image; the files it names are imported by themselves.",
            size,
        )

    @staticmethod
    def _no_image(image: Image, kind: str, code: str, message: str, size: int | None = None) -> NoImage:
        return NoImage(image.id, image.path, image.size if size is None else size, kind, code, message)


def identity(header: headers.Header) -> str:
    """Give the SOPInstanceUID of a header that names its study, series and instance. Raises Refused."""
    uids = {keyword: header.value(path) for keyword, path in _UIDS.items()}
    missing = [keyword for keyword, uid in uids.items() if not uid]
    if missing:
        raise Refused("missing-uid", f"The file has no {' and no '.join(missing)}.")
    too_long = [keyword for keyword, uid in uids.items() if len(uid) > _MAX_UID]
    if too_long:
        raise Refused("bad-uid", f"{' and '.join(too_long)} cannot be a UID: more than {_MAX_UID} characters.")
    return uids["SOPInstanceUID"]


_UIDS = {"StudyInstanceUID": "0020000D", "SeriesInstanceUID": "0020000E", "SOPInstanceUID": "00080018"}


# --------------------------------------------------------------------------------------------------------------- importing


class Verdict(NamedTuple):
    """What becomes of a candidate: its version, or the image it duplicates; and the image it conflicts with."""

    candidate: Candidate
    version: int | None
    duplicate_of: int | None
    conflict_with: int | None


def import_chunk(importer: Importer, job: Job) -> None:
    """Import the files of one chunk and end its job, in one transaction.

    Raises Stopping, storage.StorageFull, jobs.LeaseLost, batches.BatchGone; then nothing of the chunk was kept.
    """
    first, last = job.payload["first"], job.payload["last"]
    with importer.work() as dbsession:
        batches.begin_chunk(dbsession, _batch_id(job), first, last, now=importer.clock())
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
        rows = dbsession.execute(
            sa.select(Image, Pack.name)
            .outerjoin(Pack, Pack.id == Image.pack_id)
            .where(Image.batch_id == batch.id, Image.id.between(first, last), Image.status != "DONE")
            .order_by(Image.id)
        ).all()
    if job.attempts > _SPLIT_AFTER and _split(importer, job, [image for image, _ in rows]):
        return
    pack = importer.storage.write_pack(batch.id, job.id, job.attempts)
    kept = False
    with ExitStack() as cleanup:
        cleanup.callback(lambda: None if kept else pack.abandon())
        reader = Reader(importer, batch, pack)
        cleanup.callback(reader.close)
        candidates: list[Candidate] = []
        refused: list[NoImage] = []
        for image, pack_name in rows:
            if importer.stopping():
                raise Stopping
            result = reader.read(image, pack_name)
            (candidates if isinstance(result, Candidate) else refused).append(result)  # type: ignore[arg-type]
        _commit_chunk(importer, job, batch, reader, pack, candidates, refused)
        kept = True


def _split(importer: Importer, job: Job, images: Sequence[Image]) -> bool:
    """Cut a chunk in two that keeps ending its worker; a file that does it alone is given up."""
    now = importer.clock()
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
    if images and job.attempts >= importer.settings["jobs.max_attempts"]:
        image = images[0]
        refused = NoImage(
            image.id,
            image.path,
            image.size,
            "error",
            "ends-worker",
            "Reading this file ended the worker process again and again.",
        )
        with importer.work() as dbsession:
            jobs.finish(dbsession, job, now=now)
            _write_refused(dbsession, _batch_id(job), [refused], now)
            batches.record_outcomes(dbsession, _batch_id(job), images=0, errors=1, notices=0, files=1, size=0, now=now)
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
) -> None:
    withdrawn: set[int] = set()
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
        try:
            with importer.work() as dbsession:
                _write_chunk(dbsession, importer, job, batch, pack, verdicts, refused, existing, series, prepared)
            return
        except (_Overtaken, index.UnknownFields):
            continue
        except Exception as error:
            if not is_overtaken(error):
                raise
    raise Stopping


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
        table = Image.__table__
        update = (
            sa.update(table)
            .where(table.c.id == sa.bindparam("row"))
            .values({name: sa.bindparam(name) for name in rows[0] if name != "row"})
        )
        dbsession.connection().execute(update, rows)
    duplicates = [verdict for verdict in verdicts if verdict.duplicate_of is not None]
    _write_refused(dbsession, batch.id, refused, now)
    _write_duplicates(dbsession, batch.id, duplicates, now)
    conflicts = [verdict for verdict in fresh if verdict.version and verdict.version > 0]
    _write_conflicts(dbsession, batch.id, conflicts, now)
    if importer.settings["import.mode"] == "move" and (fresh or duplicates):
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


# The table and not the model: an UPDATE of many rows by the unit of work would look each of them up.
_IMAGE = Base.metadata.tables["image"]


class Known(NamedTuple):
    """An image that is here already."""

    image_id: int
    version: int
    sha256: bytes


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
    _add_outcomes(
        dbsession,
        batch_id,
        [_outcome(item.path, item.kind, item.code, item.message, item.size) for item in refused],
        now,
    )


def _write_duplicates(dbsession: Session, batch_id: int, duplicates: Sequence[Verdict], now: datetime) -> None:
    removals.forget_images(dbsession, [verdict.candidate.image_id for verdict in duplicates], now=now)
    rows = [
        _outcome(
            verdict.candidate.path,
            "duplicate",
            "duplicate",
            OUTCOME_KIND["duplicate"],
            verdict.candidate.size,
            image_id=verdict.duplicate_of,
        )
        for verdict in duplicates
    ]
    _add_outcomes(dbsession, batch_id, rows, now)


def _write_conflicts(dbsession: Session, batch_id: int, conflicts: Sequence[Verdict], now: datetime) -> None:
    rows = [
        _outcome(
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
    _add_outcomes(dbsession, batch_id, rows, now)


def _outcome(
    path: str, kind: str | None, code: str, message: str, size: int | None, **links: int | None
) -> dict[str, Any]:
    return {
        "path": path,
        "kind": kind,
        "code": code,
        "message": message,
        "size": size,
        "image_id": None,
        "other_image_id": None,
        **links,
    }


def _add_outcomes(dbsession: Session, batch_id: int, rows: Sequence[dict[str, Any]], now: datetime) -> None:
    if rows:
        dbsession.execute(sa.insert(Outcome), [{**row, "batch_id": batch_id, "at": now} for row in rows])


def _batch_id(job: Job) -> int:
    if job.batch_id is None:
        raise batches.BatchGone(f"job {job.id} names no batch")
    return job.batch_id


def _whole_number(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if -(1 << 63) <= number < 1 << 63 else None


def pack_fragments(fragments: Sequence[tuple[int, int]]) -> bytes:
    """Write where the fragments of encapsulated pixel data lie: (offset, length) pairs, in bytes from the start of the file."""
    return zlib.compress(
        struct.pack(f"<{2 * len(fragments)}Q", *(number for fragment in fragments for number in fragment))
    )


def unpack_fragments(table: bytes) -> list[tuple[int, int]]:
    """Read back what ``pack_fragments`` wrote."""
    raw = zlib.decompress(table)
    numbers = struct.unpack(f"<{len(raw) // 8}Q", raw)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


# ----------------------------------------------------------------------------------------------- patients, studies, series

_PATIENT = {
    "patient_id": "00100020",
    "patient_name": "00100010",
    "patient_birth_date": "00100030",
    "patient_sex": "00100040",
}
_STUDY = {
    "study_instance_uid": "0020000D",
    "study_date": "00080020",
    "study_time": "00080030",
    "accession_number": "00080050",
    "study_id": "00200010",
    "study_description": "00081030",
    "referring_physician_name": "00080090",
}
_SERIES = {
    "series_instance_uid": "0020000E",
    "modality": "00080060",
    "series_number": "00200011",
    "series_description": "0008103E",
    "series_date": "00080021",
    "series_time": "00080031",
    "body_part_examined": "00180015",
    "protocol_name": "00181030",
}


def ensure_series(importer: Importer, found: Sequence[headers.Header]) -> dict[tuple[str, str], int]:
    """Give the id of each (StudyInstanceUID, SeriesInstanceUID) of some headers, adding rows that are missing.

    In a short transaction of its own, sorted, before the chunk is written: so chunks of one series never wait for each other.
    """
    first: dict[tuple[str, str], headers.Header] = {}
    for header in found:
        first.setdefault((header.value("0020000D"), header.value("0020000E")), header)
    if not first:
        return {}
    with importer.work(read_only=True) as dbsession:
        known = _known_series(dbsession, first)
    if len(known) < len(first):
        with importer.work() as dbsession:
            _add_series(dbsession, {uids: header for uids, header in sorted(first.items()) if uids not in known})
            known = _known_series(dbsession, first)
    return known


def _known_series(dbsession: Session, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    rows = dbsession.execute(
        sa.select(Study.study_instance_uid, Series.series_instance_uid, Series.id)
        .join(Study, Study.id == Series.study_key)
        .where(Series.series_instance_uid.in_(sorted({series for _, series in wanted})))
    )
    return {(study, series): row for study, series, row in rows if (study, series) in wanted}


def _add_series(dbsession: Session, missing: dict[tuple[str, str], headers.Header]) -> None:
    studies = {study: header for (study, _), header in missing.items()}
    patients = {study: _texts(header, _PATIENT) for study, header in studies.items()}
    unique = {_patient_key(row): row for row in patients.values()}
    insert_missing(dbsession, Patient, [row for _, row in sorted(unique.items())])
    by_key = {
        (row.patient_id, row.patient_name, row.patient_birth_date): row.id
        for row in dbsession.scalars(
            sa.select(Patient).where(Patient.patient_id.in_(sorted({key[0] for key in unique})))
        )
    }
    rows = [
        {**_texts(header, _STUDY), "patient_key": by_key[_patient_key(patients[study])]}
        for study, header in sorted(studies.items())
    ]
    insert_missing(dbsession, Study, rows)
    study_keys = dict(
        dbsession.execute(
            sa.select(Study.study_instance_uid, Study.id).where(Study.study_instance_uid.in_(sorted(studies)))
        )
        .tuples()
        .all()
    )
    insert_missing(
        dbsession,
        Series,
        [{**_texts(header, _SERIES), "study_key": study_keys[study]} for (study, _), header in missing.items()],
    )


def _patient_key(patient: dict[str, str]) -> tuple[str, str, str]:
    return patient["patient_id"], patient["patient_name"], patient["patient_birth_date"]


def _texts(header: headers.Header, columns: dict[str, str]) -> dict[str, str]:
    # Beyond any honest value, but within what an index can hold.
    return {column: header.value(path)[:512] for column, path in columns.items()}


# ------------------------------------------------------------------------------------------------------------ after import


def remove_sources(importer: Importer, job: Job) -> None:
    """``import.mode`` move: remove the source files of a chunk whose images are durably stored.

    A source goes only when its bytes are the stored ones; a failed file stays where it was.
    """
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
        stored = sa.select(Image.path, Image.sha256).where(
            Image.batch_id == batch.id,
            Image.id.between(job.payload["first"], job.payload["last"]),
            Image.status == "DONE",
            Image.pack_id.is_not(None),
        )
        sources = [(path, sha256) for path, sha256 in dbsession.execute(stored)]
        twins = (
            sa.select(Outcome.path, Image.sha256)
            .join(Image, Image.id == Outcome.image_id)
            .where(Outcome.batch_id == batch.id, Outcome.kind == "duplicate")
        )
        sources += [(path, sha256) for path, sha256 in dbsession.execute(twins.where(Image.pack_id.is_not(None)))]
    folder = Folder(batch.path or "")
    try:
        for path, sha256 in sources:
            if importer.stopping():
                raise Stopping
            folder.remove(path, sha256)
    finally:
        folder.close()
    with importer.work() as dbsession:
        jobs.finish(dbsession, job, now=importer.clock())


def locate(dbsession: Session, image: Image, storage: Storage) -> FileRange:
    """Tell where the bytes of an image are: in a pack, or (imported by reference) where it was found. Raises BytesMissing."""
    if image.pack_id is not None:
        name = dbsession.scalar(sa.select(Pack.name).where(Pack.id == image.pack_id))
        if name is None:
            raise BytesMissing("The stored file is gone.")
        return storage.range(name, image.pack_offset or 0, image.size or 0)
    folder = dbsession.scalar(sa.select(Batch.path).where(Batch.id == image.batch_id))
    return FileRange.at(folder or "", image.path, image.size or 0)
