"""The page of an image: the frame, and the table of fields."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.models import Image
from tests import dicom_files
from tests.functional import pages
from tests.functional.api_data import import_folder
from tests.functional.pages import HOSTILE, Browser


def rows_of(answer: Any) -> dict[str, list[str]]:
    """The rows of the table of fields that are not nested: keyword -> cells."""
    found = {}
    for row in answer.html.select("#fields > tbody > tr"):
        cells = [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"], recursive=False)]
        found[cells[1]] = cells
    return found


@pytest.fixture
def several(browser: Browser, importer: Any) -> str:
    """The address of the first image of a batch with three."""
    folder: Path = browser.settings["watch.folders"][0] / "several"
    folder.mkdir()
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "T-1", "inner words"
    frames = np.arange(2 * 4 * 6, dtype="<u2").reshape(2, 4, 6)
    (folder / "a.dcm").write_bytes(
        dicom_files.image_bytes(
            "a", NumberOfFrames=2, Rows=4, Columns=6, BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0,
            PixelData=frames.tobytes(), PixelSpacing=[2, 1], AnatomicRegionSequence=Sequence([item]),
            ImageComments="x" * 10_000, StudyDescription=HOSTILE, PatientName="Müller^Jörg", WindowCenter=None, WindowWidth=None,
        )
    )  # fmt: skip
    (folder / "b.dcm").write_bytes(dicom_files.image_bytes("b"))
    (folder / "c.dcm").write_bytes(dicom_files.image_bytes("c", PixelData=None, Rows=None, Columns=None))
    batch_id = import_folder(importer, folder)
    return f"/batches/{batch_id}/images/{browser.count(Image) - 2}"


def test_an_image_of_another_batch_is_not_here(browser: Browser) -> None:
    browser.add(pages.batch("one"), pages.batch("two"))
    browser.add(pages.image(1), pages.image(2))
    assert browser.get("/batches/1/images/1").status_int == 200
    for path in ("/batches/1/images/2", "/batches/2/images/1", "/batches/2/images/1/frame", "/batches/1/images/2/value"):
        assert browser.get(path, expect_errors=True).status_int == 404
    assert browser.get("/images/2").headers["Location"] == "/batches/2/images/2"
    assert browser.get("/batches/1/images").headers["Location"] == "/batches/1/"


def test_the_table_shows_every_field_from_the_index(browser: Browser, several: str) -> None:
    rows = rows_of(browser.get(several))
    assert rows["PatientName"] == ["(0010,0010)", "PatientName", "PN", "Müller^Jörg"]
    assert rows["Modality"][3] == "CT"
    # Each value is a link of its own.
    assert rows["ImageType"][3].split(" \\ ") == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert rows["TransferSyntaxUID"][0] == "(0002,0010)"
    assert rows["PixelData"][3].startswith("binary")
    assert rows["StudyDescription"][3] == HOSTILE


def test_a_long_value_is_cut_with_a_way_to_see_all(browser: Browser, several: str) -> None:
    answer = browser.get(several)
    cell = rows_of(answer)["ImageComments"][3]
    assert "10,000 characters" in cell
    assert len(cell) < 5000
    link = answer.html.find("a", string="The whole value")["href"]
    whole = browser.get(link)
    assert whole.content_type == "text/plain"
    assert whole.text == "x" * 10_000 + "\n"


def test_a_sequence_is_folded(browser: Browser, several: str) -> None:
    answer = browser.get(several)
    (details,) = (one for one in answer.html.select("#fields details") if "inner words" in one.text)
    assert not details.has_attr("open")
    assert details.summary.text == "1 item"
    assert len(details.select("table.nested tr")) == 2


def test_private_fields_are_marked(browser: Browser, importer: Any) -> None:
    folder = browser.settings["watch.folders"][0] / "private"
    folder.mkdir()
    ds = dicom_files.image("private")
    ds.private_block(0x0019, "ACME 1.0", create=True).add_new(0x02, "LO", "secret sauce")
    (folder / "a.dcm").write_bytes(dicom_files.file_bytes(ds))
    import_folder(importer, folder)
    rows = [row for row in browser.get("/batches/1/images/1").html.select("#fields tr.private") if "ACME 1.0" in row.text]
    assert [row.select_one(".badge").text for row in rows] == ["private", "private"]
    assert [row.select_one(".field-value").text for row in rows] == ["ACME 1.0", "secret sauce"]


@pytest.mark.parametrize(
    ("wanted", "keywords"),
    [
        ("patientname", {"PatientName"}), ("(0010,0010)", {"PatientName"}), ("MÜLLER", {"PatientName"}),
        ("inner words", {"AnatomicRegionSequence"}), ("no such thing", set()),
    ],
)  # fmt: skip
def test_the_filter_works_without_a_script(browser: Browser, several: str, wanted: str, keywords: set[str]) -> None:
    answer = browser.get(several, {"q": wanted})
    assert {row.select_one(".field-keyword span").text for row in answer.html.select("#fields > tbody > tr")} == keywords
    if not keywords:
        assert "No field contains this" in answer.text


def test_the_frame_is_a_png_of_what_is_stored(browser: Browser, several: str) -> None:
    page = browser.get(several)
    img = page.html.select_one(".picture img")
    # Rows are twice as far apart as columns, so the picture is shown twice as high.
    assert (img["width"], img["height"]) == ("6", "8")
    answer = browser.get(img["src"])
    assert answer.content_type == "image/png"
    picture = Picture.open(io.BytesIO(answer.body))
    assert (picture.size, picture.mode) == ((6, 4), "L")
    values = np.asarray(picture).ravel().astype(int)
    assert values[0] == 0
    assert values[-1] == 255
    assert (np.diff(values) >= 0).all()


def test_frames_lead_to_one_another(browser: Browser, several: str) -> None:
    page = browser.get(several)
    assert [link["href"] for link in page.html.select("form.frames a")] == [f"{several}?n=2"]
    assert "of 2" in page.text
    second = browser.get(f"{several}?n=2")
    assert [link["href"] for link in second.html.select("form.frames a")] == [f"{several}?n=1"]
    assert browser.get(second.html.select_one(".picture img")["src"]).content_type == "image/png"


def test_a_frame_that_does_not_exist_is_no_error_of_the_server(browser: Browser, several: str) -> None:
    answer = browser.get(f"{several}/frame?n=3", expect_errors=True)
    assert (answer.status_int, answer.text) == (415, "This image has no frame with this number.\n")
    for number in ("0", "-1", "x", "9" * 30):
        assert browser.get(f"{several}/frame?n={number}").status_int == 200


def test_a_frame_is_kept_by_the_browser_only_and_only_under_the_name_of_its_bytes(browser: Browser, several: str) -> None:
    named = browser.get(browser.get(several).html.select_one(".picture img")["src"])
    unnamed = browser.get(f"{several}/frame?n=1")
    assert named.headers["Cache-Control"] == "immutable, max-age=2592000, private" or "private" in named.headers["Cache-Control"]
    assert "immutable" in named.headers["Cache-Control"]
    assert "immutable" not in unnamed.headers["Cache-Control"]
    again = browser.get(f"{several}/frame?n=1", headers={"If-None-Match": unnamed.headers["ETag"]})
    assert (again.status_int, again.body) == (304, b"")


def test_a_file_that_is_gone_is_said_so(browser: Browser, several: str) -> None:
    for pack in browser.settings.var.rglob("*.pack"):
        pack.unlink()
    answer = browser.get(f"{several}/frame?n=1", expect_errors=True)
    assert answer.status_int == 415
    assert browser.settings.var.name not in answer.text


def test_images_lead_to_their_neighbours(browser: Browser, several: str) -> None:
    def neighbours(answer: Any) -> dict[str, str]:
        return {link["rel"][0]: link["href"] for link in answer.html.select(".title-line a")}

    first = browser.get(several)
    assert set(neighbours(first)) == {"next"}
    middle = browser.get(neighbours(first)["next"])
    assert neighbours(middle)["prev"] == several
    last = browser.get(neighbours(middle)["next"])
    assert set(neighbours(last)) == {"prev"}


def test_an_object_without_pixels_says_so_kindly(browser: Browser, several: str) -> None:
    path = browser.get(browser.get(several).html.select_one("a[rel=next]")["href"]).html.select_one("a[rel=next]")["href"]
    answer = browser.get(path)
    assert "CT Image Storage has no pixels" in answer.text
    assert "img" not in [tag.name for tag in answer.html.select(".picture *")]
    assert rows_of(answer)["Modality"][3] == "CT"


def test_an_image_that_is_not_imported_yet_says_so(browser: Browser) -> None:
    browser.add(pages.batch(status="PROCESSING"))
    browser.add(pages.image(1))
    answer = browser.get("/batches/1/images/1")
    assert "Not imported yet" in answer.text
    assert "No fields yet" in answer.text
    assert browser.get("/batches/1/images/1/frame", expect_errors=True).status_int == 404


def test_a_conflict_leads_to_the_earlier_image(browser: Browser, imported: int) -> None:
    link = browser.get(f"/batches/{imported}/errors?code=conflict").html.find("a", string="this file")["href"]
    answer = browser.get(link)
    assert browser.get(answer.html.select_one(".alert a")["href"]).follow().status_int == 200
