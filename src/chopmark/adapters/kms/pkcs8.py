# SPDX-License-Identifier: Apache-2.0
"""Encrypted private keys (PKCS#8 with PBES2, RFC 8018): what opening one may cost, and how ours are written.

A file names its own cost, so that anybody who can write it could make its owner's machine compute for hours or fill its
memory. The cost is read before anything is computed. Keys of ours are written with PBKDF2, since every tool reads that:
OpenSSL refuses scrypt at costs that would be better.
"""

from __future__ import annotations

import base64
import os
import textwrap
from typing import Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.x509 import ObjectIdentifier

from chopmark.errors import UsageError, foreign

ROUNDS: Final = 600_000
"""Of PBKDF2 with SHA-256, for keys that are written here; what OWASP asks for. About 0.2 s."""

MAX_ROUNDS: Final = 10_000_000
MAX_SCRYPT_BYTES: Final = 256 * 1024 * 1024
"""Of memory: 128·r·(N + p)."""
MAX_SCRYPT_LANES: Final = 16
"""p; OpenSSL takes memory again for them."""
MAX_SCRYPT_WORK: Final = 2**22
"""N·r·p; four times what costs 128 MiB."""

_PBES2: Final = ObjectIdentifier("1.2.840.113549.1.5.13")
_PBKDF2: Final = ObjectIdentifier("1.2.840.113549.1.5.12")
_SCRYPT: Final = ObjectIdentifier("1.3.6.1.4.1.11591.4.11")
_HMAC_SHA256: Final = ObjectIdentifier("1.2.840.113549.2.9")
_AES_256_CBC: Final = ObjectIdentifier("2.16.840.1.101.3.4.1.42")
_BEGIN: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_END: Final = b"-----END ENCRYPTED PRIVATE KEY-----"
_AES_BLOCK_BITS: Final = 128


@asn1.sequence
class _Algorithm:
    oid: ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class _Encrypted:
    algorithm: _Algorithm
    data: bytes


@asn1.sequence
class _Pbes2:
    derivation: _Algorithm
    cipher: _Algorithm


@asn1.sequence
class _Hash:
    oid: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _Pbkdf2:
    salt: bytes
    rounds: int
    key_length: int | None
    hash: _Hash | None


@asn1.sequence
class _Scrypt:
    salt: bytes
    n: int
    r: int
    p: int
    key_length: int | None


@asn1.sequence
class _Iv:
    oid: ObjectIdentifier
    iv: bytes


def check_cost(pem: bytes) -> None:
    """Check that opening the encrypted key *pem* costs no more than a few seconds, and 256 MiB.

    Raises:
        UsageError: it costs more (``key-too-costly``), or it is encrypted in a way that is not used here.
    """
    with foreign(UsageError, "is no encrypted PKCS#8 key", code="usage"):
        body = pem.lstrip().removeprefix(_BEGIN).split(_END, 1)[0]
        outer = asn1.decode_der(_Encrypted, base64.b64decode(b"".join(body.split()), validate=True)).algorithm
        if outer.oid != _PBES2:
            raise UsageError(
                "is encrypted in an old way (not PBES2)", hint="openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000"
            )
        derivation = outer.parameters.parse(_Pbes2).derivation
        if derivation.oid == _PBKDF2:
            fits = 0 < derivation.parameters.parse(_Pbkdf2).rounds <= MAX_ROUNDS
        elif derivation.oid == _SCRYPT:
            cost = derivation.parameters.parse(_Scrypt)
            fits = (
                min(cost.n, cost.r) > 0
                and 0 < cost.p <= MAX_SCRYPT_LANES
                and 128 * cost.r * (cost.n + cost.p) <= MAX_SCRYPT_BYTES
                and cost.n * cost.r * cost.p <= MAX_SCRYPT_WORK
            )
        else:
            raise UsageError("is encrypted with a derivation that is not used here", hint="use PBKDF2 or scrypt")
    if not fits:
        raise UsageError(
            "says that opening it costs more than is allowed", code="key-too-costly", hint="who wrote this file?"
        )


def encrypt(pkcs8: bytes, passphrase: bytes) -> bytes:
    """Return the private key *pkcs8* (DER) as encrypted PEM: PBKDF2 with SHA-256, AES-256 in CBC mode."""
    salt, iv = os.urandom(16), os.urandom(16)
    key = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=ROUNDS).derive(passphrase)
    padder, encryptor = (
        padding.PKCS7(_AES_BLOCK_BITS).padder(),
        Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor(),
    )
    data = encryptor.update(padder.update(pkcs8) + padder.finalize()) + encryptor.finalize()
    derivation = _Pbkdf2(
        salt=salt, rounds=ROUNDS, key_length=None, hash=_Hash(oid=_HMAC_SHA256, parameters=asn1.Null())
    )
    scheme = _Pbes2(
        derivation=_Algorithm(oid=_PBKDF2, parameters=_tlv(asn1.encode_der(derivation))),
        cipher=asn1.decode_der(_Algorithm, asn1.encode_der(_Iv(oid=_AES_256_CBC, iv=iv))),
    )
    whole = _Encrypted(algorithm=_Algorithm(oid=_PBES2, parameters=_tlv(asn1.encode_der(scheme))), data=data)
    lines = textwrap.wrap(base64.b64encode(asn1.encode_der(whole)).decode("ascii"), 64)
    return b"\n".join([_BEGIN, *(line.encode("ascii") for line in lines), _END, b""])


def _tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)
