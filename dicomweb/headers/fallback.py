"""pydicom, in a child process with bounded memory and time, for files that the walker finds unreadable.

pydicom is more lenient than the walker, which is why it is asked, and why it is asked for nothing else: a file that is
truncated, too deep or too large stays so. In the child every length is compared with what was read, and the last element
must end where the file does.
"""

import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import orjson
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicomweb.headers import errors, values
from dicomweb.headers.dictionary import PIXEL_DATA, is_private_creator, name_of, path_of
from dicomweb.headers.errors import HeaderError, TooDeep, TooLarge, TooManyElements, Truncated, Unreadable
from dicomweb.headers.model import Element, Header, Limits, PixelData
from dicomweb.languages import N_, gettext

ANSWER_BYTES = 64 << 20
END_OF_SEQUENCE = (b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xff\xfe\xe0\xdd\0\0\0\0")
ERRORS = {cls.code: cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, HeaderError)}


def read_with_pydicom(
    path: Path, *, limits: Limits | None = None, timeout: float = 30.0, memory: int = 1 << 30
) -> Header:
    """Return the header of a file as pydicom reads it; only for a file that ``read_header`` found Unreadable.

    ``timeout`` is in seconds, ``memory`` the address space of the child in bytes. The positions of encapsulated pixel data
    are not told: ``pixel_data`` is None then.

    Raises Unreadable, also for a child that ended by itself or took too long, and what it found of the other HeaderErrors.
    """
    limits = limits or Limits()
    order = [sys.executable, "-P", "-m", __name__, str(path), str(memory), *map(str, limits)]
    try:
        child = subprocess.run(order, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unreadable(gettext("Reading the file took longer than %(seconds)s seconds.", seconds=f"{timeout:g}")) from error
    if child.returncode:
        raise Unreadable(N_("pydicom could not read the file within its bounds either."))
    answer = orjson.loads(child.stdout)
    if "code" in answer:
        raise ERRORS[answer["code"]](answer["message"])
    return Header(
        answer["syntax"],
        [Element(path, vr, tuple(texts)) for path, vr, texts in answer["elements"]],
        {tag: orjson.dumps(element) for tag, element in answer["json"].items()},
        {tag: orjson.dumps(element) for tag, element in answer["meta"].items()},
        PixelData(*answer["pixels"]) if answer["pixels"] else None,
        answer["warnings"],
    )


class _Reading:
    """The conversion of one Dataset, with the bounds of the walker."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.elements: list[Element] = []
        self.count = 0
        self.pixels: tuple[int, int, bool] | None = None

    def dataset(self, ds: Dataset, prefix: str, bulk: str, depth: int) -> dict[str, Any]:
        """Note the elements of ``ds`` and return its JSON."""
        if depth > self.limits.depth:
            raise TooDeep(gettext("Sequences are nested deeper than %(most)s.", most=self.limits.depth))
        json: dict[str, Any] = {}
        creators: dict[int, str] = {}
        for tag in sorted(ds.keys()):
            self.count += 1
            if self.count > self.limits.elements:
                raise TooManyElements(gettext("The header has more than %(most)s elements and items.", most=self.limits.elements))
            raw = ds.get_item(tag)
            if isinstance(raw, RawDataElement):
                self._account(raw)
                if tag == PIXEL_DATA and not bulk and raw.length != 0xFFFFFFFF:
                    self.pixels = (raw.value_tell, raw.length, False)
            elem = ds[tag]
            key = f"{int(tag):08X}"
            creator = creators.get(tag.group << 8 | tag.element >> 8, "")
            path = prefix + path_of(int(tag), creator)
            if elem.VR == "SQ":
                self.elements.append(Element(path, "SQ", ()))
                items = [
                    self.dataset(item, path + "/", f"{bulk}{key}/{number}/", depth + 1)
                    for number, item in enumerate(elem.value)
                ]
                self.count += len(items)
                json[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
                continue
            texts = _texts(elem)
            self.elements.append(Element(path, elem.VR, texts[: self._most(elem.VR)]))
            if is_private_creator(int(tag)):
                creators[tag.group << 8 | tag.element] = texts[0]
            if tag.element:
                json[key] = self._json(elem, tag == PIXEL_DATA and not bulk, f"{bulk}{key}")
        return json

    def _account(self, raw: RawDataElement) -> None:
        found = len(raw.value or b"")
        if raw.length not in (found, 0xFFFFFFFF):
            message = gettext("The file ends inside %(element)s: %(missing)s bytes are missing.", element=name_of(int(raw.tag)), missing=raw.length - found)
            raise Truncated(message)
        if found > self.limits.text_bytes and raw.VR in values.TEXT:
            raise TooLarge(gettext("The texts of the header are larger than %(most)s bytes.", most=self.limits.text_bytes))

    def _most(self, vr: str) -> int:
        return values.VECTOR_VALUES if vr in values.NUMERIC or vr in ("DS", "IS", "AT") else self.limits.value_bytes

    def _json(self, elem: DataElement, is_bulk: bool, path: str) -> dict[str, Any]:
        mark = values.BULK_MARK + path
        json = (
            {"vr": elem.VR, "BulkDataURI": mark} if is_bulk else elem.to_json_dict(lambda _: mark, values.INLINE_BYTES)
        )
        if len(orjson.dumps(json)) > self.limits.value_bytes:
            return {"vr": elem.VR, "BulkDataURI": mark}
        return json


def _texts(elem: DataElement) -> tuple[str, ...]:
    """Return the search values of an element that pydicom has converted."""
    value = elem.value
    if isinstance(value, bytes):
        return values.binary_values(elem.VR, value)
    if elem.VM == 0:
        return ("",)
    found = value if elem.VM > 1 else [value]
    if elem.VR == "AT":
        return tuple(f"{int(tag):08X}" for tag in found)
    texts = (str(getattr(one, "original_string", one) if elem.VR in ("DS", "IS") else one) for one in found)
    return tuple(text.replace("\0", "").strip(" ").encode(errors="replace").decode() for text in texts)


def _read(path: Path, limits: Limits) -> dict[str, Any]:
    """Return the answer for one file; runs in the child."""
    reading = _Reading(limits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = dcmread(path, force=True)
        syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
        if syntax == DeflatedExplicitVRLittleEndian:
            raise Unreadable(N_("The deflated dataset cannot be read."))
        _check_end(path, ds)
        meta = reading.dataset(ds.file_meta, "", "", 0)
        json = reading.dataset(ds, "", "", 0)
    if any("End of file reached" in str(warning.message) for warning in caught):
        raise Truncated(N_("The file ends inside a value of undefined length."))
    return {
        "syntax": syntax,
        "elements": [list(element) for element in reading.elements],
        "json": json,
        "meta": meta,
        "pixels": reading.pixels,
        "warnings": ["read-by-pydicom"],
    }


def _check_end(path: Path, ds: Dataset) -> None:
    """Raise Truncated unless the last element of a dataset not yet converted ends where the file does."""
    size = path.stat().st_size
    elements = [ds.get_item(tag) for tag in ds.keys()]  # noqa: SIM118 - iterating over a Dataset would convert it.
    last = max(elements, key=lambda elem: getattr(elem, "value_tell", None) or getattr(elem, "file_tell", None) or 0)
    tell = getattr(last, "value_tell", None) or getattr(last, "file_tell", None) or 0
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if tail in END_OF_SEQUENCE:
        return
    length = getattr(last, "length", None)
    if length is None or length == 0xFFFFFFFF or tell + length != size:
        raise Truncated(gettext("The file ends at byte %(size)s, but %(element)s does not end there.", size=size, element=name_of(int(last.tag))))


def _main(path: str, memory: str, *limits: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = orjson.dumps(_read(Path(path), Limits(*map(int, limits))))
        if len(answer) > ANSWER_BYTES:
            raise TooLarge(gettext("The header is larger than %(most)s bytes.", most=ANSWER_BYTES))
    except HeaderError as error:
        answer = orjson.dumps({"code": error.code, "message": str(error)})
    except RecursionError:
        answer = orjson.dumps({"code": TooDeep.code, "message": N_("Sequences are nested too deep.")})
    except MemoryError:
        answer = orjson.dumps({"code": TooLarge.code, "message": N_("Reading the file needs too much memory.")})
    except Exception as error:  # noqa: BLE001 - whatever pydicom raises on broken bytes, the answer is that they are.
        message = gettext("pydicom cannot read the file: %(error)s.", error=type(error).__name__)
        answer = orjson.dumps({"code": Unreadable.code, "message": message})
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    _main(*sys.argv[1:])
