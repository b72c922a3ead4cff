"""A browser for the tests of the pages, and rows for them that need no import."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from webtest import TestApp

from dicomweb.db import work
from dicomweb.models import Arrival, Batch, Image, Job, Outcome, WebSession
from dicomweb.security import SESSION_COOKIE
from dicomweb.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{7*1237}}"


class Browser(TestApp):  # type: ignore[misc]
    """A browser: keeps cookies, does not follow redirects."""

    def __init__(self, app: Any, settings: Settings, engine: sa.Engine) -> None:
        super().__init__(app, extra_environ={"REMOTE_ADDR": "192.0.2.1"})
        self.settings = settings
        self.engine = engine
        self.session = ""

    def begin_session(self, lasts: timedelta = timedelta(hours=1)) -> str:
        """Be logged in, without the time that checking a password takes; give the token of the session."""
        token = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        row = WebSession(token_hash=hashlib.sha256(token.encode()).hexdigest(), created_at=now, expires_at=now + lasts)
        with work(self.engine) as dbsession:
            dbsession.add(row)
        self.use_session(token)
        return token

    def use_session(self, token: str) -> None:
        """Send this token as the cookie of the session."""
        self.reset()
        self.set_cookie(SESSION_COOKIE, token)
        self.session = token

    def token(self) -> str:
        """Give the token against forged requests of this browser."""
        return str(self.get("/settings").html.select_one("meta[name=csrf-token]")["content"])

    def press(self, path: str, **fields: str) -> Any:
        """Send a form as a page of ours does."""
        return self.post(path, {"csrf_token": self.token(), **fields}, expect_errors=True)

    def add(self, *rows: Any) -> None:
        """Put rows into the database."""
        with work(self.engine) as dbsession:
            dbsession.add_all(rows)

    def count(self, model: Any, *conditions: Any) -> int:
        """Count rows."""
        with work(self.engine, read_only=True) as dbsession:
            return dbsession.scalar(sa.select(sa.func.count()).select_from(model).where(*conditions)) or 0


def batch(name: str = "knee", **columns: Any) -> Batch:
    """Make a batch that is done."""
    return Batch(**{"name": name, "path": "/data/knee", "status": "DONE", "created_at": NOW, "modified_at": NOW, **columns})


def image(batch_id: int, path: str = "a.dcm", **columns: Any) -> Image:
    """Make an image whose file is known."""
    return Image(**{"batch_id": batch_id, "path": path, "status": "NEW", **columns})


def outcome(batch_id: int, path: str = "a.dcm", **columns: Any) -> Outcome:
    """Make an error."""
    made = {"kind": "error", "code": "truncated", "message": "The file ends too early.", "size": 10, "at": NOW}
    return Outcome(batch_id=batch_id, path=path, **{**made, **columns})


def arrival(path: str, **columns: Any) -> Arrival:
    """Make a folder that waits."""
    made = {"is_folder": True, "files": 3, "bytes": 4000, "reason": "Waits for .done to be written into it."}
    return Arrival(path=path, seen_at=NOW, changed_at=NOW, **{**made, **columns})


def job(**columns: Any) -> Job:
    """Make a job that failed."""
    made = {"kind": "import_chunk", "payload": {}, "status": "failed", "attempts": 5, "error": "The disk is full."}
    return Job(due_at=NOW, created_at=NOW, finished_at=NOW, **{**made, **columns})
