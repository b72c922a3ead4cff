"""Reading the parts of a multipart body (RFC 2046 5.1) block by block, as PS3.18 8.6.1.2 has them; nothing is held in memory.

A delimiter is the boundary after a line break and two hyphens, and is followed by two more, or by the end of its line; whatever
else begins in the same way is content. The text before the first delimiter and after the last one is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

BLOCK = 256 << 10
MOST_PARTS = 100_000
MOST_HEADER_BYTES = 16 << 10
# RFC 2046 5.1.1 allows 70 characters; some clients take more.
_BOUNDARY = re.compile(r"[\x20-\x7e]{0,199}[\x21-\x7e]")
_PADDING = re.compile(rb"[ \t]{0,200}")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100})[ \t]*:(.*)", re.S)


class BadBody(Exception):
    """The body is not what its Content-Type says; the text says where it is wrong."""


class Part(NamedTuple):
    """One part. headers: by small names. blocks: its content, to be read before the next part is asked for."""

    headers: Mapping[str, str]
    blocks: Iterator[bytes]


def blocks_of(stream: BinaryIO) -> Iterator[bytes]:
    """Read a stream to its end. Raises BadBody when the client goes away."""
    while block := _read(stream):
        yield block


def read_parts(stream: BinaryIO, boundary: str) -> Iterator[Part]:
    """Give the parts of a body one after the other; what a caller leaves of one is passed over. Raises BadBody."""
    if not _BOUNDARY.fullmatch(boundary):
        raise BadBody("The boundary must be 1 to 200 characters of ASCII, and not end in a space.")
    reader = _Reader(stream, b"\r\n--" + boundary.encode())
    for _ in reader.content():
        pass
    for _ in range(MOST_PARTS):
        if reader.closed:
            return
        part = Part(reader.headers(), reader.content())
        yield part
        for _ in part.blocks:
            pass
    if not reader.closed:
        raise BadBody(f"The body has more than {MOST_PARTS:,} parts.")


class _Reader:
    """What is read of the stream and not yet given."""

    def __init__(self, stream: BinaryIO, delimiter: bytes) -> None:
        self._stream = stream
        self._delimiter = delimiter
        # The first delimiter may be at the very beginning.
        self._buffer = b"\r\n"
        self.closed = False

    def content(self) -> Iterator[bytes]:
        """Give everything before the next delimiter, which is passed over."""
        while True:
            at = self._buffer.find(self._delimiter)
            if at < 0:
                # What may be the beginning of a delimiter stays.
                known = len(self._buffer) - len(self._delimiter) + 1
                if known > 0:
                    yield self._buffer[:known]
                    self._buffer = self._buffer[known:]
                self._need(len(self._buffer) + 1, "its last delimiter")
                continue
            end = self._end_of_delimiter(at + len(self._delimiter))
            if end:
                if at:
                    yield self._buffer[:at]
                self._buffer = self._buffer[end:]
                return
            # It only looks like one.
            yield self._buffer[: at + 2]
            self._buffer = self._buffer[at + 2 :]

    def _end_of_delimiter(self, at: int) -> int:
        self._need(at + 2, "the end of a delimiter")
        if self._buffer[at : at + 2] == b"--":
            self.closed = True
            return at + 2
        while True:
            match = _PADDING.match(self._buffer, at)
            end = match.end() if match else at
            if end + 2 <= len(self._buffer):
                return end + 2 if self._buffer[end : end + 2] == b"\r\n" else 0
            self._need(end + 2, "the end of a delimiter")

    def headers(self) -> dict[str, str]:
        """Read the header of a part."""
        if self._at_delimiter(0):
            return {}
        self._need(2, "the header of a part")
        if self._buffer.startswith(b"\r\n"):
            self._buffer = self._buffer[2:]
            return {}
        while (end := self._buffer.find(b"\r\n\r\n", 0, MOST_HEADER_BYTES)) < 0:
            if len(self._buffer) >= MOST_HEADER_BYTES:
                raise BadBody(f"The header of a part has no end within {MOST_HEADER_BYTES:,} bytes.")
            self._need(len(self._buffer) + 1, "the header of a part")
        lines = re.sub(rb"\r\n[ \t]+", b" ", self._buffer[:end]).split(b"\r\n")
        # The line break of a delimiter that follows at once may be the empty line too.
        end += 2 if self._at_delimiter(end + 2) else 4
        self._buffer = self._buffer[end:]
        headers: dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise BadBody("A line of the header of a part is no header field.")
            headers.setdefault(field[1].decode("ascii").lower(), field[2].decode("latin-1").strip())
        return headers

    def _at_delimiter(self, at: int) -> bool:
        while len(self._buffer) < at + len(self._delimiter):
            if not (block := _read(self._stream)):
                return False
            self._buffer += block
        return self._buffer.startswith(self._delimiter, at)

    def _need(self, size: int, what: str) -> None:
        while len(self._buffer) < size:
            if not (block := _read(self._stream)):
                raise BadBody(f"The body ends before {what}.")
            self._buffer += block


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.read(BLOCK)
    except OSError:
        raise BadBody("The body ends before its Content-Length.") from None
