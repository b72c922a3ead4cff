"""Judging what becomes of a file, without a database."""

from __future__ import annotations

from dicomweb.headers import Header
from dicomweb.imports.chunks import Known, judge
from dicomweb.imports.reading import Candidate

HEADER = Header("", [], {}, {}, None, [])


def candidate(image_id: int, uid: str, sha256: bytes) -> Candidate:
    return Candidate(image_id, f"{image_id}", 1, sha256, HEADER, uid, None, 0)


def test_the_first_of_its_kind_is_an_image() -> None:
    [verdict] = judge([candidate(1, "1.2", b"a")], {})
    assert (verdict.version, verdict.duplicate_of, verdict.conflict_with) == (0, None, None)


def test_files_of_one_chunk_are_judged_in_their_order() -> None:
    files = [candidate(n, "1.2", data) for n, data in enumerate([b"a", b"b", b"a", b"b", b"c"], 1)]
    found = [(v.version, v.duplicate_of, v.conflict_with) for v in judge(files, {})]
    assert found == [(0, None, None), (1, None, 1), (None, 1, None), (None, 2, None), (2, None, 1)]


def test_what_is_here_already_counts_first() -> None:
    here = {"1.2": [Known(7, 0, b"x"), Known(8, 4, b"y")]}
    files = [candidate(n, "1.2", data) for n, data in enumerate([b"y", b"z"], 10)]
    found = [(v.version, v.duplicate_of, v.conflict_with) for v in judge(files, here)]
    assert found == [(None, 8, None), (5, None, 7)]
    assert here == {"1.2": [Known(7, 0, b"x"), Known(8, 4, b"y")]}


def test_the_same_bytes_under_another_uid_are_another_image() -> None:
    files = [candidate(1, "1.2", b"a"), candidate(2, "1.3", b"a")]
    assert [verdict.version for verdict in judge(files, {})] == [0, 0]
