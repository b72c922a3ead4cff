import stat
from pathlib import Path

import argon2
import pytest

from dicomweb import passwords
from dicomweb.passwords import PasswordRefused, ensure, generate, password_file, set_password, verify
from dicomweb.settings import Settings

# As little work as argon2 allows: what is tested is not how slow it is.
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "var").mkdir()
    return Settings(environ={}, here=tmp_path)


def given(text: str, tmp_path: Path) -> Settings:
    return Settings(environ={"DICOMWEB_PASSWORD": text}, here=tmp_path)


def test_the_first_time_a_password_is_made_and_told_once(settings: Settings) -> None:
    text = ensure(settings, CHEAP)
    assert text is not None
    assert verify(settings, text)
    assert ensure(settings, CHEAP) is None


def test_only_a_hash_is_kept_and_only_its_owner_may_read_it(settings: Settings) -> None:
    text = ensure(settings, CHEAP)
    assert text is not None
    kept = password_file(settings)
    assert text not in kept.read_text()
    assert kept.read_text().startswith("$argon2id$")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in settings.var.iterdir()] == ["password"]


def test_generated_passwords_differ_and_would_be_accepted(settings: Settings) -> None:
    made = {generate() for _ in range(50)}
    assert len(made) == 50
    for text in made:
        set_password(settings, text, CHEAP)


def test_a_new_password_replaces_the_old_one(settings: Settings) -> None:
    set_password(settings, "the first of two", CHEAP)
    assert verify(settings, "the first of two")
    set_password(settings, "the second of two", CHEAP)
    assert not verify(settings, "the first of two")
    assert verify(settings, "the second of two")


@pytest.mark.parametrize("wrong", ["", "the right One", "the right one ", "the right on", "x" * 5000, "\udc80\0"])
def test_anything_else_is_not_the_password(settings: Settings, wrong: str) -> None:
    set_password(settings, "the right one", CHEAP)
    assert not verify(settings, wrong)


def test_without_any_password_nothing_opens(settings: Settings) -> None:
    assert not verify(settings, "")
    assert not verify(settings, "password")


def test_a_damaged_file_opens_nothing_and_is_reported(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    password_file(settings).write_text("not a hash\n")
    assert not verify(settings, "not a hash")
    assert "damaged" in caplog.text


def test_the_environment_wins_and_is_never_written(settings: Settings, tmp_path: Path) -> None:
    set_password(settings, "the one in the file", CHEAP)
    before = password_file(settings).read_text()
    outside = given("the one outside", tmp_path)
    assert ensure(outside, CHEAP) is None
    assert verify(outside, "the one outside")
    assert not verify(outside, "the one in the file")
    assert password_file(settings).read_text() == before


@pytest.mark.parametrize("bad", ["short", "1234567", "password", "ChangeMe", "dicomweb", "aaaaaaaaaa", "abababab", "x" * 2000])
def test_a_bad_password_is_refused_from_the_environment_and_from_a_person(settings: Settings, tmp_path: Path, bad: str) -> None:
    with pytest.raises(PasswordRefused):
        ensure(given(bad, tmp_path), CHEAP)
    with pytest.raises(PasswordRefused):
        set_password(settings, bad, CHEAP)
    assert not password_file(settings).exists()


def test_an_empty_password_is_refused(settings: Settings) -> None:
    with pytest.raises(PasswordRefused, match="at least 8"):
        set_password(settings, "", CHEAP)


def test_with_the_lockdown_off_no_password_is_made(tmp_path: Path) -> None:
    settings = Settings({"lockdown.mode": "off"}, environ={}, here=tmp_path)
    assert ensure(settings, CHEAP) is None
    assert not password_file(settings).exists()


def test_the_same_letters_typed_on_another_keyboard_are_the_same_password(settings: Settings) -> None:
    set_password(settings, "R\u00f6ntgenbild", CHEAP)
    assert verify(settings, "Ro\u0308ntgenbild")


def test_the_slow_check_runs_once_for_a_client_that_sends_the_password_with_every_request(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_password(settings, "asked again and again", CHEAP)
    asked = []

    class Counting(argon2.PasswordHasher):
        def verify(self, *arguments: object) -> bool:  # type: ignore[override]
            asked.append(1)
            return super().verify(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "HASHER", Counting())
    assert all(verify(settings, "asked again and again") for _ in range(5))
    assert len(asked) == 1
    assert not any(verify(settings, "asked again and wrong") for _ in range(2))
    assert len(asked) == 3
    set_password(settings, "something else now", CHEAP)
    assert not verify(settings, "asked again and again")


def test_a_failed_write_leaves_the_old_password_and_no_litter(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    set_password(settings, "the one that stays", CHEAP)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        set_password(settings, "the one that fails", CHEAP)
    assert verify(settings, "the one that stays")
    assert [path.name for path in settings.var.iterdir()] == ["password"]
