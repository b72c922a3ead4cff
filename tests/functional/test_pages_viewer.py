"""What the viewer of an image page is told, and what it fetches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import dicom_files
from tests.functional.api_data import import_folder
from tests.functional.pages import HOSTILE, Browser
from tests.statements import statements

SAGITTAL = ["0", "1", "0", "0", "0", "-1"]


def folder_of(browser: Browser, name: str) -> Path:
    folder: Path = browser.settings["watch.folders"][0] / name
    folder.mkdir()
    return folder


def told(browser: Browser, image: int, batch: int = 1) -> Any:
    answer = browser.get(f"/batches/{batch}/images/{image}/viewer.json")
    assert answer.content_type == "application/json"
    return answer.json


def write_slices(folder: Path, places: list[float], seed: str = "one", **keywords: Any) -> None:
    """Write axial slices of one series at these heights, each named by its place in the list."""
    same = {name: dicom_files.uid(name, seed) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for number, place in enumerate(places, 1):
        own = {"InstanceNumber": str(number), "ImagePositionPatient": ["-10", "-20", f"{place:g}"]}
        (folder / f"{seed}-{number:03}.dcm").write_bytes(dicom_files.image_bytes(f"{seed}/{number}", **(same | own | keywords)))


def test_a_volume_is_told_in_the_order_of_its_slices_from_the_image_on_that_was_opened(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "volume")
    write_slices(folder, [4, 0, 2, 6])
    import_folder(importer, folder)
    found = told(browser, 3)
    (display,) = found["displays"]
    assert [found["images"][at]["number"] for at, frame in display["frames"] if frame == 1] == [2, 3, 1, 4]
    assert found["start"] == [0, 1]
    volume = display["volume"]
    assert (volume["plane"], volume["aligned"], volume["shape"], volume["spacing"]) == ("axial", True, [16, 16, 4], [0.5, 0.5, 2.0])
    assert (volume["origin"], volume["normal"]) == ([-10.0, -20.0, 0.0], [0.0, 0.0, 1.0])
    assert (display["code"], display["reason"]) == ("", "")
    image = found["images"][0]
    assert (image["id"], image["how"]) == (1, "sent")
    assert found["common"]["00280010"]["Value"] == [16]
    assert "00280010" not in image["elements"]
    assert image["elements"]["00200032"]["Value"] == [-10.0, -20.0, 4.0]
    address = f"{found['root']}{image['uid']}/frames/1"
    assert browser.get(address, headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}).status_int == 200


def test_a_series_with_a_gap_is_no_volume_and_says_so(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "gap")
    write_slices(folder, [0, 2, 4, 8, 10])
    import_folder(importer, folder)
    (display,) = told(browser, 1)["displays"]
    assert (display["volume"], display["code"], display["reason"]) == (None, "gap", "Slices are missing.")
    assert len(display["frames"]) == 5


def test_a_localizer_is_shown_apart_from_the_slices(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "mixed")
    write_slices(folder, [0, 2, 4])
    same = {name: dicom_files.uid(name, "one") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    (folder / "z.dcm").write_bytes(dicom_files.image_bytes("localizer", **same, InstanceNumber="9", ImageOrientationPatient=SAGITTAL))
    import_folder(importer, folder)
    found = told(browser, 4)
    slices, localizer = found["displays"]
    assert slices["volume"]["shape"] == [16, 16, 3]
    assert (localizer["code"], len(localizer["frames"]), found["start"]) == ("too-few", 1, [1, 0])


def test_echoes_at_the_same_places_are_volumes_of_their_own(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "echoes")
    same = {name: dicom_files.uid(name, "echoes") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for number in range(6):
        own = {"InstanceNumber": str(number + 1), "EchoNumbers": str(number // 3 + 1), "ImagePositionPatient": ["0", "0", str(number % 3 * 2)]}
        (folder / f"{number}.dcm").write_bytes(dicom_files.image_bytes(f"echoes/{number}", **same, **own))
    import_folder(importer, folder)
    found = told(browser, 5)
    assert [(one["kind"], len(one["frames"])) for one in found["displays"]] == [("echo 1", 3), ("echo 2", 3)]
    assert found["start"] == [1, 1]


@pytest.mark.parametrize(
    ("keywords", "how"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "sent"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "drawn"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelData": bytes(1024)}, "drawn"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PlanarConfiguration": 0, "PixelData": bytes(768)}, "sent"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PlanarConfiguration": 0, "PixelData": bytes(512)}, "drawn"),
    ],
)  # fmt: skip
def test_what_browsers_do_not_show_right_is_drawn_by_the_server(browser: Browser, importer: Any, keywords: dict[str, Any], how: str) -> None:
    folder = folder_of(browser, "kinds")
    (folder / "a.dcm").write_bytes(dicom_files.image_bytes("kinds", **keywords))
    import_folder(importer, folder)
    (image,) = told(browser, 1)["images"]
    assert image["how"] == how


def test_of_two_images_with_one_uid_the_second_is_drawn_alone(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "conflict")
    write_slices(folder, [0, 2, 4])
    same = {name: dicom_files.uid(name, "one") for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    (folder / "z.dcm").write_bytes(dicom_files.image_bytes("one/2", **same, InstanceNumber="2", ImageComments="other bytes"))
    import_folder(importer, folder)
    assert [len(one["frames"]) for one in told(browser, 2)["displays"]] == [3]
    found = told(browser, 4)
    assert [(one["code"], len(one["frames"])) for one in found["displays"]] == [("", 3), ("shadowed", 1)]
    assert (found["start"], found["images"][found["displays"][1]["frames"][0][0]]["how"]) == ([1, 0], "drawn")


def test_frames_of_one_file_are_told_each_with_its_place(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "enhanced")
    groups = []
    for number in range(4):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, number * 3]
        group.PlanePositionSequence = Sequence([position])
        groups.append(group)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    (folder / "a.dcm").write_bytes(
        dicom_files.image_bytes(
            "enhanced", NumberOfFrames=4, Rows=4, Columns=4, PixelData=np.zeros(64, "<u2").tobytes(), ImagePositionPatient=None,
            ImageOrientationPatient=None, PixelSpacing=None, PerFrameFunctionalGroupsSequence=Sequence(groups), SharedFunctionalGroupsSequence=Sequence([shared]),
        )
    )  # fmt: skip
    import_folder(importer, folder)
    found = told(browser, 1)
    (display,) = found["displays"]
    assert (display["frames"], display["volume"]["spacing"]) == ([[0, 1], [0, 2], [0, 3], [0, 4]], [0.5, 0.5, 3.0])
    assert found["images"][0]["of_frames"]["3"]["00200032"]["Value"] == [0.0, 0.0, 6.0]
    assert found["images"][0]["of_frames"]["3"]["00280030"]["Value"] == [0.5, 0.5]


def test_a_header_that_lies_about_its_frames_is_bounded(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "lies")
    (folder / "a.dcm").write_bytes(dicom_files.image_bytes("lies", NumberOfFrames=2_000_000_000))
    import_folder(importer, folder)
    (display,) = told(browser, 1)["displays"]
    assert 1 <= len(display["frames"]) <= 6000


def test_an_object_without_pixels_has_nothing_to_show(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "none")
    (folder / "a.dcm").write_bytes(dicom_files.image_bytes("none", PixelData=None, Rows=None, Columns=None))
    import_folder(importer, folder)
    assert told(browser, 1)["displays"] == []


def test_the_number_of_statements_does_not_grow_with_the_series(browser: Browser, importer: Any) -> None:
    counts = []
    for batch, (name, places) in enumerate((("short", 3), ("long", 40)), 1):
        folder = folder_of(browser, name)
        write_slices(folder, [float(place) for place in range(places)], seed=name)
        import_folder(importer, folder)
        with statements(browser.app.registry["engine"]) as ran:
            told(browser, 1 if batch == 1 else 4, batch)
        counts.append(len(ran))
    assert counts[0] == counts[1] <= 10


def test_slices_lead_to_one_another_without_a_script(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "slices")
    write_slices(folder, [4, 0, 2])
    import_folder(importer, folder)
    page = browser.get("/batches/1/images/2")
    following = page.html.find("a", string="Next slice ›")["href"]
    assert browser.get(following).headers["Location"] == "/batches/1/images/3"
    assert browser.get("/batches/1/images/3/next-slice").headers["Location"] == "/batches/1/images/1"
    last = browser.get("/batches/1/images/1/next-slice")
    assert last.headers["Location"] == "/batches/1/images/1?done=last-slice"
    assert "This is the last slice." in last.follow().text
    assert "This is the first slice." in browser.get("/batches/1/images/2/previous-slice").follow().text


def test_the_fields_of_a_slice_come_alone(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "fields")
    (folder / "a.dcm").write_bytes(dicom_files.image_bytes("fields", StudyDescription=HOSTILE))
    import_folder(importer, folder)
    answer = browser.get("/batches/1/images/1/fields")
    assert answer.html.select_one("#fields-card")["data-image"] == "1"
    assert not answer.html.select("html, nav, script, img")
    whole = browser.get("/batches/1/images/1").html
    assert [row.text for row in answer.html.select("#fields tr")] == [row.text for row in whole.select("#fields tr")]


def test_small_pictures_lead_to_those_of_dicomweb(browser: Browser, importer: Any) -> None:
    folder = folder_of(browser, "small")
    write_slices(folder, [0, 2])
    (folder / "sr.dcm").write_bytes(dicom_files.image_bytes("sr", StudyInstanceUID=dicom_files.uid("StudyInstanceUID", "one"), Modality="SR", PixelData=None, Rows=None, Columns=None))
    import_folder(importer, folder)
    page = browser.get("/batches/1")
    addresses = [image["src"] for image in page.html.select("img[data-thumbnail]")]
    assert sorted(addresses) == ["/series/1/thumbnail", "/series/2/thumbnail"]
    answers = [browser.get(address) for address in sorted(addresses)]
    pictures = [answer.follow() if answer.status_int == 303 else answer for answer in answers]
    assert sorted(picture.content_type for picture in pictures) == ["image/jpeg", "image/svg+xml"]
    assert browser.get("/images/1/thumbnail").follow().content_type == "image/jpeg"
    assert browser.get("/studies/1/thumbnail").follow().content_type == "image/jpeg"
    assert [image["src"] for image in browser.get("/search?level=study").html.select("img[data-thumbnail]")] == ["/studies/1/thumbnail"]
