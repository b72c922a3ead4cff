"""Brings the catalogues of the languages up to date with the sources: ``make words``.

Texts come from the Python sources of the application and the watcher (``gettext``, ``ngettext``, ``counted``, and ``N_`` for what is
said later), from the templates (``_``, ``counted``, ``trans``) and from the scripts of the front end (``words``, ``plural``). A
catalogue says in which files a text stands, and not in which lines, so that it changes only when texts do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from dicomweb.languages import DOMAIN, ENGLISH, catalogue, languages

PROJECT = Path(__file__).resolve().parents[1]
_METHODS = [
    ("dicomweb/templates/**.jinja2", "jinja2.ext:babel_extract"),
    ("dicomweb/**.py", "python"),
    ("watcher/**.py", "python"),
    ("frontend/src/**.js", "javascript"),
]
_OPTIONS = {"dicomweb/templates/**.jinja2": {"trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true", "silent": "false"}}
# The functions that are called with texts, and which of their arguments are one text with a number.
_PYTHON = {"_": None, "gettext": None, "N_": None, "ngettext": (1, 2), "counted": (1, 2), "pgettext": ((1, "c"), 2)}
_FOLDERS: dict[str, dict[str, Any]] = {"dicomweb": _PYTHON, "watcher": _PYTHON, "frontend/src": {"words": None, "plural": (1, 2)}}


def extracted() -> Catalog:
    """Collect all texts of the sources."""
    found = Catalog(domain=DOMAIN, project="DICOM Database", charset="utf-8")
    for folder, keywords in _FOLDERS.items():
        texts = extract_from_dir(
            PROJECT / folder,
            [(pattern.removeprefix(f"{folder}/"), method) for pattern, method in _METHODS if pattern.startswith(folder)],
            {pattern.removeprefix(f"{folder}/"): options for pattern, options in _OPTIONS.items()},
            keywords=keywords,
        )
        for name, _line, text, comments, context in texts:
            if text and not name.startswith("static/"):
                found.add(text, None, [(f"{folder}/{name}", 0)], auto_comments=comments, context=context)
    return found


def updated(language: str, texts: Catalog) -> Catalog:
    """Give the catalogue of a language with exactly the texts of the sources; what has no translation yet is empty."""
    path = catalogue(language)
    if path.exists():
        with path.open("rb") as file:
            known = read_po(file, locale=language, domain=DOMAIN)
    else:
        known = Catalog(locale=language, domain=DOMAIN, header_comment="# What the pages of DICOM Database say.", fuzzy=False)
    known.update(texts, no_fuzzy_matching=True, update_creation_date=False)
    known.obsolete.clear()
    return known


def write(language: str, texts: Catalog) -> int:
    """Write the catalogue of a language, and tell how many texts have no translation yet."""
    path = catalogue(language)
    made = updated(language, texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, made, width=140, sort_output=True, include_lineno=False)
    return sum(not _is_said(message.string) for message in made if message.id)


def _is_said(text: str | tuple[str, ...] | list[str] | None) -> bool:
    return all(text) if isinstance(text, (tuple, list)) else bool(text)


def main(wanted: list[str]) -> None:
    """Update the catalogues there are, and begin those of the languages that are named."""
    texts = extracted()
    for language in sorted({*languages(), *wanted} - {ENGLISH}):
        missing = write(language, texts)
        sys.stdout.write(f"{catalogue(language).relative_to(PROJECT)}: {len(texts)} texts, {missing} without a translation\n")


if __name__ == "__main__":
    main(sys.argv[1:])
