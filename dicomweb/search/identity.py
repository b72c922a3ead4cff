"""Elements that commonly say who somebody is: what PS3.15 Annex E (table E.1-1, the basic profile) removes, replaces or cleans.

A part of that table: what is often there. That none of these is present does not make an image anonymous.
"""

from __future__ import annotations

from typing import NamedTuple

from dicomweb.languages import N_


class Identifying(NamedTuple):
    """An element that commonly carries identity. about: whom or what it tells about."""

    tag: str
    about: str


_ABOUT = {
    N_("Patient"): (
        "00100010 00100020 00100021 00100030 00100032 00100040 00100050 00101000 00101001 00101002 00101005 00101010 00101040 00101060 00101080 00101081"
        " 00101090 00102150 00102152 00102154 00102160 00102180 001021F0 00102297 00102299 00380300 00380400 00380500"
    ),
    N_("People"): (
        "00080090 00080092 00080094 00081048 00081050 00081060 00081070 00081072 00081049 00081062 00321032 00400006 0040A075 0040A123 00402010 00700084"
    ),
    N_("Place"): (
        "00080080 00080081 00081010 00081040 00321033 00181000 00181002 00181008 0018700A 00400241 00400242 00400243 00400001 00400010 00400011"
    ),
    N_("Visit and order"): "00080050 00200010 00380010 00380011 00400253 00401001 00402016 00402017 00321060 00321064 00400275",
    N_("Free text"): "001021B0 00104000 00204000 00184000 00400280 00402400 00081030 0008103E 00181030 00400254 00321070 00324000 00384000",
    N_("Copies and pictures"): "04000561 00880200 00420011",
}  # fmt: skip
IDENTIFYING = tuple(Identifying(tag, about) for about, tags in _ABOUT.items() for tag in tags.split())
# (0028,0301) BurnedInAnnotation, (0012,0062) PatientIdentityRemoved.
BURNED_IN, REMOVED = "00280301", "00120062"
# (0008,0060) Modality of images into whose pixels devices and people often write names.
OFTEN_WRITTEN_INTO = ("US", "IVUS", "SC", "OT", "ES", "XC", "GM")
