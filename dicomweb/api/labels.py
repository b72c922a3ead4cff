"""``/api/labels``: words that people put on batches, studies, series and images, one by one or on a whole result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pyramid.response import Response

from dicomweb import asking
from dicomweb.api import schemas, search_schemas
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, nothing, service
from dicomweb.api.search import refused
from dicomweb.models import Label
from dicomweb.search import labels
from dicomweb.security import Permission

_ID = "The number of the label."

collection = service("labels", "/labels", "Labels")
off = service("labels.remove", "/labels/remove", "Take a label off", traverse="/labels")
one = service("labels.one", "/labels/{id}", "One label")

# The more exact path comes first, because the first that fits is taken.
SERVICES = (collection, off, one)


@collection.get(
    schema=schemas.request(),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["labels"],
    operation_id="list_labels",
    response_schemas=schemas.answers(search_schemas.Labels, "The labels."),
)
def list_labels(request: Any) -> dict[str, Any]:
    """List the labels, and on how many batches, studies, series and images each is."""
    return {"results": _labels(request)}


@collection.post(
    schema=schemas.request(body=search_schemas.Labelling),
    validators=(checked,),
    permission=Permission.LABEL_CHANGE,
    tags=["labels"],
    operation_id="put_label",
    response_schemas=schemas.answers(search_schemas.Labelled, "On how many it was put.", 413, 415),
)
def put_label(request: Any) -> dict[str, Any]:
    """Put a label on batches, studies, series or images, or on all that a query finds."""
    return _change(request, put=True)


@off.post(
    schema=schemas.request(body=search_schemas.Labelling),
    validators=(checked,),
    permission=Permission.LABEL_CHANGE,
    tags=["labels"],
    operation_id="take_label",
    response_schemas=schemas.answers(search_schemas.Labelled, "From how many it was taken.", 413, 415),
)
def take_label(request: Any) -> dict[str, Any]:
    """Take a label off batches, studies, series or images, or off all that a query finds."""
    return _change(request, put=False)


@one.get(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["labels"],
    operation_id="get_label",
    response_schemas=schemas.answers(search_schemas.Label, "The label.", 404),
)
def get_label(request: Any) -> dict[str, Any]:
    """Show a label, and on how many batches, studies, series and images it is."""
    wanted = request.context.label.id
    for label in _labels(request):
        if label["id"] == wanted:
            return label
    raise Refused(404, "There is no such thing.")


@one.delete(
    schema=schemas.request(identified=_ID),
    validators=(checked,),
    permission=Permission.LABEL_CHANGE,
    tags=["labels"],
    operation_id="delete_label",
    response_schemas=schemas.answers(None, "The label is on nothing any more.", 404, 413, 415, status=204),
)
def delete_label(request: Any) -> Response:
    """Take a label off everything, and forget it."""
    if not labels.delete_label(request.dbsession, request.context.label.name):
        raise Refused(404, "There is no such thing.")
    return nothing()


def _change(request: Any, *, put: bool) -> dict[str, Any]:
    wanted, dbsession, now = request.validated, request.dbsession, datetime.now(UTC)
    name = wanted["label"]
    by_ids = "kind" in wanted and "ids" in wanted
    if by_ids == ("query" in wanted) or (not by_ids and ("kind" in wanted or "ids" in wanted)):
        raise Refused(400, "Say kind and ids, or a query.", location="body", name="ids")
    try:
        with asking.mistakes("label", name):
            if by_ids:
                kind, ids = wanted["kind"], wanted["ids"]
                if put:
                    changed = labels.add_label(dbsession, name, kind, ids, now=now)
                else:
                    changed = labels.remove_label(dbsession, name, kind, ids)
            else:
                question = asking.read_question(wanted["query"], level=wanted["level"], now=now)
                changed = asking.change_label(dbsession, question, name, put=put, now=now)
    except asking.Mistake as mistake:
        mistake.name = "query" if mistake.name == "q" else mistake.name
        raise refused(mistake, "body") from None
    return {"label": name, "changed": changed}


def _labels(request: Any) -> list[dict[str, Any]]:
    known = {label.name: label for label in request.dbsession.scalars(sa.select(Label))}
    return [_label(request, known[use.name], use) for use in labels.list_labels(request.dbsession) if use.name in known]


def _label(request: Any, label: Label, use: labels.LabelUse) -> dict[str, Any]:
    return {
        "id": label.id,
        "url": address(request, "labels", label.id),
        "name": label.name,
        "created_at": label.created_at,
        "batches_count": use.batches,
        "studies_count": use.studies,
        "series_count": use.series,
        "images_count": use.images,
    }
