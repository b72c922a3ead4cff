"""The viewer of an image page in a real browser, with software WebGL: what it shows, where it is, and that everybody can use it."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Locator, Page, expect

from dicomweb.imports import Importer
from tests import dicom_files, services
from tests.browser.test_pages import violations, violations_of_looks
from tests.functional.api_data import import_folder
from tests.functional.pages import Browser

# A machine that draws without a graphics card, and has other things to do.
PATIENCE = 60_000
PLANES = ("axial", "coronal", "sagittal")
AXES = {"axial": 2, "coronal": 1, "sagittal": 0}


@pytest.fixture
def page(page: Page, address: str) -> Iterator[Page]:
    """A page that also fails the test when it asks another host for something, or its policy refuses something."""
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith((address, "data:", "blob:", "chrome")) else None)
    yield page
    expect.set_options(timeout=5000)
    assert elsewhere == []


def bring(session: Browser, importer: Importer, source: Path) -> int:
    """Import a folder of samples as a batch; give its id."""
    folder = session.settings["watch.folders"][0] / source.name
    shutil.copytree(source, folder)
    return import_folder(importer, folder)


def write(session: Browser, importer: Importer, *files: bytes) -> int:
    """Import files as a batch; give its id."""
    folder = session.settings["watch.folders"][0] / f"written {len(files)}"
    folder.mkdir()
    for number, content in enumerate(files):
        (folder / f"{number:03}.dcm").write_bytes(content)
    return import_folder(importer, folder)


def open_viewer(page: Page, address: str, image: int, batch: int = 1) -> Locator:
    """Open the page of an image and wait until everything is loaded."""
    page.goto(f"{address}/batches/{batch}/images/{image}")
    viewer = page.locator("[data-viewer]")
    expect(viewer).to_have_attribute("data-state", "ready")
    return viewer


def numbers(element: Locator, name: str) -> list[float]:
    return [float(part) for part in (element.get_attribute(f"data-{name}") or "").split()]


def letters(viewer: Locator, plane: str) -> str:
    """Give the letters of a plane: above, right, below, left."""
    return "".join(viewer.locator(f"[data-plane={plane}] .viewer-letter").all_text_contents())


def click_at(page: Page, viewer: Locator, plane: str, point: list[float]) -> None:
    """Click where a point of the patient lies in a plane, as far as that plane shows."""
    port = viewer.locator(f"[data-plane={plane}]")
    center, right, down = (numbers(port, name) for name in ("center", "right", "down"))
    box = port.locator(".viewer-screen").bounding_box()
    assert box
    away = [one - other for one, other in zip(point, center, strict=True)]
    x, y = (sum(a * b for a, b in zip(away, way, strict=True)) / sum(b * b for b in way) for way in (right, down))
    page.mouse.click(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)


def grey_of(port: Locator) -> np.ndarray[Any, Any]:
    """Give the picture of a plane without what is written over it."""
    return np.asarray(Picture.open(io.BytesIO(port.locator("canvas").first.screenshot())).convert("L")).astype(int)


def test_the_planes_of_a_head_begin_where_the_image_is_and_follow_one_another(page: Page, address: str, session: Browser, importer: Importer, samples: Path) -> None:
    bring(session, importer, samples / "invesalius-ct")
    viewer = open_viewer(page, address, 27)
    assert (viewer.get_attribute("data-mode"), viewer.get_attribute("data-loaded"), viewer.get_attribute("data-total")) == ("volume", "54", "54")
    assert [letters(viewer, plane) for plane in PLANES] == ["ALPR", "HLFR", "HPFA"]
    axial, coronal, sagittal = (viewer.locator(f"[data-plane={plane}]") for plane in PLANES)
    expect(axial).to_have_attribute("data-index", "27")
    for port in (axial, coronal, sagittal):
        picture = grey_of(port)
        assert picture.max() > 200
        assert 0.1 < (picture > 60).mean() < 0.9
    # The wheel moves the plane under the pointer, and the fields follow.
    axial.locator(".viewer-screen").hover()
    page.mouse.wheel(0, 100)
    expect(axial).to_have_attribute("data-index", "28")
    expect(viewer).to_have_attribute("data-image", "28")
    expect(page.locator("#fields-card")).to_have_attribute("data-image", "28")
    expect(page.get_by_role("link", name="Instance 28")).to_have_attribute("href", "/batches/1/images/28")
    # The slider of the coronal plane moves the line in the axial one.
    before = float(axial.get_attribute("data-cross-y") or 0)
    coronal.locator(".viewer-slider").fill("20")
    expect(coronal).to_have_attribute("data-index", "20")
    assert float(axial.get_attribute("data-cross-y") or 0) != pytest.approx(before, abs=5)
    # A window for bones shows fewer greys of the brain; the others have it too.
    page.get_by_label("Window", exact=True).select_option("Bone")
    for port in (axial, coronal, sagittal):
        expect(port).to_have_attribute("data-window", "−500 1499")
    page.get_by_role("button", name="Reset").click()
    expect(axial).to_have_attribute("data-window", "−160 239")


def test_the_crosshair_reaches_known_points_in_every_plane_of_an_oblique_volume(page: Page, address: str, session: Browser, importer: Importer, samples: Path) -> None:
    truth = json.loads((samples.parent / "truth" / "oblique1.truth.json").read_text())
    bring(session, importer, samples / "phantom" / "oblique1")
    viewer = open_viewer(page, address, 11)
    assert viewer.get_attribute("data-mode") == "volume"
    assert [letters(viewer, plane) for plane in PLANES] == ["ALPR", "HLFR", "HPFA"]
    voxel = min(*truth["pixel_spacing"], truth["dz"])
    for sphere in truth["spheres"]:
        for plane in PLANES:
            # Two planes name a point: the one that is clicked gives two coordinates, another one the third.
            other = PLANES[(PLANES.index(plane) + 1) % 3]
            click_at(page, viewer, other, sphere["c"])
            click_at(page, viewer, plane, sphere["c"])
            reached = numbers(viewer, "crosshair")
            assert math.dist(reached, sphere["c"]) <= voxel, (sphere["name"], plane, reached)
            assert float(viewer.get_attribute("data-value") or "nan") == sphere["v"], (sphere["name"], plane)
    # What is seen at the crosshair is the sphere: as bright as its value in a window from 0 to 999.
    click_at(page, viewer, "coronal", truth["spheres"][1]["c"])
    click_at(page, viewer, "axial", truth["spheres"][1]["c"])
    axial = viewer.locator("[data-plane=axial]")
    page.get_by_role("button", name="Texts over the picture").click()
    picture = grey_of(axial)
    x, y = (round(float(axial.get_attribute(f"data-cross-{name}") or 0)) for name in "xy")
    assert 150 < np.median(picture[y - 3 : y + 4, x - 3 : x + 4]) < 210


def test_a_sagittal_series_is_large_in_its_own_plane(page: Page, address: str, session: Browser, importer: Importer, samples: Path) -> None:
    bring(session, importer, samples / "dcm_qa_decubitus")
    viewer = open_viewer(page, address, 16)
    assert (viewer.get_attribute("data-mode"), viewer.get_attribute("data-total")) == ("volume", "35")
    first = viewer.locator(".viewer-port").first
    assert first.get_attribute("data-plane") == "sagittal"
    assert letters(viewer, "sagittal") == "HPFA"
    assert first.get_attribute("data-slices") == "35"
    # The same images one by one, and back, at the same place.
    image = viewer.get_attribute("data-image")
    page.get_by_role("button", name="Slices as they were taken").click()
    expect(viewer).to_have_attribute("data-mode", "stack")
    expect(viewer).to_have_attribute("data-state", "ready")
    assert (viewer.get_attribute("data-image"), letters(viewer, "stack")) == (image, "HPFA")
    page.get_by_role("button", name="Three planes").click()
    expect(viewer).to_have_attribute("data-mode", "volume")
    expect(viewer).to_have_attribute("data-state", "ready")
    assert viewer.get_attribute("data-image") == image


def test_a_series_that_is_no_volume_is_shown_one_by_one_with_the_reason(page: Page, address: str, session: Browser, importer: Importer, samples: Path, tmp_path: Path) -> None:
    program = samples.parent / "tools" / "make_phantom.py"
    subprocess.run([sys.executable, "-W", "ignore", str(program), str(tmp_path / "gap"), "--gap"], check=True)
    bring(session, importer, tmp_path / "gap")
    viewer = open_viewer(page, address, 5)
    assert (viewer.get_attribute("data-mode"), viewer.get_attribute("data-total")) == ("stack", "39")
    expect(page.get_by_text("these images are no volume: Slices are missing.")).to_be_visible()
    expect(page.get_by_role("button", name="Three planes")).to_be_hidden()
    expect(page.get_by_role("button", name="Crosshair")).to_be_hidden()


def test_a_localizer_among_slices_is_offered_apart(page: Page, address: str, session: Browser, importer: Importer) -> None:
    same = {name: dicom_files.uid(name, "mixed") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    slices = [dicom_files.image_bytes(f"mixed/{at}", **same, InstanceNumber=str(at + 1), ImagePositionPatient=["0", "0", str(at)]) for at in range(4)]
    localizer = dicom_files.image_bytes("mixed/l", **same, InstanceNumber="9", ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"])
    write(session, importer, *slices, localizer)
    viewer = open_viewer(page, address, 5)
    assert viewer.get_attribute("data-mode") == "stack"
    expect(page.get_by_text("these images are no volume: Fewer than 3 slices lie one behind the other.")).to_be_visible()
    page.get_by_label("What is shown of the series").select_option(label="4 axial slices")
    expect(viewer).to_have_attribute("data-mode", "volume")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(page.get_by_text("This series falls into 2 parts.")).to_be_visible()


def test_a_film_plays(page: Page, address: str, session: Browser, importer: Importer, pydicom_files: tuple[Path, ...]) -> None:
    write(session, importer, named(pydicom_files, "examples_ybr_color.dcm").read_bytes())
    viewer = open_viewer(page, address, 1)
    port = viewer.locator(".viewer-port")
    assert (port.get_attribute("data-slices"), port.get_attribute("data-drawn")) == ("30", "false")
    assert np.ptp(grey_of(port)) > 100
    page.get_by_role("button", name="Play").click()
    expect(port).not_to_have_attribute("data-index", "1")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")


def test_pictures_look_as_their_headers_say(page: Page, address: str, session: Browser, importer: Importer, pydicom_files: tuple[Path, ...]) -> None:
    """MONOCHROME1 is white where values are small; palette and RGB have their colours; a 16 bit MONOCHROME2 ramp rises."""
    ramp = np.tile(np.arange(0, 4096, 64, dtype="<u2"), (64, 1))
    shape = {"Rows": 64, "Columns": 64, "WindowCenter": "2048", "WindowWidth": "4096", "RescaleIntercept": "0", "PixelData": ramp.tobytes()}
    write(
        session, importer, dicom_files.image_bytes("two", **shape), dicom_files.image_bytes("one", **shape, PhotometricInterpretation="MONOCHROME1"),
        named(pydicom_files, "examples_palette.dcm").read_bytes(), named(pydicom_files, "SC_rgb_rle.dcm").read_bytes(),
    )  # fmt: skip
    for image, rises in ((1, True), (2, False)):
        viewer = open_viewer(page, address, image)
        picture = grey_of(viewer.locator(".viewer-port"))
        height, width = picture.shape
        left, right = (int(picture[height // 3, width // 2 + way * height // 4]) for way in (-1, 1))
        assert (right - left > 80) is rises
        assert abs(right - left) > 80
    for image, drawn in ((3, "the palette is applied by the server"), (4, "")):
        viewer = open_viewer(page, address, image)
        told = page.request.get(f"{address}/batches/1/images/{image}/viewer.json").json()
        assert [one["how"] for one in told["images"]] == ["drawn" if drawn else "sent"]
        colours = np.asarray(Picture.open(io.BytesIO(viewer.locator(".viewer-port canvas").first.screenshot())).convert("RGB")).astype(int)
        assert np.ptp(colours, axis=2).max() > 60


@pytest.mark.usefixtures("failing_requests")
def test_a_frame_that_no_browser_can_decode_is_drawn_by_the_server_or_says_why(page: Page, address: str, session: Browser, importer: Importer) -> None:
    good = dicom_files.image_bytes("good")
    broken = dicom_files.image_bytes("broken", PixelData=bytes(100))
    write(session, importer, good, broken)
    page.goto(f"{address}/batches/1/images/2")
    trouble = page.locator(".viewer-trouble")
    expect(trouble).to_contain_text("This frame cannot be shown.")


@pytest.mark.parametrize("keywords", [{"PixelSpacing": ["2", "1"]}, {"PixelSpacing": None, "PixelAspectRatio": ["2", "1"]}], ids=["spacing", "aspect ratio"])
def test_pixels_that_are_not_square_have_their_shape(page: Page, address: str, session: Browser, importer: Importer, keywords: dict[str, Any]) -> None:
    """Half as many rows as columns, each twice as high as wide, are a square; and so they are while the library is still loading."""
    inner = np.zeros((32, 64), "<u2")
    inner[8:24, 16:48] = 4095
    write(session, importer, dicom_files.image_bytes("shape", Rows=32, Columns=64, PixelData=inner.tobytes(), **keywords))
    held: list[Any] = []
    page.route(re.compile("/viewer-page-"), lambda route: held.append(route))
    page.goto(f"{address}/batches/1/images/1", wait_until="commit")
    expect(page.locator("[data-viewer]")).to_have_attribute("data-picture-ms", re.compile("[0-9]"))
    early = page.locator(".viewer-first").bounding_box()
    assert early
    assert early["width"] / early["height"] == pytest.approx(1, abs=0.01)
    for route in held:
        route.continue_()
    viewer = page.locator("[data-viewer]")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(page.locator(".viewer-first")).to_have_count(0)
    page.get_by_role("button", name="Texts over the picture").click()
    lit = grey_of(viewer.locator(".viewer-port")) > 200
    height, width = int(lit[:, lit.shape[1] // 2].sum()), int(lit[lit.shape[0] // 2].sum())
    assert width / height == pytest.approx(1, abs=0.05)
    # The picture that was there first, of which this is the half in the middle, had the same size.
    assert early["height"] / 2 == pytest.approx(height, rel=0.06)
    assert float(viewer.get_attribute("data-first-ms") or 0) <= float(viewer.get_attribute("data-drawn-ms") or 0)


def test_fingers_scroll_enlarge_and_move(chromium: Chromium, address: str, session: Browser, importer: Importer) -> None:
    same = {name: dicom_files.uid(name, "touch") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    write(session, importer, *(dicom_files.image_bytes(f"touch/{at}", **same, InstanceNumber=str(at + 1), ImagePositionPatient=["0", "0", str(at)]) for at in range(12)))
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    context.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    touches = context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(points)]})

    try:
        page.goto(f"{address}/batches/1/images/6")
        viewer = page.locator("[data-viewer]")
        expect(viewer).to_have_attribute("data-state", "ready", timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        axial = viewer.locator("[data-plane=axial]")
        axial.scroll_into_view_if_needed()
        box = axial.locator(".viewer-screen").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        # One finger moves the crosshair.
        touch("touchStart", (x, y))
        touch("touchMove", (x + 40, y + 20))
        touch("touchEnd")
        expect(axial).not_to_have_attribute("data-cross-x", re.compile(rf"^{box['width'] / 2:.0f}"))
        reached = [float(axial.get_attribute(f"data-cross-{name}") or 0) for name in "xy"]
        # The crosshair stays on voxels.
        voxel = 0.5 / math.hypot(*numbers(axial, "right"))
        assert math.dist(reached, (box["width"] / 2 + 40, box["height"] / 2 + 20)) <= voxel
        # Two fingers that part enlarge, and what was between them stays between them.
        scale, center = (numbers(axial, name) for name in ("right", "center"))
        touch("touchStart", (x - 30, y))
        touch("touchStart", (x - 30, y), (x + 30, y))
        touch("touchMove", (x - 60, y + 25), (x + 60, y + 25))
        touch("touchEnd")
        expect(axial).not_to_have_attribute("data-right", " ".join(f"{part:.4f}" for part in scale))
        now = numbers(axial, "right")
        assert math.hypot(*scale) / math.hypot(*now) == pytest.approx(2, rel=0.05)
        down = numbers(axial, "down")
        held = [part + 25 * way for part, way in zip(numbers(axial, "center"), down, strict=True)]
        assert math.dist(held, center) < 4 * math.hypot(*now)
        # A stack is scrolled with one finger.
        page.get_by_role("button", name="Slices as they were taken").click()
        expect(viewer).to_have_attribute("data-mode", "stack", timeout=PATIENCE)
        expect(viewer).to_have_attribute("data-state", "ready", timeout=PATIENCE)
        stack = viewer.locator("[data-plane=stack]")
        before = int(stack.get_attribute("data-index") or 0)
        touch("touchStart", (x, y))
        touch("touchMove", (x, y + 20))
        touch("touchMove", (x, y + 37))
        touch("touchEnd")
        expect(stack).to_have_attribute("data-index", str(before + 4), timeout=PATIENCE)
    finally:
        context.close()


def test_measurements_are_made_and_removed(page: Page, address: str, session: Browser, importer: Importer) -> None:
    write(session, importer, dicom_files.image_bytes("measured", Rows=64, Columns=64, PixelData=np.full(4096, 1100, "<u2").tobytes(), PixelSpacing=["1", "1"]))
    viewer = open_viewer(page, address, 1)
    box = viewer.locator(".viewer-screen").bounding_box()
    assert box
    scale = math.hypot(*numbers(viewer.locator(".viewer-port"), "right"))
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.get_by_role("button", name="Length").click()
    drag(page, (x - 10 / scale, y), (x + 10 / scale, y))
    texts = viewer.locator(".viewer-screen svg text")
    expect(texts.first).to_contain_text("20")
    page.get_by_role("button", name="Rectangle with statistics").click()
    drag(page, (x - 5 / scale, y + 4 / scale), (x + 5 / scale, y + 14 / scale))
    # 1100 stored is 76 in units: the intercept is -1024.
    expect(viewer.locator(".viewer-screen svg")).to_contain_text(re.compile("Mean: 76"))
    for name in ("Angle", "Ellipse with statistics"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Window: brightness and contrast").click()
    page.get_by_role("button", name="Remove all measurements").click()
    expect(viewer.locator(".viewer-screen svg")).not_to_contain_text("mm")


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def test_everything_can_be_done_with_the_keyboard(page: Page, address: str, session: Browser, importer: Importer) -> None:
    same = {name: dicom_files.uid(name, "keys") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    write(session, importer, *(dicom_files.image_bytes(f"keys/{at}", **same, InstanceNumber=str(at + 1), ImagePositionPatient=["0", "0", str(at)]) for at in range(12)))
    viewer = open_viewer(page, address, 6)
    axial = viewer.locator("[data-plane=axial]")
    screen = axial.locator(".viewer-screen")
    expect(screen).to_have_attribute("tabindex", "0")
    screen.focus()
    for key, index in (("ArrowDown", "7"), ("ArrowUp", "6"), ("End", "12"), ("Home", "1"), ("PageDown", "11"), ("PageUp", "1")):
        page.keyboard.press(key)
        expect(axial).to_have_attribute("data-index", index)
    expect(page.locator("[data-spoken]")).to_have_text("Axial 1 of 12")
    before = numbers(viewer, "crosshair")
    page.keyboard.press("ArrowRight")
    expect(viewer).not_to_have_attribute("data-crosshair", " ".join(f"{part:.3f}" for part in before))
    assert numbers(viewer, "crosshair")[0] == pytest.approx(before[0] + 0.5)
    for key, name in (("w", "Window: brightness and contrast"), ("p", "Move"), ("z", "Zoom"), ("l", "Length"), ("c", "Crosshair"), ("i", "Invert")):
        page.keyboard.press(key)
        expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("h")
    expect(axial.locator("[data-side=right]")).to_have_text("R")
    page.keyboard.press("o")
    expect(axial.locator("[data-side=top]")).to_have_text(re.compile("[LR]"))
    page.keyboard.press("0")
    expect(axial.locator("[data-side=top]")).to_have_text("A")
    expect(axial.locator("[data-side=right]")).to_have_text("L")
    page.keyboard.press("]")
    expect(page.get_by_label("Window", exact=True)).to_have_value("auto")
    page.keyboard.press("m")
    expect(viewer.locator("[data-plane=coronal]")).to_be_hidden()
    page.keyboard.press("m")
    page.keyboard.press("t")
    expect(axial.locator("[data-corner=tl]")).to_be_hidden()
    with page.expect_download() as saved:
        page.keyboard.press("s")
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    # The page's own key still works elsewhere.
    page.locator("h1").click()
    page.keyboard.press("/")
    expect(page.get_by_label("Filter the fields")).to_be_focused()


def test_everybody_can_use_the_viewer(page: Page, address: str, session: Browser, importer: Importer) -> None:
    same = {name: dicom_files.uid(name, "looks") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    write(session, importer, *(dicom_files.image_bytes(f"looks/{at}", **same, InstanceNumber=str(at + 1), ImagePositionPatient=["0", "0", str(at * 2)]) for at in range(4)))
    open_viewer(page, address, 2)
    assert violations_of_looks(page) == []


def test_everybody_can_use_the_pages_of_what_is_no_image(page: Page, address: str, session: Browser, importer: Importer, pydicom_files: tuple[Path, ...]) -> None:
    pdf = b"%PDF-1.4\n1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj 2 0 obj <</Type/Pages/Kids[]/Count 0>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF\n"
    document = dicom_files.image_bytes(
        "pdf", PixelData=None, Rows=None, Columns=None, BitsAllocated=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC",
        EncapsulatedDocument=pdf, MIMETypeOfEncapsulatedDocument="application/pdf", DocumentTitle="A letter",
    )  # fmt: skip
    write(session, importer, document, *(named(pydicom_files, name).read_bytes() for name in ("test-SR.dcm", "waveform_ecg.dcm", "rtstruct.dcm")))
    for image in (2, 3, 4):
        page.goto(f"{address}/batches/1/images/{image}")
        assert violations_of_looks(page) == [], image
    with page.expect_response(re.compile("/document$")) as answer:
        page.goto(f"{address}/batches/1/images/1")
        page.get_by_title("A letter").scroll_into_view_if_needed()
    assert (answer.value.status, answer.value.headers["content-type"]) == (200, "application/pdf")


def test_without_webgl_slices_are_shown_one_by_one(chromium: Chromium, address: str, session: Browser, importer: Importer) -> None:
    same = {name: dicom_files.uid(name, "cpu") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    write(session, importer, *(dicom_files.image_bytes(f"cpu/{at}", **same, InstanceNumber=str(at + 1), ImagePositionPatient=["0", "0", str(at)]) for at in range(4)))
    browser = chromium.browser_type.launch(executable_path=services.chromium(), args=["--no-sandbox", "--disable-3d-apis"])
    try:
        page = browser.new_context(viewport={"width": 900, "height": 800}).new_page()
        page.context.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/batches/1/images/2")
        viewer = page.locator("[data-viewer]")
        expect(viewer).to_have_attribute("data-state", "ready", timeout=PATIENCE)
        assert viewer.get_attribute("data-mode") == "stack"
        expect(page.get_by_text("this browser has no WebGL")).to_be_visible()
        assert letters(viewer, "stack") == "ALPR"
        assert np.ptp(grey_of(viewer.locator(".viewer-port"))) > 100
        viewer.locator(".viewer-screen").focus()
        page.keyboard.press("ArrowDown")
        expect(viewer).to_have_attribute("data-image", "3")
    finally:
        browser.close()


def test_without_scripts_the_server_draws_and_leads_to_the_next_slice(chromium: Chromium, address: str, session: Browser, importer: Importer) -> None:
    same = {name: dicom_files.uid(name, "plain") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    write(session, importer, *(dicom_files.image_bytes(f"plain/{at}", **same, InstanceNumber=str(at + 1), ImagePositionPatient=["0", "0", str(-at)]) for at in range(3)))
    context = chromium.new_context(java_script_enabled=False)
    context.add_cookies([{"name": "dicomweb_session", "value": session.session, "url": address}])
    page = context.new_page()
    page.goto(f"{address}/batches/1/images/3")
    expect(page.get_by_role("img", name="Frame 1 of 002.dcm")).to_be_visible()
    page.get_by_role("link", name="Next slice").click()
    expect(page).to_have_url(f"{address}/batches/1/images/2")
    context.close()


def named(files: tuple[Path, ...], name: str) -> Path:
    return next(path for path in files if path.name == name)
