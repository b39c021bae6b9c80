# SPDX-License-Identifier: Apache-2.0
"""Threads over one list of jobs: hashing and reading leave the interpreter's lock, so that threads use all cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

TICK_S: Final = 0.1
"""How often progress is told, in seconds."""

MAX_WORKERS: Final = 64
"""Beyond this the interpreter's lock is all that threads wait for."""


class Stopped(Exception):
    """The others were told to stop: an error elsewhere, or the user."""


class Worker:
    """What one thread has for itself.

    Attributes:
        buffer: reused for every read.
        done_bytes, done_files: so far; only this thread writes them, anybody may read them.
    """

    __slots__ = ("buffer", "crew", "done_bytes", "done_files", "view")

    def __init__(self, crew: Crew, buffer_bytes: int) -> None:
        self.crew = crew
        self.buffer = bytearray(buffer_bytes)
        self.view = memoryview(self.buffer)
        self.done_bytes = 0
        self.done_files = 0


class Crew:
    """The workers of one run."""

    def __init__(self, workers: int | None, *, jobs: int, buffer_bytes: int) -> None:
        """Prepare.

        Args:
            workers: how many threads; None for one on each core that this process may use.
            jobs: how many there are to do; more threads are not made.

        Attributes:
            spare: for how many threads a job may start, beside its own, when there are fewer jobs than cores.
        """
        count = min(workers or len(os.sched_getaffinity(0)), MAX_WORKERS)
        self.spare = (count - 1) // jobs if 0 < jobs < count else 0
        self.workers = [Worker(self, buffer_bytes) for _ in range(max(1, min(count, jobs)))]
        self.stopped = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def run(
        self,
        jobs: Iterable[T],
        work: Callable[[Worker, T], None],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Do all *jobs*; the first error stops the rest and is raised here.

        Args:
            on_progress: called in this thread, about ten times a second and once at the end, with bytes and files so far.
        """
        queue = iter(jobs)

        def loop(worker: Worker) -> None:
            try:
                while not self.stopped:
                    with self._lock:
                        job = next(queue, None)
                    if job is None:
                        return
                    work(worker, job)
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
                with self._lock:
                    self._error = self._error or error
                self.stopped = True

        if len(self.workers) == 1 and on_progress is None:
            loop(self.workers[0])
        else:
            self._in_threads(loop, on_progress)
        if self._error is not None:
            raise self._error
        if on_progress is not None:
            on_progress(*self.done())

    def done(self) -> tuple[int, int]:
        """Return the bytes and files so far."""
        return sum(worker.done_bytes for worker in self.workers), sum(worker.done_files for worker in self.workers)

    def _in_threads(self, loop: Callable[[Worker], None], on_progress: Callable[[int, int], None] | None) -> None:
        threads = [threading.Thread(target=loop, args=(worker,), daemon=True) for worker in self.workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(TICK_S if on_progress else None)
                    if on_progress is not None and thread.is_alive():
                        on_progress(*self.done())
        finally:  # after an interrupt: nobody reads on in the background
            self.stopped = True
            for thread in threads:
                if thread.ident is not None:
                    thread.join()


def read_ahead(descriptor: int, buffers: tuple[bytearray, bytearray]) -> Iterator[memoryview]:
    """Yield the rest of a file, reading the next chunk in a thread of its own while the last is worked on.

    A chunk is overwritten once the next but one is asked for.

    Args:
        buffers: used in turns; nobody else's until the end.

    Raises:
        OSError: it cannot be read.
    """
    free: SimpleQueue[bytearray | None] = SimpleQueue()
    full: SimpleQueue[tuple[bytearray, int | OSError]] = SimpleQueue()

    def read() -> None:
        while (buffer := free.get()) is not None:
            try:
                got: int | OSError = os.readv(descriptor, (buffer,))
            except OSError as error:
                got = error
            full.put((buffer, got))
            if not isinstance(got, int) or not got:
                return

    for each in buffers:
        free.put(each)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while True:
            buffer, got = full.get()
            if not isinstance(got, int):
                raise got
            if not got:
                return
            yield memoryview(buffer)[:got]
            free.put(buffer)
    finally:
        free.put(None)  # whoever stops listening stops the reader
        thread.join()
