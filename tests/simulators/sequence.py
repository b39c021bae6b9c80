# SPDX-License-Identifier: Apache-2.0
"""The database of a log at scale, in memory: connections that can be lost, copies that can be restored, calls that fail.

    database = Database("log.acme/m")
    store = ObjectLog(sequence=SimSequence(database), heads=SimHead(database), objects=MemoryObjects(), keys=keys)

:class:`Faults` counts every call of every port; a test says at which one the process dies, or what happens just then.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from chopmark.errors import UndecidedError, VerificationError
from chopmark.ledger import EMPTY_ROOT
from chopmark.ledger.ports import Head, HeadStore, ObjectStore, Sequenced, SequenceStore


class Died(BaseException):
    """The process was killed here: nothing of it runs on."""


@dataclass
class Faults:
    """Before call number *at* (counting from 1), *then* happens; with ``after``, just after it.

    Attributes:
        calls: what was called so far.
        dead: nothing that is called later does anything either: ``finally`` blocks do not run in a killed process.
    """

    at: int = 0
    then: Callable[[], None] | None = None
    after: bool = False
    calls: list[str] = field(default_factory=list)
    dead: bool = False
    paused: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        with self.lock:
            if self.dead:
                raise Died
            if self.paused:
                yield
                return
            self.calls.append(name)
            mine = len(self.calls) == self.at
            if mine and not self.after:
                self._happen()
            yield
            if mine and self.after:
                self._happen()

    def _happen(self) -> None:
        if self.then is None:
            self.dead = True
            raise Died
        self.paused = True
        try:
            self.then()
        finally:
            self.paused = False


@dataclass
class Database:
    """What is durable."""

    origin: str
    once: bool = True
    state: Sequenced = field(init=False)
    head: Head = field(init=False)
    leaves: dict[bytes, int] = field(default_factory=dict)
    notes: list[bytes] = field(default_factory=list)
    has_turn: object = None

    def __post_init__(self) -> None:
        self.state = Sequenced(origin=self.origin, size=0, root=EMPTY_ROOT, once=self.once, start=0, staged=None)
        self.head = Head(origin=self.origin, size=0, root=EMPTY_ROOT, note=None, witnessed=None)

    def backup(self) -> Database:
        copied = copy.copy(self)
        copied.leaves, copied.has_turn = dict(self.leaves), None
        return copied

    def restore(self, older: Database) -> None:
        self.state, self.head, self.leaves = older.state, older.head, dict(older.leaves)


class SimSequence(SequenceStore):
    """One connection; taking a turn takes it from whoever had it, as from a process whose connection was lost."""

    def __init__(self, database: Database, faults: Faults | None = None) -> None:
        self.database = database
        self.faults = faults or Faults()
        self._changed: tuple[Sequenced, dict[bytes, int]] | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self.faults.call("turn"):
            self.database.has_turn = self
        yield
        if self.database.has_turn is self:
            self.database.has_turn = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.faults.call("begin"):
            self._need_turn()
            self._changed = None
        try:
            yield
        except BaseException:
            self._changed = None
            raise
        with self.faults.call("commit"):
            self._need_turn()
            if self._changed is not None:
                self.database.state, fresh = self._changed
                self.database.leaves |= fresh
            self._changed = None

    def sequenced(self) -> Sequenced:
        with self.faults.call("sequenced"):
            return self.database.state if self._changed is None else self._changed[0]

    def find(self, leaves):
        with self.faults.call("find leaves"):
            known = self.database.leaves if self._changed is None else self.database.leaves | self._changed[1]
            return {leaf: known[leaf] for leaf in leaves if leaf in known}

    def advance(self, old, new, leaves):
        with self.faults.call("advance"):
            now = self.database.state if self._changed is None else self._changed[0]
            if (now.size, now.root) != (old.size, old.root) or now.frozen:
                return False
            known = self.database.leaves if self._changed is None else self.database.leaves | self._changed[1]
            if any(leaf in known for leaf in leaves) or len(set(leaves)) < len(leaves):
                raise VerificationError("indexed already", code="ledger-corrupt")
            fresh = dict(zip(leaves, range(old.size, new.size), strict=bool(leaves))) if leaves else {}
            self._changed = (new, fresh if self._changed is None else self._changed[1] | fresh)
            return True

    def freeze(self) -> None:
        self._change("freeze", frozen=True)

    def prune(self, minimum: int) -> None:
        self._change("prune", minimum=minimum)

    def keep_removed(self, end: int) -> None:
        self._change("keep removed", removed=end)

    def _change(self, name: str, **values: int) -> None:
        """Change numbers that only grow."""
        with self.faults.call(name):
            now, fresh = self._changed or (self.database.state, {})
            self._changed = (
                replace(now, **{key: max(getattr(now, key), value) for key, value in values.items()}),
                fresh,
            )

    def count(self) -> int:
        return len(self.database.leaves)

    def _need_turn(self) -> None:
        if self.database.has_turn is not self:
            raise UndecidedError("the connection to the database was lost", code="store-busy")


class SimHead(HeadStore):
    """Another connection, which may well live on when the first is lost."""

    def __init__(self, database: Database, faults: Faults | None = None) -> None:
        self.database = database
        self.faults = faults or Faults()

    def head(self) -> Head:
        with self.faults.call("head"):
            return self.database.head

    def advance(self, old, *, size, root):
        with self.faults.call("advance head"):
            now = self.database.head
            if (now.size, now.root) != (old.size, old.root) or size <= now.size or now.frozen:
                return False
            self.database.head = replace(now, size=size, root=root, note=None)
            return True

    def keep_note(self, head, note):
        with self.faults.call("keep note"):
            now = self.database.head
            if (now.size, now.root) != (head.size, head.root):
                return None
            if now.note is None:
                self.database.head = replace(now, note=note)
                self.database.notes.append(note)
            return self.database.head.note

    def freeze(self, head, *, moved_to=""):
        with self.faults.call("freeze head"):
            now = self.database.head
            if (now.size, now.root) != (head.size, head.root) or (now.frozen and now.moved_to != moved_to):
                return False
            self.database.head = replace(now, frozen=True, moved_to=moved_to)
            return True

    def keep_witnessed(self, size, note):
        with self.faults.call("keep witnessed"):
            self.database.head = replace(self.database.head, witnessed=note)
            return True


class MemoryObjects(ObjectStore):
    """Objects in a dict.

    Attributes:
        history: every checkpoint that was ever shown.
    """

    def __init__(self, kept: dict[str, bytes] | None = None, faults: Faults | None = None) -> None:
        self.kept = {} if kept is None else kept
        self.faults = faults or Faults()
        self.history: list[bytes] = []

    def seen_by(self, faults: Faults) -> MemoryObjects:
        """Return the same objects as another process sees them."""
        other = MemoryObjects(self.kept, faults)
        other.history = self.history
        return other

    def _find(self, path, max_bytes):
        with self.faults.call(f"find {path}"):
            return self.kept.get(path)

    def _create(self, path, data):
        with self.faults.call(f"create {path}"):
            if path in self.kept:
                return False
            self.kept[path] = data
            return True

    def _replace(self, path, data):
        with self.faults.call(f"replace {path}"):
            if path == "checkpoint":
                self.history.append(data)
            self.kept[path] = data

    def _remove(self, path):
        with self.faults.call(f"remove {path}"):
            self.kept.pop(path, None)

    def _names(self, prefix):
        with self.faults.call(f"names {prefix}"):
            found = [path for path in self.kept if path.startswith(prefix)]
        yield from found
