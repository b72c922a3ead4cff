"""Opening and removing files below a folder, never through a link."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomweb.imports.folders import Folder, Refused, refusal


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "batch" / "a" / "b").mkdir(parents=True)
    (tmp_path / "batch" / "a" / "b" / "file").write_bytes(b"bytes")
    folder = Folder(str(tmp_path / "batch"))
    yield folder
    folder.close()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_a_file_is_opened_for_reading(folder: Folder) -> None:
    with open(folder.open("a/b/file"), "rb") as file:
        assert file.read() == b"bytes"


@pytest.mark.parametrize("path", ["link/b/file", "a/link/file", "a/b/link"])
def test_a_link_anywhere_on_the_way_is_refused(folder: Folder, tmp_path: Path, path: str) -> None:
    (tmp_path / "batch" / "link").symlink_to("a")
    (tmp_path / "batch" / "a" / "link").symlink_to("b")
    (tmp_path / "batch" / "a" / "b" / "link").symlink_to("file")
    with pytest.raises(OSError) as error:
        folder.open(path)
    assert refusal(error.value).code == "not-a-file"


def test_what_is_no_file_is_refused_without_waiting(folder: Folder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "batch" / "a" / "b" / "pipe")
    for path in ("a/b/pipe", "a/b"):
        with pytest.raises(Refused, match="This is not a file") as error:
            folder.open(path)
        assert error.value.code == "not-a-file"


def test_a_file_is_removed_only_when_its_bytes_are_the_stored_ones(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "batch" / "a" / "b" / "file"
    folder.remove("a/b/file", sha256(b"other"), is_stored=lambda: True)
    assert path.exists()
    folder.remove("a/b/file", sha256(b"bytes"), is_stored=lambda: True)
    assert not path.exists()
    assert not path.parent.exists(), "an emptied folder goes too"
    folder.remove("a/b/file", sha256(b"bytes"), is_stored=lambda: True)
    assert (tmp_path / "batch").exists()


def test_nothing_is_removed_through_a_link(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"bytes")
    (tmp_path / "batch" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "batch" / "to-file").symlink_to(tmp_path / "outside" / "file")
    folder.remove("link/file", sha256(b"bytes"), is_stored=lambda: True)
    folder.remove("to-file", sha256(b"bytes"), is_stored=lambda: True)
    assert (tmp_path / "outside" / "file").exists()
    assert (tmp_path / "batch" / "to-file").is_symlink()


def test_an_unknown_error_is_told_in_the_words_of_the_system() -> None:
    refused = refusal(OSError(errno.EIO, os.strerror(errno.EIO)))
    assert (refused.code, str(refused)) == ("unreadable", "The file cannot be read: Input/output error.")


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    folder = Folder(str(tmp_path))
    for name in "abcabc":
        os.close(folder.open(f"{name}/f"))
    for path in ("a", "nowhere/f", "a/nothing", "a/f/x"):
        with pytest.raises((OSError, Refused)):
            folder.open(path)
    folder.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_changes_while_it_is_compared_or_is_not_stored_stays(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "batch" / "a" / "b" / "file"

    def written_to_meanwhile() -> bool:
        path.write_bytes(b"other")
        return True

    folder.remove("a/b/file", sha256(b"bytes"), is_stored=lambda: False)
    assert path.read_bytes() == b"bytes"
    folder.remove("a/b/file", sha256(b"bytes"), is_stored=written_to_meanwhile)
    assert path.read_bytes() == b"other"


def test_a_link_in_the_place_of_the_folder_itself_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"bytes")
    (tmp_path / "batch").symlink_to("kept")
    folder = Folder(str(tmp_path / "batch"))
    folder.remove("file", sha256(b"bytes"), is_stored=lambda: True)
    folder.close()
    assert (tmp_path / "kept" / "file").exists()
