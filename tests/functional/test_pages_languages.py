"""Pages in another language than English."""

from __future__ import annotations

import json

import pytest

from tests.functional import pages
from tests.functional.pages import Browser

HOSTILE = "<script>alert(1)</script>%(x)s"


def test_a_page_speaks_the_first_language_there_is_of_those_the_browser_accepts(browser: Browser) -> None:
    answer = browser.get("/", headers={"Accept-Language": "fr, de-CH;q=0.9, en;q=0.5"})
    assert answer.html.html["lang"] == "de"
    assert "Warteschlange" in answer.text
    assert "no-store" in answer.headers["Cache-Control"]
    assert browser.get("/", headers={"Accept-Language": "fr, xx"}).html.html["lang"] == "en"
    # What was asked for before does not stay with the thread.
    assert "Queue" in browser.get("/").text


@pytest.mark.parametrize("path", ["/nothing", "/settings", "/upload", "/search", "/search/language", "/console?line=help", "/settings/values"])
def test_the_chosen_language_holds_on_every_page_whatever_the_browser_accepts(browser: Browser, path: str) -> None:
    browser.set_cookie("dicomweb_look", "system.normal.iso.de")
    answer = browser.get(path, headers={"Accept-Language": "en"}, expect_errors=True)
    assert answer.html.html["lang"] == "de"
    assert "Übersicht" in answer.text
    assert json.loads(answer.html.find(id="words").string)["Pause"] == "Pause"


def test_appearance_offers_the_languages_by_their_own_names_and_keeps_the_chosen_one(browser: Browser) -> None:
    names = [label.get_text(strip=True) for label in browser.get("/settings/appearance").html.select("label:has(input[name=language])")]
    assert names == ["As the browser says", "English", "Deutsch"]
    cookie = browser.press("/settings/appearance", language="de").headers["Set-Cookie"]
    assert cookie.startswith("dicomweb_look=system.normal.iso.de;")
    assert browser.get("/settings/appearance").html.h1.get_text() == "Darstellung"


def test_the_api_speaks_english_to_everybody(browser: Browser) -> None:
    browser.set_cookie("dicomweb_look", "system.normal.iso.de")
    answer = browser.get("/api/batches/99", headers={"Accept-Language": "de"}, expect_errors=True)
    assert answer.status_int == 404
    assert "there" in answer.text.lower() or "not" in answer.text.lower()
    assert "gibt es" not in answer.text


def test_what_a_query_means_and_what_is_wrong_with_it_is_said_in_the_language_of_the_page_and_to_programs_in_english(browser: Browser) -> None:
    browser.set_cookie("dicomweb_look", "system.normal.iso.de")
    text = "Modality:CT -KVP:>=100"
    page = browser.get("/search", {"q": text}).html.get_text(" ", strip=True)
    assert "Modality ist CT und KVP ist nicht mindestens 100" in page
    page = browser.get("/search", {"q": "Modalty:CT"}, status=400).html.get_text(" ", strip=True)
    assert "„Modalty“ ist kein bekanntes Element" in page
    assert "Erwartet: ein Keyword wie PatientID" in page
    assert browser.get("/api/search", {"q": text}).json["sentence"] == "Modality is CT and KVP is not at least 100"
    wrong = browser.get("/api/search", {"q": "Modalty:CT"}, status=400)
    assert "is no element that is known" in wrong.text
    assert "kein" not in wrong.text


def test_what_workers_and_the_watcher_wrote_is_said_again_in_the_language_of_the_page(browser: Browser) -> None:
    browser.set_cookie("dicomweb_look", "system.normal.iso.de")
    message = "The file ends at byte 99, 3 bytes into the header of an element."
    browser.add(pages.batch("cut", id=1, has_error=True, error_count=1), pages.arrival("/data/hip"), pages.outcome(1, message=message))
    assert "Wartet, bis .done hineingeschrieben wird." in browser.get("/").text
    assert "Die Datei endet bei Byte 99, 3 Bytes nach dem Beginn eines Elementkopfes." in browser.get("/batches/1/errors").text
    assert browser.get("/api/batches/1/errors").json["results"][0]["message"] == message


def test_values_stay_escaped_in_another_language(browser: Browser) -> None:
    browser.add(pages.batch(name=HOSTILE))
    browser.set_cookie("dicomweb_look", "system.normal.iso.de")
    for path in ("/", "/batches/1/errors", "/batches/1/delete"):
        text = browser.get(path).text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;%(x)s" in text
        assert "<script>alert" not in text
