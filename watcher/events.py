"""What inotify says, as few plain events; the only module that knows pyinotify.

Only the roots and the folders directly below them are watched, never anything deeper, so that pyinotify's automatic watches
(which miss files in new nested folders) are not needed.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from typing import NamedTuple

import pyinotify

from dicomweb.languages import N_

# What it logs carries folder names, which may be names of patients. (A filter, because logging's set-up from an ini file
# puts everything else of a logger back.)
_pyinotify_log = logging.getLogger("pyinotify")
_pyinotify_log.handlers.clear()
_pyinotify_log.addFilter(lambda _record: False)

_ROOT_MASK = (
    pyinotify.IN_CREATE
    | pyinotify.IN_DELETE
    | pyinotify.IN_MOVED_FROM
    | pyinotify.IN_MOVED_TO
    | pyinotify.IN_DELETE_SELF
    | pyinotify.IN_MOVE_SELF
    | pyinotify.IN_ONLYDIR
)
_FOLDER_MASK = pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MOVED_TO | pyinotify.IN_ATTRIB | pyinotify.IN_ONLYDIR
_ROOT_IS_GONE = pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_UNMOUNT | pyinotify.IN_IGNORED
_READ_BYTES = 1 << 18
_HEAD = struct.Struct("iIII")

MOVED_IN = "moved in"
MADE = "made"
LEFT = "left"
WRITTEN = "written"
TOUCHED = "touched"
LOST = "lost"


class Event(NamedTuple):
    """Something happened.

    what: MOVED_IN, MADE (created) or LEFT (deleted or moved away) for a path directly below a root; WRITTEN for a file
    directly in a watched folder that was closed after writing or moved there; TOUCHED when only its times changed; LOST when anything may have happened.
    """

    what: str
    path: str = ""


class CannotListen(Exception):
    """inotify is not available, or one of its limits is reached; the text is a sentence."""


class Listener:
    """Watches roots and folders, and collects what happens to them."""

    def __init__(self) -> None:
        """Open an inotify queue. Raises CannotListen."""
        try:
            self._manager = pyinotify.WatchManager()
        except (OSError, pyinotify.PyinotifyError) as error:
            raise CannotListen(
                N_("The system has no inotify queue left (fs.inotify.max_user_instances): folders are found by scans only.")
            ) from error
        self._notifier = _Notifier(self._manager, _Handler(self._take))
        self._roots: dict[int, str] = {}
        self._folders: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._events: list[Event] = []

    def close(self) -> None:
        """Give the queue back."""
        self._notifier.stop()

    def watch_root(self, path: str) -> None:
        """Watch what comes into a root and leaves it; also again, after it was replaced. Raises CannotListen and OSError."""
        self._add(path, _ROOT_MASK, self._roots, follow=True)

    def watch_folder(self, path: str) -> None:
        """Watch for files that are closed in a folder (not in those below it). Raises CannotListen and OSError."""
        self._add(path, _FOLDER_MASK, self._folders, follow=False)

    def forget(self, path: str) -> None:
        """Stop watching a root or a folder."""
        number = self._numbers.pop(path, None)
        if number is None:
            return
        for paths in (self._roots, self._folders):
            # A folder that was renamed keeps its number under the new path.
            if paths.get(number) == path:
                del paths[number]
                self._manager.rm_watch(number)

    def wait(self, seconds: float) -> list[Event]:
        """Wait for events, and give all that have happened; an empty list when the time is over."""
        milliseconds = max(0, round(seconds * 1000))
        while self._notifier.check_events(timeout=milliseconds):
            self._notifier.read_events()
            self._notifier.process_events()
            milliseconds = 0
        events, self._events = self._events, []
        return events

    def _add(self, path: str, mask: int, paths: dict[int, str], *, follow: bool) -> None:
        # pyinotify cannot watch a path that is not UTF-8; the name of an open descriptor always is. It also makes sure
        # that what is watched is what was opened, whatever happens to the path meanwhile.
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        try:
            number = self._manager.add_watch(f"/proc/self/fd/{descriptor}", mask, quiet=False).popitem()[1]
        except pyinotify.WatchManagerError:
            code = ctypes.get_errno()
            if code == errno.ENOSPC:
                raise CannotListen(
                    N_("The limit of inotify watches (fs.inotify.max_user_watches) is reached: some folders are found by scans only.")
                ) from None
            raise OSError(code, os.strerror(code)) from None
        finally:
            os.close(descriptor)
        if self._numbers.get(path, number) != number:
            self.forget(path)
        self._numbers[path] = number
        paths[number] = path

    def _take(self, number: int, mask: int, name: str) -> None:
        if mask & pyinotify.IN_Q_OVERFLOW:
            self._events.append(Event(LOST))
        elif number in self._roots:
            path = os.path.join(self._roots[number], name)
            if mask & _ROOT_IS_GONE:
                root = self._roots[number]
                self.forget(root)
                self._events.append(Event(LOST))
            elif mask & pyinotify.IN_MOVED_TO:
                self._events.append(Event(MOVED_IN, path))
            elif mask & pyinotify.IN_CREATE:
                self._events.append(Event(MADE, path))
            else:
                self._events.append(Event(LEFT, path))
        elif number in self._folders:
            if mask & pyinotify.IN_IGNORED:
                self._numbers.pop(self._folders.pop(number), None)
            elif mask & (pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MOVED_TO):
                self._events.append(Event(WRITTEN, os.path.join(self._folders[number], name)))
            elif name:
                self._events.append(Event(TOUCHED, os.path.join(self._folders[number], name)))


class _Handler(pyinotify.ProcessEvent):
    def my_init(self) -> None:
        """Nothing: pyinotify calls this with the arguments of __init__."""

    def __init__(self, take) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self._take = take

    def process_IN_Q_OVERFLOW(self, event: pyinotify.Event) -> None:
        # This event has neither a path nor a number.
        self._take(-1, event.mask, "")

    def process_default(self, event: pyinotify.Event) -> None:
        self._take(event.wd, event.mask, event.name)


class _Notifier(pyinotify.Notifier):
    def read_events(self) -> None:
        # pyinotify's own method decodes names as UTF-8: one other name, and everything it had read is lost.
        data = os.read(self._watch_manager.get_fd(), _READ_BYTES)
        position = 0
        while position < len(data):
            number, mask, cookie, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            name = os.fsdecode(data[position : position + length].rstrip(b"\0"))
            position += length
            self.append_event(pyinotify._RawEvent(number, mask, cookie, name))
