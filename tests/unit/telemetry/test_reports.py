# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark import canonical
from chopmark.adapters.kms import file as kms
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, VerificationError
from chopmark.keys import Algorithm
from chopmark.telemetry import (
    MAX_REPORT_BYTES,
    Answer,
    Purpose,
    Result,
    SeenLog,
    build_answer,
    decode_report,
    decode_signed_report,
    encode_report,
    encode_signed_report,
    sign_report,
    verify_answer,
    verify_report,
)
from simulators import NOW
from unit.fleet.kit import Keys, a_report, trust_policy

FULL = a_report(
    seq=5,
    prev=Digest.of(b"four"),
    purpose=Purpose.REFRESH,
    verdict="package-altered",
    step=14,
    message="model.onnx differs",
    evidence={"file": "model.onnx", "wanted": "sha256:ab"},
    log=SeenLog(origin="log.acme/m", size=31, root=b"r" * 32),
    versions={"timestamp": 9},
)


@pytest.mark.parametrize("report", [a_report(), FULL, a_report(model="", slot="", release=None, running=None)])
def test_a_report_survives_its_bytes(report):
    assert decode_report(encode_report(report)) == report


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ECDSA_P256, Algorithm.ML_DSA_65])
def test_a_signed_report_is_verified_by_its_key_alone(algorithm):
    signer = kms.generate(algorithm)
    signed = decode_signed_report(sign_report(FULL, signer))
    assert verify_report(signed, signer.public) == FULL
    assert signed.digest == Digest.of(encode_report(FULL))
    with pytest.raises(VerificationError) as caught:
        verify_report(signed, kms.generate(algorithm).public)
    assert caught.value.code == "report-forged"


def test_a_signature_over_the_bare_payload_is_no_report():
    signer = kms.generate(Algorithm.ED25519)
    signed = decode_signed_report(sign_report(FULL, signer))
    bare = replace(signed, sig=signer.sign(signed.payload))
    with pytest.raises(VerificationError):
        verify_report(bare, signer.public)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 0},
        {"seq": 2},
        {"prev": Digest.of(b"x")},
        {"slot": "C"},
        {"verdict": "Verified!"},
        {"nonce": ""},
        {"device": "../etc"},
        {"model": "A b"},
        {"step": 19},
        {"tier": 5},
        {"gen": -1},
        {"message": "x" * 501},
        {"evidence": {"k": "v" * 257}},
        {"evidence": {str(i): "" for i in range(17)}},
        {"evidence": {"x-hidden": "dropped on reading"}},
        {"versions": {"a": -1}},
        {"log": SeenLog(origin="", size=1, root=b"r" * 32)},
        {"log": SeenLog(origin="o", size=1, root=b"r")},
    ],
)
def test_what_a_report_cannot_say(changes):
    with pytest.raises(DecodeError):
        a_report(**changes)


def test_unknown_members_versions_and_lengths_are_refused():
    members = canonical.decode(encode_report(FULL), what="r", max_bytes=MAX_REPORT_BYTES)
    for changed in (members | {"extra": 1}, members | {"v": 2}, members | {"purpose": "other"}):
        with pytest.raises(DecodeError):
            decode_report(canonical.encode(changed))
    with pytest.raises(DecodeError):
        decode_report(b" " + encode_report(FULL))
    with pytest.raises(DecodeError):
        decode_signed_report(b"x" * (MAX_REPORT_BYTES + 1))
    with pytest.raises(DecodeError):
        encode_signed_report(replace(decode_signed_report(sign_report(FULL, Keys().verifier)), sig=b"x" * 16_000))


def test_the_largest_report_fits_with_any_signature():
    largest = replace(
        FULL,
        message="ü" * 500,
        evidence={f"{i:0256}": "v" * 256 for i in range(8)},
        versions={f"version-{i}": canonical.MAX_INTEGER for i in range(16)},
    )
    assert len(sign_report(largest, kms.generate(Algorithm.ML_DSA_65))) <= MAX_REPORT_BYTES


def an_answer(**changes):
    report = a_report()
    first = Answer(
        device=report.device,
        report=Digest.of(encode_report(report)),
        nonce=report.nonce,
        next_nonce="n2",
        time=NOW,
        snapshot=7,
        tier=1,
        result=Result.ACCEPTED,
    )
    return replace(first, **changes)


def test_an_answer_is_for_one_report():
    keys = Keys()
    trust, answer = trust_policy(keys), an_answer()
    envelope = build_answer(answer, [keys.verifier])
    assert verify_answer(envelope, trust, answer.report, nonce="n1") == answer
    for report, nonce in ((Digest.of(b"other"), "n1"), (answer.report, "n2")):
        with pytest.raises(VerificationError) as caught:
            verify_answer(envelope, trust, report, nonce=nonce)
        assert caught.value.code == "answer-misdirected"


def test_an_answer_needs_the_verifiers_key():
    keys = Keys()
    answer = an_answer()
    with pytest.raises(VerificationError) as caught:
        verify_answer(build_answer(answer, [keys.security_a[0]]), trust_policy(keys), answer.report, nonce=answer.nonce)
    assert caught.value.code == "statement-unsigned"
