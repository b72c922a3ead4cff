"""The OpenAPI document of DICOMweb is valid, tells of every resource, and what is made up from it never fails."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from openapi_spec_validator import OpenAPIV30SpecValidator
from pyramid.interfaces import IRoutesMapper
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dicomweb.rs.uris import PREFIX
from tests import dicom_files
from tests.functional.api_data import CheckedApp, basic

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
QUICK = hypothesis.settings(
    max_examples=10, database=None, deadline=None, derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
)  # fmt: skip
UIDS = {"study": dicom_files.uid("study", "shared"), "series": dicom_files.uid("series", "one"), "instance": dicom_files.uid("instance", "one/1")}


def document(api: CheckedApp) -> dict[str, Any]:
    made: dict[str, Any] = api.send("GET", f"{PREFIX}/openapi.json").json
    return made


def test_the_document_is_valid_and_tells_of_every_resource(api: CheckedApp) -> None:
    made = document(api)
    assert list(OpenAPIV30SpecValidator(made).iter_errors()) == []
    assert made["servers"] == [{"url": PREFIX}]
    routes = api.app.registry.getUtility(IRoutesMapper).get_routes()
    templates = {route.name.removeprefix("rs:") for route in routes if route.name.startswith("rs:")}
    assert {template.split("{path")[0] for template in templates} == {path.split("{path")[0] for path in made["paths"]}
    names = [operation["operationId"] for path in made["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert {"search_for_studies", "retrieve_series_metadata"} <= set(names)


def test_the_capabilities_are_well_formed_and_the_same(api: CheckedApp) -> None:
    root = ElementTree.fromstring(api.send("OPTIONS", PREFIX).body)
    namespace = "{http://wadl.dev.java.net/2009/02}"
    told = {(method.attrib["id"], method.attrib["name"]) for method in root.iter(f"{namespace}method")}
    made = document(api)
    assert told == {(operation["operationId"], method.upper()) for path in made["paths"].values() for method, operation in path.items()}


def test_the_document_says_how_to_show_the_password_and_a_token(api: CheckedApp) -> None:
    made = document(api)
    schemes = made["components"]["securitySchemes"]
    assert {name: (scheme["type"], scheme["scheme"]) for name, scheme in schemes.items()} == {"basic": ("http", "basic"), "bearer": ("http", "bearer")}
    assert made["security"] == [{"basic": []}, {"bearer": []}]


@pytest.mark.usefixtures("imported")
def test_requests_made_up_from_the_document_are_answered_as_it_says(api: CheckedApp) -> None:
    schema = schemathesis.openapi.from_dict(document(api))
    schema.app = api.app
    schema.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.method.upper() != "GET":
            # The library cannot write such bodies: see below.
            continue

        @QUICK
        @hypothesis.given(case=operation.as_strategy(), known=strategies.booleans())
        def try_out(case: schemathesis.Case, known: bool) -> None:
            if known:
                # UIDs that are made up are hardly ever those of an image.
                case.path_parameters = {**case.path_parameters, **{name: uid for name, uid in UIDS.items() if name in case.path_parameters}}
            answer = case.call(headers=basic())
            seen.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        try_out()
    assert {200, 400, 404} <= seen


FILE = dicom_files.image_bytes("made up/1")
FILES = strategies.one_of(
    strategies.just(FILE),
    strategies.integers(0, len(FILE)).map(lambda size: FILE[:size]),
    strategies.tuples(strategies.integers(0, 600), strategies.binary(min_size=1, max_size=4)).map(lambda change: FILE[: change[0]] + change[1] + FILE[change[0] + len(change[1]) :]),
    strategies.binary(max_size=300),
)
HEADS = strategies.sampled_from([b"Content-Type: application/dicom\r\n\r\n", b"\r\n", b"", b"Content-Type: image/jpeg\r\n\r\n", b"X\r\n\r\n", b": y\r\n\r\n", b"\0: \xff\r\n\r\n"])
BODIES = strategies.one_of(
    strategies.tuples(strategies.lists(strategies.tuples(HEADS, FILES), max_size=3), strategies.sampled_from([b"--b--", b"--b", b"--", b""])).map(
        lambda made: b"".join(b"--b\r\n" + head + file + b"\r\n" for head, file in made[0]) + made[1]
    ),
    FILES,
)
TYPES = strategies.sampled_from(
    [
        'multipart/related; type="application/dicom"; boundary=b', "multipart/related; type=application/dicom; boundary=b", "application/dicom", "multipart/related",
        'multipart/related; boundary=""', 'multipart/related; boundary="b', "multipart/related; boundary=b; type=text/plain", "text/plain", "\xff/\xfe", ";;",
    ]
)  # fmt: skip
ACCEPTS = strategies.sampled_from(["*/*", "application/dicom+json", "application/json", "application/dicom+xml", "text/html", "/;q=x", "application/dicom+json;q=0"])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_bodies_made_up_are_answered_as_the_document_says(api: CheckedApp) -> None:
    schema = schemathesis.openapi.from_dict(document(api))
    schema.app = api.app
    operations = {operation.path: operation for operation in (found.ok() for found in schema.get_all_operations()) if operation.method.upper() == "POST"}
    assert set(operations) == {"/studies", "/studies/{study}"}
    studies = strategies.sampled_from([dicom_files.uid("study", "made up"), "1.2.3", "x", "%FF", "1" * 70])
    seen = set()

    @hypothesis.settings(QUICK, max_examples=120)
    @hypothesis.given(operation=strategies.sampled_from(list(operations.values())), body=BODIES, kind=TYPES, accept=ACCEPTS, study=studies)
    def try_out(operation: Any, body: bytes, kind: str, accept: str, study: str) -> None:
        case = operation.Case(path_parameters={"study": study} if "{study}" in operation.path else {})
        headers = {**basic(), "Content-Type": kind, "Accept": accept}
        answer = case.call(headers=headers, data=body)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    try_out()
    assert {200, 400, 406, 409, 415} <= seen
