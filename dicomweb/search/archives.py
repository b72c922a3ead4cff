"""The images of a result as one ZIP file, made while it is sent.

Files are stored, not compressed (most pixel data is), and named by the numbers of this application:
``study-3/series-12/image-4711.dcm``. A name never comes from a header or from a file somebody sent; those are in ``manifest.tsv``, the
last file. The directory of the ZIP and the manifest grow on the disk, so that memory does not.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.index.dialect import dialect_of
from dicomweb.languages import N_
from dicomweb.models import Batch, Image, Pack, Series, escape_path
from dicomweb.search.compiling import compile_query
from dicomweb.search.exporting import defuse
from dicomweb.storage import BytesMissing, FileRange, Storage

MANIFEST = "manifest.tsv"
_BLOCK = 1000
# A larger image is read twice, first for its checksum, instead of being held.
_HELD = 16 << 20
_COLUMNS = ("file", "SOPInstanceUID", "batch", "path", "sha256", "problem")


def export_images(
    dbsession: Session,
    node: query.Node,
    storage: Storage,
    *,
    without: Collection[int] = (),
    on_images: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> Iterator[bytes]:
    """Give a ZIP file of all images that a query finds, in pieces; on_images: called with the number of images so far.

    without: header keys of images that are left out all the same.

    An image whose bytes are missing is named in the manifest with the reason, and left out. Raises SearchError at once;
    BytesMissing when a file goes away while it is sent.
    """
    expression = compile_query(dbsession, node)
    if without:
        named = sa.select(Image.header_key).where(Image.header_key.is_not(None), dialect_of(dbsession).within(Image.header_key, without))
        expression = index.And((expression, index.Not(index.OfImages(named))))
    return _pieces(dbsession, expression, storage, on_images, now or datetime.now(UTC))


def _pieces(
    dbsession: Session, expression: index.Expression, storage: Storage, on_images: Callable[[int], None] | None, now: datetime
) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as directory, tempfile.TemporaryFile() as manifest:
        archive = _Zip(directory, now)
        manifest.write(("\t".join(_COLUMNS) + "\n").encode())
        checksum = zlib.crc32(("\t".join(_COLUMNS) + "\n").encode())
        written = 0
        last = -1
        while keys := index.page(dbsession, expression, limit=_BLOCK, after=last):
            for row in _rows(dbsession, keys):
                name = f"study-{row.study_key}/series-{row.series_id}/image-{row.id}.dcm"
                problem = ""
                try:
                    yield from archive.add(name, _bytes_of(row, storage))
                except BytesMissing as error:
                    if archive.is_open:
                        raise
                    problem = str(error)
                line = _line("" if problem else name, row.sop_instance_uid or "", row.name, row.path, (row.sha256 or b"").hex(), problem)
                manifest.write(line)
                checksum = zlib.crc32(line, checksum)
                written += 1
            if on_images is not None:
                on_images(written)
            last = keys[-1]
        size = manifest.tell()
        manifest.seek(0)
        yield archive.begin(MANIFEST, size, checksum)
        yield from _read(manifest)
        archive.close(size)
        yield from archive.end()


def _rows(dbsession: Session, keys: list[int]) -> list[Any]:
    columns = (
        Image.id, Image.series_id, Series.study_key, Image.sop_instance_uid, Image.path, Image.sha256, Image.size, Image.pack_id, Image.pack_offset,
        Batch.name, Batch.path.label("folder"), Pack.name.label("pack"),
    )  # fmt: skip
    found = (
        sa.select(*columns)
        .join(Series, Series.id == Image.series_id)
        .join(Batch, Batch.id == Image.batch_id)
        .outerjoin(Pack, Pack.id == Image.pack_id)
        .where(dialect_of(dbsession).within(Image.header_key, keys))
        .order_by(Image.header_key)
    )
    return list(dbsession.execute(found))


def _bytes_of(row: Any, storage: Storage) -> FileRange:
    if row.pack_id is None:
        return FileRange.at(row.folder or "", row.path, row.size or 0)
    if row.pack is None:
        raise BytesMissing(N_("The stored file is gone."))
    return storage.range(row.pack, row.pack_offset or 0, row.size or 0)


def _line(*cells: str) -> bytes:
    return ("\t".join(map(_cell, cells)) + "\n").encode()


def _cell(text: str) -> str:
    """Write a text that anybody may have chosen as one cell; ``models.unescape_path`` reads a path back."""
    printable = "".join(character if character >= " " and character != "\x7f" else f"\\x{ord(character):02x}" for character in escape_path(text))
    return defuse(printable)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(1 << 16):
        yield piece


class _Zip:
    """The records of a ZIP file (APPNOTE 4.3) whose files are stored, with sizes of 64 bits where they are needed."""

    def __init__(self, directory: IO[bytes], now: datetime) -> None:
        self._directory = directory
        self._offset = 0
        self._count = 0
        year = min(max(now.year, 1980), 2107)
        self._stamp = struct.pack("<HH", now.hour << 11 | now.minute << 5 | now.second // 2, year - 1980 << 9 | now.month << 5 | now.day)
        self.is_open = False

    def add(self, name: str, data: FileRange) -> Iterator[bytes]:
        """Give a whole file. Raises BytesMissing, before the first piece or (``is_open``) in the middle."""
        if data.length <= _HELD:
            held = data.read()
            yield self.begin(name, len(held), zlib.crc32(held)) + held
            self.close(len(held))
            return
        checksum = size = 0
        for piece in data.stream():
            checksum = zlib.crc32(piece, checksum)
            size += len(piece)
        yield self.begin(name, size, checksum)
        yield from data.stream()
        self.close(size)

    def begin(self, name: str, size: int, checksum: int) -> bytes:
        """Give what precedes the bytes of a file."""
        self.is_open = True
        encoded = name.encode("ascii")
        large = size >= 0xFFFFFFFF
        far = self._offset >= 0xFFFFFFFF
        sizes = struct.pack("<III", checksum, *([0xFFFFFFFF] * 2 if large else [size] * 2))
        version = struct.pack("<H", 45 if large or far else 20)
        extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
        head = b"PK\x03\x04" + version + bytes(4) + self._stamp + sizes + struct.pack("<HH", len(encoded), len(extra)) + encoded + extra
        wide = struct.pack("<QQ", size, size) if large else b""
        wide += struct.pack("<Q", self._offset) if far else b""
        extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
        lengths = struct.pack("<HHHHHII", len(encoded), len(extra), 0, 0, 0, 0, 0xFFFFFFFF if far else self._offset)
        self._directory.write(b"PK\x01\x02" + version + version + bytes(4) + self._stamp + sizes + lengths + encoded + extra)
        self._offset += len(head)
        self._count += 1
        return head

    def close(self, size: int) -> None:
        """Say that all bytes of the file are given."""
        self._offset += size
        self.is_open = False

    def end(self) -> Iterator[bytes]:
        """Give the directory."""
        size = self._directory.tell()
        self._directory.seek(0)
        yield from _read(self._directory)
        start, end = self._offset, self._offset + size
        if self._count >= 0xFFFF or size >= 0xFFFFFFFF or start >= 0xFFFFFFFF:
            yield b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, self._count, self._count, size, start)
            yield b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
        count = min(self._count, 0xFFFF)
        yield b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, min(size, 0xFFFFFFFF), min(start, 0xFFFFFFFF), 0)
