"""Where the bytes of images are, and what happens to the files they came from."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import batches, jobs
from dicomweb.imports.folders import Folder
from dicomweb.imports.importer import Importer, Stopping
from dicomweb.languages import N_
from dicomweb.models import Batch, Image, Job, Outcome, Pack
from dicomweb.storage import BytesMissing, FileRange, Storage


def locate(dbsession: Session, image: Image, storage: Storage) -> FileRange:
    """Tell where the bytes of an image are: in a pack, or (imported by reference) where it was found. Raises BytesMissing."""
    if image.pack_id is not None:
        name = dbsession.scalar(sa.select(Pack.name).where(Pack.id == image.pack_id))
        if name is None:
            raise BytesMissing(N_("The stored file is gone."))
        return storage.range(name, image.pack_offset or 0, image.size or 0)
    folder = dbsession.scalar(sa.select(Batch.path).where(Batch.id == image.batch_id))
    return FileRange.at(folder or "", image.path, image.size or 0)


def remove_sources(importer: Importer, job: Job) -> None:
    """``import.mode`` move: remove the source files of a chunk whose images are durably stored.

    A source goes only when its bytes are the stored ones, and these can be read; a failed file stays where it was.
    """
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get_one(Batch, job.batch_id)
        if batch.deleting:
            # What is stored is being erased.
            raise batches.BatchGone(f"batch {batch.id} is being deleted")
        stored = (
            sa.select(Image.path, Image.sha256, Pack.name, Image.pack_offset, Image.size)
            .join(Pack, Pack.id == Image.pack_id)
            .where(
                Image.batch_id == batch.id,
                Image.id.between(job.payload["first"], job.payload["last"]),
                Image.status == "DONE",
            )
        )
        twins = (
            sa.select(Outcome.path, Image.sha256, Pack.name, Image.pack_offset, Image.size)
            .join(Image, Image.id == Outcome.image_id)
            .join(Pack, Pack.id == Image.pack_id)
            .where(Outcome.batch_id == batch.id, Outcome.kind == "duplicate")
        )
        sources = [*dbsession.execute(stored), *dbsession.execute(twins)]
    folder = Folder(batch.path or "")
    try:
        for path, sha256, name, offset, size in sources:
            if importer.stopping():
                raise Stopping
            there = importer.storage.range(name, offset or 0, size or 0)
            folder.remove(path, sha256, is_stored=functools.partial(there.is_intact, sha256))
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
