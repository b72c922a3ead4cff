"""What a look shows, and the counting of folders, on a real disk with hostile names and things."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from watcher import disk
from watcher.arrivals import FILE, FOLDER, LINK, SPECIAL, Entry
from watcher.disk import Counting


def look(root: Path) -> dict[str, Entry]:
    """Look at a root, by name."""
    return {entry.name: entry for entry in disk.look(str(root), ".done").entries}


def count(folder: Path | str) -> Counting:
    """Count a folder to its end."""
    counting = Counting(os.fspath(folder))
    assert counting.advance(10_000)
    return counting


def test_a_look_tells_kinds_apart_and_follows_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".done").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").mkdir()
    (root / "file").write_bytes(b"12345")
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        seen = look(root)
    kinds = {
        "folder": FOLDER,
        "file": FILE,
        "link": LINK,
        "loop": LINK,
        "dangling": LINK,
        "fifo": SPECIAL,
        "socket": SPECIAL,
    }
    assert {name: entry.kind for name, entry in seen.items()} == kinds
    assert seen["file"].size == 5
    assert seen["link"].sentinel_ns is None


def test_what_operating_systems_leave_behind_is_nobodys_batch(tmp_path: Path) -> None:
    for name in (".hidden", "..x", "__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "$RECYCLE.BIN", "@eaDir"):
        (tmp_path / name).mkdir()
    assert look(tmp_path) == {}


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"two\nlines", b"-rf", b"x" * 255, b"tab\t", b"\xe2\x80\xae", b"a\\x41", b"%00"]
)
def test_any_name_can_be_looked_at_and_counted(tmp_path: Path, name: bytes) -> None:
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(b"123")
    (entry,) = look(tmp_path).values()
    assert os.fsencode(entry.path) == folder
    assert count(entry.path).census[:2] == (1, 3)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_only_a_regular_file_is_a_sentinel(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "knee"
    folder.mkdir()
    if kind == "folder":
        (folder / ".done").mkdir()
    else:
        (tmp_path / "elsewhere").touch()
        (folder / ".done").symlink_to(tmp_path / "elsewhere")
    assert not look(tmp_path)["knee"].sentinel_is_file


def test_the_moment_of_a_sentinel_is_exact(tmp_path: Path) -> None:
    (tmp_path / "knee").mkdir()
    sentinel = tmp_path / "knee" / ".done"
    sentinel.touch()
    os.utime(sentinel, ns=(1, 1_234_567_890_123_456_789))
    assert look(tmp_path)["knee"].sentinel_ns == 1_234_567_890_123_456_789


def test_the_identity_of_a_folder_survives_a_rename_and_not_its_removal(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    identity = look(root)["a"].identity
    (root / "a" / "more").touch()
    (root / "a").rename(root / "b")
    assert look(root)["b"].identity == identity
    (root / "b" / "more").unlink()
    (root / "b").rmdir()
    (root / "b").mkdir()
    assert look(root)["b"].identity != identity


def test_the_birth_of_a_folder_is_not_after_its_first_change(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    entry = look(tmp_path)["a"]
    assert 0 <= entry.born_ns <= entry.ctime_ns


def test_a_million_loose_files_would_not_become_a_million_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_LOOSE", 3)
    for number in range(10):
        (tmp_path / f"{number}.dcm").touch()
    (tmp_path / "folder").mkdir()
    seen = disk.look(str(tmp_path), ".done")
    assert (len(seen.entries), seen.more_loose) == (4, 7)


@pytest.mark.parametrize("root", ["missing", "file", "loop"])
def test_a_root_that_is_no_folder_is_an_error(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=root):
        disk.look(str(tmp_path / root), ".done")


def test_counting_sees_all_regular_files_however_deep_and_follows_nothing(tmp_path: Path) -> None:
    below = tmp_path / "knee"
    below.mkdir()
    for depth in range(30):
        below = below / f"{depth}"
        below.mkdir()
        (below / "image").write_bytes(b"1234")
    (below / "up").symlink_to(tmp_path)
    (below / "etc").symlink_to("/etc")
    os.mkfifo(below / "fifo")
    os.link(below / "image", below / "same image")
    assert count(tmp_path / "knee").census[:2] == (31, 124)


def test_counting_deeper_than_the_longest_path_ends(tmp_path: Path) -> None:
    folder = tmp_path / "knee"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("x" * 200, dir_fd=descriptor)
        deeper = os.open("x" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    assert count(folder).census.complete


def test_counting_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").write_bytes(b"1")
    counting = Counting(str(tmp_path))
    assert not counting.advance(4)
    assert (counting.census.files, counting.census.complete) == (4, False)
    assert counting.advance(100)
    assert (counting.census.files, counting.census.complete) == (10, True)


def test_counting_a_folder_that_goes_away_ends(tmp_path: Path) -> None:
    (tmp_path / "knee" / "below").mkdir(parents=True)
    counting = Counting(str(tmp_path / "knee"))
    assert not counting.advance(1)
    (tmp_path / "knee" / "below").rmdir()
    assert counting.advance(10)
    assert counting.census.complete
    assert count(tmp_path / "gone").census.trouble == "No such file or directory"


def test_stopping_to_count_closes_the_folder(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").touch()
    before = len(os.listdir("/proc/self/fd"))
    counting = Counting(str(tmp_path))
    counting.advance(2)
    assert len(os.listdir("/proc/self/fd")) > before
    counting.close()
    assert len(os.listdir("/proc/self/fd")) == before
