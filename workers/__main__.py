"""``python -m workers development.ini``: start the worker processes, and another one for each that dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import plaster
import sqlalchemy as sa
from sqlalchemy.orm import configure_mappers

from dicomweb import jobs
from dicomweb.db import make_engine, work
from dicomweb.errors import report_errors
from dicomweb.imports import Importer
from dicomweb.processes import die_with_parent
from dicomweb.settings import SettingError, Settings
from dicomweb.storage import Storage
from workers.consumer import Worker, worker_name
from workers.tasks import HANDLERS

log = logging.getLogger("workers")

_FORK = multiprocessing.get_context("fork")
STOP_SECONDS = 7.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
PROVEN_SECONDS = 30.0


class Workers:
    """Keeps a number of worker processes running until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots: list[_Slot] = [_Slot() for _ in range(settings["workers.count"])]
        self._stopping = False

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Stop; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Start the processes and replace those that die."""
        while not self._stopping:
            for slot in self._slots:
                self._look_after(slot)
            time.sleep(0.2)
        self._end()

    def _look_after(self, slot: _Slot) -> None:
        moment = time.monotonic()
        process = slot.process
        if process is not None:
            if process.is_alive():
                return
            log.warning("worker %s ended with %s; another one is started", process.pid, process.exitcode)
            self._release(process.pid or 0)
            proven = moment - slot.started >= PROVEN_SECONDS
            slot.delay = FIRST_DELAY if proven else min(LONGEST_DELAY, slot.delay * 2)
            slot.process = None
            slot.start_at = moment + slot.delay
        if moment >= slot.start_at:
            slot.started = moment
            slot.process = _FORK.Process(target=_work, args=(self._settings, os.getpid()), name="worker")
            slot.process.start()

    def _release(self, pid: int) -> None:
        name = worker_name().rpartition(":")[0] + f":{pid}"
        # No connection may be open in this process when it forks.
        engine = make_engine(self._settings.database_url, poolclass=sa.NullPool)
        try:
            with work(engine) as dbsession:
                jobs.release(dbsession, name, max_attempts=self._settings["jobs.max_attempts"], now=datetime.now(UTC))
        except sa.exc.DBAPIError as error:
            log.warning(
                "The database cannot be used (%s); the jobs of worker %s come back when their leases lapse.",
                type(error.orig).__name__,
                pid,
            )

    def _end(self) -> None:
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.terminate()
        end = time.monotonic() + STOP_SECONDS
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        for process in processes:
            if process.is_alive():
                log.warning("worker %s did not stop in time and is killed; its job comes back", process.pid)
                process.kill()
                process.join()


class _Slot:
    """The place of one worker process."""

    def __init__(self) -> None:
        self.process: multiprocessing.context.ForkProcess | None = None
        self.started = 0.0
        self.start_at = 0.0
        self.delay = FIRST_DELAY / 2


def _work(settings: Settings, parent: int) -> None:
    die_with_parent(parent)
    engine = make_engine(settings.database_url)
    importer = Importer(
        engine=engine,
        settings=settings,
        storage=Storage(settings.var / "storage", sync=settings["storage.sync"]),
        doorbell=jobs.Doorbell(settings.broker_url),
    )
    worker = Worker(importer, HANDLERS)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: worker.stop())
    worker.run()
    engine.dispose()


def main(arguments: list[str]) -> None:
    """Run the workers of one installation."""
    if len(arguments) != 1:
        sys.exit("usage: python -m workers INI_FILE")
    ini = Path(arguments[0])
    try:
        settings = Settings.load(ini)
        report_errors(settings, "workers")
    except (SettingError, OSError) as error:
        sys.exit(f"workers: {error}")
    plaster.setup_logging(str(ini))
    # Done once here, it need not be done in every process that is forked.
    configure_mappers()
    workers = Workers(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, workers.stop)
    workers.run()


if __name__ == "__main__":
    main(sys.argv[1:])
