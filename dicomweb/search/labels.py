"""Labels: words that people put on batches, studies, series and images, one by one or on a whole result.

A label on a batch, study or series is found (``label:``) on all images of it. Names that a search cannot tell apart are one label.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.db import change, insert_missing
from dicomweb.index.dialect import dialect_of
from dicomweb.languages import gettext, grouped
from dicomweb.models import Batch, Image, Label, LabelLink, Series, Study
from dicomweb.search.compiling import compile_query
from dicomweb.search.errors import SearchError, TooBroad
from dicomweb.search.finding import count_found, ids_of_level

KINDS = ("batch", "study", "series", "image")
LONGEST_NAME = 64
# More than that are labelled by their series, studies or batches.
MOST_LABELLED = 100_000

_TARGETS: dict[str, Any] = {"batch": Batch.id, "study": Study.id, "series": Series.id, "image": Image.id}


class LabelUse(NamedTuple):
    """A label, and on how many of each it is."""

    name: str
    batches: int
    studies: int
    series: int
    images: int


def list_labels(dbsession: Session) -> list[LabelUse]:
    """Give all labels in alphabetical order, and how often they are used."""
    counts = [sa.func.count(getattr(LabelLink, f"{kind}_id")) for kind in KINDS]
    found = sa.select(Label.name, *counts).outerjoin(LabelLink, LabelLink.label_id == Label.id).group_by(Label.id, Label.name)
    return sorted(LabelUse._make(row) for row in dbsession.execute(found))


def add_label(dbsession: Session, name: str, kind: str, ids: Collection[int], *, now: datetime) -> int:
    """Put a label on some batches, studies, series or images; tell on how many it was not. Ids that are not there are left out.

    Raises SearchError.
    """
    target = _target(kind)
    wanted = sa.select(target.label("id")).where(dialect_of(dbsession).within(target, ids))
    return _link(dbsession, name, kind, wanted, now=now)


def add_label_to_found(dbsession: Session, name: str, node: query.Node, level: str, *, now: datetime) -> int:
    """Put a label on all images, series or studies that a query finds; tell on how many it was not. Raises SearchError."""
    return _link(dbsession, name, level, _found(dbsession, node, level), now=now)


def remove_label(dbsession: Session, name: str, kind: str, ids: Collection[int]) -> int:
    """Take a label off some batches, studies, series or images; tell from how many. Raises SearchError."""
    _target(kind)
    return _unlink(dbsession, name, kind, dialect_of(dbsession).within(getattr(LabelLink, f"{kind}_id"), ids))


def remove_label_from_found(dbsession: Session, name: str, node: query.Node, level: str) -> int:
    """Take a label off all images, series or studies that a query finds; tell from how many. Raises SearchError."""
    found = _found(dbsession, node, level).subquery()
    return _unlink(dbsession, name, level, getattr(LabelLink, f"{level}_id").in_(sa.select(found.c.id)))


def delete_label(dbsession: Session, name: str) -> bool:
    """Take a label off everything and forget it; tell whether there was one."""
    return change(dbsession, sa.delete(Label).where(Label.folded == index.fold(name))) > 0


def _target(kind: str) -> Any:
    if kind not in KINDS:
        raise SearchError(gettext("A label is put on a batch, study, series or image."))
    return _TARGETS[kind]


def _found(dbsession: Session, node: query.Node, level: str) -> sa.Select[Any]:
    expression = compile_query(dbsession, node)
    if count_found(dbsession, expression, level) > MOST_LABELLED:
        raise TooBroad(gettext("At most %(most_labelled)s rows are labelled at once; please label series or studies instead, or narrow the search.", most_labelled=grouped(MOST_LABELLED)))
    if level == "image":
        keys = index.select_keys(dbsession, expression).subquery()
        return sa.select(Image.id.label("id")).join(keys, keys.c.key == Image.header_key)
    return ids_of_level(dbsession, expression, level)


def _link(dbsession: Session, name: str, kind: str, ids: sa.Select[Any], *, now: datetime) -> int:
    name = " ".join(name.split())
    folded = index.fold(name)
    if not folded or len(name) > LONGEST_NAME or not name.isprintable() or name.startswith("-"):
        raise SearchError(gettext("A label has 1 to %(most)s printable characters, and does not begin with a minus.", most=LONGEST_NAME))
    insert_missing(dbsession, Label, [{"name": name, "folded": folded, "created_at": now}])
    label_id = dbsession.scalar(sa.select(Label.id).where(Label.folded == folded))
    found = ids.subquery()
    column = f"{kind}_id"
    insert = postgresql.insert if dbsession.get_bind().dialect.name == "postgresql" else sqlite.insert
    # SQLite takes ON for part of a join unless there is a WHERE before it.
    rows = sa.select(sa.literal(label_id, sa.BigInteger), found.c.id).where(found.c.id.is_not(None))
    linking = insert(LabelLink).from_select(["label_id", column], rows).on_conflict_do_nothing()
    result: Any = dbsession.execute(linking, execution_options={"preserve_rowcount": True})
    return result.rowcount


def _unlink(dbsession: Session, name: str, kind: str, which: sa.ColumnElement[bool]) -> int:
    label_id = sa.select(Label.id).where(Label.folded == index.fold(name)).scalar_subquery()
    return change(dbsession, sa.delete(LabelLink).where(LabelLink.label_id == label_id, getattr(LabelLink, f"{kind}_id").is_not(None), which))
