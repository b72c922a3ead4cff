"""Run migrations: for `dicomweb migrate` (which gives the database's URL) and for the command `alembic` (which gives the ini file)."""

from alembic import context

from dicomweb.db import Base, make_engine
from dicomweb.models import Batch  # noqa: F401  The models put their tables into the metadata.
from dicomweb.settings import Settings

config = context.config
database_url = config.attributes.get("database_url") or Settings.load(config.config_file_name).database_url

engine = make_engine(database_url)
try:
    with engine.connect() as connection:
        # SQLite cannot alter a table in place: batch mode copies it.
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
finally:
    engine.dispose()
