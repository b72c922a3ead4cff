"""Encapsulated documents (PS3.3 A.45): what they are; their bytes are read where they are stored."""

from __future__ import annotations

from typing import NamedTuple

from dicomweb.languages import gettext
from dicomweb.objects.elements import Header, code, date, facts, text

TAG = "00420011"


class Document(NamedTuple):
    """media_type: as the header says, in small letters. is_pdf: whether a browser may show it."""

    title: str
    media_type: str
    facts: list[tuple[str, str]]

    @property
    def is_pdf(self) -> bool:
        """Tell whether it says to be a PDF."""
        return self.media_type == "application/pdf"


def read_document(header: Header) -> Document:
    """Read what the header says of a document."""
    media_type = text(header, "00420012").strip().lower()
    title = text(header, "00420010") or code(header, "0040A043") or gettext("Document")
    told = facts(header, {gettext("Kind"): "00420012", gettext("Burned in annotation"): "00280301"})
    if day := date(text(header, "00080023")):
        told.insert(0, (gettext("Date"), day))
    return Document(title, media_type, told)
