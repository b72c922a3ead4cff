"""Which images the UIDs of an address mean.

Several files may claim one SOPInstanceUID (a conflict: other bytes, see docs/architecture.md). DICOMweb has one instance for each
UID of a series: the one that came first and is still there. The others are *shadowed*; they have their places in the pages and in
the API.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from dicomweb.db import among, fetch
from dicomweb.models import GROUP_SIZE, Batch, GroupSeries, Image, Outcome, Pack, Series, Study
from dicomweb.storage import BytesMissing, FileRange, Storage

# Groups whose images are read by one statement; a group has at most as many images as a chunk has files.
GROUPS = 4


class Instance(NamedTuple):
    """One image, with what is needed to send it.

    pixel_offset, pixel_length: where the value of the pixel data is in the file; None without, or when it is deflated.
    """

    image_id: int
    header_key: int
    study_uid: str
    series_uid: str
    sop_uid: str
    size: int
    sha256: bytes
    pixel_offset: int | None
    pixel_length: int | None
    path: str
    folder: str | None
    pack_id: int | None
    pack: str | None
    pack_offset: int | None

    def locate(self, storage: Storage) -> FileRange:
        """Tell where the bytes are. Raises BytesMissing."""
        if self.pack_id is None:
            return FileRange.at(self.folder or "", self.path, self.size)
        if self.pack is None:
            raise BytesMissing("The stored file is gone.")
        return storage.range(self.pack, self.pack_offset or 0, self.size)


# Made once: to put a statement together takes longer than to answer it.
_SERIES_OF_STUDY = (
    sa.select(Series.id, Series.series_instance_uid)
    .join(Study, Study.id == Series.study_key)
    .where(Study.study_instance_uid == sa.bindparam("study"))
)
_ONE_SERIES = _SERIES_OF_STUDY.where(Series.series_instance_uid == sa.bindparam("series"))
_FIRST = (
    sa.select(Image.header_key, Image.series_id)
    .where(Image.sop_instance_uid == sa.bindparam("instance"), Image.status == "DONE", among(Image.series_id, "series"))
    .order_by(Image.version)
    .limit(1)
)
_GROUPS = sa.select(GroupSeries.group_id, GroupSeries.series_id, GroupSeries.images).where(among(GroupSeries.series_id, "series"))


class Place(NamedTuple):
    """What an address means: some series of one study, and perhaps one instance. Its groups are those of the header index.

    only: the header key of that instance. groups: (group, series, number of images), ascending. shadowed: header keys that are left out.
    """

    series: dict[int, str]
    study_uid: str
    only: int | None
    groups: Sequence[tuple[int, int, int]]
    shadowed: frozenset[int]

    def fingerprint(self) -> bytes:
        """Give a text that changes when an image comes or goes: header keys name an image for ever."""
        said = repr((self.study_uid, sorted(self.series), self.only, self.groups, sorted(self.shadowed)))
        return hashlib.sha256(said.encode()).hexdigest()[:32].encode()


def find(dbsession: Session, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None) -> Iterator[list[Instance]]:
    """Give the instances of a study, a series or an instance in the order of import, in blocks that are never empty.

    The first block takes four statements, each further one a statement; memory does not depend on the number of images.
    Unknown UIDs give no block.
    """
    place = locate(dbsession, study_uid, series_uid, sop_uid)
    if place is not None:
        yield from read(dbsession, place)


def locate(dbsession: Session, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None) -> Place | None:
    """Give the place that UIDs mean, None when there is none, in three statements. Series without an imported image do not count."""
    if not all(is_text(uid) for uid in (study_uid, series_uid, sop_uid) if uid is not None):
        return None
    if series_uid is None:
        found = fetch(dbsession, _SERIES_OF_STUDY, study=study_uid)
    else:
        found = fetch(dbsession, _ONE_SERIES, study=study_uid, series=series_uid)
    series: dict[int, str] = {row[0]: row[1] for row in found}
    if not series:
        return None
    if sop_uid is not None:
        row = fetch(dbsession, _FIRST, instance=sop_uid, series=series).one_or_none()
        return row and Place({row.series_id: series[row.series_id]}, study_uid, row.header_key, [(row.header_key // GROUP_SIZE, row.series_id, 1)], frozenset())
    groups = sorted((group, one, images) for group, one, images in fetch(dbsession, _GROUPS, series=series))
    ids = {group for group, _, _ in groups}
    shadowed = frozenset(key for key in shadowed_keys(dbsession) if key // GROUP_SIZE in ids)
    return Place(series, study_uid, None, groups, shadowed) if groups else None


def read(dbsession: Session, place: Place) -> Iterator[list[Instance]]:
    """Give the instances of a place, in blocks that are never empty, a statement each."""
    groups = list(dict.fromkeys(group for group, _, _ in place.groups))
    for start in range(0, len(groups), GROUPS):
        block = _read(dbsession, place, groups[start : start + GROUPS])
        if block:
            yield block


def _read(dbsession: Session, place: Place, groups: Collection[int]) -> list[Instance]:
    columns = (
        Image.id, Image.header_key, Image.series_id, Image.sop_instance_uid, Image.size, Image.sha256, Image.pixel_offset, Image.pixel_length,
        Image.path, Batch.path.label("folder"), Image.pack_id, Pack.name.label("pack"), Image.pack_offset,
    )  # fmt: skip
    # One range of the unique key a group; an Or of them is what both databases answer from it.
    within = sa.or_(*(Image.header_key.between(group * GROUP_SIZE, group * GROUP_SIZE + GROUP_SIZE - 1) for group in groups))
    if place.only is not None:
        within = Image.header_key == place.only
    found = (
        sa.select(*columns)
        .join(Batch, Batch.id == Image.batch_id)
        .outerjoin(Pack, Pack.id == Image.pack_id)
        .where(within, among(Image.series_id, place.series), Image.status == "DONE")
        .order_by(Image.header_key)
    )
    return [_instance(place, row) for row in fetch(dbsession, found) if row.header_key not in place.shadowed]


def _instance(place: Place, row: Any) -> Instance:
    return Instance(
        image_id=row.id, header_key=row.header_key, study_uid=place.study_uid, series_uid=place.series[row.series_id],
        sop_uid=row.sop_instance_uid, size=row.size or 0, sha256=row.sha256 or b"", pixel_offset=row.pixel_offset, pixel_length=row.pixel_length,
        path=row.path, folder=row.folder, pack_id=row.pack_id, pack=row.pack, pack_offset=row.pack_offset,
    )  # fmt: skip


def _select_shadowed() -> sa.Select[Any]:
    first = aliased(Image)
    is_same = sa.and_(first.sop_instance_uid == Image.sop_instance_uid, first.series_id == Image.series_id)
    earlier = sa.select(first.id).where(is_same, first.version < Image.version, first.status == "DONE").exists()
    return (
        sa.select(Image.header_key)
        .select_from(Batch)
        .join(Outcome, sa.and_(Outcome.batch_id == Batch.id, Outcome.kind == "conflict"))
        .join(Image, Image.id == Outcome.image_id)
        .where(Batch.error_count > 0, Image.header_key.is_not(None), earlier)
    )


_SHADOWED = _select_shadowed()


def shadowed_keys(dbsession: Session) -> frozenset[int]:
    """Give the header keys of all images before which another one with the same SOPInstanceUID came into the same series.

    Each of them has the outcome conflict, and there are few: they are found by the batches that have any.
    """
    return frozenset(key for key in fetch(dbsession, _SHADOWED).scalars() if key is not None)


def is_text(uid: str) -> bool:
    """Tell whether a text from an address can be looked up: databases take no NUL and no lone surrogate."""
    return 0 < len(uid) <= 256 and uid.isprintable()
