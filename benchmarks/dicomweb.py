"""How fast DICOMweb is next to Orthanc: the same clients, the same images, in turns in one run.

    python -m benchmarks.dicomweb --corpus FOLDER [--corpus FOLDER ...] [--files N] [--keep FOLDER] [--rounds N] [--frames N] [--stow N]

Both servers are filled with the files of the folders, and then asked in turns, so that a slow minute of the machine hits both. The images
whose metadata, frames and pictures are asked for are those of the first folder; the others make the archive large. So 4,000 images with
real pixels and 60,000 small ones are two folders. ``--files`` takes only so many of each folder. ``--keep`` names a folder where both
archives stay, so that the next run needs not fill them.

Ours: all that ``dicomweb run`` starts (broker, web server, five workers, watcher) with its defaults, SQLite, and the lockdown on (the
clients send the password); filled through the watched folder. Orthanc: Debian's, with its DICOMweb plugin, SQLite, no authentication, one
HTTP thread a connection, and its defaults otherwise; filled by POST to ``/instances``. Answers are read whole; how many results a
search gives must be the same on both sides. ``cpu`` is the processor time of all processes of a server for one request.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid

from benchmarks.imports import CLIENTS, running, wait

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PASSWORD = "benchmark-of-dicomweb"
BOUNDARY = "benchmark"
JSON = "application/dicom+json"
# An answer that takes longer is asked for once only.
SLOW_SECONDS = 5.0


class Server(NamedTuple):
    """A server that runs. pid: of the process that started all others."""

    name: str
    port: int
    pid: int
    headers: dict[str, str]

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection that is kept."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=1800)

    def ask(self, connection: http.client.HTTPConnection, path: str, accept: str = JSON) -> bytes:
        """Get a resource of DICOMweb; only 200 will do."""
        connection.request("GET", "/dicom-web" + path, headers={**self.headers, "Accept": accept})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{self.name} answered {answer.status} to {path}: {content[:200]!r}")
        return content

    def cpu(self) -> float:
        """Tell the seconds of processor time that the server's processes have taken so far."""
        children: dict[int, list[int]] = {}
        ticks: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = entry.read_text().partition(" (")
            except OSError:
                continue
            fields = rest.rpartition(") ")[2].split()
            children.setdefault(int(fields[1]), []).append(int(pid))
            # Those that have ended count for the process that waited for them (proc(5)).
            ticks[int(pid)] = sum(map(int, fields[11:15]))
        of_server, total = [self.pid], 0
        while of_server:
            pid = of_server.pop()
            total += ticks.get(pid, 0)
            of_server += children.get(pid, ())
        return total / os.sysconf("SC_CLK_TCK")


class Row(NamedTuple):
    """One line of the result: seconds of one request, or of one file or frame, on both sides. bar: the ratio that is wanted."""

    name: str
    ours: float
    theirs: float
    our_cpu: float
    their_cpu: float
    bar: float

    def __str__(self) -> str:
        ratio = self.theirs / self.ours
        verdict = "" if ratio >= self.bar else f"  misses {self.bar:g}"
        return (
            f"{self.name:34} {self.ours * 1000:9.2f} {self.theirs * 1000:11.2f} {self.our_cpu * 1000:9.1f} {self.their_cpu * 1000:11.1f} {ratio:9.2f}{verdict}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, action="append", required=True, help="a folder of DICOM files; the first one has the images that are looked at")
    parser.add_argument("--files", type=int, default=None, help="take only so many files of each folder")
    parser.add_argument("--keep", type=Path, default=None, help="where the filled archives are, or are to stay")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=1000, help="frames and pictures in one round")
    parser.add_argument("--stow", type=int, default=200, help="files that are stored in one round")
    parser.add_argument("--only", default="", help="measure only that in whose name this regular expression is found")
    arguments = parser.parse_args()
    # So that the servers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if not PLUGIN.exists():
        raise SystemExit("Orthanc with its DICOMweb plugin is not installed")
    corpora = [sorted(path for path in corpus.rglob("*") if path.is_file() and path.suffix != ".tsv")[: arguments.files] for corpus in arguments.corpus]
    files = [path for corpus in corpora for path in corpus]
    print(f"{' + '.join(str(len(corpus)) for corpus in corpora)} files, {sum(path.stat().st_size for path in files) / len(files) / 1000:.1f} kB each")
    with tempfile.TemporaryDirectory(prefix="dicomweb-") as temporary, servers(arguments.keep or Path(temporary)) as (us, orthanc, place):
        fill(us, orthanc, place, files)
        comparison = Comparison(us, orthanc, arguments.rounds, arguments.only)
        print(f"{'ms (of one file, frame, request)':34} {'ours':>9} {'Orthanc':>11} {'our cpu':>9} {'Orthanc cpu':>11} {'times':>9}")
        comparison.searches(corpora[0])
        comparison.pixels(corpora[0], arguments.frames)
        comparison.stores(corpora[0], arguments.stow)


# The servers.


@contextmanager
def servers(place: Path) -> Iterator[tuple[Server, Server, Path]]:
    """Run both, with what is in the folder."""
    for folder in (place / "us" / "data", place / "us" / "var", place / "orthanc"):
        folder.mkdir(parents=True, exist_ok=True)
    our_port, their_port = free_port(), free_port()
    configuration = {
        "Name": "benchmark",
        "HttpPort": their_port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(place / "orthanc" / "storage"),
        "IndexDirectory": str(place / "orthanc" / "index"),
        "StorageCompression": False,
        "HttpThreadsCount": 50,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True},
    }
    (place / "orthanc.json").write_text(json.dumps(configuration))
    environment = {
        **os.environ,
        "DICOMWEB_VAR": str(place / "us" / "var"),
        "DICOMWEB_WATCH": str(place / "us" / "data"),
        "DICOMWEB_PORT": str(our_port),
        "DICOMWEB_PASSWORD": PASSWORD,
    }
    credentials = base64.b64encode(f"benchmark:{PASSWORD}".encode()).decode()
    orthanc = shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin") or "Orthanc"
    commands = [
        [sys.executable, "-c", "import sys; from dicomweb.cli import main; sys.exit(main())", "run"],
        [orthanc, str(place / "orthanc.json")],
    ]
    with running(commands, environment) as processes:
        us = Server("we", our_port, processes[0].pid, {"Authorization": f"Basic {credentials}"})
        them = Server("Orthanc", their_port, processes[1].pid, {})
        for server, process in zip((us, them), processes, strict=True):
            wait(lambda server=server, process=process: answers(server) or process.poll() is not None, server.name)
            if process.poll() is not None:
                raise SystemExit(f"{server.name} did not start")
        yield us, them, place


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(server: Server) -> bool:
    """Tell whether a server is up."""
    try:
        server.ask(server.connect(), "/studies?limit=1")
    except OSError:
        return False
    return True


def fill(us: Server, orthanc: Server, place: Path, files: Sequence[Path]) -> None:
    """Store the files in both, where that was not done in an earlier run."""
    note = place / "filled"
    if note.exists():
        print(f"both hold {note.read_text()} files of an earlier run")
        return
    began = time.perf_counter()
    drop = place / "us" / "data" / "corpus.tmp"
    for number, path in enumerate(files):
        target = drop / str(number // 256) / f"{number}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
    drop.rename(drop.with_suffix(""))
    wait(lambda: is_done(us), "the import", seconds=3600)
    imported = time.perf_counter()
    at_once([(post_instances, (orthanc.port, files[number::CLIENTS])) for number in range(CLIENTS)])
    note.write_text(str(len(files)))
    print(f"filled: we {len(files) / (imported - began):.0f} files/s, Orthanc {len(files) / (time.perf_counter() - imported):.0f} files/s", flush=True)


def is_done(us: Server) -> bool:
    """Tell whether all that was dropped is imported."""
    connection = us.connect()
    connection.request("GET", "/api/batches", headers=us.headers)
    found = json.loads(connection.getresponse().read())["results"]
    return bool(found) and all(batch["status"] == "DONE" for batch in found)


def post_instances(port: int, files: Sequence[Path]) -> None:
    """Store files in Orthanc by its own door."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for path in files:
        connection.request("POST", "/instances", body=path.read_bytes(), headers={"Content-Type": "application/dicom"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"Orthanc answered {answer.status} to {path}")


def at_once(calls: Sequence[tuple[Callable[..., None], tuple[object, ...]]]) -> float:
    """Run functions in processes of their own; give the seconds that all took."""
    clients = [multiprocessing.get_context("fork").Process(target=function, args=given) for function, given in calls]
    began = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if any(client.exitcode for client in clients):
        raise SystemExit("a client failed")
    return time.perf_counter() - began


# What is measured.


class Comparison:
    """Asks both servers for the same in turns, and prints a line for each."""

    def __init__(self, us: Server, orthanc: Server, rounds: int, only: str) -> None:
        self._both = (us, orthanc)
        self._rounds = rounds
        self._only = only

    def searches(self, files: Sequence[Path]) -> None:
        """Compare the forms of QIDO-RS, and metadata."""
        ds = dcmread(files[len(files) // 2], stop_before_pixels=True)
        study, series = f"/studies/{ds.StudyInstanceUID}", f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        year = ds.StudyDate[:4]
        forms = {
            "all studies": "/studies",
            "all series": "/series",
            "instances, 200": "/instances?limit=200",
            "series of a study": f"{study}/series",
            "instances of a study": f"{study}/instances",
            "instances of a series": f"{series}/instances",
            "studies by PatientID": f"/studies?PatientID={ds.PatientID}",
            "studies by date range": f"/studies?StudyDate={year}0101-{year}1231",
            "studies by PatientName with *": f"/studies?PatientName={str(ds.PatientName)[:3]}*",
            "studies by StudyInstanceUID": f"/studies?StudyInstanceUID={ds.StudyInstanceUID}",
            "series by SeriesInstanceUID": f"/series?SeriesInstanceUID={ds.SeriesInstanceUID}",
            "instances by SOPInstanceUID": f"/instances?SOPInstanceUID={ds.SOPInstanceUID}",
            "series of a modality": f"/series?Modality={ds.Modality}",
            "series of a study by modality": f"{study}/series?Modality={ds.Modality}",
            "studies with includefield": f"/studies?PatientID={ds.PatientID}&includefield=StudyDescription",
            "studies, limit and offset": "/studies?limit=50&offset=100",
            "instances, limit and offset": "/instances?limit=100&offset=20000",
        }
        for name, path in forms.items():
            self._requests(name, path, bar=3)
        self._requests("not indexed, instances", f"/instances?SliceLocation={ds.SliceLocation}", bar=500)
        self._requests("metadata of a series", f"{series}/metadata", bar=3)
        self._requests("metadata of a study", f"{study}/metadata", bar=3)

    def _requests(self, name: str, path: str, bar: float) -> None:
        if not re.search(self._only, name):
            return
        taken: list[list[float]] = [[], []]
        cpu = [0.0, 0.0]
        found = [len(json.loads(server.ask(server.connect(), path))) for server in self._both]
        if found[0] != found[1]:
            print(f"note: {name}: we give {found[0]} results, Orthanc {found[1]}")
        for turn in range(self._rounds):
            for which, server in enumerate(self._both):
                if turn and taken[which][0] > SLOW_SECONDS:
                    continue
                # A new one each turn: Orthanc closes a connection that is idle.
                connection = server.connect()
                used, began = server.cpu(), time.perf_counter()
                repeats = 0
                # Processor time is told in hundredths of a second.
                while not repeats or time.perf_counter() - began < 0.25:
                    server.ask(connection, path)
                    repeats += 1
                taken[which].append((time.perf_counter() - began) / repeats)
                cpu[which] = (server.cpu() - used) / repeats
        print(Row(f"{name} ({found[0]})", statistics.median(taken[0]), statistics.median(taken[1]), *cpu, bar), flush=True)

    def pixels(self, files: Sequence[Path], count: int) -> None:
        """Compare frames and pictures, each asked for once, by five clients at once and by one."""
        addresses = []
        for path in files:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
            addresses.append(f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}")
        octets = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
        for name, end, accept in (("frames", "/frames/1", octets), ("rendered", "/rendered", "image/jpeg")):
            for clients in (CLIENTS, 1):
                self._turns(f"{name}, {clients} at once", lambda server, at, end=end, accept=accept, clients=clients: self._pictures(
                    server, [address + end for address in (addresses * 2)[at : at + count]], accept, clients), min(count, len(addresses)), len(addresses))  # fmt: skip

    @staticmethod
    def _pictures(server: Server, paths: Sequence[str], accept: str, clients: int) -> float:
        return at_once([(ask_all, (server, paths[number::clients], accept)) for number in range(clients)])

    def stores(self, files: Sequence[Path], count: int) -> None:
        """Compare STOW-RS with new instances: one a request, from one client and from five, and a hundred a request."""
        for name, of_request, clients in (("one a request", 1, 1), (f"one a request, {CLIENTS} at once", 1, CLIENTS), ("100 a request", 100, 1)):
            bodies = []
            for turn in range(self._rounds):
                new = renewed(files[turn * count % len(files) :][:count])
                bodies.append([body_of(new[start : start + of_request]) for start in range(0, len(new), of_request)])
            turns = iter(range(2 * self._rounds))
            self._turns(f"STOW, {name}", lambda server, _, bodies=bodies, turns=turns, clients=clients: self._store(
                server, bodies[next(turns) // 2], clients), count, len(files))  # fmt: skip

    @staticmethod
    def _store(server: Server, bodies: Sequence[bytes], clients: int) -> float:
        return at_once([(store_all, (server, bodies[number::clients])) for number in range(clients)])

    def _turns(self, name: str, run: Callable[[Server, int], float], count: int, among: int) -> None:
        if not re.search(self._only, name):
            return
        taken: list[list[float]] = [[], []]
        cpu: list[list[float]] = [[], []]
        for turn in range(self._rounds):
            for which, server in enumerate(self._both):
                used = server.cpu()
                taken[which].append(run(server, turn * count % among) / count)
                cpu[which].append((server.cpu() - used) / count)
        print(Row(name, *map(statistics.median, taken), *map(statistics.median, cpu), bar=1), flush=True)


def ask_all(server: Server, paths: Sequence[str], accept: str) -> None:
    """Get resources one after the other."""
    connection = server.connect()
    for path in paths:
        server.ask(connection, path, accept)


def renewed(files: Sequence[Path]) -> list[bytes]:
    """Give files as other instances of other studies, so that they are new to both servers."""
    studies: dict[str, str] = {}
    contents = []
    for path in files:
        ds = dcmread(path)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(ds, name, studies.setdefault(ds[name].value, generate_uid(None)))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        buffer = io.BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        contents.append(buffer.getvalue())
    return contents


def body_of(files: Sequence[bytes]) -> bytes:
    """Make the body of a request to store."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + content + b"\r\n" for content in files) + f"--{BOUNDARY}--\r\n".encode()


def store_all(server: Server, bodies: Sequence[bytes]) -> None:
    """Store bodies one after the other; all of them must be taken."""
    connection = server.connect()
    headers = {**server.headers, "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}', "Accept": JSON}
    for body in bodies:
        connection.request("POST", "/dicom-web/studies", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{server.name} answered {answer.status} to what was stored: {content[:200]!r}")


if __name__ == "__main__":
    main()
