"""The header index: every header element of every image, searchable, at about 1 kB an image.

Images of one chunk that share most of their header form a *group*. What all images of a group have is stored once
(``GroupHeader``, dictionary coded); every other path is a *column* of the group with one value an image and the zone
these lie in. A query is answered group by group: a group must match as a whole, may match (its zone says so) and is opened,
or cannot match. The key of an image in all this is ``header_key = group id * 4096 + ordinal``. Each group also keeps one
compressed document from which the complete headers of its images are rebuilt.

Indexing a chunk, the members in path order::

    prepared = prepare(members, promoted=("00201041",))     # pure: the work of it, without database and lock
    ensure_fields(engine, prepared)                         # new paths, in an own short transaction
    with work(engine) as dbsession:
        header_keys = write(dbsession, prepared, batch_id)  # then store them: Image.header_key, Image.series_id
    ...
    remove_images(dbsession, header_keys)                   # or delete_groups; the Image rows are the caller's

**The caller owns the transaction, and the Image rows**: a query lists images by ``Image.header_key``, so both change in one
transaction. Only ``dialect`` knows which database it is.
"""

from __future__ import annotations

from dicomweb.index.answers import (
    count,
    count_and_page,
    count_series,
    facet,
    keys,
    page,
    page_of_parents,
    select_firsts,
    select_keys,
    select_series,
    series_of,
)
from dicomweb.index.compiler import Search, look
from dicomweb.index.dialect import extra_ddl
from dicomweb.index.documents import MARK
from dicomweb.index.expressions import (
    And,
    Anywhere,
    Between,
    Contains,
    Equals,
    EqualsFolded,
    Exists,
    Expression,
    ExpressionTooLarge,
    Like,
    Name,
    Not,
    OfBatches,
    OfImages,
    OfSeries,
    OneOf,
    Or,
    everything,
)
from dicomweb.index.groups import Member, Prepared, prepare
from dicomweb.index.reading import (
    MOST_FIELDS,
    FieldSummary,
    GroupElements,
    begin_with,
    count_fields,
    field_paths,
    list_fields,
    read_elements,
    read_headers,
    read_meta,
    read_smallest,
    summarise_fields,
)
from dicomweb.index.tallies import Extent, count_having, extent, tally, tally_numbers
from dicomweb.index.values import fold
from dicomweb.index.varying import PathSummary, TooManyGroups, summarise_paths
from dicomweb.index.writing import UnknownFields, delete_groups, ensure_fields, promote, remove_images, write

__all__ = [
    "MARK", "MOST_FIELDS", "And", "Anywhere", "Between", "Contains", "Equals", "EqualsFolded", "Exists", "Expression", "ExpressionTooLarge", "Extent", "FieldSummary", "GroupElements", "Like",
    "Member", "Name", "Not", "OfBatches", "OfImages", "OfSeries", "OneOf", "Or", "PathSummary", "Prepared", "Search", "TooManyGroups", "UnknownFields", "begin_with", "count", "count_and_page", "count_fields", "count_having", "count_series",
    "delete_groups", "ensure_fields", "everything", "extent", "extra_ddl", "facet", "field_paths", "fold", "keys", "list_fields", "look", "page", "page_of_parents", "prepare", "promote", "read_elements",
    "read_headers", "read_meta", "read_smallest", "remove_images", "select_firsts", "select_keys", "select_series", "series_of", "summarise_fields", "summarise_paths", "tally", "tally_numbers", "write",
]  # fmt: skip
