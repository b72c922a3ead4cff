"""A real browser in front of a real web server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright

from dicomweb.assets import AssetsMissing, asset_url
from dicomweb.imports import Importer
from dicomweb.settings import Settings
from tests import services
from tests.functional import api_data
from tests.functional.pages import Browser as Session


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path, sqlite_template) -> str:  # type: ignore[no-untyped-def]
    """An empty SQLite database: what a browser shows does not depend on the kind of database."""
    path = tmp_path / "test.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    try:
        asset_url("app.js")
    except AssetsMissing:
        services.missing("the built front end")
    program = services.chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def importer(settings: Settings, engine: sa.Engine) -> Importer:
    """What the workers work with."""
    return api_data.importer_of(settings, engine)


@pytest.fixture
def session(settings: Settings, engine: sa.Engine) -> Iterator[Session]:
    """The application, with a session in its database."""
    app = api_data.make_app(settings)
    made = Session(app, settings, engine)
    made.begin_session()
    yield made
    api_data.close(app)


@pytest.fixture
def address(session: Session) -> Iterator[str]:
    """The address of a web server that serves the application."""
    with services.web_server(session.app) as address:
        yield address


def watch(context: BrowserContext, *, failures: bool = True) -> list[str]:
    """Give a list that fills with whatever the pages of a browser complain about: errors of scripts, what a policy forbids, other hosts, and what they do not get.

    failures: whether what they do not get counts; a page that is shown because something is not there may be asked for.
    """
    complaints: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # What is not got is told better below.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(f"{message.type}: {message.text} ({message.page.url if message.page else message.location})")

    def asked(request: Request) -> None:
        # Chromium shows a PDF with an extension and resources of its own.
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:", "chrome:", "chrome-extension:")):
            complaints.append(f"asked another host: {request.url}")

    def answered(answer: Response) -> None:
        if answer.status >= 400 and answer.request.resource_type != "document":
            complaints.append(f"{answer.status} {answer.url}")

    def failed(request: Request) -> None:
        # What a page that is left was still waiting for is given up.
        if request.failure != "net::ERR_ABORTED":
            complaints.append(f"{request.failure} {request.url}")

    context.add_init_script("document.addEventListener('securitypolicyviolation', (event) => console.error(`${event.violatedDirective} forbids ${event.blockedURI}`));")
    context.on("console", said)
    context.on("weberror", lambda error: complaints.append(f"{error.error} ({error.page.url if error.page else ''})"))
    context.on("request", asked)
    if failures:
        context.on("response", answered)
        context.on("requestfailed", failed)
    return complaints


@pytest.fixture
def failing_requests() -> None:
    """A test that asks for this makes requests fail itself, so that they are no reason to complain."""


@pytest.fixture
def context(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies, in a place whose time is not UTC; whatever its pages complain about fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, timezone_id="Asia/Tokyo", color_scheme="light")
    complaints = watch(context, failures="failing_requests" not in request.fixturenames)
    yield context
    context.close()
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext, address: str, session: Session) -> Iterator[Page]:
    """A page of a browser that is logged in."""
    context.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
    yield context.new_page()
    # While the web server is still there: what a page asks for after it would be a complaint.
    for page in context.pages:
        page.close()
