"""The value of one element: its bytes -> the texts it is searched by and its DICOM JSON (PS3.18 Annex F).

Texts are decoded, without NUL and padding, one entry a value. JSON holds the same values: numbers as numbers where they are
valid, PersonName in its component groups, null for an empty value among others, no "Value" for an empty element.
"""

import re
import struct
from base64 import b64encode
from math import isfinite
from typing import Any

import orjson

from dicomweb.headers import charset
from dicomweb.headers.charset import Encodings

# Bulk data is named by this mark and its path; the reader of a document puts the URL of the instance in its place. The
# control character cannot occur in a DICOM text, so that the mark is never part of a value.
BULK_MARK = "\x01"
# A longer binary value or numeric vector is bulk data in JSON.
INLINE_BYTES = 1024
# A numeric vector is searchable by its first values; a curve or a look-up table is not searched point by point.
VECTOR_VALUES = 256

NUMERIC = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "SV": "q", "UV": "Q", "FL": "f", "FD": "d"}
BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
TEXT = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
PLAIN = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"))
# A decimal or integer string, PS3.5 6.2; longer ones than the Standard allows are common.
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
UNDIVIDED = frozenset(("LT", "ST", "UT", "UR"))

Values = tuple[str, ...]


class WrongLength(ValueError):
    """The length of a value is no multiple of what its VR needs."""


def element_json(vr: str, values: list[Any] | None = None) -> bytes:
    """Return the JSON object of one element; without values it is an empty one."""
    return orjson.dumps({"vr": vr} if values is None else {"vr": vr, "Value": values})


def bulk_json(vr: str, path: str) -> bytes:
    """Return the JSON object of an element whose value is fetched by its own URL, PS3.18 F.2.6."""
    return orjson.dumps({"vr": vr, "BulkDataURI": BULK_MARK + path})


def binary_values(vr: str, value: bytes) -> Values:
    """Return the one search value of binary data: text in a short UN as it is, its size else."""
    if vr == "UN" and len(value) <= 64:
        text = value.strip(b" \0")
        if text and text.isascii() and text.decode().isprintable():
            return (text.decode(),)
    return (f"<{len(value)} bytes>",)


def convert(vr: str, value: bytes, little: bool, encodings: Encodings) -> tuple[Values, bytes]:
    """Return the search values and the JSON object of a whole value of at least one byte.

    Raises WrongLength.
    """
    if vr in TEXT or vr in PLAIN:
        values = texts(vr, value, encodings)
        return searched(vr, values), text_json(vr, values)
    if vr in NUMERIC:
        numbers = unpack_numbers(vr, value, little)
        return tuple(map(str, numbers[:VECTOR_VALUES])), element_json(vr, [_finite(number) for number in numbers])
    if vr == "AT":
        tags = tuple(f"{g:04X}{e:04X}" for g, e in struct.iter_unpack("<HH" if little else ">HH", _whole(value, 4)))
        return tags, element_json(vr, list(tags))
    values = binary_values(vr, value)
    return values, orjson.dumps({"vr": vr, "InlineBinary": b64encode(value).decode("ascii")})


def texts(vr: str, value: bytes, encodings: Encodings) -> Values:
    """Return all values of a text."""
    text = charset.decode(value, encodings) if vr in TEXT else value.decode("iso8859")
    text = text.replace("\0", "")
    if vr in UNDIVIDED:
        return (text.rstrip(" "),)
    if vr == "PN":
        return tuple(part.strip(" ").rstrip("=") for part in text.split("\\"))
    if "\\" not in text:
        return (text.strip(" "),)
    return tuple(part.strip(" ") for part in text.rstrip(" ").split("\\"))


def searched(vr: str, values: Values) -> Values:
    """Return those of the values of a text that are searchable."""
    return values[:VECTOR_VALUES] if vr in ("DS", "IS") else values


def unpack_numbers(vr: str, value: bytes, little: bool) -> tuple[Any, ...]:
    """Return the numbers of a binary numeric value; raises WrongLength."""
    code = NUMERIC[vr]
    size = struct.calcsize("<" + code)
    return struct.unpack(f"{'<' if little else '>'}{len(value) // size}{code}", _whole(value, size))


def _whole(value: bytes, size: int) -> bytes:
    if len(value) % size:
        raise WrongLength
    return value


def _finite(number: float) -> float | str:
    """Return a number, or the name that DICOM JSON readers know for what JSON has no number for."""
    if isfinite(number):
        return number
    return "NaN" if number != number else "inf" if number > 0 else "-inf"


def text_json(vr: str, values: Values) -> bytes:
    """Return the JSON object of the values of a text VR."""
    if values == ("",):
        return element_json(vr)
    if vr == "PN":
        return element_json(vr, [_person_name(value) if value else None for value in values])
    if vr == "DS":
        return element_json(vr, [_decimal(value) for value in values])
    if vr == "IS":
        return element_json(vr, [_integer(value) for value in values])
    return element_json(vr, [value or None for value in values])


def _person_name(value: str) -> dict[str, str]:
    groups = ("Alphabetic", "Ideographic", "Phonetic")
    return dict(zip(groups, value.split("="), strict=False))


def _decimal(text: str) -> float | str | None:
    """Return a DS as a number; what is none stays a string, which PS3.18 F.2.3 allows."""
    if not text:
        return None
    number = float(text) if DECIMAL.fullmatch(text) else None
    return number if number is not None and isfinite(number) else text


def _integer(text: str) -> int | str | None:
    if not text:
        return None
    number = float(text) if len(text) <= 15 and DECIMAL.fullmatch(text) else None
    return int(number) if number is not None and number.is_integer() else text
