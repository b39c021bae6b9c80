# SPDX-License-Identifier: Apache-2.0
"""OpenSSF Model Signing bundles, for stock tools: method ``files``, SHA-256, one P-256 key.

The bundle lies beside a package and gives no authority: its subject is the hash of concatenated file digests, which does
not bind names (docs/concepts/trust.md). We sign what ``model_signing verify key`` accepts, and read more strictly than
it does: one signature, sorted names, no ``..``, every file listed.

Source: OMS specification 1.0; Sigstore bundle 0.3; DSSE 1.0.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from chopmark import canonical
from chopmark.artifacts import Digest, Manifest
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Algorithm, PublicKey, Signer
from chopmark.statements.model import PAYLOAD_TYPE, STATEMENT_TYPE, Envelope, PredicateType, Signature, pae

OMS_FILE: Final = "model.sig"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES: Final = 8 * 1024 * 1024
_ANEW: Final = "do not use these files; get folder and bundle anew from whoever signed them"


class _PublicKeyHint(canonical.Strict, frozen=True, kw_only=True):
    hint: str


class _Material(msgspec.Struct, frozen=True, kw_only=True):
    public_key: _PublicKeyHint = msgspec.field(name="publicKey")


class _Signature(msgspec.Struct, frozen=True, kw_only=True):
    sig: str


class _Dsse(msgspec.Struct, frozen=True, kw_only=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, frozen=True, kw_only=True):
    media_type: str = msgspec.field(name="mediaType")
    material: _Material = msgspec.field(name="verificationMaterial")
    envelope: _Dsse = msgspec.field(name="dsseEnvelope")


class _Resource(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    algorithm: str


class _Serialization(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    hash_type: str


class _Predicate(msgspec.Struct, frozen=True, kw_only=True):
    resources: list[_Resource]
    serialization: _Serialization


class _Subject(msgspec.Struct, frozen=True, kw_only=True):
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True, kw_only=True):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: _Predicate


def build_oms(manifest: Manifest, signer: Signer, *, name: str) -> bytes:
    """Return a bundle over the files of *manifest*, signed by a P-256 key.

    Args:
        name: informational subject name.
    """
    if signer.public.algorithm is not Algorithm.ECDSA_P256:
        raise UsageError("stock tools verify P-256 keys only", hint="openssl ecparam -name prime256v1 -genkey")
    files = sorted(manifest.files, key=lambda entry: entry.name)
    payload = canonical.encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _root(manifest).hex}}],
            "predicateType": str(PredicateType.OMS),
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
                "resources": [{"name": f.name, "digest": f.sha256.hex, "algorithm": "sha256"} for f in files],
            },
        }
    )
    return canonical.encode(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": _hint(signer.public)}},
            "dsseEnvelope": {
                "payload": canonical.encode_base64(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": canonical.encode_base64(signer.sign(pae(PAYLOAD_TYPE, payload))), "keyid": ""}],
            },
        }
    )


def decode_oms(bundle: bytes) -> Envelope:
    """Return the envelope in *bundle*; nothing is verified, and its payload is not looked into.

    Raises:
        DecodeError: not such a bundle.
    """
    wire = _decode(bundle)
    return Envelope(
        payload=canonical.decode_base64(wire.envelope.payload, what="OMS payload"),
        signatures=(Signature("", canonical.decode_base64(wire.envelope.signatures[0].sig, what="OMS signature")),),
    )


def verify_oms(bundle: bytes, manifest: Manifest, key: PublicKey) -> Digest:
    """Check that *bundle* was signed by *key* over exactly the files of *manifest*; return its root digest.

    Raises:
        VerificationError: another key, a bad signature, or other files.
        DecodeError: not such a bundle.
    """
    wire = _decode(bundle)
    payload = canonical.decode_base64(wire.envelope.payload, what="OMS payload")
    signature = canonical.decode_base64(wire.envelope.signatures[0].sig, what="OMS signature")
    if wire.material.public_key.hint != _hint(key) or not key.verify(signature, pae(PAYLOAD_TYPE, payload)):
        raise VerificationError(
            "OMS bundle: not signed by this key", code="oms-unsigned", hint="compare the key with the signer's own copy"
        )
    statement = canonical.decode_as(payload, _Statement, what="OMS statement", max_bytes=MAX_BUNDLE_BYTES)
    _check_form(statement)
    listed = [(r.name, r.digest) for r in statement.predicate.resources]
    here = sorted((f.name, f.sha256.hex) for f in manifest.files)
    if listed != here:
        names = ", ".join(sorted({name for name, _ in set(listed) ^ set(here)})[:5])
        raise VerificationError(
            f"OMS bundle: signed over other files than these: {names or 'in another order'}",
            code="oms-mismatch",
            hint=_ANEW,
        )
    root = _root(manifest)
    if statement.subject[0].digest != {"sha256": root.hex}:
        raise VerificationError("OMS bundle: its root digest is not that of its files", code="oms-mismatch", hint=_ANEW)
    return root


def _decode(bundle: bytes) -> _Bundle:
    wire = canonical.decode_as(bundle, _Bundle, what="OMS bundle", max_bytes=MAX_BUNDLE_BYTES)
    if wire.media_type != BUNDLE_TYPE or wire.envelope.payload_type != PAYLOAD_TYPE:
        raise DecodeError("OMS bundle: an unknown kind of bundle or payload")
    if len(wire.envelope.signatures) != 1:
        raise DecodeError(
            f"OMS bundle: {len(wire.envelope.signatures)} signatures; stock verifiers look at the first only, so one is allowed"
        )
    return wire


def _check_form(statement: _Statement) -> None:
    predicate = statement.predicate
    if (
        statement.type != STATEMENT_TYPE
        or statement.predicate_type != PredicateType.OMS
        or len(statement.subject) != 1
        or (predicate.serialization.method, predicate.serialization.hash_type) != ("files", "sha256")
        or any(resource.algorithm != "sha256" for resource in predicate.resources)
    ):
        raise DecodeError("OMS bundle: not a statement over files by SHA-256")


def _root(manifest: Manifest) -> Digest:
    files = sorted(manifest.files, key=lambda entry: entry.name)
    return Digest.of(b"".join(entry.sha256.value for entry in files))


def _hint(key: PublicKey) -> str:
    return hashlib.sha256(key.pem.encode()).hexdigest()
