"""``python -m watcher development.ini``: watch the folders of the settings until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import plaster
import sqlalchemy as sa

from dicomweb.db import make_engine
from dicomweb.errors import report_errors
from dicomweb.jobs import Doorbell
from dicomweb.settings import SettingError, Settings
from watcher.events import CannotListen, Listener
from watcher.loop import Watcher
from watcher.presence import AlreadyRunning, Presence

log = logging.getLogger("watcher")

# Longer waits for the database would delay a stop, and the watcher tries again anyway.
DATABASE_SECONDS = 1


class _Stop:
    """Tells whether SIGTERM or SIGINT came."""

    def __init__(self) -> None:
        self._wanted = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._want)

    def __call__(self) -> bool:
        return self._wanted

    def _want(self, _number: int, _frame: FrameType | None) -> None:
        self._wanted = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the watcher, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m watcher", description="Watch folders for arrivals.")
    parser.add_argument("ini", type=Path, help="the ini file")
    ini: Path = parser.parse_args(arguments).ini
    stop = _Stop()
    try:
        settings = Settings.load(ini)
        plaster.setup_logging(str(ini))
        report_errors(settings, "watcher")
        presence = Presence(settings, now=datetime.now(UTC))
        try:
            _watch(settings, presence, stop)
        finally:
            presence.end()
    except (SettingError, AlreadyRunning) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"The state folder cannot be used: {error.strerror} ({error.filename}).")
    return 0


def _watch(settings: Settings, presence: Presence, stop: _Stop) -> None:
    try:
        listener = Listener()
    except CannotListen as error:
        log.warning("%s", error)
        listener = None
    engine = impatient_engine(settings.database_url)
    watcher = Watcher(settings, engine, presence, doorbell=Doorbell(settings.broker_url), listener=listener)
    log.info("Watching %d folders.", len(watcher.statuses()))
    try:
        watcher.run(stop)
    finally:
        watcher.close()
        engine.dispose()
        if listener is not None:
            listener.close()
    log.info("Stopped.")


def impatient_engine(url: str) -> sa.Engine:
    """Make an engine that soon gives up when the database does not answer or is locked."""
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        engine = make_engine(url)
        sa.event.listen(engine, "connect", _wait_shortly)
        return engine
    address = address.update_query_dict({"connect_timeout": str(2 * DATABASE_SECONDS)})
    return make_engine(address.render_as_string(hide_password=False))


def _wait_shortly(connection: Any, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout={DATABASE_SECONDS * 1000}")


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
