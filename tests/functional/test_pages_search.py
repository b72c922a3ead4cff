"""The search page and the console, as a browser without scripts sees them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from dicomweb.exports import Exports
from dicomweb.imports import Importer
from dicomweb.models import Label, LabelLink, SavedSearch
from dicomweb.query import OPERATORS
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import api_data
from tests.functional.pages import HOSTILE, NOW, Browser
from tests.statements import statements


def search(browser: Browser, query: str = "", status: int = 200, **parameters: str) -> Any:
    given = {"q": query, **parameters}
    return browser.get(f"/search?{urlencode({name: value for name, value in given.items() if value})}", status=status).html


def total(page: Any) -> str:
    return str(page.select_one("#result-title span").text)


def links(page: Any, selector: str) -> dict[str, str]:
    return {" ".join(link.text.split()): link["href"] for link in page.select(selector)}


def query_of(address: str) -> str:
    return parse_qs(urlsplit(address).query).get("q", [""])[0]


class TestTheResult:
    def test_it_is_counted_and_said_back(self, browser: Browser, imported: int) -> None:
        page = search(browser, "modality:mr")
        assert total(page) == "2 images"
        assert page.select_one("#sentence").text == "Modality is mr."
        assert page.select_one("input[name=q]")["value"] == "modality:mr"

    def test_each_row_leads_to_its_image_and_its_batch(self, browser: Browser, imported: int) -> None:
        row = search(browser, "Modality:MR").select_one(".results tbody tr")
        image, batch = (link["href"] for link in row.select("td > a"))
        assert image.startswith(f"/batches/{imported}/images/")
        assert batch == f"/batches/{imported}"
        browser.get(image, status=200)

    def test_a_series_leads_to_its_images(self, browser: Browser, imported: int) -> None:
        page = search(browser, "Modality:MR", level="series")
        assert total(page) == "1 series"
        assert total(browser.get(page.select_one(".results tbody a")["href"]).html) == "2 images"

    def test_a_click_on_a_head_sorts_and_another_turns_the_order_round(self, browser: Browser, imported: int) -> None:
        def ids(page: Any) -> list[str]:
            return [row.select_one("a")["href"] for row in page.select(".results tbody tr")]

        page = search(browser, "Modality:MR", columns="InstanceNumber,PatientID")
        up = browser.get(links(page, ".results thead a")["InstanceNumber"]).html
        assert up.select_one("th[aria-sort]")["aria-sort"] == "ascending"
        down = browser.get(links(up, ".results thead a")["InstanceNumber"]).html
        assert down.select_one("th[aria-sort]")["aria-sort"] == "descending"
        assert ids(down) == ids(up)[::-1]
        assert browser.get(links(down, ".results thead a")["InstanceNumber"]).html.select_one("th[aria-sort]") is None

    def test_columns_are_chosen_and_taken_away(self, browser: Browser, imported: int) -> None:
        page = search(browser, columns="patientid Modality")
        heads = [head.text for head in page.select(".results thead .column-head a:first-child")]
        assert heads == ["PatientID", "Modality"]
        page = browser.get(page.select_one(".column-remove")["href"]).html
        assert [head.text for head in page.select(".results thead .column-head a:first-child")] == ["Modality"]

    def test_pages_lead_on_and_back_in_any_order(self, browser: Browser, settings: Settings, importer: Importer) -> None:
        folder = settings["watch.folders"][0] / "many"
        dicom_files.write_series(folder, images=60)
        api_data.import_folder(importer, folder)
        for sort in ("", "-InstanceNumber"):
            first = search(browser, sort=sort)
            second = browser.get(first.select_one("a[rel=next]")["href"]).html
            seen = [row.select_one("a")["href"] for page in (first, second) for row in page.select(".results tbody tr")]
            assert len(seen) == len(set(seen)) == 60
            back = browser.get(second.select_one("a[rel=prev]")["href"]).html
            assert back.select_one(".results tbody").text == first.select_one(".results tbody").text
            assert second.select_one("a[rel=next]") is None

    def test_the_exports_are_those_of_the_result(self, browser: Browser, imported: int) -> None:
        page = search(browser, "Modality:MR", level="series", columns="PatientID")
        exports = links(page, "#export-panel a[data-export]")
        assert list(exports) == ["CSV", "TSV", "NDJSON", "Parquet", "Images ZIP"]
        assert browser.get(exports["CSV"]).text.splitlines()[0] == "PatientID"
        assert browser.get(exports["Images ZIP"]).content_type == "application/zip"

    def test_the_progress_of_an_export_is_told_by_its_name(self, browser: Browser, imported: int) -> None:
        name = "0123456789abcdef" * 2
        browser.get(f"/search/progress?name={name}", status=404)
        for kind, total in (("csv", 2), ("zip", 2), ("parquet", 2)):
            sent = browser.get(f"/search/export?q=Modality:MR&columns=PatientID&format={kind}&name={name}")
            told = browser.get(f"/search/progress?name={name}").json
            assert told == {"state": "done", "done": total, "total": total, "octets": len(sent.body), "all": f"{total} images"}

    def test_one_download_too_many_is_asked_to_wait(self, browser: Browser, imported: int) -> None:
        browser.app.registry["exports"] = Exports(0)
        page = browser.get("/search/export?format=csv", status=429).html
        assert "That is too much at once" in page.h1.text
        assert "Try again when one of them is done" in page.text
        browser.get("/search", status=200)

    def test_an_export_that_cannot_be_made_says_why(self, browser: Browser, imported: int) -> None:
        wrong = browser.get("/search/export?q=Modalty:MR&format=csv", status=303)
        assert browser.get(wrong.location, status=400).html.select_one("mark").text == "Modalty"
        browser.get("/search/export?format=exe", status=400)
        browser.get("/search/export?format=csv&name=../x", status=400)
        browser.press("/search/stop", name="0" * 32).mustcontain("There is nothing here")

    def test_hostile_values_are_only_text(self, browser: Browser, imported: int) -> None:
        page = browser.get("/search?columns=PatientName,SeriesDescription&counted=yes&facets=PatientName")
        assert not page.html.select("img:not([data-thumbnail])")
        assert [script for script in page.html.select("script") if not script.get("src")] == []
        assert api_data.HOSTILE in page.html.text
        for query in (HOSTILE, f"PatientName:{HOSTILE}"):
            page = search(browser, query, status=400)
            assert page.find("img") is None
            assert page.select_one("input[name=q]")["value"] == query

    @pytest.mark.parametrize("parameters", ["level=x", "size=x&page=-1", "q=%00", "columns=%22&sort=%5B", "facets=**.CodeValue", "after=%F0%9F%98%80"])
    def test_odd_addresses_have_a_page(self, browser: Browser, imported: int, parameters: str) -> None:
        assert browser.get(f"/search?{parameters}", expect_errors=True).status_int in (200, 400)


class TestConditions:
    def test_each_is_taken_away_by_a_click(self, browser: Browser, imported: int) -> None:
        chips = search(browser, "Modality:MR PatientID:*").select(".chip")
        assert [chip.select_one(".chip-text").text for chip in chips] == ["Modality:MR", "PatientID:*"]
        assert query_of(chips[0].a["href"]) == "PatientID:*"

    def test_a_value_of_a_facet_is_added_and_taken_away(self, browser: Browser, imported: int) -> None:
        page = search(browser, "PatientID:*", counted="yes")
        values = links(page, ".facet-values a")
        narrowed = browser.get(values["MR 2"]).html
        assert (query_of(values["MR 2"]), total(narrowed)) == ("PatientID:* Modality:MR", "2 images")
        chosen = browser.get(f"{values['MR 2']}&counted=yes").html.select_one(".facet-values [aria-current]")
        assert query_of(chosen["href"]) == "PatientID:*"

    def test_a_facet_shows_more_of_its_values_and_fewer_again(self, browser: Browser, settings: Settings, importer: Importer) -> None:
        folder = settings["watch.folders"][0] / "many"
        dicom_files.write_series(folder, images=15)
        api_data.import_folder(importer, folder)
        few = search(browser, facets="SOPInstanceUID", counted="yes")
        assert len(few.select(".facet-values li")) == 10
        opened = links(few, ".facet a")["More values of SOPInstanceUID"]
        many = browser.get(f"{opened}&counted=yes").html
        assert len(many.select(".facet-values li")) == 15
        closed = links(many, ".facet a")["Fewer values of SOPInstanceUID"]
        assert len(browser.get(f"{closed}&counted=yes").html.select(".facet-values li")) == 10

    def test_what_is_without_an_element_is_one_click_away(self, browser: Browser, imported: int) -> None:
        page = search(browser, facets="ImageComments", counted="yes")
        [(text, address)] = [(text, address) for text, address in links(page, ".facet a").items() if "without" in text]
        assert total(browser.get(address).html) == f"{text.split()[0]} images"

    def test_another_facet_is_added_with_a_form(self, browser: Browser, imported: int) -> None:
        form = browser.get("/search?q=Modality:MR&counted=yes").forms
        [adding] = [one for one in form.values() if "facet" in one.fields]
        adding["facet"] = "InstanceNumber"
        page = browser.get(f"{adding.submit().request.path_qs}&counted=yes").html
        assert "InstanceNumber" in [title.text for title in page.select(".facet-title .name")]

    def test_the_fragment_is_the_same_as_in_the_page(self, browser: Browser, imported: int) -> None:
        page = search(browser, "Modality:MR", counted="yes")
        fragment = browser.get("/search/facets?q=Modality:MR").html
        assert links(fragment, "a") == links(page, ".search-facets a")
        lazy = search(browser, "Modality:MR").select_one("[hx-get^='/search/facets']")
        assert links(browser.get(lazy["hx-get"]).html, "a") == links(fragment, "a")

    def test_what_varies_is_a_page_of_its_own(self, browser: Browser, imported: int) -> None:
        page = browser.get("/search/varies?q=Modality:MR").html
        varying, constant = page.select("tbody")
        assert "InstanceNumber" in varying.text
        assert "Modality" in [head.text for head in constant.select("th")]
        browser.get("/search/varies?q=Modalty:MR", status=400)


class TestNothing:
    def test_an_empty_database_says_what_to_do(self, browser: Browser) -> None:
        assert "There are no images yet" in search(browser).text
        assert "There are no images yet" in search(browser, "Modality:CT").text

    def test_the_condition_that_is_in_the_way_is_named(self, browser: Browser, imported: int) -> None:
        page = search(browser, "Modality:MR SeriesDescription:nothing")
        assert "Nothing matches" in page.text
        assert list(links(page, ".looser a")) == ["2 images without SeriesDescription:nothing"]
        assert total(browser.get(page.select_one(".looser a")["href"]).html) == "2 images"

    def test_a_single_condition_leads_back_to_everything(self, browser: Browser, imported: int) -> None:
        page = search(browser, "PatientID:nobody")
        assert "No image has this" in page.text
        assert page.select(".looser") == []

    def test_each_condition_can_be_taken_away_when_none_of_them_is_alone_in_the_way(self, browser: Browser, imported: int) -> None:
        page = search(browser, "Modality:MR PatientID:nobody StudyID:nothing")
        assert "with one condition less either" in page.text
        assert [query_of(chip.a["href"]) for chip in page.select(".chip")][0] == "PatientID:nobody StudyID:nothing"

    def test_nothing_varies_among_no_images(self, browser: Browser, imported: int) -> None:
        page = browser.get("/search/varies?q=PatientID:nobody").html
        assert "There is nothing to compare" in page.text
        assert query_of(links(page, ".empty a")["Back to the search"]) == "PatientID:nobody"


class TestMistakes:
    def test_the_place_is_marked_and_the_suggestion_is_a_link(self, browser: Browser, imported: int) -> None:
        page = search(browser, "PatientID:* Modalty:MR", status=400)
        assert page.select_one("mark").text == "Modalty"
        assert page.select_one("input[name=q]")["aria-invalid"] == "true"
        suggestion = page.select_one("#mistake a")
        assert suggestion.text == "Modality"
        assert total(browser.get(suggestion["href"]).html) == "2 images"

    @pytest.mark.parametrize("parameter", ["columns", "sort", "facets"])
    def test_mistakes_elsewhere_are_explained_too(self, browser: Browser, imported: int, parameter: str) -> None:
        page = search(browser, status=400, **{parameter: "Modalty"})
        assert "Modalty" in page.select_one("#mistake").text
        browser.get(page.select_one("#mistake a")["href"], status=200)


class TestKeeping:
    def test_a_search_is_saved_listed_counted_and_forgotten(self, browser: Browser, imported: int) -> None:
        answer = browser.press("/search/save", q="Modality:MR", level="series", name="All MR")
        assert answer.status_int == 303
        page = browser.get(answer.location).html
        assert "The search is saved." in page.text
        counted = browser.get(page.select_one("[hx-get='/search/saved']")["hx-get"]).html
        assert counted.select_one(".badge").text == "1"
        assert total(browser.get(counted.a["href"]).html) == "1 series"
        browser.press("/search/forget", id=counted.select_one("input[name=id]")["value"])
        assert browser.count(SavedSearch) == 0

    def test_a_saved_search_that_is_no_query_any_more_says_so(self, browser: Browser) -> None:
        browser.add(SavedSearch(name="old", query="Modalty:CT", level="image", columns=["PatientID"], created_at=NOW))
        assert "Modalty" in browser.get("/search/saved").html.text

    def test_a_label_is_put_on_the_result_and_taken_off(self, browser: Browser, imported: int) -> None:
        answer = browser.press("/search/label", q="Modality:MR", level="image", label="my knees", do="add")
        page = browser.get(answer.location).html
        assert "The label is on everything" in page.text
        assert total(browser.get(links(page, ".shelf a")["my knees"]).html) == "2 images"
        browser.press("/search/label", q="Modality:MR", level="image", label="my knees", do="remove")
        assert browser.count(LabelLink) == 0

    def test_a_label_that_is_on_nothing_can_be_forgotten(self, browser: Browser, imported: int) -> None:
        browser.press("/search/label", q="Modality:MR", level="image", label="knees", do="add")
        assert "on 2 images" in search(browser).select_one(".shelf").text
        answer = browser.press("/search/forget-label", label="knees")
        assert "Only a label that is on nothing" in browser.get(answer.location).text
        browser.press("/search/label", q="Modality:MR", level="image", label="knees", do="remove")
        forms = search(browser).select("form[action='/search/forget-label']")
        answer = browser.press("/search/forget-label", label=forms[0].select_one("[name=label]")["value"])
        assert "The label is forgotten." in browser.get(answer.location).text
        assert browser.count(Label) == 0

    @pytest.mark.parametrize("level", ["image", "series", "study"])
    def test_a_label_is_put_on_a_row_and_taken_off_by_its_button(self, browser: Browser, imported: int, level: str) -> None:
        page = search(browser, level=level, q="Modality:MR")
        row = page.select_one(".results input[name=row]")["value"]
        answer = browser.press("/search/label", q="Modality:MR", level=level, label="odd one", do="add", on="rows", row=row)
        page = browser.get(answer.location).html
        assert "The label is on the chosen rows." in page.text
        assert total(search(browser, 'label:"odd one"', level=level)) == f"1 {level}"
        assert query_of(links(page, ".results .label-chip a")["odd one"]) == 'label:"odd one"'
        button = page.select_one(".results button[name=take]")
        browser.press("/search/label", q="Modality:MR", level=level, label="", take=button["value"])
        assert browser.count(LabelLink) == 0

    def test_no_row_is_not_every_row(self, browser: Browser, imported: int) -> None:
        answer = browser.press("/search/label", q="Modality:MR", level="image", label="x", do="add", on="rows")
        assert "No row is chosen" in browser.get(answer.location).text
        assert browser.count(LabelLink) == 0

    def test_a_change_leads_back_to_the_same_page_of_the_result(self, browser: Browser, settings: Settings, importer: Importer) -> None:
        folder = settings["watch.folders"][0] / "many"
        dicom_files.write_series(folder, images=60)
        api_data.import_folder(importer, folder)
        second = browser.get(search(browser).select_one("a[rel=next]")["href"]).html
        fields = {field["name"]: field["value"] for field in second.select("#rows-form input[type=hidden]")}
        row = second.select_one("input[name=row]")["value"]
        del fields["csrf_token"]
        answer = browser.press("/search/label", **fields, label="x", do="add", on="rows", row=row)
        assert len(browser.get(answer.location).html.select(".results tbody tr")) == 10

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            ("/search/save", {"q": "Modalty:MR", "name": "x"}),
            ("/search/save", {"q": "", "name": ""}),
            ("/search/label", {"q": "", "label": "-x", "do": "add"}),
            ("/search/label", {"q": "Modality:(", "label": "x", "do": "add"}),
            ("/search/forget", {"id": "x"}),
        ],
    )
    def test_what_cannot_be_kept_changes_nothing(self, browser: Browser, imported: int, path: str, fields: dict[str, str]) -> None:
        assert browser.press(path, **fields).status_int == 303
        assert (browser.count(SavedSearch), browser.count(LabelLink)) == (0, 0)

    def test_a_change_needs_the_token(self, browser: Browser, imported: int) -> None:
        browser.post("/search/label", {"q": "", "label": "x"}, status=400)
        assert browser.count(LabelLink) == 0


class TestLabelsOfOneThing:
    def test_an_image_its_series_study_and_batch_are_labelled_on_its_page(self, browser: Browser, imported: int) -> None:
        image = search(browser, "Modality:MR").select_one(".results tbody a")["href"]
        counts = {"image": 1, "series": 2, "study": 5, "batch": 7}
        for kind, found in counts.items():
            answer = browser.press(f"{image}/label", on=kind, label=f"my {kind}", do="add")
            page = browser.get(answer.location).html
            assert "The label is put on." in page.text
            assert total(browser.get(links(page, ".label-chip a")[f"my {kind}"]).html) == f"{found} image{'s' if found > 1 else ''}"
        assert list(links(page, ".label-chip a")) == [f"my {kind}" for kind in counts]
        for kind in counts:
            browser.press(f"{image}/label", on=kind, label=f"my {kind}", do="remove")
        assert browser.count(LabelLink) == 0

    def test_a_batch_is_labelled_on_its_page(self, browser: Browser, imported: int) -> None:
        forms = browser.get(f"/batches/{imported}").forms
        [adding] = [one for one in forms.values() if one.action.endswith("/label")]
        adding["label"] = "<b>knees</b>"
        page = browser.get(adding.submit("do", value="add").location)
        assert total(browser.get(links(page.html, ".label-chip a")["<b>knees</b>"]).html) == "7 images"
        removing = next(one for one in page.forms.values() if one.action.endswith("/label"))
        removing.submit("do", value="remove")
        assert browser.count(LabelLink) == 0

    def test_what_is_no_label_is_refused(self, browser: Browser, imported: int) -> None:
        image = search(browser, "Modality:MR").select_one(".results tbody a")["href"]
        for path in (f"/batches/{imported}/label", f"{image}/label"):
            answer = browser.press(path, on="image", label="-x", do="add")
            assert "Nothing was labelled" in browser.get(answer.location).text
            browser.post(path, {"on": "image", "label": "x", "do": "add"}, status=400)
        assert browser.press(f"{image}/label", on="patient", label="x", do="add").status_int == 404
        assert browser.count(LabelLink) == 0

    def test_a_batch_leads_to_its_search_and_its_series(self, browser: Browser, imported: int) -> None:
        page = browser.get(f"/batches/{imported}").html
        assert total(browser.get(links(page, ".btn-list a")["Search in this batch"]).html) == "7 images"
        series = [link["href"] for link in page.select("#batch a[aria-label^='The images of the series']")]
        assert sum(int(total(browser.get(address).html).split()[0]) for address in series) == 7


class TestComparing:
    def test_two_rows_lead_to_what_differs(self, browser: Browser, imported: int) -> None:
        one, other = (box["value"] for box in search(browser, "Modality:MR").select(".results input[name=row]"))
        answer = browser.post("/search/compare", [("csrf_token", browser.token()), ("q", "Modality:MR"), ("row", one), ("row", other)])
        page = browser.get(answer.location).html
        rows = {row.th.contents[0]: [cell.text for cell in row.select("td")] for row in page.select(".diff tbody tr")}
        assert rows["InstanceNumber"] == ["IS", "1", "2"]
        assert "Modality" not in rows
        assert [link["href"] for link in page.select(".diff thead a")] == [f"/images/{one}", f"/images/{other}"]

    def test_an_image_does_not_differ_from_itself(self, browser: Browser, imported: int) -> None:
        assert "The headers are the same" in browser.get("/search/diff?one=1&other=1").text

    def test_other_numbers_of_rows_are_not_compared(self, browser: Browser, imported: int) -> None:
        answer = browser.press("/search/compare", q="Modality:MR", row="1")
        assert "tick the boxes of exactly two rows" in browser.get(answer.location).text

    @pytest.mark.parametrize("numbers", ["one=1&other=99", "one=x&other=1", "one=1", "one=1&other=-1", "one=1&other=9999999999999999999999"])
    def test_what_is_not_there_is_said(self, browser: Browser, imported: int, numbers: str) -> None:
        assert browser.get(f"/search/diff?{numbers}", status=404).html.select_one("[role=alert]").text

    def test_the_page_without_numbers_asks_for_them(self, browser: Browser) -> None:
        assert browser.get("/search/diff").html.select_one("input[name=one]")["value"] == ""


def test_the_language_is_shown_with_examples_that_can_be_asked(browser: Browser, imported: int) -> None:
    page = browser.get("/search/language").html
    addresses = [link["href"] for link in page.select(".language a")]
    assert [query_of(address) for address in addresses] == [operator.example for operator in OPERATORS]
    assert "`" not in page.select_one(".language").text
    assert [address for address in addresses if browser.get(address).html.select_one("#mistake")] == []


class TestTheImage:
    def test_a_value_leads_to_the_search_for_it(self, browser: Browser, imported: int) -> None:
        row = search(browser, "Modality:MR").select_one(".results tbody a")["href"]
        fields = links(browser.get(row).html, ".field-value a.search-for")
        assert query_of(fields["MR"]) == "Modality:MR"
        assert total(browser.get(fields["MR"]).html) == "2 images"

    def test_every_link_of_a_real_header_finds_its_image(self, browser: Browser, importer: Importer, pydicom_files: tuple[Path, ...], settings: Settings) -> None:
        folder = settings["watch.folders"][0] / "real"
        folder.mkdir()
        [rich] = [path for path in pydicom_files if path.name == "CT_small.dcm"]
        shutil.copy(rich, folder)
        api_data.import_folder(importer, folder)
        page = browser.get(search(browser).select_one(".results tbody a")["href"]).html
        addresses = {link["href"] for link in page.select(".field-value a.search-for")}
        assert len(addresses) > 100
        lost = [address for address in addresses if browser.get(address).html.select_one("#result-title") is None]
        assert lost == []


@pytest.fixture
def without_console(settings: Settings, engine: Any) -> Iterator[Browser]:
    """A browser of an application whose console is switched off."""
    app = api_data.make_app(settings, **{"console.enabled": "off"})
    browser = Browser(app, settings, engine)
    browser.begin_session()
    yield browser
    api_data.close(app)


class TestTheConsole:
    def line(self, browser: Browser, line: str, **standing: str) -> Any:
        return browser.get(f"/console/answer?{urlencode({**standing, 'line': line})}").html.article

    def test_a_query_gives_rows_and_is_kept_for_the_next_line(self, browser: Browser, imported: int) -> None:
        answer = self.line(browser, "Modality:MR")
        assert len(answer.select("tbody tr")) == 2
        assert "2 images" in answer.text
        standing = {name: answer[f"data-{name}"] for name in ("q", "level", "columns")}
        answer = self.line(browser, "level series", **standing)
        assert "1 series" in answer.text
        assert (answer["data-q"], answer["data-level"]) == ("Modality:MR", "series")
        assert "1 series" in self.line(browser, "count", q="Modality:MR", level="series").text

    def test_facets_columns_sentence_export_and_help(self, browser: Browser, imported: int) -> None:
        rows = self.line(browser, "facet Modality").select("tbody tr")
        assert [[cell.text for cell in row.select("td")] for row in rows] == [["CT", "5"], ["MR", "2"]]
        answer = self.line(browser, "columns patientid")
        assert answer["data-columns"] == "PatientID"
        assert [head.text for head in answer.select("th")] == ["image", "PatientID"]
        assert self.line(browser, "say", q="Modality:MR").select_one("p:last-child").text == "Modality is MR"
        csv = links(self.line(browser, "export", q="Modality:MR", level="series"), "a")["CSV"]
        assert len(browser.get(csv).text.splitlines()) == 2
        assert "SliceThickness" in self.line(browser, "help").text

    @pytest.mark.parametrize("line", ["Modalty:MR", "level patient", "facet Modalty", "facet", "columns Modalty", "count Modality:(", "x\x00"])
    def test_a_mistake_is_an_answer(self, browser: Browser, imported: int, line: str) -> None:
        assert self.line(browser, line).select_one(".text-danger") is not None

    def test_it_works_without_a_script(self, browser: Browser, imported: int) -> None:
        form = browser.get("/console").forms[1]
        form["line"] = "Modality:MR"
        answer = form.submit()
        assert "2 images" in answer.text
        assert answer.forms[1]["q"].value == "Modality:MR"

    def test_it_only_reads(self, browser: Browser, imported: int) -> None:
        with statements(browser.app.registry["engine"]) as ran:
            for line in ("Modality:MR", "count", "facet Modality", "columns KVP", "level study", "export", "say", "help", "delete", "x"):
                self.line(browser, line)
        assert ran
        assert [statement for statement in ran if not statement.lstrip().startswith(("SELECT", "WITH"))] == []
        browser.post("/console/answer", {"csrf_token": browser.token(), "line": "count"}, status=404)

    def test_a_setting_switches_it_off(self, without_console: Browser) -> None:
        without_console.get("/console", status=404)
        without_console.get("/console/answer?line=count", status=404)
        assert without_console.get("/search").html.select("a[href='/console']") == []
