# SPDX-License-Identifier: Apache-2.0
"""Verifying what people signed."""

from __future__ import annotations

from pathlib import Path

from bench.measure import Timing, in_turns
from chopmark.artifacts import Digest
from chopmark.statements import PredicateType, Statement, Subject, decode_envelope, encode_envelope, sign, verify
from simulators.trust import SimTrust


def verify_envelope(_: Path) -> Timing:
    """From an envelope's bytes to a verified statement of two owners out of three, two signatures each, against the four
    signatures alone.
    """
    people = SimTrust()
    said = Statement(
        subjects=(Subject("model/digits", Digest.of(b"package")),),
        predicate_type=str(PredicateType.RELEASE),
        predicate={"v": 1, "version": "1", "evidence": [str(Digest.of(bytes([number]))) for number in range(8)]},
    )
    signers = people.keys("owner-a", "owner-b")
    envelope = sign(said, signers)
    data, message = encode_envelope(envelope), envelope.message
    signatures = {signature.keyid: signature.sig for signature in envelope.signatures}
    raw = [(signer.private.public_key(), signatures[signer.public.keyid]) for signer in signers]

    def alone() -> None:
        for key, signature in raw:
            key.verify(signature, message)

    return in_turns(lambda: verify(decode_envelope(data), people.policy, "approver"), alone, calls=10)
