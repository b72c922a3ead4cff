"""What inotify says, from a real kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from watcher.events import LEFT, LOST, MADE, MOVED_IN, WRITTEN, CannotListen, Event, Listener


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def root(tmp_path: Path, listener: Listener) -> Path:
    """A watched root."""
    folder = tmp_path / "root"
    folder.mkdir()
    listener.watch_root(str(folder))
    return folder


def test_what_comes_into_a_root_and_leaves_it_is_told_in_order(tmp_path: Path, root: Path, listener: Listener) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside").rename(root / "a")
    (root / "b").mkdir()
    (root / "b").rename(root / "c")
    (root / "c").rmdir()
    (root / "a").rename(tmp_path / "outside")
    path = str(root)
    assert listener.wait(1) == [
        Event(MOVED_IN, f"{path}/a"),
        Event(MADE, f"{path}/b"),
        Event(LEFT, f"{path}/b"),
        Event(MOVED_IN, f"{path}/c"),
        Event(LEFT, f"{path}/c"),
        Event(LEFT, f"{path}/a"),
    ]


def test_a_file_that_is_closed_in_a_folder_is_told(root: Path, listener: Listener) -> None:
    (root / "a").mkdir()
    listener.watch_folder(str(root / "a"))
    listener.wait(0)
    with (root / "a" / ".done").open("w") as file:
        file.write("x")
        file.flush()
        assert listener.wait(0) == []
    assert listener.wait(1) == [Event(WRITTEN, str(root / "a" / ".done"))]
    (root / "a" / ".done").rename(root / "a" / ".finished")
    assert listener.wait(1) == [Event(WRITTEN, str(root / "a" / ".finished"))]


def test_nothing_happens_and_nothing_is_told(root: Path, listener: Listener) -> None:
    assert listener.wait(0.01) == []


@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines", b"x" * 255, b"-rf", b" "])
def test_names_of_any_bytes_are_told_exactly(root: Path, listener: Listener, name: bytes) -> None:
    folder = os.path.join(os.fsencode(root), name)
    os.mkdir(folder)
    listener.watch_folder(os.fsdecode(folder))
    os.mkdir(os.fsencode(root) + b"/after")
    with open(os.path.join(folder, name), "wb"):
        pass
    assert listener.wait(1) == [
        Event(MADE, os.fsdecode(folder)),
        Event(MADE, str(root / "after")),
        Event(WRITTEN, os.fsdecode(os.path.join(folder, name))),
    ]


def test_a_full_queue_is_told_as_lost_events(root: Path, listener: Listener) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue of this machine is too long to be filled by a test")
    (root / "a").mkdir()
    listener.watch_folder(str(root / "a"))
    # The kernel merges equal events that follow each other, so two files take turns.
    for _ in range(limit // 2 + 10):
        for name in ("x", "y"):
            os.close(os.open(root / "a" / name, os.O_WRONLY | os.O_CREAT))
    events = listener.wait(1)
    assert len(events) == limit + 1
    assert events[-1] == Event(LOST)
    (root / "b").mkdir()
    assert listener.wait(1) == [Event(MADE, str(root / "b"))]


@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_a_root_that_goes_away_is_told_and_can_be_watched_again(
    tmp_path: Path, root: Path, listener: Listener, how: str
) -> None:
    if how == "removed":
        root.rmdir()
    else:
        root.rename(tmp_path / "elsewhere")
    assert listener.wait(1) == [Event(LOST)]
    root.mkdir()
    listener.watch_root(str(root))
    (root / "a").mkdir()
    assert listener.wait(1) == [Event(MADE, str(root / "a"))]


def test_a_renamed_folder_is_told_by_its_new_path_once_it_is_watched_there(root: Path, listener: Listener) -> None:
    (root / "a").mkdir()
    listener.watch_folder(str(root / "a"))
    (root / "a").rename(root / "b")
    listener.watch_folder(str(root / "b"))
    listener.forget(str(root / "a"))
    listener.wait(0)
    (root / "b" / ".done").touch()
    assert listener.wait(1) == [Event(WRITTEN, str(root / "b" / ".done"))]


def test_a_folder_that_is_forgotten_is_silent(root: Path, listener: Listener) -> None:
    (root / "a").mkdir()
    listener.watch_folder(str(root / "a"))
    listener.wait(0)
    listener.forget(str(root / "a"))
    (root / "a" / ".done").touch()
    assert listener.wait(0.01) == []


def test_a_link_below_a_root_is_not_watched(tmp_path: Path, root: Path, listener: Listener) -> None:
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError):
        listener.watch_folder(str(root / "link"))


def test_a_root_may_be_a_link(tmp_path: Path, root: Path, listener: Listener) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    other = Listener()
    try:
        other.watch_root(str(link))
        (root / "a").mkdir()
        assert other.wait(1) == [Event(MADE, str(link / "a"))]
    finally:
        other.close()


def test_a_system_without_another_queue_says_so() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open("/", os.O_PATH)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with pytest.raises(CannotListen, match="by scans only"):
            Listener()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_pyinotify_itself_logs_nothing(root: Path, listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "a").mkdir()
    listener.watch_folder(str(root / "a"))
    (root / "a").rename(root.parent / "a")
    (root.parent / "a" / "x").touch()
    listener.forget(str(root / "a"))
    root.rename(root.parent / "elsewhere")
    listener.wait(0.01)
    assert capfd.readouterr() == ("", "")
