"""Every operator by its tree, every mistake by its place; whatever is written, the answer is a tree or a QuerySyntaxError."""

from datetime import datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary

from dicomweb.models import BATCH_STATUS
from dicomweb.query import (
    DEEPEST,
    EVERYTHING,
    MOST_CHARACTERS,
    MOST_TERMS,
    OPERATORS,
    STATUSES,
    And,
    Exists,
    Meta,
    Missing,
    Node,
    Not,
    Or,
    QuerySyntaxError,
    Range,
    Term,
    Text,
    Words,
    equals,
    field_at,
    leaves,
    parse,
    sentence,
    unparse,
)
from dicomweb.query.fields import META_NAMES
from tests.unit.dicomweb.query.strategies import FRAGMENTS, NOW, TEXTS, TREES

MODALITY, NAME, DESCRIPTION = field_at("00080060"), field_at("00100010"), field_at("0008103E")
THICKNESS, KVP, DATE, TIME, AGE = (field_at(path) for path in ("00180050", "00180060", "00080020", "00080032", "00101010"))
DETECTOR = field_at("0019[GEMS_ACQU_01]02")
CT, KVP_120 = Term(MODALITY, Text("CT")), Term(KVP, Range(120, 120, False, False, "120"))


def between(low: float | None, high: float | None, shown: str, *, low_open: bool = False, high_open: bool = False) -> Range:
    return Range(low, high, low_open, high_open, shown)


# One row for each of OPERATORS.
TABLE: dict[str, Node] = {
    "gadovist": Words("gadovist"),
    '"contrast agent"': Words("contrast agent"),
    "Modality:CT": CT,
    "Modality:=CT": CT,
    "PatientName:smi*": Term(NAME, Text("smi*", wildcards=True)),
    "PatientName:山田": Term(NAME, Text("山田")),
    "PatientName:smith^john": Term(NAME, Text("smith^john")),
    "1.2.840.113619.2.1": Words("1.2.840.113619.2.1"),
    'SeriesDescription:"t1 mprage"': Term(DESCRIPTION, Text("t1 mprage")),
    'SeriesDescription:""': Term(DESCRIPTION, Text("")),
    "SliceThickness:1.5": Term(THICKNESS, between(1.5, 1.5, "1.5")),
    "SliceThickness:<=1.5": Term(THICKNESS, between(None, 1.5, "<=1.5")),
    "SliceThickness:<1.5": Term(THICKNESS, between(None, 1.5, "<1.5", high_open=True)),
    "KVP:>=100": Term(KVP, between(100, None, ">=100")),
    "KVP:>100": Term(KVP, between(100, None, ">100", low_open=True)),
    "SliceThickness:0.5..1.5": Term(THICKNESS, between(0.5, 1.5, "0.5..1.5")),
    "SliceThickness:0.5..": Term(THICKNESS, between(0.5, None, "0.5..")),
    "SliceThickness:..1.5": Term(THICKNESS, between(None, 1.5, "..1.5")),
    "StudyDate:2020": Term(DATE, between(20200101, 20201231, "2020")),
    "StudyDate:2020-01": Term(DATE, between(20200101, 20200131, "2020-01")),
    "StudyDate:2020-01-31": Term(DATE, between(20200131, 20200131, "2020-01-31")),
    "StudyDate:2020-01..2020-06": Term(DATE, between(20200101, 20200631, "2020-01..2020-06")),
    "StudyDate:>=2020": Term(DATE, between(20200101, None, ">=2020")),
    "StudyDate:today": Term(DATE, between(20240331, 20240331, "today")),
    "StudyDate:>=-30d": Term(DATE, between(20240301, None, ">=-30d")),
    "AcquisitionTime:09:00..12:00": Term(TIME, between(90000, 120100, "09:00..12:00", high_open=True)),
    "AcquisitionDateTime:>=2020-01-31T09:30": Term(field_at("0008002A"), between(20200131093000, None, ">=2020-01-31T09:30")),
    "PatientAge:<18Y": Term(AGE, between(None, 18 * 365.25, "<18Y", high_open=True)),
    "00280010:512": Term(field_at("00280010"), between(512, 512, "512")),
    "0019[GEMS_ACQU_01]02:736": Term(DETECTOR, between(736, 736, "736")),
    "GEMS_ACQU_01.DetectorChannel:736": Term(DETECTOR, between(736, 736, "736")),
    '"SIEMENS MED NM".ScalerIndex:exists': Term(field_at("0019[SIEMENS MED NM]03"), Exists()),
    "RequestAttributesSequence.ScheduledProcedureStepID:X": Term(field_at("00400275/00400009"), Text("X")),
    "**.CodeValue:T-A0100": Term(field_at("00080100", any_depth=True), Text("T-A0100")),
    "KVP:exists": Term(KVP, Exists()),
    "Manufacturer:missing": Term(field_at("00080070"), Missing()),
    "Modality:(CT MR)": Or((CT, Term(MODALITY, Text("MR")))),
    "Modality:CT KVP:120": And((CT, KVP_120)),
    "Modality:CT AND KVP:120": And((CT, KVP_120)),
    "Modality:CT OR KVP:120": Or((CT, KVP_120)),
    "-Modality:CT": Not(CT),
    "NOT Modality:CT": Not(CT),
    "Modality:CT (KVP:100 OR KVP:120)": And((CT, Or((Term(KVP, between(100, 100, "100")), KVP_120)))),
    "batch:12": Meta("batch", Text("12")),
    "status:DONE": Meta("status", Text("DONE")),
    "label:reviewed": Meta("label", Text("reviewed")),
    "added:>=-7d": Meta("added", between(20240324000000, None, ">=-7d")),
    "id:1..100": Meta("id", between(1, 100, "1..100")),
    "*": EVERYTHING,
}


def test_a_batch_is_found_by_its_number_alone_when_a_range_is_written() -> None:
    assert parse("batch:3..9") == Meta("batch", Range(3, 9, False, False, "3..9"))
    with pytest.raises(QuerySyntaxError):
        parse("batch:knee..9")


def test_every_operator_has_a_row_in_the_table() -> None:
    assert list(TABLE) == [operator.example for operator in OPERATORS]


@pytest.mark.parametrize("text", TABLE)
def test_an_operator_becomes_its_tree(text: str) -> None:
    assert parse(text, now=NOW) == TABLE[text]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("", "*"),
        (" \t\n\u3000", "*"),
        ("modality:CT", "Modality:CT"),
        ("MODALITY: CT", "Modality:CT"),
        ("Modality:CT and (KVP:120)", "Modality:CT KVP:120"),
        ("a b OR c d", "(a b) OR (c d)"),
        ("a (b (c d))", "a b c d"),
        ("a OR (b OR (c OR d))", "a OR b OR c OR d"),
        ("NOT NOT --a", "a"),
        ("-(a OR b)", "NOT (a OR b)"),
        ("a * b", "a b"),
        ("*gado*", "gado"),
        ("(0028,0010):512", "Rows:512"),
        ("0028,0010:512", "Rows:512"),
        ("((0028,0010):512)", "Rows:512"),
        ("00400275/00400009:X", "RequestAttributesSequence.ScheduledProcedureStepID:X"),
        ("RequestAttributesSequence.00400009:X", "00400275.ScheduledProcedureStepID:X"),
        ("Modality:(CT OR MR)", "Modality:CT OR Modality:MR"),
        ("KVP:(missing >100 80..90)", "KVP:missing OR KVP:>100 OR KVP:80..90"),
        ("KVP:=120", "KVP:120"),
        ("KVP:>= 120", "KVP:>=120"),
        ('StudyDate:"2020-01".."2020-02"', "StudyDate:2020-01..2020-02"),
        ('AcquisitionDateTime:"2020-01-31 09:30"', 'AcquisitionDateTime:"2020-01-31 09:30"'),
        (r'SeriesDescription:"a\"b\\c"', r"SeriesDescription:a\"b\\c"),
        (r"SeriesDescription:a\*", r'SeriesDescription:"a\*"'),
        ("status:done", "status:DONE"),
        ("FrameIncrementPointer:FrameTime", "FrameIncrementPointer:0018,1063"),
        ("OverlayRows:512", "60000010:512"),
        ("gemsacqu01.detectorchannel:736", "0019[GEMS_ACQU_01]02:736"),
    ],
)  # fmt: skip
def test_two_ways_of_writing_are_one_tree(text: str, same: str) -> None:
    assert parse(text, now=NOW) == parse(same, now=NOW)


def test_status_of_a_network_message_is_asked_for_by_its_tag() -> None:
    assert list(leaves(parse("Status:NEW"))) == [Meta("status", Text("NEW"))]
    assert unparse(parse("00000900:5")) == "00000900:5"


def test_a_number_that_is_none_is_text() -> None:
    assert parse("SliceThickness:thin") == Term(THICKNESS, Text("thin"))
    assert parse("SliceThickness:1.*") == Term(THICKNESS, Text("1.*", wildcards=True))
    assert parse("StudyDate:2020-13") == Term(DATE, Text("2020-13"))


def test_the_values_of_a_private_element_nobody_knows_may_be_numbers() -> None:
    field = field_at("0099[ACME]01")
    assert parse("0099[ACME]01:5") == Term(field, Text("5"))
    assert parse("0099[ACME]01:>5") == Term(field, between(5, None, ">5", low_open=True))


def test_after_an_imprecise_date_is_after_all_of_it() -> None:
    assert parse("StudyDate:>2020") == Term(DATE, between(20201231, None, ">2020", low_open=True))
    assert parse("StudyDate:<=2020") == Term(DATE, between(None, 20201231, "<=2020"))
    assert parse("AcquisitionTime:>09:30") == Term(TIME, between(93100, None, ">09:30"))
    assert parse("AcquisitionTime:<=09:30") == Term(TIME, between(None, 93100, "<=09:30", high_open=True))


def test_the_moments_when_an_image_was_added_are_in_the_calendar() -> None:
    assert parse("added:2024-02") == Meta("added", between(20240201000000, 20240301000000, "2024-02", high_open=True))
    assert parse("added:2024-12-31") == Meta("added", between(20241231000000, 20250101000000, "2024-12-31", high_open=True))
    with pytest.raises(QuerySyntaxError, match="cannot be read"):
        parse("added:2024-02-30")


def test_statuses_are_those_of_batches() -> None:
    assert set(STATUSES) == set(BATCH_STATUS)


MISTAKES: list[tuple[str, int, int, str, str | None]] = [
    ("SliceThicknes:1", 0, 13, "no element", "SliceThickness"),
    ("Modality:CT thickness:1", 12, 9, "no element", "SliceThickness"),
    ("bach:1", 0, 4, "no element", "batch"),
    ("zzzzz:1", 0, 5, "no element", None),
    ("12:30", 0, 2, "no element", None),
    ("GEMS_ACQU_01.DetectorChanel:1", 13, 14, "has no element", "DetectorChannel"),
    ("GEMS_ACQU_01.:1", 13, 0, "empty", None),
    ('"NOBODY".y:1', 0, 8, "No private creator", None),
    ("PatientName.Modality:1", 0, 11, "no sequence", None),
    ("**:1", 0, 2, "before an element", None),
    ("00191002:1", 0, 8, "named by its creator", None),
    ("0018[A]02:1", 0, 4, "odd number", None),
    ("0019[A]2:1", 0, 8, "no private element", None),
    ("0019[A:1", 4, 1, "never closed", None),
    ("SliceThickness<=1.5", 0, 19, "stands a colon", "SliceThickness:<=1.5"),
    ("Modality:<CT", 9, 3, "cannot be compared", None),
    ("Modality:CT..MR", 9, 6, "cannot be compared", None),
    ("ProcedureCodeSequence:X", 22, 1, "is a sequence", None),
    ("PixelData:>1", 10, 2, "cannot be compared", None),
    ("label:>1", 6, 2, "cannot be compared", None),
    ("StudyDate:>soon", 11, 4, "cannot be read", None),
    ("StudyDate:2020..soon", 16, 4, "cannot be read", None),
    ("PatientAge:<18", 12, 2, "cannot be read", None),
    ("SliceThickness:>nan", 16, 3, "cannot be read", None),
    ("SliceThickness:>1*", 16, 2, "cannot be read", None),
    ("id:x", 3, 1, "cannot be read", None),
    ("id:1.5", 3, 3, "cannot be read", None),
    ("added:exists", 6, 6, "Every image has", None),
    ("status:don", 7, 3, "no status", "DONE"),
    ("StudyDate:2021..2020", 10, 10, "before it begins", None),
    ("StudyDate:..", 10, 2, "two ends", None),
    ("StudyDate:1..2..3", 10, 4, "two ends", None),
    ("StudyDate:>2020..2021", 10, 7, "exclude each other", None),
    ("Modality:", 9, 0, "no value", None),
    ("(Modality:)", 10, 0, "no value", None),
    ("Modality:()", 10, 1, "no value", None),
    ("KVP:<", 5, 0, "no value", None),
    ("(KVP:<)", 6, 0, "no value", None),
    ("ProcedureCodeSequence:", 22, 0, "no value", None),
    ("GEMS_ACQU_01:1", 0, 12, "no element", None),
    ('PatientName:a"b"', 13, 1, "in quotes", None),
    ("Modality:(CT", 9, 1, "never closed", None),
    ("Modality:(CT AND MR)", 13, 3, "A list has values", None),
    ("Modality:(CT, MR)", 12, 1, "comma", None),
    ("Modality:CT(MR)", 11, 1, "in quotes", None),
    (":CT", 0, 1, "before the colon", None),
    ('PatientName:"a', 12, 1, "never closed", None),
    ('"a', 0, 1, "never closed", None),
    ("(a b", 0, 1, "never closed", None),
    ("a) b", 1, 1, "closes nothing", None),
    ("()", 1, 1, "no condition", None),
    ("AND a", 0, 3, "between two conditions", None),
    ("a OR", 4, 0, "ends where", None),
    ("a OR OR b", 5, 2, "between two conditions", None),
    ("NOT", 3, 0, "ends where", None),
    ("- a", 0, 1, "means not", None),
    ("foo*bar", 0, 7, "no wildcards", None),
    ('""', 0, 2, "nothing to search", None),
    (r"ImageType:A\B", 11, 1, "backslash", None),
    (r"a\x00", 1, 1, "backslash", None),
    ('"a\nb"', 2, 1, "one line", None),
    ("a\0", 1, 1, "U+0000 is a control", None),
    ("a\x1b", 1, 1, "U+001B is a control", None),
    ("a\x85", 1, 1, "U+0085 is a control", None),
    ("a\ud800", 1, 1, "U+D800 is half", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "position", "length", "message", "suggestion"), MISTAKES)
def test_a_mistake_is_named_where_it_is(text: str, position: int, length: int, message: str, suggestion: str | None) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse(text, now=NOW)
    error = caught.value
    assert (error.position, error.length, error.suggestion) == (position, length, suggestion)
    assert message in error.message


def test_relative_days_need_to_know_the_time() -> None:
    assert parse("SeriesDescription:today") == Term(DESCRIPTION, Text("today"))
    with pytest.raises(QuerySyntaxError, match="not known here"):
        parse("StudyDate:today")


def test_length_depth_and_conditions_are_bounded() -> None:
    assert len(list(leaves(parse("a " * MOST_TERMS)))) == MOST_TERMS
    parse("(" * DEEPEST + "a" + ")" * DEEPEST)
    parse("x" * MOST_CHARACTERS)
    for text, message in [
        ("a " * (MOST_TERMS + 1), "256 conditions"),
        ("Modality:(" + "CT " * 257 + ")", "256 conditions"),
        ("a " * 5000, "256 conditions"),
        ("a " * 5001, "10,000 characters"),
        ("(" * 33 + "a" + ")" * 33, "deeper than 32"),
        ("(" * 10_000, "deeper than 32"),
        ("-" * 10_000, "deeper than 32"),
        ("NOT " * 2_500, "deeper than 32"),
        ("a OR b (" * 20 + "a" + ")" * 20, "deeper than 32"),
        ("00189073:1 " * 200 + "00189073:" + "1" * 7_750, "written out"),
    ]:
        with pytest.raises(QuerySyntaxError, match=message):
            parse(text)


def test_nearest_names_are_looked_for_once_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("dicomweb.query.fields.nearest", lambda name, names: asked.append(name))
    with pytest.raises(QuerySyntaxError):
        parse("Modalit<1 " * 200 + "Modalit:1")
    assert asked == ["Modalit"]


def test_no_keyword_but_one_is_hidden_by_what_the_application_knows() -> None:
    assert {entry[4].casefold() for entry in DicomDictionary.values()} & set(META_NAMES) == {"status"}


@pytest.mark.parametrize(
    ("path", "value"),
    [("00080060", "CT"), ("00180050", "1.50"), ("00080020", "20200131"), ("00080020", "2020-XX"), ("00080032", "101501.25"), ("00101010", "063Y"), ("0008103E", 'a"*\n b'), ("0008103E", "")],
)  # fmt: skip
def test_a_value_of_a_header_is_asked_for_again(path: str, value: str) -> None:
    term = equals(field_at(path), value)
    assert parse(unparse(term)) == term


def tree_or_mistake(text: str, now: datetime | None) -> Node | QuerySyntaxError:
    try:
        return parse(text, now=now)
    except QuerySyntaxError as error:
        return error


@settings(deadline=None)
@given(TEXTS, st.sampled_from([NOW, None]))
@example("x:" * 5000, None)
@example("1234[ " * 1600, None)
def test_whatever_is_written_is_a_tree_that_can_be_said_back_or_a_mistake(text: str, now: datetime | None) -> None:
    found = tree_or_mistake(text, now)
    if isinstance(found, QuerySyntaxError):
        assert 0 <= found.position <= len(text)
        assert 0 <= found.length <= len(text) - found.position
        assert found.message
        assert str(found).startswith(found.message)
    else:
        assert parse(unparse(found), now=now) == found
        assert sentence(found).strip()


@settings(deadline=None)
@given(TREES)
def test_every_tree_can_be_written(node: Node) -> None:
    assert parse(unparse(node), now=NOW) == node
    assert sentence(node).strip()


@settings(deadline=None)
@given(st.sampled_from(["", "Modality:", "Modality:(", '"']), st.integers(1, 3000), st.sampled_from(FRAGMENTS))
def test_repetition_is_answered(lead: str, times: int, fragment: str) -> None:
    found = tree_or_mistake((lead + fragment * times)[:MOST_CHARACTERS], NOW)
    if not isinstance(found, QuerySyntaxError):
        assert parse(unparse(found), now=NOW) == found
