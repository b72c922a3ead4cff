"""Files are read: hashed, their headers walked, their bytes appended to the pack of their chunk."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dicomweb import headers
from dicomweb.headers.fallback import read_with_pydicom
from dicomweb.imports.folders import Folder, Refused, refusal
from dicomweb.imports.importer import Importer, incoming_folder
from dicomweb.imports.outcomes import NoImage
from dicomweb.languages import N_, gettext, grouped
from dicomweb.models import Batch, Image
from dicomweb.storage import BytesMissing, FileRange, PackWriter, StorageFailed

log = logging.getLogger(__name__)

# Files up to this size are read whole; larger ones are copied block by block and never held in memory.
WHOLE_FILE_BYTES = 32 << 20


_HEAD_BYTES = 1 << 20


# Longer UIDs than any index can hold are no UIDs; those of 65 and more characters are wrong (PS3.5 9.1) but kept.
_MAX_UID = 256


_UIDS = {"StudyInstanceUID": "0020000D", "SeriesInstanceUID": "0020000E", "SOPInstanceUID": "00080018"}


class Candidate(NamedTuple):
    """A file that was read: everything its rows need."""

    image_id: int
    path: str
    size: int
    sha256: bytes
    header: headers.Header
    sop_instance_uid: str
    pack_id: int | None
    pack_offset: int | None
    place: str | None = None

    @property
    def adopted(self) -> bool:
        """Its bytes are in a pack already, which another image left to it."""
        return self.pack_id is not None


class Reader:
    """Reads the files of one chunk and appends the bytes of those that may become images to its pack."""

    def __init__(self, importer: Importer, batch: Batch, pack: PackWriter) -> None:
        self._settings = importer.settings
        self._storage = importer.storage
        # What came over the network has no other place to stay.
        self._stores = importer.settings["import.mode"] != "reference" or batch.source != "folder"
        self._only_study = batch.only_study
        self._folder = Folder(batch.path or "")
        self._uploads = Folder(str(incoming_folder(importer.settings)), linked=True)
        self._pack = pack
        self._limits = headers.Limits(
            depth=importer.settings["headers.max_depth"],
            elements=importer.settings["headers.max_elements"],
            inflated_bytes=importer.settings["headers.max_inflated_bytes"],
        )

    def read(self, image: Image, pack_name: str | None) -> Candidate | NoImage:
        """Read one file. Raises StorageFailed."""
        try:
            if pack_name is not None:
                return self._adopt(image, self._storage.range(pack_name, image.pack_offset or 0, image.size or 0))
            return self._read(image)
        except Refused as refused:
            return self._no_image(image, "error", refused.code, str(refused))
        except headers.HeaderError as error:
            return self._no_image(image, "error", error.code, str(error))
        except BytesMissing as error:
            return self._no_image(image, "error", "unreadable", str(error))
        except StorageFailed:
            raise
        except OSError as error:
            reason = refusal(error)
            return self._no_image(image, "error", reason.code, str(reason))
        except Exception as error:
            # A defect of the reader must not keep the other files of the chunk from their outcomes.
            log.exception("the reader failed on image %s", image.id)
            return self._no_image(
                image,
                "error",
                "reader-failed",
                gettext("The reader itself failed on this file (%(error)s); this is a defect of the application.", error=type(error).__name__),
            )

    def close(self) -> None:
        """Close what is open."""
        self._folder.close()
        self._uploads.close()

    def _read(self, image: Image) -> Candidate | NoImage:
        fd = self._folder.open(image.path) if image.place is None else self._uploads.open(image.place)
        try:
            before = os.fstat(fd)
            if before.st_size > self._settings["import.max_file_bytes"]:
                most = self._settings["import.max_file_bytes"]
                raise Refused("too-large", gettext("The file has %(size)s bytes; at most %(most)s are taken.", size=grouped(before.st_size), most=grouped(most)))
            if before.st_size <= WHOLE_FILE_BYTES:
                candidate = self._read_whole(image, fd, before.st_size)
            else:
                candidate = self._read_large(image, fd, before.st_size)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            if isinstance(candidate, Candidate):
                self.withdraw(candidate)
            raise Refused("changed-while-reading", N_("The file changed while it was read; it was probably not complete."))
        return candidate

    def _read_whole(self, image: Image, fd: int, size: int) -> Candidate | NoImage:
        # One byte more than the file had, so that a file that grows is noticed.
        data = os.read(fd, size + 1)
        while len(data) < size and (more := os.read(fd, size - len(data))):
            data += more
        if len(data) != size:
            raise Refused("changed-while-reading", N_("The file changed while it was read; it was probably not complete."))
        header = self._header(data)
        if header.is_dicomdir:
            return self._dicomdir(image, size)
        uid = self._identity(header)
        offset = self._pack.append(data) if self._stores or image.place else None
        sha256 = hashlib.sha256(data).digest()
        return Candidate(image.id, image.path, size, sha256, header, uid, None, offset, image.place)

    def _read_large(self, image: Image, fd: int, size: int) -> Candidate | NoImage:
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            left = size
            while left and (block := os.read(fd, min(left, _HEAD_BYTES))):
                digest.update(block)
                left -= len(block)
                yield block
            if left:
                raise Refused(
                    "changed-while-reading", N_("The file changed while it was read; it was probably not complete.")
                )

        def pread(offset: int, length: int) -> bytes:
            return os.pread(fd, length, offset)

        header = headers.read_header(os.pread(fd, _HEAD_BYTES, 0), size=size, pread=pread, limits=self._limits)
        if header.is_dicomdir:
            return self._dicomdir(image, size)
        uid = self._identity(header)
        offset = None
        if self._stores or image.place:
            offset = self._pack.append_blocks(blocks()).offset
        else:
            for _ in blocks():
                pass
        return Candidate(image.id, image.path, size, digest.digest(), header, uid, None, offset, image.place)

    def _adopt(self, image: Image, source: FileRange) -> Candidate | NoImage:
        if source.length <= WHOLE_FILE_BYTES:
            header = self._header(source.read())
        else:
            head = source.pread(0, _HEAD_BYTES)
            header = headers.read_header(head, size=source.length, pread=source.pread, limits=self._limits)
        return Candidate(
            image.id,
            image.path,
            source.length,
            image.sha256 or b"",
            header,
            self._identity(header),
            image.pack_id,
            image.pack_offset,
        )

    def _header(self, data: bytes) -> headers.Header:
        try:
            return headers.read_header(data, limits=self._limits)
        except headers.Unreadable:
            # In memory, because the file itself may be another one by now.
            with open(os.memfd_create("header"), "wb") as copy:
                copy.write(data)
                copy.flush()
                return read_with_pydicom(Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}"), limits=self._limits)

    def _identity(self, header: headers.Header) -> str:
        uid = identity(header)
        if self._only_study is not None and header.value(_UIDS["StudyInstanceUID"]) != self._only_study:
            raise Refused("wrong-study", N_("The file is of another study than the one it was stored into."))
        return uid

    def withdraw(self, candidate: Candidate) -> None:
        """Take the bytes of a candidate back that does not become an image."""
        if candidate.pack_offset is not None and not candidate.adopted:
            self._pack.withdraw(candidate.pack_offset, candidate.size)

    def _dicomdir(self, image: Image, size: int) -> NoImage:
        return self._no_image(
            image,
            "skipped",
            "dicomdir",
            N_("A DICOMDIR is a table of contents, no image; the files it names are imported by themselves."),
            size,
        )

    @staticmethod
    def _no_image(image: Image, kind: str, code: str, message: str, size: int | None = None) -> NoImage:
        return NoImage(image.id, image.path, image.size if size is None else size, kind, code, message, image.place)


def identity(header: headers.Header) -> str:
    """Give the SOPInstanceUID of a header that names its study, series and instance. Raises Refused."""
    uids = {keyword: header.value(path) for keyword, path in _UIDS.items()}
    missing = [keyword for keyword, uid in uids.items() if not uid]
    if missing:
        raise Refused("missing-uid", gettext("The file lacks %(keywords)s.", keywords=", ".join(missing)))
    too_long = [keyword for keyword, uid in uids.items() if len(uid) > _MAX_UID]
    if too_long:
        raise Refused("bad-uid", gettext("No UID has more than %(most)s characters: %(keywords)s.", most=_MAX_UID, keywords=", ".join(too_long)))
    return uids["SOPInstanceUID"]
