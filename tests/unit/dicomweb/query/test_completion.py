"""What is offered at the cursor."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.query import Completion, complete, field_at, parse
from tests.unit.dicomweb.query.strategies import TEXTS


def at_end(text: str) -> Completion:
    return complete(text, len(text))


@pytest.mark.parametrize(
    ("text", "kind", "prefix", "first"),
    [
        ("", "field", "", "batch:"),
        ("mod", "field", "mod", "Modality:"),
        ("thick", "field", "thick", "SliceThickness:"),
        ("lab", "field", "lab", "label:"),
        ("-patientn", "field", "patientn", "PatientName:"),
        ("(a OR mod", "field", "mod", "Modality:"),
        ("Modality:CT ", "operator", "", "OR "),
        ("Modality:(CT MR) ", "operator", "", "OR "),
        ("Modality:CT or", "field", "or", "OR "),
        ("Modality:CT OR ", "field", "", "batch:"),
        ("(", "field", "", "batch:"),
        ("0018,0050", "field", "0018,0050", "SliceThickness:"),
        ("RequestAttr", "field", "RequestAttr", "RequestAttributesSequence."),
        ("RequestAttributesSequence.scheduledprocedurestepid", "field", "RequestAttributesSequence.scheduledprocedurestepid", "RequestAttributesSequence.ScheduledProcedureStepID:"),
        ("**.codev", "field", "**.codev", "**.CodeValue:"),
        ("*", "field", "*", "**."),
        ("gems_acq", "field", "gems_acq", "GEMS_ACQU_01."),
        ('"siemens med n', "field", '"siemens med n', '"SIEMENS MED NM".'),
        ("GEMS_ACQU_01.detec", "field", "GEMS_ACQU_01.detec", "GEMS_ACQU_01.DetectorChannel:"),
        ('"SIEMENS MED NM".scaler', "field", '"SIEMENS MED NM".scaler', '"SIEMENS MED NM".ScalerIndex:'),
        ("0019[A.B]02.codev", "field", "0019[A.B]02.codev", "0019[A.B]02.CodeValue:"),
        ("nonsense.cod", "field", "nonsense.cod", None),
        ("PatientName.cod", "field", "PatientName.cod", None),
        ("x" * 501, "field", "x" * 501, None),
        ("Modality:", "value", "", "exists"),
        ("SliceThickness:", "value", "", "<="),
        ("SliceThickness:<=", "value", "", None),
        ("StudyDate:t", "value", "t", "today"),
        ("StudyDate:>=", "value", "", "today"),
        ("StudyDate:2020..", "value", "", "today"),
        ("status:", "value", "", "NEW"),
        ("label:", "value", "", "exists"),
        ("batch:", "value", "", None),
        ("Modality:(CT M", "value", "M", None),
        ('SeriesDescription:"t1 m', "value", "t1 m", None),
        ("nonsense:a", "value", "", None),
        ('"a phrase', "field", '"a phrase', None),
    ],
)  # fmt: skip
def test_what_fits_is_offered(text: str, kind: str, prefix: str, first: str | None) -> None:
    found = at_end(text)
    assert (found.kind, found.prefix) == (kind, prefix)
    assert (found.options[0].text if found.options else None) == first


def test_values_are_those_of_an_element_and_replace_what_is_written() -> None:
    found = at_end('a Modality:(CT "M')
    assert (found.field, found.start, found.end, found.prefix) == (field_at("00080060"), 15, 17, "M")
    assert at_end("label:rev").meta == "label"
    assert at_end("SliceThickness:<=1").start == len("SliceThickness:<=")


def test_in_the_middle_of_a_name_the_whole_name_is_replaced() -> None:
    found = complete("Modali:CT KVP:120", 3)
    assert (found.start, found.end, found.options[0].text) == (0, 6, "Modality")


def test_what_is_offered_says_what_it_is() -> None:
    (option,) = at_end("SliceThickness").options
    assert option == ("SliceThickness:", "SliceThickness", "(0018,0050) DS Slice Thickness")


@settings(deadline=None)
@given(TEXTS, st.integers(-5, 80))
def test_wherever_the_cursor_is_there_is_an_answer_that_fits_the_text(text: str, cursor: int) -> None:
    found = complete(text, cursor, limit=5)
    assert 0 <= found.start <= found.end <= len(text)
    assert len(found.options) <= 5


@settings(deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789_\"*.", max_size=6))
def test_every_keyword_that_is_offered_is_one(prefix: str) -> None:
    for option in at_end(prefix).options:
        if option.help.startswith("("):
            parse(option.text.removesuffix(":").removesuffix(".") + ":exists")
