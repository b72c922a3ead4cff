"""WADO-RS studies, series and instances, and WADO-URI: the stored bytes, or Explicit VR Little Endian; streamed, never held."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from dicomweb.imports import Importer
from tests import dicom_files
from tests.functional.rs_data import LITTLE, ROOT, address, get, import_files, once, parts, reads, report, sample

DICOM = 'multipart/related; type="application/dicom"'


@pytest.fixture
def series(importer: Importer, tmp_path: Path) -> list[bytes]:
    """Four images of one series, imported; their files."""
    files = [path.read_bytes() for path in dicom_files.write_series(tmp_path / "made", images=4, seed="retrieve")]
    import_files(importer, tmp_path / "in", *files)
    return files


STUDY = f"{ROOT}/studies/{dicom_files.uid('study', 'retrieve')}"
SERIES = f"{STUDY}/series/{dicom_files.uid('series', 'retrieve')}"


class TestSeveral:
    @pytest.mark.parametrize("path", [STUDY, SERIES])
    @pytest.mark.parametrize("accept", [DICOM + "; transfer-syntax=*", DICOM, "*/*", None, "multipart/related; type=application/dicom;transfer-syntax=*"])
    def test_the_stored_files_come_one_a_part(self, api: Any, series: list[bytes], path: str, accept: str | None) -> None:
        answer = get(api, path, accept)
        assert answer.status_int == 200, answer.body
        found = parts(answer)
        assert sorted(content for _, content in found) == sorted(series)
        for head, content in found:
            ds = pydicom.dcmread(io.BytesIO(content))
            assert head["Content-Type"] == f"application/dicom; transfer-syntax={LITTLE}"
            assert head["Content-Location"].endswith(address(ds))

    @once
    def test_nothing_is_read_before_it_is_sent(self, api: Any, series: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        with reads(monkeypatch) as made:
            answer = api.app(_environ(SERIES, api), lambda *_: None)
            assert len(made) <= 1
            pieces = iter(answer)
            next(pieces)
            next(pieces)
            assert len(made) <= 3
            answer.close()
        assert len(made) < len(series)

    def test_a_zip_holds_the_files(self, api: Any, series: list[bytes]) -> None:
        for path in (STUDY, SERIES):
            archive = zipfile.ZipFile(io.BytesIO(get(api, path, "application/zip").body))
            assert sorted(archive.read(name) for name in archive.namelist() if name.endswith(".dcm")) == sorted(series)

    def test_a_zip_holds_of_a_conflict_the_instance_that_is_served(self, api: Any, importer: Importer, tmp_path: Path, series: list[bytes]) -> None:
        ds = pydicom.dcmread(io.BytesIO(series[0]))
        ds.ImageComments = "other bytes"
        file = io.BytesIO()
        ds.save_as(file)
        import_files(importer, tmp_path / "conflict", file.getvalue())
        for path, files in ((STUDY, series), (address(ds), series[:1])):
            archive = zipfile.ZipFile(io.BytesIO(get(api, path, "application/zip").body))
            assert sorted(archive.read(name) for name in archive.namelist() if name.endswith(".dcm")) == sorted(files)

    def test_a_known_study_is_not_sent_again_until_it_changes(self, api: Any, importer: Importer, tmp_path: Path, series: list[bytes]) -> None:
        first = get(api, STUDY)
        assert get(api, STUDY, **{"If-None-Match": first.headers["ETag"]}).status_int == 304
        more = dicom_files.image_bytes("more", StudyInstanceUID=dicom_files.uid("study", "retrieve"))
        import_files(importer, tmp_path / "more", more)
        again = get(api, STUDY, **{"If-None-Match": first.headers["ETag"]})
        assert (again.status_int, len(parts(again))) == (200, 5)

    @once
    def test_a_syntax_that_only_some_are_stored_in_is_refused_before_anything_is_sent(self, api: Any, importer: Importer, tmp_path: Path) -> None:
        # The first of them is stored so, and another block of the answer is not.
        uids = {"StudyInstanceUID": dicom_files.uid("study", "mixed")}
        for number, syntax in enumerate([ImplicitVRLittleEndian] * 5 + [LITTLE]):
            import_files(importer, tmp_path / f"mixed{number}", dicom_files.image_bytes(f"mixed/{number}", syntax, **uids))
        study = f"{ROOT}/studies/{uids['StudyInstanceUID']}"
        refused = get(api, study, f"{DICOM}; transfer-syntax={ImplicitVRLittleEndian}")
        assert refused.status_int == 406
        assert refused.json["message"].endswith(".")
        assert len(parts(get(api, study, f"{DICOM}; transfer-syntax={LITTLE}"))) == 6

    def test_unknown_ones_are_not_found(self, api: Any, series: list[bytes]) -> None:
        for path in (f"{ROOT}/studies/1.2", f"{STUDY}/series/1.2", f"{SERIES}/instances/1.2", f"{ROOT}/studies/%00", f"{SERIES}/instances/1.2/frames/1"):
            for more in ("", "/rendered", "/thumbnail"):
                answer = get(api, path + more)
                assert (answer.status_int, answer.json["message"][-1]) == (404, "."), path + more

    @once
    @pytest.mark.parametrize("accept", ["text/html", "application/dicom+json", DICOM + "; transfer-syntax=1.2.840.10008.1.2.4.80", 'multipart/related; type="image/jpeg"'])
    def test_what_cannot_be_given_is_said_so(self, api: Any, series: list[bytes], accept: str) -> None:
        for path in (STUDY, SERIES, address(pydicom.dcmread(io.BytesIO(series[0])))):
            answer = get(api, path, accept)
            assert answer.status_int == 406, (path, accept)
            assert answer.json["message"].endswith(".")


class TestOne:
    def test_it_is_byte_for_byte_what_was_stored(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        names = ("MR_small_RLE.dcm", "image_dfl.dcm", "JPEG2000.dcm", "rtplan.dcm", "CT_small.dcm", "rtdose_expb.dcm")
        paths = [sample(pydicom_files, name) for name in names]
        for path, ds in zip(paths, import_files(importer, tmp_path / "in", *paths), strict=True):
            answer = get(api, address(ds), DICOM + "; transfer-syntax=*")
            ((head, content),) = parts(answer)
            assert content == path.read_bytes(), path.name
            assert answer.headers["Content-Length"] == str(len(answer.body))
            assert head["Content-Type"] == f"application/dicom; transfer-syntax={ds.file_meta.TransferSyntaxUID}"
            single = get(api, address(ds), "application/dicom")
            assert single.body == content
            assert single.headers["Content-Type"] == head["Content-Type"]

    @once
    def test_it_is_transcoded_when_that_is_asked_for(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        names = ("MR_small_RLE.dcm", "rtdose_expb.dcm", "SC_rgb_rle_2frame.dcm")
        paths = [sample(pydicom_files, name) for name in names]
        sources = [*paths, report("report"), dicom_files.image_bytes("implicit", ImplicitVRLittleEndian)]
        for before in import_files(importer, tmp_path / "in", *sources):
            for accept in (f"{DICOM}; transfer-syntax={LITTLE}", f"application/dicom; transfer-syntax={LITTLE}"):
                answer = get(api, address(before), accept)
                assert answer.status_int == 200, answer.body
                assert answer.headers["Content-Length"] == str(len(answer.body))
                content = parts(answer)[0][1] if accept.startswith("multipart") else answer.body
                after = pydicom.dcmread(io.BytesIO(content))
                assert after.file_meta.TransferSyntaxUID == LITTLE
                assert after.PatientName == before.PatientName
                if "PixelData" in before:
                    assert (after.pixel_array == before.pixel_array).all()

    @once
    def test_quality_values_decide(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        (ds,) = import_files(importer, tmp_path / "in", sample(pydicom_files, "MR_small_RLE.dcm"))
        for accept, expected in (
            ("application/dicom;q=0.5, multipart/related;type=application/dicom;q=0.9", "multipart/related"),
            ("application/dicom;q=0.9, multipart/related;type=application/dicom;q=0.5", "application/dicom"),
            (f"application/dicom;transfer-syntax={LITTLE};q=0.9, application/dicom;transfer-syntax=*;q=0.1", f"application/dicom; transfer-syntax={LITTLE}"),
            ("application/zip, text/html;q=0.1", "application/zip"),
        ):
            assert get(api, address(ds), accept).headers["Content-Type"].startswith(expected), accept

    @once
    def test_the_stored_syntax_can_be_named(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        path = sample(pydicom_files, "MR_small_RLE.dcm")
        (ds,) = import_files(importer, tmp_path / "in", path)
        answer = get(api, address(ds), "application/dicom; transfer-syntax=1.2.840.10008.1.2.5")
        assert answer.body == path.read_bytes()

    def test_a_stranger_gets_nothing(self, api: Any, series: list[bytes]) -> None:
        ds = pydicom.dcmread(io.BytesIO(series[0]))
        for path in (STUDY, SERIES, address(ds), address(ds, "frames", "1"), address(ds, "rendered"), address(ds, "bulkdata/7FE00010"), f"{ROOT}/wado"):
            assert api.stranger("GET", path).status_int == 401

    @once
    def test_head_has_no_body(self, api: Any, series: list[bytes]) -> None:
        answer = api.send("HEAD", address(pydicom.dcmread(io.BytesIO(series[0]))))
        assert (answer.status_int, answer.body) == (200, b"")


@once
class TestUri:
    def _address(self, ds: Any, **parameters: str) -> str:
        named = {"requestType": "WADO", "studyUID": ds.StudyInstanceUID, "seriesUID": ds.SeriesInstanceUID, "objectUID": ds.SOPInstanceUID, **parameters}
        return f"{ROOT}/wado?" + "&".join(f"{name}={value}" for name, value in named.items())

    def test_the_file_is_given(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        path = sample(pydicom_files, "MR_small_RLE.dcm")
        (ds,) = import_files(importer, tmp_path / "in", path)
        for parameters in ({}, {"transferSyntax": "*"}, {"transferSyntax": "1.2.840.10008.1.2.5"}):
            answer = get(api, self._address(ds, contentType="application/dicom", **parameters))
            assert (answer.headers["Content-Type"], answer.body) == ("application/dicom", path.read_bytes())
        transcoded = get(api, self._address(ds, contentType="application/dicom", transferSyntax=LITTLE))
        assert (pydicom.dcmread(io.BytesIO(transcoded.body)).pixel_array == ds.pixel_array).all()

    def test_a_picture_is_given(self, api: Any, importer: Importer, tmp_path: Path, pydicom_files: tuple[Path, ...]) -> None:
        ds, no_image = import_files(importer, tmp_path / "in", sample(pydicom_files, "SC_rgb_rle_2frame.dcm"), report("report"))
        assert get(api, self._address(ds)).headers["Content-Type"] == "image/jpeg"
        picture = get(api, self._address(ds, contentType="image/png", rows="10", columns="20", frameNumber="2"))
        assert picture.body[16:24] == (10).to_bytes(4, "big") * 2
        assert get(api, self._address(ds, contentType="image/png", region="0,0,0.5,0.25")).body[16:24] == (50).to_bytes(4, "big") + (25).to_bytes(4, "big")
        assert get(api, self._address(no_image)).headers["Content-Type"] == "application/dicom"
        assert get(api, self._address(no_image, contentType="image/jpeg")).status_int == 406

    @pytest.mark.parametrize(
        ("parameters", "status"),
        [
            ({"requestType": "wado"}, 400), ({"studyUID": ""}, 400), ({"objectUID": "1.2"}, 404), ({"contentType": "text/html"}, 406), ({"rows": "0"}, 400),
            ({"columns": "99999"}, 400), ({"windowCenter": "1"}, 400), ({"windowCenter": "x", "windowWidth": "1"}, 400), ({"windowCenter": "1", "windowWidth": "0"}, 400),
            ({"frameNumber": "2"}, 404), ({"frameNumber": "-1"}, 400), ({"imageQuality": "101"}, 400), ({"region": "0,0,2,2"}, 400), ({"region": "1,1,0,0"}, 400),
            ({"annotation": "patient"}, 400), ({"anonymize": "yes"}, 400), ({"presentationUID": "1.2"}, 400), ({"objectUID": "%00"}, 404),
            ({"contentType": "application/dicom", "transferSyntax": "1.2"}, 406),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said_so(self, api: Any, series: list[bytes], parameters: dict[str, str], status: int) -> None:
        answer = get(api, self._address(pydicom.dcmread(io.BytesIO(series[0])), **parameters))
        assert answer.status_int == status, answer.body
        assert answer.json["message"].endswith(".")


def _environ(path: str, api: Any) -> dict[str, Any]:
    request = api.RequestClass.blank(path, environ=api._make_environ())
    environ: dict[str, Any] = request.environ
    return environ
