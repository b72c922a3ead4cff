"""Searches with a name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import query
from dicomweb.db import change
from dicomweb.languages import gettext
from dicomweb.models import SavedSearch
from dicomweb.search.columns import DEFAULT_COLUMNS, LEVELS, resolve_columns
from dicomweb.search.errors import SearchError
from dicomweb.search.finding import count

LONGEST_NAME = 100


def save_search(dbsession: Session, name: str, text: str, *, level: str = "image", columns: Sequence[str] = (), now: datetime) -> SavedSearch:
    """Save a search under a name; one that has the name already is replaced.

    columns: names as ``find`` takes them; without any those that the level shows. Raises SearchError, and QuerySyntaxError for
    a query that is none.
    """
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise SearchError(gettext("The name of a search has 1 to %(most)s printable characters.", most=LONGEST_NAME))
    if level not in LEVELS:
        raise SearchError(gettext("The level is image, series or study."))
    query.parse(text, now=now)
    names = list(columns) or list(DEFAULT_COLUMNS[level])
    resolve_columns(names)
    found = find_saved(dbsession, name) or SavedSearch(name=name, created_at=now)
    found.query, found.level, found.columns = text, level, names
    dbsession.add(found)
    dbsession.flush()
    return found


def find_saved(dbsession: Session, name: str) -> SavedSearch | None:
    """Give the search with a name."""
    return dbsession.scalar(sa.select(SavedSearch).where(SavedSearch.name == name))


def list_saved(dbsession: Session) -> list[SavedSearch]:
    """Give all saved searches, in alphabetical order."""
    return sorted(dbsession.scalars(sa.select(SavedSearch)), key=lambda saved: (saved.name.casefold(), saved.id))


def count_saved(dbsession: Session, saved: SavedSearch, *, now: datetime) -> int:
    """Count what a saved search finds now. Raises SearchError, and QuerySyntaxError when the language has changed since."""
    return count(dbsession, query.parse(saved.query, now=now), saved.level)


def delete_saved(dbsession: Session, name: str) -> bool:
    """Forget a saved search; tell whether there was one."""
    return change(dbsession, sa.delete(SavedSearch).where(SavedSearch.name == name)) > 0
