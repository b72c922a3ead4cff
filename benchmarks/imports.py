"""How fast a folder is imported, next to Orthanc storing the same files on the same disk in the same run.

    python -m benchmarks.imports --corpus FOLDER [--rounds 3] [--database URL]

Ours: the whole application (broker, five workers, watcher) with its embedded defaults or a given database, everything
durable; the clock runs from the moment the folder is complete until its batch is DONE. Orthanc: Debian's, SQLite index, its
defaults (it syncs each file too), five HTTP clients posting the same files to ``/instances`` over kept connections. The two
take turns, so that a slow minute of the machine hits both. At last one process imports alone, with a clock on each step.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicomweb import batches, headers, imports, index, jobs, migrations, storage
from dicomweb.db import make_engine, work
from dicomweb.models import Batch
from dicomweb.settings import Settings
from dicomweb.supervisor import valkey_command
from workers.tasks import HANDLERS

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of DICOM files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", default="", help="an empty database; default: SQLite in the state folder")
    parser.add_argument("--folder", type=Path, default=None, help="where to work: the disk that is measured")
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.corpus.rglob("*") if path.is_file() and path.suffix != ".tsv")
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / len(files) / 1000:.0f} kB each")
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="imports-") as folder:
        for turn in range(arguments.rounds):
            place = Path(folder) / str(turn)
            ours.append(len(files) / import_with_us(place / "us", files, arguments.database, turn))
            line = f"round {turn + 1}: we {ours[-1]:.0f} files/s"
            if orthanc := shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin"):
                theirs.append(len(files) / store_in_orthanc(place / "orthanc", files, orthanc))
                line += f", Orthanc {theirs[-1]:.0f} files/s, ratio {ours[-1] / theirs[-1]:.2f}"
            print(line, flush=True)
            shutil.rmtree(place)
        if theirs:
            ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        else:
            print("Orthanc is not installed; no ratio.")
        show_steps(Path(folder) / "steps", files)


def import_with_us(place: Path, files: list[Path], database: str, turn: int) -> float:
    """Import the files through a watched folder; give the seconds from its completion to the end of its batch."""
    watched = place / "data"
    watched.mkdir(parents=True)
    settings = Settings({}, {"DICOMWEB_VAR": str(place / "var"), "DICOMWEB_WATCH": str(watched), "DICOMWEB_DATABASE_URL": database}, ROOT)
    settings.var.mkdir()
    migrations.upgrade(settings.database_url)
    environment = {**os.environ, "DICOMWEB_VAR": str(settings.var), "DICOMWEB_WATCH": str(watched), "DICOMWEB_DATABASE_URL": database}
    name = f"corpus-{turn}"
    # Hard links: a copy would still be on its way to the disk while the clock runs.
    for number, path in enumerate(files):
        target = watched / f"{name}.tmp" / str(number // 100) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
    os.sync()
    python = [sys.executable, "-m"]
    commands = [valkey_command(settings), [*python, "workers", "development.ini"], [*python, "watcher", "development.ini"]]
    with running(commands, environment):
        engine = make_engine(settings.database_url)
        wait(lambda: _alive(engine) >= settings["workers.count"], "the workers")
        time.sleep(1)
        began = time.perf_counter()
        (watched / f"{name}.tmp").rename(watched / name)
        wait(lambda: _done(engine, name), "the batch")
        seconds = time.perf_counter() - began
        with work(engine, read_only=True) as dbsession:
            batch = dbsession.scalars(sa.select(Batch).where(Batch.name == name)).one()
            if batch.image_count != len(files) and turn == 0:
                print(f"note: {batch.image_count} of {len(files)} files became images")
        engine.dispose()
    return seconds


def _alive(engine: sa.Engine) -> int:
    with work(engine, read_only=True) as dbsession:
        return len(jobs.alive_workers(dbsession, now=datetime.now(UTC)))


def _done(engine: sa.Engine, name: str) -> bool:
    with work(engine, read_only=True) as dbsession:
        return dbsession.scalar(sa.select(Batch.status).where(Batch.name == name)) == "DONE"


def store_in_orthanc(place: Path, files: list[Path], orthanc: str) -> float:
    """Store the files in a fresh Orthanc over five HTTP clients; give the seconds."""
    place.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = {
        "Name": "benchmark",
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(place / "storage"),
        "IndexDirectory": str(place / "index"),
        "HttpThreadsCount": 50,
    }
    (place / "orthanc.json").write_text(json.dumps(configuration))
    with running([[orthanc, str(place / "orthanc.json")]], dict(os.environ)):
        wait(lambda: _answers(port), "Orthanc")
        began = time.perf_counter()
        clients = [multiprocessing.Process(target=_post, args=(port, files[number::CLIENTS])) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return time.perf_counter() - began


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _post(port: int, files: list[Path]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    answers: Counter[int] = Counter()
    for path in files:
        connection.request("POST", "/instances", body=path.read_bytes(), headers={"Content-Type": "application/dicom"})
        answer = connection.getresponse()
        answer.read()
        answers[answer.status] += 1
    if set(answers) != {200}:
        print(f"note: Orthanc answered {dict(answers)}")


@contextmanager
def running(commands: list[list[str]], environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run programs, silently, in their own process groups, and give these."""
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) for command in commands]
    try:
        yield processes
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait(condition: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


class Clock:
    """Adds up the time spent in some functions, without what they call of each other."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    def on(self, owner: Any, name: str, step: str) -> None:
        """Put a clock on a function."""
        function = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                taken = time.perf_counter() - began
                self.seconds[step] += taken - self._inner.pop()
                self._inner[-1] += taken

        setattr(owner, name, timed)


def show_steps(place: Path, files: list[Path]) -> None:
    """Import the files in this process alone and print where the time of one file goes."""
    data = place / "data"
    for path in files:
        target = data / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    settings = Settings({}, {"DICOMWEB_VAR": str(place / "var"), "DICOMWEB_WATCH": str(place / "watched")}, ROOT)
    settings.var.mkdir()
    migrations.upgrade(settings.database_url)
    engine = make_engine(settings.database_url)
    importer = imports.Importer(engine, settings, storage.Storage(settings.var / "storage"))
    clock = Clock()
    clock.on(headers, "read_header", "walk the header")
    clock.on(storage.PackWriter, "append", "write the bytes")
    clock.on(storage.PackWriter, "close", "sync the pack")
    clock.on(imports.chunks.Reader, "read", "open, read and hash the file")
    clock.on(imports.chunks, "judge", "look for duplicates")
    clock.on(imports.chunks, "_existing", "look for duplicates")
    clock.on(imports.chunks, "ensure_series", "find patient, study, series")
    clock.on(imports.chunks, "_member", "look at the header")
    clock.on(index, "prepare", "form groups, pack documents")
    clock.on(index, "ensure_fields", "write the header index")
    clock.on(index, "write", "write the header index")
    clock.on(imports.chunks, "_write_chunk", "write images and outcomes")
    clock.on(batches, "begin_chunk", "claim and begin the chunk")
    clock.on(jobs, "claim_next", "claim and begin the chunk")
    clock.on(imports.chunks, "import_chunk", "commit and the rest")
    with importer.work() as dbsession:
        batches.claim_arrival(dbsession, str(data), stamp="benchmark", now=datetime.now(UTC))
    began = time.perf_counter()
    while True:
        with importer.work() as dbsession:
            job = jobs.claim_next(dbsession, worker="benchmark", lease=600, now=datetime.now(UTC))
        if job is None:
            break
        handler = imports.chunks.import_chunk if job.kind == "import_chunk" else HANDLERS[job.kind]
        handler(importer, job)
    total = time.perf_counter() - began
    clock.seconds["list the folder, add the rows"] = total - sum(clock.seconds.values())
    print(f"one process: {len(files) / total:.0f} files/s; of the {total / len(files) * 1e6:.0f} us a file:")
    for step, seconds in clock.seconds.most_common():
        print(f"  {seconds / total:6.1%} {seconds / len(files) * 1e6:7.0f} us  {step}")


if __name__ == "__main__":
    main()
