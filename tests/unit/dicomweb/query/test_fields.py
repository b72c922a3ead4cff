"""Names of elements: keywords, tags, private ones, nested ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary, private_dictionaries

from dicomweb.headers.dictionary import path_of
from dicomweb.query import Field, QuerySyntaxError, field_at, resolve
from dicomweb.query.fields import COMMON, META_NAMES, keywords, nearest, private_elements


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Modality", Field("00080060", "Modality", "CS")),
        ("modality", Field("00080060", "Modality", "CS")),
        ("0002,0010", Field("00020010", "TransferSyntaxUID", "UI")),
        ("(7fe0,0010)", Field("7FE00010", "PixelData", "OB")),
        ("SmallestImagePixelValue", Field("00280106", "SmallestImagePixelValue", "US")),
        ("00280999", Field("00280999", "", "UN")),
        ("00190010", Field("00190010", "", "LO")),
        ("00280000", Field("00280000", "", "UL")),
        ("60020010", Field("60020010", "OverlayRows", "US")),
        ("OverlayRows", Field("60000010", "OverlayRows", "US")),
        ("0019[]02", Field("0019[]02", "", "UN")),
        ("0019[gems_acqu_01]02", Field("0019[gems_acqu_01]02", "", "UN")),
        ("00ff[a%b]0a", Field("00FF[a%25b]0A", "", "UN")),
        ("0099[A/B%5B%2f]0a", Field("0099[A%2FB%5B%2F]0A", "", "UN")),
        ("0099[MY. (CO)\"]01.CodeValue", Field('0099[MY. (CO)"]01/00080100', "CodeValue", "SH")),
        ("**.00400275.CodeValue", Field("00400275/00080100", "CodeValue", "SH", any_depth=True)),
        ("GEMS_ACQU_01.detector_channel", Field("0019[GEMS_ACQU_01]02", "DetectorChannel", "SL")),
    ],
)  # fmt: skip
def test_a_name_is_a_path(name: str, field: Field) -> None:
    assert resolve(name) == field
    assert resolve(field.name) == field


def test_every_keyword_is_found_by_itself_and_by_its_tag() -> None:
    names = {entry[4]: f"{tag:08X}" for tag, entry in DicomDictionary.items() if entry[4] and entry[0] != "NONE"}
    assert {name: resolve(name, suggest=False).path for name in names} == names
    assert {path: field_at(path).name for path in names.values()} == {path: name if name != "Status" else path for name, path in names.items()}
    assert set(COMMON) <= set(keywords())


def test_every_name_of_the_private_dictionary_is_found_unless_it_is_used_again() -> None:
    checked = 0
    for creator in private_dictionaries:
        quoted = '"' + creator.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for name, segments in private_elements(creator).items():
            folded = [other for other in private_elements(creator) if other.casefold() == name.casefold()]
            if len(segments) == 1 and len(folded) == 1 and creator.casefold() not in ("hologic", "spi release 1") and "mitra" not in creator.casefold():
                assert resolve(f"{quoted}.{name}", suggest=False).path == segments[0]
                checked += 1
    assert checked > 5000


def test_a_private_name_that_is_used_again_is_refused_with_its_tags() -> None:
    name, segments = next((name, segments) for name, segments in private_elements("GEMS_PARM_01").items() if len(segments) > 1)
    with pytest.raises(ValueError, match="elements") as caught:
        resolve(f"GEMS_PARM_01.{name}")
    assert segments[0] in str(caught.value)


@settings(deadline=None)
@given(st.integers(0, 0x7FFF), st.integers(0x1000, 0xFFFF), st.text(max_size=70))
def test_the_path_of_every_private_element_can_be_written(group: int, element: int, creator: str) -> None:
    path = path_of((group * 2 + 1) << 16 | element, creator)
    assert resolve(field_at(path).name).path == path


@settings(deadline=None)
@given(st.integers(0, 0xFFFFFFFF))
def test_the_path_of_every_other_element_can_be_written(tag: int) -> None:
    if not (tag >> 16 & 1 and tag & 0xFFFF >= 0x1000):
        path = path_of(tag, "")
        assert resolve(field_at(path).name).path == path


@settings(deadline=None)
@given(st.text(max_size=80))
def test_every_path_has_a_field(path: str) -> None:
    assert field_at(path).path == path
    assert len(field_at(path).vr) == 2


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SliceThicknes", "SliceThickness"),
        ("thickness", "SliceThickness"),
        ("PatinetName", "PatientName"),
        ("patient_name", "PatientName"),
        ("kpv", "KVP"),
        ("StudyDescripton", "StudyDescription"),
        ("stattus", "status"),
        ("qqqqqqqq", None),
        ("x", None),
        ("x" * 200, None),
    ],
)  # fmt: skip
def test_the_nearest_name_is_guessed(name: str, meant: str | None) -> None:
    assert nearest(name, [*META_NAMES, *COMMON, *keywords()]) == meant


@pytest.mark.parametrize(
    ("name", "position", "message"),
    [
        ('"GEMS_ACQU_01"', 0, "is a private creator"),
        ('"GEMS_ACQU_01"x.y', 14, "comes a dot"),
        ('"GEMS_ACQU_01', 0, "never closed"),
        (r'"a\qb".y', 2, "backslash"),
        ("", 0, "empty"),
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_where_it_is_wrong(name: str, position: int, message: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        resolve(name)
    assert caught.value.position == position
    assert message in caught.value.message


def test_a_creator_is_quoted_with_the_escapes_of_values() -> None:
    with pytest.raises(QuerySyntaxError, match="No private creator “a\"b”"):
        resolve(r'"a\"b".y')
