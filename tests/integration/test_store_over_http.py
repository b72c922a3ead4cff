"""STOW-RS over the real web server: what strangers may send, kill -9 in the middle, several clients at once."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import argon2
import pytest
import sqlalchemy as sa
from waitress import wasyncore

from dicomweb import imports
from dicomweb.models import Batch, Image, Job
from dicomweb.passwords import set_password
from dicomweb.server import PASSED_OVER_BYTES, STRANGERS_BODY_BYTES, make_server
from dicomweb.settings import Settings
from tests import dicom_files, services
from tests.functional import api_data
from tests.functional.api_data import PASSWORD, basic
from tests.importing import changed, check_consistency, codes_of, importer_of, rows, storage_of
from tests.programs import Program, broker, program, wait_for

DICOM = {"Content-Type": "application/dicom"}


@contextmanager
def serving(settings: Settings, **ini: str) -> Iterator[int]:
    """The application behind the server of the product, in a thread; gives its port."""
    app = api_data.make_app(settings, **ini)
    server = make_server(app, changed(settings, **{name.replace(".", "__"): value for name, value in ini.items()}), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.effective_port
    finally:
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join()
        server.task_dispatcher.shutdown()
        api_data.close(app)


def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    answer.text = answer.read().decode("utf-8", "replace")  # type: ignore[attr-defined]
    connection.close()
    return answer


def spooled(pid: int | None = None) -> int:
    """How many bytes of bodies this process keeps in files that have no name."""
    size = 0
    for link in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
        try:
            if "/spool/" in os.readlink(link):
                size += link.stat().st_size
        except FileNotFoundError:
            continue
    return size


def half(port: int, head: str, sent: bytes) -> socket.socket:
    """Begin a request and do not end it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(head.encode() + sent)
    return connection


def large_head(size: int, *fields: str) -> str:
    return "\r\n".join(["POST /dicom-web/studies HTTP/1.1", "Host: x", "Content-Type: application/dicom", f"Content-Length: {size}", *fields, "", ""])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_body_of_a_stranger_is_never_written_to_the_disk(settings: Settings, engine: sa.Engine) -> None:
    size = 8 << 20
    with serving(settings) as port:
        right = half(port, large_head(2 * size, f"Authorization: {basic()['Authorization']}"), bytes(size))
        wait_for(lambda: spooled() >= size - (1 << 20), "the body of one who is known is kept in a file")
        known = spooled()
        for field in ("X: y", f"Authorization: {basic('wrong')['Authorization']}", "Authorization: Bearer dicomweb_x", "Cookie: dicomweb_session=x"):
            wrong = half(port, large_head(2 * size, field), bytes(size))
            assert spooled() == known
            wrong.sendall(bytes(size))
            assert b"401 Unauthorized" in wrong.recv(4096)
            wrong.close()
        assert spooled() == known
        right.close()
        wait_for(lambda: spooled() == 0, "what was received of a request without an end is given back")
    assert rows(engine, sa.select(Batch)) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_waits_to_be_told_to_go_on_is_answered_at_once(settings: Settings, engine: sa.Engine) -> None:
    with serving(settings) as port:
        stranger = half(port, large_head(1 << 30, "Expect: 100-continue"), b"")
        assert stranger.recv(4096).startswith(b"HTTP/1.1 401 ")
        stranger.close()
        known = half(port, large_head(100_000, "Expect: 100-continue", f"Authorization: {basic()['Authorization']}"), b"")
        assert known.recv(4096).startswith(b"HTTP/1.1 100 ")
        known.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_too_large_is_refused_by_what_it_says_and_by_what_it_is(settings: Settings, engine: sa.Engine) -> None:
    with serving(settings, **{"web.max_body_bytes": "20M"}) as port:
        assert ask(port, "POST", "/dicom-web/studies", bytes(21 << 20), {**DICOM, **basic()}).status == 413
        assert ask(port, "POST", "/api/searches", bytes(17 << 20), {**DICOM, **basic()}).status == 413
        assert ask(port, "POST", "/dicom-web/studies", bytes(17 << 20), {**DICOM, **basic()}).status == 409
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: {basic()['Authorization']}\r\n\r\n"
        chunked = half(port, head, b"")
        with pytest.raises(OSError):  # noqa: PT012 - whether it is told or cut off first depends on the buffers between
            for _ in range(64):
                chunked.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            answer = chunked.recv(4096)
            assert b" 413 " in answer
            raise ConnectionResetError
        chunked.close()
    assert PASSED_OVER_BYTES > STRANGERS_BODY_BYTES


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_small_form_needs_no_password_and_a_large_one_does(settings: Settings, engine: sa.Engine) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with serving(settings) as port:
        assert ask(port, "POST", "/login", b"password=x", form).status in (303, 400, 403)
        assert ask(port, "POST", "/login", b"password=" + b"x" * (1 << 20), form).status == 401


def test_a_truncated_request_stores_nothing(settings: Settings, engine: sa.Engine) -> None:
    file = dicom_files.image_bytes("a/1")
    with serving(settings) as port:
        connection = half(port, large_head(len(file) + 1, f"Authorization: {basic()['Authorization']}"), file)
        connection.shutdown(socket.SHUT_WR)
        connection.close()
        assert ask(port, "GET", "/health").status == 200
    assert rows(engine, sa.select(Batch)) == []


def test_five_clients_store_the_same_study_at_once_and_each_image_is_there_once(settings: Settings, engine: sa.Engine) -> None:
    files = [dicom_files.image_bytes(f"a/{number}", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4") for number in range(6)]
    statuses: list[int] = []

    def send() -> None:
        for file in files:
            statuses.append(ask(port, "POST", "/dicom-web/studies", file, {**DICOM, **basic()}).status)

    with serving(settings) as port:
        threads = [threading.Thread(target=send) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 30
    became = [code for batch in rows(engine, sa.select(Batch)) for code in codes_of(engine, batch).values()]
    assert (became.count("imported"), became.count("duplicate")) == (6, 24)
    check_consistency(engine, storage_of(settings))


def web(settings: Settings, broker_url: str) -> tuple[Program, int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = program(settings, "pyramid.scripts.pserve", broker_url, port=str(port), jobs__lease_seconds="2", stow__wait_seconds="20")
    return started, port


@pytest.mark.slow
def test_a_kill_of_the_web_server_in_the_middle_loses_and_doubles_nothing(settings: Settings, engine: sa.Engine) -> None:
    set_password(settings, PASSWORD, argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    kills = int(os.environ.get("KILLS", "3"))
    promised: set[str] = set()
    tried: set[str] = set()
    with services.private_folder() as folder:
        redis, url = broker(folder)
        workers = program(settings, "workers", url, workers="2", jobs__lease_seconds="2", jobs__sweep_seconds="1")
        server, port = web(settings, url)
        stop = threading.Event()

        def send(client: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                files = [dicom_files.image_bytes(f"{client}/{number}/{one}") for one in range(1 + 39 * (number % 4 == 0))]
                body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files) + b"--b--"
                tried.update(uid_of(file) for file in files)
                try:
                    answer = ask(port, "POST", "/dicom-web/studies", body, {"Content-Type": "multipart/related; boundary=b", **basic()})
                except (OSError, http.client.HTTPException):
                    stop.wait(0.1)
                    continue
                if answer.status == 200:
                    said = json.loads(answer.text)["00081199"]["Value"]  # type: ignore[attr-defined]
                    promised.update(item["00081155"]["Value"][0] for item in said)

        clients = [threading.Thread(target=send, args=(client,)) for client in range(2)]
        try:
            for started in (redis, workers, server):
                started.start()
            for client in clients:
                client.start()
            for _ in range(kills):
                before = len(promised)
                wait_for(lambda before=before: len(promised) > before + 3, "some images are stored", seconds=90)
                server.start()
            stop.set()
            for client in clients:
                client.join()
            wait_for(lambda: not rows(engine, sa.select(Job.id).where(Job.status != "done")), "the workers finish what is left", seconds=90)
        finally:
            stop.set()
            for started in (server, workers, redis):
                started.stop()
    stored = [image.sop_instance_uid for image in rows(engine, sa.select(Image))]
    assert len(stored) == len(set(stored))
    assert promised <= set(stored) <= tried
    assert {batch.status for batch in rows(engine, sa.select(Batch))} == {"DONE"}
    check_consistency(engine, storage_of(settings))
    for left in imports.incoming_folder(settings).iterdir():
        os.utime(left, (1, 1))
    imports.clear_left(importer_of(engine, settings))
    assert list(imports.incoming_folder(settings).iterdir()) == []


def uid_of(file: bytes) -> str:
    found = re.search(rb"\x08\x00\x18\x00UI..([0-9.]+)", file, re.S)
    assert found
    return found[1].decode()

