"""Frames as pictures: a frame of a stored file becomes a PNG that a browser shows.

Decoders are large C libraries and the files come from anywhere. So decoding runs in child processes (``Renderer``) with a
limit on memory and time; a file that crashes its decoder costs a child and never the web server. Within the child ``render``
does the work: decode one frame (pydicom and its plug-ins), apply modality and VOI transformation (PS3.3 C.11), write a PNG.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from pydicom.dataset import Dataset

    Array = np.ndarray[Any, np.dtype[Any]]

# A mammogram has 20 million, a digitised film up to 30; more is no picture for a browser.
MAX_PIXELS = 64 << 20
CHILDREN = 2
SECONDS = 20.0
MEMORY = 3 << 30
# A child is replaced now and then, so that what a decoder leaks does not add up.
FRAMES_OF_ONE_CHILD = 500
_ANSWER = struct.Struct(">cI")
_PNG, _NOT = b"P", b"N"


class CannotRender(Exception):
    """A frame cannot be shown; ``code`` for programs, and the text, without header values, for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Frame(NamedTuple):
    """Which frame to render: a byte range of a file, and the number of the frame in it, from 1."""

    path: Path
    offset: int
    length: int
    number: int = 1


# The parent: nothing from here on knows anything about pixels.


class Renderer:
    """Renders frames in child processes; one for each web process, shared by its threads."""

    def __init__(self, *, children: int = CHILDREN, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        """Make a renderer; children are started when they are first needed.

        seconds: for one frame, and for waiting for a child that is free. memory: of one child, in bytes.
        """
        self._seconds = seconds
        self._memory = memory
        self._closed = False
        # The last in is the first out, so that one child is enough while there is little to do.
        self._children: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(children):
            self._children.put(None)

    def render(self, frame: Frame) -> bytes:
        """Render a frame as PNG. Raises CannotRender."""
        try:
            child = self._children.get(timeout=self._seconds)
        except queue.Empty:
            raise CannotRender("busy", "Too many images are being drawn at the moment; please try again.") from None
        try:
            if child is not None and not child.usable():
                child.end()
                child = None
            child = child or _Child(self._seconds, self._memory)
            try:
                return child.render(frame)
            except CannotRender as error:
                if error.code in ("crashed", "slow"):
                    child.end()
                    child = None
                raise
        finally:
            if self._closed and child is not None:
                child.end()
                child = None
            self._children.put(child)

    def close(self) -> None:
        """End all children that are idle, and those at work as soon as they are done."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            idle = [self._children.get_nowait() for _ in range(self._children.qsize())]
            for child in idle:
                if child is not None:
                    child.end()
                self._children.put(None)


class _Child:
    """One child process, and how to talk to it: a line of JSON there, a length and bytes back."""

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._frames = 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-W", "ignore", "-m", "dicomweb.pixels", str(seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A decoder that was taken over must not find the password or the address of the database there.
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )

    def usable(self) -> bool:
        return self._process.poll() is None and self._frames < FRAMES_OF_ONE_CHILD

    def render(self, frame: Frame) -> bytes:
        self._frames += 1
        # The child's own clock kills it first; this one is for a child that has lost its clock.
        until = time.monotonic() + self._seconds + 5
        question = {"path": os.fsencode(frame.path).hex(), "offset": frame.offset, "length": frame.length, "number": frame.number}
        try:
            self._write(json.dumps(question).encode() + b"\n")
            kind, length = _ANSWER.unpack(self._read(_ANSWER.size, until))
            answer = self._read(length, until)
        except (OSError, EOFError):
            slow = self._process.wait() == -signal.SIGALRM if self._ended() else False
            if slow:
                raise CannotRender("slow", f"Drawing this image took longer than {self._seconds:g} seconds.") from None
            raise CannotRender("crashed", "The decoder crashed on this image; its pixel data is probably damaged.") from None
        except TimeoutError:
            raise CannotRender("slow", f"Drawing this image took longer than {self._seconds:g} seconds.") from None
        if kind == _PNG:
            return answer
        told = json.loads(answer)
        raise CannotRender(told["code"], told["sentence"])

    def end(self) -> None:
        """Kill the process and take its ashes."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()

    def _ended(self) -> bool:
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def _read(self, length: int, until: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        parts = []
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while length:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(fd, min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


# The child.


def _serve(seconds: float, memory: int) -> None:
    """Answer questions until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # It writes to its pipe and to nothing else.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        # The default action of SIGALRM ends the process, also in the middle of C code.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            frame = Frame(Path(os.fsdecode(bytes.fromhex(question["path"]))), question["offset"], question["length"], question["number"])
            kind, answer = _PNG, render(frame)
        except CannotRender as error:
            kind, answer = _NOT, json.dumps({"code": error.code, "sentence": str(error)}).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(_ANSWER.pack(kind, len(answer)) + answer)
        answers.flush()


def render(frame: Frame) -> bytes:
    """Render a frame as PNG in this process: grey with 8 bits, or RGB. Raises CannotRender.

    Only for the child and for files that are trusted.
    """
    try:
        with _Range(frame.path, frame.offset, frame.length) as raw, io.BufferedReader(raw, 1 << 16) as file:
            return _render(file, frame.number)
    except CannotRender:
        raise
    except FileNotFoundError:
        raise CannotRender("missing", "The file of this image is not where it was.") from None
    except MemoryError:
        raise CannotRender("too-large", "This image is too large to be drawn here.") from None
    except Exception as error:  # noqa: BLE001  Decoders raise everything there is, and each means the same here.
        raise CannotRender("undecodable", f"The pixel data cannot be decoded ({type(error).__name__}).") from None


class _Range(io.RawIOBase):
    """A byte range of a file, as a file."""

    name = ""  # pydicom asks for it.

    def __init__(self, path: Path, offset: int, length: int) -> None:
        # Not blocking, so that a pipe put in the place of a file cannot stop us here.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        self._offset = offset
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._fd, max(0, min(len(buffer), self._length - self._at)), self._offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _render(file: BinaryIO, number: int) -> bytes:
    import numpy as np
    import pydicom
    from pydicom.pixels import apply_color_lut

    ds = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    rows, columns = _bounded(ds, number)
    values = _decode(file, ds, number)
    if values.shape[:2] != (rows, columns):
        raise CannotRender("undecodable", "The pixel data does not have the size that the header says.")
    photometric = str(ds.get("PhotometricInterpretation", ""))
    if values.ndim == 3:
        return write_png(_eight_bits(values[:, :, :3], ds))
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(values, ds)
        return write_png((colours >> 8).astype(np.uint8) if colours.dtype.itemsize > 1 else colours.astype(np.uint8))
    return write_png(_grey(values, ds, number))


def _bounded(ds: Dataset, number: int) -> tuple[int, int]:
    """Give rows and columns, once it is certain that nothing can get larger than it may."""
    try:
        rows, columns = int(ds.Rows), int(ds.Columns)
        samples, bits = int(ds.get("SamplesPerPixel", 1) or 1), int(ds.BitsAllocated)
        frames = int(ds.get("NumberOfFrames", 1) or 1)
    except AttributeError:
        raise CannotRender("no-pixels", "This object has no image.") from None
    if not (rows > 0 and columns > 0 and samples in (1, 3, 4) and bits in (1, 8, 16, 32, 64)):
        raise CannotRender("undecodable", "The header describes no picture: rows, columns, samples or bits are not possible.")
    if rows * columns > MAX_PIXELS:
        raise CannotRender("too-large", f"This image has more than {MAX_PIXELS >> 20} million pixels, and is too large to be drawn here.")
    if not 1 <= number <= frames:
        raise CannotRender("no-frame", "This image has no frame with this number.")
    return rows, columns


def _decode(file: BinaryIO, ds: Dataset, number: int) -> Array:
    import pydicom
    from pydicom.pixels import pixel_array
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    syntax = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
    file.seek(0)
    if syntax == DeflatedExplicitVRLittleEndian:
        return pixel_array(pydicom.dcmread(file, force=True), index=number - 1)
    options: dict[str, Any] = {}
    if syntax is None:
        implicit, little = ds.original_encoding
        options["transfer_syntax_uid"] = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return pixel_array(file, index=number - 1, **options)


def _eight_bits(values: Array, ds: Dataset) -> Array:
    import numpy as np

    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind == "f":
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        return np.clip((values - low) * (255 / ((high - low) or 1)), 0, 255).astype(np.uint8)
    stored = int(ds.get("BitsStored", values.dtype.itemsize * 8))
    return np.clip(values >> max(0, stored - 8), 0, 255).astype(np.uint8)


def _grey(values: Array, ds: Dataset, number: int) -> Array:
    """Make 8-bit grey of stored values: modality transformation, then VOI transformation, then polarity (PS3.3 C.11)."""
    import numpy as np

    modality = _modality_transformation(ds, number)
    voi = _voi_transformation(ds, number) or _window_of_data(values, ds, modality)
    invert = ds.get("PhotometricInterpretation") == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"

    def grey(stored: Array) -> Array:
        shown = np.nan_to_num(np.clip(voi(modality(stored.astype(np.float64))), 0.0, 1.0))
        levels = np.rint(shown * 255).astype(np.uint8)
        return 255 - levels if invert else levels

    if values.dtype.kind in "iub":
        low, high = int(values.min()), int(values.max())
        if high - low < 1 << 16:
            # Every possible value once, instead of every pixel.
            table = grey(np.arange(low, high + 1))
            return np.take(table, np.subtract(values, low, dtype=np.int32))
    shown = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):
        shown[start : start + 256] = grey(values[start : start + 256])
    return shown


Transformation = Callable[["Array"], "Array"]


def _modality_transformation(ds: Dataset, number: int) -> Transformation:
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
    return _window(center, width, str(where.get("VOILUTFunction") or "LINEAR"))


def _window(center: float, width: float, function: str) -> Transformation:
    """Give the windowing function (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    import numpy as np

    if function == "SIGMOID":
        return lambda x: 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return lambda x: (x - center) / width + 0.5
    if width <= 1:
        return lambda x: (x > center - 0.5).astype(np.float64)
    return lambda x: (x - (center - 0.5)) / (width - 1) + 0.5


def _window_of_data(values: Array, ds: Dataset, modality: Transformation) -> Transformation:
    """Give a window that shows what is there: all of 8 bits, otherwise all but the outermost values."""
    import numpy as np

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
    low, high = min(low, high), max(low, high)
    span = (high - low) or 1.0
    return lambda x: (x - low) / span


class _Table:
    """A look-up table (PS3.3 C.11.1.1, C.11.2.1.1)."""

    def __init__(self, first: int, bits: int, data: Array) -> None:
        self._first = first
        self._bits = bits
        self._data = data

    def values(self, x: Array) -> Array:
        import numpy as np

        return self._data[np.clip(x - self._first, 0, len(self._data) - 1).astype(np.int64)]

    def fractions(self, x: Array) -> Array:
        # Some files say 16 bits and use 12; what is there decides.
        return self.values(x) / max(1.0, float(self._data.max()) if self._bits > 12 else 2.0**self._bits - 1)


def _look_up_table(sequence: Any) -> _Table | None:
    import numpy as np

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


def write_png(picture: Array) -> bytes:
    """Write a PNG: rows x columns (grey) or rows x columns x 3 (RGB), 8 bits each.

    Each row is stored as its difference from the row above, which suits these pictures, and compressed by isal: a tenth of
    the time that Pillow needs, for a file as small.
    """
    import numpy as np

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
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(filtered.data, 1)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    _serve(float(sys.argv[1]), int(sys.argv[2]))
