"""What a search selects: studies, series or instances, a page of them, how many, and which image stands for each.

``Matching`` asks the header index. Lists without a condition, which viewers ask for most, are ``Whole``: answered from the rows of
studies and series, in a fraction of the time. Neither has images that are shadowed, nor what has no UID and so no address.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.db import among, fetch
from dicomweb.models import GROUP_SIZE, GroupSeries, Image, Series, Study
from dicomweb.rs.matching import Question, Scope
from dicomweb.search.finding import count_found

# Up to here a page of instances is found by walking from the first one; further on all keys are put in order.
_NEAR = 20_000
# Made once: to put a statement together takes longer than to answer it.
_HELD = sa.exists().where(GroupSeries.series_id == Series.id)
_NAMED = (Study.study_instance_uid != "", Series.series_instance_uid != "")
_NAMELESS = sa.select(Series.id).join(Study, Study.id == Series.study_key).where(sa.or_(Study.study_instance_uid == "", Series.series_instance_uid == ""))
_ANY_NAMELESS = sa.select(sa.or_(sa.exists().where(Study.study_instance_uid == ""), sa.exists().where(Series.series_instance_uid == "")))
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
_IMAGES_BY_UID = (
    sa.select(Image.header_key)
    .join(Series, Series.id == Image.series_id)
    .join(Study, Study.id == Series.study_key)
    .where(Image.header_key.is_not(None), *_NAMED)
)
_GROUPS = (
    sa.select(Series.id, Series.study_key, sa.func.min(GroupSeries.group_id).label("group_id"))
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .where(Series.series_instance_uid != "")
    .group_by(Series.id, Series.study_key)
)


def _firsts(level: str) -> sa.Select[Any]:
    group = _GROUPS.where(among(Series.study_key if level == "study" else Series.id, "ids")).subquery()
    start = group.c.group_id * GROUP_SIZE
    key = (
        sa.select(Image.header_key)
        .where(Image.header_key.between(start, start + GROUP_SIZE - 1), Image.series_id == group.c.id)
        .order_by(Image.header_key)
        .limit(1)
        .correlate(group)
        .scalar_subquery()
    )
    return sa.select(group.c.study_key if level == "study" else group.c.id, key)


_FIRSTS = {level: _firsts(level) for level in ("study", "series")}


class _Form(NamedTuple):
    """What a statement about a level depends on, but for its parameters: how many UIDs each has (2: several), and what is left out."""

    level: str
    studies: int
    series: int
    instances: int
    nameless: bool
    shadowed: bool

    def select(self) -> sa.Select[Any]:
        selected: sa.Select[Any]
        if self.level == "study":
            selected = _ALL_STUDIES
        elif self.level == "series":
            selected = _ALL_SERIES
        elif self.instances:
            selected = _IMAGES_BY_UID.where(_has(Image.sop_instance_uid, "instances", self.instances))
        elif self.studies or self.series:
            selected = _IMAGES_OF_SERIES
        else:
            # A walk along the unique key that ends with the page.
            selected = _ALL_IMAGES.where(Image.series_id.not_in(_NAMELESS)) if self.nameless else _ALL_IMAGES
        if self.studies:
            selected = selected.where(_has(Study.study_instance_uid, "studies", self.studies))
        if self.series:
            selected = selected.where(_has(Series.series_instance_uid, "series", self.series))
        return selected.where(sa.not_(among(Image.header_key, "shadowed"))) if self.shadowed else selected


def _has(column: Any, name: str, number: int) -> sa.ColumnElement[bool]:
    # Of one value databases know that it finds little, of several they do not.
    return column == sa.bindparam(name) if number == 1 else among(column, name)


@lru_cache
def _page(form: _Form) -> sa.Select[Any]:
    column: Any = {"study": Study.id, "series": Series.id, "image": Image.header_key}[form.level]
    if form.level == "image" and (form.studies or form.series):
        # They are few, and are put in order then; SQLite would walk along the key of all images there are to find them in this order.
        column = column + 0
    return form.select().order_by(column).offset(sa.bindparam("offset", type_=sa.BigInteger)).limit(sa.bindparam("limit", type_=sa.BigInteger))


@lru_cache
def _count(form: _Form) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(form.select().subquery())


class Selection(Protocol):
    """What was selected. Ids of images are their header keys."""

    def page(self, level: str, limit: int, offset: int) -> dict[int, int]:
        """Give the ids of a page, in the order of import, each with the header key of the first image that was selected."""

    def count(self, level: str) -> int:
        """Count all of it."""


def select(dbsession: Session, question: Question, level: str, study_uid: str | None, series_uid: str | None, shadowed: Collection[int]) -> Selection:
    """Select what was asked for, in a study or series or everywhere."""
    scope = question.scope.within(study_uid, series_uid)
    if scope.is_empty():
        return Matching(dbsession, index.Or(()))
    has_nameless = bool(fetch(dbsession, _ANY_NAMELESS).scalar())
    is_everything = question.expression == index.everything()
    if is_everything and scope.is_plain(level):
        return Whole(dbsession, scope, shadowed, has_nameless)
    operands = [] if is_everything else [question.expression]
    operands += scope.expressions()
    if shadowed:
        operands.append(index.Not(index.OfImages(sa.select(Image.header_key).where(among(Image.header_key, shadowed)))))
    if has_nameless:
        operands.append(index.Not(index.OfSeries(_NAMELESS)))
    return Matching(dbsession, operands[0] if len(operands) == 1 else index.And(tuple(operands)))


class Matching:
    """The images that match an expression, and what they belong to."""

    def __init__(self, dbsession: Session, expression: index.Expression) -> None:
        self._dbsession = dbsession
        self._expression = expression

    def page(self, level: str, limit: int, offset: int) -> dict[int, int]:
        """Give the ids of a page, in the order of import, each with the header key of its first matching image."""
        if level != "image":
            return index.page_of_parents(self._dbsession, self._expression, level, limit=limit, offset=offset)
        if offset + limit <= _NEAR:
            found = index.page(self._dbsession, self._expression, limit=offset + limit)[offset:]
        else:
            keys = index.select_keys(self._dbsession, self._expression).subquery()
            found = list(self._dbsession.scalars(sa.select(keys.c.key).order_by(keys.c.key).offset(offset).limit(limit)))
        return dict(zip(found, found, strict=True))

    def count(self, level: str) -> int:
        """Count all of it."""
        return count_found(self._dbsession, self._expression, level)


class Whole:
    """Everything, or all of some studies, series and instances."""

    def __init__(self, dbsession: Session, scope: Scope, shadowed: Collection[int], has_nameless: bool) -> None:
        self._dbsession = dbsession
        self._scope = scope
        self._shadowed = shadowed
        self._has_nameless = has_nameless

    def _form(self, level: str) -> tuple[_Form, dict[str, Any]]:
        studies, series, instances = (min(2, len(uids or ())) for uids in self._scope)
        form = _Form(level, studies, series, instances, self._has_nameless, level == "image" and bool(self._shadowed))
        parameters: dict[str, Any] = {name: next(iter(uids)) if len(uids) == 1 else uids for name, uids in self._scope._asdict().items() if uids}
        return form, parameters | ({"shadowed": self._shadowed} if form.shadowed else {})

    def page(self, level: str, limit: int, offset: int) -> dict[int, int]:
        """Give the ids of a page, in the order of import, each with the header key of its first image."""
        form, parameters = self._form(level)
        ids = fetch(self._dbsession, _page(form), limit=limit, offset=offset, **parameters).scalars().all()
        if level == "image":
            return dict(zip(ids, ids, strict=True))
        firsts: dict[int, int] = {}
        for id_, key in fetch(self._dbsession, _FIRSTS[level], ids=ids):
            if key is not None:
                firsts[id_] = min(key, firsts.get(id_, key))
        # What was removed meanwhile has none.
        return {id_: firsts[id_] for id_ in ids if id_ in firsts}

    def count(self, level: str) -> int:
        """Count all of it."""
        form, parameters = self._form(level)
        return fetch(self._dbsession, _count(form), **parameters).scalar() or 0
