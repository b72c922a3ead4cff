"""``/api/images``: DICOM instances, their complete headers and their bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from pyramid.response import Response

from dicomweb import imports, index, removals, search
from dicomweb.api import schemas
from dicomweb.api.batches import file_error
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, nothing, page, service
from dicomweb.batches import BatchGone
from dicomweb.models import IMAGE_STATUS, Image, Outcome, escape_path
from dicomweb.security import Permission
from dicomweb.storage import BytesMissing

_ID = "The number of the image."
_BEING_IMPORTED = "The image is still being imported."

collection = service("images", "/images", "Images")
one = service("image", "/images/{id}", "One image")
its_file = service("image.file", "/images/{id}/file", "The bytes of an image", traverse="/images/{id}")

SERVICES = (collection, one, its_file)


@collection.get(
    schema=schemas.request(schemas.ImageFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["images"],
    operation_id="list_images",
    response_schemas=schemas.answers(schemas.page_of(schemas.ImageRow), "A page of images."),
)
def list_images(request: Any) -> dict[str, Any]:
    """List images."""
    wanted = request.validated
    found = search.list_images(
        request.dbsession,
        batch_id=wanted.get("batch"),
        status=wanted.get("status"),
        series_id=wanted.get("series"),
        sop_instance_uid=wanted.get("sop_instance_uid"),
        has_error=wanted.get("has_error"),
        number=wanted["page"],
        size=wanted["page_size"],
        newest_first=wanted["sort"] == "-id",
    )
    return page(request, found, [_image_row(request, image) for image in found.rows])


@one.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["images"],
    operation_id="get_image",
    response_schemas=schemas.answers(schemas.Image, "The image.", 404),
)
def get_image(request: Any) -> dict[str, Any]:
    """Show everything known about an image, with its complete header."""
    image = request.context.image
    headers, file_meta = b"{}", {}
    if image.header_key is not None:
        # Bulk data is in the file; the fragment says at which path of the header.
        prefix = f"{address(request, 'images', image.id, 'file')}#".encode()
        headers = index.read_headers(request.dbsession, [image.header_key], bulk_prefix=lambda key: prefix)[
            image.header_key
        ]
        file_meta = index.read_meta(request.dbsession, [image.header_key])[image.header_key]
    conflicts = sa.select(Outcome).where(Outcome.image_id == image.id, Outcome.kind == "conflict").order_by(Outcome.id)
    return {
        **_image_row(request, image),
        "sha256": None if image.sha256 is None else image.sha256.hex(),
        "stored": image.pack_id is not None,
        "file_meta": {tag: orjson.Fragment(element) for tag, element in file_meta.items()},
        "headers": orjson.Fragment(headers),
        "errors": [file_error(request, outcome) for outcome in request.dbsession.scalars(conflicts)],
    }


@one.delete(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.BATCH_DELETE,
    tags=["images"],
    operation_id="delete_image",
    response_schemas=schemas.answers(None, "The image is deleted.", 404, 409, 413, 415, status=204),
)
def delete_image(request: Any) -> Response:
    """Delete one image with everything that hangs on it."""
    image = request.context.image
    if image.status != "DONE":
        raise Refused(409, _BEING_IMPORTED)
    try:
        removals.delete_images(request.dbsession, [image], now=datetime.now(UTC))
    except BatchGone:
        raise Refused(409, "The batch of the image is being deleted.") from None
    return nothing()


@its_file.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["images"],
    operation_id="get_image_file",
    response_schemas=schemas.answers(schemas.File, "The file as it was imported, byte by byte.", 404, 409),
)
def get_image_file(request: Any) -> Response:
    """Download the file of an image."""
    image = request.context.image
    if image.status != "DONE":
        raise Refused(409, _BEING_IMPORTED)
    try:
        found = imports.locate(request.dbsession, image, request.registry["storage"])
        # A file that cannot be opened, or has become shorter, shows at its end; before the first byte there is still an answer.
        found.pread(max(0, found.length - 1), 1)
    except BytesMissing as error:
        raise Refused(404, str(error)) from None
    # PS3.10 section 7: a preamble may make the file something else too, so it is never shown; and its name is ours, because a
    # name that came with the file could break the header.
    return Response(
        app_iter=found.stream(),
        content_type="application/dicom",
        charset=None,
        content_length=found.length,
        content_disposition=f'attachment; filename="image-{image.id}.dcm"',
        headerlist=None,
    )


def _image_row(request: Any, image: Image) -> dict[str, Any]:
    series = image.series
    study = series.study if series is not None else None
    return {
        "id": image.id,
        "url": address(request, "images", image.id),
        "file": escape_path(image.path),
        "file_url": address(request, "images", image.id, "file") if image.status == "DONE" else None,
        "batch": image.batch_id,
        "batch_url": address(request, "batches", image.batch_id),
        "status": image.status,
        "status_text": IMAGE_STATUS[image.status],
        "sop_instance_uid": image.sop_instance_uid,
        "version": image.version,
        "modality": None if series is None else series.modality,
        "series": image.series_id,
        "series_url": address(request, "series", image.series_id),
        "series_instance_uid": None if series is None else series.series_instance_uid,
        "study": None if study is None else study.id,
        "study_url": None if study is None else address(request, "studies", study.id),
        "study_instance_uid": None if study is None else study.study_instance_uid,
        "instance_number": image.instance_number,
        "elements_count": image.element_count,
        "size": image.size,
        "added_at": image.added_at,
    }
