"""The columns of a result: elements of the header by path, and a few facts that are in no header."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.headers.dictionary import CREATOR_CHARACTERS, ESCAPED
from dicomweb.languages import N_, gettext
from dicomweb.search.errors import UnknownColumn

LEVELS = ("image", "series", "study")
# What a page shows of one value; an export has all of it.
LONGEST = 1000
MOST_COLUMNS = 100

# Facts about a row that are in no header: name -> what it is.
FACTS = {
    "id": N_("The number of the image, series or study in this application."),
    "batch": N_("The batch, of several images that of the first one."),
    "path": N_("Where the file was in its batch, of several images that of the first one."),
    "added": N_("When it was imported, of several images the first one."),
    "images": N_("How many images match."),
    "label": N_("The labels on the image, series or study itself."),
}

DEFAULT_COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("PatientName", "PatientID", "StudyDate", "Modality", "SeriesDescription", "SeriesNumber", "InstanceNumber"),
    "series": ("PatientName", "PatientID", "StudyDate", "Modality", "SeriesNumber", "SeriesDescription", "images"),
    "study": ("PatientName", "PatientID", "StudyDate", "AccessionNumber", "StudyDescription", "Modality", "images"),
}

_DICOM_JSON_NAMES = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: under which name its values are given, and its path; a fact has none."""

    name: str
    path: str | None


def resolve_columns(columns: Sequence[query.Field | str]) -> tuple[Column, ...]:
    """Make columns of fields and of names: those of FACTS, and all that the query language understands. Raises UnknownColumn.

    A column that comes twice is given once.
    """
    if len(columns) > MOST_COLUMNS:
        raise UnknownColumn(gettext("A result has at most %(most)s columns.", most=MOST_COLUMNS))
    return tuple(dict.fromkeys(resolve_column(column) for column in columns))


def resolve_column(column: query.Field | str) -> Column:
    """Make a column of a field or a name. Raises UnknownColumn."""
    if isinstance(column, str):
        if column in FACTS:
            return Column(column, None)
        try:
            field = query.resolve(column)
        except query.QuerySyntaxError as error:
            raise UnknownColumn(str(error)) from error
        name = column
    else:
        field, name = column, column.name
    if field.any_depth:
        raise UnknownColumn(gettext("A column needs one path; a field of any depth may stand for many."))
    return Column(name, field.path)


class Texts(NamedTuple):
    """The texts of images of one group: header keys are ``first`` and an ordinal.

    constant: path -> text that all of them have. changing: path -> the text of each, in the order of the ordinals, None where
    there is none.
    """

    first: int
    ordinals: Sequence[int]
    constant: Mapping[str, str]
    changing: Mapping[str, Sequence[str | None]]


def read_values(
    dbsession: Session, header_keys: Collection[int], paths: Collection[str], *, longest: int | None = LONGEST
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the texts at some paths of each image: (header key, path -> text); a path that an image does not have is left out."""
    if not paths:
        yield from ((key, {}) for key in header_keys)
        return
    for group in read_texts(dbsession, header_keys, paths, longest=longest):
        for place, ordinal in enumerate(group.ordinals):
            values = dict(group.constant)
            for path, texts in group.changing.items():
                text = texts[place]
                if text is not None:
                    values[path] = text
            yield group.first + ordinal, values


def read_texts(
    dbsession: Session, header_keys: Collection[int], paths: Collection[str], *, longest: int | None = LONGEST
) -> Iterator[Texts]:
    """Give the texts at some paths of images, group by group in any order, from the documents of the groups.

    Several values, also those of several items of a sequence, are joined by backslashes, as DICOM does. longest: where a text
    is cut. Images that are not indexed are left out.
    """
    split = {path: path.split("/") for path in paths}
    public = {parts[0] for parts in split.values() if "[" not in parts[0]}
    private = {parts[0][:4] for parts in split.values() if "[" in parts[0]}
    for group in index.read_elements(dbsession, header_keys, public, private):
        yield _texts_of_group(group, split, longest)


def _texts_of_group(group: index.GroupElements, split: Mapping[str, Sequence[str]], longest: int | None) -> Texts:
    constant: dict[str, str] = {}
    changing: dict[str, Sequence[str | None]] = {}
    by_image: dict[str, Sequence[str]] = {}
    blocks = _private_blocks(group.shared)
    varying_groups = {tag[:4] for tag in group.varying}
    for path, parts in split.items():
        top = parts[0]
        if "[" in top:
            if top[:4] in varying_groups:
                # Creator and element may be in different blocks in each image.
                by_image[path] = parts
                continue
            top = blocks.get(top, "")
        if top in group.varying:
            cells = group.varying[top]
            changing[path] = _texts_of_cells([cells[ordinal] for ordinal in group.ordinals], parts, longest)
        elif top in group.shared and (text := _text_at(group.shared, parts, blocks, longest)) is not None:
            constant[path] = text
    if by_image:
        changing |= _texts_by_image(group, by_image, longest)
    return Texts(group.first, group.ordinals, constant, changing)


def _texts_of_cells(cells: Sequence[bytes], parts: Sequence[str], longest: int | None) -> list[str | None]:
    elements = orjson.loads(b"[" + b",".join([cell or b"null" for cell in cells]) + b"]")
    if len(parts) == 1:
        return [None if element is None else _cut(element_text(element), longest) for element in elements]
    return [None if element is None else _text_at({parts[0]: element}, parts, {}, longest) for element in elements]


def _texts_by_image(
    group: index.GroupElements, split: Mapping[str, Sequence[str]], longest: int | None
) -> dict[str, Sequence[str | None]]:
    found: dict[str, list[str | None]] = {path: [] for path in split}
    for ordinal in group.ordinals:
        elements = group.of(ordinal)
        blocks = _private_blocks(elements)
        for path, parts in split.items():
            found[path].append(_text_at(elements, parts, blocks, longest))
    return dict(found)


def _text_at(elements: Mapping[str, Any], parts: Sequence[str], blocks: Mapping[str, str], longest: int | None) -> str | None:
    texts = list(_texts_at(elements, parts, blocks))
    if not texts:
        return None
    return _cut("\\".join(texts), longest)


def _cut(text: str, longest: int | None) -> str:
    return text if longest is None or len(text) <= longest else text[:longest] + "…"


def _texts_at(elements: Mapping[str, Any], parts: Sequence[str], blocks: Mapping[str, str]) -> Iterator[str]:
    element = elements.get(blocks.get(parts[0], "") if "[" in parts[0] else parts[0])
    if element is None:
        return
    if len(parts) == 1:
        yield element_text(element)
        return
    for item in element.get("Value", ()):
        if isinstance(item, dict) and element.get("vr") == "SQ":
            yield from _texts_at(item, parts[1:], _private_blocks(item) if "[" in parts[1] else {})


def _private_blocks(elements: Mapping[str, Any]) -> dict[str, str]:
    """Give the tag of every private element by its place in a path: ``0019[CREATOR]02`` -> ``00191002`` (PS3.5 7.8.1)."""
    creators = {
        (tag[:4], tag[6:]): _as_in_paths(element_text(element))
        for tag, element in elements.items()
        if int(tag[3], 16) % 2 and tag[4:6] == "00" and tag[6:] >= "10"
    }
    return {
        f"{tag[:4]}[{creators.get((tag[:4], tag[4:6]), '')}]{tag[6:]}": tag
        for tag in reversed(list(elements))
        if int(tag[3], 16) % 2 and tag[4:6] >= "10"
    }


def _as_in_paths(creator: str) -> str:
    """Write a private creator as it stands in a path."""
    return creator[:CREATOR_CHARACTERS].translate(ESCAPED)


def element_text(element: Mapping[str, Any]) -> str:
    """Write the value of a DICOM JSON element (PS3.18 Annex F) as one text."""
    if "Value" in element:
        if element.get("vr") == "SQ":
            items = len(element["Value"])
            return f"<{items} item{'' if items == 1 else 's'}>"
        return "\\".join([value if isinstance(value, str) else _value_text(value) for value in element["Value"]])
    if "InlineBinary" in element:
        inline = str(element["InlineBinary"])
        return f"<{len(inline) * 3 // 4 - inline[-2:].count('=')} bytes>"
    return "<bulk data>" if "BulkDataURI" in element else ""


def _value_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case dict():
            return "=".join(str(value.get(name, "")) for name in _DICOM_JSON_NAMES).rstrip("=")
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
    return str(value)
