"""ZIP archives that were uploaded: unpacked by a worker, with bounds on everything an archive says of itself.

Nothing is believed: how many entries there are is known before they are listed, and what they unpack to before they are
unpacked; an entry gives no more bytes than it said, or it is refused. Files are named by numbers, so that no name in an archive leads
anywhere. **Each entry gets an outcome**: it is a file to import, or a row says why not; an archive that is refused as a whole has one row.
An archive in an archive is unpacked too, as deep as the settings say, and within the same bounds.
"""

from __future__ import annotations

import bz2
import copy
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dicomweb import batches, jobs
from dicomweb.imports.importer import Importer, Stopping, batch_of, incoming_folder
from dicomweb.imports.outcomes import add_outcomes, outcome
from dicomweb.imports.scanning import SYSTEM_FILE, is_system_file
from dicomweb.imports.uploads import clean_path, cut_chunks, distinct, is_archive, room
from dicomweb.languages import N_, gettext, grouped
from dicomweb.models import Job, unescape_path
from dicomweb.settings import Settings
from dicomweb.storage import StorageFull, failure_of, sync_file_system

_BLOCK = 1 << 20
_PACKED_BLOCK = 64 << 10
# An archive that unpacks to no more is taken whatever its ratio: zeros of a mask compress a thousandfold.
_HARMLESS_BYTES = 256 << 20
# Of one entry in the table of contents, with its names and comments.
_ENTRY_BYTES = 400
# The part of it that each entry has, and how it begins.
_ENTRY_HEAD = 46
_ENTRY_MAGIC = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ENCRYPTED = 0x1


class ArchiveRefused(Exception):
    """An archive, or an entry of one, is not unpacked: a short code, and a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unpacked(NamedTuple):
    """A file that was in an archive. path: its name for people, below that of the archive; file: where it lies."""

    path: str
    file: Path
    size: int


class Left(NamedTuple):
    """An entry that is not imported, and why; kind: ``error`` or ``skipped``."""

    path: str
    size: int
    kind: str
    code: str
    message: str


def unpack_archive(importer: Importer, job: Job) -> None:
    """Unpack an archive, add its files as NEW images with the jobs that import them, and end the job, in one transaction.

    Raises Stopping, StorageFailed, jobs.LeaseLost, batches.BatchGone; then nothing is kept.
    """
    incoming, settings = incoming_folder(importer.settings), importer.settings
    path, place, size = unescape_path(job.payload["path"]), job.payload["place"], job.payload["size"]
    archive = incoming / place
    _remove_left(archive, job.attempts)
    folder = Path(f"{archive}.{job.attempts}")
    kept = False
    try:
        refused = None
        files: list[Unpacked] = []
        left: list[Left] = []
        try:
            for result in unpack(importer, archive, path, folder):
                if isinstance(result, Unpacked):
                    files.append(result)
                else:
                    left.append(result)
        except ArchiveRefused as error:
            refused, files, left = error, [], []
        if settings["storage.sync"] and files:
            sync_file_system(folder)
        rows, notes = _rows(importer, files, left)
        if refused is not None:
            notes = [outcome(path, "error", refused.code, str(refused), size, place=place)]
        now = importer.clock()
        # A connection that is lost during the commit leaves open whether the rows are there; so from here on the files stay.
        # If they are not, the next attempt removes them.
        kept = bool(rows)
        with importer.work() as dbsession:
            jobs.finish(dbsession, job, now=now)
            skipped = sum(note["kind"] == "skipped" for note in notes)
            batch_id, failed = batch_of(job), len(notes) - skipped
            # First, because it locks the batch: chunks are ranges of ids, which must not mix with those of a scan.
            batches.record_scan(
                dbsession, batch_id, found=len(rows) + len(notes), failed=failed, skipped=skipped, now=now
            )
            rows = [{**row, "batch_id": batch_id, "status": "NEW", "version": 0} for row in rows]
            batches.add_files(dbsession, batch_id, rows, chunks=cut_chunks(settings, rows), now=now)
            add_outcomes(dbsession, batch_id, notes, now)
        if refused is None:
            archive.unlink(missing_ok=True)
    except (batches.BatchGone, jobs.LeaseLost):
        kept = False
        raise
    except OSError as error:
        raise failure_of(error) from error
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _rows(importer: Importer, files: list[Unpacked], left: list[Left]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    incoming = incoming_folder(importer.settings)
    files.sort(key=lambda file: os.fsencode(file.path))
    rows = [
        {"path": path, "place": str(file.file.relative_to(incoming)), "size": file.size}
        for file, path in zip(files, distinct(file.path for file in files), strict=True)
    ]
    return rows, [outcome(one.path, one.kind, one.code, one.message, one.size) for one in left]


def _remove_left(archive: Path, attempt: int) -> None:
    """Remove what earlier attempts left; not what a later one is writing."""
    for folder in archive.parent.glob(f"{archive.name}.*"):
        number = folder.suffix[1:]
        if number.isdigit() and int(number) <= attempt:
            shutil.rmtree(folder, ignore_errors=True)


def unpack(importer: Importer, archive: Path, name: str, folder: Path) -> Iterator[Unpacked | Left]:
    """Unpack an archive, and those in it, into a new folder.

    name: of the archive, for people; the names of its entries are below it. Raises ArchiveRefused, Stopping, StorageFull, OSError.
    """
    settings = importer.settings
    folder.mkdir(mode=0o700)
    waiting = deque([(archive, name, 1)])
    files = size = number = 0
    while waiting:
        path, above, depth = waiting.popleft()
        nested = depth > 1
        try:
            with _opened(path, settings, files=files, size=size) as opened:
                files += len(opened.infolist())
                size += sum(entry.file_size for entry in opened.infolist())
                for entry in opened.infolist():
                    if importer.stopping():
                        raise Stopping
                    if entry.filename.endswith("/") and not entry.file_size:
                        continue
                    shown = f"{above}/{clean_path(entry.filename)}"
                    number += 1
                    file = folder / f"{number:06}"
                    try:
                        _extract(opened, entry, file, settings)
                    except ArchiveRefused as refused:
                        file.unlink(missing_ok=True)
                        kind = "skipped" if refused.code == "system-file" else "error"
                        yield Left(shown, entry.file_size, kind, refused.code, str(refused))
                        continue
                    if not is_archive(file):
                        yield Unpacked(shown, file, entry.file_size)
                    elif depth < settings["upload.archive_depth"]:
                        waiting.append((file, shown, depth + 1))
                    else:
                        file.unlink()
                        message = gettext("This archive lies in another one, deeper than %(most)s, and is not unpacked.", most=settings["upload.archive_depth"])
                        yield Left(shown, entry.file_size, "error", "archive-too-deep", message)
        except ArchiveRefused as refused:
            if not nested:
                raise
            yield Left(above, path.stat().st_size, "error", refused.code, str(refused))
        finally:
            if nested:
                path.unlink(missing_ok=True)


def _opened(path: Path, settings: Settings, *, files: int, size: int) -> zipfile.ZipFile:
    """Open an archive when it is within the bounds, of which others have used some. Raises ArchiveRefused, StorageFull."""
    most_files, most_bytes = settings["upload.archive_max_files"], settings["upload.archive_max_bytes"]
    try:
        begins = _check_contents(path, most_files - files)
        opened = zipfile.ZipFile(path)
        if opened.start_dir != begins:
            # What was found is the table of an archive inside: this one was cut off after it.
            opened.close()
            raise zipfile.BadZipFile
    except FileNotFoundError:
        raise ArchiveRefused("archive-gone", N_("The archive is no longer there.")) from None
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError, ValueError, struct.error, EOFError):
        raise ArchiveRefused("archive-damaged", N_("The archive is damaged, or was cut off.")) from None
    entries = opened.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    try:
        if len(entries) > most_files - files:
            raise _too_many(most_files)
        if unpacked > most_bytes - size:
            raise ArchiveRefused("archive-too-large", gettext("The archive unpacks to more than %(most)s bytes.", most=grouped(most_bytes)))
        if unpacked > max(_HARMLESS_BYTES, path.stat().st_size * settings["upload.archive_max_ratio"]):
            ratio = settings["upload.archive_max_ratio"]
            raise ArchiveRefused("archive-ratio", gettext("The archive unpacks to more than %(most)s times its size.", most=grouped(ratio)))
        if unpacked > room(settings):
            raise StorageFull(N_("Files cannot be stored: there is no room on the disk to unpack the archive."))
    except BaseException:
        opened.close()
        raise
    return opened


def _too_many(most: int) -> ArchiveRefused:
    return ArchiveRefused("archive-too-many", gettext("The archive has more than %(most)s files.", most=grouped(most)))


def _check_contents(path: Path, most: int) -> int:
    """Tell where the table of contents of an archive begins, by what its end says.

    Refuses one that is too long to be read into memory. Raises ArchiveRefused, BadZipFile.
    """
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is None:
            raise zipfile.BadZipFile
        size, begin = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
        if size > _ENTRY_BYTES * max(0, most) + 65536:
            raise _too_many(most)
        begin -= size
        if end[zipfile._ECD_SIGNATURE] == zipfile.stringEndArchive64:  # type: ignore[attr-defined]
            begin -= zipfile.sizeEndCentDir64 + zipfile.sizeEndCentDir64Locator  # type: ignore[attr-defined]
        if begin < 0:
            raise zipfile.BadZipFile
        _count_entries(file, begin, size, most)
        return int(end[zipfile._ECD_OFFSET])  # type: ignore[attr-defined]


def _count_entries(file: BinaryIO, begin: int, size: int, most: int) -> None:
    # What the archive says of their number is not believed, and a list of them takes many times the bytes of the table.
    file.seek(begin)
    end, number = begin + size, 0
    while file.tell() < end:
        head = file.read(_ENTRY_HEAD)
        if len(head) < _ENTRY_HEAD or not head.startswith(_ENTRY_MAGIC):
            raise zipfile.BadZipFile
        number += 1
        if number > most:
            raise _too_many(most)
        file.seek(sum(struct.unpack_from("<3H", head, 28)), os.SEEK_CUR)


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, file: Path, settings: Settings) -> None:
    """Write one entry into a file. Raises ArchiveRefused."""
    mode = entry.external_attr >> 16
    if is_system_file(entry.filename.replace("\\", "/")) or entry.filename.startswith("__MACOSX/"):
        raise ArchiveRefused("system-file", SYSTEM_FILE)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ArchiveRefused("archive-no-file", N_("This is a link or a device, no file; links are not followed."))
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveRefused("archive-encrypted", N_("The file is encrypted; unpack the archive and upload its files."))
    if entry.compress_type not in _METHODS:
        message = gettext("The file is compressed by method %(method)s, which is not unpacked.", method=entry.compress_type)
        raise ArchiveRefused("archive-method", message)
    most = settings["import.max_file_bytes"]
    if entry.file_size > most:
        message = gettext("The file has %(size)s bytes; at most %(most)s are taken.", size=grouped(entry.file_size), most=grouped(most))
        raise ArchiveRefused("archive-too-large", message)
    try:
        source = _Bzip2(opened, entry) if entry.compress_type == zipfile.ZIP_BZIP2 else opened.open(entry)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeError, ValueError, struct.error, EOFError, OSError):
        # OSError: the entry lies before the beginning of the archive.
        raise _damaged() from None
    with closing(source), file.open("xb", buffering=0) as target:
        written = 0
        while block := _read(source):
            written += len(block)
            if written > entry.file_size:
                raise _damaged()
            view = memoryview(block)
            while view:
                view = view[target.write(view) :]
    if written != entry.file_size:
        raise _damaged()


class _Bzip2:
    """Reads an entry that is compressed by bzip2.

    zipfile decompresses all that it has read at once, and a kilobyte may become gigabytes; this gives no more than was asked for.
    """

    def __init__(self, opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        packed = copy.copy(entry)
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, entry.compress_size
        # It is that of the bytes which come out.
        del packed.CRC
        self._packed = opened.open(packed)
        self._decompressor = bz2.BZ2Decompressor()
        self._expected, self._crc = entry.CRC, 0

    def read(self, size: int) -> bytes:
        """Give some bytes, at most so many; none at the end. Raises BadZipFile, EOFError, OSError."""
        while not self._decompressor.eof:
            data = self._packed.read(_PACKED_BLOCK) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not data:
                raise EOFError
            if block := self._decompressor.decompress(data, size):
                self._crc = zlib.crc32(block, self._crc)
                return block
        if self._crc != self._expected:
            raise zipfile.BadZipFile
        return b""

    def close(self) -> None:
        """Let the entry go."""
        self._packed.close()


def _read(source: Any) -> bytes:
    try:
        return source.read(_BLOCK)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError):
        # bz2 says OSError of damaged data; that of a disk that cannot be read means the same for this file.
        raise _damaged() from None


def _damaged() -> ArchiveRefused:
    return ArchiveRefused("archive-damaged", N_("The file is damaged in the archive: its bytes are not those that were packed."))
