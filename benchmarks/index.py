"""What the header index costs and gives: ``python -m benchmarks.index [--images N] [--database URL] [--corpus ctmr|radiographs]``.

Fills an empty database (a temporary SQLite file, or the one at the URL) with generated headers in chunks of 256, and tells the
bytes an image by table, the images a second that are prepared and written by one process, the median time of the usual
searches (count and first page), and how long the complete headers of a 100-image series take, next to pydicom reading its
files in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pydicom
import sqlalchemy as sa
from pydicom.data import get_testdata_file
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.db import make_engine, work
from dicomweb.headers import read_header
from dicomweb.index import And, Anywhere, Between, Contains, Equals, Exists, Expression, Like, Member, Not, Or
from dicomweb.migrations import upgrade
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.corpus import Generated
from tests.unit.dicomweb.index.filled import PROMOTED, add_images, add_parents

CORPORA = {"ctmr": corpus.CT_AND_MR, "radiographs": corpus.RADIOGRAPHS}
CHUNK = 256
TABLES = ("header_group", "group_series", "group_header", "group_column", "header", "promoted_number", "group_document", "field")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--database", help="URL of an empty database; a temporary SQLite file when not given")
    parser.add_argument("--corpus", choices=sorted(CORPORA), default="ctmr")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{folder}/index.sqlite"
        upgrade(url)
        engine = make_engine(url)
        images = fill(engine, generated(CORPORA[arguments.corpus], arguments.images))
        settle(engine)
        with work(engine, read_only=True) as dbsession:
            report_disk(dbsession, images)
            report_queries(dbsession)
        report_headers(engine, Path(folder))
        engine.dispose()


def generated(weights: dict[str, int], count: int) -> Iterator[Generated]:
    """Give about that many images, whole studies of them."""
    given = number = 0
    while given < count:
        for image in corpus.images(number, weights):
            given += 1
            yield image
        number += 1


def fill(engine: sa.Engine, images: Iterator[Generated]) -> int:
    """Index all images, chunk by chunk, and tell the rates; gives how many there were."""
    seconds = dict.fromkeys(("prepare", "ensure_fields", "write"), 0.0)
    total = 0
    for part in chunks(images):
        with work(engine) as dbsession:
            add_parents(dbsession, {image.member.series_id for image in part})
        started = time.perf_counter()
        prepared = index.prepare([image.member for image in part], promoted=PROMOTED)
        prepared_at = time.perf_counter()
        index.ensure_fields(engine, prepared)
        ensured_at = time.perf_counter()
        with work(engine) as dbsession:
            keys = index.write(dbsession, prepared, 1)
            written_at = time.perf_counter()
            add_images(dbsession, part, keys, 1)
        for name, begin, end in (("prepare", started, prepared_at), ("ensure_fields", prepared_at, ensured_at), ("write", ensured_at, written_at)):
            seconds[name] += end - begin
        total += len(part)
    print(f"{total} images; one process, images/s:", ", ".join(f"{name} {total / taken:.0f}" for name, taken in seconds.items()), end="; ")
    print(f"all {total / sum(seconds.values()):.0f}")
    return total


def chunks(images: Iterator[Generated]) -> Iterator[list[Generated]]:
    """Cut images into chunks as an import does."""
    part: list[Generated] = []
    for image in images:
        part.append(image)
        if len(part) == CHUNK:
            yield part
            part = []
    if part:
        yield part


def settle(engine: sa.Engine) -> None:
    """Let the database learn what its tables hold."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    else:
        with work(engine) as dbsession:
            dbsession.execute(sa.text("ANALYZE"))


def report_disk(dbsession: Session, images: int) -> None:
    """Tell the bytes an image of each header table with its indexes."""
    if dbsession.get_bind().dialect.name == "postgresql":
        sizes = {name: dbsession.scalar(sa.text("SELECT pg_total_relation_size(to_regclass(:name))"), {"name": name}) for name in TABLES}
    else:
        sizes = dict.fromkeys(TABLES, 0)
        rows = sa.text("SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat s LEFT JOIN sqlite_master m ON m.name = s.name GROUP BY 1")
        try:
            found = dbsession.execute(rows).all()
        except sa.exc.OperationalError:
            print("disk by table is not known: this SQLite has no dbstat")
            return
        for name, size in found:
            owner = "header" if name.startswith("header_words") else name
            if owner in sizes:
                sizes[owner] += size
    counts = {name: dbsession.scalar(sa.text(f"SELECT count(*) FROM {name}")) for name in TABLES}
    print(f"disk: {sum(size or 0 for size in sizes.values()) / images:.0f} B/image")
    for name, size in sizes.items():
        print(f"  {name:16} {(size or 0) / images:7.1f} B/image {counts[name]:9} rows")


def queries(dbsession: Session) -> dict[str, Expression]:
    """Give the searches of the measurement that chose this schema, with values that are there."""

    def value(path: str) -> str:
        found = index.facet(dbsession, Equals("00080060", modality), path, 1)
        return found[0][0] if found else "?"

    modality = index.facet(dbsession, index.everything(), "00080060", 1)[0][0]
    patient = value("00100020")
    return {
        "PatientID =": Equals("00100020", patient),
        "Modality & StudyDate": And((Equals("00080060", modality), Between("00080020", 20200101, 20200331))),
        "PatientName SMI*": Like("00100010", "SMI*"),
        "SeriesDescription ~ angio": Contains("0008103E", "angio"),
        "SliceThickness .9-1.1": Between("00180050", 0.9, 1.1),
        "SliceLocation 10-12 (promoted)": Between("00201041", 10, 12),
        "largest pixel 1000-1010": Between("00280107", 1000, 1010),
        "private = 736": Equals("0019[GEMS_ACQU_01]02", "736"),
        "nested step id =": Equals("00400275/00400009", value("00400275/00400009")),
        "exists contrast": Exists("00180010"),
        "missing Manufacturer": Not(Exists("00080070")),
        "3 conditions, rare": And((Equals("00080060", modality), Equals("00181210", "FC51"), Between("00200013", 7, 7))),
        "OR across paths": Or((Equals("00100020", patient), Equals("00080050", value("00080050")), Equals("00080018", value("00080018")))),
        "count modality": Equals("00080060", modality),
        "anywhere ~ gadovist": Anywhere("gadovist"),
        "varying UID =": Equals("00082112/00081155", value("00082112/00081155")),
        "NOT SliceLocation 10-12": Not(Between("00201041", 10, 12)),
    }


def report_queries(dbsession: Session) -> None:
    """Tell the median time of each search: its count and its first 50 images."""
    print("count and first page:")
    for name, expression in queries(dbsession).items():

        def ask(expression: Expression = expression) -> None:
            index.page(dbsession, expression, limit=50)

        hits = index.count(dbsession, expression)
        counted, paged = median(lambda expression=expression: index.count(dbsession, expression)), median(ask)
        print(f"  {name:32} {hits:8} images  count {counted:7.2f} ms  page {paged:7.2f} ms")
    found = median(lambda: index.facet(dbsession, index.everything(), "00080070", 20))
    print(f"  facet Manufacturer of everything {'':8}         {found:7.2f} ms")
    found = median(lambda: index.list_fields(dbsession, limit=50))
    print(f"  50 paths with counts and examples {'':7}         {found:7.2f} ms")


def median(ask: Callable[[], object], times: int = 9) -> float:
    """Give the median time of a call in milliseconds, after one that warms up."""
    ask()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def report_headers(engine: sa.Engine, folder: Path) -> None:
    """Tell how long the headers of a 100-image series take from the index, and from its files by pydicom."""
    paths = write_series(folder, 100)
    members = []
    for path in paths:
        header = read_header(path.read_bytes())
        members.append(Member(1, "CT", header.elements, header.json, header.meta))
    prepared = index.prepare(members)
    index.ensure_fields(engine, prepared)
    with work(engine) as dbsession:
        add_parents(dbsession, [1])
        keys = index.write(dbsession, prepared, 1)

    def by_pydicom() -> None:
        for path in paths:
            pydicom.dcmread(path, stop_before_pixels=True)

    def as_json_by_pydicom() -> None:
        for path in paths:
            pydicom.dcmread(path, stop_before_pixels=True).to_json()

    with work(engine, read_only=True) as dbsession:
        ours = median(lambda: index.read_headers(dbsession, keys, bulk_prefix=lambda key: b"/"))
    read, converted = median(by_pydicom, 3), median(as_json_by_pydicom, 3)
    print(f"complete headers of a 100-image series: {ours:.2f} ms; pydicom reads its files in {read:.0f} ms (ratio {read / ours:.0f}),", end=" ")
    print(f"and gives the same JSON in {converted:.0f} ms (ratio {converted / ours:.0f})")


def write_series(folder: Path, count: int) -> Sequence[Path]:
    """Write a series of real CT files that differ as the images of a series do."""
    source = get_testdata_file("CT_small.dcm", download=False)
    ds = pydicom.dcmread(str(source))
    paths = []
    for number in range(1, count + 1):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        ds.InstanceNumber = number
        ds.SliceLocation = number * 2.5
        ds.ImagePositionPatient = [-158.1, -179.0, number * 2.5]
        paths.append(folder / f"{number:04d}.dcm")
        ds.save_as(os.fspath(paths[-1]))
    return paths


if __name__ == "__main__":
    main()
