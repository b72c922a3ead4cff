"""Pixels: a frame of a stored file becomes a picture, or the plain bytes that its header describes.

Decoders are large C libraries and the files come from anywhere. So everything that touches pixels runs in child processes with a
limit on memory and time; a file that crashes its decoder, or keeps it busy for ever, costs a child and never the web server::

    renderer = Renderer()                                   # one for each web process; children start when they are needed
    renderer.render(Frame(path, offset, length, number=1))  # -> a PNG, as the header says it is to be shown
    renderer.render(frame, Look(kind="jpeg", window=Window(40, 400), viewport=Viewport(256, 256)))
    renderer.decode(frame)                                  # -> Plain: native little endian bytes and their shape

Modules: ``children`` (the parent's side; it never imports numpy), ``asked`` (what can be asked), ``serving`` (the child's side),
``decoding`` (frames by transfer syntax), ``looks`` (modality, VOI, palette), ``pictures`` (PNG, JPEG), ``reslicing`` (a slice through a
volume), ``places`` (where a frame lies in the file).
"""

from dicomweb.pixels.asked import (
    LARGEST_VIEWPORT,
    MAX_FRAME_BYTES,
    MAX_PIXELS,
    CannotRender,
    Cut,
    Frame,
    Look,
    Plain,
    Region,
    Viewport,
    Window,
)
from dicomweb.pixels.children import Renderer
from dicomweb.pixels.places import Place, place_of

__all__ = [
    "LARGEST_VIEWPORT", "MAX_FRAME_BYTES", "MAX_PIXELS", "CannotRender", "Cut", "Frame", "Look", "Place", "Plain", "Region", "Renderer", "Viewport", "Window", "place_of",
]  # fmt: skip
