"""What requests about searches, saved searches and labels may say, and what the answers look like; see ``schemas``."""

from __future__ import annotations

import colander

from dicomweb.api.schemas import Query, Schema, anything, filter_of, flag, listing, moment, one_of, whole
from dicomweb.api.schemas import text as words
from dicomweb.api.types import Id, Listed, Words
from dicomweb.asking import FORMATS, LEVELS, LONGEST_TEXT
from dicomweb.listing import MAX_PAGE_SIZE, PAGE_SIZE
from dicomweb.search import labels, saved

# What a list in a request may name; more would be a statement no database likes.
MOST_FACETS = 20
MOST_VALUES = 1000
MOST_SUGGESTIONS = 50
MOST_TARGETS = 1000


def _query() -> colander.SchemaNode:
    sentence = "What is looked for, in the language of docs/search.md; everything when it is missing."
    longest = colander.Length(max=LONGEST_TEXT)
    return filter_of(words(sentence, example="Modality:CT SliceThickness:<=1.5", validator=longest))


def _level() -> colander.SchemaNode:
    return words("What is found: images, series or studies.", missing="image", validator=one_of(LEVELS))


def _columns() -> colander.SchemaNode:
    sentence = "Keywords or tags, separated by commas; the usual ones of the level when it is missing."
    return filter_of(words(sentence, example="PatientID,SeriesDescription"))


class SearchFilters(Query):
    """The parameters of a search."""

    q = _query()
    level = _level()
    columns = _columns()
    sort = filter_of(
        words("Columns to order by, separated by commas; with a minus the largest first.", example="-StudyDate")
    )
    size = whole(
        "How many results a page has; 0 only counts.", missing=PAGE_SIZE, validator=colander.Range(0, MAX_PAGE_SIZE)
    )
    after = filter_of(words("Which page: the cursor that is in the addresses next and previous of an answer."))


class FacetFilters(Query):
    """The parameters of facets."""

    q = _query()
    level = _level()
    fields = words("Keywords or tags, separated by commas.", example="Modality,Manufacturer")
    limit = whole(
        "How many values of each, the most frequent first.", missing=20, validator=colander.Range(1, MOST_VALUES)
    )


class VariesFilters(Query):
    """The parameters of what varies."""

    q = _query()


class ExportFilters(Query):
    """The parameters of an export."""

    q = _query()
    level = _level()
    columns = _columns()
    format = words("The form of the file.", missing="csv", validator=one_of(FORMATS))


class ArchiveFilters(Query):
    """The parameters of an archive of images."""

    q = _query()


class CompleteFilters(Query):
    """The parameters of completion."""

    text = filter_of(
        words(
            "What has been typed; nothing yet when it is missing.",
            example="Modal",
            validator=colander.Length(max=LONGEST_TEXT),
        )
    )
    cursor = filter_of(
        whole(
            "Where the cursor is, in characters; at the end when it is missing.",
            validator=colander.Range(0, LONGEST_TEXT),
        )
    )
    only = filter_of(words("fields: the text is a list of keywords and tags.", validator=one_of(["fields"])))
    limit = whole("How many suggestions at most.", missing=12, validator=colander.Range(1, MOST_SUGGESTIONS))


# --- Bodies ---------------------------------------------------------------------------------------------------------


def _name(description: str, longest: int, **options: object) -> colander.SchemaNode:
    return words(description, validator=colander.Length(min=1, max=longest), **options)


class NewSearch(Schema):
    """A search to be saved; one of the same name is replaced."""

    name = _name("Its name.", saved.LONGEST_NAME, example="Thin CT")
    query = colander.SchemaNode(
        Words(), description="The query.", missing="", validator=colander.Length(max=LONGEST_TEXT), example="Modality:CT"
    )
    level = _level()
    columns = colander.SchemaNode(
        Listed(),
        colander.SchemaNode(Words(), name="column"),
        description="Names of columns; the usual ones of the level when there are none.",
        missing=[],
        example=["PatientID"],
    )


class Labelling(Schema):
    """What a label is put on or taken from: things by their numbers, or all that a query finds at a level."""

    label = _name("The label; one that is not there yet is made.", labels.LONGEST_NAME, example="knees")
    kind = filter_of(words("What the numbers are of.", validator=one_of(labels.KINDS)))
    ids = filter_of(
        colander.SchemaNode(
            Listed(),
            colander.SchemaNode(Id(), name="id", validator=colander.Range(1)),
            description="Numbers of batches, studies, series or images.",
            validator=colander.Length(min=1, max=MOST_TARGETS),
            example=[7],
        )
    )
    query = filter_of(
        colander.SchemaNode(
            Words(),
            description="Instead of kind and ids: a query; * is everything.",
            validator=colander.Length(min=1, max=LONGEST_TEXT),
            example="Modality:CT",
        )
    )
    level = _level()


# --- Answers --------------------------------------------------------------------------------------------------------


class ResultColumn(Schema):
    """A column of a result."""

    name = words("Its name, which is also that of its values.", example="PatientID")
    path = words("Its place in the header; null for a fact that is in no header.", example="00100020", nullable=True)
    keyword = words("The keyword of the element; empty without one.", example="PatientID")


class Result(Schema):
    """An image, series or study that was found."""

    id = whole("Its number.", example=99)
    url = words("Its address.", example="/api/images/99")
    batch = whole("The batch of it, or of its first matching image.")
    batch_name = words("The name of that batch.")
    batch_url = words("The address of that batch.", example="/api/batches/7")
    image = whole("Itself, or its first matching image.")
    image_url = words("Its address.", example="/api/images/99")
    series = whole("The series of that image.")
    series_url = words("Its address.", example="/api/series/12")
    study = whole("The study of that image.")
    study_url = words("Its address.", example="/api/studies/5")
    images_count = whole("How many of its images match.")
    labels = listing(colander.SchemaNode(colander.String(), name="label"), "The labels on itself.", example=["knees"])
    values = anything("Its texts, by the names of the columns; what it does not have is left out.", example={"PatientID": "4711"})


class SearchResult(Schema):
    """A page of a result."""

    count = whole("How many there are in all, exactly.")
    next = words("The address of the next page; null on the last one.", nullable=True)
    previous = words("The address of the page before; null on the first one.", nullable=True)
    query = words("The query as it was understood.", example="Modality:CT")
    sentence = words("The query as a sentence.", example="Modality is CT")
    level = words("What was looked for.", validator=one_of(LEVELS))
    columns = listing(ResultColumn(name="column"), "The columns of the values.")
    results = listing(Result(name="result"), "The results of this page.")
    took_ms = whole("How many milliseconds it took.")


class FacetValue(Schema):
    """A value of a facet, or a range of numbers."""

    text = words("The value, or the range as people write it.", example="CT")
    count = whole("How many have it.")
    query = words(
        "The query that also asks for it; null for a value no query can write.", example="Modality:CT", nullable=True
    )


class Facet(Schema):
    """What there is of one element in a result."""

    path = words("The element.", example="00080060")
    keyword = words("Its keyword; empty without one.", example="Modality")
    total = whole("How many were found in all.")
    missing = whole("How many of them do not have it.")
    more = flag("There are more values than these.")
    histogram = flag("The values are ranges of numbers.")
    values = listing(FacetValue(name="value"), "The most frequent values first; the ranges of a histogram in their order.")


class Facets(Schema):
    """What there is in a result."""

    query = words("The query as it was understood.")
    level = words("What was counted.", validator=one_of(LEVELS))
    facets = listing(Facet(name="facet"), "One for each element asked for.")
    took_ms = whole("How many milliseconds it took.")


class Varying(Schema):
    """An element of a result."""

    path = words("The element.", example="00080060")
    keyword = words("Its keyword; empty without one.", example="Modality")
    vr = words("Its value representation.", example="CS")
    images_count = whole("How many images have it.")
    distinct_count = whole("How many different values it has.")
    distinct_more = flag("There are more different values than were counted.")
    examples = listing(colander.SchemaNode(colander.String(), name="example"), "A few of its values.", example=["CT"])


class Varies(Schema):
    """What is the same in all images of a result, and what is not."""

    count = whole("How many images were found.")
    constant = listing(Varying(name="element"), "What all of them have with the same value.")
    varying = listing(Varying(name="element"), "What differs, or is missing in some.")
    took_ms = whole("How many milliseconds it took.")


class DifferentElement(Schema):
    """An element that two images do not have in common."""

    path = words("The element; the second and further items of a sequence are numbered.", example="00080060")
    keyword = words("Its keyword; empty without one.", example="Modality")
    vr = words("Its value representation.", example="CS")
    one = words("The value of the first image; null when it has none.", nullable=True)
    other = words("The value of the second image; null when it has none.", nullable=True)


class Difference(Schema):
    """The difference of the headers of two images."""

    one = whole("The first image.")
    one_url = words("Its address.", example="/api/images/7")
    other = whole("The second image.")
    other_url = words("Its address.", example="/api/images/8")
    elements = listing(DifferentElement(name="element"), "The elements that differ, in the order of their paths.")


class Suggestion(Schema):
    """A way to go on."""

    text = words("What to write between start and end.", example="Modality:")
    label = words("What people see.", example="Modality")
    help = words("What it is.", example="(0008,0060) CS")


class Completion(Schema):
    """How what has been typed can go on."""

    kind = words("What is being typed: field, value or operator.")
    prefix = words("What has been typed of it.")
    start = whole("From which character on a suggestion replaces what has been typed.")
    end = whole("Up to which character.")
    options = listing(Suggestion(name="option"), "The suggestions, the best first.")


class SavedSearch(Schema):
    """A search with a name."""

    id = whole("Its number.", example=3)
    url = words("Its address.", example="/api/searches/3")
    name = words("Its name.", example="Thin CT")
    query = words("The query.", example="Modality:CT")
    level = words("What it finds.", validator=one_of(LEVELS))
    columns = listing(colander.SchemaNode(colander.String(), name="column"), "Its columns.", example=["PatientID"])
    created_at = moment("When it was saved.")
    count = whole("How many it finds now; null when it cannot be answered any more.", nullable=True)
    search_url = words("The search.", example="/api/search?q=Modality%3ACT")


class Label(Schema):
    """A label."""

    id = whole("Its number.", example=4)
    url = words("Its address.", example="/api/labels/4")
    name = words("What it says.")
    created_at = moment("When it was made.")
    batches_count = whole("How many batches it is on.")
    studies_count = whole("How many studies it is on.")
    series_count = whole("How many series it is on.")
    images_count = whole("How many images it is on itself.")


class Labelled(Schema):
    """How many a label was put on or taken from."""

    label = words("The label.", example="knees")
    changed = whole("On how many of them it was put, or from how many it was taken.")


class SavedSearches(Schema):
    """The searches with a name."""

    results = listing(SavedSearch(name="search"), "All of them, in alphabetical order.")


class Labels(Schema):
    """The labels."""

    results = listing(Label(name="label"), "All of them, in alphabetical order.")
