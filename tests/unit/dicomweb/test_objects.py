"""Objects that are no images, read from headers that say what they should, too little, too much, or nonsense."""

from __future__ import annotations

import math
import re
import struct
from typing import Any
from xml.etree import ElementTree

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomweb import objects
from dicomweb.objects import reports, waveforms


def header_of(path: Any) -> dict[str, Any]:
    return pydicom.dcmread(path, force=True).to_json_dict(suppress_invalid_tags=True)


def named(files: Any, name: str) -> Any:
    return next(path for path in files if path.name == name)


def element(*values: Any, vr: str = "LO") -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def item(name: str, kind: str = "TEXT", **elements: Any) -> dict[str, Any]:
    concept = {"00080104": element(name)}
    return {"0040A040": element(kind), "0040A043": element(concept, vr="SQ"), **elements}


@pytest.mark.usefixtures("silent_pydicom")
class TestRealFiles:
    def test_a_report_is_a_tree(self, pydicom_files: Any) -> None:
        header = header_of(named(pydicom_files, "test-SR.dcm"))
        assert objects.kind_of(header) == "report"
        report = objects.read_report(header)
        assert report.title == "Diagnosis"
        assert ("Verification", "VERIFIED") in report.facts
        section = next(one for one in report.root.items if one.kind == "CONTAINER")
        text, diameter = section.items[:2]
        assert (text.name, text.value, [one.value for one in text.items]) == ("Text Code", "A mass of", ["Sample Code 1", "Sample Code 2"])
        assert (diameter.name, diameter.value) == ("Diameter", "3 cm")
        pictures = [one for one in report.root.items if one.kind == "IMAGE"]
        assert pictures
        assert all(one.instance for one in pictures)

    def test_structures_are_listed(self, pydicom_files: Any) -> None:
        header = header_of(named(pydicom_files, "rtstruct.dcm"))
        assert objects.kind_of(header) == "structures"
        found = objects.read_structures(header)
        assert [(row.number, row.name, row.kind, row.colour) for row in found.rows][:2] == [
            ("1", "patient", "external", (220, 160, 120)), ("2", "Isocenter 1", "isocenter", (255, 64, 255)),
        ]  # fmt: skip
        assert (found.rows[0].contours, found.rows[0].points, found.rows[0].volume) == (3, 17, 49200.0)
        assert len(found.series) == 1

    def test_a_plan_has_its_beams(self, pydicom_files: Any) -> None:
        header = header_of(named(pydicom_files, "rtplan.dcm"))
        assert objects.kind_of(header) == "plan"
        tables = {title: rows for title, _, rows in objects.read_plan(header).tables}
        assert tables["Beams"] == [("1", "Field 1", "static", "photon", "6 MeV", "0°", "2", "unit001")]
        assert tables["Prescriptions"][1][4] == "30.826203 Gy"

    def test_an_ecg_is_drawn_on_paper(self, pydicom_files: Any) -> None:
        path = named(pydicom_files, "waveform_ecg.dcm")
        header = header_of(path)
        assert objects.kind_of(header) == "waveform"
        rhythm, median = objects.read_waveforms(header)
        assert (rhythm.title, len(rhythm.channels), rhythm.seconds, median.seconds) == ("RHYTHM", 12, 10.0, 1.2)
        samples = pydicom.dcmread(path).WaveformSequence[0].WaveformData
        picture = ElementTree.fromstring(objects.draw(rhythm, samples))
        curves = [one.attrib["d"] for one in picture.iter("{http://www.w3.org/2000/svg}path")][-12:]
        names = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
        assert names[:3] == ["Lead I (Einthoven)", "Lead II", "Lead III"]
        # Ten seconds at 25 mm a second, and lead III is what lead II is more than lead I (Einthoven).
        ends = [[tuple(map(float, pair.split())) for pair in re.split("[ML]", curve)[1:]] for curve in curves]
        assert ends[0][-1][0] == pytest.approx(252, abs=1)
        heights = [[12 + 24 * at - y for _, y in curve] for at, curve in enumerate(ends)]
        middle = [sum(curve) / len(curve) for curve in heights]
        assert middle[2] == pytest.approx(middle[1] - middle[0], abs=0.5)


def test_what_it_is_goes_by_what_it_holds() -> None:
    classes = {
        "1.2.840.10008.5.1.4.1.1.88.59": "report", "1.2.840.10008.5.1.4.1.1.104.1": "document", "1.2.840.10008.5.1.4.1.1.11.1": "state",
        "1.2.840.10008.5.1.4.1.1.481.8": "plan", "1.2.840.10008.5.1.4.1.1.66": "", "": "",
    }  # fmt: skip
    assert {uid: objects.kind_of({"00080016": element(uid)}) for uid in classes} == classes


def test_a_presentation_state_is_said_in_words() -> None:
    image = {"00081150": element("1.2.840.10008.5.1.4.1.1.2"), "00081155": element("1.2.3")}
    text = {"00700006": element("look here")}
    state = objects.read_state(
        {
            "00700080": element("LUNG"), "00700084": element({"Alphabetic": "Roe^Jane"}), "00081115": element({"00081140": element(image)}),
            "00283110": element({"00281050": element(-600), "00281051": element(1500)}), "00700042": element(90), "00700041": element("Y"),
            "20500020": element("INVERSE"), "00700001": element({"00700008": element(text), "00700009": element({"00700023": element("POLYLINE")})}),
        }
    )  # fmt: skip
    assert (state.title, state.facts, state.texts, state.instances) == ("LUNG", [("Made by", "Roe^Jane")], ["look here"], [("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
    assert state.lines == ["Window of width 1500 around -600.", "Turned by 90°.", "Mirrored left and right.", "Inverted.", "Drawn into the images: 1 × polyline."]


def test_a_very_long_and_a_very_deep_report_are_cut_and_say_so() -> None:
    long = item("Report", "CONTAINER", **{"0040A730": element(*(item(f"line {number}") for number in range(reports.MOST_ITEMS + 5)))})
    found = objects.read_report(long)
    assert len(found.root.items) + found.left_out == reports.MOST_ITEMS + 5
    assert found.left_out == 6
    deep: dict[str, Any] = item("inner")
    for _ in range(200):
        deep = item("outer", "CONTAINER", **{"0040A730": element(deep)})
    assert objects.read_report(deep).left_out == 1


def group(samples: int = 100, channels: int = 1, rate: float = 100, kind: str = "SS", **elements: Any) -> dict[str, Any]:
    definitions = [{"003A0203": element(f"<c{number}>"), "003A0211": element({"00080100": element("mV")})} for number in range(channels)]
    made = {
        "003A0005": element(channels), "003A0010": element(samples), "003A001A": element(rate), "54001006": element(kind),
        "003A0200": element(*definitions), **elements,
    }  # fmt: skip
    return {"54000100": element(made)}


def test_a_millivolt_is_ten_millimetres_and_a_second_twenty_five() -> None:
    (waveform,) = objects.read_waveforms(group(samples=400, kind="SS"))
    svg = objects.draw(waveform, struct.pack("<400h", *([0] * 200 + [1] * 200)))
    curve = re.findall(r'd="(M[^"]+)" stroke="#1a1a2e"', svg)[0]
    points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", curve)[1:]]
    assert points[0][1] - points[-1][1] == pytest.approx(10)
    assert points[-1][0] - points[0][0] == pytest.approx(100, abs=0.1)
    assert "&lt;c0&gt;" in svg


def test_a_picture_is_bounded_whatever_was_recorded() -> None:
    (waveform,) = objects.read_waveforms(group(samples=10_000_000, rate=1000))
    svg = objects.draw(waveform, bytes(2 * 200_000))
    assert waveform.shown_seconds == waveforms.SECONDS
    assert len(svg) < 200_000


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (group(kind="MB"), bytes(1000)), (group(rate=0), bytes(1000)), (group(samples=0), bytes(1000)), (group(), b""), (group(channels=0), bytes(1000)),
        (group(rate=math.nan), bytes(1000)),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_says_why(header: dict[str, Any], data: bytes) -> None:
    (waveform,) = objects.read_waveforms(header)
    with pytest.raises(objects.CannotDraw, match=r"\.$"):
        objects.draw(waveform, data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["CONTAINER", "NUM", "SCOORD", "IMAGE"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["Value", "vr", "Alphabetic", "0040A730", "0040A040", "0040A043", "00080104", "30060022", "30060040", "3006002A", "003A0200", "003A0005", "00700008", "300A0111"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["0040A730", "0040A040", "0040A300", "30060020", "30060039", "30060080", "54000100", "300A00B0", "00700001", "00081115", "00283110", "00420010"]), anything, max_size=5))
def test_no_header_breaks_a_reader(header: dict[str, Any]) -> None:
    objects.kind_of(header)
    for read in (objects.read_report, objects.read_document, objects.read_structures, objects.read_plan, objects.read_state):
        assert isinstance(read(header).title, str)
    for waveform in objects.read_waveforms(header):
        assert waveform.seconds >= 0
