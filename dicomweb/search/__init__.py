"""Find images, series, studies and header elements.

``lists``: what there is, in the order in which the application met it, by a few fixed criteria. Everything else begins with the
tree of a query (``dicomweb.query``), which becomes one expression of the header index (``compiling``)::

    node = query.parse("Modality:CT SliceThickness:<=1.5")
    found = find(dbsession, node, level="series", columns=DEFAULT_COLUMNS["series"], size=50)   # a page, its total, cursors
    facet(dbsession, node, query.resolve("Manufacturer"), level="series")                       # values with counts

An image is found by what its header says; a series or a study when one of its images is. Totals are exact at each level.
Every answer takes a number of statements that does not depend on the number of rows, columns and images. Only images that have
been imported are found: what waits has no header yet. What cannot be answered raises a ``SearchError``, whose text is for people.
"""

from __future__ import annotations

from dicomweb.search.columns import DEFAULT_COLUMNS, FACTS, LEVELS
from dicomweb.search.compiling import compile_query
from dicomweb.search.errors import BadCursor, SearchError, TooBroad, TooLarge, UnknownColumn
from dicomweb.search.facets import Bar, Facet, FacetValue, facet
from dicomweb.search.finding import MOST_ROWS, Found, Row, count, find
from dicomweb.search.lists import (
    HeaderRow,
    SeriesRow,
    StudyRow,
    count_images,
    keyword_of,
    list_headers,
    list_images,
    list_series,
    list_studies,
    series_of_batch,
    series_rows,
    study_rows,
)
from dicomweb.search.sorting import MOST_SORTED

__all__ = [
    "DEFAULT_COLUMNS", "FACTS", "LEVELS", "MOST_ROWS", "MOST_SORTED", "BadCursor", "Bar", "Facet", "FacetValue", "Found", "HeaderRow", "Row",
    "SearchError", "SeriesRow", "StudyRow", "TooBroad", "TooLarge", "UnknownColumn", "compile_query", "count", "count_images", "facet", "find",
    "keyword_of", "list_headers", "list_images", "list_series", "list_studies", "series_of_batch", "series_rows", "study_rows",
]  # fmt: skip
