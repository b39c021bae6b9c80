# SPDX-License-Identifier: Apache-2.0
"""Follow a log: verify that it only grows, tell what is logged, and stand still when it lies. A second face, for tools.

A turn, in this order:

1. The state is read and verified. A monitor that stands still goes no further.
2. What is served is signed by all required keys, contradicts nothing that was seen before (:mod:`chopmark.ledger.compare`),
   and was seen by the quorum. It is remembered before anything else happens.
3. New entries are scanned in order. *First* they are told and that is durable, *then* they are marked as seen: a crash in
   between tells some of them again, and never skips one.
4. Checkpoints from elsewhere are compared.
5. How long ago the quorum saw the log is judged by the policy, never by one witness.
6. A successor is followed if its entry 0 seals exactly the head that was verified here, and every entry was told.

A fork or a rollback is kept as evidence, told, and ends the following until a human says ``resume``. Everything else that is
wrong is told and looked at again in the next turn, from the same place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from chopmark.clock import Clock, format_time
from chopmark.errors import ChopmarkError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger.compare import (
    Newest,
    Reported,
    Split,
    Watched,
    compare_reported,
    compare_second,
    read_newest,
    read_seal,
)
from chopmark.ledger.events import PASSING, Event, Watch
from chopmark.ledger.followed import Alarm, Followed, decode_followed, encode_followed
from chopmark.ledger.merkle import leaf_hash
from chopmark.ledger.note import MAX_NOTE_BYTES
from chopmark.ledger.ports import LogFiles, MonitorStore
from chopmark.ledger.static import StaticLog

BATCH: Final = 4096
"""Entries that are told and marked together; whole bundles of 256."""
_SKEW: Final = timedelta(minutes=5)
_STANDS: Final = "read the guide watch-a-ledger; look at the evidence; go on with --resume REASON"

About = Callable[[bytes], Sequence[str]]
"""What an entry is about, as ``<kind>:<value>``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """A place where another checkpoint of the same log is: the file *path* of *files*."""

    where: str
    files: LogFiles
    path: str


@dataclass(slots=True)
class Turn:
    """What a turn found.

    Attributes:
        followed: what is remembered after it; None where nothing was verified yet.
        told: how many entries were told; *scanned* how many were looked at.
        cosigned_at: since when the quorum has seen the log.
        alarms: what is wrong; *undecided*: what could not be found out.
    """

    followed: Followed | None = None
    told: int = 0
    scanned: int = 0
    cosigned_at: datetime | None = None
    alarms: list[ChopmarkError] = field(default_factory=list)
    undecided: list[ChopmarkError] = field(default_factory=list)

    @property
    def stands(self) -> bool:
        """Nothing is looked at until a human acted."""
        return self.followed is not None and self.followed.alarm is not None


class Monitor:
    """See the module.

    Args:
        logs: the log, and after it its successors in order.
        about: says what an entry is about; raises nothing.
        tell: is given each event, after the store has it where it is kept; what it raises ends the turn, nothing is marked.
        max_age: how long ago the quorum may have seen the log; None asks for nothing.
        seconds: places to compare with; *reported*: what others say they saw.
        progress: is given (scanned, size) after each batch.
    """

    def __init__(
        self,
        logs: Sequence[Watched],
        *,
        store: MonitorStore,
        about: About,
        tell: Callable[[Event], None],
        clock: Clock,
        watch: Watch = Watch(),  # noqa: B008 - frozen
        max_age: timedelta | None = None,
        seconds: Sequence[Second] = (),
        reported: Sequence[Reported] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not logs or len({log.origin for log in logs}) != len(logs):
            raise UsageError("a log and its successors have names of their own")
        if max_age is not None and any(log.policy.quorum == "none" for log in logs):
            message = "without a quorum of witnesses nobody says how old a checkpoint is"
            raise UsageError(message, hint="name a policy with a quorum, or leave --max-age out")
        self._logs = {log.origin: log for log in logs}
        self._store = store
        self._about = about
        self._tell = tell
        self._clock = clock
        self._watch = watch
        self._max_age = max_age
        self._seconds = tuple(seconds)
        self._reported = tuple(reported)
        self._progress = progress

    def turn(self) -> Turn:
        """Look once.

        Raises:
            UsageError: the state is of another log, or was made for other filters.
            UndecidedError: another monitor is looking; the state cannot be read or written.
        """
        with self._store.exclusive():
            turn = Turn(followed=self._remembered())
            if turn.followed is not None and turn.followed.alarm is not None:
                self._stand(turn, turn.followed.alarm)
            else:
                self._look(turn)
            self._say("turn", **_figures(turn))
            return turn

    def resume(self, reason: str) -> None:
        """Go on after an alarm, from what was verified before it; *reason* is written down.

        Raises:
            UsageError: this monitor does not stand still.
        """
        with self._store.exclusive():
            followed = self._remembered()
            if followed is None or followed.alarm is None:
                raise UsageError("this monitor does not stand still", hint="leave --resume out")
            self._say("resumed", reason=reason, code=followed.alarm.code, since=followed.alarm.time)
            self._store.save(encode_followed(replace(followed, alarm=None)))

    def rescan(self) -> None:
        """Let every entry of the log be told again, for the filters as they are now."""
        with self._store.exclusive():
            followed = self._remembered(any_watch=True)
            if followed is not None:
                self._store.save(encode_followed(replace(followed, scanned=0, watch=self._watch.patterns)))

    def _look(self, turn: Turn) -> None:
        """Go through the steps 2 to 6."""
        log = self._log(turn.followed)
        try:
            self._try(turn, partial(self._follow, turn, log))
            self._try(turn, partial(self._succeed, turn, log))
        except Split as split:
            self._stop(turn, split)

    def _follow(self, turn: Turn, log: Watched) -> None:
        newest = read_newest(log, turn.followed)
        self._anchor(turn, log, newest)
        self._try(turn, partial(self._scan, turn, log, newest))
        for second in self._seconds:
            self._try(turn, partial(self._compare, log, newest, second))
        self._try(turn, partial(self._compare_reported, log, newest))
        self._try(turn, partial(self._fresh, newest))

    def _anchor(self, turn: Turn, log: Watched, newest: Newest) -> None:
        """Remember what was verified, so that no smaller or other log is believed from now on."""
        old, point = turn.followed, newest.seen.checkpoint
        turn.cosigned_at = newest.seen.cosigned_at
        if old is None:
            new = Followed(note=newest.note, promised=newest.promised, scanned=0, watch=self._watch.patterns)
        else:
            note = newest.note if point.size > old.checkpoint.size else old.note
            promised = (
                newest.promised if log.signed(newest.promised).size > log.signed(old.promised).size else old.promised
            )
            new = replace(old, note=note, promised=promised)
        if old is None or new.note != old.note:
            since = None if turn.cosigned_at is None else format_time(turn.cosigned_at)
            seen = {"cosigned_by": list(newest.seen.cosigned_by), "cosigned_at": since}
            self._say("checkpoint", origin=point.origin, size=point.size, root=point.root.hex(), **seen)
        if new != old:
            self._save(turn, new)

    def _scan(self, turn: Turn, log: Watched, newest: Newest) -> None:
        """Tell the new entries and mark them, batch by batch; where one is hidden, those before it are told."""
        tree, size = StaticLog(log.files, newest.seen.checkpoint), newest.seen.checkpoint.size
        while turn.followed is not None and (start := turn.followed.scanned) < size:
            entries: list[bytes] = []
            hidden: ChopmarkError | None = None
            try:
                entries.extend(tree.entries(start, min(size, (start // BATCH + 1) * BATCH)))
            except (VerificationError, UndecidedError) as error:
                hidden = error
            self._tell_entries(turn, log, start, entries)
            self._save(turn, replace(turn.followed, scanned=start + len(entries)))
            turn.scanned += len(entries)
            if self._progress is not None:
                self._progress(start + len(entries), size)
            if hidden is not None:
                raise hidden

    def _tell_entries(self, turn: Turn, log: Watched, start: int, entries: Sequence[bytes]) -> None:
        now, events = self._clock.now(), []
        for index, entry in enumerate(entries, start):
            keys = list(self._about(entry))
            if self._watch.wants(keys):
                data = {"origin": log.origin, "index": index, "leaf": leaf_hash(entry).hex(), "keys": keys}
                events.append(Event(kind="entry", time=now, data=data))
        self._say_all(events)
        turn.told += len(events)

    def _compare(self, log: Watched, newest: Newest, second: Second) -> None:
        note = second.files.find(second.path, max_bytes=MAX_NOTE_BYTES)
        if note is None:
            raise UndecidedError(f"{second.where}: has no checkpoint", code="not-compared", hint="check the address")
        theirs = compare_second(log, newest, note, second.files)
        self._say("compared", origin=log.origin, where=second.where, size=theirs.size)

    def _compare_reported(self, log: Watched, newest: Newest) -> None:
        if self._reported:
            count = compare_reported(log, newest, self._reported)
            self._say("compared", origin=log.origin, where="reported", count=count)

    def _fresh(self, newest: Newest) -> None:
        if self._max_age is None:
            return
        seen, now = newest.seen.cosigned_at, self._clock.now()
        hint = "look for who serves old files, whether the witnesses run, and at this clock"
        if seen is None:
            raise UndecidedError("no quorum says when it saw this log", code="log-stale", hint=hint)
        if not -_SKEW <= now - seen <= self._max_age:
            message = f"a quorum saw this log last at {format_time(seen)}; it is {format_time(now)}"
            raise UndecidedError(message, code="log-stale", hint=hint)

    def _succeed(self, turn: Turn, log: Watched) -> None:
        """Go over to the next log if it is the successor of exactly what was verified and told."""
        following = list(self._logs.values())[list(self._logs).index(log.origin) + 1 :]
        if not following or turn.followed is None:
            return
        newest = read_newest(following[0], None)
        read_seal(log, turn.followed, following[0], newest)
        old = turn.followed.checkpoint
        if turn.followed.scanned < old.size:
            message = f"{log.origin}: {old.size - turn.followed.scanned} entries were never told; its successor waits"
            raise UndecidedError(message, code="log-behind", hint="find the files of the old log")
        self._say("successor", origin=following[0].origin, after=log.origin, size=old.size, root=old.root.hex())
        before = (*turn.followed.before, log.origin)
        start = Followed(
            note=newest.note, promised=newest.promised, scanned=0, watch=self._watch.patterns, before=before
        )
        self._save(turn, start)
        self._look(turn)

    def _remembered(self, *, any_watch: bool = False) -> Followed | None:
        data = self._store.load()
        if data is None:
            return None
        hint = "restore an older copy: entries are told again; or begin anew with an empty --state"
        try:
            followed = decode_followed(data)
            log = self._log(followed)
            for note in (followed.note, followed.promised):
                log.signed(note)
        except Refused as error:
            message = f"what is remembered was not signed by the keys that are required now: {error.message}"
            hint = "a log keeps its keys; one with new keys has a new name: --successor"
            raise UndecidedError(message, code="monitor-state", hint=hint) from error
        except VerificationError as error:
            raise UndecidedError(error.message, code="monitor-state", hint=hint) from error
        if followed.watch != self._watch.patterns and not any_watch:
            asked = ", ".join(followed.watch) or "everything"
            hint = "another --state for other filters; or --rescan, and everything is looked at again"
            raise UsageError(f"this state was made while looking for {asked}", hint=hint)
        return followed

    def _log(self, followed: Followed | None) -> Watched:
        """Return the log that is followed now."""
        if followed is None:
            return next(iter(self._logs.values()))
        origin = followed.checkpoint.origin
        if origin not in self._logs:
            hint = "one --state for each log; after a succession name both logs, or the new one alone"
            raise UsageError(f"this state follows {origin}", hint=hint)
        return self._logs[origin]

    def _stand(self, turn: Turn, alarm: Alarm) -> None:
        evidence = {"files": list(alarm.evidence)}
        turn.alarms.append(VerificationError(alarm.message, code=alarm.code, hint=_STANDS, evidence=evidence))
        self._say("stands", code=alarm.code, message=alarm.message, since=alarm.time, evidence=list(alarm.evidence))

    def _stop(self, turn: Turn, split: Split) -> None:
        """Keep the evidence, tell, and stand still."""
        notes = [note for name in ("remembered", "served") if isinstance(note := split.evidence[name], bytes)]
        paths = [
            self._store.keep(f"{split.code}-{hashlib.sha256(note).hexdigest()[:16]}.checkpoint", note) for note in notes
        ]
        alarm = Alarm(
            code=split.code, message=split.message, time=format_time(self._clock.now()), evidence=tuple(paths)
        )
        self._say("alarm", code=split.code, message=split.message, hint=_STANDS, evidence=paths)
        before = turn.followed or Followed(note=notes[0], promised=notes[0], scanned=0, watch=self._watch.patterns)
        self._save(turn, replace(before, alarm=alarm))
        turn.alarms.append(split)

    def _try(self, turn: Turn, step: Callable[[], None]) -> None:
        """Do a step; what is wrong there is told and ends it alone. A split ends the turn."""
        try:
            step()
        except Split:
            raise
        except VerificationError as error:
            turn.alarms.append(error)
            self._say("alarm", code=error.code, message=error.message, hint=error.hint, evidence=[])
        except UndecidedError as error:
            turn.undecided.append(error)
            self._say("undecided", code=error.code, message=error.message, hint=error.hint)

    def _save(self, turn: Turn, followed: Followed) -> None:
        self._store.save(encode_followed(followed))
        turn.followed = followed

    def _say(self, kind: str, **data: object) -> None:
        self._say_all([Event(kind=kind, time=self._clock.now(), data=data)])

    def _say_all(self, events: Sequence[Event]) -> None:
        kept = [event.encode() for event in events if event.kind not in PASSING]
        if kept:
            self._store.report(kept)
        for event in events:
            self._tell(event)


def _figures(turn: Turn) -> dict[str, object]:
    point = turn.followed.checkpoint if turn.followed else None
    return {
        "origin": point.origin if point else None,
        "size": point.size if point else 0,
        "seen": turn.followed.scanned if turn.followed else 0,
        "scanned": turn.scanned,
        "told": turn.told,
        "alarms": len(turn.alarms),
        "undecided": len(turn.undecided),
        "cosigned_at": format_time(turn.cosigned_at) if turn.cosigned_at else None,
        "stands": turn.stands,
    }
