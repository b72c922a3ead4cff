"""A search answers as brute force does, on both databases: totals, pages, sorted pages, facets and exports at three levels.

The truth is what pydicom reads from the stored bytes of sample files, and what was generated. ``SEARCH_QUERIES`` asks more
questions than the default run does.
"""

from __future__ import annotations

import io
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from sqlalchemy.orm import Session

from dicomweb import query, search
from dicomweb.db import work
from dicomweb.headers.values import UNDIVIDED
from dicomweb.index import Member
from dicomweb.models import Batch, Image, Series, Study
from dicomweb.settings import Settings
from tests.importing import bytes_of, import_folder
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.filled import NOW, add_parents, import_all
from tests.unit.dicomweb.index.truth import values_of
from tests.unit.dicomweb.search.truth import Known, Truth, at, has_numbers, matches, random_field, random_node
from tests.unit.dicomweb.test_headers_reference import reference_elements, reference_values

pytestmark = pytest.mark.usefixtures("silent_pydicom")

Columns = Sequence[query.Field | str]
Order = tuple[tuple[query.Field | str, bool], ...]

QUERIES = int(os.environ.get("SEARCH_QUERIES", "25"))


def put_labels(engine: sa.Engine, images: Sequence[Known], drawn: random.Random) -> None:
    """Put labels on some images, series, studies and batches, and remember which images they reach."""
    with work(engine) as dbsession:
        for name, kind in (("first", "image"), ("Zweites", "series"), ("prüfen", "study"), ("first", "batch"), ("prüfen", "image")):
            own = {known.key: {"image": known.image_id, "series": known.series_id, "study": known.study_id, "batch": known.batch_id}[kind] for known in images}
            ids = sorted(set(own.values()))
            chosen = set(drawn.sample(ids, max(1, len(ids) // 5))) if len(ids) > 1 or kind == "image" else set()
            search.add_label(dbsession, name, kind, chosen, now=NOW)
            for known in images:
                if own[known.key] in chosen:
                    known.labels.add(name)


def known_images(engine: sa.Engine) -> dict[int, Known]:
    """What the rows say of each image, still without values."""
    with work(engine, read_only=True) as dbsession:
        rows = dbsession.execute(
            sa.select(Image.header_key, Image.id, Image.series_id, Series.study_key, Image.batch_id, Batch.name, Batch.status, Image.added_at)
            .join(Series, Series.id == Image.series_id)
            .join(Batch, Batch.id == Image.batch_id)
            .where(Image.header_key.is_not(None))
        )
        return {row[0]: Known(*row, values=[]) for row in rows}


@pytest.fixture
def generated(engine: sa.Engine) -> Truth:
    """Generated studies of all modalities with all that is strange, in two batches."""
    members = {}
    for batch_id, studies in ((1, range(10)), (2, range(8, 14))):
        images = [image for number in studies for image in corpus.images(number, corpus.MIXED, odd=0.6, hard=True, largest_series=16)]
        add_studies(engine, {image.member.series_id for image in images})
        members.update(import_all(engine, images, chunk=96, batch_id=batch_id))
    known = known_images(engine)
    with work(engine) as dbsession:
        for number, key in enumerate(sorted(known)):
            known[key].values = values_of(members[key].member)
            known[key].added = NOW + timedelta(hours=number // 40)
        give_uids(dbsession, list(known.values()))
    put_labels(engine, list(known.values()), random.Random(3))
    return Truth(known.values())


def add_studies(engine: sa.Engine, series_ids: set[int]) -> None:
    """Add the series of generated images in as many studies as they were generated for."""
    with work(engine) as dbsession:
        add_parents(dbsession, [], [1, 2])
        texts = dict.fromkeys(("study_date", "study_time", "accession_number", "study_id", "study_description", "referring_physician_name"), "")
        names = ("modality", "series_number", "series_description", "series_date", "series_time", "body_part_examined", "protocol_name")
        for series_id in sorted(series_ids):
            study_id = 100 + series_id // 10
            if dbsession.get(Study, study_id) is None:
                dbsession.add(Study(id=study_id, study_instance_uid=f"1.2.{study_id}", patient_key=1, **texts))
                dbsession.flush()
            if dbsession.get(Series, series_id) is None:
                dbsession.add(Series(id=series_id, series_instance_uid=f"1.2.3.{series_id}", study_key=study_id, **dict.fromkeys(names, "")))


@pytest.fixture
def imported(engine: sa.Engine, settings: Settings, tmp_path: Path, pydicom_files: Sequence[Path], samples: Path) -> Truth:
    """Sample files, imported in two batches; the truth is what pydicom reads from their stored bytes."""
    with_pixels = [path for path in sorted(samples.rglob("*.dcm")) if "fuzz-corpus" not in path.parts][::3]
    for name, files in (("samples of pydicom", pydicom_files), ("andere Beispiele", with_pixels)):
        folder = tmp_path / "data" / name
        folder.mkdir()
        for number, path in enumerate(files):
            shutil.copyfile(path, folder / f"{number:04d}.dcm")
        import_folder(engine, settings, folder)
    known = known_images(engine)
    with work(engine, read_only=True) as dbsession:
        images = {image.header_key: image for image in dbsession.scalars(sa.select(Image).where(Image.header_key.is_not(None)))}
    for key, one in known.items():
        ds = dcmread(io.BytesIO(bytes_of(engine, settings, images[key])), force=True)
        found = []
        for elements in (ds.file_meta, ds):
            for path, vr, elem in reference_elements(elements):
                values = reference_values(elem)
                if elem.VR in UNDIVIDED and elem.value:
                    values = (str(elem.value).replace("\0", "").rstrip(" "),)
                found.append((path, vr, values))
        one.values = values_of(Member(one.series_id, "", found, {}, {}))
    put_labels(engine, list(known.values()), random.Random(4))
    return Truth(known.values())


def give_uids(dbsession: Session, images: Sequence[Known]) -> None:
    """Give the rows of generated images the UIDs of their headers, as an import does, and the time they were added."""
    versions: Counter[str] = Counter()
    rows: dict[type, dict[int, dict[str, object]]] = {Image: {}, Series: {}, Study: {}}
    for one in images:
        sop, series, study = ([value.text for value in one.values if value.path == path] for path in ("00080018", "0020000E", "0020000D"))
        rows[Image][one.image_id] = {"sop_instance_uid": sop[0], "version": versions[sop[0]], "added_at": one.added}
        rows[Series].setdefault(one.series_id, {"series_instance_uid": series[0]})
        rows[Study].setdefault(one.study_id, {"study_instance_uid": study[0]})
        versions[sop[0]] += 1
    for model, changes in rows.items():
        dbsession.execute(sa.update(model), [{"id": id_, **change} for id_, change in changes.items()])


def wrong_answers(dbsession: Session, truth: Truth, node: query.Node, drawn: random.Random) -> list[str]:
    """Tell which answers to a query differ from brute force."""
    found = truth.found(node)
    wrong = []
    field = random_field(drawn, truth.images)
    shown = ["id", "images", query.field_at(field.path)]
    order = [(random_path(drawn, truth), drawn.random() < 0.5) for _ in range(drawn.choice([1, 1, 2]))]
    # Everything at each level in the order of import, the rest at one of them.
    other = drawn.choice(search.LEVELS)
    for level in search.LEVELS:
        rows = truth.rows(found, level)
        if search.count(dbsession, node, level) != len(rows):
            wrong.append(f"count of {level}")
        expected: dict[Order, list[int]] = {(): list(rows)}
        if level == other:
            expected[("added", True),] = list(rows)[::-1]
            expected[tuple((query.field_at(path), descending) for path, descending in order)] = truth.sorted_rows(found, level, order)
            wrong += [f"{problem} of {level}: {field}" for problem in wrong_facet(dbsession, truth, node, found, field, level)]
            exported = b"".join(search.export(dbsession, node, level=level, columns=["id", "images"], format="tsv")).decode().splitlines()[1:]
            if exported != [f"{own_id(images, level)}\t{len(images)}" for images in rows.values()]:
                wrong.append(f"export of {level}")
        for sort, ids in expected.items():
            wrong += [f"{problem} of {level} by {sort}" for problem in wrong_pages(dbsession, node, level, sort, shown, ids, rows)]
    return wrong


def own_id(images: Sequence[Known], level: str) -> int:
    return images[0].image_id if level == "image" else images[0].id(level)


def random_path(drawn: random.Random, truth: Truth) -> str:
    return drawn.choice(drawn.choice(truth.images).values).path


def wrong_pages(dbsession: Session, node: query.Node, level: str, sort: Order, shown: Columns, ids: list[int], rows: dict[int, list[Known]]) -> Iterator[str]:
    """Walk through all pages and back, and tell what is wrong with them."""
    size = max(5, len(ids) // 3)
    walked: list[search.Row] = []
    after = None
    pages = []
    while True:
        page = search.find(dbsession, node, level=level, columns=shown, sort=sort, size=size, after=after)
        pages.append([row.id for row in page.rows])
        walked += page.rows
        if page.total != len(ids):
            yield "total"
        if (page.previous is None) != (len(pages) == 1 or not page.rows):
            yield "previous"
        if page.next is None or len(pages) > 10:
            break
        after = page.next
    if [row.first if level == "image" else row.id for row in walked] != ids:
        yield "pages"
        return
    for row, id_ in zip(walked, ids, strict=True):
        first = rows[id_][0]
        links = (row.first, row.image_id, row.series_id, row.study_id, row.batch_id, row.batch, row.images)
        if links != (first.key, first.image_id, first.series_id, first.study_id, first.batch_id, first.batch, len(rows[id_])):
            yield "row"
    back = page.previous
    for expected in reversed(pages[:-1]):
        page = search.find(dbsession, node, level=level, columns=[], sort=sort, size=size, after=back)
        if [row.id for row in page.rows] != expected:
            yield "page back"
        back = page.previous


def wrong_facet(dbsession: Session, truth: Truth, node: query.Node, found: Sequence[Known], field: query.Field, level: str) -> Iterator[str]:
    """Tell what is wrong with the facet of a field."""
    expected = truth.facet(found, field, level)
    having = {known.id(level) for known in found if at(field, known.values)}
    total = len({known.id(level) for known in found})
    for limit in (1000, 3):
        answer = search.facet(dbsession, node, field, level=level, limit=limit)
        if [(value.text, value.count) for value in answer.values] != expected[:limit]:
            yield "facet"
        if (answer.total, answer.missing, answer.more) != (total, total - len(having), len(expected) > limit):
            yield "numbers of a facet"
        if not has_numbers(field) and answer.histogram:
            yield "histogram of texts"
        inside = set()
        for bar in answer.histogram:
            of_bar = {(known.id(level), value.number) for known in found for value in at(field, known.values) if value.number is not None and bar.low <= value.number < bar.high}
            inside |= of_bar
            if bar.count != len({id_ for id_, _ in of_bar}):
                yield f"bar {bar}"
        numbers = {(known.id(level), value.number) for known in found for value in at(field, known.values) if value.number is not None}
        if answer.histogram and inside != numbers:
            yield "a number is in no bar"


def ask(engine: sa.Engine, truth: Truth, seed: int) -> None:
    """Ask random questions and compare."""
    drawn = random.Random(seed)
    answered = 0
    wrong = []
    with work(engine, read_only=True) as dbsession:
        for _ in range(QUERIES):
            node = random_node(drawn, truth.images)
            answered += 0 < sum(matches(node, known) for known in truth.images) < len(truth.images)
            if problems := wrong_answers(dbsession, truth, node, drawn):
                wrong.append(f"{sorted(set(problems))}: {node}")
    assert not wrong, "\n".join(wrong)
    # Questions that everything or nothing answers would show little.
    assert answered > QUERIES * 0.2


def test_random_queries_over_generated_images(engine: sa.Engine, generated: Truth) -> None:
    ask(engine, generated, seed=11)


def test_random_queries_over_sample_files_as_pydicom_reads_them(engine: sa.Engine, imported: Truth) -> None:
    assert len(imported.images) > 120
    assert len({known.study_id for known in imported.images}) > 40

    ask(engine, imported, seed=12)


def test_columns_of_sample_files_are_what_pydicom_reads(engine: sa.Engine, imported: Truth) -> None:
    # Group lengths are in no DICOM JSON, PS3.18 F.2.2.
    there = {value.path for known in imported.images for value in known.values}
    paths = sorted(path for path in there if path[4:8] != "0000" and not path.startswith("7FE0"))[::7]
    columns = [query.field_at(path) for path in paths]
    checked = 0
    with work(engine, read_only=True) as dbsession:
        for start in range(0, len(columns), 50):
            some = columns[start : start + 50]
            found = search.find(dbsession, query.EVERYTHING, level="image", columns=some, size=1000)
            for row, known in zip(found.rows, imported.images, strict=True):
                for column in some:
                    expected = {value.text for value in known.values if value.path == column.path}
                    shown = row.values.get(column.name)
                    if shown is None or "<" in shown or "…" in shown:
                        # Bulk data, and sequences, have no text.
                        assert shown is not None or not expected, (row.image_id, column)
                        continue
                    assert {same(text) for text in shown.split("\\") if text} <= {same(text) for value in expected for text in (value, *value.split("\\"))}, (row.image_id, column)
                    checked += 1
    assert checked > 1000


def same(text: str) -> object:
    """Numbers come back from DICOM JSON as numbers, so 1.500 may be 1.5."""
    try:
        return float(text)
    except ValueError:
        return text.strip(" ").rstrip("=")
