"""The pages of objects that are no images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.objects import read_contours
from dicomweb.security import HEADERS
from tests import dicom_files
from tests.functional.api_data import import_folder
from tests.functional.pages import HOSTILE, Browser

PDF = b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"
NO_PIXELS: dict[str, Any] = dict.fromkeys(("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PhotometricInterpretation"))


def bring(browser: Browser, importer: Any, *files: bytes) -> None:
    folder: Path = browser.settings["watch.folders"][0] / "objects"
    folder.mkdir()
    for number, content in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(content)
    import_folder(importer, folder)


def document(seed: str, content: bytes, media_type: str) -> bytes:
    return dicom_files.image_bytes(
        seed, **NO_PIXELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", EncapsulatedDocument=content,
        MIMETypeOfEncapsulatedDocument=media_type, DocumentTitle=HOSTILE,
    )  # fmt: skip


def coded(meaning: str) -> Sequence:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = "1", "99X", meaning
    return Sequence([made])


def test_a_report_is_a_list_of_lists_and_its_values_stay_text(browser: Browser, importer: Any) -> None:
    content = Dataset()
    content.RelationshipType, content.ValueType, content.ConceptNameCodeSequence, content.TextValue = "CONTAINS", "TEXT", coded(HOSTILE), HOSTILE
    picture, reference = Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    picture.RelationshipType, picture.ValueType, picture.ReferencedSOPSequence = "CONTAINS", "IMAGE", Sequence([reference])
    bring(
        browser, importer,
        dicom_files.image_bytes(
            "sr", **NO_PIXELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", ValueType="CONTAINER",
            ConceptNameCodeSequence=coded("Findings"), ContentSequence=Sequence([content, picture]),
        ),
    )  # fmt: skip
    answer = browser.get("/batches/1/images/1")
    assert answer.html.select_one("#object-title").text == "Findings"
    first, second = answer.html.select(".report > li")
    assert (first.select_one(".report-name").text, first.select_one(".report-value").text) == (HOSTILE, HOSTILE)
    assert (second.a.text, second.a["href"]) == ("CT Image Storage", "/search?q=SOPInstanceUID%3A1.2.3.4")
    assert not answer.html.select(".object-card img, .object-card script")
    assert answer.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_a_pdf_is_shown_in_a_frame_and_anything_else_can_only_be_saved(browser: Browser, importer: Any) -> None:
    script = b"<script>alert(1)</script>"
    bring(browser, importer, document("pdf", PDF, "application/pdf"), document("lie", script, "application/pdf"), document("html", script, "text/html"))
    page = browser.get("/batches/1/images/1")
    assert (page.html.iframe["src"], page.html.iframe["title"]) == ("/batches/1/images/1/document", HOSTILE)
    assert page.headers["Content-Security-Policy"].endswith("; frame-src 'self'")
    answer = browser.get("/batches/1/images/1/document")
    assert (answer.content_type, answer.body.rstrip(b"\0")) == ("application/pdf", PDF)
    assert answer.headers["Content-Disposition"].startswith("inline")
    assert (answer.headers["X-Frame-Options"], "script-src" in answer.headers["Content-Security-Policy"]) == ("SAMEORIGIN", False)
    for number in (2, 3):
        answer = browser.get(f"/batches/1/images/{number}/document")
        assert (answer.content_type, answer.headers["X-Frame-Options"]) == ("application/octet-stream", "DENY")
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert not browser.get("/batches/1/images/3").html.select("iframe")


def test_curves_are_drawn_by_the_server(browser: Browser, importer: Any, pydicom_files: tuple[Path, ...]) -> None:
    bring(browser, importer, next(path for path in pydicom_files if path.name == "waveform_ecg.dcm").read_bytes(), dicom_files.image_bytes("ct"))
    page = browser.get("/batches/1/images/1")
    pictures = [one["src"] for one in page.html.select(".waveform img")]
    assert pictures == ["/batches/1/images/1/waveform?group=1", "/batches/1/images/1/waveform?group=2"]
    answer = browser.get(pictures[1])
    assert answer.content_type == "image/svg+xml"
    assert answer.text.count("<text ") == 12
    for path in ("/batches/1/images/1/waveform?group=3", "/batches/1/images/1/waveform?group=x", "/batches/1/images/2/waveform", "/batches/1/images/2/document"):
        assert browser.get(path, expect_errors=True).status_int == 404


def test_structures_and_plans_have_tables(browser: Browser, importer: Any, pydicom_files: tuple[Path, ...]) -> None:
    files = {path.name: path for path in pydicom_files}
    bring(browser, importer, files["rtplan.dcm"].read_bytes(), files["rtstruct.dcm"].read_bytes())
    plan, structures = (browser.get(f"/batches/1/images/{number}").html for number in (1, 2))
    assert [title.text for title in plan.select(".object-card h3")] == ["Prescriptions", "Groups of fractions", "Beams"]
    assert [one.text.strip() for one in structures.select(".object-card tbody th")] == ["patient", "Isocenter 1", "Isocenter 2"]
    assert structures.select_one(".object-card svg rect")["fill"] == "rgb(220,160,120)"


def test_the_contours_of_structures_are_told_and_bounded(browser: Browser, importer: Any, pydicom_files: tuple[Path, ...]) -> None:
    bring(browser, importer, next(path for path in pydicom_files if path.name == "rtstruct.dcm").read_bytes(), dicom_files.image_bytes("ct"))
    answer = browser.get("/batches/1/images/1/contours.json")
    told = answer.json
    assert [one["name"] for one in told["structures"]] == ["patient", "Isocenter 1", "Isocenter 2"]
    assert (told["structures"][0]["colour"], told["left_out"]) == ([220, 160, 120], 0)
    assert told["points"] == sum(len(numbers) // 3 for one in told["structures"] for _, numbers in one["lines"]) > 10
    assert browser.get("/batches/1/images/1/contours.json", headers={"If-None-Match": answer.headers["ETag"]}).status_int == 304
    assert browser.get("/batches/1/images/2/contours.json", expect_errors=True).status_int == 404
    page = browser.get("/batches/1/images/1").html
    assert "of which no image is here" in page.text
    assert browser.get("/batches/1/images/2/viewer.json").json["structure_sets"] == []


def test_contours_that_are_too_many_or_nonsense_are_left_out() -> None:
    def contour(*numbers: Any) -> dict[str, Any]:
        return {"30060042": {"vr": "CS", "Value": ["CLOSED_PLANAR"]}, "30060050": {"vr": "DS", "Value": list(numbers)}}

    lines = [contour(*range(9)), contour(*range(8)), contour(1, 2, "x"), contour(1, 2, 1e300), contour(*range(30)), {"30060050": {"vr": "DS", "BulkDataURI": "?"}}]
    header = {
        "30060020": {"vr": "SQ", "Value": [{"30060022": {"vr": "IS", "Value": [7]}, "30060026": {"vr": "LO", "Value": [HOSTILE]}}]},
        "30060039": {"vr": "SQ", "Value": [{"30060084": {"vr": "IS", "Value": [7]}, "30060040": {"vr": "SQ", "Value": lines}}]},
    }
    asked = []

    def read(path: str) -> bytes:
        asked.append(path)
        return b"0\\0\\0\\1\\0\\0\\1\\1\\0 "

    drawing = read_contours(header, read, most=8)
    assert [len(numbers) for _, numbers in drawing.structures[0].lines] == [9, 9]
    assert (drawing.points, drawing.left_out, asked) == (6, 4, ["30060039/0/30060040/5/30060050"])
