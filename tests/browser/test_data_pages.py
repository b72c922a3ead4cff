"""The data pages in a browser: keyboard only, choice that outlives a refresh, and live progress."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Batch
from tests import dicom_files
from tests.browser.test_pages import refresh
from tests.functional import pages
from tests.functional.api_data import import_folder, write_samples
from tests.functional.pages import Browser


@pytest.fixture
def imported(session: Browser, importer: Importer) -> int:
    """The id of a batch with images and errors; another one has a gap; there are forty more, and one that runs."""
    folder = session.settings["watch.folders"][0]
    write_samples(folder / "samples")
    batch_id = import_folder(importer, folder / "samples")
    files = dicom_files.write_series(folder / "gap", images=8, seed="gap", BurnedInAnnotation="YES")
    files[3].unlink()
    import_folder(importer, folder / "gap")
    session.add(
        *(pages.batch(f"batch {number}", source="stow" if number % 2 else "folder") for number in range(40)),
        pages.batch("running", status="PROCESSING", file_count=10, done_count=3, began_at=pages.NOW, arrived_at=pages.NOW),
        pages.job(batch_id=batch_id),
    )
    return batch_id


def press(page: Page, key: str) -> None:
    """Press a key; something must have the focus then, and one must see what."""
    page.keyboard.press(key)
    unseen = page.evaluate("""() => {
        const one = document.activeElement;
        if (!one || one === document.body) return "nothing has the focus";
        const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(one);
        return (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || boxShadow !== "none" ? "" : one.outerHTML.slice(0, 200);
    }""")
    assert unseen == "", key


def press_until(page: Page, key: str, where: Locator) -> None:
    """Press a key again and again until an element has the focus."""
    passed = []
    for _ in range(80):
        press(page, key)
        if where.evaluate("one => one === document.activeElement"):
            return
        passed.append(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
    raise AssertionError(f"{key} does not lead there, but to {passed}")


def test_one_gets_with_the_keyboard_alone_from_the_list_to_an_image_its_viewer_and_its_header(page: Page, address: str, session: Browser, imported: int) -> None:
    batch_id = imported + 1
    page.goto(address)
    press(page, "/")
    expect(page.get_by_role("searchbox", name="Name")).to_be_focused()
    page.keyboard.type("gap")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/?name=gap")
    press(page, "j")
    link = page.get_by_role("link", name="gap", exact=True)
    expect(link).to_be_focused()
    session.add(pages.batch("gap of another day"))
    refresh(page, "#dashboard")
    expect(page.get_by_role("link", name="gap of another day")).to_be_attached()
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/batches/{batch_id}")
    rows = page.locator("#images [data-row-link]")
    press(page, "k")
    expect(rows.last).to_be_focused()
    press(page, "ArrowUp")
    expect(rows.nth(-2)).to_be_focused()
    press(page, "j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/batches/{batch_id}/images/"))
    viewer = page.locator("[data-viewer]")
    expect(viewer).to_have_attribute("data-state", "ready", timeout=60_000)
    slider = viewer.locator(".viewer-slider:visible").first
    press_until(page, "Tab", slider)
    shown = viewer.get_attribute("data-image") or ""
    press(page, "ArrowLeft")
    expect(viewer).not_to_have_attribute("data-image", shown)
    # The table follows the slice, and what has the focus keeps it.
    expect(page.locator("#fields-card")).to_have_attribute("data-image", viewer.get_attribute("data-image") or "")
    press(page, "i")
    expect(page.get_by_role("button", name="Invert", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(slider).to_be_focused()
    filter_box = page.get_by_label("Filter the fields")
    press_until(page, "Tab", filter_box)
    page.keyboard.type("patientid")
    expect(page.locator("#fields > tbody > tr:visible")).to_have_count(1)
    expect(filter_box).to_be_focused()


def test_what_is_ticked_stays_ticked_when_the_list_refreshes(page: Page, address: str, session: Browser, imported: int) -> None:
    page.goto(address)
    bar = page.locator("[data-choose-bar]")
    expect(bar).to_be_hidden()
    for _ in range(2):
        page.keyboard.press("j")
        page.keyboard.press("x")
    link = page.get_by_role("link", name="batch 39", exact=True)
    expect(link).to_be_focused()
    expect(bar.get_by_role("status")).to_have_text("2 batches ticked")
    page.get_by_role("searchbox", name="Name").fill("half a na")
    link.focus()
    session.add(pages.batch("new"))
    refresh(page, "#dashboard")
    expect(page.get_by_role("link", name="new", exact=True)).to_be_attached()
    expect(link).to_be_focused()
    expect(page.get_by_role("checkbox", name=", batch 39")).to_be_checked()
    expect(page.get_by_role("checkbox", name="running")).to_be_checked()
    expect(page.get_by_role("checkbox", name="new")).not_to_be_checked()
    expect(bar.get_by_role("status")).to_have_text("2 batches ticked")
    expect(page.get_by_role("searchbox", name="Name")).to_have_value("half a na")
    page.get_by_role("checkbox", name="Choose all batches of this page").check()
    bar.get_by_role("checkbox", name=re.compile("all 43 batches")).check()
    bar.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("heading", name="Delete 44 batches")).to_be_visible()


def test_a_batch_that_becomes_done_is_judged_without_a_reload_and_without_a_jump(page: Page, address: str, session: Browser, imported: int) -> None:
    batch_id = imported + 1
    with work(session.engine) as dbsession:
        dbsession.get_one(Batch, batch_id).status = "PROCESSING"
    page.set_viewport_size({"width": 1000, "height": 400})
    page.goto(f"{address}/batches/{batch_id}")
    page.get_by_role("link", name=re.compile("What varies in the series")).click()
    varies = page.locator(".varying")
    expect(varies).to_contain_text("InstanceNumber")
    link = page.locator("#images [data-row-link]").last
    link.focus()
    expect(link).to_be_in_viewport()
    refresh(page, "#batch")
    expect(varies).to_contain_text("InstanceNumber")
    expect(page.get_by_role("heading", name="Data quality")).to_have_count(0)
    with work(session.engine) as dbsession:
        dbsession.get_one(Batch, batch_id).status = "DONE"
    refresh(page, "#batch")
    expect(page.get_by_text("Slices are missing")).to_be_attached()
    expect(link).to_be_focused()
    expect(page.locator("#batch")).not_to_have_attribute("hx-get", re.compile(""))


def test_the_list_works_without_scripts(page: Page, address: str, session: Browser, imported: int) -> None:
    plain = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
    plain.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
    one = plain.new_page()
    one.goto(f"{address}/?source=stow")
    one.get_by_role("checkbox", name="batch 39").check()
    one.get_by_role("button", name="Export…").click()
    expect(one.get_by_role("heading", name="Export 1 batch")).to_be_visible()
    one.goto(f"{address}/batches/{imported + 1}")
    one.get_by_role("link", name="Look through the headers").click()
    expect(one.get_by_text("Slices are missing")).to_be_visible()
    one.goto(f"{address}/batches/{imported}/errors?code=truncated")
    one.get_by_role("link", name="First bytes").click()
    expect(one.locator("pre.bytes")).to_contain_text("DICM")
    plain.close()
