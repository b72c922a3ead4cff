"""The loop: take events, look at the roots, judge what is there, claim what is complete, report what waits."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from dicomweb import batches, jobs, watching
from dicomweb.db import work
from dicomweb.languages import N_, gettext
from dicomweb.settings import SettingError, Settings
from dicomweb.watching import SIGN_OF_LIFE_SECONDS, WISH_SECONDS, RootStatus
from watcher import disk, events
from watcher.arrivals import CLAIM, FILE, FOLDER, KNOWN, WAITS, Arrivals, Census, Entry, Verdict, is_temporary
from watcher.disk import Counting
from watcher.presence import Presence

log = logging.getLogger(__name__)

# How long one wait for events may last, and with it a stop.
WAIT_SECONDS = 0.5
# A scan may follow another one after three times its duration: a storm of events never keeps a processor busy.
REST_FACTOR = 3
SHORTEST_REST = 0.05
# Counting goes on between events, in steps of so many entries, and rests twenty times as long as it took.
COUNT_STEP = 500
COUNT_REST_FACTOR = 20
COUNT_REST = 1.0
# A folder that was moved in is looked into at once, so far, to tell whether it is empty.
COUNT_AT_ONCE = 5000
MOST_WATCHED_FOLDERS = 2000
CLAIMS_AT_ONCE = 100
LONGEST_BACK_OFF = 60.0
# The database, and not one claim, is the trouble.
AWAY = (OperationalError, InterfaceError)


class Claim(NamedTuple):
    """A complete folder that is to become a batch."""

    path: str
    stamp: str


class BackOff:
    """When to try again what failed: after 1, 2, 4, ... seconds, at most a minute."""

    def __init__(self) -> None:
        """Begin without a failure."""
        self.until = 0.0
        self._seconds = 0.0

    @property
    def failing(self) -> bool:
        """Did the last try fail?"""
        return self._seconds > 0

    def failed(self, clock: float) -> None:
        """Note a failure."""
        self._seconds = min(LONGEST_BACK_OFF, self._seconds * 2 or 1.0)
        self.until = clock + self._seconds

    def worked(self) -> None:
        """Note a success."""
        self.until = self._seconds = 0.0


@dataclass
class Root:
    """A watched root, and what the last look at it showed."""

    path: str
    entries: list[Entry] = field(default_factory=list)
    more_loose: int = 0
    trouble: str = N_("It has not been looked at yet.")
    limit: str = ""
    back_off: BackOff = field(default_factory=BackOff)

    def status(self) -> RootStatus:
        """Give its state for people."""
        if self.trouble:
            return RootStatus(self.path, False, self.trouble)
        loose = f" {self.more_loose} more loose files lie in it." if self.more_loose else ""
        return RootStatus(self.path, True, (self.limit or "Watched.") + loose)


class Watcher:
    """Watches the roots of the settings; ``turn`` is one turn of its loop."""

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        presence: Presence,
        *,
        doorbell: jobs.Doorbell | None = None,
        listener: events.Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin; nothing is looked at before the first turn.

        listener: without one, folders are found by scans only. Raises SettingError.
        """
        self._sentinel: str = settings["watch.sentinel"]
        if not self._sentinel or "/" in self._sentinel or self._sentinel in (".", ".."):
            raise SettingError(
                "watch.sentinel (DICOMWEB_WATCH_SENTINEL): the name of a file is expected, without a folder."
            )
        self._quiet_seconds: float = settings["watch.quiet_seconds"]
        self._scan_seconds: float = max(1.0, settings["watch.scan_seconds"])
        self._engine = engine
        self._presence = presence
        self._doorbell = doorbell
        self._listener = listener
        self._clock = clock
        self._now = now
        self._arrivals = Arrivals(
            sentinel=self._sentinel, quiet_seconds=self._quiet_seconds, remembered=presence.remembered()
        )
        self._roots = [Root(path) for path in dict.fromkeys(os.fspath(folder) for folder in settings["watch.folders"])]
        self._watched: dict[str, str] = {}
        self._known: dict[str, tuple[str, int | None]] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._census: dict[str, tuple[Entry, Census]] = {}
        self._to_count: deque[tuple[Entry, Counting]] = deque()
        self._count_spent = 0.0
        self._count_again = 0.0
        self._reported: list[batches.Waiting] = []
        self._report_again = self._recount = True
        self._database = BackOff()
        self._scan_due = self._full_due = self._sign_due = self._rested = 0.0
        self._wish: watching.Wish | None = None
        self._wish_due = 0.0
        self._scanned: datetime | None = None

    # One turn.

    def run(self, stopping: Callable[[], bool]) -> None:
        """Turn until told to stop."""
        while not stopping():
            self.turn(WAIT_SECONDS)

    def turn(self, wait: float) -> None:
        """Wait for events for at most so many seconds, then do what is due."""
        clock = self._clock()
        if clock >= self._wish_due:
            self._read_wish()
        if self._rests:
            # Events are taken all the same: they tell how a folder came, which no later scan can find out.
            self._take_events(wait)
            if self._clock() >= self._sign_due:
                self._give_sign()
            return
        if self._to_count:
            wait = 0.0
        self._take_events(max(0.0, min(wait, self._scan_due - clock, self._full_due - clock)))
        clock = self._clock()
        if clock >= min(self._scan_due, self._full_due):
            full = clock >= self._full_due
            self.scan(full=full)
        elif self._to_count:
            self._count()
        if self._clock() >= self._sign_due:
            self._give_sign()

    def close(self) -> None:
        """Stop counting; the listener and the presence belong to the caller."""
        while self._to_count:
            self._to_count.popleft()[1].close()

    def statuses(self) -> list[RootStatus]:
        """Give the state of the roots for people."""
        return [root.status() for root in self._roots]

    @property
    def _rests(self) -> bool:
        return self._wish is not None and self._wish.rests

    def _read_wish(self) -> None:
        self._wish_due = self._clock() + WISH_SECONDS
        try:
            with work(self._engine, read_only=True) as dbsession:
                wish = watching.read_wish(dbsession)
        except SQLAlchemyError:
            # The wishes of before go on; scans notice and tell that the database is away.
            return
        before, self._wish = self._wish, wish
        if wish.rests != (before is not None and before.rests):
            log.info("Stopped by a wish." if wish.rests else "Started by a wish.")
            self._sign_due = 0.0
        if before is not None and (before.rests or wish.rescan_at != before.rescan_at):
            self._full_due = self._clock()

    def _give_sign(self) -> None:
        away = N_("The watcher is active, but the database cannot be reached; it tries again.")
        sentence = away if self._database.failing else ""
        try:
            self._presence.show(
                sentence, self.statuses(), now=self._now(), resting=self._rests, scanned=self._scanned
            )
        except OSError as error:
            log.warning("The pid file cannot be written (%s).", error.strerror)
        self._sign_due = self._clock() + SIGN_OF_LIFE_SECONDS

    # Events.

    def _take_events(self, wait: float) -> set[str]:
        if self._listener is None:
            if wait > 0:
                time.sleep(wait)
            return set()
        paths = set()
        for event in self._listener.wait(wait):
            match event.what:
                case events.LOST:
                    self._full_due = min(self._full_due, self._rested)
                case events.MOVED_IN:
                    self._arrivals.moved_in(event.path)
                case events.MADE:
                    self._arrivals.made(event.path)
                case events.LEFT:
                    self._arrivals.left(event.path)
                case events.WRITTEN | events.TOUCHED:
                    folder, _, name = event.path.rpartition("/")
                    if name != self._sentinel:
                        continue
                    if event.what == events.WRITTEN:
                        self._arrivals.sentinel_closed(folder)
            paths.add(event.path)
        if paths:
            self._scan_due = min(self._scan_due, self._rested)
        return paths

    # A scan.

    def scan(self, *, full: bool) -> None:
        """Look at all roots, and do what follows from it; full: count what waits, too."""
        began = self._clock()
        self._scan_due = self._full_due = began + self._scan_seconds
        if full:
            self._report_again = self._recount = True
            self._refused.clear()
        for root in self._roots:
            self._look_at(root, began)
        # What happened while we looked may make a look wrong: those paths are judged by the next scan.
        moving = self._take_events(0.0)
        self._remember()
        self._decide(moving)
        self._start_counting()
        if full:
            self._scanned = self._now()
            self._sign_due = 0.0
        ended = self._clock()
        self._rested = ended + max(SHORTEST_REST, REST_FACTOR * (ended - began))
        if moving:
            self._scan_due = min(self._scan_due, self._rested)

    def _look_at(self, root: Root, clock: float) -> None:
        if clock < root.back_off.until:
            self._scan_due = min(self._scan_due, root.back_off.until)
            return
        root.limit = ""
        try:
            self._listen_to(root)
            look = disk.look(root.path, self._sentinel)
        except OSError as error:
            if not root.back_off.failing:
                log.warning("Watched folder %d cannot be read: %s.", self._roots.index(root) + 1, error.strerror)
                self._sign_due = 0.0
            root.trouble = gettext("Cannot be read: %(error)s. It is tried again.", error=error.strerror)
            root.back_off.failed(clock)
            self._scan_due = min(self._scan_due, root.back_off.until)
            return
        if root.trouble:
            self._sign_due = 0.0
        root.back_off.worked()
        # A root that lies in another one is a root, and nobody's batch.
        roots = {root.path for root in self._roots}
        root.entries = [entry for entry in look.entries if entry.path not in roots]
        root.more_loose, root.trouble = look.more_loose, ""
        self._arrivals.observe(root.path, root.entries, clock=clock)
        self._listen_below(root)

    def _listen_to(self, root: Root) -> None:
        if self._listener is None:
            root.limit = N_("Watched by scans only: inotify is not available.")
            return
        try:
            self._listener.watch_root(root.path)
        except events.CannotListen as error:
            root.limit = str(error)

    def _listen_below(self, root: Root) -> None:
        if self._listener is None:
            return
        folders = {
            entry.path: entry.identity
            for entry in root.entries
            if entry.kind == FOLDER and entry.inode and not is_temporary(entry.name)
        }
        for path in [
            path
            for path in self._watched
            if os.path.dirname(path) == root.path and self._watched[path] != folders.get(path)
        ]:
            self._listener.forget(path)
            del self._watched[path]
        # What is not a batch yet comes first, because it is what somebody waits for.
        for path in sorted(folders.keys() - self._watched.keys(), key=lambda path: path in self._known):
            if len(self._watched) >= MOST_WATCHED_FOLDERS and not (path not in self._known and self._make_room()):
                break
            try:
                self._listener.watch_folder(path)
            except events.CannotListen as error:
                root.limit = str(error)
                break
            except OSError:
                # It is gone or cannot be read; the look at it says so.
                continue
            self._watched[path] = folders[path]
            # What was written before we listened is found by one more look.
            self._scan_due = min(self._scan_due, self._clock() + SHORTEST_REST)

    def _make_room(self) -> bool:
        # A batch gives way to what waits: its sentinel, touched again, is found by the next full scan.
        path = next((path for path in self._watched if path in self._known), None)
        if path is None or self._listener is None:
            return False
        self._listener.forget(path)
        del self._watched[path]
        return True

    # Judge, claim, report.

    def _decide(self, moving: set[str]) -> None:
        clock = self._clock()
        if clock < self._database.until:
            self._scan_due = min(self._scan_due, self._database.until)
            return
        try:
            claims, waiting = self._judge(moving)
            self._claim(claims)
            self._report(waiting)
        except SQLAlchemyError as error:
            if not self._database.failing:
                log.warning("The database cannot be used (%s); arrivals wait until it can.", type(error).__name__)
            self._database.failed(clock)
            self._scan_due = min(self._scan_due, self._database.until)
            self._sign_due = 0.0
        else:
            if self._database.failing:
                log.info("The database can be used again.")
                self._sign_due = 0.0
            self._database.worked()

    def _judge(self, moving: set[str]) -> tuple[list[Claim], list[batches.Waiting]]:
        entries = [entry for root in self._roots for entry in root.entries]
        present = {entry.path for entry in entries}
        for gone in self._known.keys() - present:
            del self._known[gone]
        for gone in self._census.keys() - present:
            del self._census[gone]
        unreachable = {entry.path for root in self._roots if root.trouble for entry in root.entries}
        open_entries = [entry for entry in entries if not self._is_known(entry)]
        stamps = self._stamps([entry.path for entry in open_entries if entry.kind == FOLDER])
        claims, waiting = [], []
        for entry in open_entries:
            if entry.kind == FOLDER and self._arrivals.was_moved_in(entry.path) and not is_temporary(entry.name):
                self._count_at_once(entry)
            verdict = self._verdict(entry, stamps.get(entry.path, set()))
            if verdict.look_again is not None:
                self._scan_due = min(self._scan_due, self._clock() + max(SHORTEST_REST, verdict.look_again))
            if verdict.what == KNOWN:
                # A folder that became quiet is looked at for ever, because more files may come after all.
                if not any(stamp.startswith("quiet ") for stamp in stamps[entry.path]):
                    self._known[entry.path] = (entry.identity, entry.sentinel_ns)
            elif entry.path in moving:
                continue
            elif verdict.what == WAITS:
                waiting.append(self._waiting(entry, verdict.reason))
            elif entry.path in unreachable:
                waiting.append(self._waiting(entry, N_("The watched folder it lies in cannot be read.")))
            else:
                claims.append(Claim(entry.path, verdict.stamp))
        return claims, waiting

    def _stamps(self, paths: Sequence[str]) -> dict[str, set[str]]:
        if not paths:
            return {}
        with work(self._engine, read_only=True) as dbsession:
            return batches.claimed_stamps(dbsession, paths)

    def _verdict(self, entry: Entry, stamps: set[str]) -> Verdict:
        verdict = self._arrivals.judge(entry, stamps, self._counted(entry), now=self._now(), clock=self._clock())
        if verdict.what == CLAIM and (reason := self._refused.get((entry.path, verdict.stamp))):
            return Verdict(WAITS, reason=reason)
        return verdict

    def _waiting(self, entry: Entry, reason: str) -> batches.Waiting:
        if entry.kind != FOLDER:
            files, size = (1, entry.size) if entry.kind == FILE else (0, 0)
            return batches.Waiting(entry.path, False, files, size, _moment(entry.mtime_ns), reason)
        census = self._counted(entry)
        return batches.Waiting(
            entry.path, True, census.files, census.bytes, _moment(max(entry.ctime_ns, census.newest_ns)), reason
        )

    def _claim(self, claims: Sequence[Claim]) -> None:
        for start in range(0, len(claims), CLAIMS_AT_ONCE):
            some = claims[start : start + CLAIMS_AT_ONCE]
            try:
                self._claim_together(some)
            except AWAY:
                raise
            except SQLAlchemyError:
                # One of them cannot become a batch, which must not keep the others waiting.
                for claim in some:
                    self._claim_alone(claim)

    def _claim_together(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            # Said before the commit: if its answer gets lost, the folder is known all the same.
            self._arrivals.claimed(claim.path)
        made = []
        with work(self._engine) as dbsession:
            if self._doorbell is not None:
                dbsession.info["doorbell"] = self._doorbell
            for claim in claims:
                batch = batches.claim_arrival(dbsession, claim.path, stamp=claim.stamp, now=self._now())
                if batch is not None:
                    made.append(batch.id)
        for batch_id in made:
            log.info("A folder arrived: batch %d.", batch_id)

    def _claim_alone(self, claim: Claim) -> None:
        try:
            self._claim_together([claim])
        except AWAY:
            raise
        except SQLAlchemyError as error:
            log.error("A folder cannot become a batch (%s).", type(error).__name__)
            self._scan_due = self._rested
            self._refused[claim] = gettext("It cannot become a batch (%(error)s); the watcher's log tells when.", error=type(error).__name__)

    def _report(self, waiting: list[batches.Waiting]) -> None:
        if waiting == self._reported and not self._report_again:
            return
        by_path = {entry.path: entry for root in self._roots for entry in root.entries}
        with work(self._engine) as dbsession:
            # What somebody asked to import meanwhile must not be shown as waiting again.
            stamps = batches.claimed_stamps(dbsession, [arrival.path for arrival in waiting if arrival.is_folder])
            still = [
                arrival
                for arrival in waiting
                if self._verdict(by_path[arrival.path], stamps.get(arrival.path, set())).what != KNOWN
            ]
            batches.report_arrivals(dbsession, still, now=self._now())
        if len(still) != len(self._reported):
            log.info("%d waiting.", len(still))
        self._reported, self._report_again = still, False

    def _remember(self) -> None:
        paths = {entry.path for root in self._roots for entry in root.entries if not self._is_known(entry)}
        try:
            self._presence.remember(self._arrivals.memory(paths))
        except OSError as error:
            log.warning("What waits cannot be noted for a restart (%s).", error.strerror)

    # Counting.

    def _counted(self, entry: Entry) -> Census:
        counted = self._census.get(entry.path)
        return counted[1] if counted is not None and counted[0].identity == entry.identity else Census()

    def _count_at_once(self, entry: Entry) -> None:
        if self._counted(entry).files:
            return
        counting = Counting(entry.path)
        counting.advance(COUNT_AT_ONCE)
        self._census[entry.path] = (entry, counting.census)
        counting.close()

    def _start_counting(self) -> None:
        # What is new or has other entries than before is counted soon; everything else again with each full scan.
        if self._to_count:
            return
        waiting = [
            entry
            for root in self._roots
            for entry in root.entries
            if entry.kind == FOLDER and not self._is_known(entry)
        ]
        changed = [entry for entry in waiting if not self._is_counted(entry)]
        if self._clock() < self._count_again:
            if changed or self._recount:
                self._scan_due = min(self._scan_due, self._count_again)
            return
        again = self._recount or self._quiet_seconds > 0
        self._to_count.extend((entry, Counting(entry.path)) for entry in (waiting if again else changed))
        self._recount, self._count_spent = False, 0.0

    def _is_counted(self, entry: Entry) -> bool:
        counted = self._census.get(entry.path)
        return counted is not None and counted[1].complete and counted[0].ctime_ns == entry.ctime_ns

    def _is_known(self, entry: Entry) -> bool:
        return self._known.get(entry.path) == (entry.identity, entry.sentinel_ns)

    def _count(self) -> None:
        began = self._clock()
        entry, counting = self._to_count[0]
        if counting.advance(COUNT_STEP):
            self._to_count.popleft()
            self._census[entry.path] = (entry, counting.census)
            self._arrivals.take_census(entry, counting.census, clock=self._clock())
        ended = self._clock()
        self._count_spent += ended - began
        if not self._to_count:
            self._count_again = ended + max(COUNT_REST, COUNT_REST_FACTOR * self._count_spent)
            # Judged after a fresh look, because counting may have taken a while.
            self._scan_due = min(self._scan_due, max(self._rested, ended))


def _moment(nanoseconds: int) -> datetime:
    # A broken clock somewhere may have written any moment into a file system.
    return datetime.fromtimestamp(min(max(nanoseconds, 0) / 1e9, 4e9), UTC)
