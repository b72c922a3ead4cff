"""Files below the folder of a batch, opened and removed without ever passing through a symbolic link."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from dicomweb.languages import N_, gettext

_OS_ERRORS = {
    errno.EACCES: ("permission-denied", N_("The importer may not read this file.")),
    errno.EPERM: ("permission-denied", N_("The importer may not read this file.")),
    errno.ENOENT: ("file-gone", N_("The file is no longer there.")),
    errno.ENOTDIR: ("not-a-file", N_("A folder above this file is a link or a file now; links are not followed.")),
    errno.ELOOP: ("not-a-file", N_("This is a symbolic link; links are not followed.")),
    errno.ENXIO: ("not-a-file", N_("This is not a file.")),
    errno.ENAMETOOLONG: ("name-too-long", N_("The path of the file is too long.")),
}


class Refused(Exception):
    """A file cannot be imported: a short code, and a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def refusal(error: OSError) -> Refused:
    """Say what an error of the operating system means for a file."""
    code, message = _OS_ERRORS.get(error.errno or 0, ("unreadable", N_("The file cannot be read: %(error)s.")))
    return Refused(code, gettext(message, error=error.strerror))


class Folder:
    """Opens files below the folder of a batch without ever passing through a symbolic link."""

    def __init__(self, root: str, *, linked: bool = False) -> None:
        """linked: the folder itself may be a link, as one of the state folder may; that of a batch may not."""
        self._root = root
        self._root_flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if linked else os.O_NOFOLLOW)
        self._open: tuple[str, int] | None = None

    def open(self, path: str) -> int:
        """Open a regular file for reading and give its descriptor. Raises OSError, Refused."""
        parent, name = os.path.split(path)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder(parent))
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Refused("not-a-file", N_("This is not a file."))
        return fd

    def _folder(self, parent: str) -> int:
        if self._open is not None and self._open[0] == parent:
            return self._open[1]
        self.close()
        fd = os.open(self._root, self._root_flags)
        for part in parent.split(os.sep) if parent else ():
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        self._open = (parent, fd)
        return fd

    def remove(self, path: str, sha256: bytes, *, is_stored: Callable[[], bool]) -> None:
        """Remove a file whose bytes have this hash, and its folder when that becomes empty; leave everything else.

        is_stored: asked last, whether the bytes are where they were copied to.
        """
        try:
            fd = self.open(path)
        except (OSError, Refused):
            return
        parent, name = os.path.split(path)
        with suppress(OSError), open(fd, "rb") as source:
            seen = os.fstat(fd)
            if hashlib.file_digest(source, "sha256").digest() != sha256 or not is_stored():
                return
            # It may have been written to, or replaced, while it was read.
            now = os.stat(name, dir_fd=self._folder(parent), follow_symlinks=False)
            if (now.st_ino, now.st_dev, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_dev, seen.st_size, seen.st_mtime_ns):
                return
            os.unlink(name, dir_fd=self._folder(parent))
            if parent and not os.listdir(self._folder(parent)):
                above, folder = os.path.split(parent)
                os.rmdir(folder, dir_fd=self._folder(above))

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None
