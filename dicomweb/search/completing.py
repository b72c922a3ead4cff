"""Values that begin as somebody types."""

from __future__ import annotations

import heapq
from collections import Counter

from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.search.compiling import paths_of

# How much is looked at: enough to rank what people type, and little enough to answer while they do.
_MOST_PATHS = 10
_MOST_VALUES = 100


def complete_values(dbsession: Session, field: query.Field, prefix: str, limit: int = 10) -> list[tuple[str, int]]:
    """Give existing values of an element that begin with a text, folded, and at least how many images have them.

    The most frequent of those that were looked at come first: bounded parts of the dictionary and of the columns. A value is
    given as it was written most often.
    """
    paths = paths_of(dbsession, field)[:_MOST_PATHS]
    counted: Counter[str] = Counter()
    for path in paths:
        for text, images in index.begin_with(dbsession, path, prefix, limit=max(limit, _MOST_VALUES)):
            counted[text] += images
    return heapq.nsmallest(limit, counted.items(), key=lambda item: (-item[1], item[0]))
