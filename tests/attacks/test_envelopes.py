# SPDX-License-Identifier: Apache-2.0
"""Envelopes that are nearly signed: each kind of nearly has a name, and none of them counts."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import (
    Envelope,
    PredicateType,
    Signature,
    Statement,
    Subject,
    decode_envelope,
    encode_envelope,
    encode_statement,
    sign,
    verify,
    verify_any,
)
from simulators import SimTrust

SUBJECT = Subject("model/digits", Digest.of(b"package"))


@pytest.fixture(scope="module")
def trust():
    return SimTrust()


def revocation(trust, *signers, subject=SUBJECT, kind=PredicateType.REVOCATION) -> Envelope:
    return sign(Statement(subjects=(subject,), predicate_type=str(kind), predicate={}), signers)


def refused(envelope, trust, role="security"):
    with pytest.raises(VerificationError) as caught:
        verify(envelope, trust.policy, role)
    return caught.value


def test_one_bogus_signature_among_good_ones_neither_counts_nor_harms(trust):
    good = trust.keys("security-a", "security-b")
    envelope = revocation(trust, *good)
    stranger = generate(Algorithm.ED25519)
    bogus = Signature(stranger.public.keyid, stranger.sign(envelope.message))
    assert verify(envelope.with_signatures([bogus]), trust.policy, "security").owners == ("security-a", "security-b")
    # Under a good key's id it takes that key's place, and the owner's half with it.
    forged = [replace(s, sig=bogus.sig) if s.keyid == good[0].public.keyid else s for s in envelope.signatures]
    error = refused(replace(envelope, signatures=tuple(forged)), trust)
    assert error.code == "statement-half-signed"
    assert "security-a lacks ecdsa-p256|ed25519" in str(error.evidence["halves"])


@pytest.mark.parametrize("half", [0, 1])
def test_half_a_hybrid_is_named(trust, half):
    whole, other = trust.keys("security-a"), trust.keys("security-b")
    error = refused(revocation(trust, *whole, other[half]), trust)
    assert error.code == "statement-half-signed"
    assert error.evidence["signed"] == "security-a"
    assert "security-b lacks" in str(error.evidence["halves"])


def test_two_halves_of_two_owners_are_no_whole(trust):
    error = refused(revocation(trust, trust.keys("security-a")[0], trust.keys("security-b")[1]), trust)
    assert error.code == "statement-half-signed"
    assert error.evidence["signed"] == "nobody"


def test_one_owner_alone_is_too_few(trust):
    assert refused(revocation(trust, *trust.keys("security-a")), trust).code == "statement-unsigned"


def test_a_role_may_not_say_this_nor_about_that(trust):
    keys = trust.keys("security-a", "security-b")
    for wrong in (
        revocation(trust, *keys, kind=PredicateType.RELEASE),
        revocation(trust, *keys, subject=Subject("data/digits", SUBJECT.digest)),
    ):
        assert refused(wrong, trust).code == "statement-forbidden"
        with pytest.raises(VerificationError) as caught:
            verify_any(wrong, trust.policy)
        assert caught.value.code == "statement-forbidden"


def test_a_key_that_is_used_no_more_counts_for_nothing(trust):
    fresh = [generate(s.public.algorithm) for s in trust.keys("security-b")]
    owners = {**trust.policy.owners}
    owners["security-b"] = replace(owners["security-b"], keys=tuple(s.public for s in fresh))
    after = replace(trust.policy, owners=owners)
    envelope = revocation(trust, *trust.keys("security-a", "security-b"))
    assert verify(envelope, trust.policy, "security")
    with pytest.raises(VerificationError) as caught:
        verify(envelope, after, "security")
    assert caught.value.code == "statement-unsigned"


def test_an_envelope_of_a_hundred_megabytes_is_refused_before_it_is_looked_at():
    payload = b"x" * 75_000_000
    data = encode_envelope(Envelope(payload=payload))
    assert len(data) > 100_000_000
    began = time.process_time()
    with pytest.raises(DecodeError):
        decode_envelope(data)
    assert time.process_time() - began < 0.1


def test_a_thousand_signatures_are_not_verified():
    statement = encode_statement(
        Statement(subjects=(SUBJECT,), predicate_type=str(PredicateType.REVOCATION), predicate={})
    )
    many = tuple(Signature(f"{index:064x}", bytes(64)) for index in range(1000))
    with pytest.raises(DecodeError):
        decode_envelope(encode_envelope(Envelope(payload=statement, signatures=many)))
