"""Images made for a test, imported as a worker does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb.models import Batch
from dicomweb.settings import Settings
from tests.dicom_files import image_bytes, uid
from tests.importing import import_folder

Import = Callable[..., Batch]


@pytest.fixture
def import_images(engine: sa.Engine, settings: Settings, tmp_path: Path) -> Import:
    """Import images, each given by the elements that make it different, as one batch; they are one study and series unless told else."""

    def import_(name: str, *images: dict[str, Any]) -> Batch:
        folder = tmp_path / "data" / name
        folder.mkdir()
        same = {"StudyInstanceUID": uid("study", name), "SeriesInstanceUID": uid("series", name)}
        for number, elements in enumerate(images, 1):
            (folder / f"{number:03d}.dcm").write_bytes(image_bytes(f"{name} {number}", **(same | elements)))
        return import_folder(engine, settings, folder)

    return import_
