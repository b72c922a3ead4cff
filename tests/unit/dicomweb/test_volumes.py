"""Which series are volumes, where these lie, and why others are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicomweb import volumes
from dicomweb.volumes import Slice, Unfit, Verdict, judge


def axial(number: Any, z: float, **changes: Any) -> Slice:
    plain = Slice(number, (-100.0, -80.0, z), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.7), 64, 32, frame_of_reference="1.2", number=float(number) if number != "localizer" else 0.0)
    return plain._replace(**changes)


def stack(count: int = 5, step: float = 2.5, first: int = 0, **changes: Any) -> list[Slice]:
    return [axial(first + at, at * step, **changes) for at in range(count)]


def codes(verdict: Verdict) -> list[str]:
    return sorted(unfit.code for unfit in verdict.unfit)


class TestOneVolume:
    def test_equal_steps_along_the_normal_are_a_volume_in_their_order(self) -> None:
        slices = stack(5)
        verdict = judge([slices[at] for at in (3, 0, 4, 1, 2)])
        assert verdict.is_one_volume
        (volume,) = verdict.volumes
        assert volume.keys == (0, 1, 2, 3, 4)
        assert volume.geometry == volumes.Geometry(
            (-100.0, -80.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.7, 0.5, 2.5), (32, 64, 5)
        )

    def test_the_order_follows_the_normal_and_not_the_numbers(self) -> None:
        verdict = judge([axial(at, -at * 2.0) for at in range(4)])
        assert verdict.volumes[0].keys == (3, 2, 1, 0)
        assert verdict.volumes[0].geometry.origin == (-100.0, -80.0, -6.0)

    def test_positions_that_were_rounded_are_still_even(self) -> None:
        assert judge([axial(at, round(at * 0.7031, 2)) for at in range(40)]).is_one_volume

    def test_all_reasons_have_a_sentence(self) -> None:
        assert all(Unfit((), code).sentence.endswith(".") for code in volumes.REASONS)


class TestNoVolume:
    @pytest.mark.parametrize(
        ("slices", "code"),
        [
            ([], None),
            (stack(2), "too-few"),
            ([one for one in stack(9) if one.key != 4], "gap"),
            ([axial(at, at * 2.0 + (0.3 if at == 3 else 0)) for at in range(7)], "uneven"),
            ([axial(at, at * 2.0, position=(0.0, at * 0.4, at * 2.0)) for at in range(7)], "tilted"),
            ([*stack(5), axial(9, 2.5)], "duplicate-positions"),
            (stack(5, samples=3), "colour"),
            (stack(5, position=None), "no-geometry"),
            (stack(5, mosaic=True), "mosaic"),
        ],
    )
    def test_the_reason_is_said(self, slices: list[Slice], code: str | None) -> None:
        verdict = judge(slices)
        assert not verdict.volumes
        assert codes(verdict) == ([code] if code else [])
        assert {key for unfit in verdict.unfit for key in unfit.keys} == {one.key for one in slices}


class TestSeveral:
    def test_a_localizer_is_set_aside(self) -> None:
        localizer = axial("localizer", 0.0, right=(0.0, 1.0, 0.0), down=(0.0, 0.0, -1.0))
        verdict = judge([*stack(6), localizer])
        assert [len(volume.keys) for volume in verdict.volumes] == [6]
        assert codes(verdict) == ["too-few"]
        assert not verdict.is_one_volume

    @pytest.mark.parametrize("changed", [{"rows": 128}, {"spacing": (0.5, 0.5)}, {"frame_of_reference": "1.3"}])
    def test_what_differs_in_size_spacing_or_frame_of_reference_is_another_volume(self, changed: dict[str, Any]) -> None:
        verdict = judge([*stack(6), *stack(4, first=10, **changed)])
        assert [len(volume.keys) for volume in verdict.volumes] == [6, 4]
        assert not verdict.unfit

    def test_echoes_are_taken_apart(self) -> None:
        verdict = judge([*stack(4, kinds={"echo": ("1",)}), *stack(4, first=10, kinds={"echo": ("2",)})])
        assert [volume.keys for volume in verdict.volumes] == [(0, 1, 2, 3), (10, 11, 12, 13)]
        assert [volume.kind for volume in verdict.volumes] == ["echo 1", "echo 2"]

    def test_rounds_through_the_same_places_are_times(self) -> None:
        slices = [axial(turn * 4 + at, at * 3.0) for turn in range(3) for at in range(4)]
        verdict = judge(slices)
        assert [volume.keys for volume in verdict.volumes] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)]
        assert [volume.kind for volume in verdict.volumes] == ["time 1", "time 2", "time 3"]


def elements(**values: Any) -> dict[str, Any]:
    tags = {"position": "00200032", "orientation": "00200037", "spacing": "00280030", "rows": "00280010", "columns": "00280011", "frames": "00280008", "types": "00080008", "echo": "00180086"}
    return {tags[name]: {"vr": "DS", "Value": value} for name, value in values.items()}


class TestReadingElements:
    PLAIN = {"position": [1, 2, 3], "orientation": [1, 0, 0, 0, 1, 0], "spacing": [0.5, 0.6], "rows": [4], "columns": [5]}

    def test_an_image_is_one_slice(self) -> None:
        (one,) = volumes.slices_of("key", elements(**self.PLAIN, types=["ORIGINAL", "PRIMARY"], echo=[2]))
        assert (one.key, one.position, one.spacing, one.rows, one.columns) == (("key", 1), (1.0, 2.0, 3.0), (0.5, 0.6), 4, 5)
        assert one.kinds == {"echo": ("2",), "type": ("ORIGINAL", "PRIMARY")}

    @pytest.mark.parametrize(
        "changed",
        [
            {"position": ["x", 2, 3]}, {"position": [1, 2]}, {"position": [None, 2, 3]}, {"orientation": [1, 0, 0, 1, 0, 0]}, {"orientation": [0] * 6},
            {"orientation": "nonsense"}, {"spacing": [0, 1]}, {"spacing": [-1, 1]}, {"spacing": [1e300, 1]}, {"position": [1e300, 0, 0]}, {"spacing": [{}]},
        ],
    )  # fmt: skip
    def test_nonsense_is_no_geometry(self, changed: dict[str, Any]) -> None:
        (one,) = volumes.slices_of("key", elements(**{**self.PLAIN, **changed}))
        assert one.position is None
        assert codes(judge([one])) == ["no-geometry"]

    def test_a_mosaic_is_none(self) -> None:
        (one,) = volumes.slices_of("key", elements(**self.PLAIN, types=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))
        assert one.mosaic

    def test_frames_without_a_place_of_their_own_are_no_slices(self) -> None:
        (one,) = volumes.slices_of("key", elements(**self.PLAIN, frames=[7]))
        assert one.position is None


def of_files(paths: list[Path]) -> Verdict:
    slices = []
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        slices += volumes.slices_of(path.name, ds.to_json_dict(suppress_invalid_tags=True))
    return judge(slices)


class TestSamples:
    def test_the_phantom_lies_where_its_maker_put_it(self, samples: Path) -> None:
        truth = json.loads((samples.parent / "truth" / "oblique1.truth.json").read_text())
        verdict = of_files(sorted((samples / "phantom" / "oblique1").iterdir()))
        assert verdict.is_one_volume
        geometry = verdict.volumes[0].geometry
        assert geometry.shape == (truth["cols"], truth["rows"], truth["slices"])
        for got, expected in (
            (geometry.right, truth["row"]), (geometry.down, truth["col"]), (geometry.normal, truth["normal"]), (geometry.origin, truth["origin"]),
            (geometry.spacing, (truth["pixel_spacing"][1], truth["pixel_spacing"][0], truth["dz"])),
        ):  # fmt: skip
            assert np.allclose(got, expected, atol=2e-3), (got, expected)

    def test_real_series_are_volumes(self, samples: Path) -> None:
        for folder, count in (("invesalius-ct", 54), ("dcm_qa_decubitus", 35)):
            paths = [path for path in sorted((samples / folder).rglob("*")) if path.is_file() and path.suffix.lower() in (".dcm", "")]
            series: dict[str, list[Path]] = {}
            for path in paths:
                try:
                    series.setdefault(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID, []).append(path)
                except (pydicom.errors.InvalidDicomError, AttributeError):
                    continue
            found = [len(volume.keys) for one in series.values() for volume in of_files(one).volumes]
            assert count in found, (folder, found)


def test_an_enhanced_image_is_taken_apart_into_its_frames() -> None:
    def group(z: float, time: int) -> dict[str, Any]:
        content = {"00209128": {"vr": "UL", "Value": [time]}}
        return {"00209113": {"vr": "SQ", "Value": [elements(position=[0, 0, z])]}, "00209111": {"vr": "SQ", "Value": [content]}}

    shared = {"00209116": {"vr": "SQ", "Value": [elements(orientation=[1, 0, 0, 0, 1, 0])]}, "00289110": {"vr": "SQ", "Value": [elements(spacing=[1, 2])]}}
    enhanced = elements(rows=[8], columns=[9], frames=[8]) | {
        "52009229": {"vr": "SQ", "Value": [shared]},
        "52009230": {"vr": "SQ", "Value": [group(z * 1.5, time) for time in (1, 2) for z in range(4)]},
    }
    slices = volumes.slices_of("emri", enhanced)
    assert [one.key for one in slices] == [("emri", number) for number in range(1, 9)]
    verdict = judge(slices)
    assert [volume.keys for volume in verdict.volumes] == [tuple(("emri", at + first) for at in range(4)) for first in (1, 5)]
    assert verdict.volumes[0].geometry.spacing == (2.0, 1.0, 1.5)
