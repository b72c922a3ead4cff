"""Texts that may be queries, and trees."""

from datetime import datetime

from hypothesis import strategies as st

from dicomweb.query import (
    EVERYTHING,
    OPERATORS,
    Exists,
    Meta,
    Missing,
    Node,
    Term,
    Text,
    Words,
    all_of,
    any_of,
    equals,
    field_at,
    negated,
    parse,
)

NOW = datetime(2024, 3, 31, 12)  # noqa: DTZ001

FRAGMENTS = [
    *(operator.example for operator in OPERATORS),
    *"AND OR NOT - ( ) [ ] \" \\ : .. . / < <= >= > = * ? , exists missing today -30d 1.5 2020-01 09:30 63Y CT µ 山田 é".split(),
    *"Modality StudyDate SliceThickness PatientAge **. GEMS_ACQU_01. 0019[GEMS_ACQU_01]02 (0028,0010) batch: id: added: status: label:".split(),
    *(" ", "\t", "\n", "\u3000", "\u0085", "\ufeff", "\ud800", "\0", "\x1b", "\U0001f9e0"),
]
TEXTS = st.one_of(
    st.text(st.characters(), max_size=60),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(), max_size=3)), max_size=25).map("".join),
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(" ".join),
)

_values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_text_fields = st.sampled_from([
    field_at("00080060"), field_at("00400275/00400009"), field_at("00080100", any_depth=True), field_at("00090010"), field_at("00000900", any_depth=True),
    field_at("0099[A \"(x):.%2F]7f".upper().replace("%2f", "%2F")), field_at("0099[]02"), field_at("0099[\x85]02/00080060"), field_at("00280999"),
])  # fmt: skip
_number_fields = st.sampled_from([field_at(path) for path in ("00180050", "00080020", "00080032", "0008002A", "00101010", "00280010", "00189073")])


def _pattern(parts: list[str]) -> Text:
    pattern = "".join(part if part in "*?" and part else "".join(f"\\{c}" if c in "*?\\" else c for c in part) for part in parts)
    return Text(pattern, wildcards=True)


_patterns = st.lists(st.one_of(st.sampled_from("*?"), _values), min_size=1, max_size=5).map(lambda parts: _pattern([*parts, "*"]))
_numbers = st.sampled_from(["1.5", "-2e3", "2020-01", "20200131", "09:30", "101501.25", "2020-01-31T09:30", "63Y", "today", "+2w", "odd", ""])
_leaves = st.one_of(
    st.builds(Term, _text_fields, st.one_of(_values.map(Text), _patterns, st.just(Exists()), st.just(Missing()))),
    st.builds(equals, _number_fields, _numbers.filter(lambda text: text[:1] not in ("t", "+"))),
    st.builds(Words, _values.filter(lambda text: bool(text.strip()))),
    st.builds(Meta, st.sampled_from(["batch", "label"]), st.one_of(_values.map(Text), _patterns)),
    st.sampled_from(["added:>=-7d", "added:2024-02..today", "id:5..", "id:7", "status:NEW", "label:missing"]).map(lambda text: parse(text, now=NOW)),
)
TREES: st.SearchStrategy[Node] = st.recursive(
    st.one_of(_leaves, st.just(EVERYTHING)),
    lambda nodes: st.one_of(
        st.lists(nodes, min_size=1, max_size=4).map(all_of),
        st.lists(nodes, min_size=1, max_size=4).map(any_of),
        nodes.map(negated),
    ),
    max_leaves=12,
)
