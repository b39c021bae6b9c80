# SPDX-License-Identifier: Apache-2.0
"""Rekor v2: what it logs and answers, so that an organisation that runs one keeps it. A second face, for tools.

records   which signatures of an envelope can be logged, and their leaves
root      whom a reader believes: the logs of a ``trusted_root.json``
submit    ask for one, and believe only what verifies
wire      the leaf (``hashedrekord`` 0.0.2), the entry (``TransparencyLogEntry``), and verifying one
"""

from chopmark.ledger.rekor.records import Records, record_signature, record_signatures
from chopmark.ledger.rekor.root import MAX_ROOT_BYTES, TrustedRoot, host_of, trusted_root
from chopmark.ledger.rekor.submit import submit
from chopmark.ledger.rekor.wire import (
    MAX_LOG_ENTRY_BYTES,
    HashedRekord,
    LogEntry,
    from_proof,
    is_hashed_rekord,
    rekor_key,
    verify_entry,
)

__all__ = [
    "MAX_LOG_ENTRY_BYTES",
    "MAX_ROOT_BYTES",
    "HashedRekord",
    "LogEntry",
    "Records",
    "TrustedRoot",
    "from_proof",
    "host_of",
    "is_hashed_rekord",
    "record_signature",
    "record_signatures",
    "rekor_key",
    "submit",
    "trusted_root",
    "verify_entry",
]
