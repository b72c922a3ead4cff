"""Uploads: files that come one by one and in pieces, for as long as it takes, and then become a batch or join one.

An upload is a folder below the folder of deliveries. ``files.log`` says, a line each, which files were announced, under which
name for people and how large they will be; each lies beside it under its number and size. How much of a file is there is the
size of its file on the disk. So an upload survives the web server, and **a file costs no statement to the database and no
wait for the disk**: nothing is promised until ``announce``, which writes everything through, and makes the batch and its jobs in one
transaction. The log goes with it; what comes later finds no upload any more.

What nobody goes on with is removed after a set time (``clear_uploads``). Names of senders are only shown, never used on the disk.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from dicomweb import batches
from dicomweb.imports.importer import Importer, incoming_folder
from dicomweb.imports.outcomes import add_outcomes, outcome
from dicomweb.imports.scanning import SYSTEM_FILE, Entry, cut, is_system_file
from dicomweb.languages import gettext, grouped
from dicomweb.models import Batch, Job, Outcome, Upload, escape_path
from dicomweb.settings import Settings
from dicomweb.storage import StorageFull, failure_of, sync_file_system

PREFIX = "upload-"
# What must stay free on the disk when everything of an upload is there and is being imported.
SPARE_BYTES = 256 << 20
# A name for people is cut at so many characters, each part of it at the length that file systems know.
MOST_NAME = 1000
MOST_PART = 255
# By which a file that is announced again replaces itself.
MOST_KEY = 64

_KEY = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[0-9]{6,9}-[0-9]{1,15}")
# What a sender says of a file is kept up to so many characters.
MOST_SAID = 8 << 10
# More than two lines of the log, of which one may be torn.
_TAIL_BYTES = 64 << 10
_BLOCK = 1 << 20
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


class UploadGone(Exception):
    """There is no such upload any more: it became a batch, was cancelled, or was removed because nothing came."""


class TooMuch(Exception):
    """An upload would become larger than the settings allow; the text says how."""


class WrongOffset(Exception):
    """Bytes were sent that do not follow those that are there; ``offset`` tells how many are there."""

    def __init__(self, offset: int) -> None:
        super().__init__(gettext("The file has %(size)s bytes; what follows must begin there.", size=offset))
        self.offset = offset


class FileBusy(Exception):
    """Another request is writing this file."""


class NothingToImport(Exception):
    """No file of the upload is complete."""


class About(NamedTuple):
    """What an upload is for. batch_id: of the batch that it joins; sender, address: who began it."""

    name: str
    batch_id: int | None
    sender: str
    address: str
    begun_at: datetime


class SentFile(NamedTuple):
    """One file of an upload. key: what the sender calls it, so that a file that is sent again replaces itself."""

    file_id: str
    path: str
    size: int
    offset: int
    key: str

    @property
    def complete(self) -> bool:
        """Is all of it there?"""
        return self.offset == self.size


class Limits(NamedTuple):
    """What an upload may have. free: how many bytes may still come until the disk is too full."""

    files: int
    bytes: int
    file_bytes: int
    free: int


class OpenUpload:
    """An upload that is not a batch yet. Safe to use from several threads and processes."""

    def __init__(self, settings: Settings, key: str) -> None:
        """Find an upload. Raises UploadGone."""
        self._settings = settings
        self.key = key
        self.folder = incoming_folder(settings) / f"{PREFIX}{key}"
        if not _KEY.fullmatch(key) or not (self.folder / "files.log").exists():
            raise UploadGone(gettext("There is no such upload."))

    @property
    def about(self) -> About:
        """What it is for. Raises UploadGone."""
        try:
            said = orjson.loads((self.folder / "about.json").read_bytes())
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such upload.")) from None
        except orjson.JSONDecodeError:
            # A power cut left it empty: what nobody can be told of is removed after its time.
            raise UploadGone(gettext("This upload was damaged when the machine stopped.")) from None
        begun_at = datetime.fromisoformat(said["begun_at"])
        return About(said["name"], said["batch_id"], said["sender"], said["address"], begun_at)

    @property
    def expires_at(self) -> datetime:
        """When it is removed if nothing more comes. Raises UploadGone."""
        try:
            seen = (self.folder / "about.json").stat().st_mtime
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such upload.")) from None
        return datetime.fromtimestamp(seen + self._settings["upload.keep_seconds"], UTC)

    def add(self, path: str, size: int, *, key: str = "", said: str = "") -> str:
        """Announce a file of ``size`` bytes, which are still to come; give its id.

        path: its name for people, perhaps with folders. key: at most MOST_KEY characters; said: at most MOST_SAID, kept as they are.
        Raises TooMuch, UploadGone, StorageFailed.
        """
        name = clean_path(path)
        most = self._settings["upload.max_bytes" if name.lower().endswith(".zip") else "import.max_file_bytes"]
        if size > most:
            raise TooMuch(gettext("The file has %(size)s bytes; at most %(most)s are taken.", size=grouped(size), most=grouped(most)))
        with self._log() as log:
            last = _last_line(log)
            number, total = last.get("n", 0) + 1, last.get("sum", 0) + size
            count = number
            if count > self._settings["upload.max_files"] or total > self._settings["upload.max_bytes"]:
                # What was announced again, or taken out, has counted too.
                others = [file for file in self._without_replaced() if not key or file.key != key]
                count, total = len(others) + 1, sum(file.size for file in others) + size
            if count > self._settings["upload.max_files"]:
                raise TooMuch(gettext("An upload has at most %(most)s files.", most=grouped(self._settings["upload.max_files"])))
            if total > self._settings["upload.max_bytes"]:
                raise TooMuch(gettext("An upload has at most %(most)s bytes.", most=grouped(self._settings['upload.max_bytes'])))
            if size > room(self._settings):
                raise StorageFull(gettext("There is no room left on the disk for this file."))
            file_id = f"{number:06}-{size}"
            line = {"n": number, "sum": total, "id": file_id, "size": size, "path": name, "key": key, "said": said}
            try:
                # First the file: what the log tells of can always be asked for. Empty, whatever a power cut left of another one.
                os.close(os.open(self.folder / file_id, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
                _append(log, line)
            except OSError as error:
                raise failure_of(error) from error
        return file_id

    def take(self, path: str, blocks: Iterable[bytes]) -> None:
        """Add a whole file whose size is not known before its end. Raises as ``add`` and ``write``."""
        waiting = self.folder / f"taken-{secrets.token_hex(8)}"
        size = 0
        try:
            with waiting.open("xb", buffering=0) as file:
                for block in blocks:
                    self._check_spare()
                    size += _write(file.fileno(), block)
            waiting.rename(self.folder / self.add(path, size))
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such upload any more.")) from None
        except OSError as error:
            raise failure_of(error) from error

    def write(self, file_id: str, offset: int, blocks: Iterable[bytes], *, length: int = 0) -> int:
        """Append bytes to a file; give how many it has then.

        length: of the blocks together, when it is known; more than belong to the file are then refused before any is written. Raises UploadGone, WrongOffset, FileBusy, TooMuch, StorageFailed, and whatever the blocks raise; then of the blocks
        those before stay.
        """
        size = size_of(file_id)
        with self._file(file_id, os.O_WRONLY) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileBusy(gettext("Another request is sending this file.")) from None
            there = os.fstat(file).st_size
            if offset != there:
                raise WrongOffset(there)
            if there + length > size:
                raise _too_long(size)
            os.lseek(file, there, os.SEEK_SET)
            try:
                for block in blocks:
                    if there + len(block) > size:
                        raise _too_long(size)
                    self._check_spare()
                    there += _write(file, block)
            except OSError as error:
                raise failure_of(error) from error
            if not os.fstat(file).st_nlink:
                raise UploadGone(gettext("The file was taken out of this upload meanwhile."))
        with suppress(FileNotFoundError):
            # The sign of life that expires_at looks at.
            os.utime(self.folder / "about.json")
        return there

    def offset(self, file_id: str) -> int:
        """Tell how many bytes of a file are there. Raises UploadGone."""
        size_of(file_id)
        try:
            return (self.folder / file_id).stat().st_size
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such file in this upload.")) from None

    def remove(self, file_id: str) -> None:
        """Take a file out again. Raises UploadGone."""
        size = size_of(file_id)
        with self._log() as log:
            try:
                (self.folder / file_id).unlink()
            except FileNotFoundError:
                raise UploadGone(gettext("There is no such file in this upload.")) from None
            last = _last_line(log)
            _append(log, {"n": last.get("n", 0), "sum": last.get("sum", 0) - size, "gone": file_id})

    def files(self) -> list[SentFile]:
        """List the files, each once, in the order of their announcement. Raises UploadGone."""
        try:
            lines = (self.folder / "files.log").read_bytes().splitlines()
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such upload.")) from None
        sizes = self._sizes()
        files: dict[tuple[bool, str], SentFile] = {}
        for line in map(_understood, lines):
            file_id = line.get("id", "")
            if file_id not in sizes:
                continue
            file = SentFile(file_id, line["path"], line["size"], sizes[file_id], line["key"])
            name = (bool(file.key), file.key or file.file_id)
            known = files.get(name)
            # The answer to an announcement may have been lost, and so the file announced again.
            if known is None or file.complete or not known.complete:
                files[name] = file
        return list(files.values())

    def said(self, file_id: str) -> str:
        """Give what the sender said of a file when it was announced. Raises UploadGone."""
        try:
            log = (self.folder / "files.log").read_bytes()
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such upload.")) from None
        at = log.rfind(b'"id":"%s"' % file_id.encode("ascii", "replace"))
        line = log[log.rfind(b"\n", 0, at) + 1 :].partition(b"\n")[0] if at >= 0 else b"{}"
        return str(_understood(line).get("said", ""))

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                # One may be taken out at this moment.
                with suppress(FileNotFoundError):
                    sizes[entry.name] = entry.stat().st_size
        return sizes

    def _without_replaced(self) -> list[SentFile]:
        files = self.files()
        kept = {file.file_id for file in files}
        for name in self._sizes():
            if _FILE.fullmatch(name) and name not in kept:
                (self.folder / name).unlink(missing_ok=True)
        return files

    def _check_spare(self) -> None:
        # Each file fitted when it was announced; many together may not.
        if shutil.disk_usage(self._settings.var).free < SPARE_BYTES:
            raise StorageFull(gettext("There is no room left on the disk for this file."))

    def limits(self) -> Limits:
        """Tell what may still come. Raises UploadGone."""
        with self._log() as log:
            last = _last_line(log)
        most = limits(self._settings)
        return most._replace(files=max(0, most.files - last.get("n", 0)), bytes=max(0, most.bytes - last.get("sum", 0)))

    def abandon(self) -> None:
        """Remove everything; only where nobody else can make a batch of it, see ``discard_upload``."""
        # First: who waits for it finds out that there is no upload any more.
        self.close_log()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close_log(self) -> None:
        """Let nothing more be added, because the upload is a batch or is discarded."""
        with suppress(OSError):
            (self.folder / "files.log").unlink(missing_ok=True)

    @contextmanager
    def _log(self) -> Iterator[int]:
        """Hold the log; who waited for it finds out whether there is one still."""
        try:
            log = os.open(self.folder / "files.log", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such upload.")) from None
        try:
            fcntl.flock(log, fcntl.LOCK_EX)
            if not os.fstat(log).st_nlink:
                raise UploadGone(gettext("There is no such upload any more."))
            yield log
        finally:
            os.close(log)

    @contextmanager
    def _file(self, file_id: str, flags: int) -> Iterator[int]:
        try:
            file = os.open(self.folder / file_id, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UploadGone(gettext("There is no such file in this upload.")) from None
        try:
            yield file
        finally:
            os.close(file)


def begin_upload(
    settings: Settings, name: str, *, sender: str, address: str, now: datetime, batch_id: int | None = None
) -> OpenUpload:
    """Begin an upload that will become a batch of this name, or join a batch. Raises StorageFailed."""
    key = secrets.token_hex(16)
    folder = incoming_folder(settings) / f"{PREFIX}{key}"
    about = {
        # JSON may name half a character, which nothing can write.
        "name": name.encode("utf-8", "replace").decode().strip()[:200] or suggested_name(now),
        "batch_id": batch_id,
        "sender": sender,
        "address": address,
        "begun_at": now.isoformat(),
    }
    try:
        folder.mkdir(mode=0o700, parents=True)
        (folder / "about.json").write_bytes(orjson.dumps(about))
        # Last, because a folder with a log is an upload.
        (folder / "files.log").touch(mode=0o600)
    except OSError as error:
        raise failure_of(error) from error
    return OpenUpload(settings, key)


def open_uploads(settings: Settings) -> list[OpenUpload]:
    """List the uploads that are not batches yet, the oldest first."""
    found = []
    for folder in _folders(settings):
        with suppress(UploadGone):
            upload = OpenUpload(settings, folder.name.removeprefix(PREFIX))
            found.append((upload.about.begun_at, upload))
    return [upload for _, upload in sorted(found, key=lambda pair: pair[0])]


def announce_upload(importer: Importer, upload: OpenUpload, *, new_name: str | None = None) -> int:
    """Make the complete files of an upload a batch, or let them join theirs, with the jobs that import them; give its id.

    Done twice it gives the same batch. new_name: make a batch of this name also when another one was to be joined.
    Raises NothingToImport, UploadGone, BatchGone, StorageFailed.
    """
    known = announced(importer, upload.key)
    if known is not None:
        # A process that was killed right after the transaction has left it.
        upload.close_log()
        return known
    try:
        with upload._log():
            return _announce(importer, upload, new_name)
    except UploadGone:
        known = announced(importer, upload.key)
        if known is None:
            raise
        return known


def discard_upload(importer: Importer, upload: OpenUpload) -> None:
    """Remove an upload that is not a batch. Raises UploadGone: it is one, perhaps since this moment."""
    with upload._log():
        if announced(importer, upload.key) is not None:
            raise UploadGone(gettext("This upload is a batch already."))
        upload.abandon()


def announced(importer: Importer, key: str) -> int | None:
    """Tell which batch an upload became or joined; None: none, or it is deleted."""
    with importer.work(read_only=True) as dbsession:
        return dbsession.scalar(sa.select(Upload.batch_id).where(Upload.folder == f"{PREFIX}{key}"))


def _announce(importer: Importer, upload: OpenUpload, new_name: str | None) -> int:
    settings, now, about = importer.settings, importer.clock(), upload.about
    complete = sorted((file for file in upload.files() if file.complete), key=lambda file: os.fsencode(file.path))
    if not complete:
        raise NothingToImport(gettext("No file of this upload is complete."))
    there = set(os.listdir(upload.folder))
    if settings["storage.sync"]:
        sync_file_system(upload.folder)
    files: list[dict[str, Any]] = []
    archives: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for file, path in zip(complete, distinct(file.path for file in complete), strict=True):
        place = f"{upload.folder.name}/{file.file_id}"
        row = {"path": path, "place": place, "size": file.size}
        if is_system_file(file.path):
            skipped.append(outcome(path, "skipped", "system-file", SYSTEM_FILE, file.size))
        elif is_archive(upload.folder / file.file_id):
            archives.append({**row, "path": escape_path(path)})
        else:
            files.append(row)
    chunks = cut_chunks(settings, files)
    joined = about.batch_id if new_name is None else None
    with importer.work() as dbsession:
        if joined is None:
            batch_id = batches.add_upload(dbsession, new_name or about.name, path=str(upload.folder), now=now).id
        else:
            batch_id = joined
        batches.extend(
            dbsession, batch_id, files=files, chunks=chunks, archives=archives, skipped=len(skipped), now=now
        )
        add_outcomes(dbsession, batch_id, skipped, now)
        dbsession.add(
            Upload(
                folder=upload.folder.name,
                batch_id=batch_id,
                joined=joined is not None,
                sender=about.sender,
                address=about.address,
                file_count=len(complete),
                byte_count=sum(file.size for file in complete),
                begun_at=about.begun_at,
                at=now,
            )
        )
    # By their names, because the workers may be unpacking into this folder already.
    kept = {PurePosixPath(row["place"]).name for row in (*files, *archives)}
    for name in there - kept:
        (upload.folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        # The workers may have been quicker, and this empty.
        upload.folder.rmdir()
    return batch_id


def cut_chunks(settings: Settings, files: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """Cut files in path order into chunks: (first, end) positions."""
    entries = [Entry(file["path"], file["size"], None) for file in files]
    return cut(entries, settings["import.chunk_files"], settings["workers.count"])


def is_archive(path: Path) -> bool:
    """Tell whether a file is a ZIP archive; not one that begins as a ZIP archive in the preamble of a DICOM file (PS3.10 7.1)."""
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(132)
    except FileNotFoundError:
        return False
    return head.startswith(_ZIP_MAGIC) and head[128:] != b"DICM"


def clear_uploads(importer: Importer) -> int:
    """Remove uploads nobody went on with, and what is left of those that became batches; tell how many folders are gone."""
    folders = _folders(importer.settings)
    for folder in folders:
        # What is written to now, or cannot be removed, is looked at again the next time.
        with suppress(OSError, UploadGone):
            _clear(importer, folder)
    return sum(not folder.exists() for folder in folders)


def _clear(importer: Importer, folder: Path) -> None:
    key = folder.name.removeprefix(PREFIX)
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.scalar(
            sa.select(Batch).join(Upload, Upload.batch_id == Batch.id).where(Upload.folder == folder.name)
        )
        if batch is not None:
            places = dbsession.scalars(sa.select(Outcome.place).where(Outcome.batch_id == batch.id))
            kept = {PurePosixPath(place).parts[1] for place in places if place is not None and place.startswith(folder.name)}
            owed = dbsession.scalar(sa.select(Job.id).where(Job.batch_id == batch.id, Job.status != "done").limit(1))
    if batch is not None:
        (folder / "files.log").unlink(missing_ok=True)
        if batch.status == "DONE" and owed is None:
            _remove_all_but(folder, kept)
        return
    try:
        upload = OpenUpload(importer.settings, key)
    except UploadGone:
        # It was being begun, or removed, when its process died.
        if importer.clock().timestamp() - folder.stat().st_mtime > importer.settings["upload.keep_seconds"]:
            shutil.rmtree(folder, ignore_errors=True)
        return
    if upload.expires_at < importer.clock():
        discard_upload(importer, upload)


def folders_of_batch(importer: Importer, batch_id: int) -> list[Path]:
    """Tell which folders of uploads belong to a batch."""
    with importer.work(read_only=True) as dbsession:
        names = list(dbsession.scalars(sa.select(Upload.folder).where(Upload.batch_id == batch_id)))
    return [incoming_folder(importer.settings) / name for name in names]


def limits(settings: Settings) -> Limits:
    """Tell what an upload may have."""
    return Limits(settings["upload.max_files"], settings["upload.max_bytes"], settings["import.max_file_bytes"], room(settings))


def room(settings: Settings) -> int:
    """Tell how many bytes may come until the disk is too full: a file is there twice for a moment while it is imported."""
    return max(0, (shutil.disk_usage(settings.var).free - SPARE_BYTES) // 2)


def suggested_name(now: datetime) -> str:
    """Suggest a name for a new batch."""
    return f"Upload {now:%Y-%m-%d %H:%M}"


def clean_path(text: str) -> str:
    """Make a name that somebody sent a relative path that can be shown: ``knee/1.dcm``."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text.replace("\\", "/"))
    parts = [part.strip()[:MOST_PART] for part in printable.split("/")]
    if parts and re.fullmatch(r"[A-Za-z]:", parts[0]):
        del parts[0]
    kept = [part for part in parts if part not in ("", ".", "..")]
    while len(kept) > 1 and sum(len(part) + 1 for part in kept) > MOST_NAME:
        # Of a path that is too long the end says most.
        del kept[0]
    return "/".join(kept) or "file"


def size_of(file_id: str) -> int:
    """Tell how large a file will be, by its id. Raises UploadGone."""
    if not _FILE.fullmatch(file_id):
        raise UploadGone(gettext("There is no such file in this upload."))
    return int(file_id.partition("-")[2])


def _too_long(size: int) -> TooMuch:
    return TooMuch(gettext("The file was announced with %(size)s bytes, and more were sent.", size=grouped(size)))


def distinct(paths: Iterable[str]) -> Iterator[str]:
    taken: dict[str, int] = {}
    for path in paths:
        free = path
        while free in taken:
            taken[path] += 1
            free = f"{path} ({taken[path]})"
        taken[free] = 1
        yield free


def _folders(settings: Settings) -> list[Path]:
    try:
        entries = list(os.scandir(incoming_folder(settings)))
    except FileNotFoundError:
        return []
    return [Path(entry.path) for entry in entries if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)]


def _remove_all_but(folder: Path, kept: set[str]) -> None:
    for name in os.listdir(folder):
        if name not in kept:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _last_line(log: int) -> dict[str, Any]:
    size = os.fstat(log).st_size
    for line in reversed(os.pread(log, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).splitlines()):
        if found := _understood(line):
            return found
    return {}


def _append(log: int, line: dict[str, Any]) -> None:
    size = os.fstat(log).st_size
    torn = size > 0 and os.pread(log, 1, size - 1) != b"\n"
    os.write(log, b"\n" * torn + orjson.dumps(line) + b"\n")


def _understood(line: bytes) -> dict[str, Any]:
    # A line that a power cut left half written says nothing.
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _write(fd: int, block: bytes) -> int:
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]
    return len(block)
