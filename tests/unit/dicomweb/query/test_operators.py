"""docs/search.md and the test table have every operator."""

from pathlib import Path

import pytest

from dicomweb.query import DEEPEST, MOST_CHARACTERS, MOST_TERMS, OPERATORS, parse
from dicomweb.query.fields import META_NAMES
from tests.unit.dicomweb.query.strategies import NOW

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "search.md").read_text()


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.example)
def test_every_operator_is_documented_by_an_example_that_can_be_asked(operator: tuple[str, str]) -> None:
    example, sentence = operator
    parse(example, now=NOW)
    assert f"| `{example}` | {sentence} |" in PAGE


def test_every_name_and_bound_is_documented() -> None:
    for name in META_NAMES:
        assert f"`{name}:" in PAGE
    for bound in (MOST_CHARACTERS, MOST_TERMS, DEEPEST):
        assert f"{bound:,}" in PAGE
