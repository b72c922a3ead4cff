"""What values look like: modality transformation, VOI transformation, polarity and palette (PS3.3 C.11). Only for the child."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from dicomweb.pixels.asked import Window

Array = np.ndarray[Any, np.dtype[Any]]
Transformation = Callable[[Array], Array]


def picture(values: Array, ds: Dataset, number: int, window: Window | None = None) -> Array:
    """Make a picture of 8 bits from the values of a frame: rows x columns (grey) or rows x columns x 3 (RGB).

    window: instead of the one of the header; it says nothing about colours.
    """
    if values.ndim == 3:
        return _eight_bits(values[:, :, :3], ds)
    if str(ds.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        colours = apply_color_lut(values, ds)[:, :, :3]
        return (colours >> 8).astype(np.uint8) if colours.dtype.itemsize > 1 else colours.astype(np.uint8)
    return _grey(values, ds, number, window)


def picture_of_units(units: Array, shown: Array, ds: Dataset, number: int, window: Window | None) -> Array:
    """Make a picture of 8 bits from values in units; where ``shown`` is false it is black."""
    voi = window_function(*window) if window else _voi_transformation(ds, number)
    if voi is None:
        low, high = (float(end) for end in np.percentile(units[shown], (0.5, 99.5)))
        voi = _between(low, high)
    levels = np.rint(np.nan_to_num(np.clip(voi(units), 0.0, 1.0)) * 255).astype(np.uint8)
    return np.where(shown, 255 - levels if is_inverted(ds) else levels, np.uint8(0))


def _between(low: float, high: float) -> Transformation:
    span = (high - low) or 1.0
    return lambda x: (x - low) / span


def _eight_bits(values: Array, ds: Dataset) -> Array:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind == "f":
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        return np.clip((values - low) * (255 / ((high - low) or 1)), 0, 255).astype(np.uint8)
    stored = int(ds.get("BitsStored", values.dtype.itemsize * 8))
    return np.clip(values >> max(0, stored - 8), 0, 255).astype(np.uint8)


def _grey(values: Array, ds: Dataset, number: int, window: Window | None) -> Array:
    """Make 8-bit grey of stored values: modality transformation, then VOI transformation, then polarity (PS3.3 C.11)."""
    modality = modality_transformation(ds, number)
    voi = (
        window_function(*window) if window else _voi_transformation(ds, number) or _window_of_data(values, ds, modality)
    )
    invert = is_inverted(ds)

    def grey(stored: Array) -> Array:
        shown = np.nan_to_num(np.clip(voi(modality(stored.astype(np.float64))), 0.0, 1.0))
        levels = np.rint(shown * 255).astype(np.uint8)
        return 255 - levels if invert else levels

    if values.dtype.kind in "iub":
        low, high = int(values.min()), int(values.max())
        if high - low < 1 << 16:
            # Every possible value once, instead of every pixel.
            table = grey(np.arange(low, high + 1))
            return np.take(table, np.subtract(values, low, dtype=np.intp), mode="clip")
    shown = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):
        shown[start : start + 256] = grey(values[start : start + 256])
    return shown


def is_inverted(ds: Dataset) -> bool:
    """Tell whether small values are white."""
    return ds.get("PhotometricInterpretation") == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"


def modality_transformation(ds: Dataset, number: int) -> Transformation:
    """Give the transformation from stored values to units (PS3.3 C.11.1)."""
    if table := _look_up_table(ds.get("ModalityLUTSequence")):
        return table.values
    where = _functional_group(ds, number, "PixelValueTransformationSequence") or ds
    slope, intercept = _number(where.get("RescaleSlope"), 1.0), _number(where.get("RescaleIntercept"), 0.0)
    return lambda stored: stored * (slope or 1.0) + intercept


def _voi_transformation(ds: Dataset, number: int) -> Transformation | None:
    """Give the transformation of the header, to 0..1; None when the header has none that makes sense."""
    if table := _look_up_table(ds.get("VOILUTSequence")):
        return table.fractions
    where = _functional_group(ds, number, "FrameVOILUTSequence") or ds
    center, width = _number(where.get("WindowCenter"), math.nan), _number(where.get("WindowWidth"), math.nan)
    if math.isnan(center) or math.isnan(width) or width <= 0:
        return None
    return window_function(center, width, str(where.get("VOILUTFunction") or "LINEAR"))


def window_function(center: float, width: float, function: str) -> Transformation:
    """Give the windowing function (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return lambda x: 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return lambda x: (x - center) / width + 0.5
    if width <= 1:
        return lambda x: (x > center - 0.5).astype(np.float64)
    return lambda x: (x - (center - 0.5)) / (width - 1) + 0.5


def _window_of_data(values: Array, ds: Dataset, modality: Transformation) -> Transformation:
    """Give a window that shows what is there: all of 8 bits, otherwise all but the outermost values."""
    bits = int(ds.get("BitsStored", 8) or 8)
    if values.dtype.kind in "ub" and bits <= 8:
        low, high = (float(end) for end in modality(np.array([0.0, 2.0**bits - 1])))
    else:
        some = values.reshape(-1)[:: max(1, values.size >> 20)].astype(np.float64)
        padding = _number(ds.get("PixelPaddingValue"), math.nan)
        kept = some[np.isfinite(some) & (some != padding)]
        if not kept.size:
            return lambda x: np.zeros_like(x)
        low, high = (float(end) for end in modality(np.percentile(kept, (0.5, 99.5))))
    return _between(min(low, high), max(low, high))


class _Table:
    """A look-up table (PS3.3 C.11.1.1, C.11.2.1.1)."""

    def __init__(self, first: int, bits: int, data: Array) -> None:
        self._first = first
        self._bits = bits
        self._data = data

    def values(self, x: Array) -> Array:
        return self._data[np.clip(x - self._first, 0, len(self._data) - 1).astype(np.int64)]

    def fractions(self, x: Array) -> Array:
        # Some files say 16 bits and use 12; what is there decides.
        return self.values(x) / max(1.0, float(self._data.max()) if self._bits > 12 else 2.0**self._bits - 1)


def _look_up_table(sequence: Any) -> _Table | None:
    if not sequence:
        return None
    item = sequence[0]
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None or len(descriptor) != 3:
        return None
    # Zero means 65536 entries, because the count has 16 bits.
    entries, first, bits = int(descriptor[0]) or 1 << 16, int(descriptor[1]), int(descriptor[2])
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.asarray(data))
    if isinstance(data, bytes) and bits <= 8 and len(data) < entries * 2:
        table = np.frombuffer(data, np.uint8)
    table = table[:entries].astype(np.float64)
    return _Table(first, bits, table) if len(table) else None


def _functional_group(ds: Dataset, number: int, keyword: str) -> Dataset | None:
    """Find a functional group macro of a frame: its own, else the one all frames share (PS3.3 C.7.6.16)."""
    own = ds.get("PerFrameFunctionalGroupsSequence") or []
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    for group in (*own[number - 1 : number], *shared[:1]):
        if macro := group.get(keyword):
            return macro[0]
    return None


def _number(value: Any, default: float) -> float:
    """Give the first number of an element, or the default."""
    if value is not None and not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if math.isfinite(number) else default
