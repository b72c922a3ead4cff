"""Results on their way out as files: how far each is, and how one is stopped.

A file is made while it is sent, so nothing of it is kept here but numbers, and what they were for a while after the end. They are
known to the process that sends the file; there is one web server.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import sqlalchemy as sa

from dicomweb import asking, search
from dicomweb.asking import Question
from dicomweb.db import work
from dicomweb.languages import gettext
from dicomweb.storage import Storage

KINDS = {**asking.FORMATS, "zip": "Images ZIP"}
MEDIA_TYPES = {**asking.MEDIA_TYPES, "zip": "application/zip"}
FILE_NAMES = {**{kind: f"search.{kind}" for kind in asking.FORMATS}, "zip": "images.zip"}

# Ended exports whose numbers can still be asked for.
MOST_ENDED = 100


class TooManyExports(Exception):
    """As many files as the web server has threads to spare are on their way already."""

    def __init__(self) -> None:
        super().__init__(gettext("Too many files are being written at the moment. Try again when one of them is done."))


class ExportStopped(Exception):
    """Somebody stopped the export; that the file is not complete must show in the connection."""


class Export:
    """One file on its way: an iterator over its bytes.

    state: ``running``, ``done``, ``stopped`` or ``failed``. total, done: how many rows (of a ZIP: images) there are and are
    written; total is None until they are counted. octets: how many bytes are written.
    """

    def __init__(self, engine: sa.Engine, storage: Storage, question: Question, kind: str) -> None:
        self.state = "running"
        self.kind = kind
        self.level = "image" if kind == "zip" else question.level
        self.total: int | None = None
        self.done = 0
        self.octets = 0
        self._stopping = False
        self._pieces = self._read(engine, storage, question)
        self._first: bytes | None = None

    def begin(self) -> None:
        """Count, and make the first piece: what cannot be answered shows while it can still be said. Raises Mistake."""
        try:
            self._first = next(self._pieces, b"")
        except BaseException:
            self.state = "failed"
            raise

    def stop(self) -> None:
        """Have the export end before its next piece."""
        self._stopping = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._stopping:
            self.close()
            raise ExportStopped("An export was stopped by the person who began it.")
        piece, self._first = self._first, None
        if piece is None:
            try:
                piece = next(self._pieces)
            except StopIteration:
                self.state = "done"
                raise
            except BaseException:
                self.state = "failed"
                raise
        self.octets += len(piece)
        return piece

    def close(self) -> None:
        """End the transaction; the web server calls this at the end, and when the reader has gone."""
        if self.state == "running":
            self.state = "stopped"
        self._pieces.close()

    def _read(self, engine: sa.Engine, storage: Storage, question: Question) -> Generator[bytes, None, None]:
        # A transaction of its own, because that of the request ends before the first byte is sent.
        with work(engine, read_only=True) as dbsession, asking.mistakes("q", question.text):
            self.total = search.count(dbsession, question.node, self.level)
            if self.kind == "zip":
                pieces = search.export_images(dbsession, question.node, storage, on_images=self._count)
            else:
                pieces = search.export(
                    dbsession,
                    question.node,
                    level=question.level,
                    columns=question.column_names,
                    format=self.kind,
                    on_rows=self._count,
                )
            yield from pieces

    def _count(self, done: int) -> None:
        self.done = done


class Exports:
    """The exports of this process, by the names under which their readers ask for them."""

    def __init__(self, most: int) -> None:
        """Make an empty list; most: how many may run at once, so that threads remain for everything else."""
        self._most = most
        self._lock = threading.Lock()
        self._running: list[Export] = []
        self._named: dict[str, Export] = {}

    def begin(self, engine: sa.Engine, storage: Storage, question: Question, kind: str, *, name: str = "") -> Export:
        """Begin to make a file; name: what it can be found by. Raises TooManyExports, Mistake."""
        export = Export(engine, storage, question, kind)
        with self._lock:
            self._running = [one for one in self._running if one.state == "running"]
            if len(self._running) >= self._most:
                raise TooManyExports
            self._running.append(export)
            if name:
                self._named[name] = export
                ended = [key for key, one in self._named.items() if one.state != "running"]
                for key in ended[: max(0, len(ended) - MOST_ENDED)]:
                    del self._named[key]
        export.begin()
        return export

    def find(self, name: str) -> Export | None:
        """Find an export by its name."""
        return self._named.get(name)
