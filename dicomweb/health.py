"""Is a program of this machine alive? Asked by container health checks: ``dicomweb health web``."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from datetime import datetime

from dicomweb import jobs, watching
from dicomweb.db import make_engine, work
from dicomweb.settings import Settings, reachable_host

ANSWER_SECONDS = 5.0
# A-RELEASE-RQ, and the type of A-ABORT (PS3.8 9.3.6 and 9.3.8).
_RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_ABORT = 7


def complaint(settings: Settings, program: str, *, now: datetime) -> str | None:
    """Say in one sentence why a program of this machine is not well; None when it is."""
    match program:
        case "web":
            return _web(settings)
        case "workers":
            return _workers(settings, now)
        case "dimse":
            return _dimse(settings)
        case _:
            status = watching.status(settings, now=now)
            return None if status.alive else status.sentence


def _web(settings: Settings) -> str | None:
    host = reachable_host(settings["web.host"])
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings['web.port']}/health"
    try:
        # Not through the proxy that the environment may name.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        return f"{address} answers {error.code}."
    except OSError as error:
        return f"{address} does not answer: {error}."
    return None


def _workers(settings: Settings, now: datetime) -> str | None:
    engine = make_engine(settings.database_url)
    try:
        with work(engine, read_only=True) as dbsession:
            here = [worker for worker in jobs.alive_workers(dbsession, now=now) if worker.name.startswith(f"{socket.gethostname()}:")]
    finally:
        engine.dispose()
    return None if here else "No worker of this machine has given a sign of life lately."


def _dimse(settings: Settings) -> str | None:
    port = settings["dimse.port"]
    if not port:
        return "dimse.port (DICOMWEB_DIMSE_PORT) is 0, so nothing is listened on."
    host = reachable_host(settings["dimse.host"])
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            # Who releases an association that was never asked for is answered with an abort, whoever he is (PS3.8 9.2.3, AA-1).
            connection.sendall(_RELEASE)
            answer = connection.recv(10)
    except OSError as error:
        return f"The listener on {host}:{port} does not answer: {error}."
    return None if answer[:1] == bytes((_ABORT,)) else f"What listens on {host}:{port} does not speak DICOM."
