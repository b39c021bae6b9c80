# SPDX-License-Identifier: Apache-2.0
"""Work through a long row of things in ranges, in this process and in helpers beside it. A second face, for servers.

Each helper opens its own way to what is read: a connection is not shared between processes, and helpers are started
afresh instead of forked, since a forked SQLite connection keeps no promise. This process works too, and from the first
moment: starting a helper takes longer than a small log.

Decides nothing about what is done; a task returns its findings and raises only what ends the whole work.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from chopmark.errors import UndecidedError, foreign

R = TypeVar("R")
T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Told how many things are done, and of how many."""

Task = Callable[[R, int, int], T]
"""Does the range [start, end) with what was opened; can be pickled."""

_FEWEST_RANGES: Final = 32
"""With fewer, helpers would start only to find that all is done."""
_OPENED: Final[dict[str, Any]] = {}  # of a helper process: what its opener gave


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


def over_ranges(
    task: Task[R, T], reach: Reach[R], *, count: int, step: int, workers: int = 1, progress: Progress | None = None
) -> list[T]:
    """Do *task* over [0, count) in ranges of *step*; return the results in order.

    Args:
        workers: how many processes, this one among them.

    Raises:
        UndecidedError: a helper died.
    """
    ranges = deque((start, min(start + step, count)) for start in range(0, count, step))
    results: dict[int, T] = {}

    def done(start: int, result: T) -> None:
        results[start] = result
        if progress is not None:
            progress(min(len(results) * step, count), count)

    if workers > 1 and reach.opener is not None and len(ranges) >= _FEWEST_RANGES:
        _with_helpers(task, reach.here, reach.opener, ranges, helpers=workers - 1, done=done)
    while ranges:
        start, end = ranges.popleft()
        done(start, task(reach.here, start, end))
    return [results[start] for start in sorted(results)]


def _with_helpers(
    task: Task[R, T],
    here: R,
    opener: Callable[[], R],
    ranges: deque[tuple[int, int]],
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
        while ranges or given:
            while ranges and len(given) < 2 * helpers:  # one that it does, one that waits for it
                start, end = ranges.popleft()
                given[pool.submit(_run, task, start, end)] = start
            if ranges:
                start, end = ranges.popleft()
                done(start, task(here, start, end))
            ready = wait(given, timeout=0 if ranges else None, return_when=FIRST_COMPLETED).done
            for future in ready:
                done(given.pop(future), future.result())


def _open(opener: Callable[[], Any]) -> None:
    _OPENED["reach"] = opener()


def _run(task: Task[Any, T], start: int, end: int) -> T:
    return task(_OPENED["reach"], start, end)
