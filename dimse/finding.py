"""C-FIND at study, series and image level, on any element: answered by the searches of DICOMweb (PS3.4 C.4.1)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pydicom.config
import sqlalchemy as sa
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomweb.imports import Importer
from dicomweb.rs.errors import Refused
from dicomweb.rs.searching import find_rows
from dicomweb.search import SearchError

log = logging.getLogger(__name__)

# What is asked and what is stored may be wrong, and is matched and told as it is.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE

# PS3.4 Table C.4-1.
PENDING = 0xFF00
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
NOT_OF_ITS_CLASS = 0xA900
UNABLE_TO_PROCESS = 0xC000

# So many answers are made at once; between them it is looked whether they are still wanted.
PAGE = 500
LEVELS = {
    "STUDY": ("study", ("study",)),
    "SERIES": ("series", ("study", "series")),
    "IMAGE": ("image", ("study", "series", "image")),
}
_UIDS = {"STUDY": ("0020000D",), "SERIES": ("0020000D", "0020000E"), "IMAGE": ("0020000D", "0020000E", "00080018")}
# They say how to read the identifier, or where the answers come from, and match nothing.
_NO_KEYS = frozenset({"00080005", "00080052", "00080053", "00080054", "00080056", "00080201"})
_DEEPEST = 8


class Parameters:
    """The keys of an identifier as the parameters of a search (PS3.18 8.3.4)."""

    def __init__(self, identifier: Dataset, offset: int) -> None:
        self._pairs = [("limit", str(PAGE)), ("offset", str(offset)), *_pairs(identifier, "", 0)]

    def items(self) -> Sequence[tuple[str, str]]:
        """Give all parameters."""
        return self._pairs

    def getall(self, name: str) -> list[str]:
        """Give the values of one parameter."""
        return [value for one, value in self._pairs if one == name]


def find(importer: Importer, event: Any) -> Iterator[tuple[int, Dataset | None]]:
    """Give the answers to one C-FIND request."""
    try:
        identifier: Dataset = event.identifier
        level = str(identifier.get("QueryRetrieveLevel", "")).strip()
        if level not in LEVELS:
            log.warning("C-FIND asked for a level that is none of STUDY, SERIES and IMAGE.")
            yield NOT_OF_ITS_CLASS, None
            return
        offset = 0
        while True:
            with importer.work(read_only=True) as dbsession:
                rows, _ = find_rows(dbsession, Parameters(identifier, offset), *LEVELS[level], "")
            for row in rows:
                if event.is_cancelled:
                    yield CANCELLED, None
                    return
                yield PENDING, answer(identifier, level, orjson.loads(row), str(importer.settings["dimse.aet"]))
            if len(rows) < PAGE:
                return
            offset += PAGE
    except Refused as error:
        log.warning("C-FIND refused with status %s.", error.status)
        yield NOT_OF_ITS_CLASS, None
    except SearchError as error:
        log.warning("C-FIND cannot be answered (%s).", type(error).__name__)
        yield UNABLE_TO_PROCESS, None
    except sa.exc.DBAPIError as error:
        log.warning("The database cannot be used (%s).", type(error.orig).__name__)
        yield OUT_OF_RESOURCES, None


def answer(identifier: Dataset, level: str, row: dict[str, Any], title: str) -> Dataset:
    """Make one answer: what was asked for, empty where there is nothing, and the UIDs of what was found."""
    wanted = {f"{int(element.tag):08X}" for element in identifier}
    wanted = (wanted | {*_UIDS[level], "00080005"}) - (_NO_KEYS - {"00080005"})
    found = Dataset.from_json({tag: row[tag] for tag in wanted if tag in row}, bulk_data_uri_handler=lambda _address: b"")
    for element in identifier:
        if element.tag not in found and f"{int(element.tag):08X}" in wanted:
            found.add(DataElement(element.tag, element.VR, [] if element.VR == "SQ" else None))
    found.QueryRetrieveLevel = level
    found.RetrieveAETitle = title
    found.InstanceAvailability = "ONLINE"
    return found


def _pairs(dataset: Dataset, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    for element in dataset:
        tag = f"{int(element.tag):08X}"
        if tag in _NO_KEYS or element.tag.element == 0 or element.tag.is_private_creator:
            continue
        path = f"{prefix}{tag}"
        if element.VR == "SQ":
            keys = list(_pairs(element.value[0], f"{path}.", depth + 1)) if element.value and depth < _DEEPEST else []
            matching = [(name, value) for name, value in keys if name != "includefield"]
            yield from matching or [("includefield", path)]
            # What an item is asked for comes with its sequence.
            if matching:
                yield "includefield", path
        elif value := _text(element):
            yield path, value
        else:
            yield "includefield", path


def _text(element: DataElement) -> str:
    if element.VR == "UN" and isinstance(element.value, bytes):
        # A private element, of which the sender knows no VR either.
        text = element.value.decode("utf-8", "replace").strip(" \0")
        return text if text.isprintable() else ""
    values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    if any(isinstance(value, bytes) for value in values):
        return ""
    # Of a person's name the original is bytes, of a number it is what was written.
    numbers = element.VR in ("DS", "IS")
    texts = (str(getattr(value, "original_string", value) if numbers else value) for value in values if value is not None)
    return "\\".join(texts).strip(" \0")
