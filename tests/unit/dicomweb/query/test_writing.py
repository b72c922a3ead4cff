"""Queries said as sentences, and written in one canonical way."""

import pytest

from dicomweb.languages import speaking
from dicomweb.query import And, Not, Or, Term, Text, Words, any_of, field_at, parse, sentence, unparse, write_value
from tests.unit.dicomweb.query.strategies import NOW


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "everything"),
        ("Modality:CT SliceThickness:<=1.5", "Modality is CT and SliceThickness is at most 1.5"),
        ("Modality:CT OR KVP:120", "either Modality is CT or KVP is 120"),
        ("Modality:(CT MR)", "Modality is CT or MR"),
        ("-Modality:CT", "Modality is not CT"),
        ("-(Modality:CT KVP:120)", "not (Modality is CT and KVP is 120)"),
        ("KVP:120 (gado OR Rows:>512)", "KVP is 120 and (either some text contains “gado” or Rows is more than 512)"),
        ('SeriesDescription:"t1 mprage"', "SeriesDescription is “t1 mprage”"),
        ('SeriesDescription:""', "SeriesDescription is empty"),
        ("PatientName:smi*", "PatientName matches smi*"),
        ("-PatientName:smi*", "PatientName does not match smi*"),
        ("KVP:exists -Manufacturer:missing", "KVP is present and Manufacturer is not missing"),
        ("SliceThickness:0.5..1.5", "SliceThickness is from 0.5 to 1.5"),
        ("SliceThickness:(0.5.. ..0.1 <0.1 >=3)", "SliceThickness is at least 0.5 or at most 0.1 or less than 0.1 or at least 3"),
        ("StudyDate:2020-01..", "StudyDate is 2020-01 or later"),
        ("StudyDate:..2020-01", "StudyDate is 2020-01 or earlier"),
        ("StudyDate:<2020", "StudyDate is before 2020"),
        ("StudyDate:>2020", "StudyDate is after 2020"),
        ("StudyDate:-1m..today", "StudyDate is from 1 month ago to today"),
        ("StudyDate:<=+2w", "StudyDate is in 2 weeks or earlier"),
        ('AcquisitionDateTime:"2020-01-31 09:30"..', "AcquisitionDateTime is 2020-01-31 09:30 or later"),
        ("0019[GEMS_ACQU_01]02:736", "0019[GEMS_ACQU_01]02 (DetectorChannel) is 736"),
        ("**.CodeValue:T-A0100", "any CodeValue at any depth is T-A0100"),
        ("-gadovist", "no text contains “gadovist”"),
        ("batch:12 status:new label:exists", "the batch is 12 and the status is NEW and a label is present"),
        ("added:(today yesterday)", "it was added today or yesterday"),
        ("-added:>=-7d id:5", "it was not added 7 days ago or later and the number is 5"),
    ],
)  # fmt: skip
def test_a_query_is_a_sentence(text: str, said: str) -> None:
    assert sentence(parse(text, now=NOW)) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "alles"),
        ("Modality:(CT MR* exists)", "Modality ist CT oder passt auf MR* oder vorhanden"),
        ("-(Modality:CT KVP:<120)", "nicht (Modality ist CT und KVP ist kleiner als 120)"),
        ("StudyDate:>-2w", "StudyDate ist später als vor 2 Wochen"),
        ("added:2020.. -batch:x", "es wurde 2020 oder später hinzugefügt und der Batch ist nicht x"),
        ("-gado OR **.CodeValue:missing", "entweder kein Text enthält „gado“ oder irgendein CodeValue beliebiger Tiefe fehlt"),
    ],
)
def test_a_query_is_a_sentence_of_the_language_that_is_spoken(text: str, said: str) -> None:
    with speaking("de"):
        assert sentence(parse(text, now=NOW)) == said


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("modality:ct and NOT(kvp:120)", "Modality:ct -KVP:120"),
        ("Modality:CT OR Modality:MR", "Modality:(CT MR)"),
        ("a OR Modality:CT OR Modality:MR b", "a OR Modality:CT OR Modality:MR b"),
        ("(Modality:CT OR Modality:MR) a", "Modality:(CT MR) a"),
        ("AcquisitionTime:9:30..10:00", "AcquisitionTime:9:30..10:00"),
        ('PatientName:"smi*"', "PatientName:smi*"),
        (r"PatientName:smi\*", r'PatientName:"smi\*"'),
        ('"or" "exists" "-x" "a:b"', '"or" "exists" "-x" "a:b"'),
        ('Modality:("exists" "OR" "<5" "1." "a,")', 'Modality:("exists" "OR" "<5" "1." "a,")'),
        (r'SeriesDescription:"a\nb\x1b"', r'SeriesDescription:"a\nb\x1b"'),
        ('SliceThickness:"1."..5', 'SliceThickness:"1."..5'),
        ("* OR a", "* OR a"),
        ("-*", "-*"),
    ],
)  # fmt: skip
def test_a_query_is_written_one_way(text: str, canonical: str) -> None:
    assert unparse(parse(text)) == canonical
    assert unparse(parse(canonical)) == canonical


def test_what_no_query_can_have_is_not_written() -> None:
    with pytest.raises(ValueError, match="NUL"):
        unparse(Words("a\0"))
    with pytest.raises(ValueError, match="surrogate"):
        write_value("\ud800")


def test_one_of_nothing_is_no_query() -> None:
    with pytest.raises(ValueError, match="no condition"):
        any_of([])


def test_trees_made_by_hand_are_said_and_written_too() -> None:
    a, b = Term(field_at("00080060"), Text("a b")), Words("b")
    tree = And((Or((a, And((b, a)))), Not(Not(b))))
    assert unparse(tree) == '(Modality:"a b" OR b Modality:"a b") --b'
    assert sentence(tree) == "(either Modality is “a b” or (some text contains “b” and Modality is “a b”)) and not (no text contains “b”)"
    assert unparse(Term(field_at("00080060"), Text("a\\b*", wildcards=True))) == r'Modality:"a\\b*"'
