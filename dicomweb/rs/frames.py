"""What is known of the frames of an instance without opening its file, and which of them are sent as they are stored.

An address of a frame takes one statement: where the file and its fragments are is in the row of the image; what kind of pixels they are is in
the header index, read once for all images of a group and kept, because an image never changes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.imports import unpack_fragments
from dicomweb.models import GROUP_SIZE, Batch, Image, Pack, Series, Study
from dicomweb.pixels import MAX_FRAME_BYTES, CannotRender, Frame, Place, Renderer, place_of
from dicomweb.pixels.places import offset_table
from dicomweb.rs.errors import Refused, nothing_here
from dicomweb.rs.instances import Instance, is_text
from dicomweb.storage import BytesMissing, FileRange, Storage

IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
OCTETS = "application/octet-stream"
_JPEG = "1.2.840.10008.1.2.4."
RLE = "1.2.840.10008.1.2.5"
# PS3.18 8.7.3.5 and 8.7.3.6, with the older names that clients still ask for.
MEDIA_TYPES: dict[str, tuple[str, ...]] = {
    RLE: ("image/dicom-rle", "image/x-dicom-rle"),
    **{_JPEG + end: ("image/jpeg",) for end in ("50", "51", "57", "70")},
    **{_JPEG + end: ("image/jls", "image/x-jls") for end in ("80", "81")},
    **{_JPEG + end: ("image/jp2",) for end in ("90", "91")},
    **{_JPEG + end: ("image/jpx",) for end in ("92", "93")},
    **{_JPEG + end: ("video/mpeg2",) for end in ("100", "101")},
    **{_JPEG + end: ("video/mp4",) for end in ("102", "103", "104", "105", "106", "107", "108")},
    **{_JPEG + end: ("image/jphc",) for end in ("201", "202", "203")},
    _JPEG + "110": ("image/jxl",), _JPEG + "111": ("image/jxl",), _JPEG + "112": ("image/jxl",),
}  # fmt: skip
_LOSSLESS_FAMILY = frozenset(_JPEG + end for end in ("57", "70", "80", "81", "90", "91"))
JPEG_2000 = frozenset(_JPEG + end for end in ("90", "91"))
_TAGS = {
    "syntax": "00020010", "rows": "00280010", "columns": "00280011", "samples": "00280002", "bits": "00280100", "stored": "00280101",
    "signed": "00280103", "frames": "00280008", "photometric": "00280004", "sop_class": "00080016",
}  # fmt: skip
_TEXTS = ("syntax", "photometric", "sop_class")
_KEPT = 20_000


class Facts(NamedTuple):
    """What kind of pixels an image has; numbers are 0 and texts empty where its header does not say."""

    syntax: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    bits: int = 0
    stored: int = 0
    signed: int = 0
    frames: int = 1
    photometric: str = ""
    sop_class: str = ""

    @property
    def is_native_little(self) -> bool:
        """Tell whether the pixels lie there as Explicit VR Little Endian has them."""
        return self.syntax in (IMPLICIT_LITTLE, EXPLICIT_LITTLE)

    @property
    def frame_bits(self) -> int:
        """The size of one native frame."""
        # Two pixels share their chroma (PS3.3 C.7.6.3.1.2).
        samples = 2 if self.photometric == "YBR_FULL_422" and self.samples == 3 else self.samples
        return self.rows * self.columns * samples * self.bits


class Found(NamedTuple):
    """An instance with everything that is needed to send one of its frames."""

    image_id: int
    header_key: int
    sha256: bytes
    file: FileRange
    pixel_offset: int | None
    pixel_length: int | None
    frame_table: bytes | None
    facts: Facts

    def frame(self, number: int = 1) -> Frame:
        """Name a frame for the renderer."""
        return Frame(self.file.path, self.file.offset, self.file.length, number)


class _Kept:
    """Facts of the images that were asked for last; shared by the threads of a web process."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[int, int], Facts] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> Facts | None:
        with self._lock:
            return self._facts.get(key)

    def keep(self, found: dict[tuple[int, int], Facts]) -> None:
        with self._lock:
            self._facts.update(found)
            while len(self._facts) > _KEPT:
                self._facts.popitem(last=False)


def find_instance(request: Any) -> Found:
    """Find the instance of an address with its file, in one statement when its group was asked for before. Raises Refused."""
    here = request.matchdict
    return find(request, here["study"], here["series"], here["instance"])


_ROW = (
    sa.select(
        Image.id, Image.header_key, Image.sha256, Image.size, Image.pixel_offset, Image.pixel_length, Image.frame_table, Image.path,
        Image.pack_id, Image.pack_offset, Batch.path.label("folder"), Pack.name.label("pack"), Series.series_instance_uid,
    )
    .join(Series, Series.id == Image.series_id)
    .join(Study, Study.id == Series.study_key)
    .join(Batch, Batch.id == Image.batch_id)
    .outerjoin(Pack, Pack.id == Image.pack_id)
    .where(Image.sop_instance_uid == sa.bindparam("instance"), Study.study_instance_uid == sa.bindparam("study"), Image.status == "DONE")
    .where(Series.series_instance_uid == sa.bindparam("series"))
    .order_by(Image.version)
    .limit(1)
)  # fmt: skip


def find(request: Any, study_uid: str, series_uid: str, sop_uid: str) -> Found:
    """Find an instance by its UIDs; see ``find_instance``."""
    uids = {"study": study_uid, "series": series_uid, "instance": sop_uid}
    if not all(map(is_text, uids.values())):
        raise nothing_here()
    registry = request.registry
    # One statement needs no session and no transaction that others join; making these took a third of the time of a frame.
    with registry["engine"].connect().execution_options(read_only=True) as connection:
        row = connection.execute(_ROW, uids).one_or_none()
    if row is None or row.header_key is None:
        raise nothing_here()
    storage: Storage = registry["storage"]
    if row.pack_id is None:
        file = FileRange.at(row.folder or "", row.path, row.size or 0)
    elif row.pack is None:
        raise missing(BytesMissing("The stored file is gone."))
    else:
        file = storage.range(row.pack, row.pack_offset or 0, row.size or 0)
    facts = facts_of(request, row.id, row.header_key)
    return Found(row.id, row.header_key, row.sha256 or b"", file, row.pixel_offset, row.pixel_length, row.frame_table, facts)


def missing(error: BytesMissing) -> Refused:
    """Make the answer for bytes that are gone."""
    return Refused(410, str(error))


def facts_of(request: Any, image_id: int, header_key: int) -> Facts:
    """Give the facts of an image; those of its neighbours are read with it, because they are mostly asked for next."""
    kept: _Kept = request.registry["rs.facts"]
    facts = kept.get((image_id, header_key))
    if facts is None:
        first = header_key // GROUP_SIZE * GROUP_SIZE
        near = sa.select(Image.header_key, Image.id).where(Image.header_key.between(first, first + GROUP_SIZE - 1), Image.status == "DONE")
        ids: dict[int, int] = {row.header_key: row.id for row in request.dbsession.execute(near)}
        found = read_facts(request.dbsession, ids)
        kept.keep({(ids[key], key): value for key, value in found.items()})
        facts = found.get(header_key, Facts())
    return facts


def read_facts(dbsession: Session, header_keys: Any) -> dict[int, Facts]:
    """Read the facts of images from the header index."""
    found: dict[int, Facts] = {}
    for group in index.read_elements(dbsession, header_keys, tuple(_TAGS.values())):
        shared = {name: _value(name, group.shared[tag]) for name, tag in _TAGS.items() if tag in group.shared}
        varying = [(name, group.varying[tag]) for name, tag in _TAGS.items() if tag in group.varying]
        for ordinal in group.ordinals:
            own = {name: _value(name, orjson.loads(cells[ordinal])) for name, cells in varying if cells[ordinal]}
            found[group.first + ordinal] = Facts(**{name: value for name, value in (shared | own).items() if value is not None})
    return found


def _value(name: str, element: dict[str, Any]) -> Any:
    values = element.get("Value") or [None]
    if name in _TEXTS:
        return values[0] if isinstance(values[0], str) else None
    number = values[0]
    try:
        return int(number) if number is not None and abs(int(number)) < 1 << 62 else None
    except (TypeError, ValueError, OverflowError):
        return None


def has_frames(one: Found | Instance, facts: Facts) -> bool:
    """Tell whether an instance has frames at all, as far as its header says. Of a deflated file nothing tells where they are."""
    return facts.rows > 0 and facts.columns > 0 and facts.bits > 0 and (one.pixel_offset is not None or facts.syntax == DEFLATED)


def passes(facts: Facts) -> bool:
    """Tell whether frames are sent as they are stored to clients that take any transfer syntax.

    Only what viewers are known to show right: many decode other things wrongly, or not at all.
    """
    if facts.is_native_little:
        return is_plain(facts)
    grey = facts.samples == 1 and facts.photometric.startswith("MONOCHROME")
    colour = facts.samples == 3 and facts.bits == 8
    if facts.syntax == RLE:
        return facts.bits in (8, 16) and (grey or (colour and facts.photometric == "RGB"))
    if facts.syntax == _JPEG + "50":
        return facts.bits == 8 and (grey or colour)
    return facts.syntax in _LOSSLESS_FAMILY and facts.bits in (8, 16) and (grey or colour)


def is_plain(facts: Facts) -> bool:
    """Tell whether the stored bytes of a frame are what Explicit VR Little Endian has for it."""
    # Chroma at half the resolution, and frames that begin within a byte, are what clients stumble over.
    return facts.is_native_little and facts.frame_bits % 8 == 0 and facts.photometric != "YBR_FULL_422"


def is_video(syntax: str) -> bool:
    """Tell whether a transfer syntax is one of videos."""
    return MEDIA_TYPES.get(syntax, ("",))[0].startswith("video/")


def agrees(coded: bytes, facts: Facts) -> bool:
    """Tell whether a JPEG 2000 says the same of its samples as the header; viewers believe the header."""
    if facts.syntax not in JPEG_2000:
        return True
    # SIZ comes first (ITU T.800 A.5.1); the first component's precision and sign are its 41st byte.
    at = coded.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + 43 > len(coded):
        return False
    sample = coded[at + 42]
    return sample >> 7 == facts.signed and (sample & 0x7F) + 1 == facts.stored


class Stored:
    """The frames of one instance as they are stored, each by one read where its place is known."""

    def __init__(self, found: Found, renderer: Renderer) -> None:
        self._found = found
        self._renderer = renderer
        self._fragments = None if found.frame_table is None else unpack_fragments(found.frame_table)
        self._offsets: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """How many frames there are: what the header says may be more than what is there."""
        facts = self._found.facts
        said = max(1, facts.frames)
        if self._fragments is not None:
            # A frame has one fragment or several, and shares none (PS3.5 A.4).
            return min(said, len(self._fragments))
        if self._found.pixel_length is None or not facts.is_native_little:
            return said
        return min(said, self._found.pixel_length * 8 // max(1, facts.frame_bits))

    def read(self, number: int) -> bytes:
        """Read a frame by its number from 1. Raises BytesMissing, CannotRender, IndexError."""
        found = self._found
        if self._fragments is None:
            size = found.facts.frame_bits // 8
            if found.pixel_offset is None or not 1 <= number <= self.count:
                raise IndexError(number)
            return found.file.pread(found.pixel_offset + size * (number - 1), _bounded(size))
        place = self._place(number)
        if place is None:
            return self._renderer.stored(found.frame(number))
        return place.frame(found.file.pread(place.offset, _bounded(place.length)))

    def _place(self, number: int) -> Place | None:
        fragments, frames = self._fragments or [], self._found.facts.frames
        pixels = self._found.pixel_offset
        if frames in (1, len(fragments)) or not fragments or pixels is None:
            return place_of(number, frames, fragments)
        if self._offsets is None:
            # The offset table is the first item of the value (PS3.5 A.4).
            self._offsets = offset_table(self._found.file.pread(pixels + 8, fragments[0][0] - pixels - 16))
        return place_of(number, frames, fragments, self._offsets)


def _bounded(size: int) -> int:
    if size > MAX_FRAME_BYTES:
        raise CannotRender("too-large", f"A frame of this image is larger than the {MAX_FRAME_BYTES >> 20} MiB that are given at once.")
    return size


def video_of(found: Found) -> tuple[int, Callable[[int, int], bytes]]:
    """Give the length of a video, and how a part of it is read: (offset, length) -> at least one byte of it. Raises BytesMissing."""
    fragments = unpack_fragments(found.frame_table) if found.frame_table is not None else []
    starts = [0, *accumulate(length for _, length in fragments)]

    def read(at: int, size: int) -> bytes:
        number = bisect_right(starts, at) - 1
        offset, length = fragments[number]
        begin = at - starts[number]
        return found.file.pread(offset + begin, min(size, length - begin))

    return starts[-1], read


def includeme(config: Any) -> None:
    """Put into the registry what is kept of the images of this database."""
    config.registry["rs.facts"] = _Kept()
