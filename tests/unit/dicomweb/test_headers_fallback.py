"""pydicom in a bounded child: the same header for what both read, and never a success for half a file."""

import struct
from pathlib import Path

import orjson
import pytest

from dicomweb.headers import HeaderError, TooDeep, TooLarge, Truncated, Unreadable, read_header
from dicomweb.headers.fallback import read_with_pydicom
from tests.dicom_files import deeply_nested_bytes, image_bytes


def written(folder: Path, data: bytes) -> Path:
    path = folder / "file.dcm"
    path.write_bytes(data)
    return path


def test_both_readings_give_the_same_header(tmp_path: Path) -> None:
    data = image_bytes(1)
    ours, theirs = read_header(data), read_with_pydicom(written(tmp_path, data))
    assert theirs.elements == ours.elements
    assert {t: orjson.loads(j) for t, j in theirs.json.items()} == {t: orjson.loads(j) for t, j in ours.json.items()}
    assert theirs.pixel_data == ours.pixel_data
    assert theirs.transfer_syntax_uid == ours.transfer_syntax_uid
    assert theirs.warnings == ["read-by-pydicom"]


def test_an_element_that_is_longer_than_its_item_is_read_by_pydicom_alone(tmp_path: Path) -> None:
    data = image_bytes(1)
    at = data.index(struct.pack("<HH2s", 0x0008, 0x1140, b"SQ")) + 16
    length = struct.unpack_from("<I", data, at)[0]
    data = data[:at] + struct.pack("<I", length - 2) + data[at + 4 :]
    with pytest.raises(Unreadable):
        read_header(data)
    header = read_with_pydicom(written(tmp_path, data))
    assert header.value("00100020") == "P0001"
    assert header.pixel_data is not None


def test_a_truncated_file_stays_truncated(tmp_path: Path) -> None:
    data = image_bytes(1)
    for length in (len(data) - 1, len(data) - 300, len(data) // 2):
        with pytest.raises((Truncated, Unreadable)):
            read_with_pydicom(written(tmp_path, data[:length]))


def test_a_file_that_is_too_deep_stays_so(tmp_path: Path) -> None:
    for depth in (40, 3000):
        with pytest.raises((TooDeep, Unreadable)):
            read_with_pydicom(written(tmp_path, deeply_nested_bytes(depth, 1)))


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello, I am text\n" * 30):
        with pytest.raises(HeaderError):
            read_with_pydicom(written(tmp_path, data))


def test_the_child_is_bounded_in_time_and_memory(tmp_path: Path) -> None:
    path = written(tmp_path, image_bytes(1, PixelData=bytes(48 << 20)))
    with pytest.raises(Unreadable, match="longer than"):
        read_with_pydicom(path, timeout=0.01)
    with pytest.raises((TooLarge, Unreadable), match=r"memory|bounds"):
        read_with_pydicom(path, memory=32 << 20)
