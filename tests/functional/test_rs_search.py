"""QIDO-RS: what is asked is found, told as PS3.18 10.6 says, and refused when it cannot be understood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from webob import Request

from dicomweb.imports import Importer
from dicomweb.rs import attributes
from tests import dicom_files
from tests.functional import api_data
from tests.statements import statements

SHARED = dicom_files.uid("study", "shared")
PREFIX = "/dicom-web"

Get = Callable[..., Any]


@pytest.fixture
def get(api: api_data.CheckedApp) -> Get:
    """Send a GET request below the prefix."""

    def send(path: str, accept: str = "application/dicom+json") -> Any:
        return api.send("GET", PREFIX + path, headers={"Accept": accept})

    return send


def value(row: dict[str, Any], tag: str) -> Any:
    values = row[tag].get("Value", [None])
    return values[0] if len(values) == 1 else values


def write_special(folder: Path) -> None:
    """Write images that differ in what the questions below ask for."""
    folder.mkdir(parents=True)
    request = Dataset()
    request.ScheduledProcedureStepID = "STEP1"
    rows: dict[str, dict[str, Any]] = {
        "a": {"PatientID": "SA", "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "StudyDate": "20200115", "StudyTime": "093000", "SliceThickness": "0.5"},
        "b": {"PatientID": "SB", "PatientName": "Müller^Anna", "StudyDate": "20200630", "StudyTime": "1200", "RequestAttributesSequence": Sequence([request])},
        "c": {"PatientID": "SC,1", "PatientName": "Smith^John", "StudyDate": "20210101", "StudyTime": "235959.5", "Modality": "MR", "AccessionNumber": "*"},
        "d": {"PatientID": "SD", "PatientName": "", "StudyDate": None, "StudyTime": "", "Modality": "SR", "AccessionNumber": None},
    }
    for name, keywords in rows.items():
        dicom_files.write_series(folder / name, images=2, seed=f"special {name}", **keywords)


# Which of the studies a to d a question finds.
MATCHES = {
    "": "abcd",
    "PatientID=": "abcd",
    "PatientID=*": "abcd",
    "PatientID=SA": "a",
    "patientid=SA": "a",
    "00100020=SA": "a",
    "PatientID=sa": "a",
    "PatientID=S?": "abd",
    "PatientID=S%3F": "abd",
    "PatientID=S*": "abcd",
    "PatientID=S%2A": "abcd",
    "PatientID=SC,1": "c",
    "PatientID=SC%2C1": "c",
    "PatientID=SA&PatientID=SB": "ab",
    "PatientID=SA%5CSB": "ab",
    "PatientID=SA&Modality=MR": "",
    "PatientName=yamada": "a",
    "PatientName=Yamada%5E*": "a",
    "PatientName=" + quote("山田*"): "a",
    "PatientName=muller": "b",
    "PatientName=*smith*": "c",
    "PatientName=Smith%5EJohn": "c",
    "StudyDate=20200115": "a",
    "StudyDate=20200101-20200630": "ab",
    "StudyDate=20200630-": "bc",
    "StudyDate=-20200630": "ab",
    "StudyDate=20200116-20200629": "",
    "00080020=20210101-20210101": "c",
    "StudyTime=0900-1000": "a",
    "StudyTime=093000": "a",
    "StudyTime=-120000": "ab",
    "StudyTime=235959.5": "c",
    "SliceThickness=0.50": "a",
    "ModalitiesInStudy=MR": "c",
    "ModalitiesInStudy=MR,SR": "cd",
    "ModalitiesInStudy=MR%5CSR": "cd",
    "ModalitiesInStudy=MR&ModalitiesInStudy=SR": "cd",
    "ModalitiesInStudy=?R": "cd",
    "Modality=CT": "ab",
    "SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.2": "abcd",
    "InstanceAvailability=ONLINE": "abcd",
    "InstanceAvailability=OFFLINE": "",
    "RequestAttributesSequence.ScheduledProcedureStepID=STEP1": "b",
    "00400275.00400009=STEP*": "b",
    "RequestAttributesSequence.00400009=other": "",
    "0019[EXAMPLE PRIVATE 1.0]02=private text": "abcd",
    "00191002=private*": "abcd",
    "0019AA02=private text": "abcd",
    "00191003=12.5": "abcd",
    "00191003=13": "",
    "00210010=nobody": "",
    "00211099=nothing": "",
    "AvailableTransferSyntaxUID=1.2.840.10008.1.2.1": "abcd",
    'AccessionNumber=""&emptyvaluematching=true': "d",
    'PatientName=""&emptyvaluematching=true': "d",
    f"StudyInstanceUID={dicom_files.uid('study', 'special a')}": "a",
    f"StudyInstanceUID={dicom_files.uid('study', 'special a')},{dicom_files.uid('study', 'special b')},1.2": "ab",
    f"SeriesInstanceUID={dicom_files.uid('series', 'special c')}": "c",
    f"SOPInstanceUID={dicom_files.uid('instance', 'special d/1')}%5C1.2.3": "d",
    "StudyInstanceUID=1.2": "",
    "FrameOfReferenceUID=" + dicom_files.uid("frame of reference", "special a"): "a",
}


def test_every_form_of_matching_finds_its_studies(get: Get, importer: Importer, tmp_path: Path) -> None:
    write_special(tmp_path / "special")
    api_data.import_folder(importer, tmp_path / "special")
    names = {dicom_files.uid("study", f"special {name}"): name for name in "abcd"}
    found = {}
    for question in MATCHES:
        answer = get(f"/studies?{question}")
        assert answer.status_int == 200, (question, answer.body)
        found[question] = "".join(sorted(names[value(row, attributes.STUDY_UID)] for row in answer.json))
    assert found == MATCHES
    # A series or an image is found by the same question as its study.
    for question, expected in MATCHES.items():
        assert len(get(f"/series?{question}").json) == len(expected), question
        images = 1 if question.startswith("SOPInstanceUID") else 2
        assert len(get(f"/instances?{question}").json) == images * len(expected), question


def test_the_required_attributes_are_there_even_without_a_value(get: Get, importer: Importer, tmp_path: Path) -> None:
    write_special(tmp_path / "special")
    api_data.import_folder(importer, tmp_path / "special")
    (row,) = get("/studies?PatientID=SD").json
    study = dicom_files.uid("study", "special d")
    assert row == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080020": {"vr": "DA"},
        "00080030": {"vr": "TM"},
        "00080050": {"vr": "SH"},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["SR"]},
        "00080090": {"vr": "PN", "Value": [{"Alphabetic": "Doctor^Some"}]},
        "00081190": {"vr": "UR", "Value": [f"http://localhost{PREFIX}/studies/{study}"]},
        "00100010": {"vr": "PN"},
        "00100020": {"vr": "LO", "Value": ["SD"]},
        "00100030": {"vr": "DA", "Value": ["19600229"]},
        "00100040": {"vr": "CS", "Value": ["M"]},
        "0020000D": {"vr": "UI", "Value": [study]},
        "00200010": {"vr": "SH", "Value": ["1"]},
        "00201206": {"vr": "IS", "Value": [1]},
        "00201208": {"vr": "IS", "Value": [2]},
    }
    (series,) = get(f"/studies/{dicom_files.uid('study', 'special b')}/series").json
    assert value(series, "00080060") == "CT"
    assert value(series, "00201209") == 2
    assert value(series, "0020000E") == dicom_files.uid("series", "special b")
    assert series["00400275"]["Value"][0]["00400009"]["Value"] == ["STEP1"]
    assert "00100020" not in series
    (of_all,) = get("/series?PatientID=SB").json
    assert set(of_all) == set(series) | set(row)
    instances = get(f"/studies/{study}/series/{dicom_files.uid('series', 'special d')}/instances").json
    assert [value(one, "00200013") for one in instances] == [1, 2]
    assert {tag: value(instances[0], tag) for tag in ("00080016", "00280010", "00280011", "00280100", "00080056", "00083002")} == {
        "00080016": "1.2.840.10008.5.1.4.1.1.2", "00280010": 16, "00280011": 16, "00280100": 16, "00080056": "ONLINE", "00083002": "1.2.840.10008.1.2.1",
    }  # fmt: skip
    assert "00100020" not in instances[0]
    assert "00080060" not in instances[0]
    assert set(get(f"/studies/{study}/instances").json[0]) > set(instances[0]) | {"00080060"}
    assert set(get("/instances?PatientID=SD").json[0]) >= set(row) | set(instances[0])


@pytest.mark.usefixtures("imported")
def test_counts_and_modalities_are_those_of_the_whole_study(get: Get) -> None:
    (row,) = get(f"/studies?Modality=MR&StudyInstanceUID={SHARED}").json
    assert (value(row, "00080061"), value(row, "00201206"), value(row, "00201208")) == (["CT", "MR"], 2, 5)
    assert [value(series, "00201209") for series in get(f"/studies/{SHARED}/series").json] == [3, 2]
    assert len(get(f"/studies/{SHARED}/series?ModalitiesInStudy=MR").json) == 2
    assert len(get(f"/studies/{SHARED}/series?Modality=MR").json) == 1
    assert len(get(f"/studies/{SHARED}/instances?InstanceNumber=1").json) == 2


@pytest.mark.usefixtures("imported")
def test_an_image_in_conflict_is_no_second_instance(get: Get, engine: sa.Engine) -> None:
    uids = [value(row, attributes.SOP_UID) for row in get("/instances").json]
    addresses = [value(row, attributes.RETRIEVE_URL) for row in get("/instances").json]
    assert len(set(addresses)) == len(addresses) == len(uids)
    # The other bytes are in a series of their own, where they are the only ones with this UID.
    assert uids.count(dicom_files.uid("instance", "one/0")) == 2


def test_a_study_of_two_patients_is_one_study_with_a_note(get: Get, importer: Importer, tmp_path: Path) -> None:
    study = dicom_files.uid("study", "twice")
    # Large series have a group of the index each, small ones share one.
    for folder, images in (("large", 9), ("small", 2)):
        for patient in ("P1", "P2"):
            seed = f"{folder} {patient}"
            dicom_files.write_series(tmp_path / folder / patient, images=images, seed=seed, PatientID=patient, StudyInstanceUID=f"{study}.{images}")
        dicom_files.write_series(tmp_path / folder / "other", images=images, seed=f"{folder} other", PatientID="P3")
        api_data.import_folder(importer, tmp_path / folder)
    assert len(get("/studies").json) == 4
    for images in (9, 2):
        for question, patient in ((f"StudyInstanceUID={study}.{images}", "P1"), (f"StudyInstanceUID={study}.{images}&PatientID=P2", "P2")):
            answer = get(f"/studies?{question}")
            (row,) = answer.json
            assert (value(row, "00100020"), value(row, "00201206"), value(row, "00201208")) == (patient, 2, 2 * images)
            assert answer.headers["Warning"] == f'299 http://localhost{PREFIX}: "1 of these studies has images of several patients; the first of them is told"'
    assert "Warning" not in get("/studies?PatientID=P3").headers


def test_lists_say_the_same_as_searches_that_find_everything(get: Get, imported: int, importer: Importer, tmp_path: Path) -> None:
    del imported
    write_special(tmp_path / "special")
    api_data.import_folder(importer, tmp_path / "special")
    # The one is read from the rows of studies and series, the other from the documents of the index.
    fields = "StudyDescription,SeriesDescription,SeriesDate"
    for resource in ("studies", "series", f"studies/{SHARED}/series"):
        listed = get(f"/{resource}?includefield={fields}").json
        assert len(listed) > 1
        assert get(f"/{resource}?includefield={fields}&StudyInstanceUID=1.*").json == listed
    for resource in ("instances", f"studies/{SHARED}/instances"):
        assert get(f"/{resource}?SOPInstanceUID=1.*").json == get(f"/{resource}").json


@pytest.mark.usefixtures("imported")
def test_what_is_asked_for_is_given_too(get: Get) -> None:
    one = f"/instances?SOPInstanceUID={dicom_files.uid('instance', 'one/1')}"
    plain = get(one).json[0]
    assert "00080070" not in plain
    for field, tag, expected in (
        ("Manufacturer", "00080070", "Example"),
        ("00080070", "00080070", "Example"),
        ("ReferencedImageSequence.ReferencedSOPClassUID", "00081140", None),
        ("00191002", "00191002", "private text"),
        ("0019[EXAMPLE PRIVATE 1.0]02", "00191002", "private text"),
        ("PatientAge,Manufacturer", "00101010", "063Y"),
    ):
        row = get(f"{one}&includefield={quote(field)}").json[0]
        assert tag in row, field
        if expected is not None:
            assert value(row, tag) == expected
    private = get(f"{one}&includefield=" + quote("0019[EXAMPLE PRIVATE 1.0]02")).json[0]
    assert value(private, "00190010") == "EXAMPLE PRIVATE 1.0"
    assert "00191003" not in private
    repeated = get(f"{one}&includefield=PatientAge&includefield=KVP").json[0]
    assert {"00101010", "00180060"} <= set(repeated)
    assert value(get(f"{one}&KVP=120").json[0], "00180060") == 120
    assert "00180060" not in get(f"{one}&includefield=SliceLocation").json[0]
    for asked in ("includefield=SOPClassesInStudy", "SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.2"):
        row = get(f"/studies?StudyInstanceUID={SHARED}&{asked}").json[0]
        assert row["00080062"] == {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}
    assert "00080062" not in get(f"/studies?StudyInstanceUID={SHARED}").json[0]
    complete = get(f"{one}&includefield=all").json[0]
    assert set(complete) > set(plain) | {"00191002", "00191003", "00081140"}
    address = value(complete, "00081190")
    assert complete["7FE00010"]["BulkDataURI"] == f"{address}/bulkdata/7FE00010"
    study = get(f"/studies?StudyInstanceUID={SHARED}&includefield=all").json[0]
    assert value(study, "00081030") == "Thorax"
    assert "00280010" not in study
    assert "7FE00010" not in get(f"/studies?StudyInstanceUID={SHARED}&includefield=PixelData,Rows").json[0]


def test_pages_have_a_stable_order_and_say_how_many_remain(get: Get, importer: Importer, tmp_path: Path) -> None:
    for number in range(7):
        dicom_files.write_series(tmp_path / "many" / str(number), images=2, seed=f"page {number}")
    api_data.import_folder(importer, tmp_path / "many")
    for resource, total in (("studies", 7), ("series", 7), ("instances", 14)):
        whole = [value(row, attributes.RETRIEVE_URL) for row in get(f"/{resource}").json]
        assert len(set(whole)) == total
        paged = []
        for offset in range(0, total, 3):
            answer = get(f"/{resource}?limit=3&offset={offset}")
            remaining = total - offset - 3
            warnings = answer.headers.getall("Warning")
            assert warnings == ([f'299 http://localhost{PREFIX}: "There are {remaining} additional results that can be requested"'] if remaining > 0 else [])
            paged += [value(row, attributes.RETRIEVE_URL) for row in answer.json]
        assert paged == whole
        assert get(f"/{resource}?offset={total}").json == []
        assert get(f"/{resource}?offset=999999999999").json == []
        assert get(f"/{resource}?limit=0").json == []
        far = get(f"/{resource}?limit=10000&offset=5").json
        assert [value(row, attributes.RETRIEVE_URL) for row in far] == whole[5:]
    assert [value(row, attributes.RETRIEVE_URL) for row in get("/instances?limit=5&offset=20000").json] == []


def test_the_number_of_statements_does_not_depend_on_the_results(api: api_data.CheckedApp, get: Get, importer: Importer, tmp_path: Path) -> None:
    questions = [
        "/studies", "/series", "/instances", "/instances?includefield=all", "/studies?ModalitiesInStudy=CT&includefield=SliceThickness", "/instances?00191002=private*",
    ]  # fmt: skip
    counts = []
    for number in (2, 12):
        for study in range(number):
            dicom_files.write_series(tmp_path / f"n{number}" / str(study), images=3, seed=f"count {number} {study}")
        api_data.import_folder(importer, tmp_path / f"n{number}")
        ran_by = []
        for question in questions:
            with statements(api.app.registry["engine"]) as ran:
                assert get(question).status_int == 200
            ran_by.append(len(ran))
        counts.append(ran_by)
    assert counts[0] == counts[1]
    assert max(counts[0]) <= 20


@pytest.mark.usefixtures("imported")
def test_fuzzy_matching_is_said_not_to_be_done(get: Get) -> None:
    answer = get("/studies?fuzzymatching=true&PatientName=nobody")
    assert (answer.status_int, answer.json) == (200, [])
    assert answer.headers["Warning"].startswith(f'299 http://localhost{PREFIX}: "The fuzzymatching parameter is not supported.')
    assert "Warning" not in get("/studies?fuzzymatching=false").headers


@pytest.mark.usefixtures("imported")
def test_answers_are_json_or_xml_as_the_client_wants(get: Get) -> None:
    assert get("/studies").headers["Content-Type"] == "application/dicom+json"
    assert get("/studies", accept="application/json").headers["Content-Type"] == "application/json"
    assert get("/studies?accept=application/json").headers["Content-Type"] == "application/json"
    answer = get("/studies", accept='multipart/related; type="application/dicom+xml"')
    kind, _, rest = answer.headers["Content-Type"].partition(";")
    boundary = rest.rpartition("boundary=")[2]
    assert kind == "multipart/related"
    parts = answer.body.split(f"--{boundary}".encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    assert len(parts) - 2 == len(get("/studies").json)
    assert all(part.startswith(b"\r\nContent-Type: application/dicom+xml\r\n\r\n<?xml") for part in parts[1:-1])
    assert get("/studies?PatientID=nobody").body == b"[]"
    nothing = get("/studies?PatientID=nobody", accept='multipart/related; type="application/dicom+xml"')
    assert (nothing.status_int, nothing.body) == (204, b"")


REFUSED = [
    "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=1.5", "limit=%2B1", "limit=99999999999999999999", "offset=-1", "offset=x", "offset=",
    "fuzzymatching=yes", "fuzzymatching=", "emptyvaluematching=1", "PatientNam=x", "foo=bar", "=x", "x", "0010002=1", "00100020.=1", ".=1", "PatientID.PatientName=1",
    "includefield=foo", "includefield=PatientID,foo", "includefield=**.CodeValue", "**.CodeValue=1", "StudyDate=abc", "StudyDate=20201301", "StudyDate=-", "StudyDate=20200101-20209999",
    "StudyTime=noon", "StudyTime=2500", "SliceThickness=thick", "Rows=1-2", "PatientAge=old", "RequestAttributesSequence=x", "PixelData=x", "RetrieveURL=x", "NumberOfStudyRelatedSeries=3",
    "PatientID=%00", "PatientID=%0a", "%00=1", "PatientID=a%7F", "0019[=1", "0018[X]02=1", "00191002.0019=1",
    "&".join(f"PatientID=a{number}*" for number in range(400)), "&".join(f"0019[{number}]02=1" for number in range(300)),
]  # fmt: skip


@pytest.mark.usefixtures("imported")
def test_what_is_wrong_is_refused_with_a_reason(get: Get) -> None:
    for question in REFUSED:
        for resource in ("studies", "instances"):
            answer = get(f"/{resource}?{question}")
            assert answer.status_int == 400, (question[:100], answer.body[:100])
            assert answer.json["message"].endswith(".")
            assert answer.content_type == "application/json"
    assert get("/studies", accept="text/html").status_int == 406
    assert get("/studies", accept="application/dicom+json;q=0").status_int == 406
    assert get("/studies?accept=image/jpeg").status_int == 406


ODD = [
    "PatientID=%25%5F", "PatientID=%27%22--", "PatientID=%F0%9F%98%80", "PatientName=%5E", "PatientName=%5E%5E%5E%5E", "PatientName=%3D", "PatientID=%5C", "PatientID=%5C%5C*",
    "PatientComments=a%5Cb*", "StudyInstanceUID=,", "StudyInstanceUID=%5C,", "StudyInstanceUID=" + ",".join(f"1.2.{number}" for number in range(2000)),
    "StudyInstanceUID=1.2*", "SliceThickness=1e400", "SliceThickness=1.*", "StudyDate=2020*", "StudyDate=2020-01-01", "StudyDate=2020", "AcquisitionDateTime=20200101-0500",
    "AcquisitionDateTime=20200101000000-0500-20200630", "PatientID=" + "*?" * 200, "includefield=", "includefield=,,", "includefield=all,PatientID", "timezone=1",
    "SelectorATValue=00100010", "0019[%5D=1", "charset=utf-8", "PatientID=" + "x" * 3000 + "*", "PatientName=" + "*x" * 3000,
]  # fmt: skip


@pytest.mark.usefixtures("imported")
def test_odd_questions_never_fail(get: Get, api: api_data.CheckedApp) -> None:
    for question in ODD:
        assert get(f"/instances?{question}").status_int in (200, 400), question[:100]
    for path in (
        "/studies/%00/series", "/studies/1.2/series", "/studies/../series", "/studies/1.2/series/x/instances", f"/studies/{'1' * 5000}/instances", "/studies/%F0%9F%98%80/series",
    ):  # fmt: skip
        answer = get(path)
        assert answer.status_int in (200, 404), path
        assert answer.status_int == 404 or answer.json == []
    # WebTest cannot write these addresses.
    for path in ("/studies/%FF/series", "/studies?PatientID=%FF", "/studies?%FF=1", "/studies?PatientID=%ED%A0%80", "/%FF"):
        answer = Request.blank(PREFIX + path, headers=api_data.basic()).get_response(api.app)
        assert answer.status_int == 400, path
        assert answer.content_type == "application/json"


def test_an_empty_database_has_no_studies(get: Get) -> None:
    for resource in ("studies", "series", "instances"):
        answer = get(f"/{resource}")
        assert (answer.status_int, answer.body) == (200, b"[]")


def test_resources_are_behind_the_lockdown_and_tell_their_methods(api: api_data.CheckedApp) -> None:
    answer = api.stranger("GET", f"{PREFIX}/studies")
    assert (answer.status_int, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert "message" in answer.json
    assert api.stranger("OPTIONS", f"{PREFIX}/studies").status_int == 401
    assert api.stranger("GET", f"{PREFIX}/openapi.json").status_int == 401
    answer = api.send("PUT", f"{PREFIX}/series")
    assert (answer.status_int, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert api.send("GET", f"{PREFIX}/nothing").status_int == 404
    assert api.send("GET", PREFIX).status_int == 405
    capabilities = api.send("OPTIONS", f"{PREFIX}/series")
    assert (capabilities.content_type, capabilities.headers["Allow"]) == ("application/vnd.sun.wadl+xml", "GET, HEAD, OPTIONS")
    assert b'id="search_for_series"' in capabilities.body
    whole = api.send("OPTIONS", f"{PREFIX}/", headers={"Accept": "application/json"})
    assert whole.json == {**api.send("GET", f"{PREFIX}/openapi.json").json}
    assert "/studies/{study}/series/{series}/instances" in whole.json["paths"]
    head = api.send("HEAD", f"{PREFIX}/studies")
    assert (head.status_int, head.body) == (200, b"")


def test_a_setting_names_the_public_address(settings: Any, importer: Importer, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "one", images=1, seed="public")
    api_data.import_folder(importer, tmp_path / "one")
    app = api_data.make_app(settings, **{"web.public_url": "https://images.example.org/db"})
    try:
        (row,) = api_data.CheckedApp(app).send("GET", f"{PREFIX}/studies", headers={"Host": "evil.example"}).json
        assert value(row, attributes.RETRIEVE_URL) == f"https://images.example.org/db/dicom-web/studies/{dicom_files.uid('study', 'public')}"
    finally:
        api_data.close(app)
