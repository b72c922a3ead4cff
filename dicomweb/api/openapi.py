"""The Swagger 2.0 document, made from the services that are routed, and the page that shows it.

cornice_swagger does most of it. What it cannot do is added here: nullable and named definitions, references inside arrays,
64-bit numbers, files, how one identifies oneself.
"""

from __future__ import annotations

from typing import Any

import colander
from cornice_swagger import CorniceSwagger
from cornice_swagger.converters.schema import (
    ArrayTypeConverter,
    BooleanTypeConverter,
    IntegerTypeConverter,
    StringTypeConverter,
    TypeConversionDispatcher,
)
from cornice_swagger.swagger import DefinitionHandler

from dicomweb.api.requests import service
from dicomweb.api.schemas import Archive, File, TableFile
from dicomweb.api.types import Flag, Id, Listed, Whole, Words
from dicomweb.security import CONTENT_SECURITY_POLICY, Permission

# Swagger UI writes styles into its elements; only its own page may.
PAGE_POLICY = CONTENT_SECURITY_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

INFO = {
    "title": "DICOM Database",
    "version": "1",
    "description": (
        "Every request needs the password: HTTP Basic with any user name, or the cookie of a browser session. "
        "In a browser session a change also needs the header X-CSRF-Token. "
        "Lists are ordered by id unless sorted otherwise, so that what is added while one reads page after page comes last. "
        "Times are ISO 8601 in UTC. An address in an answer is relative to the host."
    ),
}
TAGS = {
    "batches": "What arrived together.",
    "arrivals": "What waits in the watched folders.",
    "images": "DICOM instances, their headers and their bytes.",
    "headers": "Which header elements there are.",
    "search": "Images, series and studies by any header element: found, counted, compared, exported.",
    "saved searches": "Searches with a name.",
    "labels": "What people say about batches, studies, series and images.",
    "series and studies": "What the images belong to.",
    "jobs": "What the workers owe.",
    "state": "How the application is.",
}

_FILES = {kind.__name__: kind for kind in (File, TableFile, Archive)}

specification = service("specification", "/swagger.json", "The Swagger document", traverse="/")


@specification.get(permission=Permission.USE)
def get_document(request: Any) -> dict[str, Any]:
    """Give the Swagger document."""
    return document(request.registry, request.script_name)


def document(registry: Any, script_name: str = "") -> dict[str, Any]:
    """Make the Swagger 2.0 document of the routed services.

    script_name: where the application is mounted.
    """
    services = [one for one in registry.cornice_services.values() if one is not specification]
    made = _Document(services, def_ref_depth=-1).generate(
        info=dict(INFO),
        title=INFO["title"],
        version=INFO["version"],
        base_path=f"{script_name}/api",
        # A new one for each document, because the library writes into it.
        swagger={"tags": [{"name": name, "description": description} for name, description in TAGS.items()]},
    )
    made["securityDefinitions"] = {
        "password": {"type": "basic", "description": "Any user name, and the password."},
        "session": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRF-Token",
            "description": "The cookie of a browser session; a change also needs this header. On this page both are sent by themselves.",
        },
    }
    made["security"] = [{"password": []}, {"session": []}]
    for path in made["paths"].values():
        # Each operation describes its own.
        path.pop("parameters", None)
        for operation in path.values():
            _complete(operation)
    # Only the answers with files name these.
    for name in _FILES:
        made["definitions"].pop(name)
    return made


def _complete(operation: dict[str, Any]) -> None:
    operation["produces"] = ["application/json"]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "body":
            operation["consumes"] = ["application/json"]
            continue
        # Swagger 2.0 knows an example of a schema, but not of a parameter.
        if "example" in parameter:
            parameter["x-example"] = parameter.pop("example")
        if parameter["type"] == "string" and "enum" not in parameter and "pattern" not in parameter:
            # What ``requests.checked`` and ``types.Words`` refuse.
            parameter.update(minLength=1, pattern=r"^[^\x00]+$")
    for answer in operation["responses"].values():
        kind = answer.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if kind in _FILES:
            # Swagger 2.0 also has the type ``file``, which validators do not know.
            answer["schema"] = {"type": "string", "format": "binary"}
            operation["produces"] = [*_FILES[kind].media_types, "application/json"]
        elif "schema" in answer:
            answer["schema"].pop("title", None)


class _Types(TypeConversionDispatcher):
    """Writes what cornice_swagger leaves out of a node."""

    def __call__(self, node: Any) -> dict[str, Any]:
        made: dict[str, Any] = super().__call__(node)
        if getattr(node, "nullable", False):
            made["x-nullable"] = True
        if made["type"] == "integer":
            made["format"] = "int64"
        if made["type"] != "object":
            made.pop("title", None)
        elif isinstance(node.typ, colander.Mapping) and node.typ.unknown != "preserve":
            made["additionalProperties"] = False
            made["description"] = (type(node).__doc__ or "").strip().splitlines()[0]
        return made


class _Definitions(DefinitionHandler):
    """Refers to named definitions inside arrays too."""

    def _ref_recursive(self, schema: dict[str, Any], depth: int, base_name: str | None = None) -> dict[str, Any]:
        if schema["type"] == "array":
            return {**schema, "items": self._ref_recursive(schema["items"], depth - 1)}
        if schema["type"] == "object" and "properties" not in schema and schema.get("title") not in _FILES:
            # Whose members are not known has no definition of its own.
            return {key: value for key, value in schema.items() if key != "title"}
        return super()._ref_recursive(schema, depth, base_name)


class _Document(CorniceSwagger):
    """The document of this application."""

    definitions = _Definitions
    type_converter = _Types
    custom_type_converters = {
        Whole: IntegerTypeConverter,
        Id: IntegerTypeConverter,
        Flag: BooleanTypeConverter,
        Words: StringTypeConverter,
        Listed: ArrayTypeConverter,
    }
    summary_docstrings = True


def show_page(request: Any) -> dict[str, str]:
    """Show the document with Swagger UI, from which requests can be tried out in the session of the browser."""
    request.response.headers["Content-Security-Policy"] = PAGE_POLICY
    return {"document": f"{request.script_name}/api/swagger.json"}
