"""What a search costs: ``python -m benchmarks.search [--images N] [--database URL] [--processes N] [--orthanc [SECONDS]]``.

Fills an empty database (a temporary SQLite file, or the one at the URL) with generated headers, written straight into the index
in chunks of 256 by several processes, and tells: the bytes an image; of the usual searches how many images are found and the median
time of the total, and of a first page with its total and columns, of images and of series; totals of studies, pages at depth forwards and
backwards, orders, the six facets of a page, completion, labels and what varies; the rows a second and the memory of a CSV export.
With a database that is full already the searches begin at once. A PostgreSQL is analysed once it is full, as its autovacuum would do;
on SQLite nothing in the application does that, so it is not done here either.

``--orthanc`` sends as many of the same images, as files, as a private Orthanc takes in so many seconds (60), fills a second database with
just these, and asks both the same questions.
"""

from __future__ import annotations

import argparse
import http.client
import io
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy.orm import Session

from benchmarks.index import CHUNK, CORPORA, TABLES, median
from dicomweb import index, query, search
from dicomweb.db import insert_missing, make_engine, work
from dicomweb.migrations import upgrade
from dicomweb.models import Batch, Image, Patient, Series, Study
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.corpus import Generated
from tests.unit.dicomweb.index.filled import PROMOTED

# Studies in one batch.
BATCH = 10
START = datetime(2025, 1, 1, tzinfo=UTC)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--database", help="URL of a database, empty or filled by this benchmark; a temporary SQLite file when not given")
    parser.add_argument("--corpus", choices=sorted(CORPORA), default="ctmr")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--orthanc", type=float, nargs="?", const=60.0, metavar="SECONDS")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{folder}/search.sqlite"
        upgrade(url)
        engine = make_engine(url)
        with work(engine, read_only=True) as dbsession:
            is_empty = search.count(dbsession, query.EVERYTHING) == 0
        if is_empty:
            fill(url, CORPORA[arguments.corpus], arguments.images, arguments.processes)
            settle(engine)
        with work(engine, read_only=True) as dbsession:
            total = search.count(dbsession, query.EVERYTHING)
            report_disk(dbsession, total)
            report_queries(dbsession, queries(dbsession))
            report_pages(dbsession)
            report_facets(dbsession)
            report_completion(dbsession)
            report_export(dbsession)
        report_labels(engine)
        engine.dispose()
        if arguments.orthanc:
            compare_with_orthanc(Path(folder), CORPORA[arguments.corpus], arguments.orthanc)


def studies(weights: dict[str, int], numbers: range) -> Iterator[list[Generated]]:
    """Give the images of some studies, study by study."""
    for number in numbers:
        yield list(corpus.images(number, weights))


def fill(url: str, weights: dict[str, int], count: int, processes: int) -> None:
    """Index at least so many images, whole batches of them, and tell the rate."""
    started = time.perf_counter()
    done = multiprocessing.get_context("fork").Value("q", 0)
    taken = multiprocessing.get_context("fork").Value("q", 0)

    def run() -> None:
        engine = make_engine(url)
        while done.value < count:
            with taken.get_lock():
                batch = taken.value
                taken.value += 1
            written = write(engine, studies(weights, range(batch * BATCH, (batch + 1) * BATCH)), batch + 1)
            with done.get_lock():
                done.value += written
        engine.dispose()

    workers = [multiprocessing.get_context("fork").Process(target=run) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process that filled the database failed")
    seconds = time.perf_counter() - started
    print(f"{done.value} images generated and written by {processes} processes in {seconds:.0f} s ({done.value / seconds:.0f} images/s)")


def settle(engine: sa.Engine) -> None:
    """Do what the database does by itself some time after many rows came."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def write(engine: sa.Engine, of_studies: Iterable[list[Generated]], batch_id: int) -> int:
    """Index the images of one batch, chunk by chunk; gives their number. One study is in memory, and what is left of those before."""
    added = START + timedelta(minutes=batch_id)
    with work(engine) as dbsession:
        dbsession.add(Batch(id=batch_id, name=f"batch {batch_id}", status="DONE", created_at=added, modified_at=added))
    count = 0
    waiting: list[Generated] = []
    for images in of_studies:
        with work(engine) as dbsession:
            add_parents(dbsession, images)
        count += len(images)
        waiting += images
        while len(waiting) >= CHUNK:
            write_chunk(engine, waiting[:CHUNK], batch_id, added)
            del waiting[:CHUNK]
    if waiting:
        write_chunk(engine, waiting, batch_id, added)
    with work(engine) as dbsession:
        dbsession.execute(sa.update(Batch).where(Batch.id == batch_id).values(image_count=count))
    return count


def write_chunk(engine: sa.Engine, part: list[Generated], batch_id: int, added: datetime) -> None:
    """Index one chunk."""
    prepared = index.prepare([image.member for image in part], promoted=PROMOTED)
    index.ensure_fields(engine, prepared)
    with work(engine) as dbsession:
        keys = index.write(dbsession, prepared, batch_id)
        rows = [
            {
                "batch_id": batch_id, "path": image.uid, "status": "DONE", "version": 0, "series_id": image.member.series_id, "header_key": key,
                "sop_instance_uid": image.uid, "added_at": added,
            }
            for image, key in zip(part, keys, strict=True)
        ]  # fmt: skip
        dbsession.execute(sa.insert(Image), rows)


def add_parents(dbsession: Session, images: list[Generated]) -> None:
    """Add patient, study and series of each series, with what its first image says."""
    firsts = {image.member.series_id: image for image in reversed(images)}
    values = {id_: {path: "\\".join(texts) for path, _, texts in reversed(image.member.elements)} for id_, image in sorted(firsts.items())}

    def texts(found: dict[str, str], **paths: str) -> dict[str, str]:
        return {name: found.get(path, "") for name, path in paths.items()}

    patients = [texts(found, patient_id="00100020", patient_name="00100010", patient_birth_date="00100030", patient_sex="00100040") for found in values.values()]
    insert_missing(dbsession, Patient, patients)
    keys = {row.patient_id: row.id for row in dbsession.execute(sa.select(Patient.id, Patient.patient_id).where(Patient.patient_id.in_([row["patient_id"] for row in patients])))}
    insert_missing(
        dbsession,
        Study,
        [
            {"id": id_ // 10, "patient_key": keys[found["00100020"]]}
            | texts(
                found, study_instance_uid="0020000D", study_date="00080020", study_time="00080030", accession_number="00080050", study_id="00200010",
                study_description="00081030", referring_physician_name="00080090",
            )
            for id_, found in values.items()
        ],
    )  # fmt: skip
    insert_missing(
        dbsession,
        Series,
        [
            {"id": id_, "study_key": id_ // 10}
            | texts(
                found, series_instance_uid="0020000E", modality="00080060", series_number="00200011", series_description="0008103E", series_date="00080021",
                series_time="00080031", body_part_examined="00180015", protocol_name="00181030",
            )
            for id_, found in values.items()
        ],
    )  # fmt: skip


def report_disk(dbsession: Session, images: int) -> None:
    """Tell the bytes an image of the whole database and of the header index in it."""
    if dbsession.get_bind().dialect.name == "postgresql":
        whole = dbsession.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0
        of_index = sum(dbsession.scalar(sa.text("SELECT pg_total_relation_size(to_regclass(:name))"), {"name": name}) or 0 for name in TABLES)
        print(f"disk: {whole / images:.0f} B/image, of which the header index {of_index / images:.0f}")
        return
    pages = dbsession.scalar(sa.text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")) or 0
    print(f"disk: {pages / images:.0f} B/image")


def queries(dbsession: Session) -> dict[str, str]:
    """Give the sixteen searches by which the index was chosen, with values that are there."""

    def value(name: str, among: str = "Modality:CT") -> str:
        found = search.facet(dbsession, query.parse(among), query.resolve(name), limit=1).values
        return found[0].query if found else f"{name}:none"

    patient = value("PatientID")
    return {
        "PatientID =": patient,
        "CT & StudyDate range": "Modality:CT StudyDate:2020-01..2020-03",
        "PatientName SMI*": "PatientName:smi*",
        "SeriesDescription ~ angio": "SeriesDescription:*angio*",
        "SliceThickness .9-1.1": "SliceThickness:0.9..1.1",
        "SliceLocation 10-12": "SliceLocation:10..12",
        "largest pixel 1000-1010": "LargestImagePixelValue:1000..1010",
        "private = 736": "0019[GEMS_ACQU_01]02:736",
        "nested step id =": value("RequestAttributesSequence.ScheduledProcedureStepID"),
        "exists contrast": "ContrastBolusAgent:exists",
        "missing Manufacturer": "Manufacturer:missing",
        "3 conditions, rare": "Modality:CT ConvolutionKernel:FC51 InstanceNumber:7",
        "OR across paths": f"{patient} OR {value('AccessionNumber')} OR {value('SOPInstanceUID')}",
        "MR of one year": "Modality:MR StudyDate:2019",
        "count CT": "Modality:CT",
        "anywhere ~ gadovist": "gadovist",
        "varying UID =": value("SourceImageSequence.ReferencedSOPInstanceUID", patient),
        "SOPInstanceUID =": value("SOPInstanceUID", patient),
        "any depth": "**.CodeValue:P0*",
        "6 conditions": "Modality:(CT MR) SliceThickness:<=2 -Manufacturer:missing PatientSex:F StudyDate:>=2019 InstanceNumber:1..5",
    }


def report_queries(dbsession: Session, asked: dict[str, str]) -> None:
    """Tell the median time of each search."""
    print(f"{'median ms':28} {'images':>9} {'total':>9} {'page':>9} {'series':>9} {'page':>9} {'studies':>9}")
    for name, text in asked.items():
        node = query.parse(text)
        hits = search.count(dbsession, node)
        taken = [
            median(lambda node=node: search.count(dbsession, node)),
            median(lambda node=node: search.find(dbsession, node, columns=search.DEFAULT_COLUMNS["image"])),
            median(lambda node=node: search.count(dbsession, node, "series")),
            median(lambda node=node: search.find(dbsession, node, level="series", columns=search.DEFAULT_COLUMNS["series"])),
            median(lambda node=node: search.count(dbsession, node, "study")),
        ]
        print(f"{name:28} {hits:9} " + " ".join(f"{one:9.1f}" for one in taken), flush=True)


def report_pages(dbsession: Session) -> None:
    """Tell the median times of pages at depth, forwards and backwards, and of other orders than that of import."""
    for text in ("Modality:CT", "SliceLocation:-100..100", "-SliceLocation:10..12"):
        node = query.parse(text)
        key = median_key(dbsession, node)
        expression = search.compile_query(dbsession, node)
        forwards = median(lambda expression=expression, key=key: index.count_and_page(dbsession, expression, limit=51, after=key))
        backwards = median(lambda expression=expression, key=key: index.count_and_page(dbsession, expression, limit=51, before=key))
        print(f"page of {text:24} in the middle: forwards {forwards:9.1f} ms, backwards {backwards:9.1f} ms", flush=True)
    found = median(lambda: search.find(dbsession, query.EVERYTHING, columns=search.DEFAULT_COLUMNS["image"], sort=[("added", True)]))
    print(f"newest images of all            {found:9.1f} ms")
    ct = query.parse("Modality:CT")
    for level in ("series", "study"):
        found = median(lambda level=level: search.find(dbsession, ct, level=level, columns=[], sort=[("StudyDate", True)]), 3)
        print(f"CT by {level} sorted by StudyDate {found:9.1f} ms", flush=True)
    narrow, images = widest_sorted(dbsession)
    for column in ("StudyDate", "SliceLocation", "PatientName"):
        found = median(lambda column=column: search.find(dbsession, narrow, columns=[], sort=[(column, True)]), 3)
        print(f"{images} images sorted by {column:14} {found:9.1f} ms", flush=True)


def median_key(dbsession: Session, node: query.Node) -> int:
    """Give the header key of the image in the middle of a result."""
    keys = index.select_keys(dbsession, search.compile_query(dbsession, node)).subquery()
    half = search.count(dbsession, node) // 2
    return dbsession.scalar(sa.select(keys.c.key).order_by(keys.c.key).offset(half).limit(1)) or 0


def widest_sorted(dbsession: Session) -> tuple[query.Node, int]:
    """Give a search that finds nearly as many images as are sorted, and their number."""
    best = query.parse("Modality:CT StudyDate:2015"), 0
    for year in range(2015, 2026):
        node = query.parse(f"StudyDate:{year}")
        images = search.count(dbsession, node)
        if best[1] < images <= search.MOST_SORTED:
            best = node, images
    return best


def report_facets(dbsession: Session) -> None:
    """Tell the median times of the facets of a page, together and one by one, and of what varies."""
    names = ("Modality", "Manufacturer", "StudyDate", "BodyPartExamined", "PatientSex", "SliceThickness")
    wanted = [(query.resolve(name), 10) for name in names]
    for text in ("Modality:CT", "SliceLocation:-100..100", "PatientName:smi*", ""):
        node = query.parse(text) if text else query.EVERYTHING
        for level in search.LEVELS:
            found = median(lambda node=node, level=level: search.facets_of(dbsession, node, wanted, level=level), 3)
            print(f"six facets of {text or 'everything':24} by {level:6} {found:9.1f} ms", flush=True)
    ct = query.parse("Modality:CT")
    for name in ("Manufacturer", "StudyDate", "InstanceNumber", "**.CodeValue"):
        found = median(lambda name=name: search.facet(dbsession, ct, query.resolve(name)), 3)
        print(f"facet {name:16} of Modality:CT          {found:9.1f} ms", flush=True)
    found = median(lambda: search.varies(dbsession, ct), 1)
    print(f"what varies in Modality:CT              {found:9.0f} ms", flush=True)


def report_completion(dbsession: Session) -> None:
    """Tell the median times of completing a value."""
    for typed in (
        "PatientName:smi", "Modality:", "SeriesDescription:h", "SOPInstanceUID:1.3.6", "StudyDate:2020", "InstitutionName:", "SliceLocation:-1", "**.CodeValue:p",
    ):  # fmt: skip
        name, _, prefix = typed.partition(":")
        found = median(lambda name=name, prefix=prefix: search.complete_values(dbsession, query.resolve(name), prefix), 21)
        print(f"complete {typed:22} {found:9.2f} ms", flush=True)


def report_labels(engine: sa.Engine) -> None:
    """Tell how long a whole result takes to be labelled, and to be found by its label; nothing of it stays."""
    node, labelled = query.parse("PatientName:smi* StudyDate:2019"), query.parse("label:benchmark")
    with Session(engine) as dbsession:
        for level in search.LEVELS:
            started = time.perf_counter()
            rows = search.add_label_to_found(dbsession, "benchmark", node, level, now=START)
            taken = (time.perf_counter() - started) * 1000
            counted = median(lambda: search.count(dbsession, labelled), 3)
            print(f"label {rows} rows by {level:6} {taken:9.1f} ms; count label:benchmark {counted:9.1f} ms", flush=True)
            search.delete_label(dbsession, "benchmark")
        dbsession.rollback()


def report_export(dbsession: Session) -> None:
    """Tell the rows a second of a CSV export of everything, and how much more memory the process had meanwhile."""
    before = most = own_memory()
    started, used = time.perf_counter(), time.process_time()
    rows = size = 0

    def note(written: int) -> None:
        nonlocal rows, most
        rows, most = written, max(most, own_memory())

    for piece in search.export(dbsession, query.EVERYTHING, columns=search.DEFAULT_COLUMNS["image"], on_rows=note):
        size += len(piece)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(f"CSV export: {rows} rows of 7 columns in {seconds:.1f} s, {rows / seconds:.0f} rows/s ({rows / used:.0f} a second of its own processor time)", end="; ")
    print(f"{size / 1e6:.0f} MB; memory grew by {(most - before) / 1e6:.0f} MB")


def own_memory() -> int:
    """Give the bytes of memory that are the process's own: without the pages of the database that SQLite maps."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def dicom_file(image: Generated) -> bytes:
    """Write the header of a generated image as a DICOM file without pixels; private elements are left out."""
    ds = Dataset()
    for path, vr, values in image.member.elements:
        if len(path) == 8 and path[:4] != "0002" and vr != "SQ" and values:
            converted = [float(value) if vr in ("FD", "FL") else int(value) if vr in ("US", "SL") else value for value in values]
            ds.add_new(int(path, 16), vr, converted if len(converted) > 1 else converted[0])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def orthanc(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """Run a private Orthanc and give a connection to it."""
    program = shutil.which("Orthanc")
    if program is None:
        raise SystemExit("Orthanc is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": f"{folder}/orthanc", "IndexDirectory": f"{folder}/orthanc", "HttpPort": port, "DicomServerEnabled": False,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "LimitFindResults": 0, "LimitFindInstances": 0,
    }  # fmt: skip
    configuration = folder / "orthanc.json"
    configuration.write_bytes(orjson.dumps(settings))
    server = subprocess.Popen([program, str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        for _ in range(100):
            try:
                request(connection, "GET", "/system")
                break
            except OSError:
                connection.close()
                time.sleep(0.1)
        yield connection
    finally:
        os.kill(server.pid, signal.SIGTERM)
        server.wait(60)


def request(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> bytes:
    """Ask Orthanc."""
    for attempt in (1, 2):
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            break
        except (BrokenPipeError, http.client.RemoteDisconnected):
            # It closes a connection that was idle.
            connection.close()
            if attempt == 2:
                raise
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"Orthanc answered {answer.status} to {method} {path}")
    return content


def compare_with_orthanc(folder: Path, weights: dict[str, int], seconds: float) -> None:
    """Load both with the same images, and ask both what both can answer, and one element that Orthanc does not index."""
    url = f"sqlite:///{folder}/beside.sqlite"
    upgrade(url)
    engine = make_engine(url)
    loaded = batch = 0
    ours = theirs = 0.0
    patient = ""
    with orthanc(folder) as connection:
        while theirs < seconds:
            batch += 1
            generated = list(studies(weights, range(batch * 2, batch * 2 + 2)))
            patient = patient or next(texts[0] for path, _, texts in generated[0][0].member.elements if path == "00100020")
            files = [dicom_file(image) for images in generated for image in images]
            started = time.perf_counter()
            for content in files:
                request(connection, "POST", "/instances", content)
            theirs += time.perf_counter() - started
            started = time.perf_counter()
            loaded += write(engine, generated, batch)
            ours += time.perf_counter() - started
        settle(engine)
        print(f"beside Orthanc: {loaded} images; Orthanc took {theirs:.0f} s for its files, the index {ours:.1f} s for their headers, one process each")
        asked = {
            f"PatientID:{patient}": ("Instance", {"PatientID": patient}),
            "StudyDate:2020-01..2022-12": ("Series", {"StudyDate": "20200101-20221231"}),
            "PatientName:smith*": ("Series", {"PatientName": "SMITH*"}),
            "SliceThickness:1": ("Instance", {"SliceThickness": "1.000000"}),
        }
        with work(engine, read_only=True) as dbsession:
            for text, (level, keys) in asked.items():
                node = query.parse(text)
                body = orjson.dumps({"Level": level, "Query": keys})
                found = len(orjson.loads(request(connection, "POST", "/tools/find", body)))
                hits = search.count(dbsession, node, level.lower().replace("instance", "image"))
                their_time = median(lambda body=body: request(connection, "POST", "/tools/find", body), 1)
                our_time = median(lambda node=node, level=level: _total_and_page(dbsession, node, level), 3)
                print(f"  {text:28} {level:8} Orthanc {found:7} in {their_time:9.1f} ms, here {hits:7} in {our_time:7.1f} ms (total and 50 rows with columns)")
    engine.dispose()


def _total_and_page(dbsession: Session, node: query.Node, level: str) -> None:
    level = level.lower().replace("instance", "image")
    search.find(dbsession, node, level=level, columns=search.DEFAULT_COLUMNS[level])


if __name__ == "__main__":
    main()
