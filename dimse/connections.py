"""Connections within bounds: how many there are, how long one PDU may be and take to come (PS3.8 9.3).

The library reads whatever length a PDU claims into memory, and waits for it as long as the sender likes.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

# Larger than the usual 16 kB: an object comes in fewer pieces.
PDU_BYTES = 128 << 10
# What is told to the sender is the length of its data; requests for an association are not bound by it.
MOST_PDU_BYTES = 1 << 20
# An association that says nothing for so long is ended, and a PDU has to come within this time.
SILENT_SECONDS = 60.0
# Connections beyond the associations, so that who comes too many is told so.
_SPARE_CONNECTIONS = 10
_HEAD = struct.Struct(">BBL")


class Connection(socket.socket):
    """A connection of which nothing is received beyond the bounds: it is as if the sender had closed it."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        # Request and answer follow each other; waiting for more to send would cost 40 ms for each object.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.settimeout(SILENT_SECONDS)
        self._head = b""
        self._left = 0
        self._until = 0.0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive some of a PDU. Raises TimeoutError when it does not come in time."""
        now = time.monotonic()
        if not self._head:
            self._until = now + SILENT_SECONDS
        if now > self._until:
            raise TimeoutError("A PDU took too long to come.")
        data = super().recv(size, flags)
        if len(self._head) < _HEAD.size:
            self._head += data
            if len(self._head) < _HEAD.size:
                return data
            self._left = _HEAD.unpack(self._head)[2]
            if self._left > MOST_PDU_BYTES:
                return b""
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._head = b""
        return data

    def shutdown(self, how: int) -> None:
        """Shut down, which a connection that has ended takes for an error; the library would then not close it."""
        with suppress(OSError):
            super().shutdown(how)


class Server(ThreadedAssociationServer):
    """Accepts connections. look: called twice a second by the thread that does it."""

    def __init__(self, *arguments: Any, look: Callable[[], None], **options: Any) -> None:
        self._look = look
        super().__init__(*arguments, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        accepted, address = super().get_request()
        return Connection(accepted), address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Tell whether there may be another connection."""
        return len(self.active_associations) < self.ae.maximum_associations + _SPARE_CONNECTIONS

    def shutdown(self) -> None:
        """Stop accepting, and close."""
        # Not the library's: it forgets a server that it has started itself.
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def service_actions(self) -> None:
        """Look after the associations."""
        super().service_actions()
        self._look()
