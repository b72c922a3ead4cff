"""What a search selects: studies, series or instances, a page of them, how many, and which image stands for each.

``Matching`` asks the header index. Lists without a condition, which viewers ask for most, are ``Whole``: answered from the rows of
studies and series, in a fraction of the time. Neither has images that are shadowed, nor what has no UID and so no address.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.index.dialect import dialect_of
from dicomweb.models import GROUP_SIZE, GroupSeries, Image, Series, Study
from dicomweb.rs.instances import is_text
from dicomweb.search.finding import count_found, ids_of_level
from dicomweb.search.firsts import first_images

# Up to here a page of instances is found by walking from the first one; further on all keys are put in order.
_NEAR = 20_000
# Made once: to put a statement together takes longer than to answer it.
_HELD = sa.exists().where(GroupSeries.series_id == Series.id)
_NAMED = (Study.study_instance_uid != "", Series.series_instance_uid != "")
_NAMELESS = sa.select(Series.id).join(Study, Study.id == Series.study_key).where(sa.or_(Study.study_instance_uid == "", Series.series_instance_uid == ""))
_ANY_NAMELESS = _NAMELESS.limit(1)
_ALL_STUDIES = sa.select(Study.id).where(
    Study.study_instance_uid != "", sa.exists().where(Series.study_key == Study.id, Series.series_instance_uid != "", _HELD.correlate(Series))
)
_ALL_SERIES = sa.select(Series.id).join(Study, Study.id == Series.study_key).where(*_NAMED, _HELD)
_ALL_IMAGES = sa.select(Image.header_key).where(Image.header_key.is_not(None))
_IMAGES_OF_SERIES = (
    sa.select(Image.header_key)
    .select_from(Series)
    .join(Study, Study.id == Series.study_key)
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .join(Image, sa.and_(Image.header_key.between(GroupSeries.group_id * GROUP_SIZE, GroupSeries.group_id * GROUP_SIZE + GROUP_SIZE - 1), Image.series_id == Series.id))
    .where(*_NAMED)
)


class Selection(Protocol):
    """What was selected. Ids of images are their header keys."""

    def ids(self, level: str, limit: int, offset: int) -> list[int]:
        """Give the ids of a page, in the order of import."""

    def count(self, level: str) -> int:
        """Count all of it."""

    def firsts(self, level: str, ids: Collection[int]) -> dict[int, int]:
        """Give the header key of the first image of studies or series."""


def select(
    dbsession: Session, asked: index.Expression, study_uid: str | None, series_uid: str | None, shadowed: Collection[int]
) -> Selection:
    """Select what was asked for, in a study or series or everywhere."""
    if not all(is_text(uid) for uid in (study_uid, series_uid) if uid is not None):
        return Matching(dbsession, index.Or(()))
    has_nameless = dbsession.scalar(_ANY_NAMELESS) is not None
    if asked == index.everything():
        return Whole(dbsession, study_uid, series_uid, shadowed, has_nameless)
    operands = [asked]
    if study_uid is not None:
        within = sa.select(Series.id).join(Study, Study.id == Series.study_key).where(Study.study_instance_uid == study_uid)
        operands.append(index.OfSeries(within if series_uid is None else within.where(Series.series_instance_uid == series_uid)))
    if shadowed:
        hidden = sa.select(Image.header_key).where(dialect_of(dbsession).within(Image.header_key, shadowed))
        operands.append(index.Not(index.OfImages(hidden)))
    if has_nameless:
        operands.append(index.Not(index.OfSeries(_NAMELESS)))
    return Matching(dbsession, operands[0] if len(operands) == 1 else index.And(tuple(operands)))


class Matching:
    """The images that match an expression, and what they belong to."""

    def __init__(self, dbsession: Session, expression: index.Expression) -> None:
        self._dbsession = dbsession
        self._expression = expression

    def ids(self, level: str, limit: int, offset: int) -> list[int]:
        """Give the ids of a page, in the order of import."""
        if level == "image" and offset + limit <= _NEAR:
            return index.page(self._dbsession, self._expression, limit=offset + limit)[offset:]
        if level == "image":
            keys = index.select_keys(self._dbsession, self._expression).subquery()
            page = sa.select(keys.c.key).order_by(keys.c.key)
        else:
            ids = ids_of_level(self._dbsession, self._expression, level).subquery()
            page = sa.select(ids.c.id).order_by(ids.c.id)
        return list(self._dbsession.scalars(page.offset(offset).limit(limit)))

    def count(self, level: str) -> int:
        """Count all of it."""
        return count_found(self._dbsession, self._expression, level)

    def firsts(self, level: str, ids: Collection[int]) -> dict[int, int]:
        """Give the header key of the first matching image of studies or series."""
        return {id_: key for id_, (key, _) in first_images(self._dbsession, self._expression, level, ids).items()}


class Whole:
    """Everything, or all of a study or series."""

    def __init__(self, dbsession: Session, study_uid: str | None, series_uid: str | None, shadowed: Collection[int], has_nameless: bool) -> None:
        self._dbsession = dbsession
        self._scope: Sequence[sa.ColumnElement[bool]] = ()
        if study_uid is not None:
            self._scope = (Study.study_instance_uid == study_uid,)
        if series_uid is not None:
            self._scope = (*self._scope, Series.series_instance_uid == series_uid)
        self._shadowed = shadowed
        self._has_nameless = has_nameless

    def _select(self, level: str) -> sa.Select[Any]:
        if level == "study":
            return _ALL_STUDIES
        if level == "series":
            return _ALL_SERIES.where(*self._scope)
        if self._scope:
            images = _IMAGES_OF_SERIES.where(*self._scope)
        else:
            # A walk along the unique key that ends with the page.
            images = _ALL_IMAGES.where(Image.series_id.not_in(_NAMELESS)) if self._has_nameless else _ALL_IMAGES
        if self._shadowed:
            images = images.where(sa.not_(dialect_of(self._dbsession).within(Image.header_key, self._shadowed)))
        return images

    def ids(self, level: str, limit: int, offset: int) -> list[int]:
        """Give the ids of a page, in the order of import."""
        column = {"study": Study.id, "series": Series.id, "image": Image.header_key}[level]
        return list(self._dbsession.scalars(self._select(level).order_by(column).offset(offset).limit(limit)))

    def count(self, level: str) -> int:
        """Count all of it."""
        return self._dbsession.scalar(sa.select(sa.func.count()).select_from(self._select(level).subquery())) or 0

    def firsts(self, level: str, ids: Collection[int]) -> dict[int, int]:
        """Give the header key of the first image of studies or series."""
        group = (
            sa.select(Series.id, Series.study_key, sa.func.min(GroupSeries.group_id).label("group_id"))
            .join(GroupSeries, GroupSeries.series_id == Series.id)
            .where(dialect_of(self._dbsession).within(Series.study_key if level == "study" else Series.id, ids), Series.series_instance_uid != "")
            .group_by(Series.id, Series.study_key)
            .subquery()
        )
        start = group.c.group_id * GROUP_SIZE
        key = (
            sa.select(Image.header_key)
            .where(Image.header_key.between(start, start + GROUP_SIZE - 1), Image.series_id == group.c.id)
            .order_by(Image.header_key)
            .limit(1)
            .correlate(group)
            .scalar_subquery()
        )
        found: dict[int, int] = {}
        for id_, first in self._dbsession.execute(sa.select(group.c.study_key if level == "study" else group.c.id, key)):
            if first is not None:
                found[id_] = min(first, found.get(id_, first))
        return found
