"""What becomes of the files of batches when these are deleted, told before it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb.languages import N_
from dicomweb.models import Batch, Cleanup, Upload
from dicomweb.settings import Settings

# In the order in which they are told: what may be lost comes first.
FATES = {
    "network": N_("The files were uploaded or sent over the network: there is no other copy of them here. Failed files that are kept to be tried again are deleted too."),
    "joined": N_("Files were uploaded into the batch later: of these there is no other copy here. Failed ones that are kept to be tried again are deleted too."),
    "moved": N_("The files were moved here: there may be no other copy of them. What failed is still in the source folder, and stays there."),
    "cleaned": N_("The source folder was removed: there may be no other copy of these files."),
    "partly": N_("Files of the source folder were removed: of these there may be no other copy. What is still in the folder stays."),
    "cleaning": N_("A worker was asked to remove the source folder: of what it has removed by then there may be no other copy. The rest stays."),
    "stays": N_("The source folder and the files in it stay where they are."),
    "reference": N_("The files themselves stay in the source folder; only what is known about them is deleted."),
}
HARMLESS = ("stays", "reference")
_BY_CLEANUP = {"done": "cleaned", "kept": "partly", "asked": "cleaning"}


def fates_of(dbsession: Session, settings: Settings, batches: Collection[Batch]) -> dict[str, int]:
    """Tell of how many of some batches each of FATES is true, those of none left out; in two statements."""
    ids = [batch.id for batch in batches if batch.source == "folder"]
    cleanups = {cleanup.batch_id: cleanup for cleanup in dbsession.scalars(sa.select(Cleanup).where(Cleanup.batch_id.in_(ids)))}
    joined = set(dbsession.scalars(sa.select(Upload.batch_id).where(Upload.batch_id.in_(ids))))
    counted: Counter[str] = Counter()
    for batch in batches:
        counted.update(_fates(settings["import.mode"], batch, cleanups.get(batch.id), batch.id in joined))
    return {fate: counted[fate] for fate in FATES if counted[fate]}


def _fates(mode: str, batch: Batch, cleanup: Cleanup | None, joined: bool) -> list[str]:
    if batch.source != "folder":
        return ["network"]
    fate = {"move": "moved", "reference": "reference"}.get(mode, "stays")
    if cleanup is not None and fate == "stays":
        removed = cleanup.files > 0 or cleanup.status == "asked"
        fate = _BY_CLEANUP.get(cleanup.status, "partly") if removed else fate
    return ["joined", fate] if joined else [fate]
