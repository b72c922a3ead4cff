"""kill -9 of workers, their supervisor, the watcher and the broker in the middle of an import, again and again.

``KILL_FILES`` and ``KILLS`` in the environment make it larger: 2000 files and 50 kills are what a release is held to.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb.models import Batch, Job
from dicomweb.settings import Settings
from tests import services
from tests.dicom_files import image_bytes, truncated_bytes, write_series
from tests.importing import check_consistency, codes_of, rows, storage_of
from tests.programs import Program, broker, program, wait_for

FILES = int(os.environ.get("KILL_FILES", "300"))
KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("KILL_SEED", "1"))


class Installation:
    """Workers, watcher and broker of one state folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.broker, url = broker(folder)
        self.workers = program(
            settings, "workers", url, workers="3", jobs__lease_seconds="2", jobs__sweep_seconds="1",
            jobs__max_attempts="50", import__chunk_files="16",
        )  # fmt: skip
        self.watcher = program(settings, "watcher", url, watch__scan_seconds="1")

    def all(self) -> tuple[Program, ...]:
        return self.broker, self.workers, self.watcher

    def kill_something(self, choice: random.Random) -> str:
        """Kill one of them, and start again what nobody else starts."""
        target = choice.choice(["worker", "worker", "workers", "watcher", "broker"])
        if target == "worker":
            children = self.workers.children()
            if children:
                os.kill(choice.choice(children), signal.SIGKILL)
        else:
            victim: Program = getattr(self, target)
            victim.start()
        return target


@pytest.fixture
def installation(settings: Settings) -> Iterator[Installation]:
    with services.private_folder() as folder:
        installation = Installation(settings, folder)
        yield installation
        for started in installation.all():
            started.stop()


@pytest.mark.slow
@pytest.mark.timeout(max(300, FILES))
def test_every_file_has_one_outcome_however_often_something_is_killed(
    engine: sa.Engine, settings: Settings, installation: Installation, tmp_path: Path
) -> None:
    choice = random.Random(SEED)
    folder = tmp_path / "prepared"
    expected: Counter[str] = Counter()
    for number in range(FILES // 30):
        write_series(folder / f"{number:03}", 30, seed=number)
        (folder / f"{number:03}" / "text").write_bytes(b"no image")
        (folder / f"{number:03}" / "cut").write_bytes(truncated_bytes(seed=f"cut {number}"))
        shutil.copy(folder / f"{number:03}" / "IM00001.dcm", folder / f"{number:03}" / "twin")
        (folder / f"{number:03}" / "other").write_bytes(image_bytes(f"{number}/7", StudyDescription="other"))
        expected += Counter({"imported": 30, "not-dicom": 1, "truncated": 1, "duplicate": 1, "conflict": 1})
    for started in installation.all():
        started.start()
    data: Path = settings["watch.folders"][0]
    shutil.move(folder, data / "knee.tmp")
    (data / "knee.tmp").rename(data / "knee")
    total = expected.total()
    points = sorted(choice.randrange(total) for _ in range(KILLS))
    killed = []
    for point in points:
        wait_for(lambda point=point: done(engine) >= point, f"{point} of {total} files, killed {killed}", seconds=120)
        killed.append(installation.kill_something(choice))
    wait_for(lambda: is_done(engine, total), f"all files, killed {killed}", seconds=120)
    for started in (installation.watcher, installation.workers):
        started.terminate()
    [batch] = rows(engine, sa.select(Batch))
    assert Counter(codes_of(engine, batch).values()) == expected
    check_consistency(engine, storage_of(settings))


def done(engine: sa.Engine) -> int:
    return sum(rows(engine, sa.select(Batch.done_count)))


def is_done(engine: sa.Engine, total: int) -> bool:
    return done(engine) >= total and not rows(engine, sa.select(Job.id).where(Job.status != "done"))
