"""The lockdown: who gets in, and that nothing is open which is not named open."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import webob

from dicomweb import batches
from dicomweb.app import main
from dicomweb.assets import DIST
from dicomweb.db import work
from dicomweb.models import Batch, WebSession
from dicomweb.resources import Root
from dicomweb.security import ATTEMPTS_OF_ONE_ADDRESS, HEADERS, SESSION_COOKIE, Permission
from dicomweb.views.login import own_path
from tests.functional import pages
from tests.functional.api_data import PASSWORD, basic
from tests.functional.pages import Browser

# One address for each place of the tree that has pages; the test below holds the list to the views there are.
PLACES = {
    "Root": "/",
    "SettingsResource": "/settings",
    "BatchesContainer": "/batches",
    "BatchResource": "/batches/1",
    "ImagesContainer": "/batches/1/images",
    "ImageResource": "/batches/1/images/1",
    "PatientsContainer": "/patients",
    "PatientResource": "/patients/1",
    "StudiesContainer": "/studies",
    "StudyResource": "/studies/1",
    "SeriesContainer": "/series",
    "SeriesResource": "/series/1",
    "ArrivalResource": "/arrivals/1",
    "JobResource": "/jobs/1",
    "TokensContainer": "/tokens",
    "TokenResource": "/tokens/1",
    "SearchResource": "/search",
    "ConsoleResource": "/console",
    "StatisticsResource": "/statistics",
    "UploadsContainer": "/upload",
    "UploadResource": f"/upload/{'0' * 32}",
    "UploadFilesResource": f"/upload/{'0' * 32}/files",
    "UploadFileResource": f"/upload/{'0' * 32}/files/000001-1",
}
OPEN = {"/login", "/health"}


def log_in(browser: Browser, password: str = PASSWORD, **fields: str) -> Any:
    form = browser.get("/login").form
    form["password"] = password
    for name, value in fields.items():
        form[name] = value
    return form.submit(expect_errors=True)


def cookie_of(answer: Any) -> str:
    return next(text for text in answer.headers.getall("Set-Cookie") if text.startswith(SESSION_COOKIE))


def views_of_the_tree(registry: Any) -> set[str]:
    """The addresses of all views that are found by traversal."""
    found = set()
    for entry in registry.introspector.get_category("views"):
        view = entry["introspectable"]
        context = view["context"]
        if view["route_name"] is None and isinstance(context, type) and context.__module__ == Root.__module__:
            found.add(f"{PLACES[context.__name__].rstrip('/')}/{view['name']}".rstrip("/") or "/")
    return found


def addresses_of_routes(registry: Any) -> set[str]:
    return {
        route["introspectable"]["pattern"].replace("{id}", "1").replace("*subpath", "x")
        for route in registry.introspector.get_category("routes")
    }


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_route_and_every_view_of_the_tree_is_locked(stranger: Browser) -> None:
    stranger.add(pages.batch(), pages.arrival("/data/x"), pages.job())
    stranger.add(pages.image(1))
    tree = views_of_the_tree(stranger.app.registry)
    routes = {address if address.startswith("/") else f"/{address}" for address in addresses_of_routes(stranger.app.registry)}
    assert {"/", "/settings", "/batches/1", "/batches/1/images/1/frame", "/jobs/1/retry", "/login"} <= tree
    assert {"/api", "/api/batches/1", "/api/images"} <= routes
    for path in (tree | routes | {"/nothing", "/batches/999", "/static", "/login/x", "/LOGIN", "//login", "/health/x"}) - OPEN:
        if path.startswith("/static/"):
            continue
        for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = stranger.request(path, method=method, expect_errors=True)
            assert answer.status_int in (303, 401), (method, path, answer.status)
            if answer.status_int == 303:
                assert answer.headers["Location"].split("?")[0] == "/login", path
            assert "knee" not in answer.text


def test_what_exists_and_what_does_not_look_alike_to_a_stranger(stranger: Browser) -> None:
    stranger.add(pages.batch())
    there, not_there = stranger.get("/batches/1"), stranger.get("/batches/2")
    assert (there.status, there.headers["Location"]) == ("303 See Other", "/login?next=/batches/1")
    assert (not_there.status, not_there.headers["Location"]) == ("303 See Other", "/login?next=/batches/2")


def test_the_right_password_begins_a_session_and_leads_to_where_one_wanted_to_go(stranger: Browser) -> None:
    form = stranger.get("/settings?page=2").follow().form
    form["password"] = PASSWORD
    answer = form.submit()
    assert answer.status_int == 303
    assert answer.headers["Location"] == "/settings?page=2"
    assert "Settings in force" in answer.follow().text


def test_the_cookie_ends_with_the_browser_session_and_only_its_hash_is_kept(stranger: Browser) -> None:
    cookie = cookie_of(log_in(stranger))
    token = cookie.split(";")[0].partition("=")[2]
    assert "; HttpOnly" in cookie
    assert "; SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "expires" not in cookie.lower()
    assert "max-age" not in cookie.lower()
    assert len(token) == 43
    with work(stranger.engine, read_only=True) as dbsession:
        kept = dbsession.scalars(sa.select(WebSession.token_hash)).all()
    assert kept == [hashlib.sha256(token.encode()).hexdigest()]


def test_over_https_the_cookie_is_secure(stranger: Browser) -> None:
    stranger.extra_environ["wsgi.url_scheme"] = "https"
    stranger.extra_environ["HTTP_HOST"] = "localhost:443"
    form = stranger.get("/login").form
    answer = stranger.post("/login", {"csrf_token": form["csrf_token"].value, "password": PASSWORD})
    assert "; Secure" in cookie_of(answer)


def test_a_wrong_password_begins_nothing(stranger: Browser) -> None:
    answer = log_in(stranger, "wrong")
    assert answer.status_int == 403
    assert "This is not the password." in answer.text
    assert stranger.count(WebSession) == 0
    assert stranger.get("/").status_int == 303


def test_logging_in_again_makes_a_new_token_and_ends_the_old_one(browser: Browser) -> None:
    old = browser.session
    form = browser.get("/settings").forms[0]
    answer = browser.post("/login", {"csrf_token": form["csrf_token"].value, "password": PASSWORD})
    assert cookie_of(answer).split(";")[0] != f"{SESSION_COOKIE}={old}"
    browser.use_session(old)
    assert browser.get("/").status_int == 303
    assert browser.count(WebSession) == 1


def test_ending_the_session_forgets_it_on_the_server(browser: Browser) -> None:
    token = browser.session
    answer = browser.get("/").forms[0].submit()
    assert answer.headers["Location"] == "/login?done=ended"
    assert answer.headers["Clear-Site-Data"] == '"cache"'
    assert "Your session has ended." in answer.follow().text
    assert browser.count(WebSession) == 0
    browser.use_session(token)
    assert browser.get("/").status_int == 303


def test_a_session_ends_by_itself(stranger: Browser) -> None:
    stranger.begin_session(lasts=timedelta(seconds=-1))
    assert stranger.get("/").status_int == 303
    log_in(stranger)
    assert stranger.count(WebSession) == 1


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "a" * 5000, "../../etc", "é" * 43])
def test_a_made_up_cookie_opens_nothing(stranger: Browser, token: str) -> None:
    answer = stranger.get("/", headers={"Cookie": f"{SESSION_COOKIE}={token}".encode().decode("latin-1")})
    assert answer.status_int == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil", "javascript:alert(1)", "/\t/evil.example",
        " //evil", "/a b", "/a\r\nSet-Cookie: x=y", "", "evil", "/login?next=/login", "/logout", "///evil", "/\x00",
    ],
)  # fmt: skip
def test_the_lockdown_page_leads_to_own_paths_only(target: str) -> None:
    assert own_path(target) == "/"


@pytest.mark.parametrize("path", ["/", "/batches/1?page=2", "/batches/1/images/2?q=%3Cb%3E&n=2"])
def test_an_own_path_is_kept(path: str) -> None:
    assert own_path(path) == path


def test_who_tries_passwords_is_told_to_wait_and_others_are_not(stranger: Browser) -> None:
    for _ in range(ATTEMPTS_OF_ONE_ADDRESS.amount):
        assert log_in(stranger, "wrong").status_int == 403
    answer = log_in(stranger)
    assert answer.status_int == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert "Too many wrong passwords" in answer.text
    stranger.extra_environ["REMOTE_ADDR"] = "192.0.2.2"
    assert log_in(stranger).status_int == 303


def test_attempts_by_http_basic_count_too_but_a_program_that_is_known_goes_on(stranger: Browser) -> None:
    assert stranger.get("/settings", headers=basic()).status_int == 200
    for _ in range(ATTEMPTS_OF_ONE_ADDRESS.amount):
        answer = stranger.get("/settings", headers=basic("wrong"), expect_errors=True)
        assert answer.status_int == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    answer = stranger.get("/settings", headers=basic("wrong"), expect_errors=True)
    assert (answer.status_int, "Retry-After" in answer.headers) == (429, True)
    assert stranger.get("/settings", headers=basic()).status_int == 200


def test_a_change_needs_the_token_of_the_session(browser: Browser) -> None:
    browser.add(pages.batch(image_count=0))
    other = "0" * 64
    for fields in ({"sure": "yes", "images": "0"}, {"sure": "yes", "images": "0", "csrf_token": other}):
        answer = browser.post("/batches/1/delete", fields, expect_errors=True)
        assert answer.status_int == 400
        assert "The page was open for too long" in answer.text
    assert browser.count(Batch, Batch.deleting | Batch.delete_at.is_not(None)) == 0


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
@pytest.mark.parametrize("by", ["session", "program"])
def test_a_change_that_another_site_asks_for_is_refused(browser: Browser, headers: dict[str, str], by: str) -> None:
    browser.add(pages.batch(image_count=0))
    fields = {"sure": "yes", "images": "0", "csrf_token": browser.token()}
    if by == "program":
        browser.reset()
        headers = headers | basic()
    answer = browser.post("/batches/1/delete", fields, headers=headers, expect_errors=True)
    assert answer.status_int == 400
    assert "another web site" in answer.text
    assert browser.count(Batch, Batch.deleting | Batch.delete_at.is_not(None)) == 0


def test_a_program_needs_no_token(stranger: Browser) -> None:
    stranger.add(pages.batch(image_count=0))
    answer = stranger.post("/batches/1/delete", {"sure": "yes", "images": "0", "when": "now"}, headers=basic())
    assert answer.status_int == 303
    assert stranger.count(Batch, Batch.deleting) == 1


def test_every_answer_carries_the_security_headers(browser: Browser) -> None:
    browser.add(pages.batch())
    for path in ("/", "/login", "/health", "/nothing", "/batches/1", "/static/icon.svg", "/batches", "/static/nothing"):
        answer = browser.get(path, expect_errors=True)
        for name, value in HEADERS.items():
            if (name, path) != ("Cache-Control", "/static/icon.svg"):
                assert answer.headers[name] == value, (path, name)
    assert "'unsafe" not in HEADERS["Content-Security-Policy"]


def test_only_the_page_of_a_picture_may_start_a_worker_and_only_the_worker_may_compile(browser: Browser, imported: int) -> None:
    policies = {path: browser.get(path).headers["Content-Security-Policy"] for path in ("/", f"/batches/{imported}", f"/batches/{imported}/images/1")}
    assert [path for path, policy in policies.items() if "worker-src 'self'" in policy] == [f"/batches/{imported}/images/1"]
    assert not [policy for policy in policies.values() if "unsafe" in policy]
    worker = next((DIST / "assets").glob("decodeImageFrameWorker-*.js"), None)
    if worker is None:
        pytest.skip("the front end has not been built")
    built = {path.name: browser.get(f"/static/dist/assets/{path.name}").headers["Content-Security-Policy"] for path in (worker, *(DIST / "assets").glob("app-*"))}
    assert [name for name, policy in built.items() if "'wasm-unsafe-eval'" in policy] == [worker.name]
    assert not [policy for policy in built.values() if "'unsafe" in policy]


def test_pages_have_no_script_and_no_style_in_them(browser: Browser, imported: int) -> None:
    for path in ("/", "/settings", "/login", f"/batches/{imported}", f"/batches/{imported}/errors", "/batches/1/images/1", "/x"):
        html = browser.get(path, expect_errors=True).maybe_follow(expect_errors=True).html
        assert not html.select("style, [style], script:not([src])"), path
        assert not [tag for tag in html.find_all(True) if any(name.startswith("on") for name in tag.attrs)], path


def test_the_host_header_leads_nobody_away(stranger: Browser) -> None:
    answer = stranger.get("/batches/1", headers={"Host": "evil.example"})
    assert answer.headers["Location"] == "/login?next=/batches/1"
    assert "evil.example" not in stranger.get("/login", headers={"Host": "evil.example"}).text


def test_a_fragment_without_a_session_has_the_whole_page_loaded_again(stranger: Browser) -> None:
    answer = stranger.get("/status", headers={"HX-Request": "true"}, expect_errors=True)
    assert (answer.status_int, answer.headers["HX-Refresh"], answer.text) == (401, "true", "")


def test_every_permission_has_a_sentence() -> None:
    for permission in Permission:
        assert permission.sentence.endswith(".")
        assert ":" in permission


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestWithTheLockdownOff:
    @pytest.fixture
    def open_browser(self, stranger: Browser) -> Browser:
        ini = {"database.url": stranger.settings.database_url, "lockdown.mode": "off", "broker.url": "redis+socket:///nowhere"}
        app = main({"here": str(stranger.settings.here)}, **ini)
        return Browser(app, stranger.settings, stranger.engine)

    def test_every_page_says_so(self, open_browser: Browser) -> None:
        open_browser.add(pages.batch())
        for path in ("/", "/settings", "/batches/1", "/batches/1/errors", "/nothing"):
            assert "The lockdown is off." in open_browser.get(path, expect_errors=True).text
        assert "End session" not in open_browser.get("/").text

    def test_a_change_still_needs_a_token(self, open_browser: Browser) -> None:
        open_browser.add(pages.batch(image_count=0))
        assert open_browser.post("/batches/1/delete", {"sure": "yes", "images": "0"}, expect_errors=True).status_int == 400
        assert open_browser.press("/batches/1/delete", sure="yes", images="0").status_int == 303

    def test_a_name_that_another_site_points_here_sees_nothing(self, open_browser: Browser) -> None:
        for host in ("evil.example", "evil.example:6543", "192.0.2.7", "localhost.evil.example"):
            answer = open_browser.get("/", headers={"Host": host}, expect_errors=True)
            assert answer.status_int == 403
            assert "Batches" not in answer.text
        for host in ("localhost:6543", "127.0.0.1", "127.0.0.1:6543", "[::1]:6543"):
            assert open_browser.get("/", headers={"Host": host}).status_int == 200


class TestWhenSomethingFails:
    def test_the_text_of_an_error_stays_in_the_log(
        self, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_dbsession: Any) -> None:
            raise RuntimeError("PatientName=Doe^Jane")

        monkeypatch.setattr(batches, "totals", fail)
        answer = browser.get("/", expect_errors=True)
        assert answer.status_int == 500
        assert "Something went wrong" in answer.text
        assert "Doe" not in answer.text
        assert "RuntimeError" in caplog.text

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    def test_a_database_that_does_not_answer_is_a_503_page(self, browser: Browser, tmp_path: Path) -> None:
        ini = {"database.url": f"sqlite:///{tmp_path}/no/such/folder.sqlite", "broker.url": "redis+socket:///nowhere"}
        app = main({"here": str(browser.settings.here)}, **ini)
        lost = Browser(app, browser.settings, browser.engine)
        lost.use_session(browser.session)
        for path in ("/", "/health", "/batches/1"):
            answer = lost.get(path, expect_errors=True)
            assert answer.status_int == 503, path
            assert answer.headers["Retry-After"] == "5"
        assert "The database does not answer" in answer.text
        assert lost.get("/login", headers={"Cookie": ""}).status_int == 200

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/nothing", 404), ("/batches/x", 404), ("/batches/0", 404), ("/batches/01", 404), ("/batches/-1", 404),
            ("/batches/99999999999999999999999", 404), ("/batches/9223372036854775807", 404), ("/batches/%D9%A1", 404),
            ("/batches/1e3", 404), ("/batches/1/nothing", 404), ("/images/1", 404), ("/batches/1%00", 404),
        ],
    )  # fmt: skip
    def test_addresses_that_lead_nowhere_say_so(self, browser: Browser, path: str, status: int) -> None:
        answer = browser.get(path, expect_errors=True)
        assert answer.status_int == status
        assert "To the dashboard" in answer.text

    def test_an_address_that_is_no_text_says_so(self, browser: Browser) -> None:
        request = webob.Request.blank("/%ff", headers={"Cookie": f"{SESSION_COOKIE}={browser.session}"})
        assert request.get_response(browser.app).status_int == 400
