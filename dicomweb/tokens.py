"""Tokens: what programs show instead of the password, each with a name, a scope and perhaps an end.

The secret is told once, when the token is made; the database keeps its SHA-256. It is random, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import change
from dicomweb.languages import gettext
from dicomweb.models import Token

LONGEST_NAME = 100
# So that a secret which turns up in a log or a repository is known for what it is.
PREFIX = "dicomweb_"
# How exactly ``used_at`` is kept: a write for each request would slow all of them.
USED_SECONDS = 60
_SECRET = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


class TokenRefused(ValueError):
    """A token cannot be made; the text says why."""


def add(
    dbsession: Session, name: str, *, writes: bool, expires_at: datetime | None = None, now: datetime
) -> tuple[Token, str]:
    """Make a token; give it and its secret, which is nowhere else. Raises TokenRefused.

    writes: may it change things, or only read. expires_at: None for never.
    """
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise TokenRefused(gettext("A token needs a name of 1 to %(most)s printable characters.", most=LONGEST_NAME))
    if expires_at is not None and expires_at <= now:
        raise TokenRefused(gettext("A token must end in the future."))
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token(name=name, secret_hash=_hash(secret), writes=writes, created_at=now, expires_at=expires_at)
    try:
        with dbsession.begin_nested():
            dbsession.add(token)
    except sa.exc.IntegrityError:
        raise TokenRefused(gettext("There is a token with this name already.")) from None
    return token, secret


def find(dbsession: Session, secret: str, *, now: datetime) -> Token | None:
    """Give the token with a secret, None when there is none or its time is over."""
    if not _SECRET.fullmatch(secret):
        return None
    token = dbsession.scalar(sa.select(Token).where(Token.secret_hash == _hash(secret)))
    return None if token is None or is_over(token, now=now) else token


def end_of_day(text: str) -> datetime | None:
    """Give the end of a day written as 2027-03-31, in UTC; None for an empty text. Raises TokenRefused."""
    if not text.strip():
        return None
    try:
        return datetime.combine(date.fromisoformat(text.strip()) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise TokenRefused(gettext("The last day of a token is written as 2027-03-31.")) from None


def is_over(token: Token, *, now: datetime) -> bool:
    """Tell whether the time of a token is over."""
    return token.expires_at is not None and token.expires_at <= now


def is_noted(token: Token, *, now: datetime) -> bool:
    """Tell whether it is known well enough that a token was used just now."""
    return token.used_at is not None and (now - token.used_at).total_seconds() < USED_SECONDS


def note_use(dbsession: Session, token_id: int, *, now: datetime) -> None:
    """Note that a token was used."""
    change(dbsession, sa.update(Token).where(Token.id == token_id).values(used_at=now))


def every(dbsession: Session) -> Sequence[Token]:
    """Give all tokens by name, those whose time is over too."""
    return dbsession.scalars(sa.select(Token).order_by(Token.name)).all()


def revoke(dbsession: Session, token_id: int) -> bool:
    """Take a token away at once; tell whether it was there."""
    return change(dbsession, sa.delete(Token).where(Token.id == token_id)) > 0


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
