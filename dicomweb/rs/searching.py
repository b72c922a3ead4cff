"""QIDO-RS: search for studies, series and instances (PS3.18 10.6).

The order is the order of import, so that ``offset`` pages neither repeat nor hide what was there. A request takes a number of
statements that does not depend on the number of results. A study or series is found when one of its images matches; the values of
its attributes are those of the first image that does, counts and ModalitiesInStudy are those of the whole study or series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from pyramid.response import Response
from sqlalchemy.orm import Session

from dicomweb import index, search
from dicomweb.db import among, fetch
from dicomweb.headers.dictionary import CREATOR_CHARACTERS, ESCAPED
from dicomweb.models import GroupSeries, Image, Series, Study
from dicomweb.rs import attributes, uris, xml
from dicomweb.rs.errors import Refused
from dicomweb.rs.instances import shadowed_keys
from dicomweb.rs.listing import read_rows
from dicomweb.rs.matching import MOST_RESULTS, Key, Question, Scope, read_question
from dicomweb.rs.negotiation import MULTIPART, Offer, choose
from dicomweb.rs.selections import Whole, select
from dicomweb.rs.transactions import Parameter, Transaction
from dicomweb.search.quality import studies_of_several_patients, values_of_studies
from dicomweb.security import Permission

JSON = "application/dicom+json"
OFFERS = (Offer(JSON), Offer("application/json"), Offer(MULTIPART, {"type": "application/dicom+xml"}))
_OF_IDENTITY = (Study.id.label("study_id"), Study.study_instance_uid, Series.id.label("series_id"), Series.series_instance_uid)
# Made once: to put a statement together takes longer than to answer it.
_IDENTITIES: dict[str, Any] = {
    "study": sa.select(Study.id, Study.study_instance_uid).where(among(Study.id, "ids")),
    "series": sa.select(*_OF_IDENTITY).join(Study, Study.id == Series.study_key).where(among(Series.id, "ids")),
    "image": sa.select(Image.header_key, Image.sop_instance_uid, *_OF_IDENTITY)
    .join(Series, Series.id == Image.series_id)
    .join(Study, Study.id == Series.study_key)
    .where(among(Image.header_key, "ids")),
}
_HELD = (
    sa.select(Series.study_key, Series.id, Series.modality, sa.func.sum(GroupSeries.images))
    .join(GroupSeries, GroupSeries.series_id == Series.id)
    .where(Series.series_instance_uid != "")
    .group_by(Series.study_key, Series.id, Series.modality)
)
_HELD_OF_STUDIES, _HELD_OF_SERIES = _HELD.where(among(Series.study_key, "ids")), _HELD.where(among(Series.id, "ids"))
_SHADOWED = sa.select(Image.series_id, sa.func.count()).where(among(Image.header_key, "keys")).group_by(Image.series_id)
_MARKED = b'"BulkDataURI":' + orjson.dumps(index.MARK)[:-1]
_PARENTS = {"study": (), "series": ("study",), "image": ("study", "series")}

# What is told of an attribute, as serialised DICOM JSON: tag -> element.
Elements = dict[str, bytes]


class Identity(NamedTuple):
    """Which study, series and image a row is of: their ids here, and their UIDs."""

    study_id: int
    study_uid: str
    series_id: int = 0
    series_uid: str | None = None
    sop_uid: str | None = None


def search_for_studies(request: Any) -> Response:
    """Answer ``/studies``."""
    return _search(request, "study", ("study",))


def search_for_series(request: Any) -> Response:
    """Answer ``/series`` and ``/studies/{study}/series``."""
    return _search(request, "series", ("series",) if "study" in request.matchdict else ("study", "series"))


def search_for_instances(request: Any) -> Response:
    """Answer ``/instances``, and those below a study and a series."""
    here = request.matchdict
    levels = ("image",) if "series" in here else ("series", "image") if "study" in here else ("study", "series", "image")
    return _search(request, "image", levels)


def _search(request: Any, level: str, levels: Sequence[str]) -> Response:
    offer = choose(request, OFFERS)
    here = request.matchdict
    base = uris.service_url(request)
    try:
        rows, warnings = find_rows(request.dbsession, request.GET, level, levels, base, here.get("study"), here.get("series"))
    except search.SearchError as error:
        raise Refused(400, str(error)) from error
    response = _response(offer, rows)
    # PS3.18 8.3.4.4 and 8.3.4.5
    response.headers.extend(("Warning", f'299 {base}: "{warning}"') for warning in warnings)
    return response


def find_rows(
    dbsession: Session, parameters: Any, level: str, levels: Sequence[str], base: str, study_uid: str | None = None, series_uid: str | None = None
) -> tuple[list[bytes], list[str]]:
    """Give the results of a search as DICOM JSON objects, and what is to be said about them. Raises Refused, SearchError.

    parameters: as ``matching.read_question`` takes them. levels: whose attributes are given. base: of the addresses in the results.
    """
    question = read_question(dbsession, parameters)
    shadowed = shadowed_keys(dbsession)
    selected = select(dbsession, question, level, study_uid, series_uid, shadowed)
    # One more than is wanted tells whether more follow.
    found = selected.page(level, question.limit + 1, question.offset) if question.limit else {}
    page = dict(islice(found.items(), question.limit))
    rows = _rows(dbsession, page, level, levels, question, base, shadowed, in_rows=isinstance(selected, Whole))
    warnings = list(question.warnings)
    if len(found) > question.limit:
        remaining = selected.count(level) - question.offset - question.limit
        warnings.append(f"There are {remaining} additional results that can be requested")
    if level == "study" and (mixed := len(studies_of_several_patients(dbsession, page))):
        warnings.append(f"{mixed} of these studies {'has' if mixed == 1 else 'have'} images of several patients; the first of them is told")
    return rows, warnings


def _response(offer: Offer, rows: Sequence[bytes]) -> Response:
    if offer.part_type != "application/dicom+xml":
        return Response(b"[" + b",".join(rows) + b"]", content_type=offer.media_type, charset=None)
    if not rows:
        # A multipart message has at least one part.
        return Response(status=204, content_type=None, charset=None)
    return Response(app_iter=xml.parts(rows), headerlist=[("Content-Type", xml.CONTENT_TYPE)])


def _rows(
    dbsession: Session,
    firsts: Mapping[int, int],
    level: str,
    levels: Sequence[str],
    question: Question,
    base: str,
    shadowed: Collection[int],
    *,
    in_rows: bool,
) -> list[bytes]:
    """Make the DICOM JSON objects of rows, in their order; what was removed meanwhile is left out.

    firsts: id of the image, series or study -> header key of the image that says its attributes. in_rows: the rows of studies and series may say them.
    """
    if not firsts:
        return []
    identities = _identities(dbsession, level, firsts)
    known = [id_ for id_ in firsts if id_ in identities]
    wanted = {id_: firsts[id_] for id_ in known}
    if question.everything and level == "image":
        values = _read_all(dbsession, wanted.values(), levels)
    else:
        # Rows serve long lists; where UIDs are named, there are few, and what the first image says is read from it.
        values = _read_some(dbsession, wanted, level, levels, question, in_rows=in_rows and level != "image" and question.scope == Scope())
    counts = _Counts(dbsession, levels, [identities[id_] for id_ in known], shadowed)
    asked_for_classes = any(key.top == attributes.SOP_CLASSES for key in question.included)
    classes = values_of_studies(dbsession, {identity.study_id for identity in identities.values()}, attributes.SOP_CLASS) if asked_for_classes else None
    rows = []
    for id_ in known:
        elements = values.get(firsts[id_])
        if elements is None:
            continue
        identity = identities[id_]
        if level != "image":
            # The bulk data of one image is none of the study or series.
            elements = {tag: element for tag, element in elements.items() if _MARKED not in element}
        _add_computed(elements, identity, levels, counts, base)
        if classes is not None:
            elements[attributes.SOP_CLASSES] = _texts("UI", sorted(classes.get(identity.study_id, ())))
        row = b"{" + b",".join(b'"%s":%s' % (tag.encode(), elements[tag]) for tag in sorted(elements)) + b"}"
        if _MARKED in row and identity.series_uid is not None and identity.sop_uid is not None:
            prefix = uris.bulk_prefix(base, identity.study_uid, identity.series_uid, identity.sop_uid)
            row = row.replace(_MARKED, b'"BulkDataURI":"' + prefix.encode())
        rows.append(row)
    return rows


def _identities(dbsession: Session, level: str, ids: Collection[int]) -> dict[int, Identity]:
    rows = fetch(dbsession, _IDENTITIES[level], ids=ids)
    if level == "study":
        return {row[0]: Identity(*row) for row in rows}
    if level == "series":
        return {row.series_id: Identity(*row) for row in rows}
    return {key: Identity(study_id, study_uid, id_, uid, sop_uid) for key, sop_uid, study_id, study_uid, id_, uid in rows}


def _read_some(
    dbsession: Session, firsts: Mapping[int, int], level: str, levels: Sequence[str], question: Question, *, in_rows: bool
) -> dict[int, Elements]:
    """Read the attributes of a level and those that were asked for, of the first image of each row.

    in_rows: the rows of studies and series may say it.
    """
    tags = {tag for one in levels for tag in (*attributes.REQUIRED[one], *attributes.OPTIONAL[one])}
    if question.everything:
        tags.update(tag for one in (*_PARENTS[level], level) for tag in attributes.ALL[one])
    if level == "image":
        tags.add(attributes.SYNTAX)
    creators: set[tuple[str, str, str]] = set()
    for key in question.included:
        tags.update(_tags_of(key))
        if key.top is None:
            creators.update(_parts_of(field.path) for field in key.fields)
    tags -= attributes.COMPUTED
    groups = {group for group, _, _ in creators}
    empty = {tag: attributes.EMPTY[tag] for one in levels for tag in attributes.REQUIRED[one]}
    values: dict[int, Elements] = {}
    if in_rows and not creators:
        values = {key: empty | elements for key, elements in read_rows(dbsession, level, firsts, tags).items()}
    others = [key for key in firsts.values() if key not in values]
    for group in index.read_elements(dbsession, others, tags, groups) if others else ():
        shared = empty | {tag: orjson.dumps(element) for tag, element in group.shared.items()}
        for ordinal in group.ordinals:
            elements = shared | {tag: cells[ordinal] for tag, cells in group.varying.items() if cells[ordinal]}
            values[group.first + ordinal] = _without_strangers(elements, tags, creators) if creators else elements
    return values


def _tags_of(key: Key) -> set[str]:
    """Give the tags that an attribute is read by: a private one is nothing without its creator (PS3.5 7.8.1)."""
    if key.top is None:
        return set()
    is_private = int(key.top[3], 16) % 2 == 1 and key.top[4:6] != "00"
    return {key.top, f"{key.top[:4]}00{key.top[4:6]}"} if is_private else {key.top}


def _parts_of(path: str) -> tuple[str, str, str]:
    """Split ``0019[GEMS_ACQU_01]02``, the top of a path, into group, creator and element."""
    top = path.split("/")[0]
    return top[:4], top[5:-3], top[-2:]


def _without_strangers(elements: Elements, tags: Collection[str], creators: Collection[tuple[str, str, str]]) -> Elements:
    """Leave out of groups that were read as a whole what was not asked for."""
    blocks: dict[tuple[str, str], str] = {}
    for tag, element in elements.items():
        if int(tag[3], 16) % 2 and tag[4:6] == "00":
            named = orjson.loads(element).get("Value") or [""]
            blocks[tag[:4], tag[6:]] = str(named[0])[:CREATOR_CHARACTERS].translate(ESCAPED)
    kept = {tag: element for tag, element in elements.items() if tag in tags or not int(tag[3], 16) % 2}
    for tag, element in elements.items():
        if (tag[:4], blocks.get((tag[:4], tag[4:6])), tag[6:]) in creators:
            kept[tag] = element
            creator = f"{tag[:4]}00{tag[4:6]}"
            kept[creator] = elements[creator]
    return kept


def _read_all(dbsession: Session, keys: Collection[int], levels: Sequence[str]) -> dict[int, Elements]:
    """Read all elements of images."""
    headers = index.read_headers(dbsession, keys, bulk_prefix=lambda key: orjson.dumps(index.MARK)[1:-1])
    metas = index.read_meta(dbsession, keys)
    empty = {tag: attributes.EMPTY[tag] for one in levels for tag in attributes.REQUIRED[one]}
    found = {}
    for key, header in headers.items():
        elements = empty | {tag: orjson.dumps(element) for tag, element in orjson.loads(header).items()}
        if attributes.SYNTAX in metas[key]:
            elements[attributes.SYNTAX] = metas[key][attributes.SYNTAX]
        found[key] = elements
    return found


class _Counts:
    """How much the studies and series of some rows hold, read in two statements."""

    def __init__(self, dbsession: Session, levels: Sequence[str], identities: Sequence[Identity], hidden: Collection[int]) -> None:
        self.series: dict[int, int] = defaultdict(int)
        self.instances: dict[int, int] = defaultdict(int)
        self.of_series: dict[int, int] = defaultdict(int)
        self.modalities: dict[int, set[str]] = defaultdict(set)
        if levels[0] == "image":
            return
        if levels[0] == "study":
            held = fetch(dbsession, _HELD_OF_STUDIES, ids={identity.study_id for identity in identities})
        else:
            held = fetch(dbsession, _HELD_OF_SERIES, ids={identity.series_id for identity in identities})
        shadowed = self._shadowed(dbsession, hidden)
        for study_id, series_id, modality, images in held:
            count = int(images) - shadowed.get(series_id, 0)
            self.series[study_id] += 1
            self.instances[study_id] += count
            self.of_series[series_id] = count
            if modality:
                self.modalities[study_id].add(modality)

    @staticmethod
    def _shadowed(dbsession: Session, keys: Collection[int]) -> Mapping[int, int]:
        if not keys:
            return {}
        return {series_id: count for series_id, count in fetch(dbsession, _SHADOWED, keys=keys) if series_id is not None}


def _add_computed(elements: Elements, identity: Identity, levels: Sequence[str], counts: _Counts, base: str) -> None:
    """Add what no header says; the UIDs are those of the address."""
    elements[attributes.CHARACTER_SET] = b'{"vr":"CS","Value":["ISO_IR 192"]}'
    elements[attributes.STUDY_UID] = _uid(identity.study_uid)
    address = uris.resource_url(base, identity.study_uid, identity.series_uid, identity.sop_uid)
    elements[attributes.RETRIEVE_URL] = b'{"vr":"UR","Value":[%s]}' % orjson.dumps(address)
    if identity.series_uid is not None:
        elements[attributes.SERIES_UID] = _uid(identity.series_uid)
    if identity.sop_uid is not None:
        elements[attributes.SOP_UID] = _uid(identity.sop_uid)
    if "study" in levels or "image" in levels:
        elements[attributes.AVAILABILITY] = b'{"vr":"CS","Value":["ONLINE"]}'
    if "study" in levels:
        elements[attributes.MODALITIES] = _texts("CS", sorted(counts.modalities[identity.study_id]))
        elements[attributes.STUDY_SERIES] = _number(counts.series[identity.study_id])
        elements[attributes.STUDY_INSTANCES] = _number(counts.instances[identity.study_id])
    if "series" in levels:
        elements[attributes.SERIES_INSTANCES] = _number(counts.of_series[identity.series_id])
    if (syntax := elements.pop(attributes.SYNTAX, None)) is not None and levels[-1] == "image":
        elements[attributes.AVAILABLE_SYNTAX] = syntax


def _uid(uid: str) -> bytes:
    return b'{"vr":"UI","Value":[%s]}' % orjson.dumps(uid)


def _texts(vr: str, texts: Iterable[str]) -> bytes:
    values = list(texts)
    return orjson.dumps({"vr": vr, "Value": values} if values else {"vr": vr})


def _number(number: int) -> bytes:
    return b'{"vr":"IS","Value":[%d]}' % number


_WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
_PARAMETERS = (
    Parameter("limit", f"How many results at most; never more than {MOST_RESULTS}.", _WHOLE),
    Parameter("offset", "How many results to leave out first.", _WHOLE),
    Parameter("includefield", "Attributes to be given beside those that always are, separated by commas, or all."),
    Parameter("fuzzymatching", "Fuzzy matching of names is not done; the answer says so.", {"type": "string", "enum": ["true", "false"]}),
    Parameter("emptyvaluematching", 'Whether the value "" means no value.', {"type": "string", "enum": ["true", "false"]}),
    Parameter("PatientID", "One of the attributes: any keyword, tag or dotted path is a parameter."),
    Parameter("PatientName", "One of the attributes."),
    Parameter("StudyDate", "One of the attributes: a date, or a range such as 20200101-20200630."),
    Parameter("ModalitiesInStudy", "One of the attributes: modalities, separated by commas."),
)


def _transaction(name: str, path: str, view: Any, sentence: str) -> Transaction:
    answers = (JSON, "application/json", MULTIPART)
    return Transaction(name, "GET", path, view, Permission.IMAGE_READ, sentence, answers, _PARAMETERS, (204, 400, 406))


TRANSACTIONS = (
    _transaction("search_for_studies", "/studies", search_for_studies, "Search for studies."),
    _transaction("search_for_series", "/series", search_for_series, "Search for series of all studies."),
    _transaction("search_for_instances", "/instances", search_for_instances, "Search for instances of all studies."),
    _transaction("search_for_series_of_study", "/studies/{study}/series", search_for_series, "Search for series of a study."),
    _transaction("search_for_instances_of_study", "/studies/{study}/instances", search_for_instances, "Search for instances of a study."),
    _transaction(
        "search_for_instances_of_series", "/studies/{study}/series/{series}/instances", search_for_instances, "Search for instances of a series."
    ),
)
