"""An application with a database of real imports, and a client that holds every answer to the Swagger document."""

from __future__ import annotations

import atexit
import base64
import hashlib
import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import argon2
import jsonschema
import sqlalchemy as sa
from pyramid.config import Configurator
from webtest import TestApp, TestResponse

from dicomweb import batches, jobs
from dicomweb.api.openapi import document
from dicomweb.app import main
from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import WebSession
from dicomweb.passwords import set_password
from dicomweb.security import SESSION_COOKIE
from dicomweb.settings import Settings
from dicomweb.storage import Storage
from tests import dicom_files
from workers.tasks import HANDLERS

PASSWORD = "correct horse battery staple"
HOSTILE = "</script><script>alert(1)</script>\"'&"


def basic(password: str = PASSWORD) -> dict[str, str]:
    """Give the header of HTTP Basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"program:{password}".encode()).decode()}


def begin_session(engine: sa.Engine) -> dict[str, str]:
    """Begin a browser session; give the header with its cookie."""
    token = secrets.token_urlsafe(32)
    now = datetime.now(UTC)
    with work(engine) as dbsession:
        dbsession.add(
            WebSession(
                token_hash=hashlib.sha256(token.encode()).hexdigest(),
                created_at=now,
                expires_at=now + timedelta(hours=1),
            )
        )
    return {"Cookie": f"{SESSION_COOKIE}={token}"}


class CheckedApp(TestApp):  # type: ignore[misc]
    """Sends requests with the password, and checks each JSON answer below ``/api`` against the document."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            app, extra_environ={"HTTP_AUTHORIZATION": basic()["Authorization"], "REMOTE_ADDR": "127.0.0.1"}
        )
        self.document = _document(app)
        self.seen: set[tuple[str, str]] = set()

    def send(self, method: str, path: str, *, password: bool = True, **options: Any) -> Any:
        """Send a request, whatever its answer; options are those of a WebOb request."""
        environ = self._make_environ()
        if not password:
            del environ["HTTP_AUTHORIZATION"]
        return self.do_request(
            self.RequestClass.blank(path, environ=environ, method=method, **options), expect_errors=True
        )

    def stranger(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Any:
        """Send a request without the password, or with what the headers hold."""
        return self.send(method, path, password=False, headers=headers or {}, **options)

    def do_request(self, req: Any, status: Any = None, expect_errors: Any = None) -> Any:
        """Send a request and check the answer."""
        answer = super().do_request(req, status, expect_errors)
        check(self.document, req, answer, self.seen)
        return answer


@cache
def _document(app: Any) -> dict[str, Any]:
    return document(app.registry)


def find_operation(swagger: dict[str, Any], method: str, path: str) -> tuple[str, dict[str, Any]] | None:
    """Find the operation of a request: its id and itself."""
    for template, operations in swagger["paths"].items():
        pattern = swagger["basePath"] + re.sub(r"\{[a-z]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in operations:
            operation = operations[method.lower()]
            return operation["operationId"], operation
    return None


def check(
    swagger: dict[str, Any], request: Any, answer: TestResponse, seen: set[tuple[str, str]] | None = None
) -> None:
    """Hold an answer to the document: its status is declared and its body has the declared shape."""
    if not request.path.startswith("/api/") or request.path == "/api/":
        return
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    found = find_operation(swagger, request.method, request.path)
    if found is None:
        if answer.status_int >= 400:
            validate(swagger, {"$ref": "#/definitions/Refusal"}, answer.json)
        return
    name, operation = found
    declared = operation["responses"].get(str(answer.status_int))
    assert declared is not None, f"{name} does not declare {answer.status}"
    if seen is not None:
        seen.add((name, str(answer.status_int)))
    schema = declared.get("schema")
    if schema is None:
        assert answer.body == b""
    elif schema == {"type": "string", "format": "binary"}:
        assert answer.content_type in operation["produces"]
        assert answer.content_type != "application/json"
    else:
        assert answer.content_type == "application/json"
        validate(swagger, schema, json.loads(answer.body, parse_constant=_no_constant))


def _no_constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def validate(swagger: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Check a value against a schema of the document."""
    with_definitions = {
        **_nullable(schema),
        "definitions": {name: _nullable(one) for name, one in swagger["definitions"].items()},
    }
    checker = jsonschema.FormatChecker(("date-time",))
    jsonschema.Draft4Validator(with_definitions, format_checker=checker).validate(value)


def _nullable(schema: Any) -> Any:
    """Write ``x-nullable`` as JSON schema does."""
    if isinstance(schema, dict):
        made = {key: _nullable(value) for key, value in schema.items()}
        return {**made, "type": [made["type"], "null"]} if made.get("x-nullable") is True else made
    return [_nullable(one) for one in schema] if isinstance(schema, list) else schema


# The applications of the tests of this process, by the settings that are not those of the default.
_apps: dict[frozenset[tuple[str, str]], Any] = {}


def set_cheap_password(settings: Settings) -> None:
    """Set the password so that it is quickly compared: the tests do not try passwords."""
    set_password(settings, PASSWORD, argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def make_app(settings: Settings, **more: str) -> Any:
    """Give the application over the settings of a test: made once, and moved to the database and folders of each test."""
    if not (settings.var / "password").exists():
        set_cheap_password(settings)
    ini = {"database.url": settings.database_url, "broker.url": "redis+socket:///nowhere", **more}
    key = frozenset(more.items())
    if key not in _apps:
        _apps[key] = main({"here": str(settings.here)}, **ini)
        # A child that decodes takes a second to start; it serves all tests.
        atexit.register(_apps[key].registry["renderer"].close)
    elif (registry := _apps[key].registry).settings["dicomweb"].here != settings.here:
        with Configurator(settings={**ini, "dicomweb": Settings(ini, here=settings.here)}) as config:
            for holder in ("dicomweb.db", "dicomweb.security", "dicomweb.resources", "dicomweb.rs.frames", "dicomweb.rs.storing"):
                config.include(holder)
        registry.update({**config.registry, "renderer": registry["renderer"]})
        registry.settings.update(config.registry.settings)
    return _apps[key]


def close(app: Any) -> None:
    """Let go of the database of a test."""
    app.registry["engine"].dispose()


def importer_of(settings: Settings, engine: sa.Engine) -> Importer:
    """Make what the workers work with."""
    return Importer(engine, settings, Storage(settings.var / "storage", sync=False))


def run_jobs(importer: Importer, most: int = 1000) -> None:
    """Do the jobs that are due, in this process."""
    for _ in range(most):
        with importer.work() as dbsession:
            job = jobs.claim_next(dbsession, worker="test:1", lease=60, now=importer.clock())
        if job is None:
            return
        HANDLERS[job.kind](importer, job)


def import_folder(importer: Importer, folder: Path, *, most_jobs: int = 1000) -> int:
    """Import a folder as a batch; give its id."""
    with importer.work() as dbsession:
        batch = batches.claim_arrival(dbsession, str(folder), stamp=str(folder), now=datetime.now(UTC))
        assert batch is not None
        batch_id = batch.id
    run_jobs(importer, most_jobs)
    return batch_id


def write_samples(folder: Path) -> None:
    """Write a folder with two series of one study, a hostile header, a conflict, and files that are no images."""
    dicom_files.write_series(folder / "one", images=3, seed="one", StudyInstanceUID=dicom_files.uid("study", "shared"))
    dicom_files.write_series(
        folder / "two", images=2, seed="two", Modality="MR", StudyInstanceUID=dicom_files.uid("study", "shared")
    )
    hostile = dicom_files.image_bytes(
        "hostile",
        PatientID="P2",
        PatientName=HOSTILE,
        SeriesDescription=HOSTILE,
        StudyDescription="a\x00b\x1b[31mc",
        ImageComments="\x01\x1f\x7f",
    )
    (folder / "a ho'stile <b>.dcm").write_bytes(hostile)
    (folder / "conflict.dcm").write_bytes(dicom_files.image_bytes("one/0", ImageComments="other bytes"))
    (folder / "again.dcm").write_bytes(hostile)
    (folder / "broken.dcm").write_bytes(dicom_files.truncated_bytes(seed="broken"))
    (folder / "notes.txt").write_text("not DICOM")
