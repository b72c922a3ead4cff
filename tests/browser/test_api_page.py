"""The page with Swagger UI, in a browser."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from dicomweb.imports import Importer
from tests.functional import api_data
from tests.functional.pages import Browser


def test_requests_are_tried_out_in_the_session_of_the_browser(
    page: Page, address: str, session: Browser, importer: Importer
) -> None:
    folder = session.settings["watch.folders"][0] / "samples"
    api_data.write_samples(folder)
    batch_id = api_data.import_folder(importer, folder)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/api")[0].split("/static")[0]))
    page.goto(f"{address}/api")
    paths = session.get("/api/swagger.json").json["paths"]
    operations = [method for path in paths.values() for method in path if method != "parameters"]
    expect(page.locator(".opblock")).to_have_count(len(operations))
    operation = page.locator("#operations-batches-retry_batch")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_placeholder("id").fill(str(batch_id))
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("202")
    assert {host for host in hosts if not host.startswith("data:")} == {address}
