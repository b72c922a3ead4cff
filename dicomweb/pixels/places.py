"""Where a frame lies in its file, from what the import recorded; so that it is served by one read, without decoding."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_TAG_AND_LENGTH = 8


class Place(NamedTuple):
    """One stretch of a file, and which parts of it are the frame: (offset, length) pairs relative to the stretch."""

    offset: int
    length: int
    parts: tuple[tuple[int, int], ...]

    def frame(self, data: bytes) -> bytes:
        """Take the bytes of the frame out of the stretch that was read."""
        if len(self.parts) == 1:
            start, length = self.parts[0]
            return data if length == len(data) else data[start : start + length]
        return b"".join(data[start : start + length] for start, length in self.parts)


def place_of(
    number: int, frames: int, fragments: Sequence[tuple[int, int]], offsets: Sequence[int] = ()
) -> Place | None:
    """Tell where a frame of encapsulated pixel data lies (PS3.5 A.4); None: only what is in the fragments can tell.

    number: of the frame, from 1. fragments: (offset, length) in the file. offsets: of the basic or extended offset table, from the
    item tag of the first fragment. Raises IndexError when there is no such frame.
    """
    if not 1 <= number <= frames or not fragments:
        raise IndexError(number)
    if frames == 1:
        return _stretch(fragments)
    if len(fragments) == frames:
        return _stretch(fragments[number - 1 : number])
    if len(offsets) < frames:
        return None
    zero = fragments[0][0] - _TAG_AND_LENGTH
    start = zero + offsets[number - 1]
    end = zero + offsets[number] if number < len(offsets) else fragments[-1][0] + fragments[-1][1]
    own = [fragment for fragment in fragments if start <= fragment[0] - _TAG_AND_LENGTH < end]
    # A table that does not point at items is wrong, and what lies there may be anything.
    return _stretch(own) if own and own[0][0] - _TAG_AND_LENGTH == start else None


def _stretch(fragments: Sequence[tuple[int, int]]) -> Place:
    start = fragments[0][0]
    end = fragments[-1][0] + fragments[-1][1]
    return Place(start, end - start, tuple((offset - start, length) for offset, length in fragments))


def offset_table(value: bytes) -> tuple[int, ...]:
    """Read the value of a basic offset table (PS3.5 A.4)."""
    return struct.unpack(f"<{len(value) // 4}I", value[: len(value) // 4 * 4])
