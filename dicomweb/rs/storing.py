"""STOW-RS: storing instances (PS3.18 10.5).

A request is a batch. Its parts are written to the disk one by one, then it goes through the pipeline of dropped folders. A
small one is imported at once by the thread that answers it, which holds the job as a worker does; a large one is left to the
workers, and the request waits for them. Nothing is promised before it is durable: an instance that is told as stored is in a
pack, and before an answer says that the import goes on (202) the files that are waiting are written through.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from pyramid.response import Response

from dicomweb import batches, headers, imports, index, jobs
from dicomweb.imports import Chunk, Delivery, Importer, Sender
from dicomweb.models import Batch, Image, Job, Outcome, Series, Study
from dicomweb.rs import xml
from dicomweb.rs.errors import Refused
from dicomweb.rs.negotiation import Offer, choose, parse_media_type
from dicomweb.rs.parts import BadBody, blocks_of, read_parts
from dicomweb.rs.transactions import Transaction
from dicomweb.rs.uris import resource_url, service_url
from dicomweb.security import Permission
from dicomweb.settings import Settings
from dicomweb.storage import StorageFailed, StorageFull

log = logging.getLogger(__name__)

# A request with no more is imported by the thread that answers it.
INLINE_FILES = 32
INLINE_BYTES = 32 << 20
# What must stay free on the disk when a body has been stored.
SPARE_BYTES = 256 << 20

JSON = Offer("application/dicom+json")
OFFERS = (JSON, Offer("application/json"), Offer(xml.MEDIA_TYPE))
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_AS_IT_IS = frozenset({"", "binary", "8bit", "7bit"})

# PS3.18 Table 10.5.3-1 and PS3.4 Table B.2-1.
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
NOT_OF_ITS_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
FAILURE_REASONS = {
    "wrong-study": NOT_OF_ITS_CLASS,
    "missing-uid": NOT_OF_ITS_CLASS,
    "bad-uid": NOT_OF_ITS_CLASS,
    "dicomdir": SOP_CLASS_NOT_SUPPORTED,
    "too-large": OUT_OF_RESOURCES,
    "ends-worker": PROCESSING_FAILURE,
    "reader-failed": PROCESSING_FAILURE,
    "file-gone": PROCESSING_FAILURE,
    "permission-denied": PROCESSING_FAILURE,
    "changed-while-reading": PROCESSING_FAILURE,
}
# The Standard has no code for "stored, beside another instance with the same UID"; this one of its range of warnings is used
# by other servers for an instance that was there before.
BESIDE_ANOTHER = 0xB00E


class Result(NamedTuple):
    """What became of one file. failure: its FailureReason, None when it is stored; conflict: another one has the same UID."""

    study: str = ""
    series: str = ""
    sop_class: str = ""
    sop_uid: str = ""
    conflict: bool = False
    failure: int | None = None


def store_instances(request: Any) -> Response:
    """Store instances, in one study when the address names it (PS3.18 10.5)."""
    choose(request, OFFERS)
    study = request.matchdict.get("study")
    if study is not None and (len(study) > 64 or not _UID.fullmatch(study)):
        raise Refused(400, "The StudyInstanceUID of the address is no UID.")
    importer: Importer = request.registry["importer"]
    _check_room(request, importer.settings)
    try:
        delivery = Delivery(importer.settings, "stow")
    except StorageFailed as error:
        raise _no_room(error) from None
    sender = Sender(request.identity.sender, request.remote_addr or "", importer.clock())
    announced = False
    try:
        foreign = _receive(request, delivery)
        if delivery.files:
            files = [name for name, _ in delivery.files]
            inline = len(files) <= INLINE_FILES and sum(size for _, size in delivery.files) <= INLINE_BYTES
            name = f"STOW {importer.clock():%Y-%m-%d %H:%M:%S} {_client(request)} {delivery.mark}"
            holder = f"{socket.gethostname()}:{os.getpid()}:{delivery.folder.name}" if inline else None
            batch, job = imports.announce(importer, delivery, name, source="stow", sender=sender, only_study=study, inline=holder)
            announced = True
            results = _import(request, importer, delivery, batch, job)
        elif foreign:
            raise Refused(415, "No part of the body is application/dicom.")
        else:
            raise Refused(400, "The body has no part.")
    except BadBody as error:
        raise Refused(400, str(error)) from None
    except StorageFailed as error:
        raise _no_room(error) from None
    finally:
        if announced:
            delivery.close()
        else:
            delivery.abandon()
    return _answer(request, study, [results.get(name) for name in files], foreign)


def _check_room(request: Any, settings: Settings) -> None:
    # The body is on the disk already, in the web server's spool, and will be there as files and as a pack.
    if 2 * (request.content_length or 0) + SPARE_BYTES > shutil.disk_usage(settings.var).free:
        raise Refused(507, "There is no room left on the disk to store this.")


def _no_room(error: StorageFailed) -> Refused:
    return Refused(507 if isinstance(error, StorageFull) else 503, str(error))


def _receive(request: Any, delivery: Delivery) -> int:
    """Write the files of the body; tell how many parts are no DICOM files."""
    media_type, parameters = parse_media_type(request.headers.get("Content-Type", ""))
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refused(415, "The body must be sent as it is, without a Content-Encoding.")
    if media_type == "application/dicom":
        if not request.content_length:
            raise Refused(400, "The body is empty.")
        delivery.add(blocks_of(request.body_file))
        return 0
    if media_type != "multipart/related" or parameters.get("type", "application/dicom").lower() != "application/dicom":
        raise Refused(415, 'The body must be application/dicom, or multipart/related with type="application/dicom".')
    if "boundary" not in parameters:
        raise Refused(400, "The Content-Type names no boundary.")
    foreign = 0
    for part in read_parts(request.body_file, parameters["boundary"]):
        if _is_dicom(part.headers):
            delivery.add(part.blocks)
        else:
            foreign += 1
    return foreign


def _is_dicom(part: Mapping[str, str]) -> bool:
    media_type, _ = parse_media_type(part.get("content-type", "application/dicom"))
    encoding = part.get("content-transfer-encoding", "").lower()
    return media_type == "application/dicom" and encoding in _AS_IT_IS


def _client(request: Any) -> str:
    return request.identity.name or request.remote_addr or "unknown"


def _import(request: Any, importer: Importer, delivery: Delivery, batch: Batch, job: Job | None) -> dict[str, Result | None]:
    """Import a batch, or have it imported; give the result of each file, None for those that are under way still."""
    chunk = None if job is None else _import_here(importer, job)
    if chunk is not None:
        return dict(_of_chunk(delivery.folder, chunk))
    # Some threads must be left for those who only want to see a page.
    waiting: threading.Semaphore = request.registry["rs.waiting"]
    done = False
    if waiting.acquire(blocking=False):
        try:
            done = imports.wait_until_done(importer, batch.id, seconds=importer.settings["stow.wait_seconds"])
        finally:
            waiting.release()
    if not done:
        delivery.make_durable()
    results = dict(_of_batch(importer, delivery.folder, batch.id))
    missing = Result(failure=PROCESSING_FAILURE) if done else None
    return {name: results.get(name, missing) for name, _ in delivery.files}


def _import_here(importer: Importer, job: Job) -> Chunk | None:
    try:
        return imports.import_begun_chunk(importer, job)
    except (jobs.LeaseLost, batches.BatchGone):
        return None
    except Exception:  # The batch is announced: whatever failed here, the workers try again, and the client is told of that.
        log.exception("importing job %s at once failed; it is left to the workers", job.id)
        with suppress(jobs.LeaseLost), importer.work() as dbsession:
            jobs.hand_back(dbsession, job, now=importer.clock())
        return None


def _of_chunk(folder: Path, chunk: Chunk) -> Iterator[tuple[str, Result]]:
    for verdict in chunk.verdicts:
        value = verdict.candidate.header.value
        yield (
            verdict.candidate.path,
            Result(
                value("0020000D"),
                value("0020000E"),
                value("00080016"),
                value("00080018"),
                conflict=verdict.conflict_with is not None,
            ),
        )
    for refused in chunk.refused:
        yield refused.path, _failed(folder, refused.path, refused.code)


def _of_batch(importer: Importer, folder: Path, batch_id: int) -> Iterator[tuple[str, Result]]:
    with importer.work(read_only=True) as dbsession:
        outcomes = dbsession.execute(
            sa.select(Outcome.path, Outcome.kind, Outcome.code, Outcome.image_id).where(Outcome.batch_id == batch_id)
        ).all()
        twins = sa.select(Outcome.image_id).where(Outcome.batch_id == batch_id, Outcome.kind == "duplicate")
        images = dbsession.execute(
            sa.select(
                Image.id,
                Image.batch_id,
                Image.path,
                Image.header_key,
                Image.sop_instance_uid,
                Series.series_instance_uid,
                Study.study_instance_uid,
            )
            .join(Series, Series.id == Image.series_id)
            .join(Study, Study.id == Series.study_key)
            .where(sa.or_(Image.batch_id == batch_id, Image.id.in_(twins)), Image.status == "DONE")
        ).all()
        classes = index.read_smallest(dbsession, [image.header_key for image in images], "00080016")
    conflicts = {path for path, kind, _, _ in outcomes if kind == "conflict"}
    by_id = {}
    for image in images:
        sop_class = classes.get(image.header_key, (None, ""))[1]
        result = Result(image.study_instance_uid, image.series_instance_uid, sop_class, image.sop_instance_uid)
        by_id[image.id] = result
        if image.batch_id == batch_id:
            yield image.path, result._replace(conflict=image.path in conflicts)
    for path, kind, code, image_id in outcomes:
        if kind == "duplicate" and image_id in by_id:
            yield path, by_id[image_id]
        elif kind in ("error", "skipped"):
            yield path, _failed(folder, path, code)


def _failed(folder: Path, name: str, code: str) -> Result:
    """Say why a file failed, and which instance it is when its header can be read at all: it is still there."""
    reason = FAILURE_REASONS.get(code, CANNOT_UNDERSTAND)
    try:
        with open(folder / name, "rb") as file:
            head = file.read(1 << 20)
            size = os.fstat(file.fileno()).st_size
            value = headers.read_header(head, size=size, pread=lambda at, count: os.pread(file.fileno(), count, at)).value
            return Result(value("0020000D"), value("0020000E"), value("00080016"), value("00080018"), failure=reason)
    except (OSError, headers.HeaderError):
        return Result(failure=reason)


def _answer(request: Any, study: str | None, results: Sequence[Result | None], foreign: int) -> Response:
    base = service_url(request)
    stored = [result for result in results if result is not None and result.failure is None]
    failed = [result for result in results if result is not None and result.failure is not None]
    studies = {result.study for result in stored}
    answer: dict[str, Any] = {"00081190": _element("UR")}
    if stored and len(studies) == 1:
        answer["00081190"] = _element("UR", resource_url(base, study or studies.pop()))
    known = [result for result in failed if result.sop_uid]
    others = [result.failure for result in failed if not result.sop_uid] + [SOP_CLASS_NOT_SUPPORTED] * foreign
    if known:
        answer["00081198"] = _sequence([{**_reference(one), "00081197": _element("US", one.failure)} for one in known])
    if stored:
        answer["00081199"] = _sequence([_stored(base, one) for one in stored])
    if others:
        answer["0008119A"] = _sequence([{"00081197": _element("US", reason)} for reason in others])
    under_way = any(result is None for result in results)
    if under_way or (stored and (failed or foreign or any(result.conflict for result in stored))):
        status = 202
    else:
        status = 200 if stored else 409
    media_type = choose(request, OFFERS).media_type
    body = xml.document(answer) if media_type == xml.MEDIA_TYPE else orjson.dumps(answer)
    response = Response(body, status=status, content_type=media_type, charset=None)
    if under_way:
        response.headers["Warning"] = f'299 {base}: "The import goes on; what is not told of here is not stored yet."'
    return response


def _stored(base: str, result: Result) -> dict[str, Any]:
    item = _reference(result)
    item["00081190"] = _element("UR", resource_url(base, result.study, result.series, result.sop_uid))
    if result.conflict:
        item["00081196"] = _element("US", BESIDE_ANOTHER)
    return item


def _reference(result: Result) -> dict[str, Any]:
    return {"00081150": _element("UI", result.sop_class), "00081155": _element("UI", result.sop_uid)}


def _element(vr: str, value: Any = "") -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}


_TAKES = ('multipart/related; type="application/dicom"', "application/dicom")
_STATUSES = (202, 400, 406, 409, 413, 415, 507)
TRANSACTIONS = (
    Transaction(
        "store_instances",
        "POST",
        "/studies",
        store_instances,
        Permission.IMAGE_ADD,
        "Store instances.",
        tuple(offer.media_type for offer in OFFERS),
        statuses=_STATUSES,
        takes=_TAKES,
    ),
    Transaction(
        "store_instances_of_study",
        "POST",
        "/studies/{study}",
        store_instances,
        Permission.IMAGE_ADD,
        "Store instances of one study.",
        tuple(offer.media_type for offer in OFFERS),
        statuses=_STATUSES,
        takes=_TAKES,
    ),
)


def includeme(config: Any) -> None:
    """Put into the registry what importing needs, and how many requests may wait for the workers at once."""
    registry = config.registry
    settings: Settings = registry.settings["dicomweb"]
    registry["importer"] = Importer(registry["engine"], settings, registry["storage"], doorbell=registry["doorbell"])
    registry["rs.waiting"] = threading.Semaphore(max(1, settings["web.threads"] - 2))
