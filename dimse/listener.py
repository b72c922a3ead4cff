"""Accepting associations: who may call, what is accepted, and what happens to what comes in."""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt

from dicomweb.imports import Importer
from dimse.associations import SUCCESS, Received
from dimse.finding import find

log = logging.getLogger(__name__)

# Larger than the usual 16 kB: an object comes in fewer pieces.
PDU_BYTES = 128 << 10
# An association that says nothing for so long is ended.
SILENT_SECONDS = 60

# PS3.6 A: Verification, and C-FIND of the Patient Root and of the Study Root model.
SERVICES = ("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1")

# The library's log is slow, and repeats what patients are called.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
# Objects go to the disk piece by piece; and what an object is and how it is encoded does not matter to a store.
_config.STORE_RECV_CHUNKED_DATASET = True
_config.UNRESTRICTED_STORAGE_SERVICE = True


class Listener:
    """Accepts associations from ``start`` to ``stop``."""

    def __init__(self, importer: Importer) -> None:
        self._importer = importer
        self._received: dict[Any, Received] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        settings = importer.settings
        # The library writes the object that is being received into the folder of temporary files.
        self._spool = settings.var / "spool" / "dimse"
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.tempdir = str(self._spool)
        self._entity = AE(settings["dimse.aet"])
        self._entity.require_called_aet = not settings["dimse.any_called"]
        self._entity.require_calling_aet = list(settings["dimse.callers"])
        self._entity.maximum_associations = settings["dimse.max_associations"]
        self._entity.maximum_pdu_size = PDU_BYTES
        self._entity.network_timeout = SILENT_SECONDS
        for service in SERVICES:
            self._entity.add_supported_context(service)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._server.server_address[1]
        return port

    def start(self) -> None:
        """Begin to accept associations. Raises OSError."""
        settings = self._importer.settings
        self._remove_left()
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_DATA_RECV, self._came),
            (evt.EVT_CONN_CLOSE, self._disconnected),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
        ]
        address = (settings["dimse.host"], settings["dimse.port"])
        self._server = self._entity.start_server(address, block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """End all associations; what they sent becomes batches."""
        self._server.shutdown()
        for received in list(self._received.values()):
            received.end()

    def _remove_left(self) -> None:
        oldest = time.time() - self._importer.settings["dimse.max_seconds"]
        for left in self._spool.glob("*.dcm"):
            if left.stat().st_mtime < oldest:
                left.unlink(missing_ok=True)

    def _connected(self, event: Any) -> None:
        # Request and answer follow each other; waiting for more to send would cost 40 ms for each object.
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _of(self, association: Any) -> Received:
        with self._lock:
            if association not in self._received:
                caller = str(association.requestor.ae_title or "").strip() or "unknown"
                self._received[association] = Received(self._importer, caller)
            return self._received[association]

    def _came(self, event: Any) -> None:
        received = self._received.get(event.assoc)
        if received is None:
            # The request for the association itself, which says who is calling.
            if not event.assoc.is_established:
                return
            received = self._of(event.assoc)
        if not received.may_go_on(len(event.data)):
            # Not by this thread: it is the one that would send the abort.
            threading.Thread(target=event.assoc.abort, daemon=True).start()

    def _store(self, event: Any) -> int:
        return self._of(event.assoc).store(Path(event.dataset_path))

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        return find(self._importer, event)

    def _disconnected(self, event: Any) -> None:
        with self._lock:
            received = self._received.pop(event.assoc, None)
        # An object that was cut off in the middle.
        if path := getattr(event.assoc.dimse.message, "_data_set_path", None):
            Path(path).unlink(missing_ok=True)
        if received is not None:
            received.end()
