# SPDX-License-Identifier: Apache-2.0
"""ML-DSA by a second implementation (dilithium-py, in Python alone): each verifies what the other signed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa
from dilithium_py.ml_dsa import ML_DSA_44, ML_DSA_65

from chopmark.adapters.kms.file import FileSigner, generate
from chopmark.keys import Algorithm, PublicKey

OURS = {Algorithm.ML_DSA_44: mldsa.MLDSA44PrivateKey, Algorithm.ML_DSA_65: mldsa.MLDSA65PrivateKey}
THEIRS = {Algorithm.ML_DSA_44: ML_DSA_44, Algorithm.ML_DSA_65: ML_DSA_65}
PUBLIC = {Algorithm.ML_DSA_44: mldsa.MLDSA44PublicKey, Algorithm.ML_DSA_65: mldsa.MLDSA65PublicKey}
MESSAGES = (b"", b"a statement", bytes(range(256)) * 20)


def other(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("algorithm", OURS)
def test_one_seed_makes_one_key(algorithm):
    for seed in (bytes(32), bytes(range(32)), b"\xff" * 32):
        ours = FileSigner(OURS[algorithm].from_seed_bytes(seed))
        raw, _ = THEIRS[algorithm].key_derive(seed)
        assert ours.public.raw == raw


@pytest.mark.parametrize("algorithm", OURS)
def test_they_verify_what_we_sign(algorithm):
    signer, theirs = generate(algorithm), THEIRS[algorithm]
    for message in MESSAGES:
        signature = signer.sign(message)
        assert theirs.verify(signer.public.raw, message, signature)
        assert not theirs.verify(signer.public.raw, message + b"!", signature)
        assert not theirs.verify(signer.public.raw, message, signature, ctx=b"other")
        assert not theirs.verify(generate(algorithm).public.raw, message, signature)


@pytest.mark.parametrize("algorithm", OURS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_we_verify_what_they_sign(algorithm, deterministic):
    theirs = THEIRS[algorithm]
    raw, secret = theirs.keygen()
    public = PublicKey.of(PUBLIC[algorithm].from_public_bytes(raw))
    for message in MESSAGES:
        signature = theirs.sign(secret, message, deterministic=deterministic)
        assert public.verify(signature, message)
        assert not public.verify(signature, message + b"!")
        assert not public.verify(other(signature), message)
        assert not public.verify(theirs.sign(secret, message, ctx=b"other"), message)
