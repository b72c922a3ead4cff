"""What was indexed, read back: complete headers from the documents, and which paths there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.index.dialect import dialect_of
from dicomweb.index.documents import Document, open_document
from dicomweb.models import GROUP_SIZE, GroupDocument

EXAMPLES = 5


def read_headers(dbsession: Session, header_keys: Collection[int], *, bulk_prefix: Callable[[int], bytes]) -> dict[int, bytes]:
    """Give the complete header of each image as a DICOM JSON object (PS3.18 Annex F), tags ascending, without file meta.

    bulk_prefix: header key -> what precedes the path in the address of bulk data, as JSON text bytes. Keys that are not
    indexed are left out.
    """
    return {key: document.header(ordinal, bulk_prefix(key)) for key, ordinal, document in _documents(dbsession, header_keys)}


def read_meta(dbsession: Session, header_keys: Collection[int]) -> dict[int, dict[str, bytes]]:
    """Give the file meta group of each image: tag -> DICOM JSON element. Keys that are not indexed are left out."""
    return {key: document.file_meta(ordinal) for key, ordinal, document in _documents(dbsession, header_keys)}


def _documents(dbsession: Session, header_keys: Collection[int]) -> Iterator[tuple[int, int, Document]]:
    wanted: dict[int, list[int]] = defaultdict(list)
    for key in header_keys:
        wanted[key // GROUP_SIZE].append(key % GROUP_SIZE)
    found = sa.select(GroupDocument.group_id, GroupDocument.document).where(dialect_of(dbsession).within(GroupDocument.group_id, wanted))
    for group_id, packed in dbsession.execute(found):
        document = open_document(packed)
        for ordinal in wanted[group_id]:
            if ordinal < len(document.series_ids) and document.series_ids[ordinal] is not None:
                yield group_id * GROUP_SIZE + ordinal, ordinal, document
