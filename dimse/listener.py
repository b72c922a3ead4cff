"""Accepting associations: who may call, what is accepted, and what happens to what comes in."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt

from dicomweb.imports import Importer
from dimse.associations import OUT_OF_RESOURCES, SUCCESS, Received
from dimse.connections import PDU_BYTES, SILENT_SECONDS, Server
from dimse.finding import find

log = logging.getLogger(__name__)

# What an association may have in memory: of a request that is coming in (an object goes to the disk), and of requests that wait.
MOST_REQUEST_BYTES = 4 << 20
MOST_REQUESTS = 100

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
        self._spool, self._held = _make_spool(settings.var / "spool" / "dimse")
        self._usual_folder, tempfile.tempdir = tempfile.tempdir, str(self._spool)
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
        handlers: list[Any] = [
            (evt.EVT_DATA_RECV, self._came),
            (evt.EVT_CONN_CLOSE, self._disconnected),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
        ]
        address = (settings["dimse.host"], settings["dimse.port"])
        self._server = self._entity.make_server(address, evt_handlers=handlers, server_class=Server, look=self._end_dead)
        threading.Thread(target=self._server.serve_forever, name="accepts associations", daemon=True).start()

    def stop(self) -> None:
        """End all associations; what they sent becomes batches."""
        self._server.shutdown()
        for received in list(self._received.values()):
            received.end()
        tempfile.tempdir = self._usual_folder
        shutil.rmtree(self._spool, ignore_errors=True)
        os.close(self._held)

    def _came(self, event: Any) -> None:
        association = event.assoc
        with self._lock:
            # Before, it is the request for the association itself, which says who is calling.
            if association not in self._received and association.is_established:
                caller = str(association.requestor.ae_title or "").strip() or "unknown"
                self._received[association] = Received(self._importer, caller, association.requestor.address or "")
            received = self._received.get(association)
        if received is not None and not (received.may_go_on(len(event.data)) and _is_small(association.dimse)):
            # Not by this thread: it is the one that would send the abort.
            threading.Thread(target=association.abort, daemon=True).start()

    def _store(self, event: Any) -> int:
        path = Path(event.dataset_path)
        received = self._received.get(event.assoc)
        if received is None:
            # Its connection ended while the object waited its turn; nobody is there to be told.
            path.unlink(missing_ok=True)
            return OUT_OF_RESOURCES
        return received.store(path)

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        return find(self._importer, event)

    def _disconnected(self, event: Any) -> None:
        self._end(event.assoc)

    def _end_dead(self) -> None:
        """End associations that a fault of the library ended, which nobody is told."""
        for association in [one for one, received in list(self._received.items()) if not (one.is_alive() or received.ended)]:
            # Not by this thread, which is the one that accepts.
            threading.Thread(target=self._end, args=(association,), daemon=True).start()

    def _end(self, association: Any) -> None:
        received = self._received.get(association)
        message = association.dimse.message
        # An object that was cut off in the middle.
        if message is not None and message._data_set_file is not None:
            with suppress(OSError):
                message._data_set_file.close()
            Path(message._data_set_path).unlink(missing_ok=True)
        if received is not None:
            # Only then it is forgotten: who stops the listener waits for it.
            received.end()
            with self._lock:
                self._received.pop(association, None)


def _is_small(dimse: Any) -> bool:
    message = dimse.message
    held = 0 if message is None else message.data_set.tell() + message.encoded_command_set.tell()
    return held <= MOST_REQUEST_BYTES and dimse.msg_queue.qsize() <= MOST_REQUESTS


def _make_spool(above: Path) -> tuple[Path, int]:
    """Make a folder for objects that are coming in, held by a lock; remove those that dead listeners left."""
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in above.iterdir():
        held = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            log.warning("Another listener works in the same state folder.")
        finally:
            os.close(held)
    folder = Path(tempfile.mkdtemp(dir=above))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held
