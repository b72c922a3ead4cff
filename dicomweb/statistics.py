"""Numbers over time: samples that a worker takes each minute, and what the rows themselves tell about days and modalities.

Each answer comes from a bounded number of rows: samples are thinned out as they age, batches are counted by their counters, and
images by those of the header groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import batches, jobs
from dicomweb.db import change, insert_missing
from dicomweb.models import Batch, GroupSeries, Sample, Series

# A sample a minute is kept for so long, then one an hour, then one a day.
EACH_MINUTE = timedelta(hours=3)
EACH_HOUR = timedelta(days=31)
EACH_DAY = timedelta(days=730)


class Day(NamedTuple):
    """What arrived on one day, in UTC: batches, and what they hold now."""

    day: date
    batches: int
    images: int
    bytes: int


class Modality(NamedTuple):
    """How many series and images of a modality there are; name: (0008,0060), empty where a series has none."""

    name: str
    series: int
    images: int


def minute(moment: datetime) -> datetime:
    """Give the whole minute that a moment lies in."""
    return moment.replace(second=0, microsecond=0)


def take_sample(dbsession: Session, *, free: int, now: datetime) -> bool:
    """Note how things are in this minute; False when somebody has done so. Old samples are thinned out.

    free: bytes free on the disk of the state folder.
    """
    at = minute(now)
    if dbsession.get(Sample, at) is not None:
        return False
    counts, totals = jobs.counts(dbsession), batches.totals(dbsession)
    row = {
        "at": at,
        **{status: counts[status] for status in ("queued", "running", "failed")},
        "workers": len(jobs.alive_workers(dbsession, now=now)),
        "images": totals.images,
        "bytes": totals.bytes,
        "free": free,
    }
    insert_missing(dbsession, Sample, [row])
    _thin_out(dbsession, now=now)
    return True


def _thin_out(dbsession: Session, *, now: datetime) -> None:
    change(dbsession, sa.delete(Sample).where(Sample.at < now - EACH_DAY))
    for older, younger, hours in ((EACH_HOUR, EACH_MINUTE, 1), (EACH_DAY, EACH_HOUR, 24)):
        aged = sa.select(Sample.at).where(Sample.at >= now - older, Sample.at < now - younger).order_by(Sample.at)
        moments = list(dbsession.scalars(aged))
        # The first of each step stays, whenever that was: a machine may never be on at midnight.
        kept = set(_first_of_each(moments, hours))
        odd = [at for at in moments if at not in kept]
        if odd:
            change(dbsession, sa.delete(Sample).where(Sample.at.in_(odd[:500])))


def _first_of_each(moments: Sequence[datetime], hours: int) -> list[datetime]:
    firsts: dict[datetime, datetime] = {}
    for at in moments:
        firsts.setdefault(at.replace(minute=0, hour=at.hour - at.hour % hours), at)
    return list(firsts.values())


def samples_since(dbsession: Session, since: datetime, *, hours: int | None = None) -> list[Sample]:
    """Give the samples since a moment, the oldest first; hours: only the first of each so many hours of a day, and the newest."""
    rows = list(dbsession.scalars(sa.select(Sample).where(Sample.at >= since).order_by(Sample.at)))
    if hours is None:
        return rows
    wanted = {*_first_of_each([row.at for row in rows], hours), *(row.at for row in rows[-1:])}
    return [row for row in rows if row.at in wanted]


def imports_by_day(dbsession: Session, *, days: int, now: datetime) -> list[Day]:
    """Count what arrived on each of the last days (in UTC), today included, also on those without anything."""
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    day = _day(dbsession)
    found = sa.select(
        day, sa.func.count(Batch.id), sa.func.sum(Batch.image_count), sa.func.sum(Batch.byte_count)
    ).where(Batch.created_at >= datetime(first.year, first.month, first.day, tzinfo=UTC))
    counted = {int(number): row for number, *row in dbsession.execute(found.group_by(day))}
    return [
        Day(one, *(int(value) for value in counted.get((one - date(1970, 1, 1)).days, (0, 0, 0))))
        for one in (first + timedelta(days=number) for number in range(days))
    ]


def _day(dbsession: Session) -> Any:
    # The number of the day since 1970: Instant is a timestamp on PostgreSQL and whole microseconds on SQLite.
    if dbsession.get_bind().dialect.name == "postgresql":
        return sa.func.floor(sa.func.date_part("epoch", Batch.created_at) / 86400)
    return sa.type_coerce(Batch.created_at, sa.BigInteger) // sa.literal_column("86400000000", sa.BigInteger)


def modalities(dbsession: Session) -> list[Modality]:
    """Count series and images of each modality, the most images first."""
    held = (
        sa.select(Series.modality, sa.func.count(Series.id.distinct()), sa.func.sum(GroupSeries.images))
        .join(GroupSeries, GroupSeries.series_id == Series.id)
        .group_by(Series.modality)
    )
    rows = [Modality(name, int(series), int(images or 0)) for name, series, images in dbsession.execute(held)]
    return sorted(rows, key=lambda row: (-row.images, row.name))
