"""What an element's bytes mean, remembered: most elements of a series are the same bytes in every image.

An element's result depends on its bytes and on a *context*: the encoding rules, the character sets, the sign of pixels,
the path it is found at; for private elements also on the private creator, which is part of their key. A context knows the
results of whole elements, header and value, and of whole sequences. Only small elements are kept, and when the memo is full
it is emptied: the elements that matter come back with the next file.
"""

from typing import NamedTuple

from dicomweb.headers.charset import Encodings
from dicomweb.headers.dictionary import CREATOR_CHARACTERS, is_private_creator
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


def creator_of(entry: Entry) -> str:
    """Return the name that a private creator element gives to its block."""
    return "".join(entry.elements[0].values[:1])[:CREATOR_CHARACTERS]


class Run:
    """Elements that follow each other; they mean the same where the same private creators are known."""

    __slots__ = ("cost", "creators", "elements", "entries", "gives", "json", "raw", "sizes")

    def __init__(self, raw: bytes, entries: list[Entry], sizes: list[int], creators: dict[int, str]) -> None:
        self.raw = raw
        self.entries = entries
        self.sizes = sizes
        self.creators = creators
        self.gives = creators_in(entries)
        self.elements: list[Element] = [element for entry in entries for element in entry.elements]
        self.json = {entry.key: entry.json for entry in entries}
        self.cost = sum(entry.cost for entry in entries)


def creators_in(entries: list[Entry]) -> dict[int, str]:
    """Return the private creators that these elements set."""
    return {int(e.key, 16): creator_of(e) for e in entries if is_private_creator(int(e.key, 16))}


Piece = Entry | Run


def entries_of(pieces: list[Piece]) -> list[Entry]:
    """Return the elements of all pieces one by one."""
    return [entry for piece in pieces for entry in (piece.entries if isinstance(piece, Run) else (piece,))]


# It matches nowhere, and its place in the table keeps its element out of every run.
VARYING = Run(b"", [], [], {})


SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103
# What they say reaches beyond themselves, so no run goes over them.
SWITCHES = {SPECIFIC_CHARACTER_SET: VARYING, PIXEL_REPRESENTATION: VARYING}


class Context:
    """All that the meaning of an element's bytes depends on."""

    __slots__ = (
        "bulk",
        "encodings",
        "explicit",
        "known",
        "lengths",
        "little",
        "prefix",
        "runs",
        "signed",
        "switches",
        "varying",
    )

    def __init__(self, explicit: bool, little: bool, encodings: Encodings, signed: bool, prefix: str) -> None:
        self.explicit = explicit
        self.little = little
        self.encodings = encodings
        self.signed = signed
        self.prefix = prefix
        self.known: dict[Key, Entry] = {}
        # Large values by tag, VR, length and private creator: their bytes do not matter.
        self.bulk: dict[tuple[int, str, int, str], Entry] = {}
        # The context that follows an element such as SpecificCharacterSet.
        self.switches: dict[bytes, Context] = {}
        # The size a sequence of undefined length had the last time: where to look whether it is the same again.
        self.lengths: dict[int, int] = {}
        # Runs of elements by the tag of the first, and how many tags were found to vary.
        self.runs = dict(SWITCHES)
        self.varying = 0


class Memo:
    """The contexts of one process."""

    def __init__(self, capacity: int = MEMO_BYTES) -> None:
        self.capacity = capacity
        self.depth = 0
        self.forget()

    def forget(self) -> None:
        """Empty the memo; readings under way go on with the contexts they hold."""
        self.contexts: dict[tuple[bool, bool, Encodings, bool, str], Context] = {}
        self.size = 0

    def fit(self, depth: int) -> None:
        """Forget what was read under another limit of depth: a remembered sequence is not measured again."""
        if depth != self.depth:
            self.forget()
            self.depth = depth

    def context(self, explicit: bool, little: bool, encodings: Encodings, signed: bool, prefix: str) -> Context:
        """Return the context of these properties."""
        key = (explicit, little, encodings, signed, prefix)
        found = self.contexts.get(key)
        if found is None:
            self.make_room(1000 + len(prefix))
            found = self.contexts[key] = Context(*key)
        return found

    def keep(self, context: Context, key: Key, entry: Entry, size: int) -> None:
        """Remember the result of ``size`` bytes."""
        self.make_room(400 + 16 * size + len(entry.json) + 300 * len(entry.elements))
        context.known[key] = entry

    def make_room(self, size: int) -> None:
        """Account for ``size`` bytes that are to be remembered; empty the memo when they are too many."""
        # The estimate errs to the high side; an exact one would cost more than the decoding.
        self.size += size
        if self.size > self.capacity:
            self.forget()
            self.size = size
