"""What every step of an import needs, and how it goes back to the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom.datadict import tag_for_keyword

from dicomweb import batches, jobs
from dicomweb.db import work
from dicomweb.models import Job
from dicomweb.settings import SettingError, Settings
from dicomweb.storage import Storage


class Stopping(Exception):
    """The job goes back to the queue, and nothing of it was kept: the worker has to stop, or must begin again."""


@dataclass(slots=True)
class Importer:
    """What a worker needs to import: where the rows, the bytes and the settings are.

    stopping: asked between files; clock: tells the time.
    """

    engine: sa.Engine
    settings: Settings
    storage: Storage
    doorbell: jobs.Doorbell | None = None
    stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    promoted: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.promoted = frozenset(_path_of_keyword(keyword) for keyword in self.settings["index.promoted"])

    def work(self, *, read_only: bool = False) -> Any:
        """Open a unit of work whose jobs ring this importer's doorbell."""
        return work(self.engine, read_only=read_only, doorbell=self.doorbell)


def incoming_folder(settings: Settings) -> Path:
    """Tell where files that come over the network lie until they are stored."""
    return settings.var / "incoming"


def _path_of_keyword(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise SettingError(f"index.promoted (DICOMWEB_INDEX_PROMOTED): {keyword} is not a DICOM keyword.")
    return f"{tag:08X}"


def batch_of(job: Job) -> int:
    """Give the id of the batch a job works on. Raises BatchGone."""
    if job.batch_id is None:
        raise batches.BatchGone(f"job {job.id} names no batch")
    return job.batch_id
