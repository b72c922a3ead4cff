"""Which paths vary among the matching images, counted group by group.

What groups have in common is counted by the database. Columns are opened only until a path is known to have more values than
anybody wants to see, so that a large result takes little longer than one of some hundred groups; only groups that match in part are
always opened.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.orm import Session

from dicomweb.index.compiler import Search, search_groups
from dicomweb.index.expressions import Expression
from dicomweb.index.sql import sql
from dicomweb.models import GROUP_SIZE

# More groups are not looked at: about a million images, and those that match in part are opened one by one.
MOST_GROUPS = 20_000
MOST_PARTIAL_GROUPS = 1_000
_BLOCK = 50


class TooManyGroups(Exception):
    """The result spreads over more header groups than are looked at."""


class PathSummary(NamedTuple):
    """A path among some images.

    images: how many have it. distinct: how many texts it has, when ``more`` is set at least so many. constant: all of them have
    it, and all the same values. texts: the most frequent ones.
    """

    path: str
    vr: str
    images: int
    distinct: int
    more: bool
    constant: bool
    texts: tuple[tuple[str, int], ...]


@dataclass
class _Path:
    images: int = 0
    distinct: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    is_open: bool = True


def summarise_paths(dbsession: Session, expression: Expression, *, most_distinct: int, examples: int) -> list[PathSummary]:
    """Tell of every path that matching images have whether it varies among them, in code point order.

    most_distinct: more different texts are not counted. Raises TooManyGroups.
    """
    search = search_groups(dbsession, expression)
    groups: dict[int, int] = {}
    partial: dict[int, list[int]] = {}
    for id_, images, whole in dbsession.execute(search.statement(sql("SELECT id, images, whole FROM groups LIMIT {most} + 1", most=MOST_GROUPS))):
        groups[id_] = images
        if not whole:
            partial[id_] = []
    if len(groups) > MOST_GROUPS or len(partial) > MOST_PARTIAL_GROUPS:
        raise TooManyGroups
    for key in dbsession.scalars(search.statement(sql("SELECT key FROM hits"))):
        partial[key // GROUP_SIZE].append(key % GROUP_SIZE)
    return _Summary(dbsession, search, groups, partial, most_distinct).made(examples)


class _Summary:
    def __init__(
        self, dbsession: Session, search: Search, groups: Mapping[int, int], partial: Mapping[int, Collection[int]], most_distinct: int
    ) -> None:
        self._dbsession = dbsession
        self._search = search
        self._dialect = search.dialect
        self._groups = groups
        self._partial = partial
        self._most = most_distinct
        self._total = sum(groups.values())
        self._paths: dict[int, _Path] = defaultdict(_Path)

    def made(self, examples: int) -> list[PathSummary]:
        if not self._groups:
            return []
        self._count_common()
        self._open_columns()
        names = {}
        for field_id, path, vr in self._dbsession.execute(
            sql("SELECT id, path, vr FROM field WHERE {wanted}", wanted=self._dialect.one_of(sql("id"), list(self._paths))).statement()
        ):
            names[field_id] = (path, vr)
        found = []
        for field_id, of_path in self._paths.items():
            path, vr = names[field_id]
            if of_path.images == 0:
                continue
            distinct = max(len(of_path.texts), of_path.distinct)
            constant = of_path.is_open and of_path.images == self._total and all(images == self._total for images in of_path.texts.values())
            texts = sorted(of_path.texts.items(), key=lambda item: (-item[1], item[0]))[:examples]
            found.append(PathSummary(path, vr, of_path.images, min(distinct, self._most), not of_path.is_open, constant, tuple(texts)))
        return sorted(found)

    def _count_common(self) -> None:
        """Count what groups have in common, and the texts of paths that have few of them."""
        counted = sql(
            "SELECT field_id, sum(images), max(texts) FROM (SELECT d.field_id, groups.images, 0 AS texts FROM "
            "(SELECT DISTINCT w.field_id, w.group_id FROM groups JOIN group_header w ON w.group_id = groups.id) d JOIN groups ON groups.id = d.group_id "
            "UNION ALL SELECT field_id, 0, count(DISTINCT header_id >> 3) FROM groups JOIN group_header w ON w.group_id = groups.id GROUP BY field_id"
            ") b GROUP BY field_id",
        )
        few = []
        for field_id, images, distinct in self._dbsession.execute(self._search.statement(counted)):
            of_path = self._paths[field_id]
            of_path.images, of_path.distinct = int(images), distinct
            of_path.is_open = distinct <= self._most
            if of_path.is_open:
                few.append(field_id)
        if not few:
            return
        texts = sql(
            "SELECT h.field_id, coalesce(h.text, h.folded), b.images FROM (SELECT w.header_id, sum(groups.images) AS images "
            "FROM groups JOIN group_header w ON w.group_id = groups.id WHERE {among} GROUP BY w.header_id) b JOIN header h ON h.id = b.header_id",
            among=self._dialect.one_of(sql("w.field_id"), few),
        )  # fmt: skip
        for field_id, text, images in self._dbsession.execute(self._search.statement(texts)):
            self._paths[field_id].texts[text] += int(images)

    def _open_columns(self) -> None:
        common = self._count_varying()
        self._open_whole()
        self._open_partial(common)

    def _count_varying(self) -> set[tuple[int, int]]:
        """Count the images of whole groups that have a path by a column; give the paths of groups that have common values and columns too."""
        columns = "SELECT DISTINCT c.field_id, c.group_id, c.images, groups.whole FROM groups JOIN group_column c ON c.group_id = groups.id"
        counted = sql("SELECT field_id, sum(images) FROM ({columns} WHERE groups.whole = 1) c GROUP BY field_id", columns=sql(columns))
        for field_id, images in self._dbsession.execute(self._search.statement(counted)):
            self._paths[field_id].images += int(images)
        both = sql("{columns} JOIN group_header w ON w.group_id = c.group_id AND w.field_id = c.field_id", columns=sql(columns))
        common = set()
        for field_id, group_id, images, whole in self._dbsession.execute(self._search.statement(both)):
            common.add((field_id, group_id))
            if whole:
                # All its images have been counted as having a common value.
                self._paths[field_id].images -= images
        return common

    def _open_whole(self) -> None:
        for block in _blocks(sorted(self._groups.keys() - self._partial.keys())):
            closed = [field_id for field_id, of_path in self._paths.items() if not of_path.is_open]
            columns = sql(
                "SELECT c.field_id, c.texts, c.places FROM group_column c WHERE {among} AND NOT ({is_closed})",
                among=self._dialect.one_of(sql("c.group_id"), block), is_closed=self._dialect.one_of(sql("c.field_id"), closed) if closed else sql("FALSE"),
            )  # fmt: skip
            for field_id, packed, places in self._dbsession.execute(columns.statement()):
                of_path = self._paths[field_id]
                if of_path.is_open:
                    texts = self._dialect.spread(self._dialect.values(packed), places)
                    of_path.texts.update([text for text in texts if text is not None])
                    of_path.is_open = len(of_path.texts) <= self._most

    def _open_partial(self, common: Collection[tuple[int, int]]) -> None:
        for block in _blocks(sorted(self._partial)):
            having: dict[tuple[int, int], set[int]] = defaultdict(set)
            columns = sql("SELECT c.group_id, c.field_id, c.texts, c.places FROM group_column c WHERE {among}", among=self._dialect.one_of(sql("c.group_id"), block))
            for group_id, field_id, packed, places in self._dbsession.execute(columns.statement()):
                of_path = self._paths[field_id]
                texts = self._dialect.spread(self._dialect.values(packed), places)
                there = [ordinal for ordinal in self._partial[group_id] if ordinal < len(texts) and texts[ordinal] is not None]
                having[field_id, group_id].update(there)
                if of_path.is_open:
                    of_path.texts.update(text for ordinal in there if (text := texts[ordinal]) is not None)
                    of_path.is_open = len(of_path.texts) <= self._most
            for (field_id, group_id), ordinals in having.items():
                if (field_id, group_id) not in common:
                    self._paths[field_id].images += len(ordinals)


def _blocks(group_ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(group_ids), _BLOCK):
        yield group_ids[start : start + _BLOCK]
