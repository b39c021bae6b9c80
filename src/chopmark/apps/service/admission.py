# SPDX-License-Identifier: Apache-2.0
"""Which entries a log takes, where it takes statements alone: the signature is checked before the entry waits.

The log never reads what it logs, and whoever reads an entry later verifies it anew. Admission keeps out what nobody
could believe anyway: a stolen append token then adds no entries of its holder's own invention.

    admit = admitter(trust)
    admit(entry)             # or raises

It runs in threads: what costs time is done outside Python's lock, so as many cores are used as there are threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from chopmark.errors import VerificationError
from chopmark.ledger.intake import WAITING, Batcher
from chopmark.statements import Envelope, decode_leaf, verify
from chopmark.trust import TrustPolicy

_AT_A_TIME: Final = 8
"""Few, so that the threads share what waits."""


def admitter(trust: TrustPolicy) -> Callable[[bytes], None]:
    """Return the check of an entry: a statement whose envelope some role of *trust* signed and may sign.

    The check raises:
        DecodeError: the entry is no statement.
        VerificationError: ``statement-unsigned``, ``statement-forbidden``, or ``statement-elsewhere``: a digest alone,
            under which no signature can be checked.
    """
    holders: dict[str, list[str]] = {}  # key id -> the roles that it can sign for
    for role in trust.roles.values():
        for owner in role.owners:
            for key in trust.owners[owner].keys:
                holders.setdefault(key.keyid, []).append(role.name)

    def admit(entry: bytes) -> None:
        envelope = decode_leaf(entry)
        if not isinstance(envelope, Envelope):
            raise VerificationError(
                "the entry names what it is about by digest alone",
                code="statement-elsewhere",
                hint="this log takes statements that stand in their entry",
            )
        # Roles that no key of the envelope can sign for are not worth a verification.
        roles = dict.fromkeys(role for s in envelope.signatures for role in holders.get(s.keyid, ()))
        _verify(envelope, trust, list(roles))

    return admit


def _verify(envelope: Envelope, trust: TrustPolicy, roles: Sequence[str]) -> None:
    failures: list[VerificationError] = []
    for role in roles:
        try:
            verify(envelope, trust, role)
        except VerificationError as error:
            failures.append(error)
        else:
            return
    forbidden = next((e for e in failures if e.code != "statement-unsigned"), None)
    raise forbidden or VerificationError(
        "no role signed this statement with enough owners",
        code="statement-unsigned",
        hint="see the roles in trust.json: `chopmark trust show`",
    )


class Admission:
    """:func:`admitter` for many at once, on all cores."""

    def __init__(self, admit: Callable[[bytes], None], *, capacity: int = WAITING) -> None:
        self._admit = admit
        self._pool: Batcher[bytes, None] = Batcher(
            self._work, capacity=capacity, max_batch=_AT_A_TIME, threads=os.cpu_count() or 1
        )

    def admit(self, entry: bytes) -> Future[None]:
        """Check *entry*; the result is None, or why it is not taken.

        Raises:
            UndecidedError: ``log-busy``.
        """
        return self._pool.offer(entry)

    def close(self) -> None:
        """Finish what waits."""
        self._pool.close()

    def _work(self, entries: Sequence[bytes]) -> list[Exception | None]:
        return [self._one(entry) for entry in entries]

    def _one(self, entry: bytes) -> Exception | None:
        try:
            self._admit(entry)
        except Exception as error:  # noqa: BLE001 - one entry's fault is not its neighbours'
            return error
        return None
