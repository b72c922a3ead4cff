"""Reports go to a real HTTP server of this test, as they would go to Sentry."""

import gzip
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import sentry_sdk

from dicomweb.errors import report_errors, scrub
from dicomweb.settings import SettingError, Settings

SECRET = "DOE^JANE"


@pytest.fixture
def received() -> Iterator[tuple[str, list[str]]]:
    """A DSN, and the bodies that arrive there."""
    bodies: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append((gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", bodies
    sentry_sdk.get_client().close(timeout=5)
    sentry_sdk.get_global_scope().set_client(None)
    server.shutdown()
    thread.join()
    server.server_close()


def fail_with(value: str) -> None:
    patient_name = value
    raise ValueError(f"cannot read {patient_name}")


def test_a_report_tells_what_failed_and_nothing_about_whom(received: tuple[str, list[str]]) -> None:
    dsn, bodies = received
    report_errors(Settings({"sentry.dsn": dsn}, environ={}), "workers")
    logging.getLogger("before").info("reading %s", SECRET)
    try:
        fail_with(SECRET)
    except ValueError as error:
        sentry_sdk.capture_exception(error)
    sentry_sdk.flush(10)
    (body,) = [body for body in bodies if '"exception"' in body]
    assert "ValueError" in body
    assert "fail_with" in body
    assert '"program":"workers"' in body.replace(" ", "")
    assert SECRET not in body


def test_a_logged_error_is_reported_by_its_text_without_its_arguments(received: tuple[str, list[str]]) -> None:
    dsn, bodies = received
    report_errors(Settings({"sentry.dsn": dsn}, environ={}), "watcher")
    logging.getLogger("ours").error("cannot read %s", SECRET, extra={"file": SECRET})
    sentry_sdk.flush(10)
    (body,) = [body for body in bodies if "cannot read" in body]
    assert SECRET not in body


def test_a_request_is_reported_without_query_header_values_uids_and_body() -> None:
    uid = "1.2.840.113619.2.55.3.604688119"
    event = {
        "request": {
            "method": "POST",
            "url": f"http://localhost/rs/studies/{uid}?PatientName={SECRET}",
            "query_string": f"PatientName={SECRET}",
            "headers": {"Cookie": SECRET, "Accept": "text/html"},
            "cookies": {"session": SECRET},
            "data": SECRET,
            "env": {"REMOTE_ADDR": "10.0.0.1"},
        },
        "user": {"ip_address": "10.0.0.1"},
        "extra": {"sys.argv": [SECRET]},
        "transaction": f"/rs/studies/{uid}",
    }
    sent = scrub(event, {})
    assert SECRET not in str(sent)
    assert uid not in str(sent)
    assert "10.0.0.1" not in str(sent)
    assert sent["request"] == {
        "method": "POST",
        "url": "http://localhost/rs/studies/<uid>",
        "headers": {"Cookie": "", "Accept": ""},
    }


def test_without_a_dsn_nothing_is_set_up() -> None:
    report_errors(Settings(environ={}), "web")
    assert not sentry_sdk.get_client().is_active()


def test_a_dsn_that_cannot_be_understood_stops_the_start_without_showing_it() -> None:
    with pytest.raises(SettingError, match=r"sentry\.dsn") as refused:
        report_errors(Settings({"sentry.dsn": "not-a-dsn-but-secret"}, environ={}), "web")
    assert "secret" not in str(refused.value)
