"""What a header value becomes in the index: bounded, folded, of one kind, and hashed together with its path."""

from __future__ import annotations

import enum
import hashlib
import re
import unicodedata

from dicomweb.index.numbers import DECIMAL_VRS, number

# A longer text is kept cut, with a hash of the whole, so that ``Equals`` stays exact and everything else sees its beginning.
TEXT_LENGTH = 4096
# A path as long as this has nested private creators nobody meant; an index entry of PostgreSQL holds about 2,700 bytes.
PATH_LENGTH = 512
# Of how much of a folded text there is an index, and a smallest and largest.
PREFIX = 64
# Sorts after every text: the last code point, which no text keeps.
LAST = "\U0010ffff"

_FORBIDDEN = re.compile("[\0\ud800-\udfff\U0010ffff]")
_VOICE_MARKS = "\u3099\u309a"
# Letters that look accented and that Unicode does not decompose.
_BARE = str.maketrans({
    "\u00f8": "o", "\u0142": "l", "\u0111": "d", "\u00f0": "d", "\u0127": "h", "\u0131": "i", "\u0167": "t", "\u00e6": "ae", "\u0153": "oe", "\u00fe": "th",
})  # fmt: skip


class Kind(enum.IntEnum):
    """How a value is searched; part of its dictionary id, because the same text of a path may come with several VRs."""

    TEXT = 0  # Found by its words without naming a path.
    OTHER = 1  # A UID, a tag, a sequence, an empty number.
    NUMBER = 2
    DATE = 3
    TIME = 4
    DATE_TIME = 5
    AGE = 6


_KINDS = dict.fromkeys(DECIMAL_VRS, Kind.NUMBER) | {
    "DA": Kind.DATE, "TM": Kind.TIME, "DT": Kind.DATE_TIME, "AS": Kind.AGE, "UI": Kind.OTHER, "AT": Kind.OTHER, "SQ": Kind.OTHER,
}  # fmt: skip

_NUMBER_KINDS = (("DS", Kind.NUMBER), ("DA", Kind.DATE), ("TM", Kind.TIME), ("DT", Kind.DATE_TIME), ("AS", Kind.AGE))


def clean(text: str) -> str:
    """Take out what no database keeps (NUL) or no UTF-8 has (lone surrogates), and the code point that closes ranges."""
    # Nothing that is forbidden is printable, and this is said at once of nearly every text.
    return text if text.isprintable() else _FORBIDDEN.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    return "" if match[0] == "\0" else "\ufffd"


def bound(text: str) -> str:
    """Give a value as it is kept: clean, and cut when it is too long, so that different values stay different."""
    text = clean(text)
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}\u2026{_digest(text).hex()}"


def bound_path(path: str) -> str:
    """Give a path as it is kept."""
    path = clean(path)
    return path if len(path) <= PATH_LENGTH else f"{path[:PATH_LENGTH]}\u2026{_digest(path).hex()}"


def fold(text: str) -> str:
    """Give a text as a search sees it: compatible characters unified, without case and without accents.

    The same on every database because it is done here. Bounded as ``bound`` bounds, and clean. Voice marks of kana stay,
    because they are no accents, and so do whole syllables of Hangul.
    """
    text = clean(text)[:TEXT_LENGTH]
    if text.isascii():
        return text.lower()
    # Casefolding can make composed characters again and decomposing can make capitals, so each is done to the end.
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold()).translate(_BARE)
    text = "".join(character for character in text if not unicodedata.combining(character) or character in _VOICE_MARKS)
    return unicodedata.normalize("NFC", text)[:TEXT_LENGTH]


def classify(vr: str, text: str) -> tuple[Kind, float | None]:
    """Tell the kind of a value and the number it is searched by; a number that cannot be read is a text."""
    kind = _KINDS.get(vr, Kind.TEXT)
    if kind <= Kind.OTHER:
        return kind, None
    value = number(vr, text)
    if value is not None:
        return kind, value
    return (Kind.TEXT if text else Kind.OTHER), None


def header_ids(path: str, text: str) -> tuple[int, int]:
    """Give the first and last dictionary id that a value of a path may have; the id itself is the first plus its kind.

    60 bits of a hash and three of the kind make a positive 64-bit integer. Among 17 million values the odds that two
    share a hash are 1 in 8,000.
    """
    first = int.from_bytes(_digest(f"{path}\0{text}"), "big") >> 4 << 3
    return first, first | 7


def possible_header_ids(path: str, text: str) -> list[int]:
    """Give the few dictionary ids that a value of a path can really have."""
    first, _ = header_ids(path, text)
    kinds = [Kind.TEXT, Kind.OTHER, *(kind for vr, kind in _NUMBER_KINDS if number(vr, text) is not None)]
    return [first + kind for kind in kinds]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
