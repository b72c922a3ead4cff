"""The index answers as brute force does, on both databases: counts, pages, keys, facets and series of random expressions.

``INDEX_TREES`` asks more questions than the default run does.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import headers, index
from dicomweb.db import work
from dicomweb.index import Expression, Member, compiler
from dicomweb.models import Image
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.corpus import Generated
from tests.unit.dicomweb.index.filled import import_all, remove, rows_of
from tests.unit.dicomweb.index.truth import Value, matches, random_tree, values_of

TREES = int(os.environ.get("INDEX_TREES", "25"))
EMPTY = dict.fromkeys(("header_group", "group_series", "group_header", "group_column", "promoted_number", "group_document", "header"), 0)


def hard_images(studies: range, largest_series: int = 24) -> list[Generated]:
    """Give images of all modalities, most of whose series have odd images, with all that is strange."""
    return [image for number in studies for image in corpus.images(number, corpus.MIXED, odd=0.7, hard=True, largest_series=largest_series)]


class Truth:
    """What brute force knows: the values and the series of each image, by header key."""

    def __init__(self, imported: Mapping[int, Generated]) -> None:
        self.values = {key: values_of(imported[key].member) for key in sorted(imported)}
        self.series = {key: image.member.series_id for key, image in imported.items()}

    def keys(self, expression: Expression) -> list[int]:
        """Give the keys of the images that match."""
        return [key for key, values in self.values.items() if matches(expression, values)]

    def facet(self, keys: Sequence[int], path: str) -> list[tuple[str, int]]:
        """Count the texts of a path among some images."""
        counted = Counter(value.text for key in keys for value in self.values[key] if value.path == path)
        return sorted(counted.items(), key=lambda item: (-item[1], item[0]))

    def without(self, keys: Sequence[int]) -> None:
        """Forget images."""
        for key in keys:
            del self.values[key], self.series[key]


def differences(dbsession: Session, truth: Truth, expression: Expression, path: str) -> list[str]:
    """Tell which answers to an expression differ from brute force."""
    expected = truth.keys(expression)
    wrong = []
    if index.count(dbsession, expression) != len(expected):
        wrong.append("count")
    paged: list[int] = []
    limit = max(7, len(expected) // 3)
    while page := index.page(dbsession, expression, limit=limit, after=paged[-1] if paged else -1):
        paged += page
    if paged != expected:
        wrong.append("pages")
    if list(index.keys(dbsession, expression)) != expected:
        wrong.append("keys")
    facet = truth.facet(expected, path)
    if index.facet(dbsession, expression, path, 10_000) != facet or index.facet(dbsession, expression, path, 3) != facet[:3]:
        wrong.append(f"facet of {path}")
    series = sorted({truth.series[key] for key in expected})
    if index.series_of(dbsession, expression) != series or index.count_series(dbsession, expression) != len(series):
        wrong.append("series")
    return wrong


def ask(engine: sa.Engine, truth: Truth, seed: int, trees: int = TREES, past: Sequence[Sequence[Value]] = ()) -> None:
    """Ask random questions about the images and compare; past: images that are no more, whose values are asked for too."""
    drawn = random.Random(seed)
    images = [*truth.values.values(), *past]
    answered = wrong = 0
    report = []
    with work(engine, read_only=True) as dbsession:
        for _ in range(trees):
            expression = random_tree(drawn, images)
            path = drawn.choice(drawn.choice(images)).path
            answered += 0 < len(truth.keys(expression)) < len(truth.values)
            if found := differences(dbsession, truth, expression, path):
                wrong += 1
                report.append(f"{found}: {expression}")
    assert report == []
    assert wrong == 0
    # Questions that everything or nothing answers would show little.
    assert answered > trees * 0.2


@pytest.fixture(params=["columns", "promoted rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which way promoted ranges are opened."""
    monkeypatch.setattr(compiler, "MANY_GROUPS", {"columns": 10_000, "promoted rows": 3}[request.param])
    return str(request.param)


def test_random_expressions_over_hard_images(engine: sa.Engine, way: str) -> None:
    imported = import_all(engine, hard_images(range(18)))

    ask(engine, Truth(imported), seed=len(way))


def test_random_expressions_over_radiographs(engine: sa.Engine) -> None:
    studies = [image for number in range(40) for image in corpus.images(number, corpus.RADIOGRAPHS)]

    ask(engine, Truth(import_all(engine, studies, chunk=64)), seed=3)


def test_random_expressions_over_sample_files(engine: sa.Engine, pydicom_files: Sequence[os.PathLike[str]]) -> None:
    imported = import_all(engine, sample_members(pydicom_files), chunk=64)

    ask(engine, Truth(imported), seed=4)


def test_after_single_images_are_removed_the_rest_is_as_if_they_had_never_been(engine: sa.Engine) -> None:
    imported = import_all(engine, hard_images(range(30, 38)))
    truth = Truth(imported)
    drawn = random.Random(7)
    gone = drawn.sample(sorted(imported), len(imported) // 3)
    past = [truth.values[key] for key in gone]
    remove(engine, gone)
    truth.without(gone)

    ask(engine, truth, seed=5, past=past)
    with work(engine, read_only=True) as dbsession:
        assert set(index.read_headers(dbsession, list(imported), bulk_prefix=lambda key: b"")) == set(truth.values)
        for path in sorted({value.path for values in past for value in values})[::9]:
            assert index.facet(dbsession, index.everything(), path, 100_000) == truth.facet(list(truth.values), path)


def test_after_the_last_image_is_removed_nothing_is_left(engine: sa.Engine) -> None:
    imported = import_all(engine, hard_images(range(50, 53)))
    keys = sorted(imported)
    remove(engine, keys[::2])
    remove(engine, keys[1::2])

    with work(engine, read_only=True) as dbsession:
        rows = rows_of(dbsession)
        assert {name: rows[name] for name in EMPTY} == EMPTY
        assert index.count(dbsession, index.everything()) == 0


def test_deleting_a_batch_leaves_the_other_as_it_was(engine: sa.Engine) -> None:
    shared = hard_images(range(60, 64))
    kept = Truth(import_all(engine, hard_images(range(62, 68)), batch_id=1))
    with work(engine, read_only=True) as dbsession:
        before = rows_of(dbsession)
    deleted = import_all(engine, shared, batch_id=2)
    past = [values_of(image.member) for image in deleted.values()]
    with work(engine) as dbsession:
        groups = sorted({key // 4096 for key in deleted})
        dbsession.execute(sa.delete(Image).where(Image.batch_id == 2))
        index.delete_groups(dbsession, groups)

    with work(engine, read_only=True) as dbsession:
        after = rows_of(dbsession)
    assert {name: after[name] for name in EMPTY} == {name: before[name] for name in EMPTY}
    ask(engine, kept, seed=6, past=past)
    with work(engine) as dbsession:
        dbsession.execute(sa.delete(Image))
        index.delete_groups(dbsession, sorted({key // 4096 for key in kept.values}))
    with work(engine, read_only=True) as dbsession:
        rows = rows_of(dbsession)
    assert {name: rows[name] for name in EMPTY} == EMPTY


def sample_members(files: Sequence[os.PathLike[str]]) -> list[Generated]:
    """Read real files; one series each folder of them, so that there are large and tiny ones."""
    found = []
    folders: dict[str, int] = {}
    for path in files:
        try:
            header = headers.read_header(Path(path).read_bytes())
        except headers.HeaderError:
            continue
        series_id = folders.setdefault(os.path.dirname(path), len(folders) + 1)
        found.append(Generated(os.fspath(path), Member(series_id, header.value("00080060"), header.elements, header.json, header.meta)))
    return found
