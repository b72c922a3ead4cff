"""The search page. Everything one chose is in its address, and every click is a link to another address."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from pyramid.view import view_config

from dicomweb import asking, languages, ohif, query, search
from dicomweb.asking import Mistake, Question
from dicomweb.exports import KINDS
from dicomweb.languages import gettext
from dicomweb.models import Image, SavedSearch
from dicomweb.resources import SearchResource
from dicomweb.search import labels, saved
from dicomweb.security import Permission
from dicomweb.views import SeeOther, see_other
from dicomweb.views.formats import of_level
from dicomweb.views.messages import message

ROWS_OF_A_PAGE = 50
VALUES_OF_A_FACET = 10
# Of a facet that is asked for more.
MOST_VALUES = 200
MOST_FACETS = 12
# Each costs a count.
MOST_LOOSER = 8
USUAL_FACETS = "Modality,Manufacturer,BodyPartExamined,StudyDate,SliceThickness,PatientSex"
# What narrows a search to one row of a level.
_UIDS = {"series": "SeriesInstanceUID", "study": "StudyInstanceUID"}
# What a viewer is told of a row.
_UIDS_OF_VIEWER = {"series": ("StudyInstanceUID", "SeriesInstanceUID"), "study": ("StudyInstanceUID",)}
_ID = re.compile(r"[1-9][0-9]{0,17}")
_PARTS = ("q", "level", "columns", "sort", "facets", "more", "after")


class Place:
    """What the address of a search says: a query, a level, and what is shown of the result."""

    def __init__(self, given: dict[str, str]) -> None:
        self._given = given

    @classmethod
    def of(cls, parameters: Any) -> Place:
        """Read the parameters of a request; a level that is none is the usual one."""
        given = {name: parameters.get(name, "").strip() for name in _PARTS}
        if given["level"] not in asking.LEVELS:
            given["level"] = "image"
        return cls(given)

    def __getitem__(self, name: str) -> str:
        return self._given[name]

    def address(self, path: str = "/search", **changes: str) -> str:
        """Give the address of this place with some changes; another query, level or order begins at the first page."""
        first = {} if "after" in changes else {"after": ""}
        given = {**self._given, **first, **changes}
        parts = [(name, value) for name, value in given.items() if value and (name, value) != ("level", "image")]
        return f"{path}?{urlencode(parts)}" if parts else path

    def here(self, path: str = "/search", **changes: str) -> str:
        """Give the address of this place with some changes, at the page of the result where one is."""
        return self.address(path, **{"after": self._given["after"], **changes})

    def parts(self, *without: str) -> list[tuple[str, str]]:
        """Give what a form has to repeat."""
        return [(name, value) for name, value in self._given.items() if value and name not in without]


class ShownColumn(NamedTuple):
    """The head of a column."""

    name: str
    title: str
    sorted: str
    sort_address: str
    remove_address: str


class ShownRow(NamedTuple):
    """A row of the table. links: what a button says, how it is read out, and where it leads."""

    id: int
    links: list[tuple[str, str, str]]
    batch: str
    batch_address: str
    cells: list[str]
    labels: list[ShownLabel]


class ShownLabel(NamedTuple):
    """A label, and the address of the search for it."""

    name: str
    address: str


@dataclass
class ShownMistake:
    """What is wrong, and the part of the query that it is about."""

    mistake: Mistake
    suggestion_address: str

    @property
    def before(self) -> str:
        """The query before the part."""
        return self.mistake.text[: self.mistake.position or 0]

    @property
    def marked(self) -> str:
        """The part itself, which may be empty: something is missing there."""
        position = self.mistake.position or 0
        return self.mistake.text[position : position + self.mistake.length]

    @property
    def after(self) -> str:
        """The query behind the part."""
        return self.mistake.text[(self.mistake.position or 0) + self.mistake.length :]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mistake, name)


@view_config(context=SearchResource, renderer="search.jinja2", permission=Permission.IMAGE_READ)
def show_search(context: SearchResource, request: Any) -> dict[str, Any]:
    """Show the box, and what was found."""
    place = Place.of(request.GET)
    if "facet" in request.GET:
        names = [name for name in (place["facets"] or USUAL_FACETS, request.GET["facet"].strip()) if name]
        place = Place({**place._given, "facets": ",".join(names)})
    page: dict[str, Any] = {
        "place": place,
        "levels": [(gettext(name), place.address(level=level), level == place["level"]) for level, name in asking.LEVELS.items()],
        "kept": place.parts("q", "after"),
        "text": place["q"],
        "facts": search.FACTS,
        "mistake": None,
        "result": None,
        "sentence": "",
        "console": request.registry.settings["dicomweb"]["console.enabled"],
        "ohif_list": ohif.URL if ohif.installed() else "",
        "message": message(request),
        **_shelves(request, place),
    }
    try:
        return {**page, **_result(request, place)}
    except Mistake as mistake:
        request.response.status = 400
        mended = {mistake.name: mistake.mended} if mistake.mended and mistake.name in _PARTS else {}
        return {**page, "mistake": ShownMistake(mistake, place.address(**mended))}


def _result(request: Any, place: Place) -> dict[str, Any]:
    dbsession, began = request.dbsession, time.perf_counter()
    question = read_place(place)
    facets_fields = asking.read_fields(place["facets"], "facets") if place["facets"] else ()
    names = dict.fromkeys((*question.column_names, *_UIDS_OF_VIEWER.get(question.level, ())))
    with asking.mistakes("q", question.text):
        found = search.find(
            dbsession,
            question.node,
            level=question.level,
            columns=list(names),
            sort=question.sort,
            size=ROWS_OF_A_PAGE,
            after=place["after"] or None,
        )
    took = round((time.perf_counter() - began) * 1000)
    page: dict[str, Any] = {
        "result": found,
        "sentence": spoken(question),
        "took_ms": took,
        "terms": _terms(place, question) if place["q"] else [],
    }
    if not found.total:
        everything = search.count(dbsession, query.EVERYTHING) if place["q"] else 0
        return {**page, "empty_database": not everything, "looser": _looser(request, place, question) if everything else []}
    with_facets = request.GET.get("counted") == "yes"
    return {
        **page,
        "columns": [_column(place, question, column) for column in question.columns],
        "rows": [_row(place, question, row) for row in found.rows],
        "next_address": place.address(after=found.next) if found.next else "",
        "previous_address": place.address(after=found.previous) if found.previous else "",
        "first_address": place.address() if place["after"] else "",
        "exports": [
            (name, export_address(kind, q=place["q"], level=place["level"], columns=place["columns"])) for kind, name in KINDS.items()
        ],
        "any_labels": any(row.labels for row in found.rows),
        "column_text": ", ".join(question.column_names),
        "usual_address": place.address(columns="") if place["columns"] else "",
        "facets": _facets(request, place, question, facets_fields) if with_facets else None,
        "facets_address": place.address("/search/facets"),
        "counted_address": _with(place.here(), "counted=yes"),
    }


def spoken(question: Question) -> str:
    """Say a query back as a sentence that begins with a capital."""
    sentence = query.sentence(question.node)
    return sentence[:1].upper() + sentence[1:]


def read_place(place: Place) -> Question:
    """Read the question that an address asks. Raises Mistake."""
    return asking.read_question(
        place["q"], level=place["level"], columns=place["columns"], sort=place["sort"], now=datetime.now(UTC)
    )


@view_config(context=SearchResource, name="facets", renderer="_facets.jinja2", permission=Permission.IMAGE_READ)
def show_facets(context: SearchResource, request: Any) -> dict[str, Any]:
    """Give what a result is made of, as a part of the page."""
    place = Place.of(request.GET)
    try:
        question = read_place(place)
        fields = asking.read_fields(place["facets"], "facets") if place["facets"] else ()
        return {"place": place, "facets": _facets(request, place, question, fields)}
    except Mistake as mistake:
        return {"place": place, "facets": [], "mistake": mistake}


@view_config(context=SearchResource, name="varies", renderer="varies.jinja2", permission=Permission.IMAGE_READ)
def show_varies(context: SearchResource, request: Any) -> dict[str, Any]:
    """Show what is the same in all images of a result, and what is not."""
    place = Place.of(request.GET)
    page: dict[str, Any] = {"place": place, "mistake": None}
    try:
        question = read_place(place)
        with asking.mistakes("q", question.text):
            found = search.varies(request.dbsession, question.node)
            total = search.count(request.dbsession, question.node)
    except Mistake as mistake:
        request.response.status = 400
        return {**page, "mistake": mistake}
    elements = [(one.constant, _element(place, question, one)) for one in found]
    return {
        **page,
        "sentence": spoken(question),
        "total": total,
        "varying": [element for constant, element in elements if not constant],
        "constant": [element for constant, element in elements if constant],
    }


def _element(place: Place, question: Question, one: search.Varying) -> dict[str, Any]:
    name = query.field_at(one.path).name
    facets = place.address(facets=f"{name},{place['facets'] or USUAL_FACETS}")
    return {
        "name": name,
        "vr": one.vr,
        "images": one.images,
        "distinct": one.distinct,
        "more": one.more,
        "examples": [text for text, _ in one.texts],
        "address": "" if one.vr == "SQ" else facets,
    }


def _terms(place: Place, question: Question) -> list[dict[str, str]]:
    """Give the conditions that must all hold, each with the address of the search without it."""
    return [
        {"text": query.unparse(one), "address": place.address(q=query.unparse(asking.without(question.node, one)))}
        for one in asking.conditions(question.node)
    ]


def _looser(request: Any, place: Place, question: Question) -> list[dict[str, Any]]:
    """Say what there would be without one of the conditions, the most restrictive first."""
    conditions = asking.conditions(question.node)
    if len(conditions) < 2:
        return []
    found = []
    for one in conditions[:MOST_LOOSER]:
        rest = asking.without(question.node, one)
        total = search.count(request.dbsession, rest, question.level)
        if total:
            found.append({"text": query.unparse(one), "count": total, "address": place.address(q=query.unparse(rest))})
    return sorted(found, key=lambda one: -one["count"])


def _column(place: Place, question: Question, column: asking.Column) -> ShownColumn:
    others = [name for name in question.column_names if name != column.name]
    descending = dict(question.sort).get(column.name)
    turned = f"-{column.name}" if descending is False else column.name
    return ShownColumn(
        column.name,
        gettext(search.FACTS[column.name]) if column.field is None else f"{column.field.path} {column.field.vr}",
        {None: "", False: "ascending", True: "descending"}[descending],
        place.address(sort="" if descending else turned),
        place.address(columns=",".join(others)),
    )


def _row(place: Place, question: Question, row: search.Row) -> ShownRow:
    batch = f"/batches/{row.batch_id}"
    image = f"{batch}/images/{row.image_id}"
    uid = _UIDS.get(question.level)
    links = [(gettext("View"), gettext("View image %(id)s", id=row.image_id), image)]
    if uid is not None and row.values.get(uid):
        narrowed = asking.added(question.node, query.equals(query.resolve(uid), row.values[uid]))
        where = place.address(q=query.unparse(narrowed), level="image", columns="", sort="")
        links.insert(0, (gettext("Images"), gettext("The images of %(level)s %(id)s", level=gettext(question.level), id=row.id), where))
    viewed = [row.values.get(name, "") for name in _UIDS_OF_VIEWER.get(question.level, ())]
    if viewed and all(viewed) and (address := ohif.viewer_address(*viewed)):
        links.append(("OHIF", gettext("Open %(level)s %(id)s in OHIF", level=gettext(question.level), id=row.id), address))
    cells = [row.values.get(name, "") for name in question.column_names]
    return ShownRow(row.id, links, row.batch, batch, cells, [shown_label(name) for name in row.labels])


def search_address(query_text: str = "", **values: str) -> str:
    """Give the address of a search: a query, and elements that have these values; empty when a value is missing."""
    if not all(values.values()):
        return ""
    terms = [query.unparse(query.equals(query.resolve(name), value)) for name, value in values.items()]
    return f"/search?{urlencode({'q': ' '.join(filter(None, [query_text, *terms]))})}"


def shown_label(name: str) -> ShownLabel:
    """Give a label with the address of the search for it."""
    return ShownLabel(name, search_address(f"label:{query.write_value(name)}"))


def _facets(request: Any, place: Place, question: Question, fields: Sequence[query.Field]) -> list[dict[str, Any]]:
    chosen = fields or asking.read_fields(USUAL_FACETS)
    names = [field.name for field in chosen]
    made = []
    with asking.mistakes("q", question.text):
        wanted = [(field, MOST_VALUES if field.name == place["more"] else VALUES_OF_A_FACET) for field in chosen[:MOST_FACETS]]
        for facet in asking.read_facets(request.dbsession, question, wanted):
            field, name = facet.field, facet.field.name
            opened = name == place["more"]
            if not fields and facet.missing == facet.total:
                # Nobody asked for it, and there is nothing of it.
                continue
            largest = max((value.count for value in facet.values), default=0) or 1
            others = ",".join(other for other in names if other != name)
            made.append(
                {
                    "name": name,
                    "values": [
                        {
                            "text": value.text,
                            "count": value.count,
                            "chosen": value.condition is not None and asking.has(question.node, value.condition),
                            "part": round(100 * value.count / largest) if facet.histogram else None,
                            "address": ""
                            if value.condition is None
                            else place.address(q=query.unparse(asking.toggled(question.node, value.condition))),
                        }
                        for value in facet.values
                    ],
                    "opened": opened,
                    "more": facet.more,
                    "more_address": place.here(more="" if opened else name),
                    "more_fragment": place.here("/search/facets", more="" if opened else name),
                    "missing": facet.missing,
                    "missing_address": place.address(
                        q=query.unparse(asking.added(question.node, query.Term(field, query.Missing())))
                    ),
                    "remove_address": place.here(facets=others) if others else "",
                }
            )
    return made


def export_address(kind: str, **asked: str) -> str:
    """Give the address of a result as a file."""
    given = {name: value for name, value in asked.items() if value and (name, value) != ("level", "image")}
    return f"/search/export?{urlencode({**given, 'format': kind})}"


def _shelves(request: Any, place: Place) -> dict[str, Any]:
    """Give what is offered below the result: saved searches and labels."""
    return {
        "saved": _saved(request, counted=False),
        "labels": [(shown_label(label.name), _uses(label)) for label in labels.list_labels(request.dbsession)],
    }


def _uses(label: labels.LabelUse) -> list[str]:
    """Tell on how many of each kind a label is: ``["1 batch", "35 images"]``."""
    levels = (("study", label.studies), ("series", label.series), ("image", label.images))
    batches = [languages.counted("%(n)s batch", "%(n)s batches", label.batches)] if label.batches else []
    return batches + [of_level(number, level) for level, number in levels if number]


def _saved(request: Any, *, counted: bool) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    shown = []
    for one in saved.list_saved(request.dbsession):
        usual = list(search.DEFAULT_COLUMNS[one.level]) == one.columns
        place = Place({**dict.fromkeys(_PARTS, ""), "q": one.query, "level": one.level, "columns": "" if usual else ",".join(one.columns)})
        count, wrong = None, ""
        if counted:
            try:
                with asking.mistakes("q", one.query):
                    count = saved.count_saved(request.dbsession, one, now=now)
            except Mistake as mistake:
                wrong = mistake.sentence
        shown.append({"id": one.id, "name": one.name, "address": place.address(), "count": count, "mistake": wrong})
    return shown


@view_config(context=SearchResource, name="saved", renderer="_saved.jinja2", permission=Permission.IMAGE_READ)
def show_saved(context: SearchResource, request: Any) -> dict[str, Any]:
    """Give the saved searches with what they find now, as a part of the page."""
    return {"saved": _saved(request, counted=True)}


@view_config(context=SearchResource, name="save", request_method="POST", permission=Permission.SEARCH_SAVE)
def save_search(context: SearchResource, request: Any) -> SeeOther:
    """Give a search a name."""
    place = Place.of(request.POST)
    try:
        question = read_place(place)
        with asking.mistakes("name", ""):
            saved.save_search(
                request.dbsession,
                request.POST.get("name", ""),
                question.text,
                level=question.level,
                columns=question.column_names,
                now=datetime.now(UTC),
            )
    except Mistake:
        return _back(request, place, "not-saved")
    return _back(request, place, "saved")


@view_config(context=SearchResource, name="forget", request_method="POST", permission=Permission.SEARCH_SAVE)
def forget_search(context: SearchResource, request: Any) -> SeeOther:
    """Forget a saved search."""
    number = request.POST.get("id", "")
    found = request.dbsession.get(SavedSearch, int(number)) if _ID.fullmatch(number) else None
    if found is not None:
        saved.delete_saved(request.dbsession, found.name)
    return see_other(request, "/search", message="forgotten")


@view_config(context=SearchResource, name="label", request_method="POST", permission=Permission.LABEL_CHANGE)
def label_result(context: SearchResource, request: Any) -> SeeOther:
    """Put a label on everything that a search finds or on some rows of it, or take it off."""
    place, given = Place.of(request.POST), request.POST
    put, name, rows = given.get("do") != "remove", given.get("label", ""), _chosen(request)
    if "take" in given:
        # A button on a row: the number of the row, and the label.
        number, _, name = given["take"].partition(" ")
        put, rows = False, [int(number)] if _ID.fullmatch(number) else []
    try:
        if given.get("on") == "rows" or "take" in given:
            if not rows:
                return _back(request, place, "no-rows")
            asking.change_label_of(request.dbsession, place["level"], rows, name, put=put, now=datetime.now(UTC))
            return _back(request, place, "labelled-rows" if put else "unlabelled-rows")
        asking.change_label(request.dbsession, read_place(place), name, put=put, now=datetime.now(UTC))
    except Mistake:
        return _back(request, place, "not-labelled")
    return _back(request, place, "labelled" if put else "unlabelled")


@view_config(context=SearchResource, name="forget-label", request_method="POST", permission=Permission.LABEL_CHANGE)
def forget_label(context: SearchResource, request: Any) -> SeeOther:
    """Forget a label that is on nothing."""
    name = request.POST.get("label", "")
    if any(label.name == name and not _uses(label) for label in labels.list_labels(request.dbsession)):
        labels.delete_label(request.dbsession, name)
        return see_other(request, "/search", message="label-forgotten")
    return see_other(request, "/search", message="label-used")


@view_config(context=SearchResource, name="compare", request_method="POST", permission=Permission.IMAGE_READ)
def compare_rows(context: SearchResource, request: Any) -> SeeOther:
    """Lead to the difference of two images that are chosen in a result."""
    chosen = _chosen(request)
    if len(chosen) != 2:
        return _back(request, Place.of(request.POST), "not-two")
    return see_other(request, f"/search/diff?one={chosen[0]}&other={chosen[1]}")


def _chosen(request: Any) -> list[int]:
    return [int(number) for number in request.POST.getall("row")[:ROWS_OF_A_PAGE] if _ID.fullmatch(number)]


def _back(request: Any, place: Place, done: str) -> SeeOther:
    return see_other(request, _with(place.here(), f"done={done}"))


def _with(path: str, parameter: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{parameter}"


@view_config(context=SearchResource, name="diff", renderer="diff.jinja2", permission=Permission.IMAGE_READ)
def show_diff(context: SearchResource, request: Any) -> dict[str, Any]:
    """Show in what the headers of two images differ."""
    numbers = [request.GET.get(name, "").strip() for name in ("one", "other")]
    page: dict[str, Any] = {"one": numbers[0], "other": numbers[1], "images": [], "rows": None, "error": ""}
    if not any(numbers):
        return page
    found = [request.dbsession.get(Image, int(number)) if _ID.fullmatch(number) else None for number in numbers]
    images = [image for image in found if image is not None]
    if len(images) < len(found):
        request.response.status = 404
        gone = numbers[found.index(None)]
        return {**page, "error": gettext("There is no image %(gone)s.", gone=gone[:20]) if gone else gettext("Two images are compared; one number is missing.")}
    try:
        rows = search.diff(request.dbsession, *images)
    except search.SearchError as error:
        request.response.status = 409
        return {**page, "error": str(error)}
    return {**page, "images": images, "rows": rows}


@view_config(context=SearchResource, name="language", renderer="language.jinja2", permission=Permission.IMAGE_READ)
def show_language(context: SearchResource, request: Any) -> dict[str, Any]:
    """Show what can be written in a query."""
    return {"operators": [(one, f"/search?{urlencode({'q': one.example})}") for one in query.OPERATORS]}
