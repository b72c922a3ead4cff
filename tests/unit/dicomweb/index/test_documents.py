import random

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.index.documents import MARK, open_document, pack, without


def built(image: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"%s":%s' % (tag.encode(), element) for tag, element in sorted(image.items())) + b"}"


TAGS = st.sampled_from(["00080005", "00080018", "00100010", "00200013", "00281050", "7FE00010"])
ELEMENTS = st.builds(
    lambda vr, values: orjson.dumps({"vr": vr, "Value": values}),
    st.sampled_from(["LO", "DS", "FD"]),
    st.lists(st.one_of(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1, 1.0])), max_size=2),
)
IMAGES = st.lists(st.dictionaries(TAGS, ELEMENTS, max_size=5), min_size=1, max_size=6)


@given(elements=IMAGES, metas=IMAGES)
def test_headers_are_rebuilt_byte_by_byte(elements: list[dict[str, bytes]], metas: list[dict[str, bytes]]) -> None:
    metas = [metas[place % len(metas)] for place in range(len(elements))]
    document = open_document(pack(list(range(len(elements))), metas, elements))

    assert document.series_ids == list(range(len(elements)))
    assert [document.header(ordinal, b"") for ordinal in range(len(elements))] == [built(image) for image in elements]
    assert [document.file_meta(ordinal) for ordinal in range(len(elements))] == metas


@given(elements=IMAGES, seed=st.integers())
def test_removed_images_leave_nothing(elements: list[dict[str, bytes]], seed: int) -> None:
    gone = set(random.Random(seed).sample(range(len(elements)), len(elements) // 2))
    for ordinal in gone:
        elements[ordinal]["00104000"] = b'{"vr":"LT","Value":["only %d"]}' % ordinal
    packed = without(pack([1] * len(elements), elements, elements), gone)
    document = open_document(packed)

    assert [series_id is None for series_id in document.series_ids] == [ordinal in gone for ordinal in range(len(elements))]
    assert b"only" not in zstandard.decompress(packed)
    kept = [ordinal for ordinal in range(len(elements)) if ordinal not in gone]
    assert [document.header(ordinal, b"") for ordinal in kept] == [built(elements[ordinal]) for ordinal in kept]
    assert [document.file_meta(ordinal) for ordinal in kept] == [elements[ordinal] for ordinal in kept]


def test_bulk_data_gets_the_address_of_its_image_and_nothing_else_does() -> None:
    bulk = orjson.dumps({"vr": "OW", "BulkDataURI": MARK + "7FE00010"})
    text = orjson.dumps({"vr": "LT", "Value": [MARK + "looks like one", 'BulkDataURI":"' + MARK]})
    images = [{"00104000": text, "7FE00010": bulk}] * 2
    document = open_document(pack([1, 1], [{}, {}], images))

    for ordinal, prefix in enumerate([b"/a/", b"/b/"]):
        header = orjson.loads(document.header(ordinal, prefix))
        assert header["7FE00010"]["BulkDataURI"] == prefix.decode() + "7FE00010"
        assert header["00104000"] == orjson.loads(text)


@pytest.mark.parametrize("separator", ["\x1d", "\x1e", "\x1f"])
def test_what_is_no_json_is_refused(separator: str) -> None:
    bare = b'{"vr":"LO","Value":["a' + separator.encode() + b'"]}'
    with pytest.raises(ValueError, match="no JSON"):
        pack([1, 1], [{}, {}], [{"00100010": bare}, {"00100010": b"{}"}])
    escaped = orjson.dumps({"vr": "LO", "Value": ["a" + separator]})
    document = open_document(pack([1], [{}], [{"00100010": escaped}]))
    assert document.header(0, b"") == b'{"00100010":' + escaped + b"}"


def test_what_all_images_have_is_kept_once() -> None:
    constant = {f"0010{number:04X}": orjson.dumps({"vr": "LO", "Value": [str(number) * 20]}) for number in range(100)}
    images = [constant | {"00200013": orjson.dumps({"vr": "IS", "Value": [number]})} for number in range(200)]

    raw = zstandard.decompress(pack([1] * 200, [{}] * 200, images))

    assert raw.count(constant["00100007"]) == 1
    assert len(raw) < 2 * len(built(images[0])) + 200 * 40
