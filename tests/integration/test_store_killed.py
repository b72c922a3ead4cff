"""kill -9 while images are stored over the network, at the points that matter: nothing promised is lost, nothing doubled, nothing left.

The points are held open by a lock on a table, which only PostgreSQL has; test_store_over_http.py kills at random on both databases.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import argon2
import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicomweb import imports
from dicomweb.models import Batch, Image, Job
from dicomweb.passwords import set_password
from dicomweb.rs.storing import INLINE_FILES
from dicomweb.settings import Settings
from tests import dicom_files, services
from tests.functional.api_data import PASSWORD, basic
from tests.importing import check_consistency, codes_of, drain_everything, importer_of, rows, storage_of
from tests.integration.test_dimse import connected
from tests.integration.test_store_over_http import ask, half, large_head, spooled
from tests.programs import Program, broker, program, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]


@contextmanager
def held(engine: sa.Engine, table: str) -> Iterator[Callable[[], None]]:
    """Let nobody write a table; gives a function that waits until somebody wants to."""
    waiting = sa.text("SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE NOT granted AND relname = :table")

    def is_wanted() -> bool:
        with engine.connect() as connection:
            return bool(connection.scalar(waiting, {"table": table}))

    with engine.connect() as connection:
        connection.execute(sa.text(f"LOCK TABLE {table} IN SHARE MODE"))
        yield lambda: wait_for(is_wanted, f"somebody writes {table}")
        connection.rollback()


class Sending:
    """A request of a client that may never be answered; ``answer`` is None then."""

    def __init__(self, port: int, files: list[bytes]) -> None:
        self.answer: Any = None
        body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files) + b"--b--"
        self._arguments = (port, "POST", "/dicom-web/studies", body, {"Content-Type": "multipart/related; boundary=b", **basic()})
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = ask(*self._arguments)
        except (OSError, http.client.HTTPException):
            return

    def end(self) -> Any:
        """Wait for the answer."""
        self._thread.join()
        return self.answer


class Installation:
    """A web server and workers of one state folder, none of them started yet."""

    def __init__(self, settings: Settings, url: str) -> None:
        set_password(settings, PASSWORD, argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.web = program(settings, "pyramid.scripts.pserve", url, port=str(self.port), jobs__lease_seconds="2")
        self.workers = program(settings, "workers", url, workers="2", jobs__lease_seconds="2", jobs__sweep_seconds="1")

    def start_web(self) -> None:
        """Start the web server, or kill it and start it again."""
        self.web.start()
        wait_for(self._answers, "the web server answers")

    def _answers(self) -> bool:
        try:
            return ask(self.port, "GET", "/health").status == 200
        except (OSError, http.client.HTTPException):
            return False


@pytest.fixture
def installation(settings: Settings) -> Iterator[Installation]:
    with services.private_folder() as folder:
        redis, url = broker(folder)
        redis.start()
        made = Installation(settings, url)
        yield made
        for started in (made.web, made.workers, redis):
            started.stop()


def images(seed: str, count: int) -> list[bytes]:
    return [dicom_files.image_bytes(f"{seed}/{number}") for number in range(count)]


def batches_of(engine: sa.Engine) -> list[Batch]:
    return rows(engine, sa.select(Batch).order_by(Batch.id))


def nothing_lies_there(settings: Settings) -> bool:
    return not [path for name in ("incoming", "spool") for path in (settings.var / name).rglob("*") if path.name != "dimse"]


def test_whatever_is_killed_while_a_request_is_stored_it_is_stored_once_or_not_at_all(
    installation: Installation, engine: sa.Engine, settings: Settings
) -> None:
    early, begun, waiting = images("early", 2), images("begun", 2), images("waiting", INLINE_FILES + 8)
    installation.start_web()
    assert installation.web.process is not None

    # In the middle of its body.
    size = 4 << 20
    cut = half(installation.port, large_head(2 * size, f"Authorization: {basic()['Authorization']}"), bytes(size))
    wait_for(lambda: spooled(installation.web.process.pid if installation.web.process else None) >= size - (1 << 20), "half a body is received")
    installation.start_web()
    cut.close()
    assert batches_of(engine) == []
    assert nothing_lies_there(settings)

    # Its bytes are on the disk, and its batch is not committed.
    with held(engine, "batch") as wait:
        sending = Sending(installation.port, early)
        wait()
        assert len(list(imports.incoming_folder(settings).rglob("*.dcm"))) == 2
        installation.web.kill()
    assert sending.end() is None
    installation.start_web()
    assert batches_of(engine) == []

    # Its batch is there, the images are in a pack, and the rows of the images are not committed.
    with held(engine, "header_group") as wait:
        sending = Sending(installation.port, begun)
        wait()
        assert list((settings.var / "storage").rglob("*.pack"))
        installation.web.kill()
    assert sending.end() is None
    installation.start_web()
    assert [(batch.file_count, batch.done_count) for batch in batches_of(engine)] == [(2, 0)]

    # It waits for the workers, of which there are none.
    sending = Sending(installation.port, waiting)
    wait_for(lambda: len(batches_of(engine)) == 2, "the batch is there")
    installation.web.kill()
    assert sending.end() is None

    installation.start_web()
    installation.workers.start()
    wait_for(lambda: not rows(engine, sa.select(Job.id).where(Job.status != "done")), "the workers finish what is left")
    assert [(batch.status, batch.image_count) for batch in batches_of(engine)] == [("DONE", len(begun)), ("DONE", len(waiting))]

    # Who got no answer sends again.
    for files in (early, begun, waiting):
        answer = Sending(installation.port, files).end()
        assert answer.status == 200, answer.text
        assert len(json.loads(answer.text)["00081199"]["Value"]) == len(files)
    stored = [image.sop_instance_uid for image in rows(engine, sa.select(Image))]
    assert len(stored) == len(set(stored)) == len(early) + len(begun) + len(waiting)
    wait_for(lambda: nothing_lies_there(settings), "what was left lying is removed by the workers")
    check_consistency(engine, storage_of(settings))


def test_a_worker_that_is_killed_in_the_import_of_a_request_is_not_noticed_by_its_client(
    installation: Installation, engine: sa.Engine, settings: Settings
) -> None:
    files = images("sent", INLINE_FILES + 8)
    installation.start_web()
    installation.workers.start()
    with held(engine, "header_group") as wait:
        sending = Sending(installation.port, files)
        wait()
        for child in installation.workers.children():
            os.kill(child, signal.SIGKILL)
    answer = sending.end()
    assert answer.status == 200, answer.text
    assert len(json.loads(answer.text)["00081199"]["Value"]) == len(files)
    [batch] = batches_of(engine)
    assert set(codes_of(engine, batch).values()) == {"imported"}
    wait_for(lambda: nothing_lies_there(settings), "the folder of the request is removed")
    check_consistency(engine, storage_of(settings))


def test_of_a_killed_listener_what_was_confirmed_is_imported_and_half_an_object_is_not(engine: sa.Engine, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started: Program = program(settings, "dimse", "redis+socket:///nowhere", dimse__port=str(port))
    paths = [settings.var.parent / f"{number}.dcm" for number in range(3)]
    for path, file in zip(paths, images("sent", 3), strict=True):
        path.write_bytes(file)

    def partly() -> list[int]:
        return [path.stat().st_size for path in (settings.var / "spool").rglob("*.dcm")]

    try:
        started.start()
        entity = AE("SCANNER")
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = connected(entity, port)
        assert [association.send_c_store(path).Status for path in paths[:2]] == [0, 0]
        # A C-STORE request and the first fragment of its dataset (PS3.7 9.3.1, PS3.8 9.3.5).
        raw = association.dul.socket.socket
        raw.sendall(p_data(3, store_request(association, dicom_files.uid("instance", "sent/2"))) + p_data(0, paths[2].read_bytes()[400:600]))
        wait_for(lambda: [size for size in partly() if size > 300], "half an object is in the spool")
        started.kill()
        association.abort()
        started.start()
        wait_for(lambda: batches_of(engine), "a batch is made of what was confirmed")
        assert partly() == []
        started.terminate()
    finally:
        started.stop()
    drain_everything(importer_of(engine, settings))
    [batch] = batches_of(engine)
    assert (batch.source, batch.status, batch.image_count) == ("dimse", "DONE", 2)
    assert nothing_lies_there(settings)
    check_consistency(engine, storage_of(settings))


def p_data(control: int, value: bytes) -> bytes:
    """Make a P-DATA-TF PDU with one fragment of presentation context 1."""
    item = (len(value) + 2).to_bytes(4, "big") + bytes((1, control)) + value
    return b"\x04\0" + len(item).to_bytes(4, "big") + item


def store_request(association: Any, uid: str) -> bytes:
    """Make the command of a C-STORE, in Implicit VR Little Endian."""

    def element(number: int, value: bytes) -> bytes:
        value += bytes(len(value) % 2)
        return b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value

    us = [(0x0100, 1), (0x0110, 7), (0x0700, 0), (0x0800, 1)]
    made = element(0x0002, str(association.accepted_contexts[0].abstract_syntax).encode())
    made += b"".join(element(number, value.to_bytes(2, "little")) for number, value in us)
    made += element(0x1000, uid.encode())
    return element(0, len(made).to_bytes(4, "little")) + made
