"""The command line's watcher, session and cleanup, with the real watcher as a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from dicomweb import sessions, watching
from dicomweb.cli import commands
from dicomweb.db import work
from dicomweb.health import complaint
from dicomweb.models import Arrival, Batch, Cleanup, Job, WebSession
from dicomweb.settings import Settings
from tests.dicom_files import write_series
from tests.importing import drain_everything, import_folder, importer_of, rows
from tests.programs import ROOT, Program, program, wait_for

Run = Callable[..., Any]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line over the state folder and the database of the test."""
    monkeypatch.setenv("DICOMWEB_VAR", str(settings.var))
    monkeypatch.setenv("DICOMWEB_WATCH", str(settings["watch.folders"][0]))
    monkeypatch.setenv("DICOMWEB_DATABASE_URL", settings.database_url)
    return lambda *arguments: CliRunner().invoke(commands, ["--ini", str(ROOT / "development.ini"), *arguments])


@pytest.fixture
def watcher(settings: Settings, tmp_path: Path) -> Iterator[Program]:
    """The watcher, running."""
    watcher = program(settings, "watcher", f"redis+socket://{tmp_path}/nobody.sock", watch__scan_seconds="600")
    watcher.start()
    yield watcher
    watcher.stop()


def status(settings: Settings) -> watching.WatcherStatus:
    return watching.status(settings, now=datetime.now(UTC))


def drop(settings: Settings, name: str) -> None:
    folder = settings["watch.folders"][0] / name
    write_series(folder, 1, seed=name)
    (folder / ".done").touch()


def names(engine: sa.Engine) -> list[str]:
    return [batch.name for batch in rows(engine, sa.select(Batch).order_by(Batch.id))]


def test_a_watcher_is_stopped_started_and_told_to_look_while_its_process_goes_on(
    engine: sa.Engine, settings: Settings, watcher: Program, run: Run
) -> None:
    wait_for(lambda: status(settings).active, "the watcher is active")
    drop(settings, "before")
    wait_for(lambda: names(engine) == ["before"], "the first folder is a batch")
    assert "stops within a few seconds" in run("watcher", "stop").output
    wait_for(lambda: not status(settings).active, "the watcher rests")
    assert status(settings).alive
    assert "stopped" in run("watcher").output
    assert complaint(settings, "watcher", now=datetime.now(UTC)) is None, "a container must not be restarted for that"
    drop(settings, "meanwhile")
    watcher.terminate()
    assert not status(settings).alive
    watcher.start()
    wait_for(lambda: status(settings).alive and not status(settings).active, "a new process knows the wish")
    assert names(engine) == ["before"]
    assert rows(engine, sa.select(Arrival)) == []
    pid = status(settings).pid
    run("watcher", "start")
    wait_for(lambda: names(engine) == ["before", "meanwhile"], "what was dropped meanwhile is a batch")
    wait_for(lambda: status(settings).active, "the watcher is active again")
    scanned = status(settings).scanned
    assert scanned is not None
    assert "looks at everything" in run("watcher", "rescan").output
    wait_for(lambda: (status(settings).scanned or scanned) > scanned, "it looked at everything")
    assert status(settings).pid == pid


def test_sessions_are_listed_and_ended(engine: sa.Engine, run: Run) -> None:
    assert run("session", "list").output == "There is no session.\n"
    with work(engine) as dbsession:
        for letter in "abc":
            sessions.begin(dbsession, letter * 43, address="192.0.2.7", browser="Tool\x1b[31m", now=datetime.now(UTC))
    listed = run("session", "list").output.splitlines()
    assert len(listed) == 5
    assert "192.0.2.7" in listed[2]
    assert "\x1b" not in "".join(listed)
    assert run("session", "end").exit_code == 2
    assert run("session", "end", "nobody").exit_code == 1
    assert run("session", "end", listed[2].split()[0]).output == "The session has ended.\n"
    assert run("session", "end", "--all").output == "2 ended.\n"
    assert rows(engine, sa.select(WebSession)) == []


def test_a_clean_up_tells_first_and_does_it_when_it_is_said_so(engine: sa.Engine, settings: Settings, run: Run) -> None:
    folder = settings["watch.folders"][0] / "knee"
    write_series(folder, 2, seed=1)
    import_folder(engine, settings, folder)
    assert run("cleanup").output.startswith("0 source folders with 0 images")
    assert run("cleanup", "--days", "0").output.startswith("1 source folders with 2 images")
    assert rows(engine, sa.select(Cleanup)) == rows(engine, sa.select(Job).where(Job.status == "queued")) == []
    assert run("cleanup", "--days", "0", "--yes").output.startswith("1 of 1 source folders")
    drain_everything(importer_of(engine, settings))
    assert not folder.exists()


def test_a_clean_up_by_reference_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMWEB_IMPORT_MODE", "reference")
    answer = run("cleanup", "--yes")
    assert answer.exit_code == 1
    assert "only copy" in answer.output
