"""While an import runs, a reader who pages through a result neither loses nor doubles a row that was there when it began."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.settings import Settings
from tests.dicom_files import image_bytes, uid
from tests.importing import changed, claim_folder, draining, exit_codes, import_folder

FIRST, LATER = 60, 240


def write_images(folder: Path, count: int) -> None:
    """Write studies of three series of four images."""
    folder.mkdir()
    for number in range(count):
        study, series = f"{folder.name} {number // 12}", f"{folder.name} {number // 4}"
        elements = {
            "StudyInstanceUID": uid("study", study), "SeriesInstanceUID": uid("series", series), "PatientID": study, "SliceLocation": str(number % 7),
        }  # fmt: skip
        (folder / f"{number:04d}.dcm").write_bytes(image_bytes(f"{folder.name} {number}", **elements))


def walk(engine: sa.Engine, level: str, sort: tuple[tuple[str, bool], ...]) -> tuple[list[int], list[int]]:
    """Page through everything, a transaction a page as a reader does; gives the ids, and the total of each page."""
    ids: list[int] = []
    totals: list[int] = []
    after = None
    while True:
        with work(engine, read_only=True) as dbsession:
            page = search.find(dbsession, query.parse("Modality:CT"), level=level, columns=["PatientID"], sort=sort, size=7, after=after)
        ids += [row.id for row in page.rows]
        totals.append(page.total)
        if page.next is None:
            return ids, totals
        after = page.next


@pytest.mark.timeout(240)
def test_pages_neither_lose_nor_double_a_row_while_three_workers_import(engine: sa.Engine, settings: Settings, tmp_path: Path) -> None:
    settings = changed(settings, import__chunk_files="16")
    write_images(tmp_path / "data" / "first", FIRST)
    write_images(tmp_path / "data" / "later", LATER)
    import_folder(engine, settings, tmp_path / "data" / "first")
    claim_folder(engine, tmp_path / "data" / "later")
    before = {level: walk(engine, level, ())[0] for level in search.LEVELS}
    walks = 0
    problems: list[str] = []
    engine.dispose()
    with draining(settings, 3) as importing:
        while not walks or any(process.is_alive() for process in importing):
            for level in search.LEVELS:
                for sort in ((), (("added", True),), (("SliceLocation", True),)):
                    ids, totals = walk(engine, level, sort)
                    walks += 1
                    if len(ids) != len(set(ids)):
                        problems.append(f"a row of {level} by {sort} came twice")
                    if not set(before[level]) <= set(ids):
                        problems.append(f"a row of {level} by {sort} was lost")
                    if totals != sorted(totals):
                        problems.append(f"totals of {level} fell")
        assert exit_codes(importing) == [0, 0, 0]
    assert problems == []
    assert walks >= 9
    expected = {"image": FIRST + LATER, "series": (FIRST + LATER) // 4, "study": (FIRST + LATER) // 12}
    assert {level: len(walk(engine, level, ())[0]) for level in search.LEVELS} == expected
