# SPDX-License-Identifier: Apache-2.0
"""Do many jobs of reading, in this process and in helpers beside it. A second face, for servers.

Each helper opens its own way to what is read: a connection is not shared between processes, and helpers are started
afresh instead of forked, since a forked SQLite connection keeps no promise. This process works too, and from the first
moment: starting a helper takes longer than a small log.

Decides nothing about what is done; a job returns its findings and raises only what ends the whole work.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from chopmark.errors import UndecidedError, foreign

R = TypeVar("R")
T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Told how many things are done, and of how many."""

_FEWEST: Final = 32
"""With fewer, helpers would start only to find that all is done."""
_OPENED: Final[dict[str, Any]] = {}  # of a helper process: what its opener gave


def counting(progress: Progress | None, *, each: int, total: int) -> Progress | None:
    """Return a progress of jobs that tells *progress* of the things in them: *each*, and *total* in all."""
    return progress and (lambda done, _: progress(min(done * each, total), total))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach(Generic[R]):
    """A way to what is read.

    Attributes:
        here: opened in this process.
        opener: opens it in another one; None where only this process can read it.
    """

    here: R
    opener: Callable[[], R] | None = None


def cores() -> int:
    """Return how many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def do_all(
    jobs: Sequence[Callable[[R], T]], reach: Reach[R], *, workers: int = 1, progress: Progress | None = None
) -> list[T]:
    """Do *jobs*; return their results in order.

    Args:
        jobs: each can be pickled, and is given what was opened. The longest first.
        workers: how many processes, this one among them.

    Raises:
        UndecidedError: a helper died.
    """
    waiting = deque(enumerate(jobs))
    results: dict[int, T] = {}

    def done(number: int, result: T) -> None:
        results[number] = result
        if progress is not None:
            progress(len(results), len(jobs))

    if workers > 1 and reach.opener is not None and len(jobs) >= _FEWEST:
        _with_helpers(waiting, reach.here, reach.opener, helpers=workers - 1, done=done)
    while waiting:
        number, job = waiting.popleft()
        done(number, job(reach.here))
    return [results[number] for number in range(len(jobs))]


def _with_helpers(
    waiting: deque[tuple[int, Callable[[R], T]]],
    here: R,
    opener: Callable[[], R],
    *,
    helpers: int,
    done: Callable[[int, T], None],
) -> None:
    hint = "try again with one process: --jobs 1"
    with (
        foreign(UndecidedError, "a helper process died", code="helper-died", hint=hint),
        ProcessPoolExecutor(helpers, multiprocessing.get_context("spawn"), initializer=partial(_open, opener)) as pool,
    ):
        given: dict[Future[T], int] = {}
        while waiting or given:
            while waiting and len(given) < 2 * helpers:  # one that it does, one that waits for it
                number, job = waiting.popleft()
                given[pool.submit(_run, job)] = number
            if waiting:
                number, job = waiting.popleft()
                done(number, job(here))
            for future in wait(given, timeout=0 if waiting else None, return_when=FIRST_COMPLETED).done:
                done(given.pop(future), future.result())


def _open(opener: Callable[[], Any]) -> None:
    _OPENED["reach"] = opener()


def _run(job: Callable[[Any], T]) -> T:
    return job(_OPENED["reach"])
