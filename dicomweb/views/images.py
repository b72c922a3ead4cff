"""Image pages: the frame, and the table of fields."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import Response
from pyramid.view import view_config

from dicomweb import asking, imports, index, ohif
from dicomweb.asking import Mistake
from dicomweb.languages import gettext
from dicomweb.models import IMAGE_STATUS, Image, Outcome
from dicomweb.pixels import CannotRender, Frame
from dicomweb.resources import ImageResource
from dicomweb.search import labels_of, list_labels
from dicomweb.security import VIEWER_POLICY, Permission
from dicomweb.storage import BytesMissing
from dicomweb.views import SeeOther, see_other
from dicomweb.views.fields import Table, find, value_text
from dicomweb.views.messages import message
from dicomweb.views.objects import DOCUMENT_PAGE_POLICY, describe, header_of
from dicomweb.views.search import search_address, shown_label

_FRAME = re.compile(r"[1-9][0-9]{0,8}")
# The address of a frame names the bytes it comes from, so what it once showed it shows for ever.
FRAME_SECONDS = 86400 * 30
# Changed when the same bytes are drawn in another way.
DRAWN = b"1"
LONGEST_FILTER = 200


def image_path(image: Image) -> str:
    """Give the address of an image."""
    return f"/batches/{image.batch_id}/images/{image.id}"


@view_config(context=ImageResource, renderer="image.jinja2", permission=Permission.IMAGE_READ)
def show_image(context: ImageResource, request: Any) -> Any:
    """Show an image and the table of its fields."""
    image, dbsession = context.image, request.dbsession
    if not context.in_batch:
        return see_other(request, image_path(image))
    header = header_of(request, image)
    frames = _first_number(header, "00280008", 1)
    number = _frame_number(request)
    has_pixels = _has_pixels(header)
    if has_pixels:
        request.response.headers["Content-Security-Policy"] = VIEWER_POLICY
    described = {} if has_pixels or image.status != "DONE" else describe(request, image, header)
    if described.get("kind") == "document":
        request.response.headers["Content-Security-Policy"] = DOCUMENT_PAGE_POLICY
    earlier = sa.select(sa.func.max(Image.id)).where(Image.batch_id == image.batch_id, Image.id < image.id)
    later = sa.select(sa.func.min(Image.id)).where(Image.batch_id == image.batch_id, Image.id > image.id)
    previous_id, next_id = dbsession.execute(sa.select(earlier.scalar_subquery(), later.scalar_subquery())).one()
    conflict = dbsession.scalar(sa.select(Outcome).where(Outcome.kind == "conflict", Outcome.image_id == image.id).limit(1))
    return {
        "image": image,
        "place": image_path(image),
        "batch": context.batch,
        "status_sentence": IMAGE_STATUS[image.status],
        **_fields(request, image, header),
        **described,
        "has_pixels": has_pixels,
        "frames": max(1, frames),
        "number": number,
        "frame_address": f"{image_path(image)}/frame?n={number}&v={(image.sha256 or b'').hex()[:16]}",
        "shape": _shape(header),
        "previous": previous_id,
        "next": next_id,
        "conflict": conflict,
        "message": message(request),
        "labels": [
            (kind, [shown_label(name) for name in labels_of(dbsession, kind, [id_]).get(id_, ())]) for kind, id_ in _labelled(image).items()
        ],
        "known_labels": list_labels(dbsession),
        "addresses": _neighbours(image),
        "ohif_address": _ohif_address(image) if _has_pixels(header) else "",
    }


def fields_of(context: ImageResource, request: Any) -> dict[str, Any]:
    """Give what the table of the fields of an image is made of."""
    image = context.image
    return {**_fields(request, image, header_of(request, image)), "image": image, "place": image_path(image), "number": _frame_number(request)}


def _fields(request: Any, image: Image, header: dict[str, Any]) -> dict[str, Any]:
    wanted = request.GET.get("q", "")[:LONGEST_FILTER]
    return {"meta": Table(_meta(request, image), wanted), "table": Table(header, wanted), "wanted": wanted}


def _labelled(image: Image) -> dict[str, int]:
    """Give what an image's page shows the labels of: itself, and what it is a part of."""
    of_series = {} if image.series is None else {"series": image.series.id, "study": image.series.study.id}
    return {"image": image.id, **of_series, "batch": image.batch_id}


def _neighbours(image: Image) -> dict[str, str]:
    """Give the searches for what else there is of the patient, study and series of an image."""
    if image.series is None:
        return {}
    study = image.series.study
    return {
        "patient": search_address(PatientID=study.patient.patient_id),
        "study": search_address(StudyInstanceUID=study.study_instance_uid),
        "series": search_address(SeriesInstanceUID=image.series.series_instance_uid),
    }


def _ohif_address(image: Image) -> str:
    """Give the address at which OHIF shows the series of an image, this image first; empty where it cannot."""
    series = image.series
    if series is None or not image.sop_instance_uid:
        return ""
    return ohif.viewer_address(series.study.study_instance_uid, series.series_instance_uid, image.sop_instance_uid)


@view_config(context=ImageResource, name="label", request_method="POST", permission=Permission.LABEL_CHANGE)
def label_image(context: ImageResource, request: Any) -> SeeOther:
    """Put a label on an image, its series, study or batch, or take it off."""
    image, put, kind = context.image, request.POST.get("do") != "remove", request.POST.get("on", "")
    labelled = _labelled(image)
    if kind not in labelled:
        raise HTTPNotFound()
    try:
        name = request.POST.get("label", "")
        asking.change_label_of(request.dbsession, kind, [labelled[kind]], name, put=put, now=datetime.now(UTC))
    except Mistake:
        return see_other(request, image_path(image), message="not-labelled")
    return see_other(request, image_path(image), message="labelled-one" if put else "unlabelled-one")


@view_config(context=ImageResource, name="frame", permission=Permission.IMAGE_READ)
def draw_frame(context: ImageResource, request: Any) -> Response:
    """Draw one frame as PNG."""
    image = context.image
    if image.sha256 is None:
        raise HTTPNotFound(gettext("This image has not been imported yet."))
    number = _frame_number(request)
    tag = hashlib.sha256(b"%s:%d:%s" % (image.sha256, number, DRAWN)).hexdigest()[:32]
    named = request.GET.get("v") == image.sha256.hex()[:16]
    response = Response(content_type="image/png", conditional_response=True)
    response.etag = tag
    response.cache_control = f"private, max-age={FRAME_SECONDS}, immutable" if named else "private, no-cache"
    if tag in request.if_none_match:
        response.status = 304
        return response
    try:
        found = imports.locate(request.dbsession, image, request.registry["storage"])
        response.body = request.registry["renderer"].render(Frame(found.path, found.offset, found.length, number))
    except (CannotRender, BytesMissing) as error:
        busy = isinstance(error, CannotRender) and error.code in ("busy", "slow")
        return Response(text=f"{error}\n", status=503 if busy else 415, content_type="text/plain", charset="utf-8")
    return response


@view_config(context=ImageResource, name="value", permission=Permission.IMAGE_READ)
def show_value(context: ImageResource, request: Any) -> Response:
    """Give the whole value of one element as text."""
    element = find(header_of(request, context.image), request.GET.get("path", ""))
    if element is None or element.get("vr") == "SQ":
        raise HTTPNotFound()
    return Response(text=value_text(element) + "\n", content_type="text/plain", charset="utf-8")


def _meta(request: Any, image: Image) -> dict[str, Any]:
    if image.header_key is None:
        return {}
    found = index.read_meta(request.dbsession, [image.header_key]).get(image.header_key, {})
    return {tag: orjson.loads(element) for tag, element in found.items()}


def _frame_number(request: Any) -> int:
    text = request.GET.get("n", "1")
    return int(text) if _FRAME.fullmatch(text) else 1


def _has_pixels(header: dict[str, Any]) -> bool:
    # (7FE0,0008) to (7FE0,0010): float, double float and plain pixel data; Rows without them is a header alone.
    return any(tag in header for tag in ("7FE00008", "7FE00009", "7FE00010")) or "00280010" in header


def _first_number(header: dict[str, Any], tag: str, default: int) -> int:
    value = (header.get(tag, {}).get("Value") or [default])[0]
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


def _shape(header: dict[str, Any]) -> tuple[int, int] | None:
    """Give width and height at which pixels that are not square are shown as they should be; None when nothing is known."""
    rows, columns = _first_number(header, "00280010", 0), _first_number(header, "00280011", 0)
    if rows <= 0 or columns <= 0:
        return None
    # (0028,0030) PixelSpacing, (0018,1164) ImagerPixelSpacing, (0028,0034) PixelAspectRatio: rows first, then columns.
    for tag in ("00280030", "00181164", "00280034"):
        values = header.get(tag, {}).get("Value") or ()
        try:
            down, across = (float(value) for value in values)
        except (TypeError, ValueError):
            continue
        if down > 0 and across > 0 and 0.05 <= down / across <= 20:
            ratio = down / across
            return (columns, max(1, round(rows * ratio))) if ratio >= 1 else (max(1, round(columns / ratio)), rows)
    return columns, rows


