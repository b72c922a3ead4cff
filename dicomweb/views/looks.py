"""What one browser chose of theme, density, dates and language, as its cookie says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dicomweb.languages import N_, chosen_language, languages, speaking

# Read and written by the button for light and dark too (frontend/src/app.js).
LOOK_COOKIE = "dicomweb_look"
LOOK_SECONDS = 365 * 86400

# Name -> what it is, and value -> what it means; the first value is the usual one.
CHOICES: dict[str, tuple[str, dict[str, str]]] = {
    "theme": (N_("Theme"), {"system": N_("As the system says"), "light": N_("Light"), "dark": N_("Dark")}),
    "density": (N_("Density"), {"normal": N_("Normal"), "compact": N_("Compact: more rows on a screen")}),
    "dates": (
        N_("Dates and times"),
        {"iso": "2026-03-31 17:05", "eu": "31.03.2026 17:05", "us": "03/31/2026 5:05 PM", "utc": "2026-03-31 15:05 UTC"},
    ),
    "language": (N_("Language"), {"browser": N_("As the browser says"), **languages()}),
}
# These are for programs, which understand English.
PROGRAM_PATHS = ("/api/", "/dicom-web/")


class Look(NamedTuple):
    """What was chosen; each one of CHOICES."""

    theme: str
    density: str
    dates: str
    language: str


def look_of(request: Any) -> Look:
    """Read the choices of a browser; whatever is none is the usual one."""
    return _look(request.cookies.get(LOOK_COOKIE, "").split("."))


def language_of(request: Any) -> str:
    """Tell the language of a page: the chosen one, else the first there is of those the browser asks for, else English."""
    accepted = [language for language, _ in request.accept_language.parsed or ()]
    return chosen_language(look_of(request).language, accepted)


def language_tween(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Make pages in the language of their reader."""

    def tween(request: Any) -> Any:
        if request.environ.get("PATH_INFO", "").startswith(PROGRAM_PATHS):
            return handler(request)
        with speaking(language_of(request)):
            return handler(request)

    return tween


def written(chosen: Mapping[str, str]) -> str:
    """Write choices for the cookie."""
    return ".".join(_look([chosen.get(name, "") for name in CHOICES]))


def _look(parts: list[str]) -> Look:
    given = dict(zip(CHOICES, parts, strict=False))
    return Look(*(given[name] if given.get(name) in answers else next(iter(answers)) for name, (_, answers) in CHOICES.items()))
