"""``/api/batches`` and what hangs on a batch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb import batches
from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Batch, Image, Outcome
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import api_data
from tests.functional.api_data import CheckedApp
from tests.statements import statements


@pytest.fixture
def many(engine: sa.Engine) -> list[str]:
    """The names of twelve batches, of which every third has an error and every fourth is still being processed."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    names = [f"batch 100% {number:02d}" for number in range(1, 13)]
    with work(engine) as dbsession:
        dbsession.add_all(
            Batch(
                name=name,
                status="PROCESSING" if number % 4 == 0 else "DONE",
                has_error=number % 3 == 0,
                created_at=now.replace(day=13 - number),
                modified_at=now,
            )
            for number, name in enumerate(names, 1)
        )
    return names


def names_of(answer: Any) -> list[str]:
    return [batch["name"] for batch in answer.json["results"]]


def test_a_batch_tells_its_counts_and_its_first_errors(api: CheckedApp, imported: int) -> None:
    batch = api.get(f"/api/batches/{imported}").json
    assert batch["name"] == "samples"
    assert batch["status"] == "DONE"
    assert batch["progress"] == 1
    assert batch["has_error"] is True
    assert (batch["files_count"], batch["done_count"]) == (10, 10)
    assert (batch["images_count"], batch["errors_count"], batch["notices_count"]) == (7, 3, 1)
    found = {(error["file"], error["kind"]) for error in batch["errors"]}
    assert {("broken.dcm", "error"), ("notes.txt", "error")} < found
    [conflict] = [error for error in batch["errors"] if error["kind"] == "conflict"]
    assert (
        api.get(conflict["image_url"]).json["sop_instance_uid"]
        == api.get(conflict["other_image_url"]).json["sop_instance_uid"]
    )
    assert batch["created_at"].endswith("Z")


def test_the_errors_and_the_notices_of_a_batch_are_paged(api: CheckedApp, imported: int) -> None:
    batch = api.get(f"/api/batches/{imported}").json
    first = api.get(f"{batch['errors_url']}?page_size=2").json
    second = api.get(first["next"]).json
    assert first["count"] == second["count"] == 3
    assert [*first["results"], *second["results"]] == batch["errors"]
    [notice] = api.get(batch["notices_url"]).json["results"]
    assert notice["kind"] == "duplicate"
    assert api.get(notice["image_url"]).json["id"] == notice["image"]


def test_only_the_first_hundred_errors_are_in_the_batch_itself(
    api: CheckedApp, imported: int, engine: sa.Engine
) -> None:
    with work(engine) as dbsession:
        dbsession.add_all(
            Outcome(
                batch_id=imported, path=f"more/{number}", kind="error", code="x", message="No.", at=datetime.now(UTC)
            )
            for number in range(150)
        )
    batch = api.get(f"/api/batches/{imported}").json
    assert len(batch["errors"]) == 100
    assert api.get(batch["errors_url"]).json["count"] == 153


def test_batches_are_filtered_and_sorted(api: CheckedApp, many: list[str]) -> None:
    for query, wanted in (
        ("", range(1, 13)),
        ("status=PROCESSING", (4, 8, 12)),
        ("has_error=true", (3, 6, 9, 12)),
        ("has_error=false&status=PROCESSING", (4, 8)),
        ("name=ATCH 100%25 1", (10, 11, 12)),
        ("name=100_", ()),
        ("sort=-id", range(12, 0, -1)),
        ("sort=-name", range(12, 0, -1)),
        ("sort=created_at", range(12, 0, -1)),
        ("sort=modified_at", range(1, 13)),
        ("sort=-modified_at", range(12, 0, -1)),
    ):
        answer = api.get(f"/api/batches?{query}")
        assert (query, names_of(answer)) == (query, [many[number - 1] for number in wanted])
        assert answer.json["count"] == len(wanted)


def test_following_next_meets_every_batch_once_and_previous_leads_back(api: CheckedApp, many: list[str]) -> None:
    address, met, addresses = "/api/batches?has_error=false&sort=-name&page_size=3", [], []
    while address:
        addresses.append(address)
        answer = api.get(address).json
        met += [batch["name"] for batch in answer["results"]]
        last, address = answer, answer["next"]
    assert met == [name for number, name in reversed(list(enumerate(many, 1))) if number % 3]
    assert len(addresses) == 3
    assert all("has_error=false" in one and "sort=-name" in one for one in addresses)
    assert api.get(last["previous"]).json["results"] == api.get(addresses[1]).json["results"]
    assert api.get(addresses[0]).json["previous"] is None


def test_addresses_are_relative_to_the_host(api: CheckedApp, many: list[str]) -> None:
    answer = api.get("/api/batches?page_size=1&page=2", headers={"Host": "evil.example"})
    assert "evil.example" not in answer.text
    assert answer.json["next"] == "/api/batches?page_size=1&page=3"


def test_a_page_beyond_the_end_is_empty_and_leads_back_to_the_last_one(api: CheckedApp, many: list[str]) -> None:
    answer = api.get("/api/batches?page=1000000000&page_size=1000").json
    assert (answer["count"], answer["results"], answer["next"]) == (12, [], None)
    assert answer["previous"] == "/api/batches?page=1&page_size=1000"


def test_a_wrong_parameter_is_named(api: CheckedApp) -> None:
    for query, name in (
        ("nope=1", "nope"),
        ("page=0", "page"),
        ("page=1_0", "page"),
        ("page=1&page=2", "page"),
        ("page=9999999999999999999999", "page"),
        ("page_size=1001", "page_size"),
        ("status=", "status"),
        ("status=done", "status"),
        ("has_error=1", "has_error"),
        ("name=%00", "name"),
        ("sort=path", "sort"),
    ):
        answer = api.get(f"/api/batches?{query}", status=400).json
        assert [(error["location"], error["name"]) for error in answer["errors"]] == [("querystring", name)]
        assert answer["errors"][0]["description"].endswith(".")


def test_each_wrong_parameter_has_its_sentence(api: CheckedApp) -> None:
    answer = api.get("/api/batches?page=x&page_size=0&has_error=maybe", status=400).json
    assert {error["name"] for error in answer["errors"]} == {"page", "page_size", "has_error"}


def test_a_retry_imports_what_was_mended(
    api: CheckedApp, imported: int, importer: Importer, settings: Settings
) -> None:
    (settings["watch.folders"][0] / "samples" / "broken.dcm").write_bytes(dicom_files.image_bytes("broken"))
    answer = api.post(f"/api/batches/{imported}/retry", status=202).json
    assert answer == {"retried": 2, "batch_url": f"/api/batches/{imported}"}
    assert api.get(answer["batch_url"]).json["status"] == "PROCESSING"
    api_data.run_jobs(importer)
    batch = api.get(answer["batch_url"]).json
    assert (batch["status"], batch["images_count"], batch["errors_count"]) == ("DONE", 8, 2)


def test_a_deleted_batch_is_shown_as_being_deleted_until_it_is_gone(
    api: CheckedApp, imported: int, importer: Importer, engine: sa.Engine
) -> None:
    assert api.delete(f"/api/batches/{imported}?at_once=true", status=202).json["deleting"] is True
    assert api.get("/api/batches").json["results"][0]["deleting"] is True
    assert (
        api.delete(f"/api/batches/{imported}", status=409).json["errors"][0]["description"]
        == "The batch is being deleted."
    )
    api.post(f"/api/batches/{imported}/retry", status=409)
    api_data.run_jobs(importer)
    api.get(f"/api/batches/{imported}", status=404)
    with work(engine, read_only=True) as dbsession:
        assert dbsession.scalar(sa.select(sa.func.count(Image.id))) == 0


def test_a_deletion_can_be_taken_back_until_its_time_comes(api: CheckedApp, imported: int, importer: Importer) -> None:
    batch = f"/api/batches/{imported}"
    api.post(f"{batch}/keep", status=409)
    leaving = api.delete(batch, status=202).json
    assert (leaving["deleting"], leaving["delete_at"] is None) == (False, False)
    assert "to be deleted already" in api.delete(batch, status=409).json["errors"][0]["description"]
    api_data.run_jobs(importer)
    assert api.post(f"{batch}/keep").json["delete_at"] is None
    assert api.get(batch).json["images_count"] == 7
    api.delete(batch, status=202)
    api.delete(f"{batch}?at_once=true", status=202)
    api.post(f"{batch}/keep", status=409)


def test_what_is_refused_changes_nothing(api: CheckedApp, imported: int, engine: sa.Engine) -> None:
    for body, content_type, status in (
        (b"x" * 70_000, "application/json", 413),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"not json", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"force": true}', "application/json", 400),
    ):
        answer = api.send("DELETE", f"/api/batches/{imported}", body=body, headers={"Content-Type": content_type})
        assert answer.status_int == status
    with work(engine, read_only=True) as dbsession:
        assert dbsession.scalar(sa.select(Batch.deleting)) is False


def test_an_empty_json_object_is_no_body(api: CheckedApp, imported: int) -> None:
    api.post_json(f"/api/batches/{imported}/retry", {}, status=202)


def test_the_list_takes_as_many_statements_for_a_thousand_batches_as_for_one(api: CheckedApp, many: list[str]) -> None:
    with statements(api.app.registry["engine"]) as one:
        api.get("/api/batches?page_size=1&sort=name")
    with statements(api.app.registry["engine"]) as all_of_them:
        api.get("/api/batches?page_size=1000&sort=name")
    assert len(one) == len(all_of_them) == 2


def test_names_that_are_not_utf8_are_shown_escaped(api: CheckedApp, engine: sa.Engine, settings: Settings) -> None:
    with work(engine) as dbsession:
        batch = batches.claim_arrival(
            dbsession, str(settings["watch.folders"][0] / "caf\udce9\n<b>"), stamp="1", now=datetime.now(UTC)
        )
        assert batch is not None
    found = api.get(f"/api/batches/{batch.id}").json
    assert found["path"].endswith("caf\\xe9\n<b>")
