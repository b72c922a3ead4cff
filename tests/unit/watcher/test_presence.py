"""One watcher a state folder, and what its pid file says to others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicomweb import watching
from dicomweb.settings import Settings
from watcher.arrivals import Memory
from watcher.presence import AlreadyRunning, Presence

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> Settings:
    """Settings with an existing state folder, without a database."""
    (tmp_path / "var").mkdir()
    return Settings({}, environ={}, here=tmp_path)


@pytest.fixture
def presence(state: Settings) -> Iterator[Presence]:
    presence = Presence(state, now=NOW)
    yield presence
    presence.end()


@pytest.fixture
def somebody() -> Iterator[int]:
    """The number of another process that runs."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def leave_behind(state: Settings, **changes: Any) -> None:
    """Write a pid file as an earlier watcher would have left it."""
    record = watching.this_process(now=NOW)._replace(roots=[watching.RootStatus("/data", True, "Watched.")], **changes)
    watching.pid_file(state).write_text(json.dumps(watching.as_json(record)))


def test_without_a_pid_file_the_watcher_is_not_running(state: Settings) -> None:
    status = watching.status(state, now=NOW)
    assert (status.active, status.sentence, status.pid) == (False, "The watcher is not running.", None)
    assert status.roots == [watching.RootStatus(str(state.here / "data"), False, "Nobody watches it.")]


def test_a_pid_file_of_a_living_watcher_is_its_status(state: Settings, presence: Presence) -> None:
    presence.show("", [watching.RootStatus("/data/\udcff", True, "Watched.")], now=NOW + timedelta(seconds=5))
    status = watching.status(state, now=NOW + timedelta(seconds=6))
    assert status == watching.WatcherStatus(
        active=True,
        sentence="The watcher is active.",
        pid=os.getpid(),
        since=NOW,
        seen=NOW + timedelta(seconds=5),
        roots=[watching.RootStatus("/data/\\xff", True, "Watched.")],
        alive=True,
    )


def test_what_is_wrong_is_said_in_one_sentence(state: Settings, presence: Presence) -> None:
    presence.show("", [watching.RootStatus("/data", False, "Cannot be read: Permission denied.")], now=NOW)
    assert "not all watched folders" in watching.status(state, now=NOW).sentence
    presence.show("The database is away.", [], now=NOW)
    assert watching.status(state, now=NOW).sentence == "The database is away."
    assert (
        "busy or stuck since 2026-01-02 12:00:00 UTC" in watching.status(state, now=NOW + timedelta(minutes=5)).sentence
    )


def test_a_second_watcher_is_refused(state: Settings, presence: Presence) -> None:
    with pytest.raises(AlreadyRunning, match=rf"already running \(process {os.getpid()} on "):
        Presence(state, now=NOW)


def test_a_clean_end_removes_the_pid_file_and_lets_the_next_one_begin(state: Settings) -> None:
    for _ in range(2):
        presence = Presence(state, now=NOW)
        assert watching.pid_file(state).exists()
        presence.end()
        assert not watching.pid_file(state).exists()


def test_the_end_of_a_watcher_leaves_the_pid_file_of_another_one(state: Settings) -> None:
    presence = Presence(state, now=NOW)
    leave_behind(state, started=1)
    presence.end()
    assert watching.pid_file(state).exists()


def test_a_dead_process_is_recognised_and_replaced(state: Settings) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    leave_behind(state, pid=process.pid)
    status = watching.status(state, now=NOW)
    assert (status.active, status.pid) == (False, None)
    assert status.sentence == "The watcher ended without a word; its last sign of life is of 2026-01-02 12:00:00 UTC."
    Presence(state, now=NOW).end()


def test_a_zombie_is_dead(state: Settings) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watching.process_start(process.pid) is None
    process.wait()


def test_another_process_with_the_same_number_is_recognised(state: Settings, somebody: int) -> None:
    started = watching.process_start(somebody)
    assert started is not None
    leave_behind(state, pid=somebody, started=started - 1)
    assert not watching.status(state, now=NOW).active
    Presence(state, now=NOW).end()
    leave_behind(state, pid=somebody, started=started)
    assert watching.status(state, now=NOW).active
    with pytest.raises(AlreadyRunning):
        Presence(state, now=NOW)


def test_a_watcher_on_another_machine_is_judged_by_its_sign_of_life(state: Settings) -> None:
    leave_behind(state, kernel="another", pid=1)
    assert watching.status(state, now=NOW + timedelta(seconds=30)).active
    with pytest.raises(AlreadyRunning):
        Presence(state, now=NOW + timedelta(seconds=30))
    assert not watching.status(state, now=NOW + timedelta(seconds=31)).active
    Presence(state, now=NOW + timedelta(seconds=31)).end()


def test_in_another_container_of_this_machine_the_lock_tells_who_is_dead(state: Settings) -> None:
    leave_behind(state, processes="pid:[1]", pid=1)
    assert watching.status(state, now=NOW).active
    Presence(state, now=NOW).end()


@pytest.mark.parametrize("content", ["", "17", "[]", "{}", '{"pid": "x"}', "\0", '{"pid": 1, "host": "h", "since": 3}'])
def test_a_pid_file_that_says_nothing_is_none(state: Settings, content: str) -> None:
    watching.pid_file(state).write_text(content)
    assert not watching.status(state, now=NOW).active
    Presence(state, now=NOW).end()


def test_a_killed_watcher_gives_its_lock_back(state: Settings) -> None:
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from dicomweb.settings import Settings; from watcher.presence import Presence\n"
        "Presence(Settings({}, environ={}, here=Path(sys.argv[1])), now=datetime.now(UTC)); print('ready', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(state.here)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(AlreadyRunning, match=f"process {process.pid}"):
            Presence(state, now=NOW)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert watching.pid_file(state).exists()
    Presence(state, now=NOW).end()


def test_memory_survives_with_names_of_any_bytes(state: Settings, presence: Presence) -> None:
    memory = [Memory("/data/\udcff\n\\", "7:8", 9, 10, True, False)]
    presence.remember(memory)
    assert presence.remembered() == memory


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'[{"path": 1}]', b"\xff"])
def test_memory_that_cannot_be_read_is_none(state: Settings, presence: Presence, content: bytes) -> None:
    (state.var / "watcher.json").write_bytes(content)
    assert presence.remembered() == []


def test_a_state_folder_that_cannot_be_written_is_an_error(state: Settings) -> None:
    state.var.rmdir()
    with pytest.raises(FileNotFoundError):
        Presence(state, now=NOW)
