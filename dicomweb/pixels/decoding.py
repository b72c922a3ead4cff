"""Frames by transfer syntax: from the bytes of a file to the values of its pixels. Only for the child.

pydicom and its plug-ins decode; here are the bounds that hold before anything is allocated, which plug-in goes first, and the one repair
that real files need. The header of the last few files is kept, because the frames of one file are mostly asked for one after the other.
"""

from __future__ import annotations

import copy
import io
import os
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_data_element
from pydicom.pixels import as_pixel_options, get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from dicomweb.pixels.asked import MAX_FRAME_BYTES, MAX_PIXELS, CannotRender, Frame, Plain

Array = np.ndarray[Any, np.dtype[Any]]

_PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
# Several times as fast as the other one that decodes the syntax, with the same result.
_FIRST = {RLELossless: "pylibjpeg", **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls")}
_LOSSY = frozenset(
    (
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.203",
    )
)
_KEPT_FILES = 4
# A header that is larger is not kept: memory is bounded.
_KEPT_BYTES = 32 << 20
_LARGEST_ELEMENT = 0xFFFFFFFE
_UNDEFINED = 0xFFFFFFFF


class Range(io.RawIOBase):
    """A byte range of a file, as a file."""

    name = ""  # pydicom asks for it.

    def __init__(self, path: Path, offset: int, length: int) -> None:
        # Not blocking, so that a pipe put in the place of a file cannot stop us here.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        self._offset = offset
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place of the range."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def tell(self) -> int:
        """Tell the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read on."""
        data = os.pread(self._fd, max(0, min(len(buffer), self._length - self._at)), self._offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def modified(self) -> int:
        """Tell when the file was changed, in ns."""
        return os.fstat(self._fd).st_mtime_ns

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._fd)
        super().close()


class Source:
    """A file that is open: its header, and how to get at its frames."""

    def __init__(
        self,
        file: io.BufferedReader,
        ds: Dataset,
        syntax: UID,
        start: int | None,
        keyword: str,
        vr: str | None,
        length: int,
    ) -> None:
        self.file = file
        self.ds = ds
        self.syntax = syntax
        self.start = start
        self.keyword = keyword
        self._vr = vr
        self._length = length
        self._options: dict[str, Any] | None = None

    @property
    def frames(self) -> int:
        """How many frames the header says there are."""
        return int(self.ds.get("NumberOfFrames", 1) or 1)

    def check(self, number: int) -> None:
        """Make sure that nothing can get larger than it may, and that there is such a frame. Raises CannotRender."""
        ds = self.ds
        try:
            rows, columns = int(ds.Rows), int(ds.Columns)
            samples, bits = int(ds.get("SamplesPerPixel", 1) or 1), int(ds.BitsAllocated)
            frames = self.frames
        except (AttributeError, TypeError):
            raise CannotRender("no-pixels", "This object has no image.") from None
        if not (rows > 0 and columns > 0 and samples in (1, 3, 4) and bits in (1, 8, 16, 32, 64)):
            raise CannotRender(
                "undecodable", "The header describes no picture: rows, columns, samples or bits are not possible."
            )
        if rows * columns > MAX_PIXELS or rows * columns * samples * bits > MAX_FRAME_BYTES * 8:
            raise CannotRender(
                "too-large",
                f"This image has more than {MAX_PIXELS >> 20} million pixels, and is too large to be drawn here.",
            )
        if self.start is not None and self.syntax.is_encapsulated != (self._length == _UNDEFINED):
            raise CannotRender("undecodable", "The pixel data is not encapsulated as its transfer syntax says.")
        if not 1 <= number <= frames:
            raise CannotRender("no-frame", "This image has no frame with this number.")

    def values(self, number: int) -> Array:
        """Decode a frame: rows x columns of stored values, or rows x columns x samples with colours as RGB. Raises CannotRender."""
        self.check(number)
        values = self._decoded(number)
        if values.shape[:2] != (self.ds.Rows, self.ds.Columns):
            raise CannotRender("undecodable", "The pixel data does not have the size that the header says.")
        return values

    def stored(self, number: int) -> bytes:
        """Give an encapsulated frame as it is stored."""
        self.check(number)
        if self.start is None or not self.syntax.is_encapsulated:
            raise CannotRender("undecodable", "The pixel data is not encapsulated.")
        self.file.seek(self.start)
        return get_frame(self.file, number - 1, number_of_frames=self.frames, extended_offsets=self._offsets())

    def packed(self) -> bytes:
        """Give all frames of 1 bit a pixel as they are stored."""
        if self.start is None:
            return bytes(self.ds.PixelData)
        if self._length > MAX_FRAME_BYTES:
            raise CannotRender("too-large", "The pixel data is too large.")
        self.file.seek(self.start)
        return self.file.read(self._length)

    def after(self) -> Dataset:
        """Give what follows the pixel data; what cannot be read there is nothing."""
        if self.start is None:
            return Dataset()
        try:
            self.file.seek(self.start + self._length)
            if self._length == _UNDEFINED:
                self._pass_fragments(self.start)
            return pydicom.filereader.read_dataset(self.file, self.syntax.is_implicit_VR, self.syntax.is_little_endian)
        except Exception:  # noqa: BLE001  Some writers leave bytes behind the pixel data that mean nothing.
            return Dataset()

    def _pass_fragments(self, at: int) -> None:
        """Go behind encapsulated pixel data."""
        while True:
            self.file.seek(at)
            group, element, length = struct.unpack("<HHL", self.file.read(8))
            if (group, element) == (0xFFFE, 0xE0DD):
                return
            at += 8 + length

    def _decoded(self, number: int) -> Array:
        plugin: dict[str, Any] = {"decoding_plugin": _FIRST[self.syntax]} if self.syntax in _FIRST else {}
        decoder = get_decoder(self.syntax)
        if self.start is None:
            return decoder.as_array(self.ds, index=number - 1)[0]
        if self.syntax.is_encapsulated:
            coded = self.stored(number)
            _check_coded(coded, self.syntax)
            if self.syntax == JPEGExtended12Bit and _jpeg_precision(coded) == 12:
                return _extended_12_bit(coded, self.ds)
        elif int(self.ds.BitsAllocated) == 1 and self.frames > 1 and self.syntax.is_little_endian:
            return self._bits(number)
        try:
            self.file.seek(self.start)
            return decoder.as_array(self.file, index=number - 1, **plugin, **self._pixel_options())[0]
        except Exception:
            if not plugin:
                raise
            self.file.seek(self.start)
            return decoder.as_array(self.file, index=number - 1, **self._pixel_options())[0]

    def _bits(self, number: int) -> Array:
        """Give a frame of 1 bit a pixel; frames follow one another without a gap, also within a byte (PS3.5 8.1.1)."""
        size = int(self.ds.Rows) * int(self.ds.Columns)
        first = size * (number - 1)
        start, end = first // 8, (first + size + 7) // 8
        if self.start is None or end > self._length:
            raise CannotRender("undecodable", "The pixel data is shorter than the header says.")
        self.file.seek(self.start + start)
        bits = np.unpackbits(np.frombuffer(self.file.read(end - start), np.uint8), bitorder="little")
        return bits[first - start * 8 :][:size].reshape(int(self.ds.Rows), int(self.ds.Columns))

    def _pixel_options(self) -> dict[str, Any]:
        if self._options is None:
            options = as_pixel_options(self.ds)
            options["pixel_keyword"] = self.keyword
            if self._vr is not None:
                options["pixel_vr"] = self._vr
            self._options = options
        return self._options

    def _offsets(self) -> tuple[bytes, bytes] | None:
        if "ExtendedOffsetTable" in self.ds and "ExtendedOffsetTableLengths" in self.ds:
            return self.ds.ExtendedOffsetTable, self.ds.ExtendedOffsetTableLengths
        return None


_kept: OrderedDict[tuple[str, int, int, int], tuple[Any, ...]] = OrderedDict()


def forget() -> None:
    """Give back the memory of the headers that are kept."""
    _kept.clear()


def open_source(frame: Frame) -> Source:
    """Open the file of a frame and read its header; the caller closes ``file``."""
    raw = Range(frame.path, frame.offset, frame.length)
    file = io.BufferedReader(raw, 1 << 16)
    try:
        key = (str(frame.path), frame.offset, frame.length, raw.modified())
        found = _kept.get(key)
        if found is None:
            found = _read(file)
            # A deflated file is held whole, and is larger than it looks.
            held = found[2] if found[2] is not None else frame.length + len(found[0].get("PixelData") or b"")
            if held <= _KEPT_BYTES:
                _kept[key] = found
                if len(_kept) > _KEPT_FILES:
                    _kept.popitem(last=False)
        else:
            _kept.move_to_end(key)
        return Source(cast("io.BufferedReader[Any]", file), *found)
    except BaseException:
        file.close()
        raise


def _read(file: io.BufferedReader[Any]) -> tuple[Dataset, UID, int | None, str, str | None, int]:
    ds = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    syntax = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
    if syntax == DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return pydicom.dcmread(file, force=True), syntax, None, "PixelData", None, 0
    if syntax is None:
        implicit, little = ds.original_encoding
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    order = "<" if syntax.is_little_endian else ">"
    head = file.read(8)
    if len(head) < 8:
        return ds, syntax, file.tell(), "", None, 0
    group, element = struct.unpack(order + "HH", head[:4])
    vr = None
    # Some writers say explicit and write implicit.
    if syntax.is_implicit_VR or not head[4:6].isalpha():
        (length,) = struct.unpack(order + "L", head[4:])
    else:
        vr = head[4:6].decode("iso8859")
        (length,) = struct.unpack(order + "L", (file.read(4) + bytes(4))[:4])
    return ds, syntax, file.tell(), _PIXEL_KEYWORDS.get(group << 16 | element, ""), vr, length


def plain(source: Source, number: int) -> Plain:
    """Decode a frame to what its header describes: bits allocated, colours by plane if it says so; but colours are RGB."""
    ds = source.ds
    values = source.values(number)
    samples = values.shape[2] if values.ndim == 3 else 1
    bits = int(ds.BitsAllocated)
    if samples > 1 and int(ds.get("PlanarConfiguration", 0) or 0) == 1:
        values = values.transpose(2, 0, 1)
    if bits == 1:
        data = np.packbits(values.reshape(-1) != 0, bitorder="little").tobytes()
    else:
        kind = values.dtype.kind if values.dtype.kind in "if" else "u"
        data = np.ascontiguousarray(values, dtype=np.dtype(f"<{kind}{bits // 8}")).tobytes()
    return Plain(data, int(ds.Rows), int(ds.Columns), samples, bits)


def value(source: Source, path: str) -> bytes:
    """Give the value of an element as it is stored, but numbers little endian. Raises CannotRender."""
    ds: Any = source.ds
    *above, last = path.split("/")
    try:
        for tag, item in zip(above[::2], above[1::2], strict=True):
            ds = ds[int(tag, 16)].value[int(item)]
        if not above and int(last, 16) in _PIXEL_KEYWORDS and source.start is not None:
            return source.packed()
        holder = ds if above or int(last, 16) in ds else source.after()
        # As it is in the file; asking for it otherwise converts it.
        raw = holder.get_item(int(last, 16))
        elem = convert_raw_data_element(raw, ds=holder) if isinstance(raw, RawDataElement) else raw
    except (KeyError, IndexError, TypeError, ValueError):
        elem = None
    if elem is None or elem.VR == "SQ":
        raise CannotRender("no-value", "This instance has no such element with a value of its own.")
    if isinstance(raw, RawDataElement) and source.syntax.is_little_endian:
        return bytes(raw.value or b"")
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = True, True
    write_data_element(written, elem, cast("list[str]", source.ds.original_character_set) or "iso8859")
    return written.getvalue()[8:]


def head_and_tail(source: Source) -> tuple[dict[str, Any], bytes]:
    """Give what precedes and what follows the frames of a file in Explicit VR Little Endian.

    told: ``head``, how many of the bytes precede; ``frames``; ``packed``, whether all frames are given at once (1 bit a pixel,
    where frames do not begin at a byte); ``total``, the length of the whole file. Raises CannotRender.
    """
    ds = copy.copy(source.ds)
    # A copy shares the elements' dictionary, and the header is kept for the next question.
    ds._dict = dict(source.ds._dict)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.update(getattr(source.ds, "file_meta", {}))
    _replace(ds.file_meta, TransferSyntaxUID=ExplicitVRLittleEndian)
    keyword = source.keyword
    has_pixels = bool(keyword) and (source.start is not None or keyword in ds)
    for gone in ("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if gone in ds:
            del ds[gone]
    after = source.after()
    if source.start is None:
        # A deflated file is read as a whole, with what follows its pixel data.
        for behind in [tag for tag in ds._dict if tag > 0x7FE00010]:
            after[behind] = ds.get_item(behind)
            del ds[behind]
    frames, packed, length, element = 0, False, 0, b""
    if has_pixels:
        source.check(1)
        frames, bits = source.frames, int(ds.BitsAllocated)
        samples = int(ds.get("SamplesPerPixel", 1) or 1)
        packed = bits == 1
        if samples > 1 and str(ds.get("PhotometricInterpretation", "")).startswith("YBR"):
            _replace(ds, PhotometricInterpretation="RGB")
        if samples > 1:
            _replace(ds, PlanarConfiguration=int(ds.get("PlanarConfiguration", 0) or 0))
        if source.syntax in _LOSSY:
            _replace(ds, LossyImageCompression="01")
        length = len(source.packed()) if packed else int(ds.Rows) * int(ds.Columns) * samples * (bits // 8) * frames
        if length > _LARGEST_ELEMENT - 1:
            raise CannotRender("too-large", "The pixel data is larger than an element of an uncompressed file can be.")
        length += length & 1
        tag = {"FloatPixelData": 0x0008, "DoubleFloatPixelData": 0x0009}.get(keyword, 0x0010)
        vr = {"FloatPixelData": b"OF", "DoubleFloatPixelData": b"OD"}.get(keyword, b"OW" if bits > 8 else b"OB")
        element = struct.pack("<HH2sHI", 0x7FE0, tag, vr, 0, length)
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    head = buffer.getvalue() + element
    tail = b""
    if len(after):
        written = io.BytesIO()
        after.set_original_encoding(source.syntax.is_implicit_VR, source.syntax.is_little_endian, source.ds.original_character_set)
        dcmwrite(written, after, implicit_vr=False, little_endian=True)
        tail = written.getvalue()
    if len(head) + len(tail) > MAX_FRAME_BYTES:
        raise CannotRender("too-large", "The header of this file is too large to be written anew.")
    return {"head": len(head), "frames": frames, "packed": packed, "total": len(head) + length + len(tail)}, head + tail


def _replace(ds: Dataset, **values: Any) -> None:
    """Set elements of a dataset that shares its elements with another one."""
    for keyword, value in values.items():
        if keyword in ds:
            del ds[keyword]
        setattr(ds, keyword, value)


def _check_coded(coded: bytes, syntax: UID) -> None:
    """Refuse a frame whose own header claims a size that would take more memory than there is."""
    size = None
    if syntax in JPEG2000TransferSyntaxes or syntax.startswith("1.2.840.10008.1.2.4.20"):
        at = coded.find(b"\xff\x4f\xff\x51")
        if 0 <= at <= len(coded) - 24:
            size = struct.unpack_from(">II", coded, at + 8)
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        header = _frame_header(coded)
        if header is not None:
            size = struct.unpack_from(">HH", coded, header + 5)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise CannotRender(
            "too-large",
            f"This image has more than {MAX_PIXELS >> 20} million pixels, and is too large to be drawn here.",
        )


def _segments(coded: bytes) -> list[tuple[int, int]]:
    """List the marker segments of a JPEG up to its first scan: (marker, position of the 0xFF)."""
    found, at = [], 2
    while at + 4 <= len(coded) and coded[at] == 0xFF:
        marker = coded[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        found.append((marker, at))
        if marker == 0xDA:
            break
        at += 2 + int.from_bytes(coded[at + 2 : at + 4], "big")
    return found


def _frame_header(coded: bytes) -> int | None:
    # SOF0 to SOF15 without the tables that lie among them, and SOF55 of JPEG-LS.
    for marker, at in _segments(coded):
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return at if at + 9 <= len(coded) else None
    return None


def _jpeg_precision(coded: bytes) -> int:
    at = _frame_header(coded)
    return 0 if at is None else coded[at + 4]


def repair_extended(coded: bytes) -> bytes:
    """Mend the scan header of a sequential JPEG: many writers of 12-bit images left 0, 0, 0 where 0, 63, 0 belongs (ITU T.81 B.2.3)."""
    for marker, at in _segments(coded):
        end = at + 2 + int.from_bytes(coded[at + 2 : at + 4], "big")
        if marker == 0xDA and coded[end - 3 : end] == b"\0\0\0":
            return coded[: end - 3] + b"\0\x3f\0" + coded[end:]
    return coded


def _extended_12_bit(coded: bytes, ds: Dataset) -> Array:
    """Decode a JPEG of 12 bits with GDCM, which can; pydicom does not let it."""
    import gdcm

    if int(ds.get("SamplesPerPixel", 1) or 1) != 1 or int(ds.BitsAllocated) != 16:
        raise CannotRender("undecodable", "A JPEG of 12 bits is decoded only with one sample of 16 bits a pixel.")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(repair_extended(coded))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((int(ds.Columns), int(ds.Rows), 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    text = image.GetBuffer()
    if text is None:
        raise CannotRender("undecodable", "The pixel data cannot be decoded (JPEG of 12 bits).")
    # GDCM gives bytes as a str.
    values = np.frombuffer(text.encode("utf-8", "surrogateescape"), "<u2").reshape(int(ds.Rows), int(ds.Columns))
    return values.astype("<i2") if int(ds.get("PixelRepresentation", 0) or 0) else values
