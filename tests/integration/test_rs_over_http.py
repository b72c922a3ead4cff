"""DICOMweb over the real web server: addresses, headers and bodies that nobody should send, and clients that stop reading."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from waitress import wasyncore

from dicomweb.imports import Importer
from dicomweb.server import make_server
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import api_data
from tests.functional.api_data import basic
from tests.programs import wait_for

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ROOT = "/dicom-web"
STUDY, SERIES, INSTANCE = (dicom_files.uid("study", "shared"), dicom_files.uid("series", "one"), dicom_files.uid("instance", "one/1"))
AT = f"/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"
LONG = "9" * 20_000
NO_UIDS = ("1.2.3", "x", "%00", "%0A", "%2F", "%252F", "%25FF", "..", "%2e%2e", "%F0%9F%98%80", "%E2%80%AE", "1" * 70, "1" * 5000, "1.2.3%20", "'%22--", "*", "?".replace("?", "%3F"), "%5C", "%7B%7D", "-1")
NOT_TEXT = ("%FF", "%ED%A0%80", "%C0%AF", "%80")

# (method, address, headers, body, statuses).
Row = tuple[str, str, dict[str, str], bytes | None, tuple[int, ...]]


def get(address: str, *statuses: int, **headers: str) -> Row:
    return ("GET", address, {name.replace("_", "-"): text for name, text in headers.items()}, None, statuses)


def post(body: bytes, kind: str, *statuses: int, address: str = "/studies", **headers: str) -> Row:
    return ("POST", address, {"Content-Type": kind, **{name.replace("_", "-"): text for name, text in headers.items()}}, body, statuses)


def table() -> Iterator[Row]:
    file = dicom_files.image_bytes("negative/1")
    multipart = 'multipart/related; type="application/dicom"; boundary=b'
    for uid in NO_UIDS:
        for path in (f"/studies/{uid}", f"/studies/{STUDY}/series/{uid}", f"/studies/{STUDY}/series/{SERIES}/instances/{uid}"):
            for more in ("", "/metadata", "/rendered", "/thumbnail", "/renderedmpr"):
                yield get(path + more, 404)
        yield get(f"/studies/{STUDY}/series/{SERIES}/instances/{uid}/frames/1", 404)
        yield get(f"/studies/{uid}/series", 200, 404)
        yield post(file, "application/dicom", 400, 404, 409, address=f"/studies/{uid}")
        yield get(f"/wado?requestType=WADO&studyUID={uid}&seriesUID={uid}&objectUID={uid}", 404)
    for text in NOT_TEXT:
        for path in (f"/studies/{text}", f"/studies/{text}/series", f"/{text}", f"{AT}/frames/{text}", f"/studies?PatientID={text}", f"/studies?{text}=1", f"{AT}/rendered?window={text}", f"/wado?requestType={text}"):
            yield get(path, 400)
        yield post(file, "application/dicom", 400, address=f"/studies/{text}")
    for question in (
        "limit=-1", "offset=-1", "limit=1.5", "limit=", "limit=x", f"limit={LONG}", "limit=1&limit=2", "limit=%2B1", "limit=0x10", "limit=%D9%A1", "NoSuchKeyword=1",
        "includefield=NoSuchKeyword", "99999999x=1", "GGGGEEEE=1", "PatientID.PatientName=1", "StudyDate=someday", "StudyDate=20201399", "StudyTime=9999", "Rows=many",
        "fuzzymatching=perhaps", "PatientID=%00", "PixelData=1", "RetrieveURL=x", "0008.0060=CT",
    ):  # fmt: skip
        yield get(f"/studies?{question}", 400)
        yield get(f"/instances?{question}", 400)
    yield get(f"/studies?PatientID={LONG}", 200, 400)
    yield get(f"/studies?{LONG}=1", 400)
    yield get("/studies?" + "&".join(f"0010{number:04X}=1" for number in range(0x10, 0x200)), 400)
    for accept in ("text/html", "application/dicom+json;q=0", "/", "image/*", "*/*;q=0", 'multipart/related; type="application/dicom"', "\xff\xfe", "a" * 9000):
        yield get("/studies", 406, Accept=accept)
    for accept in ("text/html", "image/png", "*/*;q=0", 'multipart/related; type="text/plain"', 'application/dicom; transfer-syntax=1.2.3', ";;;", '"'):
        yield get(AT, 406, Accept=accept)
    for numbers in ("0", "-1", "1,", ",1", "a", "1-2", "1.5", "%D9%A1", "", "1,0", LONG, "1;2", "0x1", ",".join(["1"] * 10_001)):
        yield get(f"{AT}/frames/{numbers}", 400, 404)
    for number in ("2", "999999999", "1,2"):
        yield get(f"{AT}/frames/{number}", 404)
        yield get(f"{AT}/frames/{number}/rendered", 404, 406)
    for asked in (
        "window=", "window=1", "window=1,2,3", "window=a,b", "window=1,0", "window=1,-5", "window=1e999,1", "window=nan,1", "window=1,2,linear,4", f"window={LONG},1",
        "viewport=", "viewport=1", "viewport=0,0", "viewport=-1,5", "viewport=a,b", "viewport=99999,99999", "viewport=5,5,1,2,3,4,5", "viewport=5,5,nan", "viewport=1.5,2",
        "quality=", "quality=0", "quality=101", "quality=-1", "quality=1.5", "quality=x", f"quality={LONG}", "annotation=patient", "iccprofile=yes",
    ):  # fmt: skip
        yield get(f"{AT}/rendered?{asked}", 400)
        yield get(f"{AT}/frames/1/rendered?{asked}", 400)
        yield get(f"{AT}/thumbnail?{asked}", 400)
    for asked in ("orientation=", "orientation=x", "orientation=a,p", "position=x", "viewpointlookat=1", "viewpointlookat=a,b,c", "mprslab=20", "volumeinputreference=1.2", "match=x", "swivelrange=1"):
        yield get(f"/studies/{STUDY}/series/{SERIES}/renderedmpr?{asked}", 400)
    for path in ("", "/", "7FE00010/", "/7FE00010", "7fe00010", "00100010/0", "00189999", "../../metadata", "%2e%2e", "7FE00010/999999/00100010", "00400275/0/00100010", "x" * 3000):
        yield get(f"{AT}/bulkdata/{path}", 404)
    for kind in (OCTETS_PART, "application/octet-stream"):
        yield get(f"{AT}/bulkdata/7FE00010", 416, Accept=kind, Range="bytes=99999999-")
        for span in ("bytes=5-2", "bytes=x-y", "lines=1-2", "bytes=", "bytes=--5", LONG[:9000]):
            yield get(f"{AT}/bulkdata/7FE00010", 200, 206, 416, Accept=kind, Range=span)
    for kind in ("text/plain", "", ";;", "multipart/form-data; boundary=b", "multipart/related; type=text/plain; boundary=b", "\xff/\xfe"):
        yield post(file, kind, 415)
    part = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    for body in (
        b"", b"--b\r\n--b\r\n--b--", b"--b--", b"--b", b"--b\r\n", part, part + file, part + file + b"\r\n--b", b"--x\r\n\r\n--x--", b"\0" * 300, b"--b\r\nno header\r\n\r\nx\r\n--b--",
        b"--b\r\n: x\r\n\r\nx\r\n--b--", b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--b--",
    ):  # fmt: skip
        yield post(body, multipart, 400, 409)
    for body in (part + b"\r\n--b--", part + b"x" * 200 + b"\r\n--b--", part + file[:300] + b"\r\n--b--", b"--b\r\n\r\n\r\n--b--"):
        yield post(body, multipart, 409)
    for boundary in ("", '""', '"', "x" * 300, "\xff"):
        yield post(part + file + b"\r\n--b--", f"multipart/related; boundary={boundary}", 400)
    yield post(file, "application/dicom", 415, Content_Encoding="gzip")
    yield post(file, "application/dicom", 406, Accept="text/html")
    yield post(b"", "application/dicom", 400)
    for method in ("PUT", "DELETE", "PATCH", "POST", "TRACE", "X-ODD"):
        for path in ("/series", "/instances", AT, f"{AT}/metadata", f"{AT}/frames/1", "/wado", "", "/"):
            yield (method, path, {}, None, (405,))
    yield ("DELETE", "/studies", {}, None, (405,))
    for path in ("/nothing", "/studies/", "//studies", "/studies//series", f"{AT}/", f"{AT}/nothing", "/studies/1/2/3", "/" + LONG[:9000], "/STUDIES"):
        yield get(path, 404)


OCTETS_PART = 'multipart/related; type="application/octet-stream"'


@pytest.fixture
def server(settings: Settings, engine: sa.Engine) -> Iterator[tuple[Any, Any]]:
    """The server of the product, which ends stalled connections after a second, and the pool of connections to its database."""
    app = api_data.make_app(settings)
    server = make_server(app, settings, host="127.0.0.1", port=0, channel_timeout=1, outbuf_high_watermark=1 << 16)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server, app.registry["engine"].pool
    finally:
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join()
        server.task_dispatcher.shutdown()
        api_data.close(app)


@pytest.fixture
def importer(settings: Settings, engine: sa.Engine) -> Importer:
    """What the workers work with."""
    return api_data.importer_of(settings, engine)


def send(port: int, row: Row) -> tuple[int, str, bytes]:
    method, address, headers, body, _ = row
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    # Not request(), which refuses or corrects what is wrong on purpose.
    connection.putrequest(method, ROOT + address, skip_accept_encoding=True)
    for name, text in {**basic(), **headers}.items():
        connection.putheader(name, text.encode("latin-1"))
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    try:
        content = answer.read()
    except http.client.IncompleteRead:
        content = b"broken off"
    connection.close()
    return answer.status, answer.headers.get("Content-Type", ""), content


def test_whatever_is_wrong_is_refused_with_a_reason(server: tuple[Any, Any], settings: Settings, importer: Importer) -> None:
    folder = settings["watch.folders"][0] / "samples"
    api_data.write_samples(folder)
    api_data.import_folder(importer, folder)
    rows = list(table())
    assert len(rows) > 600
    problems = []
    for row in rows:
        status, kind, content = send(server[0].effective_port, row)
        says = content != b"broken off"
        if says and status >= 400 and status != 409:
            says = kind == "application/json" and "message" in json.loads(content)
        if status not in row[4] or not says:
            problems.append((row[0], row[1][:150], {name: text[:80] for name, text in row[2].items()}, (row[3] or b"")[:40], status, kind, content[:80]))
    assert problems == [], "\n".join(map(str, problems))


def test_a_wrong_content_length_is_no_request(server: tuple[Any, Any]) -> None:
    for length in ("-1", "x", "1e3", "1, 2", "9" * 30, "+5", " "):
        with socket.create_connection(("127.0.0.1", server[0].effective_port), timeout=30) as connection:
            connection.sendall(f"POST {ROOT}/studies HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()['Authorization']}\r\nContent-Type: application/dicom\r\nContent-Length: {length}\r\n\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            assert int(connection.recv(65536).split()[1]) in (400, 413), length


def test_a_client_that_stops_reading_gives_back_its_thread_and_its_connection_to_the_database(server: tuple[Any, Any], importer: Importer, tmp_path: Path) -> None:
    waitress, pool = server
    study = dicom_files.uid("study", "large")
    dicom_files.write_series(tmp_path / "in", images=3, seed="large", StudyInstanceUID=study, Rows=2048, Columns=2048, PixelData=bytes(8 << 20))
    api_data.import_folder(importer, tmp_path / "in")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(waitress.effective_port)))
        connection.sendall(f"GET {ROOT}/studies/{study} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()['Authorization']}\r\n\r\n".encode())
        wait_for(lambda: pool.checkedout() == 1, "the study is being sent")
        wait_for(lambda: pool.checkedout() == 0 and waitress.task_dispatcher.active_count == 0, "the connection is ended")
