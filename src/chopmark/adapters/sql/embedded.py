# SPDX-License-Identifier: Apache-2.0
"""The embedded ledger: two SQLite files beside each other, opened and made together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.clock import Clock
from chopmark.keys import Signer
from chopmark.ledger.sequencer import Ledger


def create_ledger(log: Path, head: Path, *, origin: str, once: bool = True) -> None:
    """Make an empty ledger; UsageError where there is one.

    Args:
        once: each entry stands in it once.
    """
    sql_ledger.create(log, origin, once=once).close()
    sql_head.create(head, origin).close()


def open_ledger(log: Path, head: Path, *, origin: str, signers: Sequence[Signer], clock: Clock) -> Ledger:
    """Open the ledger for appending, as :meth:`chopmark.ledger.sequencer.Ledger.open` does."""
    return Ledger.open(
        store=sql_ledger.load(log), heads=sql_head.load(head), origin=origin, signers=signers, clock=clock
    )
