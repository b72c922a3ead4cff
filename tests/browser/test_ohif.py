"""OHIF as npm delivers it, in a browser, on our DICOMweb: it lists, filters, and shows volumes, cines and colours."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from dicomweb import ohif
from dicomweb.app import main
from dicomweb.db import make_engine
from dicomweb.settings import Settings
from tests import services
from tests.functional import api_data
from tests.functional.pages import Browser as Session

# What it loads is large, and it draws without a graphics card.
PATIENCE = 60_000
STUDIES = {
    "Cranium, Small": "2.25.177547100517977396118365264930323650840",
    "HFS": "1.3.12.2.1107.5.2.43.67060.30000022040717195958300000010",
    "PLA": "1.2.840.114340.3.8251017118051.1.20160503.120850.2171",
    "CompressedSamples, US1": "1.3.6.1.4.1.5962.1.2.13.20040826185059.5457",
}


class Served(NamedTuple):
    """A server with the sample studies. address: of it. session: the token of a browser that has given the password."""

    address: str
    session: str


@pytest.fixture(scope="module")
def viewer() -> None:
    """OHIF, installed once for the checkout."""
    if not ohif.installed():
        if os.environ.get("REQUIRE_SERVICES") != "1":
            services.missing("OHIF, which `make ohif` installs")
        ohif.install()


@pytest.fixture(scope="module")
def served(viewer: None, samples: Path, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server and one import for all tests here."""
    here = tmp_path_factory.mktemp("ohif")
    folder = here / "data" / "samples"
    shutil.copytree(samples / "dcm_qa_decubitus", folder / "mr")
    shutil.copytree(samples / "invesalius-ct", folder / "ct")
    for name in ("examples_ybr_color.dcm", "examples_rgb_color.dcm"):
        shutil.copy(Path(pydicom.__file__).parent / "data" / "test_files" / name, folder)
    # The same picture once more, as JPEG 2000, for which the viewer's worker needs WebAssembly and evaluated text.
    shutil.copy(samples / "pydicom-data" / "US1_J2KR.dcm", folder)
    (here / "var").mkdir()
    shutil.copyfile(sqlite_template, here / "test.sqlite")
    ini = {"database.url": f"sqlite:///{here}/test.sqlite", "broker.url": "redis+socket:///nowhere"}
    settings = Settings(ini, environ={}, here=here)
    engine = make_engine(settings.database_url)
    api_data.import_folder(api_data.importer_of(settings, engine), folder)
    app = main({"here": str(here)}, **ini)
    try:
        with services.web_server(app) as address:
            yield Served(address, Session(app, settings, engine).begin_session())
    finally:
        app.registry["renderer"].close()
        api_data.close(app)
        engine.dispose()


@pytest.fixture(scope="module")
def logged_in(chromium: Browser, served: Served) -> Iterator[BrowserContext]:
    """A browser that is logged in, and keeps what it has loaded."""
    context = chromium.new_context(viewport={"width": 1000, "height": 700})
    context.set_default_timeout(PATIENCE)
    context.add_cookies([{"name": "dicomweb_session", "value": served.session, "url": served.address}])
    yield context
    context.close()


@pytest.fixture
def opened(logged_in: BrowserContext, served: Served) -> Iterator[Page]:
    """A page of it; whatever it complains about, fails to get, or asks of others fails the test."""
    page = logged_in.new_page()
    wrong: list[str] = []

    def asked(request: Any) -> None:
        if not request.url.startswith((served.address, "data:", "blob:")):
            wrong.append(f"asked another host: {request.url}")

    def failed(request: Any) -> None:
        # What a page that is left was still waiting for is given up.
        if request.failure != "net::ERR_ABORTED":
            wrong.append(f"{request.failure} {request.url}")

    # What a content security policy forbids is an error on the console too.
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", asked)
    page.on("requestfailed", failed)
    page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    yield page
    page.remove_listener("requestfailed", failed)
    page.close()
    assert wrong == []


def colours(of: Locator) -> np.ndarray:
    """The middle of what a canvas shows, without the texts at its edges, as rows, columns and RGB."""
    picture = np.asarray(Picture.open(io.BytesIO(of.screenshot(timeout=PATIENCE))).convert("RGB")).astype(int)
    rows, columns = picture.shape[0] // 6, picture.shape[1] // 6
    return picture[rows:-rows, columns:-columns]


def lit(of: Locator) -> float:
    """The part of a canvas that is not dark."""
    return float((colours(of).max(axis=2) > 40).mean())


def is_power_doppler(canvas: Locator) -> bool:
    """Tell whether the flow is yellow and red, the tissue grey, and nothing blue."""
    red, green, blue = np.moveaxis(colours(canvas), 2, 0)
    yellow, bluish = (red > 200) & (green > 150) & (blue < 60), (blue > red + 40) & (blue > green + 40)
    return bool(lit(canvas) > 0.1 and yellow.mean() > 0.005 and bluish.mean() < 0.001)


def wait_for(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Wait until a picture is as it should be; its policy forbids the page to evaluate a text that says when."""
    until = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < until, f"waited in vain: {what}"
        page.wait_for_timeout(100)


def frame_shown(page: Page) -> str:
    """Which image of how many the corner of the viewport names, such as ``(3/30)``."""
    return page.locator("[data-cy=viewport-overlay-bottom-right]").inner_text().split()[-1]


def test_the_study_list_lists_is_narrowed_by_name_and_opens_a_ct_series(opened: Page, served: Served) -> None:
    opened.goto(f"{served.address}/search")
    opened.get_by_role("link", name="Studies in OHIF").click()
    studies = opened.locator("tbody tr:not([data-filter-row])").filter(has=opened.locator("td"))
    expect(studies).to_have_count(len(STUDIES), timeout=PATIENCE)
    for name in STUDIES:
        expect(studies.filter(has_text=name)).to_have_count(1)
    with opened.expect_response(lambda answer: "PatientName=" in answer.url) as answered:
        opened.locator("tr[data-filter-row] input").first.fill("crani")
    assert [study["0020000D"]["Value"] for study in answered.value.json()] == [[STUDIES["Cranium, Small"]]]
    expect(studies).to_have_count(1)
    studies.first.dblclick()
    canvas = opened.locator("[data-cy=viewport-pane] canvas")
    expect(canvas).to_have_count(1, timeout=PATIENCE)
    wait_for(opened, lambda: frame_shown(opened) == "(1/54)", "the 54 slices of the series are known")
    # The first is above the head, and empty.
    canvas.hover()
    wait_for(opened, lambda: opened.mouse.wheel(0, 100) or lit(canvas) > 0.1, "a slice with something in it is shown")
    assert frame_shown(opened) != "(1/54)"
    # A CT has no colours.
    assert np.ptp(colours(canvas), axis=2).max() < 10
    opened.get_by_role("link", name="DICOM Database").click()
    opened.wait_for_url(f"{served.address}/")


def test_an_mr_series_is_shown_in_three_planes(opened: Page, served: Served) -> None:
    opened.goto(f"{served.address}/ohif/viewer?StudyInstanceUIDs={STUDIES['HFS']}&hangingProtocolId=mpr")
    canvases = opened.locator("[data-cy=viewport-pane] canvas")
    expect(canvases).to_have_count(3, timeout=PATIENCE)
    wait_for(opened, lambda: all(lit(canvas) > 0.1 for canvas in canvases.all()), "the three planes are shown")
    pictures = [colours(canvas) for canvas in canvases.all()]
    # Seen from above, from the side, from the front: the outlines differ, so no two pictures are nearly the same.
    rows, columns = (min(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    cut = [picture[:rows, :columns] for picture in pictures]
    assert all(np.abs(one - other).mean() > 10 for one, other in itertools.combinations(cut, 2))


def test_a_cine_plays(opened: Page, served: Served) -> None:
    opened.goto(f"{served.address}/ohif/viewer?StudyInstanceUIDs={STUDIES['PLA']}")
    canvas = opened.locator("[data-cy=viewport-pane] canvas")
    expect(canvas).to_have_count(1, timeout=PATIENCE)
    wait_for(opened, lambda: frame_shown(opened) == "(1/30)" and lit(canvas) > 0.03, "the first of 30 frames is shown")
    first = colours(canvas)
    opened.locator("[data-cy=cine-player-play-pause]").click()
    wait_for(opened, lambda: frame_shown(opened) not in ("(1/30)", "(2/30)"), "it plays")
    opened.locator("[data-cy=cine-player-play-pause]").click()
    assert (np.abs(colours(canvas) - first).max(axis=2) > 40).mean() > 0.01


def test_the_page_of_an_image_leads_to_it_in_its_colours(opened: Page, served: Served) -> None:
    opened.goto(f"{served.address}/search?q=PatientName:CompressedSamples*")
    opened.get_by_role("link", name="View image").first.click()
    opened.get_by_role("link", name="Open in OHIF").click()
    canvas = opened.locator("[data-cy=viewport-pane] canvas")
    expect(canvas).to_have_count(1, timeout=PATIENCE)
    seen = set()
    for _ in range(2):
        wait_for(opened, lambda: "/2)" in frame_shown(opened) and frame_shown(opened) not in seen, "one of the two is named")
        wait_for(opened, lambda: is_power_doppler(canvas), f"{frame_shown(opened)} is shown in its colours")
        seen.add(frame_shown(opened))
        canvas.hover()
        opened.mouse.wheel(0, 100 if "(1/2)" in seen else -100)
    assert seen == {"(1/2)", "(2/2)"}
