# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chopmark.clock import PowerOn
from chopmark.device import TimeFloor, raised, trusted_now

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
FLOOR = TimeFloor(moment=NOON, boot_id="one", boot_s=1000)


def on(seconds: int, boot: str = "one") -> PowerOn:
    return PowerOn(boot_id=boot, seconds=seconds)


def test_a_clock_that_was_set_back_does_not_count():
    past = datetime(1970, 1, 1, tzinfo=UTC)
    assert trusted_now(past, on(1060), FLOOR) == NOON + timedelta(seconds=60)


def test_a_clock_that_is_ahead_counts_and_is_not_kept():
    future = datetime(2100, 1, 1, tzinfo=UTC)
    assert trusted_now(future, on(1060), FLOOR) == future
    assert raised(FLOOR, on(1060)) == TimeFloor(moment=NOON + timedelta(seconds=60), boot_id="one", boot_s=1060)


def test_after_a_reboot_the_time_since_then_counts():
    assert trusted_now(NOON, on(300, "two"), FLOOR) == NOON + timedelta(seconds=300)


def test_a_boot_without_a_name_counts_what_is_certain():
    assert trusted_now(NOON, on(1300, ""), FLOOR) == NOON + timedelta(seconds=300)
    assert trusted_now(NOON, on(300, ""), FLOOR) == NOON


def test_moving_the_floor_keeps_earlier_boots():
    moved = raised(raised(FLOOR, on(1600)), on(600, "two"))
    assert moved is not None
    assert moved.moment == NOON + timedelta(seconds=1200)


def test_a_signed_time_raises_the_floor_and_never_lowers_it():
    later = raised(FLOOR, on(1000), at_least=NOON + timedelta(days=1))
    assert later is not None
    assert later.moment == NOON + timedelta(days=1)
    assert raised(FLOOR, on(1000), at_least=NOON - timedelta(days=1)) == FLOOR


def test_without_a_floor_there_is_none():
    assert raised(None, on(5)) is None
    assert trusted_now(NOON, on(5), None) == NOON
