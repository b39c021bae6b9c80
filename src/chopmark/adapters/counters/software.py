# SPDX-License-Identifier: Apache-2.0
"""No counter: what a device remembers can be restored with its folder. The tier line says ``rollback memory: software``.

An application that loads through ``chopmark.load`` always has this one, also where the agent beside it has a better one:
only the agent would notice a restored state there.
"""

from __future__ import annotations

from chopmark.device import Counter


class NoCounter(Counter):
    """Counts nothing, and does not pretend to."""

    @property
    def kind(self) -> str:
        return "software"

    def _value(self) -> int:
        return 0

    def _advance(self, to: int) -> None:
        """Remember nothing."""
