"""Uploads over the real web server: kill -9 in the middle, what strangers may send, what is removed and when."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
import sqlalchemy as sa

from dicomweb import batches, imports, jobs
from dicomweb.imports import Importer, OpenUpload, UploadGone, announce_upload, begin_upload, clear_left, clear_uploads
from dicomweb.models import Batch, Image, Upload
from dicomweb.passwords import set_password
from dicomweb.settings import Settings
from tests import dicom_files, services
from tests.functional.api_data import PASSWORD, basic
from tests.importing import (
    Clock,
    bytes_of,
    changed,
    check_consistency,
    claim_folder,
    codes_of,
    drain,
    importer_of,
    rows,
    storage_of,
)
from tests.integration.test_store_over_http import ask, half, serving, spooled, web
from tests.programs import broker, program, wait_for

OCTETS = {"Content-Type": "application/offset+octet-stream"}
TUS = {"Tus-Resumable": "1.0.0", **basic()}
PIECE = 4 << 20


def begin(port: int, **asked: Any) -> str:
    answer = ask(port, "POST", "/upload", json.dumps(asked), basic())
    assert answer.status == 201
    return str(json.loads(answer.text)["address"])  # type: ignore[attr-defined]


def announce(port: int, address: str, path: str, size: int, body: bytes = b"") -> str:
    said = f"path {base64.b64encode(path.encode()).decode()}"
    answer = ask(port, "POST", f"{address}/files", body, {**TUS, **OCTETS, "Upload-Length": str(size), "Upload-Metadata": said})
    assert answer.status == 201
    return str(answer.headers["Location"])


def finish(port: int, address: str) -> int:
    answer = ask(port, "POST", f"{address}/import", None, {**basic(), "Content-Type": "application/json"})
    assert answer.status == 200
    return int(json.loads(answer.text)["batch"])  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_upload_goes_on_after_a_kill_of_the_web_server(settings: Settings, engine: sa.Engine) -> None:
    set_password(settings, PASSWORD, argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    large = dicom_files.image_bytes("large") + random.Random(1).randbytes(3 * PIECE)
    with services.private_folder() as folder:
        redis, url = broker(folder)
        workers = program(settings, "workers", url, workers="1")
        server, port = web(settings, url)
        try:
            for started in (redis, workers, server):
                started.start()
            wait_for(lambda: is_there(port), "the web server")
            address = begin(port, name="knee")
            announce(port, address, "small.dcm", len(dicom_files.image_bytes("small")), dicom_files.image_bytes("small"))
            file = announce(port, address, "large.dcm", len(large), large[:PIECE])
            # In the middle of a piece: what waitress has of it is not in the file.
            head = f"PATCH {file} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()['Authorization']}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {PIECE}\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: {PIECE}\r\n\r\n"
            connection = half(port, head, large[PIECE : PIECE + PIECE // 2])
            assert server.process is not None
            pid = server.process.pid
            wait_for(lambda: spooled(pid) > 0, "the web server has some of the piece")
            server.kill()
            connection.close()
            server.start()
            wait_for(lambda: is_there(port), "the web server again")
            offset = int(ask(port, "HEAD", file, None, TUS).headers["Upload-Offset"])
            assert offset == PIECE
            while offset < len(large):
                said = {**TUS, **OCTETS, "Upload-Offset": str(offset)}
                answer = ask(port, "PATCH", file, large[offset : offset + PIECE], said)
                assert answer.status == 204
                offset = int(answer.headers["Upload-Offset"])
            batch_id = finish(port, address)
            assert finish(port, address) == batch_id
            wait_for(lambda: rows(engine, sa.select(Batch.status)) == ["DONE"], "the import")
        finally:
            for started in (server, workers, redis):
                started.stop()
    [batch] = rows(engine, sa.select(Batch))
    assert codes_of(engine, batch) == {"small.dcm": "imported", "large.dcm": "imported"}
    [image] = rows(engine, sa.select(Image).where(Image.path == "large.dcm"))
    assert hashlib.sha256(bytes_of(engine, settings, image)).digest() == hashlib.sha256(large).digest()
    assert list((settings.var / "incoming").iterdir()) == []
    check_consistency(engine, storage_of(settings))


def is_there(port: int) -> bool:
    try:
        return ask(port, "GET", "/health").status in (200, 503)
    except OSError:
        return False


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_pieces_and_forms_pass_the_doorman_within_their_bounds(settings: Settings, engine: sa.Engine) -> None:
    with serving(settings, **{"web.max_body_bytes": "20M"}) as port:
        address = begin(port, name="knee")
        file = announce(port, address, "a.dcm", 40 << 20)
        said = {**TUS, **OCTETS, "Upload-Offset": "0"}
        assert ask(port, "PATCH", file, bytes(17 << 20), said).status == 413
        assert ask(port, "PATCH", file, bytes(1 << 20), {**said, "Authorization": "Basic x"}).status == 401
        assert ask(port, "HEAD", file, None, TUS).headers["Upload-Offset"] == "0"
        assert ask(port, "PATCH", file, bytes(8 << 20), said).status == 204
        form = {**basic(), "Content-Type": "multipart/form-data; boundary=b"}
        content = dicom_files.image_bytes("form") + bytes(17 << 20)
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n' + content + b"\r\n--b--\r\n"
        assert ask(port, "POST", "/upload/form", body, form).status == 303
        assert ask(port, "POST", "/upload/form", bytes(21 << 20), form).status == 413
    drain(importer_of(engine, settings))
    [image] = rows(engine, sa.select(Image))
    assert bytes_of(engine, settings, image) == content


class TestWhatIsLeft:
    def upload(self, settings: Settings, *contents: bytes) -> OpenUpload:
        made = begin_upload(settings, "knee", sender="session", address="", now=datetime.now(UTC))
        for number, content in enumerate(contents):
            made.write(made.add(f"{number}.dcm", len(content)), 0, [content])
        return made

    def test_an_unfinished_upload_survives_the_start_of_a_web_server_and_goes_after_its_time(self, settings: Settings, engine: sa.Engine) -> None:
        importer = importer_of(engine, changed(settings, upload__keep_seconds="3600"))
        clock = Clock()
        importer.clock = clock
        upload = self.upload(importer.settings, b"12345")
        clock.ahead = timedelta(minutes=59)
        assert (clear_left(importer), clear_uploads(importer)) == (0, 0)
        os.utime(upload.folder / "about.json")
        assert upload.offset("000001-5") == 5
        clock.ahead = timedelta(minutes=61)
        assert (clear_left(importer), clear_uploads(importer)) == (0, 1)
        for gone in (upload.files, upload.limits, lambda: upload.about, lambda: upload.add("a", 1), lambda: upload.write("000001-5", 5, [])):
            with pytest.raises(UploadGone):
                gone()

    def test_what_a_kill_left_of_an_upload_that_is_a_batch_goes_when_it_is_done(self, settings: Settings, engine: sa.Engine) -> None:
        importer = importer_of(engine, settings)
        upload = self.upload(settings, dicom_files.image_bytes("a"), b"no image")
        copy = Path(f"{settings.var}/copy")
        shutil.copytree(upload.folder, copy)
        batch_id = announce_upload(importer, upload)
        # Killed between the transaction and the tidying up: the log is there still.
        shutil.copyfile(copy / "files.log", upload.folder / "files.log")
        shutil.copyfile(copy / "about.json", upload.folder / "about.json")
        assert announce_upload(importer, OpenUpload(settings, upload.key)) == batch_id
        assert clear_uploads(importer) == 0
        drain(importer)
        clear_uploads(importer)
        assert os.listdir(upload.folder) == ["000002-8"]
        assert imports.announced(importer, upload.key) == batch_id

    def test_what_was_only_begun_to_be_made_goes_too(self, settings: Settings, engine: sa.Engine) -> None:
        importer = importer_of(engine, settings)
        folder = settings.var / "incoming" / ("upload-" + "a" * 32)
        folder.mkdir(parents=True)
        assert clear_uploads(importer) == 0
        os.utime(folder, (0, 0))
        assert clear_uploads(importer) == 1

    def test_a_line_that_a_power_cut_left_half_written_costs_only_its_file(self, settings: Settings, engine: sa.Engine) -> None:
        upload = self.upload(settings, b"12345")
        with (upload.folder / "files.log").open("ab") as log:
            log.write(b'{"n": 2, "sum"')
        upload.write(upload.add("b.dcm", 3), 0, [b"abc"])
        assert [(file.path, file.size) for file in upload.files()] == [("0.dcm", 5), ("b.dcm", 3)]
        assert upload.limits().bytes == settings["upload.max_bytes"] - 8

    def test_an_attempt_to_unpack_that_died_leaves_nothing(self, settings: Settings, engine: sa.Engine) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("1.dcm", dicom_files.image_bytes("1"))
        importer = importer_of(engine, settings)
        upload = self.upload(settings, packed.getvalue())
        announce_upload(importer, upload)
        [file] = os.listdir(upload.folder)
        (upload.folder / f"{file}.0").mkdir()
        (upload.folder / f"{file}.0" / "000001").write_bytes(b"x")
        drain(importer)
        assert not upload.folder.exists()
        [batch] = rows(engine, sa.select(Batch))
        assert codes_of(engine, batch) == {"0.dcm/1.dcm": "imported"}

    def test_an_archive_whose_commit_was_not_confirmed_keeps_its_files(self, settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("1.dcm", dicom_files.image_bytes("1"))
        importer = importer_of(engine, settings)
        announce_upload(importer, self.upload(settings, packed.getvalue()))
        with importer.work() as dbsession:
            job = jobs.claim_next(dbsession, worker="w", lease=60, now=importer.clock())
        assert job is not None
        committing = Importer.work

        @contextmanager
        def losing(self: Importer, *, read_only: bool = False) -> Iterator[Any]:
            with committing(self, read_only=read_only) as dbsession:
                yield dbsession
            raise sa.exc.OperationalError("COMMIT", {}, ConnectionResetError())

        with monkeypatch.context() as patched:
            patched.setattr(Importer, "work", losing)
            with pytest.raises(sa.exc.OperationalError):
                imports.unpack_archive(importer, job)
        drain(importer)
        [batch] = rows(engine, sa.select(Batch))
        assert codes_of(engine, batch) == {"0.dcm/1.dcm": "imported"}
        clear_uploads(importer)
        assert list((settings.var / "incoming").iterdir()) == []

    def test_what_is_a_batch_since_this_moment_is_not_discarded(self, settings: Settings, engine: sa.Engine) -> None:
        importer = importer_of(engine, settings)
        upload = self.upload(settings, dicom_files.image_bytes("a"))
        log = (upload.folder / "files.log").read_bytes()
        announce_upload(importer, upload)
        with pytest.raises(UploadGone):
            imports.discard_upload(importer, upload)
        # Killed between the transaction and the tidying up.
        (upload.folder / "files.log").write_bytes(log)
        with pytest.raises(UploadGone):
            imports.discard_upload(importer, upload)
        clear_uploads(importer)
        with pytest.raises(UploadGone):
            upload.add("late.dcm", 5)
        drain(importer)
        [batch] = rows(engine, sa.select(Batch))
        assert codes_of(engine, batch) == {"0.dcm": "imported"}

    def test_a_file_whose_line_was_lost_is_not_taken_for_another_one(self, settings: Settings, engine: sa.Engine) -> None:
        upload = self.upload(settings, b"12345")
        (upload.folder / "files.log").write_bytes(b"")
        file = upload.add("other.dcm", 5)
        assert upload.offset(file) == 0
        assert upload.write(file, 0, [b"abcde"]) == 5

    def test_bytes_of_a_file_that_is_taken_out_meanwhile_are_not_confirmed(self, settings: Settings, engine: sa.Engine) -> None:
        upload = self.upload(settings)
        file = upload.add("a.dcm", 2)

        def blocks() -> Iterator[bytes]:
            upload.remove(file)
            yield b"ab"

        with pytest.raises(UploadGone):
            upload.write(file, 0, blocks())

    def test_by_reference_uploads_are_stored_and_a_duplicate_keeps_its_file_until_it_inherits(self, settings: Settings, engine: sa.Engine) -> None:
        importer = importer_of(engine, changed(settings, import__mode="reference"))
        folder = settings["watch.folders"][0] / "knee"
        [dropped] = dicom_files.write_series(folder, images=1, seed="knee")
        claim_folder(engine, folder)
        drain(importer)
        content = dropped.read_bytes()
        upload = self.upload(importer.settings, content, dicom_files.image_bytes("other"))
        batch_id = announce_upload(importer, upload)
        drain(importer)
        assert len(os.listdir(upload.folder)) == 1
        # Where it was found it may be gone tomorrow: then the uploaded one is read.
        with importer.work() as dbsession:
            batches.delete(dbsession, dbsession.get_one(Batch, 1), now=datetime.now(UTC))
        dropped.unlink()
        drain(importer)
        [batch] = rows(engine, sa.select(Batch))
        assert (batch.id, codes_of(engine, batch)) == (batch_id, {"0.dcm": "imported", "1.dcm": "imported"})
        images = rows(engine, sa.select(Image).order_by(Image.path))
        assert bytes_of(engine, settings, images[0]) == content
        assert [image.place for image in images] == [None, None]
        assert not upload.folder.exists()

    def test_two_who_end_an_upload_at_once_make_one_batch(self, settings: Settings, engine: sa.Engine) -> None:
        importer = importer_of(engine, settings)
        upload = self.upload(settings, *(dicom_files.image_bytes(str(number)) for number in range(5)))
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: announce_upload(importer, upload), range(4)))
        assert len(set(made)) == 1
        assert len(rows(engine, sa.select(Upload))) == 1
