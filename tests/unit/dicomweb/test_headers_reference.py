"""pydicom is the reference: on every sample file both readings are the same, but for the differences named here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomweb.headers import BULK_MARK, Element, Header, HeaderError, read_header
from dicomweb.headers.dictionary import is_private_creator, path_of
from dicomweb.headers.values import BINARY, NUMERIC, VECTOR_VALUES, binary_values

# The samples are odd files, about which pydicom has much to say.
pytestmark = pytest.mark.usefixtures("silent_pydicom")

BINARY_JSON = BINARY | {"OB or OW", "US or OW", "US or SS or OW"}

# Files that one of the two cannot read, by name and the code of our error; the reasons:
REJECTED = {
    "rtplan_truncated.dcm": "truncated",  # pydicom passes over the missing bytes of the last sequence.
    "MR_truncated.dcm": "truncated",  # pydicom gives the shorter pixel data.
    "DICOMDIR-nooffset": "truncated",  # 24 bytes of the last directory record are missing.
    "README": "not-dicom",  # A text among the files of a DICOMDIR.
    "no_meta.dcm": "not-dicom",  # Its first element has the group 0x0820, as if one byte had been taken away.
}
# Elements that differ, by the name of the file ('' for all files) and the path ('' for all paths); the reasons:
DIFFERENT = {
    ("badVR.dcm", "00280008"): "an IS that is no integer is left out by pydicom; PS3.18 F.2.3 allows it as a string",
}


def reference_elements(ds: Dataset, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield path, VR and converted value of every element at every depth, as the walker should."""
    creators: dict[int, str] = {}
    for elem in ds:
        tag = int(elem.tag)
        if is_private_creator(tag) and elem.value:
            creators[tag] = elem.value if isinstance(elem.value, str) else elem.value[0]
        creator = creators.get(tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8, "")
        path = prefix + path_of(tag, creator)
        yield path, elem.VR, elem
        if elem.VR == "SQ":
            for item in elem.value:
                yield from reference_elements(item, path + "/")


def reference_values(elem: Any) -> tuple[str, ...]:
    """Return the texts that an element converted by pydicom has."""
    value = elem.value
    if elem.VR == "SQ":
        return ()
    if isinstance(value, bytes):
        return binary_values(elem.VR, value) if value else ("",)
    if elem.VM == 0:
        return ("",)
    found = list(value) if elem.VM > 1 else [value]
    if elem.VR in NUMERIC or elem.VR in ("DS", "IS", "AT"):
        found = found[:VECTOR_VALUES]
    if elem.VR == "AT":
        return tuple(f"{int(tag):08X}" for tag in found)
    texts = [str(getattr(one, "original_string", one) if elem.VR in ("DS", "IS") else one) for one in found]
    return tuple(text.replace("\0", "").strip(" ") for text in texts)


def stripped(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value.strip(" ") for value in values)


def same_json(ours: Any, theirs: Any) -> bool:
    """Say whether two DICOM JSON elements are equal, bulk data and the forms of emptiness aside.

    pydicom writes an empty text among values as '' where PS3.18 F.2.5 has null, an empty sequence with an empty "Value",
    and what is not finite as a bare NaN or Infinity, which is no JSON.
    """
    if "BulkDataURI" in ours:
        return ours["vr"] == theirs["vr"] and str(ours["BulkDataURI"]).startswith(BULK_MARK)
    if ours["vr"] != theirs["vr"]:
        return False
    if "InlineBinary" in ours or "InlineBinary" in theirs:
        return bool(ours.get("InlineBinary") == theirs.get("InlineBinary"))
    left, right = ours.get("Value", []), theirs.get("Value", [])
    if ours["vr"] == "SQ":
        return len(left) == len(right) and all(not different_json(a, b) for a, b in zip(left, right, strict=True))
    return [plain(value) for value in left] == [plain(value) for value in right]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        texts = {group: text.strip(" ") for group, text in value.items()}
        return None if not any(texts.values()) else texts
    if isinstance(value, str):
        return value.replace("\0", "").strip(" ") or None
    if isinstance(value, float) and value != value:
        return "NaN"
    return value


def different_json(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return the tags whose JSON differs; group lengths are no part of the model, PS3.18 F.2.2."""
    tags = [tag for tag in theirs if not tag.endswith("0000")]
    missing = set(tags) ^ set(ours)
    return sorted(missing | {tag for tag in tags if tag in ours and not same_json(ours[tag], theirs[tag])})


def read(path: Path) -> Header | str:
    try:
        return read_header(path.read_bytes())
    except HeaderError as error:
        return error.code


def check(path: Path) -> list[str]:
    """Return what differs between the two readings of one file, and is not listed above."""
    ours = read(path)
    if isinstance(ours, str):
        assert REJECTED.get(path.name) == ours, f"{path.name}: {ours}"
        return []
    ds = dcmread(path, force=True)
    if not ds.file_meta and not len(ds):
        return [f"{path.name}: only the walker reads it"]
    # pydicom takes the zero bytes that pad a file for elements.
    if "trailing-bytes" in ours.warnings and 0 in ds:
        del ds[0]
    theirs = [*reference_elements(ds.file_meta), *reference_elements(ds)]
    expected = [(path_, vr, stripped(reference_values(elem))) for path_, vr, elem in theirs]
    found = [Element(e.path, e.vr, stripped(e.values)) for e in ours.elements]
    if "tag-order" in ours.warnings:
        expected, found = sorted(expected), sorted(found)
    problems = []
    if [e[0] for e in expected] != [e[0] for e in found]:
        paths = {e[0] for e in expected} ^ {e[0] for e in found}
        problems.append(f"{path.name}: other paths {sorted(paths)[:5]}")
    else:
        problems += [
            f"{path.name} {e[0]}: pydicom {str(e)[:150]}, walker {str(f)[:150]}"
            for e, f in zip(expected, found, strict=True)
            if tuple(e) != tuple(f) and not is_listed(path.name, e[0])
        ]
    json = {tag: orjson.loads(fragment) for tag, fragment in ours.json.items()}
    theirs_json = ds.to_json_dict(suppress_invalid_tags=True)
    problems += [
        f"{path.name} {tag}: JSON pydicom {str(theirs_json.get(tag))[:150]}, walker {str(json.get(tag))[:150]}"
        for tag in different_json(json, theirs_json)
        if not is_listed(path.name, tag)
    ]
    return problems


def is_listed(name: str, path: str) -> bool:
    return any(key in DIFFERENT for key in ((name, path), (name, ""), ("", path)))


def test_both_readings_of_the_files_in_pydicom_are_the_same(pydicom_files: list[Path]) -> None:
    problems = [problem for path in pydicom_files for problem in check(path)]
    assert problems == []
    assert len(pydicom_files) > 100


def test_both_readings_of_the_sample_files_are_the_same(samples: Path) -> None:
    paths = [
        p
        for p in sorted(samples.rglob("*"))
        if p.is_file() and "fuzz-corpus" not in p.parts and p.suffix in (".dcm", "")
    ]
    problems = [problem for path in paths for problem in check(path)]
    assert problems == []
    assert len(paths) > 100
