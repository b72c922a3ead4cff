"""Files become images of a batch: scan, read, store, index; each step safe to repeat.

``scan_batch`` lists a folder and cuts its files into chunks. ``import_chunk`` reads and hashes the files of one chunk without
any lock, writes their bytes as one pack, and commits images, header index and outcomes in one short transaction together
with the end of its job. A chunk that is done twice changes nothing; a chunk that was interrupted anywhere left nothing but a
pack that its next attempt removes.

Every file gets exactly one outcome: it is an image, or it has an ``Outcome`` row that says why not (a conflict has both).

Modules: ``scanning``, ``chunks`` (the one transaction), ``reading`` and ``folders`` (files, safely), ``families`` (patients,
studies, series), ``outcomes``, ``reasons`` (what to do about them), ``sources`` (where the bytes are afterwards), ``deliveries`` (files
that come over the network), ``uploads`` (files that people send, in pieces) and ``unpacking`` (archives among them), ``importer``
(what every step needs).
"""

from dicomweb.imports.chunks import Chunk, import_begun_chunk, import_chunk
from dicomweb.imports.cleaning import (
    CannotClean,
    Cleanable,
    ask_clean,
    clean_all,
    clean_old,
    clean_source,
    cleanable,
    count_cleanable,
    kept_files,
    read_only_roots,
    why_not,
)
from dicomweb.imports.deliveries import (
    Delivery,
    Sender,
    announce,
    clear_left,
    remove_delivery,
    wait_until_done,
)
from dicomweb.imports.importer import Importer, Stopping, incoming_folder
from dicomweb.imports.scanning import scan_batch
from dicomweb.imports.sources import locate, remove_sources, unpack_fragments
from dicomweb.imports.unpacking import unpack_archive
from dicomweb.imports.uploads import (
    MOST_KEY,
    MOST_SAID,
    FileBusy,
    NothingToImport,
    OpenUpload,
    SentFile,
    TooMuch,
    UploadGone,
    WrongOffset,
    announce_upload,
    announced,
    begin_upload,
    clear_uploads,
    discard_upload,
    folders_of_batch,
    limits,
    open_uploads,
    size_of,
    suggested_name,
)

__all__ = [
    "MOST_KEY",
    "MOST_SAID",
    "CannotClean",
    "Chunk",
    "Cleanable",
    "Delivery",
    "FileBusy",
    "Importer",
    "NothingToImport",
    "OpenUpload",
    "Sender",
    "SentFile",
    "Stopping",
    "TooMuch",
    "UploadGone",
    "WrongOffset",
    "announce",
    "announce_upload",
    "announced",
    "ask_clean",
    "begin_upload",
    "clean_all",
    "clean_old",
    "clean_source",
    "cleanable",
    "clear_left",
    "clear_uploads",
    "count_cleanable",
    "discard_upload",
    "folders_of_batch",
    "import_begun_chunk",
    "import_chunk",
    "incoming_folder",
    "kept_files",
    "limits",
    "locate",
    "open_uploads",
    "read_only_roots",
    "remove_delivery",
    "remove_sources",
    "scan_batch",
    "size_of",
    "suggested_name",
    "unpack_archive",
    "unpack_fragments",
    "wait_until_done",
    "why_not",
]
