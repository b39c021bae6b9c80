# SPDX-License-Identifier: Apache-2.0
"""What the log and the witness need from outside: stores, files, and a way to reach a witness.

``LogStore`` and ``HeadStore`` are two on purpose. The first is large and may be restored from a backup; the second is
tiny, remembers the newest head that was ever promised, and must never go back. Keep them on different disks where you
can, and never restore ``HeadStore``'s file together with the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from chopmark.errors import DecodeError, UndecidedError, foreign
from chopmark.ledger.tiles import TILE_WIDTH, Integration, encode_bundle

_FILES_HINT = "check its address, the network, and who may use it"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """How far a log is.

    Attributes:
        once: each entry stands in the log once: its leaves are indexed.
        frozen: nothing is appended to this store any more.
        minimum: entries before it are pruned; a multiple of 256.
    """

    origin: str
    size: int
    root: bytes
    once: bool = True
    frozen: bool = False
    minimum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCounts:
    """How much of each kind a store holds; a log of one size has exactly one set of them.

    Attributes:
        leaves: how many leaves are indexed; 0 where the log is not ``once``.
    """

    tiles: int
    bundles: int
    tail: int
    leaves: int


class LogStore(ABC):
    """A log's entries, tiles and leaf index.

    Guarantees: what is written inside one :meth:`exclusive` block becomes visible and durable together when the block
    ends, or not at all; blocks of all processes run one after another. Errors are of ours.

    Attributes:
        public: its files are read without asking this process, so that each new head is signed and shown at once.
    """

    public: bool = False

    def turn(self) -> AbstractContextManager[None]:
        """Keep other writers waiting for the whole of an append; one turn inside another is the same turn.

        A convenience: safety hangs on :meth:`exclusive` alone.
        """
        return nullcontext()

    def show(self, head: Head) -> None:  # noqa: B027 - only a public store has something to do
        """Put the checkpoints of the newest *head* where readers look, the larger one staying; inside :meth:`turn`.

        Raises:
            UndecidedError: they could not be written; the next append or opening does it.
        """

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the log for writing; an exception inside undoes everything.

        Raises:
            UndecidedError: another process holds it for too long, or the disk does not take it.
        """

    @abstractmethod
    def state(self) -> LogState:
        """Return how far the log is."""

    @abstractmethod
    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        """Return the index of each of these leaf hashes that is in the log."""

    @abstractmethod
    def write(self, integration: Integration) -> None:
        """Keep what :func:`chopmark.ledger.integrate` returned; only inside :meth:`exclusive`.

        Raises:
            VerificationError: the log is not where the integration starts, holds one of its leaves, or is frozen
                (``log-frozen``).
        """

    @abstractmethod
    def tile(self, level: int, index: int) -> bytes:
        """Return the widest tile that is kept there.

        Raises:
            VerificationError: there is none.
        """

    @abstractmethod
    def entries(self, start: int, end: int) -> tuple[bytes, ...]:
        """Return the entries [start, end).

        Raises:
            VerificationError: one of them is not there.
        """

    def bundle(self, index: int) -> bytes:
        """Return a full bundle as it is kept; a store that keeps bundles as they are need not take them apart for it.

        Raises:
            VerificationError: it is not there.
        """
        return encode_bundle(self.entries(index * TILE_WIDTH, (index + 1) * TILE_WIDTH))

    @abstractmethod
    def freeze(self) -> None:
        """Append nothing any more, for good; only inside :meth:`exclusive`. Again is the same."""

    @abstractmethod
    def prune(self, minimum: int) -> None:
        """Drop the bundles before entry *minimum*, for good; only inside :meth:`exclusive`. Their hashes stay.

        Args:
            minimum: a multiple of 256, at most the size. One that is not above what is pruned already changes nothing,
                but finishes a removal that was killed.
        """

    def close(self) -> None:
        """Give back what is held open; the store is not used afterwards."""
        return

    def reader(self) -> Callable[[], LogStore] | None:
        """Return what opens this store for reading in another process; it can be pickled.

        None where only this process can read it.
        """
        return None

    @abstractmethod
    def counts(self) -> LogCounts:
        """Count the rows, for fsck."""

    @abstractmethod
    def check(self) -> tuple[str, ...]:
        """Return what the store finds wrong with itself: below its rows, and in its index of leaves against its tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """How far the order of a log's entries is.

    Attributes:
        start: where the newest change began; everything before it was put into the object store.
        staged: SHA-256 of the object with the newest change; None for a log that is empty.
        frozen: nothing is put in order any more.
        minimum: entries before it are pruned; a multiple of 256.
        removed: bundles before this entry are gone from the object store too; behind *minimum* while that is under way.
    """

    origin: str
    size: int
    root: bytes
    once: bool
    start: int
    staged: bytes | None
    frozen: bool = False
    minimum: int = 0
    removed: int = 0


class SequenceStore(ABC):
    """The order of a log's entries, where the entries themselves lie in an :class:`ObjectStore`.

    Guarantees: what is written inside one :meth:`transaction` becomes visible and durable together when it ends, or not
    at all; transactions of all processes run one after another. :meth:`turn` is weaker: whoever loses the connection
    loses the turn without noticing, and can then finish no transaction. Errors are of ours.
    """

    @abstractmethod
    def turn(self) -> AbstractContextManager[None]:
        """Keep other writers waiting; held around transactions, by one thread.

        Raises:
            UndecidedError: another process holds it for too long, or the database does not answer.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Hold the order for writing, inside :meth:`turn`; an exception inside undoes everything.

        Raises:
            UndecidedError: as :meth:`turn`; it is then not known whether the block was kept.
        """

    @abstractmethod
    def sequenced(self) -> Sequenced:
        """Return how far the order is."""

    @abstractmethod
    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        """Return the index of each of these leaf hashes that is in the log."""

    @abstractmethod
    def advance(self, old: Sequenced, new: Sequenced, leaves: Sequence[bytes]) -> bool:
        """Replace *old* by *new* and index *leaves* from ``old.size`` on; only inside :meth:`transaction`.

        Args:
            leaves: none where the log is not ``once``.

        Returns:
            Whether *old* was still the newest, and not frozen; otherwise nothing was written.

        Raises:
            VerificationError: one of the leaves is indexed already.
        """

    @abstractmethod
    def freeze(self) -> None:
        """Advance no more, for good; only inside :meth:`transaction`. Again is the same."""

    @abstractmethod
    def prune(self, minimum: int) -> None:
        """Count the entries before *minimum* as pruned, for good; only inside :meth:`transaction`.

        Args:
            minimum: at most the size; one that is not larger than before changes nothing.
        """

    @abstractmethod
    def keep_removed(self, end: int) -> None:
        """Remember that the bundles before entry *end* are gone; only inside :meth:`transaction`.

        Args:
            end: at most what is pruned; one that is not larger than before changes nothing.
        """

    @abstractmethod
    def count(self) -> int:
        """Count the indexed leaves, for fsck."""

    def close(self) -> None:  # noqa: B027 - not every one holds a connection
        """Let connections go; nothing committed is lost without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest promise of a log.

    Attributes:
        note: the signed checkpoint of exactly this size and root; None until it is signed.
        witnessed: the newest checkpoint that a quorum cosigned; may be smaller.
        frozen: it is the last one.
        moved_to: where the log goes on, for people; empty where it does not.
    """

    origin: str
    size: int
    root: bytes
    note: bytes | None
    witnessed: bytes | None
    frozen: bool = False
    moved_to: str = ""


class HeadStore(ABC):
    """The newest head of a log, across processes and restarts.

    Guarantees: every method is atomic and durable once it returns; the size never falls; what is frozen stays so.
    """

    def close(self) -> None:
        """Give back what is held open; the store is not used afterwards."""
        return

    @abstractmethod
    def head(self) -> Head:
        """Return the newest head."""

    @abstractmethod
    def advance(self, old: Head, *, size: int, root: bytes) -> bool:
        """Replace *old* by a larger head without a signature; False when the head is no longer *old*, or frozen."""

    @abstractmethod
    def keep_note(self, head: Head, note: bytes) -> bytes | None:
        """Keep the signed checkpoint of *head*, once.

        Returns:
            The note that is kept: the first one given for this head. None when the head has moved on.
        """

    @abstractmethod
    def freeze(self, head: Head, *, moved_to: str = "") -> bool:
        """Make *head* the last one; False when the head has moved on, or is frozen for another end.

        A frozen head's note and witnessed checkpoint may still be kept: they promise nothing more.

        Args:
            moved_to: where the log goes on. Decided once: it is neither changed nor taken back.
        """

    @abstractmethod
    def keep_witnessed(self, size: int, note: bytes) -> bool:
        """Keep a witnessed checkpoint of *size*; False when a larger one is kept already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The newest checkpoint of a log that a witness cosigned, with all lines that it verified or made."""

    size: int
    root: bytes
    note: bytes


class WitnessStore(ABC):
    """What a witness remembers of each log.

    Guarantees: :meth:`replace` is one atomic, durable comparison and change across processes and restarts.
    """

    @abstractmethod
    def newest(self, origin: str) -> Observed | None:
        """Return the newest checkpoint of *origin*."""

    @abstractmethod
    def replace(self, origin: str, old: Observed | None, new: Observed) -> bool:
        """Keep *new* if *old* is still the newest; tell whether it was."""

    @abstractmethod
    def by_origin_hash(self, origin_hash: str) -> Observed | None:
        """Return the newest checkpoint of the log whose origin has this SHA-256 (hex)."""


class MonitorStore(ABC):
    """What a monitor remembers, what it has told, and the evidence that it keeps.

    Guarantees: what a method wrote is durable once it returns. :meth:`save` and :meth:`keep` are all or nothing; of
    :meth:`report` a crash may leave the beginning. Errors are of ours.
    """

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the store: one process is inside at any time.

        Raises:
            UndecidedError: another monitor holds it.
        """

    @abstractmethod
    def load(self) -> bytes | None:
        """Return the state that was saved last, or None before the first."""

    @abstractmethod
    def save(self, state: bytes) -> None:
        """Replace the state."""

    @abstractmethod
    def report(self, events: Sequence[bytes]) -> None:
        """Append *events*, a line each, to what was told."""

    @abstractmethod
    def keep(self, name: str, data: bytes) -> str:
        """Keep evidence under *name* (again, where it is there already); return where it lies."""


class LogFiles(ABC):
    """A log as static files (C2SP tlog-tiles), read-only: in a folder, behind HTTP, in an object store.

    Whoever keeps them is not trusted: see :class:`chopmark.ledger.static.StaticLog`.
    """

    def find(self, path: str, *, max_bytes: int) -> bytes | None:
        """Return the file *path* below the log's prefix, or None where there is none.

        Args:
            max_bytes: a longer file is an error.

        Raises:
            UndecidedError: it cannot be read now.
            DecodeError: it is longer than *max_bytes*.
        """
        with foreign(UndecidedError, f"{path}: cannot be read", code="unreachable", hint=_FILES_HINT):
            data = self._find(path, max_bytes)
        if data is not None and len(data) > max_bytes:
            raise DecodeError(f"{path}: longer than the {max_bytes:,} bytes allowed")
        return data

    @abstractmethod
    def _find(self, path: str, max_bytes: int) -> bytes | None: ...


class ObjectStore(LogFiles):
    """A place for a log's files: written once, read by anybody.

    Guarantees: an object is durable and whole, or not there, once a method returns; :meth:`create` of two writers at once
    succeeds for one of them. Nothing else: a listing may lag, and nobody trusts what is read back.
    """

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that is not there yet; False when there is one already, whatever it holds.

        Raises:
            UndecidedError: it could not be written, or it is not known whether it was.
        """
        with foreign(UndecidedError, f"{path}: cannot be written", code="not-written", hint=_FILES_HINT):
            return self._create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """Write an object, whatever was there; only for what is signed, since the last writer wins.

        Raises:
            UndecidedError: as :meth:`create`.
        """
        with foreign(UndecidedError, f"{path}: cannot be written", code="not-written", hint=_FILES_HINT):
            self._replace(path, data)

    def remove(self, path: str) -> None:
        """Remove an object; one that is not there is none the less removed.

        Raises:
            UndecidedError: it could not be removed.
        """
        with foreign(UndecidedError, f"{path}: cannot be removed", code="not-written", hint=_FILES_HINT):
            self._remove(path)

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the paths that begin with *prefix*, in no order; for collecting garbage, never for deciding.

        Raises:
            UndecidedError: they cannot be listed now.
        """
        with foreign(UndecidedError, f"{prefix}: cannot be listed", code="unreachable", hint=_FILES_HINT):
            yield from self._names(prefix)

    @abstractmethod
    def _create(self, path: str, data: bytes) -> bool: ...

    @abstractmethod
    def _replace(self, path: str, data: bytes) -> None: ...

    @abstractmethod
    def _remove(self, path: str) -> None: ...

    @abstractmethod
    def _names(self, prefix: str) -> Iterator[str]: ...


class WitnessClient(ABC):
    """A way to a witness: HTTP, or files carried by hand."""

    def add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        """Send an add-checkpoint request; return status and body of the answer.

        Raises:
            UndecidedError: no answer.
        """
        hint = "check its address and the network"
        with foreign(UndecidedError, "no answer from the witness", code="witness-unreachable", hint=hint):
            return self._add_checkpoint(body)

    @abstractmethod
    def _add_checkpoint(self, body: bytes) -> tuple[int, bytes]: ...


class LogServer(ABC):
    """A way to somebody who appends to a log for others. What it answers is verified by who asked."""

    def append(self, entry: bytes) -> bytes:
        """Have *entry* logged, once; return the ``.tlog-proof`` that came back.

        To ask again is always safe: the entry keeps its index.

        Raises:
            UndecidedError: ``unreachable``: no answer, or none that says yes or no; ``log-busy``: too much waits there,
                or this is too fast; ask again later.
            VerificationError: it is not taken; the server's own code and words.
        """
        with foreign(UndecidedError, "no answer from the log", code="unreachable", hint=_FILES_HINT):
            return self._append(entry)

    @abstractmethod
    def _append(self, entry: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RekorAnswer:
    """What a Rekor v2 log said; none of it is believed.

    Attributes:
        at: where an equal entry stands already, in its words; empty where it says nothing of it.
    """

    status: int
    body: bytes
    at: str = ""


class RekorClient(ABC):
    """A way to the write side of a Rekor v2 log.

    Guarantee: a request is sent at most once for each call, and there is time for a checkpoint to be published.
    """

    def create_entry(self, request: bytes) -> RekorAnswer:
        """Ask that an entry be logged.

        Raises:
            UndecidedError: no answer; it may be logged all the same.
        """
        hint = "check its address and the network; asking again logs nothing twice"
        with foreign(UndecidedError, "no answer from Rekor", code="unreachable", hint=hint):
            return self._create_entry(request)

    @abstractmethod
    def _create_entry(self, request: bytes) -> RekorAnswer: ...
