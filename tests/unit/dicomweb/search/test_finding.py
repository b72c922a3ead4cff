"""Pages, cursors, columns and orders of a result."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.search import sorting
from tests.dicom_files import uid
from tests.statements import statements
from tests.unit.dicomweb.search.conftest import Import

ALL = query.EVERYTHING


@pytest.mark.parametrize("level", search.LEVELS)
@pytest.mark.parametrize("sort", [(), (("SliceLocation", True),), (("PatientID", False), ("batch", True))])
def test_a_page_takes_the_same_number_of_statements_whatever_is_on_it(engine: sa.Engine, import_images: Import, level: str, sort: Any) -> None:
    import_images("first", {}, {"SliceLocation": "5"})
    counted = []
    for name in ("second", "third"):
        with work(engine, read_only=True) as dbsession, statements(engine) as run:
            search.find(dbsession, query.parse("Modality:CT"), level=level, columns=search.DEFAULT_COLUMNS[level], sort=sort, size=100)
        counted.append(len(run))
        import_images(name, *({"PatientID": f"{name}{number}", "SeriesInstanceUID": uid("s", f"{name}{number // 3}")} for number in range(30)))
    assert counted[0] == counted[1]
    assert counted[0] <= 16


def test_an_empty_result_has_no_pages(engine: sa.Engine) -> None:
    with work(engine, read_only=True) as dbsession:
        for level in search.LEVELS:
            found = search.find(dbsession, ALL, level=level, columns=search.DEFAULT_COLUMNS[level])
            assert (found.total, found.rows, found.next, found.previous, found.columns) == (0, [], None, None, search.DEFAULT_COLUMNS[level])


def test_a_series_shows_its_first_image_that_matches(engine: sa.Engine, import_images: Import) -> None:
    import_images("one", *({"SliceLocation": str(number), "KVP": str(100 + number)} for number in range(6)))
    with work(engine, read_only=True) as dbsession:
        [row] = search.find(dbsession, query.parse("SliceLocation:>=2.5"), level="series", columns=["SliceLocation", "KVP", "images", "batch", "path"]).rows
        assert row.values == {"SliceLocation": "3", "KVP": "103", "images": "3", "batch": "one", "path": "004.dcm"}


def test_columns_are_read_from_any_path(engine: sa.Engine, import_images: Import) -> None:
    import_images("one", {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientName": "Yamada^Tarou=山田^太郎", "KVP": None})
    columns = ["ImageType", "00280010", "ReferencedImageSequence.ReferencedSOPClassUID", "0019[EXAMPLE PRIVATE 1.0]02", "PatientName", "KVP", "ReferencedImageSequence", "TransferSyntaxUID"]
    with work(engine, read_only=True) as dbsession:
        found = search.find(dbsession, ALL, columns=[*columns, query.resolve("00100010"), "PatientName"])
    assert found.columns == tuple(columns)
    assert found.rows[0].values == {
        "ImageType": "ORIGINAL\\PRIMARY",
        "00280010": "16",
        "ReferencedImageSequence.ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "0019[EXAMPLE PRIVATE 1.0]02": "private text",
        "PatientName": "Yamada^Tarou=山田^太郎",
        "ReferencedImageSequence": "<1 item>",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
    }


def test_a_page_cuts_long_values_and_an_export_does_not(engine: sa.Engine, import_images: Import) -> None:
    import_images("one", {"ImageComments": "x" * 5000})
    with work(engine, read_only=True) as dbsession:
        [row] = search.find(dbsession, ALL, columns=["ImageComments"]).rows
        assert row.values == {"ImageComments": "x" * 1000 + "…"}
        assert b"".join(search.export(dbsession, ALL, columns=["ImageComments"], format="tsv")).split(b"\n")[1] == b"x" * 5000


def test_more_rows_than_can_be_sorted_are_refused_and_the_order_of_import_is_not(
    engine: sa.Engine, import_images: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_images("one", {}, {}, {})
    monkeypatch.setattr(sorting, "MOST_SORTED", 2)
    with work(engine, read_only=True) as dbsession:
        with pytest.raises(search.TooBroad, match="narrow"):
            search.find(dbsession, ALL, columns=[], sort=[("PatientID", False)])
        newest = search.find(dbsession, ALL, columns=[], sort=[("added", True)])
        assert [row.image_id for row in newest.rows] == [3, 2, 1]
        assert search.find(dbsession, ALL, level="series", columns=[], sort=[("PatientID", False)]).total == 1


def cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


@pytest.mark.parametrize("broken", ["", "x", "€", "====", "W10", cursor(), cursor("x", False, 1, []), "A" * 10_000])
def test_a_cursor_that_was_not_given_out_is_refused(engine: sa.Engine, broken: str) -> None:
    with work(engine, read_only=True) as dbsession, pytest.raises(search.BadCursor):
        search.find(dbsession, ALL, columns=[], after=broken)


@pytest.mark.parametrize("values", [[[0, "a"]], [[1, 2]], [[0, True]], [[3, 0]], [[0, 1], [0, 1]], [], ["x"], [[1, "a", 2]], [[0]], [None]])
def test_a_cursor_whose_values_were_changed_is_refused(engine: sa.Engine, import_images: Import, values: Any) -> None:
    import_images("one", {}, {})
    with work(engine, read_only=True) as dbsession:
        given = search.find(dbsession, ALL, columns=[], sort=[("PatientID", False)], size=1).next
        assert given is not None
        mark, backwards, id_, _ = orjson.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
        with pytest.raises(search.BadCursor):
            search.find(dbsession, ALL, columns=[], sort=[("PatientID", False)], after=cursor(mark, backwards, id_, values))
        # A cursor belongs to its level and its order.
        with pytest.raises(search.BadCursor):
            search.find(dbsession, ALL, columns=[], sort=[("PatientID", True)], after=given)
        with pytest.raises(search.BadCursor):
            search.find(dbsession, ALL, level="series", columns=[], sort=[("PatientID", False)], after=given)


@pytest.mark.parametrize(
    "wrong", [{"level": "patient"}, {"size": 0}, {"size": 1001}, {"columns": ["Nonsense"]}, {"columns": ["**.CodeValue"]}, {"sort": [("x", True)]}, {"columns": ["a"] * 101}]
)
def test_what_cannot_be_answered_is_an_error_for_people(engine: sa.Engine, wrong: dict[str, Any]) -> None:
    with work(engine, read_only=True) as dbsession, pytest.raises(search.SearchError):
        search.find(dbsession, ALL, **({"columns": []} | wrong))


def test_a_field_of_any_depth_that_stands_for_too_many_paths_is_refused(engine: sa.Engine) -> None:
    with work(engine) as dbsession:
        dbsession.execute(
            sa.text("INSERT INTO field (path, vr, promoted) VALUES (:path, 'SH', FALSE)"), [{"path": f"0009{number:04X}/00080100"} for number in range(101)]
        )
    with work(engine, read_only=True) as dbsession, pytest.raises(search.TooBroad, match="100 paths"):
        search.count(dbsession, query.parse("**.CodeValue:x"))


def test_a_moment_is_compared_to_the_second_and_beyond(engine: sa.Engine, import_images: Import) -> None:
    import_images("one", {})
    with work(engine, read_only=True) as dbsession:
        for text, expected in (("added:>=2020", 1), ("added:<2020", 0), ("-added:>=2020", 0), ("added:2020..2035-02", 1)):
            assert search.count(dbsession, query.parse(text)) == expected, text


def test_a_batch_is_named_in_any_case_or_by_its_number(engine: sa.Engine, import_images: Import) -> None:
    batch = import_images("Prüf Lieferung", {}, {})
    import_images("other", {})
    with work(engine, read_only=True) as dbsession:
        for text in ('batch:"pruf lieferung"', "batch:pr?f*", f"batch:{batch.id}", "-batch:other", "batch:(pr* nothing)", "status:DONE batch:pr*"):
            assert search.count(dbsession, query.parse(text)) == 2, text
        assert search.count(dbsession, query.parse("batch:lieferung")) == 0
        assert search.count(dbsession, query.parse("status:NEW")) == 0
