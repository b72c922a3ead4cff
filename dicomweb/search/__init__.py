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

from dicomweb.search.archives import MANIFEST, export_images
from dicomweb.search.columns import DEFAULT_COLUMNS, FACTS, LEVELS, Column, resolve_columns
from dicomweb.search.comparing import Difference, Varying, diff, varies
from dicomweb.search.compiling import compile_query
from dicomweb.search.completing import complete_values
from dicomweb.search.errors import BadCursor, SearchError, TooBroad, TooLarge, UnknownColumn
from dicomweb.search.exporting import CONTENT_TYPES, FORMATS, export
from dicomweb.search.facets import Bar, Facet, FacetValue, facet, facets_of
from dicomweb.search.finding import MOST_ROWS, Found, Row, count, find, labels_of
from dicomweb.search.labels import (
    LabelUse,
    add_label,
    add_label_to_found,
    delete_label,
    list_labels,
    remove_label,
    remove_label_from_found,
)
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
from dicomweb.search.saved import count_saved, delete_saved, find_saved, list_saved, save_search
from dicomweb.search.sorting import MOST_SORTED

__all__ = [
    "CONTENT_TYPES", "DEFAULT_COLUMNS", "FACTS", "FORMATS", "LEVELS", "MANIFEST", "MOST_ROWS", "MOST_SORTED", "BadCursor", "Bar", "Column", "Difference",
    "Facet", "FacetValue", "Found", "HeaderRow", "LabelUse", "Row", "SearchError", "SeriesRow", "StudyRow", "TooBroad", "TooLarge", "UnknownColumn", "Varying",
    "add_label", "add_label_to_found", "compile_query", "complete_values", "count", "count_images", "count_saved", "delete_label", "delete_saved", "diff", "export",
    "export_images", "facet", "facets_of", "find", "find_saved", "keyword_of", "labels_of", "list_headers", "list_images", "list_labels", "list_saved", "list_series",
    "list_studies", "remove_label", "remove_label_from_found", "resolve_columns", "save_search", "series_of_batch", "series_rows", "study_rows", "varies",
]  # fmt: skip
