"""Every text that pages show goes through gettext, and every catalogue has it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment

TEMPLATES = sorted((Path(__file__).parents[3] / "dicomweb" / "templates").glob("*.jinja2"))
# Names, abbreviations of the Standard, units, and what is typed: the same in every language.
SAME_EVERYWHERE = {"DICOM", "Database", "ID", "UID", "VR", "API", "ms", "B", "kB", "OHIF", "URL"}
# What is typed, and keys by the names that aria-keyshortcuts has for them.
TYPED = {"Modality:CT SliceThickness:<=1.5", "Delete", "Space"}
SHOWN_ATTRIBUTES = {"aria-label", "title", "placeholder", "alt"}
# A literal of a template that is shown, and no name, address or class: it begins like a sentence or has several words.
_SENTENCE = re.compile(r"[A-Z(][a-z]+\b|.*[A-Za-z]{2,} [a-z]{2,}")
_NO_SENTENCE = re.compile(r"^[ .#/?&]|[=<>/:]|^(btn|text|badge|status|step|page)\b|^(GET|POST|SQLite|PostgreSQL|OHIF|DICOM.*)$")


class Bare(HTMLParser):
    """Texts and attributes of a page, with what templates put in already taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.typed = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.typed += tag in ("code", "pre", "script", "kbd")
        self.found += [value for name, value in attrs if name in SHOWN_ATTRIBUTES and value and value not in TYPED and _has_words(value)]

    def handle_endtag(self, tag: str) -> None:
        self.typed -= tag in ("code", "pre", "script", "kbd")

    def handle_data(self, data: str) -> None:
        if not self.typed and _has_words(data):
            self.found.append(data.strip())


def _has_words(text: str) -> bool:
    return any(word not in SAME_EVERYWHERE for word in re.findall(r"[A-Za-z]+", text))


def _parts(path: Path) -> tuple[str, list[str]]:
    """Give the HTML of a template without what stands in trans blocks and expressions, and the literals that are not wrapped."""
    environment = Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    html, literals, within, before = [], [], False, []
    for _, kind, value in environment.lex(path.read_text("utf-8")):
        if kind == "data":
            html.append("" if within else value)
        elif kind == "variable_begin":
            html.append(" ")
        elif kind == "name" and value in ("trans", "endtrans") and before[-1:] == ["{%"]:
            within = value == "trans"
        elif kind == "string" and _SENTENCE.match(text := value[1:-1]) and not _NO_SENTENCE.search(text):
            counts = "counted" in before[-6:]
            compared = before[-1:] in (["=="], ["!="], ["import"], ["extends"], ["include"])
            if not compared and text not in TYPED and before[-2:] != ["_", "("] and not counts:
                literals.append(text)
        if kind != "whitespace":
            before.append(value.rstrip("-+ ") if kind.endswith("begin") else value)
    return "".join(html), literals


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_text_of_a_template_goes_through_gettext(path: Path) -> None:
    html, literals = _parts(path)
    bare = Bare()
    bare.feed(html)

    assert bare.found + literals == []
