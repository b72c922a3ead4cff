"""What the tests of retrieving share: real files, imported, and how to take an answer apart."""

from __future__ import annotations

import email.parser
import email.policy
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicomweb import storage
from dicomweb.imports import Importer
from tests import dicom_files
from tests.functional import api_data

ROOT = "/dicom-web"
OCTETS = 'multipart/related; type="application/octet-stream"'
LITTLE = "1.2.840.10008.1.2.1"
# What is between the rows and the client does not depend on the database; each kind of row is read on both by some test.
once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def address(ds: Any, *more: str) -> str:
    """Give the address of the instance of a dataset."""
    return "/".join((ROOT, "studies", ds.StudyInstanceUID, "series", ds.SeriesInstanceUID, "instances", ds.SOPInstanceUID, *more))


def get(api: Any, path: str, accept: str | None = None, **headers: str) -> Any:
    """Send a GET, whatever its answer."""
    return api.send("GET", path, headers={**({} if accept is None else {"Accept": accept}), **headers})


def parts(answer: Any) -> list[tuple[dict[str, str], bytes]]:
    """Take a multipart answer apart, with the standard library and by hand; both must agree."""
    content_type = answer.headers["Content-Type"]
    boundary = re.search(r"boundary=([0-9a-f]{32})$", content_type)
    assert boundary, content_type
    delimiter = b"--" + boundary[1].encode()
    body: bytes = answer.body
    assert body.startswith(delimiter + b"\r\n")
    assert body.endswith(b"\r\n" + delimiter + b"--\r\n")
    found = []
    for piece in body[len(delimiter) + 2 : -len(delimiter) - 6].split(b"\r\n" + delimiter + b"\r\n"):
        head, _, content = piece.partition(b"\r\n\r\n")
        assert head.startswith(b"Content-Type: ")
        found.append((dict(line.split(": ", 1) for line in head.decode().split("\r\n")), content))
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    assert message.is_multipart()
    assert len(message.get_payload()) == len(found)
    return found


def write(folder: Path, *sources: Path | bytes) -> Path:
    """Make a folder with copies of files."""
    folder.mkdir(parents=True)
    for number, source in enumerate(sources):
        (folder / f"{number}.dcm").write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    return folder


def import_files(importer: Importer, folder: Path, *sources: Path | bytes) -> list[Any]:
    """Import files; give their datasets."""
    api_data.import_folder(importer, write(folder, *sources))
    return [pydicom.dcmread(io.BytesIO(source) if isinstance(source, bytes) else source) for source in sources]


def sample(files: tuple[Path, ...], name: str) -> Path:
    """Give pydicom's file with this name."""
    return next(path for path in files if path.name == name)


def report(seed: str) -> bytes:
    """Make an object that is no image."""
    return dicom_files.image_bytes(
        seed, PixelData=None, Rows=None, Columns=None, BitsAllocated=None, BitsStored=None, HighBit=None, Modality="SR",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
    )  # fmt: skip


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Note the reads of stored files: (length, offset) each."""
    made: list[tuple[int, int]] = []
    real = storage._pread

    def pread(fd: int, length: int, offset: int) -> bytes:
        made.append((length, offset))
        return real(fd, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_pread", pread)
        yield made
