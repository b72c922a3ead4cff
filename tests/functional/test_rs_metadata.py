"""The metadata of instances is what pydicom makes of their files, bulk data aside, whichever way it is asked for."""

import logging
import shutil
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from webob import Request

from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Series, Study
from dicomweb.rs import instances, uris
from dicomweb.settings import Settings
from dicomweb.storage import Storage
from tests import dicom_files
from tests.functional import api_data
from tests.statements import statements
from tests.unit.dicomweb.test_headers_reference import different_json

STUDY = dicom_files.uid("study", "shared")
SERIES = dicom_files.uid("series", "one")
INSTANCE = dicom_files.uid("instance", "one/1")
PREFIX = "/dicom-web"
XML = 'multipart/related; type="application/dicom+xml"'
NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


@pytest.fixture(autouse=True)
def _silent_pydicom() -> Iterator[None]:
    """pydicom tells about odd files, which are the purpose of these tests."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("imported")
def test_a_study_a_series_and_an_instance_have_metadata(api: api_data.CheckedApp) -> None:
    whole = api.send("GET", f"{PREFIX}/studies/{STUDY}/metadata")
    assert (whole.status_int, whole.headers["Content-Type"]) == (200, "application/dicom+json")
    assert len(whole.json) == 5
    series = api.send("GET", f"{PREFIX}/studies/{STUDY}/series/{SERIES}/metadata", headers={"Accept": "application/json"})
    assert series.headers["Content-Type"] == "application/json"
    assert series.json == [one for one in whole.json if one["0020000E"]["Value"] == [SERIES]]
    (alone,) = api.send("GET", f"{PREFIX}/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/metadata").json
    assert alone in series.json
    assert alone["00080018"]["Value"] == [INSTANCE]
    assert alone["7FE00010"] == {"vr": "OW", "BulkDataURI": f"http://localhost{PREFIX}/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}/bulkdata/7FE00010"}
    assert "00020010" not in alone


@pytest.mark.usefixtures("imported")
def test_what_is_not_there_is_not_found_and_what_cannot_be_said_is_not_acceptable(api: api_data.CheckedApp) -> None:
    for path in (
        "/studies/1.2/metadata", f"/studies/{STUDY}/series/1.2/metadata", f"/studies/{STUDY}/series/{SERIES}/instances/1.2/metadata",
        f"/studies/1.2/series/{SERIES}/metadata", f"/studies/{STUDY}/series/{SERIES}/instances/{dicom_files.uid('instance', 'two/0')}/metadata",
        "/studies/%00/metadata", "/studies/%F0%9F%98%80/metadata",
    ):  # fmt: skip
        answer = api.send("GET", PREFIX + path)
        assert (answer.status_int, answer.json) == (404, {"message": "There is no such study, series or instance."}), path
    assert api.send("GET", f"{PREFIX}/studies/{STUDY}/metadata", headers={"Accept": "text/html"}).status_int == 406
    assert api.send("POST", f"{PREFIX}/studies/{STUDY}/metadata").status_int == 405
    assert api.stranger("GET", f"{PREFIX}/studies/{STUDY}/metadata").status_int == 401


def test_what_is_unchanged_is_not_sent_again(api: api_data.CheckedApp, importer: Importer, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "one", images=2, seed="e")
    api_data.import_folder(importer, tmp_path / "one")
    path = f"{PREFIX}/studies/{dicom_files.uid('study', 'e')}/metadata"
    first = api.send("GET", path)
    assert first.headers["Cache-Control"] == "private, no-cache"
    known = {"If-None-Match": first.headers["ETag"]}
    again = api.send("GET", path, headers=known)
    assert (again.status_int, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert api.send("GET", path, headers={**known, "Accept": XML}).status_int == 200
    assert api.send("GET", path, headers={**known, "Host": "other"}).status_int == 200
    more = dicom_files.image_bytes("e/9", StudyInstanceUID=dicom_files.uid("study", "e"), SeriesInstanceUID=dicom_files.uid("series", "e"))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "IM.dcm").write_bytes(more)
    api_data.import_folder(importer, tmp_path / "more")
    changed = api.send("GET", path, headers=known)
    assert (changed.status_int, len(changed.json)) == (200, 3)


@pytest.mark.usefixtures("imported")
def test_the_native_model_says_what_the_json_says(api: api_data.CheckedApp) -> None:
    path = f"{PREFIX}/studies/{STUDY}/metadata"
    expected = api.send("GET", path).json
    answer = api.send("GET", path, headers={"Accept": XML})
    boundary = answer.headers["Content-Type"].rpartition("boundary=")[2].encode()
    parts = answer.body.split(b"--" + boundary)[1:-1]
    assert len(parts) == len(expected)
    for part, header in zip(parts, expected, strict=True):
        head, _, body = part.partition(b"\r\n\r\n")
        assert head == b"\r\nContent-Type: application/dicom+xml"
        root = ET.fromstring(body)
        assert root.tag == f"{NAMESPACE}NativeDicomModel"
        # The block of a private element is told by its creator, and its creator is an attribute as all others.
        assert [one.attrib["tag"] for one in root] == [tag if tag[:4] != "0019" or tag[4:6] == "00" else f"{tag[:4]}00{tag[6:]}" for tag in header]


@pytest.mark.usefixtures("imported")
def test_a_client_that_leaves_early_leaves_no_connection_behind(api: api_data.CheckedApp) -> None:
    pool = api.app.registry["engine"].pool
    path = f"{PREFIX}/studies/{STUDY}/metadata"
    head = api.send("HEAD", path)
    assert (head.status_int, head.body) == (200, b"")
    assert pool.checkedout() == 0
    answer = Request.blank(path, headers=api_data.basic()).get_response(api.app)
    assert next(iter(answer.app_iter)).startswith(b"[{")
    assert pool.checkedout() == 1
    answer.app_iter.close()
    assert pool.checkedout() == 0


def test_statements_do_not_grow_with_the_images(api: api_data.CheckedApp, importer: Importer, tmp_path: Path) -> None:
    counts = []
    for number in (2, 60):
        dicom_files.write_series(tmp_path / str(number), images=number, seed=f"m{number}")
        api_data.import_folder(importer, tmp_path / str(number))
        with statements(api.app.registry["engine"]) as ran:
            answer = api.send("GET", f"{PREFIX}/studies/{dicom_files.uid('study', f'm{number}')}/metadata")
            assert len(answer.json) == number
        counts.append(len(ran))
    assert counts[0] == counts[1] <= 8


def test_metadata_is_pydicoms_model_of_every_readable_sample_file(
    api: api_data.CheckedApp, importer: Importer, engine: sa.Engine, settings: Settings, samples: Path, pydicom_files: tuple[Path, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(samples, folder / "samples")
    (folder / "pydicom").mkdir()
    for number, path in enumerate(pydicom_files):
        shutil.copyfile(path, folder / "pydicom" / f"{number:04}-{path.name}")
    api_data.import_folder(importer, folder)
    storage = Storage(settings.var / "storage", sync=False)
    with work(engine, read_only=True) as dbsession:
        studies = list(dbsession.scalars(sa.select(Study.study_instance_uid).where(Study.study_instance_uid != "", sa.exists().where(Series.study_key == Study.id))))
    compared, problems = 0, []
    for uid in studies:
        answer = api.send("GET", f"{PREFIX}/studies/{uid}/metadata")
        assert answer.status_int == 200, (uid, answer.body[:200])
        with work(engine, read_only=True) as dbsession:
            found = [one for block in instances.find(dbsession, uid) for one in block]
        # Read by orjson: it is JSON, without NaN.
        headers = orjson.loads(answer.body)
        assert len(headers) == len(found)
        for one, header in zip(found, headers, strict=True):
            theirs = dcmread(DicomBytesIO(one.locate(storage).read()), force=True)
            expected = theirs.to_json_dict(suppress_invalid_tags=True)
            prefix = uris.bulk_prefix(f"http://localhost{PREFIX}", uid, one.series_uid, one.sop_uid)
            # pydicom leaves out of its model what breaks the rules of its VR; PS3.18 F.2.3 allows it as a string.
            different = [tag for tag in different_json(_marked(header, prefix), expected) if tag in expected or int(tag, 16) not in theirs]
            problems += [(one.path, tag) for tag in different]
            compared += 1
    assert problems == []
    assert compared > 300


def _marked(value: Any, prefix: str) -> Any:
    """Put the mark of the index in the place of addresses, and check these."""
    if isinstance(value, list):
        return [_marked(one, prefix) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: _marked(one, prefix) for key, one in value.items()}
    if "BulkDataURI" in made:
        assert made["BulkDataURI"].startswith(prefix), made["BulkDataURI"]
        made["BulkDataURI"] = "\x01" + made["BulkDataURI"].removeprefix(prefix)
    return made
