"""What a client takes: the header Accept (RFC 9110 12.5.1) and the query parameter ``accept`` (PS3.18 8.3.3.1).

A service makes offers, the best first; ``choose`` gives the one the client wants most. A media range matches an offer when types and
subtypes agree (``*/*`` and ``image/*`` too) and the parameters do that change what is sent: ``type`` of multipart/related, a
media range itself, and ``transfer-syntax``, of which ``*`` is any. Others, such as ``charset``, are not looked at; values may be
quoted or not. A range that cannot be understood matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from dicomweb.rs.errors import NotAcceptable

MULTIPART = "multipart/related"
_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})
# More ranges than anybody lists; each is compared with each offer.
MOST_RANGES = 100
_LOST_PLUS = re.compile(r"(?<=/dicom) (?=xml|json)")


class Offer(NamedTuple):
    """Something that can be sent. parameters: ``type`` (of the parts of multipart/related) and ``transfer-syntax``, when they apply."""

    media_type: str
    parameters: Mapping[str, str] = _NO_PARAMETERS

    @property
    def part_type(self) -> str:
        """The media type of the content: of each part, or of the single body."""
        return self.parameters.get("type", self.media_type)

    def __str__(self) -> str:
        return "; ".join((self.media_type, *(f'{name}="{value}"' for name, value in self.parameters.items())))


class MediaRange(NamedTuple):
    """One range that a client takes. media_type and the names of parameters are in small letters; quality is 0 to 1."""

    media_type: str
    parameters: Mapping[str, str]
    quality: float = 1.0

    def matches(self, offer: Offer) -> bool:
        """Tell whether the range includes an offer."""
        if not _includes(self.media_type, offer.media_type):
            return False
        wanted = self.parameters.get("type")
        if wanted is not None and "type" in offer.parameters and not _includes(wanted.lower(), offer.parameters["type"]):
            return False
        syntax = self.parameters.get("transfer-syntax", "*")
        return syntax == "*" or syntax == offer.parameters.get("transfer-syntax", syntax)

    @property
    def specificity(self) -> tuple[int, int, int]:
        """How much the range says: the more specific of two that match decides about an offer."""
        of_part = _precision(self.parameters.get("type", "*/*"))
        return _precision(self.media_type), of_part, int(self.parameters.get("transfer-syntax", "*") != "*")


def choose(request: Any, offers: Sequence[Offer]) -> Offer:
    """Give the offer that the client wants most, of equals the first one. Raises NotAcceptable (406)."""
    ranges = accepted(request)
    best: tuple[float, Offer] | None = None
    for offer in offers:
        quality = _quality(ranges, offer)
        if quality > 0 and (best is None or quality > best[0]):
            best = quality, offer
    if best is None:
        raise NotAcceptable("None of what the client takes can be given; there is " + ", ".join(dict.fromkeys(map(str, offers))) + ".")
    return best[1]


def accepted(request: Any) -> list[MediaRange]:
    """Give what a client takes, in the order in which it says so; the query parameter stands for the header. Everything without either."""
    said = request.GET.getall("accept")
    if said:
        # A plus sign in a query string is a space, and many clients forget to encode it.
        return list(_ranges([_LOST_PLUS.sub("+", value) for value in said]))
    header = request.headers.get("Accept", "").strip()
    return list(_ranges_of(header) if len(header) < 1000 else _ranges([header])) if header else [MediaRange("*/*", _NO_PARAMETERS)]


@lru_cache(maxsize=256)
def _ranges_of(header: str) -> tuple[MediaRange, ...]:
    # A client sends the same header with each of a thousand frames.
    return tuple(_ranges([header]))


def _quality(ranges: Sequence[MediaRange], offer: Offer) -> float:
    matching = [media_range for media_range in ranges if media_range.matches(offer)]
    if not matching:
        return 0.0
    most = max(media_range.specificity for media_range in matching)
    return max(media_range.quality for media_range in matching if media_range.specificity == most)


def _ranges(values: Sequence[str]) -> Iterator[MediaRange]:
    count = 0
    for value in values:
        for text in split_unquoted(value, ","):
            count += 1
            if count > MOST_RANGES:
                return
            media_type, parameters = parse_media_type(text)
            kind, slash, subtype = media_type.partition("/")
            if not (kind and slash and subtype):
                continue
            try:
                quality = float(parameters.pop("q", "1"))
            except ValueError:
                continue
            if 0 <= quality <= 1:
                yield MediaRange(media_type, parameters, quality)


def parse_media_type(text: str) -> tuple[str, dict[str, str]]:
    """Read a media type (or range) with its parameters; of a parameter that comes twice the first one counts."""
    media_type, *rest = split_unquoted(text, ";")
    parameters: dict[str, str] = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if equals:
            parameters.setdefault(name.strip().lower(), _unquoted(value.strip()))
    return media_type.strip().lower(), parameters


def split_unquoted(text: str, separator: str) -> list[str]:
    """Split a text at a separator that is not within quotation marks; a backslash there takes the next character literally."""
    parts: list[str] = []
    start = at = 0
    quoted = False
    while at < len(text):
        character = text[at]
        if quoted and character == "\\":
            at += 1
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    parts.append(text[start:])
    return parts


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    inner, characters, at = value[1:-1], [], 0
    while at < len(inner):
        if inner[at] == "\\" and at + 1 < len(inner):
            at += 1
        characters.append(inner[at])
        at += 1
    return "".join(characters)


def _includes(media_range: str, media_type: str) -> bool:
    kind, _, subtype = media_range.partition("/")
    return media_range in ("*/*", "*", media_type) or (subtype == "*" and media_type.startswith(kind + "/"))


def _precision(media_range: str) -> int:
    if media_range in ("*/*", "*"):
        return 0
    return 1 if media_range.endswith("/*") else 2
