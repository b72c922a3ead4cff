"""What becomes of each file of a folder: every class of outcome, produced by a real file."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.uid import ImplicitVRLittleEndian

from dicomweb import batches, index
from dicomweb.db import work
from dicomweb.imports import reading
from dicomweb.models import Batch, Image, Outcome, Patient, Series, Study
from dicomweb.settings import Settings
from tests.dicom_files import (
    deeply_nested_bytes,
    dicomdir_bytes,
    image_bytes,
    truncated_bytes,
    uid,
    write_series,
)
from tests.importing import (
    bytes_of,
    changed,
    check_consistency,
    claim_folder,
    codes_of,
    drain,
    drain_everything,
    images_of,
    import_folder,
    importer_of,
    outcomes_of,
    reload,
    rows,
    storage_of,
    without_privileges,
)


@pytest.fixture
def folder(settings: Settings) -> Path:
    """An empty folder in the watched root."""
    folder: Path = settings["watch.folders"][0] / "knee"
    folder.mkdir()
    return folder


def many_elements_bytes(count: int, seed: object = None) -> bytes:
    extra = b"".join(struct.pack("<HHI", 0x0041, 0x1000 + number, 0) for number in range(count))
    return image_bytes(seed, ImplicitVRLittleEndian, PixelData=None, Rows=None) + extra


def test_a_folder_becomes_a_batch_with_all_its_images(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    files = write_series(folder / "a", 5, seed=1) + write_series(folder / "b" / "c", 3, seed=2)
    (folder / ".done").touch()
    batch = import_folder(engine, settings, folder)
    assert (batch.name, batch.status, batch.has_error) == ("knee", "DONE", False)
    assert (batch.file_count, batch.image_count, batch.notice_count) == (8, 8, 0)
    images = images_of(engine, batch)
    assert set(images) == {str(path.relative_to(folder)) for path in files}
    assert all(bytes_of(engine, settings, images[str(path.relative_to(folder))]) == path.read_bytes() for path in files)
    assert [image.instance_number for _, image in sorted(images.items())] == [1, 2, 3, 4, 5, 1, 2, 3]
    assert [len(rows(engine, sa.select(model))) for model in (Series, Study, Patient)] == [2, 2, 1]
    check_consistency(engine, storage_of(settings))


def test_an_empty_folder_is_done(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    batch = import_folder(engine, settings, folder)
    assert (batch.status, batch.file_count, batch.has_error) == ("DONE", 0, False)
    check_consistency(engine, storage_of(settings))


BROKEN = {
    "empty.dcm": (b"", "not-dicom", "The file is empty."),
    "one": (b"x", "not-dicom", "This is no DICOM file"),
    "text.txt": (b"a text\n" * 40, "not-dicom", "This is no DICOM file"),
    "photo.jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(200), "not-dicom", "This is no DICOM file"),
    "paper.pdf": (b"%PDF-1.7\n" + bytes(300), "not-dicom", "This is no DICOM file"),
    "cut.dcm": (truncated_bytes(0.9, seed="cut"), "truncated", "The file ends at byte"),
    "no-instance.dcm": (image_bytes("a", SOPInstanceUID=None), "missing-uid", "The file lacks SOPInstanceUID."),
    "no-study.dcm": (
        image_bytes("b", StudyInstanceUID=None, SeriesInstanceUID=""),
        "missing-uid",
        "The file lacks StudyInstanceUID, SeriesInstanceUID.",
    ),
    "deep.dcm": (deeply_nested_bytes(40, seed="deep"), "too-deep", "deep"),
    "many.dcm": (many_elements_bytes(600, seed="many"), "too-many-elements", "elements"),
}


def test_each_broken_file_has_its_code_and_sentence_and_harms_no_other(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    for name, (data, _, _) in BROKEN.items():
        (folder / name).write_bytes(data)
    (folder / "large.dcm").write_bytes(image_bytes("large") + bytes(30_000))
    write_series(folder, 3, seed=1)
    limited = changed(settings, headers__max_elements="500", import__max_file_bytes="20000")
    batch = import_folder(engine, limited, folder)
    outcomes = outcomes_of(engine, batch)
    expected = {name: code for name, (_, code, _) in BROKEN.items()} | {"large.dcm": "too-large"}
    assert {path: outcome.code for path, outcome in outcomes.items()} == expected
    for name, (_, _, sentence) in BROKEN.items():
        assert sentence in outcomes[name].message, name
    assert "20,000" in outcomes["large.dcm"].message
    assert {outcome.kind for outcome in outcomes.values()} == {"error"}
    assert all(outcome.size == (folder / path).stat().st_size for path, outcome in outcomes.items())
    assert (batch.status, batch.has_error, batch.image_count) == ("DONE", True, 3)
    assert batch.error_count == len(expected)
    check_consistency(engine, storage_of(settings))


def test_a_uid_that_no_index_can_hold_is_refused_and_one_that_is_only_too_long_is_kept(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    whole = image_bytes("x", ImplicitVRLittleEndian, PixelData=None, Rows=None)
    old = uid("series", "x").encode()
    element = struct.pack("<HHI", 0x0020, 0x000E, len(old) + len(old) % 2)
    start = whole.index(element)
    end = start + len(element) + len(old) + len(old) % 2

    def with_series(value: bytes) -> bytes:
        return whole[:start] + struct.pack("<HHI", 0x0020, 0x000E, len(value)) + value + whole[end:]

    (folder / "300").write_bytes(with_series(b"1." * 149 + b"11"))
    (folder / "70").write_bytes(with_series(b"1." * 34 + b"11"))
    batch = import_folder(engine, settings, folder)
    assert codes_of(engine, batch) == {"300": "bad-uid", "70": "imported"}
    assert "SeriesInstanceUID" in outcomes_of(engine, batch)["300"].message
    assert rows(engine, sa.select(Series))[0].series_instance_uid == "1." * 34 + "11"
    check_consistency(engine, storage_of(settings))


def test_what_the_walker_finds_unreadable_is_read_by_pydicom(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    # An element that is longer than its item: the walker refuses it, pydicom reads on.
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 8) + struct.pack("<HHI", 0x0008, 0x0104, 4) + b"code"
    sequence = struct.pack("<HHI", 0x0040, 0xA730, len(item)) + item
    whole = image_bytes("odd", ImplicitVRLittleEndian, PixelData=None, Rows=None)
    (folder / "odd").write_bytes(whole + sequence)
    (folder / "worse").write_bytes(image_bytes("worse")[:400] + b"\xff" * 600)
    write_series(folder, 2, seed=1)
    batch = import_folder(engine, settings, folder)
    codes = codes_of(engine, batch)
    assert codes["odd"] == "imported"
    assert codes["worse"] in ("unreadable", "truncated")
    assert batch.image_count == 3
    check_consistency(engine, storage_of(settings))


def test_a_file_that_may_not_be_read_is_refused_and_is_imported_by_a_retry(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    files = write_series(folder, 3, seed=1)
    files[1].chmod(0)
    with without_privileges(engine):
        batch = import_folder(engine, settings, folder)
    assert codes_of(engine, batch)["IM00002.dcm"] == "permission-denied"
    assert outcomes_of(engine, batch)["IM00002.dcm"].message == "The importer may not read this file."
    check_consistency(engine, storage_of(settings))
    files[1].chmod(0o600)
    assert retry(engine, settings, batch) == 1
    batch = reload(engine, batch)
    assert (batch.image_count, batch.has_error, batch.status) == (3, False, "DONE")
    check_consistency(engine, storage_of(settings))


def test_a_folder_that_may_not_be_listed_is_one_error_and_is_scanned_by_a_retry(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder / "open", 2, seed=1)
    write_series(folder / "shut" / "below", 3, seed=2)
    write_series(folder / "shut too", 2, seed=3)
    (folder / "shut").chmod(0)
    (folder / "shut too").chmod(0)
    with without_privileges(engine):
        batch = import_folder(engine, settings, folder)
    codes = codes_of(engine, batch)
    assert codes.pop("shut") == codes.pop("shut too") == "folder-unreadable"
    assert set(codes.values()) == {"imported"}
    assert "Permission denied" in outcomes_of(engine, batch)["shut"].message
    check_consistency(engine, storage_of(settings))
    (folder / "shut").chmod(0o700)
    (folder / "shut too").chmod(0o700)
    assert retry(engine, settings, batch) == 2
    batch = reload(engine, batch)
    assert (batch.image_count, batch.file_count, batch.has_error, batch.status) == (7, 7, False, "DONE")
    check_consistency(engine, storage_of(settings))


def test_a_batch_whose_folder_is_gone_says_so(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    claimed = claim_folder(engine, folder)
    folder.rmdir()
    drain_everything(importer_of(engine, settings))
    batch = reload(engine, claimed)
    assert (batch.status, batch.has_error) == ("DONE", True)
    assert codes_of(engine, batch) == {"": "folder-unreadable"}
    check_consistency(engine, storage_of(settings))


def test_links_and_special_files_are_named_and_never_followed(
    engine: sa.Engine, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    outside = write_series(tmp_path / "outside", 2, seed=9)
    write_series(folder, 2, seed=1)
    (folder / "link").symlink_to(outside[0])
    (folder / "folder-link").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(folder, os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{here}/socket")
        devices = make_device(folder / "device")
        batch = import_folder(engine, settings, folder)
    finally:
        os.close(here)
        listener.close()
    codes = codes_of(engine, batch)
    special = {"link", "folder-link", "loop", "dangling", "fifo", "socket", *devices}
    assert {path for path, code in codes.items() if code == "not-a-file"} == special
    assert batch.image_count == 2
    assert "link" in outcomes_of(engine, batch)["link"].message
    assert "pipe" in outcomes_of(engine, batch)["fifo"].message
    check_consistency(engine, storage_of(settings))
    # Read once more by a retry, which opens them: still nothing is followed, and nothing hangs.
    assert retry(engine, settings, batch) == len(special)
    assert {path for path, code in codes_of(engine, batch).items() if code == "not-a-file"} == special
    check_consistency(engine, storage_of(settings))


def make_device(path: Path) -> list[str]:
    """Make a device like /dev/zero, where that is allowed."""
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        return []
    return [path.name]


def test_what_is_swapped_in_after_the_scan_is_not_followed(
    engine: sa.Engine, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    outside = write_series(tmp_path / "outside", 2, seed=9)
    write_series(folder / "a", 2, seed=1)
    write_series(folder / "b", 2, seed=2)
    files = write_series(folder / "c", 4, seed=3)
    batch = claim_folder(engine, folder)
    importer = importer_of(engine, settings)
    assert drain(importer, most=1) == 1
    shutil.rmtree(folder / "a")
    (folder / "a").symlink_to(tmp_path / "outside")
    shutil.rmtree(folder / "b")
    files[0].unlink()
    files[0].symlink_to(outside[0])
    files[1].unlink()
    os.mkfifo(files[1])
    files[2].unlink()
    files[2].mkdir()
    drain_everything(importer)
    assert codes_of(engine, batch) == {
        "a/IM00001.dcm": "not-a-file",
        "a/IM00002.dcm": "not-a-file",
        "b/IM00001.dcm": "file-gone",
        "b/IM00002.dcm": "file-gone",
        "c/IM00001.dcm": "not-a-file",
        "c/IM00002.dcm": "not-a-file",
        "c/IM00003.dcm": "not-a-file",
        "c/IM00004.dcm": "imported",
    }
    check_consistency(engine, storage_of(settings))


def test_any_name_a_file_system_allows_is_imported_under_it(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    names = [
        b"new\nline.dcm",
        b"latin-\xe9\xff.dcm",
        b"-rf",
        b"back\\slash\\x41",
        b"\x01\x1b[31mred",
        "ümläut 画像".encode(),
        b"x" * 255,
        b"<script>alert(1)<script>",
        b" ",
        b"...",
    ]
    for number, name in enumerate(names):
        (Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))).write_bytes(image_bytes(number))
    below = os.path.join(os.fsencode(folder), b"folder\n\xfe")
    os.mkdir(below)
    with open(os.path.join(below, b"bad\xff"), "wb") as file:
        file.write(b"no image")
    batch = import_folder(engine, settings, folder)
    codes = {os.fsencode(path): code for path, code in codes_of(engine, batch).items()}
    assert codes == dict.fromkeys(names, "imported") | {b"folder\n\xfe/bad\xff": "not-dicom"}
    check_consistency(engine, storage_of(settings))
    with open(os.path.join(below, b"bad\xff"), "wb") as file:
        file.write(image_bytes("repaired"))
    assert retry(engine, settings, batch) == 1
    assert set(codes_of(engine, batch).values()) == {"imported"}
    check_consistency(engine, storage_of(settings))


def test_a_path_longer_than_the_system_opens_at_once_is_an_outcome_too(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 1, seed=1)
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("y" * 250, dir_fd=fd)
        below = os.open("y" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("deep.dcm", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "wb") as file:
        file.write(image_bytes("deep"))
    os.close(fd)
    batch = import_folder(engine, settings, folder)
    assert Counter(codes_of(engine, batch).values()) == {"imported": 1, "name-too-long": 1}
    check_consistency(engine, storage_of(settings))


def test_files_of_the_system_and_dicomdirs_are_skipped_with_a_notice(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 2, seed=1)
    (folder / "DICOMDIR").write_bytes(dicomdir_bytes(seed=5))
    (folder / "renamed").write_bytes(dicomdir_bytes(seed=6))
    for name in (".DS_Store", "Thumbs.db", "._IM00001.dcm", "desktop.ini"):
        (folder / name).write_bytes(b"system")
    (folder / "sub").mkdir()
    (folder / "sub" / ".done").touch()
    (folder / ".done").touch()
    batch = import_folder(engine, settings, folder)
    codes = codes_of(engine, batch)
    assert codes["DICOMDIR"] == codes["renamed"] == "dicomdir"
    assert Counter(codes.values()) == {"imported": 2, "dicomdir": 2, "system-file": 4, "not-dicom": 1}
    assert codes["sub/.done"] == "not-dicom"
    assert ".done" not in codes
    assert batch.notice_count == 6
    kinds = {outcome.kind for path, outcome in outcomes_of(engine, batch).items() if path != "sub/.done"}
    assert kinds == {"skipped"}
    check_consistency(engine, storage_of(settings))


def test_the_same_file_twice_is_stored_once_and_the_second_links_the_first(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    [original] = write_series(folder / "a", 1, seed=1)
    shutil.copy(original, folder / "copy.dcm")
    (folder / "z").mkdir()
    shutil.copy(original, folder / "z" / "copy.dcm")
    first = import_folder(engine, settings, folder)
    assert (first.image_count, first.notice_count, first.error_count, first.has_error) == (1, 2, 0, False)
    [image] = images_of(engine, first).values()
    assert image.path == "a/IM00001.dcm"
    assert {row.image_id for row in outcomes_of(engine, first).values()} == {image.id}
    check_consistency(engine, storage_of(settings))

    again = settings["watch.folders"][0] / "again"
    again.mkdir()
    shutil.copy(original, again / "other name")
    second = import_folder(engine, settings, again)
    assert (second.image_count, second.notice_count, second.status) == (0, 1, "DONE")
    [notice] = outcomes_of(engine, second).values()
    assert (notice.kind, notice.code, notice.image_id) == ("duplicate", "duplicate", image.id)
    assert notice.message == "The same file is already here; no second copy was made."
    check_consistency(engine, storage_of(settings))


def test_other_bytes_under_the_same_instance_are_a_conflict_and_both_are_kept(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    versions = [image_bytes(1, StudyDescription=text) for text in ("first", "second", "third")]
    for name, data in zip("abc", versions, strict=True):
        (folder / name).write_bytes(data)
    (folder / "d").write_bytes(versions[1])
    batch = import_folder(engine, settings, folder)
    assert codes_of(engine, batch) == {"a": "imported", "b": "conflict", "c": "conflict", "d": "duplicate"}
    assert (batch.image_count, batch.error_count, batch.notice_count, batch.has_error) == (3, 2, 1, True)
    images, outcomes = images_of(engine, batch), outcomes_of(engine, batch)
    assert [images[name].version for name in "abc"] == [0, 1, 2]
    assert [bytes_of(engine, settings, images[name]) for name in "abc"] == versions
    for name in "bc":
        assert (outcomes[name].image_id, outcomes[name].other_image_id) == (images[name].id, images["a"].id)
        assert outcomes[name].message.endswith("both are kept.")
    assert outcomes["d"].image_id == images["b"].id
    check_consistency(engine, storage_of(settings))

    other = settings["watch.folders"][0] / "other"
    other.mkdir()
    (other / "e").write_bytes(image_bytes(1, StudyDescription="fourth"))
    second = import_folder(engine, settings, other)
    [conflict] = outcomes_of(engine, second).values()
    assert (conflict.kind, conflict.other_image_id) == ("conflict", images["a"].id)
    assert images_of(engine, second)["e"].version == 3
    assert retry(engine, settings, second) == 0
    check_consistency(engine, storage_of(settings))


def test_the_same_instance_in_two_series_is_a_conflict_and_both_series_have_an_image(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    for name in "ab":
        (folder / name).write_bytes(image_bytes(1, SeriesInstanceUID=uid("series", name)))
    batch = import_folder(engine, settings, folder)
    assert codes_of(engine, batch) == {"a": "imported", "b": "conflict"}
    assert len(rows(engine, sa.select(Series))) == 2
    check_consistency(engine, storage_of(settings))


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_is_written_while_it_is_read_is_refused_and_its_bytes_are_not_kept(
    engine: sa.Engine, settings: Settings, folder: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real writer appends as fast as it can; the file before it in the chunk would be hurt by a wrong offset."""
    changing = folder / "a-changing.dcm"
    changing.write_bytes(image_bytes("changing") + bytes(8 << 20))
    files = write_series(folder / "z", 3, seed=1)
    stop = threading.Event()

    def write() -> None:
        with changing.open("ab") as file:
            size = 0
            while not stop.is_set():
                file.write(b"more")
                file.flush()
                size += 4
                if size > 64 << 20:
                    return

    batch = claim_folder(engine, folder)
    importer = importer_of(engine, settings)
    drain(importer, most=1)
    if large:
        monkeypatch.setattr(reading, "WHOLE_FILE_BYTES", 1 << 20)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        drain_everything(importer)
    finally:
        stop.set()
        writer.join()
    codes = codes_of(engine, batch)
    assert codes.pop("a-changing.dcm") == "changed-while-reading"
    assert set(codes.values()) == {"imported"}
    for path in files:
        assert bytes_of(engine, settings, images_of(engine, batch)[f"z/{path.name}"]) == path.read_bytes()
    check_consistency(engine, storage_of(settings))


def test_a_large_file_is_copied_block_by_block_and_comes_out_the_same(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    """One byte more than what is read whole."""
    whole = reading.WHOLE_FILE_BYTES
    data = image_bytes("large", Rows=4096, Columns=4200, PixelData=bytes(2 * 4096 * 4200))
    assert len(data) > whole
    (folder / "large.dcm").write_bytes(data)
    (folder / "cut.dcm").write_bytes(data[: whole + 1])
    [small] = write_series(folder, 1, seed=1)
    batch = import_folder(engine, settings, folder)
    assert codes_of(engine, batch) == {"large.dcm": "imported", "IM00001.dcm": "imported", "cut.dcm": "truncated"}
    images = images_of(engine, batch)
    assert bytes_of(engine, settings, images["large.dcm"]) == data
    assert bytes_of(engine, settings, images["IM00001.dcm"]) == small.read_bytes()
    check_consistency(engine, storage_of(settings))


def raw_bytes(**values: bytes) -> bytes:
    """A file without meta information whose elements hold these bytes; named by tag, as ``x00100020``."""
    needed = {
        "x00080016": b"1.2.840.10008.5.1.4.1.1.66",
        "x00080018": uid("instance", repr(values)[:80]).encode(),
        "x0020000d": b"1.2.3",
        "x0020000e": b"1.2.3.4",
    }
    data = bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    for tag, value in sorted((needed | values).items()):
        value += b" " * (len(value) % 2)
        data += struct.pack("<HHI", int(tag[1:5], 16), int(tag[5:], 16), len(value)) + value
    return data


def test_hostile_header_values_become_rows_and_no_more(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    utf8 = {"x00080005": b"ISO_IR 192"}
    wide = "".join(chr(0x20000 + (number * 7919) % 40000) for number in range(3000)).encode()
    hostile = {
        "nul": {"x00100020": b"a\0b\0", "x00100010": b"\0\0\0x", "x00200010": b"\0", "x00081030": b"\x1b[0m"},
        "sql": {"x00100020": b"'; DROP TABLE image; --", "x00200010": b"%s {} \\", "x00080060": b"CT\\MR"},
        "patient": utf8 | {"x00100020": wide, "x00100010": wide, "x00100030": wide[:2000], "x0020000d": b"1.2.5"},
        "study": utf8 | {"x00080020": wide, "x00080050": wide, "x00080060": wide, "x0020000d": b"1.2.6"},
        "instance": utf8 | {"x00080018": wide[:240], "x0020000d": wide[:240], "x0020000e": wide[4000:4240]},
        "number": {"x00200013": b"99999999999999999999", "x00200011": b"\xff\xfe", "x00201041": b"1e999"},
        "surrogate": utf8 | {"x00100010": b"\xed\xa0\x80\xff\xf8", "x00081030": b"\xc0\x80"},
        "path": {"x00080018": b"../../../../tmp/x", "x0020000e": b"/etc/passwd"},
        "uid-nul": {"x00080018": b"1.2\x003.4", "x0020000e": b"1.2\0"},
        "html": {"x00100010": b"<script>alert(1)</script>", "x00080018": b"<b>", "x0020000e": b"<i>"},
    }
    for name, values in hostile.items():
        (folder / name).write_bytes(raw_bytes(**values))
    batch = import_folder(engine, settings, folder)
    assert codes_of(engine, batch) == dict.fromkeys(hostile, "imported")
    check_consistency(engine, storage_of(settings))


def test_a_batch_takes_the_name_of_its_folder_and_a_number_when_it_is_taken(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    names = [claim_folder(engine, folder, stamp=f"{n}").name for n in range(3)]
    other = folder.parent / "sub" / "knee"
    other.mkdir(parents=True)
    names.append(claim_folder(engine, other).name)
    assert names == ["knee", "knee (2)", "knee (3)", "knee (4)"]
    odd = folder.parent / "new\nline\\ %_"
    odd.mkdir()
    assert claim_folder(engine, odd).name == "new?line\\\\ %_"
    assert claim_folder(engine, odd).name == "new?line\\\\ %_ (2)"
    drain_everything(importer_of(engine, settings))
    check_consistency(engine, storage_of(settings))


def test_importing_the_same_folder_again_changes_nothing_but_notices(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 12, seed=1)
    (folder / "conflict").write_bytes(image_bytes("1/0", StudyDescription="other"))
    (folder / "text").write_bytes(b"no image")
    first = import_folder(engine, settings, folder)
    before = rows(engine, sa.select(Image.id, Image.header_key).order_by(Image.id))
    packs = sorted(storage_of(settings).root.rglob("*.pack"))
    again = import_folder(engine, settings, folder)
    assert again.name == "knee (2)"
    assert rows(engine, sa.select(Image.id, Image.header_key).order_by(Image.id)) == before
    assert sorted(storage_of(settings).root.rglob("*.pack")) == packs
    assert Counter(codes_of(engine, again).values()) == {"duplicate": 13, "not-dicom": 1}
    assert reload(engine, first).image_count == 13
    check_consistency(engine, storage_of(settings))


def test_a_retry_imports_what_was_repaired_and_keeps_the_other_outcomes(
    engine: sa.Engine, settings: Settings, folder: Path
) -> None:
    write_series(folder, 3, seed=1)
    (folder / "cut.dcm").write_bytes(truncated_bytes(0.5, seed="cut"))
    (folder / "text").write_bytes(b"no image")
    (folder / "conflict").write_bytes(image_bytes("1/0", StudyDescription="other"))
    batch = import_folder(engine, settings, folder)
    assert batch.error_count == 3
    (folder / "cut.dcm").write_bytes(image_bytes("cut"))
    assert retry(engine, settings, batch) == 2
    batch = reload(engine, batch)
    codes = codes_of(engine, batch)
    assert (codes["cut.dcm"], codes["text"], codes["conflict"]) == ("imported", "not-dicom", "conflict")
    assert (batch.status, batch.error_count, batch.has_error, batch.image_count) == ("DONE", 2, True, 5)
    check_consistency(engine, storage_of(settings))


def retry(engine: sa.Engine, settings: Settings, batch: Batch) -> int:
    """Have the failed files imported again, and do it."""
    importer = importer_of(engine, settings)
    with importer.work() as dbsession:
        row = dbsession.get_one(Batch, batch.id)
        count = batches.retry(dbsession, row, chunk_files=2, now=importer.clock())
    drain_everything(importer)
    return count


def test_the_headers_of_what_was_imported_are_searchable(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    write_series(folder, 10, seed=1)
    batch = import_folder(engine, settings, folder)
    with work(engine, read_only=True) as dbsession:
        assert index.count(dbsession, index.Between("00201041", 2.5, 5.0)) == 3
        assert index.count(dbsession, index.OfBatches(sa.select(Batch.id).where(Batch.id == batch.id))) == 10


def test_all_sample_files_of_one_folder_have_one_outcome_each(
    engine: sa.Engine, settings: Settings, samples: Path
) -> None:
    batch = claim_folder(engine, samples)
    importer = importer_of(engine, settings)
    drain_everything(importer)
    batch = reload(engine, batch)
    files = [path for path in samples.rglob("*") if path.is_file() or path.is_symlink()]
    assert batch.file_count == batch.done_count == len(files)
    assert batch.status == "DONE"
    check_consistency(engine, storage_of(settings))
    found = Counter(codes_of(engine, batch).values())
    assert found == SAMPLE_OUTCOMES, found


# Of 540 DICOM files and their inventory, which is a text.
SAMPLE_OUTCOMES = {
    "imported": 418,
    "conflict": 38,
    "truncated": 52,
    "missing-uid": 19,
    "dicomdir": 7,
    "not-dicom": 5,
    "bad-uid": 1,
    "too-deep": 1,
}


def test_a_failed_file_says_nothing_of_the_header(engine: sa.Engine, settings: Settings, folder: Path) -> None:
    (folder / "a").write_bytes(truncated_bytes(0.9, seed=1, PatientName="Secret^Name", PatientID="SECRET"))
    (folder / "b").write_bytes(image_bytes(2, PatientName="Secret^Name", SOPInstanceUID=None))
    import_folder(engine, settings, folder)
    messages = rows(engine, sa.select(Outcome.message))
    assert len(messages) == 2
    assert not any("secret" in message.lower() for message in messages)
