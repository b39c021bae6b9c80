# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles: written, read back, verified by a key."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import Envelope, Statement, Subject, sign
from chopmark.statements.sigstore import (
    BUNDLE_TYPE,
    Certificates,
    KeyHint,
    MessageSignature,
    bundle_of,
    check_about,
    decode_bundle,
    encode_bundle,
    read_certificates,
    verify_bundle,
)
from simulators.sigstore import SimSigstore

KEY = generate(Algorithm.ECDSA_P256)
FILE = b"weights"
DIGEST = Digest.of(FILE)


def message():
    return bundle_of(MessageSignature(digest=DIGEST, signature=KEY.sign(FILE)), KEY.public)


def stated(digest=DIGEST):
    statement = Statement(
        subjects=(Subject("m", Digest.of(b"x")), Subject("n", digest)), predicate_type="t", predicate={}
    )
    return bundle_of(sign(statement, [KEY]), KEY.public)


@pytest.mark.parametrize("made", [message(), stated()], ids=["message", "statement"])
def test_a_bundle_is_read_as_it_was_written(made):
    full = replace(made, entries=(b'{"logIndex":"1"}',), timestamps=(b"reply",))
    for bundle in (made, full):
        assert decode_bundle(encode_bundle(bundle)) == bundle
        assert encode_bundle(decode_bundle(encode_bundle(bundle))) == encode_bundle(bundle)


def test_both_spellings_of_the_media_type_are_read():
    value = json.loads(encode_bundle(message()))
    assert value["mediaType"] == BUNDLE_TYPE
    value["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.3"
    assert decode_bundle(json.dumps(value).encode()) == message_like(value)


def message_like(value):
    return decode_bundle(json.dumps({**value, "mediaType": BUNDLE_TYPE}).encode())


def test_what_is_verified_is_what_a_log_entry_has_to_be_about():
    bundle = message()
    signed = verify_bundle(bundle, DIGEST, KEY.public)
    assert (signed.digest, signed.signature, signed.verifier) == (DIGEST, bundle.signature, KEY.public.spki)
    assert (signed.certificate, signed.predicate_type) == (False, "")
    bundle = stated()
    signed = verify_bundle(bundle, DIGEST, KEY.public)
    assert isinstance(bundle.content, Envelope)
    assert (signed.digest, signed.predicate_type) == (Digest.of(bundle.content.message), "t")


def test_a_digest_that_is_not_written_is_that_of_the_file():
    bundle = replace(message(), content=MessageSignature(digest=None, signature=KEY.sign(FILE)))
    assert verify_bundle(decode_bundle(encode_bundle(bundle)), DIGEST, KEY.public).digest == DIGEST
    with pytest.raises(VerificationError) as refused:
        verify_bundle(bundle, Digest.of(b"other"), KEY.public)
    assert refused.value.code == "bad-signature"


def test_a_certificate_is_written_alone_and_a_chain_is_read(tmp_path):
    sim = SimSigstore(tmp_path)
    (leaf,) = read_certificates(sim.certify(KEY._key.public_key()))
    bundle = bundle_of(message().content, KEY.public, certificate=leaf)
    assert bundle.material == Certificates(chain=(leaf,))
    value = json.loads(encode_bundle(bundle))
    raw = {"rawBytes": b64encode(leaf).decode()}
    assert value["verificationMaterial"] == {"certificate": raw}
    signed = verify_bundle(bundle, DIGEST, KEY.public)
    assert (signed.verifier, signed.certificate) == (leaf, True)
    value["verificationMaterial"] = {"x509CertificateChain": {"certificates": [raw, raw]}}
    read = decode_bundle(json.dumps(value).encode())
    assert read.material == Certificates(chain=(leaf, leaf), alone=False)
    assert decode_bundle(encode_bundle(read)) == read
    with pytest.raises(UsageError, match="of another key"):
        bundle_of(message().content, generate(Algorithm.ECDSA_P256).public, certificate=leaf)


def test_the_hint_is_that_of_cosign_or_the_one_that_is_given():
    content = message().content
    assert len(bundle_of(content, KEY.public).material.hint) == 44
    assert bundle_of(content, KEY.public, hint="ours").material == KeyHint(hint="ours")


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ML_DSA_65])
def test_what_rekor_does_not_log_gets_no_bundle(algorithm):
    signer = generate(algorithm)
    with pytest.raises(UsageError) as refused:
        bundle_of(MessageSignature(digest=DIGEST, signature=signer.sign(FILE)), signer.public)
    assert refused.value.code == "not-loggable"
    assert not signer.public.verify_digest(signer.sign(FILE), DIGEST.value)


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"])
def test_statements_of_others_may_hold_any_numbers(kind):
    subject = [{"name": "m", "digest": {"sha256": DIGEST.hex, "sha512": "x"}}]
    value = {"_type": kind, "subject": subject, "predicateType": "t", "predicate": {"accuracy": 0.97}}
    assert check_about(json.dumps(value).encode(), DIGEST) == "t"
    with pytest.raises(DecodeError, match="stands twice"):
        check_about(json.dumps(value).replace('"_type"', '"subject": [], "_type"').encode(), DIGEST)
    with pytest.raises(DecodeError):
        check_about(json.dumps({**value, "_type": "https://in-toto.io/Statement/v2"}).encode(), DIGEST)
