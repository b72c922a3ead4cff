"""``python -m dimse development.ini``: accept DIMSE associations until told to stop."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

import plaster
import sqlalchemy as sa
from sqlalchemy.orm import configure_mappers

from dicomweb import imports, jobs
from dicomweb.db import make_engine
from dicomweb.errors import report_errors
from dicomweb.imports import Importer
from dicomweb.settings import SettingError, Settings
from dicomweb.storage import Storage
from dimse.listener import Listener

log = logging.getLogger("dimse")

# How often deliveries are looked for that a dead process left, or for which the database was away.
CLEAR_SECONDS = 10


def main(arguments: list[str]) -> None:
    """Listen for one installation."""
    if len(arguments) != 1:
        sys.exit("usage: python -m dimse INI_FILE")
    ini = Path(arguments[0])
    try:
        settings = Settings.load(ini)
        report_errors(settings, "dimse")
    except (SettingError, OSError) as error:
        sys.exit(f"dimse: {error}")
    if not settings["dimse.port"]:
        sys.exit("dimse: dimse.port (DICOMWEB_DIMSE_PORT) is 0, so nothing is listened on.")
    plaster.setup_logging(str(ini))
    configure_mappers()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    engine = make_engine(settings.database_url)
    storage = Storage(settings.var / "storage", sync=settings["storage.sync"])
    importer = Importer(engine, settings, storage, doorbell=jobs.Doorbell(settings.broker_url))
    listener = Listener(importer)
    try:
        listener.start()
    except OSError as error:
        sys.exit(f"dimse: {settings['dimse.host']}:{settings['dimse.port']} cannot be listened on: {error.strerror}.")
    log.info("Listening as %s on %s:%d.", settings["dimse.aet"], settings["dimse.host"], listener.port)
    while not stop.is_set():
        try:
            imports.clear_left(importer)
        except sa.exc.DBAPIError as error:
            log.warning("The database cannot be used (%s).", type(error.orig).__name__)
        stop.wait(CLEAR_SECONDS)
    listener.stop()
    engine.dispose()
    log.info("Stopped.")


if __name__ == "__main__":
    main(sys.argv[1:])
