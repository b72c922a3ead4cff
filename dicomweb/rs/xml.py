"""The Native DICOM Model (PS3.19 A.1) made from DICOM JSON (PS3.18 Annex F), and a multipart message of such documents."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson
from pydicom.datadict import keyword_for_tag

MEDIA_TYPE = "application/dicom+xml"
# One for each process: nobody outside can know it, so that no header value can hold it.
_BOUNDARY = secrets.token_hex(16)
CONTENT_TYPE = f'multipart/related; type="{MEDIA_TYPE}"; boundary={_BOUNDARY}'
_BEGIN = '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">'
_END = "</NativeDicomModel>\n"
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# Characters that XML 1.0 cannot hold, not even escaped; what stands for them keeps the length.
_NOT_XML = {code: "\ufffd" for code in (*range(0x20), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF) if code not in (9, 10, 13)}
# A carriage return would be read back as a line feed.
_RETURN = {"\r": "&#13;"}


def parts(objects: Iterable[bytes]) -> Iterator[bytes]:
    """Give a multipart/related message with one document for each DICOM JSON object."""
    for written in objects:
        yield f"--{_BOUNDARY}\r\nContent-Type: {MEDIA_TYPE}\r\n\r\n".encode()
        yield document(orjson.loads(written))
        yield b"\r\n"
    yield f"--{_BOUNDARY}--\r\n".encode()


def document(elements: Mapping[str, Any]) -> bytes:
    """Make the document of one DICOM JSON object."""
    return "".join((_BEGIN, *_attributes(elements), _END)).encode()


def _attributes(elements: Mapping[str, Any]) -> Iterator[str]:
    creators = {
        (tag[:4], tag[6:]): str((element.get("Value") or [""])[0]) for tag, element in elements.items() if _is_private(tag) and tag[4:6] == "00"
    }
    for tag in sorted(elements):
        yield from _attribute(tag, elements[tag], creators.get((tag[:4], tag[4:6])) if _is_private(tag) else None)


def _attribute(tag: str, element: Mapping[str, Any], creator: str | None) -> Iterator[str]:
    # PS3.19 Table A.1.5-2: of a private attribute the block is told by its creator, and is 00 in the tag.
    number = tag if creator is None else f"{tag[:4]}00{tag[6:]}"
    keyword = keyword_for_tag(int(tag, 16)) if not _is_private(tag) else ""
    said = f'<DicomAttribute tag="{number}" vr={_quoted(str(element["vr"]))}'
    said += f' keyword="{keyword}"' if keyword else ""
    said += f" privateCreator={_quoted(creator)}" if creator is not None else ""
    yield said + ">"
    if "BulkDataURI" in element:
        yield f"<BulkData uri={_quoted(str(element['BulkDataURI']))}/>"
    elif "InlineBinary" in element:
        yield f"<InlineBinary>{_text(str(element['InlineBinary']))}</InlineBinary>"
    else:
        for place, value in enumerate(element.get("Value", ()), 1):
            yield from _value(str(element["vr"]), place, value)
    yield "</DicomAttribute>"


def _value(vr: str, place: int, value: Any) -> Iterator[str]:
    if vr == "SQ":
        yield f'<Item number="{place}">'
        yield from _attributes(value or {})
        yield "</Item>"
    elif value is None:
        # The number of a value is its place, so that an empty one is told by leaving it out.
        return
    elif vr == "PN":
        yield f'<PersonName number="{place}">'
        for group in _NAME_GROUPS:
            if group in value:
                yield f"<{group}>"
                named = zip(_NAME_PARTS, str(value[group]).split("^", 4), strict=False)
                yield from (f"<{part}>{_text(text)}</{part}>" for part, text in named if text)
                yield f"</{group}>"
        yield "</PersonName>"
    else:
        yield f'<Value number="{place}">{_text(_written(value))}</Value>'


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _is_private(tag: str) -> bool:
    return int(tag[3], 16) % 2 == 1


def _text(text: str) -> str:
    return escape(text.translate(_NOT_XML), _RETURN)


def _quoted(text: str) -> str:
    return quoteattr(text.translate(_NOT_XML))
