"""WADO-RS frames, pixel data and bulk data: as they are stored by one read, or as the header describes them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomweb.imports import Importer
from tests import dicom_files
from tests.functional.rs_data import (
    LITTLE,
    OCTETS,
    address,
    get,
    import_files,
    once,
    parts,
    reads,
    report,
    sample,
)
from tests.statements import statements

STORED = OCTETS + "; transfer-syntax=*"
FILES = {
    "MR_small.dcm": LITTLE, "MR_small_RLE.dcm": "1.2.840.10008.1.2.5", "MR_small_jpeg_ls_lossless.dcm": "1.2.840.10008.1.2.4.80",
    "MR_small_jp2klossless.dcm": "1.2.840.10008.1.2.4.90", "SC_rgb_jpeg_dcmtk.dcm": "1.2.840.10008.1.2.4.50",
}  # fmt: skip


class TestAsStored:
    @once
    @pytest.mark.parametrize("name", FILES)
    def test_a_frame_is_sent_as_it_is_stored_by_one_read(
        self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        (ds,) = import_files(importer, tmp_path / "in", sample(pydicom_files, name))
        with reads(monkeypatch) as made:
            answer = get(api, address(ds, "frames", "1"), STORED)
        assert answer.status_int == 200, answer.body
        ((head, content),) = parts(answer)
        expected = next(generate_frames(ds.PixelData, number_of_frames=1)) if name != "MR_small.dcm" else ds.PixelData
        assert content == expected
        assert head["Content-Type"] == f"application/octet-stream; transfer-syntax={FILES[name]}"
        assert f"transfer-syntax={FILES[name]}" in answer.headers["Content-Type"]
        assert [length for length, _ in made] == [len(expected)]

    def test_the_next_frame_of_a_series_takes_one_statement(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        folder = tmp_path / "series"
        datasets = [pydicom.dcmread(path) for path in dicom_files.write_series(folder, images=5)]
        import_files(importer, tmp_path / "in", *sorted(folder.iterdir()))
        assert get(api, address(datasets[0], "frames", "1"), STORED).status_int == 200
        with statements(api.app.registry["engine"]) as made:
            answer = get(api, address(datasets[3], "frames", "1"), STORED)
        assert parts(answer)[0][1] == datasets[3].PixelData
        assert len([statement for statement in made if statement.startswith("SELECT")]) == 1

    @once
    def test_media_types_of_images_name_the_stored_syntax(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        (ds,) = import_files(importer, tmp_path / "in", sample(pydicom_files, "MR_small_RLE.dcm"))
        for media_type in ("image/dicom-rle", "image/x-dicom-rle"):
            ((head, _),) = parts(get(api, address(ds, "frames", "1"), f'multipart/related; type="{media_type}"'))
            assert head["Content-Type"] == f"{media_type}; transfer-syntax=1.2.840.10008.1.2.5"
        assert get(api, address(ds, "frames", "1"), 'multipart/related; type="image/jls"').status_int == 406
        single = get(api, address(ds, "frames", "1"), "image/dicom-rle")
        assert single.headers["Content-Type"] == "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"
        assert single.body == next(generate_frames(ds.PixelData, number_of_frames=1))

    def test_frames_come_in_the_order_that_was_asked_for_one_a_part(self, api: Any, importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        values = np.arange(4 * 6, dtype="<u2").reshape(4, 2, 3)
        data = dicom_files.image_bytes("frames", NumberOfFrames=4, Rows=2, Columns=3, PixelData=values.tobytes())
        (ds,) = import_files(importer, tmp_path / "in", data)
        with reads(monkeypatch) as made:
            found = parts(get(api, address(ds, "frames", "3,1,3"), STORED))
        assert [content for _, content in found] == [values[at].tobytes() for at in (2, 0, 2)]
        assert [head["Content-Location"].rpartition("/")[2] for head, _ in found] == ["3", "1", "3"]
        assert [length for length, _ in made] == [12, 12, 12]
        every = parts(get(api, address(ds, "pixeldata"), STORED))
        assert b"".join(content for _, content in every) == values.tobytes()


@once
class TestDecoded:
    @pytest.mark.parametrize(
        "name",
        [*FILES, "MR_small_bigendian.dcm", "image_dfl.dcm", "SC_rgb_rle_32bit_2frame.dcm", "rtdose_rle.dcm", "liver_1frame.dcm", "JPGExtended.dcm", "examples_ybr_color.dcm", "examples_palette.dcm"],
    )
    def test_explicit_little_endian_is_what_pydicom_decodes(
        self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...], name: str
    ) -> None:
        (ds,) = import_files(importer, tmp_path / "in", sample(pydicom_files, name))
        number = min(2, int(ds.get("NumberOfFrames", 1) or 1))
        answer = get(api, address(ds, "frames", str(number)), OCTETS)
        assert answer.status_int == 200, answer.body
        ((head, content),) = parts(answer)
        assert head["Content-Type"] == f"application/octet-stream; transfer-syntax={LITTLE}"
        if name == "JPGExtended.dcm":
            assert len(content) == ds.Rows * ds.Columns * 2
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = pixel_array(ds, index=number - 1)
        if ds.BitsAllocated == 1:
            assert content == np.packbits(values.reshape(-1), bitorder="little").tobytes()
        else:
            if ds.get("PlanarConfiguration") == 1:
                values = values.transpose(2, 0, 1)
            assert content == np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()

    def test_any_syntax_is_answered_with_plain_pixels_where_viewers_fail(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        names = ("rtdose_rle.dcm", "MR_small_bigendian.dcm", "JPGExtended.dcm", "SC_ybr_full_422_uncompressed.dcm", "J2K_pixelrep_mismatch.dcm")
        datasets = import_files(importer, tmp_path / "in", *(sample(pydicom_files, name) for name in names))
        for ds in datasets:
            ((head, content),) = parts(get(api, address(ds, "frames", "1"), STORED))
            assert head["Content-Type"] == f"application/octet-stream; transfer-syntax={LITTLE}", ds.filename
            assert len(content) == ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated // 8

    def test_who_names_the_stored_syntax_gets_it_whatever_viewers_do(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        (ds,) = import_files(importer, tmp_path / "in", sample(pydicom_files, "JPGExtended.dcm"))
        ((head, content),) = parts(get(api, address(ds, "frames", "1"), 'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.51'))
        assert head["Content-Type"] == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.51"
        assert content == next(generate_frames(ds.PixelData, number_of_frames=1))

    def test_implicit_little_endian_pixels_are_the_explicit_ones(self, api: Any, importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("implicit", ImplicitVRLittleEndian))
        with reads(monkeypatch) as made:
            for accept in (STORED, OCTETS, "*/*", None):
                ((head, content),) = parts(get(api, address(ds, "frames", "1"), accept))
                assert (head["Content-Type"], content) == (f"application/octet-stream; transfer-syntax={LITTLE}", ds.PixelData)
        assert len(made) == 4


@once
class TestRefusals:
    @pytest.mark.parametrize("frames", ["0", "-1", "a", "1,,2", "1.5", "", "%00", "1,", ",".join(["1"] * 10_001), "9999999999"])
    def test_what_is_no_list_of_frames_is_an_error_of_the_client(self, api: Any, importer: Importer, tmp_path: Path, frames: str) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("list"))
        answer = get(api, address(ds, "frames", frames))
        assert answer.status_int in (400, 404)
        assert answer.json["message"].endswith(".")

    def test_frames_that_are_not_there_are_not_found(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        sources = [dicom_files.image_bytes("one"), report("report"), dicom_files.image_bytes("short", NumberOfFrames=3)]
        one, no_image, short = import_files(importer, tmp_path / "in", *sources)
        for ds, number in ((one, "2"), (no_image, "1"), (short, "3")):
            answer = get(api, address(ds, "frames", number), STORED)
            assert answer.status_int == 404, answer.body
            assert answer.json["message"].endswith(".")

    @pytest.mark.parametrize("accept", ["text/html", 'multipart/related; type="image/jls"', OCTETS + "; transfer-syntax=1.2.840.10008.1.2.4.70", "nonsense"])
    def test_what_cannot_be_given_is_said_so(self, api: Any, importer: Importer, tmp_path: Path, accept: str) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("accept"))
        answer = get(api, address(ds, "frames", "1"), accept)
        assert answer.status_int == 406
        assert answer.json["message"].endswith(".")

    def test_bytes_that_are_gone_are_gone(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("gone"))
        for pack in importer.storage.root.rglob("*.pack"):
            pack.unlink()
        for path in ("frames/1", "rendered", "thumbnail", "bulkdata/7FE00010", ""):
            assert get(api, address(ds, *([path] if path else []))).status_int == 410, path


class TestCaching:
    def test_an_answer_that_is_known_is_not_sent_again(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("etag"))
        for path, accept in ((("frames", "1"), STORED), (("rendered",), "image/png"), (("bulkdata", "7FE00010"), "*/*"), ((), "*/*"), (("thumbnail",), None)):
            first = get(api, address(ds, *path), accept)
            assert first.status_int == 200
            assert "immutable" in first.headers["Cache-Control"]
            assert "private" in first.headers["Cache-Control"]
            again = get(api, address(ds, *path), accept, **{"If-None-Match": first.headers["ETag"]})
            assert (again.status_int, again.body) == (304, b""), path
        etags = {get(api, address(ds, "frames", "1"), accept).headers["ETag"] for accept in (STORED, "application/octet-stream")}
        assert len(etags) == 2


class TestBulkData:
    def test_every_address_in_the_metadata_is_answered_with_the_value(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        ds = dicom_files.image("bulk")
        ds.private_block(0x0019, "EXAMPLE PRIVATE 1.0").add_new(0x10, "OB", bytes(range(256)) * 20)
        ds.ReferencedImageSequence[0].private_block(0x0021, "EXAMPLE", create=True).add_new(0x01, "OW", b"ab" * 3000)
        ds.RedPaletteColorLookupTableData = b"\1\2" * 2000
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.file_bytes(ds))
        header = get(api, address(ds, "metadata"), "application/dicom+json").json[0]
        found = dict(_bulk(header))
        assert set(found) == {"00191010", "00081140/0/00211001", "00281201", "7FE00010"}
        expected = {"00191010": bytes(range(256)) * 20, "00081140/0/00211001": b"ab" * 3000, "00281201": b"\1\2" * 2000, "7FE00010": ds.PixelData}
        for path, url in found.items():
            answer = get(api, url.removeprefix("http://localhost:80").removeprefix("http://localhost"))
            assert (answer.status_int, answer.body) == (200, expected[path]), path
            assert answer.headers["Content-Type"] == "application/octet-stream"
            ((_, content),) = parts(get(api, "/" + url.split("/", 3)[3], OCTETS))
            assert content == expected[path]

    @once
    def test_ranges_of_it_are_given(self, api: Any, importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("range"))
        with reads(monkeypatch) as made:
            answer = get(api, address(ds, "bulkdata", "7FE00010"), Range="bytes=10-19")
        assert (answer.status_int, answer.body) == (206, ds.PixelData[10:20])
        assert answer.headers["Content-Range"] == "bytes 10-19/512"
        assert made[-1][0] == 10
        assert get(api, address(ds, "bulkdata", "7FE00010"), Range="bytes=-5").body == ds.PixelData[-5:]
        assert get(api, address(ds, "bulkdata", "7FE00010"), Range="bytes=600-").status_int == 416
        assert get(api, address(ds, "bulkdata", "7FE00010"), Range="nonsense").body == ds.PixelData

    @once
    @pytest.mark.parametrize("path", ["00100010/0/00080018", "99999999", "7fe00010", "../../metadata", "", "7FE00010/0/7FE00010", "00081140", "PatientName", "%00"])
    def test_what_is_no_bulk_data_is_not_found(self, api: Any, importer: Importer, tmp_path: Path, path: str) -> None:
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.image_bytes("none"))
        assert get(api, address(ds, "bulkdata", path)).status_int == 404

    @once
    def test_of_big_endian_files_numbers_are_given_in_little_endian(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        ds = dicom_files.image("big", RedPaletteColorLookupTableData=b"\0\1" * 1000)
        (ds,) = import_files(importer, tmp_path / "in", dicom_files.file_bytes(ds, ExplicitVRBigEndian))
        header = get(api, address(ds, "metadata"), "application/dicom+json").json[0]
        assert "BulkDataURI" in header["00281201"]
        answer = get(api, address(ds, "bulkdata", "00281201"))
        assert answer.status_int == 200
        assert len(answer.body) == 2000


def _bulk(header: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for tag, element in header.items():
        if "BulkDataURI" in element:
            found.append((prefix + tag, element["BulkDataURI"]))
        for number, item in enumerate(element.get("Value", []) if element["vr"] == "SQ" else []):
            found += _bulk(item, f"{prefix}{tag}/{number}/")
    return found


def test_fragments_of_several_frames_are_found_by_their_offset_table(api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    ds = pydicom.dcmread(sample(pydicom_files, "SC_rgb_rle_2frame.dcm"))
    stored = list(generate_frames(ds.PixelData, number_of_frames=2))
    # Two fragments a frame: only an offset table tells which are whose.
    item = b"\xfe\xff\x00\xe0"
    fragments, offsets, at = b"", [], 0
    for frame in stored:
        offsets.append(at)
        half = len(frame) // 4 * 2
        for piece in (frame[:half], frame[half:]):
            fragments += item + len(piece).to_bytes(4, "little") + piece
            at += 8 + len(piece)
    table = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    ds.PixelData = item + len(table).to_bytes(4, "little") + table + fragments + b"\xfe\xff\xdd\xe0\0\0\0\0"
    buffer = io.BytesIO()
    ds.save_as(buffer)
    (ds,) = import_files(importer, tmp_path / "in", buffer.getvalue())
    with reads(monkeypatch) as made:
        for number in (1, 2):
            ((_, content),) = parts(get(api, address(ds, "frames", str(number)), STORED))
            assert content == stored[number - 1]
    # The offset table, and the frame.
    assert len(made) == 4


def encapsulated(seed: str, syntax: str, fragments: list[bytes], **keywords: Any) -> bytes:
    ds = dicom_files.image(seed, PixelData=encapsulate(fragments), **keywords)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return dicom_files.file_bytes(ds, syntax)


@once
class TestWhatTheHeaderSaysTooMuch:
    COLOUR = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_PARTIAL_420", "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}

    @pytest.mark.parametrize("claimed", [2, 2_147_483_647])
    def test_frames_that_are_not_there_are_refused_before_anything_is_sent(self, api: Any, importer: Importer, tmp_path: Path, claimed: int) -> None:
        native = dicom_files.image_bytes("native", NumberOfFrames=claimed)
        coded = encapsulated("coded", "1.2.840.10008.1.2.5", [bytes(64)], NumberOfFrames=claimed)
        for ds in import_files(importer, tmp_path / "in", native, coded):
            for path in ("pixeldata", f"frames/{min(claimed, 999_999_999)}", "frames/1,2"):
                for accept in (STORED, OCTETS):
                    answer = get(api, address(ds, path), accept)
                    assert answer.status_int == 404, answer.body
                    assert answer.json["message"].endswith(".")

    def test_a_frame_of_many_fragments_reads_the_offset_table_once(self, api: Any, importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        frames = [bytes([number]) * 60 for number in range(1, 5)]
        ds = dicom_files.image("table", NumberOfFrames=4, PixelData=encapsulate(frames, fragments_per_frame=2))
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        (made,) = import_files(importer, tmp_path / "in", dicom_files.file_bytes(ds, "1.2.840.10008.1.2.5"))
        with reads(monkeypatch) as read:
            found = parts(get(api, address(made, "pixeldata"), STORED + "; transfer-syntax=1.2.840.10008.1.2.5"))
        assert [content for _, content in found] == frames
        assert len(read) == 5

    def test_a_video_is_one_stream_in_which_ranges_can_be_asked_for(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        syntax = "1.2.840.10008.1.2.4.102"
        fragments = [bytes(range(100)), bytes(range(100, 150))]
        (ds,) = import_files(importer, tmp_path / "in", encapsulated("video", syntax, fragments, NumberOfFrames=30, **self.COLOUR))
        stream = b"".join(fragments)
        whole = get(api, address(ds, "pixeldata?accept=video/mp4"))
        assert (whole.status_int, whole.body, whole.headers["Content-Type"]) == (200, stream, f"video/mp4; transfer-syntax={syntax}")
        part = get(api, address(ds, "pixeldata"), "video/mp4", Range="bytes=90-119")
        assert (part.status_int, part.body, part.headers["Content-Range"]) == (206, stream[90:120], "bytes 90-119/150")
        ((head, content),) = parts(get(api, address(ds, "pixeldata"), 'multipart/related; type="video/mp4"; transfer-syntax=*'))
        assert (head["Content-Type"], content) == (f"video/mp4; transfer-syntax={syntax}", stream)
        assert get(api, address(ds, "pixeldata"), "video/mpeg2").status_int == 406
        for path in ("frames/1", "rendered"):
            refused = get(api, address(ds, path))
            assert refused.status_int == 406
            assert "video" in refused.json["message"]
