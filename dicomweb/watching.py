"""Is the watcher running, does it reach its folders, and what do people want of it?

How it is stands in the pid file that it keeps in the state folder; what people want of it, to rest or to look once more, in a row
that it reads every few seconds. So both work when it runs in another container, and a wish outlives every process.

The file is the watcher's status: there and alive means active. It also names the moment at which the process started, so
that another process that got the same number is not taken for the watcher. From another machine or container, whose
processes cannot be seen, the sign of life in the file decides.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import change, insert_missing
from dicomweb.languages import gettext
from dicomweb.models import WatcherWish, escape_path
from dicomweb.settings import Settings

# How often the watcher gives a sign of life, and how old it may be.
SIGN_OF_LIFE_SECONDS = 10
ALIVE_SECONDS = 30
# How soon it notices what is wished of it.
WISH_SECONDS = 2


class RootStatus(NamedTuple):
    """One watched folder; sentence: what is wrong with it, or how it is watched."""

    path: str
    ok: bool
    sentence: str


class WatcherStatus(NamedTuple):
    """The watcher as people see it.

    active: it looks after its folders. alive: its process runs, perhaps only resting because somebody wanted it. pid, since, seen:
    None when it never ran or was stopped properly. scanned: when it last looked at everything. roots: as the settings name them.
    """

    active: bool
    sentence: str
    pid: int | None
    since: datetime | None
    seen: datetime | None
    roots: list[RootStatus]
    alive: bool = False
    scanned: datetime | None = None


class Record(NamedTuple):
    """What the pid file says. started: clock ticks from the start of the machine to that of the process."""

    pid: int
    host: str
    kernel: str
    processes: str
    started: int
    since: datetime
    seen: datetime
    sentence: str
    roots: list[RootStatus]
    resting: bool = False
    scanned: datetime | None = None


class Wish(NamedTuple):
    """What people want of the watcher. rests: to do nothing. rescan_at: when somebody last asked for a look at everything."""

    rests: bool = False
    rescan_at: datetime | None = None
    changed_at: datetime | None = None


def pid_file(settings: Settings) -> Path:
    """Tell where the watcher's pid file is."""
    return settings.var / "watcher.pid"


def status(settings: Settings, *, now: datetime) -> WatcherStatus:
    """Tell how the watcher is; never raises, because pages must be shown whatever the file says."""
    record = read_record(pid_file(settings))
    if record is None:
        return WatcherStatus(False, gettext("The watcher is not running."), None, None, None, _unwatched(settings))
    if not is_alive(record, now=now):
        sentence = gettext("The watcher ended without a word; its last sign of life is of %(seen)s.", seen=_moment(record.seen))
        return WatcherStatus(False, sentence, None, record.since, record.seen, _unwatched(settings))
    if now - record.seen > timedelta(seconds=2 * ALIVE_SECONDS):
        sentence = gettext("The watcher is running, but has been busy or stuck since %(seen)s.", seen=_moment(record.seen))
    elif record.resting:
        sentence = gettext("The watcher is stopped; what is dropped waits until it is started again.")
    elif record.sentence:
        sentence = record.sentence
    elif all(root.ok for root in record.roots):
        sentence = gettext("The watcher is active.")
    else:
        sentence = gettext("The watcher is active, but not all watched folders can be read.")
    return WatcherStatus(
        not record.resting, sentence, record.pid, record.since, record.seen, record.roots, alive=True, scanned=record.scanned
    )


def read_wish(dbsession: Session) -> Wish:
    """Tell what is wished of the watcher."""
    row = dbsession.execute(sa.select(WatcherWish.rests, WatcherWish.rescan_at, WatcherWish.changed_at)).first()
    return Wish() if row is None else Wish(*row)


def wish_rest(dbsession: Session, rests: bool, *, now: datetime) -> None:
    """Want the watcher to rest, or to work again; it stays so over restarts."""
    _wish(dbsession, now=now, rests=rests)


def wish_rescan(dbsession: Session, *, now: datetime) -> None:
    """Want the watcher to look at everything once more."""
    _wish(dbsession, now=now, rescan_at=now)


def _wish(dbsession: Session, *, now: datetime, **values: Any) -> None:
    insert_missing(dbsession, WatcherWish, [{"id": 1, "rests": False, "changed_at": now}])
    change(dbsession, sa.update(WatcherWish).where(WatcherWish.id == 1).values(changed_at=now, **values))


def is_alive(record: Record, *, now: datetime) -> bool:
    """Tell whether the watcher that wrote a record still runs."""
    if record.kernel and (record.kernel, record.processes) == (kernel(), processes()):
        return process_start(record.pid) == record.started
    return now - record.seen <= timedelta(seconds=ALIVE_SECONDS)


def read_record(path: Path) -> Record | None:
    """Read a pid file; None when there is none or it says nothing."""
    try:
        said = json.loads(path.read_bytes())
        return Record(
            pid=int(said["pid"]),
            host=str(said["host"]),
            kernel=str(said["kernel"]),
            processes=str(said["processes"]),
            started=int(said["started"]),
            since=datetime.fromisoformat(said["since"]),
            seen=datetime.fromisoformat(said["seen"]),
            sentence=str(said["sentence"]),
            roots=[RootStatus(str(root["path"]), bool(root["ok"]), str(root["sentence"])) for root in said["roots"]],
            resting=bool(said.get("resting", False)),
            scanned=datetime.fromisoformat(said["scanned"]) if said.get("scanned") else None,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_json(record: Record) -> dict[str, Any]:
    """Give a record as it is written into the pid file."""
    return {
        **record._asdict(),
        "since": record.since.isoformat(),
        "seen": record.seen.isoformat(),
        "roots": [root._asdict() for root in record.roots],
        "scanned": record.scanned.isoformat() if record.scanned else None,
    }


def this_process(*, now: datetime) -> Record:
    """Make the record of this process."""
    pid = os.getpid()
    return Record(pid, socket.gethostname(), kernel(), processes(), process_start(pid) or 0, now, now, "", [])


def process_start(pid: int) -> int | None:
    """Tell when a process started, in clock ticks since the start of the machine; None when it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # proc(5): the name in parentheses may hold anything; the state is the first word after it, the start the twentieth.
    words = text.rpartition(b")")[2].split()
    return None if words[0] in (b"Z", b"X") else int(words[19])


def kernel() -> str:
    """Name the running kernel: containers on one machine share it, a restarted machine has another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def processes() -> str:
    """Name the set of processes that this one can see: containers have each their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _unwatched(settings: Settings) -> list[RootStatus]:
    return [
        RootStatus(escape_path(os.fspath(folder)), False, gettext("Nobody watches it.")) for folder in settings["watch.folders"]
    ]


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
