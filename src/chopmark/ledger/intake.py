# SPDX-License-Identifier: Apache-2.0
"""Many who append at once, one who writes: entries wait, and all that wait are logged in one go. A second face, for servers.

There is no timer. While one batch is being made durable the next one gathers; a lone client waits for nobody, and
under load the batches grow by themselves to whatever arrives during one commit. What waits is bounded: whoever comes
when it is full is told to come again (``log-busy``).

An entry that was offered is logged whether or not somebody still waits for the answer, and an answer is given only when
the entry is durable and stands in a signed checkpoint. To give the same entry again is always safe: it keeps its index.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Generic, TypeVar

from chopmark.errors import UndecidedError, UsageError
from chopmark.ledger.sequencer import Ledger

WAITING: Final = 256
"""How many entries may wait; at 65,535 bytes each, 16 MiB."""
MAX_BATCH: Final = 4096

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Does *work* on what was offered, on all that waits at a time.

    Args:
        work: takes at most *max_batch* items and returns a result, or an error, for each; what it raises is the result
            of all.
        capacity: how many items may wait or be worked on.
        threads: how many batches may be worked on at a time.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        capacity: int = WAITING,
        max_batch: int = MAX_BATCH,
        threads: int = 1,
    ) -> None:
        self._work = work
        self._capacity = capacity
        self._max_batch = max_batch
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self._changed = threading.Condition()
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._held = 0
        self._started = self._closed = False

    @property
    def full(self) -> bool:
        """Whether :meth:`offer` would refuse now."""
        return self._closed or self._held >= self._capacity

    def offer(self, item: T) -> Future[R]:
        """Let *item* wait for its turn.

        Raises:
            UndecidedError: ``log-busy``: too many wait already.
        """
        future: Future[R] = Future()
        with self._changed:
            if self.full:
                raise UndecidedError(
                    "too many entries wait to be logged", code="log-busy", hint="try again in a second"
                )
            self._held += 1
            self._waiting.append((item, future))
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            self._changed.notify()
        return future

    def close(self, *, finish: bool = True) -> None:
        """Take nothing more and end, after what waits is done; or at once, and then nothing that waits is answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._started and finish:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        while batch := self._take():
            results: Sequence[R | Exception]
            try:
                results = self._work([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001 - handed to whoever waits, who knows what it means
                results = list(repeat(error, len(batch)))
            with self._changed:
                self._held -= len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _take(self) -> list[tuple[T, Future[R]]]:
        """Wait for items; none means that it is over."""
        with self._changed:
            while True:
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
                # From here on nobody can cancel them: a result has somewhere to go.
                batch = [pair for pair in taken if pair[1].set_running_or_notify_cancel()]
                self._held -= len(taken) - len(batch)
                if batch or (self._closed and not self._waiting):
                    return batch
                self._changed.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """An entry that is durable.

    Attributes:
        proof: a ``.tlog-proof`` in a checkpoint that the log signed.
    """

    index: int
    proof: bytes


class Intake:
    """The way into a log for many threads, and for its proofs out.

    Args:
        feed: has the newest checkpoint cosigned by a quorum and kept, or raises; None where no quorum is asked for.
    """

    def __init__(self, ledger: Ledger, *, capacity: int = WAITING, feed: Callable[[], None] | None = None) -> None:
        self._ledger = ledger
        self._feed = feed
        self._appends: Batcher[bytes, Appended] = Batcher(self._commit, capacity=capacity)
        self._cosigned: Batcher[int, bytes] = Batcher(self._cosign, capacity=capacity)

    @property
    def full(self) -> bool:
        """Whether :meth:`append` would refuse now."""
        return self._appends.full

    @property
    def asks_witnesses(self) -> bool:
        return self._feed is not None

    def append(self, entry: bytes) -> Future[Appended]:
        """Log *entry*, once.

        Raises:
            UndecidedError: ``log-busy``.
        """
        return self._appends.offer(entry)

    def cosigned(self, index: int) -> Future[bytes]:
        """Return the proof of an entry in a checkpoint that a quorum saw, once one has.

        Raises:
            UndecidedError: ``log-busy``.
        """
        return self._cosigned.offer(index)

    def close(self) -> None:
        """Log what waits, and end; no witness is waited for."""
        self._appends.close()
        self._cosigned.close(finish=False)

    def _commit(self, entries: Sequence[bytes]) -> list[Appended | Exception]:
        try:
            return [*self._logged(self._ledger.append(entries))]
        except UsageError as error:
            if error.code != "log-frozen":
                raise
            return self._found(entries, error)

    def _found(self, entries: Sequence[bytes], error: UsageError) -> list[Appended | Exception]:
        """Answer for a log that has ended: what is in it keeps its index, whoever else came in the same batch."""
        indices = [self._ledger.find(entry) for entry in entries]
        logged = iter(self._logged([index for index in indices if index is not None]))
        return [error if index is None else next(logged) for index in indices]

    def _logged(self, indices: Sequence[int]) -> list[Appended]:
        proofs = self._ledger.proofs(indices, witnessed=False)
        return [Appended(index=index, proof=proof) for index, proof in zip(indices, proofs, strict=True)]

    def _cosign(self, indices: Sequence[int]) -> Sequence[bytes | Exception]:
        try:
            return self._ledger.proofs(indices)
        except UndecidedError:
            if self._feed is None:
                raise
            self._feed()
        return self._ledger.proofs(indices)
