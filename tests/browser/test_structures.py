"""RT structures over the pictures of their series in a real browser: where their lines are, and that they can be switched."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Locator, Page, expect
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.imports import Importer
from tests import dicom_files
from tests.browser.test_pages import violations_of_looks
from tests.browser.test_viewer import PLANES, bring, click_at, numbers, open_viewer, page
from tests.functional.api_data import import_folder
from tests.functional.pages import Browser

__all__ = ["page"]

Vector = np.ndarray[Any, np.dtype[np.float64]]


def circle(center: Vector, radius: float, one: Vector, other: Vector, points: int = 72) -> list[str]:
    """Give a contour around a center, in the plane of two directions."""
    turns = [2 * math.pi * at / points for at in range(points)]
    return [f"{value:.3f}" for turn in turns for value in center + radius * (math.cos(turn) * one + math.sin(turn) * other)]


def contours_of(center: Vector, radius: float, right: Vector, down: Vector, depths: list[float]) -> Sequence:
    """Give the contours of a sphere in parallel planes; depths: of the planes along their normal, in mm."""
    normal = np.cross(right, down)
    made = []
    for depth in depths:
        away = depth - float(center @ normal)
        if abs(away) >= radius:
            continue
        contour = Dataset()
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.ContourData = circle(center + away * normal, math.sqrt(radius**2 - away**2), right, down)
        contour.NumberOfContourPoints = len(contour.ContourData) // 3
        made.append(contour)
    return Sequence(made)


def structure_set(series: Path, truth: dict[str, Any]) -> bytes:
    """Draw each sphere of the phantom, in the slices of the series; the one in the middle in axial planes that are 1 mm apart."""
    image = dcmread(sorted(series.iterdir())[0], stop_before_pixels=True)
    right, down = (np.array(truth[name]) for name in ("row", "col"))
    origin = np.array(truth["origin"])
    slices = [float((origin + at * truth["dz"] * np.array(truth["normal"])) @ np.cross(right, down)) for at in range(truth["slices"])]
    rois, drawn = [], []
    for number, sphere in enumerate(truth["spheres"], 1):
        roi, contours = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, sphere["name"], image.FrameOfReferenceUID
        contours.ReferencedROINumber, contours.ROIDisplayColor = number, [40 * number, 255 - 40 * number, 200]
        center = np.array(sphere["c"], dtype=float)
        planes = (np.array([1.0, 0, 0]), np.array([0.0, 1, 0]), [at - 60.0 for at in range(121)]) if number == 1 else (right, down, slices)
        contours.ContourSequence = contours_of(center, sphere["r"], *planes)
        rois.append(roi)
        drawn.append(contours)
    elsewhere, nothing = Dataset(), Dataset()
    elsewhere.ROINumber, elsewhere.ROIName, elsewhere.ReferencedFrameOfReferenceUID = 99, "elsewhere", dicom_files.uid("frame of reference", "elsewhere")
    nothing.ReferencedROINumber, nothing.ContourSequence = 99, drawn[0].ContourSequence
    frame, study, of_series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    of_series.SeriesInstanceUID = image.SeriesInstanceUID
    study.RTReferencedSeriesSequence = Sequence([of_series])
    frame.RTReferencedStudySequence = Sequence([study])
    no_pixels = dict.fromkeys(("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PhotometricInterpretation", "FrameOfReferenceUID"))
    same = {name: image.get(name, "") for name in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID")}
    return dicom_files.image_bytes(
        "structures", **no_pixels, **same, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT", StructureSetLabel="Spheres", StructureSetDate="20240131",
        ReferencedFrameOfReferenceSequence=Sequence([frame]), StructureSetROISequence=Sequence([*rois, elsewhere]), ROIContourSequence=Sequence([*drawn, nothing]),
    )  # fmt: skip


def line_of(port: Locator, name: str) -> tuple[Vector, str]:
    """Give the points of the line that is drawn around a structure, in mm, and its colour."""
    line = port.locator(f".viewer-outlines [data-structure='{name}'] path").last
    expect(line).to_have_count(1)
    pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)", line.get_attribute("d") or "")
    center, right, down = (np.array(numbers(port, part)) for part in ("center", "right", "down"))
    box = port.locator(".viewer-screen").bounding_box()
    assert box
    return np.array([center + (float(x) - box["width"] / 2) * right + (float(y) - box["height"] / 2) * down for x, y in pairs]), line.get_attribute("stroke") or ""


def test_structures_lie_around_what_they_are_drawn_on_in_every_plane(page: Page, address: str, session: Browser, importer: Importer, samples: Path) -> None:
    truth = json.loads((samples.parent / "truth" / "oblique1.truth.json").read_text())
    series = samples / "phantom" / "oblique1"
    bring(session, importer, series)
    folder = session.settings["watch.folders"][0] / "structures"
    folder.mkdir()
    (folder / "spheres.dcm").write_bytes(structure_set(series, truth))
    import_folder(importer, folder)
    page.goto(f"{address}/batches/2/images/{truth['slices'] + 1}")
    assert violations_of_looks(page) == []
    page.get_by_role("link", name="Show over the series").click()
    viewer = page.locator("[data-viewer]")
    expect(viewer).to_have_attribute("data-state", "ready")
    boxes = page.get_by_role("list", name="Structures").get_by_role("checkbox")
    expect(boxes).to_have_count(len(truth["spheres"]) + 1)
    expect(page.get_by_role("checkbox", name="elsewhere")).to_be_disabled()
    # From corner to corner: the slices are at an angle to all planes.
    voxel = math.hypot(*truth["pixel_spacing"], truth["dz"])
    for number, sphere in enumerate(truth["spheres"], 1):
        click_at(page, viewer, "coronal", sphere["c"])
        click_at(page, viewer, "axial", sphere["c"])
        assert math.dist(numbers(viewer, "crosshair"), sphere["c"]) <= voxel
        for plane in PLANES:
            port = viewer.locator(f"[data-plane={plane}]")
            points, colour = line_of(port, sphere["name"])
            away = np.linalg.norm(points - np.array(sphere["c"]), axis=1)
            assert np.abs(away - sphere["r"]).max() <= voxel, (sphere["name"], plane)
            # All around it, on every side.
            assert np.linalg.norm(np.ptp(points, axis=0)) > 2 * sphere["r"], (sphere["name"], plane)
            assert colour == f"rgb({40 * number},{255 - 40 * number},200)"
    # The keyboard switches one, or all.
    axial = viewer.locator("[data-plane=axial]")
    click_at(page, viewer, "axial", truth["spheres"][0]["c"])
    click_at(page, viewer, "coronal", truth["spheres"][0]["c"])
    centre = page.get_by_role("checkbox", name="centre")
    centre.focus()
    page.keyboard.press("Space")
    expect(axial.locator("[data-structure=centre]")).to_have_count(0)
    expect(axial.locator("[data-structure=left]")).to_have_count(1)
    axial.locator(".viewer-screen").focus()
    page.keyboard.press("d")
    expect(viewer.locator("[data-structure]")).to_have_count(0)
    page.keyboard.press("d")
    expect(centre).to_be_checked()
    assert violations_of_looks(page) == []
    # A slice as it was taken shows the contours that lie in it; and the page of any image of the series offers them.
    viewer = open_viewer(page, address, 20)
    expect(viewer.locator("[data-structure]")).to_have_count(0)
    sphere = truth["spheres"][1]
    click_at(page, viewer, "coronal", sphere["c"])
    click_at(page, viewer, "axial", sphere["c"])
    page.get_by_role("button", name="Slices as they were taken").click()
    expect(viewer).to_have_attribute("data-mode", "stack")
    expect(viewer).to_have_attribute("data-state", "ready")
    page.get_by_label("Structures over the picture").select_option("Spheres, 2024-01-31")
    points, _ = line_of(viewer.locator("[data-plane=stack]"), sphere["name"])
    away = np.linalg.norm(points - np.array(sphere["c"]), axis=1)
    assert np.abs(away - sphere["r"]).max() < 0.5
