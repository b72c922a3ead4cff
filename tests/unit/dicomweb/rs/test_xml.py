"""The Native DICOM Model is written as PS3.19 A.1 has it, whatever the values are."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import orjson
import pytest

from dicomweb.rs import xml

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"

# PS3.19 A.1.6, as far as one element can hold another: name -> attributes that must be there, may be there, and children.
MODEL: dict[str, tuple[set[str], set[str], set[str]]] = {
    "NativeDicomModel": (set(), {"{http://www.w3.org/XML/1998/namespace}space"}, {"DicomAttribute"}),
    "DicomAttribute": ({"tag", "vr"}, {"keyword", "privateCreator"}, {"BulkData", "Value", "Item", "PersonName", "InlineBinary"}),
    "BulkData": (set(), {"uri", "uuid"}, set()),
    "Value": ({"number"}, set(), set()),
    "Item": ({"number"}, set(), {"DicomAttribute"}),
    "PersonName": ({"number"}, set(), {"Alphabetic", "Ideographic", "Phonetic"}),
    "InlineBinary": (set(), set(), set()),
    **{name: (set(), set(), {"FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"}) for name in ("Alphabetic", "Ideographic", "Phonetic")},
    **{name: (set(), set(), set()) for name in ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")},
}


def parsed(elements: dict[str, Any]) -> ET.Element:
    """Write and read a document, and hold it to the model."""
    root = ET.fromstring(xml.document(elements))
    for element in root.iter():
        name = element.tag.removeprefix(NAMESPACE)
        required, optional, children = MODEL[name]
        assert required <= set(element.attrib) <= required | optional, name
        found = [child.tag.removeprefix(NAMESPACE) for child in element]
        assert set(found) <= children, name
        assert name != "DicomAttribute" or len(set(found)) <= 1
        assert not (children and element.text and element.text.strip())
    for attribute in root.iter(f"{NAMESPACE}DicomAttribute"):
        assert re.fullmatch("[0-9A-F]{8}", attribute.attrib["tag"])
        assert re.fullmatch("[A-Z]{2}", attribute.attrib["vr"])
    return root


def written(elements: dict[str, Any]) -> str:
    parsed(elements)
    return xml.document(elements).decode().partition('xml:space="preserve">')[2].removesuffix("</NativeDicomModel>\n")


@pytest.mark.parametrize(
    ("tag", "element", "expected"),
    [
        ("00080060", {"vr": "CS", "Value": ["CT"]}, '<DicomAttribute tag="00080060" vr="CS" keyword="Modality"><Value number="1">CT</Value></DicomAttribute>'),
        ("00080060", {"vr": "CS"}, '<DicomAttribute tag="00080060" vr="CS" keyword="Modality"></DicomAttribute>'),
        (
            "00080008",
            {"vr": "CS", "Value": ["A", None, "B"]},
            '<DicomAttribute tag="00080008" vr="CS" keyword="ImageType"><Value number="1">A</Value><Value number="3">B</Value></DicomAttribute>',
        ),
        (
            "00280030",
            {"vr": "DS", "Value": [0.5, 1.0]},
            '<DicomAttribute tag="00280030" vr="DS" keyword="PixelSpacing"><Value number="1">0.5</Value><Value number="2">1</Value></DicomAttribute>',
        ),
        (
            "00100010",
            {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou^^Dr", "Ideographic": "山田^太郎"}]},
            ('<DicomAttribute tag="00100010" vr="PN" keyword="PatientName"><PersonName number="1">'
            "<Alphabetic><FamilyName>Yamada</FamilyName><GivenName>Tarou</GivenName><NamePrefix>Dr</NamePrefix></Alphabetic>"
            "<Ideographic><FamilyName>山田</FamilyName><GivenName>太郎</GivenName></Ideographic></PersonName></DicomAttribute>"),
        ),
        (
            "00400275",
            {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S"]}}, {}]},
            ('<DicomAttribute tag="00400275" vr="SQ" keyword="RequestAttributesSequence"><Item number="1">'
            '<DicomAttribute tag="00400009" vr="SH" keyword="ScheduledProcedureStepID"><Value number="1">S</Value></DicomAttribute>'
            '</Item><Item number="2"></Item></DicomAttribute>'),
        ),
        ("7FE00010", {"vr": "OW", "BulkDataURI": "http://a/?b&c"}, '<DicomAttribute tag="7FE00010" vr="OW" keyword="PixelData"><BulkData uri="http://a/?b&amp;c"/></DicomAttribute>'),
        ("00420011", {"vr": "OB", "InlineBinary": "AAE="}, '<DicomAttribute tag="00420011" vr="OB" keyword="EncapsulatedDocument"><InlineBinary>AAE=</InlineBinary></DicomAttribute>'),
    ],
)  # fmt: skip
def test_each_form_of_a_value_has_its_element(tag: str, element: dict[str, Any], expected: str) -> None:
    assert written({tag: element}) == expected


def test_a_private_attribute_names_its_creator_instead_of_its_block() -> None:
    elements = {
        "00190010": {"vr": "LO", "Value": ["FIRST & LAST"]},
        "00190011": {"vr": "LO", "Value": ["OTHER"]},
        "00191002": {"vr": "DS", "Value": [1.5]},
        "00191102": {"vr": "DS", "Value": [2.5]},
        "00191202": {"vr": "UN"},
    }
    found = [(one.attrib["tag"], one.attrib.get("privateCreator")) for one in parsed(elements)]
    assert found == [("00190010", None), ("00190011", None), ("00190002", "FIRST & LAST"), ("00190002", "OTHER"), ("00191202", None)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<b>&\"'", "<b>&\"'"),
        ("]]>", "]]>"),
        ("a\x00b\x1b[31m\x0c", "a\ufffdb\ufffd[31m\ufffd"),
        ("\ud800\uffff", "\ufffd\ufffd"),
        ("a\r\nb\tc", "a\r\nb\tc"),
        ("  spaces  ", "  spaces  "),
        ("😀", "😀"),
    ],
)
def test_hostile_values_stay_text(value: str, expected: str) -> None:
    root = parsed({"00104000": {"vr": "LT", "Value": [value]}})
    assert root[0][0].text == expected
    assert parsed({"00100010": {"vr": "PN", "Value": [{"Alphabetic": value}]}})[0][0][0][0].text == expected
    assert parsed({"7FE00010": {"vr": "OW", "BulkDataURI": value}})[0][0].attrib["uri"] == expected


def test_a_message_has_one_part_for_each_document() -> None:
    objects = [orjson.dumps({"00080060": {"vr": "CS", "Value": [modality]}}) for modality in ("CT", "MR")]
    message = b"".join(xml.parts(objects))
    boundary = xml.CONTENT_TYPE.rpartition("boundary=")[2].encode()
    before, first, second, after = message.split(b"--" + boundary)
    assert (before, after) == (b"", b"--\r\n")
    for part, written_ in ((first, objects[0]), (second, objects[1])):
        assert part == b"\r\nContent-Type: application/dicom+xml\r\n\r\n" + xml.document(orjson.loads(written_)) + b"\r\n"
