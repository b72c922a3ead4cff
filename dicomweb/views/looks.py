"""What one browser chose of theme, density and dates, as its cookie says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# Read and written by the button for light and dark too (frontend/src/app.js).
LOOK_COOKIE = "dicomweb_look"
LOOK_SECONDS = 365 * 86400

# Name -> what it is, and value -> what it means; the first value is the usual one.
CHOICES: dict[str, tuple[str, dict[str, str]]] = {
    "theme": ("Theme", {"system": "As the system says", "light": "Light", "dark": "Dark"}),
    "density": ("Density", {"normal": "Normal", "compact": "Compact: more rows on a screen"}),
    "dates": (
        "Dates and times",
        {"iso": "2026-03-31 17:05", "eu": "31.03.2026 17:05", "us": "03/31/2026 5:05 PM", "utc": "2026-03-31 15:05 UTC"},
    ),
}


class Look(NamedTuple):
    """What was chosen; each one of CHOICES."""

    theme: str
    density: str
    dates: str


def look_of(request: Any) -> Look:
    """Read the choices of a browser; whatever is none is the usual one."""
    return _look(request.cookies.get(LOOK_COOKIE, "").split("."))


def written(chosen: Mapping[str, str]) -> str:
    """Write choices for the cookie."""
    return ".".join(_look([chosen.get(name, "") for name in CHOICES]))


def _look(parts: list[str]) -> Look:
    given = dict(zip(CHOICES, parts, strict=False))
    return Look(*(given[name] if given.get(name) in answers else next(iter(answers)) for name, (_, answers) in CHOICES.items()))
