"""``/api/images``: lists, headers, bytes, deletion."""

from __future__ import annotations

import hashlib

import pydicom
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import GroupDocument, Image, Outcome, Series
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import api_data
from tests.functional.api_data import CheckedApp
from tests.statements import statements


def image_of(api: CheckedApp, file: str) -> dict[str, object]:
    [found] = [image for image in api.get("/api/images?page_size=1000").json["results"] if image["file"] == file]
    return api.get(found["url"]).json


def test_an_image_tells_what_it_belongs_to(api: CheckedApp, imported: int) -> None:
    image = image_of(api, "two/IM00002.dcm")
    assert image["batch_url"] == f"/api/batches/{imported}"
    assert image["modality"] == "MR"
    assert image["instance_number"] == 2
    assert api.get(image["series_url"]).json["images_count"] == 2
    study = api.get(image["study_url"]).json
    assert study["modalities"] == ["CT", "MR"]
    # The file in conflict has the series of its twin, and a study of its own.
    assert study["study_instance_uid"] == image["study_instance_uid"]


def test_the_headers_are_those_of_the_file(api: CheckedApp, imported: int, settings: Settings) -> None:
    image = image_of(api, "one/IM00002.dcm")
    path = settings["watch.folders"][0] / "samples" / "one" / "IM00002.dcm"
    expected = pydicom.dcmread(path, stop_before_pixels=True)
    found = pydicom.Dataset.from_json({tag: element for tag, element in image["headers"].items() if tag != "7FE00010"})
    assert {elem.tag: elem.value for elem in found} == {elem.tag: elem.value for elem in expected}
    assert image["file_meta"]["00020010"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert image["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_hostile_and_control_characters_come_out_as_valid_json(api: CheckedApp, imported: int) -> None:
    image = image_of(api, "a ho'stile <b>.dcm")
    assert image["headers"]["00100010"]["Value"][0]["Alphabetic"] == api_data.HOSTILE
    assert image["headers"]["00204000"]["Value"] == ["\x01\x1f\x7f"]
    assert api.get("/api/series?modality=CT").content_type == "application/json"


def test_the_file_comes_back_byte_for_byte_as_an_attachment(api: CheckedApp, imported: int, settings: Settings) -> None:
    image = image_of(api, "a ho'stile <b>.dcm")
    answer = api.get(image["file_url"])
    assert answer.body == (settings["watch.folders"][0] / "samples" / "a ho'stile <b>.dcm").read_bytes()
    assert answer.headers["Content-Disposition"] == f'attachment; filename="image-{image["id"]}.dcm"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.content_length == image["size"]
    assert api.head(image["file_url"]).body == b""


def test_a_file_whose_bytes_are_gone_is_a_404_with_a_reason(api: CheckedApp, imported: int, settings: Settings) -> None:
    image = image_of(api, "one/IM00001.dcm")
    for path in (settings.var / "storage").rglob("*"):
        if path.is_file():
            path.unlink()
    answer = api.get(image["file_url"], status=404).json
    assert "cannot be opened" in answer["errors"][0]["description"]
    assert str(settings.var) not in answer["errors"][0]["description"]


def test_an_image_that_waits_has_no_header_and_no_bytes_yet(
    api: CheckedApp, importer: Importer, settings: Settings
) -> None:
    folder = settings["watch.folders"][0] / "waiting"
    dicom_files.write_series(folder, images=2)
    api_data.import_folder(importer, folder, most_jobs=1)
    [first, _] = api.get("/api/images?status=NEW").json["results"]
    image = api.get(first["url"]).json
    assert (image["status"], image["headers"], image["file_meta"], image["file_url"]) == ("NEW", {}, {}, None)
    api.get(f"{first['url']}/file", status=409)
    api.delete(first["url"], status=409)


def test_images_are_filtered(api: CheckedApp, imported: int) -> None:
    series = image_of(api, "two/IM00001.dcm")["series"]
    uid = dicom_files.uid("instance", "one/0")
    for query, count in (
        ("", 7),
        (f"batch={imported}", 7),
        ("batch=999", 0),
        ("status=DONE", 7),
        (f"status=DONE&batch={imported}", 7),
        ("status=NEW", 0),
        (f"status=PROCESSING&batch={imported}", 0),
        ("has_error=true", 1),
        ("has_error=false&status=DONE", 6),
        (f"series={series}", 2),
        (f"series={series}&status=DONE", 2),
        (f"series={series}&batch=999", 0),
        (f"sop_instance_uid={uid}", 2),
        (f"sop_instance_uid={uid}&has_error=true", 1),
    ):
        answer = api.get(f"/api/images?{query}").json
        assert (query, answer["count"], len(answer["results"])) == (query, count, count)


def test_pages_of_images_hold_each_once_in_both_directions(api: CheckedApp, imported: int) -> None:
    for sort in ("id", "-id"):
        ids, address = [], f"/api/images?page_size=2&sort={sort}"
        while address:
            answer = api.get(address).json
            ids += [image["id"] for image in answer["results"]]
            address = answer["next"]
        assert ids == sorted(set(ids), reverse=sort == "-id")
        assert len(ids) == answer["count"] == 7


def test_images_added_meanwhile_come_after_those_already_read(
    api: CheckedApp, imported: int, importer: Importer, settings: Settings
) -> None:
    first = api.get("/api/images?page_size=4").json
    folder = settings["watch.folders"][0] / "later"
    dicom_files.write_series(folder, images=3)
    api_data.import_folder(importer, folder)
    second = api.get(first["next"]).json
    third = api.get(second["next"]).json
    ids = [image["id"] for page in (first, second, third) for image in page["results"]]
    assert len(ids) == len(set(ids)) == third["count"] == 10


def test_deleting_an_image_leaves_nothing_of_it(
    api: CheckedApp, imported: int, importer: Importer, engine: sa.Engine
) -> None:
    for image in api.get("/api/images?page_size=1000").json["results"]:
        answer = api.delete(image["url"], status=204)
        assert answer.body == b""
        api.delete(image["url"], status=404)
    api_data.run_jobs(importer)
    with work(engine, read_only=True) as dbsession:
        for model in (Image, Series, GroupDocument):
            assert dbsession.scalar(sa.select(sa.func.count()).select_from(model)) == 0
        assert dbsession.scalar(sa.select(sa.func.count(Outcome.id)).where(Outcome.kind == "conflict")) == 0
    assert api.get(f"/api/batches/{imported}").json["images_count"] == 0


def test_an_image_of_a_batch_that_is_being_deleted_is_left_to_the_worker(api: CheckedApp, imported: int) -> None:
    api.delete(f"/api/batches/{imported}?at_once=true")
    api.delete(image_of(api, "one/IM00001.dcm")["url"], status=409)


def test_counts_are_those_of_the_table_whatever_happens_to_the_batches(
    api: CheckedApp, imported: int, importer: Importer, settings: Settings, engine: sa.Engine
) -> None:
    def check() -> None:
        with work(engine, read_only=True) as dbsession:
            rows = dbsession.execute(sa.select(Image.batch_id, Image.status)).all()
        for batch in (None, 1, 2, 3):
            for status in (None, "NEW", "PROCESSING", "DONE"):
                chosen = {"batch": batch, "status": status}
                found = api.get(
                    "/api/images", {name: value for name, value in chosen.items() if value is not None}
                ).json
                expected = [row for row in rows if batch in (None, row.batch_id) and status in (None, row.status)]
                assert (chosen, found["count"]) == (chosen, len(expected)) == (chosen, len(found["results"]))

    root = settings["watch.folders"][0]
    check()
    dicom_files.write_series(root / "later", images=2, seed="later")
    (root / "later" / "twin.dcm").write_bytes((root / "samples" / "one" / "IM00002.dcm").read_bytes())
    api_data.import_folder(importer, root / "later", most_jobs=1)
    check()
    api_data.run_jobs(importer)
    check()
    (root / "samples" / "broken.dcm").write_bytes(dicom_files.image_bytes("broken"))
    api.post(f"/api/batches/{imported}/retry")
    check()
    api_data.run_jobs(importer)
    api.delete(image_of(api, "one/IM00003.dcm")["url"])
    check()
    # The duplicate in the other batch takes the place of the image that it was a duplicate of.
    api.delete(image_of(api, "one/IM00002.dcm")["url"])
    check()
    api_data.run_jobs(importer)
    assert image_of(api, "twin.dcm")["status"] == "DONE"
    api.delete(f"/api/batches/{imported}")
    check()
    api_data.run_jobs(importer)
    check()


def test_lists_take_as_many_statements_for_many_rows_as_for_one(api: CheckedApp, imported: int) -> None:
    engine = api.app.registry["engine"]
    for path in (
        "/api/images",
        "/api/images?status=DONE",
        "/api/series",
        "/api/studies",
        f"/api/series?batch={imported}",
    ):
        mark = "&" if "?" in path else "?"
        with statements(engine) as one:
            api.get(f"{path}{mark}page_size=1")
        with statements(engine) as many:
            assert len(api.get(f"{path}{mark}page_size=1000").json["results"]) > 1
        assert len(one) == len(many) <= 3
