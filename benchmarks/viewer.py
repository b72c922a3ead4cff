"""How soon a series is seen in the viewer: the first slice, and all slices, in headless Chromium with software WebGL.

    python -m benchmarks.viewer --series FOLDER [--times N] [--image NUMBER] [--warm] [--traces]

All that ``dicomweb run`` starts is started on a folder of its own with its defaults, the files of ``--series`` (the 54 slices of a CT head
of the samples) are imported through the watched folder, and the page of the middle image is opened so many times. Each time the browser is new and its cache is
empty; with ``--warm`` it has been on the page of another image of the series before. Times are milliseconds since navigation began, as the page notes them on its viewer:
``picture``, when the server's picture of the opened slice was painted in the place, size and window that it has in the viewer (missing where it would
differ); ``drawn``, when the viewer itself had drawn that slice; ``first``, the earlier of the two; and ``all``, when every slice had come and been drawn.
``--traces`` prints what the browser asked for, and when, of one of the times.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from benchmarks.dicomweb import free_port
from benchmarks.imports import running, wait

PASSWORD = "benchmark-of-the-viewer"
PATIENCE_MS = 120_000
NAMES = ("picture", "drawn", "first", "all")
_NOTED = {"picture": "data-picture-ms", "drawn": "data-drawn-ms", "first": "data-first-ms", "all": "data-ready-ms"}
_TRACE = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
    .map((one) => [one.startTime, one.responseEnd, one.encodedBodySize, new URL(one.name).pathname.slice(-60)])"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True, help="a folder with the files of one series")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--image", type=int, default=0, help="which image is opened; without it the middle one")
    parser.add_argument("--warm", action="store_true", help="the browser has seen another image of the series before")
    parser.add_argument("--traces", action="store_true", help="print what was asked for and when, of the last time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dicomweb-") as folder, server(Path(folder), arguments.series) as (address, images):
        image = arguments.image or images // 2
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            found: list[dict[str, float]] = []
            for number in range(arguments.times):
                found.append(measure(browser, address, image, warm=arguments.warm, traces=arguments.traces and number == arguments.times - 1))
                print("  ".join(f"{name} {value:.0f}" for name, value in found[-1].items()), flush=True)
            browser.close()
    print("median of", len(found))
    for name in NAMES:
        if values := [one[name] for one in found if name in one]:
            print(f"{name:8} {statistics.median(values):6.0f} ms   (from {min(values):.0f} to {max(values):.0f})")


def measure(browser: Browser, address: str, image: int, *, warm: bool, traces: bool) -> dict[str, float]:
    """Open the page of an image in a new browser; give what it notes, in ms since navigation."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        page = log_in(context, address)
        if warm:
            see(page, f"{address}/images/{image + 1}")
        see(page, f"{address}/images/{image}")
        viewer = page.locator("[data-viewer]")
        noted = {name: viewer.get_attribute(attribute) for name, attribute in _NOTED.items()}
        if traces:
            for start, end, size, path in sorted(page.evaluate(_TRACE)):
                print(f"    {start:6.0f} - {end:6.0f} ms {size:9.0f} bytes  {path}")
        return {name: float(text) for name, text in noted.items() if text}
    finally:
        context.close()


def see(page: Page, address: str) -> None:
    """Open a page and wait until its viewer has everything."""
    page.goto(address, wait_until="commit")
    expect(page.locator("[data-viewer]")).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)


def log_in(context: BrowserContext, address: str) -> Page:
    """Begin a session."""
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/")
    return page


@contextmanager
def server(place: Path, series: Path) -> Iterator[tuple[str, int]]:
    """Run the application with a series in it; give its address and how many images it has."""
    data = place / "data"
    data.mkdir()
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "DICOMWEB_VAR": str(place / "var"), "DICOMWEB_WATCH": str(data), "DICOMWEB_PORT": str(port), "DICOMWEB_PASSWORD": PASSWORD,
    }  # fmt: skip
    files = [path for path in sorted(series.rglob("*")) if path.is_file()]
    with running([[sys.executable, "-c", "import sys; from dicomweb.cli import main; sys.exit(main())", "run"]], environment):
        wait(lambda: _answers(address), "the web server")
        for number, path in enumerate(files):
            target = data / "series" / f"{number:05}.dcm"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        (data / "series" / ".done").touch()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = log_in(browser.new_context(), address)
            wait(lambda: bool(re.search(r"\bDONE\b", page.goto(f"{address}/batches/1").text())), "the import")  # type: ignore[union-attr]
            browser.close()
        yield address, len(files)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/login", timeout=10) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
