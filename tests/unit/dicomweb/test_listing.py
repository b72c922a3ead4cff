"""Pages of a list: exact on every page, in a constant number of statements."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from dicomweb.db import work
from dicomweb.listing import Page, take_page
from dicomweb.models import Batch, Image
from tests.statements import statements

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 1003


@pytest.fixture
def images(engine: sa.Engine) -> list[int]:
    """The ids of many images of two batches, and of some that are gone."""
    with work(engine) as dbsession:
        two = [Batch(name=name, created_at=NOW, modified_at=NOW) for name in "ab"]
        dbsession.add_all(two)
        dbsession.flush()
        rows = [{"batch_id": two[n % 2].id, "path": f"{n % 7}", "status": "NEW", "version": 0} for n in range(ROWS)]
        ids = list(dbsession.scalars(sa.insert(Image).returning(Image.id, sort_by_parameter_order=True), rows))
        dbsession.execute(sa.delete(Image).where(Image.id.in_(ids[::10])))
    return [id_ for position, id_ in enumerate(ids) if position % 10]


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_the_pages_of_a_list_are_the_list(engine: sa.Engine, images: list[int], size: int) -> None:
    numbers = [*range(1, 6), -(-len(images) // size), -(-len(images) // size) + 1, 10_000, 10**30]
    with work(engine, read_only=True) as dbsession:
        for number in numbers:
            page = take_page(dbsession, sa.select(Image), Image.id, number=number, size=size)
            assert [row.id for row in page.rows] == images[(number - 1) * size : number * size]
            assert (page.count, page.number, page.size) == (len(images), number, size)
            assert page.pages == -(-len(images) // size)


def test_the_newest_come_first_when_asked(engine: sa.Engine, images: list[int]) -> None:
    with work(engine, read_only=True) as dbsession:
        page = take_page(dbsession, sa.select(Image), Image.id, number=2, size=10, newest_first=True)
    assert [row.id for row in page.rows] == images[::-1][10:20]


def test_filters_joins_and_another_order_stay_exact(engine: sa.Engine, images: list[int]) -> None:
    statement = sa.select(Image).join(Batch, Batch.id == Image.batch_id).where(Batch.name == "b", Image.path != "3")
    with work(engine, read_only=True) as dbsession:
        every = list(dbsession.scalars(statement.order_by(Image.path.desc(), Image.id)))
        found = [
            row.id
            for number in range(1, 12)
            for row in take_page(
                dbsession, statement, Image.id, number=number, size=40, order=(Image.path.desc(),)
            ).rows
        ]
    assert 300 < len(every) < 440
    assert found == [row.id for row in every]


@pytest.mark.parametrize(("known", "expected"), [(None, 2), (ROWS, 1)])
def test_a_page_takes_as_many_statements_on_every_page(
    engine: sa.Engine, images: list[int], known: int | None, expected: int
) -> None:
    counts = []
    for number, size in ((1, 10), (80, 10), (1, 900)):
        with work(engine, read_only=True) as dbsession, statements(engine) as ran:
            take_page(dbsession, sa.select(Image), Image.id, number=number, size=size, count=known)
        counts.append(len(ran))
    assert counts == [expected] * 3


def test_an_empty_list_has_one_empty_page(engine: sa.Engine) -> None:
    with work(engine, read_only=True) as dbsession:
        page = take_page(dbsession, sa.select(Image), Image.id, number=1, size=50)
    assert page == Page(count=0, number=1, size=50, rows=[])
    assert page.pages == 1
