"""``dicomweb query`` and ``dicomweb diff``, on the database and against a running server: both answer alike."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import orjson
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from dicomweb.asking import Mistake
from dicomweb.cli import commands, explained
from dicomweb.querying import printable, tabulate
from dicomweb.settings import Settings
from tests.functional import api_data

Run = Callable[..., Result]


@pytest.fixture(params=["sqlite"])
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    """An empty SQLite database: which one it is does not matter to the command line."""
    path = tmp_path / "test.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def filled(settings: Settings, engine: sa.Engine) -> Settings:
    """The settings of a database with seven images."""
    folder = settings["watch.folders"][0] / "samples"
    api_data.write_samples(folder)
    api_data.import_folder(api_data.importer_of(settings, engine), folder)
    return settings


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_arguments: Any) -> None:
        """Write nothing."""


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application; give its address. Not waitress, which cannot be stopped from another thread without a race."""
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(filled: Settings) -> Iterator[str]:
    """The address of a server over that database."""
    app = api_data.make_app(filled)
    with served(app) as url:
        yield url
    api_data.close(app)


@pytest.fixture
def local(filled: Settings) -> Run:
    """Run a command on the database."""
    path = filled.here / "test.ini"
    path.write_text(f"[app:main]\nuse = egg:dicomweb\ndatabase.url = {filled.database_url}\n")
    return lambda *arguments, **options: CliRunner().invoke(commands, ["--ini", str(path), *arguments], **options)


@pytest.fixture(params=["database", "server"])
def run(request: pytest.FixtureRequest, local: Run) -> Run:
    """Run a command on the database, and against the server."""
    if request.param == "database":
        return local
    url = request.getfixturevalue("server")
    password = {"DICOMWEB_PASSWORD": api_data.PASSWORD}
    return lambda *arguments, **options: local(*arguments, "--url", url, env=password, **options)


def test_a_table_has_a_row_for_each_and_the_total(run: Run) -> None:
    done = run("query", "Modality:MR", "--columns", "PatientID,InstanceNumber", "--sort", "-InstanceNumber")
    head, _, *rows, total = done.stdout.splitlines()
    assert head.split() == ["image", "PatientID", "InstanceNumber"]
    assert [row.split()[-1] for row in rows] == ["2", "1"]
    assert total == "2 found."


def test_a_table_ends_where_the_limit_says(run: Run) -> None:
    done = run("query", "--limit", "3")
    assert len(done.stdout.splitlines()) == 2 + 3 + 1
    assert "7 found, of which these are the first 3." in done.stdout


def test_it_counts_at_each_level(run: Run) -> None:
    assert [run("query", "--count", "--level", level).stdout for level in ("image", "series", "study")] == ["7\n", "4\n", "3\n"]


def test_the_formats_hold_the_same_rows(run: Run, tmp_path: Path) -> None:
    asked = ("query", "Modality:MR", "--columns", "Modality,InstanceNumber", "--format")
    expected = [["MR", "1"], ["MR", "2"]]
    assert list(csv.reader(io.StringIO(run(*asked, "csv").stdout))) == [["Modality", "InstanceNumber"], *expected]
    assert [list(orjson.loads(line).values()) for line in run(*asked, "ndjson").stdout.splitlines()] == expected
    found = orjson.loads(run(*asked, "json").stdout)
    assert [[row["Modality"], row["InstanceNumber"]] for row in found["results"]] == expected
    assert (found["count"], found["sentence"]) == (2, "Modality is MR")
    output = tmp_path / "out.tsv"
    assert run(*asked, "tsv", "--output", str(output)).exit_code == 0
    assert output.read_text().splitlines()[1:] == ["MR\t1", "MR\t2"]
    assert list(tmp_path.glob("*.part")) == []


def test_json_of_nothing_is_json(run: Run) -> None:
    assert orjson.loads(run("query", "Modality:XX", "--format", "json").stdout)["results"] == []


def test_facets_count_values(run: Run) -> None:
    lines = [line.split() for line in run("query", "--facet", "Modality", "--facet", "ImageComments").stdout.splitlines()]
    assert lines[:4] == [["Modality", "of", "7", "images"], lines[1], ["CT", "5"], ["MR", "2"]]
    assert ["(without", "it)", "5"] in lines
    found = orjson.loads(run("query", "--facet", "Modality", "--format", "json").stdout)
    assert [(value["text"], value["count"]) for value in found[0]["values"]] == [("CT", 5), ("MR", 2)]


def test_a_count_and_facets_come_together(run: Run) -> None:
    asked = ("query", "Modality:MR", "--count", "--facet", "Modality")
    assert [line.split() for line in run(*asked).stdout.splitlines()[:3]] == [["2"], [], ["Modality", "of", "2", "images"]]
    found = orjson.loads(run(*asked, "--format", "json").stdout)
    assert (found["count"], len(found["facets"])) == (2, 1)


def test_the_difference_of_two_images(run: Run) -> None:
    first, second = (str(row["id"]) for row in orjson.loads(run("query", "Modality:MR", "--format", "json").stdout)["results"])
    rows = [line.split() for line in run("diff", first, second).stdout.splitlines()]
    assert ["00200013", "InstanceNumber", "IS", "1", "2"] in rows
    assert run("diff", first, first).stdout == "The headers are the same.\n"
    assert "InstanceNumber" in [row["keyword"] for row in orjson.loads(run("diff", first, second, "--format", "json").stdout)]
    done = run("diff", first, "999999")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no ")


def test_a_mistake_is_marked_and_a_suggestion_made(run: Run) -> None:
    done = run("query", "PatientID:1 Modalty:MR")
    assert (done.exit_code, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "Error: “Modalty” is no element that is known."
    assert lines[1:3] == ["  PatientID:1 Modalty:MR", "              ^^^^^^^"]
    assert lines[-1] == "Did you mean Modality?"


@pytest.mark.parametrize("arguments", [("--columns", "Modalty"), ("--facet", "Modalty"), ("--sort", "Modalty"), ("--format", "csv", "--columns", "Modalty")])
def test_mistakes_elsewhere_are_explained_too(run: Run, arguments: tuple[str, ...]) -> None:
    done = run("query", *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Did you mean Modality?" in done.stderr


def test_what_streams_takes_no_order_and_no_limit(local: Run) -> None:
    assert local("query", "--format", "csv", "--limit", "3").exit_code == 2
    assert local("query", "--format", "ndjson", "--sort", "PatientID").exit_code == 2


def test_a_file_that_cannot_be_written_is_one_sentence(local: Run, tmp_path: Path) -> None:
    done = local("query", "--format", "csv", "--output", str(tmp_path / "nowhere" / "a.csv"))
    assert done.stderr.endswith("a.csv cannot be written: No such file or directory.\n")


def test_a_file_that_breaks_off_is_not_left_behind(local: Run, tmp_path: Path) -> None:
    output = tmp_path / "a.csv"
    assert local("query", "Modality:(", "--format", "csv", "--output", str(output)).exit_code == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("a.csv")] == []


def test_a_database_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    ini = tmp_path / "test.ini"
    ini.write_text(f"[app:main]\nuse = egg:dicomweb\ndatabase.url = sqlite:///{tmp_path}/empty.sqlite\n")
    done = CliRunner().invoke(commands, ["--ini", str(ini), "query"])
    assert done.exit_code == 1
    assert done.stderr == "Error: The database cannot be read (OperationalError); `dicomweb migrate` makes a new one.\n"


class TestTheServer:
    def test_the_password_is_asked_for_and_checked(self, local: Run, server: str) -> None:
        done = local("query", "--count", "--url", server, input=f"{api_data.PASSWORD}\n")
        assert done.stdout.endswith("7\n")
        assert api_data.PASSWORD not in done.output
        done = local("query", "--count", "--url", server, env={"DICOMWEB_PASSWORD": "wrong password"})
        assert done.stderr == "Error: This is not the password.\n"

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:7101", "ftp://x", "http://"])
    def test_only_addresses_of_web_servers_are_asked(self, local: Run, url: str) -> None:
        assert "is no address such as http://" in local("query", "--url", url).stderr

    def test_one_that_is_away_or_another_is_one_sentence(self, local: Run) -> None:
        def other(environ: dict[str, Any], start: Any) -> list[bytes]:
            if environ["PATH_INFO"].endswith("/search"):
                start("200 OK", [("Content-Type", "text/plain")])
                return [b"hello"]
            start("302 Found", [("Location", "http://127.0.0.1:1/")])
            return []

        with served(other) as url:
            assert "does not answer as this application does" in local("query", "--url", url).stderr
            # The password would go where the redirect leads.
            assert local("diff", "1", "2", "--url", url).stderr == f"Error: {url} answered 302.\n"
        assert "does not answer" in local("query", "--url", url).stderr


def test_a_terminal_only_shows_what_a_header_says() -> None:
    assert printable("a\x1b[31mb\u202e\x9b") == "a\\x1b[31mb\\u202e\\x9b"
    assert not any("\x1b" in line for line in tabulate(["a"], [["\x1b]0;owned\x07"]]))
    assert "\x1b" not in explained(Mistake("q", "a:\x1b", "It is wrong", 2, 1))


def test_a_table_is_straight_in_every_script() -> None:
    lines = list(tabulate(["name", "n"], [["山田^太郎", "1"], ["Müller", "2"], ["x" * 200, "3"]], right=(1,)))
    assert lines[2].startswith("山田^太郎  ")
    assert len(lines[4]) == 60 + 2 + 1
    assert "…" in lines[4]
