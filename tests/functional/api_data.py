"""An application with a database of real imports, and a client that holds every answer to the Swagger document."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import sqlalchemy as sa
from webtest import TestApp, TestResponse

from dicomweb import batches, jobs
from dicomweb.api.openapi import document
from dicomweb.app import main
from dicomweb.imports import Importer
from dicomweb.passwords import set_password
from dicomweb.settings import Settings
from dicomweb.storage import Storage
from tests import dicom_files
from workers.tasks import HANDLERS

PASSWORD = "correct horse battery staple"
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def basic(password: str = PASSWORD) -> dict[str, str]:
    """Give the header of HTTP Basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"program:{password}".encode()).decode()}


class CheckedApp(TestApp):  # type: ignore[misc]
    """Sends requests with the password, and checks each JSON answer below ``/api`` against the document."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            app, extra_environ={"HTTP_AUTHORIZATION": basic()["Authorization"], "REMOTE_ADDR": "127.0.0.1"}
        )
        self.document = document(app.registry)
        self.seen: set[tuple[str, str]] = set()

    def do_request(self, req: Any, status: Any = None, expect_errors: Any = None) -> Any:
        """Send a request and check the answer."""
        answer = super().do_request(req, status, expect_errors)
        check(self.document, req, answer, self.seen)
        return answer


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
    if not request.path.startswith("/api/"):
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
    elif schema == {"type": "file"}:
        assert answer.content_type == "application/dicom"
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


def make_app(settings: Settings) -> Any:
    """Make the application over the settings of a test."""
    if not (settings.var / "password").exists():
        set_password(settings, PASSWORD)
    return main(
        {"here": str(settings.here)}, **{"database.url": settings.database_url, "broker.url": "redis+socket:///nowhere"}
    )


def importer_of(settings: Settings, engine: sa.Engine) -> Importer:
    """Make what the workers work with."""
    return Importer(engine, settings, Storage(settings.var / "storage", sync=False))


def run_jobs(importer: Importer) -> None:
    """Do all jobs that are due, in this process."""
    while True:
        with importer.work() as dbsession:
            job = jobs.claim_next(dbsession, worker="test:1", lease=60, now=importer.clock())
        if job is None:
            return
        HANDLERS[job.kind](importer, job)


def import_folder(importer: Importer, folder: Path, *, work_too: bool = True) -> int:
    """Import a folder as a batch; give its id."""
    with importer.work() as dbsession:
        batch = batches.claim_arrival(dbsession, str(folder), stamp=str(folder), now=datetime.now(UTC))
        assert batch is not None
        batch_id = batch.id
    if work_too:
        run_jobs(importer)
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
    (folder / f"ho'stile {'<b>'}.dcm").write_bytes(hostile)
    (folder / "conflict.dcm").write_bytes(dicom_files.image_bytes("one/0", ImageComments="other bytes"))
    (folder / "again.dcm").write_bytes(hostile)
    (folder / "broken.dcm").write_bytes(dicom_files.truncated_bytes(seed="broken"))
    (folder / "notes.txt").write_text("not DICOM")


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[str]]:
    """Collect the statements an engine runs."""
    ran: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        ran.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield ran
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
