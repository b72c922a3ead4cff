"""Where bytes live: packs.

A pack holds the files that one chunk imported, one after the other, unchanged. Writing 256 files of 57 kB as one pack and
one ``fsync`` took about a tenth of the time of 256 files with an ``fsync`` each, and that was the slowest step of an import;
so packs, although single files would be nicer to look at. A byte range of a pack is the file: nothing is added around it.

No name on disk comes from a header or from a file somebody sent: a pack is named after the job and the attempt that wrote it.
Whoever writes a pack commits its rows afterwards; a pack without rows is what a crash left, and the next attempt of the same
job removes it. Removed images leave holes, an emptied pack is deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_BLOCK = 1 << 20
_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02


class BytesMissing(Exception):
    """The bytes of an image cannot be read; the text says why, without a path."""


class StorageFailed(Exception):
    """The storage cannot be written; nothing of the chunk was stored. No OSError, which would be taken for one of the source."""


class StorageFull(StorageFailed):
    """There is no room left to store files; nothing of the chunk was stored."""


# What the text of every StorageFailed begins with.
CANNOT_STORE = "Files cannot be stored"


class FileRange(NamedTuple):
    """Where the bytes of one DICOM file are: a range of a pack, or a whole file where it was indexed."""

    path: Path
    offset: int
    length: int

    @classmethod
    def at(cls, folder: str, path: str, length: int) -> FileRange:
        """A whole file outside the storage."""
        return cls(Path(folder) / path, 0, length)

    def pread(self, offset: int, length: int) -> bytes:
        """Read at most ``length`` bytes beginning ``offset`` bytes into the file. Raises BytesMissing."""
        length = max(0, min(length, self.length - offset))
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise BytesMissing(f"The stored file cannot be opened: {error.strerror}.") from None
        try:
            data = _pread(fd, length, self.offset + offset)
        finally:
            os.close(fd)
        if len(data) < length:
            raise BytesMissing("The stored file is shorter than it was when it was imported.")
        return data

    def read(self) -> bytes:
        """Read the whole file. Raises BytesMissing."""
        return self.pread(0, self.length)

    def stream(self, block: int = _BLOCK) -> Iterator[bytes]:
        """Read the whole file block by block. Raises BytesMissing, also in the middle."""
        for offset in range(0, self.length, block):
            yield self.pread(offset, min(block, self.length - offset))

    def is_intact(self, sha256: bytes) -> bool:
        """Tell whether all bytes are there and are those of a hash, by reading them."""
        digest = hashlib.sha256()
        try:
            for block in self.stream():
                digest.update(block)
        except BytesMissing:
            return False
        return digest.digest() == sha256


class Storage:
    """The folder of packs.

    root: created when missing. sync: write through to the disk; off only where losing the last seconds is acceptable.
    """

    def __init__(self, root: Path, *, sync: bool = True) -> None:
        self.root = root
        self.sync = sync

    def path(self, name: str) -> Path:
        """The path of a pack."""
        return self.root / name

    def write_pack(self, batch_id: int, job_id: int, attempt: int) -> PackWriter:
        """Begin the pack of one attempt of a job, removing what earlier attempts of it left behind."""
        self.remove_left(batch_id, job_id, attempt)
        return PackWriter(self, f"{batch_id}/{job_id}-{attempt}.pack")

    def remove_left(self, batch_id: int, job_id: int, attempt: int) -> None:
        """Remove the packs that attempts of an unfinished job left behind, up to this attempt.

        Not those of later ones: whoever lost his lease long ago and does not know it must not remove what another stored.
        """
        folder = self.root / str(batch_id)
        for left in folder.glob(f"{job_id}-*.pack"):
            if int(left.stem.rpartition("-")[2]) <= attempt:
                left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def erase_strays(self, batch_id: int, kept: Collection[str]) -> None:
        """Remove the packs of a batch that are not among those that are kept."""
        folder = self.root / str(batch_id)
        for pack in folder.glob("*.pack"):
            if f"{batch_id}/{pack.name}" not in kept:
                pack.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def range(self, name: str, offset: int, length: int) -> FileRange:
        """Tell where the bytes of one file are."""
        return FileRange(self.path(name), offset, length)

    def discard(self, name: str, offset: int | None = None, length: int | None = None) -> None:
        """Remove a pack, or give one range of it back to the disk; what is gone already is fine."""
        if offset is None or length is None:
            path = self.path(name)
            path.unlink(missing_ok=True)
            # The folder of a batch goes with its last pack; while it holds another one this is refused.
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            return
        try:
            fd = os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            _erase(fd, offset, length)
            if self.sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def usage(self) -> tuple[int, int, int]:
        """Tell (bytes used, bytes free, bytes in all) of the disk the storage is on."""
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        disk = shutil.disk_usage(folder)
        return disk.used, disk.free, disk.total

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        if not self.sync:
            return
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class PackWriter:
    """Appends files to one new pack; the file appears on the disk with the first byte.

    ``append`` (or ``append_stream``) gives the offset a file begins at; ``withdraw`` takes one back; ``close`` makes the rest
    durable; ``abandon`` removes it, as does withdrawing the last file.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.name = name
        self._storage = storage
        self._fd: int | None = None
        self._end = 0
        self._kept = 0

    def append(self, data: bytes) -> int:
        """Append one file and give its offset. Raises StorageFailed."""
        fd = self._open()
        offset = self._end
        _write(fd, data)
        self._end += len(data)
        self._kept += 1
        return offset

    def append_blocks(self, blocks: Iterator[bytes]) -> FileRange:
        """Append one file that comes in blocks; give where it lies. Raises StorageFailed and whatever ``blocks`` raises."""
        fd = self._open()
        offset = self._end
        try:
            for block in blocks:
                _write(fd, block)
                self._end += len(block)
        except BaseException:
            if self._kept == 0:
                self.abandon()
            else:
                os.ftruncate(fd, offset)
                os.lseek(fd, offset, os.SEEK_SET)
                self._end = offset
            raise
        self._kept += 1
        return self._storage.range(self.name, offset, self._end - offset)

    def withdraw(self, offset: int, length: int) -> None:
        """Take back a file that turned out not to be needed, mostly before it reaches the disk."""
        self._kept -= 1
        if self._kept == 0:
            self.abandon()
        elif self._fd is not None:
            _erase(self._fd, offset, length)
        else:
            self._storage.discard(self.name, offset, length)

    def close(self) -> None:
        """Make the pack durable. Raises StorageFailed."""
        if self._fd is None:
            return
        try:
            if self._storage.sync:
                os.fdatasync(self._fd)
        except OSError as error:
            raise failure_of(error) from error
        finally:
            os.close(self._fd)
            self._fd = None
        self._storage.sync_folder(self._storage.path(self.name).parent)

    def abandon(self) -> None:
        """Remove the pack; what is appended afterwards begins a new one."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._end = self._kept = 0
        # What a broken disk keeps, the next attempt removes; the reason why this one ends must not be lost.
        with contextlib.suppress(OSError):
            self._storage.discard(self.name)

    def _open(self) -> int:
        if self._fd is None:
            path = self._storage.path(self.name)
            try:
                self._fd = self._create(path)
            except OSError as error:
                raise failure_of(error) from error
        return self._fd

    def _create(self, path: Path) -> int:
        while True:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._storage.sync_folder(path.parent.parent)
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            except FileNotFoundError:
                # Another chunk of the batch gave its only pack up, and took the empty folder with it.
                continue


def _pread(fd: int, length: int, offset: int) -> bytes:
    data = os.pread(fd, length, offset)
    while 0 < len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise failure_of(error) from error


def failure_of(error: OSError) -> StorageFailed:
    """Say what an error of the operating system means for the storage."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(f"{CANNOT_STORE}: the disk of the state folder is full.")
    return StorageFailed(f"{CANNOT_STORE} in the state folder: {error.strerror}.")


def _load_fallocate() -> ctypes._NamedFuncPointer | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None) or getattr(
        ctypes.CDLL(None, use_errno=True), "fallocate", None
    )
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


_fallocate = _load_fallocate()


def _erase(fd: int, offset: int, length: int) -> None:
    """Make a range of a file read as zeros, and give its blocks back where the file system can."""
    if length == 0:
        return
    if _fallocate is not None and _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length) == 0:
        return
    zeros = bytes(_BLOCK)
    end = offset + length
    while offset < end:
        offset += os.pwrite(fd, zeros[: min(_BLOCK, end - offset)], offset)


def sync_file_system(path: Path) -> None:
    """Write everything that was written to the file system of a folder through to the disk. Raises StorageFailed.

    For thousands of small files, of which each ``fsync`` would wait for the disk again.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _syncfs is None:
                os.sync()
            elif _syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)
    except OSError as error:
        raise failure_of(error) from error


# No name of Python's own; a C library without it leaves ``os.sync``, which writes all file systems through.
_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
