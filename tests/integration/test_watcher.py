"""The watcher with a real disk, real inotify and a real database; its loop is turned by hand, or killed as a program."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb import batches, jobs, watching
from dicomweb.db import work
from dicomweb.models import Arrival, Batch, Job
from dicomweb.processes import die_with_parent
from dicomweb.settings import Settings
from tests import services
from watcher import disk
from watcher.events import LOST, Event, Listener
from watcher.loop import Watcher
from watcher.presence import Presence

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
# The clock of a file system advances in steps; what happens within one cannot be told apart.
CLOCK_TICK = 0.02


class Place:
    """A watched folder, its database, and the watcher of the moment."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.data: Path = settings["watch.folders"][0]
        self.presence = Presence(settings, now=datetime.now(UTC))
        self.listener: Listener | None = Listener()
        self.ahead = timedelta()
        self.watcher = self._make()

    def _make(self) -> Watcher:
        return Watcher(
            self.settings,
            self.engine,
            self.presence,
            listener=self.listener,
            now=lambda: datetime.now(UTC) + self.ahead,
        )

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self.presence.end()

    def stop(self) -> None:
        """Let the watcher go away without another word, as a kill does."""
        self.watcher.close()
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def start(self, *, listening: bool = True) -> None:
        """Start another watcher."""
        self.stop()
        self.listener = Listener() if listening else None
        self.watcher = self._make()

    def turn(self, seconds: float = 0.0) -> None:
        """Turn the loop for so long, at least once."""
        until = time.monotonic() + seconds
        self.watcher.turn(0)
        while time.monotonic() < until:
            self.watcher.turn(0.01)

    def until(self, reached: Callable[[], bool]) -> None:
        """Turn the loop until something is so."""
        until = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < until, (self.names(), self.reasons())
            self.watcher.turn(0.05)

    def batches(self) -> list[Batch]:
        """All batches."""
        with work(self.engine, read_only=True) as dbsession:
            return list(dbsession.scalars(sa.select(Batch).order_by(Batch.id)))

    def names(self) -> list[str]:
        """The names of all batches."""
        return [batch.name for batch in self.batches()]

    def jobs(self) -> int:
        """How many folders are to be scanned by workers."""
        with work(self.engine, read_only=True) as dbsession:
            return dbsession.scalar(sa.select(sa.func.count()).where(Job.kind == "scan_batch")) or 0

    def arrivals(self) -> list[Arrival]:
        """All that waits."""
        with work(self.engine, read_only=True) as dbsession:
            return list(dbsession.scalars(sa.select(Arrival).order_by(Arrival.path)))

    def reasons(self) -> dict[str, str]:
        """Why what waits waits, by name."""
        return {os.path.basename(arrival.path): arrival.reason for arrival in self.arrivals()}

    def look_closely(self) -> None:
        """Scan again and again, far into the future, so that what could become a second batch would."""
        self.turn()
        for _ in range(3):
            self.ahead += timedelta(minutes=10)
            self.watcher.scan(full=True)
            self.turn(0.1)

    def fill(self, folder: str, files: int = 3) -> Path:
        """Make a folder with some files."""
        path = self.data / folder
        path.mkdir(parents=True)
        for number in range(files):
            (path / f"{number}.dcm").write_bytes(b"image")
        return path


@pytest.fixture
def place(settings: Settings, engine: sa.Engine) -> Iterator[Place]:
    place = Place(settings, engine)
    yield place
    place.close()


def with_settings(settings: Settings, **changes: str) -> Settings:
    """Make other settings for the same place; an underscore stands for a dot after the area."""
    ini = {"database.url": settings.database_url, **{name.replace("_", ".", 1): text for name, text in changes.items()}}
    return Settings(ini, environ={}, here=settings.here)


# Completeness.


def test_a_folder_waits_until_its_sentinel_is_written(place: Place) -> None:
    knee = place.fill("knee")
    place.until(lambda: [(arrival.files, arrival.bytes) for arrival in place.arrivals()] == [(3, 15)])
    assert place.reasons() == {"knee": "Waits for .done to be written into it."}
    assert place.names() == []
    (knee / ".done").touch()
    place.until(lambda: place.names() == ["knee"])
    place.until(lambda: place.arrivals() == [])
    assert place.jobs() == 1
    assert place.batches()[0].path == str(knee)


def test_a_sentinel_is_taken_when_it_is_closed_and_not_while_it_is_written(place: Place) -> None:
    knee = place.fill("knee")
    place.until(lambda: "knee" in place.reasons())
    place.turn(0.2)
    with (knee / ".done").open("w") as sentinel:
        sentinel.write("35 images")
        sentinel.flush()
        place.turn(0.2)
        assert place.names() == []
    place.until(lambda: place.names() == ["knee"])


def test_a_folder_that_is_moved_in_is_a_batch(place: Place, tmp_path: Path) -> None:
    place.turn()
    place.fill("../outside/knee")
    (tmp_path / "outside" / "knee").rename(place.data / "knee")
    place.until(lambda: place.names() == ["knee"])
    place.look_closely()
    assert (place.names(), place.jobs(), place.arrivals()) == (["knee"], 1, [])


def test_another_sentinel_can_be_set(settings: Settings, engine: sa.Engine) -> None:
    place = Place(with_settings(settings, watch_sentinel="COMPLETE"), engine)
    try:
        knee = place.fill("knee")
        (knee / ".done").touch()
        place.until(lambda: place.reasons() == {"knee": "Waits for COMPLETE to be written into it."})
        (knee / "COMPLETE").touch()
        place.until(lambda: place.names() == ["knee"])
    finally:
        place.close()


def test_a_sentinel_touched_again_makes_a_second_batch(place: Place) -> None:
    (place.fill("knee") / ".done").touch()
    place.until(lambda: place.names() == ["knee"])
    place.look_closely()
    assert place.names() == ["knee"]
    (place.data / "knee" / ".done").touch()
    place.until(lambda: place.names() == ["knee", "knee (2)"])
    place.look_closely()
    assert place.names() == ["knee", "knee (2)"]


def test_another_folder_under_the_name_of_a_batch_makes_a_second_batch(place: Place) -> None:
    place.turn()
    for names in (["knee"], ["knee", "knee (2)"]):
        shutil.rmtree(place.data / "knee", ignore_errors=True)
        place.fill("knee.tmp").rename(place.data / "knee")
        place.until(lambda names=names: place.names() == names)  # type: ignore[misc]
    place.look_closely()
    assert place.names() == ["knee", "knee (2)"]


def test_quiet_time_can_be_switched_on(settings: Settings, engine: sa.Engine) -> None:
    place = Place(with_settings(settings, watch_quiet_seconds="1.5"), engine)
    try:
        knee = place.fill("knee/below")
        for number in range(6):
            (knee / f"more {number}.dcm").write_bytes(b"image")
            place.turn(0.5)
            assert place.names() == []
        place.until(lambda: place.names() == ["knee"])
        place.look_closely()
        assert place.names() == ["knee"]
        (knee / "late.dcm").write_bytes(b"image")
        place.watcher.scan(full=True)
        place.until(lambda: place.names() == ["knee", "knee (2)"])
    finally:
        place.close()


def test_import_now_makes_a_waiting_folder_a_batch_once(place: Place) -> None:
    place.fill("knee.tmp")
    place.until(lambda: len(place.arrivals()) == 1)
    with work(place.engine) as dbsession:
        arrival = dbsession.scalars(sa.select(Arrival)).one()
        assert batches.import_now(dbsession, arrival, now=datetime.now(UTC)) is not None
    place.look_closely()
    assert (place.names(), place.jobs(), place.arrivals()) == (["knee.tmp"], 1, [])


def test_loose_files_links_and_special_files_are_shown_and_never_imported(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".done").touch()
    (place.data / "loose.dcm").write_bytes(b"image")
    (place.data / "link").symlink_to(tmp_path / "elsewhere")
    (place.data / "loop").symlink_to("loop")
    os.mkfifo(place.data / "fifo")
    (place.data / ".hidden").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place.data / "socket"))
        place.look_closely()
    link, special = (
        "A symbolic link: it is never followed; put the folder itself here.",
        "Neither a file nor a folder: it is never opened.",
    )
    assert place.reasons() == {
        "fifo": special,
        "link": link,
        "loop": link,
        "loose.dcm": "A loose file: put it into a folder of its own.",
        "socket": special,
    }
    assert place.names() == []


def test_what_waits_and_goes_away_is_shown_no_longer(place: Place) -> None:
    place.fill("knee")
    (place.data / "loose").touch()
    place.until(lambda: len(place.arrivals()) == 2)
    shutil.rmtree(place.data / "knee")
    (place.data / "loose").unlink()
    place.until(lambda: place.arrivals() == [])


def test_what_waits_keeps_the_moment_it_was_first_seen(place: Place) -> None:
    place.fill("knee")
    place.until(lambda: len(place.arrivals()) == 1)
    first = place.arrivals()[0]
    place.ahead = timedelta(hours=1)
    (place.data / "knee" / "more").write_bytes(b"more")
    place.watcher.scan(full=True)
    place.until(lambda: place.arrivals()[0].files == 4)
    assert place.arrivals()[0].seen_at == first.seen_at


# T1, T2, T4: slow copies, storms, nested folders.


@pytest.mark.parametrize("command", ["cp -r", "cp -a", "rsync -a", "rsync -r", "tar"])
def test_a_slow_copy_is_exactly_one_batch_and_nothing_before_it_is_complete(
    place: Place, tmp_path: Path, command: str
) -> None:
    program = command.split()[0]
    if shutil.which(program) is None:
        services.missing(program)
    source = tmp_path / "knee"
    for number in range(500):
        folder = source / f"series {number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.dcm").write_bytes(b"image" * 100)
    for folder in (source, *source.iterdir()):
        os.utime(folder, (1_600_000_000, 1_600_000_000))
    if program == "tar":
        subprocess.run(["tar", "-cf", str(tmp_path / "knee.tar"), "-C", str(tmp_path), "knee"], check=True)
        copying = ["tar", "-xf", str(tmp_path / "knee.tar"), "-C", str(place.data)]
    else:
        copying = [*command.split(), str(source), str(place.data)]
    with subprocess.Popen(copying) as process:
        while process.poll() is None:
            place.turn(0.01)
            # A stall of the copy, however long, is no sign of its end.
            process.send_signal(signal.SIGSTOP)
            place.ahead += timedelta(minutes=5)
            place.watcher.scan(full=True)
            place.turn(0.05)
            assert place.names() == []
            process.send_signal(signal.SIGCONT)
    assert process.returncode == 0
    place.look_closely()
    assert place.names() == []
    place.until(lambda: [arrival.files for arrival in place.arrivals()] == [500])
    (place.data / "knee" / ".done").touch()
    place.until(lambda: place.names() == ["knee"])
    place.look_closely()
    assert (place.names(), place.jobs(), place.arrivals()) == (["knee"], 1, [])


@pytest.mark.parametrize("listening", [True, False])
def test_a_temporary_folder_that_is_renamed_is_one_batch_whatever_happens_around_it(
    place: Place, listening: bool
) -> None:
    place.start(listening=listening)
    chance = random.Random(1)
    for number in range(12):
        building = place.fill(f"{number}.tmp{number}", files=chance.randrange(1, 40))
        for _ in range(chance.randrange(3)):
            place.watcher.scan(full=chance.random() < 0.5)
        if chance.random() < 0.3:
            (building / ".done").touch()
        if chance.random() < 0.5:
            os.utime(building)
        if not listening:
            time.sleep(CLOCK_TICK)
        building.rename(place.data / f"{number}")
        if chance.random() < 0.5:
            place.turn()
    place.look_closely()
    place.until(lambda: len(place.names()) == 12)
    place.look_closely()
    assert sorted(place.names(), key=int) == [str(number) for number in range(12)]
    assert (place.jobs(), place.arrivals()) == (12, [])


def test_nested_folders_that_are_filled_at_once_are_complete_with_their_sentinel(place: Place) -> None:
    place.turn()
    for number in range(20):
        place.fill(f"{number}/a/b/c", files=1)
        (place.data / f"{number}" / ".done").touch()
    place.until(lambda: len(place.names()) == 20)
    place.look_closely()
    assert (place.jobs(), place.arrivals()) == (20, [])


# T3, T5: down, lost events, no inotify.


def test_what_was_dropped_while_the_watcher_was_down_is_found_at_the_start(place: Place) -> None:
    place.fill("hip.tmp")
    place.until(lambda: "hip.tmp" in place.reasons())
    place.stop()
    (place.fill("knee") / ".done").touch()
    (place.data / "hip.tmp").rename(place.data / "hip")
    elbow = place.fill("elbow.tmp")
    time.sleep(CLOCK_TICK)
    elbow.rename(place.data / "elbow")
    place.fill("copied")
    place.start()
    place.until(lambda: {"knee", "hip"} <= set(place.names()))
    place.ahead = timedelta(seconds=15)
    place.until(lambda: sorted(place.names()) == ["elbow", "hip", "knee"])
    place.look_closely()
    assert sorted(place.names()) == ["elbow", "hip", "knee"]
    assert place.reasons() == {"copied": "Waits for .done to be written into it."}


def test_lost_events_are_made_good_by_a_scan(place: Place) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue of this machine is too long to be filled by a test")
    place.fill("filler")
    place.fill("hip.tmp")
    place.until(lambda: len(place.arrivals()) == 2)
    place.turn(0.2)
    for _ in range(limit // 2 + 10):
        for name in ("x", "y"):
            os.close(os.open(place.data / "filler" / name, os.O_WRONLY | os.O_CREAT))
    (place.fill("knee") / ".done").touch()
    (place.data / "hip.tmp").rename(place.data / "hip")
    place.until(lambda: sorted(place.names()) == ["hip", "knee"])


def test_a_lost_event_asks_for_a_scan_of_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.turn(0.2)
    looks = count_looks(monkeypatch)
    assert place.listener is not None
    monkeypatch.setattr(place.listener, "wait", lambda _seconds: [Event(LOST)] if not looks else [])
    place.until(lambda: len(looks) == 1)


def test_without_inotify_scans_find_everything(place: Place) -> None:
    place.start(listening=False)
    place.turn()
    (place.fill("knee") / ".done").touch()
    place.fill("hip.tmp")
    place.watcher.scan(full=True)
    assert place.watcher.statuses()[0] == watching.RootStatus(
        str(place.data), True, "Watched by scans only: inotify is not available."
    )
    (place.data / "hip.tmp").rename(place.data / "hip")
    place.watcher.scan(full=True)
    place.until(lambda: sorted(place.names()) == ["hip", "knee"])


# T10: roots that cannot be read.


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the looks at roots."""
    looks: list[str] = []
    real = disk.look

    def look(root: str, sentinel: str) -> disk.Look:
        looks.append(root)
        return real(root, sentinel)

    monkeypatch.setattr(disk, "look", look)
    return looks


@pytest.mark.parametrize("how", ["missing", "file", "loop"])
def test_a_root_that_cannot_be_read_is_shown_and_taken_when_it_comes_back(
    place: Place, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.fill("waiting")
    place.until(lambda: len(place.arrivals()) == 1)
    away = place.data.with_name("away")
    place.data.rename(away)
    if how == "file":
        place.data.touch()
    elif how == "loop":
        place.data.symlink_to(place.data)
    looks = count_looks(monkeypatch)
    place.until(lambda: not place.watcher.statuses()[0].ok)
    assert "Cannot be read: " in place.watcher.statuses()[0].sentence
    tried = len(looks)
    for _ in range(200):
        place.watcher.turn(0)
    assert len(looks) <= tried + 1
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Watched folder 1 cannot be read"
    ]
    assert len(place.arrivals()) == 1
    status = watching.status(place.settings, now=datetime.now(UTC))
    assert status.active
    assert not status.roots[0].ok
    if how != "missing":
        place.data.unlink()
    away.rename(place.data)
    (place.fill("knee") / ".done").touch()
    place.until(lambda: place.names() == ["knee"])
    (place.fill("hip") / ".done").touch()
    place.until(lambda: place.names() == ["knee", "hip"])
    assert place.watcher.statuses()[0] == watching.RootStatus(str(place.data), True, "Watched.")


def test_a_root_that_does_not_exist_at_the_start_is_taken_when_it_comes(place: Place) -> None:
    place.data.rmdir()
    place.turn(0.1)
    assert not place.watcher.statuses()[0].ok
    (place.fill("knee") / ".done").touch()
    place.until(lambda: place.names() == ["knee"])


def test_one_root_that_cannot_be_read_does_not_disturb_another(settings: Settings, engine: sa.Engine) -> None:
    place = Place(with_settings(settings, watch_folders="missing:data"), engine)
    try:
        place.data = settings["watch.folders"][0]
        (place.fill("knee") / ".done").touch()
        place.until(lambda: place.names() == ["knee"])
        assert [root.ok for root in place.watcher.statuses()] == [False, True]
    finally:
        place.close()


def test_a_root_inside_another_one_is_nobodys_batch(settings: Settings, engine: sa.Engine) -> None:
    place = Place(with_settings(settings, watch_folders="data:data/inner:data"), engine)
    try:
        (place.data / "inner").mkdir()
        (place.fill("inner/knee") / ".done").touch()
        place.until(lambda: place.names() == ["knee"])
        place.look_closely()
        assert place.arrivals() == []
    finally:
        place.close()


def test_the_watcher_writes_nothing_into_a_root(place: Place) -> None:
    (place.fill("knee") / ".done").touch()
    place.fill("waiting")

    def everything() -> dict[Path, tuple[int, int]]:
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in (place.data, *place.data.rglob("*"))
        }

    before = everything()
    place.until(lambda: place.names() == ["knee"])
    place.look_closely()
    assert everything() == before


# T11: names and things.


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"two\nlines", b"-rf", b"x" * 255, b"a\\xff", b"%s {} '; DROP TABLE batch; --"]
)
def test_a_folder_of_any_name_becomes_a_batch_with_exactly_its_path(place: Place, name: bytes) -> None:
    place.turn()
    folder = os.path.join(os.fsencode(place.data), name)
    for number, way in enumerate(("sentinel", "moved"), start=1):
        os.mkdir(folder if way == "sentinel" else os.fsencode(place.data) + b"/building.tmp")
        inside = folder if way == "sentinel" else os.fsencode(place.data) + b"/building.tmp"
        with open(os.path.join(inside, b"image \xff"), "wb") as file:
            file.write(b"image")
        if way == "sentinel":
            with open(os.path.join(inside, b".done"), "wb"):
                pass
        else:
            os.rename(inside, folder)
        place.until(lambda number=number: len(place.batches()) == number)  # type: ignore[misc]
        shutil.rmtree(folder)
        place.turn(0.1)
    assert [os.fsencode(batch.path or "") for batch in place.batches()] == [folder, folder]


def test_a_folder_full_of_traps_is_counted_and_claimed(place: Place) -> None:
    knee = place.fill("knee")
    (knee / "up").symlink_to("..")
    (knee / "self").symlink_to("self")
    os.mkfifo(knee / "fifo")
    os.link(knee / "0.dcm", knee / "hard link")
    place.until(lambda: [arrival.files for arrival in place.arrivals()] == [4])
    (knee / ".done").touch()
    place.until(lambda: place.names() == ["knee"])


# Restarts and the database.


def test_a_restart_after_the_claim_makes_no_second_batch(place: Place) -> None:
    place.turn()
    (place.fill("knee") / ".done").touch()
    place.fill("hip.tmp").rename(place.data / "hip")
    place.until(lambda: sorted(place.names()) == ["hip", "knee"])
    for _ in range(3):
        place.start()
        place.look_closely()
    assert (sorted(place.names()), place.jobs(), place.arrivals()) == (["hip", "knee"], 2, [])


def fail(_connection: Any) -> None:
    raise sa.exc.OperationalError("BEGIN", {}, ConnectionError("the database is away"))


@contextmanager
def database_away(engine: sa.Engine) -> Iterator[None]:
    """Let every transaction fail."""
    sa.event.listen(engine, "begin", fail, insert=True)
    try:
        yield
    finally:
        sa.event.remove(engine, "begin", fail)


def test_nothing_is_lost_while_the_database_is_away(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "watcher")
    place.turn()
    place.fill("../outside/shoulder")
    with database_away(place.engine):
        (place.fill("knee") / ".done").touch()
        place.fill("hip.tmp").rename(place.data / "hip")
        (tmp_path / "outside" / "shoulder").rename(place.data / "shoulder")
        place.turn(2.5)
        assert "the database cannot be reached" in watching.status(place.settings, now=datetime.now(UTC)).sentence
    place.until(lambda: sorted(place.names()) == ["hip", "knee", "shoulder"])
    place.look_closely()
    assert (sorted(place.names()), place.arrivals()) == (["hip", "knee", "shoulder"], [])
    messages = [record.getMessage() for record in caplog.records if "database" in record.getMessage()]
    assert messages == [
        "The database cannot be used (OperationalError); arrivals wait until it can.",
        "The database can be used again.",
    ]


def test_a_move_is_not_lost_when_the_watcher_dies_before_the_database_comes_back(place: Place, tmp_path: Path) -> None:
    place.turn()
    outside = place.fill("../outside/knee")
    # Times that copy programs leave: without the event nobody could tell that it was moved.
    os.utime(outside, (1_600_000_000, 1_600_000_000))
    with database_away(place.engine):
        outside.rename(place.data / "knee")
        place.turn(0.5)
    place.start()
    place.until(lambda: place.names() == ["knee"])


def test_a_claim_whose_commit_fails_leaves_nothing_and_is_made_again(place: Place) -> None:
    place.turn()
    said: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_details: Any) -> None:
        said.append(statement)

    def fail_once(connection: sa.Connection) -> None:
        if any(statement.startswith("INSERT INTO batch ") for statement in said) and "failed" not in said:
            said.append("failed")
            connection.connection.rollback()
            raise sa.exc.OperationalError("COMMIT", {}, ConnectionError("away"))

    (place.fill("knee") / ".done").touch()
    sa.event.listen(place.engine, "before_cursor_execute", listen)
    sa.event.listen(place.engine, "commit", fail_once)
    place.until(lambda: place.names() == ["knee"])
    assert "failed" in said
    assert place.jobs() == 1


def test_one_folder_that_cannot_become_a_batch_does_not_stop_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.turn()
    real = batches.claim_arrival

    def claim(dbsession: Any, path: str, **details: Any) -> Batch | None:
        if path.endswith("cursed"):
            raise sa.exc.DataError("INSERT", {}, ValueError("cursed"))
        return real(dbsession, path, **details)

    monkeypatch.setattr(batches, "claim_arrival", claim)
    for name in ("a", "cursed", "z"):
        (place.fill(name) / ".done").touch()
    place.until(lambda: sorted(place.names()) == ["a", "z"])
    place.until(
        lambda: place.reasons() == {"cursed": "It cannot become a batch (DataError); the watcher's log tells when."}
    )
    monkeypatch.setattr(batches, "claim_arrival", real)
    place.watcher.scan(full=True)
    assert "cursed" in place.names()


def test_workers_hear_of_a_batch_when_it_is_committed(settings: Settings, engine: sa.Engine, broker_url: str) -> None:
    place = Place(settings, engine)
    try:
        doorbell = jobs.Doorbell(broker_url)
        place.watcher = Watcher(settings, engine, place.presence, listener=place.listener, doorbell=doorbell)
        (place.fill("knee") / ".done").touch()
        place.until(lambda: place.names() == ["knee"])
        import kombu

        with kombu.Connection(broker_url, transport_options=jobs.TRANSPORT_OPTIONS) as connection:
            queue = jobs.QUEUE(connection.default_channel)
            message = queue.get()
            assert message is not None
            message.ack()
            assert queue.get() is None
        with work(engine, read_only=True) as dbsession:
            assert message.payload == {"job": dbsession.scalars(sa.select(Job.id)).one()}
    finally:
        place.close()


def test_logs_name_batches_and_no_folders(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (place.fill("DOE^JANE") / ".done").touch()
    place.fill("ROE^RICHARD")
    place.until(lambda: place.names() == ["DOE^JANE"])
    place.until(lambda: len(place.arrivals()) == 1)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("sqlalchemy", "asyncio"))]
    assert "A folder arrived: batch 1." in ours
    assert not [text for text in ours if "DOE" in text or "ROE" in text]


def test_many_imported_folders_cost_neither_queries_nor_counting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.turn()
    for number in range(50):
        (place.fill(f"{number}") / ".done").touch()
    place.until(lambda: len(place.names()) == 50)
    place.look_closely()
    statements: list[str] = []
    sa.event.listen(place.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    monkeypatch.setattr("watcher.loop.Counting", None)
    place.watcher.scan(full=False)
    assert statements == []
    place.watcher.scan(full=True)
    assert len(statements) <= 2


def test_imported_folders_give_way_to_what_waits_when_too_many_are_watched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.loop.MOST_WATCHED_FOLDERS", 3)
    for number in range(3):
        (place.fill(f"{number}") / ".done").touch()
    place.until(lambda: len(place.names()) == 3)
    place.look_closely()
    knee = place.fill("knee")
    place.until(lambda: "knee" in place.reasons())
    place.turn(0.3)
    monkeypatch.setattr("watcher.arrivals.SENTINEL_SECONDS", 3600)
    (knee / ".done").touch()
    place.ahead = timedelta()
    place.until(lambda: "knee" in place.names())


def test_a_folder_whose_sentinel_comes_by_a_rename_is_complete_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.arrivals.SENTINEL_SECONDS", 3600)
    knee = place.fill("knee")
    place.until(lambda: "knee" in place.reasons())
    place.turn(0.3)
    (knee / ".done.part").touch()
    (knee / ".done.part").rename(knee / ".done")
    place.until(lambda: place.names() == ["knee"])


# The program.


class Program:
    """The watcher as a program."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ini = settings.here / "test.ini"
        section = f"[app:main]\ndatabase.url = {settings.database_url.replace('%', '%%')}\nbroker.url = redis+socket:///nowhere\n"
        self.ini.write_text((ROOT / "development.ini").read_text().replace("\n[app:main]\n", f"\n{section}"))

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until the block ends, and at least until it looked at the roots."""
        parent = os.getpid()
        with subprocess.Popen(
            [sys.executable, "-m", "watcher", str(self.ini)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: die_with_parent(parent),
        ) as process:
            try:
                until = time.monotonic() + PATIENCE
                while not self.status().active or not all(root.ok for root in self.status().roots):
                    assert process.poll() is None, process.stderr and process.stderr.read().decode()
                    assert time.monotonic() < until
                    time.sleep(0.02)
                yield process
            finally:
                process.kill()

    def status(self) -> watching.WatcherStatus:
        """What its pid file says."""
        return watching.status(self.settings, now=datetime.now(UTC))


@pytest.fixture
def program(settings: Settings) -> Program:
    return Program(settings)


def wait_for(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.05)


def names(engine: sa.Engine) -> list[str]:
    with work(engine, read_only=True) as dbsession:
        return sorted(dbsession.scalars(sa.select(Batch.name)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_watches_until_it_is_told_to_stop(
    program: Program, settings: Settings, engine: sa.Engine, number: signal.Signals
) -> None:
    with program.running() as process:
        assert program.status().pid == process.pid
        second = subprocess.run(
            [sys.executable, "-m", "watcher", str(program.ini)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert second.returncode == 1
        assert (
            second.stderr
            == f"The watcher of this state folder is already running (process {process.pid} on {socket.gethostname()}).\n"
        )
        folder = settings["watch.folders"][0] / "knee"
        folder.mkdir()
        (folder / ".done").touch()
        wait_for(lambda: names(engine) == ["knee"])
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert not watching.pid_file(settings).exists()
    assert "Traceback" not in errors.decode()
    assert "knee" not in errors.decode()
    assert program.status().sentence == "The watcher is not running."


@pytest.mark.parametrize("ini", ["missing.ini", "wrong.ini", "sentinel.ini"])
def test_a_program_that_cannot_start_says_why_in_one_sentence(settings: Settings, ini: str) -> None:
    (settings.here / "wrong.ini").write_text("[app:main]\nuse = egg:dicomweb\nwatch.sentinal = .done\n")
    good = (ROOT / "development.ini").read_text()
    (settings.here / "sentinel.ini").write_text(good.replace("\n[app:main]\n", "\n[app:main]\nwatch.sentinel = a/b\n"))
    run = subprocess.run(
        [sys.executable, "-m", "watcher", str(settings.here / ini)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 1
    assert run.stderr.endswith(".\n")
    assert len(run.stderr.splitlines()) == 1
    assert not watching.pid_file(settings).exists()


def test_a_watcher_that_is_killed_at_any_moment_makes_each_folder_one_batch(
    program: Program, settings: Settings, engine: sa.Engine
) -> None:
    data: Path = settings["watch.folders"][0]
    chance = random.Random(2)
    wanted = []
    for life in range(5):
        with program.running() as process:
            for number in range(10):
                name = f"{life}-{number}"
                building = data / f"{name}.tmp"
                building.mkdir()
                (building / "image").write_bytes(b"image")
                if number % 2:
                    (building / ".done").touch()
                time.sleep(chance.uniform(CLOCK_TICK, 0.04))
                building.rename(data / name)
                wanted.append(name)
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
        assert not program.status().active
        assert json.loads(watching.pid_file(settings).read_text())["pid"] == process.pid
    with program.running():
        wait_for(lambda: len(names(engine)) >= len(wanted))
    with program.running() as process:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert names(engine) == sorted(wanted)
