"""From the first byte of a file to its header: preamble, file meta information, transfer syntax, dataset. PS3.10 7."""

import struct
import threading
from functools import lru_cache
from typing import NamedTuple

import orjson
from pydicom.config import IGNORE
from pydicom.uid import UID

from dicomweb.headers import charset
from dicomweb.headers.errors import NotDicom, Truncated
from dicomweb.headers.memo import Memo, Piece, Run, entries_of
from dicomweb.headers.model import Element, Header, Limits
from dicomweb.headers.source import PRead, Window, inflate
from dicomweb.headers.walker import HEADS, Walker
from dicomweb.languages import N_, gettext

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = {(True, True): EXPLICIT_LITTLE, (True, False): EXPLICIT_BIG, (False, True): IMPLICIT_LITTLE}

# Group, element, VR, and a length of 16 or of 32 bits.
META_HEAD = struct.Struct("<HH2sHI")
# A memory map is read piece by piece, as a file is.
MEMORY_VIEW_BYTES = 1 << 20

_memo = Memo()
# Threads of the web server read too, and a run must not be split while another thread compares with it.
_memo_lock = threading.Lock()


class Rules(NamedTuple):
    """How a dataset is encoded."""

    explicit: bool
    little: bool


def forget() -> None:
    """Empty the memo of this process."""
    _memo.forget()


def read_header(
    data: bytes | memoryview, *, size: int | None = None, pread: PRead | None = None, limits: Limits | None = None
) -> Header:
    """Return the header of the file whose bytes are ``data``, or begin with ``data``.

    A large file is given by its first part, its ``size`` in bytes and ``pread(position, count)``, which returns ``count``
    bytes of the file; then no more than a window of it is in memory.

    Raises NotDicom, Truncated, TooDeep, TooManyElements, TooLarge, Unreadable.
    """
    size = len(data) if size is None else size
    if isinstance(data, memoryview):
        view = data
        data = bytes(view[:MEMORY_VIEW_BYTES])
        if pread is None:
            pread = _pread_of(view)
    with _memo_lock:
        return _read(Window(data, size, pread), limits or Limits())


def _read(window: Window, limits: Limits) -> Header:
    _memo.fit(limits.depth)
    walker = Walker(window, limits, _memo)
    start = _start(walker)
    meta_end, meta_explicit = _meta_end(window, start)
    elements, meta = _meta(walker, start, meta_end, meta_explicit)
    syntax = next((e.values[0] for e in elements if e.path == "00020010"), "")
    position = meta_end
    if syntax == DEFLATED:
        walker.window = inflate(window, position, limits.inflated_bytes)
        position = 0
    rules, syntax = _rules(walker, position, syntax, meta_end > start)
    context = _memo.context(rules.explicit, rules.little, charset.DEFAULT, False, "")
    pieces, _ = walker.dataset(position, walker.window.size, context, "", 0, limits.elements)
    dataset, json = _collected(walker, pieces)
    elements += dataset
    header = Header(syntax, elements, _dataset_json(walker, json), meta, walker.pixel_data, walker.warnings)
    _check_pixels(walker, header)
    if syntax == DEFLATED:
        header.pixel_data = None
    return header


def _pread_of(view: memoryview) -> PRead:
    return lambda position, count: bytes(view[position : position + count])


def _start(walker: Walker) -> int:
    """Return where the file meta information begins, or the dataset of a file without it."""
    window = walker.window
    if not window.size:
        raise NotDicom(N_("The file is empty."))
    if window.data[128:132] == b"DICM":
        return 132
    walker.warn("no-preamble")
    if window.data[:4] == b"DICM":
        return 4
    if not _looks_like_dicom(window.data, window.size):
        raise NotDicom(N_("This is no DICOM file: neither the DICM mark at byte 128 nor a data element at its beginning."))
    return 0


def _looks_like_dicom(data: bytes, size: int) -> bool:
    """Say whether an element of group 2 or 8, as every header begins with, is at the start."""
    if len(data) < 8:
        return False
    if data[4:6] in HEADS:
        return data[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")
    group, _, length = struct.unpack_from("<HHI", data)
    return group in (2, 8) and length <= size - 8


def _meta_end(window: Window, start: int) -> tuple[int, bool]:
    """Return where the file meta information ends and whether it is explicit as it must be.

    Its elements are counted by their group, because the group length is wrong more often than they are.
    """
    position, size = start, window.size
    explicit = True
    while position + 8 <= size:
        if position + 12 <= len(window.data):
            group, _, vr, short, long = META_HEAD.unpack_from(window.data, position)
        else:
            group, _, vr, short, long = META_HEAD.unpack(
                window.read(position, min(12, size - position)).ljust(12, b"\0")
            )
        if group != 2:
            break
        head = HEADS.get(vr)
        explicit = explicit and head is not None
        if not explicit:
            position += 8 + int.from_bytes(vr + short.to_bytes(2, "little"), "little")
        else:
            position += 8 + short if head == 8 else 12 + long
        if position > size:
            raise Truncated(gettext("The file ends at byte %(size)s inside its file meta information.", size=size))
    # Less than an element's header can be no dataset, only the beginning of one or of the next element of the meta.
    if size - position < 8:
        raise Truncated(gettext("The file ends at byte %(size)s, before its dataset begins.", size=size))
    return position, explicit


def _meta(walker: Walker, start: int, end: int, explicit: bool) -> tuple[list[Element], dict[str, bytes]]:
    """Return the elements of the file meta information and their JSON."""
    if end == start:
        return [], {}
    if not explicit:
        walker.warn("implicit-in-explicit")
    context = _memo.context(explicit, True, charset.DEFAULT, False, "")
    elements, json = _collected(walker, walker.dataset(start, end, context, "", 0, walker.limits.elements)[0])
    if elements[0].path != "00020000" or elements[0].values != (str(end - start - 12),):
        walker.warn("wrong-group-length")
    return elements, {tag: value for tag, value in json.items() if value}


def _collected(walker: Walker, pieces: list[Piece]) -> tuple[list[Element], dict[str, bytes]]:
    """Return all elements of a dataset in file order, and the JSON of those at its top."""
    elements: list[Element] = []
    json: dict[str, bytes] = {}
    count = 0
    for piece in pieces:
        elements += piece.elements
        if isinstance(piece, Run):
            json.update(piece.json)
            count += len(piece.entries)
        else:
            json[piece.key] = piece.json
            count += 1
    if len(json) < count:
        entries = walker.settled(entries_of(pieces))
        return [element for entry in entries for element in entry.elements], {e.key: e.json for e in entries}
    return elements, json


def _rules(walker: Walker, position: int, syntax: str, has_meta: bool) -> tuple[Rules, str]:
    """Return how the dataset at ``position`` is encoded, and its transfer syntax.

    The bytes have the last word: a file that says implicit and is explicit is read as what it is.
    """
    window = walker.window
    head = window.read(position, min(8, window.size - position)).ljust(8, b"\0")
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    group, swapped = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
    # The first group is 8, or 2 to 255 at the most; read in the wrong order it is 256 at the least.
    little = group <= swapped if min(group, swapped) <= 0xFF else syntax != EXPLICIT_BIG
    rules = Rules(explicit, little or not explicit)
    if not has_meta and not explicit and 8 + int.from_bytes(head[4:], "little") > window.size - position:
        raise NotDicom(N_("This is no DICOM file: it has the DICM mark, but no data element follows."))
    if not syntax:
        walker.warn("no-transfer-syntax")
        return rules, UNCOMPRESSED[rules]
    if rules != Rules(syntax != IMPLICIT_LITTLE, syntax != EXPLICIT_BIG):
        walker.warn("wrong-transfer-syntax")
        if syntax in UNCOMPRESSED.values():
            return rules, UNCOMPRESSED[rules]
    return rules, syntax


def _dataset_json(walker: Walker, json: dict[str, bytes]) -> dict[str, bytes]:
    """Return the JSON of the dataset, tags ascending; file meta elements that strayed into it are no part of it."""
    tags = list(json)
    ordered = sorted(tags)
    if ordered != tags:
        walker.warn("tag-order")
        json = {tag: json[tag] for tag in ordered}
    if b"" in json.values() or (ordered and ordered[0] < "00030000"):
        json = {tag: value for tag, value in json.items() if value and not tag.startswith("0002")}
    return json


def _check_pixels(walker: Walker, header: Header) -> None:
    """Note native pixel data that is shorter than Rows, Columns and the rest say, or is not there."""
    json = header.json
    if walker.pixel_data is None:
        # Nothing else tells a header that was stored without its pixels from a file cut off exactly between two elements.
        if ("00280010" in json and "00280011" in json) or _is_image_class(json.get("00080016", b"")):
            walker.warn("pixel-data-missing")
        return
    if walker.pixel_data.encapsulated:
        return
    key = tuple(json.get(tag, b"") for tag in ("00280010", "00280011", "00280100", "00280002", "00280008", "00280004"))
    expected = _expected_pixel_bytes(key)
    if walker.pixel_data.length < expected:
        walker.warn("pixel-data-short")


@lru_cache(1000)
def _is_image_class(fragment: bytes) -> bool:
    """Say whether the JSON of SOPClassUID is that of an image, by the name of its class in PS3.6 A."""
    uid = (orjson.loads(fragment or b"{}").get("Value") or [""])[0]
    # Of what is no UID pydicom would write the value into the log.
    return UID(str(uid), validation_mode=IGNORE).name.endswith("Image Storage")


@lru_cache(1000)
def _expected_pixel_bytes(fragments: tuple[bytes, ...]) -> int:
    """Return the size of native pixel data, PS3.5 8.1.1, by the JSON of the elements that describe it."""
    values = [(orjson.loads(fragment).get("Value") or [None])[0] if fragment else None for fragment in fragments]
    rows, columns, bits, samples, frames = (v if isinstance(v, int) and v > 0 else None for v in values[:5])
    per_pixel = 2 if values[5] == "YBR_FULL_422" else samples or 1
    return ((rows or 0) * (columns or 0) * per_pixel * (frames or 1) * (bits or 0) + 7) // 8
