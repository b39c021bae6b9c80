# SPDX-License-Identifier: Apache-2.0
"""Append to a log that somebody else runs, and believe only what its proof proves.

An entry counts as logged when the answer verifies against keys and witness policy that the caller brought: that the
entry's own bytes stand in a checkpoint that all required keys signed. What the server says beside it is not looked at.
Where the quorum is missing, the log's own promise is told apart from a witnessed one and never taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from chopmark.errors import Refused, UndecidedError
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import LogServer
from chopmark.ledger.verify import Included, verify_proof

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between tries of a log that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """An entry that is proven to be logged.

    Attributes:
        proof: the ``.tlog-proof``, as it came.
        witnessed: whether the quorum saw it; where it did not, *included* is the log's word alone.
    """

    included: Included
    proof: bytes
    witnessed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLog:
    """What a proof has to show; as :func:`chopmark.ledger.verify_proof` takes it."""

    origin: str
    require: Sequence[str]
    policy: WitnessPolicy


def submit(server: LogServer, entry: bytes, log: KnownLog, *, sleep: Callable[[float], None]) -> Submitted:
    """Have *entry* logged, once; tries again where the log is busy or does not answer, which is always safe.

    Args:
        sleep: waits so many seconds.

    Raises:
        UndecidedError: it stayed busy, or away.
        Refused: ``log-unproven``: what came back proves nothing about this entry.
        VerificationError: the log does not take it.
    """
    return judged(_insist(server, entry, sleep), entry, log)


def judged(proof: bytes, entry: bytes, log: KnownLog) -> Submitted:
    """Return what *proof* proves about *entry*; raises as :func:`submit`."""

    def check(policy: WitnessPolicy) -> Included:
        return verify_proof(proof, entry, origin=log.origin, require=log.require, policy=policy)

    try:
        return Submitted(included=check(log.policy), proof=proof, witnessed=True)
    except Refused as error:
        if error.code != "log-unwitnessed":
            raise
    # A bad line of a known witness is refused here again; lines that are missing are not.
    own = check(replace(log.policy, quorum="none"))
    return Submitted(included=own, proof=proof, witnessed=False)


def _insist(server: LogServer, entry: bytes, sleep: Callable[[float], None]) -> bytes:
    for pause_s in PAUSES_S:
        try:
            return server.append(entry)
        except UndecidedError as error:
            sleep(pause_s)
            if error.code != "log-busy":
                break  # a connection that broke is worth a second try, an address where nobody answers no more
    return server.append(entry)
