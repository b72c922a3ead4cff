"""Patterns with ``*`` and ``?`` for the few texts that are not in the header index, in time that any pattern keeps within bounds."""

from __future__ import annotations

from dicomweb import index
from dicomweb.index.expressions import split_pattern


class Glob:
    r"""A pattern over folded texts, as the index understands it: ``*`` any text, ``?`` one character, ``\`` takes these literally."""

    def __init__(self, pattern: str, *, wildcards: bool) -> None:
        """Make the pattern; without wildcards it is the text itself."""
        self._tokens: list[str | None] = []  # None is any text, "" one character.
        parts, between = split_pattern(pattern) if wildcards else ([pattern], [])
        self._tokens += index.fold(parts[0])
        for wildcard, part in zip(between, parts[1:], strict=True):
            self._tokens.append(None if wildcard == "*" else "")
            self._tokens += index.fold(part)

    def matches(self, text: str) -> bool:
        """Tell whether the whole text matches; the time is at most the product of both lengths."""
        folded = index.fold(text)
        at = token = 0
        star, behind = -1, 0
        while at < len(folded):
            if token < len(self._tokens) and self._tokens[token] is None:
                star, behind = token, at
                token += 1
            elif token < len(self._tokens) and self._tokens[token] in ("", folded[at]):
                token += 1
                at += 1
            elif star >= 0:
                # The last "*" takes one character more.
                behind += 1
                token, at = star + 1, behind
            else:
                return False
        return all(left is None for left in self._tokens[token:])
