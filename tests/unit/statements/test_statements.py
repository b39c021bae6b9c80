# SPDX-License-Identifier: Apache-2.0
"""Envelope -> VerifiedStatement: the only door, and what it checks on the way."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, InternalError, VerificationError
from chopmark.statements import (
    PAYLOAD_TYPE,
    Envelope,
    PredicateType,
    Signature,
    Statement,
    Subject,
    VerifiedStatement,
    add_signatures,
    decode_envelope,
    decode_leaf,
    decode_statement,
    encode_envelope,
    encode_statement,
    pae,
    publication_leaf,
    short_type,
    sign,
    statement_leaf,
    verify,
    verify_any,
)
from simulators import SimTrust

WEIGHTS = Digest.of(b"weights")
TESTED = Statement(
    subjects=(Subject("model/digits", WEIGHTS),),
    predicate_type=PredicateType.TEST_RESULT,
    predicate={"result": "PASSED", "accuracy_ppm": 981_200},
)


@pytest.fixture(scope="module")
def trust():
    return SimTrust()


def test_pae_is_dsse_protocol_v1():
    # github.com/secure-systems-lab/dsse, protocol.md: the test vector
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_a_statement_is_verified_as_its_role(trust):
    envelope = sign(TESTED, trust.keys("tester"))
    verified = verify(envelope, trust.policy, "tester")
    assert (verified.statement, verified.role, verified.owners) == (TESTED, "tester", ("tester",))
    assert verified.digest == envelope.digest == Digest.of(encode_statement(TESTED))
    assert verify_any(envelope, trust.policy).role == "tester"
    assert "test-result" in repr(verified)


def test_nobody_else_makes_a_verified_statement(trust):
    envelope = sign(TESTED, [])
    for proof in (None, object(), True):
        with pytest.raises(InternalError):
            VerifiedStatement(statement=TESTED, role="tester", owners=(), envelope=envelope, proof=proof)


@pytest.mark.parametrize("owners", [(), ("builder",), ("owner-a", "owner-b", "owner-c")])
def test_signed_by_nobody_who_may(trust, owners):
    envelope = sign(TESTED, trust.keys(*owners))
    for check in (lambda: verify(envelope, trust.policy, "tester"), lambda: verify_any(envelope, trust.policy)):
        with pytest.raises(VerificationError) as refused:
            check()
        assert refused.value.code in {"statement-unsigned", "statement-forbidden"}


@pytest.mark.parametrize(
    "change",
    [
        {"predicate_type": PredicateType.INSPECTION},
        {"predicate_type": "https://example.com/any"},
        {"subjects": (Subject("data/digits", WEIGHTS),)},
        {"subjects": (Subject("", WEIGHTS),)},
        {"subjects": (Subject("xmodel/digits", WEIGHTS), Subject("model/digits", WEIGHTS))},
    ],
)
def test_a_role_says_only_what_it_may(trust, change):
    envelope = sign(replace(TESTED, **change), trust.keys("tester"))
    with pytest.raises(VerificationError) as refused:
        verify(envelope, trust.policy, "tester")
    assert refused.value.code == "statement-forbidden"
    with pytest.raises(VerificationError) as refused:
        verify_any(envelope, trust.policy)
    assert refused.value.code == "statement-forbidden", "the nearest reason is shown"


def test_a_role_that_trust_does_not_know(trust):
    with pytest.raises(VerificationError) as refused:
        verify(sign(TESTED, trust.keys("tester")), trust.policy, "nobody")
    assert refused.value.code == "role-unknown"


def test_signatures_are_counted_before_the_payload_is_read(trust):
    garbage = Envelope(payload=b"\xff not json")
    with pytest.raises(VerificationError) as refused:
        verify(garbage, trust.policy, "tester")
    assert refused.value.code == "statement-unsigned"
    with pytest.raises(DecodeError):
        verify(add_signatures(garbage, trust.keys("tester")), trust.policy, "tester")


def test_the_payload_type_is_signed_too(trust):
    envelope = replace(sign(TESTED, trust.keys("tester")), payload_type="application/json")
    with pytest.raises(VerificationError):
        verify(envelope, trust.policy, "tester")


def test_adding_signatures_changes_no_digest_and_repeats_none(trust):
    one = sign(TESTED, trust.keys("owner-a"))
    both = add_signatures(one, trust.keys("owner-b", "owner-a"))
    assert both.digest == one.digest
    assert len(both.signatures) == 4
    assert [s.keyid for s in both.signatures] == sorted(s.keyid for s in both.signatures)


def test_names_of_predicate_types():
    assert short_type(PredicateType.TEST_RESULT) == "test-result"
    assert short_type("https://example.com/any") == "https://example.com/any"
    assert len({kind.short for kind in PredicateType}) == len(PredicateType)


# Bytes


def test_statements_and_envelopes_round_trip(trust):
    assert decode_statement(encode_statement(TESTED)) == TESTED
    envelope = sign(TESTED, trust.keys("tester", "owner-a"))
    assert decode_envelope(encode_envelope(envelope)) == envelope
    assert json.loads(encode_envelope(envelope))["payloadType"] == PAYLOAD_TYPE


def test_foreign_envelopes_may_leave_the_key_id_out():
    data = json.dumps({"payload": "e30=", "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": "AAAA"}]}, indent=1)
    assert decode_envelope(data.encode()).signatures == (Signature("", b"\0\0\0"),)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "e30"},
        {"payload": "e3 0="},
        {"payload": None},
        {"payloadType": "application/json"},
        {"payloadType": ""},
        {"signatures": None},
        {"signatures": [{"sig": "AA"}]},
        {"signatures": [{"sig": "", "keyid": 1}]},
        {"signatures": [{"sig": "", "keyid": "0" * 129}]},
        {"signatures": [{"sig": ""}] * 65},
        {"signatures": [{"sig": "", "also": 1}]},
        {"also": 1},
    ],
)
def test_what_is_no_envelope(change):
    members = {"payload": "e30=", "payloadType": PAYLOAD_TYPE, "signatures": [], **change}
    with pytest.raises(DecodeError):
        decode_envelope(json.dumps(members).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"name": "a", "digest": {}}]},
        {"subject": [{"name": "a", "digest": {"sha512": "00"}}]},
        {"subject": [{"name": "a", "digest": {"sha256": WEIGHTS.hex, "md5": "00"}}]},
        {"subject": [{"name": "a", "digest": {"sha256": WEIGHTS.hex.upper()}}]},
        {"subject": [{"digest": {"sha256": WEIGHTS.hex}}]},
        {"predicate": []},
        {"predicate": None},
        {"predicate": {"accuracy": 0.98}},
        {"predicateType": None},
        {"also": 1},
    ],
)
def test_what_is_no_statement(change):
    members = {**json.loads(encode_statement(TESTED)), **change}
    with pytest.raises(DecodeError):
        decode_statement(json.dumps(members).encode())


# Leaves


def test_a_small_envelope_stands_in_its_leaf(trust):
    envelope = sign(TESTED, trust.keys("tester"))
    assert decode_leaf(statement_leaf(envelope)) == envelope


def test_a_large_one_is_named_by_its_digest(trust):
    large = sign(replace(TESTED, predicate={"text": "x" * 60_000}), trust.keys("tester"))
    leaf = statement_leaf(large)
    assert len(leaf) < 300
    assert decode_leaf(leaf) == Digest.of(encode_envelope(large))
    assert json.loads(leaf)["length"] == len(encode_envelope(large))


@pytest.mark.parametrize("length", range(44_500, 45_100, 100))
def test_every_leaf_fits_the_ledger(length):
    assert len(statement_leaf(Envelope(payload=b"x" * length))) <= 65_535


def test_a_publication():
    snapshot = Digest.of(b"snapshot.json")
    leaf = publication_leaf(snapshot)
    assert leaf == b'{"kind":"channel","snapshot":"%s","v":1}' % str(snapshot).encode()
    assert decode_leaf(leaf) is None


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"{}",
        b'{"kind":"channel","snapshot":"sha256:00","v":1}',
        publication_leaf(WEIGHTS).replace(b'"v":1', b'"v":2'),
        publication_leaf(WEIGHTS).replace(b"channel", b"other"),
        publication_leaf(WEIGHTS).replace(b",", b", "),
        publication_leaf(WEIGHTS).replace(b"}", b',"w":1}'),
        canonical.encode({"v": 1, "kind": "statement-digest", "envelope": str(WEIGHTS)}),
        canonical.encode({"v": 1, "kind": "statement", "envelope": {}}),
        canonical.encode({"v": 1, "kind": "channel", "snapshot": "x" * 66_000}),
    ],
)
def test_what_is_no_leaf(leaf):
    with pytest.raises(DecodeError):
        decode_leaf(leaf)
