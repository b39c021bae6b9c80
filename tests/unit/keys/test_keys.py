# SPDX-License-Identifier: Apache-2.0
"""Public keys: one key, one form, one id; decided by the key and not by whoever sends it."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, mldsa, rsa, x25519

from chopmark.adapters.kms.file import generate
from chopmark.errors import DecodeError
from chopmark.keys import Algorithm, PublicKey, read_public_key

SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_id_is_the_hash_of_the_spki(algorithm):
    public = generate(algorithm).public
    assert public.keyid == hashlib.sha256(public.spki).hexdigest()
    assert PublicKey.from_spki(public.spki) == public
    assert read_public_key(public.pem.encode()) == public
    assert len({public, PublicKey.from_spki(public.spki)}) == 1
    assert repr(public).count("object at") == 0


@pytest.mark.parametrize(("algorithm", "length"), [(Algorithm.ED25519, 32), (Algorithm.ML_DSA_44, 1312)])
def test_bare_keys_of_signed_notes(algorithm, length):
    public = generate(algorithm).public
    assert len(public.raw) == length
    assert PublicKey.from_raw(algorithm, public.raw) == public
    for raw in (b"", public.raw[:-1], public.raw + b"\0"):
        with pytest.raises(DecodeError):
            PublicKey.from_raw(algorithm, raw)


@pytest.mark.parametrize("algorithm", [Algorithm.ECDSA_P256, Algorithm.ML_DSA_65])
def test_the_others_have_no_bare_form(algorithm):
    with pytest.raises(DecodeError):
        PublicKey.from_raw(algorithm, generate(algorithm).public.raw)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
        x25519.X25519PrivateKey.generate().public_key(),
        mldsa.MLDSA87PrivateKey.generate().public_key(),
    ],
    ids=["rsa", "p384", "k256", "ed448", "x25519", "ml-dsa-87"],
)
def test_other_algorithms_are_refused(key):
    with pytest.raises(DecodeError):
        PublicKey.from_spki(key.public_bytes(*SPKI))
    with pytest.raises(DecodeError):
        read_public_key(key.public_bytes(*PEM))
    with pytest.raises(DecodeError):
        PublicKey.of(key)


def test_a_key_has_one_der_form():
    """A compressed point is the same key under another id: it would count twice."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = PublicKey.of(private.public_key())
    point = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    for spki in (head + point, public.spki + b"\0", b"", public.spki[:-1], b"\0" * 9000):
        with pytest.raises(DecodeError):
            PublicKey.from_spki(spki)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", b"\xff"])
def test_what_is_no_pem(pem):
    with pytest.raises(DecodeError):
        read_public_key(pem)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_verify_never_raises(algorithm):
    signer = generate(algorithm)
    good = signer.sign(b"message")
    for bad in (b"", b"\0", good[:-1], good + b"\0", bytes(len(good)), b"\xff" * len(good)):
        assert not signer.public.verify(bad, b"message")
    assert not generate(algorithm).public.verify(good, b"message")
    assert not signer.public.verify(good, b"")


def test_a_foreign_ed25519_implementation_agrees():
    # RFC 8032, section 7.1, TEST 2
    public = PublicKey.from_raw(
        Algorithm.ED25519, bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    )
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert public.verify(signature, b"\x72")
