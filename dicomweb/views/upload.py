"""Uploads: the page, and the tus protocol (version 1.0) by which files come in pieces and go on after a lost connection.

``POST /upload`` begins an upload, ``POST /upload/<key>/files`` announces a file (with its bytes, when there are few), ``PATCH`` of its
address sends more of it, ``POST /upload/<key>/import`` makes the batch. Programs do the same with the password or a token; docs/upload.md
shows it. Without scripts the page is an ordinary form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import multipart
import sqlalchemy as sa
from pyramid.csrf import BadCSRFToken
from pyramid.httpexceptions import HTTPGone
from pyramid.interfaces import ICSRFStoragePolicy
from pyramid.renderers import render_to_response
from pyramid.response import Response
from pyramid.view import view_config

from dicomweb import batches, imports
from dicomweb.imports import FileBusy, Importer, NothingToImport, OpenUpload, TooMuch, UploadGone, WrongOffset
from dicomweb.languages import gettext
from dicomweb.models import OUTCOME_KIND, Batch, Image, Outcome, Upload
from dicomweb.resources import UploadFileResource, UploadFilesResource, UploadResource, UploadsContainer
from dicomweb.security import Permission, needs_csrf_token
from dicomweb.storage import StorageFailed, StorageFull
from dicomweb.views import SeeOther, see_other
from dicomweb.views.messages import message

# In one request of the page's script: below what the web server takes (``server.MAX_BODY_BYTES``).
PIECE_BYTES = 8 << 20
CODES_SHOWN = 12
IMAGES_SHOWN = 8
_BLOCK = 1 << 20
_LONGEST_FIELD = 4096
_NUMBER = re.compile(r"[0-9]{1,15}")
_ID = re.compile(r"[1-9][0-9]{0,17}")

TUS = {"Tus-Resumable": "1.0.0"}
TUS_ABILITIES = {
    "Tus-Version": "1.0.0",
    "Tus-Extension": "creation,creation-with-upload,termination,checksum,expiration",
    "Tus-Checksum-Algorithm": "sha1,sha256",
}
_CHECKSUMS: dict[str, Callable[[], Any]] = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}


class Refused(Exception):
    """A request is answered with an error: the status, and a sentence for people."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Created(Response):
    """An answer that names an address of this application as a path: WebOb would complete it with the Host header."""

    def _abs_headerlist(self, environ: dict[str, Any]) -> list[tuple[str, str]]:
        return self._headerlist


def _importer(request: Any) -> Importer:
    return request.registry["importer"]


@view_config(context=UploadsContainer, request_method="GET", renderer="upload.jinja2", permission=Permission.BATCH_UPLOAD)
def show_upload_page(context: UploadsContainer, request: Any) -> dict[str, Any]:
    """Show the page on which files are chosen, for a new batch or for the one that ``?batch=`` names."""
    return {**_page(request, _asked_batch(request, request.GET.get("batch", ""))), "message": message(request)}


def _page(request: Any, batch: Batch | None, error: str | None = None) -> dict[str, Any]:
    settings, now = request.registry.settings["dicomweb"], datetime.now(UTC)
    return {
        "batch": batch,
        "name": imports.suggested_name(now),
        "error": error,
        "upload": None,
        "unfinished": list(_all_shown(request)),
        "limits": imports.limits(settings),
        "form_bytes": settings["web.max_body_bytes"],
        "keep_seconds": settings["upload.keep_seconds"],
        "archive": {
            name: settings[f"upload.archive_{name}"] for name in ("max_files", "max_bytes", "max_ratio", "depth")
        },
        "piece_bytes": PIECE_BYTES,
    }


def _asked_batch(request: Any, text: str) -> Batch | None:
    if not _ID.fullmatch(text):
        return None
    # Not the session of the request, which in a POST would hold the database while files come and are announced.
    with _importer(request).work(read_only=True) as dbsession:
        batch = dbsession.get(Batch, int(text))
    return None if batch is None or batch.deleting or batch.delete_at is not None else batch


def _all_shown(request: Any) -> Iterator[dict[str, Any]]:
    for upload in imports.open_uploads(request.registry.settings["dicomweb"]):
        # One may end, or be discarded, while they are listed.
        with suppress(UploadGone):
            yield _shown(request, upload)


def _shown(request: Any, upload: OpenUpload) -> dict[str, Any]:
    """Tell of an unfinished upload what the page shows."""
    about, files = upload.about, upload.files()
    complete = [file for file in files if file.complete]
    return {
        "key": upload.key,
        "name": about.name,
        "batch_id": about.batch_id,
        "begun_at": about.begun_at,
        "expires_at": upload.expires_at,
        "files": len(files),
        "complete": len(complete),
        "bytes": sum(file.offset for file in files),
    }


@view_config(context=UploadsContainer, request_method="POST", permission=Permission.BATCH_UPLOAD)
def begin(context: UploadsContainer, request: Any) -> Response:
    """Begin an upload: JSON with ``name`` of the batch it becomes, or ``batch``, the id of the one it joins."""
    try:
        asked = _json(request)
        batch = None
        if asked.get("batch") is not None:
            batch = _asked_batch(request, str(asked["batch"]))
            if batch is None:
                raise Refused(404, gettext("There is no such batch any more, or it is to be deleted."))
        upload = _begin(request, str(asked.get("name") or ""), batch)
    except Refused as refused:
        return _refusal(refused)
    return _answer(
        {
            "key": upload.key,
            "address": f"/upload/{upload.key}",
            "files": f"/upload/{upload.key}/files",
            "import": f"/upload/{upload.key}/import",
            "expires_at": upload.expires_at.isoformat(),
        },
        status=201,
        location=f"/upload/{upload.key}",
    )


def _begin(request: Any, name: str, batch: Batch | None) -> OpenUpload:
    importer, identity = _importer(request), request.identity
    try:
        return imports.begin_upload(
            importer.settings,
            batch.name if batch is not None else name,
            batch_id=None if batch is None else batch.id,
            sender=identity.sender,
            address=request.remote_addr or "",
            now=importer.clock(),
        )
    except StorageFailed as error:
        raise _no_room(error) from None


def _json(request: Any) -> dict[str, Any]:
    try:
        asked = json.loads(request.body or b"{}")
    except ValueError:
        raise Refused(400, "The body must be JSON.") from None
    if not isinstance(asked, dict):
        raise Refused(400, "The body must be a JSON object.")
    return asked


def _answer(content: Any, *, status: int = 200, location: str | None = None) -> Response:
    response = Created(json.dumps(content).encode(), status=status, content_type="application/json", charset=None)
    if location is not None:
        response.headers["Location"] = location
    return response


def _refusal(refused: Refused) -> Response:
    response = Response(str(refused), status=refused.status, content_type="text/plain", charset="UTF-8")
    response.headers.update(refused.headers)
    return response


def _no_room(error: StorageFailed) -> Refused:
    return Refused(507 if isinstance(error, StorageFull) else 503, str(error))


@view_config(
    context=UploadsContainer, name="form", request_method="POST", renderer="upload.jinja2", permission=Permission.BATCH_UPLOAD, require_csrf=False
)
def upload_form(context: UploadsContainer, request: Any) -> Any:
    """Take files as an ordinary form sends them, and make them a batch at once.

    The token against forged requests is its first field and looked at here: Pyramid would first write all files to the disk.
    """
    fields: dict[str, str] = {}
    upload: OpenUpload | None = None
    try:
        for name, filename, blocks in _parts(request):
            if filename is None:
                fields[name] = _text(blocks)
                continue
            if upload is None:
                _check_token(request, fields.get("csrf_token", ""))
                upload = _begin(request, fields.get("name", ""), _asked_batch(request, fields.get("batch", "")))
            if filename:
                upload.take(filename, blocks)
            else:
                # A file input in which nothing was chosen sends a part without a name.
                deque(blocks, maxlen=0)
        _check_token(request, fields.get("csrf_token", ""))
        if upload is None:
            raise Refused(400, gettext("No file was chosen."))
        imports.announce_upload(_importer(request), upload)
        return see_other(request, f"/upload/{upload.key}")
    except NothingToImport:
        refused = Refused(400, gettext("No file was chosen."))
    except TooMuch as error:
        refused = Refused(413, str(error))
    except StorageFailed as error:
        refused = _no_room(error)
    except multipart.MultipartError:
        refused = Refused(400, gettext("The form was not sent completely."))
    except (batches.BatchGone, UploadGone):
        refused = Refused(409, gettext("The batch was deleted meanwhile."))
    except Refused as error:
        refused = error
    if upload is not None:
        with suppress(UploadGone):
            imports.discard_upload(_importer(request), upload)
    request.response.status = refused.status
    return {**_page(request, _asked_batch(request, fields.get("batch", "")), str(refused)), "message": None}


def _check_token(request: Any, token: str) -> None:
    if needs_csrf_token(request):
        policy = request.registry.getUtility(ICSRFStoragePolicy)
        if not policy.check_csrf_token(request, token):
            raise BadCSRFToken


def _parts(request: Any) -> Iterator[tuple[str, str | None, Iterator[bytes]]]:
    """Give name, file name and blocks of each part of a form; the blocks must be used up before the next part."""
    kind, options = multipart.parse_options_header(request.headers.get("Content-Type", ""))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise Refused(415, "The form must be sent as multipart/form-data.")
    most = request.registry.settings["dicomweb"]["upload.max_files"]
    with multipart.PushMultipartParser(options["boundary"], max_segment_count=most + 10, strict=True) as parser:
        events = (event for block in _blocks(request) for event in parser.parse(block))
        for event in events:
            if isinstance(event, multipart.MultipartSegment):
                yield event.name or "", event.filename, iter(events.__next__, None)


def _text(blocks: Iterator[bytes]) -> str:
    text = b""
    for block in blocks:
        text += block
        if len(text) > _LONGEST_FIELD:
            raise Refused(400, gettext("A field of the form is too long."))
    return text.decode("utf-8", "replace")


def _blocks(request: Any) -> Iterator[bytes]:
    body, left = request.body_file, request.content_length or 0
    while left > 0 and (block := body.read(min(_BLOCK, left))):
        left -= len(block)
        yield block


@view_config(context=UploadResource, request_method="GET", permission=Permission.BATCH_UPLOAD)
def show_upload(context: UploadResource, request: Any) -> Any:
    """Show an upload: how it can go on, or what has become of it."""
    if context.upload is not None:
        try:
            return render_to_response("upload.jinja2", _unfinished(request, context.upload), request=request)
        except UploadGone as gone:
            if imports.announced(_importer(request), context.key) is None:
                raise HTTPGone(str(gone)) from None
            return see_other(request, f"/upload/{context.key}")
    return render_to_response("upload_result.jinja2", {**upload_status(context, request), "message": message(request)}, request=request)


def _unfinished(request: Any, upload: OpenUpload) -> dict[str, Any]:
    about = upload.about
    batch = _asked_batch(request, str(about.batch_id)) if about.batch_id is not None else None
    page = _page(request, batch)
    shown = _shown(request, upload)
    return {
        **page,
        "name": about.name,
        "upload": shown,
        "lost_batch": about.batch_id is not None and batch is None,
        "limits": upload.limits(),
        "unfinished": [],
        "message": message(request),
    }


@view_config(
    context=UploadResource, name="status", request_method="GET", renderer="_upload_result.jinja2", permission=Permission.BATCH_UPLOAD
)
def upload_status(context: UploadResource, request: Any) -> dict[str, Any]:
    """Give what changes on the page of an upload while it is imported."""
    if context.batch_id is None:
        raise HTTPGone(gettext("This upload is not a batch yet."))
    dbsession = request.dbsession
    upload = dbsession.scalars(sa.select(Upload).where(Upload.folder == f"upload-{context.key}")).one()
    batch = dbsession.get_one(Batch, context.batch_id)
    of_batch = Outcome.batch_id == batch.id
    by_kind = sa.select(Outcome.kind, sa.func.count()).where(of_batch).group_by(Outcome.kind)
    kinds = {**dict.fromkeys(OUTCOME_KIND, 0), **dict(dbsession.execute(by_kind).all())}
    reasons = dbsession.execute(
        sa.select(Outcome.code, sa.func.min(Outcome.message), sa.func.count(), sa.func.min(Outcome.path))
        .where(of_batch, Outcome.kind.in_(("error", "conflict")))
        .group_by(Outcome.code)
        .order_by(sa.func.count().desc(), Outcome.code)
        .limit(CODES_SHOWN)
    ).all()
    done = sa.select(Image).where(Image.batch_id == batch.id, Image.status == "DONE")
    return {
        "upload": upload,
        "batch": batch,
        "running": batch.status != "DONE",
        "progress": batches.progress(batch),
        "kinds": kinds,
        "reasons": reasons,
        "images": list(dbsession.scalars(done.order_by(Image.id).limit(IMAGES_SHOWN))),
    }


@view_config(context=UploadResource, name="import", request_method="POST", permission=Permission.BATCH_UPLOAD)
def import_upload(context: UploadResource, request: Any) -> Any:
    """Make the complete files of an upload a batch; JSON with a ``name`` makes a new one also when another was to be joined."""
    as_form = request.content_type != "application/json"
    try:
        asked = {} if as_form else _json(request)
        new_name = request.POST.get("name") if as_form else asked.get("name")
        batch_id = _announce(request, context, str(new_name) if new_name else None)
    except Refused as refused:
        if not as_form:
            return _refusal(refused)
        return see_other(request, f"/upload/{context.key}", message="nothing-uploaded" if refused.status == 409 else "not-uploaded")
    if as_form:
        return see_other(request, f"/upload/{context.key}")
    return _answer({"batch": batch_id, "address": f"/upload/{context.key}"})


def _announce(request: Any, context: UploadResource, new_name: str | None) -> int:
    if context.upload is None:
        if context.batch_id is None:
            raise Refused(410, gettext("There is no such upload any more."))
        return context.batch_id
    try:
        return imports.announce_upload(_importer(request), context.upload, new_name=new_name)
    except NothingToImport as error:
        raise Refused(409, str(error)) from None
    except batches.BatchGone:
        raise Refused(422, gettext("The batch that the files were to join is deleted, or is to be.")) from None
    except UploadGone as error:
        raise Refused(410, str(error)) from None
    except StorageFailed as error:
        raise _no_room(error) from None


@view_config(context=UploadResource, name="discard", request_method="POST", permission=Permission.BATCH_UPLOAD)
def discard_upload(context: UploadResource, request: Any) -> SeeOther:
    """Remove an upload that is not a batch yet."""
    try:
        if context.upload is not None:
            imports.discard_upload(_importer(request), context.upload)
    except UploadGone:
        return see_other(request, f"/upload/{context.key}")
    return see_other(request, "/upload", message="discarded")


@view_config(context=UploadResource, request_method="DELETE", permission=Permission.BATCH_UPLOAD)
def cancel_upload(context: UploadResource, request: Any) -> Response:
    """Remove an upload that is not a batch yet, asked for by a script or program."""
    try:
        imports.discard_upload(_importer(request), _open(context))
    except (Refused, UploadGone) as gone:
        return _refusal(Refused(410, str(gone)))
    return Response(status=204)


@view_config(context=UploadFilesResource, request_method="GET", permission=Permission.BATCH_UPLOAD)
def list_files(context: UploadFilesResource, request: Any) -> Response:
    """List the files that were announced and how much of each is there, so that a page that is opened again can go on."""
    try:
        files = _open(context).files()
    except (Refused, UploadGone) as gone:
        return _refusal(Refused(410, str(gone)))
    return _answer([{"id": file.file_id, "path": file.path, "size": file.size, "offset": file.offset, "key": file.key} for file in files])


@view_config(context=UploadFilesResource, request_method="OPTIONS", permission=Permission.BATCH_UPLOAD)
@view_config(context=UploadFileResource, request_method="OPTIONS", permission=Permission.BATCH_UPLOAD)
def tell_abilities(context: Any, request: Any) -> Response:
    """Tell what of the tus protocol is spoken here."""
    most = request.registry.settings["dicomweb"]["upload.max_bytes"]
    return Response(status=204, headerlist=[*TUS.items(), *TUS_ABILITIES.items(), ("Tus-Max-Size", str(most))])


@view_config(context=UploadFilesResource, request_method="POST", permission=Permission.BATCH_UPLOAD)
def announce_file(context: UploadFilesResource, request: Any) -> Response:
    """Announce a file, perhaps with its first bytes (tus: creation, creation-with-upload)."""
    return _tus(request, _announce_file, context)


def _announce_file(request: Any, context: UploadFilesResource) -> Response:
    upload = _open(context)
    length = request.headers.get("Upload-Length", "")
    if not _NUMBER.fullmatch(length):
        raise Refused(400, "Upload-Length must say how many bytes the file has.")
    said = request.headers.get("Upload-Metadata", "")
    about = _metadata(said)
    if len(about.get("key", "")) > imports.MOST_KEY or len(said) > imports.MOST_SAID:
        # Cut off, the keys of two files could be the same, and one of the files would replace the other.
        raise Refused(400, f"Upload-Metadata has at most {imports.MOST_SAID:,} characters, and a key in it {imports.MOST_KEY}.")
    if request.content_length and request.content_type != "application/offset+octet-stream":
        raise Refused(415, "Bytes are sent as application/offset+octet-stream.")
    sent = request.content_length or 0
    if sent > int(length):
        raise Refused(413, f"The file is announced with {int(length):,} bytes, and more were sent.")
    _check_sum(request)
    path = about.get("path") or about.get("filename") or "file"
    file_id = upload.add(path, int(length), key=about.get("key", ""), said=said)
    offset = upload.write(file_id, 0, _blocks(request), length=sent) if sent else 0
    response = Created(status=201)
    response.headers["Location"] = f"/upload/{upload.key}/files/{file_id}"
    response.headers["Upload-Offset"] = str(offset)
    return response


@view_config(context=UploadFileResource, permission=Permission.BATCH_UPLOAD)
def serve_file(context: UploadFileResource, request: Any) -> Response:
    """Tell how much of a file is there (HEAD), take more of it (PATCH), take it out again (DELETE)."""
    method = request.headers.get("X-HTTP-Method-Override", request.method) if request.method == "POST" else request.method
    handlers = {"HEAD": _tell_offset, "PATCH": _take_bytes, "DELETE": _remove_file}
    handler = handlers.get(method)
    if handler is None:
        return _refusal(Refused(405, "This cannot be done with a file of an upload.", Allow="HEAD, PATCH, DELETE, OPTIONS"))
    return _tus(request, handler, context)


def _tell_offset(request: Any, context: UploadFileResource) -> Response:
    upload = _open(context)
    offset = upload.offset(context.file_id)
    response = Response(status=200)
    response.headers.update({"Upload-Offset": str(offset), "Upload-Length": str(imports.size_of(context.file_id))})
    if said := upload.said(context.file_id):
        response.headers["Upload-Metadata"] = said
    return response


def _take_bytes(request: Any, context: UploadFileResource) -> Response:
    if request.content_type != "application/offset+octet-stream":
        raise Refused(415, "Bytes are sent as application/offset+octet-stream.")
    said = request.headers.get("Upload-Offset", "")
    if not _NUMBER.fullmatch(said):
        raise Refused(400, "Upload-Offset must say where the bytes belong.")
    upload = _open(context)
    _check_sum(request)
    offset = upload.write(context.file_id, int(said), _blocks(request), length=request.content_length or 0)
    response = Response(status=204)
    response.headers["Upload-Offset"] = str(offset)
    return response


def _remove_file(request: Any, context: UploadFileResource) -> Response:
    _open(context).remove(context.file_id)
    return Response(status=204)


def _open(context: UploadResource | UploadFilesResource | UploadFileResource) -> OpenUpload:
    if context.upload is None:
        raise Refused(410, "This upload is a batch already.")
    return context.upload


def _tus(request: Any, handler: Callable[[Any, Any], Response], context: Any) -> Response:
    """Answer a request of the tus protocol: its version, and its errors in the words of the protocol."""
    try:
        if request.headers.get("Tus-Resumable") != TUS["Tus-Resumable"]:
            raise Refused(412, "The tus protocol is spoken here in version 1.0.0.", Tus_Version=TUS["Tus-Resumable"])
        response = handler(request, context)
        response.headers["Upload-Expires"] = format_datetime(context.upload.expires_at, usegmt=True)
    except UploadGone as error:
        response = _refusal(Refused(410 if context.upload is None else 404, str(error)))
    except TooMuch as error:
        response = _refusal(Refused(413, str(error)))
    except WrongOffset as error:
        response = _refusal(Refused(409, str(error), Upload_Offset=str(error.offset)))
    except FileBusy as error:
        response = _refusal(Refused(423, str(error)))
    except StorageFailed as error:
        response = _refusal(_no_room(error))
    except Refused as refused:
        response = _refusal(refused)
    response.headers.update(TUS)
    return response


def _metadata(text: str) -> dict[str, str]:
    """Read what the sender says of a file: names, each with a value in Base64."""
    found = {}
    for pair in text.split(","):
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            raise Refused(400, "Upload-Metadata is pairs of a name and a value in Base64.") from None
    return found


def _check_sum(request: Any) -> None:
    """Hold the bytes of a request against the sum that the sender gives of them, if any."""
    said = request.headers.get("Upload-Checksum")
    if said is None:
        return
    algorithm, _, value = said.partition(" ")
    if algorithm not in _CHECKSUMS:
        raise Refused(400, "Upload-Checksum is made by sha1 or sha256.")
    digest = _CHECKSUMS[algorithm]()
    request.make_body_seekable()
    for block in _blocks(request):
        digest.update(block)
    request.body_file.seek(0)
    if base64.b64encode(digest.digest()).decode() != value.strip():
        raise Refused(460, "The bytes are not those that the sum was made of.")
