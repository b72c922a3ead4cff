"""Is a series one volume, and which: decided from what its headers say, before anything is drawn.

Viewers draw what they are given: with a gap, a tilted gantry, two echoes or a localizer among the slices they show anatomy that is not
there. So this says which images form volumes (equal size, orientation and steps along the normal) and, of those that do not, why.
Pure: the caller reads the elements, named in ``TAGS``, from the header index.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from dicomweb.languages import N_, gettext

# What ``slices_of`` needs of an image, as DICOM JSON.
TAGS = (
    "00080008", "00080032", "00180081", "00180086", "00181060", "00189087", "00200012", "00200013", "00200032", "00200037", "00200052",
    "00200100", "00280002", "00280008", "00280010", "00280011", "00280030", "52009229", "52009230",
)  # fmt: skip
FEWEST = 3
# A step may differ from the others by this share of it, and by what rounding to hundredths of a millimetre does.
UNEVEN = 0.01
ROUNDED = 0.021
# The angle between the steps and the normal of the slices from which on the volume is sheared, as its sine; about a third of a degree.
TILTED = 0.006
# Slices at the same place are one slice seen twice.
SAME = 0.001

Vector = tuple[float, float, float]
REASONS = {
    "no-geometry": N_("The images do not say where in the patient they lie."),
    "mosaic": N_("Each image is a mosaic of many slices."),
    "colour": N_("The images are in colour."),
    "too-few": N_("Fewer than %(fewest)s slices lie one behind the other."),
    "duplicate-positions": N_("Several images lie at the same place, and nothing tells them apart."),
    "tilted": N_("The slices are shifted against each other: the gantry was tilted."),
    "gap": N_("Slices are missing."),
    "uneven": N_("The distances between the slices differ."),
}


class Slice(NamedTuple):
    """One image, or one frame of one: its place in the patient (PS3.3 C.7.6.2), in mm.

    key: the caller's name for it. position: of the centre of the first pixel. right, down: unit vectors of rising columns and rows.
    spacing: between rows, then between columns. kinds: what tells images at the same place apart, by name.
    """

    key: Hashable
    position: Vector | None
    right: Vector | None
    down: Vector | None
    spacing: tuple[float, float] | None
    rows: int
    columns: int
    samples: int = 1
    frame_of_reference: str = ""
    number: float = 0.0
    mosaic: bool = False
    kinds: Mapping[str, Hashable] = {}


class Geometry(NamedTuple):
    """Where a volume lies. origin: centre of its first voxel. right, down, normal: unit vectors along columns, rows and slices.

    spacing: between columns, rows and slices, in mm. shape: columns, rows, slices.
    """

    origin: Vector
    right: Vector
    down: Vector
    normal: Vector
    spacing: Vector
    shape: tuple[int, int, int]


class Volume(NamedTuple):
    """Slices one behind the other, in the order of ``geometry.normal``. kind: what tells it from others at the same place."""

    keys: tuple[Hashable, ...]
    geometry: Geometry
    kind: str = ""


class Unfit(NamedTuple):
    """Images that are no volume. code: of REASONS."""

    keys: tuple[Hashable, ...]
    code: str

    @property
    def sentence(self) -> str:
        """Why not, for people."""
        return gettext(REASONS[self.code], fewest=FEWEST)


class Verdict(NamedTuple):
    """What became of the images of a series; the largest volume comes first."""

    volumes: tuple[Volume, ...]
    unfit: tuple[Unfit, ...]

    @property
    def is_one_volume(self) -> bool:
        """Tell whether all images together are one volume."""
        return len(self.volumes) == 1 and not self.unfit


def judge(slices: Iterable[Slice]) -> Verdict:
    """Sort the images of a series into volumes, and those that are none; see REASONS."""
    stacks: dict[Hashable, list[Slice]] = defaultdict(list)
    unfit: list[Unfit] = []
    odd: dict[str, list[Hashable]] = defaultdict(list)
    for one in slices:
        code = _oddity(one)
        if code:
            odd[code].append(one.key)
        else:
            stacks[_stack_of(one)].append(one)
    unfit.extend(Unfit(tuple(keys), code) for code, keys in odd.items())
    volumes: list[Volume] = []
    for stack in stacks.values():
        for judged in _judge_stack(stack):
            if isinstance(judged, Volume):
                volumes.append(judged)
            else:
                unfit.append(judged)
    volumes.sort(key=lambda volume: -len(volume.keys))
    return Verdict(tuple(volumes), tuple(unfit))


def _oddity(one: Slice) -> str:
    if one.mosaic:
        return "mosaic"
    if one.samples != 1:
        return "colour"
    if one.position is None or one.right is None or one.down is None or one.spacing is None or one.rows < 1 or one.columns < 1:
        return "no-geometry"
    return ""


def _stack_of(one: Slice) -> Hashable:
    # Rounding puts nearly equal directions together; two that fall on either side of a step are rare, and then two stacks.
    directions = tuple(round(value, 3) + 0.0 for vector in (one.right, one.down) if vector for value in vector)
    spacing = tuple(round(value, 4) for value in one.spacing or ())
    return one.rows, one.columns, directions, spacing, one.frame_of_reference


def _judge_stack(stack: list[Slice]) -> list[Volume | Unfit]:
    if len(stack) < FEWEST:
        return [_unfit(stack, "too-few")]
    placed = _placed(stack)
    if not _has_twins(placed):
        return [_judge_steps(placed, "")]
    for name in dict.fromkeys(name for one in stack for name in one.kinds):
        parts: dict[Hashable, list[Slice]] = defaultdict(list)
        for one in stack:
            parts[one.kinds.get(name)].append(one)
        sorted_parts = {value: _placed(part) for value, part in parts.items()}
        if len(parts) > 1 and not any(_has_twins(part) for part in sorted_parts.values()):
            return [
                _judge_steps(part, _told(name, value)) if len(part) >= FEWEST else _unfit([one for _, one in part], "too-few")
                for value, part in sorted_parts.items()
            ]
    return _judge_rounds(placed) or [_unfit(stack, "duplicate-positions")]


def _told(name: str, value: Hashable) -> str:
    """Name a part of the images by what tells it from the others; without a value it is what the others are not."""
    return f"{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}" if value is not None else f"no {name}"


def _judge_rounds(placed: list[tuple[float, Slice]]) -> list[Volume | Unfit]:
    """Take images that go through the same places again and again apart by their numbers; nothing when they do not."""
    places: list[list[Slice]] = []
    last = math.nan
    for at, one in placed:
        if places and at - last < SAME:
            places[-1].append(one)
        else:
            places.append([one])
            last = at
    rounds = len(places[0])
    if any(len(place) != rounds for place in places) or len({one.number for _, one in placed}) < len(placed):
        return []
    ordered = [sorted(place, key=lambda one: one.number) for place in places]
    return [_judge_steps(_placed([place[turn] for place in ordered]), f"time {turn + 1}") for turn in range(rounds)] if len(places) >= FEWEST else []


def _placed(stack: Sequence[Slice]) -> list[tuple[float, Slice]]:
    """Put slices in order along their normal."""
    normal = _normal(stack[0])
    return sorted(((_dot(one.position or (0.0, 0.0, 0.0), normal), one) for one in stack), key=lambda pair: (pair[0], pair[1].number))


def _has_twins(placed: Sequence[tuple[float, Slice]]) -> bool:
    return any(after[0] - before[0] < SAME for before, after in pairwise(placed))


def _judge_steps(placed: Sequence[tuple[float, Slice]], kind: str) -> Volume | Unfit:
    stack = [one for _, one in placed]
    first, last = stack[0], stack[-1]
    normal = _normal(first)
    steps = [after[0] - before[0] for before, after in pairwise(placed)]
    if len(stack) < FEWEST:
        return _unfit(stack, "too-few")
    across = _minus(last.position or normal, first.position or normal)
    aside = math.sqrt(max(0.0, _dot(across, across) - _dot(across, normal) ** 2))
    if aside > TILTED * math.sqrt(_dot(across, across)):
        return _unfit(stack, "tilted")
    middle = sorted(steps)[len(steps) // 2]
    if any(abs(step - middle) > max(UNEVEN * middle, ROUNDED) for step in steps):
        return _unfit(stack, "gap" if max(steps) > 1.5 * middle else "uneven")
    down, right = first.spacing or (0.0, 0.0)
    geometry = Geometry(
        first.position or normal, first.right or normal, first.down or normal, normal,
        (right, down, (placed[-1][0] - placed[0][0]) / (len(placed) - 1)), (first.columns, first.rows, len(stack)),
    )  # fmt: skip
    return Volume(tuple(one.key for one in stack), geometry, kind)


def _unfit(stack: Iterable[Slice], code: str) -> Unfit:
    return Unfit(tuple(one.key for one in stack), code)


def _normal(one: Slice) -> Vector:
    (a, b, c), (x, y, z) = one.right or (1.0, 0.0, 0.0), one.down or (0.0, 1.0, 0.0)
    return b * z - c * y, c * x - a * z, a * y - b * x


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _minus(one: Vector, other: Vector) -> Vector:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


# From headers to slices.

# What tells images at the same place apart, most telling first.
_KINDS = {
    "echo": "00180086", "echo time": "00180081", "time": "00200100", "b-value": "00189087", "trigger time": "00181060", "acquisition": "00200012",
    "acquisition time": "00080032", "type": "00080008",
}  # fmt: skip


def slices_of(key: Hashable, elements: Mapping[str, Any]) -> list[Slice]:
    """Read one image: one slice, or one for each frame, whose key is then (key, number of the frame from 1).

    elements: tag -> DICOM JSON element, those of TAGS that it has.
    """
    frames = _number(elements, "00280008")
    types = _values(elements, "00080008")
    shared: dict[str, Any] = {
        "rows": int(_number(elements, "00280010") or 0), "columns": int(_number(elements, "00280011") or 0),
        "samples": int(_number(elements, "00280002") or 1), "frame_of_reference": str((_values(elements, "00200052") or [""])[0]),
        "mosaic": "MOSAIC" in types,
    }  # fmt: skip
    kinds = {name: tuple(map(str, _values(elements, tag))) for name, tag in _KINDS.items() if _values(elements, tag)}
    own = _items(elements, "52009230")
    if not own:
        if frames and frames > 1:
            return [Slice((key, 1), None, None, None, None, **shared)]
        number = _number(elements, "00200013") or 0.0
        return [Slice((key, 1), *_place(elements, elements, elements), number=number, kinds=kinds, **shared)]
    common = (_items(elements, "52009229") or [{}])[0]
    slices = []
    for number, group in enumerate(own, 1):
        position, orientation, measures = (_macro(group, common, tag) for tag in ("00209113", "00209116", "00289110"))
        content = _macro(group, common, "00209111")
        kind = {name: tuple(map(str, _values(content, tag))) for name, tag in (("time", "00209128"), ("stack", "00209056")) if _values(content, tag)}
        echo = _macro(group, common, "00189114")
        if _values(echo, "00189082"):
            kind["echo time"] = tuple(map(str, _values(echo, "00189082")))
        diffusion = _macro(group, common, "00189117")
        if _values(diffusion, "00189087"):
            kind["b-value"] = tuple(map(str, _values(diffusion, "00189087")))
        slices.append(Slice((key, number), *_place(position, orientation, measures), number=float(number), kinds=kind, **shared))
    return slices


def _place(
    position: Mapping[str, Any], orientation: Mapping[str, Any], measures: Mapping[str, Any]
) -> tuple[Vector | None, Vector | None, Vector | None, tuple[float, float] | None]:
    at, directions, spacing = _numbers(position, "00200032", 3), _numbers(orientation, "00200037", 6), _numbers(measures, "00280030", 2)
    if not at or not directions or not spacing or min(spacing) <= 0:
        return None, None, None, None
    right, down = _unit(directions[:3]), _unit(directions[3:])
    # Rows and columns that are not at right angles are no orientation (PS3.3 C.7.6.2.1.1).
    if right is None or down is None or abs(_dot(right, down)) > 0.01:
        return None, None, None, None
    return (at[0], at[1], at[2]), right, down, (spacing[0], spacing[1])


def _unit(values: Sequence[float]) -> Vector | None:
    length = math.sqrt(sum(value * value for value in values))
    return (values[0] / length, values[1] / length, values[2] / length) if 0.9 < length < 1.1 else None


def _macro(group: Mapping[str, Any], common: Mapping[str, Any], tag: str) -> Mapping[str, Any]:
    found = _items(group, tag) or _items(common, tag)
    return found[0] if found else {}


def _items(elements: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    return [item for item in _values(elements, tag) if isinstance(item, Mapping)]


def _values(elements: Mapping[str, Any], tag: str) -> list[Any]:
    element = elements.get(tag)
    found = element.get("Value") if isinstance(element, Mapping) else None
    return found if isinstance(found, list) else []


def _numbers(elements: Mapping[str, Any], tag: str, count: int) -> list[float]:
    try:
        found = [float(value) for value in _values(elements, tag)]
    except (TypeError, ValueError):
        return []
    return found if len(found) == count and all(abs(value) < 1e6 for value in found) else []


def _number(elements: Mapping[str, Any], tag: str) -> float | None:
    found = _values(elements, tag)[:1]
    try:
        number = float(found[0]) if found else None
    except (TypeError, ValueError):
        return None
    return number if number is not None and math.isfinite(number) and abs(number) < 1e12 else None
