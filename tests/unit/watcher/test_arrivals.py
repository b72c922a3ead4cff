"""When is a folder complete? Every rule as a sentence, without a disk."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from watcher.arrivals import (
    CLAIM,
    FILE,
    FOLDER,
    KNOWN,
    LINK,
    SPECIAL,
    WAITS,
    Arrivals,
    Census,
    Entry,
    Verdict,
    is_temporary,
)

SECOND = 1_000_000_000
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * SECOND
# An hour before noon a folder was made, and filled within the next minute.
BORN = NOON_NS - 3600 * SECOND
FILLED = BORN + 60 * SECOND
SOME_FILES = Census(files=3, bytes=300, newest_ns=FILLED, newest_file_ns=FILLED, complete=True)
EMPTY = Census(complete=True)


class Scene:
    """Arrivals with one root, whose entries a test sets before each look."""

    def __init__(self, quiet_seconds: float = 0) -> None:
        self.quiet_seconds = quiet_seconds
        self.arrivals = Arrivals(sentinel=".done", quiet_seconds=quiet_seconds)
        self.clock = 1000.0
        self.shown: list[Entry] = []

    def look(self, *entries: Entry) -> None:
        """Take in a look at the root."""
        self.shown = list(entries)
        self.arrivals.observe("/data", entries, clock=self.clock)

    def judge(self, entry: Entry, *stamps: str, census: Census = SOME_FILES, now: datetime = NOON) -> Verdict:
        """Judge an entry of the last look."""
        return self.arrivals.judge(entry, set(stamps), census, now=now, clock=self.clock)

    def restart(self) -> None:
        """Go on as the next watcher, with what this one would have kept."""
        kept = self.arrivals.memory({entry.path for entry in self.shown})
        self.arrivals = Arrivals(sentinel=".done", quiet_seconds=self.quiet_seconds, remembered=kept)


def folder(name: str = "knee", inode: int = 7, **changes: object) -> Entry:
    """Make a folder that was copied in: its times are those of its last new entry."""
    values: dict[str, object] = {"born_ns": BORN, "mtime_ns": FILLED, "ctime_ns": FILLED, **changes}
    return Entry(f"/data/{name}", FOLDER, inode, **values)  # type: ignore[arg-type]


@pytest.fixture
def scene() -> Scene:
    return Scene()


# The sentinel.


def test_a_folder_without_its_sentinel_waits(scene: Scene) -> None:
    scene.look(folder())
    assert scene.judge(folder()) == Verdict(WAITS, reason="Waits for .done to be written into it.")


def test_a_folder_whose_sentinel_was_closed_is_complete(scene: Scene) -> None:
    knee = folder(sentinel_ns=NOON_NS)
    scene.arrivals.sentinel_closed("/data/knee")
    scene.look(knee)
    assert scene.judge(knee) == Verdict(CLAIM, f"sentinel {NOON_NS}")


def test_a_sentinel_that_may_still_be_written_is_looked_at_again(scene: Scene) -> None:
    knee = folder(sentinel_ns=NOON_NS - SECOND // 2)
    scene.look(knee)
    assert scene.judge(knee) == Verdict(WAITS, reason="Its .done is being written.", look_again=pytest.approx(1.5))


def test_a_sentinel_that_is_two_seconds_old_needs_no_event(scene: Scene) -> None:
    knee = folder(sentinel_ns=NOON_NS - 2 * SECOND)
    scene.look(knee)
    assert scene.judge(knee).what == CLAIM


def test_a_sentinel_from_the_future_is_taken_when_it_was_seen_for_two_seconds(scene: Scene) -> None:
    knee = folder(sentinel_ns=NOON_NS + 86_400 * SECOND)
    scene.look(knee)
    assert scene.judge(knee).what == WAITS
    scene.clock += 2
    scene.look(knee)
    assert scene.judge(knee).what == CLAIM


def test_a_sentinel_that_is_written_again_while_it_settles_starts_anew(scene: Scene) -> None:
    scene.arrivals.sentinel_closed("/data/knee")
    scene.look(folder(sentinel_ns=NOON_NS - SECOND))
    later = folder(sentinel_ns=NOON_NS)
    scene.look(later)
    assert scene.judge(later).what == WAITS


def test_a_sentinel_that_is_no_regular_file_completes_nothing(scene: Scene) -> None:
    knee = folder(sentinel_ns=BORN, sentinel_is_file=False)
    scene.look(knee)
    assert scene.judge(knee) == Verdict(WAITS, reason="Its .done is not a regular file.")


def test_an_empty_folder_with_a_sentinel_is_complete(scene: Scene) -> None:
    knee = folder(sentinel_ns=BORN)
    scene.look(knee)
    assert scene.judge(knee, census=EMPTY).what == CLAIM


def test_a_folder_that_stays_after_its_import_is_known(scene: Scene) -> None:
    knee = folder(sentinel_ns=BORN)
    scene.look(knee)
    assert scene.judge(knee, f"sentinel {BORN}") == Verdict(KNOWN)


def test_a_sentinel_touched_again_is_a_new_arrival(scene: Scene) -> None:
    knee = folder(sentinel_ns=FILLED)
    scene.look(knee)
    assert scene.judge(knee, f"sentinel {BORN}") == Verdict(CLAIM, f"sentinel {FILLED}")
    assert scene.judge(knee, f"moved {knee.identity}") == Verdict(CLAIM, f"sentinel {FILLED}")


# Moved in.


def test_a_folder_that_was_moved_in_is_complete(scene: Scene) -> None:
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder())
    assert scene.judge(folder()) == Verdict(CLAIM, f"moved 7:{BORN}")


@pytest.mark.parametrize("name", ["knee.tmp", "knee.tmp123", "knee.tmp.part", "knee.TMP"])
def test_a_folder_whose_name_ends_in_tmp_waits_however_it_came_and_whatever_lies_in_it(scene: Scene, name: str) -> None:
    entry = folder(name, sentinel_ns=BORN)
    scene.arrivals.moved_in(entry.path)
    scene.look(entry)
    assert is_temporary(name)
    assert scene.judge(entry) == Verdict(WAITS, reason="Its name ends in .tmp: rename it when it is complete.")


@pytest.mark.parametrize("name", ["tmp", "knee_tmp", "temp.x", "knee.tm"])
def test_other_names_are_not_temporary(name: str) -> None:
    assert not is_temporary(name)


def test_a_rename_that_only_looks_noticed_is_a_move(scene: Scene) -> None:
    scene.look(folder("knee.tmp"))
    renamed = folder("knee", ctime_ns=NOON_NS)
    scene.look(renamed)
    assert scene.judge(renamed).what == CLAIM


def test_a_rename_while_no_watcher_ran_is_a_move(scene: Scene) -> None:
    scene.look(folder("knee.tmp"))
    scene.restart()
    renamed = folder("knee", ctime_ns=NOON_NS)
    scene.look(renamed)
    assert scene.judge(renamed).what == CLAIM


def test_a_new_folder_with_the_number_of_a_removed_one_was_not_moved(scene: Scene) -> None:
    scene.look(folder("knee.tmp"))
    other = folder("hip", born_ns=NOON_NS, mtime_ns=NOON_NS, ctime_ns=NOON_NS)
    scene.look(other)
    assert scene.judge(other).what == WAITS


def test_without_the_moment_of_birth_a_number_alone_proves_no_move(scene: Scene) -> None:
    scene.look(folder("knee.tmp", born_ns=0))
    changed = folder("knee", born_ns=0, mtime_ns=NOON_NS)
    scene.look(changed)
    assert scene.judge(changed).what == WAITS


def test_without_the_moment_of_birth_the_same_number_and_times_prove_a_move(scene: Scene) -> None:
    scene.look(folder("knee.tmp", born_ns=0))
    same = folder("knee", born_ns=0, ctime_ns=NOON_NS)
    scene.look(same)
    assert scene.judge(same).what == CLAIM


def test_a_folder_that_was_made_where_another_one_was_moved_in_waits(scene: Scene) -> None:
    scene.arrivals.moved_in("/data/knee")
    scene.arrivals.left("/data/knee")
    scene.arrivals.made("/data/knee")
    scene.look(folder())
    assert scene.judge(folder()).what == WAITS


def test_an_empty_folder_that_was_moved_in_waits_also_when_it_gets_files(scene: Scene) -> None:
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder())
    assert scene.judge(folder(), census=EMPTY) == Verdict(
        WAITS, reason="Empty folder: put files into it, then write .done."
    )
    scene.look(folder())
    assert scene.judge(folder()) == Verdict(WAITS, reason="Waits for .done to be written into it.")


def test_a_move_seen_twice_is_one_arrival(scene: Scene) -> None:
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder())
    stamp = scene.judge(folder()).stamp
    scene.arrivals.claimed("/data/knee")
    assert scene.judge(folder(), stamp).what == KNOWN
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder(mtime_ns=NOON_NS, ctime_ns=NOON_NS))
    assert scene.judge(folder(mtime_ns=NOON_NS, ctime_ns=NOON_NS), stamp).what == KNOWN


def test_a_move_is_remembered_over_a_restart_before_it_was_claimed(scene: Scene) -> None:
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder())
    scene.restart()
    scene.look(folder())
    assert scene.judge(folder()) == Verdict(CLAIM, f"moved 7:{BORN}")


def test_a_restart_just_after_the_claim_finds_the_folder_known(scene: Scene) -> None:
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder())
    stamp = scene.judge(folder()).stamp
    scene.restart()
    scene.look(folder())
    assert scene.judge(folder(), stamp).what == KNOWN


def test_another_folder_moved_to_a_name_that_is_a_batch_is_a_new_arrival(scene: Scene) -> None:
    scene.look(folder())
    other = folder(inode=8)
    scene.arrivals.moved_in("/data/knee")
    scene.look(other)
    assert scene.judge(other, f"moved 7:{BORN}") == Verdict(CLAIM, f"moved 8:{BORN}")


def test_the_same_folder_moved_out_and_back_in_is_shown_and_not_imported_again(scene: Scene) -> None:
    scene.look(folder())
    assert scene.judge(folder(), f"moved 7:{BORN}").what == KNOWN
    scene.look()
    scene.arrivals.moved_in("/data/knee")
    scene.look(folder())
    again = scene.judge(folder(), f"moved 7:{BORN}")
    assert again == Verdict(WAITS, reason="It was imported before: write .done into it once more to import it again.")


def test_a_folder_delivered_again_with_the_old_sentinel_is_shown(scene: Scene) -> None:
    scene.look()
    scene.arrivals.made("/data/knee")
    knee = folder(sentinel_ns=BORN)
    scene.look(knee)
    assert "imported before" in scene.judge(knee, f"sentinel {BORN}").reason


def test_a_folder_that_was_moved_in_with_its_sentinel_is_one_arrival(scene: Scene) -> None:
    knee = folder(sentinel_ns=NOON_NS)
    scene.arrivals.moved_in("/data/knee")
    scene.look(knee)
    assert scene.judge(knee) == Verdict(CLAIM, f"sentinel {NOON_NS}")
    scene.arrivals.claimed("/data/knee")
    assert scene.judge(knee, f"sentinel {NOON_NS}").what == KNOWN


# A folder whose coming nobody saw.


def moved_while_nobody_looked(ctime_ns: int = NOON_NS - 60 * SECOND, **changes: object) -> Entry:
    return folder(ctime_ns=ctime_ns, **changes)


def test_a_folder_whose_last_change_is_its_name_was_moved_while_nobody_looked(scene: Scene) -> None:
    knee = moved_while_nobody_looked()
    scene.look(knee)
    assert scene.judge(knee) == Verdict(CLAIM, f"moved 7:{BORN}")


def test_such_a_change_must_be_ten_seconds_old(scene: Scene) -> None:
    knee = moved_while_nobody_looked(NOON_NS - 4 * SECOND)
    scene.look(knee)
    verdict = scene.judge(knee)
    assert (verdict.what, verdict.look_again) == (WAITS, pytest.approx(6))


@pytest.mark.parametrize(
    ("entry", "census"),
    [
        (folder(), SOME_FILES),
        (moved_while_nobody_looked(mtime_ns=BORN - SECOND), SOME_FILES),
        (moved_while_nobody_looked(born_ns=0), SOME_FILES),
        (moved_while_nobody_looked(), SOME_FILES._replace(newest_ns=NOON_NS - 59 * SECOND)),
        (moved_while_nobody_looked(), SOME_FILES._replace(complete=False)),
    ],
    ids=["copied", "times set back by a copy program", "birth unknown", "something in it is newer", "not all counted"],
)
def test_times_that_may_be_those_of_a_copy_prove_nothing(scene: Scene, entry: Entry, census: Census) -> None:
    scene.look(entry)
    assert scene.judge(entry, census=census).what == WAITS


def test_a_folder_that_was_seen_being_made_is_not_taken_for_its_times(scene: Scene) -> None:
    knee = moved_while_nobody_looked()
    scene.arrivals.made("/data/knee")
    scene.look(knee)
    assert scene.judge(knee).what == WAITS


def test_times_that_changed_after_the_first_look_prove_nothing(scene: Scene) -> None:
    scene.look(folder())
    knee = moved_while_nobody_looked()
    scene.look(knee)
    assert scene.judge(knee).what == WAITS


def test_a_restart_does_not_lose_what_the_times_prove(scene: Scene) -> None:
    knee = moved_while_nobody_looked()
    scene.look(knee)
    scene.restart()
    scene.look(knee)
    assert scene.judge(knee).what == CLAIM


# Import now.


def test_a_folder_that_somebody_asked_to_import_is_known(scene: Scene) -> None:
    for name in ("knee", "knee.tmp"):
        scene.look(folder(name))
        assert scene.judge(folder(name), f"asked 66:7 {NOON.isoformat()}").what == KNOWN
        assert scene.judge(folder(name), f"asked - {NOON.isoformat()}").what == KNOWN


def test_another_folder_at_the_path_of_one_that_was_asked_for_waits(scene: Scene) -> None:
    scene.look(folder(inode=8))
    assert scene.judge(folder(inode=8), f"asked 66:7 {NOON.isoformat()}").what == WAITS
    younger = folder(born_ns=NOON_NS + SECOND, mtime_ns=NOON_NS + SECOND, ctime_ns=NOON_NS + SECOND)
    scene.look(younger)
    assert scene.judge(younger, f"asked 66:7 {NOON.isoformat()}").what == WAITS


# Quiet time.


def test_a_folder_that_was_quiet_for_long_enough_is_complete() -> None:
    scene = Scene(quiet_seconds=30)
    for seconds, what in ((0, WAITS), (20, WAITS), (10, CLAIM)):
        scene.clock += seconds
        scene.look(folder())
        scene.arrivals.take_census(folder(), SOME_FILES, clock=scene.clock)
        assert scene.judge(folder()).what == what
    assert scene.judge(folder()).stamp == f"quiet 7:{BORN} {FILLED}"


def test_every_change_starts_the_quiet_time_anew() -> None:
    scene = Scene(quiet_seconds=30)
    for census in (SOME_FILES, SOME_FILES._replace(bytes=301), SOME_FILES._replace(bytes=302, newest_ns=FILLED + 1)):
        scene.clock += 29
        scene.look(folder())
        scene.arrivals.take_census(folder(), census, clock=scene.clock)
        assert scene.judge(folder(), census=census).what == WAITS


def test_an_old_count_proves_no_quiet() -> None:
    scene = Scene(quiet_seconds=30)
    for _ in range(2):
        scene.look(folder())
        scene.arrivals.take_census(folder(), SOME_FILES, clock=scene.clock)
        scene.clock += 31
    assert scene.judge(folder()).what == WAITS


def test_quiet_time_takes_neither_temporary_nor_empty_folders() -> None:
    scene = Scene(quiet_seconds=30)
    for entry, census in ((folder("x.tmp"), SOME_FILES), (folder("y"), EMPTY)):
        for _ in range(2):
            scene.clock += 40
            scene.look(entry)
            scene.arrivals.take_census(entry, census, clock=scene.clock)
        assert scene.judge(entry, census=census).what == WAITS


def test_files_that_come_after_the_quiet_time_are_a_new_arrival_and_files_that_go_are_not() -> None:
    scene = Scene(quiet_seconds=30)
    scene.look(folder())
    stamp = f"quiet 7:{BORN} {FILLED}"
    later = FILLED + SECOND
    assert scene.judge(folder(), stamp).what == KNOWN
    assert scene.judge(folder(), stamp, census=SOME_FILES._replace(files=1, newest_ns=later)).what == KNOWN
    assert scene.judge(folder(), stamp, census=SOME_FILES._replace(newest_ns=later, newest_file_ns=later)).what == WAITS


# Everything else.


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FILE, "A loose file: put it into a folder of its own."),
        (LINK, "A symbolic link: it is never followed; put the folder itself here."),
        (SPECIAL, "Neither a file nor a folder: it is never opened."),
    ],
)
def test_what_is_no_folder_waits(scene: Scene, kind: str, reason: str) -> None:
    entry = Entry("/data/x", kind, 9, size=5)
    scene.look(entry)
    assert scene.judge(entry) == Verdict(WAITS, reason=reason)


def test_a_folder_that_cannot_be_read_says_why(scene: Scene) -> None:
    closed = folder(trouble="Permission denied")
    scene.look(closed, unseen := Entry("/data/unseen", FOLDER, trouble="Stale file handle"))
    assert scene.judge(closed).reason == "Cannot be read: Permission denied."
    assert scene.judge(unseen).reason == "Cannot be read: Stale file handle."
    open_again = folder()
    scene.look(open_again)
    denied = SOME_FILES._replace(files=0, trouble="Permission denied")
    assert scene.judge(open_again, census=denied).reason == "Cannot be read: Permission denied."


def test_roots_do_not_disturb_each_other(scene: Scene) -> None:
    scene.arrivals.moved_in("/other/knee")
    scene.look(folder())
    scene.arrivals.observe("/other", [Entry("/other/knee", FOLDER, 9)], clock=scene.clock)
    scene.look(folder())
    verdict = scene.judge(Entry("/other/knee", FOLDER, 9))
    assert verdict.what == CLAIM
    assert scene.judge(folder()).what == WAITS
