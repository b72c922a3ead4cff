"""What nobody asks for and has to be done now and then: by whichever worker comes first, in each sweep or once a minute."""

from __future__ import annotations

from dicomweb import batches, statistics
from dicomweb.imports import Importer, clean_old
from dicomweb.models import Sample


def do_chores(importer: Importer) -> None:
    """Begin the deletions whose time has come; once a minute note how things are, and ask for the clean-ups that are due."""
    now = importer.clock()
    with importer.work(read_only=True) as dbsession:
        # On SQLite only one can write at a time; so it is not asked for when there is nothing to write.
        due = batches.deletions_due(dbsession, now=now)
        noted = dbsession.get(Sample, statistics.minute(now)) is not None
    if due:
        with importer.work() as dbsession:
            batches.delete_due(dbsession, now=now)
    if noted:
        return
    _used, free, _total = importer.storage.usage()
    with importer.work() as dbsession:
        # Of several workers that come at once, the one whose row it is does the rest.
        if statistics.take_sample(dbsession, free=free, now=now):
            clean_old(dbsession, importer.settings, now=now)
