"""The real programs for tests: workers, watcher and broker as processes that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dicomweb.processes import die_with_parent
from dicomweb.settings import Settings
from tests import services

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.02)


class Program:
    """One program with the settings of a test; it dies with the test run."""

    def __init__(self, command: list[str], environ: dict[str, str], log: Path) -> None:
        self._command = command
        self._environ = environ
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        self.stop()
        parent = os.getpid()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environ,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with_parent(parent),
            )

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def terminate(self) -> int:
        """Ask it to end, and give its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process = None
        return code

    def stop(self) -> None:
        """End it if it runs."""
        self.kill()

    def children(self) -> list[int]:
        """The processes it started."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except FileNotFoundError:
            return []

    def log(self) -> str:
        """What it said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def program(settings: Settings, module: str, broker_url: str, **changes: str) -> Program:
    """``python -m module development.ini`` with the settings of the fixture; ``jobs__lease_seconds="3"`` changes one."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DICOMWEB_")}
    environ |= {
        "DICOMWEB_VAR": str(settings.var),
        "DICOMWEB_WATCH": ":".join(str(folder) for folder in settings["watch.folders"]),
        "DICOMWEB_DATABASE_URL": settings.database_url,
        "DICOMWEB_BROKER_URL": broker_url,
        "DICOMWEB_STORAGE_SYNC": "off",
    }
    environ |= {f"DICOMWEB_{name.upper().replace('__', '_')}": value for name, value in changes.items()}
    name = module.partition(".")[0]
    return Program(
        [sys.executable, "-m", module, str(ROOT / "development.ini")], environ, settings.var.parent / f"{name}.log"
    )


def broker(folder: Path) -> tuple[Program, str]:
    """A Redis server of its own, which may be killed, and its kombu URL. Without persistence: it forgets everything."""
    path = folder / "redis.sock"
    command = [services.redis_program(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    return Program(command, dict(os.environ), folder / "redis.log"), f"redis+socket://{path}"
