"""Patterns over the few texts that are not in the header index."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.search.globs import Glob


@given(st.text("ab*?\\", max_size=12), st.text("ab*?\\", max_size=12))
def test_a_pattern_matches_what_the_regular_expression_matches(pattern: str, text: str) -> None:
    expected = "".join({"*": ".*", "?": "."}.get(token) or re.escape(token[-1]) for token in re.findall(r"\\[*?\\]|.", pattern))
    assert Glob(pattern, wildcards=True).matches(text) == bool(re.fullmatch(expected, text))


@pytest.mark.parametrize(("pattern", "text", "matches"), [("Stra?e", "STRASE", True), ("müller*", "Muller 1", True), ("a*", "b", False), ("", "", True)])
def test_case_and_accents_do_not_matter(pattern: str, text: str, matches: bool) -> None:
    assert Glob(pattern, wildcards=True).matches(text) == matches


def test_without_wildcards_a_star_is_a_star() -> None:
    assert Glob("a*", wildcards=False).matches("A*")
    assert not Glob("a*", wildcards=False).matches("ab")


def test_many_stars_take_no_time() -> None:
    assert not Glob("*a" * 500 + "b", wildcards=True).matches("a" * 4000)
