"""Every text that pages show goes through gettext, and every catalogue has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages import Catalog
from babel.messages.pofile import read_po
from jinja2 import Environment

from dicomweb import languages
from dicomweb.catalogues import extracted
from dicomweb.views import formats

PROJECT = Path(__file__).parents[3]
TEMPLATES = sorted((PROJECT / "dicomweb" / "templates").glob("*.jinja2"))
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
            counts = "counted" in before[-6:] or "pgettext" in before[-4:]
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


# The packages whose sentences people read on pages, at once or from the database; presence tells whoever starts a second watcher.
SPEAKERS = sorted(path for folder in ("dicomweb/headers", "dicomweb/imports", "dicomweb/query", "dicomweb/search", "watcher") for path in (PROJECT / folder).glob("*.py") if path.stem != "presence")
_LOOKED_UP = {"gettext", "ngettext", "counted", "N_"}
# What is logged or printed where the program was started, and what only a developer reads.
_UNREAD = {"debug", "info", "warning", "error", "critical", "exception", "ArgumentParser", "add_argument", "SettingError", "_refuse", "BatchGone", "ValueError", "TypeError"}


def _sentences(node: ast.AST) -> Iterator[str]:
    """Give the sentences among the literals below a node of a program: they begin with a capital letter, and have several words and an end."""
    for child in ast.iter_child_nodes(node):
        name = child.func.attr if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) else getattr(getattr(child, "func", None), "id", "")
        if name in _LOOKED_UP | _UNREAD or (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            continue
        text = child.value if isinstance(child, ast.Constant) else ""
        if isinstance(child, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in child.values)
        if isinstance(text, str) and re.fullmatch(r"[A-Z][^\n]* [^\n]* [^\n]*\.", text):
            yield text
        elif not isinstance(child, ast.JoinedStr):
            yield from _sentences(child)


@pytest.mark.parametrize("path", SPEAKERS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_sentence_for_people_is_looked_up(path: Path) -> None:
    assert list(_sentences(ast.parse(path.read_text("utf-8")))) == []


# What scripts show: attributes and texts of elements that are set to a literal, and messages of errors that are shown.
_SHOWN_BY_SCRIPTS = re.compile(r'(?:textContent|ariaLabel|title|label)\s*[=:]\s*["`]([^"`]*)["`]|new Error\(["`]([^"`]*)["`]\)|(?:speak|notice|tellReason)\(["`]([^"`]*)["`]')
# Errors that are caught at once, or of what cannot be.
NEVER_SHOWN = {"not there", "XML files are not read here."}
_VALUES = re.compile(r"%\(\w+\)s|%%")
_MARKUP = re.compile(r"<[^>]+>|&\w+;")
OTHERS = [language for language in languages.languages() if language != languages.ENGLISH]


@pytest.fixture(scope="module")
def sources() -> Catalog:
    return extracted()


@pytest.mark.parametrize("path", sorted((PROJECT / "frontend" / "src").glob("*.js")), ids=lambda path: path.stem)
def test_every_text_of_a_script_is_looked_up(path: Path) -> None:
    found = [text for groups in _SHOWN_BY_SCRIPTS.findall(path.read_text("utf-8")) for text in groups]
    bare = [text for text in found if re.search(r"[A-Za-z]{3,}", re.sub(r"\$\{[^}]*(\}|$)", "", text)) and text not in NEVER_SHOWN]

    assert bare == []


@pytest.mark.parametrize("language", OTHERS)
class TestACatalogue:
    def test_has_every_text_of_the_sources_and_no_other(self, language: str, sources: Catalog) -> None:
        with languages.catalogue(language).open("rb") as file:
            known = {message.id for message in read_po(file, locale=language) if message.id}

        assert known == {message.id for message in sources if message.id}

    def test_is_whole_and_says_the_same_values_and_tags(self, language: str) -> None:
        with languages.catalogue(language).open("rb") as file:
            catalogue = read_po(file, locale=language)

        assert not catalogue.fuzzy
        for message in catalogue:
            if not message.id:
                continue
            ids = [message.id] if isinstance(message.id, str) else list(message.id)
            texts = [message.string] if isinstance(message.id, str) else list(message.string)
            assert not message.fuzzy, message.id
            assert all(texts), message.id
            assert len(texts) == (1 if len(ids) == 1 else catalogue.num_plurals), message.id
            for text in texts:
                assert set(_VALUES.findall(text)) in [set(_VALUES.findall(one)) for one in ids], message.id
                assert sorted(_MARKUP.findall(text)) == sorted(_MARKUP.findall(ids[-1])), message.id
                # A text stands in attributes too, and is not escaped.
                assert '"' not in _MARKUP.sub("", text) or '"' in ids[-1], message.id


    def test_is_found_again_by_the_shape_of_every_sentence_that_is_kept(self, language: str) -> None:
        with languages.catalogue(language).open("rb") as file:
            catalogue = read_po(file, locale=language)
        with languages.speaking(language):
            for message in catalogue:
                if isinstance(message.id, str) and any(file.startswith(languages.KEEPERS) for file, _ in message.locations):
                    values = {name: f"some {name}, 12 bytes." for name in re.findall(r"%\((\w+)\)s", message.id)}
                    kept = message.id % values if values else message.id
                    assert languages.said_again(kept) == (str(message.string) % values if values else message.string)


class TestALanguage:
    def test_that_is_chosen_goes_before_what_the_browser_accepts_and_english_is_left(self) -> None:
        assert languages.chosen_language("de", ["en"]) == "de"
        assert languages.chosen_language("browser", ["fr-FR", "de-AT", "en"]) == "de"
        assert languages.chosen_language("browser", ["fr", "xx"]) == "en"
        assert languages.chosen_language("../de", []) == "en"

    def test_writes_numbers_plurals_and_values_in_its_own_way(self) -> None:
        assert languages.counted("%(n)s image", "%(n)s images", 1234) == "1,234 images"
        with languages.speaking("de"):
            assert languages.counted("%(n)s image", "%(n)s images", 1) == "1 Bild"
            assert languages.counted("%(n)s image", "%(n)s images", 1234567) == "1.234.567 Bilder"
            assert formats.size(1_400_000) == "1,4 MB"
            assert languages.gettext("There is no image %(gone)s.", gone="%(x)s") == "Ein Bild %(x)s gibt es nicht."
        assert languages.spoken() == "en"

    def test_says_again_what_was_kept_in_english(self) -> None:
        kept = "The file ends at byte 1234 inside (7FE0,0010) PixelData at byte 900: 12 bytes are missing."
        some = "%s in the folder stayed: not imported with this batch, or changed since."
        hostile = "The file lacks <b>%(x)s\n, The file lacks."
        assert [languages.said_again(text) for text in (kept, some % "2 entries", hostile)] == [kept, some % "2 entries", hostile]
        with languages.speaking("de"):
            assert languages.said_again(kept) == "Die Datei endet bei Byte 1234 in (7FE0,0010) PixelData bei Byte 900: 12 Bytes fehlen."
            assert languages.said_again(some % "1 entry").startswith("1 Eintrag des Ordners blieb:")
            assert languages.said_again(some % "2,000 entries").startswith("2.000 Einträge des Ordners blieben:")
            assert languages.said_again(some % "No entries") == some % "No entries"
            assert languages.said_again("The file is empty.") == "Die Datei ist leer."
            assert languages.said_again(hostile) == "Der Datei fehlt <b>%(x)s\n, The file lacks."
            # What somebody else says, and what is made for a page and never kept.
            assert languages.said_again("Disk quota exceeded") == "Disk quota exceeded"
            assert languages.said_again("1 image") == "1 image"
            assert languages.said_again("") == ""

    def test_gives_up_soon_on_a_long_text_that_is_nearly_one_of_its_own(self) -> None:
        nearly = "The file ends at byte 1 inside " + " inside at byte : " * 20_000
        with languages.speaking("de"):
            assert languages.said_again(nearly) == nearly

    def test_has_an_own_name_and_forms_for_scripts(self) -> None:
        assert languages.languages()["de"] == "Deutsch"
        assert languages.script_texts("en") == {}
        texts = languages.script_texts("de")
        assert texts["Pause"] == "Pause"
        assert texts["%(n)s batch ticked"] == {"one": "%(n)s Batch angekreuzt", "other": "%(n)s Batches angekreuzt"}
        assert "Open the batch" not in texts
