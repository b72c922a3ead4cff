from dicomweb.index import Member, prepare
from dicomweb.index.groups import GIANT, REPEATS, SPLIT, TINY, column
from dicomweb.index.values import header_ids


def member(series_id: int, elements: dict[str, str], modality: str = "CT") -> Member:
    found = [(path, "LO", tuple(value.split("\\"))) for path, value in elements.items()]
    return Member(series_id, modality, found, dict.fromkeys(elements, b"{}"), {})


def test_what_all_images_have_is_hoisted_and_the_rest_is_columns() -> None:
    prepared = prepare([member(1, {"00100010": "A", "00200013": str(number)}) for number in range(TINY)])

    (group,) = prepared.groups
    assert group.members == list(range(TINY))
    assert group.headers == [("00100010", header_ids("00100010", "A")[0])]
    assert [(found.path, found.slot, found.texts) for found in group.columns] == [("00200013", 0, [str(number) for number in range(TINY)])]
    assert [row[1:4] for row in prepared.headers] == [("00100010", "A", "a")]
    assert prepared.fields == {"00100010": "LO", "00200013": "LO"}


def test_every_value_of_an_element_counts_and_takes_a_slot_when_it_varies() -> None:
    values = ["ORIGINAL\\PRIMARY\\AXIAL", "ORIGINAL\\SECONDARY\\MPR", "ORIGINAL\\MPR\\MPR", "ORIGINAL", "ORIGINAL\\\\AXIAL"]
    (group,) = prepare([member(1, {"00080008": value}) for value in values]).groups

    assert [path for path, _ in group.headers] == ["00080008"]
    assert [(found.slot, found.texts, found.images) for found in group.columns] == [
        (0, ["PRIMARY", "SECONDARY", "MPR", None, "AXIAL"], 4),
        (1, ["AXIAL", "MPR", None, None, None], 4),
    ]


def test_tiny_series_of_one_modality_share_a_group_when_they_have_enough_in_common() -> None:
    common = {f"0018{number:04X}": "same" for number in range(10)}
    tiny = [member(series, common | {"0020000E": str(series)}, modality) for series, modality in ((1, "DX"), (2, "DX"), (3, "CR"))]
    stranger = member(4, {f"0019{number:04X}": "other" for number in range(10)}, "DX")
    large = [member(5, common | {"0020000E": "5"}, "DX")] * TINY

    groups = prepare([*tiny, stranger, *large]).groups

    assert sorted(sorted(group.series.items()) for group in groups) == [[(1, 1), (2, 1)], [(3, 1)], [(4, 1)], [(5, TINY)]]


def test_an_odd_image_gets_a_group_of_its_own() -> None:
    usual = {f"0018{number:04X}": "same" for number in range(SPLIT + 2)}
    images = [member(1, usual | {"00200013": str(number)}) for number in range(10)]
    images[4] = member(1, {"00200013": "4"})

    groups = prepare(images).groups

    assert sorted(group.members for group in groups) == [[0, 1, 2, 3, 5, 6, 7, 8, 9], [4]]


def test_an_image_with_thousands_of_values_stands_alone() -> None:
    usual = {f"0018{number:04X}": "same" for number in range(10)}
    images = [member(1, usual | {"00200013": str(number)}) for number in range(10)]
    images[4] = member(1, usual | {"52009230/00200013": "\\".join(map(str, range(GIANT)))})

    groups = prepare(images).groups

    assert sorted(group.members for group in groups) == [[0, 1, 2, 3, 5, 6, 7, 8, 9], [4]]
    assert sum(len(group.columns) for group in groups) == 1


def test_a_text_with_several_vrs_is_one_value_of_its_image() -> None:
    elements = [("00400005", "LO", ("5",)), ("00400005", "IS", ("5",)), ("00400005", "LO", ("x",))]
    prepared = prepare([Member(1, "CT", elements, {}, {})])

    assert sorted((text, folded, number) for _, _, text, folded, number in prepared.headers) == [(None, "5", 5.0), (None, "x", None)]


def test_text_and_numbers_of_one_path_never_share_a_column() -> None:
    values = [("DS", "1.5"), ("DS", "about 2"), ("LO", "three"), ("DS", "4")]
    (group,) = prepare([Member(1, "CT", [("00180050", vr, (text,))], {}, {}) for vr, text in values]).groups

    assert {(tuple(found.texts), found.words) for found in group.columns} == {
        (("1.5", None, None, "4"), None),
        ((None, "about 2", "three", None), "about 2\nthree"),
    }


def test_a_column_knows_its_zone_and_keeps_repeated_texts_once() -> None:
    found = column("00080070", 0, 8, is_text=True, texts=["GE", None, *["Siemens"] * 6], numbers=None)

    assert (found.text_min, found.text_max, found.words) == ("ge", "siemens", "ge\nsiemens")
    assert 2 * REPEATS <= 8
    assert (found.texts, found.folded, found.places) == (["GE", "Siemens"], ["ge", "siemens"], [[0], [2, 3, 4, 5, 6, 7]])


def test_a_zone_is_cut_so_that_what_it_holds_stays_inside() -> None:
    found = column("00104000", 0, 2, is_text=True, texts=["b" * 100 + "z", "a" * 100], numbers=[None, 2.5])

    assert len(found.text_min) == 64
    assert found.text_min <= "a" * 100 <= "b" * 100 + "z" <= found.text_max
    assert (found.number_min, found.number_max) == (2.5, 2.5)


def test_the_same_chunk_is_prepared_the_same_way() -> None:
    images = [member(1 + number % 3, {"00100010": "A", "00200013": str(number), "00080008": f"X\\{number}"}) for number in range(30)]

    assert prepare(images) == prepare(list(images))


def test_nothing_prepared_is_nothing() -> None:
    assert prepare([]).groups == []
