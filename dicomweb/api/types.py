"""What a value in a request may look like: stricter than colander, so that what the document says is what is accepted."""

from __future__ import annotations

import re
from typing import Any

import colander

# Eighteen digits always fit into the 64 bits that databases give to a number.
_WHOLE = re.compile(r"-?[0-9]{1,18}")


class Whole(colander.Integer):
    """A whole number in decimal digits; Python's own idea also takes ``1_000`` and Arabic digits."""

    def deserialize(self, node: Any, cstruct: Any) -> Any:
        """Understand the text of a number."""
        if isinstance(cstruct, str) and cstruct and not _WHOLE.fullmatch(cstruct):
            raise colander.Invalid(node, f'"{cstruct}" is not a whole number.')
        return super().deserialize(node, cstruct)


class Id(Whole):
    """The number of a thing in a JSON body, where it is a number and no text."""

    def deserialize(self, node: Any, cstruct: Any) -> Any:
        """Understand a number."""
        if cstruct is not colander.null and (type(cstruct) is not int or abs(cstruct) >= 10**18):
            raise colander.Invalid(node, "This is not a whole number.")
        return super().deserialize(node, cstruct)


class Listed(colander.Sequence):
    """A JSON array; colander also takes other things one can walk through."""

    def deserialize(self, node: Any, cstruct: Any, **options: Any) -> Any:
        """Understand an array."""
        if cstruct is not colander.null and not isinstance(cstruct, list):
            raise colander.Invalid(node, "This is not a list.")
        return super().deserialize(node, cstruct, **options)


class Flag(colander.Boolean):
    """``true`` or ``false``; colander would take every other text for true."""

    def deserialize(self, node: Any, cstruct: Any) -> Any:
        """Understand the text of a flag."""
        if isinstance(cstruct, str) and cstruct not in ("true", "false"):
            raise colander.Invalid(node, f'"{cstruct}" is neither true nor false.')
        return super().deserialize(node, cstruct)


class Words(colander.String):
    """Text without the NUL character, which PostgreSQL cannot hold."""

    def deserialize(self, node: Any, cstruct: Any) -> Any:
        """Understand a text."""
        if cstruct is not colander.null and not isinstance(cstruct, str):
            raise colander.Invalid(node, "This is not a text.")
        if isinstance(cstruct, str) and "\0" in cstruct:
            raise colander.Invalid(node, "The text contains a NUL character.")
        return super().deserialize(node, cstruct)
