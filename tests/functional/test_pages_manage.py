"""The settings pages that change something: watcher, queue, access, appearance, clean-up; and the statistics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb import passwords, sessions, statistics, watching
from dicomweb.db import work
from dicomweb.models import Batch, Cleanup, Job, Sample, WebSession, Worker
from dicomweb.security import ATTEMPTS_OF_ONE_ADDRESS
from tests.functional import pages
from tests.functional.api_data import PASSWORD, basic
from tests.functional.pages import HOSTILE, NOW, Browser
from tests.statements import statements


def text_of(answer: Any) -> str:
    return " ".join(answer.html.get_text(" ").split())


class TestTheWatcher:
    def test_is_told_what_is_wished_of_it(self, browser: Browser) -> None:
        for do in ("stop", "start", "rescan"):
            answer = browser.press("/settings/watcher", do=do)
            assert answer.headers["Location"] == f"/settings?done=watcher-{do}"
            assert "watcher" in answer.follow().html.select_one("main > div > .alert").text
            with work(browser.engine, read_only=True) as dbsession:
                wish = watching.read_wish(dbsession)
            assert (wish.rests, wish.rescan_at is not None) == (do == "stop", do == "rescan")
        assert browser.press("/settings/watcher", do="jump").status_int == 400

    def test_that_does_not_run_cannot_be_started_and_the_page_says_what_can(self, browser: Browser) -> None:
        page = browser.get("/settings")
        assert "nothing here can start a process" in text_of(page)
        assert not page.html.select("form[action='/settings/watcher']")

    def test_that_rests_is_not_ill(self, browser: Browser) -> None:
        now = datetime.now(UTC)
        record = watching.this_process(now=now)._replace(resting=True, scanned=now)
        browser.settings.var.joinpath("watcher.pid").write_text(__import__("json").dumps(watching.as_json(record)))
        status = watching.status(browser.settings, now=now)
        assert (status.active, status.alive, status.scanned) == (False, True, now)
        page = browser.get("/settings")
        assert "Stopped" in text_of(page)
        assert "It is about to start." in text_of(page)
        browser.press("/settings/watcher", do="stop")
        assert [form["do"].value for form in browser.get("/settings").forms.values() if form.action == "/settings/watcher"] == ["start"]


class TestTheQueue:
    def test_shows_the_jobs_of_each_status(self, browser: Browser) -> None:
        browser.add(
            pages.batch(),
            pages.job(batch_id=1),
            pages.job(status="queued", kind="scan_batch", error=None),
            pages.job(status="running", kind="delete_batch", worker=f"host:{HOSTILE}", started_at=NOW),
            pages.job(status="done", started_at=NOW - timedelta(seconds=90)),
        )
        for status, words in (
            ("failed", "The disk is full."), ("queued", "scan batch"), ("running", "delete batch"), ("done", "1 minute"),
        ):  # fmt: skip
            page = browser.get(f"/settings/queue?status={status}")
            assert words in text_of(page)
            assert len(page.html.select("tr[id^=job-]")) == 1
            assert not page.html.select("img[onerror]")
        assert "delete batch" in text_of(browser.get("/settings/queue?status=%3Cb%3E"))

    def test_all_failed_jobs_are_tried_again_with_one_button(self, browser: Browser) -> None:
        browser.add(pages.job(), pages.job(), pages.job(status="done"))
        answer = browser.press("/settings/retry-failed")
        assert answer.headers["Location"] == "/settings/queue?done=jobs-retry"
        assert browser.count(Job, Job.status == "queued") == 2
        assert browser.press("/settings/retry-failed").headers["Location"].endswith("job-not-failed")

    def test_a_worker_tells_its_memory_its_work_and_since_when(self, browser: Browser) -> None:
        now = datetime.now(UTC)
        browser.add(
            Worker(name="host:7", started_at=now, seen_at=now, memory=123_000_000),
            pages.job(status="running", worker="host:7", started_at=now - timedelta(minutes=4), batch_id=3),
        )
        row = browser.get("/settings").html.select_one("[id='worker-host:7']")
        assert [word in row.text for word in ("123 MB", "import chunk", "batch 3", "for 4 minutes")] == [True] * 4


class TestThePassword:
    def change(self, browser: Browser, old: str = PASSWORD, new: str = "a new one 77", again: str | None = None) -> Any:
        return browser.press("/settings/password", old=old, new=new, again=new if again is None else again)

    def test_is_changed_by_who_knows_it_and_ends_all_other_sessions(self, browser: Browser) -> None:
        mine = browser.session
        with work(browser.engine) as dbsession:
            sessions.begin(dbsession, "x" * 43, address="192.0.2.9", browser="other", now=datetime.now(UTC))
        answer = self.change(browser)
        assert answer.headers["Location"] == "/settings/access?done=password"
        assert "The new password is in force" in answer.follow().text
        assert browser.count(WebSession) == 1
        browser.use_session(mine)
        assert browser.get("/").status_int == 303
        assert passwords.verify(browser.settings, "a new one 77")
        assert not passwords.verify(browser.settings, PASSWORD)

    @pytest.mark.parametrize(
        ("fields", "sentence", "status"),
        [
            ({"old": "wrong"}, "The old password is not right", 403),
            ({"again": "another one 78"}, "not given twice in the same way", 400),
            ({"new": "short"}, "at least 8 characters", 400),
            ({"new": "password1"}, "everybody tries first", 400),
        ],
    )
    def test_stays_when_something_is_wrong(self, browser: Browser, fields: dict[str, str], sentence: str, status: int) -> None:
        answer = self.change(browser, **fields)
        assert answer.status_int == status
        assert sentence in answer.html.select_one("#password-error").text
        assert passwords.verify(browser.settings, PASSWORD)
        assert browser.count(WebSession) == 1

    def test_cannot_be_guessed_on_this_page(self, browser: Browser) -> None:
        for _ in range(ATTEMPTS_OF_ONE_ADDRESS.amount):
            assert self.change(browser, old="wrong").status_int == 403
        answer = self.change(browser)
        assert (answer.status_int, "Retry-After" in answer.headers) == (429, True)
        assert passwords.verify(browser.settings, PASSWORD)

    def test_that_the_environment_gives_is_changed_there(self, browser: Browser) -> None:
        browser.app.registry.settings["dicomweb"]._values["lockdown.password"] = "given by others 5"
        page = browser.get("/settings/access")
        assert "DICOMWEB_PASSWORD" in text_of(page)
        assert not page.html.select("#old")
        assert self.change(browser).status_int == 400


class TestSessions:
    def test_are_listed_and_ended_one_by_one(self, browser: Browser) -> None:
        agent = f"Mozilla/5.0 (X11; Linux x86_64) Firefox/144.0 {HOSTILE}"
        with work(browser.engine) as dbsession:
            sessions.begin(dbsession, "y" * 43, address="192.0.2.9", browser=agent, now=datetime.now(UTC))
        page = browser.get("/settings/access")
        assert not page.html.select("img[onerror]")
        (row,) = [row for row in page.html.select("tr[id^=session-]") if "192.0.2.9" in row.text]
        assert "Firefox on Linux" in row.text
        assert page.html.select_one(f"#session-{sessions.hash_of(browser.session)[:16]} .badge").text == "this browser"
        answer = browser.press("/settings/end-session", session=row["id"].removeprefix("session-"))
        assert answer.headers["Location"] == "/settings/access?done=session-ended"
        assert browser.count(WebSession) == 1
        for name in ("", "%", "_" * 16, "0" * 16, "x" * 500):
            assert browser.press("/settings/end-session", session=name).headers["Location"].endswith("session-gone")
        assert browser.count(WebSession) == 1

    def test_of_all_others_end_with_one_button(self, browser: Browser) -> None:
        with work(browser.engine) as dbsession:
            for letter in "abc":
                sessions.begin(dbsession, letter * 43, address="", browser="", now=datetime.now(UTC))
        browser.press("/settings/end-sessions")
        assert browser.count(WebSession) == 1
        assert browser.get("/").status_int == 200

    def test_are_noted_once_a_minute_and_when_the_address_changes(self, browser: Browser) -> None:
        def seen() -> tuple[datetime | None, str]:
            with work(browser.engine, read_only=True) as dbsession:
                row = dbsession.scalars(sa.select(WebSession)).one()
                return row.seen_at, row.address

        browser.get("/settings")
        assert seen() == (None, "")
        with work(browser.engine) as dbsession:
            dbsession.execute(sa.update(WebSession).values(created_at=datetime.now(UTC) - timedelta(minutes=2)))
        browser.get("/settings")
        first = seen()
        assert first[1] == "192.0.2.1"
        browser.get("/settings")
        assert seen() == first
        browser.extra_environ["REMOTE_ADDR"] = "192.0.2.5"
        browser.press("/settings/appearance", theme="dark")
        assert seen()[1] == "192.0.2.5"

    def test_and_the_password_are_out_of_the_reach_of_tokens(self, stranger: Browser) -> None:
        from dicomweb import tokens

        with work(stranger.engine) as dbsession:
            secret = tokens.add(dbsession, "robot", writes=True, now=datetime.now(UTC))[1]
        for path in ("/settings/password", "/settings/end-session", "/settings/end-sessions"):
            answer = stranger.post(path, headers={"Authorization": f"Bearer {secret}"}, expect_errors=True)
            assert answer.status_int == 403, path
        assert stranger.post("/settings/end-sessions", headers=basic()).status_int == 303


class TestAppearance:
    def test_holds_on_every_page_of_this_browser(self, browser: Browser) -> None:
        answer = browser.press("/settings/appearance", theme="dark", density="compact", dates="eu")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("dicomweb_look=dark.compact.eu.browser; ")
        assert "SameSite=Lax" in cookie
        for path in ("/", "/settings/appearance", "/nothing"):
            html = browser.get(path, expect_errors=True).html.html
            assert [html[f"data-{name}"] for name in ("theme", "density", "dates", "bs-theme")] == ["dark", "compact", "eu", "dark"]
        browser.set_cookie("dicomweb_session", "")
        assert browser.get("/login").html.html["data-density"] == "compact"

    @pytest.mark.parametrize("cookie", ["", "x", "dark", '"><script>.x.y', "dark.compact.eu.more", "..", "é.é.é"])
    def test_that_is_none_is_the_usual_one(self, browser: Browser, cookie: str) -> None:
        header = f"dicomweb_session={browser.session}; dicomweb_look={cookie}".encode().decode("latin-1")
        html = browser.get("/settings/appearance", headers={"Cookie": header}).html.html
        theme = "dark" if cookie.startswith("dark") else "system"
        rest = ["compact", "eu"] if "compact" in cookie else ["normal", "iso"]
        assert [html["data-theme"], html["data-density"], html["data-dates"]] == [theme, *rest]
        assert browser.press("/settings/appearance", theme="<b>", dates="no").headers["Set-Cookie"].startswith("dicomweb_look=system.normal.iso.browser;")


class TestCleaningUp:
    def folder(self, browser: Browser, name: str) -> str:
        return str(browser.settings["watch.folders"][0] / name)

    def test_nothing_is_removed_before_the_numbers_were_shown(self, browser: Browser) -> None:
        browser.add(
            pages.batch("old", path=self.folder(browser, "old"), image_count=1200, byte_count=34_000_000),
            pages.batch("new", path=self.folder(browser, "new"), modified_at=datetime.now(UTC)),
            pages.batch("failed", path=self.folder(browser, "failed"), has_error=True, error_count=1),
            pages.batch("running", status="PROCESSING"),
            pages.batch("stored", source="stow"),
        )
        browser.add(pages.outcome(3, size=4_200_000))
        page = browser.get("/settings/cleanup")
        assert [row["id"] for row in page.html.select("tr[id^=source-]")] == ["source-2", "source-1"]
        assert "4.2 MB" in page.html.select_one("[aria-labelledby=kept-title]").text
        question = browser.get("/settings/clean?days=30")
        assert "1 batch that did not change for 30 days" in text_of(question)
        assert "1,200 images, 34 MB" in text_of(question)
        form = next(form for form in question.forms.values() if form.action == "/settings/clean")
        assert browser.press("/settings/clean", days="30", batches="2").status_int == 400
        assert browser.count(Cleanup) == 0
        assert form.submit().headers["Location"] == "/settings/cleanup?done=cleaning"
        assert browser.count(Cleanup, Cleanup.batch_id == 1, Cleanup.status == "asked") == 1
        assert browser.count(Job, Job.kind == "clean_source", Job.batch_id == 1) == 1
        assert "There is no source folder that can be removed." in browser.get("/settings/clean?days=30").text
        assert browser.press("/settings/clean", days="30", batches="0").headers["Location"].endswith("nothing-to-clean")

    def test_one_folder_is_asked_for_by_its_batch(self, browser: Browser) -> None:
        browser.add(pages.batch(HOSTILE, path=self.folder(browser, HOSTILE.replace("/", "")), image_count=3), pages.batch("wrong", has_error=True))
        question = browser.get("/settings/clean?batch=1")
        assert "3 images" in text_of(question)
        assert not question.html.select("img[onerror]")
        assert "cannot be removed" in text_of(browser.get("/settings/clean?batch=2"))
        assert "is kept" in browser.press("/settings/clean", batch="2", batches="1").text
        assert browser.press("/settings/clean", batch="1", batches="1").status_int == 303
        assert browser.press("/settings/clean", batch="1", batches="1").status_int == 400
        for wrong in ("9", "0", "x", "1'"):
            assert browser.get(f"/settings/clean?batch={wrong}", expect_errors=True).status_int == 404
        assert browser.get("/settings/clean?days=-5%27").status_int == 200

    def test_by_reference_there_is_nothing_to_remove(self, browser: Browser) -> None:
        browser.add(pages.batch("knee", path=self.folder(browser, "knee")))
        browser.app.registry.settings["dicomweb"]._values["import.mode"] = "reference"
        page = browser.get("/settings/cleanup")
        assert "hold the only copy" in text_of(page)
        assert not page.html.select("tr[id^=source-], form[action='/settings/clean']")
        assert "import.mode is reference" in browser.get("/settings/clean?days=0").text
        assert browser.press("/settings/clean", days="0", batches="1").headers["Location"].endswith("nothing-to-clean")
        assert browser.count(Cleanup) == 0

    def test_what_became_of_it_is_told(self, browser: Browser) -> None:
        browser.add(*(pages.batch(status, path=f"/data/{status}") for status in ("asked", "done", "kept", "refused")))
        browser.add(
            *(
                Cleanup(batch_id=number + 1, status=status, asked_at=NOW, automatic=status == "kept", reason=HOSTILE)
                for number, status in enumerate(("asked", "done", "kept", "refused"))
            )
        )
        page = browser.get("/settings/cleanup")
        assert {row.select_one(".badge").text for row in page.html.select("tr[id^=cleanup-]")} == {"waits", "removed", "partly", "not removed"}
        assert not page.html.select("img[onerror]")
        assert [row["id"] for row in page.html.select("tr[id^=source-]")] == ["source-4"]

    def test_the_page_takes_as_many_statements_for_many_as_for_few(self, browser: Browser) -> None:
        browser.add(pages.batch("knee 0", has_error=True))
        with statements(browser.app.registry["engine"]) as few:
            browser.get("/settings/cleanup")
        browser.add(*(pages.batch(f"knee {n}", has_error=n % 2 == 0, error_count=1) for n in range(1, 60)))
        browser.add(*(pages.outcome(n) for n in range(2, 60)))
        with statements(browser.app.registry["engine"]) as many:
            browser.get("/settings/cleanup")
        assert len(many) <= len(few) + 2


    def test_the_page_of_a_batch_leads_there_where_its_folder_can_be_removed(self, browser: Browser) -> None:
        folder = str(browser.settings["watch.folders"][0] / "knee")
        browser.add(
            pages.batch("a", path=folder, open_scans=0),
            pages.batch("b", path=folder, open_scans=0, has_error=True, error_count=1),
            pages.batch("c", source="upload", open_scans=0),
            pages.batch("d", path=folder, open_scans=0, delete_at=datetime.now(UTC) + timedelta(minutes=9)),
        )
        links = {number: browser.get(f"/batches/{number}").html.select(f"a[href='/settings/clean?batch={number}']") for number in range(1, 5)}
        assert [number for number, found in links.items() if found] == [1]
        assert browser.get(links[1][0]["href"]).html.select("form[action='/settings/clean']")
        browser.press("/settings/clean", batch="1", batches="1")
        page = browser.get("/batches/1")
        assert not page.html.select("a[href^='/settings/clean']")
        assert "about to remove this folder" in page.text


class TestADeletion:
    def test_is_shown_wherever_the_batch_is_and_can_be_taken_back(self, browser: Browser) -> None:
        browser.add(pages.batch(image_count=3))
        question = browser.get("/batches/1/delete")
        assert "In 30 minutes" in text_of(question)
        answer = browser.press("/batches/1/delete", images="3", sure="yes")
        assert answer.headers["Location"] == "/batches/1"
        assert browser.count(Batch, Batch.delete_at.is_not(None), ~Batch.deleting) == 1
        for path in ("/batches/1", "/batches/1/errors", "/batches/1/notices"):
            assert "This batch will be deleted" in text_of(browser.get(path)), path
        assert browser.get("/").html.select_one("#batch-1 .leaving a").text == "knee"
        assert "deleted at" in browser.get("/").html.select_one("#batch-1").text
        assert browser.get("/settings/cleanup").html.select_one("#leaving-1 button").text == "Undo"
        assert browser.press("/batches/1/keep").headers["Location"] == "/batches/1?done=kept"
        assert browser.press("/batches/1/keep").headers["Location"] == "/batches/1?done=not-leaving"
        assert browser.count(Batch, Batch.delete_at.is_not(None)) == 0
        assert not browser.get("/").html.select(".leaving")

    def test_that_was_asked_for_twice_begins_at_once(self, browser: Browser) -> None:
        browser.add(pages.batch(image_count=3, delete_at=datetime.now(UTC) + timedelta(minutes=9)))
        assert "It is deleted from the database now" in text_of(browser.get("/batches/1/delete"))
        assert browser.press("/batches/1/delete", images="3", sure="yes").headers["Location"] == "/?done=deleting"
        assert browser.count(Batch, Batch.deleting, Batch.delete_at.is_(None)) == 1
        assert browser.press("/batches/1/keep").headers["Location"].endswith("not-leaving")


class TestStatistics:
    def test_without_anything_they_say_so(self, browser: Browser) -> None:
        page = browser.get("/statistics")
        assert not page.html.select("table, canvas")
        assert len(page.html.select(".empty")) == 4

    def test_are_tables_that_a_script_draws(self, browser: Browser, imported: int) -> None:
        now = datetime.now(UTC)
        with work(browser.engine) as dbsession:
            assert statistics.take_sample(dbsession, free=5_000_000, now=now)
        page = browser.get("/statistics")
        tables = {details["data-canvas"]: details for details in page.html.select("details[data-chart]")}
        assert set(tables) == {f"{name}-chart" for name in ("days", "modalities", "growth", "queue")}
        assert all(page.html.select_one(f"canvas#{name}") for name in tables)
        today = tables["days-chart"].select("tbody tr")[-1]
        assert today.th.text == now.date().isoformat()
        assert today.td["data-value"] == "7"
        assert sum(int(row.td["data-value"]) for row in tables["modalities-chart"].select("tbody tr")) == 7
        assert [cell["data-value"] for cell in tables["growth-chart"].select("td")][1] == "5000000"


def test_settings_tell_versions_and_where_errors_go_and_no_secret(browser: Browser) -> None:
    text = text_of(browser.get("/settings/values"))
    assert "Sent nowhere" in text
    for name in ("DICOM Database", "Schema of the database", "Python", "pydicom"):
        assert name in text
    browser.app.registry.settings["dicomweb"]._values["sentry.dsn"] = "https://secretkey@sentry.example.org/7"
    text = text_of(browser.get("/settings/values"))
    assert "Sent to sentry.example.org" in text
    assert "secretkey" not in text


def test_samples_are_taken_once_a_minute_and_thinned_out(engine: sa.Engine) -> None:
    now = datetime(2026, 3, 31, 12, 0, 30, tzinfo=UTC)
    with work(engine) as dbsession:
        dbsession.add_all(
            Sample(at=at, queued=0, running=0, failed=0, workers=0, images=0, bytes=0, free=0)
            for at in (
                *(statistics.minute(now) - timedelta(hours=4, minutes=n) for n in range(120)),
                *(statistics.minute(now) - timedelta(days=40, hours=n) for n in range(48)),
                now - timedelta(days=800),
            )
        )
    with work(engine) as dbsession:
        assert statistics.take_sample(dbsession, free=7, now=now)
    with work(engine) as dbsession:
        assert not statistics.take_sample(dbsession, free=7, now=now + timedelta(seconds=20))
        left = statistics.samples_since(dbsession, now - timedelta(days=999))
        assert [row.at.isoformat()[:16] for row in left] == [
            "2026-02-17T13:00", "2026-02-18T00:00", "2026-02-19T00:00",
            "2026-03-31T06:01", "2026-03-31T07:00", "2026-03-31T08:00", "2026-03-31T12:00",
        ]  # fmt: skip
        assert left[-1].free == 7
        assert [row.at for row in statistics.samples_since(dbsession, now - timedelta(days=1), hours=1)] == [row.at for row in left[3:]]
        assert [row.at for row in statistics.samples_since(dbsession, now - timedelta(days=1), hours=6)] == [left[3].at, left[6].at]


def test_days_are_counted_in_utc_and_those_without_anything_too(engine: sa.Engine) -> None:
    now = datetime(2026, 3, 2, 0, 30, tzinfo=UTC)
    with work(engine) as dbsession:
        for number, moment in enumerate(("2026-02-28T23:59:59", "2026-03-02T00:00:00", "2026-03-02T00:10:00", "2026-01-01T00:00:00")):
            dbsession.add(pages.batch(f"{number}", created_at=datetime.fromisoformat(f"{moment}+00:00"), image_count=10, byte_count=5))
    with work(engine, read_only=True) as dbsession:
        counted = [(day.day.day, day.batches, day.images, day.bytes) for day in statistics.imports_by_day(dbsession, days=3, now=now)]
    assert counted == [(28, 1, 10, 5), (1, 0, 0, 0), (2, 2, 20, 10)]
