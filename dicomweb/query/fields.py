"""Which element a name means: keywords, tags, private elements, nested ones; and the names of what is near."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import DicomDictionary, RepeatersDictionary, get_entry, private_dictionaries

from dicomweb.languages import N_, gettext
from dicomweb.query.errors import QuerySyntaxError, shown

# What the application knows of an image beside its header; (0000,0900) Status of the network is 00000900 here.
META_NAMES = ("batch", "status", "label", "added", "id")
ANY_DEPTH = "**"
# No keyword is longer, nor is the name of a creator (PS3.5 6.2) and an element of its.
_NAME_CHARACTERS = 128
_CREATOR_CHARACTERS = 64
# What is asked for most, offered first.
COMMON = (
    "PatientID", "PatientName", "Modality", "StudyDate", "StudyDescription", "SeriesDescription", "AccessionNumber", "PatientSex", "PatientAge",
    "PatientBirthDate", "BodyPartExamined", "SliceThickness", "Manufacturer", "ManufacturerModelName", "ProtocolName", "ImageType", "InstitutionName",
    "StationName", "KVP", "RepetitionTime", "EchoTime", "MagneticFieldStrength", "ConvolutionKernel", "PixelSpacing", "Rows", "Columns", "SeriesDate",
    "AcquisitionDate", "AcquisitionTime", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "TransferSyntaxUID",
)  # fmt: skip
_HEX = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class Field:
    """An element that can be asked for.

    path: as in the index, ``00080060``, ``00400275/00400009``, ``0019[GEMS_ACQU_01]02``. keyword: of its last element (PS3.6),
    or the name that pydicom's private dictionary has; empty without one. vr: as the dictionaries have it, 'UN' when they do
    not know; the VR of a file can differ. any_depth: every path that ends in this one is meant too.
    """

    path: str
    keyword: str
    vr: str
    any_depth: bool = False

    @property
    def name(self) -> str:
        """The field as it is written in the language."""
        names = [_segment_name(segment, bool(nested) or self.any_depth) for nested, segment in enumerate(self.path.split("/"))]
        return ".".join([ANY_DEPTH, *names] if self.any_depth else names)


class _Entry(NamedTuple):
    tag: str
    keyword: str
    vr: str
    title: str


def _public_entries() -> dict[str, _Entry]:
    entries = {
        keyword.casefold(): _Entry(f"{tag:08X}", keyword, vr, title)
        for tag, (vr, _, title, _, keyword) in DicomDictionary.items()
        if keyword and vr != "NONE"
    }
    # Curves and overlays have one group each; the keyword alone means the first.
    for mask, (vr, _, title, _, keyword) in RepeatersDictionary.items():
        if mask[:4] in ("50xx", "60xx"):
            entries.setdefault(keyword.casefold(), _Entry(mask.replace("x", "0"), keyword, vr, title))
    return entries


_PUBLIC = _public_entries()


def normalised(name: str) -> str:
    """Give the letters and digits of a name, without case."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _normalised_creators() -> dict[str, tuple[str, ...]]:
    creators: dict[str, tuple[str, ...]] = {}
    for creator in private_dictionaries:
        creators[normalised(creator)] = (*creators.get(normalised(creator), ()), creator)
    return creators


_CREATORS = _normalised_creators()


def keywords() -> Iterable[str]:
    """Give all keywords, as the Standard writes them."""
    return (entry.keyword for entry in _PUBLIC.values())


def describe(keyword: str) -> tuple[str, str]:
    """Give the VR of a keyword, and tag, VR and name as they are told to people."""
    entry = _PUBLIC[keyword.casefold()]
    return entry.vr, f"({entry.tag[:4]},{entry.tag[4:]}) {entry.vr} {entry.title}"


def creators(name: str) -> tuple[str, ...]:
    """Give the private creators that a name means: letters and digits are compared."""
    return _CREATORS.get(normalised(name), ())


def known_creators() -> Iterable[str]:
    """Give the private creators that the dictionary knows."""
    return private_dictionaries


@lru_cache(maxsize=64)
def _private_entries(creator: str) -> dict[str, tuple[str, str]]:
    """Give the elements of a private creator: segment of a path -> name, empty without a useful one, and VR."""
    entries: dict[str, tuple[str, str]] = {}
    for mask, (vr, _, name, *_) in private_dictionaries.get(creator, {}).items():
        # Which block an element is in, is a matter of one file; groups that differ cannot be told by a name.
        group, element = mask[:4].upper(), mask[6:].upper()
        if _HEX.issuperset(group + element):
            entries.setdefault(f"{group}[{_escaped(creator)}]{element}", (_camel_case(name), _one_vr(vr)))
    return entries


@lru_cache(maxsize=64)
def private_elements(creator: str) -> dict[str, tuple[str, ...]]:
    """Give the names of the elements of a private creator -> segments of paths, more than one when a name is used again."""
    elements: dict[str, tuple[str, ...]] = {}
    for segment, (name, _) in _private_entries(creator).items():
        if name:
            elements[name] = (*elements.get(name, ()), segment)
    return elements


def field_at(path: str, any_depth: bool = False) -> Field:
    """Give the field of a path of the index."""
    segment = path.rpartition("/")[2]
    keyword, vr = _dictionary_entry(segment)
    return Field(path, keyword, vr, any_depth)


def resolve(name: str, position: int = 0, *, suggest: bool = True) -> Field:
    """Give the field that a name means; keywords are matched without regard to case.

    position: where the name begins in the query. suggest: look for what was meant when the name is unknown, which takes some
    ten milliseconds. Raises QuerySyntaxError.
    """
    parts = _split(name, position)
    any_depth = parts[0].text == ANY_DEPTH
    if any_depth:
        parts = parts[1:]
        if not parts:
            raise QuerySyntaxError(gettext("** stands before an element"), position, len(name), expected=gettext("an element such as **.CodeValue"))
    segments: list[str] = []
    while parts:
        part, parts = parts[0], parts[1:]
        segment = None if part.quoted else _segment(part)
        if segment is None:
            found = creators(part.text) if parts or part.quoted else ()
            if not found:
                raise _unknown(part, suggest)
            if not parts:
                message = gettext("%(name)s is a private creator", name=shown(part.text))
                raise QuerySyntaxError(message, part.position, part.length, expected=gettext("the name of an element after a dot"))
            segment = _private_segment(found, parts[0], suggest)
            part, parts = parts[0], parts[1:]
        vr = _dictionary_entry(segment)[1]
        if parts and vr not in ("SQ", "UN"):
            message = gettext("%(name)s is no sequence, so nothing is in it", name=shown(part.text))
            raise QuerySyntaxError(message, part.position, part.length, expected=gettext("a sequence before the dot"))
        segments.append(segment)
    return field_at("/".join(segments), any_depth)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Give the name that somebody may have meant, None when none is near; among equals the one that comes first."""
    wanted = name.casefold()
    if len(wanted) < 3 or len(wanted) > _NAME_CHARACTERS:
        return None
    by_folded: dict[str, str] = {}
    for candidate in names:
        by_folded.setdefault(candidate.casefold(), candidate)
    found = get_close_matches(wanted, by_folded, n=1, cutoff=0.88)
    if not found and len(wanted) > 3:
        found = [candidate for candidate in by_folded if wanted in candidate]
    found = found or get_close_matches(wanted, by_folded, n=1, cutoff=0.65)
    return by_folded[found[0]] if found else None


def tag_at(text: str, position: int) -> int:
    """Tell how long the tag in parentheses is that begins here, such as (0028,0010); nought when none does."""
    tag = text[position : position + 11]
    return 11 if len(tag) == 11 and tag[0] == "(" and tag[10] == ")" and _plain_tag(tag[1:10]) else 0


def tag_or_keyword(text: str) -> str | None:
    """Give the 8 hexadecimal digits of a tag or a keyword, None when it is neither."""
    entry = _PUBLIC.get(text.casefold())
    return entry.tag if entry else _plain_tag(text)


class _Part(NamedTuple):
    """A part of a name between dots. text: without quotes."""

    text: str
    position: int
    length: int
    quoted: bool = False


def _split(name: str, position: int) -> list[_Part]:
    parts: list[_Part] = []
    start = at = 0
    while True:
        quoted = name[at : at + 1] == '"'
        if quoted:
            text, at = unquoted(name, at, position)
            if name[at : at + 1] not in ("", ".", "/"):
                raise QuerySyntaxError(gettext("After a quoted creator comes a dot"), position + at, expected=gettext(". and the name of an element"))
        while at < len(name) and name[at] not in "./":
            at = _behind_creator(name, at) if name[at] == "[" and is_creator_bracket(name, start, at) else at + 1
        written = name[start:at]
        parts.append(_Part(text if quoted else written, position + start, len(written), quoted))
        if not parts[-1].text:
            raise QuerySyntaxError(gettext("A part of the name is empty"), position + start, expected=_expected())
        if at == len(name):
            return parts
        start = at = at + 1


def _behind_creator(name: str, at: int) -> int:
    end = name.find("]", at)
    return len(name) if end < 0 else end + 1


def is_creator_bracket(text: str, start: int, at: int) -> bool:
    """Say whether a bracket at ``at`` opens a private creator in the part of a name that begins at ``start``."""
    return at - start == 4 and _HEX.issuperset(text[start:at])


def unquoted(text: str, at: int, position: int = 0) -> tuple[str, int]:
    r"""Read the quoted text that begins at ``at``; give it and where it ends.

    A backslash takes the next character literally; ``\n``, ``\r``, ``\t``, ``\f`` and ``\xHH`` are control characters.
    position: where ``text`` begins in the query. Raises QuerySyntaxError.
    """
    characters: list[str] = []
    start, at = at, at + 1
    while at < len(text):
        character = text[at]
        if character == '"':
            return "".join(characters), at + 1
        if character == "\\":
            character, at = escaped(text, at, position)
        else:
            at = at + 1
        characters.append(character)
    raise QuerySyntaxError(gettext("This quotation mark is never closed"), position + start, 1, expected=gettext('a closing "'))


_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def escaped(text: str, at: int, position: int = 0) -> tuple[str, int]:
    r"""Read the escape whose backslash is at ``at``; give the character and where the escape ends. Raises QuerySyntaxError."""
    following = text[at + 1 : at + 2]
    if following in _CONTROLS:
        return _CONTROLS[following], at + 2
    if following == "x":
        digits = text[at + 2 : at + 4]
        code = int(digits, 16) if len(digits) == 2 and _HEX.issuperset(digits) else 0
        if 0 < code < 0x20 or 0x7F <= code < 0xA0:
            return chr(code), at + 4
    elif following and not following.isalnum() and following.isprintable():
        return following, at + 2
    message = gettext("A backslash stands before what it takes literally; the values of an element are asked for one by one")
    expected = gettext(r"\" \\ \* \? or another sign, \n \r \t \f, or a control character such as \x1b")
    raise QuerySyntaxError(message, position + at, 1, expected=expected)


def _segment(part: _Part) -> str | None:
    text = part.text
    entry = _PUBLIC.get(text.casefold())
    if entry:
        return entry.tag
    inner = text[1:-1] if text[0] == "(" and text[-1] == ")" else text
    tag = _plain_tag(inner)
    if tag:
        if int(tag[:4], 16) % 2 and tag[4] != "0":
            message = gettext("A private element is named by its creator, because its block differs from file to file")
            raise QuerySyntaxError(message, part.position, part.length, expected=gettext("such as %(name)s", name=f"{tag[:4]}[CREATOR]{tag[6:]}"))
        return tag
    if is_creator_bracket(text, 0, text.find("[")):
        return _bracketed(part)
    return None


def _plain_tag(text: str) -> str | None:
    digits = text[:4] + text[5:] if len(text) == 9 and text[4] == "," else text
    return digits.upper() if len(digits) == 8 and _HEX.issuperset(digits) else None


def _bracketed(part: _Part) -> str:
    group, _, rest = part.text.partition("[")
    creator, closed, element = rest.rpartition("]")
    if not closed or len(element) != 2 or not _HEX.issuperset(element) or "[" in creator or "]" in creator:
        message = gettext("%(name)s is no private element", name=shown(part.text))
        raise QuerySyntaxError(message, part.position, part.length, expected=gettext("group, creator and element, such as 0019[GEMS_ACQU_01]02"))
    if not int(group, 16) % 2:
        raise QuerySyntaxError(gettext("Groups of private elements have an odd number"), part.position, 4, expected=gettext("an odd group"))
    return f"{group.upper()}[{_canonical_creator(creator)}]{element.upper()}"


def _private_segment(found: tuple[str, ...], part: _Part, suggest: bool) -> str:
    elements: dict[str, set[str]] = {}
    names: list[str] = []
    for creator in found:
        for name, segments in private_elements(creator).items():
            names.append(name)
            elements.setdefault(name.casefold(), set()).update(segments)
    segments_ = sorted(elements.get(normalised(part.text), ()))
    if not segments_:
        suggestion = nearest(part.text, names) if suggest else None
        message = gettext("%(creator)s has no element %(name)s", creator=found[0], name=shown(part.text))
        raise QuerySyntaxError(message, part.position, part.length, expected=gettext("a name of its private dictionary"), suggestion=suggestion)
    if len(segments_) > 1:
        message = gettext("%(creator)s has %(n)s elements %(name)s", creator=found[0], n=len(segments_), name=shown(part.text))
        raise QuerySyntaxError(message, part.position, part.length, expected=gettext("a tag such as %(tags)s", tags=" / ".join(segments_[:3])))
    return segments_[0]


def _unknown(part: _Part, suggest: bool) -> QuerySyntaxError:
    if part.quoted:
        message = gettext("No private creator %(name)s is known", name=shown(part.text))
        return QuerySyntaxError(message, part.position, part.length, expected=gettext("a creator of the private dictionary, or a tag such as 0019[CREATOR]02"))
    suggestion = nearest(part.text, [*META_NAMES, *COMMON, *keywords()]) if suggest else None
    message = gettext("%(name)s is no element that is known", name=shown(part.text))
    return QuerySyntaxError(message, part.position, part.length, expected=_expected(), suggestion=suggestion)


@lru_cache(maxsize=4096)
def _dictionary_entry(segment: str) -> tuple[str, str]:
    """Give keyword and VR of one segment of a path."""
    if _plain_tag(segment):
        tag = int(segment, 16)
        group, element = tag >> 16, tag & 0xFFFF
        if group % 2:
            return "", "LO" if 0x10 <= element <= 0xFF else "UN"
        if not element:
            return _PUBLIC_KEYWORDS.get(segment, ""), "UL"
        try:
            vr, _, _, _, keyword = get_entry(tag)
        except KeyError:
            return "", "UN"
        return keyword, _one_vr(vr)
    creator = segment[5:].rpartition("]")[0]
    return _private_entries(_unescaped(creator)).get(segment, ("", "UN"))


_PUBLIC_KEYWORDS = {entry.tag: entry.keyword for entry in _PUBLIC.values()}


def _one_vr(vr: str) -> str:
    """Choose where the dictionary leaves a choice: US and SS compare alike, OB and OW too."""
    return vr[:2] if vr[:2].isalpha() and vr != "NONE" else "UN"


def _segment_name(segment: str, nested: bool) -> str:
    keyword = _PUBLIC_KEYWORDS.get(segment, "")
    if keyword and (nested or keyword.casefold() not in META_NAMES):
        return keyword
    # What a path keeps and a query may not have.
    return "".join(f"%{ord(c):02X}" if 0x7F <= ord(c) < 0xA0 else c for c in segment)


def _camel_case(name: str) -> str:
    words = "".join(character if character.isalnum() else " " for character in name).split()
    joined = "".join(word[:1].upper() + word[1:] for word in words)
    return "" if joined == "Unknown" or not joined.isascii() else joined


def _escaped(creator: str) -> str:
    return "".join(f"%{ord(c):02X}" if c in "%/[]" or ord(c) < 0x20 else c for c in creator[:_CREATOR_CHARACTERS])


def _unescaped(creator: str) -> str:
    parts = creator.split("%")
    for index in range(1, len(parts)):
        code = parts[index][:2]
        parts[index] = chr(int(code, 16)) + parts[index][2:] if len(code) == 2 and _HEX.issuperset(code) else "%" + parts[index]
    return "".join(parts)



def _expected() -> str:
    text = N_("a keyword such as PatientID, a tag such as 00280010, a private element such as 0019[CREATOR]02, or %(names)s; a text with a colon stands in quotes")
    return gettext(text, names=", ".join(META_NAMES))

def _canonical_creator(creator: str) -> str:
    """Give a creator as it stands in paths, whether it was written as there or plainly."""
    return _escaped(_unescaped(creator))
