"""What one association has sent so far, and how it becomes a batch."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from dicomweb import imports
from dicomweb.imports import Delivery, Importer, Sender
from dicomweb.storage import StorageFailed

log = logging.getLogger(__name__)

# PS3.4 Table B.2-1.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
# What must stay free on the disk: with less an object is refused, and with half of it one that is coming in is cut off. So often it is
# looked at while an object comes in.
SPARE_BYTES = 256 << 20
_LOOK_BYTES = 64 << 20


class Received:
    """The objects of one association. Objects come in its own thread, bytes and its end in that of its connection.

    ended: nothing more is taken, and a batch is made of what came, or is being made.
    """

    def __init__(self, importer: Importer, caller: str, address: str) -> None:
        """caller: the calling AE title (PS3.8 9.3.2). address: of its connection."""
        self._importer = importer
        self._sender = Sender(caller, address, importer.clock())
        self._lock = threading.Lock()
        self._delivery: Delivery | None = None
        self.ended = False
        self._began = time.monotonic()
        self._bytes = 0
        self._next_look = _LOOK_BYTES

    def may_go_on(self, received: int) -> bool:
        """Note bytes that came in; tell whether the association is still within its bounds."""
        settings = self._importer.settings
        self._bytes += received
        if self._bytes > settings["dimse.max_bytes"]:
            log.warning("An association sent more than %s bytes and is ended.", settings["dimse.max_bytes"])
            return False
        if time.monotonic() - self._began > settings["dimse.max_seconds"]:
            log.warning("An association lasted longer than %g seconds and is ended.", settings["dimse.max_seconds"])
            return False
        if self._bytes >= self._next_look:
            self._next_look = self._bytes + _LOOK_BYTES
            if shutil.disk_usage(settings.var).free < SPARE_BYTES // 2:
                log.warning("The disk of the state folder is full; an association is ended.")
                return False
        return True

    def store(self, path: Path) -> int:
        """Take one object, a file that is moved away; give the status of its C-STORE: success means that it is durable."""
        with self._lock:
            try:
                if self.ended:
                    return OUT_OF_RESOURCES
                if shutil.disk_usage(self._importer.settings.var).free < SPARE_BYTES:
                    log.error("The disk of the state folder is full; an object is refused.")
                    return OUT_OF_RESOURCES
                if self._delivery is None:
                    self._delivery = Delivery(self._importer.settings, "dimse")
                if len(self._delivery.files) >= self._importer.settings["dimse.max_objects"]:
                    return OUT_OF_RESOURCES
                self._delivery.take(path)
                self._delivery.make_durable([self._delivery.files[-1][0]])
            except StorageFailed as error:
                log.error("%s", error)
                return OUT_OF_RESOURCES
            finally:
                path.unlink(missing_ok=True)
        return SUCCESS

    def end(self) -> None:
        """Make a batch of what came, once; a second call does nothing."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
            if self._delivery is None:
                return
            try:
                if self._delivery.files:
                    name = f"DIMSE {self._importer.clock():%Y-%m-%d %H:%M:%S} {self._sender.name} {self._delivery.mark}"
                    imports.announce(self._importer, self._delivery, name, source="dimse", sender=self._sender)
            except sa.exc.DBAPIError as error:
                log.warning("The database cannot be used (%s); a batch is made of the association later.", type(error.orig).__name__)
            finally:
                with suppress(OSError):
                    self._delivery.close()
