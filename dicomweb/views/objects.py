"""The pages of objects that are no images: reports, documents, waveforms, structures, plans, presentation states."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson
from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import Response
from pyramid.view import view_config

from dicomweb import imports, index, objects, outlines
from dicomweb.languages import gettext
from dicomweb.models import Image
from dicomweb.objects import documents, waveforms
from dicomweb.pixels import CannotRender, Frame
from dicomweb.resources import ImageResource
from dicomweb.security import CONTENT_SECURITY_POLICY, Permission
from dicomweb.storage import BytesMissing
from dicomweb.views.search import search_address

# A page with a document shows it in a frame of its own.
DOCUMENT_PAGE_POLICY = CONTENT_SECURITY_POLICY + "; frame-src 'self'"
# The document itself: a program of the browser shows it, and it may be in a frame of ours.
DOCUMENT_POLICY = "default-src 'none'; object-src 'self'; frame-ancestors 'self'"
# Of a file whose value is read whole.
LARGEST_FILE = 256 << 20
KEPT_SECONDS = 86400
_GROUP = re.compile(r"[1-9][0-9]?")
_READERS = {
    "report": objects.read_report, "document": objects.read_document, "waveform": objects.read_waveforms, "structures": objects.read_structures,
    "plan": objects.read_plan, "state": objects.read_state,
}  # fmt: skip


def describe(request: Any, image: Image, header: dict[str, Any]) -> dict[str, Any]:
    """Say what a page shows of an object without pixels."""
    kind = objects.kind_of(header)
    found = _READERS[kind](header) if kind else None
    sop_class = (header.get("00080016", {}).get("Value") or [""])[0]
    places = outlines.places_of(request.dbsession, image.series, header) if kind == "structures" else []
    return {
        "kind": kind, "object": found, "class_name": objects.class_name(sop_class if isinstance(sop_class, str) else ""), "address_of": _address_of,
        "series_places": places,
    }  # fmt: skip


def _address_of(**elements: str) -> str:
    return search_address(**elements) if all(value.isprintable() and len(value) <= 256 for value in elements.values()) else ""


@view_config(context=ImageResource, name="document", permission=Permission.IMAGE_READ)
def show_document(context: ImageResource, request: Any) -> Response:
    """Give an encapsulated document: a PDF to be looked at, everything else to be saved and never run here."""
    header = header_of(request, context.image)
    if objects.kind_of(header) != "document":
        raise HTTPNotFound()
    data = _value(context, request, documents.TAG)
    if isinstance(data, Response):
        return data
    is_pdf = objects.read_document(header).is_pdf and data.startswith(b"%PDF")
    # A PDF ends with its own mark; DICOM made its length even.
    response = Response(body=data, content_type="application/pdf" if is_pdf else "application/octet-stream", charset=None)
    name = f"document-{context.image.id}.{'pdf' if is_pdf else 'bin'}"
    response.headers["Content-Disposition"] = f'{"inline" if is_pdf else "attachment"}; filename="{name}"'
    if is_pdf:
        response.headers["Content-Security-Policy"] = DOCUMENT_POLICY
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


@view_config(context=ImageResource, name="contours.json", permission=Permission.IMAGE_READ)
def tell_contours(context: ImageResource, request: Any) -> Response:
    """Tell the contours of a structure set, as many as there is room for: of each structure its name, colour and polygons, x y z in mm."""
    image = context.image
    tag = hashlib.sha256(b"%s:contours" % (image.sha256 or b"")).hexdigest()[:32]
    response = Response(content_type="application/json", charset=None, conditional_response=True)
    response.etag = tag
    response.cache_control = "private, no-cache"
    if tag in request.if_none_match:
        response.status = 304
        return response
    header = header_of(request, image)
    if objects.kind_of(header) != "structures":
        raise HTTPNotFound()

    def read(path: str) -> bytes | None:
        value = _value(context, request, path)
        return value if isinstance(value, bytes) else None

    drawing = objects.read_contours(header, read)
    response.body = orjson.dumps(
        {
            "title": drawing.title, "points": drawing.points, "left_out": drawing.left_out,
            "structures": [
                {"number": one.structure.number, "name": one.structure.name, "colour": one.structure.colour, "frame_of_reference": one.frame_of_reference, "lines": one.lines}
                for one in drawing.structures
            ],
        }
    )  # fmt: skip
    return response


@view_config(context=ImageResource, name="waveform", permission=Permission.IMAGE_READ)
def draw_waveform(context: ImageResource, request: Any) -> Response:
    """Draw a group of curves as SVG."""
    image = context.image
    number = request.GET.get("group", "1")
    groups = objects.read_waveforms(header_of(request, image))
    if not _GROUP.fullmatch(number) or int(number) > len(groups):
        raise HTTPNotFound()
    tag = hashlib.sha256(b"%s:waveform:%s" % (image.sha256 or b"", number.encode())).hexdigest()[:32]
    data = _value(context, request, f"54000100/{int(number) - 1}/{waveforms.TAG}")
    if isinstance(data, Response):
        return data
    try:
        body = objects.draw(groups[int(number) - 1], data)
    except objects.CannotDraw as error:
        return Response(text=f"{error}\n", status=415, content_type="text/plain", charset="utf-8")
    response = Response(text=body, content_type="image/svg+xml", charset="utf-8", conditional_response=True)
    response.etag = tag
    response.cache_control = f"private, max-age={KEPT_SECONDS}"
    return response


def _value(context: ImageResource, request: Any, path: str) -> bytes | Response:
    """Read the value of an element from the stored file, or make the answer that says why not."""
    image = context.image
    if image.status != "DONE" or image.sha256 is None:
        raise HTTPNotFound(gettext("This image has not been imported yet."))
    if (image.size or 0) > LARGEST_FILE:
        return Response(text=gettext("This object is too large to be shown here.") + "\n", status=415, content_type="text/plain", charset="utf-8")
    try:
        found = imports.locate(request.dbsession, image, request.registry["storage"])
        return bytes(request.registry["renderer"].value(Frame(found.path, found.offset, found.length), path))
    except (CannotRender, BytesMissing) as error:
        busy = isinstance(error, CannotRender) and error.code in ("busy", "slow")
        return Response(text=f"{error}\n", status=503 if busy else 415, content_type="text/plain", charset="utf-8")


def header_of(request: Any, image: Image) -> dict[str, Any]:
    """Give the header of an image as a DICOM JSON object; an empty one before it is imported."""
    if image.header_key is None:
        return {}
    found = index.read_headers(request.dbsession, [image.header_key], bulk_prefix=lambda _: b"")
    return orjson.loads(found[image.header_key]) if image.header_key in found else {}
