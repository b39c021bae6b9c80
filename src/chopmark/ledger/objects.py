# SPDX-License-Identifier: Apache-2.0
"""A log whose order is in a database and whose files are in an object store. A second face, for servers.

Readers need the objects alone (:class:`chopmark.ledger.static.StaticLog`) and never ask the database. What an append does,
and what is left when its writer is killed after each step:

1. Stage: one object with every file of the change. Killed: an object that nobody refers to, swept later.
2. Commit: the database moves from the old size and root to the new, by comparison, with the digest of the staged object
   and the index of leaves, in one transaction. Killed: the next writer finds the head behind, checks the staged object
   against its digest, and does 3 before anything else.
3. Put: every tile and bundle, created if absent. The same bytes are fine; other bytes are another history.
4. Head: it moves in the database (:mod:`chopmark.ledger.sequencer`), is signed once and kept. Killed: the next writer does it.
5. Show: the object ``checkpoint`` is replaced by the head's, ``witnessed-checkpoint`` likewise. Killed: as 4.
6. Sweep: the staged object is removed. Only now is the append acknowledged.

Everything acknowledged is therefore covered by a shown checkpoint, and a database that comes back older than that was
restored: refused, with both checkpoints as evidence. A shown checkpoint counts only with the signatures of the log's own
keys, and what is read is hashed up to a root from the database, so the object store is trusted with nothing.

Pruning is two steps: the database says from which entry on the log keeps its bundles, then they are removed; killed
between the two, the next block removes them. A bundle that comes back (see below) is no part of the log, and goes with the
next pruning.

Writers take turns for the whole of an append. Who loses its connection loses its turn, and may then still put files of a
change that was committed, which have the same bytes, or show an older checkpoint over a newer: the head in the database
decides, and the next turn shows it again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from chopmark.errors import InternalError, MovedError, UndecidedError, UsageError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import HASH_BYTES
from chopmark.ledger.note import VerifierKey
from chopmark.ledger.ports import (
    Head,
    HeadStore,
    LogCounts,
    LogFiles,
    LogState,
    LogStore,
    ObjectStore,
    Sequenced,
    SequenceStore,
)
from chopmark.ledger.shown import ShownCheckpoints, went_back
from chopmark.ledger.staging import (
    MAX_STAGING_BYTES,
    STAGING,
    decode_staging,
    encode_staging,
    file_name,
    files_of,
    staged_size,
    staging_path,
)
from chopmark.ledger.static import MAX_BUNDLE_BYTES, StaticLog
from chopmark.ledger.tiles import TILE_WIDTH, Integration, bundle_path

_PUTS_AT_ONCE: Final = 16
_LOOKUP_TILES: Final = 16
_BUNDLES: Final = "tile/entries/"


@dataclass(kw_only=True)
class _Block:
    """An :meth:`ObjectLog.exclusive` block: where it began, where it is, and the files it will put."""

    began: Sequenced
    state: Sequenced
    files: dict[str, bytes] = field(default_factory=dict)
    pruned: bool = False


class ObjectLog(LogStore):
    """See the module. Threads of one process may share it."""

    public = True

    def __init__(
        self, *, sequence: SequenceStore, heads: HeadStore, objects: ObjectStore, keys: Sequence[VerifierKey]
    ) -> None:
        """Put the parts together; nothing is read yet.

        Args:
            heads: of the same log; its head is behind *sequence* as long as a change is not put.
            keys: the log's; a shown checkpoint is signed by all of them.
        """
        self._sequence = sequence
        self._heads = heads
        self._objects = objects
        self._writing = threading.RLock()
        self._reading = threading.RLock()
        self._turns = 0
        self._block: _Block | None = None
        self._writer = 0
        self._static: StaticLog | None = None
        self._seen: Sequenced | None = None  # the furthest that this process has known the order to be
        self._shown = ShownCheckpoints(objects, keys)
        self._looked = False  # at what is shown, in this turn
        self._swept = False
        self._staged: set[str] = set()

    def close(self) -> None:
        """Let the connections to the database go."""
        self._sequence.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._writing:
            if self._turns:
                yield
                return
            with self._sequence.turn():
                self._turns, self._looked = 1, False
                try:
                    yield
                finally:
                    self._turns = 0

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self.turn():
            if self._block is not None:
                raise InternalError("one exclusive block inside another")
            with self._sequence.transaction():
                state = self._sequence.sequenced()
                block = self._block = _Block(began=state, state=state)
                self._writer = threading.get_ident()
                try:
                    self._recover(state)
                    yield
                finally:
                    self._block = None
            self._put(_kept(block.files, block.state.minimum))
            self._seen = block.state
            if block.state.removed < block.state.minimum or block.pruned:
                self._remove_pruned(block.state)

    def state(self) -> LogState:
        at = self._own_block()
        found = self._sequence.sequenced() if at is None else at.state
        return LogState(
            origin=found.origin,
            size=found.size,
            root=found.root,
            once=found.once,
            frozen=found.frozen,
            minimum=found.minimum,
        )

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        return self._sequence.find(leaves)

    def write(self, integration: Integration) -> None:
        block = self._needed_block()
        if block.state.frozen:
            raise VerificationError("the log is frozen", code="log-frozen")
        files = block.files | files_of(integration)
        size, root = integration.edge.size, integration.root
        staged = encode_staging(files)
        if len(staged) > MAX_STAGING_BYTES:
            raise UsageError("too much for one append", hint="append fewer entries at once")
        path = staging_path(block.began.size, size, root)
        self._create(path, staged)
        self._staged.add(path)
        new = replace(block.state, size=size, root=root, start=block.began.size, staged=hashlib.sha256(staged).digest())
        leaves = integration.leaves if new.once else ()
        if integration.start != block.state.size or not self._sequence.advance(block.state, new, leaves):
            raise VerificationError("the log is not where this change starts", code="ledger-corrupt")
        block.state, block.files = new, files

    def freeze(self) -> None:
        block = self._needed_block()
        self._sequence.freeze()
        block.state = replace(block.state, frozen=True)

    def prune(self, minimum: int) -> None:
        block = self._needed_block()
        if minimum <= block.state.size:
            self._sequence.prune(minimum)
            block.state, block.pruned = replace(block.state, minimum=max(minimum, block.state.minimum)), True

    def tile(self, level: int, index: int) -> bytes:
        with self._reading:
            return self._log().tile(level, index)

    def entries(self, start: int, end: int) -> tuple[bytes, ...]:
        if start >= end:
            return ()
        with self._reading:
            found = tuple(self._log().entries(start, end))
        if len(found) != end - start:
            raise VerificationError(f"entry {start + len(found)} is missing", code="ledger-corrupt")
        return found

    def counts(self) -> LogCounts:
        first = self.state().minimum // TILE_WIDTH  # what is pruned is not counted, removed already or not
        names = [name for path in self._objects.names("tile/") if (name := file_name(path)) is not None]
        kept = [name for name in names if name.level is None and name.index >= first]
        bundles = {name.index for name in kept if name.width == TILE_WIDTH}
        # A narrower bundle is the beginning of a wider one; it may stay until it is collected.
        end = first + len(bundles)
        tail = [
            (name.index - end) * TILE_WIDTH + name.width
            for name in kept
            if name.index >= end and name.width < TILE_WIDTH
        ]
        return LogCounts(
            tiles=len({(name.level, name.index) for name in names if name.level is not None}),
            bundles=len(bundles),
            tail=max(tail, default=0),
            leaves=self._sequence.count(),
        )

    def check(self) -> tuple[str, ...]:
        """Compare the index of leaves with the tiles; all else is in what is read anyway."""
        state = self.state()
        problems: list[str] = []
        size = self._heads.head().size if state.once else 0
        for start in range(0, size, _LOOKUP_TILES * TILE_WIDTH):
            end = min(start + _LOOKUP_TILES * TILE_WIDTH, size)
            data = b"".join(self.tile(0, at) for at in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)))
            leaves = [data[at : at + HASH_BYTES] for at in range(0, (end - start) * HASH_BYTES, HASH_BYTES)]
            found = self._sequence.find(leaves)
            problems += [
                f"leaf index: entry {index} is found at {found.get(leaf)}"
                for index, leaf in enumerate(leaves, start=start)
                if found.get(leaf) != index
            ]
        return tuple(problems)

    def show(self, head: Head) -> None:
        if not self._looked:
            self._look(head)
        for path, note in self._shown.due(head):
            with self._sequence.transaction():  # a turn that was lost ends here
                self._shown.replace(path, note)
        self._sweep(head.size)

    def _sweep(self, size: int) -> None:
        """Remove what was staged up to *size* entries, which are put. Beyond it, somebody else's turn may have begun."""
        try:
            if not self._swept:
                self._staged = set(self._objects.names(STAGING))
                self._swept = True
            for path in [each for each in self._staged if staged_size(each) <= size]:
                self._objects.remove(path)
                self._staged.discard(path)
        except UndecidedError:
            return  # the next append tries again; nothing hangs on it

    def _recover(self, state: Sequenced) -> None:
        """Refuse a database that went back; finish a change that was committed and not put."""
        seen = self._seen
        if seen is not None and (state.size, state.root) != (seen.size, seen.root) and state.size <= seen.size:
            raise went_back(_point(state), _point(seen), None)
        head = self._heads.head()
        self._look(head)
        if head.size < state.size:
            self._put(_kept(self._read_staged(state), state.minimum))
        self._seen = state

    def _look(self, head: Head) -> None:
        self._shown.check(head)
        self._looked = True

    def _read_staged(self, state: Sequenced) -> dict[str, bytes]:
        path = staging_path(state.start, state.size, state.root)
        data = self._objects.find(path, max_bytes=MAX_STAGING_BYTES)
        evidence = {"database": _point(state).encode(), "missing": path}
        if data is None:
            raise VerificationError(
                f"the database has put {state.size} entries in order, but the objects of the last "
                f"{state.size - state.start} were never put, and {path} is gone",
                code="log-incomplete",
                hint="bring the object store's newest copy back, the staged object with it",
                evidence=evidence,
            )
        if hashlib.sha256(data).digest() != state.staged:
            raise VerificationError(
                f"{path}: is not what was staged",
                code="log-altered",
                hint="bring the staged object back; somebody else writes to the object store",
                evidence=evidence | {"staged": (state.staged or b"").hex(), "found": hashlib.sha256(data).hexdigest()},
            )
        self._staged.add(path)
        return decode_staging(data)

    def _put(self, files: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(max_workers=_PUTS_AT_ONCE) as pool:
            for _ in pool.map(self._create, files, files.values()):
                pass  # an error of one ends all

    def _remove_pruned(self, state: Sequenced) -> None:
        """Remove the bundles before what is kept: full ones by name, all else that lies there as it is listed."""
        end = state.minimum // TILE_WIDTH
        paths = {bundle_path(index) for index in range(state.removed // TILE_WIDTH, end)}
        paths.update(path for path in self._objects.names(_BUNDLES) if _is_pruned(path, state.minimum))
        with ThreadPoolExecutor(max_workers=_PUTS_AT_ONCE) as pool:
            for _ in pool.map(self._objects.remove, paths):
                pass  # an error of one ends all; the next block tries again
        with self._sequence.transaction():
            self._sequence.keep_removed(state.minimum)

    def _create(self, path: str, data: bytes) -> None:
        """Create an object; one that is there already has the same bytes."""
        if self._objects.create(path, data):
            return
        kept = self._objects.find(path, max_bytes=max(MAX_BUNDLE_BYTES, len(data)))
        if kept is None:
            raise MovedError(f"{path}: was there, and is gone")
        if kept != data:
            raise VerificationError(
                f"{path}: holds other bytes than this log's: it is another log, or damaged",
                code="object-conflict",
                hint="keep it, find out who wrote it; then remove it",
                evidence={
                    "path": path,
                    "ours": hashlib.sha256(data).hexdigest(),
                    "kept": hashlib.sha256(kept).hexdigest(),
                },
            )

    def _needed_block(self) -> _Block:
        block = self._own_block()
        if block is None:
            raise InternalError("written outside an exclusive block")
        return block

    def _own_block(self) -> _Block | None:
        """Return the block that this thread is in."""
        block = self._block
        return block if block is not None and self._writer == threading.get_ident() else None

    def _log(self) -> StaticLog:
        """Return the log as its files are put: up to the head; inside a block, up to where the block is."""
        block = self._own_block()
        if block is not None:
            if block.files:
                return StaticLog(_Overlaid(block.files, self._objects), _point(block.state))
            at = _point(block.state)
        else:
            head = self._heads.head()
            at = Checkpoint(origin=head.origin, size=head.size, root=head.root)
        if self._static is None or self._static.checkpoint != at:
            self._static = StaticLog(self._objects, at)
        return self._static


class _Overlaid(LogFiles):
    """Files that will be put, over those that are."""

    def __init__(self, files: Mapping[str, bytes], below: LogFiles) -> None:
        self._files = files
        self._below = below

    def _find(self, path: str, max_bytes: int) -> bytes | None:
        found = self._files.get(path)
        return self._below.find(path, max_bytes=max_bytes) if found is None else found


def _is_pruned(path: str, minimum: int) -> bool:
    name = file_name(path)
    return name is not None and name.level is None and name.index < minimum // TILE_WIDTH


def _kept(files: Mapping[str, bytes], minimum: int) -> dict[str, bytes]:
    """Return *files* without pruned bundles: a copy of a log without them stages empty ones in their place."""
    return {path: data for path, data in files.items() if not _is_pruned(path, minimum)}


def _point(state: Sequenced) -> Checkpoint:
    return Checkpoint(origin=state.origin, size=state.size, root=state.root)
