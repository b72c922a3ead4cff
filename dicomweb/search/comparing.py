"""What varies within a result, and in what two headers differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.headers.dictionary import path_of
from dicomweb.languages import gettext
from dicomweb.models import Image
from dicomweb.search.columns import element_text
from dicomweb.search.compiling import compile_query
from dicomweb.search.errors import SearchError, TooBroad
from dicomweb.search.lists import keyword_of

# More different values are not counted.
MOST_DISTINCT = 1000
EXAMPLES = 5


class Varying(NamedTuple):
    """A path among the images of a result.

    images: how many of them have it. distinct: how many different texts it has; when ``more`` is set, more than that. constant:
    all images of the result have it, with the same values. texts: some of the most frequent values with their numbers of images.
    """

    path: str
    keyword: str
    vr: str
    images: int
    distinct: int
    more: bool
    constant: bool
    texts: tuple[tuple[str, int], ...]


class Difference(NamedTuple):
    """An element that two headers do not have in common; None where it is missing.

    path: as in the index; of the second and further items of a sequence the number of the item stands behind the sequence,
    ``00400275.2/00400009``. vr: of both, when they differ. A value that is kept as bulk data is not compared.
    """

    path: str
    keyword: str
    vr: str
    a: str | None
    b: str | None


def varies(dbsession: Session, node: query.Node) -> list[Varying]:
    """Tell of every path of the images that a query finds whether it is constant among them, in the order of the paths.

    Raises SearchError; TooBroad beyond ``index.varying.MOST_GROUPS``.
    """
    expression = compile_query(dbsession, node)
    try:
        found = index.summarise_paths(dbsession, expression, most_distinct=MOST_DISTINCT, examples=EXAMPLES)
    except index.TooManyGroups as error:
        raise TooBroad(gettext("The result is too large to look at all of its headers; please narrow the search.")) from error
    return [Varying(path, _keyword(path), vr, images, distinct, more, constant, texts) for path, vr, images, distinct, more, constant, texts in found]


def diff(dbsession: Session, image_a: Image, image_b: Image) -> list[Difference]:
    """Give the elements in which the headers of two images differ, file meta included, in the order of their tags.

    Raises SearchError when one of them has not been imported yet.
    """
    flat = [_flat_header(dbsession, image) for image in (image_a, image_b)]
    differences = []
    for place in sorted(flat[0].keys() | flat[1].keys()):
        in_a, in_b = flat[0].get(place), flat[1].get(place)
        if in_a == in_b:
            continue
        path = in_a.path if in_a else in_b.path if in_b else ""
        texts = [None if found is None else element_text(found.element) for found in (in_a, in_b)]
        vrs = [str(found.element.get("vr", "")) for found in (in_a, in_b) if found]
        differences.append(Difference(path, _keyword(path), "/".join(dict.fromkeys(vrs)), *texts))
    return differences


_Place = tuple[tuple[str, int], ...]


class _Found(NamedTuple):
    """An element as it is compared: of a sequence the number of its items."""

    path: str
    element: Mapping[str, Any]


def _flat_header(dbsession: Session, image: Image) -> dict[_Place, _Found]:
    key = image.header_key
    header = index.read_headers(dbsession, [key], bulk_prefix=lambda _key: b"") if key is not None else {}
    if key is None or key not in header:
        raise SearchError(gettext("An image that has not been imported has no header to compare."))
    elements = {tag: orjson.loads(element) for tag, element in index.read_meta(dbsession, [key])[key].items()}
    return dict(_flatten(elements | orjson.loads(header[key]), "", ()))


def _flatten(
    elements: Mapping[str, Any], above: str, place: _Place
) -> Iterator[tuple[_Place, _Found]]:
    """Give every element and where it stands, with creators instead of blocks."""
    creators = {
        (tag[:4], tag[6:]): element_text(element)
        for tag, element in elements.items()
        if int(tag[3], 16) % 2 and tag[4:6] == "00" and tag[6:] >= "10"
    }
    for tag, element in elements.items():
        segment = path_of(int(tag, 16), creators.get((tag[:4], tag[4:6]), ""))
        path = above + segment
        items = element.get("Value", ()) if element.get("vr") == "SQ" else ()
        yield (*place, (segment, 0)), _Found(path, {**element, "Value": [None] * len(items)} if items else element)
        for number, item in enumerate(items, 1):
            below = f"{path}/" if number == 1 else f"{path}.{number}/"
            yield from _flatten(item or {}, below, (*place, (segment, number)))


def _keyword(path: str) -> str:
    return keyword_of(path.rpartition("/")[2])
