"""The languages of the pages: English, which the sources are written in, and what ``locale`` has a catalogue for.

A catalogue is a text file (``locale/de/LC_MESSAGES/dicomweb.po``), read when the first page in its language is asked for; nothing is
compiled beforehand. Which language is spoken belongs to what is being done (a context variable), so that a sentence is made where it
is known what it says, on whatever layer: a page speaks the language of its reader, and what nobody reads as a page (the REST API,
DICOMweb, the command line, logs, what is kept in the database) speaks English.
"""

from __future__ import annotations

import gettext as messages
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from io import BytesIO
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_decimal_symbol, get_group_symbol

ENGLISH = "en"
CATALOGUES = Path(__file__).resolve().parent / "locale"
DOMAIN = "dicomweb"
# The sources of those who write sentences into the database, in English, for whoever reads them later.
KEEPERS = ("dicomweb/headers/", "dicomweb/imports/", "watcher/")
_VALUE = re.compile(r"%\((\w+)\)s")

_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def catalogue(language: str) -> Path:
    """Tell where the catalogue of a language is, whether there is one or not."""
    return CATALOGUES / language / "LC_MESSAGES" / f"{DOMAIN}.po"


@cache
def languages() -> dict[str, str]:
    """Give each language there is with its own name, English first: ``{"en": "English", "de": "Deutsch"}``."""
    others = sorted(path.parts[-3] for path in CATALOGUES.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))
    names = {language: Locale.parse(language).get_display_name(language) or language for language in (ENGLISH, *others)}
    return {language: name[0].upper() + name[1:] for language, name in names.items()}


def chosen_language(chosen: str, accepted: list[str]) -> str:
    """Choose a language: the chosen one, else the first of those a browser accepts (``de-AT``) that there is, else English."""
    if chosen in languages():
        return chosen
    return negotiate_locale(accepted, list(languages()), sep="-") or ENGLISH


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak a language until the end of the block."""
    before = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(before)


def spoken() -> str:
    """Tell which language is spoken now."""
    return _spoken.get()


def gettext(text: str, **values: object) -> str:
    """Say an English text in the language that is spoken, with its values in it (``%(name)s``)."""
    said = _translations(spoken()).gettext(text) if text else text
    return said % values if values else said


def pgettext(context: str, text: str) -> str:
    """Say an English text that means several things; the context tells which."""
    return _translations(spoken()).pgettext(context, text)


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """Say the one of two English texts that fits a number, in the language that is spoken, with its values in it."""
    said = _translations(spoken()).ngettext(one, many, number)
    return said % values if values else said


def counted(one: str, many: str, number: int, **values: object) -> str:
    """Say how many there are of something: ``counted("%(n)s image", "%(n)s images", 1234)`` is ``1,234 images``."""
    return ngettext(one, many, number, n=grouped(number), **values)


def said_again(text: str) -> str:
    """Say a sentence in the language that is spoken that was said in English, with its values, when it was kept in the database.

    Whatever no catalogue has stays as it is.
    """
    said = gettext(text)
    if said != text or not text:
        return said
    for shape, (one, *many) in _shapes(spoken()):
        if found := shape.fullmatch(text):
            values = found.groupdict()
            return counted(one, many[0], int(values.pop("n").replace(",", "")), **values) if many else gettext(one, **values)
    return text


def N_(text: str) -> str:
    """Mark a text that is said later, by ``gettext`` or the templates' filter ``translated``."""
    return text


def grouped(number: int) -> str:
    """Write a number as the language does: ``1,234,567``."""
    return f"{number:,}".replace(",", _symbols(spoken())[1])


def with_point(text: str) -> str:
    """Write a number with a decimal point as the language does: ``1.4``."""
    return text.replace(".", _symbols(spoken())[0])


@cache
def _symbols(language: str) -> tuple[str, str]:
    return get_decimal_symbol(language), get_group_symbol(language)


def script_texts(language: str) -> dict[str, str | dict[str, str]]:
    """Give the texts of the scripts in a language, by the English one; of a text with a number its forms by CLDR's names."""
    if language == ENGLISH:
        return {}
    forms = _forms(language)
    found: dict[str, str | dict[str, str]] = {}
    for message in _catalogue(language):
        if not any(file.startswith("frontend/") for file, _ in message.locations):
            continue
        if isinstance(message.id, str):
            found[message.id] = str(message.string)
        else:
            said = tuple(message.string or ())
            found[message.id[0]] = {name: said[at] for name, at in forms.items()}
    return found


def _forms(language: str) -> dict[str, int]:
    """Tell which form of a catalogue the plural categories of CLDR are, by trying numbers."""
    category, translations = Locale.parse(language).plural_form, _translations(language)
    examples = {category(number): number for number in range(200, -1, -1)}
    index: Callable[[int], int] = getattr(translations, "plural", lambda number: int(number != 1))
    return {name: index(number) for name, number in sorted(examples.items())}


@cache
def _catalogue(language: str) -> Catalog:
    with catalogue(language).open("rb") as file:
        return read_po(file, locale=language, domain=DOMAIN)


@cache
def _shapes(language: str) -> list[tuple[re.Pattern[str], list[str]]]:
    """Give what the sentences with values look like that are kept in the database, each with its English text, or both of one with a number.

    Those that say most by themselves come first: ``Cannot be read: ….`` would fit ``Cannot be read: …. It is tried again.`` too.
    """
    if language == ENGLISH:
        return []
    kept = [message for message in _catalogue(language) if any(file.startswith(KEEPERS) for file, _ in message.locations)]
    forms = [[message.id] if isinstance(message.id, str) else [*message.id] for message in kept]
    found = [(text, texts) for texts in forms for text in texts if _VALUE.search(text)]
    found.sort(key=lambda one: len(_VALUE.sub("", one[0])), reverse=True)
    return [(_shape(text), texts) for text, texts in found]


def _shape(text: str) -> re.Pattern[str]:
    """Make a pattern of an English text; ``n`` is a number as ``counted`` writes it.

    A value ends where what follows it is found first, and no other end is tried, so that no text takes long.
    """
    head, *pieces = _VALUE.split(text)
    values = [(f"(?P<{name}>{'[0-9,]+' if name == 'n' else '.+?'})", re.escape(after)) for name, after in zip(pieces[::2], pieces[1::2], strict=True)]
    *inner, (last, tail) = values
    return re.compile(re.escape(head) + "".join(f"(?>{value}{after})" for value, after in inner) + last.replace(".+?", ".+") + tail, re.DOTALL)


@cache
def _translations(language: str) -> messages.NullTranslations:
    if language == ENGLISH:
        return messages.NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, _catalogue(language))
    compiled.seek(0)
    return messages.GNUTranslations(compiled)
