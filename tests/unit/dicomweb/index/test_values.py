import sys

import pytest

from dicomweb.index.values import (
    LAST,
    PATH_LENGTH,
    TEXT_LENGTH,
    Kind,
    bound,
    bound_path,
    classify,
    clean,
    fold,
    header_ids,
)


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("SMITH^John", "smith^john"),
        ("Müller", "muller"),
        ("MÜLLER", "mu\u0308ller"),
        ("Straße", "STRASSE"),
        ("Łódź", "lodz"),
        ("Ørsted", "orsted"),
        ("İstanbul", "istanbul"),
        ("Diyarbakır", "diyarbakir"),
        ("ΔΙΟΝΎΣΙΟΣ", "διονυσιος"),
        ("Ёжик", "ежик"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("ＡＢＣ", "abc"),
        ("ﬁne", "fine"),
        ("김희중", "김희중"),
        ("山田^太郎", "山田^太郎"),
        ("שָׁלוֹם", "שלום"),
        ("قَبَّانِي", "قباني"),
    ],
)
def test_what_a_person_types_folds_to_what_was_written(written: str, typed: str) -> None:
    assert fold(written) == fold(typed)


@pytest.mark.parametrize(("one", "other"), [("Müller", "Moller"), ("ヤマダ", "ヤマタ"), ("김", "강"), ("a^b", "a b"), ("1.0", "1,0")])
def test_different_letters_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_folding_twice_changes_nothing_more() -> None:
    # All scripts, and a sample of ideographs and what is not assigned.
    for code_point in [*range(0x3400), *range(0x3400, 0xA000, 97), *range(0xA000, 0x1F000), *range(0x1F000, sys.maxunicode, 997)]:
        folded = fold(chr(code_point))
        assert fold(folded) == folded
        assert folded.isprintable() or clean(folded) == folded


def test_what_no_database_keeps_is_taken_out() -> None:
    assert clean("a\0b\ud800c\U0010ffffd") == "ab\ufffdc\ufffdd"
    assert clean("tab\tand\nline") == "tab\tand\nline"
    assert fold("A\0B\udfff") == "ab\ufffd"


def test_texts_that_differ_behind_the_cut_stay_different() -> None:
    one, other = "x" * TEXT_LENGTH + "a", "x" * TEXT_LENGTH + "b"
    assert bound(one) != bound(other)
    assert len(bound(one)) < TEXT_LENGTH + 20
    assert bound("x" * TEXT_LENGTH) == "x" * TEXT_LENGTH
    assert fold(bound(one)) == fold(bound(other)) == "x" * TEXT_LENGTH


def test_folding_cannot_blow_up_a_text() -> None:
    # One code point that decomposes into eighteen.
    assert len(fold("\ufdfa" * TEXT_LENGTH)) <= TEXT_LENGTH


def test_long_paths_stay_different_and_short() -> None:
    assert bound_path("0019[A]01") == "0019[A]01"
    assert bound_path("p" * PATH_LENGTH + "a") != bound_path("p" * PATH_LENGTH + "b")
    assert len(bound_path("p" * 10_000)) < PATH_LENGTH + 20


def test_nothing_sorts_behind_the_last_code_point() -> None:
    assert all(fold(chr(code_point)) < LAST for code_point in range(0, sys.maxunicode + 1, 7))


@pytest.mark.parametrize(
    ("vr", "text", "kind", "number"),
    [
        ("LO", "7", Kind.TEXT, None),
        ("DS", "7", Kind.NUMBER, 7.0),
        ("DS", "seven", Kind.TEXT, None),
        ("DS", "", Kind.OTHER, None),
        ("LO", "", Kind.TEXT, None),
        ("DA", "20200102", Kind.DATE, 20200102.0),
        ("TM", "101112", Kind.TIME, 101112.0),
        ("DT", "2020", Kind.DATE_TIME, 20200101000000.0),
        ("AS", "010D", Kind.AGE, 10.0),
        ("UI", "1.2.3", Kind.OTHER, None),
        ("SQ", "", Kind.OTHER, None),
        ("UN", "12", Kind.TEXT, None),
    ],
)
def test_a_value_has_one_kind(vr: str, text: str, kind: Kind, number: float | None) -> None:
    assert classify(vr, text) == (kind, number)


def test_an_id_depends_on_path_text_and_kind_and_fits_the_databases() -> None:
    first, last = header_ids("00080060", "CT")
    assert (first, last) == header_ids("00080060", "CT")
    assert last - first == 7
    assert first % 8 == 0
    assert 0 <= first <= last < 2**63
    others = {header_ids("00080060", "MR"), header_ids("00080061", "CT"), header_ids("00080060C", "T")}
    assert len(others | {(first, last)}) == 4
    assert max(Kind) <= 7
