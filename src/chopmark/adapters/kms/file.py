# SPDX-License-Identifier: Apache-2.0
"""Private keys in files of their owner: PKCS#8 PEM, mode 0600, refused when others may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from chopmark.artifacts import open_regular, write_file
from chopmark.errors import UndecidedError, UsageError, foreign
from chopmark.keys import Algorithm, PublicKey, Signer

_MAX_KEY_BYTES = 16384

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey


class FileSigner(Signer):
    """A key whose private half is in a file."""

    def __init__(self, key: _PrivateKey) -> None:
        self._key = key
        self._public = PublicKey.of(key.public_key())

    @property
    def private(self) -> _PrivateKey:
        return self._key

    @property
    def public(self) -> PublicKey:
        return self._public

    def _sign(self, message: bytes) -> bytes:
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return self._key.sign(message)


def generate(algorithm: Algorithm) -> FileSigner:
    """Make a key that lives in memory only."""
    return FileSigner(_generate(algorithm))


def create(path: Path, algorithm: Algorithm, *, passphrase: bytes | None = None) -> FileSigner:
    """Make a key and write it to *path*.

    Args:
        passphrase: what the file is encrypted with; None to leave it plain.

    Raises:
        UsageError: a file is there already; keys are never overwritten.
    """
    if path.exists():
        raise UsageError(f"{path}: a key is there already", hint="keys are not overwritten; choose another name")
    key = _generate(algorithm)
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        lock = serialization.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(path, pem, mode=0o600)
    return FileSigner(key)


def load(path: Path) -> FileSigner:
    """Open the key in *path*.

    Raises:
        UsageError: others than its owner may read it, or it is no key of ours.
        UndecidedError: there is no such file.
    """
    if not os.path.lexists(path):
        raise UndecidedError(f"{path}: no such key", code="key-missing", hint="run it where the key is")
    with os.fdopen(open_regular(path), "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise UsageError(f"{path}: others may read this key", hint=f"chmod 600 {path}; consider it known to them")
        data = file.read(_MAX_KEY_BYTES)
    # The library raises errors of its own, of OpenSSL's and of Python's, depending on which byte is wrong.
    with foreign(UsageError, f"{path}: is not an unencrypted PKCS#8 key", code="usage"):
        key = serialization.load_pem_private_key(data, password=None)
        if not isinstance(key, _PrivateKey):
            raise UsageError(f"{path}: is a key of an algorithm that is not used here")
        return FileSigner(key)


def load_all(folder: Path) -> list[Signer]:
    """Open all keys of one owner: the ``*.pem`` files of a folder, by name.

    Raises:
        UndecidedError: there are none.
        UsageError: as :func:`load`.
    """
    found = sorted(folder.glob("*.pem"))
    if not found:
        raise UndecidedError(
            f"the keys of {folder.name} are not on this machine",
            code="key-missing",
            hint=f"run this where {folder.name} works",
        )
    return [load(path) for path in found]


def export_openssh(key: FileSigner, path: Path) -> None:
    """Write the private key as ``git`` and ``ssh-keygen`` read it, mode 0600."""
    data = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_file(path, data, mode=0o600)


def _generate(algorithm: Algorithm) -> _PrivateKey:
    match algorithm:
        case Algorithm.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case Algorithm.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case Algorithm.ML_DSA_44:
            return mldsa.MLDSA44PrivateKey.generate()
        case Algorithm.ML_DSA_65:
            return mldsa.MLDSA65PrivateKey.generate()
