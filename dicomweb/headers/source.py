"""The bytes of a file seen through a window that only moves forward, so that no file is ever held in memory whole."""

import struct
import zlib
from collections.abc import Callable, Iterator

from dicomweb.headers.errors import TooLarge, Truncated, Unreadable
from dicomweb.languages import N_, gettext

PRead = Callable[[int, int], bytes]

WINDOW_BYTES = 256 << 10
INFLATE_STEP = 64 << 10
# The beginning of an inflated file that is kept; only what lies behind it is inflated a second time.
INFLATED_BYTES_KEPT = 4 << 20


class Window:
    """``data`` are the bytes of the file from ``base`` on; ``size`` is the length of the file."""

    __slots__ = ("_pread", "base", "data", "size")

    def __init__(self, data: bytes, size: int, pread: PRead | None) -> None:
        self.data = data
        self.base = 0
        self.size = size
        self._pread = pread

    def read(self, position: int, count: int) -> bytes:
        """Return exactly ``count`` bytes at ``position``, which are inside the file by its size; raises Truncated."""
        at = position - self.base
        if at >= 0 and at + count <= len(self.data):
            return self.data[at : at + count]
        found = self._pread(position, count) if self._pread else b""
        if len(found) < count:
            shorter = N_("The file was %(size)s bytes long, but only %(found)s of %(wanted)s bytes could be read at byte %(position)s.")
            raise Truncated(gettext(shorter, size=self.size, found=len(found), wanted=count, position=position))
        return found

    def load(self, position: int, count: int) -> None:
        """Move the window so that it begins at ``position`` and holds ``count`` bytes and, if there are, more."""
        count = min(max(count, WINDOW_BYTES), self.size - position)
        self.data = self.read(position, count)
        self.base = position

    def holds(self, position: int, count: int) -> bool:
        """Say whether the window holds these bytes."""
        return self.base <= position and position + count <= self.base + len(self.data)

    def tag_and_length(self, position: int, little: bool) -> tuple[int, int, int]:
        """Return group, element and 32-bit length at ``position``."""
        group, element, length = struct.unpack("<HHI" if little else ">HHI", self.read(position, 8))
        return group, element, length

    def only_zeros(self, position: int) -> bool:
        """Say whether nothing but zero bytes follows to the end of the file."""
        while position < self.size:
            piece = self.read(position, min(WINDOW_BYTES, self.size - position))
            if piece.count(0) < len(piece):
                return False
            position += len(piece)
        return True


def inflate(source: Window, start: int, limit: int) -> Window:
    """Return the window over what a deflated dataset (PS3.5 A.5) that begins at ``start`` inflates to.

    The stream is inflated once to its end for its size, in small steps, and only its beginning is kept.

    Raises TooLarge above ``limit`` bytes, Truncated when the stream ends early, Unreadable when it is no deflate stream.
    """
    kept = bytearray()
    size = 0
    for piece in _inflated(source, start):
        size += len(piece)
        if size > limit:
            raise TooLarge(gettext("The deflated file inflates to more than %(most)s bytes.", most=limit))
        if len(kept) < INFLATED_BYTES_KEPT:
            kept += piece

    def pread(position: int, count: int) -> bytes:
        # A second pass for what lies behind a large value; the walker asks for few and small pieces there.
        found = bytearray()
        passed = 0
        for piece in _inflated(source, start):
            if passed + len(piece) > position:
                found += piece[max(0, position - passed) :]
            passed += len(piece)
            if len(found) >= count:
                break
        return bytes(found[:count])

    return Window(bytes(kept), size, pread)


def _inflated(source: Window, start: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    position = start
    while not inflater.eof:
        if position >= source.size:
            raise Truncated(gettext("The deflated dataset is not complete: the file ends at byte %(size)s inside it.", size=source.size))
        step = source.read(position, min(INFLATE_STEP, source.size - position))
        position += len(step)
        while step and not inflater.eof:
            try:
                piece = inflater.decompress(step, INFLATE_STEP)
            except zlib.error as error:
                raise Unreadable(gettext("The deflated dataset is damaged before byte %(position)s: %(error)s.", position=position, error=error)) from error
            step = inflater.unconsumed_tail
            if piece:
                yield piece
