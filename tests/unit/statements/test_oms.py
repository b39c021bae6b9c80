# SPDX-License-Identifier: Apache-2.0
"""OMS bundles: what stock tools accept, read more strictly."""

from __future__ import annotations

import json

import pytest

from chopmark import canonical
from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest, Manifest, hash_bytes
from chopmark.errors import DecodeError, VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import build_oms, pae, verify_oms

KEY = generate(Algorithm.ECDSA_P256)
MANIFEST = Manifest(files=(hash_bytes("a/b", b"1"), hash_bytes("c", b"2")))
BUNDLE = build_oms(MANIFEST, KEY, name="digits")


def parts():
    bundle = json.loads(BUNDLE)
    return bundle, json.loads(canonical.decode_base64(bundle["dsseEnvelope"]["payload"], what="p"))


def resigned(bundle, statement):
    """Put *statement* into *bundle*, signed properly."""
    payload = canonical.encode(statement)
    envelope = bundle["dsseEnvelope"]
    envelope["payload"] = canonical.encode_base64(payload)
    envelope["signatures"][0]["sig"] = canonical.encode_base64(KEY.sign(pae(envelope["payloadType"], payload)))
    return canonical.encode(bundle)


def test_round_trip():
    assert verify_oms(BUNDLE, MANIFEST, KEY.public) == Digest.of(Digest.of(b"1").value + Digest.of(b"2").value)


def test_another_key():
    with pytest.raises(VerificationError) as refused:
        verify_oms(BUNDLE, MANIFEST, generate(Algorithm.ECDSA_P256).public)
    assert refused.value.code == "oms-key-mismatch"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ((("a/b", b"1"),), "oms-missing-files"),
        ((("a/b", b"1"), ("c", b"3")), "oms-altered"),
        ((("a/b", b"1"), ("d", b"2")), "oms-missing-files"),
        ((("a/b", b"1"), ("c", b"2"), ("d", b"")), "oms-unsigned-files"),
    ],
    ids=["fewer", "changed", "renamed", "more"],
)
def test_other_files(files, code):
    manifest = Manifest(files=tuple(hash_bytes(name, data) for name, data in files))
    with pytest.raises(VerificationError) as refused:
        verify_oms(BUNDLE, manifest, KEY.public)
    assert refused.value.code == code


def test_a_bundle_changed_after_signing():
    bundle, statement = parts()
    statement["subject"][0]["name"] = "letters"
    bundle["dsseEnvelope"]["payload"] = canonical.encode_base64(canonical.encode(statement))
    with pytest.raises(VerificationError) as refused:
        verify_oms(canonical.encode(bundle), MANIFEST, KEY.public)
    assert refused.value.code == "oms-unsigned"


@pytest.mark.parametrize(
    "change",
    [
        lambda b, s: b.update(mediaType="application/vnd.dev.sigstore.bundle.v0.2+json"),
        lambda b, s: b["dsseEnvelope"].update(payloadType="application/json"),
        lambda b, s: b["dsseEnvelope"]["signatures"].append(b["dsseEnvelope"]["signatures"][0]),
        lambda b, s: b["verificationMaterial"]["publicKey"].update(hint="0" * 64),
        lambda b, s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda b, s: s.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda b, s: s.update(subject=[]),
        lambda b, s: s.update(subject=s["subject"] * 2),
        lambda b, s: s["subject"][0].update(digest={"sha256": "0" * 64}),
        lambda b, s: s["subject"][0]["digest"].update(md5="0"),
        lambda b, s: s["predicate"]["serialization"].update(method="shards"),
        lambda b, s: s["predicate"]["serialization"].update(hash_type="blake2b"),
        lambda b, s: s["predicate"]["resources"].reverse(),
        lambda b, s: s["predicate"]["resources"].pop(),
        lambda b, s: s["predicate"]["resources"].append(s["predicate"]["resources"][1]),
        lambda b, s: s["predicate"]["resources"][0].update(algorithm="sha512"),
        lambda b, s: s["predicate"]["resources"][0].update(name="a/./b"),
        lambda b, s: s["predicate"]["resources"][0].pop("digest"),
        lambda b, s: s.pop("predicate"),
    ],
)
def test_signed_properly_and_read_strictly(change):
    bundle, statement = parts()
    change(bundle, statement)
    twice = len(bundle["dsseEnvelope"]["signatures"]) > 1
    data = canonical.encode(bundle) if twice else resigned(bundle, statement)
    with pytest.raises(VerificationError):
        verify_oms(data, MANIFEST, KEY.public)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[]", BUNDLE[:-1], BUNDLE + b"{}"])
def test_what_is_no_bundle(data):
    with pytest.raises(DecodeError):
        verify_oms(data, MANIFEST, KEY.public)
