# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles and trusted roots, and what is in them: any bytes end in success or in an error of ours."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger.rekor import TrustedRoot, trusted_root
from chopmark.statements import Statement, Subject, sign
from chopmark.statements.sigstore import (
    MessageSignature,
    bundle_of,
    check_about,
    decode_bundle,
    encode_bundle,
    read_certificates,
    verify_bundle,
)
from chopmark.statements.sigstore.verify import certified_key
from fuzz.test_ledger_wire import near
from simulators.rekor import SimRekor
from simulators.sigstore import SimSigstore

KEY = generate(Algorithm.ECDSA_P256)
DIGEST = Digest.of(b"weights")
STATED = sign(Statement(subjects=(Subject("m", DIGEST),), predicate_type="t", predicate={}), [KEY])
with tempfile.TemporaryDirectory() as folder:
    SIM = SimSigstore(Path(folder))
PEM = SIM.certify(KEY._key.public_key())
DER = x509.load_pem_x509_certificate(PEM).public_bytes(Encoding.DER)
BUNDLE = encode_bundle(bundle_of(MessageSignature(digest=DIGEST, signature=KEY.sign(b"weights")), KEY.public))
ENVELOPED = encode_bundle(bundle_of(STATED, KEY.public, certificate=DER))
ROOT = trusted_root(SimRekor(KEY).key, into=SIM.trusted_root())


@given(st.one_of(near(BUNDLE), near(ENVELOPED)))
@example(BUNDLE)
@example(ENVELOPED)
def test_bundles(data: bytes) -> None:
    try:
        bundle = decode_bundle(data)
    except DecodeError:
        return
    assert decode_bundle(encode_bundle(bundle)) == bundle
    try:
        signed = verify_bundle(bundle, DIGEST, KEY.public)
    except VerificationError:
        return
    assert signed.signature == bundle.signature


@given(near(ROOT))
@example(ROOT)
def test_trusted_roots(data: bytes) -> None:
    try:
        TrustedRoot.decode(data)
        text = trusted_root(SimRekor(KEY, origin="two.example").key, into=data)
    except DecodeError:
        return
    assert len(TrustedRoot.decode(text).logs) >= 1


@given(st.one_of(near(DER), near(PEM)))
@example(DER)
def test_certificates(data: bytes) -> None:
    for read in (certified_key, read_certificates):
        try:
            read(data)
        except DecodeError:
            continue


@given(near(STATED.payload))
@example(STATED.payload)
def test_statements_of_others(data: bytes) -> None:
    try:
        assert check_about(data, DIGEST)
    except VerificationError:
        return
