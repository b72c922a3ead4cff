"""From the tree of a query to an expression of the header index.

Patient, study and series rows hold what the *first* image said, cut short and without further values, so no condition is
answered from them but those on the UIDs that they are rows of: the index gives the same answer for what agrees, and the right
one for what does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index, query
from dicomweb.index.dialect import dialect_of
from dicomweb.index.expressions import leaves
from dicomweb.languages import gettext
from dicomweb.models import BATCH_STATUS, Batch, Field, Image, Label, LabelLink, Series, Study
from dicomweb.search.errors import SearchError, TooBroad, TooLarge
from dicomweb.search.globs import Glob

# Conditions that `**.` may stand for; together with all others they must stay below what a statement can hold.
MOST_PATHS = 100

# As PS3.5 9.1 has it, and of no fewer components than any root has.
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){3,}")
_NOBODY = index.Or(())


def compile_query(dbsession: Session, node: query.Node) -> index.Expression:
    """Make an expression of a query tree. Raises TooLarge, TooBroad and SearchError.

    Reads the paths that `**.` stands for and the batches and labels that are named, a statement each.
    """
    expression = _compile(dbsession, node)
    try:
        for _ in leaves(expression):
            pass
    except index.ExpressionTooLarge as error:
        raise TooLarge(gettext("The query is too large: %(reason)s.", reason=error)) from error
    return expression


def paths_of(dbsession: Session, field: query.Field) -> list[str]:
    """Give the paths that a field stands for, in order: its own, or with any depth all known ones that end in it. Raises TooBroad."""
    if not field.any_depth:
        return [field.path]
    ends = sa.or_(Field.path == field.path, Field.path.endswith("/" + field.path, autoescape=True))
    found = list(dbsession.scalars(sa.select(Field.path).where(ends).order_by(Field.id).limit(MOST_PATHS + 1)))
    if len(found) > MOST_PATHS:
        message = gettext("%(name)s stands for more than %(most)s paths; please name one of them.", name=f"**.{field.keyword or field.path}", most=MOST_PATHS)
        raise TooBroad(message)
    # SQLite's LIKE knows no case.
    return sorted(path for path in found if path == field.path or path.endswith("/" + field.path))


def _compile(dbsession: Session, node: query.Node) -> index.Expression:
    match node:
        case query.And(operands):
            return index.And(tuple(_compile(dbsession, operand) for operand in operands))
        case query.Or(operands):
            return index.Or(tuple(_compile(dbsession, operand) for operand in operands))
        case query.Not(operand):
            return index.Not(_compile(dbsession, operand))
        case query.Words(text):
            return _words(dbsession, text)
        case query.Term(field, test):
            return _term(dbsession, field, test)
        case query.Meta(name, test):
            return _META[name](dbsession, test)
    raise TypeError(f"{type(node).__name__} is no node of a query")


def _words(dbsession: Session, text: str) -> index.Expression:
    """Compile free text. A whole UID is looked for among the UIDs too, which are no text."""
    uid = text.strip()
    if not _UID.fullmatch(uid):
        return index.Anywhere(text)
    paths = dbsession.scalars(sa.select(Field.path).where(Field.vr == "UI").order_by(Field.id).limit(MOST_PATHS))
    return index.Or((index.Anywhere(text), *(_equal_text(path, uid) for path in paths)))


def _equal_text(path: str, text: str) -> index.Expression:
    """Say that a value is a text; the UIDs of images, series and studies are unique columns of their rows."""
    if _UID.fullmatch(text):
        match path:
            case "00080018":
                return index.OfImages(sa.select(Image.header_key).where(Image.sop_instance_uid == text))
            case "0020000E":
                return index.OfSeries(sa.select(Series.id).where(Series.series_instance_uid == text))
            case "0020000D":
                return index.OfSeries(sa.select(Series.id).join(Study).where(Study.study_instance_uid == text))
    return index.EqualsFolded(path, text)


def _matches_text(field: query.Field, path: str, test: query.Text) -> index.Expression:
    if field.vr == "PN" and test.pattern.strip("^"):
        return index.Name(path, test.pattern if test.wildcards else _literally(test.pattern))
    return index.Like(path, test.pattern) if test.wildcards else _equal_text(path, test.pattern)


def _literally(text: str) -> str:
    return re.sub(r"([*?\\])", r"\\\1", text)


def _term(dbsession: Session, field: query.Field, test: query.Test) -> index.Expression:
    leaf: Callable[[str], index.Expression]
    match test:
        case query.Missing():
            return index.Not(_term(dbsession, field, query.Exists()))
        case query.Exists():
            leaf = index.Exists
        case query.Range():

            def leaf(path: str) -> index.Expression:
                return index.Between(path, test.low, test.high, test.low_open, test.high_open)

        case query.Text():

            def leaf(path: str) -> index.Expression:
                return _matches_text(field, path, test)

    found = [leaf(path) for path in paths_of(dbsession, field)]
    return found[0] if len(found) == 1 else index.Or(tuple(found))


def _batch(dbsession: Session, test: query.Test) -> index.Expression:
    """Compile ``batch:``: its name, folded, or its id."""
    match test:
        case query.Text(pattern, wildcards):
            glob = Glob(pattern, wildcards=wildcards)
            ids = [id_ for id_, name in dbsession.execute(sa.select(Batch.id, Batch.name)) if str(id_) == pattern or glob.matches(name)]
            return index.OfBatches(sa.select(Batch.id).where(dialect_of(dbsession).within(Batch.id, ids))) if ids else _NOBODY
        case query.Range():
            return index.OfBatches(sa.select(Batch.id).where(*_numbers(Batch.id, test)))
    return _NOBODY


def _status(dbsession: Session, test: query.Test) -> index.Expression:
    """Compile ``status:``: that of the batch, because an image is found only when it is DONE."""
    del dbsession
    if not isinstance(test, query.Text):
        return _NOBODY
    glob = Glob(test.pattern, wildcards=test.wildcards)
    wanted = [Batch.status == status for status in BATCH_STATUS if glob.matches(status)]
    return index.OfBatches(sa.select(Batch.id).where(sa.or_(*wanted))) if wanted else _NOBODY


def _label(dbsession: Session, test: query.Test) -> index.Expression:
    """Compile ``label:``: on the image, its series, its study or its batch."""
    labels = dbsession.execute(sa.select(Label.id, Label.name)).all()
    match test:
        case query.Text(pattern, wildcards):
            glob = Glob(pattern, wildcards=wildcards)
            ids = [id_ for id_, name in labels if glob.matches(name)]
        case query.Missing():
            return index.Not(_label(dbsession, query.Exists()))
        case query.Exists():
            ids = [id_ for id_, _ in labels]
        case _:
            return _NOBODY
    if not ids:
        return _NOBODY
    linked = dialect_of(dbsession).within(LabelLink.label_id, ids)
    studies = sa.select(LabelLink.study_id).where(linked, LabelLink.study_id.is_not(None))
    series = sa.select(LabelLink.series_id).where(linked, LabelLink.series_id.is_not(None))
    return index.Or((
        index.OfBatches(sa.select(LabelLink.batch_id).where(linked, LabelLink.batch_id.is_not(None))),
        index.OfSeries(sa.select(Series.id).where(sa.or_(Series.id.in_(series), Series.study_key.in_(studies)))),
        index.OfImages(
            sa.select(Image.header_key).join(LabelLink, LabelLink.image_id == Image.id).where(linked, Image.header_key.is_not(None))
        ),
    ))  # fmt: skip


def _added(dbsession: Session, test: query.Test) -> index.Expression:
    """Compile ``added:``: when the image was imported, in UTC; by the images within or by those without, whichever are fewer."""
    if not isinstance(test, query.Range):
        return _NOBODY
    within: list[sa.ColumnElement[bool]] = [Image.added_at.is_not(None)]
    without: list[sa.ColumnElement[bool]] = [Image.added_at.is_(None)]
    if test.low is not None:
        low = moment(test.low)
        within.append(Image.added_at > low if test.low_open else Image.added_at >= low)
        without.append(Image.added_at <= low if test.low_open else Image.added_at < low)
    if test.high is not None:
        high = moment(test.high)
        within.append(Image.added_at < high if test.high_open else Image.added_at <= high)
        without.append(Image.added_at >= high if test.high_open else Image.added_at > high)
    is_indexed = Image.header_key.is_not(None)
    inside, outside = sa.and_(is_indexed, *within), sa.and_(is_indexed, sa.or_(*without))
    counts = sa.select(*(sa.select(sa.func.count()).select_from(Image).where(side).scalar_subquery() for side in (inside, outside)))
    number_inside, number_outside = dbsession.execute(counts).one()
    if number_inside <= number_outside:
        return index.OfImages(sa.select(Image.header_key).where(inside))
    return index.Not(index.OfImages(sa.select(Image.header_key).where(outside)))


def _id(dbsession: Session, test: query.Test) -> index.Expression:
    """Compile ``id:``: the number of the image in this application."""
    del dbsession
    match test:
        case query.Text(pattern, wildcards=False) if pattern.isascii() and pattern.isdigit() and len(pattern) < 19:
            wanted: list[sa.ColumnElement[bool]] = [Image.id == int(pattern)]
        case query.Range():
            wanted = _numbers(Image.id, test)
        case _:
            return _NOBODY
    return index.OfImages(sa.select(Image.header_key).where(Image.header_key.is_not(None), *wanted))


def _numbers(column: Any, test: query.Range) -> list[sa.ColumnElement[bool]]:
    found = []
    if test.low is not None:
        found.append(column > test.low if test.low_open else column >= test.low)
    if test.high is not None:
        found.append(column < test.high if test.high_open else column <= test.high)
    return found


def moment(number: float) -> datetime:
    """Give the moment that a number yyyymmddhhmmss.ffffff stands for (``index.numbers``), in UTC. Raises SearchError."""
    day, time = divmod(number, 1_000_000)
    date, second = int(day), time % 100
    try:
        found = datetime(date // 10_000, date // 100 % 100, date % 100, int(time) // 10_000, int(time) // 100 % 100, tzinfo=UTC)
        # Beyond the end of a month and a second of 60 exist in ranges and in leap seconds only.
        return found + timedelta(seconds=second)
    except (ValueError, OverflowError) as error:
        raise SearchError(gettext("That is no date and time that the calendar has.")) from error


_META: dict[str, Callable[[Session, query.Test], index.Expression]] = {
    "batch": _batch,
    "status": _status,
    "label": _label,
    "added": _added,
    "id": _id,
}
