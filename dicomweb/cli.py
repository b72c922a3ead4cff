"""The command ``dicomweb``."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from dicomweb.settings import SETTINGS, Setting, SettingError, Settings

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

    from dicomweb.db import make_engine, work
    from dicomweb.models import WebSession

    engine = make_engine(settings.database_url)
    try:
        # Before the first start there is nobody to send away.
        if sa.inspect(engine).has_table(WebSession.__tablename__):
            with work(engine) as dbsession:
                dbsession.execute(sa.delete(WebSession))
    finally:
        engine.dispose()


@commands.command()
@click.argument("program", type=click.Choice(["web", "workers", "watcher"]))
@click.pass_obj
def health(ini: Path, program: str) -> None:
    """Tell whether a program of this machine is alive, by the exit code: for the health checks of containers."""
    settings = load(ini)
    from dicomweb.health import complaint

    if text := complaint(settings, program, now=datetime.now(UTC)):
        raise click.ClickException(text)
    click.echo(f"The {program} {'are' if program == 'workers' else 'is'} alive.")


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
