import pytest

from dicomweb.index.expressions import (
    DEEPEST,
    DEEPEST_WRITTEN,
    MOST_LEAVES,
    And,
    Exists,
    Expression,
    ExpressionTooLarge,
    Like,
    Not,
    Or,
    check_depth,
    leaves,
    split_pattern,
)
from dicomweb.index.values import TEXT_LENGTH


@pytest.mark.parametrize(
    ("pattern", "parts", "wildcards"),
    [
        ("", [""], []),
        ("SMI*", ["SMI", ""], ["*"]),
        ("?a*b", ["", "a", "b"], ["?", "*"]),
        (r"a\*b\?c\\d", [r"a*b?c\d"], []),
        (r"a\b", [r"a\b"], []),
        ("a\n*", ["a\n", ""], ["*"]),
        ("\\", ["\\"], []),
    ],
)
def test_a_pattern_is_literal_parts_and_wildcards(pattern: str, parts: list[str], wildcards: list[str]) -> None:
    assert split_pattern(pattern) == (parts, wildcards)


def test_leaves_come_in_the_order_written() -> None:
    paths = ["1", "2", "3", "4"]
    one, two, three, four = map(Exists, paths)
    assert [leaf.path for leaf in leaves(And((one, Or((Not(two), three)), four))) if isinstance(leaf, Exists)] == paths


def test_an_expression_has_bounds() -> None:
    deep: Expression = Exists("1")
    for _ in range(DEEPEST_WRITTEN + 1):
        deep = Not(deep)
    with pytest.raises(ExpressionTooLarge, match="nested"):
        list(leaves(deep))
    nested: Expression = Exists("1")
    for _ in range(DEEPEST):
        nested = Not(nested)
    check_depth(nested)
    with pytest.raises(ExpressionTooLarge, match="nested"):
        check_depth(Not(nested))
    with pytest.raises(ExpressionTooLarge, match="conditions"):
        list(leaves(Or((Exists("1"),) * (MOST_LEAVES + 1))))
    with pytest.raises(ExpressionTooLarge, match="pattern"):
        list(leaves(Like("1", "*" * (TEXT_LENGTH + 1))))
    assert len(list(leaves(Or((Exists("1"),) * MOST_LEAVES)))) == MOST_LEAVES
