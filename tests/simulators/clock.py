# SPDX-License-Identifier: Apache-2.0
"""Time that passes only when a test says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chopmark.clock import PowerOn

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)


@dataclass
class StandingClock:
    """A server's clock: it stands until it is moved."""

    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment

    def power_on(self) -> PowerOn:
        return PowerOn(boot_id="test", seconds=0)

    def forward(self, **by: float) -> None:
        self.moment += timedelta(**by)


@dataclass
class HeldClock(StandingClock):
    """A device's clocks: the one its holder may set, and the time it was on, which nobody sets."""

    boot_id: str = "boot-1"
    on_s: int = 100

    def power_on(self) -> PowerOn:
        return PowerOn(boot_id=self.boot_id, seconds=self.on_s)

    def pass_time(self, **by: float) -> None:
        """Let real time pass: both clocks move."""
        self.forward(**by)
        self.on_s += int(timedelta(**by).total_seconds())
