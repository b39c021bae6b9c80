# SPDX-License-Identifier: Apache-2.0
"""Step 4: what time it is at least. Pure.

The operating system's clock can be set by whoever holds the device, so it is never written into the state. What is
written is a floor, learnt from signed documents, and the time powered on since: both only grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from chopmark.clock import PowerOn

FLOOR_STEP: Final = timedelta(hours=1)
"""How far the floor moves before it alone is worth a commit: hardware counters wear out, and so does flash."""


LATEST: Final = datetime.max.replace(microsecond=0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeFloor:
    """It was *moment* or later when the boot *boot_id* had lasted *boot_s* seconds."""

    moment: datetime
    boot_id: str
    boot_s: int


def trusted_now(os_now: datetime, power_on: PowerOn, floor: TimeFloor | None) -> datetime:
    """Return max(OS clock, floor + time powered on since it was stored)."""
    return os_now if floor is None else max(os_now, _reached(power_on, floor))


def raised(floor: TimeFloor | None, power_on: PowerOn, *, at_least: datetime | None = None) -> TimeFloor | None:
    """Return *floor* moved to this moment of this boot, and not below *at_least*. The OS clock plays no part.

    Moving it keeps what earlier boots have counted, which would be lost with the next reboot.
    """
    known = [moment for moment in (at_least, None if floor is None else _reached(power_on, floor)) if moment]
    if not known:
        return None
    return TimeFloor(moment=max(known), boot_id=power_on.boot_id, boot_s=power_on.seconds)


def worth_keeping(old: TimeFloor | None, new: TimeFloor | None) -> bool:
    """Tell whether *new* is to be written for itself: what is not written is lost with the next reboot."""
    if old is None or new is None:
        return old != new
    return old.boot_id != new.boot_id or new.moment - old.moment >= FLOOR_STEP


def _reached(power_on: PowerOn, floor: TimeFloor) -> datetime:
    if power_on.boot_id and floor.boot_id and power_on.boot_id != floor.boot_id:
        elapsed = power_on.seconds  # this boot began after the floor was stored
    else:
        # The same boot, or one without a name: of two readings that would fit, the lower is certain.
        elapsed = power_on.seconds - floor.boot_s
    try:
        return floor.moment + timedelta(seconds=max(0, elapsed))
    except OverflowError:
        return LATEST  # the last moment there is; root's `reset` drops the floor
