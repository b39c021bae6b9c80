# SPDX-License-Identifier: Apache-2.0
"""Rekor v2: what it logs and answers, so that an organisation that runs one keeps it. A second face, for tools.

records   which signatures of an envelope can be logged, and their leaves
submit    ask for one, and believe only what verifies
wire      the leaf (``hashedrekord`` 0.0.2), the entry (``TransparencyLogEntry``), and verifying one
"""

from chopmark.ledger.rekor.records import Records, record_signature, record_signatures
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
    "HashedRekord",
    "LogEntry",
    "Records",
    "from_proof",
    "is_hashed_rekord",
    "record_signature",
    "record_signatures",
    "rekor_key",
    "submit",
    "verify_entry",
]
