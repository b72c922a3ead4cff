"""WADO-URI (PS3.18 9), for clients that still speak it: one instance or picture, named by the query string."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pyramid.response import Response

from dicomweb.pixels import LARGEST_VIEWPORT, CannotRender, Frame, Look, Region, Renderer, Viewport
from dicomweb.rs import frames
from dicomweb.rs.errors import NotAcceptable, Refused
from dicomweb.rs.frames import EXPLICIT_LITTLE, Found
from dicomweb.rs.rendering import DRAWN, JPEG, PNG, make_window, require_image
from dicomweb.rs.retrieving import DICOM, FOR_EVER, begun, cached, cannot, etag_of, unchanged
from dicomweb.rs.transactions import Parameter, Transaction
from dicomweb.security import Permission

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,12}\.?\d{0,12}|\.\d{1,12})([eE][+-]?\d)?", re.ASCII)
_KINDS = {JPEG: "jpeg", PNG: "png"}
# PS3.18 9.4.1.1: what an image is when nothing is said.
_DEFAULT = (JPEG, PNG, DICOM)


def retrieve_by_uri(request: Any) -> Response:
    """Answer a request of WADO-URI."""
    asked = request.GET
    if asked.get("requestType") != "WADO":
        raise Refused(400, "requestType must be WADO.")
    missing = [name for name in ("studyUID", "seriesUID", "objectUID") if not asked.get(name)]
    if missing:
        raise Refused(400, f"{' and '.join(missing)} must be given.")
    if "annotation" in asked:
        raise Refused(400, "annotation is not done here: no text is burned into pictures.")
    if asked.get("anonymize"):
        raise Refused(400, "anonymize is not done here.")
    if asked.get("presentationUID"):
        raise Refused(400, "Presentation states are not applied here.")
    found = frames.find(request, asked["studyUID"], asked["seriesUID"], asked["objectUID"])
    wanted = [part.partition(";")[0].strip().lower() for part in asked.get("contentType", "").split(",") if part.strip()]
    if not wanted:
        # Without a picture there is only the file itself.
        wanted = [JPEG] if frames.has_frames(found, found.facts) and not frames.is_video(found.facts.syntax) else [DICOM]
    known = {JPEG: JPEG, PNG: PNG, DICOM: DICOM, "*/*": _DEFAULT[0] if frames.has_frames(found, found.facts) else DICOM, "image/*": JPEG, "application/*": DICOM}
    chosen = next((known[one] for one in wanted if one in known), None)
    if chosen is None:
        raise NotAcceptable("contentType may be image/jpeg, image/png or application/dicom.")
    return _file(request, found) if chosen == DICOM else _picture(request, found, chosen)


def _file(request: Any, found: Found) -> Response:
    asked = request.GET.get("transferSyntax", "*")
    stored = found.facts.syntax
    if asked not in ("*", stored, EXPLICIT_LITTLE):
        raise NotAcceptable(f"transferSyntax may be * or {EXPLICIT_LITTLE}; this instance is stored as {stored or 'one without'}.")
    syntax = stored if asked == "*" else asked
    etag = etag_of(found.sha256, "uri", syntax)
    if etag in request.if_none_match:
        return unchanged(etag, FOR_EVER)
    renderer: Renderer = request.registry["renderer"]
    if syntax == stored:
        pieces, length = found.file.stream(), found.file.length
    else:
        frame = Frame(found.file.path, found.file.offset, found.file.length)
        try:
            pieces, length = renderer.transcode(frame)
        except CannotRender as error:
            raise cannot(error) from None
    response = Response(app_iter=begun(pieces))
    response.headers["Content-Type"] = DICOM
    response.content_length = length
    return cached(response, etag, FOR_EVER)


def _picture(request: Any, found: Found, media_type: str) -> Response:
    asked = request.GET
    require_image(found)
    number = _whole(asked, "frameNumber", 1, 999_999_999)
    look = _look(asked, found, _KINDS[media_type])
    etag = etag_of(found.sha256, "uri", DRAWN, repr(look), str(number))
    if etag in request.if_none_match:
        return unchanged(etag, FOR_EVER)
    try:
        body = request.registry["renderer"].render(found.frame(number), look)
    except CannotRender as error:
        raise cannot(error) from None
    return cached(Response(body=body, content_type=media_type, charset=None), etag, FOR_EVER)


def _look(asked: Mapping[str, str], found: Found, kind: str) -> Look:
    window = None
    if "windowCenter" in asked or "windowWidth" in asked:
        window = make_window(_number(asked, "windowCenter"), _number(asked, "windowWidth"))
    viewport = None
    region = _region(asked["region"], found) if "region" in asked else None
    if "rows" in asked or "columns" in asked or region:
        # One of both alone is the limit in one direction; a region alone keeps its size.
        sized = "rows" in asked or "columns" in asked
        width = _whole(asked, "columns", LARGEST_VIEWPORT if sized or not region else int(region.width), LARGEST_VIEWPORT)
        height = _whole(asked, "rows", LARGEST_VIEWPORT if sized or not region else int(region.height), LARGEST_VIEWPORT)
        viewport = Viewport(width, height, region)
    return Look(kind, window, viewport, _whole(asked, "imageQuality", 90, 100))


def _region(text: str, found: Found) -> Region:
    """Read a region: left, top, right and bottom as parts of the whole image (PS3.18 9.1.2.2.8)."""
    parts = text.split(",")
    if len(parts) != 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise Refused(400, "region is four numbers between 0 and 1: left, top, right and bottom.")
    left, top, right, bottom = map(float, parts)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise Refused(400, "region is four numbers between 0 and 1: left, top, right and bottom.")
    columns, rows = found.facts.columns, found.facts.rows
    x, y = int(left * columns), int(top * rows)
    return Region(x, y, max(1, round(right * columns) - x), max(1, round(bottom * rows) - y))


def _whole(asked: Mapping[str, str], name: str, default: int, most: int) -> int:
    if name not in asked:
        return default
    text = asked[name]
    number = int(text) if _WHOLE.fullmatch(text) else 0
    if not 1 <= number <= most:
        raise Refused(400, f"{name} must be a whole number from 1 to {most:,}.")
    return number


def _number(asked: Mapping[str, str], name: str) -> float:
    text = asked.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise Refused(400, "windowCenter and windowWidth must both be given, and be numbers.")
    return float(text)


_TEXT = (
    ("requestType", "WADO."), ("studyUID", "A StudyInstanceUID."), ("seriesUID", "A SeriesInstanceUID."), ("objectUID", "A SOPInstanceUID."),
    ("contentType", "image/jpeg, image/png or application/dicom."), ("transferSyntax", "Of application/dicom: * is as stored."),
    ("frameNumber", "Number of the frame, from 1."), ("rows", "Largest height of the picture."), ("columns", "Largest width of the picture."),
    ("windowCenter", "Centre of the window."), ("windowWidth", "Width of the window."), ("imageQuality", "Quality of a JPEG, 1 to 100."),
    ("region", "Left, top, right and bottom of a part of the image, between 0 and 1."),
)  # fmt: skip

TRANSACTIONS = (
    Transaction(
        "retrieve_by_uri", "GET", "/wado", retrieve_by_uri, Permission.IMAGE_READ, "Retrieve an instance or a picture of it by WADO-URI.",
        (JPEG, PNG, DICOM), tuple(Parameter(name, sentence) for name, sentence in _TEXT), statuses=(304, 400, 404, 406, 410, 413),
    ),
)  # fmt: skip
