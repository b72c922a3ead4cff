"""Logs: one line for each event, whatever text it carries."""

from __future__ import annotations

import logging
import time


class LineFormatter(logging.Formatter):
    """Format a record as one line: time (UTC), level, process, logger, message; a traceback is folded into the line."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Ignore what an ini file gives every formatter; the format of this one is fixed."""
        super().__init__("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        # A name from a disk or a header may hold line breaks and terminal controls; a forged line must not be possible.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().format(record))
