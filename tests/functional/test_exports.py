"""Exports on their way: numbers, ends of all kinds, and bounds, over real imports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dicomweb import asking, exports, search
from dicomweb.asking import Mistake
from dicomweb.exports import Export, Exports, ExportStopped, TooManyExports
from dicomweb.settings import Settings
from dicomweb.storage import Storage


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """The storage of the imports."""
    return Storage(settings.var / "storage", sync=settings["storage.sync"])


def begin(made: Exports, engine: sa.Engine, storage: Storage, text: str = "", kind: str = "csv", name: str = "") -> Export:
    return made.begin(engine, storage, asking.read_question(text), kind, name=name)


def connections(engine: sa.Engine) -> int:
    pool = engine.pool
    assert isinstance(pool, sa.QueuePool)
    return pool.checkedout()


def test_it_counts_what_it_writes(imported: int, engine: sa.Engine, storage: Storage) -> None:
    made = Exports(1)
    export = begin(made, engine, storage, "Modality:MR", name="x")
    assert made.find("x") is export
    assert (export.state, export.total, export.done, export.octets) == ("running", 2, 0, 0)
    written = b"".join(export)
    assert len(list(csv.reader(io.StringIO(written.decode())))) == 3
    assert (export.state, export.done, export.octets) == ("done", 2, len(written))
    export.close()
    assert export.state == "done"
    assert connections(engine) == 0


def test_one_that_is_stopped_breaks_off_and_leaves_no_connection(imported: int, engine: sa.Engine, storage: Storage) -> None:
    export = begin(Exports(1), engine, storage)
    next(export)
    export.stop()
    with pytest.raises(ExportStopped):
        next(export)
    assert (export.state, connections(engine)) == ("stopped", 0)


def test_one_whose_reader_goes_away_ends(imported: int, engine: sa.Engine, storage: Storage) -> None:
    for pieces in (0, 1):
        export = begin(Exports(1), engine, storage, kind="zip")
        for _ in range(pieces):
            next(export)
        export.close()
        assert (export.state, connections(engine)) == ("stopped", 0)


def test_one_that_fails_says_so(imported: int, engine: sa.Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*_arguments: object, **_options: object) -> Iterator[bytes]:
        yield b"x"
        raise OSError("The disk is gone.")

    monkeypatch.setattr(search, "export", breaking)
    export = begin(Exports(1), engine, storage)
    assert next(export) == b"x"
    with pytest.raises(OSError, match="disk"):
        next(export)
    assert (export.state, connections(engine)) == ("failed", 0)


def test_there_are_no_more_at_once_than_allowed(imported: int, engine: sa.Engine, storage: Storage) -> None:
    made = Exports(2)
    running = [begin(made, engine, storage), begin(made, engine, storage)]
    with pytest.raises(TooManyExports):
        begin(made, engine, storage)
    running[0].close()
    begin(made, engine, storage).close()
    running[1].close()


def test_a_question_that_cannot_be_answered_takes_no_place(imported: int, engine: sa.Engine, storage: Storage) -> None:
    made = Exports(1)
    for _ in range(2):
        with pytest.raises(Mistake):
            begin(made, engine, storage, kind="exe")
    begin(made, engine, storage).close()
    assert connections(engine) == 0


def test_the_numbers_of_old_exports_are_forgotten(imported: int, engine: sa.Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MOST_ENDED", 2)
    made = Exports(2)
    running = begin(made, engine, storage, name="running")
    for name in ("a", "b", "c", "d"):
        b"".join(begin(made, engine, storage, "Modality:MR", name=name))
    assert [name for name in ("running", "a", "b", "c", "d") if made.find(name)] == ["running", "b", "c", "d"]
    running.close()
