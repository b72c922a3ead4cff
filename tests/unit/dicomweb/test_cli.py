import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dicomweb import passwords
from dicomweb.cli import commands, markdown_table
from dicomweb.db import make_engine, work
from dicomweb.models import WebSession, Worker
from dicomweb.settings import SETTINGS, Settings


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "test.ini"
    path.write_text("[app:main]\nuse = egg:dicomweb\n")
    return path


def dicomweb(ini: Path, *arguments: str, typed: str = "", **environ: str) -> Result:
    return CliRunner().invoke(commands, ["--ini", str(ini), *arguments], input=typed, env=environ)


def kept(ini: Path) -> Settings:
    return Settings(environ={}, here=ini.parent)


def test_settings_shows_every_setting_its_value_and_where_it_came_from(ini: Path) -> None:
    shown = dicomweb(ini, "settings", DICOMWEB_PORT="7001").output
    assert "web.port = 7001   [DICOMWEB_PORT, environment]" in shown
    assert f"watch.folders = {ini.parent}/data   [DICOMWEB_WATCH, default]" in shown
    for row in SETTINGS:
        assert f"{row.name} = " in shown
        assert row.sentence in shown


def test_settings_hides_secrets(ini: Path) -> None:
    url = "postgresql://me:hunter22@somewhere/db"
    shown = dicomweb(ini, "settings", DICOMWEB_PASSWORD="a secret thing", DICOMWEB_DATABASE_URL=url).output
    assert "lockdown.password = (hidden)" in shown
    assert "a secret thing" not in shown
    assert "hunter22" not in shown
    assert "broker.url = (empty)" in shown


def test_the_table_for_the_readme_needs_no_ini_file(tmp_path: Path) -> None:
    assert dicomweb(tmp_path / "none.ini", "settings", "--markdown").output == markdown_table()


def test_a_wrong_setting_ends_any_command_with_one_sentence(ini: Path) -> None:
    for command in ("run", "migrate", "password", "settings"):
        done = dicomweb(ini, command, DICOMWEB_PROT="1")
        assert done.exit_code == 1
        assert done.output == "Error: DICOMWEB_PROT is not a setting; README.md lists the settings that exist.\n"


def test_a_new_password_is_asked_for_twice_and_not_shown(ini: Path) -> None:
    done = dicomweb(ini, "password", typed="correct horse\ncorrect horse\n")
    assert done.exit_code == 0, done.output
    assert "correct horse" not in done.output
    assert passwords.verify(kept(ini), "correct horse")


def test_a_generated_password_is_shown_once_and_is_in_force(ini: Path) -> None:
    done = dicomweb(ini, "password", "--generate")
    text = done.output.strip().rpartition(" ")[2]
    assert passwords.verify(kept(ini), text)


def test_a_new_password_sends_every_browser_away(ini: Path, database_url: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    engine = make_engine(database_url)
    with work(engine) as dbsession:
        dbsession.add(WebSession(token_hash="x", created_at=now, expires_at=now))
    assert dicomweb(ini, "password", "--generate", DICOMWEB_DATABASE_URL=database_url).exit_code == 0
    with work(engine) as dbsession:
        assert dbsession.query(WebSession).count() == 0
    engine.dispose()


def test_a_bad_password_is_refused_with_the_reason(ini: Path) -> None:
    done = dicomweb(ini, "password", typed="short\nshort\n")
    assert done.exit_code == 1
    assert "at least 8 characters" in done.output


def test_a_password_that_the_environment_gives_is_changed_there(ini: Path) -> None:
    done = dicomweb(ini, "password", "--generate", DICOMWEB_PASSWORD="given outside")
    assert done.exit_code == 1
    assert "change it there" in done.output
    assert not (ini.parent / "var" / "password").exists()


def test_health_says_why_the_web_server_is_not_alive(ini: Path) -> None:
    done = dicomweb(ini, "health", "web", DICOMWEB_PORT="1")
    assert done.exit_code == 1
    assert "http://127.0.0.1:1/health does not answer" in done.output


def test_health_says_that_no_worker_and_no_watcher_is_alive(ini: Path, database_url: str) -> None:
    for program, sentence in (("workers", "No worker of this machine"), ("watcher", "The watcher is not running")):
        done = dicomweb(ini, "health", program, DICOMWEB_DATABASE_URL=database_url)
        assert done.exit_code == 1
        assert sentence in done.output


def test_health_says_why_the_listener_is_not_alive(ini: Path) -> None:
    assert "is 0, so nothing is listened on" in dicomweb(ini, "health", "dimse").output
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        done = dicomweb(ini, "health", "dimse", DICOMWEB_DIMSE_PORT=port)
        thread.join()
    assert done.exit_code == 1
    assert f"127.0.0.1:{port}" in done.output
    assert "does not answer" in dicomweb(ini, "health", "dimse", DICOMWEB_DIMSE_PORT=port).output


def test_health_finds_a_worker_of_this_machine(ini: Path, database_url: str) -> None:
    engine = make_engine(database_url)
    now = datetime.now(UTC)
    with work(engine) as dbsession:
        dbsession.add(Worker(name=f"{socket.gethostname()}:1", started_at=now, seen_at=now))
    engine.dispose()
    done = dicomweb(ini, "health", "workers", DICOMWEB_DATABASE_URL=database_url)
    assert (done.exit_code, done.output) == (0, "The workers are alive.\n")
