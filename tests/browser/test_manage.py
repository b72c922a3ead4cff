"""Settings and statistics in a browser: what is chosen holds, and charts are drawn."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from dicomweb import sessions, statistics
from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Batch, Cleanup, Sample, Worker
from tests.functional import pages
from tests.functional.api_data import PASSWORD, import_folder, write_samples
from tests.functional.pages import Browser


@pytest.fixture
def full(session: Browser, importer: Importer) -> Browser:
    """An application in which everything the pages can show is there."""
    folder = session.settings["watch.folders"][0] / "samples"
    write_samples(folder)
    import_folder(importer, folder)
    now = datetime.now(UTC)
    session.add(
        pages.batch("knee", path=str(folder.with_name("knee")), image_count=3),
        pages.batch("leaving", path="/data/leaving", delete_at=now + timedelta(minutes=20)),
        pages.batch("cleaned", path="/data/cleaned"),
        pages.job(), pages.job(status="queued"), pages.job(status="running", worker="host:7", started_at=now),
        Worker(name="host:7", started_at=now, seen_at=now, memory=120_000_000),
        *(
            Sample(at=statistics.minute(now) - timedelta(minutes=n), queued=n, running=n % 5, failed=1, workers=1, images=7, bytes=9000 - n, free=10**10)
            for n in range(50)
        ),
    )  # fmt: skip
    session.add(Cleanup(batch_id=4, status="kept", asked_at=now, automatic=True, files=3, bytes=4000, kept=1, reason="1 entry stayed."))
    with work(session.engine) as dbsession:
        sessions.begin(dbsession, "x" * 43, address="192.0.2.9", browser="Mozilla/5.0 (Windows) Firefox/144.0", now=now)
    return session


def test_what_is_chosen_with_the_keyboard_holds_on_all_pages(page: Page, address: str, session: Browser) -> None:
    session.add(pages.batch())
    page.goto(f"{address}/settings/appearance")
    page.get_by_label("As the system says").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This browser shows all pages like this from now on.")).to_be_visible()
    page.goto(address)
    html = page.locator("html")
    expect(html).to_have_attribute("data-bs-theme", "dark")
    expect(html).to_have_attribute("data-density", "compact")
    expect(page.locator("#batch-1 time").first).to_have_text("01.03.2026 21:00")
    assert page.locator("#batch-1").evaluate("row => row.getBoundingClientRect().height") < 40
    page.get_by_role("button", name="Light or dark").click()
    page.goto(f"{address}/settings/appearance")
    expect(page.get_by_label("Light", exact=True)).to_be_checked()
    expect(page.get_by_label("Compact")).to_be_checked()
    page.get_by_label("03/31/2026 5:05 PM").check()
    page.get_by_role("button", name="Show pages like this").click()
    page.goto(address)
    expect(page.locator("#batch-1 time").first).to_have_text("03/01/2026 9:00 PM")


def test_a_chart_is_drawn_and_its_table_is_one_key_away(page: Page, address: str, full: Browser) -> None:
    page.goto(f"{address}/statistics")
    for name in ("days", "modalities", "growth", "queue"):
        canvas = page.locator(f"#{name}-chart")
        expect(canvas).to_be_visible()
        colours = canvas.evaluate(
            "one => new Set(new Uint32Array(one.getContext('2d').getImageData(0, 0, one.width, one.height).data.buffer)).size"
        )
        assert colours > 3, name
    light = page.locator("#days-chart").evaluate("one => one.toDataURL()")
    page.get_by_role("button", name="Light or dark").click()
    page.wait_for_function("light => document.getElementById('days-chart').toDataURL() !== light", arg=light)
    table = page.locator("details[data-canvas='queue-chart']")
    expect(table.locator("tbody tr").first).to_be_hidden()
    table.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(table.locator("tbody tr").first).to_be_visible()


@pytest.mark.usefixtures("failing_requests")
def test_without_a_script_the_tables_are_there(page: Page, address: str, full: Browser) -> None:
    page.route(re.compile(r"charts-"), lambda route: route.abort())
    page.goto(f"{address}/statistics")
    expect(page.locator("#queue-chart")).to_be_hidden()
    expect(page.locator("details[data-canvas='queue-chart'] tbody tr").first).to_be_visible()


def test_a_deletion_is_taken_back_with_one_click(page: Page, address: str, full: Browser) -> None:
    page.goto(f"{address}/batches/2/delete")
    page.get_by_label("Yes, delete batch 2").check()
    page.get_by_role("button", name="Delete the batch").click()
    expect(page.get_by_text("This batch will be deleted")).to_be_visible()
    assert full.count(Batch, Batch.delete_at.is_not(None)) == 2
    page.get_by_role("button", name="Undo: keep the batch").click()
    expect(page.get_by_text("The batch is kept.")).to_be_visible()
    assert full.count(Batch, Batch.delete_at.is_not(None)) == 1


def test_a_new_password_sends_the_other_browsers_away(page: Page, address: str, full: Browser) -> None:
    page.goto(f"{address}/settings/access")
    page.get_by_label("Old password").fill("wrong")
    page.get_by_label("New password", exact=True).fill("a new one 77")
    page.get_by_label("New password once more").fill("a new one 77")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("alert")).to_have_text("The old password is not right; nothing was changed.")
    expect(page.get_by_label("Old password")).to_be_focused()
    page.keyboard.type(PASSWORD)
    page.get_by_label("New password", exact=True).fill("a new one 77")
    page.get_by_label("New password once more").fill("a new one 77")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The new password is in force.")).to_be_visible()
    expect(page.locator("tr[id^=session-]")).to_have_count(1)
