"""The images of a result as a ZIP file."""

from __future__ import annotations

import io
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.models import Image, unescape_path
from dicomweb.search import archives
from dicomweb.settings import Settings
from tests.dicom_files import write_series
from tests.importing import bytes_of, changed, import_folder, rows, storage_of
from tests.unit.dicomweb.search.conftest import Import


def archive_of(engine: sa.Engine, settings: Settings, node: query.Node = query.EVERYTHING) -> zipfile.ZipFile:
    with work(engine, read_only=True) as dbsession:
        pieces = b"".join(search.export_images(dbsession, node, storage_of(settings)))
    return zipfile.ZipFile(io.BytesIO(pieces))


def manifest_of(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    head, *lines = archive.read(search.MANIFEST).decode().splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


@pytest.mark.parametrize("held", [0, 1 << 20])
def test_it_holds_the_bytes_of_every_image_under_names_of_our_own(
    engine: sa.Engine, settings: Settings, import_images: Import, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(archives, "_HELD", held)
    import_images("zipped", *({"PatientID": f"../../{number}"} for number in range(5)))
    archive = archive_of(engine, settings)
    assert archive.testzip() is None
    images = rows(engine, sa.select(Image))
    assert {line["SOPInstanceUID"]: archive.read(line["file"]) for line in manifest_of(archive)} == {image.sop_instance_uid: bytes_of(engine, settings, image) for image in images}
    assert set(archive.namelist()) == {f"study-1/series-1/image-{image.id}.dcm" for image in images} | {search.MANIFEST}
    assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_the_manifest_tells_where_a_file_came_from_whatever_its_name(engine: sa.Engine, settings: Settings, import_images: Import, tmp_path: Path) -> None:
    import_images("plain", {})
    folder = tmp_path / "data" / "odd"
    folder.mkdir()
    name = "=1\ttab\nline\\back \udcff.dcm"
    shutil.move(str(tmp_path / "data" / "plain" / "001.dcm"), folder / name)
    import_images("more", {"PatientID": "2"})
    (tmp_path / "data" / "more" / "001.dcm").rename(folder / "x.dcm")
    with work(engine) as dbsession:
        dbsession.execute(sa.update(Image).where(Image.id == 1).values(path=name))
    lines = manifest_of(archive_of(engine, settings))
    assert lines[0]["path"].startswith("'=1")
    assert unescape_path(lines[0]["path"][1:]) == name


def test_an_image_whose_bytes_are_gone_is_named_and_the_others_are_given(engine: sa.Engine, settings: Settings, tmp_path: Path) -> None:
    by_reference = changed(settings, import__mode="reference")
    folder = tmp_path / "data" / "referenced"
    folder.mkdir()
    files = write_series(folder, 3)
    import_folder(engine, by_reference, folder)
    files[1].unlink()
    lines = manifest_of(archive_of(engine, by_reference))
    assert [bool(line["file"]) for line in lines] == [True, False, True]
    assert "cannot be opened" in lines[1]["problem"]


def test_sizes_beyond_four_gigabytes_have_records_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = io.BytesIO()
    archive = archives._Zip(directory, datetime(2026, 1, 1, tzinfo=UTC))
    first = archive.begin("a", 5 << 30, 1)
    archive.close(5 << 30)
    archive.begin("b", 3, 2)
    archive.close(3)
    tail = b"".join(archive.end())
    assert first[:4] == b"PK\x03\x04"
    # Only the directory is read: what lies before it is not there.
    sparse = _Sparse((5 << 30) + 3 + len(first) + 31, tail)
    infos = zipfile.ZipFile(sparse).infolist()  # type: ignore[call-overload]
    assert [(info.filename, info.file_size, info.header_offset) for info in infos] == [("a", 5 << 30, 0), ("b", 3, (5 << 30) + len(first))]


class _Sparse(io.RawIOBase):
    """A file of which only the end is there."""

    def __init__(self, before: int, tail: bytes) -> None:
        self._before, self._tail, self._at = before, tail, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._before + len(self._tail))[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        start = self._at - self._before
        found = self._tail[start:] if size < 0 else self._tail[start : start + size]
        self._at += len(found)
        return found


def test_nothing_is_an_archive_with_a_manifest(engine: sa.Engine, settings: Settings) -> None:
    archive = archive_of(engine, settings)
    assert archive.namelist() == [search.MANIFEST]
    assert manifest_of(archive) == []
