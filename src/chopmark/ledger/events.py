# SPDX-License-Identifier: Apache-2.0
"""What a monitor tells, and of which entries. A second face, for :mod:`chopmark.ledger.monitor`.

>>> Watch(("model:digits", "signer:11ab*")).wants(["model:digits", "signer:11ab93"])
True
>>> Watch(("model:digits", "signer:11ab*")).wants(["model:digits"])
False
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chopmark import canonical
from chopmark.clock import format_time

PASSING: Final = frozenset({"compared", "stands", "turn"})
"""Kinds that every turn tells anew: nobody needs to keep them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a monitor tells.

    The kinds:

    ``checkpoint``   a larger one was verified
    ``entry``        a new entry that was asked for: its index, leaf hash and keys
    ``compared``     another checkpoint of the log belongs to the same history
    ``alarm``        something is wrong: ``code``, ``message``, ``hint``, ``evidence``
    ``undecided``    something could not be found out: likewise
    ``stands``       nothing was looked at, because of an alarm
    ``resumed``      a human ended that
    ``successor``    the log ended, and another one is followed
    ``turn``         the end of a look, with its figures
    """

    kind: str
    time: datetime
    data: Mapping[str, object]

    def encode(self) -> bytes:
        """Return the event as one line of JSON."""
        return canonical.encode({"event": self.kind, "time": format_time(self.time), **self.data})


@dataclass(frozen=True, slots=True)
class Watch:
    """Which entries are told: all, or those that have a key for every kind that *patterns* name.

    Attributes:
        patterns: ``<kind>:<value>``; a star at the end stands for anything.
    """

    patterns: tuple[str, ...] = ()

    def wants(self, keys: Sequence[str]) -> bool:
        """Tell whether an entry with these *keys* is told."""
        kinds: dict[str, bool] = {}
        for pattern in self.patterns:
            kind = pattern.partition(":")[0]
            kinds[kind] = kinds.get(kind, False) or any(_fits(pattern, key) for key in keys)
        return all(kinds.values())


def _fits(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern
