"""Results as files, made while they are sent: memory does not grow with the result.

CSV is RFC 4180 in UTF-8. A cell that a spreadsheet would take for a formula (it begins with =, +, -, @, a tab or a carriage
return, and is no plain number) gets an apostrophe before it, in CSV and in TSV. In TSV tabs and line breaks of a value become
spaces. NDJSON and Parquet hold the values as they are, as text; what an image does not have is null.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, Protocol

import orjson
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.languages import gettext
from dicomweb.search.columns import LEVELS, Column, read_texts, resolve_columns
from dicomweb.search.compiling import compile_query
from dicomweb.search.errors import SearchError
from dicomweb.search.finding import fetch_rows, ids_after

# Rows that are in memory at once. A block begins with the query asked again, so it must not be small.
_BLOCK = {"image": 16_384, "series": 2_048, "study": 2_048}

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBERS = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?(\\[+-]?\d+(\.\d*)?([eE][+-]?\d+)?)*", re.ASCII)
_BREAKS = re.compile(r"[\t\r\n]")
_FIRST = attrgetter("first")

# One column of some rows: what a row does not have is None.
Values = Sequence[str | None]


def export(
    dbsession: Session,
    node: query.Node,
    *,
    level: str = "image",
    columns: Sequence[query.Field | str],
    format: str = "csv",
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Give all rows of a result in the order of import, as a file in pieces.

    format: one of FORMATS. on_rows: called with the number of rows that are written so far, after each block. What is wrong with
    the request raises SearchError at once, not with the first piece. The rows are read in blocks in the session's transaction: what is
    added meanwhile may be in the file or not, what was there at the beginning and stays is in it once.
    """
    if level not in LEVELS:
        raise SearchError(gettext("The level is image, series or study."))
    if format not in FORMATS:
        raise SearchError(gettext("The format is one of %(formats)s.", formats=", ".join(FORMATS)))
    shown = resolve_columns(columns)
    if not shown:
        raise SearchError(gettext("An export has at least one column."))
    expression = compile_query(dbsession, node)
    writer = FORMATS[format]([column.name for column in shown])
    return _pieces(_blocks(dbsession, expression, level, shown), writer, on_rows)


def defuse(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    return "'" + text if _FORMULA.match(text) and not _NUMBERS.fullmatch(text) else text


def _pieces(blocks: Iterable[Sequence[Values]], writer: Writer, on_rows: Callable[[int], None] | None) -> Iterator[bytes]:
    written = 0
    if head := writer.begin():
        yield head
    for block in blocks:
        yield writer.write(block)
        written += len(block[0])
        if on_rows is not None:
            on_rows(written)
    if tail := writer.end():
        yield tail


def _blocks(dbsession: Session, expression: index.Expression, level: str, columns: Sequence[Column]) -> Iterator[Sequence[Values]]:
    """Give the rows in blocks, each as its columns."""
    size = _BLOCK[level]
    last = -1
    only_headers = level == "image" and all(column.path is not None for column in columns)
    asked = None if level == "image" else index.look(dbsession, expression)
    while True:
        ids = index.page(dbsession, expression, limit=size, after=last) if asked is None else ids_after(dbsession, asked, level, last, size)
        if only_headers:
            yield _headers(dbsession, ids, [column.path or "" for column in columns])
        else:
            rows = fetch_rows(dbsession, asked or expression, level, ids, columns, longest=None)
            yield [[row.values.get(column.name) for row in rows] for column in columns]
        if len(ids) < size:
            return
        last = ids[-1]


def _headers(dbsession: Session, keys: Sequence[int], paths: Sequence[str]) -> Sequence[Values]:
    found: list[list[str | None]] = [[] for _ in paths]
    for group in sorted(read_texts(dbsession, keys, set(paths), longest=None), key=_FIRST):
        for column, path in zip(found, paths, strict=True):
            changing = group.changing.get(path)
            column.extend(repeat(group.constant.get(path), len(group.ordinals)) if changing is None else changing)
    return found


class Writer(Protocol):
    """Writes rows as bytes of one format."""

    def begin(self) -> bytes:
        """Give what precedes the rows."""

    def write(self, columns: Sequence[Values]) -> bytes:
        """Give some rows, of which these are the columns."""

    def end(self) -> bytes:
        """Give what follows the rows."""


class _Csv:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def begin(self) -> bytes:
        return self.write([[name] for name in self._names])

    def write(self, columns: Sequence[Values]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows(_cells(columns, defuse))
        return text.getvalue().encode("utf-8", "replace")

    def end(self) -> bytes:
        return b""


class _Tsv(_Csv):
    def write(self, columns: Sequence[Values]) -> bytes:
        lines = ["\t".join(row) + "\n" for row in _cells(columns, lambda text: _BREAKS.sub(" ", defuse(text)))]
        return "".join(lines).encode("utf-8", "replace")


def _cells(columns: Sequence[Values], made_safe: Callable[[str], str]) -> Iterator[tuple[str, ...]]:
    """Give the cells row by row; each text of a column is made safe once, however many rows have it."""
    safe = [{value: made_safe(value) if value else "" for value in set(column)} for column in columns]
    return zip(*(map(texts.__getitem__, column) for texts, column in zip(safe, columns, strict=True)), strict=True)


class _Ndjson:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def begin(self) -> bytes:
        return b""

    def write(self, columns: Sequence[Values]) -> bytes:
        rows = zip(*columns, strict=True)
        return b"".join([orjson.dumps(dict(zip(self._names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE) for row in rows])

    def end(self) -> bytes:
        return b""


class _Parquet:
    def __init__(self, names: Sequence[str]) -> None:
        # Imported only here: the library is large, and nothing else needs it.
        import pyarrow
        import pyarrow.parquet

        self._arrow = pyarrow
        self._schema = pyarrow.schema([(name, pyarrow.string()) for name in names])
        self._sink = _Sink()
        self._writer = pyarrow.parquet.ParquetWriter(pyarrow.PythonFile(self._sink, mode="w"), self._schema, compression="zstd")

    def begin(self) -> bytes:
        return self._sink.take()

    def write(self, columns: Sequence[Values]) -> bytes:
        if columns[0]:
            arrays = [self._arrow.array(column, self._arrow.string()) for column in columns]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        return self._sink.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """A file that keeps what is written only until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        """Give what was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


FORMATS: dict[str, Callable[[Sequence[str]], Writer]] = {"csv": _Csv, "tsv": _Tsv, "ndjson": _Ndjson, "parquet": _Parquet}
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
