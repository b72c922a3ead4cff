"""Small pictures of images, series and studies, for lists: each has one address by its id, which leads to the picture that DICOMweb makes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import Response
from pyramid.view import view_config

from dicomweb.resources import ImageResource, SeriesResource, StudyResource
from dicomweb.security import Permission
from dicomweb.views import SeeOther

# Modalities of objects that have no pixels (PS3.3 C.7.3.1.1.1).
_NO_IMAGES = frozenset("AU DOC ECG EPS FID HD KER KO LEN PLAN PR REG RESP RTPLAN RTRECORD RTSTRUCT SMR SR SRF STAIN TEXTUREMAP VA".split())


@view_config(context=SeriesResource, name="thumbnail", permission=Permission.IMAGE_READ)
def lead_to_thumbnail_of_series(context: SeriesResource, request: Any) -> Any:
    """Lead to a small picture from the middle of a series."""
    if context.series.modality in _NO_IMAGES:
        return _tile(context.series.modality)
    return _lead(context.series.study.study_instance_uid, context.series.series_instance_uid)


@view_config(context=StudyResource, name="thumbnail", permission=Permission.IMAGE_READ)
def lead_to_thumbnail_of_study(context: StudyResource, request: Any) -> SeeOther:
    """Lead to a small picture from the middle of a study."""
    return _lead(context.study.study_instance_uid)


@view_config(context=ImageResource, name="thumbnail", permission=Permission.IMAGE_READ)
def lead_to_thumbnail_of_image(context: ImageResource, request: Any) -> Any:
    """Lead to a small picture of an image."""
    series = context.image.series
    if series is None or context.image.sop_instance_uid is None:
        raise HTTPNotFound()
    if series.modality in _NO_IMAGES:
        return _tile(series.modality)
    return _lead(series.study.study_instance_uid, series.series_instance_uid, context.image.sop_instance_uid)


def _tile(modality: str) -> Response:
    """Write what it is where there is no picture."""
    size = 15 if len(modality) < 4 else 9
    body = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" width="48" height="48"><rect width="48" height="48" fill="#2f3540"/>'
        f'<text x="24" y="{24 + size / 3:g}" font-family="sans-serif" font-size="{size}" text-anchor="middle" fill="#e8ebf0">{modality}</text></svg>'
    )
    return Response(text=body, content_type="image/svg+xml", charset="utf-8")


def _lead(*uids: str) -> SeeOther:
    # What DICOMweb has no address for (see docs/dicomweb.md) has no small picture.
    if any(not uid or "/" in uid for uid in uids):
        raise HTTPNotFound()
    names = ("studies", "series", "instances")
    parts = [f"{name}/{quote(uid, safe='')}" for name, uid in zip(names, uids, strict=False)]
    return SeeOther(location=f"/dicom-web/{'/'.join(parts)}/thumbnail?accept=image/jpeg")
