"""What kind of object an instance is, by its SOP class and by what it holds."""

from __future__ import annotations

from pydicom.config import IGNORE
from pydicom.uid import UID

from dicomweb.objects.elements import Header, text

_CLASSES = "1.2.840.10008.5.1.4.1.1."
_STRUCTURES, _PLANS = _CLASSES + "481.3", (_CLASSES + "481.5", _CLASSES + "481.8")


def kind_of(header: Header) -> str:
    """Name the kind of an object: report, document, waveform, structures, plan, state, or nothing."""
    sop_class = text(header, "00080016")
    if "0040A730" in header or sop_class.startswith(_CLASSES + "88."):
        return "report"
    if sop_class.startswith(_CLASSES + "104.") or "00420011" in header:
        return "document"
    if "54000100" in header:
        return "waveform"
    if sop_class == _STRUCTURES or "30060020" in header:
        return "structures"
    if sop_class in _PLANS:
        return "plan"
    if sop_class.startswith(_CLASSES + "11."):
        return "state"
    return ""


def class_name(uid: str) -> str:
    """Name a SOP class as the Standard does; an unknown one by its UID."""
    # Of what is no UID pydicom would write the value into the log.
    return UID(uid, validation_mode=IGNORE).name if uid else ""
