"""The parent's side: child processes that may crash, hang or grow, and nothing of that is seen outside.

Nothing here knows anything about pixels, or imports a library that does. A question is a line of JSON; an answer its kind, and two lengths before JSON and
bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicomweb.languages import gettext
from dicomweb.pixels.asked import MAX_FRAME_BYTES, CannotRender, Cut, Frame, Look, Plain, frame_json, look_json

CHILDREN = 2
SECONDS = 20.0
MEMORY = 3 << 30
# A child is replaced now and then, so that what a decoder leaks does not add up.
FRAMES_OF_ONE_CHILD = 5000
# How much later than a child's own clock its parent gives it up.
_LATE_SECONDS = 5.0
ANSWER = struct.Struct(">cIQ")
# A frame, or what precedes and follows the frames of a file; and what is said of it. Both sides hold it whole.
MOST_ANSWERED = MAX_FRAME_BYTES
_MOST_TOLD = 1 << 20
GIVEN, NOT = b"G", b"N"
_PLAIN_LOOK = Look()
# Isolated, a child would find this package only where it is installed; it has to be the one that its parent is.
_ROOT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from dicomweb.pixels.serving import serve; serve(float(sys.argv[1]), int(sys.argv[2]))"


class Renderer:
    """Renders frames in child processes; one for each web process, shared by its threads."""

    def __init__(self, *, children: int = CHILDREN, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        """Make a renderer; children are started when they are first needed.

        seconds: for one frame, and for waiting for a child that is free. memory: of one child, in bytes.
        """
        self._seconds = seconds
        self._memory = memory
        self._closed = False
        # The last in is the first out, so that one child is enough while there is little to do.
        self._children: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(children):
            self._children.put(None)

    def render(self, frame: Frame, look: Look = _PLAIN_LOOK) -> bytes:
        """Render a frame as PNG or JPEG. Raises CannotRender."""
        return self._ask("render", frame=frame_json(frame), look=look_json(look))[1]

    def decode(self, frame: Frame) -> Plain:
        """Decode a frame to what its header describes, native and little endian; colours become RGB. Raises CannotRender."""
        told, data = self._ask("decode", frame=frame_json(frame))
        return Plain(data, **told)

    def stored(self, frame: Frame) -> bytes:
        """Give the bytes of a frame as they are stored, where only its fragments tell which they are. Raises CannotRender."""
        return self._ask("stored", frame=frame_json(frame))[1]

    def value(self, frame: Frame, path: str) -> bytes:
        """Give the value of one element as it is stored; path: tags, and numbers of items from 0, such as ``00081140/0/00081155``.

        Raises CannotRender, with the code no-value when there is none.
        """
        return self._ask("value", frame=frame_json(frame), path=path)[1]

    def transcode(self, frame: Frame) -> tuple[Iterator[bytes], int]:
        """Give a whole file in Explicit VR Little Endian, in pieces of about a frame, and its length. Raises CannotRender, in the middle too.

        The number in ``frame`` says nothing.
        """
        told, head = self._ask("head", frame=frame_json(frame))
        return self._transcoded(frame, head[: told["head"]], head[told["head"] :], told["frames"], told["packed"]), int(told["total"])

    def cut(self, cut: Cut, look: Look = _PLAIN_LOOK) -> bytes:
        """Render an orthogonal slice through a volume as PNG or JPEG. Raises CannotRender."""
        frames, *others = cut
        return self._ask("cut", cut=[list(map(frame_json, frames)), *others], look=look_json(look))[1]

    def _transcoded(self, frame: Frame, head: bytes, tail: bytes, frames: int, packed: bool) -> Iterator[bytes]:
        pieces = iter([self._ask("packed", frame=frame_json(frame))[1]]) if packed else self._decoded(frame, frames)
        # Whether the pixels can be decoded at all is known before anything is given.
        first = next(pieces, b"")
        yield head
        yield first
        yield from pieces
        if tail:
            yield tail

    def _decoded(self, frame: Frame, frames: int) -> Iterator[bytes]:
        odd = 0
        for number in range(1, frames + 1):
            data = self.decode(frame._replace(number=number)).data
            odd ^= len(data) & 1
            yield data
        if odd:
            yield b"\0"

    def _ask(self, what: str, **question: Any) -> tuple[dict[str, Any], bytes]:
        try:
            child = self._children.get(timeout=self._seconds)
        except queue.Empty:
            raise CannotRender("busy", gettext("Too many images are being drawn at the moment; please try again.")) from None
        try:
            if child is not None and not child.usable():
                child.end()
                child = None
            child = child or _Child(self._seconds, self._memory)
            try:
                return child.ask({"what": what, **question})
            except CannotRender as error:
                if error.code in ("crashed", "slow"):
                    child.end()
                    child = None
                raise
        finally:
            if self._closed and child is not None:
                child.end()
                child = None
            self._children.put(child)

    def close(self) -> None:
        """End all children that are idle, and those at work as soon as they are done."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            idle = [self._children.get_nowait() for _ in range(self._children.qsize())]
            for child in idle:
                if child is not None:
                    child.end()
                self._children.put(None)


class _Child:
    """One child process, and how to talk to it: a line of JSON there, JSON and bytes back."""

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._frames = 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-W", "ignore", "-c", _START, str(_ROOT), str(seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A decoder that was taken over must not find the password or the address of the database there.
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )

    def usable(self) -> bool:
        return self._process.poll() is None and self._frames < FRAMES_OF_ONE_CHILD

    def ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._frames += 1
        # The child's own clock kills it first; this one is for a child that has lost its clock.
        until = time.monotonic() + self._seconds + _LATE_SECONDS
        try:
            self._write(json.dumps(question).encode() + b"\n", until)
            kind, told_length, length = ANSWER.unpack(self._read(ANSWER.size, until))
            if told_length > _MOST_TOLD or length > MOST_ANSWERED:
                raise EOFError
            told = json.loads(self._read(told_length, until))
            answer = self._read(length, until)
            if kind != GIVEN:
                raise CannotRender(told["code"], told["sentence"])
        except TimeoutError:
            raise self._slow() from None
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            # A decoder that was taken over may say anything at all.
            if self._ended() and self._process.returncode == -signal.SIGALRM:
                raise self._slow() from None
            raise CannotRender("crashed", gettext("The decoder crashed on this image; its pixel data is probably damaged.")) from None
        return told, answer

    def _slow(self) -> CannotRender:
        return CannotRender("slow", gettext("Drawing this image took longer than %(seconds)s seconds.", seconds=f"{self._seconds:g}"))

    def end(self) -> None:
        """Kill the process and take its ashes."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()

    def _ended(self) -> bool:
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self, data: bytes, until: float) -> None:
        assert self._process.stdin is not None
        poll = select.poll()
        poll.register(self._process.stdin, select.POLLOUT)
        view = memoryview(data)
        while view:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            # So much a pipe takes without waiting when it takes anything.
            view = view[self._process.stdin.write(view[: select.PIPE_BUF]) or 0 :]

    def _read(self, length: int, until: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        parts = []
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while length:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(fd, min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)
