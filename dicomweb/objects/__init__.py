"""Objects that are no images, read from their headers for people: reports, documents, waveforms, structures, plans, presentation states.

Everything here is pure: a header as DICOM JSON (PS3.18 Annex F) becomes plain values that a page writes down. Values are hostile and there may be any number of
them, so each reader has a bound and says what it left out::

    kind_of(header)   # "report", "document", "waveform", "structures", "plan", "state", or "" for everything else
"""

from dicomweb.objects.contours import Drawing, Drawn, read_contours, read_drawn
from dicomweb.objects.documents import Document, read_document
from dicomweb.objects.kinds import class_name, kind_of
from dicomweb.objects.plans import Plan, read_plan
from dicomweb.objects.reports import Report, read_report
from dicomweb.objects.states import State, read_state
from dicomweb.objects.structures import Structures, read_structures
from dicomweb.objects.waveforms import CannotDraw, Waveform, draw, read_waveforms

__all__ = [
    "CannotDraw", "Document", "Drawing", "Drawn", "Plan", "Report", "State", "Structures", "Waveform", "class_name", "draw", "kind_of", "read_contours",
    "read_document", "read_drawn", "read_plan", "read_report", "read_state", "read_structures", "read_waveforms",
]  # fmt: skip
