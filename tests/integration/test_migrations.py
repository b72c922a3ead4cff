"""The migrations make exactly the tables of the models, on both databases, and can be taken back."""

import alembic.command
import pytest
import sqlalchemy as sa

from dicomweb.db import make_engine
from dicomweb.migrations import PROJECT, alembic_config, upgrade

# SQLAlchemy cannot read such an index back from SQLite; that it exists is seen by the queries that need it.
pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index:sqlalchemy.exc.SAWarning")


def test_the_migrated_database_has_what_the_models_say(database_url: str) -> None:
    # Raises when autogenerate would find something to do.
    alembic.command.check(alembic_config(database_url))


def test_migrating_an_up_to_date_database_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    alembic.command.check(alembic_config(database_url))


def test_every_migration_can_be_taken_back_and_done_again(database_url: str) -> None:
    alembic.command.downgrade(alembic_config(database_url), "base")
    engine = make_engine(database_url)
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    upgrade(database_url)
    alembic.command.check(alembic_config(database_url))


def test_no_migration_depends_on_the_models_which_will_have_changed() -> None:
    versions = list((PROJECT / "alembic" / "versions").glob("*.py"))
    assert versions
    for path in versions:
        assert "dicomweb" not in path.read_text()
