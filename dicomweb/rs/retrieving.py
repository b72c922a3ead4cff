"""WADO-RS: studies, series and instances, frames, bulk data (PS3.18 10.4.1.1.1, 10.4.1.1.5 to 10.4.1.1.6).

What is stored is sent as it is stored, straight from the disk, unless the client asks for Explicit VR Little Endian. A frame is one read at the
place that the import recorded. Everything is made while it is sent; no answer is held in memory, but a frame that had to be decoded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pyramid.response import Response
from sqlalchemy.orm import Session

from dicomweb import query, search
from dicomweb.pixels import CannotRender, Frame, Renderer
from dicomweb.rs import frames, instances, multipart, uris
from dicomweb.rs.errors import NotAcceptable, Refused, nothing_here
from dicomweb.rs.frames import EXPLICIT_LITTLE, MEDIA_TYPES, OCTETS, Found
from dicomweb.rs.negotiation import MULTIPART, Offer, accepted, choose
from dicomweb.rs.streaming import Stream
from dicomweb.rs.transactions import Transaction
from dicomweb.security import Permission
from dicomweb.storage import BytesMissing, FileRange, Storage

DICOM, ZIP = "application/dicom", "application/zip"
# An image never changes: who has it need not ask again for a week.
FOR_EVER = "private, max-age=604800, immutable"
ASK_AGAIN = "private, no-cache"
MOST_FRAMES = 10_000
_FRAME = re.compile(r"[0-9]{1,9}")
_RANGE = re.compile(r"bytes=([0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})", re.ASCII)
_BULK = re.compile(r"[0-9A-F]{8}(/[0-9]{1,6}/[0-9A-F]{8}){0,40}")
_PIXELS = ("7FE00008", "7FE00009", "7FE00010")
_STATUS = {"busy": 503, "missing": 410, "too-large": 413, "no-frame": 404, "no-region": 400, "no-slice": 400}


def cannot(error: CannotRender) -> Refused:
    """Make the answer for pixels that cannot be given: 406, as for anything that is there but not in the form that is asked for."""
    return Refused(_STATUS.get(error.code, 406), str(error), {"Retry-After": "2"} if error.code == "busy" else None)


# Whole instances.


def retrieve_study(request: Any) -> Response:
    """Answer a study or a series: all its instances."""
    offer = _choose_for_several(request)
    here = request.matchdict
    place = instances.locate(request.dbsession, here["study"], here.get("series"))
    if place is None:
        raise nothing_here()
    return _several(request, place, offer)


def retrieve_instance(request: Any) -> Response:
    """Answer an instance."""
    here = request.matchdict
    found = frames.find_instance(request)
    offer = _choose_for_one(request, found.facts.syntax)
    if offer.media_type == ZIP:
        place = instances.locate(request.dbsession, here["study"], here["series"], here["instance"])
        if place is None:
            raise nothing_here()
        return _several(request, place, offer)
    syntax = offer.parameters["transfer-syntax"]
    etag = etag_of(found.sha256, "instance", str(offer), syntax)
    if etag in request.if_none_match:
        return unchanged(etag, FOR_EVER)
    renderer: Renderer = request.registry["renderer"]
    boundary = multipart.boundary_of(etag)
    try:
        pieces, length = _instance_pieces(renderer, found.file, found.facts.syntax, syntax)
    except CannotRender as error:
        raise cannot(error) from None
    if offer.media_type == MULTIPART:
        part = multipart.Part(multipart.part_type(DICOM, syntax), pieces)
        length += len(multipart.head(part, boundary, True)) + len(multipart.end(boundary))
        response = Response(app_iter=begun(multipart.written([part], boundary)))
        response.headers["Content-Type"] = multipart.content_type(DICOM, boundary, syntax)
    else:
        response = Response(app_iter=begun(pieces))
        response.headers["Content-Type"] = multipart.part_type(DICOM, syntax)
    response.content_length = length
    return cached(response, etag, FOR_EVER)


def _offers(media_type: str, parameters: dict[str, str], syntaxes: Iterable[str]) -> list[Offer]:
    return [Offer(media_type, {**parameters, "transfer-syntax": syntax}) for syntax in dict.fromkeys(syntaxes)]


def _choose_for_one(request: Any, stored: str) -> Offer:
    """Choose how an instance is sent. As stored comes first: who asks for no transfer syntax gets what is there."""
    offers = [*_offers(MULTIPART, {"type": DICOM}, (stored, EXPLICIT_LITTLE)), *_offers(DICOM, {}, (stored, EXPLICIT_LITTLE)), Offer(ZIP)]
    return choose(request, offers)


def _choose_for_several(request: Any) -> Offer:
    """Choose how instances are sent that may be stored in different transfer syntaxes; ``*`` stands for these."""
    try:
        return choose(request, [*_offers(MULTIPART, {"type": DICOM}, ("*", EXPLICIT_LITTLE)), Offer(ZIP)])
    except NotAcceptable:
        # It is up to each instance whether it is stored in what is named.
        named = [media_range.parameters["transfer-syntax"] for media_range in accepted(request) if "transfer-syntax" in media_range.parameters]
        if not named:
            raise
        return choose(request, _offers(MULTIPART, {"type": DICOM}, named))


def _syntax_for(offer: Offer, stored: str) -> str:
    """Tell in which transfer syntax an instance is sent. Raises NotAcceptable."""
    asked = offer.parameters["transfer-syntax"]
    if asked in ("*", stored):
        return stored
    if asked == EXPLICIT_LITTLE:
        return asked
    raise NotAcceptable(f"Instances are given as they are stored (transfer-syntax=*), or in {EXPLICIT_LITTLE}; one of these is stored in another one.")


def _instance_pieces(renderer: Renderer, file: FileRange, stored: str, syntax: str) -> tuple[Iterator[bytes], int]:
    """Give the bytes of a file in a transfer syntax, and how many they are. Raises CannotRender."""
    if syntax == stored:
        return file.stream(), file.length
    frame = Frame(file.path, file.offset, file.length)
    return renderer.transcode(frame)


def _several(request: Any, place: instances.Place, offer: Offer) -> Response:
    etag = etag_of(place.fingerprint(), "several", str(offer), uris.service_url(request))
    if etag in request.if_none_match:
        return unchanged(etag, ASK_AGAIN)
    storage: Storage = request.registry["storage"]
    if offer.media_type == ZIP:
        node = _node(request.matchdict)
        made = Stream(request, lambda dbsession: search.export_images(dbsession, node, storage, without=instances.shadowed_keys(dbsession)))
        response = Response(app_iter=made, content_type=ZIP, charset=None)
        response.headers["Content-Disposition"] = 'attachment; filename="dicom.zip"'
        # It holds what was found while it was made, and when.
        return cached(response, None, ASK_AGAIN)
    if offer.parameters["transfer-syntax"] not in ("*", EXPLICIT_LITTLE):
        # Whether all are stored so has to be known before the first one is sent.
        for block in instances.read(request.dbsession, place):
            for facts in frames.read_facts(request.dbsession, [one.header_key for one in block]).values():
                _syntax_for(offer, facts.syntax)
    boundary = multipart.boundary_of(etag)
    base, renderer = uris.service_url(request), request.registry["renderer"]

    def pieces(dbsession: Session) -> Iterator[bytes]:
        return multipart.written(_instance_parts(dbsession, place, offer, base, renderer, storage), boundary)

    try:
        made = Stream(request, pieces)
    except BytesMissing as error:
        raise frames.missing(error) from None
    except CannotRender as error:
        raise cannot(error) from None
    response = Response(app_iter=made)
    response.headers["Content-Type"] = multipart.content_type(DICOM, boundary)
    return cached(response, etag, ASK_AGAIN)


def _instance_parts(
    dbsession: Session, place: instances.Place, offer: Offer, base: str, renderer: Renderer, storage: Storage
) -> Iterator[multipart.Part]:
    for block in instances.read(dbsession, place):
        facts = frames.read_facts(dbsession, [one.header_key for one in block])
        for one in block:
            stored = facts.get(one.header_key, frames.Facts()).syntax
            syntax = _syntax_for(offer, stored)
            pieces, _ = _instance_pieces(renderer, one.locate(storage), stored, syntax)
            location = uris.resource_url(base, one.study_uid, one.series_uid, one.sop_uid)
            yield multipart.Part(multipart.part_type(DICOM, syntax), pieces, location)


def _node(here: Any) -> query.Node:
    """Make the query that finds the images of an address."""
    keywords = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}
    return query.all_of(query.Term(query.resolve(keyword), query.Text(here[name])) for name, keyword in keywords.items() if name in here)


# Frames.


def retrieve_frames(request: Any) -> Response:
    """Answer ``frames/{list}``: one part a frame, in the order that was asked for."""
    numbers = frame_numbers(request.matchdict["frames"])
    found = frames.find_instance(request)
    if not frames.has_frames(found, found.facts):
        raise Refused(404, "This instance has no frames: it is no image.")
    if frames.is_video(found.facts.syntax):
        raise NotAcceptable("This instance is a video, whose frames are not stored one by one; its pixeldata is the whole of it.")
    if max(numbers) > max(1, found.facts.frames):
        raise Refused(404, f"This instance has {max(1, found.facts.frames):,} frames.")
    return _frames(request, found, numbers, max(numbers))


def retrieve_pixel_data(request: Any) -> Response:
    """Answer ``pixeldata`` of an instance: all its frames, or the stream of a video."""
    found = frames.find_instance(request)
    if not frames.has_frames(found, found.facts):
        raise Refused(404, "This instance has no pixel data: it is no image.")
    if frames.is_video(found.facts.syntax):
        return _video(request, found)
    count = max(1, found.facts.frames)
    return _frames(request, found, range(1, count + 1), count)


def frame_numbers(text: str) -> list[int]:
    """Read a list of numbers of frames. Raises Refused."""
    parts = text.replace(" ", "").split(",")
    if len(parts) > MOST_FRAMES:
        raise Refused(400, f"At most {MOST_FRAMES:,} frames are given at once.")
    if not all(_FRAME.fullmatch(part) and int(part) > 0 for part in parts):
        raise Refused(400, "Frames are numbers from 1 on, separated by commas.")
    return [int(part) for part in parts]


def _frames(request: Any, found: Found, numbers: Sequence[int], last: int) -> Response:
    """Answer frames, of which ``last`` is the highest number."""
    renderer: Renderer = request.registry["renderer"]
    facts, stored = found.facts, frames.Stored(found, renderer)
    if last > stored.count:
        raise Refused(404, "This frame is not in the pixel data, which is shorter than the header says.")
    single = len(numbers) == 1
    offer = _frame_offer(request, found, single=single)
    first = None
    if offer.parameters["transfer-syntax"] != EXPLICIT_LITTLE and facts.syntax in frames.JPEG_2000 and _any_syntax(request):
        first = _begun(stored.read, numbers[0])
        if not frames.agrees(first, facts):
            # What is coded is not what the header says, and clients go by the header.
            offer = _frame_offer(request, found, single=single, disagrees=True)
            first = first if offer.parameters["transfer-syntax"] != EXPLICIT_LITTLE else None
    syntax, media_type = offer.parameters["transfer-syntax"], offer.part_type
    # Of many frames that follow one another the numbers are not written out.
    etag = etag_of(found.sha256, "frames", str(offer), repr(numbers), "" if single else uris.service_url(request))
    if etag in request.if_none_match:
        return unchanged(etag, FOR_EVER)
    as_stored = syntax != EXPLICIT_LITTLE or (frames.is_plain(facts) and found.frame_table is None)
    read = stored.read if as_stored else lambda number: renderer.decode(found.frame(number)).data
    first = first if first is not None else _begun(read, numbers[0])
    if offer.media_type != MULTIPART:
        response = Response(body=first)
        response.headers["Content-Type"] = multipart.part_type(media_type, syntax)
        return cached(response, etag, FOR_EVER)
    boundary = multipart.boundary_of(etag)
    content_type = multipart.part_type(media_type, syntax)
    if single:
        part = multipart.Part(content_type, ())
        response = Response(body=b"".join((multipart.head(part, boundary, True), first, multipart.end(boundary))))
    else:
        location = _frames_url(request)

        def parts() -> Iterator[multipart.Part]:
            for at, number in enumerate(numbers):
                yield multipart.Part(content_type, (first if at == 0 else read(number),), f"{location}/{number}")

        response = Response(app_iter=multipart.written(parts(), boundary))
    response.headers["Content-Type"] = multipart.content_type(media_type, boundary, syntax)
    return cached(response, etag, FOR_EVER)


def _begun(read: Callable[[int], bytes], number: int) -> bytes:
    """Read the first frame of an answer, while it can still be said that this is not possible. Raises Refused."""
    try:
        return read(number)
    except IndexError:
        raise Refused(404, "This frame is not in the pixel data, which is shorter than the header says.") from None
    except CannotRender as error:
        raise cannot(error) from None
    except BytesMissing as error:
        raise frames.missing(error) from None


def _video(request: Any, found: Found) -> Response:
    """Answer the stream of a video, in which players may ask for ranges."""
    syntax = found.facts.syntax
    media_types = (*MEDIA_TYPES[syntax], OCTETS)
    multiparts = [Offer(MULTIPART, {"type": media_type, "transfer-syntax": syntax}) for media_type in media_types]
    offer = choose(request, [*multiparts, *(Offer(media_type, {"transfer-syntax": syntax}) for media_type in media_types)])
    length, read = frames.video_of(found)
    return _one_value(request, etag_of(found.sha256, "video", str(offer)), offer, _Body(length, read), length, multipart.part_type(offer.part_type, syntax))


def _frames_url(request: Any) -> str:
    here = request.matchdict
    return uris.resource_url(uris.service_url(request), here["study"], here["series"], here["instance"], "frames")


def _any_syntax(request: Any) -> bool:
    """Tell whether a client says that it takes any transfer syntax; who names none gets Explicit VR Little Endian (PS3.18 8.7.3.5.2)."""
    return any(media_range.parameters.get("transfer-syntax") == "*" for media_range in accepted(request))


def _frame_offer(request: Any, found: Found, *, single: bool, disagrees: bool = False) -> Offer:
    facts = found.facts
    plain = [(OCTETS, EXPLICIT_LITTLE)]
    stored: list[tuple[str, str]] = []
    # Big endian is no transfer syntax of the web (PS3.18 8.7.3.5.2), and deflated pixels have no place in the file.
    if facts.syntax in MEDIA_TYPES and found.frame_table is not None:
        stored = [(media_type, facts.syntax) for media_type in (OCTETS, *MEDIA_TYPES[facts.syntax])]
    if not _any_syntax(request):
        # Where image/* is asked for without a transfer syntax, what is stored is what there is.
        made = [*plain, *stored]
    elif disagrees or not frames.passes(facts):
        made = [*plain, *(pair for pair in stored if _names(request, pair[1]))]
    else:
        made = [*stored, *plain]
    offers = [Offer(MULTIPART, {"type": media_type, "transfer-syntax": syntax}) for media_type, syntax in made]
    if single:
        offers += [Offer(media_type, {"transfer-syntax": syntax}) for media_type, syntax in made]
    return choose(request, offers)


def _names(request: Any, syntax: str) -> bool:
    return any(media_range.parameters.get("transfer-syntax") == syntax for media_range in accepted(request))


# Bulk data.


def retrieve_bulkdata(request: Any) -> Response:
    """Answer the value of one element, as /metadata names it: tags, and numbers of items from 0 between them."""
    path = request.matchdict["path"]
    if not _BULK.fullmatch(path):
        raise Refused(404, "There is no such bulk data: its address is the one that /metadata gives.")
    found = frames.find_instance(request)
    offer = choose(request, (Offer(OCTETS), Offer(MULTIPART, {"type": OCTETS})))
    etag = etag_of(found.sha256, "bulk", path, str(offer))
    try:
        if path in _PIXELS and found.pixel_offset is not None and found.pixel_length is not None:
            start, length = found.pixel_offset, found.pixel_length
            read: Callable[[int, int], bytes] = lambda at, size: found.file.pread(start + at, size)  # noqa: E731
        else:
            value = request.registry["renderer"].value(found.frame(), path)
            length = len(value)
            read = lambda at, size: value[at : at + size]  # noqa: E731
    except CannotRender as error:
        raise Refused(404, str(error)) if error.code == "no-value" else cannot(error) from None
    return _one_value(request, etag, offer, _Body(length, read), length, OCTETS)


def _one_value(request: Any, etag: str, offer: Offer, body: _Body, length: int, content_type: str) -> Response:
    """Answer one value, or the range of it that is asked for."""
    span = _span(request, length)
    if offer.media_type == MULTIPART:
        # Whoever is not sure that he has the same value (If-Range) is given all of it.
        return _one_part(request, etag, offer, body, length, None if "If-Range" in request.headers else span, content_type)
    response = Response(app_iter=body, conditional_response=True)
    response.headers["Content-Type"] = content_type
    response.content_length = length
    response.accept_ranges = "bytes"
    return cached(response, etag, FOR_EVER)


def _span(request: Any, length: int) -> Any:
    """Read which bytes are asked for, None for all: what is no range is passed over (RFC 9110 14.2). Raises Refused."""
    if not _RANGE.fullmatch(request.headers.get("Range", "")):
        # WebOb, which sees to ranges, fails where they are not written as it expects.
        request.environ.pop("HTTP_RANGE", None)
        return None
    asked = request.range
    span = asked and asked.content_range(length)
    if asked and span is None:
        raise Refused(416, f"The value has {length:,} bytes.", {"Content-Range": f"bytes */{length}"})
    return span


def _one_part(request: Any, etag: str, offer: Offer, body: _Body, length: int, span: Any, content_type: str) -> Response:
    """Answer a value, or a range of it, as the one part of a message.

    The range is one of the value and not of the message (PS3.18 2016b 6.5.5.2.1), which is what clients mean by it.
    """
    if span is None and etag in request.if_none_match:
        return unchanged(etag, FOR_EVER)
    boundary = multipart.boundary_of(etag)
    part = multipart.Part(content_type, body if span is None else body.app_iter_range(span.start, span.stop))
    response = Response(app_iter=begun(multipart.written([part], boundary)))
    response.headers["Content-Type"] = multipart.content_type(offer.part_type, boundary, offer.parameters.get("transfer-syntax", ""))
    response.content_length = (length if span is None else span.stop - span.start) + len(multipart.head(part, boundary, True)) + len(multipart.end(boundary))
    if span is None:
        return cached(response, etag, FOR_EVER)
    response.status_int = 206
    response.headers["Content-Range"] = str(span)
    # Caches would take its length for that of the range.
    return cached(response, None, "no-store")


class _Body:
    """Bytes of a file, as the body of an answer of which a range can be asked for."""

    def __init__(self, length: int, read: Callable[[int, int], bytes], start: int = 0) -> None:
        self._start, self._end, self._read = start, length, read
        # The first block, so that bytes that are gone are noticed while it can still be said.
        self._held = self._next(start)

    def __iter__(self) -> Iterator[bytes]:
        at, piece = self._start, self._held
        while piece:
            yield piece
            at += len(piece)
            piece = self._next(at)

    def _next(self, at: int) -> bytes:
        try:
            return self._read(at, min(1 << 20, self._end - at)) if at < self._end else b""
        except BytesMissing as error:
            raise frames.missing(error) from None

    def app_iter_range(self, start: int, stop: int | None) -> _Body:
        """Give a range of it, as WebOb asks for it."""
        return _Body(self._end if stop is None else min(stop, self._end), self._read, start)


# What all have in common.


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first piece at once, so that what cannot be done is said while it can be. Raises Refused."""
    try:
        first = next(pieces, b"")
    except BytesMissing as error:
        raise frames.missing(error) from None
    except CannotRender as error:
        raise cannot(error) from None

    def all_pieces() -> Iterator[bytes]:
        yield first
        yield from pieces

    return all_pieces()


def etag_of(content: bytes, *how: str) -> str:
    return hashlib.sha256(b"\n".join((content, *(one.encode() for one in how)))).hexdigest()[:32]


def unchanged(etag: str, caching: str) -> Response:
    return cached(Response(status=304, content_type=None, charset=None), etag, caching)


def cached(response: Response, etag: str | None, caching: str) -> Response:
    response.headers["Cache-Control"] = caching
    response.headers["Vary"] = "Accept"
    if etag is not None:
        response.headers["ETag"] = f'"{etag}"'
    return response


_STUDY, _SERIES, _INSTANCE = "/studies/{study}", "/studies/{study}/series/{series}", "/studies/{study}/series/{series}/instances/{instance}"
_ANY = (MULTIPART, OCTETS, "image/jpeg", "image/jls", "image/jp2", "image/jpx", "image/dicom-rle", "image/jphc", "video/mpeg2", "video/mp4")
_STATUSES = (304, 400, 404, 406, 410, 413)

TRANSACTIONS = (
    Transaction("retrieve_study", "GET", _STUDY, retrieve_study, Permission.IMAGE_READ, "Retrieve all instances of a study.", (MULTIPART, ZIP), statuses=_STATUSES),
    Transaction("retrieve_series", "GET", _SERIES, retrieve_study, Permission.IMAGE_READ, "Retrieve all instances of a series.", (MULTIPART, ZIP), statuses=_STATUSES),
    Transaction("retrieve_instance", "GET", _INSTANCE, retrieve_instance, Permission.IMAGE_READ, "Retrieve an instance.", (MULTIPART, DICOM, ZIP), statuses=_STATUSES),
    Transaction("retrieve_frames", "GET", _INSTANCE + "/frames/{frames}", retrieve_frames, Permission.IMAGE_READ, "Retrieve frames of an instance.", _ANY, statuses=_STATUSES),
    Transaction("retrieve_pixel_data", "GET", _INSTANCE + "/pixeldata", retrieve_pixel_data, Permission.IMAGE_READ, "Retrieve all frames of an instance.", _ANY, statuses=_STATUSES),
    Transaction(
        "retrieve_bulkdata", "GET", _INSTANCE + "/bulkdata/{path:.*}", retrieve_bulkdata, Permission.IMAGE_READ, "Retrieve the value of an element.",
        (OCTETS, MULTIPART), statuses=(206, *_STATUSES, 416),
    ),
)  # fmt: skip
