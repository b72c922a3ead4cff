"""What the pages cost: ``python -m benchmarks.pages [--batches N] [--images N] [--rounds N] [--folder FOLDER] [--processes N] [--profile PATH]``.

Fills a private SQLite database: one batch of ``--images`` files with generated headers, and one broken file for each ten of them, which the
importer reads, stores and indexes as the workers do; and ``--batches`` small ones of two images of a study of its own each. One of ten of
these is indexed by the code that the importer indexes with, and the others have the rows that lists read and no header values. With a ``--folder`` everything stays in it, and the next run begins at once.

Then each page is asked for in this process, through the whole WSGI application with a session, and a line tells the median of
``--rounds`` requests: milliseconds by the clock, milliseconds of this process's own processor time (what counts on a machine that has other
things to do), SQL statements, and the kB of the answer. What takes more than 100 ms of processor time is marked. ``--profile`` prints where the
time of one page goes.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import itertools
import multiprocessing
import pstats
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
import webob

from benchmarks.index import CORPORA
from benchmarks.search import START, add_parents, dicom_file, write
from dicomweb import batches, jobs
from dicomweb.app import main as make_application
from dicomweb.db import make_engine, work
from dicomweb.imports import Importer
from dicomweb.migrations import upgrade
from dicomweb.models import GROUP_SIZE, Batch, GroupSeries, HeaderGroup, Image, Outcome, Sample, WebSession
from dicomweb.search import add_label
from dicomweb.security import SESSION_COOKIE
from dicomweb.settings import Settings
from dicomweb.storage import Storage
from tests.statements import statements
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.corpus import Generated
from workers.tasks import HANDLERS

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = CORPORA["ctmr"]
LARGE = "large"
# To write a file from the generated header takes longer than to import it, so that each is used for so many studies of its patient.
STUDIES_ALIKE = 10
UID_BEGINNING = b"1.3.6.1.4.1.5962.99.2."
INDEXED = 10
STUDIES_AT_ONCE = 250
# The series and studies of the generated batches are numbered from here, so that they meet none of the importer's.
FIRST_STUDY = 100_000
TARGET_MS = 100


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work, and what is there already; default: a temporary folder")
    parser.add_argument("--profile", metavar="PATH", help="of a page, such as /batches/1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pages-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        settings = Settings({}, {"DICOMWEB_VAR": str(folder / "var"), "DICOMWEB_WATCH": str(folder / "watch")}, ROOT)
        if not (folder / "filled").exists():
            settings.var.mkdir(parents=True)
            upgrade(settings.database_url)
            import_large(settings, arguments.images, arguments.processes)
            write_small(settings, arguments.batches, arguments.processes)
            (folder / "filled").touch()
        report(settings, arguments.rounds, arguments.profile)


def quick_engine(settings: Settings) -> sa.Engine:
    """Give an engine that does not wait for the disk: what is measured is only read."""
    engine = make_engine(settings.database_url)

    @sa.event.listens_for(engine, "connect")
    def _hurry(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    return engine


def side_by_side(count: int, target: Callable[[int], None]) -> None:
    """Run something in so many processes."""
    processes = [multiprocessing.get_context("fork").Process(target=target, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process that filled the database failed")


def import_large(settings: Settings, count: int, processes: int) -> None:
    """Write files into a dropped folder, and import it as the workers do."""
    folder = settings["watch.folders"][0] / LARGE
    began = time.perf_counter()
    studies = _studies_of(count // STUDIES_ALIKE)

    def write_files(process: int) -> None:
        for number in studies:
            for place, image in enumerate(itertools.islice(corpus.images(number, WEIGHTS), process, None, processes)):
                content = dicom_file(image)
                for again in range(STUDIES_ALIKE):
                    path = folder / f"{number:04}-{again}" / f"{process}-{place:06}.dcm"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.replace(UID_BEGINNING, b"%s%d." % (UID_BEGINNING[:-2], again)))
                    if place % 10 == 0:
                        path.with_suffix(".broken").write_bytes(content[: 400 + place % 500] if place % 20 else b"no image")

    side_by_side(processes, write_files)
    written = time.perf_counter()

    def drain(process: int) -> None:
        engine = quick_engine(settings)
        importer = Importer(engine, settings, Storage(settings.var / "storage", sync=False))
        while True:
            with importer.work() as dbsession:
                job = jobs.claim_next(dbsession, worker=f"benchmark:{process}", lease=600, now=importer.clock())
            if job is None:
                break
            HANDLERS[job.kind](importer, job)
        engine.dispose()

    engine = quick_engine(settings)
    with work(engine) as dbsession:
        batches.claim_arrival(dbsession, str(folder), stamp="benchmark", now=datetime.now(UTC))
    engine.dispose()
    # The first job lists the folder, and makes those of the chunks.
    side_by_side(1, lambda process: drain_one(settings, process))
    side_by_side(processes, drain)
    with work(engine, read_only=True) as dbsession:
        batch = dbsession.scalars(sa.select(Batch)).one()
    print(
        f"{batch.file_count:,} files written in {written - began:.0f} s; {batch.image_count:,} images and {batch.error_count:,} errors of"
        f" the batch {LARGE!r} imported in {time.perf_counter() - written:.0f} s by {processes} processes, {batch.status}"
    )
    engine.dispose()


def drain_one(settings: Settings, process: int) -> None:
    """Do one job."""
    engine = quick_engine(settings)
    importer = Importer(engine, settings, Storage(settings.var / "storage", sync=False))
    with importer.work() as dbsession:
        job = jobs.claim_next(dbsession, worker=f"benchmark:{process}", lease=600, now=importer.clock())
    if job is None:
        raise SystemExit("the folder was not claimed")
    HANDLERS[job.kind](importer, job)
    engine.dispose()


def _studies_of(count: int) -> list[int]:
    """Give the numbers of studies that have at least so many images together."""
    numbers: list[int] = []
    images = 0
    for number in itertools.count():
        if images >= count:
            return numbers
        numbers.append(number)
        images += sum(1 for _ in corpus.images(number, WEIGHTS))
    return numbers


def write_small(settings: Settings, count: int, processes: int) -> None:
    """Write batches of two images each, as many an archive has, and what lists show of them."""
    began = time.perf_counter()

    def write_some(process: int) -> None:
        engine = quick_engine(settings)
        own = range(process, count, processes)
        for number in own[::INDEXED]:
            write(engine, [_two_images(number)], number + 2)
        others = [number for place, number in enumerate(own) if place % INDEXED]
        for start in range(0, len(others), STUDIES_AT_ONCE):
            write_rows(engine, others[start : start + STUDIES_AT_ONCE])
        engine.dispose()

    side_by_side(processes, write_some)
    engine = quick_engine(settings)
    now = datetime.now(UTC)
    small = sa.update(Batch).where(Batch.name.startswith("batch "))
    with work(engine) as dbsession:
        dbsession.execute(small.values(open_scans=0, file_count=2, done_count=2, byte_count=Batch.id * 1009 % 9_000_000, source="folder"))
        dbsession.execute(small.where(Batch.id % 5 == 0).values(source="upload"))
        dbsession.execute(small.where(Batch.id % 7 == 0).values(has_error=True, error_count=1, file_count=3, done_count=3))
        dbsession.execute(small.where(Batch.id % 100 == 0).values(status="PROCESSING"))
        dbsession.execute(small.where(Batch.id % 500 == 0).values(delete_at=now + timedelta(days=1)))
        failed = sa.select(Batch.id, sa.literal("a.dcm"), sa.literal("error"), sa.literal("truncated"), sa.literal("It ends."), Batch.created_at)
        dbsession.execute(
            sa.insert(Outcome).from_select(["batch_id", "path", "kind", "code", "message", "at"], failed.where(Batch.name.startswith("batch "), Batch.has_error))
        )
        ids = list(dbsession.scalars(sa.select(Batch.id).where(Batch.id % 3 == 0)))
        for place, name in enumerate(("reviewed", "phantom", "follow-up")):
            add_label(dbsession, name, "batch", ids[place::3], now=now)
        dbsession.add_all(
            Sample(at=now.replace(second=0, microsecond=0) - timedelta(minutes=minutes), queued=minutes % 50, running=5, failed=0, workers=5, images=20_000, bytes=10**9, free=10**11)
            for minutes in (*range(180), *range(180, 43_200, 60))
        )
    engine.dispose()
    print(f"{count:,} batches of two images written in {time.perf_counter() - began:.0f} s")


def _two_images(number: int) -> list[Generated]:
    return list(itertools.islice(corpus.images(FIRST_STUDY + number, WEIGHTS), 2))


def write_rows(engine: sa.Engine, numbers: list[int]) -> None:
    """Write small batches without their header values."""
    images = {number + 2: _two_images(number) for number in numbers}
    with work(engine) as dbsession:
        add_parents(dbsession, [image for two in images.values() for image in two])
        for batch_id, two in images.items():
            added = START + timedelta(minutes=batch_id)
            dbsession.add(Batch(id=batch_id, name=f"batch {batch_id}", status="DONE", image_count=len(two), created_at=added, modified_at=added))
        dbsession.flush()
        groups = [{"batch_id": batch_id, "images": len(two)} for batch_id, two in images.items()]
        ids = list(dbsession.scalars(sa.insert(HeaderGroup).returning(HeaderGroup.id, sort_by_parameter_order=True), groups))
        by_series = [
            (group, series_id, len(list(alike)))
            for group, two in zip(ids, images.values(), strict=True)
            for series_id, alike in itertools.groupby(two, key=lambda image: image.member.series_id)
        ]
        dbsession.execute(sa.insert(GroupSeries), [{"group_id": group, "series_id": series, "images": many} for group, series, many in by_series])
        rows = [
            {
                "batch_id": batch_id, "path": image.uid, "status": "DONE", "version": 0, "series_id": image.member.series_id,
                "header_key": group * GROUP_SIZE + place, "sop_instance_uid": image.uid, "added_at": START, "size": 512 << 10, "element_count": 90,
            }
            for group, (batch_id, two) in zip(ids, images.items(), strict=True)
            for place, image in enumerate(two)
        ]  # fmt: skip
        dbsession.execute(sa.insert(Image), rows)


class Pages:
    """The application, and a browser with a session."""

    def __init__(self, settings: Settings) -> None:
        ini = {"var": str(settings.var), "watch.folders": str(settings["watch.folders"][0]), "broker.url": "redis+socket:///nowhere"}
        self.application = make_application({"here": str(ROOT)}, **ini)
        self.engine: sa.Engine = self.application.registry["engine"]
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        with work(self.engine) as dbsession:
            hashed = hashlib.sha256(token.encode()).hexdigest()
            dbsession.add(WebSession(token_hash=hashed, created_at=now, expires_at=now + timedelta(hours=1), seen_at=now, address="127.0.0.1"))
        self.cookie = f"{SESSION_COOKIE}={token}"

    def ask(self, path: str) -> bytes:
        """Ask for a page and give its body."""
        request = webob.Request.blank(path, headers={"Cookie": self.cookie}, remote_addr="127.0.0.1")
        status, _, body = request.call_application(self.application)
        content = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        if not status.startswith("200"):
            raise SystemExit(f"{path}: {status}")
        return content

    def measure(self, name: str, path: str, rounds: int) -> None:
        """Print a line about a page."""
        content = self.ask(path)
        with statements(self.engine) as ran:
            self.ask(path)
        walls, used = [], []
        for _ in range(rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            self.ask(path)
            walls.append((time.perf_counter() - wall) * 1000)
            used.append((time.process_time() - cpu) * 1000)
        cpu = statistics.median(used)
        mark = "  <--" if cpu > TARGET_MS else ""
        print(f"{name:42} {statistics.median(walls):8.1f} {cpu:8.1f} {len(ran):6} {len(content) / 1000:8.0f}{mark}", flush=True)


def pages_of(engine: sa.Engine) -> Iterator[tuple[str, str]]:
    """Give names and addresses of what is measured."""
    with work(engine, read_only=True) as dbsession:
        large = dbsession.scalars(sa.select(Batch).where(Batch.name == LARGE)).one()
        count = dbsession.scalar(sa.select(sa.func.count(Batch.id))) or 0
    last_batches, last_images, last_errors = (-(-number // size) for number, size in ((count, 25), (large.image_count, 50), (large.error_count, 50)))
    batch = f"/batches/{large.id}"
    yield "dashboard", "/"
    yield "dashboard, what is asked every 10 s", "/status"
    yield "dashboard, last page", f"/?page={last_batches}"
    yield "dashboard, a name", "/?name=99"
    yield "dashboard, errors, by size", "/?errors=yes&sort=-size"
    yield "dashboard, a label, by name", "/?label=reviewed&sort=name"
    yield "dashboard, days and a source", "/?since=2025-01-02&until=2025-01-04&source=upload"
    yield f"batch of {large.image_count:,} images", batch
    yield "  its images, page in the middle", f"{batch}?page={last_images // 2}"
    yield "  its images, last page", f"{batch}?page={last_images}"
    yield f"  its {large.error_count:,} errors", f"{batch}/errors"
    yield "  its errors, last page", f"{batch}/errors?page={last_errors}"
    yield "  its errors of one code", f"{batch}/errors?code=not-dicom"
    yield "  before it is deleted", f"{batch}/delete"
    yield "small batch", "/batches/2"
    yield "chosen: delete 1,000 batches", "/batches/chosen?do=delete&all=yes"
    for name in ("patients", "studies", "series"):
        yield name, f"/{name}"
        yield f"{name}, last page", f"/{name}?page=200"
        yield f"{name}, a text", f"/{name}?q=chest"
    yield "studies by patient", "/studies?sort=patient"
    yield "studies of CT, by date", "/studies?modality=CT&sort=-date"
    yield "series by images", "/series?sort=-images"
    yield "statistics", "/statistics"
    yield "storage: clean-up", "/settings/cleanup"
    yield "settings: system", "/settings"
    yield "settings: queue", "/settings/queue"
    yield "search, no condition", "/search"
    yield "search, a modality", f"/search?q={quote('Modality:CT')}"
    yield "upload", "/upload"


def report(settings: Settings, rounds: int, profile: str | None) -> None:
    """Measure each page, or profile one."""
    pages = Pages(settings)
    if profile is not None:
        pages.ask(profile)
        profiler = cProfile.Profile()
        profiler.runcall(pages.ask, profile)
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("cumulative").print_stats(60)
        return
    print(f"{'page':42} {'ms':>8} {'CPU ms':>8} {'SQL':>6} {'kB':>8}")
    for name, path in pages_of(pages.engine):
        pages.measure(name, path, rounds)
    pages.engine.dispose()


if __name__ == "__main__":
    main()
