"""Uploads as a person does them: choosing, watching, going on after whatever went wrong."""

from __future__ import annotations

import hashlib
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import BrowserContext, Page, Route, expect
from waitress import wasyncore

from dicomweb.db import work
from dicomweb.imports import Importer
from dicomweb.models import Batch, Image
from dicomweb.server import make_server
from tests import dicom_files
from tests.browser.test_pages import violations_of_looks
from tests.functional.api_data import run_jobs
from tests.functional.pages import Browser
from tests.importing import check_consistency, codes_of, rows, storage_of

FILES = re.compile(r"/upload/[0-9a-f]{32}/files")
MANY = 2000


def write_many(folder: Path, count: int) -> set[str]:
    """Write small images that differ in their SOPInstanceUID; give the hashes of the files."""
    first = dicom_files.uid("instance", "many")
    model = dicom_files.image_bytes("many", SOPInstanceUID=first)
    hashes = set()
    for number in range(count):
        content = model.replace(first.encode(), f"{first[:-5]}{number:05}".encode())
        path = folder / f"series {number // 500}" / f"IM{number:05}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        hashes.add(hashlib.sha256(content).hexdigest())
    assert len(hashes) == count
    return hashes


def choose(page: Page, what: Path | list[Path]) -> None:
    """Choose files or a folder."""
    kind = "files" if isinstance(what, list) else "folder"
    page.locator(f"[data-input={kind}]").set_input_files(what)
    expect(page.get_by_role("button", name="Start the upload")).to_be_visible()


def start(page: Page) -> None:
    page.get_by_role("button", name="Start the upload").click()


def title(page: Page) -> str:
    return page.locator("[data-title]").text_content() or ""


@pytest.fixture
def address(session: Browser) -> Iterator[str]:
    """The address of the web server of the product, which bounds bodies and gives back what came of those that were cut off."""
    server = make_server(session.app, session.settings, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
    thread.join()
    server.task_dispatcher.shutdown()


@pytest.fixture
def upload_page(page: Page, address: str) -> Page:
    page.goto(f"{address}/upload")
    return page


@pytest.fixture
def knee(tmp_path: Path) -> Path:
    """A folder of twelve images, a text, and what a system leaves behind."""
    folder = tmp_path / "knee"
    dicom_files.write_series(folder / "one", images=12, seed="knee")
    (folder / "notes.txt").write_text("no image")
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("failing_requests")
def test_two_thousand_files_survive_a_dropped_connection_and_are_there_once(
    upload_page: Page, context: BrowserContext, session: Browser, importer: Importer, tmp_path: Path
) -> None:
    page = upload_page
    hashes = write_many(tmp_path / "many", MANY)
    choose(page, tmp_path / "many")
    assert title(page).startswith("2,000 files chosen")
    page.get_by_label("Name of the new batch").fill("many")
    sent: list[str] = []
    page.on("requestfinished", lambda request: sent.append(request.method) if FILES.search(request.url) else None)
    start(page)
    page.wait_for_function("() => parseInt(document.querySelector('[data-number=files]').textContent.replace(',', '')) > 300")
    context.set_offline(True)
    expect(page.locator("[data-title]")).to_have_text("Waiting for the connection")
    expect(page.get_by_role("alert")).to_contain_text("goes on by itself")
    context.set_offline(False)
    expect(page.get_by_role("heading", name="The files are here and are being imported")).to_be_visible(timeout=120_000)
    run_jobs(importer)
    expect(page.get_by_role("heading", name="Everything is imported")).to_be_visible(timeout=20_000)
    images = rows(session.engine, sa.select(Image))
    assert len(images) == MANY
    assert {image.sha256.hex() for image in images} == hashes
    assert {image.path for image in images} == {f"many/{path.relative_to(tmp_path / 'many')}" for path in (tmp_path / "many").rglob("*.dcm")}
    # A small file is one request; only those that were under way when the connection dropped are asked for again.
    assert len(sent) < MANY + 40
    assert list((session.settings.var / "incoming").iterdir()) == []
    check_consistency(session.engine, storage_of(session.settings))


def test_a_folder_and_an_archive_become_one_batch_whose_result_is_told(
    upload_page: Page, session: Browser, importer: Importer, knee: Path, tmp_path: Path
) -> None:
    page = upload_page
    with zipfile.ZipFile(tmp_path / "hip.zip", "w") as archive:
        archive.writestr("hip/1.dcm", dicom_files.image_bytes("hip"))
        archive.writestr("../evil.dcm", dicom_files.image_bytes("evil"))
    choose(page, knee)
    choose(page, [tmp_path / "hip.zip", knee / "one" / "IM00001.dcm"])
    assert title(page).startswith("16 files chosen")
    page.get_by_label("Name of the new batch").fill("knee and hip")
    start(page)
    expect(page.get_by_role("progressbar", name="Progress of the import")).to_be_visible(timeout=30_000)
    run_jobs(importer)
    expect(page.get_by_role("heading", name="Imported, but for 1 file")).to_be_visible(timeout=15_000)
    [batch] = rows(session.engine, sa.select(Batch))
    codes = codes_of(session.engine, batch)
    assert codes["hip.zip/hip/1.dcm"] == codes["hip.zip/evil.dcm"] == codes["IM00001.dcm"] == "imported"
    assert (codes["knee/one/IM00001.dcm"], codes["knee/notes.txt"], codes["knee/.DS_Store"]) == ("duplicate", "not-dicom", "system-file")
    assert not list(session.settings.var.rglob("evil*"))
    page.get_by_role("link", name="knee/one/IM00002.dcm").click()
    expect(page).to_have_url(re.compile(r"/batches/1/images/\d+$"))
    page.goto(f"{page.url.split('/batches')[0]}/batches/1")
    page.get_by_role("link", name="Upload Datasets").click()
    expect(page.get_by_text("The files join the batch knee and hip")).to_be_visible()


@pytest.mark.usefixtures("failing_requests")
def test_a_file_that_fails_is_told_and_tried_again(upload_page: Page, session: Browser, importer: Importer, knee: Path) -> None:
    page = upload_page
    wrong: list[str] = []

    def refuse(route: Route) -> None:
        if not wrong and route.request.method == "POST":
            wrong.append(route.request.url)
            route.fulfill(status=418, content_type="text/plain", body="I am a teapot.")
        else:
            route.continue_()

    page.route(FILES, refuse)
    choose(page, knee)
    start(page)
    expect(page.locator("[data-title]")).to_have_text("All but 1 file are here", timeout=30_000)
    expect(page.locator("[data-failed]")).to_contain_text("I am a teapot.")
    assert violations_of_looks(page) == []
    page.get_by_role("button", name=re.compile("^Try again: ")).click()
    expect(page.get_by_role("heading", name="The files are here and are being imported")).to_be_visible(timeout=30_000)
    run_jobs(importer)
    [batch] = rows(session.engine, sa.select(Batch))
    assert (batch.image_count, batch.file_count) == (12, 14)


@pytest.mark.usefixtures("failing_requests")
def test_a_server_that_stumbles_is_asked_again_by_itself(upload_page: Page, session: Browser, knee: Path) -> None:
    page = upload_page
    statuses = [503, 429, 500]
    page.route(FILES, lambda route: route.fulfill(status=statuses.pop(), body="") if statuses else route.continue_())
    choose(page, knee)
    start(page)
    expect(page.get_by_role("heading", name="The files are here and are being imported")).to_be_visible(timeout=30_000)
    assert rows(session.engine, sa.select(Batch.file_count)) == [14]


@pytest.mark.usefixtures("failing_requests")
def test_it_pauses_goes_on_and_is_cancelled(upload_page: Page, session: Browser, knee: Path) -> None:
    page = upload_page
    held: list[Route] = []
    page.route(FILES, lambda route: held.append(route) if len(held) < 4 else route.continue_())
    choose(page, knee)
    start(page)
    expect(page.locator("[data-active] li")).to_have_count(4)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("[data-title]")).to_have_text("Paused")
    expect(page.locator("[data-active] li")).to_have_count(0)
    page.unroute(FILES)
    page.route(FILES, lambda route: held.append(route) if len(held) < 8 else route.continue_())
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-active] li")).to_have_count(4)
    page.get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog", name="Cancel this upload?")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-title]")).to_have_text("Uploading")
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the upload").click()
    expect(page.get_by_text("The upload is discarded.")).to_be_visible()
    assert list((session.settings.var / "incoming").iterdir()) == []
    assert rows(session.engine, sa.select(Batch)) == []


@pytest.mark.usefixtures("failing_requests")
def test_a_tab_that_was_closed_is_gone_on_with_in_another(
    upload_page: Page, context: BrowserContext, address: str, session: Browser, importer: Importer, knee: Path
) -> None:
    large = knee / "large.dcm"
    large.write_bytes(dicom_files.image_bytes("large") + bytes(18 << 20))
    seen: list[str] = []

    def some(route: Route) -> None:
        seen.append(route.request.method)
        # Then nothing is answered any more, and the tab is closed.
        if seen.count("POST") < 9 and seen.count("PATCH") < 2:
            route.continue_()

    upload_page.route(FILES, some)
    upload_page.get_by_label("Name of the new batch").fill("closed")
    choose(upload_page, [large, *sorted((knee / "one").iterdir())])
    start(upload_page)
    upload_page.wait_for_function("() => parseInt(document.querySelector('[data-number=files]').textContent) >= 5")
    here = int((upload_page.locator("[data-number=files]").text_content() or "").split()[0])
    upload_page.close()
    page = context.new_page()
    page.goto(f"{address}/upload")
    assert violations_of_looks(page) == []
    page.get_by_role("link", name="Go on with the upload closed").click()
    expect(page.get_by_role("heading", name="This upload is not finished")).to_be_visible()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.method) if FILES.search(request.url) else None)
    choose(page, [large, *sorted((knee / "one").iterdir())])
    expect(page.locator("[data-reading]")).to_contain_text("here already")
    start(page)
    expect(page.get_by_role("heading", name="The files are here and are being imported")).to_be_visible(timeout=60_000)
    assert requests.count("POST") <= 13 - here
    # Of the large one the first piece was there.
    assert requests.count("HEAD") == 1
    run_jobs(importer)
    [batch] = rows(session.engine, sa.select(Batch))
    assert (batch.name, batch.image_count, batch.file_count) == ("closed", 13, 13)
    stored = {image.sha256 for image in rows(session.engine, sa.select(Image))}
    assert hashlib.sha256(large.read_bytes()).digest() in stored


def test_files_can_be_dropped_and_the_keyboard_is_enough(upload_page: Page, session: Browser, knee: Path) -> None:
    page = upload_page
    # The browser is told early that somebody listens, because it takes a moment.
    page.on("filechooser", lambda _: None)
    assert violations_of_looks(page) == []
    page.get_by_label("Name of the new batch").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Choose files…")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([knee / "one" / "IM00001.dcm", knee / "one" / "IM00002.dcm"])
    expect(page.locator("[data-title]")).to_contain_text("2 files chosen")
    page.evaluate("""() => {
        const carried = new DataTransfer();
        carried.items.add(new File(["no image"], "dropped.txt"));
        dispatchEvent(new DragEvent("drop", { dataTransfer: carried, cancelable: true }));
    }""")
    expect(page.locator("[data-title]")).to_contain_text("3 files chosen")
    assert violations_of_looks(page) == []
    page.get_by_role("button", name="Choose a folder…").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start the upload")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The files are here and are being imported")).to_be_visible(timeout=30_000)
    assert violations_of_looks(page) == []
    assert rows(session.engine, sa.select(Batch.file_count)) == [3]


def test_what_is_too_large_is_told_before_anything_is_sent(page: Page, address: str, session: Browser, knee: Path) -> None:
    def smaller(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=re.sub(r'data-most-file="\d+"', 'data-most-file="100"', answer.text()))

    page.route(re.compile("/upload$"), smaller)
    page.goto(f"{address}/upload")
    page.locator("[data-input=folder]").set_input_files(knee)
    expect(page.get_by_role("alert")).to_contain_text("12 files cannot be uploaded.")
    expect(page.get_by_role("alert")).to_contain_text("at most 100 B are taken")
    expect(page.locator("[data-title]")).to_contain_text("2 files chosen")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("button", name="Choose files…")).to_be_focused()
    expect(page.get_by_role("button", name="Start the upload")).to_be_hidden()
    assert not (session.settings.var / "incoming").exists()


@pytest.mark.usefixtures("failing_requests")
def test_a_session_that_ends_stops_the_upload_until_the_password_is_given(
    upload_page: Page, context: BrowserContext, address: str, session: Browser, knee: Path
) -> None:
    page = upload_page
    choose(page, knee)
    old = session.session
    with work(session.engine) as dbsession:
        dbsession.execute(sa.text("UPDATE web_session SET expires_at = 0"))
    start(page)
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended.")
    session.begin_session()
    assert session.session != old
    context.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
    page.reload()
    choose(page, knee)
    start(page)
    expect(page.get_by_role("heading", name="The files are here and are being imported")).to_be_visible(timeout=30_000)
