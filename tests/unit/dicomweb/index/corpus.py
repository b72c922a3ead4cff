"""Generated headers: studies of CT, MR, DX, CR and US about as large and as varied as real ones, the same for the same number.

``images(number)`` gives the images of one study. With ``odd`` a share of its series has images that lack many elements, or
differ in some; with ``hard`` headers also hold what real archives hold and nobody expects: values of several VRs, numbers
that are none, every script, characters that mean something to SQL, JSON and patterns, and texts of many thousand characters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

import orjson

from dicomweb.index import Member

CT_AND_MR = {"CT": 50, "MR": 42, "DX": 8}
RADIOGRAPHS = {"DX": 55, "CR": 45}
MIXED = {"CT": 20, "MR": 20, "DX": 25, "CR": 20, "US": 15}

# Level, path, VR, modalities (- for all) and the value; " | " separates alternatives, one of which is drawn for each study,
# series or image. What stands in braces comes from the context below.
_TABLE = """
study 00080005 CS - ISO_IR 100
study 00080020 DA - {date}
study 00080030 TM - {time}
study 00080050 SH - A{study:08d}
study 00080080 LO - Hospital {unit}
study 00080081 ST - Main Street {unit}, Town
study 00080090 PN - DR {surname}^{given}
study 00080201 SH - +0100
study 00081030 LO - {modality} {body} w/o contrast | {modality} {body} with contrast | {modality} {body} follow-up | {modality} {body}
study 00081032/00080100 SH - P{unit:02d}{modality}
study 00081032/00080102 SH - 99LOCAL
study 00081032/00080104 LO - {modality} examination of {body}
study 00081040 LO - Radiology
study 00081110/00081150 UI - 1.2.840.10008.3.1.2.3.1
study 00081110/00081155 UI - {uid}.1
study 00100010 PN - {name}
study 00100020 LO - PID{patient:07d}
study 00100030 DA - {birth}
study 00100040 CS - M | F | F | M | O
study 00101002/00100020 LO - ALT{patient:06d}
study 00101002/00100022 CS - TEXT
study 00101010 AS - {age:03d}Y
study 00101020 DS - {height:.2f}
study 00101030 DS - {weight:.1f}
study 00120062 CS - NO
study 0020000D UI - {uid}
study 00200010 SH - {study}
study 00321060 LO - {modality} {body}
study 00400244 DA - {date}
study 00400245 TM - {time}
study 00400253 SH - PPS{study}
study 00400254 LO - {modality} {body} protocol
study 00080060 CS - {modality}
study 00080016 UI - {sop_class}
study 00080070 LO - {manufacturer}
study 00081010 SH - {modality}{unit:02d}_OC0
study 00081090 LO - {manufacturer} {modality} 3000
study 00181000 LO - {serial}
study 00181020 LO - syngo VB{unit}
study 00020010 UI - 1.2.840.10008.1.2.1
study 00020012 UI - 1.3.6.1.4.1.5962.99.1
study 00020013 SH - SYN_1_0
study 00080014 UI - 1.3.6.1.4.1.5962.99.3
series 00080008 CS - ORIGINAL\\PRIMARY\\AXIAL
series 00080012 DA - {date}
series 00080021 DA - {date}
series 00080022 DA - {date}
series 00080023 DA - {date}
series 00080031 TM - {time}
series 0008103E LO - {body} Routine 5.0 B30f | {body} thin 1.0 B60f | Topogram | {body} ANGIO 0.75 | t1_tse_sag {body} | localizer | ToF_angio_3d
series 00081070 PN - {given}
series 00083010 UI - {uid}.8.{series}
series 00180015 CS - {body}
series 00181030 LO - {body}_routine
series 00185100 CS - HFS
series 0020000E UI - {uid}.{series}
series 00200011 IS - {series}
series 00200037 DS CT,MR,DX 1\\0\\0\\0\\1\\0
series 00200052 UI - {uid}.9
series 00201040 LO - SN
series 00280002 US - 1
series 00280004 CS - MONOCHROME2
series 00280010 US - 256 | 512 | 512 | 320
series 00280011 US - 256 | 512 | 512 | 320
series 00280030 DS - {spacing:.6f}\\{spacing:.6f}
series 00280100 US - 16
series 00280101 US - 12
series 00280102 US - 11
series 00280103 US - 0
series 00280301 CS - NO
series 00281052 DS CT,MR,DX -1024
series 00281053 DS CT,MR,DX 1
series 00281054 LO CT,MR,DX HU
series 00281055 LO - WINDOW1
series 00282110 CS - 00
series 00400275/00400007 LO - {modality} {body} SPS
series 00400275/00400008/00080100 SH - C{unit}
series 00400275/00400008/00080104 LO - {body} routine
series 00400275/00400009 SH - S{study}
series 00400275/00401001 SH - R{study}
series 0009[GEMS_IDEN_01]01 LO CT,MR,DX GE_GENESIS_FF
series 0009[GEMS_IDEN_01]02 SH CT,MR,DX {modality}{unit:02d}
series 0009[GEMS_IDEN_01]04 SH CT,MR,DX HiSpeed CT/i
series 0009[GEMS_IDEN_01]27 SL CT,MR,DX {serial}
series 0019[GEMS_ACQU_01]02 SL CT,MR,DX 912 | 888 | 736 | 640
series 0019[GEMS_ACQU_01]1E DS CT,MR,DX {spacing:.6f}
series 0019[GEMS_ACQU_01]23 DS CT,MR,DX {thickness}
series 0019[GEMS_ACQU_01]24 DS CT,MR,DX {height:.4f}
series 0043[GEMS_PARM_01]10 US CT,MR,DX {unit}
series 0043[GEMS_PARM_01]27 SH CT,MR,DX /1.0:1 | /1.5:1 | /2.0:1
series 00180010 LO - {none} | {none} | Iomeron 400 | Gadovist 1.0 | Omnipaque 350
series 00181040 LO - {none} | {none} | IV
series 001021B0 LT - {none} | {none} | {none} | {none} | {none} | allergy to gadovist reported | fall from bicycle
series 00180022 CS CT,MR HELICAL MODE | PFP
series 00180050 DS CT,MR {thickness}
series 00180060 DS CT,CR,DX 80 | 100 | 120 | 120 | 140
series 00180088 DS CT,MR {thickness}
series 00180090 DS CT 500
series 00181100 DS CT {weight:.4f}
series 00181110 DS CT 1085.6
series 00181111 DS CT 595
series 00181120 DS CT 0
series 00181130 DS CT {weight:.1f}
series 00181140 CS CT CW
series 00181160 SH CT LARGE BOWTIE
series 00181190 DS CT 1.2
series 00181210 SH CT B30f | B60f | STANDARD | BONE | LUNG | FC51
series 00180020 CS MR SE | GR | EP | IR
series 00180021 CS MR SK\\SP
series 00180023 CS MR 2D | 3D
series 00180024 SH MR *tse2d1_1 | *tse2d1_17
series 00180080 DS MR 450.0 | 550.0 | 4000.0 | 9000.0
series 00180081 DS MR 2.30 | 10.00 | 85.00
series 00180083 DS MR 1 | 2
series 00180084 DS MR 63.680000 | 123.250000
series 00180085 SH MR 1H
series 00180086 IS MR 1
series 00180087 DS MR 1.5 | 3
series 00180089 IS MR 230
series 00180091 IS MR 1 | 9 | 17
series 00180093 DS MR 100
series 00180094 DS MR 78.125
series 00180095 DS MR 130
series 00181310 US MR 0\\256\\230\\0
series 00181312 CS MR ROW
series 00181314 DS MR 15 | 90 | 120 | 180
series 00181401 LO CR Thorax | Extremity | Abdomen
series 00185101 CS CR,DX PA | AP | LL
series 00200062 CS CR L | R | U
series 00181063 DS US {height:.3f}
series 00281090 CS US NO
series 00282114 CS US ISO_10918_1
image 00020003 UI - {uid}.{series}.{image}
image 00080013 TM - {time}
image 00080018 UI - {uid}.{series}.{image}
image 00080032 TM - {time}
image 00080033 TM - {time}
image 00082112/00081150 UI CT,MR,DX 1.2.840.10008.5.1.4.1.1.2
image 00082112/00081155 UI CT,MR,DX {uid}.{series}.77.{image}
image 00189073 FD CT,MR,DX {exact!r}
image 00189345 FD CT {exact!r}
image 00181150 IS CT,CR,DX {exposure}
image 00181151 IS CT,DX {current}
image 00181152 IS CT,DX {current}
image 00181153 IS CR {exposure}
image 00181405 IS CR {current}
image 0019[GEMS_ACQU_01]03 DS CT,MR,DX {location:.4f}
image 0019[GEMS_ACQU_01]2C SL CT,MR,DX {turn}
image 0023[GEMS_STDY_01]70 FD CT,MR,DX {exact!r}
image 0027[GEMS_IMAG_01]41 FL CT,MR,DX {location:.6f}
image 0027[GEMS_IMAG_01]4A FL CT,MR,DX {location:.6f}
image 00200012 IS CT,MR,DX {turn}
image 00200013 IS - {image}
image 00200032 DS CT,MR,DX {x:.4f}\\{y:.4f}\\{location:.4f}
image 00201041 DS CT,MR,DX {location:.4f}
image 00280008 IS US {current}
image 00280106 US CT,MR,DX {smallest}
image 00280107 US CT,MR,DX {largest}
image 00281050 DS - 40 | 40 | 40 | 50 | 300
image 00281051 DS - 400
image 00186011/00186012 US US 1
image 00186011/00186018 UL US {smallest}
image 00186011/00186024 US US 3
image 00186011/0018602C FD US {exact!r}
"""

_SOP_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "US": "1.2.840.10008.5.1.4.1.1.6.1"}
_MANUFACTURERS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips", "FUJIFILM", "AGFA")
_SURNAMES = "SMITH JOHNSON MUELLER GARCIA BROWN MARTIN SCHMIDT ROSSI LEE WANG KIM SATO DUBOIS NOVAK SMITHSON SMIRNOV".split()
_GIVEN = "ANNA JOHN MARIA PETER PAUL LISA EVA TOM KARL INGRID HANS JULIA MARK SARA DAVID NINA".split()
_BODIES = "CHEST ABDOMEN HEAD NECK PELVIS SPINE KNEE HEART".split()

# One value each; of every kind that breaks something somewhere.
STRANGE_TEXTS = (
    "Müller", "MÜLLER", "müller", "Muller", "Straße 5", "STRASSE 5", "Łódź", "lodz", "Ångström", "İstanbul", "ISTANBUL",
    "山田^太郎", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ^タロウ", "김희중", "Люкceмбypг", "ЁЖИК", "ежик", "Διονυσιος", "ΔΙΟΝΎΣΙΟΣ", "שרון^דבורה", "قباني^لنزار",
    "100%", "100 percent", "a_b", "axb", "*tse*", "what?", "[abc]", "back\\slash", 'say "hi"', "it's", '["a","b"]', "{x}", "null", "NULL", "--",
    "tab\there", "line one\nline two", "a\x00b", "lone \ud800 surrogate", "last \U0010ffff point", "\x01mark", "😀 smile", "e\u0301", "\u00e9", " ",
    "x" * 5000, "x" * 4999 + "y", "Ü" * 4100, "ends\U0010ffff\U0010ffff" + "\U0010ffff" * 70,
)  # fmt: skip
STRANGE_NUMBERS = (
    "0", "-0", "1e5", "1E5", "100000", "1e400", "-1e-400", "4.9e-324", "1.7976931348623157e308", "nan", "inf", "12abc", "1_000", "٣", "+7", "007", ".5", "5.",
    "0.1", "0.30000000000000004", "123456789012345678", "9007199254740993", " 8 ",
)  # fmt: skip
STRANGE_DATES = ("20200229", "2020.02.29", "20201332", "20200101-20200201", "2020", "20200101")


class Generated(NamedTuple):
    """One image, and the UID that tells it from all others."""

    uid: str
    member: Member


def images(number: int, weights: dict[str, int], *, odd: float = 0.06, hard: bool = False, largest_series: int = 1200) -> Iterator[Generated]:
    """Give the images of the study with this number, in path order. Series ids are number * 10 and the next ones."""
    study = _Study(number, weights)
    for series in range(1, study.random.choice([1, 2, 3, 3, 4, 5]) + 1):
        yield from study.images_of_series(series, odd=odd, hard=hard, largest_series=largest_series)


def series_ids(numbers: range) -> list[int]:
    """Give all series ids that the studies with these numbers may use."""
    return [number * 10 + series for number in numbers for series in range(1, 6)]


class _Line(NamedTuple):
    level: str
    path: str
    vr: str
    modalities: frozenset[str]
    alternatives: tuple[str, ...]


def _lines() -> Iterator[_Line]:
    for line in _TABLE.strip().splitlines():
        level, rest = line.split(" ", 1)
        # A private creator has no spaces here, so the parts of a line are separated by one.
        path, vr, modalities, value = rest.split(" ", 3)
        yield _Line(level, path, vr, frozenset() if modalities == "-" else frozenset(modalities.split(",")), tuple(value.split(" | ")))


_LINES = tuple(_lines())
_VRS = {line.path: line.vr for line in _LINES}


class _Study:
    def __init__(self, number: int, weights: dict[str, int]) -> None:
        self.number = number
        self.random = random.Random(number * 7919 + 13)
        patient = self.random.randrange(200_000)
        of_patient = random.Random(patient)
        day = date(2015, 1, 1) + timedelta(days=self.random.randrange(3900))
        born = date(1930, 1, 1) + timedelta(days=of_patient.randrange(29000))
        self.modality = self.random.choices(list(weights), list(weights.values()))[0]
        self.second = self.random.randrange(25_000, 70_000)
        unit = self.random.randrange(12)
        self.context: dict[str, object] = {
            "study": number, "patient": patient, "modality": self.modality, "unit": unit, "serial": 40_000 + unit * 37,
            "uid": f"1.3.6.1.4.1.5962.99.2.{number}.{day:%Y%m%d}", "date": f"{day:%Y%m%d}", "birth": f"{born:%Y%m%d}",
            "age": (day - born).days // 365, "height": of_patient.uniform(1.5, 1.95), "weight": of_patient.gauss(76, 12),
            "name": f"{of_patient.choice(_SURNAMES)}^{of_patient.choice(_GIVEN)}", "surname": self.random.choice(_SURNAMES),
            "given": self.random.choice(_GIVEN), "body": self.random.choice(_BODIES), "manufacturer": _MANUFACTURERS[unit % 5],
            "sop_class": _SOP_CLASSES.get(self.modality, "1.2.840.10008.5.1.4.1.1.1.1"), "time": _time(self.second), "none": "\0",
        }  # fmt: skip
        self.elements = self._draw("study", self.random, self.context)

    def images_of_series(self, series: int, *, odd: float, hard: bool, largest_series: int) -> Iterator[Generated]:
        drawn = random.Random(self.random.randrange(1 << 30))
        start = self.second + 60 + series * 300
        context = self.context | {
            "series": series, "time": _time(start), "spacing": drawn.uniform(0.3, 0.98),
            "thickness": drawn.choice(["0.600000", "1.000000", "1.250000", "2.000000", "3.000000", "5.000000", "5"]),
        }  # fmt: skip
        common = self.elements | self._draw("series", drawn, context)
        usual = {"DX": drawn.choice([1, 1, 2]), "CR": 1, "US": drawn.choice([1, 2, 3, 5])}
        count = min(usual.get(self.modality) or max(12, int(drawn.lognormvariate(4.95, 0.55))), largest_series)
        strange = set(drawn.sample(range(count), min(count - 1, drawn.choice([1, 2, 5, 9])))) if drawn.random() < odd else set()
        second_item = drawn.random() < 0.1
        first, x, y = drawn.uniform(-400, 200), drawn.uniform(-250, -100), drawn.uniform(-250, -100)
        for image in range(1, count + 1):
            location = first + image * float(str(context["thickness"]))
            of_image = context | {
                "image": image, "time": _time(start + image * 0.53), "location": location, "x": x, "y": y, "turn": image // 32 + 1,
                "exact": drawn.uniform(0.2, 2), "exposure": 500 + image % 7, "current": 150 + abs(image * 7 % 40 - 20) * 4,
                "smallest": drawn.randrange(40), "largest": drawn.randrange(900, 4000),
            }  # fmt: skip
            elements = common | self._draw("image", drawn, of_image)
            if image in strange:
                elements = _made_odd(elements, drawn.randrange(3))
            found = [(path, _VRS[path], _split(_VRS[path], value)) for path, value in elements.items()]
            if second_item:
                found.append(("00400275/00400009", "SH", (f"S{self.number}b",)))
            found.append(("00400275", "SQ", ()))
            if hard:
                found += _strange_elements(drawn)
            yield Generated(str(of_image["uid"]) + f".{series}.{image}", _member(self.number * 10 + series, self.modality, found))

    def _draw(self, level: str, drawn: random.Random, context: dict[str, object]) -> dict[str, str]:
        found = {}
        for line in _LINES:
            if line.level == level and (not line.modalities or self.modality in line.modalities):
                value = drawn.choice(line.alternatives).format_map(context)
                if value != "\0":
                    found[line.path] = value
        return found


def _time(second: float) -> str:
    return f"{int(second) // 3600 % 24:02d}{int(second) // 60 % 60:02d}{second % 60:09.6f}"


def _split(vr: str, value: str) -> tuple[str, ...]:
    return (value,) if vr in ("LT", "ST", "UT") else tuple(value.split("\\"))


def _made_odd(elements: dict[str, str], how: int) -> dict[str, str]:
    if how == 0:
        return {path: value for path, value in elements.items() if path[:4] not in ("0018", "0043", "0009")}
    if how == 1:
        return {path: {"00080008": "DERIVED\\SECONDARY\\MPR", "00180050": "7.500000"}.get(path, value) for path, value in elements.items()}
    return {path: value for path, value in elements.items() if path != "00080070" and not path.startswith(("0027", "0023"))}


def _strange_elements(drawn: random.Random) -> list[tuple[str, str, tuple[str, ...]]]:
    def some(values: tuple[str, ...], most: int) -> tuple[str, ...]:
        return tuple(drawn.choice(values) for _ in range(drawn.randint(1, most)))

    found: list[tuple[str, str, tuple[str, ...]]] = []
    if drawn.random() < 0.8:
        found.append(("00204000", "LT", some(STRANGE_TEXTS, 1)))
    if drawn.random() < 0.7:
        found.append(("00281055", "LO", some((*STRANGE_TEXTS, ""), 3)))
    if drawn.random() < 0.6:
        found.append(("00181310", drawn.choice(["US", "US", "DS"]), some(("0", "64", "128", "256", ""), 4)))
    if drawn.random() < 0.6:
        found.append(("0019[ODD * CREATOR_%]10", drawn.choice(["DS", "DS", "UN", "LO", "IS"]), some((*STRANGE_NUMBERS, ""), 3)))
    if drawn.random() < 0.5:
        found.append(("00400275/00400004", drawn.choice(["DA", "DA", "DT", "LO"]), some(STRANGE_DATES, 2)))
    if drawn.random() < 0.3:
        found += [("00400275/00400005", vr, ("5",)) for vr in ("IS", "LO")]
    if drawn.random() < 0.3:
        found.append(("00081140", "SQ", ()))
    return found


def _member(series_id: int, modality: str, elements: list[tuple[str, str, tuple[str, ...]]]) -> Member:
    json: dict[str, bytes] = {}
    meta: dict[str, bytes] = {}
    for path, vr, values in elements:
        top = path if len(path) == 8 else path[:8]
        if not set(top) <= set("0123456789ABCDEF"):
            top = f"{path[:4]}10{path.rstrip()[-2:]}"
        shown = [value.encode("utf-8", "replace").decode() for value in values]
        (meta if top.startswith("0002") else json)[top] = orjson.dumps({"vr": vr, "Value": shown} if any(values) else {"vr": vr})
    json["7FE00010"] = orjson.dumps({"vr": "OW", "BulkDataURI": "\x017FE00010"})
    return Member(series_id, modality, elements, dict(sorted(json.items())), dict(sorted(meta.items())))
