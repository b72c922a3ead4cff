"""Batches that pages list: filtered, sorted, and summed up before something is done with many of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.index.dialect import dialect_of
from dicomweb.listing import Page, take_page
from dicomweb.models import BATCH_STATUS, Batch, Label, LabelLink

# What is no status in the table, but looks like one.
DELETING = "DELETING"
STATUSES = (*BATCH_STATUS, DELETING)
SORTS: dict[str, Any] = {
    "id": Batch.id,
    "name": Batch.name,
    "images": Batch.image_count,
    "size": Batch.byte_count,
    "created": Batch.created_at,
    "modified": Batch.modified_at,
    "status": Batch.status,
    "errors": Batch.error_count,
}


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches are wanted; what is empty or None does not narrow.

    name: a part of the name, in any case. status: one of STATUSES. errors: only those with errors, or only those without.
    since, until: when they were created, the end left out.
    """

    name: str = ""
    status: str = ""
    source: str = ""
    label: str = ""
    errors: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


class BatchSums(NamedTuple):
    """What some batches hold together."""

    batches: int
    images: int
    bytes: int
    errors: int
    notices: int


def list_batches(
    dbsession: Session,
    wanted: BatchFilter,
    *,
    sort: str = "id",
    descending: bool = True,
    number: int,
    size: int,
    total: int | None = None,
) -> Page:
    """List batches in two statements. sort: one of SORTS. total: how many batches there are in all, when the caller knows it."""
    by = SORTS[sort]
    order = () if sort == "id" else (by.desc() if descending else by.asc(),)
    count = total if wanted == BatchFilter() else None
    return take_page(
        dbsession, _select(wanted), Batch.id, number=number, size=size, count=count, newest_first=descending, order=order
    )


def batch_ids(dbsession: Session, wanted: BatchFilter, *, most: int) -> list[int]:
    """Give the ids of at most so many of the batches that are wanted, the newest first; those being deleted are left out."""
    ids = _select(wanted).with_only_columns(Batch.id).where(~Batch.deleting)
    return list(dbsession.scalars(ids.order_by(Batch.id.desc()).limit(most)))


def batches_of(dbsession: Session, ids: Collection[int]) -> list[Batch]:
    """Give the batches with these ids that exist and are not being deleted, the newest first."""
    among = dialect_of(dbsession).within(Batch.id, ids)
    return list(dbsession.scalars(sa.select(Batch).where(among, ~Batch.deleting).order_by(Batch.id.desc())))


def sum_up(batches: Collection[Batch]) -> BatchSums:
    """Add up what batches hold."""
    return BatchSums(
        len(batches),
        sum(batch.image_count for batch in batches),
        sum(batch.byte_count for batch in batches),
        sum(batch.error_count for batch in batches),
        sum(batch.notice_count for batch in batches),
    )


def label_names(dbsession: Session) -> list[str]:
    """Give the names of all labels, in alphabetical order."""
    return sorted(dbsession.scalars(sa.select(Label.name)))


def _select(wanted: BatchFilter) -> sa.Select[Any]:
    statement = sa.select(Batch)
    if wanted.name:
        statement = statement.where(Batch.name.icontains(wanted.name, autoescape=True))
    if wanted.status == DELETING:
        statement = statement.where(Batch.deleting)
    elif wanted.status:
        statement = statement.where(Batch.status == wanted.status, ~Batch.deleting)
    if wanted.source:
        statement = statement.where(Batch.source == wanted.source)
    if wanted.label:
        labelled = sa.select(LabelLink.batch_id).join(Label, Label.id == LabelLink.label_id)
        statement = statement.where(Batch.id.in_(labelled.where(Label.folded == index.fold(wanted.label), LabelLink.batch_id.is_not(None))))
    if wanted.errors is not None:
        statement = statement.where(Batch.has_error == wanted.errors)
    if wanted.since is not None:
        statement = statement.where(Batch.created_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(Batch.created_at < wanted.until)
    return statement
