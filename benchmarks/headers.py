"""How fast headers are read: the walker against pydicom, interleaved in one process.

    python -m benchmarks.headers [--source DIR] [--files N] [--rounds N]

Compared for each set of files: ``read_header`` on the first 64 KiB of a file with ``pread`` for the rest, as an import reads;
``dcmread`` with every value converted, at every depth; ``dcmread(stop_before_pixels=True)`` that converts nothing. The sets
are the files that come with pydicom and one series, from ``--source`` or written by tests.dicom_files.
"""

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom

from dicomweb.headers import HeaderError, forget, read_header
from tests.dicom_files import write_series

FIRST_BYTES = 64 << 10


def walk(path: Path) -> None:
    """Read a header as an import does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        read_header(
            os.pread(descriptor, FIRST_BYTES, 0), size=size, pread=lambda at, count: os.pread(descriptor, count, at)
        )
    finally:
        os.close(descriptor)


def convert_all(path: Path) -> None:
    """Read a file with pydicom and convert every value."""
    for elem in pydicom.dcmread(path).iterall():
        _ = elem.value


def stop_before_pixels(path: Path) -> None:
    """Read a file with pydicom up to its pixels and convert nothing."""
    pydicom.dcmread(path, stop_before_pixels=True)


READERS: dict[str, Callable[[Path], None]] = {
    "read_header": walk,
    "dcmread, all values": convert_all,
    "dcmread, before pixels": stop_before_pixels,
}


def readable(paths: list[Path]) -> list[Path]:
    """Return the files that both can read."""
    found = []
    for path in paths:
        try:
            walk(path)
            convert_all(path)
        except (HeaderError, pydicom.errors.InvalidDicomError, ValueError, KeyError, AttributeError):
            continue
        found.append(path)
    return found


def compare(name: str, paths: list[Path], rounds: int) -> None:
    """Print files per second of every reader, and how many times faster the walker is."""
    paths = readable(paths)
    forget()
    seconds = dict.fromkeys(READERS, 0.0)
    for _ in range(rounds):
        # In pieces, so that what else the machine does meets all readers alike.
        for start in range(0, len(paths), 20):
            for reader, read in READERS.items():
                begin = time.perf_counter()
                for path in paths[start : start + 20]:
                    read(path)
                seconds[reader] += time.perf_counter() - begin
    print(f"{name}: {len(paths)} files, {rounds} rounds")
    for reader, taken in seconds.items():
        ratio = taken / seconds["read_header"]
        print(f"  {reader:24} {rounds * len(paths) / taken:9.0f} files/s  {ratio:6.1f}")


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="a folder with the files of a series")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    own = Path(pydicom.__file__).parent / "data" / "test_files"
    compare("files of pydicom", sorted(own.glob("*.dcm"))[: arguments.files], arguments.rounds)
    if arguments.source:
        files = sorted(path for path in arguments.source.rglob("*") if path.is_file())
        compare(str(arguments.source), files[: arguments.files], arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare("a written series", write_series(Path(folder), arguments.files, seed=1), arguments.rounds)


if __name__ == "__main__":
    main()
