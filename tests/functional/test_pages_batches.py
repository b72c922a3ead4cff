"""The dashboard and the pages of a batch."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.models import BATCH_STATUS, Arrival, Batch, Image, Job, Outcome
from tests.functional import pages
from tests.functional.api_data import run_jobs
from tests.functional.pages import HOSTILE, Browser
from tests.statements import statements


def texts(answer: Any, selector: str) -> list[str]:
    """The texts of the elements that a selector finds."""
    return [" ".join(element.get_text(" ").split()) for element in answer.html.select(selector)]


class TestTheDashboard:
    def test_an_empty_one_says_what_to_do_next(self, browser: Browser) -> None:
        answer = browser.get("/")
        folder = browser.settings["watch.folders"][0]
        (commands,) = texts(answer, "#no-batches pre")
        assert f"mv {folder}/scans.tmp {folder}/scans" in commands
        assert f"touch {folder}/scans/.done" in commands

    def test_it_shows_watcher_workers_queue_and_totals(self, browser: Browser) -> None:
        browser.add(pages.batch(image_count=1234, byte_count=5_000_000), pages.job())
        answer = browser.get("/")
        assert "Not active" in answer.text
        assert "0 of 5" in answer.text
        assert answer.html.select_one("a[href='/settings#jobs']").text == "1 failed job"
        assert "1,234" in answer.text
        assert "1 batch, 0 series, 0 studies, 5.0 MB" in answer.text

    def test_a_batch_is_a_row_with_its_errors_as_a_link(self, browser: Browser) -> None:
        browser.add(pages.batch(status="PROCESSING", file_count=40, done_count=10, image_count=8, error_count=2, has_error=True))
        (row,) = browser.get("/").html.select("#batches tbody tr")
        cells = [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["td", "th"])]
        assert cells[1:5] == ["1", "knee", "folder", "8"]
        assert cells[8] == "PROCESSING"
        assert row.select_one(".badge")["title"] == BATCH_STATUS["PROCESSING"]
        assert row.select_one("progress")["value"] == "25"
        assert [link["href"] for link in row.find_all("a")] == ["/batches/1", "/batches/1/errors"]
        assert row.time["datetime"] == "2026-03-01T12:00:00Z"

    def test_the_fragment_is_what_the_page_holds(self, browser: Browser) -> None:
        browser.add(pages.batch(), pages.arrival("/data/x"))
        inside = browser.get("/").html.select_one("#dashboard")
        fragment = browser.get("/status").html
        assert inside["hx-get"] == "/status"
        assert inside["hx-trigger"] == "every 10s"
        assert [row["id"] for row in inside.select("tr[id]")] == [row["id"] for row in fragment.select("tr[id]")]

    def test_what_waits_is_shown_with_size_age_and_reason_and_can_be_imported(self, browser: Browser) -> None:
        browser.add(pages.arrival("/data/hip", files=12, bytes=34_000), pages.arrival("/data/loose.dcm", is_folder=False))
        answer = browser.get("/")
        first, second = answer.html.select("tr[id^=arrival-]")
        assert {"hip", "12", "34 kB", "Waits for .done to be written into it."} <= set(" ".join(first.stripped_strings).split("  ")) | set(
            first.stripped_strings
        )
        assert second.find("button") is None
        answer = browser.press(first.form["action"])
        assert (answer.status_int, answer.headers["Location"]) == (303, "/?done=import")
        assert browser.count(Batch, Batch.name == "hip") == 1
        assert browser.count(Job, Job.kind == "scan_batch") == 1
        assert browser.count(Arrival) == 1
        assert "The folder is being imported." in browser.get("/?done=import").text

    def test_an_address_cannot_make_a_page_say_anything(self, browser: Browser) -> None:
        assert "<div class=\"alert" not in browser.get("/?done=You+won").text

    def test_batches_are_cut_into_pages_the_newest_first(self, browser: Browser) -> None:
        browser.add(*(pages.batch(f"b{number}") for number in range(1, 61)))
        assert texts(browser.get("/"), "#batches tbody th")[:2] == ["b60", "b59"]
        assert texts(browser.get("/?page=3"), "#batches tbody th")[-1] == "b1"
        assert texts(browser.get("/?page=3"), ".pager p") == ["51 to 60 of 60"]
        for number in ("0", "-1", "x", "1" * 30, "²"):
            assert texts(browser.get("/", {"page": number}), "#batches tbody th")[0] == "b60"
        assert "This page is empty; there are 60." in " ".join(texts(browser.get("/?page=4"), "#dashboard p"))


class TestAQuery:
    @pytest.mark.parametrize("path", ["/", "/batches/1", "/batches/1/errors", "/batches/1/notices", "/settings"])
    def test_a_list_takes_the_same_number_of_statements_however_long_it_is(self, browser: Browser, path: str) -> None:
        def count() -> int:
            with statements(browser.app.registry["engine"]) as ran:
                browser.get(path)
            return len(ran)

        def add(first: int, last: int) -> None:
            for number in range(first, last):
                browser.add(
                    pages.batch(f"batch {number}"),
                    pages.arrival(f"/data/{number}"),
                    pages.job(batch_id=1),
                )
            browser.add(*(pages.image(1, f"{number}.dcm", status="DONE") for number in range(first, last)))
            browser.add(
                *(pages.outcome(1, f"{number}", kind=kind, code=kind, image_id=number + 1)
                for number in range(first, last) for kind in ("error", "conflict", "duplicate", "skipped"))
            )  # fmt: skip

        add(0, 1)
        with work(browser.engine) as dbsession:
            dbsession.execute(sa.update(Batch).values(has_error=True))
        few = count()
        add(1, 100)
        many = count()
        assert few == many
        assert few <= 16


class TestABatch:
    def test_its_page_lists_its_images_and_series(self, browser: Browser, imported: int) -> None:
        answer = browser.get(f"/batches/{imported}")
        rows = [[" ".join(cell.get_text(" ").split()) for cell in row.find_all(["td", "th"])] for row in answer.html.select("#images tbody tr")]
        assert len(rows) == 7
        by_name = {row[0]: row for row in rows}
        name, modality, _series, _instance, headers, _added, status, view = by_name["two/0000.dcm"] if "two/0000.dcm" in by_name else rows[-1]
        assert modality in ("CT", "MR")
        assert int(headers) > 20
        assert (status, view) == ("DONE", "View"), name
        assert texts(answer, "#series-title") == ["Series"]
        assert texts(answer, "#images-title + .badge") == ["7"]
        assert f"/batches/{imported}/errors" in answer.text

    def test_another_one_shows_nothing_of_it(self, browser: Browser, imported: int) -> None:
        browser.add(pages.batch("empty"))
        other = browser.get("/").html.find("a", string="empty")["href"]
        answer = browser.get(other)
        assert "This batch has no images" in answer.text
        assert not answer.html.select("#images")

    def test_its_page_refreshes_itself_while_it_runs_and_then_stops(self, browser: Browser) -> None:
        browser.add(pages.batch("running", status="PROCESSING"), pages.batch("done"))
        running = browser.get("/batches/1").html.select_one("#batch")
        assert (running["hx-get"], running["hx-swap"]) == ("/batches/1/status?page=1", "outerMorph")
        assert browser.get("/batches/1/status").html.select_one("#batch")["hx-trigger"] == "every 3s"
        assert not browser.get("/batches/2/status").html.select_one("#batch").get("hx-get")

    def test_the_watcher_is_not_shown_there(self, browser: Browser, imported: int) -> None:
        for path in (f"/batches/{imported}", f"/batches/{imported}/images/1"):
            assert "Watcher" not in browser.get(path).text

    def test_its_images_are_cut_into_pages(self, browser: Browser) -> None:
        browser.add(pages.batch(status="PROCESSING"))
        browser.add(*(pages.image(1, f"{number:03}.dcm") for number in range(120)))
        answer = browser.get("/batches/1?page=3")
        assert texts(answer, "#images tbody th") == [f"{number:03}.dcm" for number in range(100, 120)]
        assert texts(answer, ".pager p") == ["101 to 120 of 120"]
        assert next(link["href"] for link in answer.html.select(".pagination a")) == "/batches/1?page=2"


class TestErrors:
    def test_they_are_listed_with_code_sentence_and_size_and_counted_by_code(self, browser: Browser, imported: int) -> None:
        answer = browser.get(f"/batches/{imported}/errors")
        assert texts(answer, "tbody th") == ["broken.dcm", "conflict.dcm", "notes.txt"] or len(texts(answer, "tbody th")) == 3
        assert set(texts(answer, ".reasons .badge")) >= {"conflict", "not-dicom"}
        assert all(text.endswith(".") for text in texts(answer, "td.sentence"))
        only = browser.get(f"/batches/{imported}/errors?code=not-dicom")
        assert texts(only, "tbody th") == ["notes.txt"]
        assert texts(only, ".codes a")[0] == "all 3"
        assert not answer.html.select(".codes")

    def test_a_conflict_leads_to_both_images(self, browser: Browser, imported: int) -> None:
        answer = browser.get(f"/batches/{imported}/errors?code=conflict")
        links = [link["href"] for link in answer.html.select("tbody td a")]
        assert len(links) == 3
        for link in links:
            assert browser.get(link).status_int == 200

    def test_a_duplicate_leads_to_the_image_that_is_here(self, browser: Browser, imported: int) -> None:
        answer = browser.get(f"/batches/{imported}/notices")
        (link,) = answer.html.select("tbody td a")
        assert link.text == "existing image"
        assert browser.get(link["href"]).status_int == 200

    def test_one_button_has_them_all_tried_again(self, browser: Browser, imported: int) -> None:
        form = next(form for form in browser.get(f"/batches/{imported}/errors").forms.values() if form.action.endswith("/retry") and "code" not in form.fields)
        answer = form.submit()
        assert answer.headers["Location"] == f"/batches/{imported}/?done=retry" or answer.headers["Location"] == f"/batches/{imported}?done=retry"
        assert browser.count(Outcome, Outcome.kind == "error") == 0
        assert browser.count(Outcome, Outcome.kind == "conflict") == 1
        assert "are being imported again" in answer.follow().text

    def test_none_is_said_kindly(self, browser: Browser) -> None:
        browser.add(pages.batch())
        assert "No errors" in browser.get("/batches/1/errors").text
        assert "No notices" in browser.get("/batches/1/notices").text
        assert browser.press("/batches/1/retry").headers["Location"].endswith("?done=nothing-failed")


class TestDeletion:
    def test_it_tells_exactly_what_will_be_deleted(self, browser: Browser) -> None:
        browser.add(pages.batch(image_count=1234, byte_count=56_000_000, error_count=1, notice_count=2))
        text = browser.get("/batches/1/delete").text
        assert "1,234 images" in text
        assert "56 MB" in text
        assert "1 error and 2 notices" in text
        assert "stay where they are" in text

    def test_it_is_asked_twice(self, browser: Browser) -> None:
        browser.add(pages.batch(image_count=3))
        answer = browser.press("/batches/1/delete", images="3")
        assert answer.status_int == 400
        assert "tick the box" in answer.text
        assert browser.count(Batch, Batch.deleting) == 0

    def test_a_batch_that_has_changed_since_is_shown_again(self, browser: Browser) -> None:
        browser.add(pages.batch(image_count=3))
        answer = browser.press("/batches/1/delete", images="2", sure="yes")
        assert answer.status_int == 400
        assert "has changed" in answer.text

    def test_a_batch_goes_with_all_its_images(self, browser: Browser, imported: int, importer: Any) -> None:
        form = browser.get(f"/batches/{imported}/delete").forms[1]
        form["sure"] = True
        form["when"] = True
        answer = form.submit()
        assert answer.headers["Location"] == "/?done=deleting"
        assert texts(browser.get("/"), "#batches .badge") == ["DELETING"]
        page = browser.get(f"/batches/{imported}")
        assert "Delete…" not in page.text
        assert page.html.select_one("#batch")["hx-trigger"] == "every 3s"
        run_jobs(importer)
        assert (browser.count(Batch), browser.count(Image)) == (0, 0)
        assert browser.get(f"/batches/{imported}", expect_errors=True).status_int == 404

    def test_to_look_at_it_deletes_nothing(self, browser: Browser) -> None:
        browser.add(pages.batch())
        for path in ("/batches/1/delete", "/batches/1/retry", "/logout"):
            browser.get(path, expect_errors=True)
        assert browser.count(Batch, Batch.deleting) == 0
        assert browser.get("/").status_int == 200


class TestSettings:
    def test_they_are_shown_with_their_source_and_without_secrets(self, browser: Browser) -> None:
        answer = browser.get("/settings/values")
        rows = {row.code.text: [cell.text for cell in row.find_all("td")] for row in answer.html.select("table.settings tbody tr")}
        assert rows["import.mode"][:2] == ["copy", "default"]
        assert rows["database.url"][:2] == ["set (hidden)", "ini file"]
        assert rows["import.max_file_bytes"][0] == "4.3 GB"
        assert browser.settings.database_url not in answer.text

    def test_a_failed_job_is_shown_and_can_be_tried_again(self, browser: Browser) -> None:
        browser.add(pages.batch(), pages.job(batch_id=1))
        answer = browser.get("/settings")
        (row,) = answer.html.select("tr[id^=job-]")
        assert "The disk is full." in row.text
        answer = browser.press(row.form["action"])
        assert answer.headers["Location"] == "/settings?done=job-retry"
        assert browser.count(Job, Job.status == "queued") == 1
        assert browser.press("/jobs/1/retry").headers["Location"] == "/settings?done=job-not-failed"

    def test_the_state_refreshes_every_ten_seconds(self, browser: Browser) -> None:
        state = browser.get("/settings").html.select_one("#state")
        assert (state["hx-get"], state["hx-trigger"]) == ("/settings/status?page=1", "every 10s")
        assert "Watcher" in browser.get("/settings/status").text


class TestHostileText:
    def test_it_is_inert_on_every_page(self, browser: Browser) -> None:
        browser.add(
            pages.batch(HOSTILE, path=f"/data/{HOSTILE}", error_count=1, notice_count=1),
            pages.arrival(f"/data/{HOSTILE}\n\u202e\udcff", reason=HOSTILE),
            pages.job(kind=HOSTILE, error=HOSTILE),
        )
        browser.add(
            pages.image(1, HOSTILE),
            pages.outcome(1, f"{HOSTILE}\x1b[31m", message=HOSTILE, code=HOSTILE),
            pages.outcome(1, "\udcff\n", kind="duplicate", message=HOSTILE, code=HOSTILE),
        )
        for path in ("/", "/status", "/settings", "/batches/1", "/batches/1/errors", "/batches/1/notices", "/batches/1/delete",
                     "/batches/1/images/1", "/batches/1/errors?code=%3Cscript%3Ealert(1)", "/batches/1/images/1?q=%22%3E%3Cb%3E"):  # fmt: skip
            answer = browser.get(path)
            assert not answer.html.select("img[onerror], script:not([src]), b"), path
            assert "8659" not in re.sub(r"&[^;]+;", "", " ".join(texts(answer, ".name"))), path
            assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", answer.text), path
