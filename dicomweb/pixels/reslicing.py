"""An orthogonal slice through a volume of images, by trilinear interpolation. Only for the child.

The images are decoded one after the other, each adding its share to the pixels of the slice near it; so memory is that of one image, and
a slice that lies in one image needs two of them at most.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dicomweb.pixels import looks
from dicomweb.pixels.asked import MAX_IMAGES_OF_A_VOLUME, CannotRender, Cut, Window
from dicomweb.pixels.decoding import open_source

Array = np.ndarray[Any, np.dtype[Any]]

# What is right and down in a picture, and which axis of the patient the plane is perpendicular to (PS3.3 C.7.6.2.1.1: x to the left, y to
# the back, z to the head). Seen as radiologists do: axial from the feet, coronal from the front, sagittal from the left.
_PLANES = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 2),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), 1),
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), 0),
}
_LARGEST = 2048


def cut_picture(cut: Cut, window: Window | None) -> Array:
    """Make the picture of a slice, with square pixels. Raises CannotRender."""
    if len(cut.frames) > MAX_IMAGES_OF_A_VOLUME:
        raise CannotRender("too-large", f"A volume of more than {MAX_IMAGES_OF_A_VOLUME:,} images is not cut here.")
    first = open_source(cut.frames[0])
    with first.file:
        first.check(cut.frames[0].number)
        ds, shape = first.ds, (int(first.ds.Rows), int(first.ds.Columns))
    at = _coordinates(cut, shape)
    units = np.zeros(at.shape[1:])
    inside = _inside(at, (shape[1], shape[0], len(cut.frames)))
    at = np.clip(at, 0, np.array([shape[1], shape[0], len(cut.frames)]).reshape(3, 1, 1) - 1.0)
    depth = at[2]
    shown = depth[inside]
    if not shown.size:
        raise CannotRender("no-slice", "There is no part of the volume at this position.")
    for number in range(int(np.floor(shown.min())), int(np.ceil(shown.max())) + 1):
        share = 1.0 - np.abs(depth - number)
        near = np.nonzero(inside & (share > 0))
        if near[0].size:
            units[near] += share[near] * _sampled(_units(cut, number, shape), at[0][near], at[1][near])
    picture = looks.picture_of_units(units, inside, ds, cut.frames[0].number, window)
    return picture[:, ::-1] if cut.mirrored else picture


def _coordinates(cut: Cut, shape: tuple[int, int]) -> Array:
    """Give where each pixel of the slice lies: (column, row, image) in pixels, 3 x height x width."""
    origin = np.array(cut.origin)
    axes = np.array(cut.axes).T
    right, down, across = _PLANES[cut.plane]
    ends = np.array(
        [
            (i, j, k)
            for i in (-0.5, shape[1] - 0.5)
            for j in (-0.5, shape[0] - 0.5)
            for k in (-0.5, len(cut.frames) - 0.5)
        ]
    )
    corners = origin + ends @ axes.T
    step = float(np.linalg.norm(axes, axis=0).min())
    spans = [corners @ np.array(direction) for direction in (right, down)]
    low = [float(span.min()) for span in spans]
    sizes = [float(span.max() - span.min()) for span in spans]
    step = max(step, max(sizes) / _LARGEST)
    width, height = (max(1, round(size / step)) for size in sizes)
    position = cut.position
    if position is None:
        position = float(corners[:, across].min() + corners[:, across].max()) / 2
    place = np.zeros(3)
    place[across] = position
    columns, rows = low[0] + (np.arange(width) + 0.5) * step, low[1] + (np.arange(height) + 0.5) * step
    world = (
        place.reshape(3, 1, 1)
        + np.array(right).reshape(3, 1, 1) * columns.reshape(1, 1, -1)
        + np.array(down).reshape(3, 1, 1) * rows.reshape(1, -1, 1)
    )
    return np.einsum("ij,jhw->ihw", np.linalg.inv(axes), world - origin.reshape(3, 1, 1))


def _inside(at: Array, sizes: tuple[int, int, int]) -> Array:
    edges = np.array(sizes).reshape(3, 1, 1) - 0.5
    return np.asarray(((at >= -0.5) & (at <= edges)).all(axis=0))


def _units(cut: Cut, number: int, shape: tuple[int, int]) -> Array:
    frame = cut.frames[number]
    source = open_source(frame)
    with source.file:
        values = source.values(frame.number)
        if values.shape != shape:
            raise CannotRender("undecodable", "The images of this volume do not have the same size.")
        return looks.modality_transformation(source.ds, frame.number)(values.astype(np.float64))


def _sampled(image: Array, x: Array, y: Array) -> Array:
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, bottom = np.minimum(left + 1, image.shape[1] - 1), np.minimum(top + 1, image.shape[0] - 1)
    x, y = x - left, y - top
    above = image[top, left] * (1 - x) + image[top, right] * x
    below = image[bottom, left] * (1 - x) + image[bottom, right] * x
    return np.asarray(above * (1 - y) + below * y)
