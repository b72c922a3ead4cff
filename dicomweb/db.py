"""The database: engine, naming convention, and sessions whose transaction belongs to the caller.

SQLite (WAL) is the embedded default, PostgreSQL the production one. Inside the web ``request.dbsession`` is bound to
``request.tm``; elsewhere ``work(engine)`` opens a session, commits when its block ends and rolls back when it fails.
**Nothing in this package calls commit itself.**
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import orjson
import sqlalchemy as sa
import transaction
from sqlalchemy import Delete, Update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.functions import FunctionElement
from zope.sqlalchemy import ZopeTransactionEvents

NAMING_CONVENTION = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# How long a writer waits for another one on SQLite before the database answers "locked".
SQLITE_BUSY_MILLISECONDS = 60_000


class Base(DeclarativeBase):
    """The declarative base of all models."""

    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)


def make_engine(url: str, **options: Any) -> sa.Engine:
    """Make the engine for a database URL, with the connection settings this application relies on."""
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        patience = {"timeout": SQLITE_BUSY_MILLISECONDS / 1000, "factory": _QueuingConnection}
        engine = sa.create_engine(address, hide_parameters=True, connect_args=patience, **options)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    # Row estimates of the joins with unnested vectors are far too high and would start the JIT compiler for nothing. A plan that is
    # made once for all values does not know how many groups a search was given, and takes ten times as long as it saves.
    server_options = "-c jit=off -c plan_cache_mode=force_custom_plan"
    return sa.create_engine(address, pool_pre_ping=True, hide_parameters=True, connect_args={"options": server_options}, **options)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own idea of when to begin opens no transaction for a SELECT, which loses updates.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        # FULL, because a source file may be removed once the transaction that stored it has ended.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={SQLITE_BUSY_MILLISECONDS}",
        "cache_size=-65536",
        "mmap_size=1073741824",
        "temp_store=MEMORY",
        "wal_autocheckpoint=4000",
    ):
        connection.execute(f"PRAGMA {pragma}")


class _QueuingConnection(sqlite3.Connection):
    """A connection that queues for the write lock of its database.

    SQLite lets who waits for the lock sleep and look again, up to 100 ms later; five workers spent more time asleep than at
    work. A lock of the operating system on a file beside the database wakes the next one at once. It is no protection:
    that is SQLite's own lock, taken right after.
    """

    def __init__(self, database: str, *arguments: Any, **options: Any) -> None:
        super().__init__(database, *arguments, **options)
        self._queue = None if database == ":memory:" else f"{database}-queue"
        self._place: int | None = None

    def take_turn(self) -> None:
        """Wait until no other connection that queues is writing."""
        if self._queue is not None:
            if self._place is None:
                self._place = os.open(self._queue, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._place, fcntl.LOCK_EX)

    def _leave_turn(self) -> None:
        if self._place is not None:
            fcntl.flock(self._place, fcntl.LOCK_UN)

    def commit(self) -> None:
        """Commit, and let the next one write."""
        try:
            super().commit()
        finally:
            if not self.in_transaction:
                self._leave_turn()

    def rollback(self) -> None:
        """Roll back, and let the next one write."""
        try:
            super().rollback()
        finally:
            self._leave_turn()

    def close(self) -> None:
        """Close the connection and leave the queue."""
        super().close()
        if self._place is not None:
            os.close(self._place)
            self._place = None


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later cannot be upgraded once another one wrote; so whoever may write
    # takes the lock at once, and only sessions that promise to read do not.
    read_only = connection.get_execution_options().get("read_only", False)
    if read_only:
        connection.exec_driver_sql("BEGIN")
    else:
        cast("_QueuingConnection", connection.connection.driver_connection).take_turn()
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class _JoiningSession(Session):
    """A session that joins the transactions of the manager in its ``info``.

    The events of zope.sqlalchemy are listened to here, once for all; to have them listen to each session takes longer than a small request.
    """


def _events(dbsession: Session) -> ZopeTransactionEvents:
    # Statements that do not go through the unit of work would otherwise be rolled back without a word.
    return ZopeTransactionEvents("changed", dbsession.info["tm"])


@sa.event.listens_for(_JoiningSession, "after_begin")
@sa.event.listens_for(_JoiningSession, "after_attach")
def _join_transaction(dbsession: Session, *_more: Any) -> None:
    _events(dbsession).join_transaction(dbsession)


@sa.event.listens_for(_JoiningSession, "before_commit")
def _refuse_own_commit(dbsession: Session) -> None:
    _events(dbsession).before_commit(dbsession)


def make_session(engine: sa.Engine, tm: transaction.TransactionManager, *, read_only: bool = False) -> Session:
    """Make a session that joins the transactions of ``tm``.

    read_only: on SQLite such a session never waits for a writer, and must not write.
    """
    bind = engine.execution_options(read_only=True) if read_only else engine
    return _JoiningSession(bind, expire_on_commit=False, info={"tm": tm})


@contextmanager
def work(engine: sa.Engine, *, read_only: bool = False, doorbell: Any = None) -> Iterator[Session]:
    """Give a session for one unit of work outside the web: committed at the end, rolled back on any exception.

    doorbell: rung after the commit for each job that was enqueued (``jobs.Doorbell``).
    """
    tm = transaction.TransactionManager(explicit=True)
    with tm:
        dbsession = make_session(engine, tm, read_only=read_only)
        dbsession.info["doorbell"] = doorbell
        yield dbsession


class _Values(sa.types.TypeDecorator[Collection[Any]]):
    """Any number of values as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, of: sa.types.TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.ARRAY(self.of) if dialect.name == "postgresql" else sa.Text())

    def process_bind_param(self, value: Collection[Any] | None, dialect: sa.Dialect) -> Any:
        values = list(value or ())
        return values if dialect.name == "postgresql" else orjson.dumps(values).decode()


class _Among(FunctionElement[bool]):
    """A column and a parameter with the values that it may have."""

    type = sa.Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> _Among:
        # It has parentheses of its own; where there are no booleans it would otherwise be compared with 1, which no index answers.
        del against
        return self


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    # Both are texts of the compiler.
    return f"({column} IN (SELECT value FROM json_each({values})))"  # noqa: S608


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    array = compiler.dialect.type_compiler_instance.process(sa.ARRAY(column.type))
    return f"({compiler.process(column, **options)} = ANY (CAST({compiler.process(values, **options)} AS {array})))"


def among(column: Any, values: Collection[Any] | str) -> sa.ColumnElement[bool]:
    """Say that a column has one of some values, as one parameter however many they are.

    values: these, or the name under which they are given when the statement is executed. A statement that is made once and executed with
    such parameters costs a fraction of one that is put together each time.
    """
    type_ = _Values(column.type)
    bound = sa.bindparam(values, type_=type_) if isinstance(values, str) else sa.bindparam(None, values, type_)
    return _Among(column, bound)


def fetch(dbsession: Session, statement: sa.Executable, **parameters: Any) -> Any:
    """Run a statement that only reads columns in the transaction of a session, without what the session does for objects.

    That is more than half of the time of a small statement that is made once; parameters: those it names. Gives a ``sa.Result``.
    """
    return dbsession.connection().execute(statement, parameters)


def change(dbsession: Session, statement: Update | Delete) -> int:
    """Run an UPDATE or DELETE past the objects the session holds; tell how many rows it changed."""
    result = dbsession.execute(statement.execution_options(synchronize_session=False))
    return cast("sa.CursorResult[Any]", result).rowcount


def insert_missing(dbsession: Session, model: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, leaving out those a unique constraint knows already; the caller sorts them, against deadlocks."""
    if rows:
        insert = postgresql.insert if dbsession.get_bind().dialect.name == "postgresql" else sqlite.insert
        dbsession.execute(insert(model).on_conflict_do_nothing(), list(rows))


def is_overtaken(error: BaseException) -> bool:
    """Tell whether a transaction failed because another one was quicker: repeat it and look again.

    Covers the driver's own errors, which bulk loading raises: SQLSTATE class 23 (constraints) and 40 (deadlock, rollback).
    """
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return isinstance(error, sa.exc.IntegrityError) or is_overtaken(error.orig)
    return str(getattr(error, "sqlstate", None) or "")[:2] in ("23", "40")


def includeme(config: Any) -> None:
    """Add ``request.dbsession``; a GET or HEAD request gets a session that only reads."""
    settings = config.registry.settings["dicomweb"]
    # A thread holds two: that of its request, and that of an answer that is made while it is sent.
    config.registry["engine"] = make_engine(settings.database_url, max_overflow=2 * settings["web.threads"])

    def dbsession(request: Any) -> Session:
        session = request.environ.get("app.dbsession")
        if session is None:
            session = make_session(request.registry["engine"], request.tm, read_only=request.method in ("GET", "HEAD"))
            session.info["doorbell"] = request.registry.get("doorbell")
        return session

    config.add_request_method(dbsession, reify=True)
