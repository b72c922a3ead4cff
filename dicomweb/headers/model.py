"""What reading a header gives, and the bounds within which it is read."""

from typing import NamedTuple

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


class Limits(NamedTuple):
    """Bounds of one reading; what exceeds them is an error, or is cut where a comment says so.

    The defaults let through every file of real archives known to us (structured reports nest about ten deep, a
    whole-slide image of 5,000 frames has about 150,000 elements) and keep a hostile file below about 0.5 GB of memory.
    """

    depth: int = 32  # nested sequences
    elements: int = 200_000  # elements and items at every depth, and one more for every 32 values of an element
    fragments: int = 1_000_000  # of encapsulated pixel data
    value_bytes: int = 65_536  # a longer text is cut: its beginning is searchable, the JSON refers to the bulk data
    text_bytes: int = 64 << 20  # all texts above 1 KiB of one header together
    inflated_bytes: int = 256 << 20  # what a deflated file may grow to


class Element(NamedTuple):
    """One element of a header as it is searched."""

    path: str
    vr: str
    values: tuple[str, ...]


class PixelData(NamedTuple):
    """Where the pixel data of a file is, in bytes from the start of the file.

    ``fragments`` are the (offset, length) of every fragment's bytes without the basic offset table, empty for native
    pixel data. ``frame_offsets`` are the offsets of the basic offset table, or of the extended one where the basic one is
    empty: each counts from the first byte of the item tag of the first fragment (PS3.5 A.4), that is from
    ``fragments[0][0] - 8``; empty when the file has neither.
    """

    offset: int
    length: int
    encapsulated: bool
    fragments: tuple[tuple[int, int], ...] = ()
    frame_offsets: tuple[int, ...] = ()


class Header:
    """The header of one file; see the package's docstring for paths, values and JSON."""

    __slots__ = ("_first", "elements", "is_dicomdir", "json", "meta", "pixel_data", "transfer_syntax_uid", "warnings")

    def __init__(
        self,
        transfer_syntax_uid: str,
        elements: list[Element],
        json: dict[str, bytes],
        meta: dict[str, bytes],
        pixel_data: PixelData | None,
        warnings: list[str],
    ) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self.elements = elements
        self.json = json
        self.meta = meta
        self.pixel_data = pixel_data
        self.warnings = warnings
        self._first: dict[str, Element] | None = None
        self.is_dicomdir = f'"{MEDIA_STORAGE_DIRECTORY}"'.encode() in meta.get("00020002", b"")

    def value(self, path: str) -> str:
        """Return the first value of the first element at ``path``, '' when there is none."""
        if self._first is None:
            self._first = {element.path: element for element in reversed(self.elements)}
        element = self._first.get(path)
        return element.values[0] if element is not None and element.values else ""

    def values(self, path: str) -> tuple[str, ...]:
        """Return the values of all elements at ``path`` (a nested path has one element an item), in file order."""
        return tuple(value for element in self.elements if element.path == path for value in element.values)
