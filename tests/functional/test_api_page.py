"""The page with Swagger UI, in a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect, sync_playwright
from webtest.http import StopableWSGIServer

from dicomweb import assets
from dicomweb.settings import Settings
from tests import services
from tests.functional import api_data

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """Where the application answers."""
    try:
        assets.build()
    except assets.AssetsMissing:
        services.missing("Node, which builds the front end,")
    app = api_data.make_app(settings)
    server = StopableWSGIServer.create(app, host="127.0.0.1")
    yield server.application_url.rstrip("/")
    server.shutdown()
    api_data.close(app)


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=services.chromium(), args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def test_requests_are_tried_out_in_the_session_of_the_browser(
    page: Page, address: str, imported: int, engine: sa.Engine
) -> None:
    complaints: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/api")[0].split("/static")[0]))
    name, _, value = api_data.begin_session(engine)["Cookie"].partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": address}])
    page.goto(f"{address}/api")
    expect(page.locator(".opblock")).to_have_count(22)
    operation = page.locator("#operations-batches-retry_batch")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_placeholder("id").fill(str(imported))
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("202")
    assert complaints == []
    assert {host for host in hosts if not host.startswith("data:")} == {address}
