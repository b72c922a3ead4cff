"""What the viewer of an image page fetches: what there is to show, the fields of the slice shown, and the slices before and after."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from pyramid.response import Response
from pyramid.view import view_config

from dicomweb import outlines, viewing
from dicomweb.languages import gettext
from dicomweb.models import Image, Study
from dicomweb.resources import ImageResource
from dicomweb.security import Permission
from dicomweb.views import SeeOther, formats, see_other
from dicomweb.views.images import fields_of, image_path


@view_config(context=ImageResource, name="viewer.json", permission=Permission.IMAGE_READ)
def tell_viewer(context: ImageResource, request: Any) -> Response:
    """Tell the viewer what the series of an image is made of: volumes and stacks, their frames in order, and why a stack is no volume.

    What all images have alike is said once (``common``); frames are (index of the image, number of the frame).
    """
    image = context.image
    series = viewing.series_of(request.dbsession, image)
    common = viewing.common_elements(series.images)
    told = {
        "about": _about(image),
        "root": _root(image),
        "common": common,
        "images": [_image(one, common) for one in series.images],
        "displays": [_display(one) for one in series.displays],
        "start": series.start,
        "left_out": series.left_out,
        "structure_sets": _structure_sets(request, image, series),
    }
    return Response(body=orjson.dumps(told), content_type="application/json", charset=None)


@view_config(context=ImageResource, name="fields", renderer="_fields_card.jinja2", permission=Permission.IMAGE_READ)
def show_fields(context: ImageResource, request: Any) -> dict[str, Any]:
    """Give the table of fields alone: of the slice that the viewer shows."""
    return fields_of(context, request)


@view_config(context=ImageResource, name="next-slice", permission=Permission.IMAGE_READ)
def lead_to_next_slice(context: ImageResource, request: Any) -> SeeOther:
    """Lead to the slice after this one, for browsers without scripts."""
    return _lead(context, request, 1, "last-slice")


@view_config(context=ImageResource, name="previous-slice", permission=Permission.IMAGE_READ)
def lead_to_previous_slice(context: ImageResource, request: Any) -> SeeOther:
    """Lead to the slice before this one."""
    return _lead(context, request, -1, "first-slice")


def _lead(context: ImageResource, request: Any, step: int, at_the_end: str) -> SeeOther:
    image = context.image
    found = viewing.neighbour(viewing.series_of(request.dbsession, image), image.id, step)
    if found is None:
        return see_other(request, image_path(image), message=at_the_end)
    return see_other(request, f"/batches/{found.batch_id}/images/{found.image_id}")


def _about(image: Image) -> dict[str, str]:
    """Give what is written over the picture."""
    series = image.series
    if series is None:
        return {"patient": "", "patient_id": "", "birth_date": "", "study": "", "study_date": "", "series": "", "series_number": "", "modality": ""}
    study: Study = series.study
    return {
        "patient": study.patient.patient_name, "patient_id": study.patient.patient_id, "birth_date": formats.dicom_date(study.patient.patient_birth_date),
        "study": study.study_description, "study_date": formats.dicom_date(study.study_date), "series": series.series_description,
        "series_number": series.series_number, "modality": series.modality,
    }  # fmt: skip


def _structure_sets(request: Any, image: Image, series: viewing.Series) -> list[dict[str, Any]]:
    """Give the RT structure sets that can be drawn over the series."""
    values = series.images[0].elements.get("00200052", {}).get("Value", [""]) if series.images else [""]
    frame_of_reference = values[0] if values and isinstance(values[0], str) else ""
    found = outlines.sets_of(request.dbsession, image.series, (one.sop_uid for one in series.images), frame_of_reference)
    return [{"id": one.image_id, "title": one.title, "day": one.day, "address": f"/batches/{one.batch_id}/images/{one.image_id}"} for one in found]


def _root(image: Image) -> str:
    """Give the address below which the instances of the series are in DICOMweb; empty when they have none there."""
    if image.series is None:
        return ""
    study_uid, series_uid = image.series.study.study_instance_uid, image.series.series_instance_uid
    if not study_uid or not series_uid or "/" in study_uid + series_uid:
        return ""
    return f"/dicom-web/studies/{quote(study_uid, safe='')}/series/{quote(series_uid, safe='')}/instances/"


def _image(one: viewing.Shown, common: dict[str, Any]) -> dict[str, Any]:
    frames = {"of_frames": {str(number): elements for number, elements in one.of_frames.items()}} if one.of_frames else {}
    return {
        "id": one.image_id, "batch": one.batch_id, "uid": one.sop_uid, "v": one.sha256.hex()[:16], "number": one.number, "frames": one.frames, "how": one.how,
        "elements": {tag: element for tag, element in one.elements.items() if tag not in common}, **frames,
    }  # fmt: skip


def _display(one: viewing.Display) -> dict[str, Any]:
    volume = one.volume
    told: dict[str, Any] = {"frames": one.frames, "kind": one.kind, "code": one.code, "reason": gettext(one.sentence), "volume": None}
    if volume is not None:
        told["volume"] = {**volume._asdict(), "plane": one.plane, "aligned": viewing.is_aligned(volume)}
    return told
