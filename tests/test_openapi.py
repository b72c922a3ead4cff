"""The Swagger document: it is valid, it tells of everything, and everything it tells happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
import schemathesis
import sqlalchemy as sa
from openapi_spec_validator import OpenAPIV2SpecValidator
from pyramid.interfaces import IRoutesMapper
from schemathesis.specs.openapi.checks import content_type_conformance, ignored_auth, positive_data_acceptance

from dicomweb import batches, jobs
from dicomweb.api.openapi import document
from dicomweb.batches import Waiting
from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Job
from dicomweb.settings import Settings
from tests import dicom_files, services
from tests.functional import api_data
from tests.functional.api_data import CheckedApp, basic

NOBODY = 999_999_999
# What is written in a language of its own: the document can say how it is spelt, and not what it means.
WRITTEN = {"q", "columns", "sort", "fields", "after"}


@pytest.fixture
def importer(settings: Settings, engine: sa.Engine) -> Importer:
    """What the workers work with."""
    return api_data.importer_of(settings, engine)


@pytest.fixture
def api(settings: Settings) -> Iterator[CheckedApp]:
    """A client that checks each answer against the document."""
    app = api_data.make_app(settings)
    yield CheckedApp(app)
    api_data.close(app)


@pytest.fixture
def busy(settings: Settings, importer: Importer, engine: sa.Engine) -> int:
    """The id of an imported batch; beside it a batch that is not begun, arrivals, and a failed job."""
    root = settings["watch.folders"][0]
    api_data.write_samples(root / "samples")
    batch_id = api_data.import_folder(importer, root / "samples")
    dicom_files.write_series(root / "new", images=1)
    api_data.import_folder(importer, root / "new", most_jobs=1)
    now = datetime.now(UTC)
    with work(engine) as dbsession:
        seen = [
            Waiting(str(root / name), is_folder, 1, 1, now, "It waits.")
            for name, is_folder in (("folder", True), ("loose", False))
        ]
        batches.report_arrivals(dbsession, seen, now=now)
        jobs.enqueue(dbsession, "import_chunk", {}, now=now, batch_id=batch_id).status = "failed"
    return batch_id


def operations(api: CheckedApp) -> list[tuple[str, str, dict[str, Any]]]:
    """Give method, path and description of every operation."""
    return [
        (method.upper(), f"/api{path}", operation)
        for path, methods in api.document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_valid_swagger(api: CheckedApp) -> None:
    answer = api.get("/api/swagger.json")
    assert list(OpenAPIV2SpecValidator(answer.json).iter_errors()) == []
    assert answer.json == document(api.app.registry)
    assert answer.json["swagger"] == "2.0"


def test_every_route_is_in_the_document_with_every_method(api: CheckedApp) -> None:
    routes = api.app.registry.getUtility(IRoutesMapper).get_routes()
    paths = {"/" + route.pattern.strip("/") for route in routes if route.name.startswith("api.")}
    assert paths - {"/api", "/api/swagger.json"} == {f"/api{path}" for path in api.document["paths"]}
    for service in api.app.registry.cornice_services.values():
        if service.path != "/swagger.json":
            assert {method for method, _, _ in service.definitions} - {"HEAD"} == {
                method.upper() for method in api.document["paths"][service.path]
            }


def test_everything_has_a_sentence_a_tag_and_an_id_of_its_own(api: CheckedApp) -> None:
    tags = {tag["name"] for tag in api.document["tags"]}
    ids = set()
    for method, path, operation in operations(api):
        assert operation["summary"].endswith("."), (method, path)
        assert set(operation["tags"]) <= tags
        ids.add(operation["operationId"])
        declared = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert ("{id}" in path) == ("id" in declared)
        assert all(parameter["description"].endswith(".") for parameter in operation.get("parameters", ()))
        assert all(answer["description"] for answer in operation["responses"].values())
    assert len(ids) == len(operations(api))
    for name, definition in api.document["definitions"].items():
        assert definition["description"].endswith("."), name
        for member, schema in definition["properties"].items():
            assert "$ref" in schema or schema["description"].endswith("."), (name, member)


def test_the_document_knows_where_the_application_is_mounted(api: CheckedApp, busy: int) -> None:
    answer = api.get("/api/swagger.json", extra_environ={"SCRIPT_NAME": "/dicom"})
    assert answer.json["basePath"] == "/dicom/api"


def test_the_page_shows_the_document_without_another_host(api: CheckedApp) -> None:
    page = api.get("/api")
    assert 'data-url="/api/swagger.json"' in page.text
    assert "//" not in page.text.replace("<!doctype", "")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self' 'unsafe-inline'" in policy
    assert "'unsafe-inline'" not in api.get("/api/batches").headers["Content-Security-Policy"]


def _refusals(api: CheckedApp, path_of: Callable[[str], str]) -> None:
    """Reach what every operation refuses: no password, a foreign site, parameters, too many attempts."""
    for method, path, operation in operations(api):
        there = path_of(path)
        assert api.stranger(method, there).status_int == 401
        assert api.send(method, f"{there}?nope=1").status_int == 400
        if "{id}" in path:
            assert api.send(method, path.replace("{id}", str(NOBODY))).status_int == 404
        if "415" in operation["responses"]:
            text = {"Content-Type": "text/plain"}
            assert api.send(method, there, body=b"x", headers=text).status_int == 415
            assert api.send(method, there, body=b"x" * 70_000, headers=text).status_int == 413
    for number in range(10):
        api.stranger("GET", "/api/watcher", basic(f"wrong {number}"))
    for method, path, _ in operations(api):
        assert api.stranger(method, path_of(path), basic("wrong")).status_int == 429


def _searches(api: CheckedApp) -> None:
    """Reach what can be asked about headers, saved, and labelled."""
    for path in (
        "/api/search?q=Modality:CT",
        "/api/search/facets?fields=Modality",
        "/api/search/varies",
        "/api/search/export",
        "/api/search/images.zip",
        "/api/complete?text=Modal",
        "/api/searches",
        "/api/labels",
    ):
        api.get(path, status=200)
    [saved] = api.get("/api/searches").json["results"]
    api.get(saved["url"], status=200)
    api.delete(saved["url"], status=204)
    [label] = api.get("/api/labels").json["results"]
    api.get(label["url"], status=200)
    api.post_json("/api/labels/remove", {"label": "x", "query": "Modality:CT"}, status=200)
    api.delete(label["url"], status=204)
    [new] = api.get("/api/images?status=NEW").json["results"]
    first, second = (image["id"] for image in api.get("/api/images?status=DONE").json["results"][:2])
    api.get(f"/api/images/{first}/diff/{second}", status=200)
    api.get(f"/api/images/{first}/diff/{new['id']}", status=409)


def _results(api: CheckedApp, busy: int) -> None:
    """Reach what the operations do, and what they cannot do."""
    [new] = api.get("/api/images?status=NEW").json["results"]
    done = api.get(f"/api/images?batch={busy}").json["results"][0]
    for path in (
        "/api/batches",
        "/api/headers",
        "/api/series",
        "/api/studies",
        "/api/jobs",
        "/api/watcher",
        "/api/arrivals",
    ):
        api.get(path, status=200)
    api.get(f"/api/batches/{busy}", status=200)
    api.get(f"/api/batches/{busy}/errors", status=200)
    api.get(f"/api/batches/{busy}/notices", status=200)
    api.get(done["url"], status=200)
    api.get(done["file_url"], status=200)
    api.get(done["series_url"], status=200)
    api.get(done["study_url"], status=200)
    api.get(f"{new['url']}/file", status=409)
    api.delete(new["url"], status=409)
    api.delete(done["url"], status=204)
    folder, loose = api.get("/api/arrivals").json["results"]
    api.get(folder["url"], status=200)
    api.post(f"{loose['url']}/import", status=409)
    api.post(folder["import_url"], status=201)
    [failed] = api.get("/api/jobs?status=failed").json["results"]
    api.get(failed["url"], status=200)
    api.post(failed["retry_url"], status=202)
    api.post(failed["retry_url"], status=409)
    api.post(f"/api/batches/{busy}/retry", status=202)
    api.post(f"/api/batches/{busy}/keep", status=409)
    api.delete(f"/api/batches/{busy}", status=202)
    api.delete(f"/api/batches/{busy}", status=409)
    api.post(f"/api/batches/{busy}/keep", status=200)
    api.delete(f"/api/batches/{busy}?at_once=true", status=202)
    api.post(f"/api/batches/{busy}/retry", status=409)


def _foreign_hosts(settings: Settings, path_of: Callable[[str], str], seen: set[tuple[str, str]]) -> None:
    """Reach what is answered with the lockdown off to a name that is not this machine's."""
    app = api_data.make_app(settings, **{"lockdown.mode": "off"})
    open_app = CheckedApp(app)
    for method, path, _ in operations(open_app):
        assert open_app.stranger(method, path_of(path), {"Host": "rebound.example"}).status_int == 403
    seen |= open_app.seen
    api_data.close(app)


def _failures(
    api: CheckedApp, path_of: Callable[[str], str], engine: sa.Engine, postgresql: Callable[[], services.PostgreSQL]
) -> None:
    """Reach what is answered when the table of sessions is broken, and when the database is away."""
    session = api_data.begin_session(engine)
    on_postgresql = engine.dialect.name == "postgresql"
    with engine.begin() as connection:
        # What is wrong with the inside is a 500, on each database in its own way.
        broken = (
            "ALTER TABLE web_session RENAME TO lost" if on_postgresql else "UPDATE web_session SET expires_at = 'soon'"
        )
        connection.exec_driver_sql(broken)
    for method, path, _ in operations(api):
        answer = api.stranger(method, path_of(path), session)
        assert answer.status_int == 500
        assert "web_session" not in answer.text
    if on_postgresql:
        # As during a restart: nobody is let in, and who is in is put out.
        engine.dispose()
        postgresql().execute(f'ALTER DATABASE "{engine.url.database}" ALLOW_CONNECTIONS false')
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE web_session")
    api.app.registry["engine"].dispose()
    for method, path, _ in operations(api):
        assert api.stranger(method, path_of(path), session).status_int == 503


def test_every_declared_status_is_reached(
    api: CheckedApp, busy: int, settings: Settings, engine: sa.Engine, request: pytest.FixtureRequest
) -> None:
    saved = api.post_json("/api/searches", {"name": "x"}, status=201).json
    api.post_json("/api/labels", {"label": "x", "kind": "batch", "ids": [busy]}, status=200)
    ids = {
        "searches": saved["id"],
        "labels": api.get("/api/labels").json["results"][0]["id"],
        "batches": busy,
        "images": api.get("/api/images").json["results"][0]["id"],
        "arrivals": api.get("/api/arrivals").json["results"][0]["id"],
        "series": api.get("/api/series").json["results"][0]["id"],
        "studies": api.get("/api/studies").json["results"][0]["id"],
        "jobs": api.get("/api/jobs").json["results"][0]["id"],
    }

    def path_of(path: str) -> str:
        name = str(ids.get(path.split("/")[2]))
        return path.replace("{id}", name).replace("{other}", name)

    _refusals(api, path_of)
    _foreign_hosts(settings, path_of, api.seen)
    _searches(api)
    _results(api, busy)
    _failures(api, path_of, engine, lambda: request.getfixturevalue("postgresql"))
    declared = {
        (operation["operationId"], status) for _, _, operation in operations(api) for status in operation["responses"]
    }
    assert declared - api.seen == set()


def test_requests_made_up_from_the_document_meet_nothing_undeclared(
    api: CheckedApp, busy: int, engine: sa.Engine
) -> None:
    schema = schemathesis.openapi.from_dict(api.document)
    schema.app = api.app
    schema.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
    for found in schema.get_all_operations():
        operation = found.ok()
        parameters = operation.definition.raw.get("parameters", ())
        written = any(parameter["name"] in WRITTEN or parameter["in"] == "body" for parameter in parameters)
        # An answer without content has no type of it; the library wants one.
        nothing = [content_type_conformance] if operation.method.upper() == "DELETE" else []
        # Wrong passwords are limited, so trying them on every operation meets 429; test_api_access tries them.
        excluded = [ignored_auth, *nothing, *([positive_data_acceptance] if written else [])]

        @hypothesis.settings(
            max_examples=12,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def try_out(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=basic(), excluded_checks=excluded)  # noqa: B023  It is called in this turn of the loop.

        try_out()
    with work(engine, read_only=True) as dbsession:
        assert dbsession.scalar(sa.select(sa.func.count(Job.id))) is not None
