"""The OpenAPI document of DICOMweb is valid, tells of every resource, and what is made up from it never fails."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import hypothesis
import pytest
import schemathesis
from openapi_spec_validator import OpenAPIV30SpecValidator
from pyramid.interfaces import IRoutesMapper
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from dicomweb.rs.uris import PREFIX
from tests import dicom_files
from tests.functional.api_data import CheckedApp, basic

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


@pytest.mark.usefixtures("imported")
def test_requests_made_up_from_the_document_never_fail(api: CheckedApp) -> None:
    schema = schemathesis.openapi.from_dict(document(api))
    schema.app = api.app
    schema.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.method.upper() != "GET":
            # The library cannot write such bodies; those that are wrong are tried where storing is tested.
            continue

        @hypothesis.settings(
            max_examples=10,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(), known=hypothesis.strategies.booleans())
        def try_out(case: schemathesis.Case, known: bool) -> None:
            if known:
                # UIDs that are made up are hardly ever those of an image.
                case.path_parameters = {**case.path_parameters, **{name: uid for name, uid in UIDS.items() if name in case.path_parameters}}
            answer = case.call(headers=basic())
            seen.add(answer.status_code)
            case.validate_response(answer, checks=[not_a_server_error, status_code_conformance])

        try_out()
    assert {200, 400, 404} <= seen
