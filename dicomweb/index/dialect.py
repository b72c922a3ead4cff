"""Everything of the index that differs between SQLite and PostgreSQL; no other module of this package asks which it is.

Where one value an image is kept: arrays on PostgreSQL, JSON text on SQLite. How rows are loaded in bulk: COPY, or
``executemany`` on the driver's connection. How the dictionary is kept from losing a row that somebody is about to use: an
advisory lock; on SQLite there is only one writer anyway.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.db import among
from dicomweb.index.sql import Sql, sql
from dicomweb.index.values import PREFIX

# The advisory lock of the dictionary.
DICTIONARY_LOCK = int.from_bytes(b"dicomweb", "big") >> 1

_HEADER_FOLDED = f"CREATE INDEX ix_header_folded ON header (field_id, substr(folded, 1, {PREFIX}))"
_POSTGRESQL_DDL = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    _HEADER_FOLDED,
    "CREATE INDEX ix_header_words ON header USING gin (folded gin_trgm_ops)",
    "CREATE INDEX ix_group_column_words ON group_column USING gin (words gin_trgm_ops) WHERE words IS NOT NULL",
    # Documents are compressed already.
    "ALTER TABLE group_document ALTER COLUMN document SET STORAGE EXTERNAL",
    # A server built without lz4 keeps its own, slower compression.
    """DO $$ BEGIN
    ALTER TABLE group_column ALTER COLUMN numbers SET COMPRESSION lz4, ALTER COLUMN texts SET COMPRESSION lz4,
        ALTER COLUMN folded SET COMPRESSION lz4, ALTER COLUMN words SET COMPRESSION lz4;
    EXCEPTION WHEN feature_not_supported THEN NULL; END $$""",
)
_SQLITE_DDL = (
    _HEADER_FOLDED,
    "CREATE INDEX ix_group_column_words ON group_column (field_id) WHERE words IS NOT NULL",
    "CREATE VIRTUAL TABLE header_words USING fts5(folded, content='header', content_rowid='id', tokenize='trigram')",
    # Only text (Kind.TEXT is 0) is searched without a path.
    """CREATE TRIGGER header_words_insert AFTER INSERT ON header WHEN new.id & 7 = 0
    BEGIN INSERT INTO header_words (rowid, folded) VALUES (new.id, new.folded); END""",
    """CREATE TRIGGER header_words_delete AFTER DELETE ON header WHEN old.id & 7 = 0
    BEGIN INSERT INTO header_words (header_words, rowid, folded) VALUES ('delete', old.id, old.folded); END""",
)


def extra_ddl(name: str) -> list[str]:
    """Give the statements that the models cannot say, to be run once after the header tables exist.

    name: ``sqlite`` or ``postgresql``.
    """
    return list({"sqlite": _SQLITE_DDL, "postgresql": _POSTGRESQL_DDL}[name])


class Each(NamedTuple):
    """An opened array: what to join, the value, and the ordinal of its image."""

    join: Sql
    value: Sql
    ordinal: Sql


class Dialect(Protocol):
    """What the other modules ask of the database."""

    def lock_dictionary(self, dbsession: Session, *, exclusive: bool) -> None:
        """Hold the dictionary until the transaction ends.

        Shared by all who write groups: their rows of the dictionary stay. Exclusive for who removes rows that no group uses.
        """

    def reserve_group_ids(self, dbsession: Session, count: int) -> list[int]:
        """Give ids for new groups, ascending; no id is ever given twice."""

    def insert(self, dbsession: Session, model: Any, columns: Sequence[str], rows: Collection[tuple[Any, ...]]) -> None:
        """Insert rows in bulk; arrays as ``array`` gives them."""

    def insert_headers(self, dbsession: Session, rows: Sequence[tuple[int, int, str | None, str, float | None]]) -> None:
        """Insert those rows (id, field_id, text, folded, number) of the dictionary that it does not have yet."""

    def delete_promoted(self, dbsession: Session, rows: Collection[tuple[int, float, int]]) -> None:
        """Delete promoted numbers by (field_id, number, header_key)."""

    def array(self, values: Sequence[float | None] | Sequence[str | None]) -> Any:
        """Give the form in which ``insert`` takes one value an image."""

    def values(self, array: Any) -> list[Any]:
        """Give the values of an array that was read."""

    def places(self, ordinals: Sequence[Sequence[int]]) -> Any:
        """Give the form in which ``insert`` takes of each text the ordinals of its images."""

    def spread(self, texts: Sequence[str | None], places: Any) -> list[str | None]:
        """Give one text an image from the texts and places of a column; images behind the last that has one may be missing."""

    def within(self, column: Any, values: Collection[int] | Collection[str]) -> sa.ColumnElement[bool]:
        """Say that a column has one of these values; see ``db.among``."""

    def one_of(self, column: Sql, values: Collection[int] | Collection[str]) -> Sql:
        """Say the same as a piece of SQL."""

    def collected(self, column: Sql) -> Sql:
        """Collect the ids in a column to one value, which ``given`` takes."""

    def given(self, ids: Any) -> Sql:
        """Select ids that were collected; the column is ``id``."""

    def each(self, array: Sql) -> Each:
        """Open an array with one value an image."""

    def each_text(self, texts: Sql) -> Each:
        """Open texts (or folded texts) of a group_column c."""

    def parsed(self, number: float) -> Sql:
        """Give a number as the database reads it from an array, to be compared with numbers from arrays."""

    def mentions(self, folded: str) -> Sql:
        """Say that a text h.folded of the dictionary contains a folded text."""

    def by_code_point(self, text: str) -> Sql:
        """Give a column of texts so that it sorts as Python does."""


def dialect_of(dbsession: Session) -> Dialect:
    """Give the dialect of the database that a session works on."""
    return _DIALECTS[dbsession.get_bind().dialect.name]


def containing(text: Sql, folded: str) -> Sql:
    """Say that a folded text contains another; without case it does not matter that LIKE of SQLite ignores that of ASCII."""
    return matching(text, ["", folded, ""], ["*", "*"])


def matching(text: Sql, parts: Sequence[str], wildcards: Sequence[str]) -> Sql:
    """Say that a folded text consists of literal ``parts`` with wildcards (``*`` or ``?``) between them."""
    pattern = _escape(parts[0])
    for wildcard, part in zip(wildcards, parts[1:], strict=True):
        pattern += ("%" if wildcard == "*" else "_") + _escape(part)
    return sql("{text} LIKE {pattern} ESCAPE '\\'", text=text, pattern=pattern)


def _escape(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


class _SQLite:
    def lock_dictionary(self, dbsession: Session, *, exclusive: bool) -> None:
        # A transaction that writes is the only one from its beginning (BEGIN IMMEDIATE).
        del dbsession, exclusive

    def reserve_group_ids(self, dbsession: Session, count: int) -> list[int]:
        last = dbsession.scalar(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'header_group'")) or 0
        return list(range(last + 1, last + 1 + count))

    def insert(self, dbsession: Session, model: Any, columns: Sequence[str], rows: Collection[tuple[Any, ...]]) -> None:
        marks = ",".join("?" * len(columns))
        # All names are those of the models.
        self._many(dbsession, f"INSERT INTO {model.__tablename__} ({','.join(columns)}) VALUES ({marks})", rows)  # noqa: S608

    def insert_headers(self, dbsession: Session, rows: Sequence[tuple[int, int, str | None, str, float | None]]) -> None:
        self._many(dbsession, "INSERT OR IGNORE INTO header (id, field_id, text, folded, number) VALUES (?,?,?,?,?)", rows)

    def delete_promoted(self, dbsession: Session, rows: Collection[tuple[int, float, int]]) -> None:
        self._many(dbsession, "DELETE FROM promoted_number WHERE field_id = ? AND number = ? AND header_key = ?", rows)

    def array(self, values: Sequence[float | None] | Sequence[str | None]) -> Any:
        return orjson.dumps(values).decode()

    def values(self, array: Any) -> list[Any]:
        return orjson.loads(array)

    def places(self, ordinals: Sequence[Sequence[int]]) -> Any:
        return orjson.dumps(ordinals).decode()

    def spread(self, texts: Sequence[str | None], places: Any) -> list[str | None]:
        if places is None:
            return list(texts)
        by_ordinal = {ordinal: text for text, ordinals in zip(texts, orjson.loads(places), strict=True) for ordinal in ordinals}
        return [by_ordinal.get(ordinal) for ordinal in range(max(by_ordinal) + 1)]

    def within(self, column: Any, values: Collection[int] | Collection[str]) -> sa.ColumnElement[bool]:
        return among(column, values)

    def one_of(self, column: Sql, values: Collection[int] | Collection[str]) -> Sql:
        return sql("{column} IN (SELECT value FROM json_each({values}))", column=column, values=orjson.dumps(list(values)).decode())

    def collected(self, column: Sql) -> Sql:
        return sql("json_group_array({column})", column=column)

    def given(self, ids: Any) -> Sql:
        return sql("SELECT value AS id FROM json_each({ids})", ids=ids)

    def each(self, array: Sql) -> Each:
        return Each(sql("JOIN json_each({array}) v", array=array), sql("v.value"), sql("v.key"))

    def each_text(self, texts: Sql) -> Each:
        opened = sql("JOIN json_each({texts}) v LEFT JOIN json_each(c.places, '$[' || v.key || ']') o", texts=texts)
        return Each(opened, sql("v.value"), sql("coalesce(o.value, v.key)"))

    def parsed(self, number: float) -> Sql:
        # SQLite's reading of a decimal may differ in the last bit from Python's, but it reads the same text the same way.
        return sql("CAST({number} AS REAL)", number=orjson.dumps(number).decode())

    def mentions(self, folded: str) -> Sql:
        found = containing(sql("h.folded"), folded)
        if len(folded) < 3:
            return found
        # The trigrams find more, because they ignore more than we fold.
        phrase = '"' + folded.replace('"', '""') + '"'
        return sql("h.id IN (SELECT rowid FROM header_words WHERE header_words MATCH {phrase}) AND {found}", phrase=phrase, found=found)

    def by_code_point(self, text: str) -> Sql:
        return sql(text)

    def _many(self, dbsession: Session, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        connection = dbsession.connection().connection.driver_connection
        assert connection is not None
        connection.executemany(statement, rows)


class _PostgreSQL:
    def lock_dictionary(self, dbsession: Session, *, exclusive: bool) -> None:
        lock = sa.func.pg_advisory_xact_lock if exclusive else sa.func.pg_advisory_xact_lock_shared
        dbsession.execute(sa.select(lock(DICTIONARY_LOCK)))

    def reserve_group_ids(self, dbsession: Session, count: int) -> list[int]:
        ids = sa.text("SELECT nextval(pg_get_serial_sequence('header_group', 'id')) FROM generate_series(1, :count)")
        return sorted(dbsession.scalars(ids, {"count": count}))

    def insert(self, dbsession: Session, model: Any, columns: Sequence[str], rows: Collection[tuple[Any, ...]]) -> None:
        if not rows:
            return
        with self._cursor(dbsession) as cursor, cursor.copy(f"COPY {model.__tablename__} ({','.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def insert_headers(self, dbsession: Session, rows: Sequence[tuple[int, int, str | None, str, float | None]]) -> None:
        if not rows:
            return
        with self._cursor(dbsession) as cursor:
            cursor.execute(
                "INSERT INTO header (id, field_id, text, folded, number) "
                "SELECT * FROM unnest(%s::bigint[], %s::int[], %s::text[], %s::text[], %s::float8[]) ON CONFLICT DO NOTHING",
                [self.array(column) for column in zip(*rows, strict=True)],
            )

    def delete_promoted(self, dbsession: Session, rows: Collection[tuple[int, float, int]]) -> None:
        if not rows:
            return
        with self._cursor(dbsession) as cursor:
            cursor.execute(
                "DELETE FROM promoted_number p USING unnest(%s::int[], %s::float8[], %s::bigint[]) gone (field_id, number, header_key) "
                "WHERE p.field_id = gone.field_id AND p.number = gone.number AND p.header_key = gone.header_key",
                [self.array(column) for column in zip(*rows, strict=True)],
            )

    def array(self, values: Sequence[float | None] | Sequence[str | None]) -> Any:
        # The literal of an array, because psycopg writes arrays in Python, element by element.
        if not any(isinstance(value, str) for value in values):
            return "{" + orjson.dumps(values).decode()[1:-1].replace("null", "NULL") + "}"
        return "{" + ",".join(map(_array_text, values)) + "}"

    def values(self, array: Any) -> list[Any]:
        return array

    def places(self, ordinals: Sequence[Sequence[int]]) -> Any:
        # An array cannot hold arrays of different lengths: so the number of its text for each image, from 1 on.
        of_image = {ordinal: number for number, having in enumerate(ordinals, start=1) for ordinal in having}
        return "{" + ",".join(str(of_image.get(ordinal, "NULL")) for ordinal in range(max(of_image) + 1)) + "}"

    def spread(self, texts: Sequence[str | None], places: Any) -> list[str | None]:
        return list(texts) if places is None else [None if number is None else texts[number - 1] for number in places]

    def within(self, column: Any, values: Collection[int] | Collection[str]) -> sa.ColumnElement[bool]:
        return among(column, values)

    def one_of(self, column: Sql, values: Collection[int] | Collection[str]) -> Sql:
        items = list(values)
        array = sql("CAST({items} AS text[])" if isinstance(items[0], str) else "CAST({items} AS bigint[])", items=items)
        return sql("{column} = ANY ({array})", column=column, array=array)

    def collected(self, column: Sql) -> Sql:
        return sql("CAST(array_agg({column}) AS text)", column=column)

    def given(self, ids: Any) -> Sql:
        return sql("SELECT unnest(CAST({ids} AS bigint[])) AS id", ids=ids or "{}")

    def each(self, array: Sql) -> Each:
        opened = sql("CROSS JOIN LATERAL unnest({array}) WITH ORDINALITY v (value, place)", array=array)
        return Each(opened, sql("v.value"), sql("(v.place - 1)"))

    def each_text(self, texts: Sql) -> Each:
        opened = sql(
            "CROSS JOIN LATERAL unnest({texts}) WITH ORDINALITY v (value, place) "
            "LEFT JOIN LATERAL unnest(c.places) WITH ORDINALITY o (value, place) ON o.value = v.place",
            texts=texts,
        )
        return Each(opened, sql("v.value"), sql("(coalesce(o.place, v.place) - 1)"))

    def parsed(self, number: float) -> Sql:
        return sql("{number}", number=number)

    def mentions(self, folded: str) -> Sql:
        return containing(sql("h.folded"), folded)

    def by_code_point(self, text: str) -> Sql:
        return sql(text + ' COLLATE "C"')

    def _cursor(self, dbsession: Session) -> Any:
        connection = dbsession.connection().connection.driver_connection
        assert connection is not None
        return connection.cursor()


def _array_text(text: Any) -> str:
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if "\\" in text or '"' in text else f'"{text}"'


_DIALECTS: dict[str, Dialect] = {"sqlite": _SQLite(), "postgresql": _PostgreSQL()}
