"""The table of fragments, packed into a column."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.imports.sources import pack_fragments, unpack_fragments

NUMBER = st.integers(0, (1 << 64) - 1)


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBER, NUMBER)))
def test_fragments_come_back_as_they_were(fragments: list[tuple[int, int]]) -> None:
    assert unpack_fragments(pack_fragments(fragments)) == fragments
