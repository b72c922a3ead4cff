"""Logs: one line for each event, whatever text it carries."""

from __future__ import annotations

import logging
import time
import traceback
from pathlib import Path
from typing import Any


class LineFormatter(logging.Formatter):
    """Format a record as one line: time (UTC), level, process, logger, message; an exception without its text."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Ignore what an ini file gives every formatter; the format of this one is fixed."""
        super().__init__("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")

    def formatException(self, ei: Any) -> str:
        """Tell where an exception came from and of which kind it is; its text may quote a header value or a database row."""
        _, error, trace = ei
        frames = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
        kinds = []
        while error is not None:
            kinds.append(type(error).__name__)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return " from ".join(kinds) + " at " + " > ".join(frames)

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        # A name from a disk or a header may hold line breaks and terminal controls; a forged line must not be possible.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().format(record))
