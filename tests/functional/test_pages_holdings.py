"""Patients, studies and series: lists and pages, the data quality of a batch, and what there is to know about a file that failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.imports import reasons
from dicomweb.models import GroupSeries, HeaderGroup, Outcome, Patient, Series, Study, Upload
from tests import dicom_files
from tests.functional import pages
from tests.functional.api_data import import_folder
from tests.functional.pages import HOSTILE, Browser
from tests.functional.test_pages_batches import texts
from tests.statements import statements

LISTS = ("/patients", "/studies", "/series")


def add_series(browser: Browser, first: int, last: int) -> None:
    """Put patients with two studies of two series each into the database, all in one batch."""
    with work(browser.engine) as dbsession:
        if first == 1:
            dbsession.add(pages.batch("all"))
            dbsession.flush()
        for number in range(first, last + 1):
            patient = Patient(patient_id=f"P{number:03}", patient_name=f"Name^{number:03}", patient_birth_date="19700101", patient_sex="F")
            dbsession.add(patient)
            dbsession.flush()
            for which in (1, 2):
                study = Study(
                    study_instance_uid=f"1.2.{number}.{which}", patient_key=patient.id, study_date=f"2020{which:02}01", study_time="", study_id="",
                    accession_number=f"A{number}", study_description=f"study {number}.{which}", referring_physician_name="",
                )  # fmt: skip
                dbsession.add(study)
                dbsession.flush()
                for modality in ("CT", "MR"):
                    series = Series(
                        series_instance_uid=f"1.3.{number}.{which}.{modality == 'CT':d}", study_key=study.id, modality=modality, series_number="1",
                        series_description=f"{modality} {number}", series_date="", series_time="", body_part_examined="", protocol_name="",
                    )  # fmt: skip
                    group = HeaderGroup(batch_id=1, images=5)
                    dbsession.add_all([series, group])
                    dbsession.flush()
                    dbsession.add(GroupSeries(group_id=group.id, series_id=series.id, images=5))


class TestLists:
    def test_each_shows_what_there_is_with_counts_and_links(self, browser: Browser) -> None:
        add_series(browser, 1, 3)
        patients = browser.get("/patients")
        row = patients.html.select_one("#patients tbody tr")
        assert [" ".join(cell.stripped_strings) for cell in row.find_all(["th", "td"])] == ["Name^003", "P003", "1970-01-01", "F", "2", "4", "20", "3"]
        studies = browser.get("/studies?sort=date")
        row = studies.html.select_one("#studies tbody tr")
        cells = [" ".join(cell.stripped_strings) for cell in row.find_all(["th", "td"])]
        assert cells == ["Name^001 P001", "2020-01-01", "study 1.1", "CT, MR", "A1", "2", "10", "1"]
        assert [link["href"] for link in row.find_all("a")] == ["/patients/1", "/studies/1"]
        series = browser.get("/series?modality=MR&q=name^002")
        assert texts(series, "#series tbody th") == ["MR 2", "MR 2"]
        assert texts(series, ".filter-count") == ["2 series"]

    @pytest.mark.parametrize("path", LISTS)
    def test_an_empty_one_says_what_to_do_and_a_filter_that_finds_nothing_how_to_go_back(self, browser: Browser, path: str) -> None:
        assert "Drop a folder" in browser.get(path).text
        add_series(browser, 1, 1)
        answer = browser.get(f"{path}?q=nothing+like+this")
        assert any(link["href"] == path for link in answer.html.select(".empty a"))

    def test_a_page_takes_the_same_number_of_statements_for_one_and_for_a_hundred(self, browser: Browser) -> None:
        filtered = ("/patients?q=name&sort=name", "/studies?q=p0&since=2020-01-01&sort=-patient", "/series?q=p0&sort=date")
        paths = (*LISTS, *filtered, "/patients/1", "/studies/1", "/series/1", "/", "/batches/1")

        def count(path: str) -> int:
            with statements(browser.app.registry["engine"]) as ran:
                browser.get(path)
            return len(ran)

        add_series(browser, 1, 1)
        few = {path: count(path) for path in paths}
        add_series(browser, 2, 100)
        assert {path: count(path) for path in paths} == few
        assert max(few.values()) <= 15

    def test_they_are_cut_into_pages_that_keep_what_was_chosen(self, browser: Browser) -> None:
        add_series(browser, 1, 60)
        answer = browser.get("/studies?q=name&sort=-patient&page=2")
        assert texts(answer, ".pager p") == ["51 to 100 of 120"]
        assert {re.sub(r"page=\d+", "page=", link["href"]) for link in answer.html.select(".pagination a")} == {"/studies?q=name&sort=-patient&page="}
        assert "This page is empty; there are 120." in browser.get("/studies?q=name&page=9").text


class TestPages:
    @pytest.fixture
    def one(self, browser: Browser, importer: Any) -> int:
        """The id of a batch with two patients of the same ID."""
        folder = browser.settings["watch.folders"][0] / "two"
        for name in ("Muster^Anna", "Muster^Anne"):
            dicom_files.write_series(folder / name, images=3, seed=name, PatientID="P7", PatientName=name, SeriesDescription=HOSTILE)
        return import_folder(importer, folder)

    def test_one_walks_from_the_patient_to_the_images(self, browser: Browser, one: int) -> None:
        patient = browser.get("/patients/1")
        assert texts(patient, "h1") == ["Muster^Anna"]
        assert "The same ID with another name or birth date: Muster^Anne" in " ".join(patient.html.text.split())
        study = browser.get(patient.html.select_one("#studies a[data-row-link]")["href"])
        series = browser.get(study.html.select_one("#series a[data-row-link]")["href"])
        assert len(series.html.select("#images tbody tr")) == 3
        assert browser.get(series.html.select_one("#images a[data-row-link]")["href"]).status_int == 200
        for page in (patient, study, series):
            assert [link["href"] for link in page.html.select(".shares a")] == [f"/batches/{one}"]
            images = page.html.select_one(".page-header .btn-list a")["href"]
            assert texts(browser.get(images), "#result-title .text-nowrap")[0] == "3 images"
            assert not page.html.select("img[onerror], script:not([src])")

    def test_a_series_tells_what_varies_in_it(self, browser: Browser, one: int) -> None:
        for path in ("/series/1/varies", f"/batches/{one}/varies?series=1"):
            part = browser.get(path)
            assert {"InstanceNumber", "SliceLocation"} <= set(texts(part, ".varying-name"))
            assert "Rows" not in part.text
        assert browser.get(f"/batches/{one}/varies?series=99", expect_errors=True).status_int == 404

    def test_labels_are_put_on_studies_and_series_and_taken_off(self, browser: Browser, one: int) -> None:
        for path, listed in (("/studies/1", "/studies"), ("/series/1", "/series")):
            assert browser.press(f"{path}/label", label="odd", do="add").headers["Location"] == f"{path}?done=labelled-one"
            assert texts(browser.get(path), ".label-chip a") == texts(browser.get(listed), ".row-label") == ["odd"]
            assert browser.press(f"{path}/label", label="", do="add").headers["Location"] == f"{path}?done=not-labelled"
            assert browser.press(f"{path}/label", label="odd", do="remove").headers["Location"] == f"{path}?done=unlabelled-one"
            assert not texts(browser.get(path), ".label-chip a")

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    @pytest.mark.parametrize("path", ["/patients/1", "/studies/1", "/series/1", "/patients/0", "/patients/x", "/series/1/nothing"])
    def test_what_is_not_there_is_not_found(self, browser: Browser, path: str) -> None:
        assert browser.get(path, expect_errors=True).status_int == 404

    def test_the_quality_of_a_batch_is_told_with_links_that_find_the_images(self, browser: Browser, importer: Any) -> None:
        folder = browser.settings["watch.folders"][0] / "gap"
        files = dicom_files.write_series(folder, images=9, seed="gap", BurnedInAnnotation="YES", PatientName=HOSTILE)
        files[4].unlink()
        batch_id = import_folder(importer, folder)
        page = browser.get(f"/batches/{batch_id}")
        assert page.html.select_one("#quality")["hx-get"] == f"/batches/{batch_id}/quality-notes"
        for answer in (browser.get(f"/batches/{batch_id}/quality"), browser.get(f"/batches/{batch_id}/quality-notes")):
            notes = " ".join(texts(answer, ".notes"))
            assert "1 missing in 1 gap" in notes
            for link in answer.html.select(".notes .badge a, .identity a"):
                assert texts(browser.get(link["href"]), "#result-title .text-nowrap")[0] == "8 images", link
            assert [link["href"] for link in answer.html.select(".note-places a")] == ["/series/1"]


class TestTheTimeline:
    def test_an_import_leaves_its_steps(self, browser: Browser, imported: int) -> None:
        answer = browser.get(f"/batches/{imported}")
        assert texts(answer, ".steps-line .subheader") == ["Claimed", "Listed", "Import began", "Done"]
        assert len(answer.html.select(".steps-line .step-done")) == 4
        assert re.search(r"1 of 1 chunk done, 1 worker, [\d,.]+ files a second\.", " ".join(answer.html.select_one(".timeline-block").text.split()))

    def test_who_sent_files_is_told_of_each_upload_and_a_name_is_inert(self, browser: Browser) -> None:
        browser.add(pages.batch())
        senders = (("upload", "session"), ("upload", "program"), ("upload", "open"), ("upload", "token session"), ("dimse", HOSTILE), ("stow", "program"))
        moments = {"begun_at": pages.NOW, "at": pages.NOW, "file_count": 2, "byte_count": 3_000_000}
        browser.add(
            *(
                Upload(folder=f"{door}-{number}", batch_id=1, joined=False, sender=sender, address="192.0.2.7", **moments)
                for number, (door, sender) in enumerate(senders)
            )
        )
        answer = browser.get("/batches/1")
        lines = texts(answer, ".senders li")
        assert [line.rpartition("; ")[2] for line in lines[:4]] == [
            "from a browser, address 192.0.2.7",
            "by a program with the password, address 192.0.2.7",
            "without a password, address 192.0.2.7",
            "token session , address 192.0.2.7",
        ]
        assert lines[0].startswith("Uploaded ")
        assert "2 files, 3.0 MB" in lines[0]
        assert lines[4].startswith("Sent over DIMSE ")
        assert lines[5] == "and more"
        assert not answer.html.select("img[onerror], script:not([src])")

    def test_one_that_runs_says_where_it_is(self, browser: Browser) -> None:
        browser.add(pages.batch("running", status="PROCESSING", open_scans=0, file_count=10, done_count=3, began_at=pages.NOW, arrived_at=pages.NOW))
        browser.add(pages.job(batch_id=1, status="running", worker="a:1"), pages.job(batch_id=1, status="queued"))
        (text,) = texts(browser.get("/batches/1/status"), ".timeline-block")
        assert "Done now" in text
        assert "0 of 2 chunks done, 1 running, 1 waiting, 1 worker." in text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestFilesThatFailed:
    def test_each_reason_says_what_to_do_and_is_tried_again_alone(self, browser: Browser, imported: int) -> None:
        answer = browser.get(f"/batches/{imported}/errors")
        assert {reasons.REASONS[code].title for code in ("conflict", "not-dicom", "truncated")} == {
            text.rsplit(" ", 1)[0] for text in texts(answer, ".reasons h3")
        }
        assert reasons.REASONS["truncated"].advice in answer.text
        assert browser.press(f"/batches/{imported}/retry", code="not-dicom").headers["Location"].endswith("done=retry")
        with work(browser.engine, read_only=True) as dbsession:
            assert set(dbsession.scalars(sa.select(Outcome.code).where(Outcome.kind != "duplicate"))) == {"conflict", "truncated"}

    def test_the_first_bytes_of_a_file_are_shown_bounded_and_inert(self, browser: Browser, imported: int) -> None:
        with work(browser.engine, read_only=True) as dbsession:
            ids = dict(dbsession.execute(sa.select(Outcome.code, Outcome.id)).all())
        notes = browser.settings["watch.folders"][0] / "samples" / "notes.txt"
        notes.write_bytes(b"<script>alert(1)</script>\x00\xff" + b"x" * 5000)
        for name in ("bytes", "bytes-part"):
            answer = browser.get(f"/batches/{imported}/{name}?file={ids['not-dicom']}")
            (shown,) = answer.html.select("pre.bytes")
            assert shown.text.startswith("0000  3c 73 63 72 69 70 74 3e")
            assert "<script>alert(1" in shown.text
            assert len(shown.text.splitlines()) == reasons.FIRST_BYTES // 16
            assert not answer.html.select("script:not([src])")
        notes.unlink()
        assert "no longer there" in browser.get(f"/batches/{imported}/bytes?file={ids['not-dicom']}").text
        browser.add(pages.batch("other"))
        for asked in (f"{imported + 1}/bytes?file={ids['truncated']}", f"{imported}/bytes?file=9999", f"{imported}/bytes?file=x", f"{imported}/bytes"):
            assert browser.get(f"/batches/{asked}", expect_errors=True).status_int == 404

    def test_a_link_in_the_place_of_a_file_is_not_followed(self, browser: Browser, imported: int, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        samples = browser.settings["watch.folders"][0] / "samples"
        (samples / "notes.txt").unlink()
        (samples / "notes.txt").symlink_to(secret)
        with work(browser.engine, read_only=True) as dbsession:
            id_ = dbsession.scalar(sa.select(Outcome.id).where(Outcome.code == "not-dicom"))
        answer = browser.get(f"/batches/{imported}/bytes?file={id_}")
        assert "links are not followed" in answer.text
        assert not answer.html.select("pre.bytes")


def test_every_code_that_the_import_gives_has_its_reason() -> None:
    imports = Path(reasons.__file__).parent
    sources = [*imports.glob("*.py"), imports.parent / "headers" / "errors.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.name != "reasons.py")
    given = set(re.findall(r'(?:Refused\(|"error",|"skipped",|code =|: \()\s*"([a-z]+(?:-[a-z]+)*)"', text)) - {"header"}
    assert {"missing-uid", "ends-worker", "permission-denied", "truncated", "system-file", "changed-while-reading"} <= given
    assert given <= set(reasons.REASONS)
