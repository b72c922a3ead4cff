"""Waveforms (PS3.3 C.10.9): what was recorded, and the curves as an SVG picture on paper as it is usual for an ECG.

A picture shows the beginning, and of many samples the smallest and largest of each pixel; so its size is bounded whatever the header says.
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import NamedTuple
from xml.sax.saxutils import escape

from dicomweb.languages import gettext
from dicomweb.objects.elements import Header, code, facts, item, items, number, text, whole

TAG = "54001010"
MOST_CHANNELS = 64
SECONDS = 30.0
# Of the sequence; a monitor writes a few.
MOST_GROUPS = 50
_TYPES = {"SB": "b", "UB": "B", "SS": "h", "US": "H", "SL": "i", "UL": "I"}
_BYTES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4}
# Millimetres of paper: 25 a second, 10 a millivolt (IEC 60601-2-25).
_OF_A_SECOND, _OF_A_MILLIVOLT = 25.0, 10.0
_HEIGHT, _MARGIN = 24.0, 2.0
_NARROWEST, _WIDEST = 100.0, 760.0
_PIXELS_OF_A_MM = 4.0
_MILLIVOLTS = {"uV": 0.001, "µV": 0.001, "mV": 1.0, "V": 1000.0}


class CannotDraw(Exception):
    """The curves cannot be drawn; the text says why."""


class Channel(NamedTuple):
    """unit: as the header writes it (UCUM). factor, baseline: (sample + baseline) * factor is the value in ``unit``."""

    name: str
    unit: str
    factor: float
    baseline: float


class Waveform(NamedTuple):
    """One multiplex group: channels that were sampled together. rate: in Hz. kind: of the samples, a key of array."""

    title: str
    facts: list[tuple[str, str]]
    channels: list[Channel]
    samples: int
    rate: float
    kind: str
    all_channels: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / self.rate if self.rate else 0.0

    @property
    def shown_seconds(self) -> float:
        """How much of it a picture shows."""
        return min(self.seconds, SECONDS)


def read_waveforms(header: Header) -> list[Waveform]:
    """Read which curves there are, without their samples."""
    return [_waveform(one, at) for at, one in enumerate(items(header, "54000100")[:MOST_GROUPS], 1)]


def _waveform(group: Header, at: int) -> Waveform:
    rate = number(group, "003A001A") or 0.0
    samples, channels = whole(group, "003A0010"), whole(group, "003A0005")
    definitions = items(group, "003A0200")[:MOST_CHANNELS]
    told = facts(group, {gettext("Origin"): "003A0004"})
    told.append((gettext("Channels"), str(channels)))
    if rate > 0:
        told += [(gettext("Sampled"), gettext("%(rate)s Hz", rate=f"{rate:g}")), (gettext("Length"), f"{samples / rate:g} s")]
    named = [_channel(one, number_) for number_, one in enumerate(definitions, 1)]
    return Waveform(
        text(group, "003A0020") or gettext("Group %(number)s", number=at), told, named, samples, rate if rate > 0 else 0.0, _TYPES.get(text(group, "54001006"), ""), channels,
    )  # fmt: skip


def _channel(definition: Header, at: int) -> Channel:
    sensitivity, correction = number(definition, "003A0210"), number(definition, "003A0212")
    unit = text(item(definition, "003A0211"), "00080100")
    factor = (1.0 if sensitivity is None else sensitivity) * (1.0 if correction is None else correction)
    return Channel(text(definition, "003A0203") or code(definition, "003A0208") or f"Channel {at}", unit, factor, number(definition, "003A0213") or 0.0)


def draw(waveform: Waveform, data: bytes) -> str:
    """Draw the curves of a group as SVG. data: its samples, little endian, the channels interleaved. Raises CannotDraw."""
    if not waveform.kind:
        raise CannotDraw(gettext("The samples are coded in a way that is not drawn here."))
    count = waveform.all_channels
    if not waveform.rate or not waveform.samples or not count or not waveform.channels:
        raise CannotDraw(gettext("The header does not say how the samples are to be read."))
    size = _BYTES[waveform.kind]
    shown = min(waveform.samples, int(SECONDS * waveform.rate) or 1, len(data) // (size * count))
    if shown < 2:
        raise CannotDraw(gettext("There are no samples."))
    samples = array(waveform.kind)
    samples.frombytes(data[: shown * count * size])
    if sys.byteorder == "big":
        samples.byteswap()
    seconds = shown / waveform.rate
    width = min(_WIDEST, max(_NARROWEST, seconds * _OF_A_SECOND))
    channels = waveform.channels[:count]
    height = _HEIGHT * len(channels)
    total = width + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:g} {height:g}" width="{total * _PIXELS_OF_A_MM:g}" height="{height * _PIXELS_OF_A_MM:g}">',
        f'<rect width="{total:g}" height="{height:g}" fill="#fff8f6"/>', *_paper(width, height, width / seconds),
    ]  # fmt: skip
    for at, channel in enumerate(channels):
        lines += _curve(channel, samples[at::count], _HEIGHT * at, width)
    return "".join((*lines, "</svg>"))


def _paper(width: float, height: float, of_a_second: float) -> list[str]:
    """Lines every 0.04 s and 1 mm, stronger ones every 0.2 s and 5 mm; fewer where they would be one grey."""
    small, large = of_a_second / 25, of_a_second / 5
    lines = []
    for step, colour, stroke in ((small, "#f6d5d0", 0.08), (large, "#eba9a0", 0.14)):
        if step < 0.5:
            continue
        across = "".join(f"M{_MARGIN + at * step:.2f} 0V{height:g}" for at in range(math.floor(width / step) + 1))
        down = "".join(f"M{_MARGIN:g} {at * (1 if step == small else 5):g}H{_MARGIN + width:g}" for at in range(math.floor(height / (1 if step == small else 5)) + 1))
        lines.append(f'<path d="{across}{down}" stroke="{colour}" stroke-width="{stroke}" fill="none"/>')
    return lines


def _curve(channel: Channel, samples: array[int], top: float, width: float) -> list[str]:
    columns = int(width * _PIXELS_OF_A_MM)
    step = max(1, len(samples) // columns)
    middle = top + _HEIGHT / 2
    scale, told = _scale(channel, samples)
    path: list[str] = []
    across = width / max(1, len(samples) - 1)
    for start in range(0, len(samples), step):
        part = samples[start : start + step]
        ends = (part[0],) if len(part) == 1 else (min(part), max(part))
        for value in ends:
            y = middle - min(_HEIGHT, max(-_HEIGHT, (value + channel.baseline) * scale))
            path.append(f"{_MARGIN + start * across:.2f} {y:.2f}")
    name = f"{channel.name}{f' ({told})' if told else ''}"
    return [
        f'<path d="M{"L".join(path)}" stroke="#1a1a2e" stroke-width="0.25" stroke-linejoin="round" fill="none"/>',
        f'<text x="{_MARGIN + 1:g}" y="{top + 4:g}" font-family="sans-serif" font-size="3.2" fill="#5b1a12">{escape("".join(filter(str.isprintable, name[:80])))}</text>',
    ]


def _scale(channel: Channel, samples: array[int]) -> tuple[float, str]:
    """Give mm of paper of one step of a sample, and what is said of it: voltages as they are usual, everything else as high as there is room."""
    millivolts = _MILLIVOLTS.get(channel.unit)
    if millivolts is not None and math.isfinite(channel.factor) and channel.factor:
        return channel.factor * millivolts * _OF_A_MILLIVOLT, ""
    largest = max(abs(min(samples) + channel.baseline), abs(max(samples) + channel.baseline)) or 1.0
    return (_HEIGHT / 2 - 1) / largest, f"up to {largest * abs(channel.factor):g} {channel.unit}".strip()
