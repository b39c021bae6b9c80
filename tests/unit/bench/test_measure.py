# SPDX-License-Identifier: Apache-2.0
"""Times are made up here: a clock that each side moves by what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.measure import Bench, Figure, Timing, in_turns, meets


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def side(self, name: str, *seconds: float):
        """Return a call that takes *seconds*: the first time, the second time, and so on; then ever the last."""
        taken = list(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += taken.pop(0) if len(taken) > 1 else taken[0]

        return call


def test_each_side_is_first_in_every_other_round() -> None:
    clock = Clock()
    in_turns(clock.side("ours", 2), clock.side("floor", 1), rounds=5, clock=clock)
    assert clock.calls == ["floor", "ours", "ours", "floor"] * 3


def test_the_first_round_does_not_count_and_one_slow_round_changes_nothing() -> None:
    clock = Clock()
    timing = in_turns(clock.side("ours", 99, 2, 50, 2), clock.side("floor", 99, 1), rounds=5, clock=clock)
    assert timing == Timing(ours_s=2, floor_s=1, ratio=2)


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    clock = Clock()
    speeds = (1, 1, 2, 4, 8, 16)
    timing = in_turns(
        clock.side("ours", *(3 * speed for speed in speeds)), clock.side("floor", *speeds), rounds=5, clock=clock
    )
    assert timing.ratio == 3


def test_times_are_those_of_one_call() -> None:
    clock = Clock()
    timing = in_turns(clock.side("ours", 2), clock.side("floor", 1), rounds=5, calls=3, floor_calls=10, clock=clock)
    assert timing == Timing(ours_s=2, floor_s=1, ratio=2)
    assert (clock.calls.count("ours"), clock.calls.count("floor")) == (18, 60)


@pytest.mark.parametrize(
    ("ratio", "goal", "met"),
    [(1.15, "≤ 1.15", True), (1.151, "≤ 1.15", False), (0.25, "≥ 0.25", True), (0.249, "≥ 0.25", False)],
)
def test_goals(ratio: float, goal: str, met: bool) -> None:  # noqa: FBT001
    assert meets(ratio, goal) is met


def test_a_time_is_better_when_it_is_less() -> None:
    bench = Bench("device.load", "ms", lambda _: Timing(ours_s=0.012, floor_s=0.01, ratio=1.2), goal="≤ 1.5")
    assert bench.measure(Path()) == Figure(
        name="device.load", value=12, unit="ms", floor=10, ratio=1.2, goal="≤ 1.5", met=True
    )


def test_a_rate_is_better_when_it_is_more() -> None:
    bench = Bench("ledger.append", "entries/s", lambda _: Timing(ours_s=2, floor_s=1, ratio=2), goal="≥ 0.25", per=4096)
    assert bench.measure(Path()) == Figure(
        name="ledger.append", value=2048, unit="entries/s", floor=4096, ratio=0.5, goal="≥ 0.25", met=True
    )


def test_where_there_is_no_goal_none_is_met() -> None:
    figure = Bench("some", "us", lambda _: Timing(ours_s=1, floor_s=1, ratio=1)).measure(Path())
    assert (figure.goal, figure.met) == (None, None)
