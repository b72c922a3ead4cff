"""Listing a folder and cutting it into chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.imports.scanning import Entry, cut, walk


def entries(folders: dict[str, int]) -> list[Entry]:
    return [
        Entry(f"{folder}/{number:04}", 1, 1) for folder, count in sorted(folders.items()) for number in range(count)
    ]


@settings(deadline=None)
@given(
    folders=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 300)),
    most=st.integers(1, 300),
    workers=st.integers(1, 12),
)
def test_every_file_is_in_one_chunk_and_no_chunk_is_too_large(folders: dict[str, int], most: int, workers: int) -> None:
    files = entries(folders)
    chunks = cut(files, most, workers)
    assert [position for first, end in chunks for position in range(first, end)] == list(range(len(files)))
    assert all(0 < end - first <= most for first, end in chunks)


def test_a_large_folder_keeps_all_workers_busy() -> None:
    assert len(cut(entries({"a": 500}), 256, 5)) == 5


def test_chunks_end_where_folders_end() -> None:
    files = entries({"a": 200, "b": 200, "c": 30})
    assert cut(files, 256, 1) == [(0, 200), (200, 400), (400, 430)]


def test_what_is_below_is_listed_and_the_sentinel_only_of_the_folder_itself_left_out(tmp_path: Path) -> None:
    for name in (".done", "a", "b/.done", "b/c/d", "Thumbs.db", "._a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    found = {entry.path: entry.code for entry in walk(str(tmp_path), "", sentinel=".done")}
    assert found == {"a": "", "b/.done": "", "b/c/d": "", "Thumbs.db": "system-file", "._a": "system-file"}
    assert {entry.path for entry in walk(str(tmp_path), "b", sentinel=".done")} == {"b/.done", "b/c/d"}


@pytest.mark.parametrize("below", ["", "gone"])
def test_a_folder_that_is_gone_is_one_entry_with_the_reason(tmp_path: Path, below: str) -> None:
    [entry] = walk(str(tmp_path / "nowhere"), below, sentinel=None)
    assert (entry.path, entry.kind, entry.code) == (below, "error", "folder-unreadable")
    assert "No such file" in entry.message
