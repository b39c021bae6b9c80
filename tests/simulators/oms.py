# SPDX-License-Identifier: Apache-2.0
"""Bundles as others write them: any curve, any shape, any of the formats since model_signing 0.2, and their authorities."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TYPE = "application/vnd.in-toto+json"
P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
CERTIFIES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
CODE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])


def pem(key):
    """The public half of *key*."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def b64(data):
    return base64.b64encode(data).decode()


def hash_of(key):
    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]


def statement(files, *, names=None, **changes):
    """An in-toto statement over *files*, name -> content, in the order of *names* or their own."""
    names = sorted(files) if names is None else names
    digests = {name: hashlib.sha256(files[name]) for name in files}
    root = hashlib.sha256(b"".join(digests[name].digest() for name in names)).hexdigest()
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": n, "digest": digests[n].hexdigest(), "algorithm": "sha256"} for n in names],
        },
    }
    return said | changes


def old_statement(files):
    """What model_signing 0.2 signed."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {
                "name": name,
                "digest": {"sha256": hashlib.sha256(data).hexdigest()},
                "annotations": {"actual_hash_algorithm": "file-sha256"},
            }
            for name, data in sorted(files.items())
        ],
        "predicateType": "https://model_signing/Digests/v0.1",
        "predicate": {"unused": "Unused, just passed due to API requirements"},
    }


def hinted(key):
    return {"publicKey": {"hint": hashlib.sha256(pem(key)).hexdigest()}, "tlogEntries": []}


def raw(key):
    """How bundles named a key before 1.1.0."""
    return {"publicKey": {"rawBytes": b64(pem(key)), "keyDetails": "PKIX_ECDSA_P384_SHA_384"}}


def chained(*certificates):
    ders = [c.public_bytes(serialization.Encoding.DER) for c in certificates]
    return {"x509CertificateChain": {"certificates": [{"rawBytes": b64(der)} for der in ders]}}


def bundle(said, key, *, material=None, old=False, payload=None, **changes):
    """A bundle over the statement *said*, or over the bytes *payload*, signed properly.

    Args:
        old: sign what model_signing 0.2 signed by mistake.
    """
    payload = json.dumps(said).encode() if payload is None else payload
    algorithm = hashes.SHA256() if old else hash_of(key)
    message = f"DSSEV1 {len(TYPE)} {TYPE} {len(payload)} {payload}".encode() if old else pae(payload)
    made = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": hinted(key) if material is None else material,
        "dsseEnvelope": {
            "payload": b64(payload),
            "payloadType": TYPE,
            "signatures": [{"sig": b64(key.sign(message, ec.ECDSA(algorithm))), "keyid": ""}],
        },
    }
    return json.dumps(made | changes).encode()


def pae(payload):
    return b"DSSEv1 %d %b %d %b" % (len(TYPE), TYPE.encode(), len(payload), payload)


def rsa_key(bits=2048):
    return rsa.generate_private_key(65537, bits)


def certificate(subject, key, *, issuer=None, issuer_key=None, extensions=(), days=(-1, 1), digest=None):
    """A certificate of *key* for *subject*; self-signed without an issuer."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer or subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key or key, digest or hashes.SHA256())


def authority(subject, key, *, issuer=None, issuer_key=None, path_length=None, **how):
    marks = [(x509.BasicConstraints(ca=True, path_length=path_length), True), (CERTIFIES, True)]
    return certificate(subject, key, issuer=issuer, issuer_key=issuer_key, extensions=marks, **how)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
