# SPDX-License-Identifier: Apache-2.0
"""Verifying what people signed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.measure import Timing, in_turns
from chopmark.apps.service.admission import admitter
from chopmark.artifacts import Digest
from chopmark.statements import (
    Envelope,
    PredicateType,
    Statement,
    Subject,
    decode_envelope,
    encode_envelope,
    sign,
    statement_leaf,
    verify,
)
from simulators.trust import SimTrust


def verify_envelope(_: Path) -> Timing:
    """From an envelope's bytes to a verified statement of two owners out of three, two signatures each, against the four
    signatures alone.
    """
    people, envelope, alone = _signed()
    data = encode_envelope(envelope)
    return in_turns(lambda: verify(decode_envelope(data), people.policy, "approver"), alone, calls=10)


def admit(_: Path) -> Timing:
    """An entry that is the same statement, let into a log that takes only what a role signed; against the four signatures."""
    people, envelope, alone = _signed()
    entry, check = statement_leaf(envelope), admitter(people.policy)
    return in_turns(lambda: check(entry), alone, calls=10)


def _signed() -> tuple[SimTrust, Envelope, Callable[[], None]]:
    """Return a release that two of three owners signed, who they are, and a call that verifies their signatures alone."""
    people = SimTrust()
    said = Statement(
        subjects=(Subject("model/digits", Digest.of(b"package")),),
        predicate_type=str(PredicateType.RELEASE),
        predicate={"v": 1, "version": "1", "evidence": [str(Digest.of(bytes([number]))) for number in range(8)]},
    )
    signers = people.keys("owner-a", "owner-b")
    envelope = sign(said, signers)
    message = envelope.message
    signatures = {signature.keyid: signature.sig for signature in envelope.signatures}
    raw = [(signer.private.public_key(), signatures[signer.public.keyid]) for signer in signers]

    def alone() -> None:
        for key, signature in raw:
            key.verify(signature, message)

    return people, envelope, alone
