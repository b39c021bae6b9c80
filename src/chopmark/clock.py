# SPDX-License-Identifier: Apache-2.0
"""Time as a parameter: who needs to know the time is given a :class:`Clock`.

Times are aware UTC, whole seconds; on the wire RFC 3339 with ``Z``.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from chopmark.errors import DecodeError

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOn:
    """How long the machine has been on since a boot that has a name: what no clock setting changes."""

    boot_id: str
    seconds: int


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the operating system's idea of the time: aware UTC, whole seconds."""
        ...

    def power_on(self) -> PowerOn:
        """Return the time powered on, sleep included."""
        ...


class SystemClock:
    """This machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def power_on(self) -> PowerOn:
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        name = boot_id.read_text(encoding="ascii").strip() if boot_id.exists() else ""
        return PowerOn(boot_id=name, seconds=int(time.clock_gettime(time.CLOCK_BOOTTIME)))


def format_time(moment: datetime) -> str:
    """Return RFC 3339 with ``Z``, whole seconds."""
    # Not strftime: its %Y writes a year before 1000 with fewer than four digits.
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str, *, what: str) -> datetime:
    """Read RFC 3339 with ``Z``, whole seconds.

    Raises:
        DecodeError: any other spelling, or no such moment.
    """
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError(text)
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise DecodeError(f"{what}: {text[:40]!r} is not a time like 2026-11-22T10:00:00Z") from error
