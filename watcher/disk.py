"""What a look at a watched root shows, and the counting of folders in bounded steps.

Nothing here follows a symbolic link below a root, and nothing is ever opened but folders.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Generator
from typing import NamedTuple

from watcher.arrivals import FILE, FOLDER, LINK, SPECIAL, Census, Entry

# Loose files and the like are mistakes; a root with a million of them must not become a million rows.
MAX_LOOSE = 1000
# What operating systems and file servers leave in a shared folder.
JUNK = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "desktop.ini",
        "lost+found",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        "#recycle",
    }
)

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


class Look(NamedTuple):
    """What lies directly in a root; more_loose: how many loose files there are besides those listed."""

    entries: list[Entry]
    more_loose: int


def look(root: str, sentinel: str) -> Look:
    """Look at what lies directly in a root. Raises OSError when the root cannot be read."""
    entries: list[Entry] = []
    loose = 0
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as found:
            for item in found:
                if is_junk(item.name):
                    continue
                if not item.is_dir(follow_symlinks=False):
                    loose += 1
                    if loose > MAX_LOOSE:
                        continue
                entry = _look_at(root, item.name, descriptor, sentinel)
                if entry is not None:
                    entries.append(entry)
    finally:
        os.close(descriptor)
    return Look(entries, max(0, loose - MAX_LOOSE))


def is_junk(name: str) -> bool:
    """Tell whether something directly in a root is nobody's batch: hidden, or left by an operating system."""
    return name.startswith(".") or name.lower() in JUNK


def _look_at(root: str, name: str, descriptor: int, sentinel: str) -> Entry | None:
    path = os.path.join(root, name)
    try:
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Entry(path=path, kind=FOLDER, trouble=error.strerror or "unknown error")
    entry = Entry(
        path=path,
        kind=_kind(found.st_mode),
        inode=found.st_ino,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        size=found.st_size,
    )
    if entry.kind != FOLDER:
        return entry
    try:
        folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        return entry._replace(trouble=error.strerror or "unknown error")
    try:
        entry = entry._replace(born_ns=_born_ns(folder))
        said = os.stat(sentinel, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return entry
    except OSError as error:
        return entry._replace(trouble=error.strerror or "unknown error")
    finally:
        os.close(folder)
    return entry._replace(sentinel_ns=said.st_mtime_ns, sentinel_is_file=stat.S_ISREG(said.st_mode))


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return FOLDER
    if stat.S_ISREG(mode):
        return FILE
    return LINK if stat.S_ISLNK(mode) else SPECIAL


def _born_ns(descriptor: int) -> int:
    # A number of an inode is soon used again; together with the moment of its birth (which os.stat does not tell on
    # Linux) it names a folder for good. 0: the file system or the C library does not know it.
    if _statx is None:
        return 0
    answer = ctypes.create_string_buffer(256)
    if _statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer) != 0:
        return 0
    mask = struct.unpack_from("I", answer, 0)[0]
    seconds, nanoseconds = struct.unpack_from("qI", answer, 80)
    return seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else 0


class Counting:
    """Counts what lies in a folder, as many entries at a time as the caller has time for."""

    def __init__(self, path: str) -> None:
        """Begin with nothing counted."""
        self.path = path
        self.census = Census()
        self._steps = self._walk()

    def advance(self, entries: int) -> bool:
        """Count up to so many entries more; True when everything is counted."""
        return any(next(self._steps, None) is None for _ in range(entries))

    def close(self) -> None:
        """Stop counting."""
        self._steps.close()

    def _walk(self) -> Generator[bool, None, None]:
        files = size = newest = newest_file = 0
        trouble = ""
        below = [self.path]
        while below:
            folder = below.pop()
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                # A folder further down that cannot be read is an error of the batch, and no reason to wait.
                if folder == self.path:
                    trouble = error.strerror or "unknown error"
                continue
            try:
                with os.scandir(descriptor) as found:
                    for item in found:
                        try:
                            seen = item.stat(follow_symlinks=False)
                        except OSError:
                            # It went away while it was being counted.
                            continue
                        newest = max(newest, seen.st_ctime_ns)
                        if stat.S_ISDIR(seen.st_mode):
                            below.append(os.path.join(folder, item.name))
                        elif stat.S_ISREG(seen.st_mode):
                            files += 1
                            size += seen.st_size
                            newest_file = max(newest_file, seen.st_ctime_ns)
                        self.census = Census(files, size, newest, newest_file, trouble, complete=False)
                        yield True
            except OSError as error:
                if folder == self.path:
                    trouble = error.strerror or "unknown error"
            finally:
                os.close(descriptor)
        self.census = Census(files, size, newest, newest_file, trouble, complete=True)
