"""The command ``dicomweb``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from dicomweb.settings import SETTINGS, Setting, SettingError, Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dicomweb.asking import Mistake
    from dicomweb.querying import Answers

# The commands import what they need when they run: --help answers at once, and Ctrl-C in the first moments finds
# the handlers of main() already in place.

INI = Path(__file__).resolve().parents[1] / "development.ini"


def main() -> None:
    """Run the command line; whoever interrupts it before it does anything sees no traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    commands()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--ini", type=click.Path(path_type=Path), default=INI, help="The ini file; else the one of this project.")
@click.pass_context
def commands(context: click.Context, ini: Path) -> None:
    """DICOM Database: every header element of every image, searchable."""
    context.obj = ini.resolve()


def load(ini: Path) -> Settings:
    """Read the settings, and end the command with one sentence when they are wrong."""
    try:
        return Settings.load(ini)
    except SettingError as error:
        raise click.ClickException(str(error)) from None


@commands.command()
@click.option("--demo", is_flag=True, help="Also drop the sample images that come with pydicom.")
@click.pass_obj
def run(ini: Path, demo: bool) -> None:
    """Run everything: broker, web server, workers and watcher, until Ctrl-C."""
    settings = load(ini)
    from dicomweb import running

    try:
        running.run(settings, ini, demo=demo, say=click.echo)
    except running.CannotStart as error:
        raise click.ClickException(str(error)) from None


@commands.command()
@click.pass_obj
def migrate(ini: Path) -> None:
    """Bring the database to the newest schema."""
    settings = load(ini)
    from dicomweb import migrations, supervisor

    try:
        supervisor.make_folders(settings)
    except supervisor.CannotStart as error:
        raise click.ClickException(str(error)) from None
    migrations.upgrade(settings.database_url)


@commands.command()
@click.option("--generate", is_flag=True, help="Make a random password and show it, instead of asking for one.")
@click.pass_obj
def password(ini: Path, generate: bool) -> None:
    """Set a new lockdown password. It is in force at once, and every browser has to give it again."""
    settings = load(ini)
    if settings["lockdown.password"]:
        raise click.ClickException("The password is given by lockdown.password (DICOMWEB_PASSWORD); change it there.")
    from dicomweb import passwords, supervisor

    text = passwords.generate() if generate else click.prompt("New password", hide_input=True, confirmation_prompt=True)
    try:
        supervisor.make_folders(settings)
        passwords.set_password(settings, text)
        _end_sessions(settings)
    except (passwords.PasswordRefused, supervisor.CannotStart) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"The new password: {text}" if generate else "The new password is set.")


def _end_sessions(settings: Settings) -> None:
    import sqlalchemy as sa

    from dicomweb import sessions
    from dicomweb.db import make_engine, work
    from dicomweb.models import WebSession

    engine = make_engine(settings.database_url)
    try:
        # Before the first start there is nobody to send away.
        if sa.inspect(engine).has_table(WebSession.__tablename__):
            with work(engine) as dbsession:
                sessions.end_all(dbsession)
    finally:
        engine.dispose()


@commands.group()
def token() -> None:
    """Make, list and revoke tokens: what programs show instead of the password."""


@token.command("add")
@click.argument("name")
@click.option("--write", "writes", is_flag=True, help="It may change things too; else it may only read.")
@click.option("--ends", default="", metavar="YYYY-MM-DD", help="Its last day, in UTC; else it works until it is revoked.")
@click.pass_obj
def add_token(ini: Path, name: str, writes: bool, ends: str) -> None:
    """Make a token and print its secret, which is shown only now."""
    from dicomweb import tokens

    with _changing(ini) as dbsession:
        try:
            now = datetime.now(UTC)
            _, secret = tokens.add(dbsession, name, writes=writes, expires_at=tokens.end_of_day(ends), now=now)
        except tokens.TokenRefused as error:
            raise click.ClickException(str(error)) from None
    click.echo(secret)


@token.command("list")
@click.pass_obj
def list_tokens(ini: Path) -> None:
    """List the tokens; their secrets are known to nobody."""
    from dicomweb import tokens
    from dicomweb.querying import tabulate

    with _changing(ini) as dbsession:
        rows = [
            (
                one.name,
                "read and write" if one.writes else "read",
                f"{one.expires_at:%Y-%m-%d %H:%M}" if one.expires_at else "never",
                f"{one.used_at:%Y-%m-%d %H:%M}" if one.used_at else "never",
            )
            for one in tokens.every(dbsession)
        ]
    for line in tabulate(("Name", "May", "Ends", "Last used"), rows) if rows else ("There is no token.",):
        click.echo(line)


@token.command("revoke")
@click.argument("name")
@click.pass_obj
def revoke_token(ini: Path, name: str) -> None:
    """Take a token away; the program that uses it is turned away at once."""
    from dicomweb import tokens

    with _changing(ini) as dbsession:
        found = [one.id for one in tokens.every(dbsession) if one.name == name]
        if not found:
            raise click.ClickException("There is no token with this name.")
        tokens.revoke(dbsession, found[0])
    click.echo("The token is revoked.")


@commands.group()
def session() -> None:
    """List and end sessions: the browsers that gave the password."""


@session.command("list")
@click.pass_obj
def list_sessions(ini: Path) -> None:
    """List the sessions, the newest first."""
    from dicomweb import sessions
    from dicomweb.querying import printable, tabulate

    with _changing(ini) as dbsession:
        rows = [
            (
                sessions.name_of(one),
                one.address or "-",
                f"{one.created_at:%Y-%m-%d %H:%M}",
                f"{one.seen_at or one.created_at:%Y-%m-%d %H:%M}",
                printable(one.browser) or "-",
            )
            for one in sessions.every(dbsession, now=datetime.now(UTC))
        ]
    for line in tabulate(("Session", "Address", "Since (UTC)", "Last seen (UTC)", "Browser"), rows) if rows else ("There is no session.",):
        click.echo(line)


@session.command("end")
@click.argument("name", default="")
@click.option("--all", "everything", is_flag=True, help="End all sessions.")
@click.pass_obj
def end_sessions(ini: Path, name: str, everything: bool) -> None:
    """End a session by the name that `list` shows, or all; the browser has to give the password again."""
    from dicomweb import sessions

    if bool(name) == everything:
        raise click.UsageError("Name one session, or give --all.")
    with _changing(ini) as dbsession:
        if everything:
            click.echo(f"{sessions.end_all(dbsession)} ended.")
        elif not sessions.end_named(dbsession, name):
            raise click.ClickException("There is no session with this name.")
        else:
            click.echo("The session has ended.")


@commands.command()
@click.argument("do", type=click.Choice(["status", "stop", "start", "rescan"]), default="status")
@click.pass_obj
def watcher(ini: Path, do: str) -> None:
    """Tell how the watcher is; stop it, start it, or have it look at everything now, wherever its process runs."""
    from dicomweb import watching

    now = datetime.now(UTC)
    if do != "status":
        with _changing(ini) as dbsession:
            if do == "rescan":
                watching.wish_rescan(dbsession, now=now)
            else:
                watching.wish_rest(dbsession, do == "stop", now=now)
        click.echo({"stop": "It stops", "start": "It starts", "rescan": "It looks at everything"}[do] + " within a few seconds, if its process runs.")
    click.echo(watching.status(load(ini), now=now).sentence)


@commands.command()
@click.option("--days", type=click.IntRange(0, 99_999), default=30, show_default=True, help="Only batches that did not change for so many days.")
@click.option("--yes", is_flag=True, help="Do it; else it is only told what would be done.")
@click.pass_obj
def cleanup(ini: Path, days: int, yes: bool) -> None:
    """Remove the source folders of batches that are done without errors; the workers do it."""
    settings = load(ini)
    from datetime import timedelta

    from dicomweb import imports

    if settings["import.mode"] == "reference":
        raise click.ClickException("Files are indexed where they are (import.mode is reference): the source folders hold the only copy.")
    age, now = timedelta(days=days), datetime.now(UTC)
    with _changing(ini) as dbsession:
        found = imports.count_cleanable(dbsession, older_than=age, now=now)
        asked = imports.clean_all(dbsession, settings, older_than=age, now=now) if yes else 0
    what = f"{found.batches:,} source folders with {found.images:,} images ({found.bytes:,} bytes)"
    if not yes:
        click.echo(f"{what} can be removed; --yes has the workers do it.")
    else:
        click.echo(f"{asked:,} of {what} are being removed; the clean-up page tells what became of each.")


@contextmanager
def _changing(ini: Path) -> Iterator[Session]:
    settings = load(ini)
    import sqlalchemy as sa

    from dicomweb.db import make_engine, work

    engine = make_engine(settings.database_url)
    try:
        with work(engine) as dbsession:
            yield dbsession
    except sa.exc.DBAPIError as error:
        raise click.ClickException(f"The database cannot be used ({type(error.orig).__name__}); `dicomweb migrate` makes its tables.") from None
    finally:
        engine.dispose()


@commands.command()
@click.pass_obj
def listen(ini: Path) -> None:
    """Accept DIMSE associations (C-ECHO, C-STORE, C-FIND) on dimse.port, until Ctrl-C."""
    settings = load(ini)
    if not settings["dimse.port"]:
        raise click.ClickException("dimse.port (DICOMWEB_DIMSE_PORT) is 0, so nothing is listened on.")
    # A program that stands on this package, and is not known to it.
    os.execv(sys.executable, [sys.executable, "-m", "dimse", str(ini)])  # noqa: S606


_ALIVE = {"web": "The web is", "workers": "The workers are", "watcher": "The watcher is", "dimse": "The DIMSE listener is"}


@commands.command()
@click.argument("program", type=click.Choice(tuple(_ALIVE)))
@click.pass_obj
def health(ini: Path, program: str) -> None:
    """Tell whether a program of this machine is alive, by the exit code: for the health checks of containers."""
    settings = load(ini)
    from dicomweb.health import complaint

    if text := complaint(settings, program, now=datetime.now(UTC)):
        raise click.ClickException(text)
    click.echo(f"{_ALIVE[program]} alive.")


def _reached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say who is asked."""
    return click.option("--url", help="Ask the server at this address, such as http://127.0.0.1:6543, and not the database.")(function)


@contextmanager
def _answers(ini: Path, url: str | None) -> Iterator[Answers]:
    """Give who is asked; end the command with a sentence when there is no answer."""
    settings = load(ini)
    from dicomweb import asking, querying

    def password() -> str:
        text: str = settings["lockdown.password"] or click.prompt("Password", hide_input=True, err=True)
        return text

    try:
        answers = querying.Remote(url, password) if url else querying.Local(settings)
        try:
            yield answers
        finally:
            answers.close()
    except querying.CannotAnswer as error:
        raise click.ClickException(str(error)) from None
    except asking.Mistake as mistake:
        raise click.ClickException(explained(mistake)) from None


def explained(mistake: Mistake) -> str:
    """Say what is wrong with a question, and mark where."""
    from dicomweb.querying import printable

    lines = [mistake.sentence]
    if mistake.position is not None and mistake.text and "\n" not in mistake.text:
        before = printable(mistake.text[: mistake.position])
        marked = printable(mistake.text[mistake.position : mistake.position + mistake.length])
        lines += [f"  {printable(mistake.text)}", f"  {' ' * len(before)}{'^' * max(1, len(marked))}"]
    if mistake.expected:
        lines.append(f"Expected: {mistake.expected}.")
    if mistake.suggestion:
        lines.append(f"Did you mean {mistake.suggestion}?")
    return "\n".join(lines)


@commands.command()
@click.argument("text", default="")
@click.option("--level", type=click.Choice(["image", "series", "study"]), default="image", help="What is found.")
@click.option("--columns", default="", help="Keywords or tags, separated by commas.")
@click.option("--sort", default="", help="Columns to order by, separated by commas; with a minus the largest first.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "csv", "tsv", "json", "ndjson", "parquet"]),
    default="table",
    help="The form of the answer; csv, tsv, ndjson and parquet are streamed, in the order of import.",
)
@click.option("--limit", type=click.IntRange(1), help="So many rows of a table or of json at most; a table has 100 of itself.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; else the answer is printed.")
@click.option("--count", is_flag=True, help="Only tell how many there are, and the facets that are asked for.")
@click.option("--facet", "facets", multiple=True, metavar="KEYWORD", help="Count the values of an element; may be repeated.")
@_reached
@click.pass_obj
def query(
    ini: Path,
    text: str,
    level: str,
    columns: str,
    sort: str,
    kind: str,
    limit: int | None,
    output: Path | None,
    count: bool,
    facets: tuple[str, ...],
    url: str | None,
) -> None:
    """Find images, series or studies: dicomweb query 'Modality:CT SliceThickness:<1'. The language is that of docs/search.md."""
    asked = {"q": text, "level": level, "columns": columns, "sort": sort}
    streamed = kind in ("csv", "tsv", "ndjson", "parquet")
    if streamed and (sort or limit):
        raise click.UsageError(f"--sort and --limit are for table and json; {kind} has all rows, in the order of import.")
    if kind == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("A terminal cannot show parquet; name a file with --output.")
    written: Iterable[bytes]
    with _answers(ini, url) as answers:
        if count or facets:
            total = answers.page(asked, size=0, after=None)["count"] if count else None
            written = _numbers(total, answers.facets(asked, ",".join(facets), 100) if facets else [], kind, level)
        elif streamed:
            written = answers.export(asked, kind)
        elif kind == "json":
            written = _json(answers, asked, limit)
        else:
            written = _table(answers, asked, limit or 100)
        _write(written, output)


@commands.command()
@click.argument("one", type=click.IntRange(1))
@click.argument("other", type=click.IntRange(1))
@click.option("--format", "kind", type=click.Choice(["table", "json"]), default="table", help="The form of the answer.")
@_reached
@click.pass_obj
def diff(ini: Path, one: int, other: int, kind: str, url: str | None) -> None:
    """Tell what differs between the headers of two images, named by their numbers."""
    with _answers(ini, url) as answers:
        found = answers.diff(one, other)
        if kind == "json":
            _write([orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)], None)
            return
        from dicomweb.querying import tabulate

        rows = [
            (row["path"], row["keyword"], row["vr"], *("–" if text is None else text for text in (row["one"], row["other"])))
            for row in found
        ]
        if rows:
            heads = ("Path", "Keyword", "VR", f"Image {one}", f"Image {other}")
            _write((f"{line}\n".encode() for line in tabulate(heads, rows)), None)
        else:
            click.echo("The headers are the same.")


def _table(answers: Answers, asked: dict[str, str], limit: int) -> Iterator[bytes]:
    from dicomweb.querying import pages, tabulate

    rows: list[list[str]] = []
    for page in pages(answers, asked, most=limit):
        names = [column["name"] for column in page["columns"]]
        rows += [[str(row["id"]), *(row["values"].get(name, "") for name in names)] for row in page["results"]]
    for line in tabulate([asked["level"], *names], rows, right=(0,)):
        yield f"{line}\n".encode()
    more = f", of which these are the first {len(rows):,}" if page["count"] > len(rows) else ""
    yield f"{page['count']:,} found{more}.\n".encode()


def _json(answers: Answers, asked: dict[str, str], limit: int | None) -> Iterator[bytes]:
    from dicomweb.querying import pages

    first = True
    for page in pages(answers, asked, most=limit):
        if first:
            head = {name: page[name] for name in ("count", "query", "sentence", "level")}
            yield orjson.dumps(head)[:-1] + b',"results":['
        for row in page["results"]:
            yield (b"\n" if first else b",\n") + orjson.dumps({"id": row["id"], **row["values"]})
            first = False
    yield b"]}\n"


def _numbers(total: int | None, facets: list[dict[str, Any]], kind: str, level: str) -> Iterator[bytes]:
    """Write a total, when it was asked for, and facets."""
    from dicomweb.asking import LEVEL_WORDS
    from dicomweb.querying import tabulate

    if kind in ("json", "ndjson"):
        found: Any = facets if total is None else {"count": total, "facets": facets}
        yield orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return
    if total is not None:
        yield f"{total}\n".encode()
    for number, facet in enumerate(facets):
        rows = [(value["text"] or "(empty)", f"{value['count']:,}") for value in facet["values"]]
        rows += [("(more values)", "")] if facet["more"] else []
        rows += [("(without it)", f"{facet['missing']:,}")] if facet["missing"] else []
        head = f"of {facet['total']:,} {LEVEL_WORDS[level][facet['total'] != 1]}"
        if number or total is not None:
            yield b"\n"
        for line in tabulate((facet["keyword"] or facet["path"], head), rows, right=(1,)):
            yield f"{line}\n".encode()


def _write(written: Iterable[bytes], output: Path | None) -> None:
    """Write an answer; a file that could not be written to its end is not left behind."""
    if output is None:
        try:
            for chunk in written:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # The reader, such as head, has seen enough; Python would complain once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    part = output.with_name(f"{output.name}.part")
    octets = 0
    try:
        with part.open("wb") as file:
            for chunk in written:
                octets += file.write(chunk)
                if sys.stderr.isatty():
                    click.echo(f"\r{octets / 1e6:,.1f} MB", nl=False, err=True)
        part.replace(output)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)
        if sys.stderr.isatty():
            click.echo(err=True)


@commands.command()
@click.option("--markdown", is_flag=True, help="The table of README.md: names and defaults instead of values.")
@click.pass_obj
def settings(ini: Path, markdown: bool) -> None:
    """Show every setting, its value and where that came from; secrets are hidden."""
    if markdown:
        click.echo(markdown_table(), nl=False)
        return
    values = load(ini)
    for row in SETTINGS:
        click.echo(f"{row.name} = {shown(row, values)}   [{row.variable}, {values.source(row.name)}]\n    {row.sentence}")


def shown(row: Setting, values: Settings) -> str:
    """Give the text in which the value of a setting may be shown."""
    value = values[row.name]
    if row.secret:
        return "(hidden)" if value else "(empty)"
    if row.kind == "switch":
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def markdown_table() -> str:
    """Give the table of settings for README.md."""
    lines = ["| ini file | environment | default | what it does |", "| --- | --- | --- | --- |"]
    for row in SETTINGS:
        default = f"`{row.default}`" if row.default else "(empty)"
        lines.append(f"| `{row.name}` | `{row.variable}` | {default} | {row.sentence} |")
    return "\n".join(lines) + "\n"
