"""Where the bytes of images are, and what happens to the files they came from."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import jobs
from dicomweb.imports.folders import Folder
from dicomweb.imports.importer import Importer, Stopping
from dicomweb.models import Batch, Image, Job, Outcome, Pack
from dicomweb.storage import BytesMissing, FileRange, Storage


def locate(dbsession: Session, image: Image, storage: Storage) -> FileRange:
    """Tell where the bytes of an image are: in a pack, or (imported by reference) where it was found. Raises BytesMissing."""
    if image.pack_id is not None:
        name = dbsession.scalar(sa.select(Pack.name).where(Pack.id == image.pack_id))
        if name is None:
            raise BytesMissing("The stored file is gone.")
        return storage.range(name, image.pack_offset or 0, image.size or 0)
    folder = dbsession.scalar(sa.select(Batch.path).where(Batch.id == image.batch_id))
    return FileRange.at(folder or "", image.path, image.size or 0)


def remove_sources(importer: Importer, job: Job) -> None:
    """``import.mode`` move: remove the source files of a chunk whose images are durably stored.

    A source goes only when its bytes are the stored ones; a failed file stays where it was.
    """
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
        stored = sa.select(Image.path, Image.sha256).where(
            Image.batch_id == batch.id,
            Image.id.between(job.payload["first"], job.payload["last"]),
            Image.status == "DONE",
            Image.pack_id.is_not(None),
        )
        sources = [(path, sha256) for path, sha256 in dbsession.execute(stored)]
        twins = (
            sa.select(Outcome.path, Image.sha256)
            .join(Image, Image.id == Outcome.image_id)
            .where(Outcome.batch_id == batch.id, Outcome.kind == "duplicate")
        )
        sources += [(path, sha256) for path, sha256 in dbsession.execute(twins.where(Image.pack_id.is_not(None)))]
    folder = Folder(batch.path or "")
    try:
        for path, sha256 in sources:
            if importer.stopping():
                raise Stopping
            folder.remove(path, sha256)
    finally:
        folder.close()
    with importer.work() as dbsession:
        jobs.finish(dbsession, job, now=importer.clock())


def pack_fragments(fragments: Sequence[tuple[int, int]]) -> bytes:
    """Write where the fragments of encapsulated pixel data lie: (offset, length) pairs, in bytes from the start of the file."""
    return zlib.compress(
        struct.pack(f"<{2 * len(fragments)}Q", *(number for fragment in fragments for number in fragment))
    )


def unpack_fragments(table: bytes) -> list[tuple[int, int]]:
    """Read back what ``pack_fragments`` wrote."""
    raw = zlib.decompress(table)
    numbers = struct.unpack(f"<{len(raw) // 8}Q", raw)
    return list(zip(numbers[::2], numbers[1::2], strict=True))
