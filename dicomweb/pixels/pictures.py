"""Pictures for browsers: a part of an image in the size that was asked for, as PNG or JPEG. Only for the child."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from dicomweb.pixels.asked import CannotRender, Look, Region, Viewport

Array = np.ndarray[Any, np.dtype[Any]]


def write(picture: Array, look: Look) -> bytes:
    """Write a picture of 8 bits as a look wants it: rows x columns (grey) or rows x columns x 3 (RGB). Raises CannotRender."""
    if look.viewport is not None:
        picture = fit(picture, look.viewport)
    return write_jpeg(picture, look.quality) if look.kind == "jpeg" else write_png(picture)


def fit(picture: Array, viewport: Viewport) -> Array:
    """Cut out the region of a viewport, flip it, and scale it until it just fits (PS3.18 8.3.5.1.4). Raises CannotRender."""
    rows, columns = picture.shape[:2]
    x, y, width, height = viewport.region or Region(0, 0, 0, 0)
    left, top = round(x), round(y)
    # Zero means up to the edge.
    right = columns if width == 0 else left + max(1, round(abs(width)))
    bottom = rows if height == 0 else top + max(1, round(abs(height)))
    if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
        raise CannotRender("no-region", "The part of the image that the viewport asks for is not within the image.")
    part = picture[top:bottom, left:right]
    part = part[:, ::-1] if width < 0 else part
    part = part[::-1] if height < 0 else part
    scale = min(viewport.width / part.shape[1], viewport.height / part.shape[0])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    if size == (part.shape[1], part.shape[0]):
        return part
    return np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize(size, Image.Resampling.BILINEAR))


def write_jpeg(picture: Array, quality: int) -> bytes:
    """Write a JPEG; colours without subsampling from a quality of 90 on."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(
        buffer, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2
    )
    return buffer.getvalue()


def write_png(picture: Array) -> bytes:
    """Write a PNG: rows x columns (grey) or rows x columns x 3 (RGB), 8 bits each.

    Each row is stored as its difference from the row above, which suits these pictures, and compressed by isal: a tenth of
    the time that Pillow needs, for a file as small.
    """
    try:
        from isal.isal_zlib import compress
    except ImportError:
        compress = zlib.compress
    rows, columns = picture.shape[:2]
    lines = np.ascontiguousarray(picture, dtype=np.uint8).reshape(rows, -1)
    filtered = np.empty((rows, lines.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # The filter "Up".
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 2 if picture.ndim == 3 else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(filtered.data, 1)) + chunk(b"IEND", b"")
    )
