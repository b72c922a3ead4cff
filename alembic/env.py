"""Run migrations: for `dicomweb migrate` (which gives the database's URL) and for the command `alembic` (which gives the ini file)."""

from alembic import context

from dicomweb.db import make_engine
from dicomweb.models import Base
from dicomweb.settings import Settings

config = context.config


def is_modelled(_object: object, name: str | None, _type: str, reflected: bool, _compare_to: object) -> bool:
    """Leave out what models cannot say, when the database is compared with them: the text indexes of the header tables."""
    return not (reflected and name is not None and name.startswith(("header_words", "ix_header_words", "ix_header_folded", "ix_group_column_words")))


database_url = config.attributes.get("database_url") or Settings.load(config.config_file_name).database_url

engine = make_engine(database_url)
try:
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            # SQLite cannot alter a table in place; batch mode copies it.
            render_as_batch=True,
            include_object=is_modelled,
            # Our engine begins transactions on SQLite too, so a migration that fails leaves nothing half done.
            transactional_ddl=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
finally:
    engine.dispose()
