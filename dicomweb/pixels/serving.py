"""The child's side: answers questions until there are no more, within a limit of memory and time."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from dicomweb.pixels import decoding, looks, pictures, reslicing
from dicomweb.pixels.asked import CannotRender, Frame, Look, frame_json, look_json, read_cut, read_frame, read_look
from dicomweb.pixels.children import ANSWER, GIVEN, MOST_ANSWERED, NOT

Answer = tuple[dict[str, Any], bytes]
_PLAIN_LOOK = Look()


def serve(seconds: float, memory: int) -> None:
    """Answer questions until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # It writes to its pipe and to nothing else.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the answers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        # The default action of SIGALRM ends the process, also in the middle of C code.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            kind, (told, data) = GIVEN, answer(question)
        except CannotRender as error:
            kind, told, data = NOT, {"code": error.code, "sentence": str(error)}, b""
        signal.setitimer(signal.ITIMER_REAL, 0)
        written = json.dumps(told).encode()
        answers.write(ANSWER.pack(kind, len(written), len(data)) + written)
        answers.write(data)
        answers.flush()


def answer(question: dict[str, Any]) -> Answer:
    """Answer one question in this process. Raises CannotRender. Only for the child, and for files that are trusted."""
    try:
        told, data = _ANSWERS[question["what"]](question)
    except CannotRender:
        raise
    except FileNotFoundError:
        raise CannotRender("missing", "The file of this image is not where it was.") from None
    except MemoryError:
        # What is kept for the next question may be what left no room for this one.
        decoding.forget()
        raise CannotRender("too-large", "This image is too large to be drawn here.") from None
    except Exception as error:  # noqa: BLE001  Decoders raise everything there is, and each means the same here.
        raise CannotRender("undecodable", f"The pixel data cannot be decoded ({type(error).__name__}).") from None
    if len(data) > MOST_ANSWERED:
        raise CannotRender("too-large", f"This is larger than the {MOST_ANSWERED >> 20} MiB that are given at once.")
    return told, data


def render(frame: Frame, look: Look = _PLAIN_LOOK) -> bytes:
    """Render a frame in this process: what ``Renderer.render`` has a child do. Raises CannotRender."""
    return answer({"what": "render", "frame": frame_json(frame), "look": look_json(look)})[1]


def _rendered(question: dict[str, Any]) -> Answer:
    frame, look = read_frame(question["frame"]), read_look(question["look"])
    source = decoding.open_source(frame)
    with source.file:
        picture = looks.picture(source.values(frame.number), source.ds, frame.number, look.window)
    return {}, pictures.write(picture, look)


def _decoded(question: dict[str, Any]) -> Answer:
    frame = read_frame(question["frame"])
    source = decoding.open_source(frame)
    with source.file:
        data, *shape = decoding.plain(source, frame.number)
    return dict(zip(("rows", "columns", "samples", "bits"), shape, strict=True)), data


def _stored(question: dict[str, Any]) -> Answer:
    frame = read_frame(question["frame"])
    source = decoding.open_source(frame)
    with source.file:
        return {}, source.stored(frame.number)


def _packed(question: dict[str, Any]) -> Answer:
    source = decoding.open_source(read_frame(question["frame"]))
    with source.file:
        data = source.packed()
    # An element of odd length, which should not be, is written with an even one.
    return {}, data + bytes(len(data) & 1)


def _value(question: dict[str, Any]) -> Answer:
    source = decoding.open_source(read_frame(question["frame"]))
    with source.file:
        return {}, decoding.value(source, question["path"])


def _head(question: dict[str, Any]) -> Answer:
    source = decoding.open_source(read_frame(question["frame"]))
    with source.file:
        return decoding.head_and_tail(source)


def _cut(question: dict[str, Any]) -> Answer:
    look = read_look(question["look"])
    return {}, pictures.write(reslicing.cut_picture(read_cut(question["cut"]), look.window), look)


_ANSWERS: dict[str, Callable[[dict[str, Any]], Answer]] = {
    "render": _rendered, "decode": _decoded, "stored": _stored, "packed": _packed, "head": _head, "value": _value, "cut": _cut,
}  # fmt: skip

