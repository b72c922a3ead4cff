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


def complaint(settings: Settings, program: str, *, now: datetime) -> str | None:
    """Say in one sentence why a program of this machine is not well; None when it is."""
    match program:
        case "web":
            return _web(settings)
        case "workers":
            return _workers(settings, now)
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
