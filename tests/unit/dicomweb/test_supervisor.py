import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomweb import supervisor
from dicomweb.settings import Settings
from dicomweb.supervisor import (
    CannotStart,
    Child,
    Supervisor,
    check_port,
    make_folders,
    only_instance,
    programs,
    valkey_command,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(environ={}, here=tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 1.0)


def python(name: str, code: str) -> Child:
    return Child(name, [sys.executable, "-c", code], delay=0.02)


def run_until(done: Callable[[], bool], *children: Child) -> list[str]:
    """Run a supervisor until ``done``, and give what it said."""
    said: list[str] = []
    keeper = Supervisor(children, said.append)
    until = time.monotonic() + 60

    def look() -> None:
        keeper.stop_wanted = done() or time.monotonic() > until

    keeper.run(look)
    assert time.monotonic() < until, said
    return said


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_program_that_ends_is_started_again_later_and_later(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    child = python("web", f"open({str(lives)!r}, 'a').write('x'); raise SystemExit(3)")
    said = run_until(lambda: lives.exists() and len(lives.read_text()) >= 3, child)
    assert said[:2] == [
        "The web process ended (exit code 3); it is started again in 0.02 s.",
        "The web process ended (exit code 3); it is started again in 0.04 s.",
    ]


def test_the_wait_has_a_limit_and_is_short_again_for_a_program_that_proved_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_DELAY", 0.03)
    lives = tmp_path / "lives"

    def lived() -> int:
        return len(lives.read_text()) if lives.exists() else 0

    def look() -> bool:
        if lived() == 4:
            monkeypatch.setattr(supervisor, "PROVEN_SECONDS", 0.0)
        return lived() == 6

    said = run_until(look, python("watcher", f"open({str(lives)!r}, 'a').write('x')"))
    delays = [sentence.split()[-2] for sentence in said]
    assert delays[:3] == ["0.02", "0.03", "0.03"]
    assert delays[4] == "0.02"


def test_one_program_that_dies_does_not_disturb_the_others(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    steady = python("workers", "import time; time.sleep(600)")
    seen = set()

    def done() -> bool:
        if steady.process:
            seen.add(steady.process.pid)
        return lives.exists() and len(lives.read_text()) >= 2

    run_until(done, steady, python("web", f"open({str(lives)!r}, 'a').write('x')"))
    assert len(seen) == 1


def test_everything_is_stopped_also_who_does_not_listen_and_whom_they_left_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    stubborn = python(
        "workers",
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "left = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(note)!r} + '.new', 'w').write(str(left.pid)); os.rename({str(note)!r} + '.new', {str(note)!r})\n"
        "time.sleep(600)",
    )
    run_until(note.exists, stubborn)
    assert stubborn.process is not None
    assert stubborn.process.returncode == -signal.SIGKILL
    left = int(note.read_text())
    until = time.monotonic() + 30
    while alive(left) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(left)


def test_the_broker_is_stopped_last(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep({wait}); open({order!r}, 'a').write('{name} '); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open({order!r} + '.{name}', 'w').close()\n"
        "time.sleep(600)"
    )
    names = ("broker", "web", "workers")
    children = [python(name, code.format(name=name, order=str(order), wait=0 if name == "broker" else 0.1)) for name in names]
    run_until(lambda: all(Path(f"{order}.{name}").exists() for name in names), *children)
    assert order.read_text().split()[-1] == "broker"
    assert sorted(order.read_text().split()) == sorted(names)


def test_folders_are_made_and_the_state_is_nobody_elses_business(settings: Settings) -> None:
    make_folders(settings)
    assert settings.var.stat().st_mode & 0o777 == 0o700
    assert all(folder.is_dir() for folder in settings["watch.folders"])
    assert list(settings.var.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"^The state folder .*/file cannot be written: .+\.$"):
        make_folders(Settings({"var": "file"}, environ={}, here=tmp_path))
    with pytest.raises(CannotStart, match=r"^The watched folder .*/file cannot be read: .+\.$"):
        make_folders(Settings({"watch.folders": "file"}, environ={}, here=tmp_path))


def test_a_state_folder_on_a_file_system_that_takes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be written"):
        make_folders(Settings({"var": "/proc/self/task"}, environ={}, here=tmp_path))


def test_only_one_instance_runs_on_a_state_folder(settings: Settings) -> None:
    make_folders(settings)
    with only_instance(settings):
        another = only_instance(settings)
        with pytest.raises(CannotStart, match=f"Another instance \\(process {os.getpid()}\\)"):
            another.__enter__()
    with only_instance(settings):
        pass


def test_a_port_in_use_is_said_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_or_of_none_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"cannot listen on 192\.0\.2\.1"):
        check_port("192.0.2.1", 1)
    with pytest.raises(CannotStart, match="cannot be understood"):
        check_port("no such host.", 1)


def test_the_private_broker_listens_on_a_socket_only_and_writes_every_second(settings: Settings) -> None:
    make_folders(settings)
    command = valkey_command(settings)
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--port"] == "0"
    assert options["--unixsocket"] == str(settings.var / "valkey.sock")
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert subprocess.run([command[0], "--version"], capture_output=True).returncode == 0


def test_a_state_folder_with_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    settings = Settings({"var": "v" * 120}, environ={}, here=tmp_path)
    with pytest.raises(CannotStart, match="too long for a unix socket"):
        valkey_command(settings)


def test_a_broker_of_ones_own_is_not_started_twice(settings: Settings, tmp_path: Path) -> None:
    make_folders(settings)
    ini = tmp_path / "some.ini"
    assert [child.name for child in programs(settings, ini)] == ["broker", "web", "workers", "watcher"]
    elsewhere = Settings({"broker.url": "redis://somewhere/0"}, environ={}, here=tmp_path)
    assert [child.name for child in programs(elsewhere, ini)] == ["web", "workers", "watcher"]


def test_the_listener_is_started_only_when_it_has_a_port(tmp_path: Path) -> None:
    with_port = Settings({"dimse.port": "11112", "broker.url": "redis://somewhere/0"}, environ={}, here=tmp_path)
    assert [child.name for child in programs(with_port, tmp_path / "some.ini")] == ["web", "workers", "watcher", "dimse"]
