from dicomweb.index.sql import all_of, any_of, joined, sql


def rendered(piece: object) -> tuple[str, list[object]]:
    statement = piece.statement().compile()  # type: ignore[attr-defined]
    return str(statement), list(statement.params.values())


def test_values_never_get_into_the_text() -> None:
    text, values = rendered(sql("a = {a} AND b = {b}", a="x'; DROP TABLE image; --{b}:c", b=1))
    assert text == "a = :value_0_1 AND b = :value_1_1"
    assert values == ["x'; DROP TABLE image; --{b}:c", 1]


def test_pieces_nest_and_keep_their_values() -> None:
    inner = sql("c > {low}", low=5)
    text, values = rendered(sql("{first} OR {second} OR {first}", first=inner, second=joined(" + ", [sql("{n}", n=1), sql("{n}", n=2)])))
    assert text == "c > :value_0_1 OR :value_1_1 + :value_2_1 OR c > :value_3_1"
    assert values == [5, 1, 2, 5]


def test_no_conditions_are_true_together_and_false_as_a_choice() -> None:
    assert rendered(all_of([]))[0] == "TRUE"
    assert rendered(any_of([]))[0] == "FALSE"
    assert rendered(all_of([sql("a"), sql("b")]))[0] == "(a AND b)"
    assert rendered(any_of(iter([sql("a")])))[0] == "(a)"
