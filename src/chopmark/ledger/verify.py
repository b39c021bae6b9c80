# SPDX-License-Identifier: Apache-2.0
"""What a device and everybody else checks of a log. specs: C2SP tlog-proof; the protocol, step 7.

Decides that an entry stands in a log whose required keys all signed and that enough witnesses saw. It does not know
what the entry means, what was seen before (:func:`check_growth` compares), or what time it is: ages are the caller's.

Failures are named: ``log-unproven``, ``log-unwitnessed``, ``log-rollback``, ``log-fork``.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chopmark.errors import DecodeError, Refused, UsageError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import leaf_hash, verify_inclusion
from chopmark.ledger.note import SignedNote, ValidLine, VerifierKey, decode_note, verify_lines
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.proof import TlogProof

_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z: a cosignature that claims a later time claims none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A checkpoint that its log signed with all required keys and that a quorum cosigned.

    Attributes:
        cosigned_by: names of the witness policy, in its order.
        cosigned_at: the largest time t such that the cosignatures of t or later make the quorum; None where the policy
            asks for no witness or a needed one says no time. No clock may be set by it.
    """

    checkpoint: Checkpoint
    cosigned_by: tuple[str, ...]
    cosigned_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Included:
    """An entry's place in a witnessed log; attributes as in :class:`Witnessed`."""

    index: int
    checkpoint: Checkpoint
    cosigned_by: tuple[str, ...]
    cosigned_at: datetime | None


def verify_proof(
    proof: bytes, leaf: bytes, *, origin: str, require: Sequence[str | VerifierKey], policy: WitnessPolicy
) -> Included:
    """Check that *leaf* stands in the log *origin*.

    Args:
        proof: a ``.tlog-proof``, as received.
        leaf: the entry's bytes, recomputed by the caller.
        require: keys of the log that must *all* have signed: vkeys, or what they spell.
        policy: which witnesses are enough.

    Raises:
        UsageError: *require* is empty or holds no vkey: a fault of the caller's configuration.
        Refused: ``log-unproven`` (malformed, another log, a required signature missing or bad, not included),
            ``log-unwitnessed`` (no quorum, or a bad cosignature of a known witness).
    """
    try:
        decoded = TlogProof.decode(proof)
    except DecodeError as error:
        raise Refused("log-unproven", error.message) from error
    seen = verify_checkpoint(decoded.checkpoint_note, origin=origin, require=require, policy=policy)
    checkpoint = seen.checkpoint
    try:
        verify_inclusion(leaf_hash(leaf), decoded.index, checkpoint.size, decoded.path, checkpoint.root)
    except VerificationError as error:
        raise Refused("log-unproven", error.message, evidence=error.evidence) from error
    return Included(
        index=decoded.index, checkpoint=checkpoint, cosigned_by=seen.cosigned_by, cosigned_at=seen.cosigned_at
    )


def verify_checkpoint(
    note: bytes, *, origin: str, require: Sequence[str | VerifierKey], policy: WitnessPolicy
) -> Witnessed:
    """Check that *note* is a checkpoint of *origin*, signed by all of *require* and seen by the quorum of *policy*.

    Raises:
        UsageError, Refused: as :func:`verify_proof`.
    """
    keys = _required(require)
    try:
        signed, checkpoint = _signed_by_log(note, origin, keys, policy)
    except VerificationError as error:
        raise Refused("log-unproven", error.message, evidence={**error.evidence, "checkpoint": note}) from error
    try:
        lines = verify_lines(signed.text, signed.signatures, _witness_keys(policy, keys))
    except VerificationError as error:
        raise Refused("log-unwitnessed", error.message, evidence={"checkpoint": note}) from error
    times = _times(policy, lines)
    if not policy.satisfied(times):
        message = (
            f"{len(times)} of the {len(policy.witnesses)} witnesses saw this ledger; the quorum is {policy.quorum}"
        )
        raise Refused("log-unwitnessed", message, evidence={"checkpoint": note, "cosigned_by": tuple(times)})
    since = policy.since(times)
    return Witnessed(
        checkpoint=checkpoint,
        cosigned_by=tuple(times),
        cosigned_at=None if since is None else datetime.fromtimestamp(since, UTC),
    )


def check_growth(stored: Checkpoint, seen: Checkpoint) -> None:
    """Check that *seen* may follow *stored*, the largest checkpoint seen before of the same log.

    That a larger tree only grew is the witnesses' word; here two trees of one size are told apart.

    Raises:
        Refused: ``log-rollback`` (smaller), ``log-fork`` (same size, another root).
        UsageError: two logs.
    """
    if stored.origin != seen.origin:
        raise UsageError("checkpoints of two logs cannot be compared")
    if seen.size < stored.size:
        raise Refused(
            "log-rollback",
            f"{seen.origin}: {seen.size} entries are shown; {stored.size} were seen",
            evidence={"seen": stored.size, "served": seen.size},
        )
    if seen.size == stored.size and not hmac.compare_digest(seen.root, stored.root):
        raise Refused(
            "log-fork",
            f"{seen.origin}: two different ledgers of {seen.size} entries",
            evidence={"seen": stored.encode(), "served": seen.encode()},
        )


def _required(require: Sequence[str | VerifierKey]) -> tuple[VerifierKey, ...]:
    try:
        keys = tuple(key if isinstance(key, VerifierKey) else VerifierKey.decode(key) for key in require)
    except DecodeError as error:
        raise UsageError(f"a required log key is none: {error.message}") from error
    if not keys:
        raise UsageError("no log key is required: any bytes would pass")
    return keys


def _signed_by_log(
    data: bytes, origin: str, keys: tuple[VerifierKey, ...], policy: WitnessPolicy
) -> tuple[SignedNote, Checkpoint]:
    note = decode_note(data)
    checkpoint = Checkpoint.decode(note.text)
    if checkpoint.origin != origin:
        raise VerificationError(f"a checkpoint of {checkpoint.origin!r}, not of {origin!r}")
    listed = tuple(log.key for log in policy.logs if log.key.name == origin)
    signed_by = {line.key for line in verify_lines(note.text, note.signatures, {*keys, *listed})}
    missing = [key for key in keys if key not in signed_by]
    if missing:
        algorithms = " and ".join(str(key.kind.algorithm) for key in missing)
        raise VerificationError(f"the log's signature with {algorithms} is missing")
    if policy.logs and not signed_by & set(listed):
        raise VerificationError("the witness policy lists logs, and this is none of them")
    return note, checkpoint


def _witness_keys(policy: WitnessPolicy, log_keys: tuple[VerifierKey, ...]) -> tuple[VerifierKey, ...]:
    """Return the keys of the policy's witnesses; a log never witnesses itself."""
    own = {key.public for key in log_keys}
    return tuple(witness.key for witness in policy.witnesses if witness.key.public not in own)


def _times(policy: WitnessPolicy, lines: Sequence[ValidLine]) -> dict[str, int]:
    """Return policy name -> newest time, in the policy's order."""
    newest: dict[VerifierKey, int] = {}
    for line in lines:
        time = line.timestamp if line.timestamp <= _LAST_SECOND else 0
        newest[line.key] = max(time, newest.get(line.key, 0))
    return {witness.name: newest[witness.key] for witness in policy.witnesses if witness.key in newest}
