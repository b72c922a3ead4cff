"""The lockdown password: kept only as an argon2 hash in the state folder, or given by the environment and never written."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
import unicodedata
from pathlib import Path

import argon2

from dicomweb.languages import gettext
from dicomweb.settings import Settings

log = logging.getLogger(__name__)

SHORTEST = 8
# Longer texts are never a password and would only cost time.
LONGEST = 1024
# What a person types when asked for "some password": the first guesses of anybody who tries.
GUESSED_FIRST = frozenset(
    "password passwort password1 passw0rd changeme change-me changeit 12345678 123456789 1234567890 qwertyui qwerty123 "
    "dicomweb dicomweb1 administrator admin123 letmein1 iloveyou secret123 default1 orthanc1 radiology hospital".split()
)
# Without characters that people mistake for one another.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"

HASHER = argon2.PasswordHasher()

# The API sends the password with every request, and argon2 is slow on purpose; so this process remembers, under a key
# that only it has, the last text that was right for the hash in force.
_key = secrets.token_bytes(32)
_last_right = b""


class PasswordRefused(ValueError):
    """A password is empty, too short or one that everybody tries first; the text says which."""


def ensure(settings: Settings, hasher: argon2.PasswordHasher = HASHER) -> str | None:
    """Make sure that there is a password: give the text of a newly generated one, else None.

    hasher: cheaper parameters than the default are for tests. Raises PasswordRefused when the environment gives a bad
    one, OSError when the state folder cannot be written.
    """
    if given := settings["lockdown.password"]:
        _check(given)
        return None
    if not settings["lockdown.mode"] or password_file(settings).exists():
        return None
    text = generate()
    set_password(settings, text, hasher)
    return text


def generate() -> str:
    """Make a password of 80 random bits that is easy to type."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


def set_password(settings: Settings, text: str, hasher: argon2.PasswordHasher = HASHER) -> None:
    """Keep the hash of a new password in the state folder. Raises PasswordRefused, OSError."""
    _check(text)
    path = password_file(settings)
    descriptor, name = tempfile.mkstemp(prefix=".password-", dir=path.parent)  # Created with mode 0600.
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(hasher.hash(_bytes(text)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def verify(settings: Settings, text: str) -> bool:
    """Tell whether a text is the password in force, in a time that does not depend on how much of it is right."""
    if len(text) > LONGEST:
        return False
    if given := settings["lockdown.password"]:
        return hmac.compare_digest(_bytes(given), _bytes(text))
    try:
        kept = password_file(settings).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return False
    return _verify_hash(kept, _bytes(text))


def password_file(settings: Settings) -> Path:
    """Tell where the hash is kept."""
    return settings.var / "password"


def _verify_hash(kept: str, text: bytes) -> bool:
    global _last_right
    remembered = hashlib.blake2b(kept.encode() + b"\0" + text, key=_key).digest()
    if hmac.compare_digest(remembered, _last_right):
        return True
    try:
        HASHER.verify(kept, text)
    except argon2.exceptions.VerificationError:
        return False
    except argon2.exceptions.InvalidHashError:
        log.error("The password file in the state folder is damaged; `dicomweb password` writes a new one.")
        return False
    _last_right = remembered
    return True


def _check(text: str) -> None:
    if len(text) < SHORTEST:
        raise PasswordRefused(gettext("The password must have at least %(least)s characters.", least=SHORTEST))
    if len(text) > LONGEST:
        raise PasswordRefused(gettext("The password must have at most %(most)s characters.", most=LONGEST))
    if text.lower() in GUESSED_FIRST or len(set(text)) < 3:
        raise PasswordRefused(gettext("This password is one that everybody tries first; choose another one."))


def _bytes(text: str) -> bytes:
    # The same letter may reach us composed or decomposed, depending on the keyboard's operating system; and bytes of the
    # environment that are not UTF-8 reach us as surrogates.
    return unicodedata.normalize("NFC", text).encode(errors="surrogatepass")
