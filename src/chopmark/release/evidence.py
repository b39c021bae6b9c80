# SPDX-License-Identifier: Apache-2.0
"""The ledger as a record of statements: small ones stand in it, large ones are named by digest and kept in a store."""

from __future__ import annotations

from collections.abc import Iterator

from chopmark.artifacts import BlobStore
from chopmark.errors import DecodeError, VerificationError
from chopmark.ledger.rekor import is_hashed_rekord
from chopmark.ledger.sequencer import Ledger
from chopmark.statements import Envelope, decode_envelope, decode_leaf, encode_envelope, statement_leaf


def check_leaf(entry: bytes) -> None:
    """Check that *entry* may stand in a workspace's ledger: whoever reads it stops at what it cannot read.

    Raises:
        VerificationError: ``not-a-leaf``.
    """
    try:
        if not is_hashed_rekord(entry):
            decode_leaf(entry)
    except DecodeError as error:
        raise VerificationError(
            f"a workspace's ledger takes statements and publications: {error.message}",
            code="not-a-leaf",
            hint="log other things in a log of their own: chopmark ledger create DIR --origin NAME",
        ) from error


class StatementLedger:
    """Both of what releases need from a ledger: :class:`EvidenceSource` and :class:`StatementLog`."""

    def __init__(self, ledger: Ledger, blobs: BlobStore) -> None:
        self._ledger = ledger
        self._blobs = blobs

    def log(self, envelope: Envelope) -> int:
        """Record *envelope*, once; return its index when it is durable.

        Raises:
            UndecidedError: the disk is full, or another process holds the ledger; try again.
        """
        leaf = statement_leaf(envelope)
        if not isinstance(decode_leaf(leaf), Envelope):
            self._blobs.put(encode_envelope(envelope))  # before the leaf: what the ledger names is there
        return self._ledger.append([leaf])[0]

    def statements(self) -> Iterator[tuple[int, Envelope]]:
        """Yield every statement with its index, in order.

        Raises:
            UndecidedError: an envelope that the ledger names is not in the store.
            VerificationError: an entry or a stored envelope is damaged.
        """
        for index, leaf in enumerate(self._ledger.entries(0, self._ledger.checkpoint.size)):
            if is_hashed_rekord(leaf):
                continue  # logged for Sigstore clients: it names a statement's signature, and is none
            found = decode_leaf(leaf)
            if isinstance(found, Envelope):
                yield index, found
            elif found is not None:
                yield index, decode_envelope(self._blobs.get(found))
