"""What the viewer shows for an image: the volumes and stacks that its series falls into, frame by frame, and why a stack is no volume.

``volumes`` decides what is one volume; here its verdict becomes displays of which a person chooses one. A display names frames, and each
frame has what a program needs to show it: where it lies and how its pixels are coded. It is read from the header index, in a number of
statements that does not depend on the series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index, volumes
from dicomweb.languages import N_
from dicomweb.models import GROUP_SIZE, GroupSeries, Image

# Of a series that has more, those that were imported next to the image in question.
MOST_IMAGES = 3000
MOST_FRAMES = 6000
# A browser holds the voxels of a volume at least twice.
LARGEST_VOLUME = 1 << 29
# No element that a viewer understands is longer, as JSON.
LONGEST_ELEMENT = 16 << 10
# How far the axes of a volume may be from those of the patient to lie along them, as a sine.
ALIGNED = 0.02

SENT, DRAWN = "sent", "drawn"
NO_VOLUME = {
    "several-codings": N_("The pixels of the images are coded in different ways."),
    "drawn": N_("The server draws these images, because browsers cannot read their pixels."),
    "too-large": N_("The volume is too large for a browser."),
    "shadowed": N_("Another image has the same SOPInstanceUID; the server draws this one."),
    "one-image": "",
}
_SYNTAX, _SOP_CLASS, _SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS = "00020010", "00080016", "00280002", "00280004", "00280008", "00280010", "00280011"
_ALLOCATED, _STORED, _SIGNED, _NUMBER = "00280100", "00280101", "00280103", "00200013"
# What a viewer is told of an image, beside where it lies.
_TOLD = (
    _SOP_CLASS, "00080060", "00180040", "00180050", "00180088", "00181063", "00181164", "00186011", _NUMBER, "00200032", "00200037", "00200052", "00201041",
    _SAMPLES, _PHOTOMETRIC, "00280006", _FRAMES, _ROWS, _COLUMNS, "00280030", "00280034", _ALLOCATED, _STORED, "00280102", _SIGNED,
    "00280106", "00280107", "00280120", "00281050", "00281051", "00281052", "00281053", "00281054", "00281056", "00082144", "20500020",
)  # fmt: skip
_GROUPS = ("52009229", "52009230")
_TAGS = tuple({*_TOLD, *volumes.TAGS, _SYNTAX})
# Functional groups (PS3.3 C.7.6.16) and the elements in them that each frame may have of its own.
_OF_FRAMES = {
    "00209113": ("00200032",), "00209116": ("00200037",), "00289110": ("00280030", "00180050"), "00289132": ("00281050", "00281051"),
    "00289145": ("00281052", "00281053", "00281054"),
}  # fmt: skip
_JPEG = "1.2.840.10008.1.2.4."
_DEFLATED = "1.2.840.10008.1.2.1.99"
_VIDEOS = frozenset(_JPEG + end for end in ("100", "101", "102", "103", "104", "105", "106", "107", "108"))
# Colour that decoders in browsers are known to show right, by transfer syntax.
_COLOURS = {
    **dict.fromkeys(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"), ("RGB",)),
    _JPEG + "50": ("RGB", "YBR_FULL", "YBR_FULL_422"),
    **{_JPEG + end: ("RGB",) for end in ("80", "81")},
    **{_JPEG + end: ("RGB", "YBR_RCT", "YBR_ICT") for end in ("90", "91")},
}
_PLANES = ("sagittal", "coronal", "axial")


class Shown(NamedTuple):
    """An image of the series. how: SENT, when a browser reads its pixels, or DRAWN, when the server draws pictures of it.

    elements: tag -> DICOM JSON element. of_frames: the same for each frame that has its own, by the number of the frame.
    """

    image_id: int
    batch_id: int
    sop_uid: str
    sha256: bytes
    number: int | None
    frames: int
    how: str
    elements: dict[str, Any]
    of_frames: dict[int, dict[str, Any]]


class Display(NamedTuple):
    """Frames that belong together, in order: (index of the image, number of the frame). volume: None of a stack.

    code, sentence: why it is no volume; the sentence is empty where nobody would ask. kind: what tells it from others at the same place.
    """

    frames: tuple[tuple[int, int], ...]
    volume: volumes.Geometry | None
    kind: str = ""
    code: str = ""
    sentence: str = ""

    @property
    def plane(self) -> str:
        """How the slices of a volume lie, as people call it."""
        return plane_of(self.volume) if self.volume else ""


class Series(NamedTuple):
    """What a viewer shows of a series. start: (index of the display, index of the frame in it) of the image in question.

    left_out: images of the series that are too many.
    """

    images: list[Shown]
    displays: list[Display]
    start: tuple[int, int]
    left_out: int


def series_of(dbsession: Session, image: Image) -> Series:
    """Say what a viewer shows for an image, in four statements. Without pixels in the image there is no display."""
    rows, left_out = _rows(dbsession, image)
    elements = _elements(dbsession, [row.header_key for row in rows])
    shadowed = _shadowed(rows)
    images: list[Shown] = []
    keys: dict[int, int] = {}
    room = MOST_FRAMES
    for row in rows:
        own = elements.get(row.header_key, {})
        if not _has_pixels(row, own) or (row.id in shadowed and row.id != image.id):
            continue
        shown = _shown(row, own, drawn=row.id in shadowed, most=room)
        room -= shown.frames
        if room < 0 and row.id != image.id:
            left_out += 1
            continue
        keys[row.id] = len(images)
        images.append(shown)
    if image.id not in keys:
        return Series([], [], (0, 0), 0)
    displays = _displays(images, {keys[key] for key in shadowed if key in keys}, elements, {keys[row.id]: row.header_key for row in rows if row.id in keys})
    return Series(images, displays, _start(displays, keys[image.id]), left_out)


def _rows(dbsession: Session, image: Image) -> tuple[Sequence[Any], int]:
    """Find the images of the series of an image, as many as are shown, and how many more there are."""
    columns = (Image.id, Image.batch_id, Image.header_key, Image.sop_instance_uid, Image.version, Image.sha256, Image.instance_number, Image.pixel_offset)
    if image.header_key is None or image.series_id is None:
        own = dbsession.execute(sa.select(*columns).where(Image.id == image.id, Image.header_key.is_not(None))).all()
        return own, 0
    total = dbsession.scalar(sa.select(sa.func.sum(GroupSeries.images)).where(GroupSeries.series_id == image.series_id)) or 0
    first = GroupSeries.group_id * GROUP_SIZE
    nearest = sa.func.abs(Image.header_key - image.header_key)
    found = dbsession.execute(
        sa.select(*columns)
        .join_from(GroupSeries, Image, Image.header_key.between(first, first + GROUP_SIZE - 1))
        .where(GroupSeries.series_id == image.series_id, Image.series_id == image.series_id, Image.status == "DONE")
        .order_by(nearest)
        .limit(MOST_IMAGES)
    ).all()
    return sorted(found, key=lambda row: (row.instance_number is None, row.instance_number or 0, row.id)), max(0, int(total) - len(found))


def _shadowed(rows: Sequence[Any]) -> set[int]:
    """Find the images before which another one with the same SOPInstanceUID came; DICOMweb has the first ones only."""
    first: dict[str, int] = {}
    for row in rows:
        first[row.sop_instance_uid] = min(row.version, first.get(row.sop_instance_uid, row.version))
    return {row.id for row in rows if row.version > first[row.sop_instance_uid]}


def _elements(dbsession: Session, header_keys: Sequence[int]) -> dict[int, dict[str, Any]]:
    return {key: own for group in index.read_elements(dbsession, header_keys, _TAGS) for key, own in group.by_image()}


def _has_pixels(row: Any, elements: Mapping[str, Any]) -> bool:
    is_there = row.pixel_offset is not None or _text(elements, _SYNTAX) == _DEFLATED
    return is_there and _whole(elements, _ROWS) > 0 and _whole(elements, _COLUMNS) > 0 and _whole(elements, _ALLOCATED) > 0


def _shown(row: Any, elements: Mapping[str, Any], *, drawn: bool, most: int) -> Shown:
    told = {tag: elements[tag] for tag in _TOLD if tag in elements and _is_short(elements[tag])}
    frames = min(max(1, _whole(elements, _FRAMES)), max(1, most))
    how = DRAWN if drawn or not _is_readable(elements) else SENT
    return Shown(row.id, row.batch_id, row.sop_instance_uid, row.sha256 or b"", row.instance_number, frames, how, told, dict(_of_frames(elements, frames)))


def _is_short(element: Any) -> bool:
    return not (isinstance(element, Mapping) and "BulkDataURI" in element) and len(orjson.dumps(element)) <= LONGEST_ELEMENT


def _is_readable(elements: Mapping[str, Any]) -> bool:
    """Tell whether browsers read these pixels. What the server decodes for them is grey of 8 or 16 bits; other colour it draws."""
    syntax, photometric = _text(elements, _SYNTAX), _text(elements, _PHOTOMETRIC)
    samples, bits = _whole(elements, _SAMPLES) or 1, _whole(elements, _ALLOCATED)
    if syntax in _VIDEOS:
        return False
    if samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2"):
        return bits in (8, 16) and 1 <= _whole(elements, _STORED) <= bits
    return samples == 3 and bits == 8 and photometric in _COLOURS.get(syntax, ())


def _of_frames(elements: Mapping[str, Any], frames: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give what the functional groups say of each frame, as an image of one frame would say it."""
    common = (_items(elements, "52009229") or [{}])[0]
    for number, group in enumerate(_items(elements, "52009230")[:frames], 1):
        flat: dict[str, Any] = {}
        for sequence, tags in _OF_FRAMES.items():
            macro = (_items(group, sequence) or _items(common, sequence) or [{}])[0]
            flat.update({tag: macro[tag] for tag in tags if tag in macro and _is_short(macro[tag])})
        yield number, flat


def _displays(images: list[Shown], shadowed: set[int], elements: Mapping[int, Any], header_keys: Mapping[int, int]) -> list[Display]:
    slices = [one for at in range(len(images)) if at not in shadowed for one in volumes.slices_of(at, elements[header_keys[at]])]
    verdict = volumes.judge(slices)
    displays = [_display_of_volume(images, volume) for volume in verdict.volumes]
    # Single images that lie somewhere else are one display, not one each.
    together: dict[tuple[str, str], list[Hashable]] = {}
    for unfit in verdict.unfit:
        if unfit.code in ("too-few", "no-geometry", "colour", "mosaic"):
            together.setdefault((unfit.code, unfit.sentence), []).extend(unfit.keys)
        else:
            displays.append(_stack(_frames(images, unfit.keys), unfit.code, unfit.sentence))
    for (code, sentence), keys in together.items():
        frames = sorted(_frames(images, keys), key=lambda frame: frame)
        lonely = len(images) == 1 and len(frames) == 1
        displays.append(_stack(frames, "one-image" if lonely else code, NO_VOLUME["one-image"] if lonely else sentence))
    displays.extend(_stack(_all_frames(images, at), "shadowed", NO_VOLUME["shadowed"]) for at in sorted(shadowed))
    return displays


def _stack(frames: Iterable[tuple[int, int]], code: str, sentence: str, kind: str = "") -> Display:
    return Display(tuple(frames), None, kind, code, sentence)


def _display_of_volume(images: list[Shown], volume: volumes.Volume) -> Display:
    frames = [cast("tuple[int, int]", key) for key in volume.keys]
    frames = [(at, number) for at, number in frames if number <= images[at].frames]
    used = [images[at] for at in dict.fromkeys(at for at, _ in frames)]
    codings = {(*(_whole(one.elements, tag) for tag in (_ALLOCATED, _STORED, _SIGNED)), _text(one.elements, _PHOTOMETRIC)) for one in used}
    code = ""
    if any(one.how == DRAWN for one in used):
        code = "drawn"
    elif len(codings) > 1:
        code = "several-codings"
    elif math.prod(volume.geometry.shape) * (_whole(used[0].elements, _ALLOCATED) // 8) > LARGEST_VOLUME or len(frames) < len(volume.keys):
        code = "too-large"
    return _stack(frames, code, NO_VOLUME[code], volume.kind) if code else Display(tuple(frames), volume.geometry, volume.kind)


def _frames(images: list[Shown], keys: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    for key in keys:
        at, number = cast("tuple[int, int]", key)
        # Frames without functional groups are one slice to whoever judges, because nothing tells where each lies.
        if number == 1 and not images[at].of_frames:
            yield from _all_frames(images, at)
        elif number <= images[at].frames:
            yield at, number


def _all_frames(images: list[Shown], at: int) -> list[tuple[int, int]]:
    return [(at, number) for number in range(1, images[at].frames + 1)]


def _start(displays: list[Display], at: int) -> tuple[int, int]:
    for number, display in enumerate(displays):
        for position, (image, _) in enumerate(display.frames):
            if image == at:
                return number, position
    return 0, 0


def plane_of(geometry: volumes.Geometry) -> str:
    """Name how the slices of a volume lie: axial, coronal or sagittal, with ``oblique`` before it when they are at an angle to the patient."""
    sizes = [abs(value) for value in geometry.normal]
    name = _PLANES[sizes.index(max(sizes))]
    return name if is_aligned(geometry) else f"oblique {name}"


def is_aligned(geometry: volumes.Geometry) -> bool:
    """Tell whether rows, columns and slices of a volume lie along the axes of the patient."""
    return all(max(abs(value) for value in axis) > math.sqrt(1 - ALIGNED**2) for axis in (geometry.right, geometry.down, geometry.normal))


def common_elements(images: Sequence[Shown]) -> dict[str, Any]:
    """Give the elements that all images have alike."""
    if not images:
        return {}
    return {tag: element for tag, element in images[0].elements.items() if all(one.elements.get(tag) == element for one in images)}


def neighbour(series: Series, image_id: int, step: int) -> Shown | None:
    """Give the image before (step -1) or after (1) an image in the display it is in; None at its ends."""
    if not series.displays:
        return None
    frames = series.displays[series.start[0]].frames
    order = list(dict.fromkeys(at for at, _ in frames))
    position = next((number for number, at in enumerate(order) if series.images[at].image_id == image_id), 0) + step
    return series.images[order[position]] if 0 <= position < len(order) else None


def _element(elements: Mapping[str, Any], tag: str) -> Any:
    element = elements.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values[0] if isinstance(values, list) and values else None


def _text(elements: Mapping[str, Any], tag: str) -> str:
    value = _element(elements, tag)
    return value if isinstance(value, str) else ""


def _whole(elements: Mapping[str, Any], tag: str) -> int:
    convert: Callable[[Any], int] = int
    try:
        number = convert(_element(elements, tag) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 <= number < 1 << 31 else 0


def _items(elements: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = elements.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return [item for item in values if isinstance(item, Mapping)] if isinstance(values, list) else []
