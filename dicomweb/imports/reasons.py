"""Why a file did not simply become an image, and what a person can do about it: one table, and a look at the file itself."""

from __future__ import annotations

import os
from contextlib import closing
from typing import NamedTuple

from dicomweb.batches import FOLDER_UNREADABLE, OF_ARCHIVE
from dicomweb.imports.folders import Folder, Refused, refusal
from dicomweb.imports.importer import incoming_folder
from dicomweb.models import Batch, Outcome
from dicomweb.settings import Settings

# Enough to recognise what a file is: a DICOM file begins with 128 bytes of anything, DICM and its file meta information.
FIRST_BYTES = 256


class Reason(NamedTuple):
    """A code of outcomes. title: what it means in a few words. advice: what to do. again: that trying again may help as it is."""

    title: str
    advice: str
    again: bool = False


REASONS: dict[str, Reason] = {
    "not-dicom": Reason("Not a DICOM file", "If it should be one, export it again from where it came. Otherwise nothing is lost: leave it or remove it."),
    "truncated": Reason("The file ends too early", "The copy was probably cut off. Copy the file again from its source, over the one in the folder, and try again; or upload it again."),
    "unreadable": Reason("The file cannot be read", "Its encoding is broken at the place that is named, or the disk cannot give it. Export or copy it again, then try again.", True),
    "too-deep": Reason("Sequences are nested too deep", "No usual file is so deep. If it is meant to be, raise the setting headers.max_depth, start again and try again."),
    "too-many-elements": Reason("The header has too many elements", "If it is meant to be, raise the setting headers.max_elements, start again and try again."),
    "too-large": Reason("The file is too large", "Raise the setting that is named (import.max_file_bytes or headers.max_inflated_bytes), start again and try again."),
    "missing-uid": Reason("A UID is missing", "Without StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID nobody can tell which image this is. Correct it where it is made and export it again."),
    "bad-uid": Reason("A UID is no UID", "Correct it where the file is made and export it again."),
    "wrong-study": Reason("The file is of another study", "It was stored to the address of one study and belongs to another one. Store it again without naming a study."),
    "permission-denied": Reason("The importer may not read the file", "Let the user that runs the application read the file and the folders above it, then try again.", True),
    "file-gone": Reason("The file is no longer there", "Put it back where it was, then try again; or delete the batch and drop the folder again.", True),
    "not-a-file": Reason("Not a file", "Links, pipes and devices are never followed or opened. Put the file itself into the folder, then try again."),
    "name-too-long": Reason("The path is too long", "Give the file or the folders above it shorter names, and drop the folder or upload the files again."),
    "changed-while-reading": Reason("The file changed while it was read", "It was still being written. Wait until it is complete, then try again.", True),
    FOLDER_UNREADABLE: Reason("A folder cannot be read", "Let the user that runs the application list the folder, then try again.", True),
    "ends-worker": Reason("The file ends the program that reads it", "Please report it, with the file if that is possible. The other files of the batch are not affected."),
    "reader-failed": Reason("The reader failed", "This is a defect of the application; the log of the worker has the details. Please report it."),
    "archive-damaged": Reason("An archive is damaged", "It was cut off, or its files are not those that were packed. Make the archive again, or unpack it and upload its files."),
    "archive-encrypted": Reason("A file in an archive is encrypted", "Unpack the archive with its password and upload the files."),
    "archive-gone": Reason("The archive is not there any more", "Upload it again."),
    "archive-method": Reason("A file in an archive is compressed in an unusual way", "Pack it as an ordinary ZIP archive, or unpack it and upload its files."),
    "archive-no-file": Reason("An archive holds a link or a device", "If it should be a file, pack the file itself; links are never followed."),
    "archive-ratio": Reason("An archive unpacks to too many times its size", "If it is meant to be, unpack it and upload its files, or raise the setting upload.archive_max_ratio, start again and try again."),
    "archive-too-deep": Reason("An archive lies in archives too deep", "Unpack it and upload its files, or raise the setting upload.archive_depth, start again and upload it again."),
    "archive-too-large": Reason("An archive, or a file in it, is too large", "Unpack it and upload its files in parts, or raise the setting (upload.archive_max_bytes or import.max_file_bytes), start again and upload it again."),
    "archive-too-many": Reason("An archive has too many files", "Unpack it and upload its files in parts, or raise the setting upload.archive_max_files, start again and try again."),
    "conflict": Reason(
        "The SOPInstanceUID is used twice",
        "Both files are kept. Look at what differs: of an image that was corrected delete the earlier one, and tell the maker of files that have nothing to do with each other.",
    ),
    "duplicate": Reason("The image is here already", "Nothing is to be done: it is the same file, byte by byte."),
    "dicomdir": Reason("A table of contents", "Nothing is to be done: the files that it names are imported by themselves."),
    "system-file": Reason("A file of the operating system", "Nothing is to be done."),
}  # fmt: skip
OTHER = Reason("Something else", "What happened is said beside each file.", True)


def first_bytes(settings: Settings, batch: Batch, failed: Outcome) -> bytes:
    """Read the beginning of a file that failed, at most FIRST_BYTES, never through a link. Raises Refused.

    An uploaded file lies in the folder of deliveries, under a number; its path is only a name, which a file of the batch's folder may
    have too.
    """
    if failed.place is not None:
        folder, path = str(incoming_folder(settings)), failed.place
    elif failed.code.startswith(OF_ARCHIVE):
        raise Refused("file-gone", "The file lies in an archive that was uploaded, and was not unpacked.")
    else:
        folder, path = batch.path or "", failed.path
    try:
        with closing(Folder(folder)) as opened:
            fd = opened.open(path)
            try:
                return os.pread(fd, FIRST_BYTES, 0)
            finally:
                os.close(fd)
    except OSError as error:
        raise refusal(error) from None


__all__ = ["FIRST_BYTES", "OTHER", "REASONS", "Reason", "Refused", "first_bytes"]
