"""Why a file's header could not be read: one class a reason, each with a stable code and one sentence for a person."""


class HeaderError(Exception):
    """The header of a file could not be read; ``str(error)`` is one sentence that tells a person why."""

    code = "header"


class NotDicom(HeaderError):
    """The bytes are no DICOM file at all."""

    code = "not-dicom"


class Truncated(HeaderError):
    """The file ends inside an element, a sequence or a fragment that announces more bytes."""

    code = "truncated"


class TooDeep(HeaderError):
    """Sequences are nested deeper than the limit."""

    code = "too-deep"


class TooManyElements(HeaderError):
    """The header holds more elements, items, values or fragments than the limit."""

    code = "too-many-elements"


class TooLarge(HeaderError):
    """The header, or what a deflated file inflates to, is larger than the limit."""

    code = "too-large"


class Unreadable(HeaderError):
    """The bytes break the rules of the encoding at a known position."""

    code = "unreadable"
