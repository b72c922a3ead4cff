"""Frames decode to pydicom's pixels, whole files are written anew in Explicit VR Little Endian."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from dicomweb.pixels import CannotRender, Frame, Plain, Renderer, decoding
from dicomweb.pixels.serving import answer
from tests import dicom_files, services

Array = np.ndarray[Any, np.dtype[Any]]
# Where pydicom gives no pixels we do, by name and why:
ONLY_WE = {
    "JPEG-lossy.dcm": "pydicom does not let GDCM decode 12 bits; the values are held against DCMTK's below",
    "JPGExtended.dcm": "the same",
    "SC_rgb_jpeg.dcm": "it says explicit VR and is implicit, which pydicom takes for something else when it reads a file frame by frame",
    "TC0963_undef_len_no_delim.dcm": "it is cut off behind its pixel data, which is whole",
}
# What nobody decodes, by name and why:
NOBODY = {
    "MR_truncated.dcm": "its pixel data is cut off",
    "JPEG2000-embedded-sequence-delimiter.dcm": "what it holds is no JPEG 2000",
    "badVR.dcm": "its NumberOfFrames is no number",
}
# Pixel data without Rows, a file without any UID of its own, and elements in implicit VR that pydicom does not write in explicit VR.
INCOMPLETE = {"SC_rgb_jpeg.dcm", "meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm", "empty_charset_LEI.dcm"}


def whole(path: Path, number: int = 1) -> Frame:
    return Frame(path, 0, path.stat().st_size, number)


def decode(frame: Frame) -> Plain:
    with warnings.catch_warnings():
        # As in the child.
        warnings.simplefilter("ignore")
        told, data = answer({"what": "decode", "frame": [str(frame.path).encode().hex(), *frame[1:]]})
    return Plain(data, **told)


def stored(tmp_path: Path, data: bytes, number: int = 1) -> Frame:
    path = tmp_path / f"stored-{len(data)}"
    path.write_bytes(data)
    return Frame(path, 0, len(data), number)


def array(plain: Plain, like: Array, planar: bool) -> Array:
    """Read a decoded frame as its description says."""
    if plain.bits == 1:
        return np.unpackbits(np.frombuffer(plain.data, np.uint8), bitorder="little")[: like.size].reshape(like.shape)
    values = np.frombuffer(plain.data, like.dtype.newbyteorder("<"))
    if planar and plain.samples > 1:
        return values.reshape(plain.samples, plain.rows, plain.columns).transpose(1, 2, 0)
    return values.reshape(like.shape)


def pixels_of(path: Path | io.BytesIO, frames: int) -> list[Array]:
    """Give frames as pydicom reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, force=True)
        if ds.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            # Within a deflated file pydicom finds pixel data only when it reads the whole dataset.
            return [pixel_array(ds, index=index) for index in range(frames)]
        return [pixel_array(path, index=index) for index in range(frames)]


def check_frames(path: Path) -> int:
    """Hold the frames of a file against pydicom's; give how many that were."""
    ds = Dataset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        if "Rows" not in ds:
            return 0
        expected = pixels_of(path, int(ds.get("NumberOfFrames", 1) or 1))
    except Exception:  # noqa: BLE001  Whatever pydicom raises: it gives no pixels.
        if path.name in ONLY_WE:
            assert decode(whole(path)).rows == ds.Rows
            return 1
        with pytest.raises(CannotRender):
            decode(whole(path))
        assert path.name in NOBODY or "PixelData" not in ds or not hasattr(ds, "file_meta"), path
        return 0
    for number, values in enumerate(expected, 1):
        plain = decode(whole(path, number))
        assert (plain.rows, plain.columns) == values.shape[:2]
        assert (array(plain, values, ds.get("PlanarConfiguration") == 1) == values).all(), (path, number)
    return len(expected)


def test_every_frame_of_pydicoms_files_decodes_to_pydicoms_pixels(pydicom_files: tuple[Path, ...]) -> None:
    assert sum(map(check_frames, pydicom_files)) > 150


def test_every_frame_of_the_samples_decodes_to_pydicoms_pixels(samples: Path) -> None:
    # What pydicom brings along is compared above.
    own = {path.name for path in Path(pydicom.__file__).parent.rglob("*.dcm")}
    paths = [path for path in sorted(samples.rglob("*")) if path.is_file() and path.name not in own]
    assert sum(map(check_frames, paths)) > 1500


def test_a_jpeg_of_12_bits_with_an_empty_scan_header_decodes_to_the_same_pixels_as_a_sound_one(tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
    path = next(path for path in pydicom_files if path.name == "JPGExtended.dcm")
    ds = pydicom.dcmread(path)
    sound = next(generate_frames(ds.PixelData, number_of_frames=1))
    at = sound.index(b"\xff\xda")
    broken = sound[: at + 7] + b"\0\0\0" + sound[at + 10 :]
    assert sound != broken
    assert decoding.repair_extended(broken) == sound
    ds.PixelData = encapsulate([broken])
    buffer = io.BytesIO()
    ds.save_as(buffer)
    assert pydicom.dcmread(io.BytesIO(buffer.getvalue())).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    plain = decode(stored(tmp_path, buffer.getvalue()))
    assert plain == decode(whole(path))


def test_jpegs_of_12_bits_decode_to_dcmtks_pixels(tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
    program = shutil.which("dcmdjpeg") or services.missing("dcmdjpeg")
    paths = [path for path in pydicom_files if path.name in ("JPEG-lossy.dcm", "JPGExtended.dcm")]
    for path in paths:
        subprocess.run([program, path, tmp_path / path.name], check=True, capture_output=True)
        assert decode(whole(path)).data == pydicom.dcmread(tmp_path / path.name).PixelData
    assert len(paths) == 2


def grey(values: Any, dtype: str = "<i2", **keywords: Any) -> dict[str, Any]:
    made = np.atleast_2d(np.asarray(values)).astype(dtype)
    bits = made.dtype.itemsize * 8
    return {
        "Rows": made.shape[-2], "Columns": made.shape[-1], "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(made.dtype.kind == "i"), "PixelData": made.tobytes(), **keywords,
    }  # fmt: skip


class TestPlainFrames:
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
    def test_big_endian_becomes_little_endian(self, tmp_path: Path, dtype: str) -> None:
        values = np.arange(12).reshape(3, 4) - (6 if dtype[0] == "i" else 0)
        ds = dicom_files.image("big", **grey(values, ">" + dtype))
        # In big endian samples of 8 bits lie in words unless they are OB.
        ds["PixelData"].VR = "OB" if dtype[1] == "1" else "OW"
        plain = decode(stored(tmp_path, dicom_files.file_bytes(ds, ExplicitVRBigEndian)))
        assert plain.data == values.astype("<" + dtype).tobytes()

    def test_frames_of_one_bit_begin_at_a_byte(self, tmp_path: Path) -> None:
        bits = np.random.default_rng(2).integers(0, 2, (3, 3, 5), np.uint8)
        packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
        keywords = {"Rows": 3, "Columns": 5, "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "NumberOfFrames": 3, "PixelData": packed}
        data = dicom_files.image_bytes("bits", **keywords)
        for number in (1, 2, 3):
            plain = decode(stored(tmp_path, data, number))
            assert plain.data == np.packbits(bits[number - 1].reshape(-1), bitorder="little").tobytes()

    def test_float_pixel_data_is_given_as_it_is(self, tmp_path: Path) -> None:
        values = np.linspace(-1, 1, 6, dtype="<f4").reshape(2, 3)
        ds = dicom_files.image("float", Rows=2, Columns=3, BitsAllocated=32, BitsStored=None, HighBit=None, PixelRepresentation=None, PixelData=None)
        ds.FloatPixelData = values.tobytes()
        assert decode(stored(tmp_path, dicom_files.file_bytes(ds))).data == values.tobytes()

    def test_colours_by_plane_stay_so_when_the_header_says_it(self, tmp_path: Path) -> None:
        values = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
        keywords = {**grey(values[0], "u1"), "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 1, "PixelData": values.tobytes()}
        assert decode(stored(tmp_path, dicom_files.image_bytes("planes", **keywords))).data == values.tobytes()

    def test_a_picture_in_a_codestream_that_claims_to_be_huge_is_refused(self, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        ds = pydicom.dcmread(next(path for path in pydicom_files if path.name == "MR_small_jp2klossless.dcm"))
        coded = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
        at = coded.index(b"\xff\x51")
        coded[at + 6 : at + 14] = (60000).to_bytes(4, "big") * 2
        ds.PixelData = encapsulate([bytes(coded)])
        buffer = io.BytesIO()
        ds.save_as(buffer)
        with pytest.raises(CannotRender) as refused:
            decode(stored(tmp_path, buffer.getvalue()))
        assert refused.value.code == "too-large"


class TestTranscoding:
    def test_every_file_of_pydicom_is_the_same_dataset_afterwards(self, pydicom_files: tuple[Path, ...]) -> None:
        renderer = Renderer(children=1)
        done = 0
        try:
            for path in pydicom_files:
                if path.name in {*NOBODY, *INCOMPLETE} or path.name == "DICOMDIR" or path.stat().st_size > 2_000_000:
                    continue
                try:
                    before = pydicom.dcmread(path)
                    expected = pixels_of(path, int(before.get('NumberOfFrames', 1) or 1)) if "PixelData" in before else []
                except Exception:  # noqa: BLE001  Whatever pydicom cannot read is held against nothing.
                    continue
                pieces, length = renderer.transcode(whole(path))
                written = b"".join(pieces)
                assert len(written) == length, path
                after = pydicom.dcmread(io.BytesIO(written))
                assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
                # Group lengths are retired and written nowhere (PS3.5 7.2).
                missing = {elem.tag for elem in before} - {elem.tag for elem in after}
                assert all(tag.element == 0 or tag in (0x7FE00001, 0x7FE00002) for tag in missing), path
                got = pixels_of(io.BytesIO(written), len(expected)) if "PixelData" in after else []
                assert len(got) == len(expected), path
                assert all((one == other).all() for one, other in zip(got, expected, strict=True)), path
                done += 1
        finally:
            renderer.close()
        assert done > 60

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
    def test_what_follows_the_pixel_data_is_kept_behind_it(self, tmp_path: Path, syntax: str) -> None:
        ds = dicom_files.image("behind")
        ds.DataSetTrailingPadding = bytes(6)
        renderer = Renderer(children=1)
        try:
            written = b"".join(renderer.transcode(stored(tmp_path, dicom_files.file_bytes(ds, syntax)))[0])
        finally:
            renderer.close()
        after = pydicom.dcmread(io.BytesIO(written))
        assert after.DataSetTrailingPadding == bytes(6)
        assert written.index(b"\xe0\x7f\x10\x00") < written.index(b"\xfc\xff\xfc\xff")
        assert after.PixelData == ds.PixelData
        assert after.PatientName == ds.PatientName

    def test_an_object_without_pixels_is_transcoded_too(self, tmp_path: Path) -> None:
        ds = Dataset()
        ds.update(dicom_files.image("report", PixelData=None, Rows=None, Columns=None))
        renderer = Renderer(children=1)
        try:
            written = b"".join(renderer.transcode(stored(tmp_path, dicom_files.file_bytes(ds, ImplicitVRLittleEndian)))[0])
        finally:
            renderer.close()
        assert pydicom.dcmread(io.BytesIO(written)).StudyInstanceUID == ds.StudyInstanceUID
