"""WADO-RS pictures: rendered, thumbnail, and slices through a volume."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicomweb.imports import Importer
from tests import dicom_files
from tests.functional.rs_data import ROOT, address, get, import_files, once, parts, report, sample

Array = np.ndarray[Any, np.dtype[Any]]


def picture(answer: Any, kind: str = "PNG") -> Array:
    assert answer.status_int == 200, answer.body
    image = Image.open(io.BytesIO(answer.body))
    assert image.format == kind
    return np.asarray(image)


@pytest.fixture
def plain(importer: Importer, tmp_path: Path) -> Any:
    """An image of 4 rows and 6 columns whose values are 0 to 230 in units."""
    values = (np.arange(24, dtype="<u2") * 10).reshape(4, 6)
    keywords = {"Rows": 4, "Columns": 6, "RescaleIntercept": "0", "WindowCenter": "128", "WindowWidth": "256", "PixelData": values.tobytes()}
    return import_files(importer, tmp_path / "in", dicom_files.image_bytes("plain", **keywords))[0]


@once
class TestInstances:
    def test_the_window_of_the_header_is_used_and_can_be_replaced(self, api: Any, plain: Any) -> None:
        expected = np.arange(24).reshape(4, 6) * 10
        assert np.abs(picture(get(api, address(plain, "rendered"), "image/png")).astype(int) - expected).max() <= 1
        assert np.abs(picture(get(api, address(plain, "frames/1/rendered"), "image/png")).astype(int) - expected).max() <= 1
        for function in ("", ",linear", ",LINEAR", ",linear-exact", ",linear_exact"):
            cut = picture(get(api, address(plain, f"rendered?window=100,2{function}"), "image/png"))
            assert (cut == np.where(expected > 100, 255, np.where(expected < 100, 0, cut))).all()
        assert len(np.unique(picture(get(api, address(plain, "rendered?window=100,50,sigmoid"), "image/png")))) > 10

    def test_jpeg_is_what_is_given_when_nothing_is_said(self, api: Any, plain: Any) -> None:
        for accept in (None, "*/*", "image/*", "image/jpeg"):
            answer = get(api, address(plain, "rendered"), accept)
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert picture(answer, "JPEG").shape == (4, 6)
        assert picture(get(api, address(plain, "rendered?accept=image/png"))).shape == (4, 6)
        small, large = (len(get(api, address(plain, f"rendered?quality={quality}&viewport=200,200")).body) for quality in (5, 100))
        assert small < large

    def test_a_viewport_scales_cuts_and_flips(self, api: Any, plain: Any) -> None:
        whole = picture(get(api, address(plain, "rendered"), "image/png"))
        for viewport, expected in (
            ("6,4", whole), ("6,400", whole), ("4,2,1,1,4,2", whole[1:3, 1:5]), ("6,4,0,0,-6,4", whole[:, ::-1]), ("6,4,0,0,6,-4", whole[::-1]),
            ("6,4,,,,", whole), ("3,4,3", whole[:, 3:]), ("2,1,4,3,2,1", whole[3:, 4:]),
        ):  # fmt: skip
            assert picture(get(api, address(plain, f"rendered?viewport={viewport}"), "image/png")).tolist() == expected.tolist(), viewport
        assert picture(get(api, address(plain, "rendered?viewport=60,60"), "image/png")).shape == (40, 60)
        assert picture(get(api, address(plain, "rendered?viewport=3,60"), "image/png")).shape == (2, 3)

    def test_colours_and_palettes_are_rgb(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        names = ("SC_rgb_jpeg_dcmtk.dcm", "examples_palette.dcm", "SC_ybr_full_422_uncompressed.dcm")
        for ds in import_files(importer, tmp_path / "in", *(sample(pydicom_files, name) for name in names)):
            assert picture(get(api, address(ds, "rendered"), "image/png")).shape == (ds.Rows, ds.Columns, 3)

    def test_frames_are_several_pictures(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        (ds,) = import_files(importer, tmp_path / "in", sample(pydicom_files, "SC_rgb_rle_2frame.dcm"))
        found = parts(get(api, address(ds, "frames/2,1/rendered"), 'multipart/related; type="image/png"'))
        assert [head["Content-Type"] for head, _ in found] == ["image/png"] * 2
        assert found[0][1] == get(api, address(ds, "frames/2/rendered"), "image/png").body
        assert get(api, address(ds, "frames/1,2/rendered"), "image/jpeg").status_int == 406

    @pytest.mark.parametrize(
        "query",
        [
            "window=1", "window=a,b", "window=1,0", "window=1,-5", "window=1,2,cubic", "window=1e99,1", "window=nan,1", "window=1,2,3,4", "window=,", "quality=0",
            "quality=101", "quality=x", "viewport=0,0", "viewport=1", "viewport=99999,1", "viewport=1,1,1,1,1,1,1", "viewport=6,4,5,0,6,4", "viewport=a,b",
            "viewport=6,4,-1,0", "annotation=patient", "annotation=", "iccprofile=yes", "viewport=1,1,nan", "accept=text/html", "accept=image/gif",
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said_so(self, api: Any, plain: Any, query: str) -> None:
        answer = get(api, address(plain, f"rendered?{query}"))
        assert answer.status_int == (406 if query.startswith("accept") else 400), answer.body
        assert answer.json["message"].endswith(".")

    def test_what_has_no_picture_is_said_so(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        paths = [sample(pydicom_files, name) for name in ("reportsi.dcm", "rtplan.dcm", "test-SR.dcm", "anonymous_ecg.dcm") if any(path.name == name for path in pydicom_files)]
        for ds in import_files(importer, tmp_path / "in", *paths, report("report")):
            for path in ("rendered", "thumbnail", "frames/1/rendered"):
                answer = get(api, address(ds, path))
                assert answer.status_int == 406
                assert "no image" in answer.json["message"]
            series = address(ds).rpartition("/instances")[0]
            assert get(api, f"{series}/rendered").status_int == 406
            assert get(api, f"{series}/renderedmpr").status_int == 406

    def test_damaged_pixels_are_said_so(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("damaged", "1.2.840.10008.1.2.1", Rows=17))
        answer = get(api, address(ds, "rendered"))
        assert answer.status_int == 406
        assert "decoded" in answer.json["message"]


class TestSeveral:
    def test_a_series_and_a_study_are_shown_by_an_image_from_the_middle(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        files = [path.read_bytes() for path in dicom_files.write_series(tmp_path / "made", images=5, seed="rendered")]
        datasets = import_files(importer, tmp_path / "in", *files)
        middle = get(api, address(datasets[2], "rendered"), "image/png").body
        study = f"{ROOT}/studies/{datasets[0].StudyInstanceUID}"
        series = f"{study}/series/{datasets[0].SeriesInstanceUID}"
        for path in (study, series):
            assert get(api, f"{path}/rendered", "image/png").body == middle
            assert picture(get(api, f"{path}/thumbnail", "image/png")).shape == (200, 200)
            found = parts(get(api, f"{path}/rendered", 'multipart/related; type="image/png"'))
            assert len(found) == 5
            assert found[2][1] == middle
        assert picture(get(api, address(datasets[0], "thumbnail?viewport=8,8"), "image/png")).shape == (8, 8)

    def test_what_is_no_volume_is_not_cut(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        files = [path.read_bytes() for path in dicom_files.write_series(tmp_path / "made", images=5, seed="gap")]
        datasets = import_files(importer, tmp_path / "in", *files[:2], *files[3:])
        series = address(datasets[0]).rpartition("/instances")[0]
        answer = get(api, f"{series}/renderedmpr?orientation=a")
        assert (answer.status_int, answer.json["message"]) == (406, "This series is not one volume. Slices are missing.")

    @once
    @pytest.mark.parametrize("query", ["orientation=oblique", "orientation=f&position=x", "orientation=f&viewpointlookat=1,2", "orientation=f&mprslab=3", "orientation=f&position=1e9"])
    def test_a_slice_that_cannot_be_is_said_so(self, api: Any, importer: Importer, tmp_path: Path, query: str) -> None:
        files = [path.read_bytes() for path in dicom_files.write_series(tmp_path / "made", images=4, seed="slice")]
        datasets = import_files(importer, tmp_path / "in", *files)
        answer = get(api, address(datasets[0]).rpartition("/instances")[0] + f"/rendered?{query}")
        assert answer.status_int == 400, answer.body
        assert answer.json["message"].endswith(".")


@once
class TestThePhantom:
    """Spheres at known places of an oblique volume appear at these places of its orthogonal slices."""

    def test_spheres_are_where_they_are(self, api: Any, importer: Importer, tmp_path: Path, samples: Path) -> None:
        truth = json.loads((samples.parent / "truth" / "oblique1.truth.json").read_text())
        paths = [path for path in sorted((samples / "phantom" / "oblique1").iterdir()) if path.is_file()]
        datasets = import_files(importer, tmp_path / "in", *paths)
        series = address(datasets[0]).rpartition("/instances")[0]
        corners = _corners(truth)
        for sphere in truth["spheres"]:
            x, y, z = sphere["c"]
            for orientation, position, right, down in (
                ("axial", z, (x, 0, 1), (y, 1, 1)), ("coronal", y, (x, 0, 1), (z, 2, -1)), ("sagittal", x, (y, 1, 1), (z, 2, -1)),
            ):  # fmt: skip
                query = f"orientation={orientation}&position={position}&window={sphere['v'] / 2},{sphere['v']}"
                shown = picture(get(api, f"{series}/rendered?{query}"), "JPEG") if orientation == "axial" else picture(get(api, f"{series}/rendered?{query}", "image/png"))
                column, row = (_pixel(*axis, corners, size) for axis, size in ((right, shown.shape[1]), (down, shown.shape[0])))
                assert shown[row, column] > 180, (sphere["name"], orientation)
                radius = round((sphere["r"] + 4) / _step(right, corners, shown.shape[1]))
                around = shown[row, max(0, column - radius)]
                assert around < 120, (sphere["name"], orientation, int(around))

    def test_it_is_mirrored_when_it_is_seen_from_the_other_side(self, api: Any, importer: Importer, tmp_path: Path, samples: Path) -> None:
        paths = [path for path in sorted((samples / "phantom" / "oblique1").iterdir()) if path.is_file()]
        datasets = import_files(importer, tmp_path / "in", *paths)
        series = address(datasets[0]).rpartition("/instances")[0]
        for one, other in ("fh", "ap", "lr"):
            shown, mirrored = (picture(get(api, f"{series}/renderedmpr?orientation={letter}&viewpointlookat=0,0,0", "image/png")) for letter in (one, other))
            assert (shown[:, ::-1] == mirrored).all()


def _corners(truth: dict[str, Any]) -> Array:
    origin, (down, right) = np.array(truth["origin"]), truth["pixel_spacing"]
    axes = [np.array(truth[name]) * step for name, step in (("row", right), ("col", down), ("normal", truth["dz"]))]
    sizes = truth["cols"], truth["rows"], truth["slices"]
    ends = [(i, j, k) for i in (-0.5, sizes[0] - 0.5) for j in (-0.5, sizes[1] - 0.5) for k in (-0.5, sizes[2] - 0.5)]
    return np.array([origin + sum(axis * at for axis, at in zip(axes, end, strict=True)) for end in ends])


def _step(axis: tuple[float, int, int], corners: Array, size: int) -> float:
    _, number, _ = axis
    return float(np.ptp(corners[:, number])) / size


def _pixel(at: float, number: int, sign: int, corners: Array, size: int) -> int:
    edge = corners[:, number].min() if sign > 0 else corners[:, number].max()
    return math.floor(abs(at - edge) / _step((at, number, sign), corners, size))


def test_a_cut_of_an_axial_volume_is_its_image(api: Any, importer: Importer, tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 255, (5, 16, 16)).astype("<u2")
    files = [
        dicom_files.image_bytes(
            f"cut/{at}", StudyInstanceUID=dicom_files.uid("study", "cut"), SeriesInstanceUID=dicom_files.uid("series", "cut"),
            FrameOfReferenceUID=dicom_files.uid("frame", "cut"), ImagePositionPatient=["0", "0", str(at * 0.5)], PixelData=values[at].tobytes(),
            RescaleIntercept="0", WindowCenter="128", WindowWidth="256",
        )
        for at in range(5)
    ]  # fmt: skip
    datasets = import_files(importer, tmp_path / "in", *files)
    series = address(datasets[0]).rpartition("/instances")[0]
    for at in range(5):
        shown = picture(get(api, f"{series}/renderedmpr?orientation=f&viewpointlookat=1,1,{at * 0.5}", "image/png"))
        assert np.abs(shown.astype(int) - values[at]).max() <= 1
    study = series.partition("/series")[0]
    assert get(api, f"{study}/renderedmpr?orientation=a", "image/png").body == get(api, f"{series}/renderedmpr?orientation=a", "image/png").body
    alone = get(api, f"{address(datasets[0])}/renderedmpr")
    assert (alone.status_int, alone.json["message"]) == (406, "This series is not one volume. Fewer than 3 slices lie one behind the other.")
    for asked in ("volumeinputreference=1.2", "match=x", "mprslab=5", "animationrate=30"):
        assert get(api, f"{series}/renderedmpr?{asked}").status_int == 400
    coronal = picture(get(api, f"{series}/renderedmpr?orientation=a&viewpointlookat=1,{4 * 0.5},1", "image/png"))
    assert np.abs(coronal.astype(int) - values[::-1, 4]).max() <= 1
