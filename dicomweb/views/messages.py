"""What a page says after a change, by the word in ``?done=``; so that an address can never make a page say something else."""

from __future__ import annotations

from typing import Any

MESSAGES = {
    "ended": ("success", "Your session has ended."),
    "again": ("warning", "The page was open for too long. Please try again."),
    "retry": ("success", "The failed files are being imported again."),
    "nothing-failed": ("info", "No file of this batch can be tried again."),
    "deleting": ("success", "The batch is being deleted."),
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
    "job-retry": ("success", "The job is tried again."),
    "job-not-failed": ("info", "The job has not failed, or is tried again already."),
}


def message(request: Any) -> tuple[str, str] | None:
    """Give the kind and the text of the message that a page shows."""
    return MESSAGES.get(request.GET.get("done", ""))
