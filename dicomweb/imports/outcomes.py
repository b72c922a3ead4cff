"""What became of a file that did not simply become an image, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.models import Outcome


class NoImage(NamedTuple):
    """A file that is no image, and why. place: of an uploaded file, where it lies."""

    image_id: int
    path: str
    size: int | None
    kind: str
    code: str
    message: str
    place: str | None = None


def outcome(
    path: str, kind: str, code: str, message: str, size: int | None, *, place: str | None = None, **links: int | None
) -> dict[str, Any]:
    """Make the columns of an outcome; links: ``image_id``, ``other_image_id``."""
    return {
        "path": path,
        "place": place,
        "kind": kind,
        "code": code,
        "message": message,
        "size": size,
        "image_id": None,
        "other_image_id": None,
        **links,
    }


def add_outcomes(dbsession: Session, batch_id: int, rows: Sequence[dict[str, Any]], now: datetime) -> None:
    """Add outcomes to a batch."""
    if rows:
        dbsession.execute(sa.insert(Outcome), [{**row, "batch_id": batch_id, "at": now} for row in rows])
