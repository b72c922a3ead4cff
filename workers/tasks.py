"""The handler of each kind of job: a plain function of an importer and a job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from dicomweb import imports, jobs, removals
from dicomweb.imports import Importer, Stopping
from dicomweb.imports.importer import batch_of
from dicomweb.models import Batch, Job

# How long done jobs stay in the table, for people who want to know what happened.
KEEP_DONE = timedelta(days=7)


def delete_batch(importer: Importer, job: Job) -> None:
    """Remove a batch part by part; the last part ends the job."""
    with importer.work(read_only=True) as dbsession:
        batch = dbsession.get(Batch, batch_of(job))
    uploaded = imports.folders_of_batch(importer, batch_of(job))
    gone = False
    while not gone:
        if importer.stopping():
            raise Stopping
        with importer.work() as dbsession:
            gone = removals.delete_some(dbsession, job, now=importer.clock())
            if gone:
                removals.erase_strays(dbsession, importer.storage, batch_of(job))
                if batch is not None and batch.path:
                    imports.remove_delivery(importer.settings, batch.path)
                for folder in uploaded:
                    imports.remove_delivery(importer.settings, str(folder))
                jobs.finish(dbsession, job, now=importer.clock())


def discard_bytes(importer: Importer, job: Job) -> None:
    """Erase stored bytes that no image needs any more."""
    done = False
    while not done:
        if importer.stopping():
            raise Stopping
        with importer.work() as dbsession:
            done = removals.erase_discarded(dbsession, importer.storage)
            if done:
                jobs.finish(dbsession, job, now=importer.clock())
                jobs.forget_done(dbsession, before=importer.clock() - KEEP_DONE)


HANDLERS: dict[str, Callable[[Importer, Job], None]] = {
    "scan_batch": imports.scan_batch,
    "import_chunk": imports.import_chunk,
    "unpack_archive": imports.unpack_archive,
    "remove_sources": imports.remove_sources,
    "clean_source": imports.clean_source,
    "delete_batch": delete_batch,
    "discard_bytes": discard_bytes,
}
