"""OHIF below ``/ohif/``: who gets it, what it may do, and where the application leads to it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import webob

from dicomweb import ohif
from dicomweb.imports import Importer
from dicomweb.rs.uris import PREFIX
from dicomweb.security import CONTENT_SECURITY_POLICY, SESSION_COOKIE
from tests import dicom_files
from tests.functional.api_data import import_folder
from tests.functional.pages import Browser
from tests.ohif_files import BUNDLE, install_small

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
STUDY, SERIES, IMAGE = (dicom_files.uid(kind, "shown") for kind in ("study", "series", "image"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small package, installed."""
    return install_small(tmp_path)


@pytest.fixture
def shown(browser: Browser, importer: Importer) -> tuple[int, int]:
    """The ids of a batch with two series, and of its first image; OHIF could not ask for the other series."""
    folder = browser.settings["watch.folders"][0] / "shown"
    folder.mkdir()
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": IMAGE}
    (folder / "a.dcm").write_bytes(dicom_files.image_bytes("a", **uids))
    (folder / "b.dcm").write_bytes(dicom_files.image_bytes("b", StudyInstanceUID="1.23456.9").replace(b"1.23456.9", b"1.23/56.9"))
    return import_folder(importer, folder), 1


def links(answer: Any) -> list[str]:
    """The addresses below ``/ohif/`` that a page leads to."""
    return [link["href"] for link in answer.html.select("a[href^='/ohif']")]


def test_a_stranger_gets_nothing_of_it_and_is_led_back_after_the_login(stranger: Browser, small: Path) -> None:
    for path in ("/ohif", "/ohif/", "/ohif/app.1.js", "/ohif/app-config.js", "/ohif/index.html", "/ohif/nothing.js"):
        answer = stranger.get(path, expect_errors=True)
        assert (answer.status_int, answer.headers["Location"]) == (303, f"/login?next={path}"), path
    answer = stranger.get("/ohif/viewer?StudyInstanceUIDs=1.2&SeriesInstanceUIDs=1.3")
    assert answer.headers["Location"] == "/login?next=/ohif/viewer%3FStudyInstanceUIDs%3D1.2%26SeriesInstanceUIDs%3D1.3"


def test_every_address_of_its_own_is_its_page(browser: Browser, small: Path) -> None:
    page = (small / "index.html").read_bytes()
    for path in ("/ohif/", "/ohif/viewer?StudyInstanceUIDs=1.2", "/ohif/viewer/dicomweb", "/ohif/segmentation", "/ohif/index.html"):
        answer = browser.get(path)
        assert (answer.body, answer.headers["Content-Type"]) == (page, "text/html; charset=utf-8"), path
        assert answer.headers["Cache-Control"] == "private, no-cache"
    assert browser.get("/ohif").headers["Location"] == "/ohif/"
    assert browser.get("/ohif/nothing.js", expect_errors=True).status_int == 404
    assert browser.post("/ohif/", expect_errors=True).status_int in (400, 404)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.1.js", "text/javascript; charset=utf-8"),
        ("app.css", "text/css; charset=utf-8"),
        ("decoder.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("assets/x.png", "image/png"),
        ("manifest.json", "application/json"),
        ("LICENSE", "application/octet-stream"),
    ],
)
def test_a_file_has_its_type_and_may_be_kept(browser: Browser, small: Path, name: str, kind: str) -> None:
    answer = browser.get(f"/ohif/{name}")
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, max-age=86400"
    assert answer.body == (small / name).read_bytes()
    again = browser.get(f"/ohif/{name}", headers={"If-Modified-Since": answer.headers["Last-Modified"]})
    assert (again.status_int, again.body) == (304, b"")


def test_what_is_large_comes_compressed_to_those_who_can_read_it(browser: Browser, small: Path) -> None:
    # Not by WebTest, which unpacks what it gets.
    cookie = {"Cookie": f"{SESSION_COOKIE}={browser.session}"}
    asked = [webob.Request.blank("/ohif/app.1.js", headers={**cookie, "Accept-Encoding": accepted}) for accepted in ("br, gzip", "gzip;q=0", "")]
    packed, refused, plain = [request.get_response(browser.app) for request in asked]
    assert [answer.headers.get("Content-Encoding") for answer in (packed, refused, plain)] == ["gzip", None, None]
    assert {answer.headers["Vary"] for answer in (packed, refused, plain)} == {"Accept-Encoding"}
    assert gzip.decompress(packed.body) == refused.body == plain.body == BUNDLE.replace(b'"/"', b'"/ohif/"')
    assert packed.content_length * 10 < plain.content_length


@pytest.mark.parametrize(
    "path",
    [
        "/ohif/../ohif.py", "/ohif/../../../development.ini", "/ohif/%2e%2e/%2e%2e/ohif.py", "/ohif/..%2f..%2fohif.py", "/ohif//etc/passwd",
        "/ohif/assets/../../../ohif.py", "/ohif/.ready", "/ohif/app.1.js.gz", "/ohif/%00", "/ohif/assets", "/ohif/..\\..\\ohif.py",
    ],
)  # fmt: skip
def test_no_address_leads_to_a_file_that_is_not_its_own(browser: Browser, small: Path, path: str) -> None:
    (small.parent / "ohif.py").write_text("secret")
    (small.parents[1] / "ohif.py").write_text("secret")
    answer = browser.get(path, expect_errors=True)
    assert answer.status_int == 404 or answer.body == (small / "index.html").read_bytes()


def test_its_policy_is_its_own_and_only_there(browser: Browser, small: Path) -> None:
    def directives(path: str) -> dict[str, list[str]]:
        text = browser.get(path, expect_errors=True).headers["Content-Security-Policy"]
        return {part.split()[0]: part.split()[1:] for part in text.split(";")}

    page, script = directives("/ohif/"), directives("/ohif/app.1.js")
    (inline,) = ohif.inline_scripts((small / "index.html").read_bytes())
    assert page["script-src"] == ["'self'", "'wasm-unsafe-eval'", inline]
    # A worker obeys what came with its script; a page is never told to evaluate text, or to run any script in it.
    assert script["script-src"] == ["'self'", "'wasm-unsafe-eval'", "'unsafe-eval'"]
    for policy in (page, script):
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
        assert not [source for sources in policy.values() for source in sources if re.match(r"\*|https?:|//", source)]
    for path in ("/", "/search", "/settings", "/ohifx", "/ohif/nothing.js", "/static/icon.svg", "/dicom-web/studies"):
        assert browser.get(path, expect_errors=True).headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, path


def test_the_configuration_names_our_dicomweb_and_no_other_host(browser: Browser, small: Path) -> None:
    answer = browser.get("/ohif/app-config.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "theirs" not in answer.text
    assert "://" not in answer.text
    written = answer.text.removeprefix("window.config = ")
    configuration, _ = json.JSONDecoder().raw_decode(written)
    (source,) = configuration["dataSources"]
    asked = source["configuration"]
    assert source["sourceName"] == configuration["defaultDataSourceName"]
    assert (asked["qidoRoot"], asked["wadoRoot"], asked["wadoUriRoot"]) == (PREFIX, PREFIX, f"{PREFIX}/wado")
    assert configuration["routerBasename"] == "/ohif"
    assert configuration["investigationalUseDialog"] == {"option": "never"}


def test_where_it_is_not_installed_a_page_says_what_to_do_and_nothing_leads_there(browser: Browser, shown: tuple[int, int]) -> None:
    for path in ("/ohif/", "/ohif/viewer?StudyInstanceUIDs=1.2", "/ohif/app-config.js"):
        answer = browser.get(path, expect_errors=True)
        assert answer.status_int == 404
        assert "make ohif" in answer.html.main.get_text()
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    batch, image = shown
    for path in (f"/batches/{batch}", f"/batches/{batch}/images/{image}", "/search", "/search?level=study", "/search?level=series", "/settings"):
        answer = browser.get(path)
        assert links(answer) == []
        assert "OHIF" not in answer.text


def test_pages_lead_to_what_they_show(browser: Browser, shown: tuple[int, int], small: Path) -> None:
    batch, image = shown
    study = f"/ohif/viewer?StudyInstanceUIDs={STUDY}"
    series = f"{study}&SeriesInstanceUIDs={SERIES}"
    assert links(browser.get(f"/batches/{batch}")) == [series]
    assert links(browser.get(f"/batches/{batch}/images/{image}")) == [f"{series}&initialSopInstanceUid={IMAGE}"]
    assert links(browser.get("/search?level=study")) == ["/ohif/", study]
    assert links(browser.get("/search?level=series&columns=Modality")) == ["/ohif/", series]
    assert links(browser.get("/search")) == ["/ohif/"]


def test_what_ohif_cannot_ask_for_has_no_link(browser: Browser, shown: tuple[int, int], small: Path) -> None:
    batch, image = shown
    assert links(browser.get(f"/batches/{batch}/images/{image + 1}")) == []
    rows = browser.get(f"/batches/{batch}").html.select("tr[id^=series-]")
    assert [len(row.select("a[href^='/ohif']")) for row in rows] in ([1, 0], [0, 1])
