"""What an element's bytes mean, remembered: most elements of a series are the same bytes in every image.

An element's result depends on its bytes and on a *context*: the encoding rules, the character sets, the sign of pixels,
the path it is found at; for private elements also on the private creator, which is part of their key. A context knows the
results of whole elements, header and value, and of whole sequences. Only small elements are kept, and when the memo is full
it is emptied: the elements that matter come back with the next file.
"""

from typing import NamedTuple

from dicomweb.headers.charset import Encodings
from dicomweb.headers.model import Element

ELEMENT_BYTES = 1024
SEQUENCE_BYTES = 16 << 10
MEMO_BYTES = 48 << 20

Key = bytes | tuple[str, bytes]


class Entry(NamedTuple):
    """The result of one element: of its value, or of a sequence with all that is in it."""

    elements: tuple[Element, ...]
    key: str  # GGGGEEEE
    json: bytes  # b'' for what is not in the JSON model
    cost: int  # what it counts against Limits.elements


class Context:
    """All that the meaning of an element's bytes depends on."""

    __slots__ = ("encodings", "explicit", "known", "lengths", "little", "prefix", "signed")

    def __init__(self, explicit: bool, little: bool, encodings: Encodings, signed: bool, prefix: str) -> None:
        self.explicit = explicit
        self.little = little
        self.encodings = encodings
        self.signed = signed
        self.prefix = prefix
        self.known: dict[Key, Entry] = {}
        # The size a sequence of undefined length had the last time: where to look whether it is the same again.
        self.lengths: dict[str, int] = {}


class Memo:
    """The contexts of one process."""

    def __init__(self, capacity: int = MEMO_BYTES) -> None:
        self.capacity = capacity
        self.forget()

    def forget(self) -> None:
        """Empty the memo; readings under way go on with the contexts they hold."""
        self.contexts: dict[tuple[bool, bool, Encodings, bool, str], Context] = {}
        self.size = 0

    def context(self, explicit: bool, little: bool, encodings: Encodings, signed: bool, prefix: str) -> Context:
        """Return the context of these properties."""
        key = (explicit, little, encodings, signed, prefix)
        found = self.contexts.get(key)
        if found is None:
            self._make_room(1000 + len(prefix))
            found = self.contexts[key] = Context(*key)
        return found

    def keep(self, context: Context, key: Key, entry: Entry, size: int) -> None:
        """Remember the result of ``size`` bytes."""
        self._make_room(400 + size + len(entry.json) + sum(300 + 64 * len(e.values) for e in entry.elements))
        context.known[key] = entry

    def _make_room(self, size: int) -> None:
        # The estimate errs to the high side; an exact one would cost more than the decoding.
        self.size += size
        if self.size > self.capacity:
            self.forget()
            self.size = size
