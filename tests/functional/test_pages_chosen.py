"""The list of batches: filters, order, and what is done with many at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.models import Batch, Cleanup, Job, LabelLink, Upload
from dicomweb.views import chosen
from dicomweb.views.fates import FATES
from tests import dicom_files
from tests.functional import pages
from tests.functional.api_data import import_folder, write_samples
from tests.functional.pages import HOSTILE, NOW, Browser
from tests.functional.test_pages_batches import texts
from tests.statements import statements


def names(answer: Any) -> list[str]:
    """The names of the batches that a page lists."""
    return texts(answer, "#batches tbody [data-row-link]")


class TestTheList:
    def test_filters_and_order_are_in_the_address_and_in_every_link(self, browser: Browser) -> None:
        browser.add(*(pages.batch(f"knee {number}", image_count=number, error_count=number % 2, has_error=bool(number % 2)) for number in range(60)))
        browser.add(pages.batch("hip", source="stow"))
        answer = browser.get("/?name=knee&errors=yes&sort=-images&nonsense=1")
        assert names(answer)[:3] == ["knee 59", "knee 57", "knee 55"]
        assert texts(answer, "#batches-title + .badge") == ["30 of 61"]
        assert answer.html.select_one("#dashboard")["hx-get"] == "/status?name=knee&errors=yes&sort=-images"
        assert answer.html.select_one(".pagination a")["href"].startswith("/?name=knee&errors=yes&sort=-images&page=")
        head = next(link for link in answer.html.select("#batches th a.sort") if "Images" in link.text)
        assert head["href"] == "/?name=knee&errors=yes&sort=images"
        assert head.parent["aria-sort"] == "descending"
        form = answer.html.select_one("form.filters")
        assert form.select_one("input[name=name]")["value"] == "knee"
        assert form.select_one("select[name=errors] option[selected]")["value"] == "yes"
        assert names(browser.get("/?source=stow")) == ["hip"]
        assert names(browser.get("/?status=DELETING")) == []
        assert "none that the filters let through" in browser.get("/?name=nothing").text

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    @pytest.mark.parametrize("asked", ["sort=nonsense", "status=x", "since=2026-13-40", "until=9999-12-31", "errors=perhaps", "source=%00", "sort=-id"])
    def test_what_a_filter_cannot_be_narrows_nothing(self, browser: Browser, asked: str) -> None:
        browser.add(pages.batch("knee"))
        assert names(browser.get(f"/?{asked}")) == ["knee"]

    def test_days_are_whole_days(self, browser: Browser) -> None:
        browser.add(pages.batch("knee"))
        day = f"{NOW:%Y-%m-%d}"
        assert names(browser.get(f"/?since={day}&until={day}")) == ["knee"]

    def test_ten_thousand_batches_take_no_more_statements(self, browser: Browser) -> None:
        def count(path: str) -> int:
            with statements(browser.app.registry["engine"]) as ran:
                browser.get(path)
            return len(ran)

        paths = ("/", "/?page=3", "/status?errors=yes&sort=-size", "/?name=7")
        browser.add(*(pages.batch(f"batch {number}") for number in range(80)))
        few = [count(path) for path in paths]
        row = {"path": "/x", "status": "DONE", "source": "folder", "open_scans": 0, "deleting": False, "has_error": False, "created_at": NOW, "modified_at": NOW}
        counters = dict.fromkeys(("file_count", "done_count", "image_count", "error_count", "notice_count", "byte_count"), 0)
        with work(browser.engine) as dbsession:
            dbsession.execute(sa.insert(Batch), [{**row, **counters, "name": f"b{number}"} for number in range(9_920)])
        assert [count(path) for path in paths] == few
        assert max(few) <= 10
        assert texts(browser.get("/"), "#batches-title + .badge") == ["10,000"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestManyAtOnce:
    def test_nothing_chosen_says_so(self, browser: Browser) -> None:
        browser.add(pages.batch())
        for asked in ("do=delete", "do=delete&batch=99", "do=delete&batch=x"):
            answer = browser.get(f"/batches/chosen?{asked}")
            assert answer.headers["Location"] == "/?done=no-batches"
        assert "No batch is chosen" in answer.follow().text
        assert browser.get("/batches/chosen?do=dance&batch=1", expect_errors=True).status_int == 400

    def test_deleting_tells_the_sums_asks_twice_and_checks_them_again(self, browser: Browser) -> None:
        browser.add(*(pages.batch(f"b{number}", image_count=10 * number, byte_count=1_000_000) for number in (1, 2, 3)))
        answer = browser.get("/batches/chosen?do=delete&batch=1&batch=3")
        assert texts(answer, "#sums > div") == ["Batches 2", "Images 40", "Size 2.0 MB", "Errors 0", "Notices 0"]
        assert "stay where they are" in answer.text
        form = next(form for form in answer.forms.values() if form.action == "/batches/chosen")
        assert "tick the box" in form.submit(expect_errors=True).text
        form["sure"] = True
        with work(browser.engine) as dbsession:
            dbsession.execute(sa.update(Batch).where(Batch.id == 1).values(image_count=11))
        refused = form.submit(expect_errors=True)
        assert (refused.status_int, browser.count(Batch, Batch.deleting)) == (400, 0)
        assert "have changed" in refused.text
        again = next(form for form in refused.forms.values() if form.action == "/batches/chosen")
        again["sure"] = True
        again["when"] = True
        assert again.submit().headers["Location"] == "/?done=deleting-many"
        assert browser.count(Batch, Batch.deleting) == 2
        assert browser.count(Job, Job.kind == "delete_batch") == 2
        assert not browser.get("/").html.select("#batch-1 input[name=batch]")

    def test_a_deletion_can_be_taken_back_where_the_list_was(self, browser: Browser) -> None:
        leaves = datetime.now(UTC) + timedelta(minutes=9)
        browser.add(*(pages.batch(f"knee {number}") for number in range(30)), pages.batch("hip"), pages.batch("knee old", delete_at=leaves))
        place = "name=knee&sort=size&page=2"
        listed = browser.get(f"/?{place}")
        bar = listed.html.select_one("#batches-form")
        repeated = {field["name"]: field["value"] for field in bar.select("input[type=hidden]")}
        assert repeated == {"name": "knee", "sort": "size", "page": "2"}
        answer = browser.get("/batches/chosen", {**repeated, "do": "delete", "batch": ["2", "32"]})
        text = " ".join(answer.html.text.split())
        assert "In 30 minutes these are deleted" in text
        assert "1 batch of them will be deleted anyway" in text
        assert {link["href"] for link in answer.html.select(".card-footer a")} == {f"/?{place}"}
        form = next(form for form in answer.forms.values() if form.action == "/batches/chosen")
        form["sure"] = True
        done = form.submit()
        assert done.headers["Location"] == f"/?{place}&done=leaving-many"
        assert browser.count(Batch, Batch.delete_at > leaves, ~Batch.deleting) == 1
        undo = next(form for form in browser.get("/?name=knee+1").forms.values() if form.action == "/batches/2/keep")
        assert undo.submit().headers["Location"] == "/?name=knee+1&done=kept"
        assert browser.count(Batch, Batch.delete_at == leaves) == browser.count(Batch, Batch.delete_at.is_not(None)) == 1

    @pytest.mark.parametrize("place", ["//evil.example", "https://evil.example/", "name=x&next=//evil.example", "/\\evil.example", "&" * 3000, "a=b&" * 99])
    def test_nobody_is_led_away(self, browser: Browser, place: str) -> None:
        browser.add(pages.batch("a", delete_at=datetime.now(UTC) + timedelta(minutes=9)))
        kept = browser.press("/batches/1/keep", list=place).headers["Location"]
        told = browser.get("/batches/chosen?do=retry&batch=1").html.select_one("input[name=told]")["value"]
        tried = browser.press("/batches/chosen", do="retry", batches="1", told=told, list=place).headers["Location"]
        assert kept.startswith("/?")
        assert tried.startswith("/?")
        assert "evil" not in kept + tried

    def test_what_becomes_of_the_files_is_told_of_each_kind(self, browser: Browser) -> None:
        browser.add(*(pages.batch(name) for name in "abcde"), pages.batch("f", source="stow"), pages.batch("g", source="upload"))
        ended = {"asked_at": pages.NOW, "ended_at": pages.NOW, "automatic": False}
        browser.add(Cleanup(batch_id=2, status="done", files=3, **ended), Cleanup(batch_id=3, status="kept", files=1, **ended))
        browser.add(Cleanup(batch_id=4, status="refused", **ended))
        browser.add(
            Upload(folder="upload-1", batch_id=5, joined=True, sender="session", address="", file_count=1, byte_count=1, begun_at=pages.NOW, at=pages.NOW)
        )
        told = {"network": (6, 7), "joined": (5,), "cleaned": (2,), "partly": (3,), "stays": (1, 4, 5)}
        many = browser.get("/batches/chosen?do=delete&" + "&".join(f"batch={number}" for number in range(1, 8)))
        lines = [" ".join(line.text.split()) for line in many.html.select("form li")]
        assert lines == [f"{len(ids)} {'batch' if len(ids) == 1 else 'batches'}: {FATES[fate]}" for fate, ids in told.items()]
        for number in range(1, 8):
            text = browser.get(f"/batches/{number}/delete").text
            assert {fate for fate, sentence in FATES.items() if sentence in text} == {fate for fate, ids in told.items() if number in ids}

    def test_all_that_match_are_chosen_without_naming_them(self, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        browser.add(*(pages.batch(f"knee {number}") for number in range(30)), pages.batch("hip"))
        answer = browser.get("/batches/chosen?do=delete&batch=1&all=yes&name=knee")
        assert texts(answer, "h1") == ["Delete 30 batches"]
        assert "and 10 more" in answer.text
        monkeypatch.setattr(chosen, "MOST_CHOSEN", 7)
        answer = browser.get("/batches/chosen?do=delete&batch=1&all=yes&name=knee")
        assert texts(answer, "h1") == ["Delete 7 batches"]
        assert "At most 7 batches" in answer.text

    def test_a_label_is_put_on_all_of_them_and_taken_off(self, browser: Browser) -> None:
        browser.add(pages.batch("a"), pages.batch("b"), pages.batch("c"))
        form = next(form for form in browser.get("/batches/chosen?do=label&batch=1&batch=2").forms.values() if form.action == "/batches/chosen")
        form["label"] = "reviewed"
        assert form.submit("how", value="add").headers["Location"] == "/?done=labelled-rows"
        assert browser.count(LabelLink) == 2
        assert texts(browser.get("/?label=Reviewed"), "#batches .row-label") == ["reviewed", "reviewed"]
        assert form.submit("how", value="remove").headers["Location"] == "/?done=unlabelled-rows"
        assert browser.count(LabelLink) == 0
        form["label"] = "-no"
        assert "A label has" in form.submit("how", value="add", expect_errors=True).text

    def test_errors_of_several_are_tried_again(self, browser: Browser) -> None:
        browser.add(pages.batch("a", error_count=1, has_error=True), pages.batch("b"))
        browser.add(pages.outcome(1))
        form = next(form for form in browser.get("/batches/chosen?do=retry&batch=1&batch=2").forms.values() if form.action == "/batches/chosen")
        assert form.submit().headers["Location"] == "/?done=retry"
        assert browser.count(Job, Job.kind == "import_chunk", Job.batch_id == 1) == 1

    def test_an_export_holds_the_chosen_batches_and_not_one_that_is_named_like_their_number(self, browser: Browser, importer: Any) -> None:
        folders = browser.settings["watch.folders"][0]
        write_samples(folders / "samples")
        first = import_folder(importer, folders / "samples")
        other = folders / "1"
        dicom_files.write_series(other, images=4, seed="other")
        assert import_folder(importer, other) != first
        answer = browser.get(f"/batches/chosen?do=export&batch={first}")
        link = next(link["href"] for link in answer.html.select("a[data-export]") if link.text == "CSV")
        assert len(browser.get(link).text.splitlines()) == 1 + 7
        both = browser.get(f"/batches/chosen?do=export&batch={first}&batch={first + 1}")
        assert "batch%3A1..2" in both.html.select_one("a[data-export]")["href"]

    def test_hostile_names_are_inert(self, browser: Browser) -> None:
        browser.add(pages.batch(HOSTILE))
        for deed in chosen.DEEDS:
            answer = browser.get(f"/batches/chosen?do={deed}&batch=1")
            assert not answer.html.select("img[onerror], script:not([src])")
        assert not browser.get("/", {"name": HOSTILE}).html.select("img[onerror], script:not([src])")
