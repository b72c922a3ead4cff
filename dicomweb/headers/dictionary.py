"""The VR of an element whose encoding does not tell it, by pydicom's dictionaries; and the names of private blocks in paths."""

from pydicom.datadict import dictionary_keyword, dictionary_VR, private_dictionary_VR

# Both are cut: a creator is at most 64 characters (PS3.5 6.2), and a path is part of every element below it.
CREATOR_CHARACTERS = 64
ESCAPED = str.maketrans({c: f"%{ord(c):02X}" for c in "%/[]" + "".join(map(chr, range(32)))})

PIXEL_DATA = 0x7FE00010
LUT_DATA = 0x00283006


def vr_of(tag: int, creator: str, signed: bool, length: int) -> str:
    """Return the VR of ``tag`` as pydicom would find it: 'UN' when no dictionary knows it.

    Where the dictionary leaves a choice, PS3.5 A.1 decides: other data is OW in implicit VR, and pixel-like values are SS
    where PixelRepresentation says so, US else.
    """
    if tag >> 16 & 1:
        vr = _private_vr(tag, creator)
    elif not tag & 0xFFFF:
        vr = "UL"
    else:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "UN"
    if len(vr) == 2:
        return vr
    if vr == "US or SS":
        return "SS" if signed else "US"
    if tag == LUT_DATA and length == 2:
        return "US"  # One entry: LUTDescriptor says so too, PS3.3 C.11.1.1.1.
    return "OW" if vr.endswith("OW") else "UN"


def _private_vr(tag: int, creator: str) -> str:
    if is_private_creator(tag):
        return "LO"
    if not creator or not tag & 0xFF00:
        return "UN"
    try:
        return private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"


def is_private_creator(tag: int) -> bool:
    """Say whether the element names the owner of a block of private elements, PS3.5 7.8.1."""
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def path_of(tag: int, creator: str) -> str:
    """Return the path of an element in its dataset: '00080060', or '0019[GEMS_ACQU_01]02' for one of a private block.

    The block number is a matter of one file, so the creator takes its place; '%', '/', '[', ']' and control characters of
    a creator are percent-encoded. A private element without creator is '0019[]02'.
    """
    if tag >> 16 & 1 and tag & 0xFFFF >= 0x1000:
        return f"{tag >> 16:04X}[{creator[:CREATOR_CHARACTERS].translate(ESCAPED)}]{tag & 0xFF:02X}"
    return f"{tag:08X}"


def name_of(tag: int) -> str:
    """Return '(0010,0010) PatientName', as it is told to people."""
    try:
        keyword = f" {dictionary_keyword(tag)}"
    except KeyError:
        keyword = ""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}){keyword}"
