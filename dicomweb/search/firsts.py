"""Which image stands for a series or a study: the first that matches, in the order of import."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.index.dialect import dialect_of
from dicomweb.models import Image, Series


def first_images(
    dbsession: Session, asked: index.Expression | index.Search, level: str, ids: Collection[int] | None = None
) -> dict[int, tuple[int, int]]:
    """Tell of series or studies (of these, or of all found) the header key of their first matching image, and how many match."""
    among = None
    if ids is not None:
        of_level = Series.id if level == "series" else Series.study_key
        among = sa.select(Series.id).where(dialect_of(dbsession).within(of_level, ids))
    firsts = index.select_firsts(dbsession, asked, among).subquery()
    if level == "series":
        found = sa.select(firsts.c.series_id, firsts.c.key, firsts.c.images)
    else:
        found = (
            sa.select(Series.study_key, sa.func.min(firsts.c.key), sa.func.sum(firsts.c.images))
            .join(firsts, firsts.c.series_id == Series.id)
            .group_by(Series.study_key)
        )
    return {id_: (key, int(images)) for id_, key, images in dbsession.execute(found.order_by(sa.text("1")))}


def own_ids(dbsession: Session, level: str, keys: Collection[int]) -> dict[int, int]:
    """Give the id of each image, or of the series or study that it belongs to: header key -> id."""
    id_: Any = {"image": Image.id, "series": Image.series_id, "study": Series.study_key}[level]
    found: sa.Select[Any] = sa.select(Image.header_key, id_).where(dialect_of(dbsession).within(Image.header_key, keys))
    if level == "study":
        found = found.join(Series, Series.id == Image.series_id)
    return dict(dbsession.execute(found).all())
