# SPDX-License-Identifier: Apache-2.0
"""The port Signer: what it signs, its public half verifies; or an error of ours."""

from __future__ import annotations

import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chopmark.adapters.kms import file as kms
from chopmark.errors import DecodeError, UndecidedError, UsageError
from chopmark.keys import Algorithm, PublicKey, Signer, read_public_key

MESSAGE = b"the message itself, not a hash of it"


def in_memory(algorithm, folder):
    return kms.generate(algorithm)


def just_created(algorithm, folder):
    return kms.create(folder / "key.pem", algorithm)


def loaded(algorithm, folder):
    kms.create(folder / "key.pem", algorithm)
    return kms.load(folder / "key.pem")


@pytest.fixture(params=[in_memory, just_created, loaded], ids=lambda make: make.__name__)
def make(request, tmp_path):
    return lambda algorithm: request.param(algorithm, tmp_path)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_its_public_half_verifies(make, algorithm):
    signer = make(algorithm)
    assert signer.public.algorithm is algorithm
    for message in (MESSAGE, b"", b"\0" * 100_000):
        signature = signer.sign(message)
        assert signer.public.verify(signature, message)
        assert not signer.public.verify(signature, message + b"!")
        assert not signer.public.verify(signature[:-1] + bytes([signature[-1] ^ 1]), message)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_public_half_travels(make, algorithm):
    signer = make(algorithm)
    signature = signer.sign(MESSAGE)
    for copy in (PublicKey.from_spki(signer.public.spki), read_public_key(signer.public.pem.encode())):
        assert copy == signer.public
        assert copy.keyid == signer.public.keyid
        assert copy.verify(signature, MESSAGE)


class Broken(Signer):
    """A key store that fails as its vendor's library does."""

    def __init__(self, error):
        self.error = error

    @property
    def public(self):
        return kms.generate(Algorithm.ED25519).public

    def _sign(self, message):
        raise self.error


def test_foreign_errors_become_ours():
    with pytest.raises(UndecidedError) as undecided:
        Broken(ConnectionError("throttled by region-1")).sign(MESSAGE)
    assert undecided.value.code == "key-unavailable"
    assert "region-1" not in undecided.value.message
    mine = UndecidedError("locked", code="key-locked")
    with pytest.raises(UndecidedError) as same:
        Broken(mine).sign(MESSAGE)
    assert same.value is mine


# The file


def test_a_key_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "owner-a" / "ed25519.pem"
    signer = kms.create(path, Algorithm.ED25519)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kms.load(path).public == signer.public
    assert [file.name for file in path.parent.iterdir()] == ["ed25519.pem"]
    for mode in (0o640, 0o604, 0o644, 0o660, 0o601):
        path.chmod(mode)
        with pytest.raises(UsageError):
            kms.load(path)


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "key.pem"
    signer = kms.create(path, Algorithm.ML_DSA_65)
    with pytest.raises(UsageError):
        kms.create(path, Algorithm.ML_DSA_65)
    assert kms.load(path).public == signer.public


def test_a_missing_key_is_undecided(tmp_path):
    with pytest.raises(UndecidedError) as missing:
        kms.load(tmp_path / "key.pem")
    assert missing.value.code == "key-missing"


def test_a_link_to_a_key_is_not_followed(tmp_path):
    kms.create(tmp_path / "key.pem", Algorithm.ED25519)
    (tmp_path / "link.pem").symlink_to(tmp_path / "key.pem")
    with pytest.raises(UsageError):
        kms.load(tmp_path / "link.pem")


def private_pem(key, encryption=None):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"\xff" * 100,
        private_pem(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "not-a-key", "binary", "rsa"],
)
def test_what_is_no_key_of_ours_is_refused(tmp_path, data):
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(UsageError):
        kms.load(path)


def test_another_curve_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(ec.generate_private_key(ec.SECP384R1())))
    path.chmod(0o600)
    with pytest.raises(DecodeError):
        kms.load(path)
