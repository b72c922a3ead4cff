"""Text of SpecificCharacterSet (0008,0005): the encodings it names and the decoding of values, PS3.5 6.1.2.

The tables are pydicom's, and so is the behaviour on wrong names and wrong bytes; it is written anew because pydicom tells
each oddity through ``warnings`` and its logger, which costs more than the decoding and cannot be silenced safely in threads.
Nothing here fails, and no lone surrogate comes out.
"""

import codecs
import re

from pydicom.charset import CODES_TO_ENCODINGS, STAND_ALONE_ENCODINGS, handled_encodings, python_encoding

Encodings = tuple[str, ...]

DEFAULT: Encodings = ("iso8859",)
ESCAPE = b"\x1b"
# A delimiter of PS3.5 6.1.2.5.3 resets the character set to the first one.
DELIMITERS = re.compile(rb"[\r\n\t\f]")
FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
# A codec that reads a plus, a tilde or a dash as the start of something else is no character set of a header.
ASCII_PROBE = bytes(range(128)) + b" ~{ +AGE- a-b"


def encodings_of(value: bytes) -> Encodings:
    """Return the Python encodings that a value of SpecificCharacterSet names, at least one."""
    names = [name.strip() for name in value.decode("iso8859").rstrip(" \0").split("\\")]
    found = [_encoding_of(name) for name in names]
    if names[0] in STAND_ALONE_ENCODINGS:
        return (found[0],)
    return (found[0], *(e for n, e in zip(names[1:], found[1:], strict=True) if n not in STAND_ALONE_ENCODINGS))


def _encoding_of(name: str) -> str:
    """Return the encoding of one defined term, of a common misspelling of it, or of a Python codec; else the default."""
    if name in python_encoding:
        return python_encoding[name]
    if re.match("ISO[^_]IR", name):
        return python_encoding.get("ISO_IR" + name[6:], DEFAULT[0])
    if re.match("ISO.2022.IR.", name):
        return python_encoding.get("ISO 2022 IR " + name[12:], DEFAULT[0])
    try:
        if "escape" in codecs.lookup(name).name:
            return DEFAULT[0]
        if ASCII_PROBE.decode(name) == ASCII_PROBE.decode("ascii"):
            return name
    except (LookupError, ValueError):
        pass
    return DEFAULT[0]


def decode(value: bytes, encodings: Encodings) -> str:
    """Return the text of ``value``; bytes that are wrong in their encoding become U+FFFD."""
    if ESCAPE not in value:
        if value.isascii():
            return value.decode("ascii")
        text = value.decode(encodings[0], errors="replace")
    else:
        text = "".join(_decode_fragment(fragment, encodings) for fragment in FRAGMENTS.findall(value))
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="replace").decode()
    return text


def _decode_fragment(fragment: bytes, encodings: Encodings) -> str:
    """Return the text of a piece without escape sequence but at its start, PS3.5 6.1.2.5.3."""
    if not fragment.startswith(ESCAPE):
        return fragment.decode(encodings[0], errors="replace")
    length = 4 if fragment.startswith((b"\x1b$(", b"\x1b$)")) else 3
    encoding = CODES_TO_ENCODINGS.get(fragment[:length], "")
    if encoding not in encodings and encoding != DEFAULT[0]:
        return fragment.decode(encodings[0], errors="replace")
    try:
        if encoding in handled_encodings:
            return fragment.decode(encoding)
        delimiter = DELIMITERS.search(fragment, length)
        cut = delimiter.start() if delimiter else len(fragment)
        return fragment[length:cut].decode(encoding) + fragment[cut:].decode(encodings[0])
    except UnicodeError:
        return fragment.decode(encodings[0], errors="replace")


def is_known(value: bytes) -> bool:
    """Say whether every name in a value of SpecificCharacterSet is a defined term of PS3.3 C.12.1.1.2."""
    return all(name.strip() in python_encoding for name in value.decode("iso8859").rstrip(" \0").split("\\"))
