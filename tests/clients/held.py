"""What a server of the tests holds, told without asking it, and what pydicom makes of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array

from dicomweb.db import work
from dicomweb.models import Image, Series, Study

MOST_FRAMES = 12
_UID = re.compile(r"[0-9]+([.][0-9]+)*")

Uids = tuple[str, str, str]


class Held(NamedTuple):
    """A server: its address, and the files that a search finds there, by StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID."""

    address: str
    files: dict[Uids, Path]

    @property
    def addressed(self) -> dict[Uids, Path]:
        """The files whose UIDs are some: clients ask for no others, such as the paths of files that a few samples have there."""
        return {uids: path for uids, path in self.files.items() if all(map(_UID.fullmatch, uids))}

    def in_study(self, study_uid: str) -> dict[Uids, Path]:
        """Give the files of a study."""
        return {uids: path for uids, path in self.files.items() if uids[0] == study_uid}

    def below(self, *folders: str) -> dict[Uids, Path]:
        """Give the files below sample folders with these names."""
        return {uids: path for uids, path in self.files.items() if set(folders) & set(path.parts)}


def files_of(engine: sa.Engine, folder: Path) -> dict[Uids, Path]:
    """Tell which files of an imported folder are instances of DICOMweb: of several with the same UIDs the first one."""
    columns = (Study.study_instance_uid, Series.series_instance_uid, Image.sop_instance_uid, Image.path)
    imported = (
        sa.select(*columns)
        .select_from(Image)
        .join(Series, Series.id == Image.series_id)
        .join(Study, Study.id == Series.study_key)
        .where(Image.status == "DONE", Study.study_instance_uid != "", Series.series_instance_uid != "")
        .order_by(Image.header_key)
    )
    found: dict[Uids, Path] = {}
    with work(engine, read_only=True) as dbsession:
        for study, series, instance, path in dbsession.execute(imported):
            found.setdefault((study, series, instance), folder / path)
    return found


@cache
def header_of(path: Path) -> Dataset:
    """Read a file without its pixels."""
    return dcmread(path, force=True, stop_before_pixels=True)


def has_preamble(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do; clients read no others."""
    return path.read_bytes()[128:132] == b"DICM"


def is_image(ds: Dataset) -> bool:
    """Tell whether a file has pixels at all."""
    return "Rows" in ds and any(keyword in ds for keyword in ("PixelData", "FloatPixelData"))


def expected_frames(ds: Dataset, most: int = MOST_FRAMES) -> list[bytes] | None:
    """Give the first frames as pydicom decodes them and the header describes them; None where pydicom does not."""
    frames = []
    try:
        count = min(int(ds.get("NumberOfFrames", 1) or 1), most)
        for index in range(count):
            values = pixel_array(ds, index=index)
            if ds.BitsAllocated == 1:
                frames.append(np.packbits(values.reshape(-1), bitorder="little").tobytes())
                continue
            if values.ndim == 3 and ds.get("PlanarConfiguration") == 1:
                values = values.transpose(2, 0, 1)
            frames.append(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    except Exception:  # noqa: BLE001  Whatever pydicom raises: it gives no pixels.
        return None
    return frames
