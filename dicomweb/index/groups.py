"""From the images of one chunk to header groups, without a database and without a lock.

An *occurrence* is one value at one path of an image. What all images of a group have is hoisted: stored once for the group.
Every other path becomes columns with one value an image, as many (slots) as the image with most values needs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from dicomweb.index.documents import pack
from dicomweb.index.values import LAST, PREFIX, TEXT_LENGTH, Kind, bound, bound_path, classify, fold, header_ids
from dicomweb.models import GROUP_SIZE

# A series with fewer images in the chunk may share a group with others of its modality ...
TINY = 8
# ... as long as this share of what its images have in common stays common.
SHARE = 0.2
# Images that lack so many occurrences which most of their group have get a group of their own: an odd one spoils none.
SPLIT = 8
# An image with more occurrences (thousands of frames, each described) stands alone: beside others, each of its values would
# be a column with one place for every image.
GIANT = 2000
# When a column has so many times more images than texts, each text is kept once.
REPEATS = 4


class Member(NamedTuple):
    """One image to index."""

    series_id: int
    modality: str  # Tiny series share a group only within one modality.
    elements: Sequence[tuple[str, str, tuple[str, ...]]]  # (path, VR, values); a sequence has no values, an empty element ("",)
    json: dict[str, bytes]  # top-level tag -> DICOM JSON element, without the file meta group
    meta: dict[str, bytes]  # the same of the file meta group


class Occurrence(NamedTuple):
    """One value at one path, as it is kept."""

    path: str
    text: str
    kind: Kind
    number: float | None


class Column(NamedTuple):
    """The values of one path in one slot, one an image; also what ``GroupColumn`` keeps of them."""

    path: str
    slot: int
    images: int
    texts: list[str | None]  # one an image, or each once when there are places
    folded: list[str | None] | None  # the texts folded, None when that changes none
    places: list[list[int]] | None  # of each text the ordinals of the images that have it
    numbers: list[float | None] | None
    words: str | None
    text_min: str
    text_max: str
    number_min: float | None
    number_max: float | None


class PreparedGroup(NamedTuple):
    """One group, ready to be written."""

    members: list[int]  # positions in what was prepared; their order is that of the ordinals
    series: dict[int, int]  # series id -> images
    headers: list[tuple[str, int]]  # (path, dictionary id)
    columns: list[Column]
    document: bytes


class Prepared(NamedTuple):
    """The images of a chunk, ready to be written."""

    groups: list[PreparedGroup]
    headers: list[tuple[int, str, str | None, str, float | None]]  # (id, path, text, folded, number), by id
    fields: dict[str, str]  # path -> VR
    promoted: frozenset[str]


def prepare(members: Sequence[Member], *, promoted: Collection[str] = ()) -> Prepared:
    """Form the groups of a chunk and everything that is stored of them.

    promoted: paths whose numbers get rows of their own (see ``ensure_fields``).
    Raises ValueError when an element of a member is no JSON.
    """
    occurrences = _Occurrences()
    images = [_Image(position, member, occurrences.of(member)) for position, member in enumerate(members)]
    groups, headers = [], {}
    for group in _form_groups(images):
        prepared, hoisted = _prepare_group(group, members, occurrences)
        groups.append(prepared)
        headers.update(hoisted)
    return Prepared(groups, [headers[id_] for id_ in sorted(headers)], occurrences.fields, frozenset(map(bound_path, promoted)))


class _Image(NamedTuple):
    position: int
    member: Member
    occurrences: dict[int, None]  # in the order of the header


class _Occurrences:
    """The occurrences of a chunk by number, so that sets of them are sets of integers and each is worked out once."""

    def __init__(self) -> None:
        self.known: list[Occurrence] = []
        self.fields: dict[str, str] = {}
        self._elements: dict[tuple[str, str, tuple[str, ...]], tuple[int, ...]] = {}
        self._paths: dict[str, str] = {}
        self._texts: dict[tuple[str, str], int] = {}
        self._twins: dict[tuple[str, str, Kind], int] = {}  # texts of a path that came with several kinds, which is rare

    def of(self, member: Member) -> dict[int, None]:
        known = self._elements
        numbers = [known.get(element) or self._work_out(element) for element in member.elements]
        found = dict.fromkeys(chain.from_iterable(numbers))
        return self._without_twins(found) if self._twins else found

    def _work_out(self, element: tuple[str, str, tuple[str, ...]]) -> tuple[int, ...]:
        path, vr, values = element
        bounded = self._paths.get(path)
        if bounded is None:
            bounded = self._paths[path] = bound_path(path)
            self.fields.setdefault(bounded, vr)
        if len(values) == 1:
            numbers: tuple[int, ...] = (self._number(bounded, vr, values[0]),)
        else:
            # Empty values beside others say nothing; a path without any value exists all the same.
            numbers = tuple(self._number(bounded, vr, value) for value in [value for value in values if value] or [""])
        self._elements[element] = numbers
        return numbers

    def _number(self, path: str, vr: str, text: str) -> int:
        if not text.isprintable() or len(text) > TEXT_LENGTH:
            text = bound(text)
        kind, value = classify(vr, text)
        new = len(self.known)
        number = self._texts.setdefault((path, text), new)
        if number != new and self.known[number].kind is not kind:
            number = self._twins.setdefault((path, text, kind), new)
        if number == new:
            self.known.append(Occurrence(path, text, kind, value))
        return number

    def _without_twins(self, found: dict[int, None]) -> dict[int, None]:
        """Let an image have each text of a path once, whatever its VRs; the number among several kinds stays."""
        best: dict[tuple[str, str], int] = {}
        for number in found:
            occurrence = self.known[number]
            key = (occurrence.path, occurrence.text)
            if key not in best or occurrence.kind > self.known[best[key]].kind:
                best[key] = number
        return dict.fromkeys(best.values())


def _form_groups(images: Iterable[_Image]) -> list[list[_Image]]:
    by_series: dict[int, list[_Image]] = defaultdict(list)
    for image in images:
        by_series[image.member.series_id].append(image)
    candidates: list[list[_Image]] = []
    pools: dict[str, list[tuple[set[int], list[_Image]]]] = defaultdict(list)
    for of_series in by_series.values():
        candidates.extend([image] for image in of_series if len(image.occurrences) > GIANT)
        series = [image for image in of_series if len(image.occurrences) <= GIANT]
        if not series:
            continue
        if len(series) >= TINY:
            candidates.append(series)
            continue
        common = _common(series)
        pool = pools[series[0].member.modality]
        # The newest company first: what arrived together resembles each other most.
        for index in range(len(pool) - 1, -1, -1):
            both = pool[index][0] & common
            if len(both) >= SHARE * len(common):
                pool[index] = (both, pool[index][1] + series)
                break
        else:
            pool.append((common, list(series)))
    candidates.extend(merged for pool in pools.values() for _, merged in pool)
    groups = [group for candidate in candidates for group in _split_odd(candidate)]
    return [group[start : start + GROUP_SIZE] for group in groups for start in range(0, len(group), GROUP_SIZE)]


def _common(images: Sequence[_Image]) -> set[int]:
    return set(images[0].occurrences).intersection(*(image.occurrences for image in images[1:]))


def _split_odd(images: list[_Image]) -> list[list[_Image]]:
    if len(images) < 3:
        return [images]
    count = Counter(chain.from_iterable(image.occurrences for image in images))
    usual = {number for number, having in count.items() if len(images) / 2 < having < len(images)}
    if len(usual) < SPLIT:
        return [images]
    alike: dict[frozenset[int], list[_Image]] = defaultdict(list)
    for image in images:
        lacking = usual.difference(image.occurrences)
        alike[frozenset(lacking) if len(lacking) >= SPLIT else frozenset()].append(image)
    return list(alike.values())


def _prepare_group(
    images: Sequence[_Image], members: Sequence[Member], occurrences: _Occurrences
) -> tuple[PreparedGroup, dict[int, tuple[int, str, str | None, str, float | None]]]:
    common = _common(images)
    headers = {}
    for number in common:
        path, text, kind, value = occurrences.known[number]
        id_ = header_ids(path, text)[0] + kind
        folded = fold(text)
        headers[id_] = (id_, path, None if folded == text else text, folded, value)
    positions = [image.position for image in images]
    prepared = PreparedGroup(
        members=positions,
        series=dict(sorted(Counter(image.member.series_id for image in images).items())),
        headers=[(header[1], id_) for id_, header in headers.items()],
        columns=_columns(images, common, occurrences.known),
        document=pack(
            [members[position].series_id for position in positions],
            [members[position].meta for position in positions],
            [members[position].json for position in positions],
        ),
    )
    return prepared, headers


def _columns(images: Sequence[_Image], common: set[int], known: Sequence[Occurrence]) -> list[Column]:
    # Text and what is no text never share a slot, so that words are known to be text.
    slots: dict[str, tuple[list[list[Occurrence | None]], list[list[Occurrence | None]]]] = {}
    for ordinal, image in enumerate(images):
        several: Counter[tuple[str, bool]] = Counter()
        for number in image.occurrences:
            if number in common:
                continue
            occurrence = known[number]
            is_text = occurrence.kind is Kind.TEXT
            by_kind = slots.get(occurrence.path)
            if by_kind is None:
                by_kind = slots[occurrence.path] = ([], [])
            of_kind = by_kind[is_text]
            slot = 0
            if of_kind and of_kind[0][ordinal] is not None:
                several[occurrence.path, is_text] += 1
                slot = several[occurrence.path, is_text]
            if slot == len(of_kind):
                of_kind.append([None] * len(images))
            of_kind[slot][ordinal] = occurrence
    columns = []
    for path, by_kind in slots.items():
        # The first slot of a kind is the fullest.
        firsts = [of_kind[0] for of_kind in by_kind if of_kind]
        having = sum(any(cells) for cells in zip(*firsts, strict=True))
        all_slots = [(is_text, cells) for is_text in (False, True) for cells in by_kind[is_text]]
        for slot, (is_text, cells) in enumerate(all_slots):
            texts = [None if cell is None else cell.text for cell in cells]
            numbers = [None if cell is None else cell.number for cell in cells]
            columns.append(column(path, slot, having, is_text=is_text, texts=texts, numbers=numbers))
    return columns


def column(
    path: str, slot: int, images: int, *, is_text: bool, texts: list[str | None], numbers: Sequence[float | None] | None
) -> Column:
    """Make a column with its zones from one value an image, at least one of which is there."""
    ordinals: dict[str, list[int]] = {}
    for ordinal, text in enumerate(texts):
        if text is not None:
            ordinals.setdefault(text, []).append(ordinal)
    together = "\n".join(ordinals)
    # Numbers, times and UIDs are folded as they are, which is said at once of all of them.
    unchanged = together.isascii() and together == together.lower()
    folds = dict(zip(ordinals, ordinals, strict=True)) if unchanged else {text: fold(text) for text in ordinals}
    smallest, largest = min(folds.values()), max(folds.values())
    present = [number for number in numbers or () if number is not None]
    repeats = len(ordinals) * REPEATS <= len(texts)
    kept: list[str | None] = list(ordinals) if repeats else texts
    return Column(
        path=path,
        slot=slot,
        images=images,
        texts=kept,
        folded=None if unchanged or all(text == folded for text, folded in folds.items()) else [None if text is None else folds[text] for text in kept],
        places=list(ordinals.values()) if repeats else None,
        numbers=list(numbers) if numbers is not None and present else None,
        words="\n".join(sorted(set(folds.values()))) if is_text else None,
        text_min=smallest[:PREFIX],
        text_max=largest if len(largest) <= PREFIX else largest[:PREFIX] + LAST,
        number_min=min(present, default=None),
        number_max=max(present, default=None),
    )
