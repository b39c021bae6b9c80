# SPDX-License-Identifier: Apache-2.0
"""When a device looks again. Pure.

A fleet that was switched on together must not ask together: every delay carries jitter, which the caller draws.
"""

from __future__ import annotations

from typing import Final

from chopmark.errors import Retry

JITTER: Final = 0.2
"""A delay is up to this part of it longer or shorter."""

_FIRST_S: Final = {Retry.RETRY: 1.0, Retry.WAIT: 5.0}
_MAX_DOUBLINGS: Final = 16


def next_delay(poll_s: int, *, retry: Retry | None, failures: int, jitter: float) -> float:
    """Return seconds until the next look.

    Args:
        retry: what the last error asks for; None after a success.
        failures: how many in a row; at least 1 where *retry* is given.
        jitter: even random number; 0 <= jitter < 1.

    Returns:
        The poll interval after a success and for what waits for a human; for the rest a delay that doubles with each
        failure, up to the poll interval. Never more than 1.2 poll intervals.
    """
    delay = float(poll_s)
    if retry is not None and retry is not Retry.STALL:
        delay = min(delay, _FIRST_S[retry] * 2 ** min(max(failures - 1, 0), _MAX_DOUBLINGS))
    return delay * (1 - JITTER + 2 * JITTER * jitter)
