"""STOW-RS: what is stored, what is answered, and that nothing but the answer is promised."""

from __future__ import annotations

import io
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pydicom
import pytest
import sqlalchemy as sa

from dicomweb import imports, jobs
from dicomweb.imports import Importer
from dicomweb.models import Batch, Image, Job
from dicomweb.rs import storing
from dicomweb.settings import Settings
from dicomweb.storage import Storage, StorageFull
from tests import dicom_files, services
from tests.functional import api_data
from tests.functional.api_data import CheckedApp
from tests.importing import bytes_of, changed, check_consistency, codes_of, drain_everything, largest_file, rows
from tests.statements import statements

DICOM = {"Content-Type": "application/dicom"}
MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=xyz'}


def multipart(*files: bytes, boundary: str = "xyz", kind: str = "application/dicom") -> bytes:
    delimiter = b"--" + boundary.encode()
    head = f"\r\nContent-Type: {kind}\r\n\r\n".encode() if kind else b"\r\n\r\n"
    return b"".join(delimiter + head + file + b"\r\n" for file in files) + delimiter + b"--\r\n"


def store(api: CheckedApp, body: bytes, headers: dict[str, str] = MULTIPART, study: str = "") -> Any:
    path = f"/dicom-web/studies/{study}" if study else "/dicom-web/studies"
    return api.send("POST", path, body=body, headers=headers)


def items(answer: Any, tag: str) -> list[dict[str, Any]]:
    """The items of a sequence: keyword-less tags to their single values."""
    return [{name: element.get("Value", [None])[0] for name, element in item.items()} for item in answer.json.get(tag, {}).get("Value", [])]


def stored(answer: Any) -> list[dict[str, Any]]:
    return items(answer, "00081199")


def failed(answer: Any) -> list[dict[str, Any]]:
    return items(answer, "00081198")


def others(answer: Any) -> list[int]:
    return [item["00081197"] for item in items(answer, "0008119A")]


@pytest.fixture
def clean(engine: sa.Engine, settings: Settings) -> Iterator[None]:
    yield
    check_consistency(engine, Storage(settings.var / "storage", sync=False))


def incoming(settings: Settings) -> list[Path]:
    folder = imports.incoming_folder(settings)
    return sorted(folder.rglob("*.dcm")) if folder.exists() else []


@pytest.mark.usefixtures("clean")
def test_what_is_stored_is_a_batch_with_the_same_bytes(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    study = "1.2.826.0.1.7"
    files = [dicom_files.image_bytes(f"a/{number}", StudyInstanceUID=study) for number in range(3)]
    answer = store(api, multipart(*files))
    assert answer.status_int == 200
    assert answer.content_type == "application/dicom+json"
    assert answer.json["00081190"]["Value"] == [f"http://localhost/dicom-web/studies/{study}"]
    assert len(stored(answer)) == 3
    for item in stored(answer):
        assert item["00081150"] == "1.2.840.10008.5.1.4.1.1.2"
        assert item["00081190"] == f"http://localhost/dicom-web/studies/{study}/series/{item['00081190'].split('/')[7]}/instances/{item['00081155']}"
    assert set(answer.json) == {"00081190", "00081199"}
    [batch] = rows(engine, sa.select(Batch))
    assert (batch.source, batch.status, batch.image_count) == ("stow", "DONE", 3)
    assert batch.name.startswith("STOW 20")
    assert " 127.0.0.1 " in batch.name
    images = rows(engine, sa.select(Image).order_by(Image.path))
    assert [bytes_of(engine, settings, image) for image in images] == files
    assert list(imports.incoming_folder(settings).iterdir()) == []


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; type=application/dicom; boundary=xyz",
        'multipart/related; type="application/dicom"; boundary="xyz"',
        'Multipart/Related;TYPE="application/dicom";Boundary="xyz";start="<1>"; transfer-syntax="1.2.840.10008.1.2.1"',
        "multipart/related; boundary=xyz",
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_content_type_may_be_written_in_many_ways(api: CheckedApp, content_type: str) -> None:
    assert store(api, multipart(dicom_files.image_bytes("a/1")), {"Content-Type": content_type}).status_int == 200


@pytest.mark.parametrize("kind", ["application/dicom", "", 'application/dicom; transfer-syntax="1.2.840.10008.1.2.4.50"', "Application/DICOM\r\nContent-Location: x\r\nContent-ID: <a>"])
@pytest.mark.parametrize("boundary", ["xyz", "'()+_,-./:=?", "b" * 70, "----WebKit formBoundary7"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_boundary_and_every_part_header_is_taken(api: CheckedApp, kind: str, boundary: str) -> None:
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"'}
    assert store(api, multipart(dicom_files.image_bytes("a/1"), boundary=boundary, kind=kind), headers).status_int == 200


@pytest.mark.usefixtures("clean")
def test_a_single_file_needs_no_parts(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    file = dicom_files.image_bytes("a/1")
    assert store(api, file, DICOM).status_int == 200
    assert [bytes_of(engine, settings, image) for image in rows(engine, sa.select(Image))] == [file]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_answer_is_xml_when_that_is_asked_for(api: CheckedApp) -> None:
    answer = store(api, multipart(dicom_files.image_bytes("a/1"), b"no image"), {**MULTIPART, "Accept": "application/dicom+xml"})
    assert (answer.status_int, answer.content_type) == (202, "application/dicom+xml")
    found = {element.get("keyword") for element in ElementTree.fromstring(answer.body).iter() if element.get("keyword")}
    assert {"ReferencedSOPSequence", "ReferencedSOPInstanceUID", "OtherFailuresSequence", "FailureReason", "RetrieveURL"} <= found


@pytest.mark.usefixtures("clean")
def test_a_duplicate_is_a_success_without_a_second_copy(api: CheckedApp, engine: sa.Engine) -> None:
    file = dicom_files.image_bytes("a/1")
    first, second = store(api, file, DICOM), store(api, multipart(file, file))
    assert second.status_int == 200
    assert stored(second) == stored(first) * 2
    assert len(rows(engine, sa.select(Image))) == 1
    assert [list(codes_of(engine, batch).values()) for batch in rows(engine, sa.select(Batch).order_by(Batch.id))] == [["imported"], ["duplicate", "duplicate"]]


@pytest.mark.usefixtures("clean")
def test_a_conflict_is_a_warning_and_both_are_kept(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    one, other = dicom_files.image_bytes("a/1"), dicom_files.image_bytes("a/1", ImageComments="other")
    store(api, one, DICOM)
    answer = store(api, other, DICOM)
    assert answer.status_int == 202
    assert [item["00081196"] for item in stored(answer)] == [storing.BESIDE_ANOTHER]
    assert failed(answer) == []
    assert {bytes_of(engine, settings, image) for image in rows(engine, sa.select(Image))} == {one, other}


@pytest.mark.usefixtures("clean")
def test_what_cannot_be_stored_is_told_with_a_reason_and_stays_for_another_try(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    good = dicom_files.image_bytes("a/1")
    answer = store(api, multipart(good, b"no image", dicom_files.truncated_bytes(seed="cut"), b""))
    assert answer.status_int == 202
    assert len(stored(answer)) == 1
    assert others(answer) == [storing.CANNOT_UNDERSTAND] * 3
    [batch] = rows(engine, sa.select(Batch))
    assert sorted(codes_of(engine, batch).values()) == ["imported", "not-dicom", "not-dicom", "truncated"]
    assert [path.name for path in incoming(settings)] == ["000002.dcm", "000003.dcm", "000004.dcm"]


def test_nothing_stored_is_a_conflict(api: CheckedApp) -> None:
    answer = store(api, multipart(b"no image"))
    assert answer.status_int == 409
    assert answer.json["00081190"] == {"vr": "UR"}
    assert "00081199" not in answer.json


@pytest.mark.usefixtures("clean")
def test_an_instance_of_another_study_fails_and_is_not_imported(api: CheckedApp, engine: sa.Engine, importer: Importer) -> None:
    inside, outside = dicom_files.image_bytes("in/1"), dicom_files.image_bytes("out/1")
    answer = store(api, multipart(inside, outside), study=dicom_files.uid("study", "in/1"))
    assert answer.status_int == 202
    assert len(stored(answer)) == 1
    [item] = failed(answer)
    assert item["00081155"] == pydicom.dcmread(io.BytesIO(outside)).SOPInstanceUID
    assert item["00081150"] == "1.2.840.10008.5.1.4.1.1.2"
    assert item["00081197"] == storing.NOT_OF_ITS_CLASS
    assert len(rows(engine, sa.select(Image))) == 1
    [batch] = rows(engine, sa.select(Batch))
    assert sorted(codes_of(engine, batch).values()) == ["imported", "wrong-study"]
    assert api.post(f"/api/batches/{batch.id}/retry").status_int < 300
    drain_everything(importer)
    assert sorted(codes_of(engine, batch).values()) == ["imported", "wrong-study"]


@pytest.mark.parametrize("study", ["x", "1..2", "1.2.", ".1", "1" * 65, "1.2%2F..", "1.2%0D%0AX:%20y"])
def test_a_study_that_is_no_uid_is_refused(api: CheckedApp, study: str) -> None:
    assert store(api, dicom_files.image_bytes("a/1"), DICOM, study).status_int in (400, 404)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"x", {"Content-Type": "text/plain"}, 415),
        (b"x", {"Content-Type": "multipart/form-data; boundary=xyz"}, 415),
        (multipart(b"{}"), {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=xyz'}, 415),
        (multipart(b"x", kind="image/jpeg"), MULTIPART, 415),
        (multipart(b"x", kind="application/dicom\r\nContent-Transfer-Encoding: base64"), MULTIPART, 415),
        (b"x", {**DICOM, "Content-Encoding": "gzip"}, 415),
        (b"x", {"Content-Type": ";;;=\x01\x02"}, 415),
        (b"", DICOM, 400),
        (multipart(b"x"), {"Content-Type": "multipart/related; type=application/dicom"}, 400),
        (multipart(b"x"), {"Content-Type": 'multipart/related; boundary=""'}, 400),
        (multipart(b"x"), {"Content-Type": "multipart/related; boundary=other"}, 400),
        (multipart(b"x"), {"Content-Type": "multipart/related; boundary=" + "x" * 300}, 400),
        (multipart(b"x")[:-6], MULTIPART, 400),
        (multipart(), MULTIPART, 400),
        (b"", MULTIPART, 400),
        (b"--xyz\r\n" + b"X: " + b"y" * 40_000, MULTIPART, 400),
        (b"--xyz\r\nno header\r\n\r\nx\r\n--xyz--", MULTIPART, 400),
        (multipart(b"x"), {**MULTIPART, "Accept": "text/html"}, 406),
        (multipart(b"x"), {**MULTIPART, "Accept": "application/dicom+json;q=0"}, 406),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_no_request_to_store_is_refused_and_leaves_nothing(
    api: CheckedApp, engine: sa.Engine, settings: Settings, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = store(api, body, headers)
    assert answer.status_int == status, answer.text
    assert answer.json["message"]
    assert rows(engine, sa.select(Batch)) == []
    assert incoming(settings) == []


def test_a_part_of_another_kind_fails_and_the_others_are_stored(api: CheckedApp) -> None:
    body = multipart(dicom_files.image_bytes("a/1"))[: -len(b"--xyz--\r\n")] + multipart(b"x", kind="image/jpeg")
    answer = store(api, body)
    assert answer.status_int == 202
    assert len(stored(answer)) == 1
    assert others(answer) == [storing.SOP_CLASS_NOT_SUPPORTED]


@pytest.mark.usefixtures("clean")
def test_the_boundary_within_a_file_is_content(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    file = dicom_files.image_bytes("a/1", ImageComments="x\r\n--xyzw\r\nContent-Type: application/dicom\r\n\r\n--xyz")
    assert store(api, multipart(file)).status_int == 200
    assert bytes_of(engine, settings, rows(engine, sa.select(Image))[0]) == file


def test_names_of_a_sender_are_used_nowhere(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    kind = 'application/dicom\r\nContent-Disposition: attachment; filename="../../../evil\x00.dcm"\r\nContent-Location: /etc/passwd'
    before = set(settings.var.parent.rglob("evil*"))
    assert store(api, multipart(dicom_files.image_bytes("a/1"), kind=kind)).status_int == 200
    assert [image.path for image in rows(engine, sa.select(Image))] == ["000001.dcm"]
    assert set(settings.var.parent.rglob("evil*")) == before


@pytest.mark.usefixtures("clean")
def test_a_large_request_is_left_to_the_workers_and_told_when_they_are_done(
    api: CheckedApp, importer: Importer, monkeypatch: pytest.MonkeyPatch, engine: sa.Engine
) -> None:
    monkeypatch.setattr(storing, "INLINE_FILES", 2)
    waits = []

    def work(own: Importer, batch_id: int, *, seconds: float) -> bool:
        waits.append(seconds)
        drain_everything(importer)
        return imports.deliveries.wait_until_done(own, batch_id, seconds=seconds)

    monkeypatch.setattr(imports, "wait_until_done", work)
    files = [dicom_files.image_bytes(f"a/{number}") for number in range(5)]
    store(api, files[0], DICOM)
    other = dicom_files.image_bytes("a/1", ImageComments="other")
    answer = store(api, multipart(*files, other, b"no image"))
    assert answer.status_int == 202
    assert len(waits) == 1
    uids = [pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID for file in (*files, other)]
    assert [item["00081155"] for item in stored(answer)] == uids
    assert [item.get("00081196") for item in stored(answer)] == [None] * 5 + [storing.BESIDE_ANOTHER]
    assert all(item["00081150"] == "1.2.840.10008.5.1.4.1.1.2" for item in stored(answer))
    assert others(answer) == [storing.CANNOT_UNDERSTAND]
    assert len(rows(engine, sa.select(Image))) == 6


def test_a_request_that_takes_too_long_is_answered_with_what_is_known_and_the_import_goes_on(
    settings: Settings, importer: Importer, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = api_data.make_app(settings, **{"stow.wait_seconds": "0"})
    api = CheckedApp(app)
    monkeypatch.setattr(storing, "INLINE_FILES", 1)
    body = multipart(*(dicom_files.image_bytes(f"a/{number}") for number in range(3)))
    answer = store(api, body)
    assert answer.status_int == 202
    assert answer.headers["Warning"] == '299 http://localhost/dicom-web: "The import goes on; what is not told of here is not stored yet."'
    assert stored(answer) == failed(answer) == others(answer) == []
    assert len(incoming(settings)) == 3
    in_xml = store(api, body, {**MULTIPART, "Accept": "application/dicom+xml"})
    assert (in_xml.status_int, in_xml.content_type, in_xml.headers["Warning"]) == (202, "application/dicom+xml", answer.headers["Warning"])
    assert [one.attrib["keyword"] for one in ElementTree.fromstring(in_xml.body)] == ["RetrieveURL"]
    api_data.close(app)
    drain_everything(importer)
    assert [batch.image_count for batch in rows(engine, sa.select(Batch).order_by(Batch.id))] == [3, 0]
    assert incoming(settings) == []


@pytest.mark.usefixtures("clean")
def test_an_import_that_fails_at_once_is_left_to_the_workers(
    settings: Settings, importer: Importer, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = api_data.make_app(settings, **{"stow.wait_seconds": "0"})
    api = CheckedApp(app)

    def full(*_arguments: Any) -> None:
        raise StorageFull("Files cannot be stored: the disk of the state folder is full.")

    monkeypatch.setattr(imports, "import_begun_chunk", full)
    answer = store(api, dicom_files.image_bytes("a/1"), DICOM)
    api_data.close(app)
    assert answer.status_int == 202
    [job] = rows(engine, sa.select(Job))
    assert (job.status, job.attempts) == ("queued", 0)
    drain_everything(importer)
    assert rows(engine, sa.select(Batch))[0].image_count == 1


@pytest.mark.usefixtures("clean")
def test_a_worker_finishes_what_a_dead_web_server_had_begun(engine: sa.Engine, settings: Settings, importer: Importer) -> None:
    delivery = imports.Delivery(settings, "stow")
    delivery.add([dicom_files.image_bytes("a/1")])
    batch, job = imports.announce(importer, delivery, "STOW", source="stow", inline="web:1:x")
    delivery.close()
    assert job is not None
    assert imports.clear_left(importer) == 0
    with importer.work() as dbsession:
        late = importer.clock() + jobs.timedelta(seconds=settings["jobs.lease_seconds"] + 1)
        jobs.sweep(dbsession, max_attempts=5, now=late)
    importer.clock = lambda: late
    drain_everything(importer)
    assert codes_of(engine, batch) == {"000001.dcm": "imported"}
    with pytest.raises(jobs.LeaseLost):
        imports.import_begun_chunk(importer, job)
    assert incoming(settings) == []


def test_what_a_dead_request_left_is_removed_and_what_is_wanted_stays(settings: Settings, importer: Importer, api: CheckedApp) -> None:
    def old(delivery: imports.Delivery) -> None:
        os.utime(delivery.folder, (1, 1))

    dead, alive = imports.Delivery(settings, "stow"), imports.Delivery(settings, "stow")
    for delivery in (dead, alive):
        delivery.add([b"half a file"])
        old(delivery)
    dead.close()
    store(api, multipart(b"no image"))
    assert imports.clear_left(importer) == 1
    assert not dead.folder.exists()
    assert alive.folder.exists()
    assert len(incoming(settings)) == 2
    alive.abandon()


@pytest.mark.usefixtures("clean")
def test_the_failed_files_of_a_deleted_batch_go_with_it(api: CheckedApp, engine: sa.Engine, settings: Settings, importer: Importer) -> None:
    store(api, multipart(dicom_files.image_bytes("a/1"), b"no image"))
    assert len(incoming(settings)) == 1
    [batch] = rows(engine, sa.select(Batch))
    api.delete(f"/api/batches/{batch.id}?at_once=true")
    drain_everything(importer)
    assert rows(engine, sa.select(Batch)) == []
    assert incoming(settings) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_by_reference_what_came_over_the_network_is_stored_all_the_same(settings: Settings, engine: sa.Engine) -> None:
    by_reference = changed(settings, import__mode="reference")
    app = api_data.make_app(by_reference, **{"import.mode": "reference"})
    file = dicom_files.image_bytes("a/1")
    assert store(CheckedApp(app), file, DICOM).status_int == 200
    api_data.close(app)
    assert bytes_of(engine, settings, rows(engine, sa.select(Image))[0]) == file


def test_without_room_on_the_disk_nothing_is_begun(api: CheckedApp, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 40, 1 << 40, 1 << 20))
    answer = store(api, dicom_files.image_bytes("a/1"), DICOM)
    assert answer.status_int == 507
    assert incoming(settings) == []


def test_a_disk_that_becomes_full_is_told_and_leaves_nothing(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    files = dicom_files.image_bytes("a/1"), dicom_files.image_bytes("a/2", EncapsulatedDocument=bytes(3 << 20))
    # More than the database needs for its own.
    with largest_file(2 << 20):
        answer = store(api, multipart(*files))
    assert answer.status_int == 507, answer.text
    assert answer.json["message"].endswith(".")
    assert rows(engine, sa.select(Batch)) == []
    assert list(imports.incoming_folder(settings).iterdir()) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("clean")
def test_without_its_database_nothing_is_promised_and_what_is_sent_again_is_stored(
    api: CheckedApp, engine: sa.Engine, settings: Settings, postgresql: services.PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dicom_files.image_bytes("a/1")
    name = engine.url.database or ""
    engine.dispose()
    with postgresql.away(name):
        for answer in (store(api, file, DICOM), api.send("GET", "/dicom-web/studies"), api.send("GET", "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1")):
            assert (answer.status_int, answer.headers.get("Retry-After")) == (503, "5"), answer.text
            assert "database" in answer.json["message"]
    assert incoming(settings) == []
    really = storing._import

    def lost(*arguments: Any) -> Any:
        with postgresql.away(name):
            return really(*arguments)

    with monkeypatch.context() as patch:
        # When the batch is there, and before its images are.
        patch.setattr(storing, "_import", lost)
        answer = store(api, file, DICOM)
    assert (answer.status_int, answer.headers.get("Retry-After")) == (503, "5")
    assert len(incoming(settings)) == 1
    again = store(api, file, DICOM)
    assert again.status_int == 200
    # A lease that nobody renews ends, and a worker takes the job over.
    importer = api_data.importer_of(settings, engine)
    late = importer.clock() + jobs.timedelta(seconds=settings["jobs.lease_seconds"] + 1)
    importer.clock = lambda: late
    with importer.work() as dbsession:
        jobs.sweep(dbsession, max_attempts=5, now=late)
    drain_everything(importer)
    assert len(rows(engine, sa.select(Image))) == 1
    assert sorted(code for batch in rows(engine, sa.select(Batch)) for code in codes_of(engine, batch).values()) == ["duplicate", "imported"]
    assert incoming(settings) == []


def test_the_password_is_needed_and_a_foreign_page_is_refused(api: CheckedApp, engine: sa.Engine) -> None:
    body = dicom_files.image_bytes("a/1")
    assert api.stranger("POST", "/dicom-web/studies", DICOM, body=body).status_int == 401
    assert store(api, body, {**DICOM, "Sec-Fetch-Site": "cross-site"}).status_int == 403
    session = api_data.begin_session(engine)
    assert api.stranger("POST", "/dicom-web/studies", {**DICOM, **session}, body=body).status_int == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_storing_one_more_image_of_a_known_series_takes_few_statements(api: CheckedApp) -> None:
    store(api, multipart(*(dicom_files.image_bytes(f"a/{number}", SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2") for number in range(2))))
    engine = api.app.registry["engine"]
    with statements(engine) as ran:
        store(api, dicom_files.image_bytes("a/9", SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2"), DICOM)
    assert len(ran) <= 20, ran
