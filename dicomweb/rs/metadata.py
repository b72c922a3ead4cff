"""WADO-RS: metadata of studies, series and instances (PS3.18 10.4.1.1.2), rebuilt from the header index without reading a file.

Bulk data is told by its address (BulkDataURI). The answer is made block by block while it is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from pyramid.response import Response
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.rs import instances, uris, xml
from dicomweb.rs.errors import nothing_here
from dicomweb.rs.negotiation import MULTIPART, Offer, choose
from dicomweb.rs.streaming import Stream
from dicomweb.rs.transactions import Transaction
from dicomweb.security import Permission

JSON = "application/dicom+json"
OFFERS = (Offer(JSON), Offer("application/json"), Offer(MULTIPART, {"type": xml.MEDIA_TYPE}))
# Headers that are sent as one piece; each is some kilobytes.
_PIECE = 32


def retrieve_metadata(request: Any) -> Response:
    """Answer ``metadata`` of a study, a series or an instance."""
    offer = choose(request, OFFERS)
    place = instances.locate(request.dbsession, *(request.matchdict[name] for name in ("study", "series", "instance") if name in request.matchdict))
    if place is None:
        raise nothing_here()
    base = uris.service_url(request)
    # It names the addresses in the answer too, which are not the same for everybody.
    etag = hashlib.sha256(b"\n".join((place.fingerprint(), base.encode(), offer.part_type.encode()))).hexdigest()[:32]
    # Patient data: kept by the client alone, and asked for again before it is used.
    caching = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache", "Vary": "Accept"}
    if etag in request.if_none_match:
        response = Response(status=304, content_type=None, charset=None)
    elif offer.part_type == xml.MEDIA_TYPE:
        made = Stream(request, lambda dbsession: xml.parts(_headers(dbsession, place, base)))
        response = Response(app_iter=made, headerlist=[("Content-Type", xml.CONTENT_TYPE)])
    else:
        response = Response(app_iter=Stream(request, lambda dbsession: _array(dbsession, place, base)), content_type=offer.media_type, charset=None)
    response.headers.update(caching)
    return response


def _array(dbsession: Session, place: instances.Place, base: str) -> Iterator[bytes]:
    """Give the JSON array of the headers, in pieces."""
    before = b"["
    piece: list[bytes] = []
    for header in _headers(dbsession, place, base):
        piece.append(header)
        if len(piece) == _PIECE:
            yield before + b",".join(piece)
            before, piece = b",", []
    yield (before if piece or before == b"[" else b"") + b",".join(piece) + b"]"


def _headers(dbsession: Session, place: instances.Place, base: str) -> Iterator[bytes]:
    for block in instances.read(dbsession, place):
        prefixes = {one.header_key: uris.bulk_prefix(base, one.study_uid, one.series_uid, one.sop_uid).encode() for one in block}
        headers = index.read_headers(dbsession, prefixes, bulk_prefix=prefixes.__getitem__)
        # What was removed meanwhile is left out.
        yield from (headers.pop(one.header_key) for one in block if one.header_key in headers)


def _transaction(name: str, path: str, sentence: str) -> Transaction:
    answers = (JSON, "application/json", MULTIPART)
    return Transaction(name, "GET", path, retrieve_metadata, Permission.IMAGE_READ, sentence, answers, statuses=(304, 404, 406))


TRANSACTIONS = (
    _transaction("retrieve_study_metadata", "/studies/{study}/metadata", "Retrieve the headers of all instances of a study."),
    _transaction("retrieve_series_metadata", "/studies/{study}/series/{series}/metadata", "Retrieve the headers of all instances of a series."),
    _transaction(
        "retrieve_instance_metadata", "/studies/{study}/series/{series}/instances/{instance}/metadata", "Retrieve the header of an instance."
    ),
)
