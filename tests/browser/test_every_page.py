"""Every page of the application in a browser, full and empty, in light and dark: whether everybody can use it, and whether it complains.

The list below is held against what the application registers: a page that is not in it fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from babel.messages.pofile import read_po
from playwright.sync_api import Page, expect
from pyramid.events import BeforeRender

from dicomweb import languages, sessions, statistics
from dicomweb.db import work
from dicomweb.imports import Importer, announce_upload, begin_upload
from dicomweb.models import Cleanup, Outcome, Sample, Worker
from dicomweb.views import TEMPLATES
from tests import dicom_files
from tests.browser.test_pages import violations_of_looks
from tests.functional import pages
from tests.functional.api_data import import_folder, run_jobs, write_samples
from tests.functional.pages import Browser

PATIENCE = 60_000

# Every page that has an address of its own; those with a star are looked at in a narrow window too.
FULL = (
    "/ *", "/?errors=yes&source=folder", "/?name=nothing", "/x",
    "/batches/1 *", "/batches/2", "/batches/4", "/batches/1/errors *", "/batches/1/errors?code=truncated", "/batches/2/errors", "/batches/1/notices *",
    "/batches/1/quality", "/batches/2/quality", "/batches/1/bytes?file={error}", "/batches/1/delete *", "/batches/1/images/1 *", "/batches/1/images/{conflict}",
    "/batches/chosen?do=delete&batch=1&batch=2 *", "/batches/chosen?do=label&batch=1", "/batches/chosen?do=export&batch=1", "/batches/chosen?do=retry&batch=1",
    "/patients", "/patients?q=nothing", "/patients/1", "/studies *", "/studies/1", "/series", "/series/1 *",
    "/search", "/search?q=Modality:MR&level=series *", "/search?q=Modality:XX+PatientID:*", "/search?q=Modalty:MR", "/search?q=Modality:MR&more=Modality&counted=yes",
    "/search?q=Modality:MR#columns-panel", "/search?q=Modality:MR#export-panel", "/search?q=Modality:MR#label-panel", "/search?q=Modality:MR#save-panel",
    "/search/varies?q=Modality:MR *", "/search/varies?q=PatientID:x", "/search/diff", "/search/diff?one=1&other=2 *", "/search/language",
    "/console", "/console?line=Modality:MR *", "/console?line=help", "/console?line=facet+Modality",
    "/settings *", "/settings/queue?status=failed *", "/settings/cleanup *", "/settings/clean?days=0", "/settings/access *", "/settings/appearance *",
    "/settings/values *", "/statistics *", "/tokens/1/revoke", "/upload *", "/upload?batch=1", "/upload/{upload}", "/upload/{ended}",
)  # fmt: skip
EMPTY = (
    "/", "/patients", "/studies", "/series", "/search", "/search?q=Modality:CT", "/search/varies?q=Modality:CT", "/search/diff", "/console?line=Modality:CT",
    "/settings", "/settings/queue", "/settings/cleanup", "/settings/clean?days=0", "/settings/access", "/statistics", "/upload",
)  # fmt: skip
# Pages that answer a form: what is sent, and where.
ANSWERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/settings/password", {"old": "wrong", "new": "a new one 77", "again": "a new one 77"}),
    ("/settings/clean", {"days": "0", "batches": "99"}),
    ("/batches/1/delete", {}),
    ("/batches/chosen", {"do": "label", "batch": "1", "label": ""}),
    ("/tokens", {"name": "a program"}),
    ("/tokens", {"name": "another program", "scope": "read", "ends": ""}),
    ("/upload/form", {"name": "nothing"}),
)


class Shown(set[tuple[str, str, str]]):
    """The pages that were rendered: the class of the context, the name of the view, the template."""

    def __call__(self, event: BeforeRender) -> None:
        if (template := _template(event["renderer_name"])) and event["request"] is not None:
            self.add((type(event["context"]).__name__, event["request"].view_name, template))


def _template(renderer: str) -> str:
    """Give the template of a whole page; nothing for parts of pages and for what is no page."""
    name = renderer.rpartition("/")[2]
    return name if name.endswith(".jinja2") and not name.startswith("_") else ""


def registered(app: Any) -> set[tuple[str, str, str]]:
    """Give the pages that views are registered for; failures are one."""
    found = set()
    for one in app.registry.introspector.get_category("views"):
        view = one["introspectable"]
        for related in one["related"]:
            if related.category_name == "templates" and (template := _template(related["name"])) and template != "failure.jinja2":
                context = "Root" if view["route_name"] else view["context"].__name__
                found.add((context, "" if view["route_name"] else view["name"], template))
    return found


@pytest.fixture
def places(session: Browser, importer: Importer) -> dict[str, object]:
    """An application in which everything that pages can show is there; the numbers that addresses need."""
    watched = session.settings["watch.folders"][0]
    write_samples(watched / "samples")
    batch_id = import_folder(importer, watched / "samples")
    files = dicom_files.write_series(watched / "gap", images=8, seed="gap", BurnedInAnnotation="YES")
    files[3].unlink()
    import_folder(importer, watched / "gap")
    now = datetime.now(UTC)
    uploads = [begin_upload(session.settings, name, sender="session", address="192.0.2.9", now=now) for name in ("half", "whole")]
    for upload in uploads:
        upload.take("a.dcm", iter([dicom_files.image_bytes("uploaded")]))
    announce_upload(importer, uploads[1])
    run_jobs(importer)
    session.add(
        pages.batch("running", status="PROCESSING", file_count=10, done_count=3, began_at=now, arrived_at=now),
        *(pages.batch(f"batch {number}", source="stow" if number % 2 else "folder") for number in range(40)),
        pages.batch("leaving", path="/data/leaving", delete_at=now + timedelta(minutes=20)),
        pages.arrival("/data/hip"), pages.job(batch_id=batch_id), pages.job(), pages.job(status="queued"),
        pages.job(status="running", worker="host:7", started_at=now), Worker(name="host:7", started_at=now, seen_at=now, memory=120_000_000),
        *(
            Sample(at=statistics.minute(now) - timedelta(minutes=n), queued=n, running=n % 5, failed=1, workers=1, images=7, bytes=9000 - n, free=10**10)
            for n in range(50)
        ),
        Cleanup(batch_id=2, status="kept", asked_at=now, automatic=True, files=3, bytes=4000, kept=1, reason="1 entry stayed."),
    )  # fmt: skip
    with work(session.engine) as dbsession:
        sessions.begin(dbsession, "x" * 43, address="192.0.2.9", browser="Mozilla/5.0 (Windows) Firefox/144.0", now=now)
        error = dbsession.query(Outcome).filter_by(code="truncated").one().id
        conflict = dbsession.query(Outcome).filter_by(kind="conflict").one().image_id
    session.press("/tokens", name="a program", scope="read", ends="")
    session.press("/search/save", q="Modality:MR", level="image", name="All MR")
    session.press("/search/label", q="Modality:MR", level="image", label="knees", do="add")
    session.press(f"/batches/{batch_id}/label", label="knees of the hospital", do="add")
    return {"error": error, "conflict": conflict, "upload": uploads[0].key, "ended": uploads[1].key}


@pytest.fixture
def shown(session: Browser) -> Iterator[Shown]:
    """What is rendered during the test; the application is that of other tests too."""
    made = Shown()
    session.app.registry.registerHandler(made, (BeforeRender,))
    yield made
    session.app.registry.unregisterHandler(made, (BeforeRender,))


def settle(page: Page) -> None:
    """Wait until nothing of a page comes later."""
    expect(page.locator(".counting")).to_have_count(0, timeout=PATIENCE)
    for viewer in page.locator("[data-viewer]").all():
        expect(viewer).to_have_attribute("data-state", "ready", timeout=PATIENCE)
    # Parts that are fetched as soon as the page is there, and after them the parts within these.
    expect(page.locator(".htmx-request")).to_have_count(0, timeout=PATIENCE)


def send(page: Page, path: str, fields: dict[str, str]) -> None:
    """Send a form from the page that is shown, and wait for its answer."""
    with page.expect_navigation():
        page.evaluate(
            """([path, fields]) => {
                const form = Object.assign(document.createElement("form"), { method: "post", action: path, enctype: path === "/upload/form" ? "multipart/form-data" : "" });
                const all = { csrf_token: document.querySelector("meta[name=csrf-token]").content, ...fields };
                for (const [name, value] of Object.entries(all)) form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
                document.body.append(form);
                form.submit();
            }""",
            [path, fields],
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everybody_can_use_every_page_in_light_and_dark(page: Page, address: str, session: Browser, places: dict[str, object], shown: Shown) -> None:
    found: dict[str, list[str]] = {}
    for entry in FULL:
        path = entry.removesuffix(" *").format(**places)
        page.goto(f"{address}{path}")
        settle(page)
        found[path] = violations_of_looks(page, narrow=entry.endswith(" *"))
    page.goto(f"{address}/api")
    expect(page.locator(".opblock").first).to_be_visible(timeout=PATIENCE)
    # Swagger UI has its own order of headings and landmarks.
    found["/api"] = [problem for problem in violations_of_looks(page, narrow=False) if ": heading-order" not in problem and ": region" not in problem]
    page.goto(address)
    for path, fields in ANSWERS:
        send(page, path, fields)
        found[f"answer of {path} {fields}"] = violations_of_looks(page, narrow=False)
    page.context.clear_cookies()
    page.goto(f"{address}/login")
    found["/login"] = violations_of_looks(page)
    send(page, "/login", {"password": "wrong"})
    found["answer of /login"] = violations_of_looks(page)
    assert {path: problems for path, problems in found.items() if problems} == {}
    assert registered(session.app) - shown == set()
    assert {path.name for path in TEMPLATES.glob("[!_]*.jinja2")} - {"layout.jinja2"} == {template for _, _, template in shown}


def test_everybody_can_use_the_pages_while_there_is_nothing(page: Page, address: str, session: Browser) -> None:
    found: dict[str, list[str]] = {}
    for path in EMPTY:
        page.goto(f"{address}{path}")
        settle(page)
        found[path] = violations_of_looks(page, narrow=False)
    assert {path: problems for path, problems in found.items() if problems} == {}


def test_no_page_speaks_english_to_who_reads_german(session: Browser, places: dict[str, object]) -> None:
    with languages.catalogue("de").open("rb") as file:
        texts = [message.id for message in read_po(file, locale="de") if isinstance(message.id, str) and message.id != message.string]
    # Of what has values or tags in it the words between them.
    english = {piece for text in texts for piece in re.split(r"%\(\w+\)s|<[^>]+>", text) if len(piece.split()) > 2}
    session.set_cookie("dicomweb_look", "system.normal.iso.de")
    waiting = [entry.removesuffix(" *").format(**places) for entry in FULL]
    found: dict[str, list[str]] = {}
    for path in waiting:
        html = session.get(path, expect_errors=True).html
        # The keys of the texts that scripts say, and what is typed.
        for element in html.select("#words, code"):
            element.decompose()
        # Parts that the page asks for as soon as it is there.
        waiting += [part["hx-get"] for part in html.select("[hx-get][hx-trigger^=load]") if part["hx-get"] not in waiting]
        shown = " ".join([" ".join(html.stripped_strings), *(str(element[name]) for name in ("title", "aria-label", "placeholder") for element in html.select(f"[{name}]"))])
        if said := sorted(text for text in english if text in shown):
            found[path] = said
    assert found == {}
