"""Reading multipart bodies, however they are cut into reads."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.rs import parts
from dicomweb.rs.parts import BadBody, read_parts


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(self._step, size) if size >= 0 else self._step)


def read(data: bytes, boundary: str = "b", step: int = 1 << 20) -> list[tuple[dict[str, str], bytes]]:
    """Read all parts with their contents."""
    stream: Any = Dribble(data, step)
    return [(dict(part.headers), b"".join(part.blocks)) for part in read_parts(stream, boundary)]


WHOLE = b"--b\r\nContent-Type: application/dicom\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"a preamble\r\n", b"--bx\r\n--b x\r\n"])
@pytest.mark.parametrize("after", [b"", b"an epilogue", b"--b\r\nX: y\r\n\r\nno part\r\n"])
def test_what_is_before_and_behind_the_parts_is_passed_over(step: int, before: bytes, after: bytes) -> None:
    assert read(before + WHOLE + after, step=step) == [({"content-type": "application/dicom"}, b"one"), ({}, b"two")]


@pytest.mark.parametrize(
    ("body", "contents"),
    [
        (b"--b--", []),
        (b"--b\r\n\r\n\r\n--b--", [b""]),
        (b"--b\r\n\r\n--b--", [b""]),
        (b"--b\r\nA: b\r\n\r\n--b--", [b""]),
        (b"--b\r\nA: b\r\n\r\n\r\n--b--", [b""]),
        (b"--b \t \r\n\r\nx\r\n--b  \r\n\r\ny\r\n--b--", [b"x", b"y"]),
        (b"--b\r\n\r\na\r\n--bc\r\nd\n--b--\r\n--b--", [b"a\r\n--bc\r\nd\n--b--"]),
        (b"--b\r\n\r\n\r\n\r\n\r\n--b--", [b"\r\n\r\n"]),
        (b"--b\r\n\r\n--b\r\n\r\n--b\r\n\r\n--b--", [b"", b"", b""]),
        (b"--b\r\nFolded: one\r\n two\r\n\r\nx\r\n--b--", [b"x"]),
    ],
)
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_odd_bodies_are_read_as_the_grammar_says(body: bytes, contents: list[bytes], step: int) -> None:
    assert [content for _, content in read(body, step=step)] == contents


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no delimiter at all",
        b"--b",
        b"--b\r\n",
        b"--b\r\nA: b",
        b"--b\r\n\r\nx",
        b"--b\r\n\r\nx\r\n",
        b"--b\r\n\r\nx\r\n--b",
        b"--b\r\n\r\nx\r\n--b-",
        b"--b\n\nx\n--b--",
        b"--b\r\nno field\r\n\r\nx\r\n--b--",
        b"--b\r\n: no name\r\n\r\nx\r\n--b--",
        b"--b\r\nA b: space in the name\r\n\r\nx\r\n--b--",
        b"--b\r\nA: " + b"x" * parts.MOST_HEADER_BYTES + b"\r\n\r\nx\r\n--b--",
        b"--b\r\n" + b"A: b\r\n" * 10_000 + b"\r\nx\r\n--b--",
    ],
)
@pytest.mark.parametrize("step", [3, 100_000])
def test_a_body_that_is_cut_off_or_wrong_is_refused(body: bytes, step: int) -> None:
    with pytest.raises(BadBody):
        read(body, step=step)


@pytest.mark.parametrize("boundary", ["", " ", "x ", "é", "a\r\nb", "a\x00b", "x" * 201])
def test_what_cannot_be_a_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(BadBody):
        read(WHOLE, boundary)


def test_more_parts_than_anybody_sends_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_PARTS", 3)
    assert len(read(b"--b\r\n\r\n\r\n" * 3 + b"--b--")) == 3
    with pytest.raises(BadBody):
        read(b"--b\r\n\r\n\r\n" * 4 + b"--b--")


def test_a_client_that_goes_away_is_no_failure_of_ours() -> None:
    class Gone(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError("gone")

    stream: Any = Gone()
    with pytest.raises(BadBody):
        list(read_parts(stream, "b"))


def test_a_large_part_is_never_in_memory_as_a_whole() -> None:
    size = 40 * parts.BLOCK

    class Endless(io.RawIOBase):
        """Zeros, and then the end."""

        def __init__(self) -> None:
            self.left = size
            self.head, self.tail = b"--b\r\n\r\n", b"\r\n--b--"

        def read(self, count: int = -1) -> bytes:
            if self.head:
                head, self.head = self.head, b""
                return head
            if self.left:
                given = min(count, self.left)
                self.left -= given
                return bytes(given)
            tail, self.tail = self.tail, b""
            return tail

    stream: Any = Endless()
    lengths = [len(block) for part in read_parts(stream, "b") for block in part.blocks]
    assert sum(lengths) == size
    assert max(lengths) < 2 * parts.BLOCK


@given(
    contents=st.lists(st.binary(max_size=40) | st.text("\r\n-b ", max_size=20).map(str.encode), max_size=4),
    boundary=st.text("b-'x?=.", min_size=1, max_size=8),
    step=st.integers(1, 50),
)
def test_whatever_is_written_is_read_back(contents: list[bytes], boundary: str, step: int) -> None:
    delimiter = b"--" + boundary.encode()
    # A writer chooses a boundary that is in none of its parts.
    contents = [content for content in contents if delimiter not in b"\r\n" + content]
    body = b"".join(delimiter + b"\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents)
    assert [content for _, content in read(body + delimiter + b"--\r\n", boundary, step)] == contents


@given(body=st.text("\r\n-b:A ", max_size=60).map(str.encode), step=st.integers(1, 9))
def test_arbitrary_bodies_are_read_or_refused(body: bytes, step: int) -> None:
    try:
        read(b"--b\r\n" + body, step=step)
    except BadBody:
        return
