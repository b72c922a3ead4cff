"""What only a browser can tell of the search page and the console: completion, keys, history, looks."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from dicomweb.imports import Importer
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everybody_can_use_the_pages(page: Page, address: str, session: Browser, imported: int, theme: str, width: int) -> None:
    session.press("/search/save", q="Modality:MR", level="image", name="All MR")
    session.press("/search/label", q="Modality:MR", level="image", label="knees", do="add")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    paths = ["/search", "/search?q=Modality:MR&level=series", "/search?q=Modality:XX+PatientID:*", "/search?q=Modalty:MR"]
    paths += [f"/search?q=Modality:MR#{panel}-panel" for panel in ("columns", "export", "label", "save")]
    paths += ["/search/varies?q=Modality:MR", "/console?line=Modality:MR", "/console?line=help", "/console?line=facet+Modality"]
    for path in paths:
        page.goto(f"{address}{path}")
        page.wait_for_load_state("networkidle")
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, path


def test_everybody_can_use_the_page_of_an_empty_database(page: Page, address: str) -> None:
    for path in ("/search", "/search?q=Modality:CT"):
        page.goto(f"{address}{path}")
        expect(page.get_by_text("There are no images yet")).to_be_visible()
        assert violations(page) == []


class TestCompletion:
    def test_keys_choose_a_keyword_and_then_a_value(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        query = page.get_by_role("combobox", name="Query")
        expect(query).to_be_focused()
        page.keyboard.type("Modal")
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

    def test_escape_closes_and_enter_asks(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        page.keyboard.type("Modality:MR")
        expect(suggestions(page).first).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("listbox", name="Suggestions")).to_be_hidden()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="2 images")).to_be_visible()

    def test_a_click_takes_an_option(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        page.keyboard.type("SliceThi")
        suggestions(page).first.click()
        expect(page.get_by_role("combobox", name="Query")).to_have_value("SliceThickness:")

    def test_characters_beyond_the_basic_plane_do_not_shift_the_place(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/search")
        page.keyboard.type("😀😀 Modal")
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
    page.get_by_label("Show", exact=True).select_option("series")
    expect(page.get_by_role("heading", name="1 series")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="2 images")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="7 images")).to_be_visible()


def test_a_panel_opens_and_closes(page: Page, address: str, imported: int) -> None:
    page.goto(f"{address}/search")
    expect(page.get_by_role("link", name="CSV", exact=True)).to_be_hidden()
    page.get_by_role("link", name="Export…").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert download.value.suggested_filename == "search.csv"
    page.get_by_role("link", name="Close Export").click()
    expect(page.get_by_role("link", name="CSV", exact=True)).to_be_hidden()


class TestTheConsole:
    def run(self, page: Page, line: str) -> None:
        page.get_by_label("Line").fill(line)
        page.keyboard.press("Escape")
        with page.expect_response(re.compile("/console/answer")):
            page.get_by_role("button", name="Run").click()

    def test_answers_follow_each_other_and_remember_what_was_said(self, page: Page, address: str, imported: int) -> None:
        page.goto(f"{address}/console")
        self.run(page, "Modality:MR")
        self.run(page, "level series")
        self.run(page, "count")
        expect(page.locator(".console-answer")).to_have_count(3)
        expect(page.locator(".console-answer").last).to_contain_text("1 series")
        expect(page.get_by_label("Line")).to_be_focused()
        assert violations(page) == []

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
