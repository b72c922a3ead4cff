"""Imports for tests: whole folders in this process, and what must hold of every database when nothing is under way.

``import_folder`` claims a folder and does everything that the job table then owes, as a worker does, without a broker and
without waiting. ``check_consistency`` holds rows, counters, header index and disk against each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import multiprocessing
import os
import resource
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from dicomweb import batches, index, jobs
from dicomweb.db import make_engine, work
from dicomweb.imports import Importer, locate
from dicomweb.models import (
    GROUP_SIZE,
    Batch,
    Discard,
    GroupColumn,
    GroupDocument,
    GroupHeader,
    GroupSeries,
    Header,
    HeaderGroup,
    Image,
    Job,
    Outcome,
    Pack,
    Patient,
    PromotedNumber,
    Series,
    Study,
)
from dicomweb.processes import die_with_parent
from dicomweb.settings import Settings
from dicomweb.storage import BytesMissing, Storage
from workers.consumer import Worker
from workers.tasks import HANDLERS

_FORK = multiprocessing.get_context("fork")
_CAPABILITY_VERSION_3 = 0x20080522
_READ_EVERYTHING = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def changed(settings: Settings, **values: str) -> Settings:
    """The settings of the fixture with other values; ``import__mode`` stands for ``import.mode``."""
    ini = {name.replace("__", "."): value for name, value in values.items()}
    return Settings({"database.url": settings["database.url"], **ini}, environ={}, here=settings.var.parent)


def storage_of(settings: Settings) -> Storage:
    """The storage below the state folder, without waiting for the disk."""
    return Storage(settings.var / "storage", sync=False)


def importer_of(engine: sa.Engine, settings: Settings) -> Importer:
    """What a worker would import with, over the same state folder."""
    return Importer(engine=engine, settings=settings, storage=storage_of(settings))


class Clock:
    """The real time, and as much more as a test puts it forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        """Tell the time."""
        return datetime.now(UTC) + self.ahead

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead += timedelta(seconds=seconds)


def claim_folder(engine: sa.Engine, path: Path, *, stamp: str | None = None) -> Batch:
    """Make a folder a batch whose scan is owed."""
    with work(engine) as dbsession:
        moment = datetime.now(UTC)
        batch = batches.claim_arrival(dbsession, str(path), stamp=stamp or moment.isoformat(), now=moment)
    assert batch is not None
    return batch


def drain(importer: Importer, *, most: int = 1_000_000) -> int:
    """Do what is owed and due, as a worker does, and tell how many jobs that were."""
    worker = Worker(importer, HANDLERS)
    done = 0
    while done < most and worker.work_on(jobs.claim_next):
        done += 1
    return done


def drain_everything(importer: Importer) -> None:
    """Do everything that is owed; a job that fails even once fails the test."""
    drain(importer)
    with importer.work(read_only=True) as dbsession:
        left = dbsession.scalars(sa.select(Job).where(Job.status != "done")).all()
    assert not left, [(job.kind, job.status, job.attempts, job.error) for job in left]


def import_folder(engine: sa.Engine, settings: Settings, path: Path) -> Batch:
    """Import a folder to the end and give its batch."""
    batch = claim_folder(engine, path)
    drain_everything(importer_of(engine, settings))
    return reload(engine, batch)


def reload(engine: sa.Engine, batch: Batch) -> Batch:
    """The batch as it is now."""
    with work(engine, read_only=True) as dbsession:
        return dbsession.get_one(Batch, batch.id)


def rows(engine: sa.Engine, statement: sa.Select[Any]) -> list[Any]:
    """The entities a statement selects, outside any session."""
    with work(engine, read_only=True) as dbsession:
        return list(dbsession.scalars(statement).all())


def images_of(engine: sa.Engine, batch: Batch) -> dict[str, Image]:
    """The images of a batch by path."""
    return {image.path: image for image in rows(engine, sa.select(Image).where(Image.batch_id == batch.id))}


def outcomes_of(engine: sa.Engine, batch: Batch) -> dict[str, Outcome]:
    """The outcomes of a batch by path."""
    return {row.path: row for row in rows(engine, sa.select(Outcome).where(Outcome.batch_id == batch.id))}


def codes_of(engine: sa.Engine, batch: Batch) -> dict[str, str]:
    """What became of each file of a batch: ``imported``, or the code of its outcome."""
    became = {path: "imported" for path, image in images_of(engine, batch).items() if image.status == "DONE"}
    return became | {path: outcome.code for path, outcome in outcomes_of(engine, batch).items()}


def bytes_of(engine: sa.Engine, settings: Settings, image: Image) -> bytes:
    """The stored bytes of an image."""
    with work(engine, read_only=True) as dbsession:
        return locate(dbsession, image, storage_of(settings)).read()


@contextlib.contextmanager
def running(count: int, target: Callable[[int], object]) -> Iterator[list[BaseProcess]]:
    """Run a function in forked processes at once, each with its number; none outlives the block.

    To be begun where no other thread is busy: a lock that one holds is held in the child for ever.
    """
    parent = os.getpid()

    def run(number: int) -> None:
        die_with_parent(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        target(number)

    processes = [_FORK.Process(target=run, args=(number,)) for number in range(count)]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


def exit_codes(processes: Sequence[BaseProcess]) -> list[int]:
    """Wait for processes and give their exit codes; -1 is one that does not end."""
    for process in processes:
        process.join(120)
    return [-1 if process.exitcode is None else process.exitcode for process in processes]


def children(count: int, target: Callable[[int], object]) -> list[int]:
    """Run a function in forked processes at once, each with its number, and give their exit codes."""
    with running(count, target) as processes:
        return exit_codes(processes)


def draining(settings: Settings, count: int) -> contextlib.AbstractContextManager[list[BaseProcess]]:
    """Let several processes do what is owed at the same time."""
    return running(count, lambda number: drain(importer_of(make_engine(settings.database_url), settings)))


@contextlib.contextmanager
def without_privileges(engine: sa.Engine) -> Iterator[None]:
    """Let file permissions hold for root too, by putting the capabilities aside that pass over them."""
    # The socket of the database is behind a permission too, so it is opened before.
    with engine.connect():
        pass
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    effective = data[0]
    data[0] = effective & ~_READ_EVERYTHING
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = effective
        assert libc.capset(header, data) == 0


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_consistency(engine: sa.Engine, storage: Storage) -> None:
    """Hold everything against everything else; only when no job is queued or running.

    Every file has exactly one outcome; counters equal the rows; every image has its bytes, its header and its parents; and
    nothing is there, in rows or on the disk, that no image needs.
    """
    with work(engine, read_only=True) as dbsession:
        every = {
            model: list(dbsession.scalars(sa.select(model)).all())
            for model in (Batch, Image, Outcome, Pack, HeaderGroup, Series, Study, Patient, Discard)
        }
        images: list[Image] = every[Image]
        problems = [
            *_counter_problems(every[Batch], images, every[Outcome]),
            *_link_problems(images, every[Outcome]),
            *_byte_problems(images, every[Pack], storage, {batch.id: batch.path or "" for batch in every[Batch]}),
            *_index_problems(dbsession, images, every[HeaderGroup]),
            *_family_problems(images, every[Series], every[Study], every[Patient]),
        ]
        if every[Discard]:
            problems.append(f"{len(every[Discard])} discarded ranges are not erased")
        open_jobs = dbsession.scalars(sa.select(Job).where(Job.status.in_(("queued", "running")))).all()
        problems += [f"job {job.id} {job.kind} is {job.status}: {job.error}" for job in open_jobs]
    assert not problems, "\n".join(problems[:20])


def _counter_problems(
    all_batches: Sequence[Batch], images: Sequence[Image], outcomes: Sequence[Outcome]
) -> Iterator[str]:
    for batch in all_batches:
        mine = [image for image in images if image.batch_id == batch.id]
        done = [image for image in mine if image.status == "DONE"]
        kinds = Counter(outcome.kind for outcome in outcomes if outcome.batch_id == batch.id)
        without_image = kinds["error"] + kinds["duplicate"] + kinds["skipped"]
        truth = {
            "image_count": len(done),
            "error_count": kinds["error"] + kinds["conflict"],
            "notice_count": kinds["duplicate"] + kinds["skipped"],
            "done_count": len(done) + without_image,
            "file_count": len(mine) + without_image,
            "byte_count": sum(image.size or 0 for image in done),
            "has_error": bool(kinds["error"] + kinds["conflict"]),
            "open_scans": 0,
            "status": "DONE" if len(done) == len(mine) else "PROCESSING",
            "deleting": False,
        }
        for name, value in truth.items():
            if getattr(batch, name) != value:
                yield f"batch {batch.name}: {name} is {getattr(batch, name)}, the rows say {value}"
        paths = Counter(image.path for image in mine)
        paths.update(row.path for row in outcomes if row.batch_id == batch.id and row.kind != "conflict")
        yield from (f"batch {batch.name}: {path!r} has {n} outcomes" for path, n in paths.items() if n != 1)


def _link_problems(images: Sequence[Image], outcomes: Sequence[Outcome]) -> Iterator[str]:
    by_id = {image.id: image for image in images}
    conflicts = {outcome.image_id for outcome in outcomes if outcome.kind == "conflict"}
    for outcome in outcomes:
        for linked in (outcome.image_id, outcome.other_image_id):
            if linked is not None and (linked not in by_id or by_id[linked].status != "DONE"):
                yield f"outcome of {outcome.path!r} links image {linked}, which is not there"
        if outcome.kind == "conflict" and (
            outcome.image_id not in by_id or by_id[outcome.image_id].path != outcome.path
        ):
            yield f"the conflict {outcome.path!r} has no image"
    for image in images:
        if image.status == "DONE" and image.version > 0 and image.id not in conflicts:
            yield f"image {image.path!r} has version {image.version} and no conflict"
    uids = Counter((image.sop_instance_uid, image.version) for image in images if image.status == "DONE")
    yield from (f"{uid} is here {n} times" for uid, n in uids.items() if n > 1)
    contents = Counter((image.sop_instance_uid, image.sha256) for image in images if image.status == "DONE")
    yield from (f"the same bytes of {uid} are here {n} times" for uid, n in contents.items() if n > 1)


def _byte_problems(
    images: Sequence[Image], packs: Sequence[Pack], storage: Storage, folders: dict[int, str]
) -> Iterator[str]:
    names = {pack.id: pack.name for pack in packs}
    held = Counter(image.pack_id for image in images if image.pack_id is not None)
    for pack in packs:
        if pack.images != held[pack.id]:
            yield f"pack {pack.name} counts {pack.images} images, has {held[pack.id]}"
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for image in images:
        if image.pack_id is not None:
            if image.pack_id not in names:
                yield f"image {image.path!r} is in pack {image.pack_id}, which is not there"
                continue
            where = storage.range(names[image.pack_id], image.pack_offset or 0, image.size or 0)
            ranges[names[image.pack_id]].append((where.offset, where.length))
        elif image.status == "DONE":
            where = storage.range(os.path.join(folders[image.batch_id], image.path), 0, image.size or 0)
        else:
            continue
        try:
            if hashlib.sha256(where.read()).digest() != image.sha256:
                yield f"the bytes of {image.path!r} are not those that were imported"
        except BytesMissing as error:
            yield f"{image.path!r}: {error}"
    for name, taken in ranges.items():
        taken.sort()
        if any(a + length > b for (a, length), (b, _) in itertools.pairwise(taken)):
            yield f"ranges of pack {name} overlap"
    on_disk = {str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if not path.is_dir()}
    yield from (f"{name} is on the disk and no image is in it" for name in on_disk - set(names.values()))


def _index_problems(dbsession: Any, images: Sequence[Image], groups: Sequence[HeaderGroup]) -> Iterator[str]:
    keys = {image.header_key: image for image in images if image.header_key is not None}
    done = [image for image in images if image.status == "DONE"]
    if len(keys) != len(done) or any(image.header_key is None for image in done):
        yield f"{len(done)} images have {len(keys)} header keys"
    batch_of = {group.id: group.batch_id for group in groups}
    held = Counter(key // GROUP_SIZE for key in keys)
    for group in groups:
        if group.images != held[group.id]:
            yield f"header group {group.id} counts {group.images} images, has {held[group.id]}"
    for key, image in keys.items():
        if batch_of.get(key // GROUP_SIZE) != image.batch_id:
            yield f"image {image.path!r} is in header group {key // GROUP_SIZE}, which is not of its batch"
    of_series = Counter((key // GROUP_SIZE, image.series_id) for key, image in keys.items())
    stored = {(row.group_id, row.series_id): row.images for row in dbsession.scalars(sa.select(GroupSeries))}
    if stored != dict(of_series):
        yield f"group_series says {stored}, the images say {dict(of_series)}"
    for model in (GroupColumn, GroupHeader, GroupDocument):
        known = set(dbsession.scalars(sa.select(model.group_id).distinct()))
        yield from (f"{model.__tablename__} has group {group}, which is not there" for group in known - batch_of.keys())
    documented = set(dbsession.scalars(sa.select(GroupDocument.group_id)))
    yield from (f"group {group} has no document" for group in batch_of.keys() - documented)
    promoted = set(dbsession.scalars(sa.select(PromotedNumber.header_key)))
    yield from (f"a promoted number is of key {key}, which is not there" for key in promoted - keys.keys())
    used = set(dbsession.scalars(sa.select(GroupHeader.header_id)))
    dictionary = set(dbsession.scalars(sa.select(Header.id)))
    if not keys and dictionary:
        yield f"the dictionary still has {len(dictionary)} values"
    yield from (f"value {value} of a group is not in the dictionary" for value in used - dictionary)
    documents = index.read_headers(dbsession, keys.keys(), bulk_prefix=lambda _key: b"")
    for key, image in keys.items():
        header = orjson.loads(documents.get(key, b"{}"))
        if header.get("00080018", {}).get("Value", [""])[0] != image.sop_instance_uid:
            yield f"the header of {image.path!r} is that of another image"


def _family_problems(
    images: Sequence[Image], series: Sequence[Series], studies: Sequence[Study], patients: Sequence[Patient]
) -> Iterator[str]:
    used = {image.series_id for image in images if image.status == "DONE"}
    unused = {row.id for row in series} ^ used
    yield from (f"series {row} is without images, or not there" for row in unused)
    unused = {row.id for row in studies} ^ {row.study_key for row in series}
    yield from (f"study {row} is without series, or not there" for row in unused)
    unused = {row.id for row in patients} ^ {row.patient_key for row in studies}
    yield from (f"patient {row} is without studies, or not there" for row in unused)
