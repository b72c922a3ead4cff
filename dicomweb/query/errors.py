"""What is wrong with a query, and where."""

from __future__ import annotations

from dicomweb.languages import gettext

# How much of what somebody wrote is repeated in a message.
_SHOWN = 40


class QuerySyntaxError(ValueError):
    """A query cannot be understood.

    message: one sentence, in the language that is spoken. position, length: the part of the text that it is about, in code
    points; a length of nought is a place between two characters. expected: what could stand there, empty when nothing could.
    suggestion: what to write instead of that part, None when there is no guess.
    """

    def __init__(self, message: str, position: int, length: int = 0, *, expected: str = "", suggestion: str | None = None) -> None:
        super().__init__(message, position, length, expected, suggestion)
        self.message = message
        self.position = position
        self.length = length
        self.expected = expected
        self.suggestion = suggestion

    def __str__(self) -> str:
        text = gettext("%(message)s (at character %(n)s)", message=self.message, n=self.position + 1)
        if self.expected:
            text += gettext("; expected %(expected)s", expected=self.expected)
        return text if self.suggestion is None else text + gettext("; did you mean %(suggestion)s?", suggestion=self.suggestion)


def shown(text: str) -> str:
    """Give a part of a query as a message repeats it: in quotes and cut."""
    return gettext("“%(words)s”", words=text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
