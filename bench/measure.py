# SPDX-License-Identifier: Apache-2.0
"""Time two things in turns, and say how the one compares with the other.

Two things keep a machine that does other work out of the figures: the sides take turns, and what only computes is timed
by the processor time of this process. The ratio is the claim, a time is context. Every number is a median over the
rounds; the ratio is the median of the rounds' ratios.

    >>> Bench("ledger.append", "entries/s", run=lambda _: Timing(ours_s=0.2, floor_s=0.1, ratio=2.0), goal="≥ 0.25", per=10).measure(Path())
    Figure(name='ledger.append', value=50.0, unit='entries/s', floor=100.0, ratio=0.5, goal='≥ 0.25', met=True)
"""

from __future__ import annotations

import gc
import operator
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 15

_PER_SECOND = {"s": 1, "ms": 1e3, "us": 1e6, "B": 1}
_MEETS = {"≤": operator.le, "≥": operator.ge}


class Unavailable(Exception):
    """A peer cannot be had on this machine: its figure is left out, and the reason is said."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds for a call of ours and of the floor, and how many times as long ours takes; for the unit ``B``, bytes."""

    ours_s: float
    floor_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table and of the JSON file.

    Attributes:
        value, floor: in *unit*.
        ratio: value to floor; for a time less is better, for a rate more.
        goal: ``≤ 1.15`` or ``≥ 0.25``, of the ratio; None where none is set, and then *met* is None too.
    """

    name: str
    value: float
    unit: str
    floor: float
    ratio: float
    goal: str | None
    met: bool | None


@dataclass(frozen=True, slots=True)
class Bench:
    """How a figure is made.

    Attributes:
        unit: of time, or ``<things>/s`` for a rate.
        run: is given an empty folder on a disk.
        per: things done in one call, for a rate.
    """

    name: str
    unit: str
    run: Callable[[Path], Timing]
    goal: str = ""
    per: int = 1

    def measure(self, folder: Path) -> Figure:
        timing = self.run(folder)
        if self.unit.endswith("/s"):
            value, floor, ratio = self.per / timing.ours_s, self.per / timing.floor_s, 1 / timing.ratio
        else:
            units = _PER_SECOND[self.unit]
            value, floor, ratio = timing.ours_s * units, timing.floor_s * units, timing.ratio
        return Figure(
            name=self.name,
            value=_short(value),
            unit=self.unit,
            floor=_short(floor),
            ratio=_short(ratio),
            goal=self.goal or None,
            met=meets(ratio, self.goal) if self.goal else None,
        )


def in_turns(
    ours: Callable[[], object],
    floor: Callable[[], object],
    *,
    rounds: int = ROUNDS,
    calls: int = 1,
    floor_calls: int | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Timing:
    """Time both, each first in every other round, after a round that does not count.

    Args:
        rounds: 5 or more; each side runs once more than that.
        calls: in a row, where one is too short to time; of *floor* as many, unless *floor_calls* says otherwise.
        clock: ``time.perf_counter`` for what waits for a disk.
    """
    sides = ((ours, calls), (floor, floor_calls or calls))
    taken: list[list[float]] = [[], []]
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                taken[side].append(_seconds(*sides[side], clock))
    finally:
        gc.enable()
    ours_s, floor_s = taken[0][1:], taken[1][1:]
    return Timing(
        ours_s=statistics.median(ours_s),
        floor_s=statistics.median(floor_s),
        ratio=statistics.median(one / other for one, other in zip(ours_s, floor_s, strict=True)),
    )


def meets(ratio: float, goal: str) -> bool:
    """Tell whether *ratio* is what *goal* (``≤ 1.15``, ``≥ 0.25``) asks for."""
    sign, bound = goal.split()
    return bool(_MEETS[sign](ratio, float(bound)))


def _seconds(call: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def _short(number: float) -> float:
    return float(f"{number:.4g}")
