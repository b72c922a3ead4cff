"""``/api/search`` and its neighbours: images, series and studies by any header element, in the language of docs/search.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from pyramid.httpexceptions import HTTPTooManyRequests
from pyramid.response import Response

from dicomweb import asking, query, search
from dicomweb.api import schemas, search_schemas
from dicomweb.api.errors import Refused
from dicomweb.api.requests import address, checked, service
from dicomweb.exports import FILE_NAMES, MEDIA_TYPES, TooManyExports
from dicomweb.resources import Root
from dicomweb.security import Permission

found = service("search", "/search", "Search", traverse="/search")
facets = service("search.facets", "/search/facets", "Facets", traverse="/search")
varies = service("search.varies", "/search/varies", "What varies", traverse="/search")
table = service("search.export", "/search/export", "Export a table", traverse="/search")
archive = service("search.images", "/search/images.zip", "Export images", traverse="/search")
completion = service("complete", "/complete", "Completion", traverse="/search")
difference = service("image.diff", "/images/{id}/diff/{other}", "Difference", traverse="/images/{id}")

SERVICES = (found, facets, varies, table, archive, completion, difference)


@found.get(
    schema=schemas.request(search_schemas.SearchFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="search",
    response_schemas=schemas.answers(search_schemas.SearchResult, "A page of the result."),
)
def find(request: Any) -> dict[str, Any]:
    """Find images, series or studies."""
    wanted, began = request.validated, time.perf_counter()
    with refusing():
        question = read_question(wanted)
        size = wanted["size"]
        with asking.mistakes("q", question.text):
            result = search.find(
                request.dbsession,
                question.node,
                level=question.level,
                columns=question.column_names,
                sort=question.sort,
                size=max(1, size),
                after=wanted.get("after"),
            )
    return {
        "count": result.total,
        "next": _page(request, result.next) if size else None,
        "previous": _page(request, result.previous) if size else None,
        "query": query.unparse(question.node),
        "sentence": query.sentence(question.node),
        "level": question.level,
        "columns": [
            {
                "name": column.name,
                "path": column.field.path if column.field else None,
                "keyword": column.field.keyword if column.field else "",
            }
            for column in question.columns
        ],
        "results": [_result(request, question.level, row) for row in result.rows] if size else [],
        "took_ms": _since(began),
    }


@facets.get(
    schema=schemas.request(search_schemas.FacetFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="list_facets",
    response_schemas=schemas.answers(search_schemas.Facets, "What there is."),
)
def list_facets(request: Any) -> dict[str, Any]:
    """Count the values of some elements in a result."""
    wanted, began = request.validated, time.perf_counter()
    with refusing():
        question = read_question(wanted)
        fields = asking.read_fields(wanted["fields"])
        if len(fields) > search_schemas.MOST_FACETS:
            raise asking.Mistake("fields", "", f"At most {search_schemas.MOST_FACETS} elements are counted at once")
        with asking.mistakes("q", question.text):
            made = asking.read_facets(request.dbsession, question, [(field, wanted["limit"]) for field in fields])
    return {
        "query": query.unparse(question.node),
        "level": question.level,
        "facets": [
            {
                "path": one.field.path,
                "keyword": one.field.keyword,
                "total": one.total,
                "missing": one.missing,
                "more": one.more,
                "histogram": one.histogram,
                "values": [
                    {
                        "text": value.text,
                        "count": value.count,
                        "query": None
                        if value.condition is None
                        else query.unparse(asking.added(question.node, value.condition)),
                    }
                    for value in one.values
                ],
            }
            for one in made
        ],
        "took_ms": _since(began),
    }


@varies.get(
    schema=schemas.request(search_schemas.VariesFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="list_varying",
    response_schemas=schemas.answers(search_schemas.Varies, "What is the same in all, and what is not."),
)
def list_varying(request: Any) -> dict[str, Any]:
    """Tell of every element of a result whether it is the same in all images."""
    began = time.perf_counter()
    with refusing():
        question = read_question(request.validated)
        with asking.mistakes("q", question.text):
            made = search.varies(request.dbsession, question.node)
            total = search.count(request.dbsession, question.node)
    return {
        "count": total,
        "constant": [_varying(one) for one in made if one.constant],
        "varying": [_varying(one) for one in made if not one.constant],
        "took_ms": _since(began),
    }


@table.get(
    schema=schemas.request(search_schemas.ExportFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="export_table",
    response_schemas=schemas.answers(
        schemas.TableFile, "All rows of the result as a file. The header X-Total-Count says how many there are."
    ),
)
def export_table(request: Any) -> Response:
    """Download all of a result as a table, streamed."""
    wanted = request.validated
    with refusing():
        return download(request, read_question(wanted), wanted["format"])


@archive.get(
    schema=schemas.request(search_schemas.ArchiveFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="export_images",
    response_schemas=schemas.answers(
        schemas.Archive, "The files of all images of the result, and manifest.tsv, which says what each of them is."
    ),
)
def export_images(request: Any) -> Response:
    """Download the images of a result as one ZIP archive, streamed."""
    with refusing():
        return download(request, read_question(request.validated), "zip")


@difference.get(
    schema=schemas.request(identified="The number of the first image.", other="The number of the second image."),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="diff_images",
    response_schemas=schemas.answers(search_schemas.Difference, "The elements that differ.", 404, 409),
)
def diff_images(request: Any) -> dict[str, Any]:
    """Tell what differs between the headers of two images."""
    one = request.context.image
    try:
        images: Any = Root(request)["images"]
        other = images[request.matchdict["other"]].image
    except KeyError:
        raise Refused(404, "There is no such thing.", name="other") from None
    try:
        found = search.diff(request.dbsession, one, other)
    except search.SearchError as error:
        raise Refused(409, str(error)) from None
    return {
        "one": one.id,
        "one_url": address(request, "images", one.id),
        "other": other.id,
        "other_url": address(request, "images", other.id),
        "elements": [
            {"path": row.path, "keyword": row.keyword, "vr": row.vr, "one": row.a, "other": row.b} for row in found
        ],
    }


@completion.get(
    schema=schemas.request(search_schemas.CompleteFilters),
    validators=(checked,),
    permission=Permission.IMAGE_READ,
    tags=["search"],
    operation_id="complete",
    response_schemas=schemas.answers(search_schemas.Completion, "What could be written."),
)
def complete(request: Any) -> dict[str, Any]:
    """Complete a query at the cursor: keywords, operators, and values that there are."""
    wanted = request.validated
    text = wanted.get("text", "")
    cursor = min(wanted.get("cursor", len(text)), len(text))
    if "only" in wanted:
        made = asking.complete_fields(text, cursor, limit=wanted["limit"])
    else:
        made = asking.complete(request.dbsession, text, cursor, limit=wanted["limit"])
    return {
        "kind": made.kind,
        "prefix": made.prefix,
        "start": made.start,
        "end": made.end,
        "options": [{"text": one.text, "label": one.label, "help": one.help} for one in made.options],
    }


def read_question(wanted: dict[str, Any]) -> asking.Question:
    """Read the question that the parameters of a request ask. Raises Mistake."""
    return asking.read_question(
        wanted.get("q", ""),
        level=wanted.get("level", "image"),
        columns=wanted.get("columns", ""),
        sort=wanted.get("sort", ""),
        now=datetime.now(UTC),
    )


@contextmanager
def refusing() -> Iterator[None]:
    """Answer a Mistake with 400."""
    try:
        yield
    except asking.Mistake as mistake:
        raise refused(mistake) from None


def refused(mistake: asking.Mistake, location: str = "querystring") -> Refused:
    """Make the refusal of a mistake."""
    more: dict[str, str | int] = {}
    if mistake.position is not None:
        more.update(position=mistake.position, length=mistake.length)
    if mistake.expected:
        more["expected"] = mistake.expected
    if mistake.suggestion is not None:
        more["suggestion"] = mistake.suggestion
    return Refused(400, mistake.sentence, location=location, name=mistake.name, **more)


def download(request: Any, question: asking.Question, kind: str) -> Response:
    """Stream a file that is made while it is sent; kind: one of ``exports.KINDS``."""
    registry = request.registry
    try:
        export = registry["exports"].begin(registry["engine"], registry["storage"], question, kind)
    except TooManyExports as error:
        raise HTTPTooManyRequests(str(error)) from None
    media_type = MEDIA_TYPES[kind]
    response = Response(
        app_iter=export,
        content_type=media_type,
        charset="utf-8" if media_type.startswith("text/") else None,
        content_disposition=f'attachment; filename="{FILE_NAMES[kind]}"',
    )
    response.headers["X-Total-Count"] = str(export.total)
    return response


def _varying(one: search.Varying) -> dict[str, Any]:
    return {
        "path": one.path,
        "keyword": one.keyword,
        "vr": one.vr,
        "images_count": one.images,
        "distinct_count": one.distinct,
        "distinct_more": one.more,
        "examples": [text for text, _ in one.texts],
    }


def _page(request: Any, cursor: str | None) -> str | None:
    return None if cursor is None else f"{request.path}?{urlencode({**request.GET, 'after': cursor})}"


def _since(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)


def _result(request: Any, level: str, row: search.Row) -> dict[str, Any]:
    kinds = {"image": "images", "series": "series", "study": "studies"}
    return {
        "id": row.id,
        "url": address(request, kinds[level], row.id),
        "batch": row.batch_id,
        "batch_name": row.batch,
        "batch_url": address(request, "batches", row.batch_id),
        "image": row.image_id,
        "image_url": address(request, "images", row.image_id),
        "series": row.series_id,
        "series_url": address(request, "series", row.series_id),
        "study": row.study_id,
        "study_url": address(request, "studies", row.study_id),
        "images_count": row.images,
        "labels": list(row.labels),
        "values": dict(row.values),
    }
