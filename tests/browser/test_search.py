"""What only a browser can tell of the search page and the console: completion, keys, history, looks."""

from __future__ import annotations

import re
from threading import Event
from urllib.parse import quote_plus

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from dicomweb import asking
from dicomweb.exports import Export, Exports, ExportStopped
from dicomweb.imports import Importer
from tests import dicom_files
from tests.browser.test_pages import violations
from tests.functional.api_data import import_folder, write_samples
from tests.functional.pages import Browser


@pytest.fixture
def imported(session: Browser, importer: Importer) -> int:
    """The id of a batch with seven images."""
    folder = session.settings["watch.folders"][0] / "samples"
    write_samples(folder)
    return import_folder(importer, folder)


def suggestions(page: Page) -> Locator:
    """What is offered; the choices of a select are options too."""
    return page.locator(".completion:not([hidden]) [role=option]")


def type_and_wait(page: Page, text: str) -> None:
    """Type into an empty box, and wait for the suggestions for all of it."""
    with page.expect_response(re.compile(rf"text={re.escape(quote_plus(text))}(&|$)")):
        page.keyboard.type(text)


class TestCompletion:
    def test_keys_choose_a_keyword_and_then_a_value(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        query = page.get_by_role("combobox", name="Query")
        expect(query).to_be_focused()
        type_and_wait(page, "Modal")
        options = suggestions(page)
        expect(options.first).to_contain_text("Modality")
        expect(query).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowDown")
        expect(options.first).to_have_attribute("aria-selected", "true")
        expect(query).to_have_attribute("aria-activedescendant", re.compile("q-completion-0"))
        page.keyboard.press("Enter")
        expect(query).to_have_value("Modality:")
        expect(options.first).to_contain_text("CT")
        assert violations(page) == []
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        expect(query).to_have_value("Modality:CT")
        expect(query).to_be_focused()
        expect(options.first).to_contain_text("CT")
        # There is nothing more to complete, so the key leads on.
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Search")).to_be_focused()

    def test_suggestions_for_what_was_typed_before_are_not_taken(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        query = page.get_by_role("combobox", name="Query")
        expect(query).to_be_focused()
        type_and_wait(page, "Modal")
        expect(suggestions(page).first).to_contain_text("Modality")
        page.keyboard.press("ArrowDown")
        expect(suggestions(page).first).to_have_attribute("aria-selected", "true")
        held: list[Route] = []
        answering = Event()
        page.route("**/api/complete*", lambda route: route.continue_() if answering.is_set() else held.append(route))
        page.keyboard.type("i")
        # Whoever types on has not taken what was chosen.
        expect(suggestions(page).first).to_have_attribute("aria-selected", "false")
        page.keyboard.press("ArrowDown")
        with page.expect_request("**/api/complete*"):
            page.keyboard.press("Tab")
        expect(query).to_have_value("Modali")
        expect(query).to_be_focused()
        suggestions(page).first.evaluate("option => { option.dataset.before = 'yes'; }")
        answering.set()
        for route in held:
            route.continue_()
        expect(page.locator("[data-before]")).to_have_count(0)
        # What the arrow had reached is chosen still, and can be taken now.
        expect(suggestions(page).first).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(query).to_have_value("Modality:")

    def test_escape_closes_and_enter_asks(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        expect(page.get_by_role("combobox", name="Query")).to_be_focused()
        page.keyboard.type("Modality:MR")
        expect(suggestions(page).first).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("listbox", name="Suggestions")).to_be_hidden()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="2 images")).to_be_visible()

    def test_a_click_takes_an_option(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        expect(page.get_by_role("combobox", name="Query")).to_be_focused()
        type_and_wait(page, "SliceThi")
        suggestions(page).first.click()
        expect(page.get_by_role("combobox", name="Query")).to_have_value("SliceThickness:")

    def test_characters_beyond_the_basic_plane_do_not_shift_the_place(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        expect(page.get_by_role("combobox", name="Query")).to_be_focused()
        type_and_wait(page, "😀😀 Modal")
        expect(suggestions(page).first).to_contain_text("Modality")
        page.keyboard.press("Tab")
        expect(page.get_by_role("combobox", name="Query")).to_have_value("😀😀 Modality:")

    def test_columns_are_completed(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        page.get_by_role("link", name="Columns…").click()
        columns = page.get_by_role("combobox", name="Columns")
        columns.fill("PatientID, SliceThi")
        expect(suggestions(page).first).to_contain_text("SliceThickness")
        page.keyboard.press("Tab")
        expect(columns).to_have_value("PatientID, SliceThickness")


def test_the_back_button_leads_back_through_levels_and_facets(page: Page, address: str, imported: int) -> None:
    page.goto(f"{address}/search")
    page.get_by_role("link", name="MR 2").click()
    expect(page.get_by_role("heading", name="2 images")).to_be_visible()
    page.get_by_role("navigation", name="Show").get_by_role("link", name="Series").click()
    expect(page.get_by_role("heading", name="1 series")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="2 images")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="7 images")).to_be_visible()


def test_from_a_hit_and_its_viewer_the_back_button_leads_to_the_same_row_at_the_same_place(page: Page, address: str, session: Browser, importer: Importer) -> None:
    folder = session.settings["watch.folders"][0] / "long"
    dicom_files.write_series(folder, images=110, seed="long")
    import_folder(importer, folder)
    page.set_viewport_size({"width": 1200, "height": 600})
    page.goto(f"{address}/search?q=Modality:CT")
    page.get_by_role("link", name="Next", exact=True).click()
    expect(page).to_have_url(re.compile("after="))
    found = page.url
    hit = page.locator("main table tbody a[href*='/images/']:not(:has(img))").nth(37)
    hit.scroll_into_view_if_needed()
    expect(page.locator("#facet-list")).to_contain_text("CT")
    path = hit.get_attribute("href")
    hit.focus()
    page.evaluate("new Promise(resolve => setTimeout(resolve, 500))")  # The browser scrolls smoothly.
    before, top = page.evaluate("scrollY"), hit.evaluate("one => one.getBoundingClientRect().top")
    assert before > 300
    hit.press("Enter")
    expect(page).to_have_url(f"{address}{path}")
    expect(page.locator("[data-viewer]")).to_have_attribute("data-state", "ready", timeout=60_000)
    page.go_back()
    expect(page).to_have_url(found)
    again = page.locator(f"main table tbody a[href='{path}']:not(:has(img))").first
    expect(again).to_be_in_viewport()
    expect(page.locator("#facet-list")).to_contain_text("CT")
    assert page.evaluate("scrollY") == pytest.approx(before, abs=2)
    assert again.evaluate("one => one.getBoundingClientRect().top") == pytest.approx(top, abs=2)


def test_a_panel_opens_and_closes(page: Page, address: str, imported: int) -> None:
    page.goto(f"{address}/search")
    expect(page.get_by_role("link", name="CSV", exact=True)).to_be_hidden()
    page.get_by_role("link", name="Export…").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert download.value.suggested_filename == "search.csv"
    page.get_by_role("link", name="Close Export").click()
    expect(page.get_by_role("link", name="CSV", exact=True)).to_be_hidden()


class TestAnExport:
    """A download is followed by its name; here the name is known, and the file is given piece by piece."""

    NAME = "00" * 16

    @pytest.fixture
    def export(self, page: Page, address: str, session: Browser, imported: int) -> Export:
        page.add_init_script("crypto.getRandomValues = (bytes) => bytes;")
        page.route("**/search/export?*", lambda route: route.fulfill(status=204))
        page.goto(f"{address}/search")
        page.get_by_role("link", name="Export…").click()
        page.get_by_role("link", name="CSV", exact=True).click()
        expect(page.locator(".export-line")).to_contain_text("CSV: counting")
        registry = session.app.registry
        exports: Exports = registry["exports"]
        return exports.begin(registry["engine"], registry["storage"], asking.read_question(""), "csv", name=self.NAME)

    def test_it_shows_how_far_it_is_and_when_it_is_done(self, page: Page, export: Export) -> None:
        line = page.locator(".export-line")
        expect(line).to_contain_text("CSV: 0 of 7 images")
        expect(page.get_by_role("progressbar", name="Export CSV")).to_be_visible()
        assert violations(page) == []
        for _ in export:
            pass
        expect(line).to_contain_text("CSV: done, 7 images")
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)

    def test_it_can_be_cancelled_with_the_keyboard(self, page: Page, export: Export) -> None:
        next(export)
        page.get_by_role("button", name="Cancel the export CSV").focus()
        with page.expect_response("**/search/stop"):
            page.keyboard.press("Enter")
        with pytest.raises(ExportStopped):
            next(export)
        line = page.locator(".export-line")
        expect(line).to_contain_text("CSV: cancelled; there is no complete file.")
        expect(line.locator("span")).to_be_focused()

    def test_the_page_goes_on_meanwhile(self, page: Page, address: str, export: Export) -> None:
        next(export)
        page.get_by_role("combobox", name="Query").fill("Modality:MR")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="2 images")).to_be_visible()
        export.close()

    def test_a_real_download_ends_with_its_numbers(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        page.get_by_label("Line").fill("export")
        page.keyboard.press("Enter")
        for name, file in (("Parquet", "search.parquet"), ("Images ZIP", "images.zip")):
            with page.expect_download() as download:
                page.get_by_role("link", name=name).click()
            assert download.value.suggested_filename == file
            expect(page.locator(".export-line").last).to_contain_text(f"{name}: done, 7 images")


class TestRows:
    def test_ticked_rows_are_compared(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search?q=Modality:MR")
        compare = page.get_by_role("button", name="Compare two")
        expect(compare).to_be_hidden()
        page.get_by_role("checkbox", name="Choose image").first.check()
        expect(compare).to_be_disabled()
        page.get_by_role("checkbox", name="Choose all rows of this page").check()
        expect(page.get_by_text("2 rows ticked")).to_be_visible()
        compare.click()
        expect(page.get_by_role("heading", name="What differs between two images")).to_be_visible()
        expect(page.get_by_role("row", name="InstanceNumber")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="2 images")).to_be_visible()

    def test_ticked_rows_are_labelled_with_the_keyboard_and_a_button_takes_it_off(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search?q=Modality:MR")
        page.get_by_role("checkbox", name="Choose image").first.focus()
        page.keyboard.press("Space")
        page.locator("[data-rows-bar]").get_by_role("link", name="Label…").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("radio", name="Only the rows that are ticked (1)")).to_be_checked()
        page.get_by_role("combobox", name="Label", exact=True).fill("odd one")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The label is on the chosen rows.")).to_be_visible()
        off = page.get_by_role("button", name=re.compile("Take the label odd one off image"))
        expect(off).to_have_count(1)
        off.click()
        expect(page.get_by_text("The label is taken away from the chosen rows.")).to_be_visible()
        expect(off).to_have_count(0)

    def test_a_label_is_put_on_a_series_on_the_page_of_its_image(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/batches/{imported}/images/1")
        page.locator("summary", has_text="+ Label").nth(1).focus()
        page.keyboard.press("Enter")
        page.get_by_label("Label for this series").fill("knees")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The label is put on.")).to_be_visible()
        page.get_by_role("button", name="Take the label knees off this series").click()
        expect(page.get_by_text("The label is taken off.")).to_be_visible()
        expect(page.get_by_role("link", name="knees")).to_have_count(0)


def test_another_facet_is_completed_and_added(page: Page, address: str, imported: int) -> None:
    page.goto(f"{address}/search")
    page.get_by_role("combobox", name="Count the values of").focus()
    type_and_wait(page, "InstanceNum")
    expect(suggestions(page).first).to_contain_text("InstanceNumber")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="InstanceNumber")).to_be_visible()


def test_what_varies_is_filtered(page: Page, address: str, imported: int) -> None:
    page.goto(f"{address}/search/varies?q=Modality:MR")
    page.get_by_role("searchbox", name="Filter by element or value").fill("instancenumber")
    expect(page.get_by_role("rowheader", name="InstanceNumber")).to_be_visible()
    expect(page.get_by_role("rowheader", name="Modality", exact=True)).to_be_hidden()


class TestTheConsole:
    def run(self, page: Page, line: str) -> None:
        page.get_by_label("Line").fill(line)
        page.keyboard.press("Escape")
        with page.expect_response(re.compile("/console/answer")):
            page.get_by_role("button", name="Run").click()
        expect(page.get_by_label("Line")).to_be_focused()
        expect(page.get_by_label("Line")).to_have_value("")

    def test_answers_follow_each_other_and_remember_what_was_said(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "Modality:MR")
        self.run(page, "level series")
        self.run(page, "count")
        expect(page.locator(".console-answer")).to_have_count(3)
        expect(page.locator(".console-answer").last).to_contain_text("1 series")
        expect(page.get_by_label("Line")).to_be_focused()
        assert violations(page) == []

    def test_nothing_is_suggested_over_an_answer(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        expect(page.get_by_label("Line")).to_be_focused()
        page.keyboard.type("Modality:MR")
        page.keyboard.press("Enter")
        expect(page.locator(".console-answer")).to_contain_text("2 images")
        page.get_by_label("Line").click()
        expect(page.get_by_role("listbox", name="Suggestions")).to_be_hidden()

    def test_the_address_has_the_last_answer(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "Modality:MR")
        self.run(page, "level series")
        page.reload()
        expect(page.locator(".console-answer")).to_have_count(1)
        expect(page.locator(".console-answer")).to_contain_text("1 series")
        self.run(page, "count")
        expect(page.locator(".console-answer").last).to_contain_text("1 series")

    def test_the_arrows_bring_back_what_was_typed(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "count")
        self.run(page, "say")
        line = page.get_by_label("Line")
        page.keyboard.press("ArrowUp")
        expect(line).to_have_value("say")
        page.keyboard.press("ArrowUp")
        expect(line).to_have_value("count")
        page.keyboard.press("ArrowDown")
        expect(line).to_have_value("say")
        page.keyboard.press("ArrowDown")
        expect(line).to_have_value("")

    def test_a_value_of_a_facet_is_the_next_line(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "facet Modality")
        with page.expect_response(re.compile("/console/answer")):
            page.get_by_role("button", name="MR", exact=True).click()
        expect(page.locator(".console-answer").last).to_contain_text("2 images")

    def test_hostile_values_are_only_text(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "columns PatientName,SeriesDescription")
        self.run(page, "facet PatientName")
        expect(page.locator("#transcript script, #transcript img")).to_have_count(0)
        expect(page.locator(".console-answer").last).to_contain_text("</script><script>alert(1)</script>")

    def test_the_page_becomes_empty(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "count")
        page.get_by_label("Line").fill("clear")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Run").click()
        expect(page.locator(".console-answer")).to_have_count(0)
