"""Single kinds of search: texts in every script and with every special character, selects as part of a search, ends of ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicomweb import index
from dicomweb.db import work
from dicomweb.index import (
    And,
    Anywhere,
    Between,
    Contains,
    Equals,
    EqualsFolded,
    Exists,
    Expression,
    Like,
    Member,
    Not,
    OfBatches,
    OfImages,
    OfSeries,
    OneOf,
    Or,
)
from dicomweb.index.expressions import DEEPEST, ExpressionTooLarge
from dicomweb.models import Batch, Image, Series
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.corpus import STRANGE_TEXTS, Generated
from tests.unit.dicomweb.index.filled import import_all
from tests.unit.dicomweb.index.truth import matches, values_of

COMMENT = "00204000"
LOCATION = "00201041"

# Both ways a value can be stored: as one of many in a column, and as what a whole group has in common.
ALONE, TOGETHER = 1, 2


@pytest.fixture
def texts(engine: sa.Engine) -> Iterator[tuple[Session, dict[int, Member]]]:
    """Every strange text twice, as a column and as a common value: a read-only session, and the images by key."""
    varying = [Member(ALONE, "CT", [(COMMENT, "LT", (text,))], {}, {}) for text in STRANGE_TEXTS]
    common = [Member(TOGETHER + place, f"M{place}", [(COMMENT, "LT", (text,))], {}, {}) for place, text in enumerate(STRANGE_TEXTS)]
    imported = import_all(engine, [Generated(f"{place}", member) for place, member in enumerate([*varying, *common])], chunk=4096)
    with work(engine, read_only=True) as dbsession:
        yield dbsession, {key: image.member for key, image in imported.items()}


def found_by_brute_force(members: dict[int, Member], expression: Expression) -> list[int]:
    return [key for key, member in sorted(members.items()) if matches(expression, values_of(member))]


def test_every_strange_text_is_found_by_itself_and_by_its_parts(texts: tuple[Session, dict[int, Member]]) -> None:
    dbsession, members = texts
    for text in STRANGE_TEXTS:
        inside = text[1:5] or text
        for expression in (
            Equals(COMMENT, text),
            EqualsFolded(COMMENT, text.swapcase()),
            Contains(COMMENT, inside),
            Contains(COMMENT, inside.swapcase()),
            Anywhere(inside),
            Like(COMMENT, f"*{inside.replace(chr(92), chr(92) * 2).replace('*', chr(92) + '*').replace('?', chr(92) + '?')}*"[:200]),
            Like(COMMENT, text[:2].replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?") + "*"),
        ):
            assert list(index.keys(dbsession, expression)) == found_by_brute_force(members, expression), expression


SPECIAL = ('"', "''", "%", "_", "\\", "*", "?", "[", "]", '" OR "', "a\nb", "NEAR(", "-", "^", "null", ",", "{", "\x01", "\0", "\ud800", "e", "é", "\u0301")


def test_characters_that_mean_something_to_a_database_mean_themselves(texts: tuple[Session, dict[int, Member]]) -> None:
    dbsession, members = texts
    for needle in SPECIAL:
        for expression in (Contains(COMMENT, needle), Anywhere(needle), Equals(COMMENT, needle), OneOf(COMMENT, (needle, "it's"))):
            assert list(index.keys(dbsession, expression)) == found_by_brute_force(members, expression), expression


TYPED = {
    "MULLER": "Müller",
    "strasse": "Straße 5",
    "ÅNGSTROM": "Ångström",
    "istanbul": "İstanbul",
    "ﾔﾏﾀﾞ": "ヤマダ^タロウ",
    "山田": "山田^太郎",
    "김희": "김희중",
    "ёжик": "ЕЖИК",
    "διονυσιος": "ΔΙΟΝΎΣΙΟΣ",
    "דבורה": "שרון^דבורה",
    "لنزار": "قباني^لنزار",
}


def test_a_name_is_found_by_what_a_person_would_type(engine: sa.Engine) -> None:
    images = [Generated(name, Member(ALONE, "CT", [("00100010", "PN", (name,))], {}, {})) for name in (*TYPED.values(), "Somebody^Else")]
    keys = {image.uid: key for key, image in import_all(engine, images).items()}
    with work(engine, read_only=True) as dbsession:
        for typed, written in TYPED.items():
            for expression in (Contains("00100010", typed), Anywhere(typed), Like("00100010", f"*{typed}*")):
                assert list(index.keys(dbsession, expression)) == [keys[written]]


def test_long_texts_are_told_apart_though_only_their_beginning_is_searched(engine: sa.Engine) -> None:
    long = ["y" * 5000 + ending for ending in ("a", "b")]
    images = [Generated(text[-1], Member(ALONE, "CT", [(COMMENT, "UT", (text,))], {}, {})) for text in long]
    apart = [Generated("c", Member(ALONE + 1, "MR", [(COMMENT, "UT", (long[1],))], {}, {}))]
    first, second, third = import_all(engine, [*images, *apart])
    with work(engine, read_only=True) as dbsession:
        assert list(index.keys(dbsession, Equals(COMMENT, long[0]))) == [first]
        assert list(index.keys(dbsession, Equals(COMMENT, long[1]))) == [second, third]
        assert list(index.keys(dbsession, Contains(COMMENT, "Y" * 4000))) == [first, second, third]


def test_ranges_include_their_ends_and_may_be_open(engine: sa.Engine) -> None:
    numbers = ["-1e308", "-2.5", "0", "0.1", "0.30000000000000004", "0.3", "123456789.987654321", "9007199254740993", "1e308"]
    images = [Generated(text, Member(ALONE, "CT", [(LOCATION, "FD", (text,))], {}, {})) for text in numbers]
    images += [Generated(f"alone {text}", Member(TOGETHER + place, f"M{place}", [(LOCATION, "FD", (text,))], {}, {})) for place, text in enumerate(numbers)]
    images.append(Generated("none", Member(100, "XX", [(LOCATION, "FD", ("nan",)), ("00080060", "CS", ("XX",))], {}, {})))
    members = {key: image.member for key, image in import_all(engine, images).items()}
    with work(engine, read_only=True) as dbsession:
        ends = [None, -math.inf, *sorted(float(text) for text in numbers), math.inf]
        for low in ends:
            for high in ends:
                expression = Between(LOCATION, low, high)
                expected = found_by_brute_force(members, expression)
                assert list(index.keys(dbsession, expression)) == expected, expression
                assert list(index.keys(dbsession, And((Exists(LOCATION), expression)))) == expected, expression


def test_series_batches_and_images_of_a_select_are_part_of_a_search(engine: sa.Engine) -> None:
    studies = [image for number in range(12) for image in corpus.images(number, corpus.MIXED, odd=0.5, largest_series=16)]
    half = len(studies) // 2
    imported = import_all(engine, studies[:half], chunk=64) | import_all(engine, studies[half:], chunk=64, batch_id=2)
    first_keys = set(sorted(imported)[:half])
    values = {key: values_of(image.member) for key, image in imported.items()}
    modality = Equals("00080060", studies[0].member.modality)
    some_series = {image.member.series_id for image in studies[::5]}
    some_keys = set(sorted(imported)[::3])
    of_series = OfSeries(sa.select(Series.id).where(Series.id.in_(some_series)))
    of_batches = OfBatches(sa.select(Batch.id).where(Batch.name == "batch 1"))
    of_images = OfImages(sa.select(Image.header_key).where(Image.header_key.in_(some_keys)))
    with_nulls = OfImages(sa.select(sa.case((Image.header_key.in_(some_keys), Image.header_key))))
    of_none = OfImages(sa.select(Image.header_key).where(Image.path == "no such path"))

    def expected(test: object) -> list[int]:
        return [key for key in sorted(imported) if test(key)]  # type: ignore[operator]

    def is_of(modality_: Expression, key: int) -> bool:
        return matches(modality_, values[key])

    with work(engine, read_only=True) as dbsession:
        for expression, keys in (
            (of_series, expected(lambda key: imported[key].member.series_id in some_series)),
            (Not(of_series), expected(lambda key: imported[key].member.series_id not in some_series)),
            (of_batches, expected(lambda key: key in first_keys)),
            (Not(of_batches), expected(lambda key: key not in first_keys)),
            (of_images, expected(lambda key: key in some_keys)),
            (Not(of_images), expected(lambda key: key not in some_keys)),
            (with_nulls, expected(lambda key: key in some_keys)),
            (Not(with_nulls), expected(lambda key: key not in some_keys)),
            (Not(OfSeries(sa.select(Series.id).where(Series.id < 0))), sorted(imported)),
            (of_none, []),
            (And((of_series, of_batches, of_images)), expected(lambda key: imported[key].member.series_id in some_series and key in first_keys & some_keys)),
            (Or((of_series, of_images)), expected(lambda key: imported[key].member.series_id in some_series or key in some_keys)),
            (And((modality, Not(of_images), of_batches)), expected(lambda key: is_of(modality, key) and key in first_keys - some_keys)),
            (And((Between("00200013", 2, 5), of_series)), expected(lambda key: is_of(Between("00200013", 2, 5), key) and imported[key].member.series_id in some_series)),
        ):
            assert list(index.keys(dbsession, expression)) == keys, expression
            assert index.count(dbsession, expression) == len(keys), expression
            assert index.page(dbsession, expression, limit=10, after=keys[4] if len(keys) > 4 else -1) == (keys[5:15] if len(keys) > 4 else keys)
            selected = index.select_keys(dbsession, expression).subquery()
            assert sorted(dbsession.scalars(sa.select(Image.header_key).join(selected, selected.c.key == Image.header_key))) == keys
            series = sorted({imported[key].member.series_id for key in keys})
            selected = index.select_series(dbsession, expression).subquery()
            assert sorted(dbsession.scalars(sa.select(Series.id).join(selected, selected.c.series_id == Series.id))) == series
            assert index.series_of(dbsession, expression, limit=2, after=series[0] if series else -1) == series[1:3]
            assert index.facet(dbsession, expression, "no such path", 5) == []


def test_two_searches_can_be_part_of_one_statement(engine: sa.Engine) -> None:
    studies = [image for number in range(6) for image in corpus.images(number, corpus.MIXED, largest_series=8)]
    imported = import_all(engine, studies, chunk=64)
    with work(engine, read_only=True) as dbsession:
        one, other = (index.select_keys(dbsession, expression).subquery() for expression in (Between("00200013", 1, 3), Between("00200013", 3, 9)))
        both = list(dbsession.scalars(sa.select(one.c.key).join(other, other.c.key == one.c.key)))
    assert sorted(both) == [key for key, image in sorted(imported.items()) if ("00200013", "IS", ("3",)) in image.member.elements]


def test_a_search_larger_than_the_bounds_is_refused_before_the_database_is_asked(engine: sa.Engine) -> None:
    with work(engine, read_only=True) as dbsession, pytest.raises(ExpressionTooLarge):
        index.count(dbsession, Or(tuple(Equals("00100010", str(number)) for number in range(10_000))))
    with work(engine, read_only=True) as dbsession:
        assert index.count(dbsession, OneOf("00100010", tuple(map(str, range(10_000))))) == 0


def test_the_largest_search_is_answered(engine: sa.Engine) -> None:
    studies = [image for number in range(4) for image in corpus.images(number, corpus.MIXED, odd=0.7, largest_series=12)]
    members = {key: image.member for key, image in import_all(engine, studies, chunk=32).items()}
    pairs = [And((Between("00200013", number, number + 1), Not(Like("00100010", f"*{number}*")))) for number in range(32)]
    nested: Expression = Exists("00080060")
    for number in range(DEEPEST // 2):
        nested = And((Not(Equals("00200013", str(number))), Or((nested, Contains("00080060", "T")))))
    chain: Expression = Exists("00080060")
    for number in range(60):
        chain = And((Not(Equals("00200013", str(number))), chain))
    selects: Expression = OfImages(sa.select(Image.header_key).where(Image.series_id.in_(sa.select(Series.id).where(Series.id > 0))))
    for _ in range(DEEPEST // 4):
        selects = Not(And((Anywhere("gadovist"), Not(Or((selects, Like("00100010", "*a*b*")))))))
    with work(engine, read_only=True) as dbsession:
        for expression in (Or(tuple(pairs)), Not(And(tuple(pairs))), nested, Not(nested.operands[1]), chain):
            assert list(index.keys(dbsession, expression)) == found_by_brute_force(members, expression)
        assert list(index.keys(dbsession, selects)) == index.page(dbsession, selects, limit=1000)
        assert index.count(dbsession, selects) == len(members)
