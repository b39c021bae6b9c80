# SPDX-License-Identifier: Apache-2.0
"""Sign checkpoints: as the log, and as a witness. C2SP tlog-checkpoint, tlog-cosignature.

A log signs with every key it has: Ed25519 over the text (what every reader understands), and ML-DSA-44 in the form of a
cosignature by the log itself, named by its origin. A witness cosigns with the time at which the tree was its newest.
"""

from __future__ import annotations

from collections.abc import Sequence

from chopmark.errors import UsageError
from chopmark.keys import Signer
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.note import SignatureLine, SignedNote, log_key, sign_line, witness_key


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer], *, timestamp: int) -> SignedNote:
    """Return the log's signed checkpoint, one line per signer.

    Args:
        timestamp: POSIX seconds, for the lines that carry one.

    Raises:
        UsageError: no signer, an algorithm that no log line has, or extension lines (ML-DSA-44 does not sign them).
        UndecidedError: a signer cannot sign now.
    """
    if not signers or checkpoint.extensions:
        raise UsageError("a log signs checkpoints without extensions, with at least one key")
    text = checkpoint.encode()
    lines = tuple(
        sign_line(log_key(checkpoint.origin, signer.public), signer, text, timestamp=timestamp) for signer in signers
    )
    return SignedNote(text=text, signatures=lines)


def cosign(text: str, signer: Signer, name: str, *, timestamp: int) -> SignatureLine:
    """Return a witness's line under the checkpoint *text*: that this was the largest tree it had seen at *timestamp*.

    Args:
        timestamp: POSIX seconds, 1 or more.

    Raises:
        UsageError: a time or an algorithm that cannot be.
        DecodeError: *text* is no checkpoint.
        UndecidedError: the signer cannot sign now.
    """
    if timestamp < 1:
        raise UsageError("a witness says when it saw the tree")
    return sign_line(witness_key(name, signer.public), signer, text, timestamp=timestamp)
