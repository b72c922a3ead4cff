"""Frames become pictures; files that are made to do harm cost a child process and nothing else."""

from __future__ import annotations

import io
import os
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomweb import pixels
from dicomweb.pixels import CannotRender, Cut, Frame, Renderer, children
from dicomweb.pixels.pictures import write_png
from dicomweb.pixels.serving import render
from tests import dicom_files


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer(children=1, seconds=10)
    yield made
    made.close()


def stored(tmp_path: Path, data: bytes, number: int = 1) -> Frame:
    """Lay bytes between others, as a pack does."""
    path = tmp_path / "pack"
    path.write_bytes(b"before" + data + b"after")
    return Frame(path, 6, len(data), number)


def drawn(tmp_path: Path, number: int = 1, syntax: str = ExplicitVRLittleEndian, **keywords: Any) -> np.ndarray[Any, Any]:
    """Draw an image with these elements and give the pixels of the picture."""
    return read(render(stored(tmp_path, dicom_files.image_bytes("drawn", syntax, **keywords), number)))


def read(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)))


def grey(values: Any, dtype: str = "<i2", **keywords: Any) -> dict[str, Any]:
    """The elements of a grey image with these values."""
    array = np.atleast_2d(np.asarray(values)).astype(dtype)
    bits = array.dtype.itemsize * 8
    plain = {"RescaleSlope": None, "RescaleIntercept": None, "WindowCenter": None, "WindowWidth": None}
    return {
        "Rows": array.shape[-2], "Columns": array.shape[-1], "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(array.dtype.kind == "i"), "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": array.tobytes(), **plain, **keywords,
    }  # fmt: skip


class TestGrey:
    @pytest.mark.parametrize(
        ("center", "width", "function", "expected"),
        [
            # PS3.3 C.11.2.1.2: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
            (100, 201, "LINEAR", [0, 0, 1, 128, 255, 255]),
            (100, 200, "LINEAR_EXACT", [0, 0, 0, 128, 255, 255]),
            (100, 1, "LINEAR", [0, 0, 0, 255, 255, 255]),
            (100, 200, "SIGMOID", [0, 30, 30, 128, 225, 255]),
        ],
    )
    def test_the_window_of_the_header_is_the_one_of_the_standard(
        self, tmp_path: Path, center: float, width: float, function: str, expected: list[int]
    ) -> None:
        picture = drawn(
            tmp_path, **grey([-1000, 0, 0, 100, 200, 1000], WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
        )
        assert np.abs(picture[0].astype(int) - expected).max() <= 1

    def test_slope_and_intercept_come_before_the_window(self, tmp_path: Path) -> None:
        keywords = grey([0, 50, 100], RescaleSlope="2", RescaleIntercept="-100", WindowCenter="0.5", WindowWidth="201")
        assert drawn(tmp_path, **keywords).tolist() == [[0, 128, 255]]

    def test_monochrome1_is_white_where_values_are_small(self, tmp_path: Path) -> None:
        keywords = grey([0, 50, 100], WindowCenter="50.5", WindowWidth="101", PhotometricInterpretation="MONOCHROME1")
        assert drawn(tmp_path, **keywords).tolist() == [[255, 127, 0]]

    def test_without_a_window_what_is_there_is_shown(self, tmp_path: Path) -> None:
        picture = drawn(tmp_path, **grey(np.arange(1000).reshape(10, 100) - 500))
        assert (picture.min(), picture.max()) == (0, 255)
        assert 120 < picture[5, 0] < 135

    def test_a_window_that_makes_no_sense_is_none(self, tmp_path: Path) -> None:
        for width in ("0", "-5", "nonsense", None):
            ds = dicom_files.image("window", **grey([0, 1000]))
            ds.WindowCenter = "10"
            if width != "nonsense":
                ds.WindowWidth = width
            assert read(render(stored(tmp_path, dicom_files.file_bytes(ds)))).tolist() == [[0, 255]]

    def test_padding_does_not_count_for_the_window(self, tmp_path: Path) -> None:
        picture = drawn(tmp_path, **grey([[-2000] * 50 + list(range(50))], PixelPaddingValue=-2000))
        assert picture[0, 0] == 0
        assert 100 < picture[0, 75] < 155

    def test_eight_bits_without_a_window_are_shown_as_they_are(self, tmp_path: Path) -> None:
        assert drawn(tmp_path, **grey([10, 20], "u1")).tolist() == [[10, 20]]

    def test_signed_and_large_numbers(self, tmp_path: Path) -> None:
        keywords = grey([-(2**31), 0, 2**31 - 1], "<i4", WindowCenter="0", WindowWidth=str(2**32))
        assert drawn(tmp_path, **keywords).tolist() == [[0, 128, 255]]

    def test_a_look_up_table_wins_over_the_window(self, tmp_path: Path) -> None:
        item = Dataset()
        item.LUTDescriptor = [4, 0, 8]
        item["LUTDescriptor"].VR = "US"
        item.LUTData = [0, 255, 0, 255]
        item["LUTData"].VR = "US"
        keywords = grey([0, 1, 2, 3, 9], WindowCenter="1", WindowWidth="5", VOILUTSequence=Sequence([item]))
        assert drawn(tmp_path, **keywords).tolist() == [[0, 255, 0, 255, 255]]

    def test_each_frame_has_its_own_window(self, tmp_path: Path) -> None:
        def group(center: str) -> Dataset:
            window, made = Dataset(), Dataset()
            window.WindowCenter, window.WindowWidth = center, "1"
            made.FrameVOILUTSequence = Sequence([window])
            return made

        keywords = grey([10, 20], NumberOfFrames=2, PerFrameFunctionalGroupsSequence=Sequence([group("5"), group("15")]))
        keywords["PixelData"] *= 2
        assert drawn(tmp_path, 1, **keywords).tolist() == [[255, 255]]
        assert drawn(tmp_path, 2, **keywords).tolist() == [[0, 255]]


class TestSyntaxes:
    @pytest.mark.parametrize(
        "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
    )
    def test_uncompressed_ones_give_the_same_picture(self, tmp_path: Path, syntax: str) -> None:
        values = grey(np.arange(64).reshape(8, 8), ">i2" if syntax == ExplicitVRBigEndian else "<i2")
        assert (drawn(tmp_path, syntax=syntax, **values) == drawn(tmp_path, **grey(np.arange(64).reshape(8, 8)))).all()

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_compressed_ones_give_the_same_picture(self, tmp_path: Path, syntax: Any) -> None:
        ds = dicom_files.image("compressed", **grey(np.arange(4096).reshape(64, 64), "<u2"))
        plain = read(render(stored(tmp_path, dicom_files.file_bytes(ds))))
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        assert (read(render(stored(tmp_path, buffer.getvalue()))) == plain).all()

    def test_every_file_of_pydicom_that_has_pixels_is_drawn_as_pydicom_reads_it(self, pydicom_files: tuple[Path, ...]) -> None:
        colours = 0
        for path in pydicom_files:
            try:
                values = pixel_array(path, index=0)
            except Exception:  # noqa: BLE001  Whatever pydicom cannot read, we need not draw.
                continue
            picture = read(render(Frame(path, 0, path.stat().st_size)))
            assert picture.shape[:2] == values.shape[:2], path
            if values.ndim == 3 and values.dtype == np.uint8:
                colours += 1
                assert (picture == values).all(), path
        assert colours > 20


class TestLimits:
    def test_a_size_that_is_too_large_is_refused_before_anything_is_read(self, tmp_path: Path) -> None:
        with pytest.raises(CannotRender) as refused:
            drawn(tmp_path, **{**grey([0]), "Rows": 65535, "Columns": 65535})
        assert refused.value.code == "too-large"

    @pytest.mark.parametrize(
        ("changed", "code"),
        [
            ({"Rows": 0}, "undecodable"), ({"Rows": None}, "no-pixels"), ({"SamplesPerPixel": 7}, "undecodable"),
            ({"BitsAllocated": 13}, "undecodable"), ({"Columns": 9}, "undecodable"), ({"PixelData": None}, "undecodable"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "undecodable"), ({"NumberOfFrames": 3}, "undecodable"),
        ],
    )  # fmt: skip
    def test_a_header_that_is_wrong_is_said_so(self, tmp_path: Path, changed: dict[str, Any], code: str) -> None:
        with pytest.raises(CannotRender) as refused:
            drawn(tmp_path, 3, **{**grey([[0, 1], [2, 3]]), "NumberOfFrames": 3, **changed})
        assert refused.value.code == code
        assert str(refused.value).endswith(".")

    def test_what_is_no_file_is_said_so(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "missing", tmp_path / "pipe", tmp_path):
            with pytest.raises(CannotRender):
                render(Frame(path, 0, 100))

    def test_nothing_outside_the_range_is_read(self, tmp_path: Path) -> None:
        data = dicom_files.image_bytes("range", **grey(np.zeros((8, 8))))
        path = tmp_path / "pack"
        path.write_bytes(data)
        with pytest.raises(CannotRender):
            render(Frame(path, 0, len(data) - 20))


class TestTheChild:
    def test_it_draws_what_render_draws(self, renderer: Renderer, tmp_path: Path) -> None:
        frame = stored(tmp_path, dicom_files.image_bytes("child"))
        assert renderer.render(frame) == render(frame)
        assert renderer.render(frame) == render(frame)

    def test_its_answer_says_why_there_is_no_picture(self, renderer: Renderer, tmp_path: Path) -> None:
        with pytest.raises(CannotRender) as refused:
            renderer.render(Frame(tmp_path / "missing", 0, 1))
        assert refused.value.code == "missing"

    def test_one_that_dies_takes_nobody_with_it(self, renderer: Renderer, tmp_path: Path) -> None:
        frame = stored(tmp_path, dicom_files.image_bytes("dies"))
        renderer.render(frame)
        child = renderer._children.queue[-1]
        assert child is not None
        os.kill(child._process.pid, signal.SIGSTOP)
        killer = threading.Timer(0.2, os.kill, (child._process.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(CannotRender) as refused:
            renderer.render(frame)
        killer.join()
        assert refused.value.code == "crashed"
        assert renderer.render(frame).startswith(b"\x89PNG")

    def test_one_that_died_meanwhile_is_replaced_silently(self, renderer: Renderer, tmp_path: Path) -> None:
        frame = stored(tmp_path, dicom_files.image_bytes("replaced"))
        renderer.render(frame)
        child = renderer._children.queue[-1]
        assert child is not None
        child._process.kill()
        child._process.wait()
        assert renderer.render(frame).startswith(b"\x89PNG")

    def test_one_that_lost_its_clock_is_ended_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped = Renderer(children=1, seconds=1)
        frame = stored(tmp_path, dicom_files.image_bytes("stopped"))
        try:
            stopped.render(frame)
            monkeypatch.setattr(children, "_LATE_SECONDS", 0.0)
            process = stopped._children.queue[-1]._process
            os.kill(process.pid, signal.SIGSTOP)
            # More than a pipe takes: who does not read must not hold the one that writes.
            frames = (frame,) * 2000
            with pytest.raises(CannotRender) as refused:
                stopped.cut(Cut(frames, (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "axial"))
            assert refused.value.code == "slow"
            assert process.poll() == -signal.SIGKILL
        finally:
            stopped.close()

    @pytest.mark.parametrize(
        "answer",
        [
            children.ANSWER.pack(b"G", 2, 1 << 40) + b"{}", children.ANSWER.pack(b"G", 1 << 31, 0), children.ANSWER.pack(b"G", 4, 0) + b"nota",
            children.ANSWER.pack(b"N", 2, 0) + b"{}", children.ANSWER.pack(b"N", 2, 0) + b"[]", children.ANSWER.pack(b"G", 2, 0) + b"\xff\xff", b"x",
        ],
    )  # fmt: skip
    def test_whatever_one_says_that_was_taken_over_it_is_ended_and_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
        talkative = Renderer(children=1, seconds=20)
        frame = stored(tmp_path, dicom_files.image_bytes("taken"))
        try:
            with monkeypatch.context() as patch:
                patch.setattr(children, "_START", f"import sys; sys.stdin.readline(); sys.stdout.buffer.write({answer!r})")
                with pytest.raises(CannotRender) as refused:
                    talkative.render(frame)
                assert refused.value.code == "crashed"
            assert talkative.render(frame).startswith(b"\x89PNG")
        finally:
            talkative.close()

    def test_one_that_takes_too_long_is_ended(self, tmp_path: Path) -> None:
        slow = Renderer(children=1, seconds=0.001)
        try:
            with pytest.raises(CannotRender) as refused:
                slow.render(stored(tmp_path, dicom_files.image_bytes("slow", **grey(np.zeros((512, 512))))))
        finally:
            slow.close()
        assert refused.value.code == "slow"

    def test_a_bomb_stays_within_the_limit_of_memory(self, tmp_path: Path) -> None:
        small = Renderer(children=1, memory=800 << 20)
        # 60 million pixels of 64 bits, and no data for them.
        bomb = {**grey([0]), "Rows": 7000, "Columns": 8000, "BitsAllocated": 64, "BitsStored": 64, "HighBit": 63, "PixelData": bytes(64)}
        try:
            with pytest.raises(CannotRender):
                small.render(stored(tmp_path, dicom_files.image_bytes("bomb", **bomb)))
        finally:
            small.close()

    def test_it_is_told_nothing_of_the_environment(self, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DICOMWEB_PASSWORD", "not for decoders")
        renderer.render(stored(tmp_path, dicom_files.image_bytes("environment")))
        child = renderer._children.queue[-1]
        assert child is not None
        assert b"not for decoders" not in Path(f"/proc/{child._process.pid}/environ").read_bytes()

    def test_closing_ends_it(self, tmp_path: Path) -> None:
        renderer = Renderer(children=1)
        renderer.render(stored(tmp_path, dicom_files.image_bytes("closing")))
        child = renderer._children.queue[-1]
        assert child is not None
        renderer.close()
        assert child._process.returncode is not None


class TestThePng:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3, 3), (200, 301)])
    def test_it_is_read_back_as_it_was(self, shape: tuple[int, ...]) -> None:
        picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        assert (read(write_png(picture)) == picture).all()

    def test_its_header_says_its_size(self) -> None:
        png = write_png(np.zeros((3, 5), np.uint8))
        assert struct.unpack(">II", png[16:24]) == (5, 3)


def test_the_limit_of_pixels_fits_large_films() -> None:
    assert pixels.MAX_PIXELS >= 30_000_000
