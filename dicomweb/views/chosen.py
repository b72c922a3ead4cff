"""What is done with many batches at once: first it is told what that will be, then it is done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from pyramid.httpexceptions import HTTPBadRequest, HTTPForbidden
from pyramid.view import view_config

from dicomweb import asking, batches
from dicomweb.asking import Mistake
from dicomweb.exports import KINDS
from dicomweb.languages import gettext
from dicomweb.models import Batch
from dicomweb.resources import BatchesContainer
from dicomweb.search import batch_lists
from dicomweb.search.batch_lists import BatchSums
from dicomweb.security import Permission
from dicomweb.views import see_other
from dicomweb.views.dashboard import batch_filter, batches_place
from dicomweb.views.fates import FATES, HARMLESS, fates_of
from dicomweb.views.messages import message
from dicomweb.views.places import parameters_of
from dicomweb.views.search import export_address

# As much as one transaction should change.
MOST_CHOSEN = 1000
# A query has so many conditions at most, see index.expressions.
MOST_RUNS = 200
ROWS_SHOWN = 20
DEEDS = {"delete": Permission.BATCH_DELETE, "retry": Permission.BATCH_RETRY, "label": Permission.LABEL_CHANGE, "export": Permission.IMAGE_READ}
_ID = re.compile(r"[1-9][0-9]{0,17}")


@view_config(context=BatchesContainer, name="chosen", request_method="GET", renderer="chosen.jinja2", permission=Permission.BATCH_READ)
def ask_about_chosen(context: BatchesContainer, request: Any) -> Any:
    """Tell what will be done with the batches that are chosen, and ask."""
    place = batches_place(request.GET)
    if request.GET.get("all") == "yes":
        ids = batch_lists.batch_ids(request.dbsession, batch_filter(place), most=MOST_CHOSEN + 1)
    else:
        ids = _ids(request.GET.getall("batch"))
    found = batch_lists.batches_of(request.dbsession, ids[:MOST_CHOSEN])
    if not found:
        return see_other(request, place.here(done="no-batches"))
    return {**_asked(request, request.GET.get("do", ""), found), "place": place, "is_cut": len(ids) > MOST_CHOSEN, "error": None, "message": message(request)}


@view_config(context=BatchesContainer, name="chosen", request_method="POST", renderer="chosen.jinja2", permission=Permission.BATCH_READ)
def change_chosen(context: BatchesContainer, request: Any) -> Any:
    """Do it: only when what was told is what there is."""
    given, dbsession, now = request.POST, request.dbsession, datetime.now(UTC)
    place = batches_place(parameters_of(given.get("list", "")))
    deed = given.get("do", "")
    ids = _ids(given.get("batches", "").split())
    found = batch_lists.batches_of(dbsession, ids[:MOST_CHOSEN])
    asked = _asked(request, deed, found)
    error = ""
    if not found or given.get("told") != _told(asked["sums"]):
        error = gettext("The batches have changed since you were asked; please look again at what will be done.")
    elif deed == "delete":
        if given.get("sure") == "yes":
            at_once = given.get("when") == "now"
            minutes = 0 if at_once else asked["undo_minutes"]
            count = sum(batches.delete_later(dbsession, batch, minutes=minutes, now=now) for batch in found)
            if minutes and (count or asked["leaving"]):
                return see_other(request, place.here(done="leaving-many"))
            return see_other(request, place.here(done="deleting-many" if count else "already-deleting"))
        error = gettext("Please tick the box to say that you are sure.")
    elif deed == "retry":
        chunk_files = request.registry.settings["dicomweb"]["import.chunk_files"]
        count = sum(_retry(request, batch, chunk_files, now) for batch in found if batch.error_count)
        return see_other(request, place.here(done="retry" if count else "nothing-failed"))
    elif deed == "label":
        put = given.get("how") != "remove"
        try:
            asking.change_label_of(dbsession, "batch", [batch.id for batch in found], given.get("label", ""), put=put, now=now)
            return see_other(request, place.here(done="labelled-rows" if put else "unlabelled-rows"))
        except Mistake as mistake:
            error = mistake.sentence
    request.response.status = 400
    return {**asked, "place": place, "is_cut": False, "error": error, "message": None}


def _retry(request: Any, batch: Batch, chunk_files: int, now: datetime) -> int:
    try:
        return batches.retry(request.dbsession, batch, chunk_files=chunk_files, now=now)
    except batches.BatchGone:
        # It is being deleted since this moment.
        return 0


def _asked(request: Any, deed: str, found: Sequence[Batch]) -> dict[str, Any]:
    if deed not in DEEDS:
        raise HTTPBadRequest()
    if not request.has_permission(DEEDS[deed]):
        raise HTTPForbidden()
    sums = batch_lists.sum_up(found)
    query_text = _query(found)
    settings, leaving = request.registry.settings["dicomweb"], [batch for batch in found if batch.delete_at is not None]
    return {
        "deed": deed,
        "batches": found,
        "shown": found[:ROWS_SHOWN],
        "sums": sums,
        "told": _told(sums),
        "most": MOST_CHOSEN,
        "undo_minutes": settings["cleanup.undo_minutes"],
        "leaving": leaving,
        "fate_sentences": FATES,
        "harmless": HARMLESS,
        "fates": fates_of(request.dbsession, settings, found) if deed == "delete" else {},
        "failed": [batch for batch in found if batch.error_count],
        "known_labels": batch_lists.label_names(request.dbsession),
        "search_address": f"/search?{urlencode({'q': query_text})}" if query_text else "",
        "exports": [(name, export_address(kind, q=query_text)) for kind, name in KINDS.items()] if query_text else [],
    }


def _told(sums: BatchSums) -> str:
    """Write what a person was told, so that it is not done with something else."""
    return " ".join(str(number) for number in sums)


def _query(found: Sequence[Batch]) -> str:
    """Write the search for the images of some batches; empty when it would be too long. By number, which no name can be taken for."""
    ids = sorted(batch.id for batch in found)
    starts = [ids[0], *(after for before, after in pairwise(ids) if after > before + 1)] if ids else []
    ends = [*(before for before, after in pairwise(ids) if after > before + 1), ids[-1]] if ids else []
    runs = [f"{first}..{last}" for first, last in zip(starts, ends, strict=True)]
    if not runs or len(runs) > MOST_RUNS:
        return ""
    return f"batch:{runs[0]}" if len(runs) == 1 else f"batch:({' '.join(runs)})"


def _ids(texts: Sequence[str]) -> list[int]:
    return [int(text) for text in dict.fromkeys(texts) if _ID.fullmatch(text)]

