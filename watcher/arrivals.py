"""When is a folder complete? The rules, without a disk, a database or a clock.

A folder directly below a watched root is complete

* when its sentinel is a regular file that was closed after writing (or has not changed for a moment): ``sentinel <mtime>``;
* when it was moved in under a name that does not end in ``.tmp*``: ``moved <inode>:<birth>``. Told by an event, or by a look
  that finds a folder under another name than before, or, for a folder whose coming nobody saw, by its own times;
* when it has been quiet for long enough, if that is switched on: ``quiet <inode>:<birth> <newest change>``.

That text is the *stamp*. A path and a stamp become a batch once: a folder that stays where it is after the import (and every
event that is seen twice) leads to the same stamp. What is not complete waits, with the reason in a sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dicomweb.languages import N_, gettext

FOLDER, FILE, LINK, SPECIAL = "folder", "file", "link", "special"
CLAIM, KNOWN, WAITS = "claim", "known", "waits"

# A sentinel is taken when it has not changed for so long, even if no event said that it was closed.
SENTINEL_SECONDS = 2.0
# The times of a folder must be so old before they tell how it came.
EVIDENCE_SECONDS = 10.0
_NS = 1_000_000_000


class Entry(NamedTuple):
    """One entry directly below a root, as a look showed it.

    born_ns: 0 when the file system does not tell. sentinel_ns: when its sentinel was written, None without one.
    trouble: why it cannot be read.
    """

    path: str
    kind: str
    inode: int = 0
    born_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    size: int = 0
    sentinel_ns: int | None = None
    sentinel_is_file: bool = True
    trouble: str = ""

    @property
    def identity(self) -> str:
        """Name the folder itself, whatever its path: the same text for the same folder, also after a restart."""
        return f"{self.inode}:{self.born_ns}"

    @property
    def name(self) -> str:
        """Its name in the root."""
        return self.path.rpartition("/")[2]


class Census(NamedTuple):
    """What was counted in a folder: regular files, their bytes, the newest change (ctime) of anything and of a file."""

    files: int = 0
    bytes: int = 0
    newest_ns: int = 0
    newest_file_ns: int = 0
    trouble: str = ""
    complete: bool = False


class Memory(NamedTuple):
    """What must be remembered of a waiting folder over a restart: which it is, and how it came."""

    path: str
    identity: str
    mtime_ns: int
    first_ctime_ns: int
    witnessed: bool
    moved: bool


class Verdict(NamedTuple):
    """What is to be done with an entry.

    what: CLAIM (with its stamp), KNOWN (it is a batch already) or WAITS (with the reason). look_again: the scan should be
    repeated after so many seconds, because time alone will change the verdict.
    """

    what: str
    stamp: str = ""
    reason: str = ""
    look_again: float | None = None


@dataclass
class _Note:
    # What earlier looks and events told of the folder that is at a path now.
    identity: str
    mtime_ns: int
    first_ctime_ns: int
    witnessed: bool = False
    moved: bool = False
    remembered: bool = False
    claimed: bool = False
    sentinel_ns: int | None = None
    sentinel_since: float = 0.0
    sentinel_closed: bool = False
    still: Census | None = None
    still_ctime_ns: int = 0
    still_since: float = 0.0
    counted_at: float = -1.0


def is_temporary(name: str) -> bool:
    """Tell whether a name says that the folder is not complete: ``x.tmp``, ``x.tmp123``."""
    return ".tmp" in name.lower()


class Arrivals:
    """Remembers what was seen of the folders in the roots, and judges them."""

    def __init__(self, *, sentinel: str, quiet_seconds: float, remembered: Iterable[Memory] = ()) -> None:
        """Begin; remembered: the ``memory()`` of an earlier watcher."""
        self._sentinel = sentinel
        self._quiet_seconds = quiet_seconds
        self._notes = {memory.path: _Note(*memory[1:], remembered=True) for memory in remembered}
        self._moved: set[str] = set()
        self._made: set[str] = set()
        self._closed: set[str] = set()

    # What events say.

    def moved_in(self, path: str) -> None:
        """Note that something was moved to a path."""
        self._forget_events(path)
        self._moved.add(path)

    def made(self, path: str) -> None:
        """Note that something was created at a path, and will be filled there."""
        self._forget_events(path)
        self._made.add(path)

    def left(self, path: str) -> None:
        """Note that a path was deleted or moved away."""
        self._forget_events(path)

    def sentinel_closed(self, path: str) -> None:
        """Note that the sentinel of a folder was closed after writing."""
        self._closed.add(path)

    def claimed(self, path: str) -> None:
        """Note that the folder at a path is being made a batch, so that it is not taken for an old acquaintance."""
        note = self._notes.get(path)
        if note is not None:
            note.claimed = True

    def _forget_events(self, path: str) -> None:
        self._moved.discard(path)
        self._made.discard(path)

    # What a look shows.

    def observe(self, root: str, entries: Sequence[Entry], *, clock: float) -> None:
        """Take in everything a look at a root showed; clock: seconds that only go forward."""
        folders = {entry.path: entry for entry in entries if entry.kind == FOLDER and entry.inode}
        before = {path: note for path, note in self._notes.items() if _is_in(root, path)}
        vanished = {
            note.identity: note
            for path, note in before.items()
            if path not in folders or folders[path].identity != note.identity
        }
        for path in before.keys() - folders.keys():
            del self._notes[path]
        for path, entry in folders.items():
            note = before.get(path)
            if note is None or note.identity != entry.identity:
                note = self._notes[path] = _Note(entry.identity, entry.mtime_ns, entry.ctime_ns)
                earlier = vanished.get(entry.identity)
                # Without the moment of birth the number of a removed folder could have come back as another folder.
                if earlier is not None and (entry.born_ns or earlier.mtime_ns == entry.mtime_ns):
                    note.moved = note.witnessed = True
            if path in self._made:
                note.witnessed = True
            if path in self._moved:
                note.moved, note.remembered, note.witnessed = True, False, True
            note.mtime_ns = entry.mtime_ns
            if entry.sentinel_ns != note.sentinel_ns:
                note.sentinel_ns, note.sentinel_since, note.sentinel_closed = entry.sentinel_ns, clock, False
            if path in self._closed and entry.sentinel_ns is not None:
                note.sentinel_closed = True
        for marked in (self._moved, self._made, self._closed):
            marked.difference_update([path for path in marked if _is_in(root, path)])

    def take_census(self, entry: Entry, census: Census, *, clock: float) -> None:
        """Take in a complete census of a folder: from when on has it been still?"""
        note = self._notes.get(entry.path)
        if note is None:
            return
        note.counted_at = clock
        if census != note.still or entry.ctime_ns != note.still_ctime_ns:
            note.still, note.still_ctime_ns, note.still_since = census, entry.ctime_ns, clock

    def memory(self, paths: Collection[str]) -> list[Memory]:
        """Give what must survive a restart for the folders at these paths."""
        kept = [(path, note) for path, note in self._notes.items() if path in paths]
        return [
            Memory(path, note.identity, note.mtime_ns, note.first_ctime_ns, note.witnessed, note.moved)
            for path, note in kept
        ]

    # The judgement.

    def was_moved_in(self, path: str) -> bool:
        """Tell whether the folder at a path came by being moved."""
        note = self._notes.get(path)
        return note is not None and note.moved and not note.claimed

    def judge(self, entry: Entry, stamps: Collection[str], census: Census, *, now: datetime, clock: float) -> Verdict:
        """Judge one entry of the last look; stamps: those under which its path is a batch already."""
        if entry.kind == FILE:
            return _waits(N_("A loose file: put it into a folder of its own."))
        if entry.kind == LINK:
            return _waits(N_("A symbolic link: it is never followed; put the folder itself here."))
        if entry.kind == SPECIAL:
            return _waits(N_("Neither a file nor a folder: it is never opened."))
        if not entry.inode:
            return _waits(gettext("Cannot be read: %(error)s.", error=entry.trouble))
        note = self._notes[entry.path]
        if entry.sentinel_ns is None or not entry.sentinel_is_file:
            is_batch = any(_is_of(stamp, entry, census) for stamp in stamps)
        else:
            is_batch = f"sentinel {entry.sentinel_ns}" in stamps
        if is_batch:
            return self._judge_again(entry, note, stamps)
        return self._judge_new(entry, note, census, now=now, clock=clock)

    def _judge_again(self, entry: Entry, note: _Note, stamps: Collection[str]) -> Verdict:
        # A folder that we saw coming although it, or its sentinel, is a batch already: somebody brought it once more.
        came_again = note.moved or (note.witnessed and f"sentinel {entry.sentinel_ns}" in stamps)
        if not came_again or note.claimed or note.remembered or any(stamp.startswith("asked ") for stamp in stamps):
            return Verdict(KNOWN)
        return _waits(gettext("It was imported before: write %(sentinel)s into it once more to import it again.", sentinel=self._sentinel))

    def _judge_new(self, entry: Entry, note: _Note, census: Census, *, now: datetime, clock: float) -> Verdict:
        if is_temporary(entry.name):
            return _waits(N_("Its name ends in .tmp: rename it when it is complete."))
        if entry.sentinel_ns is not None and entry.sentinel_is_file:
            return self._judge_sentinel(entry, note, now=now, clock=clock)
        if entry.trouble or census.trouble:
            return _waits(gettext("Cannot be read: %(error)s.", error=entry.trouble or census.trouble))
        if census.files:
            if note.moved:
                return Verdict(CLAIM, f"moved {entry.identity}")
            if not note.witnessed and entry.ctime_ns == note.first_ctime_ns and was_renamed_last(entry, census):
                age = _seconds_since(entry.ctime_ns, now)
                if age >= EVIDENCE_SECONDS:
                    return Verdict(CLAIM, f"moved {entry.identity}")
                return self._waits_for_sentinel(entry)._replace(look_again=EVIDENCE_SECONDS - max(0.0, age))
            if self._quiet_seconds > 0:
                return self._judge_quiet(entry, note, clock=clock)
        elif census.complete:
            # It was moved in before it was filled, so that the move does not tell when it is complete.
            note.moved = False
            return _waits(gettext("Empty folder: put files into it, then write %(sentinel)s.", sentinel=self._sentinel))
        return self._waits_for_sentinel(entry)

    def _judge_sentinel(self, entry: Entry, note: _Note, *, now: datetime, clock: float) -> Verdict:
        # A sentinel from the future is settled too, once it has been seen for long enough.
        age = max(clock - note.sentinel_since, _seconds_since(entry.sentinel_ns or 0, now))
        if note.sentinel_closed or note.moved or age >= SENTINEL_SECONDS:
            return Verdict(CLAIM, f"sentinel {entry.sentinel_ns}")
        return _waits(gettext("Its %(sentinel)s is being written.", sentinel=self._sentinel), look_again=SENTINEL_SECONDS - age)

    def _judge_quiet(self, entry: Entry, note: _Note, *, clock: float) -> Verdict:
        # Two counts that far apart must agree, and the second must be recent: the database may have been away since.
        recent = clock - note.counted_at <= max(self._quiet_seconds, EVIDENCE_SECONDS)
        if note.still is None or note.still_ctime_ns != entry.ctime_ns or not recent:
            return _waits(self._quiet_sentence(), look_again=self._quiet_seconds)
        left = self._quiet_seconds - (note.counted_at - note.still_since)
        if left > 0:
            return _waits(self._quiet_sentence(), look_again=min(left, self._quiet_seconds))
        return Verdict(CLAIM, f"quiet {entry.identity} {max(note.still.newest_ns, entry.ctime_ns)}")

    def _waits_for_sentinel(self, entry: Entry) -> Verdict:
        if entry.sentinel_ns is not None:
            return _waits(gettext("Its %(sentinel)s is not a regular file.", sentinel=self._sentinel))
        if self._quiet_seconds > 0:
            return _waits(self._quiet_sentence())
        return _waits(gettext("Waits for %(sentinel)s to be written into it.", sentinel=self._sentinel))

    def _quiet_sentence(self) -> str:
        waits = N_("Waits for %(sentinel)s to be written into it, or for %(seconds)s seconds without a change.")
        return gettext(waits, sentinel=self._sentinel, seconds=f"{self._quiet_seconds:g}")


def was_renamed_last(entry: Entry, census: Census) -> bool:
    """Tell whether the times of a folder say that the last thing that happened to it was that it got its name.

    Its change time is newer than anything in it and than its own last new entry, and nobody has set its modification time
    back, as programs do that copy times (and some of them before they have copied everything).
    """
    return (
        census.complete and 0 < entry.born_ns <= entry.mtime_ns < entry.ctime_ns and census.newest_ns < entry.ctime_ns
    )


def _is_of(stamp: str, entry: Entry, census: Census) -> bool:
    # Does a stamp mean this very folder? The device is not compared: its number changes with a restart of the machine.
    words = stamp.split(" ")
    match words:
        case ["moved", identity]:
            return identity == entry.identity
        case ["quiet", identity, newest] if identity == entry.identity and newest.isdigit():
            # Files that came later make it a new arrival; files that went away (import.mode = move) do not.
            return not census.complete or census.newest_file_ns <= int(newest)
        case ["asked", inode, moment]:
            if inode != "-" and inode.rpartition(":")[2] != str(entry.inode):
                return False
            try:
                asked = datetime.fromisoformat(moment)
            except ValueError:
                return True
            return entry.born_ns / _NS <= asked.timestamp()
    return False


def _is_in(root: str, path: str) -> bool:
    return path.rpartition("/")[0] == root.rstrip("/")


def _seconds_since(moment_ns: int, now: datetime) -> float:
    return now.timestamp() - moment_ns / _NS


def _waits(reason: str, look_again: float | None = None) -> Verdict:
    return Verdict(WAITS, reason=reason, look_again=look_again)
