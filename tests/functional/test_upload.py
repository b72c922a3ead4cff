"""Uploads over the tus protocol, and the page without scripts."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import os
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb import batches
from dicomweb.db import work
from dicomweb.imports import Importer, OpenUpload, TooMuch, begin_upload, uploads
from dicomweb.models import Batch, Image, Outcome, Upload
from tests import dicom_files
from tests.functional import pages
from tests.functional.api_data import run_jobs
from tests.functional.pages import Browser
from tests.importing import bytes_of, changed, check_consistency, codes_of, images_of, reload, rows, storage_of
from tests.statements import statements as counted

# What does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OCTETS = "application/offset+octet-stream"


class Tus:
    """A client of the protocol with the cookie of a session."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.headers = {"Tus-Resumable": "1.0.0", "X-CSRF-Token": browser.token()}

    def begin(self, **asked: Any) -> str:
        """Begin an upload; give its address."""
        answer = self.browser.post_json("/upload", asked, headers=self.headers)
        assert answer.status_int == 201
        return str(answer.json["address"])

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """Send a request; a header whose value is empty is left out."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.browser.request(path, method=method, body=body, headers={k: v for k, v in sent.items() if v}, expect_errors=True)

    def create(self, address: str, path: str, content: bytes, *, sent: int | None = None, key: str = "") -> Any:
        """Announce a file with its first bytes."""
        said = {"path": path, **({"key": key} if key else {})}
        metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in said.items())
        body = content[:sent]
        kind = {"Content-Type": OCTETS} if body else {}
        return self.ask("POST", f"{address}/files", body, Upload_Length=str(len(content)), Upload_Metadata=metadata, **kind)

    def patch(self, path: str, offset: int, body: bytes, **headers: str) -> Any:
        """Send more of a file."""
        return self.ask("PATCH", path, body, **{"Upload_Offset": str(offset), "Content-Type": OCTETS, **headers})

    def finish(self, address: str, **asked: Any) -> Any:
        """Have the upload imported."""
        return self.browser.post_json(f"{address}/import", asked, headers=self.headers, expect_errors=True)


@pytest.fixture
def tus(browser: Browser) -> Tus:
    return Tus(browser)


def path_of(answer: Any) -> str:
    return str(answer.headers["Location"])


def batch_of(browser: Browser, batch_id: int) -> Batch:
    with work(browser.engine, read_only=True) as dbsession:
        return dbsession.get_one(Batch, batch_id)


def incoming(browser: Browser) -> list[str]:
    folder = browser.settings.var / "incoming"
    return sorted(os.listdir(folder)) if folder.exists() else []


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_files_become_a_batch_with_their_paths_and_nothing_is_left_behind(browser: Browser, tus: Tus, importer: Importer) -> None:
    address = tus.begin(name="knee")
    small, large = dicom_files.image_bytes("a/1"), dicom_files.image_bytes("a/2")
    answer = tus.create(address, "one/IM1.dcm", small)
    assert (answer.status_int, answer.headers["Upload-Offset"]) == (201, str(len(small)))
    file = path_of(tus.create(address, "one/IM2.dcm", large, sent=100))
    assert tus.ask("HEAD", file).headers["Upload-Offset"] == "100"
    assert tus.patch(file, 100, large[100:300]).status_int == 204
    answer = tus.patch(file, 300, large[300:])
    assert (answer.status_int, answer.headers["Upload-Offset"]) == (204, str(len(large)))
    assert "GMT" in answer.headers["Upload-Expires"]
    made = tus.finish(address).json
    run_jobs(importer)
    batch = batch_of(browser, made["batch"])
    assert (batch.name, batch.source, batch.status, batch.image_count) == ("knee", "upload", "DONE", 2)
    images = images_of(browser.engine, batch)
    assert set(images) == {"one/IM1.dcm", "one/IM2.dcm"}
    assert bytes_of(browser.engine, browser.settings, images["one/IM2.dcm"]) == large
    assert incoming(browser) == []
    check_consistency(browser.engine, storage_of(browser.settings))
    [upload] = rows(browser.engine, sa.select(Upload))
    assert (upload.sender, upload.address, upload.file_count, upload.byte_count) == ("session", "192.0.2.1", 2, len(small) + len(large))


def test_to_import_twice_gives_the_same_batch_and_what_comes_later_is_refused(browser: Browser, tus: Tus, importer: Importer) -> None:
    address = tus.begin(name="knee")
    file = path_of(tus.create(address, "a.dcm", dicom_files.image_bytes("a")))
    first = tus.finish(address).json
    assert tus.finish(address).json == first
    run_jobs(importer)
    assert tus.finish(address).json == first
    assert browser.count(Batch) == 1
    assert tus.create(address, "b.dcm", b"x").status_int == 410
    assert tus.patch(file, 0, b"x").status_int == 410
    assert tus.ask("DELETE", address).status_int == 410


@on_sqlite
def test_an_upload_without_a_complete_file_makes_no_batch(browser: Browser, tus: Tus) -> None:
    address = tus.begin(name="knee")
    assert tus.finish(address).status_int == 409
    tus.create(address, "a.dcm", b"12345", sent=2)
    assert tus.finish(address).status_int == 409
    assert browser.count(Batch) == 0


@on_sqlite
def test_what_is_not_complete_is_left_out_when_the_rest_is_imported(browser: Browser, tus: Tus, importer: Importer) -> None:
    address = tus.begin(name="knee")
    tus.create(address, "a.dcm", dicom_files.image_bytes("a"))
    tus.create(address, "b.dcm", dicom_files.image_bytes("b"), sent=50)
    batch_id = tus.finish(address).json["batch"]
    run_jobs(importer)
    assert codes_of(browser.engine, batch_of(browser, batch_id)) == {"a.dcm": "imported"}
    assert incoming(browser) == []


@on_sqlite
def test_a_file_that_is_announced_again_is_there_once(browser: Browser, tus: Tus, importer: Importer) -> None:
    address, content = tus.begin(name="knee"), dicom_files.image_bytes("a")
    tus.create(address, "a.dcm", content, key="k1")
    # The answer was lost on the way, so the browser sends it again; and another one came only in part.
    tus.create(address, "a.dcm", content, key="k1")
    tus.create(address, "a.dcm", content, sent=10, key="k1")
    listed = tus.ask("GET", f"{address}/files").json
    assert [(file["path"], file["offset"], file["key"]) for file in listed] == [("a.dcm", len(content), "k1")]
    batch_id = tus.finish(address).json["batch"]
    run_jobs(importer)
    assert batch_of(browser, batch_id).file_count == 1
    assert incoming(browser) == []


@on_sqlite
def test_two_files_of_the_same_name_are_both_imported(browser: Browser, tus: Tus, importer: Importer) -> None:
    address = tus.begin(name="knee")
    for seed in ("a", "b", "c"):
        tus.create(address, "IM1.dcm", dicom_files.image_bytes(seed), key=seed)
    batch_id = tus.finish(address).json["batch"]
    run_jobs(importer)
    assert set(images_of(browser.engine, batch_of(browser, batch_id))) == {"IM1.dcm", "IM1.dcm (2)", "IM1.dcm (3)"}


def test_a_system_file_is_left_out_and_a_text_is_an_error_that_stays_and_can_be_tried_again(browser: Browser, tus: Tus, importer: Importer) -> None:
    address = tus.begin(name="knee")
    tus.create(address, "one/.DS_Store", b"x")
    tus.create(address, "one/notes.txt", b"no image")
    tus.create(address, "one/a.dcm", dicom_files.image_bytes("a"))
    batch_id = tus.finish(address).json["batch"]
    run_jobs(importer)
    batch = batch_of(browser, batch_id)
    expected = {"one/.DS_Store": "system-file", "one/notes.txt": "not-dicom", "one/a.dcm": "imported"}
    assert codes_of(browser.engine, batch) == expected
    [folder] = incoming(browser)
    assert os.listdir(browser.settings.var / "incoming" / folder) == ["000002-8"]
    browser.press(f"/batches/{batch_id}/retry")
    run_jobs(importer)
    assert codes_of(browser.engine, reload(browser.engine, batch)) == expected
    browser.press(f"/batches/{batch_id}/delete", sure="yes", images="1", when="now")
    run_jobs(importer)
    assert incoming(browser) == []


@on_sqlite
@pytest.mark.parametrize("joins", [False, True])
def test_a_broken_upload_shows_its_first_bytes_and_not_those_of_a_file_of_that_name(
    browser: Browser, tus: Tus, importer: Importer, joins: bool
) -> None:
    folder = browser.settings["watch.folders"][0] / "samples"
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(b"of somebody else")
    if joins:
        browser.add(pages.batch(path=str(folder), open_scans=0))
    address = tus.begin(**({"batch": 1} if joins else {"name": "knee"}))
    whole = dicom_files.image_bytes("a")
    tus.create(address, "a.dcm", whole[: len(whole) // 2])
    batch_id = tus.finish(address).json["batch"]
    run_jobs(importer)
    errors = browser.get(f"/batches/{batch_id}/errors")
    (link,) = errors.html.select("a[hx-get]")
    for path in (link["href"], link["hx-get"]):
        (shown,) = browser.get(path).html.select("pre.bytes")
        assert "  DICM" in shown.text.splitlines()[8]
    [outcome] = rows(browser.engine, sa.select(Outcome))
    (browser.settings.var / "incoming" / outcome.place).write_bytes(whole)
    browser.press(f"/batches/{batch_id}/retry", code=outcome.code)
    run_jobs(importer)
    assert codes_of(browser.engine, batch_of(browser, batch_id)) == {"a.dcm": "imported"}
    assert (folder / "a.dcm").read_bytes() == b"of somebody else"
    assert incoming(browser) == []


@on_sqlite
def test_only_system_files_make_a_batch_that_is_done(browser: Browser, tus: Tus) -> None:
    address = tus.begin(name="knee")
    tus.create(address, "Thumbs.db", b"x")
    batch = batch_of(browser, tus.finish(address).json["batch"])
    assert (batch.status, batch.file_count, batch.notice_count) == ("DONE", 1, 1)
    assert incoming(browser) == []


@on_sqlite
class TestTheProtocol:
    def test_its_abilities_are_told(self, tus: Tus) -> None:
        address = tus.begin(name="knee")
        answer = tus.ask("OPTIONS", f"{address}/files")
        assert answer.status_int == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert {"creation", "creation-with-upload", "termination"} <= set(answer.headers["Tus-Extension"].split(","))
        assert answer.headers["Tus-Max-Size"] == str(64 << 30)

    @pytest.mark.parametrize("version", ["", "0.2.2"])
    def test_another_version_is_412(self, tus: Tus, version: str) -> None:
        address = tus.begin(name="knee")
        answer = tus.ask("POST", f"{address}/files", b"", Upload_Length="1", Tus_Resumable=version)
        assert (answer.status_int, answer.headers["Tus-Version"], answer.headers["Tus-Resumable"]) == (412, "1.0.0", "1.0.0")

    @pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "9" * 20])
    def test_a_length_that_is_no_number_is_400(self, tus: Tus, length: str) -> None:
        assert tus.ask("POST", f"{tus.begin()}/files", b"", Upload_Length=length).status_int == 400

    def test_metadata_that_is_no_base64_is_400(self, tus: Tus) -> None:
        assert tus.ask("POST", f"{tus.begin()}/files", b"", Upload_Length="1", Upload_Metadata="path !!").status_int == 400

    def test_a_wrong_offset_is_409_and_changes_nothing(self, tus: Tus) -> None:
        file = path_of(tus.create(tus.begin(), "a", b"0123456789", sent=4))
        for wrong in (0, 3, 5, 10, 99):
            answer = tus.patch(file, wrong, b"456789")
            assert (answer.status_int, answer.headers["Upload-Offset"]) == (409, "4"), wrong
        assert tus.ask("HEAD", file).headers["Upload-Offset"] == "4"
        assert tus.patch(file, 4, b"456789").status_int == 204

    def test_an_offset_that_is_no_number_is_400_and_another_type_415(self, tus: Tus) -> None:
        address = tus.begin()
        file = path_of(tus.create(address, "a", b"0123456789", sent=4))
        assert tus.ask("PATCH", file, b"x", Upload_Offset="x", **{"Content-Type": OCTETS}).status_int == 400
        assert tus.ask("PATCH", file, b"x", Upload_Offset="4", **{"Content-Type": "application/dicom"}).status_int == 415
        assert tus.ask("POST", f"{address}/files", b"x", Upload_Length="3", **{"Content-Type": "image/png"}).status_int == 415

    def test_more_than_was_announced_is_413(self, tus: Tus) -> None:
        file = path_of(tus.create(tus.begin(), "a", b"0123456789", sent=4))
        assert tus.patch(file, 4, b"4567890123").status_int == 413
        assert tus.ask("HEAD", file).headers["Upload-Offset"] == "4"

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_body_that_is_too_long_writes_nothing(self, tus: Tus, whole: bool) -> None:
        address, size, body = tus.begin(), 1 << 20, bytes((1 << 20) + 5)
        if whole:
            answer = tus.ask("POST", f"{address}/files", body, Upload_Length=str(size), **{"Content-Type": OCTETS})
            assert (answer.status_int, tus.ask("GET", f"{address}/files").json) == (413, [])
        else:
            file = path_of(tus.create(address, "a.dcm", bytes(size), sent=0))
            assert tus.patch(file, 0, body).status_int == 413
            assert tus.ask("HEAD", file).headers["Upload-Offset"] == "0"

    def test_what_the_sender_said_of_a_file_is_told_again(self, tus: Tus) -> None:
        address = tus.begin()
        for name in ("a.dcm", "b.dcm"):
            said = f"path {base64.b64encode(name.encode()).decode()},filetype"
            file = path_of(tus.ask("POST", f"{address}/files", Upload_Length="5", Upload_Metadata=said))
            assert tus.ask("HEAD", file).headers["Upload-Metadata"] == said

    def test_keys_that_would_be_cut_to_the_same_are_400(self, tus: Tus) -> None:
        address = tus.begin()
        assert tus.create(address, "a.dcm", b"x", key="k" * 64).status_int == 201
        assert tus.create(address, "b.dcm", b"y", key="k" * 65).status_int == 400

    def test_a_disk_that_other_files_have_filled_is_507_and_what_is_there_stays(self, tus: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
        file = path_of(tus.create(tus.begin(), "a.dcm", b"12345", sent=2))
        monkeypatch.setattr(uploads, "SPARE_BYTES", 1 << 62)
        assert tus.patch(file, 2, b"345").status_int == 507
        assert tus.ask("HEAD", file).headers["Upload-Offset"] == "2"

    def test_a_name_of_half_characters_is_taken(self, tus: Tus) -> None:
        assert tus.browser.post("/upload", '{"name": "kn\\ud800ee"}', headers=tus.headers).status_int == 201

    @pytest.mark.parametrize("name", ["000009-4", "x", "about.json", "files.log", "000001-99", "%2e%2e%2fx"])
    def test_a_file_that_is_not_there_is_404(self, tus: Tus, name: str) -> None:
        address = tus.begin()
        tus.create(address, "a", b"0123456789", sent=4)
        assert tus.ask("HEAD", f"{address}/files/{name}").status_int == 404
        assert tus.patch(f"{address}/files/{name}", 0, b"x").status_int == 404
        assert tus.ask("DELETE", f"{address}/files/{name}").status_int == 404

    @pytest.mark.parametrize("key", ["0" * 32, "x", "%2e%2e%2fx", "A" * 32])
    def test_an_upload_that_is_not_there_is_404(self, tus: Tus, key: str) -> None:
        assert tus.create(f"/upload/{key}", "a", b"x").status_int == 404
        assert tus.ask("GET", f"/upload/{key}").status_int == 404

    def test_a_file_can_be_taken_out(self, browser: Browser, tus: Tus) -> None:
        address = tus.begin()
        file = path_of(tus.create(address, "a", b"0123456789"))
        assert tus.ask("DELETE", file).status_int == 204
        assert tus.ask("HEAD", file).status_int == 404
        assert tus.ask("GET", f"{address}/files").json == []
        assert tus.finish(address).status_int == 409

    def test_an_upload_can_be_cancelled(self, browser: Browser, tus: Tus) -> None:
        address = tus.begin()
        file = path_of(tus.create(address, "a", b"0123456789"))
        assert tus.ask("DELETE", address).status_int == 204
        assert incoming(browser) == []
        assert tus.ask("HEAD", file).status_int == 404

    def test_two_requests_cannot_write_a_file_at_once(self, browser: Browser, tus: Tus) -> None:
        address = tus.begin()
        file = path_of(tus.create(address, "a", b"0123456789", sent=4))
        [folder] = incoming(browser)
        with (browser.settings.var / "incoming" / folder / file.rpartition("/")[2]).open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert tus.patch(file, 4, b"4").status_int == 423
        assert tus.patch(file, 4, b"4").status_int == 204

    def test_the_method_may_be_told_by_a_header(self, tus: Tus) -> None:
        file = path_of(tus.create(tus.begin(), "a", b"0123456789", sent=4))
        said = {"Upload_Offset": "4", "Content-Type": OCTETS, "X_HTTP_Method_Override": "PATCH"}
        assert tus.ask("POST", file, b"456789", **said).status_int == 204
        assert tus.ask("PUT", file).status_int == 405

    def test_a_sum_that_is_not_that_of_the_bytes_is_460(self, tus: Tus) -> None:
        file = path_of(tus.create(tus.begin(), "a", b"0123456789", sent=4))
        right = base64.b64encode(hashlib.sha1(b"456789").digest()).decode()
        assert tus.patch(file, 4, b"456780", Upload_Checksum=f"sha1 {right}").status_int == 460
        assert tus.patch(file, 4, b"456789", Upload_Checksum=f"crc32 {right}").status_int == 400
        assert tus.patch(file, 4, b"456789", Upload_Checksum=f"sha1 {right}").status_int == 204

    def test_a_change_needs_the_token_of_the_session(self, browser: Browser, tus: Tus) -> None:
        address = tus.begin()
        file = path_of(tus.create(address, "a", b"0123456789", sent=4))
        assert tus.ask("POST", "/upload", b"{}", X_CSRF_Token="wrong").status_int == 400
        assert tus.ask("POST", f"{address}/files", b"", Upload_Length="1", X_CSRF_Token="wrong").status_int == 400
        for method in ("PATCH", "DELETE"):
            assert tus.ask(method, file, b"4", Upload_Offset="4", X_CSRF_Token="wrong", **{"Content-Type": OCTETS}).status_int == 400
        assert tus.ask("DELETE", address, X_CSRF_Token="wrong").status_int == 400
        assert tus.ask("HEAD", file).headers["Upload-Offset"] == "4"

    def test_a_small_file_asks_the_database_only_who_sends_it(self, browser: Browser, tus: Tus) -> None:
        address = tus.begin()
        with counted(browser.app.registry["engine"]) as asked:
            assert tus.create(address, "a.dcm", b"x" * 5000).status_int == 201
        assert len(asked) == 1
        assert "web_session" in asked[0]


@on_sqlite
class TestLimits:
    @pytest.fixture
    def settings(self, settings: Any) -> Any:
        return changed(settings, upload__max_files="3", upload__max_bytes="100", import__max_file_bytes="40")

    @pytest.fixture
    def limited(self, settings: Any) -> OpenUpload:
        return begin_upload(settings, "knee", sender="session", address="", now=datetime.now(UTC))

    def test_a_file_the_sum_and_the_number_are_bounded(self, limited: OpenUpload) -> None:
        with pytest.raises(TooMuch, match="at most 40"):
            limited.add("a", 41)
        first = limited.add("a", 40)
        limited.add("b", 40)
        with pytest.raises(TooMuch, match="at most 100"):
            limited.add("c", 40)
        limited.remove(first)
        limited.add("c.zip", 50)
        limited.add("d", 1)
        with pytest.raises(TooMuch, match="3 files"):
            limited.add("e", 1)

    def test_what_is_announced_again_counts_once_and_is_there_once(self, limited: OpenUpload) -> None:
        names = [limited.add("a", 40, key="a") for _ in range(6)]
        assert [file.file_id for file in limited.files()] == names[-1:]
        limited.add("b", 40, key="b")
        with pytest.raises(TooMuch, match="at most 100"):
            limited.add("c", 40, key="c")


class TestIntoABatch:
    def test_files_join_a_batch_that_was_done(self, browser: Browser, tus: Tus, importer: Importer, imported: int) -> None:
        before = batch_of(browser, imported)
        address = tus.begin(batch=imported)
        tus.create(address, "more/1.dcm", dicom_files.image_bytes("more"))
        tus.create(address, "more/again.dcm", dicom_files.image_bytes("one/1"))
        assert tus.finish(address).json["batch"] == imported
        assert batch_of(browser, imported).status == "PROCESSING"
        run_jobs(importer)
        batch = batch_of(browser, imported)
        assert (batch.status, batch.source) == ("DONE", "folder")
        assert batch.image_count + batch.notice_count == before.image_count + before.notice_count + 2
        assert codes_of(browser.engine, batch)["more/1.dcm"] == "imported"
        assert incoming(browser) == []
        check_consistency(browser.engine, storage_of(browser.settings))

    def test_a_batch_that_is_deleted_meanwhile_is_told_and_another_one_can_be_made(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        browser.add(pages.batch())
        address = tus.begin(batch=1)
        tus.create(address, "a.dcm", dicom_files.image_bytes("a"))
        browser.press("/batches/1/delete", sure="yes", images="0", when="now")
        assert tus.finish(address).status_int == 422
        run_jobs(importer)
        assert tus.finish(address).status_int == 422
        page = browser.get(address)
        assert "can become a batch of their own" in page.text
        made = tus.finish(address, name="saved").json["batch"]
        assert batch_of(browser, made).name == "saved"

    def test_a_batch_that_is_to_be_deleted_is_not_joined(self, browser: Browser, tus: Tus, imported: int) -> None:
        address = tus.begin(batch=imported)
        tus.create(address, "a.dcm", dicom_files.image_bytes("a"))
        with work(browser.engine) as dbsession:
            assert batches.delete_later(dbsession, dbsession.get_one(Batch, imported), minutes=30, now=datetime.now(UTC))
        assert tus.finish(address).status_int == 422
        assert browser.post_json("/upload", {"batch": imported}, headers=tus.headers, expect_errors=True).status_int == 404
        assert tus.finish(address, name="another").json["batch"] != imported

    def test_what_is_no_batch_cannot_be_joined(self, browser: Browser, tus: Tus) -> None:
        for wrong in (7, "x", -1, 10**30, [], True):
            assert browser.post_json("/upload", {"batch": wrong}, headers=tus.headers, expect_errors=True).status_int == 404

    def test_files_that_failed_go_with_the_batch_they_joined(self, browser: Browser, tus: Tus, importer: Importer, imported: int) -> None:
        address = tus.begin(batch=imported)
        tus.create(address, "more/notes.txt", b"no image")
        tus.finish(address)
        run_jobs(importer)
        assert len(incoming(browser)) == 1
        browser.press(f"/batches/{imported}/delete", sure="yes", images=str(batch_of(browser, imported).image_count), when="now")
        run_jobs(importer)
        assert incoming(browser) == []


class TestArchives:
    def test_an_archive_is_unpacked_by_a_worker_and_goes(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        address = tus.begin(name="knee")
        content = zipped({"s/1.dcm": dicom_files.image_bytes("1"), "s/2.dcm": dicom_files.image_bytes("2"), "s/x.txt": b"no image"})
        tus.create(address, "knee.zip", content)
        batch_id = tus.finish(address).json["batch"]
        run_jobs(importer)
        batch = batch_of(browser, batch_id)
        assert codes_of(browser.engine, batch) == {"knee.zip/s/1.dcm": "imported", "knee.zip/s/2.dcm": "imported", "knee.zip/s/x.txt": "not-dicom"}
        assert (batch.status, batch.file_count) == ("DONE", 3)
        left = [path.name for path in (browser.settings.var / "incoming").rglob("*") if path.is_file()]
        assert left == ["000003"]
        check_consistency(browser.engine, storage_of(browser.settings))

    def test_an_archive_that_is_refused_is_one_error_and_can_be_tried_again(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        address = tus.begin(name="knee")
        content = zipped({"1.dcm": dicom_files.image_bytes("1")})
        tus.create(address, "cut.zip", content[:-30])
        batch_id = tus.finish(address).json["batch"]
        run_jobs(importer)
        batch = batch_of(browser, batch_id)
        assert codes_of(browser.engine, batch) == {"cut.zip": "archive-damaged"}
        assert (batch.status, batch.error_count) == ("DONE", 1)
        [outcome] = rows(browser.engine, sa.select(Outcome))
        (browser.settings.var / "incoming" / outcome.place).write_bytes(content)
        browser.press(f"/batches/{batch_id}/retry")
        run_jobs(importer)
        assert codes_of(browser.engine, reload(browser.engine, batch)) == {"cut.zip/1.dcm": "imported"}
        assert incoming(browser) == []

    def test_an_archive_that_was_cut_off_behind_an_archive_inside_it_is_refused(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        address = tus.begin(name="knee")
        content = zipped({"1.dcm": dicom_files.image_bytes("1"), "inner.zip": zipped({"2.dcm": dicom_files.image_bytes("2")})})
        tus.create(address, "cut.zip", content[:-20])
        batch_id = tus.finish(address).json["batch"]
        run_jobs(importer)
        assert codes_of(browser.engine, batch_of(browser, batch_id)) == {"cut.zip": "archive-damaged"}

    def test_what_was_refused_inside_an_archive_is_not_tried_again(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        address = tus.begin(name="knee")
        inner = zipped({"c.zip": zipped({"1.dcm": dicom_files.image_bytes("1")})})
        tus.create(address, "a.zip", zipped({"b.zip": inner, "2.dcm": dicom_files.image_bytes("2")}))
        batch_id = tus.finish(address).json["batch"]
        run_jobs(importer)
        expected = {"a.zip/b.zip/c.zip": "archive-too-deep", "a.zip/2.dcm": "imported"}
        assert codes_of(browser.engine, batch_of(browser, batch_id)) == expected
        assert browser.press(f"/batches/{batch_id}/retry").headers["Location"].endswith("nothing-failed")
        errors = browser.get(f"/batches/{batch_id}/errors")
        assert not errors.html.select("form[action$='/retry']")
        assert "was not unpacked" in browser.get(errors.html.select_one("a[hx-get]")["href"]).text


@on_sqlite
class TestThePage:
    def test_it_tells_the_limits_and_suggests_a_name(self, browser: Browser) -> None:
        page = browser.get("/upload")
        assert "100,000" in page.text
        assert page.forms[1]["name"].value.startswith("Upload 20")
        assert browser.get("/").html.find("a", href="/upload").text == "Upload Datasets"

    def test_an_upload_that_a_power_cut_damaged_does_not_hide_the_others(self, browser: Browser, tus: Tus) -> None:
        kept, damaged = tus.begin(name="kept"), tus.begin(name="damaged")
        (browser.settings.var / "incoming" / damaged.replace("/upload/", "upload-") / "about.json").write_bytes(b"")
        page = browser.get("/upload").text
        assert kept in page
        assert damaged not in page
        assert browser.get(damaged, expect_errors=True).status_int == 410

    def test_a_batch_has_the_button_too(self, browser: Browser, imported: int) -> None:
        assert browser.get(f"/batches/{imported}").html.find("a", href=f"/upload?batch={imported}")
        assert "processed again" in browser.get(f"/upload?batch={imported}").text

    def test_without_scripts_a_form_uploads(self, browser: Browser, importer: Importer) -> None:
        fields = {"csrf_token": browser.token(), "name": "hip"}
        files = [("files", "one\\a.dcm", dicom_files.image_bytes("a")), ("files", "notes.txt", b"no image"), ("files", "", b"")]
        answer = browser.post("/upload/form", fields, upload_files=files)
        run_jobs(importer)
        page = answer.follow()
        assert "Imported, but for 1 file" in page.text
        assert "not-dicom" in page.text
        batch = batch_of(browser, 1)
        assert batch.name == "hip"
        assert set(codes_of(browser.engine, batch).values()) == {"imported", "not-dicom"}

    def test_a_form_without_the_token_writes_nothing(self, browser: Browser) -> None:
        files = [("files", "a.dcm", b"x")]
        for fields in ({}, {"csrf_token": "wrong"}):
            answer = browser.post("/upload/form", fields, upload_files=files, expect_errors=True)
            assert answer.status_int == 400
        answer = browser.post("/upload/form", {"csrf_token": browser.token()}, upload_files=files, headers={"Sec-Fetch-Site": "cross-site"}, expect_errors=True)
        assert answer.status_int == 400
        assert incoming(browser) == []

    def test_a_form_without_a_file_or_cut_off_says_so(self, browser: Browser) -> None:
        fields = {"csrf_token": browser.token(), "name": "hip"}
        answer = browser.post("/upload/form", fields, upload_files=[("files", "", b"")], expect_errors=True)
        assert (answer.status_int, "No file was chosen." in answer.text) == (400, True)
        kind, body = browser.encode_multipart(list(fields.items()), [("files", "a.dcm", b"x" * 100)])
        answer = browser.post("/upload/form", body[:-60], content_type=kind, expect_errors=True)
        assert (answer.status_int, "not sent completely" in answer.text) == (400, True)
        assert browser.post("/upload/form", {"csrf_token": browser.token()}, expect_errors=True).status_int == 415
        assert incoming(browser) == []

    def test_an_unfinished_upload_can_be_gone_on_with_imported_or_discarded(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        address = tus.begin(name=pages.HOSTILE)
        tus.create(address, "a.dcm", dicom_files.image_bytes("a"))
        tus.create(address, "b.dcm", dicom_files.image_bytes("b"), sent=10)
        listed = browser.get("/upload")
        assert listed.html.find("a", href=address)
        assert pages.HOSTILE not in listed.text
        page = browser.get(address)
        assert "<strong>1 file</strong>" in page.text
        assert "1 file in part" in page.text
        answer = browser.press(f"{address}/import")
        assert answer.headers["Location"] == address
        run_jobs(importer)
        assert "Everything is imported" in browser.get(address).text
        other = tus.begin(name="other")
        assert browser.press(f"{other}/import").headers["Location"].endswith("nothing-uploaded")
        assert browser.press(f"{other}/discard").headers["Location"] == "/upload?done=discarded"
        assert browser.get(other, expect_errors=True).status_int == 404

    def test_while_it_is_imported_the_page_asks_again_and_then_no_more(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        address = tus.begin(name="knee")
        tus.create(address, "a.dcm", dicom_files.image_bytes("a"))
        assert browser.get(f"{address}/status", expect_errors=True).status_int == 410
        tus.finish(address)
        running = browser.get(f"{address}/status")
        assert running.html.select_one("#upload-result")["hx-get"] == f"{address}/status"
        assert running.html.select_one("svg.spinner")
        run_jobs(importer)
        done = browser.get(f"{address}/status")
        assert not done.html.select_one("[hx-get], svg.spinner")
        assert done.html.find("a", href="/batches/1/images/1").text == "a.dcm"

    def test_its_statements_do_not_grow_with_the_batch(self, browser: Browser, tus: Tus, importer: Importer) -> None:
        numbers = []
        for many in (1, 30):
            address = tus.begin(name="knee")
            for number in range(many):
                tus.create(address, f"{number}.dcm", dicom_files.image_bytes(f"{many}/{number}"))
            tus.finish(address)
            run_jobs(importer)
            with counted(browser.app.registry["engine"]) as asked:
                browser.get(f"{address}/status")
            numbers.append(len(asked))
        assert numbers[0] == numbers[1]
        assert browser.count(Image) == 31


@on_sqlite
def test_a_stranger_begins_no_upload(stranger: Browser) -> None:
    answer = stranger.post_json("/upload", {}, headers={"Tus-Resumable": "1.0.0"}, expect_errors=True)
    assert (answer.status_int, answer.text) == (401, "Your session has ended.")
    assert stranger.post("/upload/form", {}, upload_files=[("files", "a", b"x")]).headers["Location"] == "/login?done=again"
    assert incoming(stranger) == []
