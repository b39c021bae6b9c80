# SPDX-License-Identifier: Apache-2.0
"""Which signatures Rekor v2 logs, and the leaves that log them. A second face, for tools.

Rekor takes P-256 of what is used here: no pure Ed25519, since it gets a digest and not what was signed, and no ML-DSA. What
cannot be logged is named, never dropped; a signature that does not verify is not logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chopmark.errors import UsageError, VerificationError
from chopmark.keys import Algorithm, PublicKey
from chopmark.ledger.rekor.wire import HashedRekord

_P256_HINT: Final = "it takes P-256: sign with an ecdsa-p256 key too, or log the statement in a log of your own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What of an envelope can be logged.

    Attributes:
        made: the key of each signature that can, and the leaf.
        passed_over: the other signatures, each with the reason.
    """

    made: tuple[tuple[PublicKey, HashedRekord], ...]
    passed_over: tuple[str, ...]


def record_signature(message: bytes, signature: bytes, key: PublicKey) -> HashedRekord:
    """Return the leaf that logs *signature* by *key* over *message* (for an envelope: DSSE's encoding of it).

    Raises:
        UsageError: ``not-loggable``: a signature that Rekor does not take.
        VerificationError: ``bad-signature``: it is not *key*'s.
    """
    if key.algorithm is not Algorithm.ECDSA_P256:
        raise UsageError(
            f"Rekor does not log signatures with {key.algorithm}",
            code="not-loggable",
            hint=_P256_HINT,
        )
    if not key.verify(signature, message):
        raise VerificationError(f"the signature of {key.keyid[:8]} does not verify", code="bad-signature")
    return HashedRekord(digest=hashlib.sha256(message).digest(), signature=signature, verifier=key.spki)


def record_signatures(message: bytes, signatures: Iterable[tuple[str, bytes]], keys: Sequence[PublicKey]) -> Records:
    """Return the leaves of an envelope.

    Args:
        message: what the signatures are over.
        signatures: (key id, signature); a key id that is none of *keys* is a hint that nobody follows.
        keys: whose signatures may be logged.

    Raises:
        UsageError: ``not-loggable``: none can be.
        VerificationError: ``bad-signature``: one is said to be by a key of *keys*, and is not.
    """
    known = {key.keyid: key for key in keys}
    made: list[tuple[PublicKey, HashedRekord]] = []
    passed_over: list[str] = []
    for keyid, signature in signatures:
        key = known.get(keyid) or next((key for key in keys if key.verify(signature, message)), None)
        if key is None:
            passed_over.append(f"{keyid[:8] or 'a signature without key id'}: by none of the keys that are known here")
        elif key.algorithm is not Algorithm.ECDSA_P256:
            passed_over.append(f"{key.keyid[:8]}: Rekor does not log signatures with {key.algorithm}")
        else:
            made.append((key, record_signature(message, signature, key)))
    if not made:
        raise UsageError(
            "no signature of this envelope can be logged in Rekor: " + ("; ".join(passed_over) or "it has none"),
            code="not-loggable",
            hint=_P256_HINT,
        )
    return Records(made=tuple(made), passed_over=tuple(passed_over))
