"""Why a file did not simply become an image, and what a person can do about it: one table, and a look at the file itself."""

from __future__ import annotations

import os
from contextlib import closing
from typing import NamedTuple

from dicomweb.batches import FOLDER_UNREADABLE, OF_ARCHIVE
from dicomweb.imports.folders import Folder, Refused, refusal
from dicomweb.imports.importer import incoming_folder
from dicomweb.languages import N_
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
    "not-dicom": Reason(N_("Not a DICOM file"), N_("If it should be one, export it again from where it came. Otherwise nothing is lost: leave it or remove it.")),
    "truncated": Reason(N_("The file ends too early"), N_("The copy was probably cut off. Copy the file again from its source, over the one in the folder, and try again; or upload it again.")),
    "unreadable": Reason(N_("The file cannot be read"), N_("Its encoding is broken at the place that is named, or the disk cannot give it. Export or copy it again, then try again."), True),
    "too-deep": Reason(N_("Sequences are nested too deep"), N_("No usual file is so deep. If it is meant to be, raise the setting headers.max_depth, start again and try again.")),
    "too-many-elements": Reason(N_("The header has too many elements"), N_("If it is meant to be, raise the setting headers.max_elements, start again and try again.")),
    "too-large": Reason(N_("The file is too large"), N_("Raise the setting that is named (import.max_file_bytes or headers.max_inflated_bytes), start again and try again.")),
    "missing-uid": Reason(N_("A UID is missing"), N_("Without StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID nobody can tell which image this is. Correct it where it is made and export it again.")),
    "bad-uid": Reason(N_("A UID is no UID"), N_("Correct it where the file is made and export it again.")),
    "wrong-study": Reason(N_("The file is of another study"), N_("It was stored to the address of one study and belongs to another one. Store it again without naming a study.")),
    "permission-denied": Reason(N_("The importer may not read the file"), N_("Let the user that runs the application read the file and the folders above it, then try again."), True),
    "file-gone": Reason(N_("The file is no longer there"), N_("Put it back where it was, then try again; or delete the batch and drop the folder again."), True),
    "not-a-file": Reason(N_("Not a file"), N_("Links, pipes and devices are never followed or opened. Put the file itself into the folder, then try again.")),
    "name-too-long": Reason(N_("The path is too long"), N_("Give the file or the folders above it shorter names, and drop the folder or upload the files again.")),
    "changed-while-reading": Reason(N_("The file changed while it was read"), N_("It was still being written. Wait until it is complete, then try again."), True),
    FOLDER_UNREADABLE: Reason(N_("A folder cannot be read"), N_("Let the user that runs the application list the folder, then try again."), True),
    "ends-worker": Reason(N_("The file ends the program that reads it"), N_("Please report it, with the file if that is possible. The other files of the batch are not affected.")),
    "reader-failed": Reason(N_("The reader failed"), N_("This is a defect of the application; the log of the worker has the details. Please report it.")),
    "archive-damaged": Reason(N_("An archive is damaged"), N_("It was cut off, or its files are not those that were packed. Make the archive again, or unpack it and upload its files.")),
    "archive-encrypted": Reason(N_("A file in an archive is encrypted"), N_("Unpack the archive with its password and upload the files.")),
    "archive-gone": Reason(N_("The archive is not there any more"), N_("Upload it again.")),
    "archive-method": Reason(N_("A file in an archive is compressed in an unusual way"), N_("Pack it as an ordinary ZIP archive, or unpack it and upload its files.")),
    "archive-no-file": Reason(N_("An archive holds a link or a device"), N_("If it should be a file, pack the file itself; links are never followed.")),
    "archive-ratio": Reason(N_("An archive unpacks to too many times its size"), N_("If it is meant to be, unpack it and upload its files, or raise the setting upload.archive_max_ratio, start again and try again.")),
    "archive-too-deep": Reason(N_("An archive lies in archives too deep"), N_("Unpack it and upload its files, or raise the setting upload.archive_depth, start again and upload it again.")),
    "archive-too-large": Reason(N_("An archive, or a file in it, is too large"), N_("Unpack it and upload its files in parts, or raise the setting (upload.archive_max_bytes or import.max_file_bytes), start again and upload it again.")),
    "archive-too-many": Reason(N_("An archive has too many files"), N_("Unpack it and upload its files in parts, or raise the setting upload.archive_max_files, start again and try again.")),
    "conflict": Reason(
        N_("The SOPInstanceUID is used twice"),
        N_("Both files are kept. Look at what differs: of an image that was corrected delete the earlier one, and tell the maker of files that have nothing to do with each other."),
    ),
    "duplicate": Reason(N_("The image is here already"), N_("Nothing is to be done: it is the same file, byte by byte.")),
    "dicomdir": Reason(N_("A table of contents"), N_("Nothing is to be done: the files that it names are imported by themselves.")),
    "system-file": Reason(N_("A file of the operating system"), N_("Nothing is to be done.")),
}  # fmt: skip
OTHER = Reason(N_("Something else"), N_("What happened is said beside each file."), True)


def first_bytes(settings: Settings, batch: Batch, failed: Outcome) -> bytes:
    """Read the beginning of a file that failed, at most FIRST_BYTES, never through a link. Raises Refused.

    An uploaded file lies in the folder of deliveries, under a number; its path is only a name, which a file of the batch's folder may
    have too.
    """
    if failed.place is not None:
        folder, path = str(incoming_folder(settings)), failed.place
    elif failed.code.startswith(OF_ARCHIVE):
        raise Refused("file-gone", N_("The file lies in an archive that was uploaded, and was not unpacked."))
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
