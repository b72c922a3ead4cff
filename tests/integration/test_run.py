"""``dicomweb run`` as people use it: real processes on a state folder of their own, and nothing left of them afterwards.

A process belongs to an instance when the state folder is in its environment, which every child inherits, or in its command
line: the broker writes its title over its environment.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomweb.processes import die_with_parent

COMMAND = Path(sys.executable).with_name("dicomweb")
START_SECONDS = 90
# What README.md promises.
STOP_SECONDS = 10


class Instance:
    """One ``dicomweb run`` and everything it has said so far."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.var = folder / "var"
        self.data = folder / "data"
        self.port = free_port()
        self.said: list[str] = []
        own = {
            "DICOMWEB_VAR": str(self.var),
            "DICOMWEB_WATCH": str(self.data),
            "DICOMWEB_PORT": str(self.port),
            "DICOMWEB_WORKERS": "2",
        }
        parent = os.getpid()
        self.process = subprocess.Popen(
            [COMMAND, "run", *arguments],
            env={**os.environ, **own, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=lambda: die_with_parent(parent),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.said.append(line.rstrip())

    def heard(self, pattern: str) -> re.Match[str] | None:
        """Find the first thing said that matches."""
        return next((found for line in list(self.said) if (found := re.search(pattern, line))), None)

    def wait_until(self, condition: Callable[[], object], seconds: float = START_SECONDS) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                pytest.fail("it did not happen; said so far:\n" + "\n".join(self.said))
            time.sleep(0.02)

    def started(self) -> Instance:
        self.wait_until(lambda: self.heard("DICOM Database runs at") or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        return self

    def pids(self) -> dict[int, str]:
        """Every living process of this instance, with its command line."""
        found = {}
        mark = f"DICOMWEB_VAR={self.var}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f"{self.var}/" in command or mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = command
            except OSError:
                continue  # It ended while we looked, or is somebody else's.
        return found

    def pid_of(self, program: str) -> int:
        (pid, *_) = [pid for pid, command in sorted(self.pids().items()) if program in command]
        return pid

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
        except OSError:
            return False
        return True

    def ended(self) -> int:
        """Wait for the command to end, and give its exit code."""
        code = self.process.wait(START_SECONDS)
        self._reader.join(START_SECONDS)
        return code

    def count(self, program: str) -> int:
        return sum(program in command for command in self.pids().values())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Start instances on the folder of this test; they are ended after it."""
    instances: list[Instance] = []

    def begin(*arguments: str, **environ: str) -> Instance:
        instances.append(Instance(tmp_path, *arguments, **environ))
        return instances[-1]

    yield begin
    for instance in instances:
        instance.kill()
    for instance in instances:
        # The kernel kills the children with the supervisor, and the readers then see the end of the output.
        instance.wait_until(lambda: not instances[0].pids(), 30)
        instance.ended()


def test_it_starts_says_where_it_is_and_stops_without_a_trace(start: Callable[..., Instance]) -> None:
    first = start().started()
    assert first.heard(f"http://127.0.0.1:{first.port} ")
    assert first.heard(str(first.data))
    assert first.answers()
    for program in ("pserve", "-m workers", "-m watcher", "valkey-server"):
        assert first.count(program)
    first.process.terminate()
    assert first.process.wait(STOP_SECONDS) == 0
    assert first.pids() == {}
    first.ended()
    told = first.heard(r"The password is (\S+) ")
    assert told
    kept = [path.read_bytes() for path in first.var.rglob("*") if path.is_file()]
    assert not [content for content in kept if told[1].encode() in content]

    second = start().started()
    assert not second.heard("password is")
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(STOP_SECONDS) == 0
    assert second.pids() == {}
    second.ended()
    for instance in (first, second):
        assert not instance.heard("Traceback")


def test_whatever_is_killed_comes_back_until_the_supervisor_is_killed_then_nothing_stays(start: Callable[..., Instance]) -> None:
    instance = start().started()
    instance.wait_until(lambda: instance.count("-m workers") == 3)
    for name, program in (("web", "pserve"), ("workers", "-m workers"), ("watcher", "-m watcher"), ("broker", "valkey-server")):
        os.kill(instance.pid_of(program), signal.SIGKILL)
        sentence = rf"The {name} process ended \(killed by SIGKILL\); it is started again in 0\.5 s\."
        instance.wait_until(functools.partial(instance.heard, sentence))
    for program in ("pserve", "-m watcher", "valkey-server"):
        instance.wait_until(functools.partial(instance.count, program))
    instance.wait_until(instance.answers)
    instance.wait_until(lambda: instance.count("-m workers") == 3)

    second = start()
    assert second.ended() == 1
    (line,) = second.said
    assert f"Another instance (process {instance.process.pid}) already runs" in line
    assert instance.answers()

    instance.kill()
    instance.wait_until(lambda: not instance.pids(), 20)


def test_a_demonstration_with_a_password_from_the_environment(start: Callable[..., Instance]) -> None:
    instance = start("--demo", DICOMWEB_PASSWORD="given by the owner").started()
    assert not instance.heard("given by the owner")
    assert not (instance.var / "password").exists()
    assert (instance.data / "pydicom-samples" / ".done").exists()


def test_a_port_in_use_is_said_in_one_sentence(start: Callable[..., Instance]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        instance = start(DICOMWEB_PORT=str(taken.getsockname()[1]))
        assert instance.ended() == 1
    (line,) = instance.said
    assert "Address already in use" in line
    assert instance.pids() == {}


@pytest.mark.parametrize(("name", "sentence"), [("var", "The state folder"), ("data", "The watched folder")])
def test_a_folder_that_cannot_be_used_is_said_in_one_sentence(start: Callable[..., Instance], tmp_path: Path, name: str, sentence: str) -> None:
    # A file in its place stops root too, whom permissions do not.
    (tmp_path / name).touch()
    instance = start()
    assert instance.ended() == 1
    (line,) = instance.said
    assert line.startswith(f"Error: {sentence} {tmp_path / name} cannot be ")


def test_a_bad_password_is_said_in_one_sentence(start: Callable[..., Instance]) -> None:
    instance = start(DICOMWEB_PASSWORD="changeme")
    assert instance.ended() == 1
    (line,) = instance.said
    assert "everybody tries first" in line


@pytest.mark.parametrize("after", [0.0, 0.4, 1.2])
def test_ctrl_c_in_the_first_seconds_is_clean(start: Callable[..., Instance], after: float) -> None:
    instance = start()
    # From when its handlers are there: before that, the interpreter itself is starting.
    caught = 1 << (signal.SIGTERM - 1)
    status = Path("/proc", str(instance.process.pid), "status")
    instance.wait_until(lambda: int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & caught)  # type: ignore[index]
    time.sleep(after)
    instance.process.send_signal(signal.SIGINT)
    assert instance.process.wait(STOP_SECONDS) == 0
    instance.ended()
    assert not instance.heard("Traceback")
    assert instance.pids() == {}


def test_pserve_alone_listens_where_the_settings_say_and_stops_when_asked(start: Callable[..., Instance], tmp_path: Path) -> None:
    port = free_port()
    environ = {**os.environ, "DICOMWEB_VAR": str(tmp_path / "var"), "DICOMWEB_WATCH": str(tmp_path / "data"), "DICOMWEB_PORT": str(port)}
    subprocess.run([COMMAND, "migrate"], env=environ, check=True)
    parent = os.getpid()
    ini = Path(__file__).resolve().parents[2] / "development.ini"
    alone = subprocess.Popen(
        [COMMAND.with_name("pserve"), ini], env=environ, stderr=subprocess.PIPE, preexec_fn=lambda: die_with_parent(parent)
    )
    assert alone.stderr is not None
    with alone.stderr:
        try:
            until = time.monotonic() + START_SECONDS
            while subprocess.run([COMMAND, "health", "web"], env=environ, capture_output=True).returncode:
                assert alone.poll() is None
                assert time.monotonic() < until
            second = subprocess.run([COMMAND.with_name("pserve"), ini], env=environ, capture_output=True, text=True)
            assert second.returncode == 1
            assert second.stderr.splitlines()[-1] == f"The web server cannot listen on 127.0.0.1:{port}: Address already in use."
            alone.terminate()
            assert alone.wait(STOP_SECONDS) == 0
        finally:
            alone.kill()
            alone.wait()


def test_pshell_has_what_people_need_at_hand(tmp_path: Path) -> None:
    environ = {**os.environ, "DICOMWEB_VAR": str(tmp_path / "var"), "DICOMWEB_WATCH": str(tmp_path / "data")}
    subprocess.run([COMMAND, "migrate"], env=environ, check=True)
    ini = Path(__file__).resolve().parents[2] / "development.ini"
    typed = "print('batches:', dbsession.query(models.Batch).count(), search.list_images, storage, batches.totals(dbsession).images)\n"
    done = subprocess.run([COMMAND.with_name("pshell"), "-p", "python", ini], env=environ, input=typed, capture_output=True, text=True)
    assert "batches: 0 <function list_images" in done.stdout, done.stderr
