"""What read_header gives: paths, values, JSON, positions and warnings of small files."""

import struct
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from dicomweb.headers import HeaderError, NotDicom, PixelData, forget, read_header
from dicomweb.headers.memo import Memo
from dicomweb.headers.model import Header
from tests.dicom_files import dicomdir_bytes, file_bytes, image, image_bytes


def meta_of(data: bytes) -> tuple[bytes, bytes]:
    """Return the part of a file up to its dataset, and the dataset."""
    end = 144 + struct.unpack_from("<I", data, 140)[0]
    return data[:end], data[end:]


def element(group: int, number_: int, vr: bytes, value: bytes) -> bytes:
    """Return an explicit little endian element with a short length."""
    return struct.pack("<HH2sH", group, number_, vr, len(value)) + value


def with_extra(extra: bytes, **keywords: Any) -> bytes:
    """Return an image without pixel data, with bytes behind it."""
    return image_bytes(1, SOPClassUID=BasicTextSRStorage, Rows=None, PixelData=None, **keywords) + extra


def json_of(header: Header) -> dict[str, Any]:
    return {tag: orjson.loads(fragment) for tag, fragment in header.json.items()}


def test_paths_name_nested_and_private_elements() -> None:
    header = read_header(image_bytes(1))
    assert header.warnings == []
    assert header.transfer_syntax_uid == ExplicitVRLittleEndian
    assert header.value("00080060") == "CT"
    assert header.value("00081140/00081155").startswith("1.2.826")
    assert header.value("0019[EXAMPLE PRIVATE 1.0]02") == "private text"
    assert header.values("00200032") == ("-10", "-20", "0")
    assert header.value("00100010") == "Müller^Jürgen"
    assert header.value("00020010") == ExplicitVRLittleEndian
    assert header.value("00189999") == ""


def test_elements_are_in_file_order_and_json_in_tag_order_without_file_meta() -> None:
    header = read_header(image_bytes(1))
    assert [e.path for e in header.elements[:2]] == ["00020000", "00020001"]
    assert list(header.json) == sorted(header.json)
    assert not any(tag.startswith("0002") for tag in header.json)
    assert orjson.loads(header.meta["00020010"]) == {"vr": "UI", "Value": [ExplicitVRLittleEndian]}


def test_json_is_the_model_of_the_standard() -> None:
    ds = image(
        1, PatientComments="a\\b", OtherPatientNames=["A^B=ア^イ", "", "C"], SliceLocation="", WindowCenter=["40", "50"]
    )
    ds.add_new(0x00080006, "SQ", Sequence([]))
    ds.add_new(0x00409224, "FD", float("inf"))
    json = json_of(read_header(file_bytes(ds)))
    assert json["00104000"] == {"vr": "LT", "Value": ["a\\b"]}
    assert json["00101001"] == {
        "vr": "PN",
        "Value": [{"Alphabetic": "A^B", "Ideographic": "ア^イ"}, None, {"Alphabetic": "C"}],
    }
    assert json["00201041"] == {"vr": "DS"}
    assert json["00281050"] == {"vr": "DS", "Value": [40, 50]}
    assert json["00080006"] == {"vr": "SQ"}
    assert json["00409224"] == {"vr": "FD", "Value": ["inf"]}
    assert json["7FE00010"] == {"vr": "OW", "BulkDataURI": "\x017FE00010"}
    assert json["00190010"] == {"vr": "LO", "Value": ["EXAMPLE PRIVATE 1.0"]}


def test_an_unknown_creator_leaves_an_empty_name() -> None:
    header = read_header(with_extra(element(0x4001, 0x1002, b"LO", b"ab")))
    assert header.value("4001[]02") == "ab"


def test_a_creator_cannot_forge_a_path() -> None:
    extra = element(0x4001, 0x10, b"LO", b"A]02/0010[x%\n ") + element(0x4001, 0x1002, b"LO", b"ab")
    header = read_header(with_extra(extra))
    assert header.value("4001[A%5D02%2F0010%5Bx%25%0A]02") == "ab"


def test_short_unknown_values_are_searchable_as_text() -> None:
    long = struct.pack("<HH2sHI", 0x4001, 0x1003, b"UN", 0, 66) + b"x" * 66
    text = struct.pack("<HH2sHI", 0x4001, 0x1004, b"UN", 0, 4) + b"abc "
    other = struct.pack("<HH2sHI", 0x4001, 0x1005, b"UN", 0, 2) + b"\0\1"
    header = read_header(with_extra(long + text + other))
    assert [header.value(f"4001[]0{n}") for n in (3, 4, 5)] == ["<66 bytes>", "abc", "<2 bytes>"]


def test_large_values_are_bulk_data_named_with_item_numbers() -> None:
    inner = Dataset()
    inner.add_new(0x00420011, "OB", bytes(2000))
    ds = image(1)
    ds.add_new(0x0040B020, "SQ", Sequence([Dataset(), inner]))
    ds.add_new(0x00420011, "OB", bytes(1024))
    json = json_of(read_header(file_bytes(ds)))
    assert json["0040B020"]["Value"][1]["00420011"] == {"vr": "OB", "BulkDataURI": "\x010040B020/1/00420011"}
    assert "InlineBinary" in json["00420011"]


def test_a_sequence_with_bulk_data_keeps_its_item_numbers_in_every_place() -> None:
    # The same sequence in the first and in the second item must not be answered from the memo with the first one's names.
    deep = Dataset()
    deep.add_new(0x00420011, "OB", bytes(1500))
    middle = Dataset()
    middle.add_new(0x0040B020, "SQ", Sequence([deep]))
    ds = image(1)
    ds.add_new(0x0040A730, "SQ", Sequence([middle, middle]))
    forget()
    for _ in range(2):
        items = json_of(read_header(file_bytes(ds)))["0040A730"]["Value"]
        uris = [item["0040B020"]["Value"][0]["00420011"]["BulkDataURI"] for item in items]
        assert uris == [f"\x010040A730/{n}/0040B020/0/00420011" for n in (0, 1)]


def test_a_numeric_vector_is_searchable_by_its_first_values() -> None:
    ds = image(1, RedPaletteColorLookupTableData=None)
    ds.add_new(0x00186060, "FL", [float(n) for n in range(300)])
    ds.add_new(0x30060050, "DS", [str(n) for n in range(300)])
    header = read_header(file_bytes(ds))
    assert len(header.values("00186060")) == len(header.values("30060050")) == 256
    assert "BulkDataURI" in json_of(header)["00186060"]
    assert len(json_of(header)["30060050"]["Value"]) == 300


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_pixel_data_is_told_by_its_bytes(syntax: str) -> None:
    ds = image(1)
    data = file_bytes(ds, syntax)
    header = read_header(data)
    assert header.pixel_data == PixelData(len(data) - 512, 512, False)
    assert data[header.pixel_data.offset :] == ds.PixelData


def test_fragments_are_told_by_their_bytes() -> None:
    frames = [b"\xff\xd8" + bytes([n]) * 10 for n in range(3)]
    ds = image(1, NumberOfFrames="3", PixelData=encapsulate(frames))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    data = file_bytes(ds, JPEGBaseline8Bit)
    pixels = read_header(data).pixel_data
    assert pixels is not None
    assert pixels.encapsulated
    assert [data[offset : offset + length] for offset, length in pixels.fragments] == frames
    start = pixels.fragments[0][0] - 8
    assert [start + offset + 8 for offset in pixels.frame_offsets] == [offset for offset, _ in pixels.fragments]
    assert data[pixels.offset + pixels.length :][:4] == b"\xfe\xff\xdd\xe0"


def test_an_extended_offset_table_is_used_where_the_basic_one_is_empty() -> None:
    ds = image(1, NumberOfFrames="2", PixelData=encapsulate([b"a" * 10, b"b" * 10], has_bot=False))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.ExtendedOffsetTable = struct.pack("<2Q", 0, 18)
    ds.ExtendedOffsetTableLengths = struct.pack("<2Q", 10, 10)
    pixels = read_header(file_bytes(ds, JPEGBaseline8Bit)).pixel_data
    assert pixels is not None
    assert pixels.frame_offsets == (0, 18)


def test_a_large_file_is_read_through_a_window() -> None:
    ds = image(1, Rows=1500, Columns=1500, PixelData=bytes(4_500_000))
    ds["PixelData"].VR = "OW"
    ds.add_new(0xFFFCFFFC, "OB", bytes(100))
    data = file_bytes(ds)
    asked: list[int] = []

    def pread(position: int, count: int) -> bytes:
        asked.append(count)
        return data[position : position + count]

    whole = read_header(data)
    for first in (400, 1000, 4096):
        asked.clear()
        part = read_header(data[:first], size=len(data), pread=pread)
        assert part.elements == whole.elements
        assert part.json == whole.json
        assert part.pixel_data == whole.pixel_data
        assert sum(asked) < 600_000
    assert read_header(memoryview(data)).elements == whole.elements


def test_a_deflated_file_has_no_pixel_positions() -> None:
    header = read_header(image_bytes(1, DeflatedExplicitVRLittleEndian))
    assert header.pixel_data is None
    assert header.value("00080060") == "CT"
    assert header.warnings == []


def test_what_lies_behind_a_large_value_of_a_deflated_file_is_read() -> None:
    ds = image(1, Rows=2000, Columns=2000, PixelData=bytes(8_000_000))
    ds["PixelData"].VR = "OW"
    ds.add_new(0xFFFCFFFC, "OB", b"abcd")
    assert read_header(file_bytes(ds, DeflatedExplicitVRLittleEndian)).value("FFFCFFFC") == "<4 bytes>"


def test_a_dicomdir_is_recognised() -> None:
    assert read_header(dicomdir_bytes(1)).is_dicomdir
    assert not read_header(image_bytes(1)).is_dicomdir


def test_a_file_without_preamble_or_meta_is_read() -> None:
    meta, dataset = meta_of(image_bytes(1))
    assert read_header(meta[132:] + dataset).warnings == ["no-preamble"]
    bare = read_header(dataset)
    assert bare.warnings == ["no-preamble", "no-transfer-syntax"]
    assert bare.transfer_syntax_uid == ExplicitVRLittleEndian
    implicit = read_header(meta_of(image_bytes(1, ImplicitVRLittleEndian))[1])
    assert implicit.transfer_syntax_uid == ImplicitVRLittleEndian
    assert implicit.value("0019[EXAMPLE PRIVATE 1.0]02") == "private text"


def test_the_bytes_have_the_last_word_on_the_transfer_syntax() -> None:
    explicit, implicit = image_bytes(1), image_bytes(1, ImplicitVRLittleEndian)
    crossed = read_header(meta_of(explicit)[0] + meta_of(implicit)[1])
    assert crossed.warnings == ["wrong-transfer-syntax"]
    assert crossed.transfer_syntax_uid == ImplicitVRLittleEndian
    big = image_bytes(1, ExplicitVRBigEndian)
    assert read_header(big).value("00280010") == "16"
    assert read_header(meta_of(explicit)[0] + meta_of(big)[1]).transfer_syntax_uid == ExplicitVRBigEndian


def test_a_wrong_group_length_is_told() -> None:
    data = bytearray(image_bytes(1))
    for wrong in (0, 10, 0xFFFFFFF0):
        data[140:144] = struct.pack("<I", wrong)
        assert read_header(bytes(data)).warnings == ["wrong-group-length"]


def test_an_implicit_element_in_an_explicit_file_is_read() -> None:
    header = read_header(with_extra(struct.pack("<HHI", 0x0040, 0x0254, 4) + b"text"))
    assert header.value("00400254") == "text"
    assert header.warnings == ["implicit-in-explicit"]


def test_warnings_come_with_every_file_not_only_the_first() -> None:
    data = with_extra(struct.pack("<HHI", 0x0040, 0x0254, 4) + b"text" + element(0x0040, 0x1001, b"QQ", b"abcd"))
    assert {tuple(read_header(data).warnings) for _ in range(4)} == {("implicit-in-explicit", "unknown-vr")}


def test_the_last_of_two_elements_of_one_tag_counts() -> None:
    extra = element(0x0040, 0x0254, b"LO", b"one ") + element(0x0040, 0x0254, b"LO", b"two ")
    header = read_header(with_extra(extra))
    assert header.values("00400254") == ("two",)
    assert header.warnings == ["duplicate-tag"]


def test_padding_and_garbage_behind_the_pixels_are_passed_over() -> None:
    for tail in (b"\0", b"\0" * 3000, b"garbage of some kind"):
        header = read_header(image_bytes(1) + tail)
        assert header.warnings == ["trailing-bytes"]
        assert header.elements == read_header(image_bytes(1)).elements


def test_missing_and_short_pixel_data_are_told() -> None:
    assert read_header(image_bytes(1, PixelData=None)).warnings == ["pixel-data-missing"]
    assert read_header(image_bytes(1, Rows=17)).warnings == ["pixel-data-short"]


def test_a_character_set_of_an_item_is_its_own() -> None:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 100"
    item.CodeMeaning = "Größe"
    other = Dataset()
    other.CodeMeaning = "Größe"
    header = read_header(image_bytes(1, ProcedureCodeSequence=Sequence([item, other])))
    assert header.values("00081032/00080104") == ("Größe", "Größe")


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("ISO_IR 192", "Jérôme".encode(), "Jérôme"),
        ("ISO_IR 192", b"J\xe9r", "J\ufffdr"),
        ("ISO IR 100", b"M\xfcller", "Müller"),
        ("ISO-IR 100", b"M\xfcller", "Müller"),
        ("ISO_IR 999", b"M\xfcller", "Müller"),
        ("latin2", b"\xb1", "ą"),
        ("utf_7", b"+2AA-", "+2AA-"),
        ("unicode_escape", b"\\ud800", "\\ud800"),
        ("undefined", b"M\xfcller", "Müller"),
        ("", b"M\xfcller", "Müller"),
        ("GB18030", b"\xcd\xf5", "王"),
        ("GBK", b"\xcd\xf5", "王"),
        ("\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ"),
        ("\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8", "김"),
        ("\\ISO 2022 IR 87", b"\x1b$B;", "\x1b$B;"),
    ],
)
def test_text_of_every_character_set_is_decoded(charset: str, raw: bytes, text: str) -> None:
    raw += b" " * (len(raw) % 2)
    name = charset.encode() + b" " * (len(charset) % 2)
    meta, _ = meta_of(image_bytes(1))
    data = meta + element(0x0008, 0x0005, b"CS", name) + element(0x0010, 0x4000, b"LT", raw)
    header = read_header(data)
    assert header.value("00104000") == text
    header.value("00104000").encode()



def test_files_that_are_no_dicom_are_told_so() -> None:
    for data in (
        b"",
        b"x",
        bytes(131),
        b"hello\n",
        b"\xff\xd8\xff\xe0" + bytes(200),
        b"PK\x05\x06" + bytes(18),
        bytes(1000),
    ):
        with pytest.raises(NotDicom):
            read_header(data)
    with pytest.raises(NotDicom):
        read_header(bytes(128) + b"DICM" + b"this is only text" * 10)


def test_the_memo_changes_nothing(pydicom_files: list[Path]) -> None:
    def outcome(data: bytes) -> object:
        try:
            header = read_header(data)
        except HeaderError as error:
            return type(error), str(error)
        return header.elements, header.json, header.meta, header.pixel_data, header.warnings

    files = [path.read_bytes() for path in pydicom_files]
    cold = []
    for data in files:
        forget()
        cold.append(outcome(data))
    assert [outcome(data) for data in files] == cold
    assert [outcome(data) for data in files] == cold


def test_the_memo_is_bounded() -> None:
    memo = Memo(capacity=10_000)
    for index in range(1000):
        memo.context(True, True, ("utf8",), False, f"{index}/")
    assert memo.size <= 10_000
    assert len(memo.contexts) < 20


def test_elements_that_vary_leave_the_rest_of_a_series_in_runs() -> None:
    forget()
    for index in range(30):
        data = image_bytes(
            "s", InstanceNumber=str(index), SliceLocation=str(index * 2), AcquisitionTime=f"1015{index:02}"
        )
        header = read_header(data)
        assert (header.value("00200013"), header.value("00201041")) == (str(index), str(index * 2))
        assert header.value("00080032") == f"1015{index:02}"


def test_padding_behind_a_deflated_stream_is_passed_over() -> None:
    data = image_bytes(1, DeflatedExplicitVRLittleEndian)
    assert read_header(data + b"\0").elements == read_header(data).elements
