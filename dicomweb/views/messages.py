"""What a page says after a change, by the word in ``?done=``; so that an address can never make a page say something else."""

from __future__ import annotations

from typing import Any

from dicomweb.languages import N_

MESSAGES = {
    "ended": ("success", N_("Your session has ended.")),
    "again": ("warning", N_("The page was open for too long. Please try again.")),
    "retry": ("success", N_("The failed files are being imported again.")),
    "nothing-failed": ("info", N_("No file of this batch can be tried again.")),
    "kept": ("success", N_("The batch is kept.")),
    "not-leaving": ("info", N_("The batch is not to be deleted, or it is too late to keep it.")),
    "cleaning": ("success", N_("The workers remove the source folders. This page shows what became of each.")),
    "nothing-to-clean": ("info", N_("There is no source folder that can be removed.")),
    "watcher-stop": ("success", N_("The watcher stops within a few seconds. What is dropped waits.")),
    "watcher-start": ("success", N_("The watcher starts within a few seconds, and looks at everything.")),
    "watcher-rescan": ("success", N_("The watcher looks at everything within a few seconds.")),
    "jobs-retry": ("success", N_("The failed jobs are tried again.")),
    "password": ("success", N_("The new password is in force. Every other browser has to give it.")),
    "session-ended": ("success", N_("The session has ended: that browser has to give the password again.")),
    "sessions-ended": ("success", N_("All other sessions have ended.")),
    "session-gone": ("info", N_("There was no such session any more.")),
    "look": ("success", N_("This browser shows all pages like this from now on.")),
    "deleting": ("success", N_("The batch is being deleted.")),
    "deleting-many": ("success", N_("The batches are being deleted.")),
    "leaving-many": ("success", N_("The batches will be deleted. Until the time that stands beside each it can be kept.")),
    "no-batches": ("warning", N_("No batch is chosen: tick the boxes at the beginning of the rows.")),
    "already-deleting": ("info", N_("The batch is being deleted already.")),
    "import": ("success", N_("The folder is being imported.")),
    "not-importable": ("warning", N_("This is not a folder, or it became a batch already.")),
    "saved": ("success", N_("The search is saved.")),
    "not-saved": ("warning", N_("The search was not saved: a name has at most 100 printable characters.")),
    "not-labelled": (
        "warning",
        N_("Nothing was labelled: a label has at most 64 printable characters and no minus before it, and is put on at most 100,000 at once."),
    ),
    "forgotten": ("success", N_("The search is forgotten.")),
    "labelled": ("success", N_("The label is on everything in this result.")),
    "unlabelled": ("success", N_("The label is taken away from everything in this result.")),
    "labelled-rows": ("success", N_("The label is on the chosen rows.")),
    "unlabelled-rows": ("success", N_("The label is taken away from the chosen rows.")),
    "no-rows": ("warning", N_("No row is chosen: tick the boxes at the beginning of the rows.")),
    "not-two": ("warning", N_("Two images are compared: tick the boxes of exactly two rows.")),
    "labelled-one": ("success", N_("The label is put on.")),
    "unlabelled-one": ("success", N_("The label is taken off.")),
    "label-forgotten": ("success", N_("The label is forgotten.")),
    "label-used": ("info", N_("Only a label that is on nothing can be forgotten.")),
    "first-slice": ("info", N_("This is the first slice.")),
    "last-slice": ("info", N_("This is the last slice.")),
    "revoked": ("success", N_("The token is revoked.")),
    "discarded": ("success", N_("The upload is discarded.")),
    "nothing-uploaded": ("warning", N_("No file of this upload is complete, so there is nothing to import.")),
    "not-uploaded": ("warning", N_("The files could not be imported; look at the upload again.")),
    "job-retry": ("success", "The job is tried again."),
    "job-not-failed": ("info", "The job has not failed, or is tried again already."),
}


def message(request: Any) -> tuple[str, str] | None:
    """Give the kind and the text of the message that a page shows."""
    return MESSAGES.get(request.GET.get("done", ""))
