"""Photograph every page: ``python -m tests.screens FOLDER [NAME ...]``, as ``make screens`` does for ``docs/screens``.

The whole application runs on a private folder, first empty, then with the sample files. Each picture shows one page four times:
wide and narrow, light and dark; the best ones are there in full size too. ``--single`` keeps the four as full-size pictures of whole
pages, to be judged.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import requests
from PIL import Image as Picture
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

from tests import dicom_files, services
from tests.integration.test_run import Instance

PASSWORD = "the-password-of-the-screens"
WIDE, NARROW = (1440, 900), (390, 844)
THEMES = ("light", "dark")
SCALE = 0.6
GAP = 16
COLOURS = 256
EXACT_COLOURS = 128
BACKGROUND = (128, 134, 142)
# Lists look as they do when they are used: as many batches of the same few images as make two pages of a list.
SMALL_BATCHES = 60


UPLOADED = (*((f"IM{number:05}.dcm", dicom_files.image_bytes(f"uploaded {number}")) for number in range(6)), ("notes.txt", b"No image."))


@dataclass(frozen=True)
class Shot:
    """A page: its address below the application's, and what is done on it before it is photographed."""

    name: str
    address: str
    prepare: Callable[[Page], object] = lambda page: None
    state: str = "full"
    logged_in: bool = True
    best: bool = False
    locale: str = "en-GB"


def viewer(page: Page) -> None:
    expect(page.locator("[data-viewer]")).to_have_attribute("data-state", "ready")


def contours(page: Page) -> None:
    page.get_by_role("link", name="Show over the series").click()
    page.wait_for_url("**structures=**")
    viewer(page)
    expect(page.locator(".viewer-outlines path").first).to_be_attached()


def uploaded(page: Page) -> None:
    page.locator("[data-input=files]").set_input_files([FilePayload(name=name, mimeType="", buffer=content) for name, content in UPLOADED])
    page.get_by_role("button", name="Start the upload").click()
    expect(page.get_by_role("heading", name="Imported, but for 1 file")).to_be_visible()


def search_hit(page: Page) -> None:
    expect(page.locator("table tbody tr").first).to_be_visible()


def unfold(text: str) -> Callable[[Page], object]:
    return lambda page: page.get_by_role("link", name=text).first.click()


def tick(page: Page) -> None:
    page.locator("input[name=batch]").nth(1).check()
    page.locator("input[name=batch]").nth(2).check()


class Full:
    """The application with everything in it, and the addresses of what is shown."""

    def __init__(self, base: str, samples: Path, watch: Path, spare: Path) -> None:
        self.base = base
        self.api = requests.Session()
        self.api.auth = ("admin", PASSWORD)
        sources = {
            "CT head": samples / "invesalius-ct" / "axial-small",
            "MR decubitus": samples / "dcm_qa_decubitus",
            "Phantom, oblique": samples / "phantom" / "oblique1",
            "Test files of pydicom": samples / "pydicom",
            "Test data of pydicom": samples / "pydicom-data",
            "Radiotherapy": samples / "dicompyler-core",
            "Microscopy": samples / "highdicom",
        }
        for name, source in sources.items():
            drop(watch, spare, name, lambda folder, source=source: shutil.copytree(source, folder))  # type: ignore[misc]
        drop(watch, spare, "MR shoulder with gaps", with_gaps)
        for number in range(SMALL_BATCHES):
            drop(watch, spare, f"Export {number + 1:03}", lambda folder, number=number: small(folder, number))  # type: ignore[misc]
        self.batches = self.imported(len(sources) + 1 + SMALL_BATCHES)

    def imported(self, count: int) -> dict[str, int]:
        """Wait for the batches, and give their ids by name."""
        until = time.monotonic() + 600
        while True:
            found = self.api.get(f"{self.base}/api/batches", params={"page_size": 200}).json()["results"]
            if len([batch for batch in found if batch["status"] == "DONE"]) >= count:
                return {batch["name"]: batch["id"] for batch in found}
            if time.monotonic() > until:
                sys.exit(f"Only {len(found)} of {count} batches were imported.")
            time.sleep(0.5)

    def image(self, query: str) -> str:
        """Give the address of the page of the first image of a query."""
        answer = self.api.get(f"{self.base}/api/search", params={"q": query, "size": 1}).json()
        [hit] = answer["results"]
        return f"/batches/{hit['batch']}/images/{hit['image']}"

    def shots(self) -> Iterable[Shot]:
        batch = {name: f"/batches/{number}" for name, number in self.batches.items()}
        yield Shot("dashboard", "/", tick, best=True)
        yield Shot("dashboard-german", "/", locale="de-DE")
        yield Shot("dashboard-filtered", "/?status=DONE&errors=yes&sort=-size")
        yield Shot("batch", batch["MR decubitus"])
        yield Shot("batch-quality", batch["MR shoulder with gaps"], unfold("What varies"), best=True)
        yield Shot("batch-notices", batch["Test files of pydicom"] + "/notices")
        yield Shot("batch-errors", batch["Test files of pydicom"] + "/errors")
        yield Shot("batch-delete", batch["CT head"] + "/delete")
        yield Shot("patients", "/patients")
        yield Shot("patient", "/patients/1")
        yield Shot("studies", "/studies")
        yield Shot("study", "/studies/1")
        yield Shot("series-list", "/series")
        yield Shot("series", "/series/1")
        yield Shot("search", "/search?q=Modality%3ACT", search_hit, best=True)
        yield Shot("search-german", "/search?q=Modality%3ACT+KVP%3A%3E%3D100+StudyDate%3A2000..", search_hit, locale="de-DE")
        yield Shot("search-series", "/search?q=Modality%3AMR&level=series", search_hit)
        yield Shot("search-varies", "/search/varies?q=batch%3A%22MR+decubitus%22")
        yield Shot("search-language", "/search/language")
        yield Shot("compare", "/search/diff?one=1&other=2")
        yield Shot("console", "/console?line=facet+Modality")
        yield Shot("viewer-ct", self.image('SeriesDescription:* batch:"CT head" InstanceNumber:27'), viewer, best=True)
        yield Shot("viewer-phantom", self.image('batch:"Phantom, oblique" InstanceNumber:20'), viewer)
        yield Shot("viewer-mr", self.image('batch:"MR decubitus" InstanceNumber:18'), viewer)
        yield Shot("viewer-gaps", self.image('batch:"MR shoulder with gaps" InstanceNumber:3'), viewer)
        yield Shot("viewer-us", self.image("Modality:US NumberOfFrames:>1"), viewer)
        yield Shot("report", self.image("Modality:SR"))
        yield Shot("ecg", self.image("Modality:ECG"))
        yield Shot("structures", self.image('batch:Radiotherapy Modality:RTSTRUCT'))
        yield Shot("viewer-contours", self.image('batch:Radiotherapy Modality:RTSTRUCT'), contours)
        yield Shot("upload", "/upload")
        yield Shot("upload-result", "/upload", uploaded)
        yield Shot("chosen-delete", "/batches/chosen?do=delete&batch=1&batch=2")
        yield Shot("chosen-label", "/batches/chosen?do=label&batch=1&batch=2")
        yield Shot("statistics", "/statistics")
        yield Shot("settings", "/settings")
        for page in ("queue", "cleanup", "access", "appearance", "values"):
            yield Shot(f"settings-{page}", f"/settings/{page}")
        yield Shot("not-found", "/batches/999999")


EMPTY = (
    Shot("login", "/login", state="empty", logged_in=False),
    Shot("dashboard", "/", state="empty"),
    Shot("patients", "/patients", state="empty"),
    Shot("studies", "/studies", state="empty"),
    Shot("series-list", "/series", state="empty"),
    Shot("search", "/search", state="empty"),
    Shot("search-nothing", "/search?q=Modality%3AXX", state="empty"),
    Shot("statistics", "/statistics", state="empty"),
    Shot("settings-queue", "/settings/queue", state="empty"),
    Shot("settings-cleanup", "/settings/cleanup", state="empty"),
    Shot("api", "/api", state="empty"),
)


def drop(watch: Path, spare: Path, name: str, write: Callable[[Path], object]) -> None:
    """Bring a folder into the watched one as one piece."""
    folder = spare / name
    write(folder)
    folder.rename(watch / name)


def with_gaps(folder: Path) -> None:
    files = dicom_files.write_series(
        folder, images=12, seed="gap", PatientName="Muster^Anna", PatientID="S-2231", PatientBirthDate="19710412", Modality="MR",
        StudyDescription="MR shoulder right", SeriesDescription="t1_tse_sag_fs", BurnedInAnnotation="YES",
    )  # fmt: skip
    for number in (4, 5, 9):
        files[number].unlink()


def small(folder: Path, number: int) -> None:
    modality = ("CT", "MR", "CR", "US")[number % 4]
    dicom_files.write_series(
        folder, images=1 + number % 5, seed=f"small {number}", PatientName=f"Sample^{number:03}", PatientID=f"P{number:04}",
        Modality=modality, StudyDescription=f"{modality} follow-up", SeriesDescription=f"series {number}",
    )  # fmt: skip
    if not number % 9:
        (folder / "notes.txt").write_text("No image.")


def photograph(browser: Browser, base: str, cookies: list[dict[str, object]], shots: Iterable[Shot], out: Path, *, single: bool) -> None:
    """Write one picture for each page."""
    for shot in shots:
        pictures = []
        for width, height in (WIDE, NARROW):
            context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", locale=shot.locale)
            if shot.logged_in:
                context.add_cookies(cookies)  # type: ignore[arg-type]
            page = context.new_page()
            expect.set_options(timeout=60_000)
            page.goto(base + shot.address)
            shot.prepare(page)
            page.wait_for_load_state("networkidle")
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                page.wait_for_timeout(300)
                path = out / f"{shot.name}-{shot.state}-{width}-{theme}.png"
                page.screenshot(path=path, full_page=single)
                pictures.append(path)
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                sys.stderr.write(f"{shot.name} is wider than {width} pixels\n")
            context.close()
        if shot.best and not single:
            with Picture.open(pictures[0]) as picture:
                save(picture.convert("RGB"), out / f"{shot.name}-wide.png")
        if not single:
            join(pictures, out / f"{shot.name}{'-empty' if shot.state == 'empty' else ''}.png")


def join(paths: list[Path], target: Path) -> None:
    """Put pictures side by side, smaller and with few colours, and remove them."""
    pictures = []
    for path in paths:
        with Picture.open(path) as picture:
            size = (round(picture.width * SCALE), round(picture.height * SCALE))
            pictures.append(picture.convert("RGB").resize(size, Picture.Resampling.LANCZOS))
        path.unlink()
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = Picture.new("RGB", (width, max(picture.height for picture in pictures)), BACKGROUND)
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    save(sheet, target)


def save(picture: Picture.Image, target: Path) -> None:
    """Write a picture with few colours: the commonest as they are, for these are backgrounds, and those of links and errors, which are rare, nearly."""
    commonest = sorted(picture.getcolors(picture.width * picture.height) or [], reverse=True)[:EXACT_COLOURS]
    others = picture.quantize(COLOURS - len(commonest), method=Picture.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Picture.new("P", (1, 1))
    palette.putpalette([*(part for _, colour in commonest if isinstance(colour, tuple) for part in colour), *others])
    picture.quantize(palette=palette, dither=Picture.Dither.NONE).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--single", action="store_true")
    arguments = parser.parse_intermixed_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = set(arguments.names)

    def chosen(shots: Iterable[Shot]) -> list[Shot]:
        return [shot for shot in shots if not wanted or shot.name in wanted]

    with tempfile.TemporaryDirectory(prefix="dicom-") as folder, sync_playwright() as playwright:
        here = Path(folder)
        instance = Instance(here, DICOMWEB_PASSWORD=PASSWORD, DICOMWEB_WORKERS="5").started()
        browser = playwright.chromium.launch(executable_path=services.chromium(), args=["--no-sandbox"])
        try:
            base = f"http://127.0.0.1:{instance.port}"
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{base}/login")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button").last.click()
            page.wait_for_url(f"{base}/")
            cookies: list[dict[str, object]] = [dict(cookie) for cookie in context.cookies()]
            photograph(browser, base, cookies, chosen(EMPTY), arguments.out, single=arguments.single)
            full = Full(base, arguments.samples, instance.data, here)
            photograph(browser, base, cookies, chosen(full.shots()), arguments.out, single=arguments.single)
        finally:
            browser.close()
            instance.process.terminate()
            instance.ended()


if __name__ == "__main__":
    main()
