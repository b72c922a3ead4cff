"""What is at hand in the shell."""

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from dicomweb import batches, console
from dicomweb.models import Batch
from dicomweb.settings import Settings
from dicomweb.storage import Storage

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_an_open_shell_reads_and_never_keeps_anybody_from_writing(
    engine: sa.Engine, settings: Settings, tmp_path: Path
) -> None:
    storage = Storage(settings.var / "storage")
    env = {"registry": {"engine": engine, "storage": storage, "doorbell": None}}
    console.setup(env)
    assert {"dbsession", "models", "search", "storage", "batches", "work", "tm"} <= set(env)
    assert batches.totals(env["dbsession"]).batches == 0
    with env["work"]() as dbsession:
        assert batches.claim_arrival(dbsession, str(tmp_path / "knee"), stamp="s", now=NOW) is not None
    env["tm"].abort()
    env["tm"].begin()
    assert env["dbsession"].scalar(sa.select(Batch.name)) == "knee"
    env["tm"].abort()
