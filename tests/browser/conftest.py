"""A real browser in front of a real web server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

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


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies, in a place whose time is not UTC."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, timezone_id="Asia/Tokyo", color_scheme="light")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str, session: Session) -> Iterator[Page]:
    """A page of a browser that is logged in; whatever it complains about fails the test."""
    context.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert [text for text in complaints if "Failed to load resource" not in text] == []
