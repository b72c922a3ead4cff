"""Arrivals, jobs, series, studies, header elements, and the state of the application."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from dicomweb import batches, jobs, watching
from dicomweb.batches import Waiting
from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Job, Worker
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import api_data
from tests.functional.api_data import CheckedApp
from tests.statements import statements


@pytest.fixture
def waiting(settings: Settings, engine: sa.Engine) -> None:
    """A folder with two files and a loose file wait."""
    root = settings["watch.folders"][0]
    dicom_files.write_series(root / "knee", images=2)
    now = datetime.now(UTC)
    with work(engine) as dbsession:
        batches.report_arrivals(
            dbsession,
            [
                Waiting(str(root / "knee"), True, 2, 5000, now, "Its sentinel .done is missing."),
                Waiting(str(root / "loose\udce9.dcm"), False, 1, 500, now, "A loose file is not imported."),
            ],
            now=now,
        )


def test_a_waiting_folder_is_imported_on_demand_once(api: CheckedApp, waiting: None, importer: Importer) -> None:
    folder, loose = api.get("/api/arrivals").json["results"]
    assert (folder["files_count"], folder["bytes"], folder["is_folder"]) == (2, 5000, True)
    assert loose["path"].endswith("loose\\xe9.dcm")
    assert loose["import_url"] is None
    batch = api.post(folder["import_url"], status=201).json
    assert batch["name"] == "knee"
    api.get(folder["url"], status=404)
    api.post(folder["import_url"], status=404)
    api_data.run_jobs(importer)
    assert api.get(batch["url"]).json["images_count"] == 2


def test_a_loose_file_cannot_be_imported(api: CheckedApp, waiting: None) -> None:
    loose = api.get("/api/arrivals").json["results"][1]
    api.post(f"{loose['url']}/import", status=409)
    assert api.get(loose["url"]).json == loose


def test_a_failed_job_is_tried_again_once(
    api: CheckedApp, imported: int, importer: Importer, engine: sa.Engine
) -> None:
    now = datetime.now(UTC)
    with work(engine) as dbsession:
        job = jobs.enqueue(dbsession, "delete_batch", {"secret": "payload"}, now=now, batch_id=imported)
        job.status, job.attempts, job.error, job.finished_at = "failed", 5, "It failed.", now
    [failed] = api.get("/api/jobs?status=failed").json["results"]
    assert (failed["error"], failed["attempts"], failed["batch_url"]) == ("It failed.", 5, f"/api/batches/{imported}")
    assert "payload" not in failed
    assert api.post(failed["retry_url"], status=202).json["status"] == "queued"
    api.post(failed["retry_url"], status=409)
    again = api.get(failed["url"]).json
    assert (again["attempts"], again["retry_url"]) == (0, None)


def test_jobs_are_filtered_and_sorted(api: CheckedApp, imported: int) -> None:
    done = api.get("/api/jobs?status=done").json
    assert done["count"] == api.get(f"/api/jobs?batch={imported}").json["count"] > 1
    newest = api.get("/api/jobs?status=done&sort=-id").json
    assert [job["id"] for job in newest["results"]] == [job["id"] for job in done["results"]][::-1]
    assert api.get("/api/jobs?batch=999").json["count"] == 0


def test_series_are_filtered(api: CheckedApp, imported: int) -> None:
    every = api.get("/api/series").json
    assert every["count"] == 4
    for series in every["results"]:
        assert api.get(series["url"]).json == series
        assert api.get(series["images_url"]).json["count"] == series["images_count"]
        assert series in api.get(f"/api/series?study={series['study']}").json["results"]
        uid = series["series_instance_uid"]
        assert api.get(f"/api/series?series_instance_uid={uid}").json["results"] == [series]
    assert [one["modality"] for one in api.get("/api/series?modality=MR").json["results"]] == ["MR"]
    assert api.get(f"/api/series?batch={imported}").json["count"] == 4
    assert api.get("/api/series?batch=999").json["count"] == 0
    assert api.get("/api/series?sort=-id").json["results"] == every["results"][::-1]


def test_studies_are_filtered(api: CheckedApp, imported: int) -> None:
    every = api.get("/api/studies").json
    assert sum(study["images_count"] for study in every["results"]) == 7
    assert sum(study["series_count"] for study in every["results"]) == 4
    for study in every["results"]:
        assert api.get(study["url"]).json == study
        assert api.get(study["series_url"]).json["count"] == study["series_count"]
        uid = study["study_instance_uid"]
        assert api.get(f"/api/studies?study_instance_uid={uid}").json["results"] == [study]
    [hostile] = api.get("/api/studies?patient_id=P2").json["results"]
    assert hostile["patient"]["patient_name"] == api_data.HOSTILE
    assert api.get("/api/studies?study_date=20240131").json["count"] == every["count"]
    assert api.get("/api/studies?study_date=19000101").json["count"] == 0
    assert api.get("/api/studies?accession_number=A0001").json["count"] == every["count"]
    assert api.get(f"/api/studies?batch={imported}&sort=-id").json["results"] == every["results"][::-1]
    api.get("/api/studies?study_date=2024-01-31", status=400)


def test_header_elements_tell_how_many_images_have_them(api: CheckedApp, imported: int) -> None:
    every = api.get("/api/headers?page_size=1000").json
    elements = {element["path"]: element for element in every["results"]}
    assert list(elements) == sorted(elements)
    assert every["count"] == len(elements)
    assert elements["00080060"] == {
        "path": "00080060",
        "keyword": "Modality",
        "vr": "CS",
        "images_count": 7,
        "examples": ["CT", "MR"],
    }
    assert elements["00204000"]["images_count"] == 2
    assert elements["00081140/00081155"]["keyword"] == "ReferencedSOPInstanceUID"
    assert elements["0019[EXAMPLE PRIVATE 1.0]02"]["keyword"] == ""
    assert elements["00100010"]["images_count"] == 7
    assert api_data.HOSTILE in elements["00100010"]["examples"]


def test_header_elements_are_found_by_path_and_by_keyword(api: CheckedApp, imported: int) -> None:
    def paths(text: str) -> list[str]:
        return [element["path"] for element in api.get("/api/headers", {"text": text}).json["results"]]

    assert paths("slice") == ["00180050", "00201041"]
    assert paths("00081140") == ["00081140", "00081140/00081150", "00081140/00081155"]
    assert paths("0019[example") == ["0019[EXAMPLE PRIVATE 1.0]02", "0019[EXAMPLE PRIVATE 1.0]03"]
    assert paths("%") == []


def test_header_elements_are_paged(api: CheckedApp, imported: int) -> None:
    engine = api.app.registry["engine"]
    with statements(engine) as few:
        first = api.get("/api/headers?page_size=2").json
    with statements(engine) as many:
        every = api.get("/api/headers?page_size=200").json
    assert len(few) == len(many)
    second = api.get(first["next"]).json
    assert [*first["results"], *second["results"]] == every["results"][:4]


def test_the_state_tells_of_watcher_workers_queue_and_totals(
    api: CheckedApp, imported: int, waiting: None, engine: sa.Engine, settings: Settings
) -> None:
    assert api.get("/api/watcher").json["watcher"]["active"] is False
    now = datetime.now(UTC)
    record = watching.this_process(now=now)
    watching.pid_file(settings).write_text(json.dumps(watching.as_json(record)))
    with work(engine) as dbsession:
        dbsession.add(Worker(name="here:1", started_at=now, seen_at=now))
        dbsession.add(Job(kind="x", payload={}, status="failed", due_at=now, created_at=now))
    state = api.get("/api/watcher").json
    assert (state["watcher"]["active"], state["watcher"]["pid"]) == (True, record.pid)
    assert [worker["name"] for worker in state["workers"]] == ["here:1"]
    assert state["workers_expected"] == 5
    assert state["queue"]["failed"] == 1
    assert state["waiting"] == 2
    totals = state["totals"]
    assert (totals["batches"], totals["images"], totals["series"], totals["errors"]) == (1, 7, 4, 3)
