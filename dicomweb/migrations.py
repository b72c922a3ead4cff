"""Bring a database to the newest schema: Alembic's migrations, found beside this package whatever the current folder is."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config

PROJECT = Path(__file__).resolve().parents[1]


def alembic_config(database_url: str) -> alembic.config.Config:
    """Make the configuration for Alembic's commands on one database; ``alembic/env.py`` reads the URL from its attributes."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(PROJECT / "alembic").replace("%", "%%"))
    # Not a main option: those are interpolated, and a password may hold a percent sign.
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the migrations that a database has not seen yet; a database that is up to date is left alone."""
    alembic.command.upgrade(alembic_config(database_url), revision)
