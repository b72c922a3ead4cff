"""Exports are the rows of the result, whatever is in them."""

from __future__ import annotations

import csv
import io

import orjson
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.search import exporting
from dicomweb.search.exporting import defuse
from tests.unit.dicomweb.search.conftest import Import

COLUMNS = ["PatientID", "StudyDescription", "PixelSpacing", "SliceThickness"]
DESCRIPTIONS = ["=HYPERLINK(1)", "+1-2", "@x", "-5", 'a "b", c', "", "naïve 山田"]


@pytest.fixture
def rows(engine: sa.Engine, import_images: Import) -> list[dict[str, str | None]]:
    """Seven images, and what an export must say of them."""
    import_images("exported", *({"PatientID": f"P{number}", "StudyDescription": text, "SliceThickness": None} for number, text in enumerate(DESCRIPTIONS)))
    return [{"PatientID": f"P{number}", "StudyDescription": text, "PixelSpacing": "0.5\\0.5", "SliceThickness": None} for number, text in enumerate(DESCRIPTIONS)]


def exported(engine: sa.Engine, form: str, level: str = "image") -> bytes:
    with work(engine, read_only=True) as dbsession:
        return b"".join(search.export(dbsession, query.EVERYTHING, level=level, columns=COLUMNS, format=form))


def test_csv_is_safe_against_formulas_and_otherwise_what_the_header_says(engine: sa.Engine, rows: list[dict[str, str | None]]) -> None:
    found = list(csv.DictReader(io.StringIO(exported(engine, "csv").decode(), newline="")))
    assert [row["StudyDescription"] for row in found] == ["'=HYPERLINK(1)", "'+1-2", "'@x", *DESCRIPTIONS[3:]]
    assert {(row["PixelSpacing"], row["SliceThickness"]) for row in found} == {("0.5\\0.5", "")}


def test_tsv_has_a_line_a_row(engine: sa.Engine, rows: list[dict[str, str | None]]) -> None:
    lines = exported(engine, "tsv").decode().split("\n")
    assert lines[0] == "\t".join(COLUMNS)
    assert [line.split("\t")[0] for line in lines[1:-1]] == [row["PatientID"] for row in rows]
    assert lines[-1] == ""


def test_ndjson_and_parquet_keep_values_as_they_are(engine: sa.Engine, rows: list[dict[str, str | None]]) -> None:
    assert [orjson.loads(line) for line in exported(engine, "ndjson").splitlines()] == rows
    assert pyarrow.parquet.read_table(io.BytesIO(exported(engine, "parquet"))).to_pylist() == rows


@pytest.mark.parametrize("form", search.FORMATS)
def test_rows_come_in_blocks_and_progress_is_told(engine: sa.Engine, rows: list[dict[str, str | None]], monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    whole = exported(engine, "ndjson")
    monkeypatch.setattr(exporting, "_BLOCK", {"image": 3, "series": 1, "study": 1})
    told: list[int] = []
    with work(engine, read_only=True) as dbsession:
        pieces = list(search.export(dbsession, query.EVERYTHING, columns=COLUMNS, format=form, on_rows=told.append))
    assert told == [3, 6, 7]
    assert len(pieces) >= 3
    assert form != "ndjson" or b"".join(pieces) == whole
    assert exported(engine, "ndjson", "series").count(b"\n") == 1


def test_nothing_is_a_file_too(engine: sa.Engine) -> None:
    assert exported(engine, "csv") == b"PatientID,StudyDescription,PixelSpacing,SliceThickness\r\n"
    assert exported(engine, "ndjson") == b""
    assert pyarrow.parquet.read_table(io.BytesIO(exported(engine, "parquet"))).num_rows == 0


@pytest.mark.parametrize(("text", "safe"), [("-1.5e3\\-2", "-1.5e3\\-2"), ("-1+cmd", "'-1+cmd"), ("\tx", "'\tx"), ("a=1", "a=1"), ("+", "'+"), ("=1", "'=1")])
def test_only_numbers_may_begin_like_a_formula(text: str, safe: str) -> None:
    assert defuse(text) == safe


@pytest.mark.parametrize("wrong", [{"format": "xls"}, {"level": "patient"}, {"columns": []}, {"columns": ["NoSuchKeyword"]}])
def test_a_wrong_request_is_refused_before_the_first_piece(engine: sa.Engine, wrong: dict[str, object]) -> None:
    with work(engine, read_only=True) as dbsession, pytest.raises(search.SearchError):
        search.export(dbsession, query.EVERYTHING, **({"columns": COLUMNS} | wrong))  # type: ignore[arg-type]
