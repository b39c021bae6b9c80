# SPDX-License-Identifier: Apache-2.0
"""Progress of long work, on stderr: how much is done, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable

from chopmark.apps.cli.render import say

_EVERY_S = 1.0


class Meter:
    """Says how far the work is, once a second at most; work of less than a second says nothing."""

    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._start = self._said = clock()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Take how many entries are done, and of how many."""
        now = self._clock()
        if self._first is None:
            self._first = done  # what was there before is no speed of ours
        if now - self._said < _EVERY_S or done == self._first:
            return
        self._said = now
        rate = (done - self._first) / (now - self._start)
        say(f"  {self._what}: {done:,} of {total:,} entries, {rate:,.0f} a second")
