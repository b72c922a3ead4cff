"""What requests may say and what answers look like, as colander schemas; the Swagger document is made from them.

A class below is a definition of the document by its own name. ``nullable`` and ``example`` on a node go into the document.
"""

from __future__ import annotations

from typing import Any

import colander

from dicomweb.api.types import Flag, Whole, Words
from dicomweb.listing import MAX_PAGE_SIZE, PAGE_SIZE
from dicomweb.models import BATCH_STATUS, IMAGE_STATUS, JOB_STATUS

# Far beyond any list, and small enough that no page begins beyond what a database can count.
LAST_PAGE = 1_000_000_000


class Schema(colander.MappingSchema):
    """A definition of the document, named after its class."""

    def __init__(self, *children: Any, **options: Any) -> None:
        options.setdefault("title", type(self).__name__)
        super().__init__(*children, **options)


def _node(kind: Any, description: str, **options: Any) -> colander.SchemaNode:
    return colander.SchemaNode(kind, description=description, **options)


def whole(description: str, **options: Any) -> colander.SchemaNode:
    """Describe a whole number."""
    return _node(Whole(), description, **options)


def text(description: str, **options: Any) -> colander.SchemaNode:
    """Describe a text."""
    return _node(Words(), description, **options)


def flag(description: str, **options: Any) -> colander.SchemaNode:
    """Describe a true or false."""
    return _node(Flag(), description, **options)


def moment(description: str, **options: Any) -> colander.SchemaNode:
    """Describe a moment: ISO 8601 in UTC with Z."""
    return _node(colander.DateTime(), description, **{"example": "2026-11-21T09:30:00.125000Z", **options})


def listing(item: Any, description: str, **options: Any) -> colander.SchemaNode:
    """Describe an array."""
    return colander.SchemaNode(colander.Sequence(), item, description=description, **options)


def anything(description: str, **options: Any) -> colander.SchemaNode:
    """Describe an object whose names are not known beforehand."""
    return _node(colander.Mapping(unknown="preserve"), description, **options)


def one_of(choices: Any) -> Any:
    """Allow only these texts."""
    return colander.OneOf(list(choices))


# --- What requests may say ------------------------------------------------------------------------------------------


class Query(colander.MappingSchema):
    """The parameters of a query string."""


class Paging(Query):
    """The parameters of every list."""

    page = whole(
        "Which page, counted from 1. A page beyond the end is empty.", missing=1, validator=colander.Range(1, LAST_PAGE)
    )
    page_size = whole("How many results a page has.", missing=PAGE_SIZE, validator=colander.Range(1, MAX_PAGE_SIZE))


def filter_of(node: colander.SchemaNode) -> colander.SchemaNode:
    """Make a node an optional filter."""
    node.missing = colander.drop
    return node


class BatchFilters(Paging):
    """The parameters of the list of batches."""

    status = filter_of(text("Only batches with this status.", validator=one_of(BATCH_STATUS)))
    has_error = filter_of(flag("Only batches with errors, or only those without."))
    name = filter_of(text("Only batches whose name contains this text, in upper or lower case."))
    sort = text(
        "By which column; with a minus the largest first.",
        missing="id",
        validator=one_of(["id", "-id", "name", "-name", "created_at", "-created_at", "modified_at", "-modified_at"]),
    )


class Deletion(Query):
    """The parameters of a deletion."""

    at_once = flag("Begin at once; it cannot be taken back then.", missing=False)


class ImageFilters(Paging):
    """The parameters of the list of images."""

    batch = filter_of(whole("Only images of the batch with this id.", validator=colander.Range(1)))
    status = filter_of(text("Only images with this status.", validator=one_of(IMAGE_STATUS)))
    series = filter_of(whole("Only images of the series with this id.", validator=colander.Range(1)))
    sop_instance_uid = filter_of(text("Only images with this (0008,0018) SOPInstanceUID."))
    has_error = filter_of(flag("Only images in conflict with another one, or only those that are not."))
    sort = text("In which order; -id is the newest first.", missing="id", validator=one_of(["id", "-id"]))


class SeriesFilters(Paging):
    """The parameters of the list of series."""

    batch = filter_of(whole("Only series with images in the batch with this id.", validator=colander.Range(1)))
    study = filter_of(whole("Only series of the study with this id.", validator=colander.Range(1)))
    modality = filter_of(text("Only series with this (0008,0060) Modality."))
    series_instance_uid = filter_of(text("Only series with this (0020,000E) SeriesInstanceUID."))
    sort = text("In which order; -id is the newest first.", missing="id", validator=one_of(["id", "-id"]))


class StudyFilters(Paging):
    """The parameters of the list of studies."""

    batch = filter_of(whole("Only studies with images in the batch with this id.", validator=colander.Range(1)))
    patient_id = filter_of(text("Only studies of patients with this (0010,0020) PatientID."))
    accession_number = filter_of(text("Only studies with this (0008,0050) AccessionNumber."))
    study_date = filter_of(
        text("Only studies of this (0008,0020) StudyDate, as YYYYMMDD.", validator=colander.Regex(r"^[0-9]{8}$"))
    )
    study_instance_uid = filter_of(text("Only studies with this (0020,000D) StudyInstanceUID."))
    sort = text("In which order; -id is the newest first.", missing="id", validator=one_of(["id", "-id"]))


class HeaderFilters(Paging):
    """The parameters of the list of header elements."""

    text = filter_of(
        text(
            "Only elements whose path begins with this text, or whose keyword contains it, in upper or lower case.",
            example="SliceThick",
        )
    )


class JobFilters(Paging):
    """The parameters of the list of jobs."""

    status = filter_of(text("Only jobs with this status.", validator=one_of(JOB_STATUS)))
    batch = filter_of(whole("Only jobs of the batch with this id.", validator=colander.Range(1)))
    sort = text("In which order; -id is the newest first.", missing="id", validator=one_of(["id", "-id"]))


def request(
    query: type[Query] | None = None, *, identified: str | None = None, body: type[Schema] | None = None, **ids: str
) -> colander.MappingSchema:
    """Describe a request. identified: the sentence for the id in its path; ids: those for other ids in it."""
    schema = colander.MappingSchema()
    schema.add((query or Query)(name="querystring"))
    if identified:
        path = colander.MappingSchema(name="path")
        for name, sentence in {"id": identified, **ids}.items():
            path.add(whole(sentence, name=name, example=7, validator=colander.Range(1)))
        schema.add(path)
    if body is not None:
        schema.add(body(name="body", description=(body.__doc__ or "").strip().splitlines()[0]))
    return schema


# --- What answers look like -----------------------------------------------------------------------------------------


class Problem(Schema):
    """One thing that is wrong with a request."""

    location = text("Where: querystring, path, header, body, method or url; empty when it is nowhere in the request.")
    name = text("The name of the parameter or header; empty when there is none.")
    description = text("What is wrong, as a sentence.", example='"abc" is not a whole number.')
    position = filter_of(whole("Of a mistake in a query: at which character it begins, counted from 0.", example=9))
    length = filter_of(whole("Of a mistake in a query: how many characters it has.", example=13))
    expected = filter_of(text("Of a mistake in a query: what was expected there.", example="a keyword or a tag"))
    suggestion = filter_of(text("Of a mistake in a query: what was perhaps meant.", example="SliceThickness"))


class Refusal(Schema):
    """The answer to every request that is not carried out."""

    status = text("Always error.", validator=one_of(["error"]))
    errors = listing(Problem(name="problem"), "One entry for each thing that is wrong.")


class FileError(Schema):
    """What happened to a file that did not simply become an image."""

    id = whole("Its number.", example=3)
    file = text("The file, relative to the folder of its batch.", example="series 2/IM0007.dcm")
    kind = text(
        "error or conflict; duplicate or skipped for a notice.",
        validator=one_of(["error", "conflict", "duplicate", "skipped"]),
    )
    code = text("A short stable name for programs.", example="truncated")
    message = text("A sentence for people.")
    when = moment("When this was found.")
    size = whole("Bytes of the file.", nullable=True)
    image = whole("conflict: the image this file became; duplicate: the one that is already here.", nullable=True)
    image_url = text("Its address.", nullable=True)
    other_image = whole("conflict: the image that was here first.", nullable=True)
    other_image_url = text("Its address.", nullable=True)


class BatchRow(Schema):
    """A batch in a list: what arrived together."""

    id = whole("Its number.", example=7)
    url = text("Its address.", example="/api/batches/7")
    name = text("Its name: the folder's, with a number when the name was taken.", example="knee (2)")
    source = text("Through which door it came.", example="folder")
    path = text("The folder its files lie in; a byte that is no UTF-8 is written \\xNN.", nullable=True)
    status = text("How far it is.", validator=one_of(BATCH_STATUS))
    status_text = text("The status as a sentence.")
    deleting = flag("It is being deleted with all its images.")
    delete_at = moment("When its deletion begins, which can be taken back until then.", nullable=True)
    has_error = flag("Some files could not be imported, or are in conflict.")
    progress = colander.SchemaNode(
        colander.Float(),
        description="How many of its files have an outcome, from 0 to 1.",
        validator=colander.Range(0, 1),
    )
    created_at = moment("When it arrived.")
    modified_at = moment("When it last changed.")
    files_count = whole("Files found.")
    done_count = whole("Files that have an outcome.")
    images_count = whole("Images, those in conflict included.")
    errors_count = whole("Files with an error or a conflict.")
    notices_count = whole("Files left out on purpose: duplicates, and files that are no images.")
    bytes = whole("Bytes of its images.")
    images_url = text("Where its images are listed.", example="/api/images?batch=7")
    errors_url = text("Where all its errors are listed.", example="/api/batches/7/errors")
    notices_url = text("Where all its notices are listed.", example="/api/batches/7/notices")


class Batch(BatchRow):
    """A batch with its first errors."""

    errors = listing(FileError(name="error"), "The first hundred errors; errors_url lists all.")


class Retried(Schema):
    """What a retry set going."""

    retried = whole("How many files are tried again.")
    batch_url = text("The address of their batch.", example="/api/batches/7")


class Arrival(Schema):
    """A folder (or loose file) in a watched folder that is no batch yet."""

    id = whole("Its number; it keeps it as long as it waits.", example=4)
    url = text("Its address.", example="/api/arrivals/4")
    path = text("Where it is; a byte that is no UTF-8 is written \\xNN.")
    is_folder = flag("Only a folder can become a batch.")
    files_count = whole("Files in it.")
    bytes = whole("Bytes of its files.")
    reason = text("Why it waits, as a sentence.")
    seen_at = moment("When it was first seen.")
    changed_at = moment("When its content last changed.")
    import_url = text(
        "POST here to import it as it is; null for a loose file.", nullable=True, example="/api/arrivals/4/import"
    )


class ImageRow(Schema):
    """An image in a list: one DICOM instance of a batch."""

    id = whole("Its number.", example=123)
    url = text("Its address.", example="/api/images/123")
    file = text("The file it was, relative to the folder of its batch; a byte that is no UTF-8 is written \\xNN.")
    file_url = text("Where its bytes are; null before it is imported.", nullable=True, example="/api/images/123/file")
    batch = whole("Its batch.", example=7)
    batch_url = text("The address of its batch.", example="/api/batches/7")
    status = text("How far it is.", validator=one_of(IMAGE_STATUS))
    status_text = text("The status as a sentence.")
    sop_instance_uid = text("(0008,0018) SOPInstanceUID.", nullable=True)
    version = whole("0, or a higher number for an image with the SOPInstanceUID of an earlier one and other bytes.")
    modality = text("(0008,0060) Modality of its series.", nullable=True, example="CT")
    series = whole("Its series.", nullable=True, example=12)
    series_url = text("The address of its series.", nullable=True, example="/api/series/12")
    series_instance_uid = text("(0020,000E) SeriesInstanceUID.", nullable=True)
    study = whole("Its study.", nullable=True, example=5)
    study_url = text("The address of its study.", nullable=True, example="/api/studies/5")
    study_instance_uid = text("(0020,000D) StudyInstanceUID.", nullable=True)
    instance_number = whole("(0020,0013) InstanceNumber.", nullable=True)
    elements_count = whole("Header elements, nested ones included.", nullable=True)
    size = whole("Bytes of the file.", nullable=True)
    added_at = moment("When it was imported.", nullable=True)


class Image(ImageRow):
    """An image with everything known about it."""

    sha256 = text("SHA-256 of the file, in hexadecimal digits.", nullable=True)
    stored = flag("The application keeps the bytes itself; otherwise they are only where the file was.")
    file_meta = anything("The file meta information (group 0002) in the DICOM JSON model; empty before it is imported.")
    headers = anything("All header elements in the DICOM JSON model (PS3.18 Annex F); empty before it is imported.")
    errors = listing(FileError(name="error"), "The conflict with another image, when there is one.")


class Patient(Schema):
    """Who was imaged."""

    patient_id = text("(0010,0020) PatientID.")
    patient_name = text("(0010,0010) PatientName.", example="Doe^Jane")
    patient_birth_date = text("(0010,0030) PatientBirthDate.", example="19701231")
    patient_sex = text("(0010,0040) PatientSex.", example="F")


class Series(Schema):
    """A series."""

    id = whole("Its number.", example=12)
    url = text("Its address.", example="/api/series/12")
    series_instance_uid = text("(0020,000E) SeriesInstanceUID.")
    modality = text("(0008,0060) Modality.", example="CT")
    series_number = text("(0020,0011) SeriesNumber.", example="3")
    series_description = text("(0008,103E) SeriesDescription.")
    series_date = text("(0008,0021) SeriesDate.", example="20260131")
    series_time = text("(0008,0031) SeriesTime.", example="093000")
    body_part_examined = text("(0018,0015) BodyPartExamined.", example="KNEE")
    protocol_name = text("(0018,1030) ProtocolName.")
    images_count = whole("How many images of it are here.")
    images_url = text("Where its images are listed.", example="/api/images?series=12")
    study = whole("Its study.", example=5)
    study_url = text("The address of its study.", example="/api/studies/5")
    study_instance_uid = text("(0020,000D) StudyInstanceUID.")
    patient = Patient()


class Study(Schema):
    """A study."""

    id = whole("Its number.", example=5)
    url = text("Its address.", example="/api/studies/5")
    study_instance_uid = text("(0020,000D) StudyInstanceUID.")
    study_date = text("(0008,0020) StudyDate.", example="20260131")
    study_time = text("(0008,0030) StudyTime.", example="091500")
    accession_number = text("(0008,0050) AccessionNumber.")
    study_id = text("(0020,0010) StudyID.")
    study_description = text("(0008,1030) StudyDescription.")
    referring_physician_name = text("(0008,0090) ReferringPhysicianName.")
    modalities = listing(
        colander.SchemaNode(colander.String(), name="modality"),
        "The modalities of its series, in alphabetical order.",
        example=["CT", "SEG"],
    )
    series_count = whole("How many series of it are here.")
    images_count = whole("How many images of it are here.")
    series_url = text("Where its series are listed.", example="/api/series?study=5")
    patient = Patient()


class HeaderElement(Schema):
    """A header element that some image has."""

    path = text(
        "Its place in the header; nested ones with slashes, private ones with their creator.", example="00180050"
    )
    keyword = text("The keyword of the Standard; empty for a private or unknown element.", example="SliceThickness")
    vr = text("The value representation it was first seen with.", example="DS")
    images_count = whole("How many images have it.")
    examples = listing(
        colander.SchemaNode(colander.String(), name="example"), "A few of its values.", example=["1.25", "5"]
    )


class Job(Schema):
    """What a worker owes."""

    id = whole("Its number.", example=99)
    url = text("Its address.", example="/api/jobs/99")
    kind = text("What is to be done.", example="import_chunk")
    status = text("How far it is.", validator=one_of(JOB_STATUS))
    status_text = text("The status as a sentence.")
    batch = whole("The batch it is about.", nullable=True)
    batch_url = text("The address of that batch, which may have been deleted since.", nullable=True)
    attempts = whole("How often a worker began it.")
    worker = text("The worker that is, or was last, on it.", nullable=True)
    error = text("Why the last attempt failed, as a sentence.", nullable=True)
    created_at = moment("When it was ordered.")
    due_at = moment("It is not begun before.")
    started_at = moment("When the last attempt began.", nullable=True)
    finished_at = moment("When it was done, or failed for good.", nullable=True)
    retry_url = text(
        "POST here to try it again; null unless it has failed.", nullable=True, example="/api/jobs/99/retry"
    )


class WatchedFolder(Schema):
    """A watched folder."""

    path = text("Where it is; a byte that is no UTF-8 is written \\xNN.")
    ok = flag("It is watched.")
    sentence = text("How it is watched, or what is wrong with it.")


class WatcherState(Schema):
    """The process that looks after the watched folders."""

    active = flag("It runs.")
    sentence = text("The same for people.")
    pid = whole("Its process id.", nullable=True)
    since = moment("When it was started.", nullable=True)
    seen_at = moment("Its last sign of life.", nullable=True)
    folders = listing(WatchedFolder(name="folder"), "The watched folders.")


class WorkerState(Schema):
    """A worker process."""

    name = text("Its host and process id.", example="scanner-pc:4711")
    started_at = moment("When it was started.")
    seen_at = moment("Its last sign of life.")


class Queue(Schema):
    """How many jobs there are of each status."""

    queued = whole("They wait for a worker.")
    running = whole("A worker is on them.")
    done = whole("They were done lately.")
    failed = whole("They failed too often, and wait for a person.")


class Totals(Schema):
    """What there is in all."""

    batches = whole("Batches.")
    images = whole("Images.")
    series = whole("Series.")
    studies = whole("Studies.")
    bytes = whole("Bytes of all images.")
    errors = whole("Files with an error or a conflict.")


class State(Schema):
    """The state of the application: its watcher, its workers, what they have to do, and what there is."""

    watcher = WatcherState()
    workers = listing(WorkerState(name="worker"), "The workers that are alive, the oldest first.")
    workers_expected = whole("How many workers there should be.", example=5)
    queue = Queue()
    waiting = whole("How many arrivals wait in the watched folders.")
    totals = Totals()


def page_of(item: type[Schema]) -> type[Schema]:
    """Describe a page of a list."""
    members = {
        "__doc__": f"A page of a list of {item.__name__}.",
        "count": whole("How many results there are on all pages."),
        "next": text("The address of the next page; null on the last one.", nullable=True),
        "previous": text("The address of the page before; null on the first one.", nullable=True),
        "results": listing(item(name="result"), "The results of this page."),
    }
    return type(f"{item.__name__}Page", (Schema,), members)


class File(Schema):
    """The bytes of a DICOM file; in the document they are binary text."""

    media_types = ("application/dicom",)


class TableFile(Schema):
    """A table as a file."""

    media_types = (
        "text/csv",
        "text/tab-separated-values",
        "application/x-ndjson",
        "application/vnd.apache.parquet",
    )


class Archive(Schema):
    """DICOM files in a ZIP archive."""

    media_types = ("application/zip",)


class Answer(colander.MappingSchema):
    """One status a request may be answered with. It never changes."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Answer:
        """Give itself: Cornice copies what it hands on to Pyramid, which was a third of the time it took to make the application."""
        return self


_REFUSALS = {
    400: "Something in the request is wrong; each entry says what.",
    401: "The password is needed: HTTP Basic with any user name, or the cookie of a browser session.",
    403: "This is not allowed; with the lockdown off, also any request that is not to an address of this machine itself.",
    404: "There is no such thing.",
    409: "It cannot be done in the present state.",
    413: "The body of the request is too large.",
    415: "The body is not JSON, or nothing but a JSON object without members is taken.",
    429: "Too many wrong passwords, and the header Retry-After says how many seconds to wait; or too many downloads at once.",
    500: "The application failed.",
    503: "The database cannot be reached; try again later.",
}
ALWAYS = (400, 401, 403, 429, 500, 503)


def answers(body: type[Schema] | None, description: str, *refusals: int, status: int = 200) -> dict[str, Answer]:
    """Describe what an operation answers. refusals: the ones it has besides those that every operation has."""
    good = Answer(description=description)
    if body is not None:
        good.add(body(name="body"))
    found = {str(status): good}
    for number in sorted({*ALWAYS, *refusals}):
        refusal = Answer(description=_REFUSALS[number])
        refusal.add(Refusal(name="body"))
        found[str(number)] = refusal
    return found
