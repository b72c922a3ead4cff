"""The data pages in a browser: keyboard only, choice that outlives a refresh, live progress, and whether everybody can use them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Batch
from tests import dicom_files
from tests.browser.test_pages import refresh, violations_of_looks
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


def test_everybody_can_use_them(page: Page, address: str, imported: int) -> None:
    paths = (
        "/?errors=yes&source=folder", f"/batches/{imported + 1}", f"/batches/{imported}/errors?code=truncated", f"/batches/{imported}/quality",
        "/batches/chosen?do=delete&batch=1&batch=2", "/batches/chosen?do=label&batch=1", "/patients?q=nothing", "/studies", "/patients/1", "/series/1",
    )  # fmt: skip
    found: dict[str, list[str]] = {}
    for path in paths:
        page.goto(f"{address}{path}")
        for what in page.get_by_role("link", name=re.compile("^(What varies in|First bytes)")).all()[:1]:
            what.click()
        expect(page.locator(".counting")).to_have_count(0)
        found[path] = violations_of_looks(page)
    assert {path: problems for path, problems in found.items() if problems} == {}


def test_one_gets_with_the_keyboard_from_the_list_to_an_image_and_its_header(page: Page, address: str, imported: int) -> None:
    page.goto(address)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Name")).to_be_focused()
    page.keyboard.type("samples")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/?name=samples")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="samples", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/batches/{imported}")
    rows = page.locator("#images [data-row-link]")
    page.keyboard.press("k")
    expect(rows.last).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(rows.nth(-2)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/batches/{imported}/images/"))
    page.keyboard.press("/")
    page.keyboard.type("patientid")
    expect(page.locator("#fields > tbody > tr:visible")).to_have_count(1)


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
