"""One watcher a state folder: the lock, the pid file that is its status, and what it keeps over a restart."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dicomweb import watching
from dicomweb.models import escape_path, unescape_path
from dicomweb.settings import Settings
from watcher.arrivals import Memory

log = logging.getLogger(__name__)


class AlreadyRunning(Exception):
    """Another watcher uses this state folder; the text is a sentence."""


class Presence:
    """Shows that this process is the watcher of a state folder."""

    def __init__(self, settings: Settings, *, now: datetime) -> None:
        """Become the watcher. Raises AlreadyRunning, and OSError when the state folder cannot be written."""
        self._path = watching.pid_file(settings)
        self._memory_path = settings.var / "watcher.json"
        self._remembered: list[Memory] | None = None
        # The lock ends with the process, however it dies, and two that start at once cannot both get it.
        self._lock = os.open(settings.var / "watcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._refuse_a_second(now)
            self._record = watching.this_process(now=now)
            self._write()
        except BaseException:
            os.close(self._lock)
            raise

    def _refuse_a_second(self, now: datetime) -> None:
        record = watching.read_record(self._path)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            raise AlreadyRunning(_sentence(record)) from None
        except OSError:
            # A file system without locks: the pid file alone has to do.
            locked = False
        if record is None or not watching.is_alive(record, now=now):
            return
        # A watcher in another container of this machine would hold the lock: its fresh sign of life is that of a dead one.
        in_another_container = record.kernel == watching.kernel() and record.processes != watching.processes()
        if not (locked and in_another_container):
            raise AlreadyRunning(_sentence(record))

    def show(
        self,
        sentence: str,
        roots: Sequence[watching.RootStatus],
        *,
        now: datetime,
        resting: bool = False,
        scanned: datetime | None = None,
    ) -> None:
        """Give a sign of life, and say how things are; sentence: empty when all is well. Raises OSError."""
        self._record = self._record._replace(
            sentence=sentence,
            roots=[root._replace(path=escape_path(root.path)) for root in roots],
            seen=now,
            resting=resting,
            scanned=scanned,
        )
        self._write()

    def end(self) -> None:
        """Stop being the watcher."""
        record = watching.read_record(self._path)
        if record is not None and (record.pid, record.started) == (self._record.pid, self._record.started):
            self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def remembered(self) -> list[Memory]:
        """Give what an earlier watcher kept; nothing when its notes cannot be read."""
        try:
            rows = json.loads(self._memory_path.read_bytes())
            return [
                Memory(
                    path=unescape_path(row["path"]),
                    identity=str(row["identity"]),
                    mtime_ns=int(row["mtime_ns"]),
                    first_ctime_ns=int(row["first_ctime_ns"]),
                    witnessed=bool(row["witnessed"]),
                    moved=bool(row["moved"]),
                )
                for row in rows
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("What the last watcher remembered cannot be read (%s).", type(error).__name__)
            return []

    def remember(self, memory: list[Memory]) -> None:
        """Keep what the next watcher has to know; does nothing when it is kept already. Raises OSError."""
        if memory == self._remembered:
            return
        _replace(self._memory_path, [{**row._asdict(), "path": escape_path(row.path)} for row in memory])
        self._remembered = memory

    def _write(self) -> None:
        _replace(self._path, watching.as_json(self._record))


def _sentence(record: watching.Record | None) -> str:
    if record is None:
        return "Another watcher is starting in this state folder."
    return f"The watcher of this state folder is already running (process {record.pid} on {record.host})."


def _replace(path: Path, content: Any) -> None:
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.write_text(json.dumps(content))
    building.replace(path)
