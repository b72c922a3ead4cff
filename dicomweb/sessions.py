"""The browsers that gave the password: listed, noted when they ask for something, ended one by one or all together.

The cookie's token is random, and only its SHA-256 is kept; so the beginning of that hash can name a session on a page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import change
from dicomweb.models import WebSession

# A browser that is never closed keeps its cookie for ever; the database does not.
LIFETIME = timedelta(hours=24)
# How exactly ``seen_at`` is kept: a write for each request would slow all of them.
SEEN_SECONDS = 60
LONGEST_BROWSER = 200
NAME_LETTERS = 16


def begin(dbsession: Session, token: str, *, address: str, browser: str, now: datetime) -> None:
    """Note that the browser with this token in its cookie gave the password; forget sessions whose time is over."""
    change(dbsession, sa.delete(WebSession).where(WebSession.expires_at <= now))
    shown = "".join(letter if letter.isprintable() else "?" for letter in browser[:LONGEST_BROWSER])
    dbsession.add(
        WebSession(
            token_hash=hash_of(token), created_at=now, expires_at=now + LIFETIME, address=address, browser=shown, seen_at=now
        )
    )


def find(dbsession: Session, token: str, *, now: datetime) -> WebSession | None:
    """Give the session of a token; None when there is none or its time is over."""
    session = dbsession.get(WebSession, hash_of(token))
    return session if session is not None and session.expires_at > now else None


def is_noted(session: WebSession, *, address: str, now: datetime) -> bool:
    """Tell whether it is known well enough that a session is used now, and from where."""
    seen = session.seen_at or session.created_at
    return (now - seen).total_seconds() < SEEN_SECONDS and session.address in ("", address)


def note_use(dbsession: Session, token: str, *, address: str, now: datetime) -> None:
    """Note that a browser asked for something."""
    change(dbsession, sa.update(WebSession).where(WebSession.token_hash == hash_of(token)).values(seen_at=now, address=address))


def every(dbsession: Session, *, now: datetime, limit: int = 200) -> Sequence[WebSession]:
    """Give the sessions whose time is not over, the newest first."""
    running = sa.select(WebSession).where(WebSession.expires_at > now)
    return dbsession.scalars(running.order_by(WebSession.created_at.desc(), WebSession.token_hash).limit(limit)).all()


def name_of(session: WebSession) -> str:
    """Name a session, so that it can be ended: nothing can be opened with the name."""
    return session.token_hash[:NAME_LETTERS]


def end(dbsession: Session, token: str) -> None:
    """End the session of a token."""
    change(dbsession, sa.delete(WebSession).where(WebSession.token_hash == hash_of(token)))


def end_named(dbsession: Session, name: str) -> bool:
    """End the session with a name; tell whether it was there."""
    if len(name) != NAME_LETTERS or not name.isalnum():
        return False
    return change(dbsession, sa.delete(WebSession).where(WebSession.token_hash.startswith(name))) > 0


def end_all(dbsession: Session, *, but_of: str | None = None) -> int:
    """End all sessions, except perhaps that of a token; tell how many."""
    ending = sa.delete(WebSession)
    return change(dbsession, ending if but_of is None else ending.where(WebSession.token_hash != hash_of(but_of)))


def hash_of(token: str) -> str:
    """Give what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
