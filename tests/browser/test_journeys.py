"""What people do, with everything real: ``dicomweb run`` with its broker, web server, workers and watcher, a browser, and files on the disk."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests import dicom_files
from tests.browser.test_upload import write_many
from tests.integration.test_run import free_port
from tests.programs import Program, wait_for

# A machine that draws without a graphics card, and has other things to do.
PATIENCE = 60_000


class Running(NamedTuple):
    """A running application. data: its watched folder. var: its state folder. password: what it told at its first start."""

    address: str
    data: Path
    var: Path
    password: str
    program: Program

    def drop(self, folder: Path) -> None:
        """Move a folder in, as people do when it is complete."""
        folder.rename(self.data / folder.name)

    def signal_workers(self, number: signal.Signals) -> None:
        """Send a signal to the workers and whatever they started."""
        for pid in self.program.children():
            if b"workers" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                os.killpg(pid, number)

    @contextmanager
    def halted(self) -> Iterator[Callable[[], None]]:
        """Stop the workers; gives what lets them work for a tenth of a second, however fast the machine is."""

        def work() -> None:
            self.signal_workers(signal.SIGCONT)
            time.sleep(0.1)
            self.signal_workers(signal.SIGSTOP)

        self.signal_workers(signal.SIGSTOP)
        try:
            yield work
        finally:
            self.signal_workers(signal.SIGCONT)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The application, started for the first time in folders that do not exist yet; one for all tests here."""
    here = tmp_path_factory.mktemp("running")
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DICOMWEB_")}
    environ |= {
        "DICOMWEB_VAR": str(here / "var"),
        "DICOMWEB_WATCH": str(here / "data"),
        "DICOMWEB_PORT": str(port),
        "DICOMWEB_WORKERS": "1",
        "DICOMWEB_IMPORT_CHUNK_FILES": "16",
        "DICOMWEB_STORAGE_SYNC": "off",
        "PYTHONUNBUFFERED": "1",
    }
    program = Program([sys.executable, "-c", "from dicomweb.cli import main; main()", "run"], environ, here / "log")
    program.start()
    try:
        wait_for(lambda: "DICOM Database runs at" in program.log(), "the start")
        told = re.search(r"The password is (\S+) ", program.log())
        assert told, program.log()
        yield Running(f"http://127.0.0.1:{port}", here / "data", here / "var", told[1], program)
    finally:
        if program.process is not None:
            program.terminate()


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Waits are for real work."""
    expect.set_options(timeout=PATIENCE)
    yield
    expect.set_options(timeout=5000)


@pytest.fixture
def page(context: BrowserContext, running: Running) -> Page:
    """A page of somebody who gave the password."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(running.address)
    page.get_by_label("Password").fill(running.password)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{running.address}/")
    return page


def batch_of(page: Page, running: Running, name: str) -> str:
    """Wait on the dashboard, which refreshes by itself, until a batch is listed; give its address."""
    page.goto(f"{running.address}/?name={name}")
    link = page.get_by_role("link", name=name, exact=True)
    expect(link).to_be_visible()
    return f"{running.address}{link.get_attribute('href')}"


def expect_picture(page: Page) -> None:
    """Wait for the viewer, and see that it shows something."""
    viewer = page.locator("[data-viewer]")
    expect(viewer).to_have_attribute("data-state", "ready")
    # The canvas of WebGL is read within a frame, when there is something in it.
    colours = page.evaluate("""() => new Promise((resolve) => requestAnimationFrame(() => {
        const shown = document.querySelector("[data-viewer] canvas");
        const copy = new OffscreenCanvas(shown.width, shown.height).getContext("2d");
        copy.drawImage(shown, 0, 0);
        resolve(new Set(new Uint32Array(copy.getImageData(0, 0, shown.width, shown.height).data.buffer)).size);
    }))""")
    assert colours > 10


def test_from_the_first_start_to_the_first_image(page: Page, running: Running, samples: Path) -> None:
    expect(page.get_by_text("There are no batches yet")).to_be_visible()
    page.get_by_role("link", name="Upload Datasets").first.click()
    page.get_by_label("Name of the new batch").fill("first")
    page.locator("[data-input=folder]").set_input_files(samples / "dcm_qa_decubitus")
    page.get_by_role("button", name="Start the upload").click()
    expect(page.get_by_role("heading", name="Everything is imported")).to_be_visible()
    page.get_by_role("link", name="Open the batch").click()
    expect(page.get_by_role("heading", name="first")).to_be_visible()
    page.locator("#images [data-row-link]").first.click()
    expect_picture(page)


def test_a_folder_and_an_archive_that_are_dropped_are_imported(page: Page, running: Running, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "hip" / "left" / "deep", images=3, seed="left")
    dicom_files.write_series(tmp_path / "hip" / "right", images=2, seed="right")
    with zipfile.ZipFile(tmp_path / "knee.zip", "w") as archive:
        archive.writestr("knee/1.dcm", dicom_files.image_bytes("in the archive"))
    page.goto(f"{running.address}/upload")
    page.get_by_label("Name of the new batch").fill("dropped")
    # What the system's own file manager makes a browser do, folders included.
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "hip"), str(tmp_path / "knee.zip")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})
    expect(page.locator("[data-title]")).to_contain_text("6 files chosen")
    page.get_by_role("button", name="Start the upload").click()
    expect(page.get_by_role("heading", name="Everything is imported")).to_be_visible()
    page.get_by_role("link", name="Open the batch").click()
    for path in ("hip/left/deep/IM00001.dcm", "hip/right/IM00002.dcm", "knee.zip/knee/1.dcm"):
        expect(page.get_by_role("rowheader", name=path)).to_be_visible()
    expect(page.locator("#images [data-row-link]")).to_have_count(6)


def test_a_file_that_failed_is_mended_and_tried_again_from_its_reason(page: Page, running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "cut off"
    whole, *_ = dicom_files.write_series(folder, images=4, seed="cut off")
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) * 9 // 10])
    (folder / "notes.txt").write_text("no image")
    running.drop(folder)
    page.goto(batch_of(page, running, "cut off"))
    expect(page.locator("#images [data-row-link]")).to_have_count(3)
    page.get_by_role("link", name="2 errors").click()
    reasons = page.locator(".reasons li")
    expect(reasons).to_have_count(2)
    (running.data / folder.name / whole.name).write_bytes(content)
    reasons.filter(has_text="The file ends too early").get_by_role("button", name="Try it again").click()
    expect(page.get_by_role("link", name="1 error", exact=True)).to_be_visible()
    expect(page.locator("#images [data-row-link]")).to_have_count(4)
    page.get_by_role("link", name=f"View: {whole.name}").click()
    expect_picture(page)


def test_a_batch_that_runs_is_followed_without_a_jump_or_a_lost_focus(page: Page, running: Running, tmp_path: Path) -> None:
    def begun() -> bool:
        work()
        return page.request.get(f"{page.url}/status").text().count("data-row-link") > 12

    write_many(tmp_path / "long", 600)
    with running.halted() as work:
        running.drop(tmp_path / "long")
        page.set_viewport_size({"width": 1000, "height": 500})
        page.goto(batch_of(page, running, "long"))
        expect(page.get_by_text("There are no images yet")).to_be_visible()
        wait_for(begun, "the first images")
        links = page.locator("#images [data-row-link]")
        expect(links.nth(12)).to_be_attached()
        before = int(page.get_by_role("progressbar", name="Progress of the batch").get_attribute("value") or 0)
        assert before < 90
        links.nth(12).focus()
        page.evaluate("new Promise(resolve => setTimeout(resolve, 500))")  # The browser scrolls smoothly.
        page.evaluate("""() => {
            const link = document.activeElement;
            const top = link.getBoundingClientRect().top;
            window.seen = { jump: 0, lost: 0, values: [] };
            const look = () => {
                const value = document.querySelector("#batch progress").value;
                if (value !== window.seen.values.at(-1)) window.seen.values.push(value);
                window.seen.jump = Math.max(window.seen.jump, Math.abs(link.getBoundingClientRect().top - top));
                if (document.activeElement !== link) window.seen.lost += 1;
                requestAnimationFrame(look);
            };
            look();
        }""")
        assert page.evaluate("scrollY") > 0
    # What was seen would not be there any more after a reload.
    page.wait_for_function("() => window.seen.values.at(-1) === 100")
    expect(page.locator("#batch")).not_to_have_attribute("hx-get", re.compile(""))
    expect(page.locator("#quality .counting")).to_have_count(0)
    seen = page.evaluate("seen")
    assert seen["lost"] == 0
    assert seen["jump"] < 2
    assert len(seen["values"]) > 1


def test_settings_stop_the_watcher_start_it_and_remove_what_is_imported(page: Page, running: Running, tmp_path: Path) -> None:
    page.goto(f"{running.address}/settings")
    page.get_by_role("button", name="Stop the watcher").click()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    files = dicom_files.write_series(tmp_path / "waiting", images=2, seed="waiting")
    running.drop(tmp_path / "waiting")
    page.get_by_role("button", name="Start the watcher").click()
    expect(page.get_by_role("button", name="Look at everything now")).to_be_visible()
    batch = batch_of(page, running, "waiting")
    page.goto(batch)
    expect(page.locator("#images [data-row-link]")).to_have_count(2)
    page.goto(f"{running.address}/settings/cleanup")
    page.get_by_role("link", name="Remove… the source folder of waiting").click()
    assert (running.data / "waiting" / files[0].name).exists()
    page.get_by_role("button", name="Remove the source folder").click()
    wait_for(lambda: not (running.data / "waiting").exists(), "the folder to be removed")
    page.goto(batch)
    page.locator("#images [data-row-link]").first.click()
    expect_picture(page)
