"""Labels and saved searches."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.models import Batch, Image, LabelLink, Series, Study
from dicomweb.search import labels
from dicomweb.search.labels import LabelUse
from tests.dicom_files import uid
from tests.unit.dicomweb.search.conftest import Import

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def two_studies(import_images: Import) -> None:
    """Two studies of two series of two images each, in a batch each."""
    for name in ("a", "b"):
        import_images(name, *({"PatientID": name, "SeriesInstanceUID": uid("s", f"{name}{number // 2}")} for number in range(4)))


@pytest.mark.parametrize(("kind", "images"), [("image", 1), ("series", 2), ("study", 4), ("batch", 4)])
def test_a_label_is_found_on_all_images_it_reaches(engine: sa.Engine, two_studies: None, kind: str, images: int) -> None:
    with work(engine) as dbsession:
        assert search.add_label(dbsession, "To  Check", kind, [1, 99_999], now=NOW) == 1
        assert search.add_label(dbsession, "tó check", kind, [1], now=NOW) == 0
    with work(engine, read_only=True) as dbsession:
        for text in ('label:"to check"', "label:to*", "label:exists", "-label:missing"):
            assert search.count(dbsession, query.parse(text)) == images, text
        assert search.count(dbsession, query.parse("label:missing")) == 8 - images
        assert search.count(dbsession, query.parse("label:other")) == 0
        assert [row.name for row in search.list_labels(dbsession)] == ["To Check"]
    with work(engine) as dbsession:
        assert search.remove_label(dbsession, "TO CHECK", kind, [1, 2]) == 1
        assert search.remove_label(dbsession, "TO CHECK", kind, [1, 2]) == 0
        assert search.count(dbsession, query.parse("label:exists")) == 0


@pytest.mark.parametrize(("level", "rows"), [("image", 4), ("series", 2), ("study", 1)])
def test_a_whole_result_is_labelled_and_freed_again(engine: sa.Engine, two_studies: None, level: str, rows: int) -> None:
    node = query.parse("PatientID:a")
    with work(engine) as dbsession:
        assert search.add_label_to_found(dbsession, "x", node, level, now=NOW) == rows
        assert search.add_label_to_found(dbsession, "x", node, level, now=NOW) == 0
        assert search.count(dbsession, query.parse("label:x")) == 4
        found = search.find(dbsession, node, level=level, columns=["label"])
        assert {(row.labels, row.values["label"]) for row in found.rows} == {(("x",), "x")}
        assert search.remove_label_from_found(dbsession, "x", query.parse("label:x"), level) == rows
        assert search.list_labels(dbsession) == [LabelUse("x", 0, 0, 0, 0)]
        assert search.delete_label(dbsession, "X")
        assert not search.delete_label(dbsession, "X")


def test_labels_go_with_what_they_are_on(engine: sa.Engine, two_studies: None) -> None:
    with work(engine) as dbsession:
        for kind, id_ in (("image", 1), ("series", 1), ("study", 1), ("batch", 1)):
            search.add_label(dbsession, "x", kind, [id_], now=NOW)
        dbsession.execute(sa.delete(Image).where(Image.batch_id == 1))
        dbsession.execute(sa.text("DELETE FROM group_series WHERE series_id IN (SELECT id FROM series WHERE study_key = 1)"))
        for model, key in ((Series, Series.study_key), (Study, Study.id)):
            dbsession.execute(sa.delete(model).where(key == 1))
        dbsession.execute(sa.text("DELETE FROM header_group WHERE batch_id = 1"))
        dbsession.execute(sa.delete(Batch).where(Batch.id == 1))
        assert dbsession.scalar(sa.select(sa.func.count()).select_from(LabelLink)) == 0


def test_a_label_that_is_none_is_refused(engine: sa.Engine, two_studies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with work(engine) as dbsession:
        for name in ("", "  ", "x" * 65, "a\x07b", "-x"):
            with pytest.raises(search.SearchError, match="label"):
                search.add_label(dbsession, name, "image", [1], now=NOW)
        with pytest.raises(search.SearchError):
            search.add_label(dbsession, "x", "patient", [1], now=NOW)
        monkeypatch.setattr(labels, "MOST_LABELLED", 3)
        with pytest.raises(search.TooBroad):
            search.add_label_to_found(dbsession, "x", query.EVERYTHING, "image", now=NOW)
        assert search.list_labels(dbsession) == []


def test_a_saved_search_is_found_by_its_name_and_counts_what_is_there_now(engine: sa.Engine, two_studies: None) -> None:
    with work(engine) as dbsession:
        search.save_search(dbsession, " My  search ", "PatientID:a", level="series", columns=["PatientID", "batch"], now=NOW)
        search.save_search(dbsession, "another", "added:>-30d", now=NOW)
        saved = search.save_search(dbsession, "My search", "PatientID:(a b)", level="study", now=NOW)
        assert saved.columns == list(search.DEFAULT_COLUMNS["study"])
        assert [(one.name, one.query, search.count_saved(dbsession, one, now=NOW)) for one in search.list_saved(dbsession)] == [
            ("another", "added:>-30d", 8),
            ("My search", "PatientID:(a b)", 2),
        ]
        assert search.delete_saved(dbsession, "another")
        assert not search.delete_saved(dbsession, "another")
        assert search.find_saved(dbsession, "another") is None


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "x" * 101}, {"level": "patient"}, {"columns": ["Nonsense"]}])
def test_a_search_that_could_not_be_shown_is_not_saved(engine: sa.Engine, wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"name": "n", "text": "a", "level": "image", "columns": [], "now": NOW}
    with work(engine) as dbsession:
        with pytest.raises(search.SearchError):
            search.save_search(dbsession, **(arguments | wrong))  # type: ignore[arg-type]
        with pytest.raises(query.QuerySyntaxError):
            search.save_search(dbsession, **(arguments | {"text": "Nonsense:1"}))  # type: ignore[arg-type]
        assert search.list_saved(dbsession) == []
