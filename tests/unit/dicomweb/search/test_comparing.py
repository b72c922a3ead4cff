"""What varies within a result, in what two headers differ, and values that begin as somebody types."""

from __future__ import annotations

from collections import Counter

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.index import varying
from dicomweb.models import Image
from dicomweb.search import comparing
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.filled import import_all
from tests.unit.dicomweb.index.truth import Value, values_of
from tests.unit.dicomweb.search.conftest import Import


@pytest.mark.parametrize("text", ["Modality:(CT MR)", "Modality:CT InstanceNumber:<=7", "Modality:US", "InstanceNumber:3", "SliceThickness:>=5 -Modality:MR"])
@pytest.mark.parametrize("most", [1000, 3])
def test_what_varies_is_what_brute_force_says(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, text: str, most: int) -> None:
    images = [image for number in range(8) for image in corpus.images(number, corpus.MIXED, odd=0.5, hard=True, largest_series=16)]
    imported = import_all(engine, images, chunk=64)
    monkeypatch.setattr(comparing, "MOST_DISTINCT", most)
    monkeypatch.setattr(varying, "_BLOCK", 3)
    node = query.parse(text)
    with work(engine, read_only=True) as dbsession:
        keys = {row.first for row in search.find(dbsession, node, columns=[], size=1000).rows}
        found = search.varies(dbsession, node)
    found_values = [values_of(image.member) for key, image in imported.items() if key in keys]
    expected = {path: summary(path, found_values, most) for path in {value.path for values in found_values for value in values}}
    assert {row.path: (row.images, None if row.more else row.distinct, row.more, row.constant) for row in found} == expected
    assert [row.path for row in found] == sorted(expected)
    assert keys


def summary(path: str, images: list[list[Value]], most: int) -> tuple[int, int | None, bool, bool]:
    texts = Counter(value.text for values in images for value in values if value.path == path)
    having = sum(any(value.path == path for value in values) for values in images)
    more = len(texts) > most
    constant = not more and having == len(images) and set(texts.values()) == {len(images)}
    return having, None if more else len(texts), more, constant


def test_a_result_of_too_many_groups_is_refused(engine: sa.Engine, import_images: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    import_images("one", {})
    import_images("two", {})
    monkeypatch.setattr(varying, "MOST_GROUPS", 1)
    with work(engine, read_only=True) as dbsession:
        with pytest.raises(search.TooBroad):
            search.varies(dbsession, query.EVERYTHING)
        assert search.varies(dbsession, query.parse("batch:one"))
        assert search.varies(dbsession, query.parse("batch:none")) == []


def test_a_difference_names_both_values(engine: sa.Engine, import_images: Import) -> None:
    item, other = Dataset(), Dataset()
    item.CodeValue, other.CodeValue = "A", "B"
    import_images(
        "one",
        {"PatientName": "A", "KVP": "80", "AnatomicRegionSequence": [item]},
        {"PatientName": "A", "KVP": "120", "AnatomicRegionSequence": [item, other], "StationName": "X", "PatientAge": None},
    )
    with work(engine, read_only=True) as dbsession:
        first, second = dbsession.scalars(sa.select(Image).order_by(Image.id))
        found = {row.path: (row.keyword, row.vr, row.a, row.b) for row in search.diff(dbsession, first, second)}
        assert search.diff(dbsession, first, first) == []
        backwards = {row.path: (row.a, row.b) for row in search.diff(dbsession, second, first)}
    for path in ("00020003", "00080018", "00200052"):
        assert found.pop(path)[2] != ""
    assert found == {
        "00081010": ("StationName", "SH", None, "X"),
        "00082218": ("AnatomicRegionSequence", "SQ", "<1 item>", "<2 items>"),
        "00082218.2/00080100": ("CodeValue", "SH", None, "B"),
        "00101010": ("PatientAge", "AS", "063Y", None),
        "00180060": ("KVP", "DS", "80", "120"),
    }
    assert backwards["00180060"] == ("120", "80")


def test_an_image_without_a_header_is_not_compared(engine: sa.Engine, import_images: Import) -> None:
    import_images("one", {})
    with work(engine, read_only=True) as dbsession:
        image = dbsession.scalar(sa.select(Image))
        assert image is not None
        with pytest.raises(search.SearchError):
            search.diff(dbsession, image, Image(header_key=None))


def test_values_are_completed_from_the_dictionary_and_from_what_varies(engine: sa.Engine, import_images: Import) -> None:
    names = ["Müller^A", "Müller^A", "muller^B", "Meyer^C", "Schulz^D"]
    import_images("one", *({"PatientName": name, "StudyDescription": "Same 100%_x"} for name in names))
    import_images("two", {"PatientName": "Muller^B", "StudyDescription": "same 100%_y"})
    with work(engine, read_only=True) as dbsession:
        name, description = query.resolve("PatientName"), query.resolve("StudyDescription")
        assert search.complete_values(dbsession, name, "MUL") == [("Müller^A", 2), ("Muller^B", 1), ("muller^B", 1)]
        assert search.complete_values(dbsession, name, "mül", 1) == [("Müller^A", 2)]
        assert search.complete_values(dbsession, description, "same 100%_") == [("Same 100%_x", 5), ("same 100%_y", 1)]
        assert search.complete_values(dbsession, description, "same%") == []
        assert search.complete_values(dbsession, query.resolve("StationName"), "") == []
        assert len(search.complete_values(dbsession, name, "", 3)) == 3
        assert search.complete_values(dbsession, query.resolve("**.ReferencedSOPClassUID"), "1.2.840") == [("1.2.840.10008.5.1.4.1.1.2", 6)]
