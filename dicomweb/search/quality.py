"""What is odd about data: told of the studies of a search, and of a whole batch.

A batch is judged by its rows and by its headers as the index keeps them; no file is read. Each takes a number of statements that
does not depend on how much there is, and at most MOST_IMAGES images are looked at.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from pydicom.datadict import dictionary_VR
from sqlalchemy.orm import Session, joinedload

from dicomweb import index, volumes
from dicomweb.db import among, fetch
from dicomweb.index.dialect import dialect_of
from dicomweb.languages import N_, gettext, ngettext
from dicomweb.models import (
    GROUP_SIZE,
    Field,
    GroupColumn,
    GroupHeader,
    GroupSeries,
    Header,
    Image,
    Outcome,
    Series,
    Study,
)
from dicomweb.search.identity import BURNED_IN, IDENTIFYING, OFTEN_WRITTEN_INTO, REMOVED
from dicomweb.search.lists import keyword_of

# It takes about 50 microseconds an image to look at it.
MOST_IMAGES = 20_000
MOST_PLACES = 10

_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_LONGEST_UID = 64
# Of a series that is no volume; the other reasons of volumes.REASONS say nothing bad about its images.
_ODD = ("gap", "uneven", "duplicate-positions", "tilted")
_MODALITY, _SOP_CLASS, _POSITION, _FRAME_OF_REFERENCE = "00080060", "00080016", "00200032", "00200052"
_NESTED = re.compile(rb'"(%s)":\{"vr":"[A-Z]{2}","(?:Value|InlineBinary|BulkDataURI)"' % "|".join(one.tag for one in IDENTIFYING).encode())

SENTENCES = {
    "gap": N_("Slices are missing: the distance between neighbours is a multiple of what it is elsewhere in the series."),
    "uneven": N_("The distances between slices differ."),
    "duplicate-positions": N_("Several images lie at the same place, and nothing in their headers tells them apart."),
    "tilted": N_("The slices are shifted against each other: the gantry was tilted."),
    "mixed-orientation": N_("The images of one series lie in several orientations."),
    "conflict": N_("The SOPInstanceUID is used for files with different bytes (PS3.5 9.1 wants one for each instance). Both are kept."),
    "several-patients": N_("The StudyInstanceUID is used for several patients (PS3.3 C.7.2.1 wants it to be one study of one patient)."),
    "several-studies": N_("The SeriesInstanceUID is used in several studies."),
    "bad-uid": N_("A UID is not made of numbers without leading zeros between dots, or has more than 64 characters (PS3.5 9.1)."),
    "missing-uid": N_("Files without StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID were not imported."),
    "no-class": N_("The SOPClassUID is missing, so nothing says what kind of object this is."),
    "no-frame-of-reference": N_("The images say where they lie, but no FrameOfReferenceUID says in which space."),
    "wrong-vr": N_("An element has another value representation than PS3.6 gives it."),
    "burned-in": N_("BurnedInAnnotation says that the pixels show who the patient is."),
    "perhaps-burned-in": N_("Devices often write the name of the patient into pixels of this kind, and BurnedInAnnotation does not say that it was not done."),
}


class Place(NamedTuple):
    """Where something is odd: a series or a study by its id, or an element, and what there is to say about it."""

    kind: str
    id: int
    name: str
    images: int
    remark: str = ""


class Note(NamedTuple):
    """Something that is odd. code: of SENTENCES. images: how many it is about; 0 when that cannot be told. more: places left out."""

    code: str
    images: int
    places: tuple[Place, ...]
    more: int = 0

    @property
    def sentence(self) -> str:
        """What is odd, for people."""
        return SENTENCES[self.code]


class Present(NamedTuple):
    """An identifying element that is there. images: how many have a value; nested: how many have one within a sequence."""

    tag: str
    keyword: str
    about: str
    images: int
    nested: int


class Quality(NamedTuple):
    """What is odd about a batch, and who it tells about.

    looked_at: at how many of its images. removed: how many say that identity was removed (PatientIdentityRemoved is YES). private:
    the creators of private elements, and how many images have elements of each.
    """

    looked_at: int
    is_part: bool
    notes: tuple[Note, ...]
    identity: tuple[Present, ...]
    removed: int
    private: tuple[tuple[str, int], ...]


def judge_batch(dbsession: Session, batch_id: int) -> Quality:
    """Look at the images of a batch, the first MOST_IMAGES of them."""
    wanted = sa.select(Image.header_key, Image.series_id, Image.sop_instance_uid)
    wanted = wanted.where(Image.batch_id == batch_id, Image.header_key.is_not(None)).order_by(Image.id)
    rows = dbsession.execute(wanted.limit(MOST_IMAGES + 1)).all()
    is_part, rows = len(rows) > MOST_IMAGES, rows[:MOST_IMAGES]
    series_of: dict[int, int] = {key: series_id for key, series_id, _ in rows if key is not None and series_id is not None}
    loaded = sa.select(Series).where(dialect_of(dbsession).within(Series.id, set(series_of.values()))).options(joinedload(Series.study))
    series = {one.id: one for one in dbsession.scalars(loaded)}
    headers = _Headers(series_of)
    for group in index.read_elements(dbsession, series_of, None):
        headers.add(group)
    notes = [
        *_geometry(headers.slices, series),
        *_reused(dbsession, batch_id, series),
        *_wrong_uids(series, [uid or "" for _, _, uid in rows]),
        *headers.notes(),
    ]
    return Quality(len(rows), is_part, tuple(notes), tuple(headers.identity()), headers.removed, tuple(headers.private.most_common()))


class _Headers:
    """What is counted while the headers pass by, group by group."""

    def __init__(self, series_of: Mapping[int, int]) -> None:
        self._series_of = series_of
        self.slices: dict[int, list[volumes.Slice]] = defaultdict(list)
        self.removed = 0
        self.private: Counter[str] = Counter()
        self._having: Counter[str] = Counter()
        self._nested: Counter[str] = Counter()
        self._vrs: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[str] = Counter()

    def add(self, group: index.GroupElements) -> None:
        """Count the images of one group."""
        images = len(group.ordinals)
        nested: dict[str, set[int]] = defaultdict(set)
        for tag, element in group.shared.items():
            self._vrs[tag, element["vr"]] += images
            if len(element) > 1:
                self._having[tag] += images
            if element["vr"] == "SQ":
                for found in _NESTED.finditer(orjson.dumps(element)):
                    nested[found[1].decode()].update(group.ordinals)
        for tag, cells in group.varying.items():
            vrs = Counter(cells[ordinal][7:9] for ordinal in group.ordinals if cells[ordinal])
            for vr, count in vrs.items():
                self._vrs[tag, vr.decode()] += count
            # {"vr":"LO"} has no value.
            self._having[tag] += sum(len(cells[ordinal]) > 11 for ordinal in group.ordinals)
            if b"SQ" in vrs:
                for ordinal in group.ordinals:
                    for found in _NESTED.finditer(cells[ordinal]):
                        nested[found[1].decode()].add(ordinal)
        for tag, ordinals in nested.items():
            self._nested[tag] += len(ordinals)
        self._add_creators(group)
        common = {tag: group.shared[tag] for tag in _READ if tag in group.shared}
        varying = [(tag, group.varying[tag]) for tag in _READ if tag in group.varying]
        for ordinal in group.ordinals:
            own = {tag: orjson.loads(cells[ordinal]) for tag, cells in varying if cells[ordinal]}
            self._add_image(group.first + ordinal, common | own)

    def _add_creators(self, group: index.GroupElements) -> None:
        creators: dict[str, set[int]] = defaultdict(set)
        for tag, element in group.shared.items():
            if _is_creator(tag):
                creators[_first(element)].update(group.ordinals)
        for tag, cells in group.varying.items():
            if _is_creator(tag):
                for ordinal in group.ordinals:
                    if cells[ordinal]:
                        creators[_first(orjson.loads(cells[ordinal]))].add(ordinal)
        for creator, ordinals in creators.items():
            if creator:
                self.private[creator] += len(ordinals)

    def _add_image(self, key: int, elements: dict[str, Any]) -> None:
        slices = volumes.slices_of(key, elements)
        # The frames of one image are in the order in which its maker wanted them.
        if len(slices) == 1:
            self.slices[self._series_of[key]] += slices
        burned = _first(elements.get(BURNED_IN, {}))
        if burned == "YES":
            self._counts["burned-in"] += 1
        elif burned != "NO" and _first(elements.get(_MODALITY, {})) in OFTEN_WRITTEN_INTO:
            self._counts["perhaps-burned-in"] += 1
        if _first(elements.get(REMOVED, {})) == "YES":
            self.removed += 1
        if not _first(elements.get(_SOP_CLASS, {})):
            self._counts["no-class"] += 1
        if _first(elements.get(_POSITION, {})) and not _first(elements.get(_FRAME_OF_REFERENCE, {})):
            self._counts["no-frame-of-reference"] += 1

    def notes(self) -> Iterator[Note]:
        """Tell what was counted."""
        for code in ("no-class", "no-frame-of-reference"):
            if self._counts[code]:
                yield Note(code, self._counts[code], ())
        wrong = [
            Place("element", 0, keyword_of(tag) or tag, images, gettext("%(vr)s instead of %(expected)s", vr=vr, expected=expected))
            for (tag, vr), images in sorted(self._vrs.items())
            if (expected := _expected_vr(tag)) and vr not in expected.split(" or ")
        ]
        if wrong:
            yield Note("wrong-vr", max(place.images for place in wrong), *_some(wrong))
        for code in ("burned-in", "perhaps-burned-in"):
            if self._counts[code]:
                yield Note(code, self._counts[code], ())

    def identity(self) -> Iterator[Present]:
        """Give the identifying elements that are there, in the order of the table."""
        for tag, about in IDENTIFYING:
            if self._having[tag] or self._nested[tag]:
                yield Present(tag, keyword_of(tag), about, self._having[tag], self._nested[tag])


_READ = tuple({*volumes.TAGS, BURNED_IN, REMOVED, _MODALITY, _SOP_CLASS})


def _geometry(slices: Mapping[int, Sequence[volumes.Slice]], series: Mapping[int, Series]) -> Iterator[Note]:
    found: dict[str, list[Place]] = defaultdict(list)
    for id_, of_series in slices.items():
        by_key = {one.key: one for one in of_series}
        for unfit in volumes.judge(of_series).unfit:
            if unfit.code in _ODD:
                remark = _missing([by_key[key] for key in unfit.keys]) if unfit.code == "gap" else ""
                found[unfit.code].append(_series_place(series[id_], len(unfit.keys), remark))
        orientations = {_rounded(one) for one in of_series if one.right and one.down}
        if len(orientations) > 1:
            found["mixed-orientation"].append(_series_place(series[id_], len(of_series), gettext("%(number)s orientations", number=len(orientations))))
    for code in (*_ODD, "mixed-orientation"):
        if found[code]:
            yield Note(code, sum(place.images for place in found[code]), *_some(found[code]))


def _missing(stack: Sequence[volumes.Slice]) -> str:
    """Say how many slices of a stack in order, of which some are missing, there should be between those that are there."""
    steps = []
    for one, next_ in pairwise(stack):
        if one.position and next_.position:
            steps.append(sum((a - b) ** 2 for a, b in zip(one.position, next_.position, strict=True)) ** 0.5)
    middle = sorted(steps)[len(steps) // 2]
    gaps = [round(step / middle) - 1 for step in steps if step > 1.5 * middle]
    return ngettext("%(missing)s missing in %(gaps)s gap", "%(missing)s missing in %(gaps)s gaps", len(gaps), missing=sum(gaps), gaps=len(gaps))


def _rounded(one: volumes.Slice) -> tuple[float, ...]:
    return tuple(round(value, 2) + 0.0 for vector in (one.right, one.down) if vector for value in vector)


def _reused(dbsession: Session, batch_id: int, series: Mapping[int, Series]) -> Iterator[Note]:
    """Tell which UIDs are used for several things, and which files came without."""
    which = sa.select(Outcome.code, sa.func.count()).where(Outcome.batch_id == batch_id, Outcome.kind.in_(("conflict", "error")))
    counts = dict(dbsession.execute(which.where(Outcome.code.in_(("conflict", "missing-uid"))).group_by(Outcome.code)).all())
    if counts.get("conflict"):
        yield Note("conflict", counts["conflict"], ())
    studies = {one.study.id: one.study for one in series.values()}
    mixed = [_study_place(studies[id_]) for id_ in sorted(studies_of_several_patients(dbsession, studies))]
    if mixed:
        yield Note("several-patients", 0, *_some(mixed))
    uids = {one.series_instance_uid for one in series.values()}
    twice = sa.select(Series.series_instance_uid).where(dialect_of(dbsession).within(Series.series_instance_uid, uids))
    shared = set(dbsession.scalars(twice.group_by(Series.series_instance_uid).having(sa.func.count() > 1)))
    places = [_series_place(one, 0) for one in series.values() if one.series_instance_uid in shared]
    if places:
        yield Note("several-studies", 0, *_some(places))
    if counts.get("missing-uid"):
        yield Note("missing-uid", counts["missing-uid"], ())


def _wrong_uids(series: Mapping[int, Series], instances: Sequence[str]) -> Iterator[Note]:
    places = [_series_place(one, 0, "SeriesInstanceUID") for one in series.values() if not _is_uid(one.series_instance_uid)]
    studies = {one.study.id: one.study for one in series.values()}.values()
    places += [_study_place(one, "StudyInstanceUID") for one in studies if not _is_uid(one.study_instance_uid)]
    wrong = sum(not _is_uid(uid) for uid in instances)
    if wrong:
        places.insert(0, Place("element", 0, "SOPInstanceUID", wrong))
    if places:
        yield Note("bad-uid", wrong, *_some(places))


def _series_place(series: Series, images: int, remark: str = "") -> Place:
    name = " ".join(part for part in (series.modality, series.series_number, series.series_description or f"series {series.id}") if part)
    return Place("series", series.id, name, images, remark)


def _study_place(study: Study, remark: str = "") -> Place:
    return Place("study", study.id, study.study_description or f"study {study.id}", 0, remark)


def _some(places: Sequence[Place]) -> tuple[tuple[Place, ...], int]:
    return tuple(places[:MOST_PLACES]), max(0, len(places) - MOST_PLACES)


def _first(element: Mapping[str, Any]) -> str:
    values = element.get("Value")
    return str(values[0]) if isinstance(values, list) and values and values[0] is not None else ""


def _is_uid(text: str) -> bool:
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


@lru_cache(maxsize=10_000)
def _is_creator(tag: str) -> bool:
    # PS3.5 7.8.1: (gggg,0010-00FF) of an odd group.
    return bool(int(tag[3], 16) % 2) and tag[4:6] == "00" and tag[6] != "0"


@lru_cache(maxsize=10_000)
def _expected_vr(tag: str) -> str:
    """Give the VR that PS3.6 gives an element, several with `` or `` between them; empty for what it does not know."""
    number = int(tag, 16)
    if number >> 16 & 1 or not number & 0xFFFF:
        return ""
    try:
        return dictionary_VR(number)
    except KeyError:
        return ""


_PATIENT_ID = "00100020"
# Made once: to put a statement together takes longer than to answer it.
_FIELD = sa.select(Field.id).where(Field.path == sa.bindparam("path"))
_IN_COMMON = (
    sa.select(Series.study_key, Header.folded)
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .join(GroupHeader, GroupHeader.group_id == GroupSeries.group_id)
    .join(Header, Header.id == GroupHeader.header_id)
    # Plus nothing: from the groups of the studies SQLite comes to the few that are asked for, from the field to all groups there are.
    .where(GroupHeader.field_id + 0 == sa.bindparam("field"), Header.field_id + 0 == sa.bindparam("field"), among(Series.study_key, "studies"))
    .distinct()
)
_IN_COLUMNS = (
    sa.select(Image.header_key, Series.study_key)
    .select_from(Series)
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .join(GroupColumn, sa.and_(GroupColumn.group_id == GroupSeries.group_id, GroupColumn.slot == 0))
    .join(Image, sa.and_(Image.header_key.between(GroupSeries.group_id * GROUP_SIZE, GroupSeries.group_id * GROUP_SIZE + GROUP_SIZE - 1), Image.series_id == Series.id))
    .where(GroupColumn.field_id == sa.bindparam("field"), among(Series.study_key, "studies"))
)


def studies_of_several_patients(dbsession: Session, study_ids: Collection[int]) -> set[int]:
    """Give those of some studies whose images have different PatientIDs, in at most five statements.

    A StudyInstanceUID is one study whoever has it (PS3.3 C.7.2.1); that it is used for two patients is a mistake of its maker.
    """
    return {study_id for study_id, patients in values_of_studies(dbsession, study_ids, _PATIENT_ID).items() if len(patients) > 1}


def values_of_studies(dbsession: Session, study_ids: Collection[int], path: str) -> dict[int, set[str]]:
    """Give the folded values that the images of studies have at a path, in at most five statements.

    Images are looked at one by one only in groups that do not share the value.
    """
    field_id = fetch(dbsession, _FIELD, path=path).scalar()
    if field_id is None or not study_ids:
        return {}
    values: dict[int, set[str]] = defaultdict(set)
    for study_id, value in fetch(dbsession, _IN_COMMON, field=field_id, studies=study_ids):
        values[study_id].add(value)
    studies = {key: study_id for key, study_id in fetch(dbsession, _IN_COLUMNS, field=field_id, studies=study_ids) if key is not None}
    for key, (_, value) in index.read_smallest(dbsession, studies, path).items() if studies else ():
        values[studies[key]].add(value)
    return values
