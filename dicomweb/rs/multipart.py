"""Writing multipart/related (RFC 2387, PS3.18 8.6.1.2), part by part while it is sent; ``parts`` reads it.

Viewers read this with parsers of their own: the name of a header is written as it is here, every line ends in CRLF, the first
delimiter begins the body, and each part says in its Content-Type which transfer syntax it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Part(NamedTuple):
    """One part. content: its bytes, in pieces. location: the address of what it holds, if it has one of its own."""

    content_type: str
    content: Iterable[bytes]
    location: str = ""


def boundary_of(seed: str) -> str:
    """Make a boundary that is the same for the same answer; who wrote the content could not know it."""
    return hashlib.sha256(b"boundary of " + seed.encode()).hexdigest()[:32]


def content_type(part_type: str, boundary: str, transfer_syntax: str = "") -> str:
    """Give the Content-Type of the whole answer."""
    syntax = f"; transfer-syntax={transfer_syntax}" if transfer_syntax else ""
    return f'multipart/related; type="{part_type}"{syntax}; boundary={boundary}'


def part_type(media_type: str, transfer_syntax: str = "") -> str:
    """Give the Content-Type of a part."""
    return f"{media_type}; transfer-syntax={transfer_syntax}" if transfer_syntax else media_type


def head(part: Part, boundary: str, first: bool) -> bytes:
    """Give what precedes the content of a part."""
    location = f"Content-Location: {part.location}\r\n" if part.location else ""
    return f"{'' if first else chr(13) + chr(10)}--{boundary}\r\nContent-Type: {part.content_type}\r\n{location}\r\n".encode("latin-1")


def end(boundary: str) -> bytes:
    """Give what follows the last part."""
    return f"\r\n--{boundary}--\r\n".encode()


def written(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    """Give the body, in pieces. Small parts are joined with what surrounds them."""
    first = True
    for part in parts:
        before = head(part, boundary, first)
        first = False
        for piece in part.content:
            yield before + piece if before else piece
            before = b""
        if before:
            yield before
    yield end(boundary)
