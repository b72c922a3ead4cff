"""The header of a DICOM file, read exactly, within bounds and fast.

``read_header`` walks the bytes of a file once and gives its elements in two shapes: as ``Element`` (path, VR, texts) for the
search index, and as DICOM JSON (PS3.18 Annex F) for header tables and DICOMweb. It stops for nothing but errors: pixel data
and other large values are passed over, and where pixel data is, is told in bytes.

*Paths.* ``00080060``; in a sequence ``00400275/00400009``, without item numbers; a private element by the creator of its
block, ``0019[GEMS_ACQU_01]02``, ``0019[]02`` where there is none. In a creator '%', '/', '[', ']' and control characters are
percent-encoded, so that a path has one meaning.

*Trust.* Every length is checked against what holds it: element in item, item in sequence, sequence in its parent, all in the
file. A file that ends early is ``Truncated``; depth, elements, texts, fragments and inflation are bounded (``Limits``).
What is odd but clear is read and named in ``Header.warnings``; what breaks the encoding is ``Unreadable``, and only that may
be given to pydicom in a bounded child process (``fallback.read_with_pydicom``).

*Speed.* Most elements of a series are the same bytes in every image, so the result of an element is remembered under its
bytes (``memo``), and runs of unchanged elements are recognised by one comparison (``runs``).

pydicom is the reference, and the tests hold both readings equal. Modules: ``walker`` (the pass over the bytes), ``source``
(a window over the file, inflation), ``memo`` and ``runs``, ``values`` (bytes -> texts and JSON), ``charset``,
``dictionary`` (VRs and paths), ``model``, ``errors``, ``fallback`` (pydicom in a child).

Warnings: no-preamble, no-transfer-syntax, wrong-transfer-syntax, wrong-group-length, implicit-in-explicit, unknown-vr,
unknown-charset, wrong-value-length, value-cut, duplicate-tag, tag-order, stray-delimiter, trailing-bytes, pixel-data-missing,
pixel-data-short, read-by-pydicom.
"""

from dicomweb.headers.errors import HeaderError, NotDicom, TooDeep, TooLarge, TooManyElements, Truncated, Unreadable
from dicomweb.headers.model import Element, Header, Limits, PixelData
from dicomweb.headers.reader import forget, read_header
from dicomweb.headers.values import BULK_MARK

__all__ = [
    "BULK_MARK",
    "Element",
    "Header",
    "HeaderError",
    "Limits",
    "NotDicom",
    "PixelData",
    "TooDeep",
    "TooLarge",
    "TooManyElements",
    "Truncated",
    "Unreadable",
    "forget",
    "read_header",
]
