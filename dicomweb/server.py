"""The web server for ``pserve``: waitress at the address of the settings, with limits a local application needs.

waitress reads a whole request before the application sees it, a large one into a file. So who is asking is found out when
the header of a request with more than a form in it is there: **a stranger cannot fill the disk.**
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import waitress
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.utilities import Error

from dicomweb import passwords, security
from dicomweb.settings import SettingError, Settings
from dicomweb.supervisor import CannotStart, make_folders

# Forms of people who have not given the password yet are not larger; it stays in memory.
STRANGERS_BODY_BYTES = 64 << 10
# No page and no call of the API takes more.
MAX_BODY_BYTES = 16 << 20
# Storing instances does, and the upload page without scripts. With them files come in pieces that are smaller.
LARGE_BODIES = "/dicom-web/studies"
UPLOAD_FORM = "/upload/form"
# What must stay free on the disk while a body is received.
SPARE_BYTES = 256 << 20
# So much of a body that is refused is still received (and thrown away), because most clients send it all before they
# read the answer; a larger one ends with its connection.
PASSED_OVER_BYTES = 64 << 20
# How long a client that was known stays so, for the next body it sends.
KNOWN_SECONDS = 10.0
_MOST_KNOWN = 1000


class Refusal(Error):
    """The answer to a request whose body is not taken."""

    def __init__(self, code: int, reason: str, sentence: str, headers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.reason = reason
        self._headers = headers or []

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Give status, headers and body."""
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), *self._headers]
        return f"{self.code} {self.reason}", headers, json.dumps({"message": self.body}).encode()


class Doorman:
    """Decides, when the header of a request is there, whether its body is taken."""

    def __init__(self, registry: Any, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, float] = {}

    def limit(self, method: str, path: str) -> int:
        """Tell how large a body may be."""
        stores = method == "POST" and (path in (LARGE_BODIES, UPLOAD_FORM) or path.startswith(LARGE_BODIES + "/"))
        return max(MAX_BODY_BYTES, self._settings["web.max_body_bytes"]) if stores else MAX_BODY_BYTES

    def refuse(self, headers: dict[str, str], address: str, size: int, limit: int) -> Refusal | None:
        """Say why a body is not taken; None: it is. size: 0 when it is not known."""
        try:
            known = self._knows(headers, address)
        except security.TooManyAttempts as error:
            return Refusal(429, "Too Many Requests", str(error), [("Retry-After", error.seconds)])
        if not known:
            challenge = [("WWW-Authenticate", 'Basic realm="DICOM Database", charset="UTF-8"')]
            return Refusal(401, "Unauthorized", "The password is needed before so much is taken.", challenge)
        if size >= limit:
            return Refusal(413, "Content Too Large", f"The body has {size:,} bytes; less than {limit:,} are taken.")
        if not self.has_room(size):
            return Refusal(507, "Insufficient Storage", "There is no room left on the disk for this.")
        return None

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes more fit on the disk."""
        return size + SPARE_BYTES <= shutil.disk_usage(self._settings.var).free

    def _knows(self, headers: dict[str, str], address: str) -> bool:
        said = "\0".join((headers.get("cookie", ""), headers.get("authorization", "")))
        digest = hashlib.blake2b(said.encode("latin-1", "replace"), key=self._key).digest()
        if self._known.get(digest, 0.0) > time.monotonic():
            return True
        if headers.get("x-forwarded-for") and address == self._settings["web.trusted_proxy"]:
            address = headers["x-forwarded-for"].rpartition(",")[2].strip()
        if security.admit(self._registry, headers, address) is None:
            return False
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[digest] = time.monotonic() + KNOWN_SECONDS
        return True


class _Nowhere:
    """The buffer of a body that is thrown away."""

    def __init__(self) -> None:
        self._size = 0

    def append(self, data: bytes) -> None:
        self._size += len(data)

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        pass


class Parser(HTTPRequestParser):
    """Reads one request, and asks the doorman between its header and its body."""

    adj: Any
    completed: bool
    error: Any
    expect_continue: bool

    def __init__(self, adj: Any, *, doorman: Doorman, address: str) -> None:
        super().__init__(adj)
        self._doorman = doorman
        self._address = address
        self._asked = False
        self._next_look = MAX_BODY_BYTES

    def received(self, data: bytes) -> int:
        """Take some bytes of the request; tell how many."""
        consumed: int = super().received(data)
        if self.headers_finished and not self._asked:
            self._asked = True
            self._ask()
        elif self.body_bytes_received >= self._next_look and self.error is None:
            # What is sent in chunks does not say how much it will be.
            self._next_look += MAX_BODY_BYTES
            if not self._doorman.has_room(0):
                self._refuse(Refusal(507, "Insufficient Storage", "There is no room left on the disk for this."))
        return consumed

    def _ask(self) -> None:
        large = self.chunked or self.content_length > STRANGERS_BODY_BYTES
        if self.body_rcv is None or not large:
            return
        limit = self._doorman.limit(self.command, self.path)
        headers = {name.lower().replace("_", "-"): value for name, value in self.headers.items()}
        refusal = self._doorman.refuse(headers, self._address, self.content_length, limit)
        if refusal is not None:
            self._refuse(refusal)
        elif not self.completed:
            self.adj = copy.copy(self.adj)
            self.adj.max_request_body_size = limit

    def _refuse(self, refusal: Refusal) -> None:
        self.error = refusal
        # Who waits to be told to go on has not sent anything yet.
        self.completed = self.expect_continue or self.content_length > PASSED_OVER_BYTES
        self.expect_continue = False
        self.body_rcv.buf = _Nowhere()
        self.adj = copy.copy(self.adj)
        self.adj.max_request_body_size = PASSED_OVER_BYTES + self.body_bytes_received + 1


def channel_class(doorman: Doorman) -> type[HTTPChannel]:
    """Make the class of a server's connections."""

    class Channel(HTTPChannel):
        """A connection whose requests pass the doorman."""

        def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
            super().__init__(server, sock, addr, adj, map=map)
            self.parser_class = functools.partial(Parser, doorman=doorman, address=str(addr[0]))

        def writable(self) -> bool:
            """Tell whether there is something to send; end the connection when nobody has taken any of it for long.

            waitress ends only those that are idle. One whose client has stopped reading would keep its thread and its
            connection to the database for ever.
            """
            if self.total_outbufs_len and time.time() - self.last_activity > self.adj.channel_timeout:
                self.handle_close()
                return False
            return bool(super().writable())

        def handle_close(self) -> None:
            """End the connection, and give back what was received of a request that has no end."""
            if self.request is not None:
                self.request.close()
            super().handle_close()

    return Channel


def make_server(application: Any, settings: Settings, **options: Any) -> Any:
    """Make the server of an application; options: of waitress, instead of those of the settings. Raises OSError."""
    spool = settings.var / "spool"
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Where waitress keeps the bodies it receives; the folder of the system may be small, or in memory.
    tempfile.tempdir = str(spool)
    listening: dict[int, Any] = {}
    server = waitress.create_server(application, map=listening, **{**server_options(settings), **options})
    channels = channel_class(Doorman(application.registry, settings))
    for listener in listening.values():
        if hasattr(listener, "channel_class"):
            listener.channel_class = channels
    return server


def serve(global_config: dict[str, str], **_options: str) -> Callable[[Any], None]:
    """Give the function that serves an application; ``[server:main]`` of the ini file names this one."""
    try:
        settings = Settings.load(global_config["__file__"])
        make_folders(settings)
        # `dicomweb run` has done this before; where the web server is started alone nobody else would.
        if new_password := passwords.ensure(settings):
            sys.stderr.write(f"The password is {new_password} (shown only now; `dicomweb password` sets another one).\n")
    except (SettingError, CannotStart, passwords.PasswordRefused) as error:
        sys.exit(str(error))

    def serve_application(application: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            server = make_server(application, settings)
        except OSError as error:
            sys.stderr.write(f"The web server cannot listen on {settings['web.host']}:{settings['web.port']}: {error.strerror}.\n")
            sys.stderr.flush()
            # Not sys.exit: pserve takes that for a wish to stop and ends with the exit code 0.
            os._exit(1)
        server.run()

    return serve_application


def server_options(settings: Settings) -> dict[str, Any]:
    """Give waitress's options."""
    options: dict[str, Any] = {
        "host": settings["web.host"],
        "port": settings["web.port"],
        "threads": settings["web.threads"],
        "ident": "",
        "recv_bytes": 256 << 10,
        "max_request_header_size": 64 << 10,
        "max_request_body_size": max(MAX_BODY_BYTES, settings["web.max_body_bytes"]) + 1,
        "connection_limit": 500,
        "channel_timeout": 120,
        "clear_untrusted_proxy_headers": True,
    }
    if settings["web.trusted_proxy"]:
        options["trusted_proxy"] = settings["web.trusted_proxy"]
        options["trusted_proxy_headers"] = "x-forwarded-for x-forwarded-proto x-forwarded-host"
    return options
