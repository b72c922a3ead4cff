"""What this service can do, told to programs (PS3.18 8.9): OPTIONS of any resource, and an OpenAPI document.

OPTIONS answers with WADL, the Standard's form, or with the OpenAPI document where the client takes JSON; the header Allow names the
methods. Both are made from the table of transactions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import quoteattr

import orjson
from pyramid.response import Response

from dicomweb.rs.negotiation import Offer, choose
from dicomweb.rs.transactions import Transaction
from dicomweb.rs.uris import PREFIX, service_url
from dicomweb.security import Permission

WADL = "application/vnd.sun.wadl+xml"
_OFFERS = (Offer(WADL), Offer("application/json"), Offer("application/vnd.oai.openapi+json"))
_PLACES = {
    "study": "A StudyInstanceUID.",
    "series": "A SeriesInstanceUID.",
    "instance": "A SOPInstanceUID.",
    "frames": "Numbers of frames from 1 on, separated by commas.",
}
# What every resource may answer.
_ALWAYS = {
    400: "The request cannot be understood.",
    401: "The password is needed.",
    403: "This is not allowed.",
    404: "There is no such resource.",
    429: "Too many wrong passwords.",
    503: "The database cannot be reached, or all decoders are busy.",
}
_WITHOUT_BODY = (204, 304)
# Answers with what the resource gives: parts of it, and what became of instances. Others are refusals.
_WITH_CONTENT = (200, 202, 206, 409)


def tell_openapi(request: Any) -> Response:
    """Give the OpenAPI document."""
    return Response(orjson.dumps(openapi(request.registry["rs.transactions"], f"{request.script_name}{PREFIX}")), content_type="application/json", charset=None)


TRANSACTIONS = (
    Transaction(
        "retrieve_openapi", "GET", "/openapi.json", tell_openapi, Permission.USE, "Describe all resources as an OpenAPI document.",
        ("application/json",), statuses=(),
    ),
)  # fmt: skip


def tell_methods(methods: Sequence[str], path: str | None = None) -> Callable[[Any], Response]:
    """Make the view that answers OPTIONS of one resource; of the base, without a path, it tells of all."""

    def retrieve_capabilities(request: Any) -> Response:
        chosen = choose(request, _OFFERS)
        here = [transaction for transaction in request.registry["rs.transactions"] if path in (None, transaction.path)]
        if chosen.media_type == WADL:
            body = wadl(here, service_url(request))
        else:
            body = orjson.dumps(openapi(here, f"{request.script_name}{PREFIX}"))
        response = Response(body, content_type=chosen.media_type, charset=None)
        response.headers["Allow"] = ", ".join(methods)
        return response

    return retrieve_capabilities


def openapi(transactions: Iterable[Transaction], base_path: str) -> dict[str, Any]:
    """Make the OpenAPI 3.0 document of some transactions."""
    paths: dict[str, Any] = {}
    for transaction in transactions:
        operation: dict[str, Any] = {
            "operationId": transaction.name,
            "summary": transaction.sentence,
            "parameters": [
                *({"name": name, "in": "path", "required": True, "description": _PLACES.get(name, "A part of the path."), "schema": {"type": "string"}} for name in _names(transaction.path)),
                *({"name": one.name, "in": "query", "description": one.sentence, "schema": one.schema} for one in transaction.parameters),
            ],
            "responses": {str(status): _answer(status, transaction.answers) for status in sorted({200, *transaction.statuses, *_ALWAYS})},
        }  # fmt: skip
        if transaction.takes:
            operation["requestBody"] = {"required": True, "content": {media_type: {"schema": {}} for media_type in transaction.takes}}
        paths.setdefault(_plain(transaction.path), {})[transaction.method.lower()] = operation
    return {
        "openapi": "3.0.3",
        "info": {"title": "DICOM Database: DICOMweb", "version": "1", "description": "PS3.18: QIDO-RS, WADO-RS, STOW-RS and WADO-URI."},
        "servers": [{"url": base_path}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "Any user name, and the password."},
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token made in the settings or by `dicomweb token`."},
            },
            "schemas": {"Refusal": {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}},
        },
    }


def _answer(status: int, media_types: Sequence[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _ALWAYS.get(status, HTTPStatus(status).phrase)}
    if status in _WITHOUT_BODY:
        return answer
    if status in _WITH_CONTENT:
        return {**answer, "content": {media_type: {"schema": {}} for media_type in media_types}}
    return {**answer, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}}


def wadl(transactions: Iterable[Transaction], base: str) -> bytes:
    """Make the WADL document (PS3.18 Annex H) of some transactions."""
    by_path: dict[str, list[Transaction]] = {}
    for transaction in transactions:
        by_path.setdefault(transaction.path, []).append(transaction)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<application xmlns="http://wadl.dev.java.net/2009/02">', f"<resources base={quoteattr(base)}>"]
    for path, here in by_path.items():
        lines.append(f"<resource path={quoteattr(_plain(path).lstrip('/'))}>")
        lines += (f'<param name="{name}" style="template" type="xs:string"/>' for name in _names(path))
        for transaction in here:
            lines.append(f'<method name="{transaction.method}" id="{transaction.name}"><request>')
            lines += (f"<param name={quoteattr(one.name)} style=\"query\"/>" for one in transaction.parameters)
            lines += (f"<representation mediaType={quoteattr(media_type)}/>" for media_type in transaction.takes)
            lines.append('</request><response status="200">')
            lines += (f"<representation mediaType={quoteattr(media_type)}/>" for media_type in transaction.answers)
            lines.append("</response></method>")
        lines.append("</resource>")
    lines += ["</resources>", "</application>"]
    return "\n".join(lines).encode()


def _plain(path: str) -> str:
    """Write a path without the patterns that Pyramid takes within the braces."""
    return re.sub(r"\{(\w+)[^}]*\}", r"{\1}", path)


def _names(path: str) -> list[str]:
    return re.findall(r"\{(\w+)", path)
