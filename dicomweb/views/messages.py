"""What a page says after a change, by the word in ``?done=``; so that an address can never make a page say something else."""

from __future__ import annotations

from typing import Any

MESSAGES = {
    "ended": ("success", "Your session has ended."),
    "again": ("warning", "The page was open for too long. Please try again."),
    "retry": ("success", "The failed files are being imported again."),
    "nothing-failed": ("info", "No file of this batch can be tried again."),
    "kept": ("success", "The batch is kept."),
    "not-leaving": ("info", "The batch is not to be deleted, or it is too late to keep it."),
    "cleaning": ("success", "The workers remove the source folders. This page shows what became of each."),
    "nothing-to-clean": ("info", "There is no source folder that can be removed."),
    "watcher-stop": ("success", "The watcher stops within a few seconds. What is dropped waits."),
    "watcher-start": ("success", "The watcher starts within a few seconds, and looks at everything."),
    "watcher-rescan": ("success", "The watcher looks at everything within a few seconds."),
    "jobs-retry": ("success", "The failed jobs are tried again."),
    "password": ("success", "The new password is in force. Every other browser has to give it."),
    "session-ended": ("success", "The session has ended: that browser has to give the password again."),
    "sessions-ended": ("success", "All other sessions have ended."),
    "session-gone": ("info", "There was no such session any more."),
    "look": ("success", "This browser shows all pages like this from now on."),
    "deleting": ("success", "The batch is being deleted."),
    "deleting-many": ("success", "The batches are being deleted."),
    "leaving-many": ("success", "The batches will be deleted. Until the time that stands beside each it can be kept."),
    "no-batches": ("warning", "No batch is chosen: tick the boxes at the beginning of the rows."),
    "already-deleting": ("info", "The batch is being deleted already."),
    "import": ("success", "The folder is being imported."),
    "not-importable": ("warning", "This is not a folder, or it became a batch already."),
    "saved": ("success", "The search is saved."),
    "not-saved": ("warning", "The search was not saved: a name has at most 100 printable characters."),
    "not-labelled": (
        "warning",
        "Nothing was labelled: a label has at most 64 printable characters and no minus before it, and is put on at most 100,000 at once.",
    ),
    "forgotten": ("success", "The search is forgotten."),
    "labelled": ("success", "The label is on everything in this result."),
    "unlabelled": ("success", "The label is taken away from everything in this result."),
    "labelled-rows": ("success", "The label is on the chosen rows."),
    "unlabelled-rows": ("success", "The label is taken away from the chosen rows."),
    "no-rows": ("warning", "No row is chosen: tick the boxes at the beginning of the rows."),
    "not-two": ("warning", "Two images are compared: tick the boxes of exactly two rows."),
    "labelled-one": ("success", "The label is put on."),
    "unlabelled-one": ("success", "The label is taken off."),
    "label-forgotten": ("success", "The label is forgotten."),
    "label-used": ("info", "Only a label that is on nothing can be forgotten."),
    "first-slice": ("info", "This is the first slice."),
    "last-slice": ("info", "This is the last slice."),
    "revoked": ("success", "The token is revoked."),
    "discarded": ("success", "The upload is discarded."),
    "nothing-uploaded": ("warning", "No file of this upload is complete, so there is nothing to import."),
    "not-uploaded": ("warning", "The files could not be imported; look at the upload again."),
    "job-retry": ("success", "The job is tried again."),
    "job-not-failed": ("info", "The job has not failed, or is tried again already."),
}


def message(request: Any) -> tuple[str, str] | None:
    """Give the kind and the text of the message that a page shows."""
    return MESSAGES.get(request.GET.get("done", ""))
