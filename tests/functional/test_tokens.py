"""Tokens: what programs show instead of the password."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from dicomweb import tokens
from dicomweb.cli import commands
from dicomweb.db import make_engine, work
from dicomweb.models import Token
from dicomweb.security import ATTEMPTS_OF_ONE_ADDRESS
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import pages
from tests.functional.pages import Browser
from tests.programs import ROOT


def make(browser: Browser, name: str = "export", *, writes: bool = False, ends: datetime | None = None) -> str:
    """Make a token and give its secret."""
    with work(browser.engine) as dbsession:
        now = min(datetime.now(UTC), (ends or datetime.max.replace(tzinfo=UTC)) - timedelta(seconds=1))
        return tokens.add(dbsession, name, writes=writes, expires_at=ends, now=now)[1]


def ask(browser: Browser, path: str, secret: str, method: str = "GET", **options: Any) -> Any:
    """Send a request with a token."""
    headers = {"Authorization": f"Bearer {secret}", **options.pop("headers", {})}
    return browser.request(path, method=method, headers=headers, expect_errors=True, **options)


def store(browser: Browser, secret: str) -> Any:
    headers = {"Content-Type": "application/dicom"}
    return ask(browser, "/dicom-web/studies", secret, "POST", headers=headers, body=dicom_files.image_bytes("t/1"))


def form_to(page: Any, action: str) -> Any:
    """The form of a page that is sent to an address."""
    return next(form for form in page.forms.values() if form.action == action)


def test_a_token_opens_what_the_password_opens(stranger: Browser) -> None:
    secret = make(stranger)
    for path in ("/api/batches", "/dicom-web/openapi.json", "/settings"):
        assert ask(stranger, path, secret).status_int == 200


def test_a_token_that_may_read_changes_nothing(stranger: Browser) -> None:
    stranger.add(pages.batch())
    reads, writes = make(stranger), make(stranger, "robot", writes=True)
    changes = [("POST", "/dicom-web/studies"), ("DELETE", "/api/batches/1"), ("POST", "/batches/1/retry"), ("POST", "/tokens")]
    for method, path in changes:
        assert ask(stranger, path, reads, method).status_int == 403, path
    assert store(stranger, reads).status_int == 403
    assert stranger.count(pages.Batch) == 1
    assert store(stranger, writes).status_int == 200
    assert ask(stranger, "/api/batches/1", writes, "DELETE").status_int < 300


def test_a_batch_that_a_program_stores_has_the_name_of_its_token(stranger: Browser) -> None:
    store(stranger, make(stranger, "scanner 5", writes=True))
    assert stranger.count(pages.Batch, pages.Batch.name.like("STOW 20__-%scanner 5%"), pages.Batch.source == "stow") == 1
    stranger.begin_session()
    (sender,) = (" ".join(line.text.split()) for line in stranger.get("/batches/1").html.select(".senders li"))
    assert re.fullmatch(r"Stored over DICOMweb .+: 1 file, [\d.]+ kB; token scanner 5, address 192\.0\.2\.1", sender)


def test_no_token_makes_or_revokes_tokens(stranger: Browser) -> None:
    secret = make(stranger, writes=True)
    form = {"params": {"name": "another", "scope": "write", "ends": ""}}
    assert stranger.post("/tokens", **form, headers={"Authorization": f"Bearer {secret}"}, expect_errors=True).status_int == 403
    assert ask(stranger, "/tokens/1/revoke", secret, "POST").status_int == 403
    assert stranger.count(Token) == 1


def test_a_token_that_is_over_or_revoked_opens_nothing(stranger: Browser) -> None:
    over = make(stranger, "over", ends=datetime.now(UTC) - timedelta(seconds=1))
    revoked = make(stranger, "revoked")
    assert ask(stranger, "/api/batches", revoked).status_int == 200
    with work(stranger.engine) as dbsession:
        revoked_id = dbsession.scalar(sa.select(Token.id).where(Token.name == "revoked"))
        assert revoked_id is not None
        assert tokens.revoke(dbsession, revoked_id)
        assert not tokens.revoke(dbsession, revoked_id)
    for secret in (over, revoked):
        assert ask(stranger, "/api/batches", secret).status_int == 401


@pytest.mark.parametrize("secret", ["", "x", "dicomweb_", "dicomweb_" + "A" * 43, "dicomweb_" + "é" * 43, "\x00", "a b"])
def test_what_is_no_token_opens_nothing(stranger: Browser, secret: str) -> None:
    assert ask(stranger, "/dicom-web/openapi.json", secret.encode().decode("latin-1")).status_int == 401


def test_who_tries_tokens_is_slowed_down_like_one_who_tries_passwords(stranger: Browser) -> None:
    right = make(stranger)
    for _ in range(ATTEMPTS_OF_ONE_ADDRESS.amount):
        assert ask(stranger, "/api/batches", "dicomweb_" + "A" * 43).status_int == 401
    refused = ask(stranger, "/api/batches", "dicomweb_" + "A" * 43)
    assert refused.status_int == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert ask(stranger, "/api/batches", right).status_int == 200


def test_only_the_hash_of_a_secret_is_kept_and_its_use_is_noted_once_a_minute(stranger: Browser) -> None:
    secret = make(stranger)
    ask(stranger, "/api/batches", secret)
    with work(stranger.engine) as dbsession:
        token = dbsession.scalars(sa.select(Token)).one()
        assert secret not in repr(vars(token))
        assert token.used_at is not None
        used = token.used_at
    ask(stranger, "/api/batches", secret)
    with work(stranger.engine) as dbsession:
        assert dbsession.scalars(sa.select(Token.used_at)).one() == used


def test_the_secret_is_shown_once_and_the_token_can_be_revoked(browser: Browser, stranger: Browser) -> None:
    page = browser.get("/settings/access")
    assert "There is no token" in page.text
    form = form_to(page, "/tokens")
    form["name"], form["scope"], form["ends"] = "export <b>", "write", "2999-12-31"
    shown = form.submit()
    secret = shown.html.select_one("#secret")["value"]
    assert ask(stranger, "/api/batches", secret).status_int == 200
    listed = browser.get("/settings/access")
    assert secret not in listed.text
    assert "export &lt;b&gt;" in listed.text
    assert "read and write" in listed.html.select_one("#token-1").text
    question = browser.get(listed.html.select_one("#token-1 a")["href"])
    answer = form_to(question, "/tokens/1/revoke").submit()
    assert answer.status_int == 303
    assert "The token is revoked." in answer.follow().text
    browser.reset()
    assert ask(browser, "/api/batches", secret).status_int == 401


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "1 to 100 printable"),
        ({"name": "x" * 101}, "1 to 100 printable"),
        ({"name": "a\x07b"}, "1 to 100 printable"),
        ({"name": "taken"}, "already"),
        ({"scope": "everything"}, "choose what"),
        ({"ends": "tomorrow"}, "2027-03-31"),
        ({"ends": "2001-01-01"}, "in the future"),
        ({"ends": "9999-12-31"}, "2027-03-31"),
    ],
)
def test_what_cannot_be_a_token_is_refused_with_a_reason(browser: Browser, fields: dict[str, str], sentence: str) -> None:
    make(browser, "taken")
    answer = browser.press("/tokens", **{"name": "new", "scope": "read", "ends": "", **fields})
    assert answer.status_int == 400
    assert sentence in answer.text
    assert browser.count(Token) == 1


def test_tokens_are_made_listed_and_revoked_on_the_command_line(
    settings: Settings, stranger: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOMWEB_VAR", str(settings.var))
    monkeypatch.setenv("DICOMWEB_WATCH", str(settings["watch.folders"][0]))
    monkeypatch.setenv("DICOMWEB_DATABASE_URL", settings.database_url)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(commands, ["--ini", str(ROOT / "development.ini"), "token", *arguments])

    assert run("list").output == "There is no token.\n"
    secret = run("add", "robot", "--write", "--ends", "2999-01-31").output.strip()
    assert ask(stranger, "/api/batches", secret).status_int == 200
    listed = run("list").output
    assert "robot  read and write  2999-02-01 00:00" in listed
    assert secret not in listed
    refused = run("add", "robot")
    assert refused.exit_code == 1
    assert "already" in refused.output
    assert run("revoke", "robot").exit_code == 0
    assert run("revoke", "robot").exit_code == 1
    assert ask(stranger, "/api/batches", secret).status_int == 401


def test_the_command_line_says_when_there_are_no_tables(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(settings.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE token"))
    engine.dispose()
    monkeypatch.setenv("DICOMWEB_VAR", str(settings.var))
    monkeypatch.setenv("DICOMWEB_WATCH", str(settings["watch.folders"][0]))
    monkeypatch.setenv("DICOMWEB_DATABASE_URL", settings.database_url)
    answer = CliRunner().invoke(commands, ["--ini", str(ROOT / "development.ini"), "token", "list"])
    assert answer.exit_code == 1
    assert "dicomweb migrate" in answer.output
