"""Everything there is of sample files, stored and retrieved again: the same bytes; and of hostile files an answer, whatever is asked."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.encaps import encapsulate, generate_frames

from dicomweb.db import work
from dicomweb.imports import Importer, locate
from dicomweb.models import Batch, Image, Outcome
from dicomweb.pixels import Renderer
from dicomweb.rs import instances, uris
from dicomweb.rs.storing import INLINE_FILES
from tests import dicom_files
from tests.functional import api_data
from tests.functional.rs_data import LITTLE, OCTETS, ROOT, parts, sample, write

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

# What of the samples cannot be stored, by name and code; other reasons are held against pydicom. The fuzz corpus is made of damaged files.
NOT_STORED = {
    "MR_truncated.dcm": "truncated", "rtplan_truncated.dcm": "truncated", "DICOMDIR-nooffset": "truncated", "README": "not-dicom",
    "no_meta.dcm": "not-dicom", "INVENTORY.tsv": "not-dicom", "zipMR.gz": "not-dicom", "crayons.icc": "not-dicom",
}  # fmt: skip
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID")


def store(api: Any, files: list[bytes]) -> int:
    body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files) + b"--b--"
    status: int = api.send("POST", f"{ROOT}/studies", body=body, headers={"Content-Type": "multipart/related; boundary=b"}).status_int
    return status


def instances_of(dbsession: Any) -> list[instances.Instance]:
    studies = dbsession.scalars(sa.text("SELECT study_instance_uid FROM study WHERE study_instance_uid != ''"))
    return [one for study in studies for block in instances.find(dbsession, study) for one in block]


def test_what_is_stored_is_retrieved_byte_for_byte(
    api: Any, importer: Importer, engine: sa.Engine, samples: Path, pydicom_files: tuple[Path, ...]
) -> None:
    paths = {path.read_bytes(): path for path in (*pydicom_files, *samples.rglob("*")) if path.is_file() and path.stat().st_size}
    sources = list(paths)
    for start in range(0, len(sources), INLINE_FILES):
        assert store(api, sources[start : start + INLINE_FILES]) in (200, 202, 409)

    def source_of(batch: int, path: str) -> bytes:
        return sources[(batch - 1) * INLINE_FILES + int(path[:6]) - 1]

    with work(engine, read_only=True) as dbsession:
        assert set(dbsession.scalars(sa.select(Batch.status))) == {"DONE"}
        images = {row.id: row for row in dbsession.scalars(sa.select(Image))}
        refusals = dbsession.execute(sa.select(Outcome.batch_id, Outcome.path, Outcome.code).where(Outcome.kind != "conflict"))
        refused = {paths[source_of(batch, path)]: code for batch, path, code in refusals}
        known = instances_of(dbsession)
        # What DICOMweb does not serve, because another file with the same UID came first.
        conflicts = set(dbsession.scalars(sa.select(Outcome.image_id).where(Outcome.kind == "conflict")))
        for image in [images[key] for key in images.keys() - {one.image_id for one in known}]:
            assert image.id in conflicts
            assert locate(dbsession, image, importer.storage).read() == source_of(image.batch_id, image.path)
    for one in known:
        source = source_of(images[one.image_id].batch_id, one.path)
        if "/" in one.sop_uid:
            # It has no address of its own, only that of its series.
            series = uris.resource_url(ROOT, one.study_uid, one.series_uid)
            found = api.send("GET", series, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
            assert source in [content for _, content in parts(found)], one
            continue
        answer = api.send("GET", uris.resource_url(ROOT, one.study_uid, one.series_uid, one.sop_uid), headers={"Accept": "application/dicom; transfer-syntax=*"})
        assert (answer.status_int, answer.body) == (200, source), one
    assert len(images) + len(refused) == len(sources)
    assert len(known) > 400
    for path, code in refused.items():
        if "fuzz-corpus" in path.parts:
            continue
        if code == "missing-uid":
            ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            assert not all(ds.get(name) for name in UIDS), path
        elif code == "dicomdir":
            assert path.name.startswith("DICOMDIR")
        else:
            assert NOT_STORED.get(path.name) == code, path


def encapsulated(seed: str, syntax: str, fragments: list[bytes], **keywords: Any) -> bytes:
    ds = dicom_files.image(seed, PixelData=encapsulate(fragments), **keywords)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return dicom_files.file_bytes(ds, syntax)


def hostile_files(pydicom_files: tuple[Path, ...]) -> list[bytes]:
    """Images whose headers and pixels ask for more than there is, or are no pixels at all."""
    jpeg, j2k, jls, rle = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"
    headers: list[dict[str, Any]] = [
        {"Rows": 65535, "Columns": 65535}, {"Rows": 46341, "Columns": 46341}, {"Rows": 0}, {"BitsAllocated": 0}, {"BitsAllocated": 13}, {"SamplesPerPixel": 65535},
        {"NumberOfFrames": 2_147_483_647}, {"NumberOfFrames": -5}, {"BitsStored": 16, "HighBit": 40}, {"WindowWidth": "0"}, {"RescaleSlope": "0"},
        {"PhotometricInterpretation": "PALETTE COLOR"}, {"PhotometricInterpretation": "YBR_FULL_422", "SamplesPerPixel": 3}, {"PlanarConfiguration": 9, "SamplesPerPixel": 3},
        {"RescaleSlope": "1e300", "RescaleIntercept": "-1e300"}, {"BitsAllocated": 64, "Rows": 7000, "Columns": 8000}, {"BitsAllocated": 1, "NumberOfFrames": 99_999},
    ]  # fmt: skip
    made = [dicom_files.image_bytes(f"header/{number}", **changed) for number, changed in enumerate(headers)]
    fragments = {"text": b"not a picture! ", "empty": b"\0\0", "zeros": bytes(5000), "ones": b"\xff" * 5000, "start": b"\xff\xd8\xff\xd9"}
    for name, fragment in fragments.items():
        made += [encapsulated(f"{name}/{syntax}", syntax, [fragment]) for syntax in (jpeg, j2k, jls, rle)]
    # Real codestreams, cut off and with every 50th byte turned over.
    for name in ("SC_rgb_jpeg_dcmtk.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm"):
        ds = pydicom.dcmread(sample(pydicom_files, name))
        coded = next(generate_frames(ds.PixelData, number_of_frames=1))
        turned = bytes(byte ^ 0xFF if at > 100 and at % 50 == 0 else byte for at, byte in enumerate(coded))
        for number, damaged in enumerate((coded[: len(coded) // 2], turned)):
            ds.PixelData = encapsulate([damaged])
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = dicom_files.uid("instance", f"{name}/{number}")
            buffer = io.BytesIO()
            ds.save_as(buffer)
            made.append(buffer.getvalue())
    return made


def test_whatever_is_asked_of_hostile_files_there_is_an_answer(
    api: Any, importer: Importer, engine: sa.Engine, samples: Path, pydicom_files: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = [path for path in sorted((samples / "fuzz-corpus").rglob("*")) if path.is_file()]
    api_data.import_folder(importer, write(tmp_path / "in", *hostile_files(pydicom_files), *corpus))
    with work(engine, read_only=True) as dbsession:
        known = [one for one in instances_of(dbsession) if "/" not in one.sop_uid]
    assert len(known) > 120
    # Half a JPEG-LS keeps its decoder busy for ever.
    impatient = Renderer(seconds=3)
    monkeypatch.setitem(api.app.registry, "renderer", impatient)
    statuses: Counter[int] = Counter()
    for one in known:
        place = uris.resource_url(ROOT, one.study_uid, one.series_uid, one.sop_uid)
        for path, accept in (
            ("", f"application/dicom; transfer-syntax={LITTLE}"), ("/rendered", "image/png"), ("/pixeldata", OCTETS), ("/pixeldata", OCTETS + "; transfer-syntax=*"),
        ):  # fmt: skip
            answer = api.send("GET", place + path, headers={"Accept": accept})
            assert answer.status_int in (200, 404, 406, 413), (one, path, accept, answer.body[:200])
            statuses[answer.status_int] += 1
    impatient.close()
    assert statuses[200] > 100
    assert statuses[406] > 50
