"""What only a browser can tell: scripts, refreshing, looks, and whether everybody can use the pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from dicomweb.assets import FRONTEND
from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Batch
from tests import dicom_files
from tests.functional import pages
from tests.functional.api_data import PASSWORD, import_folder, write_samples
from tests.functional.pages import NOW, Browser


@pytest.fixture
def imported(session: Browser, importer: Importer) -> int:
    """The id of a batch with images, errors, a conflict and a notice; something waits, a job failed, a batch runs."""
    folder = session.settings["watch.folders"][0] / "samples"
    write_samples(folder)
    batch_id = import_folder(importer, folder)
    session.add(
        pages.arrival("/data/hip"),
        pages.job(batch_id=batch_id),
        *(pages.batch(f"batch {number}") for number in range(40)),
        pages.batch("running", status="PROCESSING", file_count=10, done_count=3),
    )
    return batch_id


def refresh(page: Page, selector: str) -> None:
    """Do now what the page does every few seconds."""
    with page.expect_response(re.compile("/status")):
        page.locator(selector).dispatch_event("every")


def violations(page: Page, *, colours_only: bool = False) -> list[str]:
    """What axe has to say about a page."""
    axe = FRONTEND / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.exists():
        pytest.skip("axe-core is installed with the front end's packages, which are not here")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(axe.read_text(encoding="utf-8"))
    # What is in order is most of what it finds, and takes long to bring over.
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if colours_only:
        options["runOnly"] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
    violations: list[dict[str, Any]] = page.evaluate("async (options) => (await axe.run(options)).violations", options)
    return [f"{one['id']}: {node['html'][:200]}" for one in violations for node in one["nodes"]]


def violations_of_looks(page: Page, *, narrow: bool = True) -> list[str]:
    """What is wrong with a page, wide and narrow, in light and dark: what axe says, and whether it is wider than the window.

    narrow: whether axe looks at it in a narrow window too; its width is measured there in any case.
    """
    found = []
    for width, theme in ((1440, "light"), (1440, "dark"), *([(390, "dark")] if narrow else []), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        # Without motion, so that no colour is looked at on its way to another one.
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
        page.wait_for_function("theme => document.documentElement.dataset.bsTheme === theme", arg=theme)
        if width == 1440 or narrow:
            # All that the theme changes are colours.
            found += [f"{theme}, {width} wide: {problem}" for problem in violations(page, colours_only=theme == "dark")]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append(f"{theme}, {width} wide: the page is wider than the window")
    return found


def test_one_gets_in_with_the_password_and_out_with_the_menu(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    page.goto(f"{address}/settings")
    expect(page.get_by_role("heading", name="This application is locked")).to_be_visible()
    assert violations(page) == []
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the password.")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Unlock").click()
    expect(page).to_have_url(f"{address}/settings")
    page.get_by_role("button", name="End session").click()
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    page.goto(address)
    expect(page).to_have_url(f"{address}/login")


def test_the_dashboard_refreshes_without_a_jump(page: Page, address: str, session: Browser, imported: int) -> None:
    page.set_viewport_size({"width": 1000, "height": 400})
    page.goto(address)
    link = page.get_by_role("link", name="batch 30", exact=True)
    link.focus()
    expect(link).to_be_in_viewport()
    page.evaluate("new Promise(resolve => setTimeout(resolve, 500))")  # The browser scrolls smoothly.
    before = page.evaluate("scrollY")
    assert before > 0
    session.add(pages.batch("new"))
    refresh(page, "#dashboard")
    expect(page.get_by_role("link", name="new", exact=True)).to_be_attached()
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    # The new row is above; the browser may follow what it shows, and nothing else may move it.
    assert 0 <= page.evaluate("scrollY") - before < 100


@pytest.mark.usefixtures("failing_requests")
def test_a_session_that_ended_elsewhere_leads_to_the_lockdown_page(page: Page, address: str, session: Browser) -> None:
    page.goto(address)
    session.get("/").forms[0].submit()
    page.locator("#dashboard").dispatch_event("every")
    expect(page.get_by_role("heading", name="This application is locked")).to_be_visible()


def test_the_page_of_a_batch_follows_it_until_it_is_done(page: Page, address: str, session: Browser) -> None:
    session.add(pages.batch("running", status="PROCESSING", file_count=10, done_count=3))
    page.goto(f"{address}/batches/1")
    progress = page.get_by_role("progressbar", name="Progress of the batch")
    expect(progress).to_have_attribute("value", "30")
    with work(session.engine) as dbsession:
        batch = dbsession.get(Batch, 1)
        assert batch is not None
        batch.status, batch.done_count = "DONE", 10
    refresh(page, "#batch")
    expect(progress).to_have_attribute("value", "100")
    expect(page.locator("#batch")).not_to_have_attribute("hx-get", re.compile(""))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#batch").dispatch_event("every")
    page.evaluate("new Promise(resolve => setTimeout(resolve, 50))")
    assert asked == []


def test_times_are_those_of_the_place_and_stay_so(page: Page, address: str, session: Browser) -> None:
    session.add(pages.batch())
    page.goto(address)
    time = page.locator("#batch-1 time").first
    assert NOW.hour == 12
    expect(time).to_have_text("2026-03-01 21:00")
    expect(time).to_have_attribute("title", "2026-03-01 12:00:00 UTC")
    refresh(page, "#dashboard")
    expect(time).to_have_text("2026-03-01 21:00")


def test_light_and_dark_are_remembered(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.goto(f"{address}/settings")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


class TestTheImage:
    def test_its_fields_are_filtered_as_one_types(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/batches/{imported}/images/1")
        rows = page.locator("#fields > tbody > tr:visible")
        everything = rows.count()
        page.keyboard.press("/")
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("patientname")
        expect(rows).to_have_count(1)
        expect(page.locator("#filter-count")).to_have_text("1 field contains this")
        page.get_by_role("searchbox").fill("0010,0020")
        expect(rows).to_have_count(1)
        page.get_by_role("searchbox").fill("nothing like this")
        expect(rows).to_have_count(0)
        expect(page.get_by_text("No field contains this.")).to_be_visible()
        page.get_by_role("searchbox").fill("")
        expect(rows).to_have_count(everything)

    def test_a_sequence_unfolds_for_what_is_in_it(self, page: Page, address: str, session: Browser, importer: Importer) -> None:
        folder = session.settings["watch.folders"][0] / "nested"
        dicom_files.write_series(folder, images=1, seed="nested")
        import_folder(importer, folder)
        page.goto(f"{address}/batches/1/images/1")
        nested = page.locator("#fields table.nested tr")
        expect(nested.first).to_be_hidden()
        words = nested.first.locator(".field-keyword span").first.text_content() or ""
        page.get_by_role("searchbox").fill(words)
        expect(nested.first).to_be_visible()
        page.get_by_role("searchbox").fill("")
        expect(nested.first).to_be_hidden()

    @pytest.mark.usefixtures("failing_requests")
    def test_a_picture_that_cannot_be_drawn_says_why(self, page: Page, address: str, session: Browser, imported: int) -> None:
        for pack in session.settings.var.rglob("*.pack"):
            pack.unlink()
        page.goto(f"{address}/batches/{imported}/images/1")
        expect(page.locator(".viewer-trouble")).to_contain_text("This frame cannot be shown. The", timeout=60_000)
