"""A defect of the header reader costs one file, not its chunk."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import headers
from dicomweb.settings import Settings
from tests.dicom_files import write_series
from tests.importing import check_consistency, codes_of, import_folder, storage_of


def test_an_unforeseen_exception_is_the_outcome_of_its_file_alone(
    engine: sa.Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_series(tmp_path / "series", images=3)
    broken = files[1].read_bytes()
    read = headers.read_header

    def read_with_a_defect(data: bytes, **options: object) -> headers.Header:
        if data == broken:
            raise IndexError("Doe^Jane")
        return read(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(headers, "read_header", read_with_a_defect)
    batch = import_folder(engine, settings, tmp_path / "series")
    assert (batch.status, batch.image_count, batch.error_count) == ("DONE", 2, 1)
    assert codes_of(engine, batch)[files[1].name] == "reader-failed"
    check_consistency(engine, storage_of(settings))
