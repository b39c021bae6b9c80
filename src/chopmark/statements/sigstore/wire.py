# SPDX-License-Identifier: Apache-2.0
"""Bytes <-> Sigstore bundle v0.3.

Read more strictly than by most: base64 of one spelling, no member twice, no member nobody reads, one kind of material, one
kind of content, one signature in an envelope (stock verifiers look at the first only). What other tools write passes: they
write canonical protobuf JSON.

Source: protobuf-specs sigstore_bundle.proto, sigstore_common.proto; architecture-docs client-spec, 4.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError
from chopmark.statements.model import PAYLOAD_TYPE, Envelope, Signature
from chopmark.statements.sigstore.model import Bundle, Certificates, KeyHint, MessageSignature

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SAME: Final = "application/vnd.dev.sigstore.bundle+json;version=0.3"
"""How v0.3 was spelled at first; the specification asks clients to read it."""
MAX_BUNDLE_BYTES: Final = 8 * 1024 * 1024
MAX_ENTRIES: Final = 32
MAX_TIMESTAMPS: Final = 32
MAX_CERTIFICATES: Final = 10
MAX_CERTIFICATE_BYTES: Final = 64 * 1024
MAX_TIMESTAMP_BYTES: Final = 64 * 1024
MAX_SIGNATURE_BYTES: Final = 8192
MAX_HINT_CHARS: Final = 1024
_SHA256: Final = "SHA2_256"
_WHAT: Final = "Sigstore bundle"


class _Hint(canonical.Strict, frozen=True, kw_only=True):
    hint: str = ""


class _Raw(canonical.Strict, frozen=True, kw_only=True):
    raw: str = msgspec.field(name="rawBytes")


class _Chain(canonical.Strict, frozen=True, kw_only=True):
    certificates: list[_Raw]


class _Timestamp(canonical.Strict, frozen=True, kw_only=True):
    signed: str = msgspec.field(name="signedTimestamp")


class _Timestamps(canonical.Strict, frozen=True, kw_only=True):
    rfc3161: list[_Timestamp] = msgspec.field(name="rfc3161Timestamps", default=[])


class _Material(canonical.Strict, frozen=True, kw_only=True):
    public_key: _Hint | None = msgspec.field(name="publicKey", default=None)
    certificate: _Raw | None = None
    chain: _Chain | None = msgspec.field(name="x509CertificateChain", default=None)
    entries: list[dict[str, Any]] = msgspec.field(name="tlogEntries", default=[])
    timestamps: _Timestamps | None = msgspec.field(name="timestampVerificationData", default=None)


class _Digest(canonical.Strict, frozen=True, kw_only=True):
    algorithm: str
    digest: str


class _Message(canonical.Strict, frozen=True, kw_only=True):
    digest: _Digest | None = msgspec.field(name="messageDigest", default=None)
    signature: str


class _Signature(canonical.Strict, frozen=True, kw_only=True):
    sig: str
    keyid: str = ""


class _Dsse(canonical.Strict, frozen=True, kw_only=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[_Signature]


class _Bundle(canonical.Strict, frozen=True, kw_only=True):
    media_type: str = msgspec.field(name="mediaType")
    material: _Material = msgspec.field(name="verificationMaterial")
    message: _Message | None = msgspec.field(name="messageSignature", default=None)
    envelope: _Dsse | None = msgspec.field(name="dsseEnvelope", default=None)


def decode_bundle(data: bytes) -> Bundle:
    """Read a bundle v0.3.

    Raises:
        DecodeError: not such a bundle; ``bundle-version`` where its media type names another, ``bundle-ambiguous`` where it
            holds two kinds of material or of content.
    """
    value = canonical.decode(data, what=_WHAT, max_bytes=MAX_BUNDLE_BYTES)
    said = value.get("mediaType") if isinstance(value, dict) else None
    if said not in (BUNDLE_TYPE, _SAME):
        raise DecodeError(
            f"{_WHAT}: its media type is {str(said)[:80]!r}, not {BUNDLE_TYPE}",
            code="bundle-version",
            hint="bundles of v0.3 are read; cosign and sigstore-python write them, older ones are signed again",
        )
    wire = canonical.convert(value, _Bundle, what=_WHAT)
    _check_one(wire)
    if len(wire.material.entries) > MAX_ENTRIES:
        raise DecodeError(f"{_WHAT}: more than {MAX_ENTRIES} log entries")
    return Bundle(
        material=_material(wire.material),
        content=_content(wire),
        entries=tuple(canonical.encode(entry) for entry in wire.material.entries),
        timestamps=_timestamps(wire.material.timestamps),
    )


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the JSON, as protobuf spells it.

    Raises:
        DecodeError: it has an entry that is not JSON, or an envelope without exactly one signature.
    """
    material: dict[str, object] = _material_json(bundle.material)
    if bundle.entries:
        material["tlogEntries"] = [
            canonical.decode(entry, what="log entry", max_bytes=MAX_BUNDLE_BYTES) for entry in bundle.entries
        ]
    if bundle.timestamps:
        stamps = [{"signedTimestamp": encode_base64(stamp)} for stamp in bundle.timestamps]
        material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
    wire = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **_content_json(bundle.content)}
    return canonical.encode(wire)


def _check_one(wire: _Bundle) -> None:
    """Check that nothing stands in two ways: readers would choose differently."""
    material = wire.material
    kinds = sum(kind is not None for kind in (material.public_key, material.certificate, material.chain))
    contents = sum(kind is not None for kind in (wire.message, wire.envelope))
    for number, what in ((kinds, "key, certificate or certificate chain"), (contents, "signature or envelope")):
        if number > 1:
            raise DecodeError(f"{_WHAT}: more than one of {what}", code="bundle-ambiguous")
        if not number:
            raise DecodeError(f"{_WHAT}: no {what}")


def _material(wire: _Material) -> KeyHint | Certificates:
    if wire.public_key is not None:
        if len(wire.public_key.hint) > MAX_HINT_CHARS:
            raise DecodeError(f"{_WHAT}: a hint that is too long")
        return KeyHint(hint=wire.public_key.hint)
    raws = [wire.certificate] if wire.certificate is not None else wire.chain.certificates if wire.chain else []
    if not 0 < len(raws) <= MAX_CERTIFICATES:
        raise DecodeError(f"{_WHAT}: {len(raws)} certificates; 1 to {MAX_CERTIFICATES} are allowed")
    chain = tuple(_bytes(raw.raw, what="certificate", max_bytes=MAX_CERTIFICATE_BYTES) for raw in raws)
    return Certificates(chain=chain, alone=wire.certificate is not None)


def _content(wire: _Bundle) -> MessageSignature | Envelope:
    if wire.message is not None:
        signature = _bytes(wire.message.signature, what="signature", max_bytes=MAX_SIGNATURE_BYTES)
        return MessageSignature(digest=_digest(wire.message.digest), signature=signature)
    if wire.envelope is None:
        raise DecodeError(f"{_WHAT}: no signature")
    if wire.envelope.payload_type != PAYLOAD_TYPE:
        raise DecodeError(f"{_WHAT}: a payload {wire.envelope.payload_type[:80]!r}, not {PAYLOAD_TYPE}")
    if len(wire.envelope.signatures) != 1:
        raise DecodeError(
            f"{_WHAT}: {len(wire.envelope.signatures)} signatures; stock verifiers look at one only, so one is allowed"
        )
    (signed,) = wire.envelope.signatures
    sig = _bytes(signed.sig, what="signature", max_bytes=MAX_SIGNATURE_BYTES)
    payload = decode_base64(wire.envelope.payload, what=f"{_WHAT}: payload")
    return Envelope(payload=payload, signatures=(Signature(signed.keyid, sig),))


def _digest(wire: _Digest | None) -> Digest | None:
    if wire is None:
        return None
    if wire.algorithm != _SHA256:
        raise DecodeError(f"{_WHAT}: a digest by {wire.algorithm[:40]!r}; {_SHA256} is known here")
    return Digest(decode_base64(wire.digest, what=f"{_WHAT}: digest"))


def _timestamps(wire: _Timestamps | None) -> tuple[bytes, ...]:
    stamps = [] if wire is None else wire.rfc3161
    if len(stamps) > MAX_TIMESTAMPS:
        raise DecodeError(f"{_WHAT}: more than {MAX_TIMESTAMPS} timestamps")
    return tuple(_bytes(stamp.signed, what="timestamp", max_bytes=MAX_TIMESTAMP_BYTES) for stamp in stamps)


def _bytes(text: str, *, what: str, max_bytes: int) -> bytes:
    value = decode_base64(text, what=f"{_WHAT}: {what}")
    if not 0 < len(value) <= max_bytes:
        raise DecodeError(f"{_WHAT}: a {what} of {len(value):,} bytes; 1 to {max_bytes:,} are allowed")
    return value


def _material_json(material: KeyHint | Certificates) -> dict[str, object]:
    if isinstance(material, KeyHint):
        return {"publicKey": {"hint": material.hint}}
    raws = [{"rawBytes": encode_base64(certificate)} for certificate in material.chain]
    return {"certificate": raws[0]} if material.alone else {"x509CertificateChain": {"certificates": raws}}


def _content_json(content: MessageSignature | Envelope) -> dict[str, object]:
    if isinstance(content, MessageSignature):
        message: dict[str, object] = {"signature": encode_base64(content.signature)}
        if content.digest is not None:
            message["messageDigest"] = {"algorithm": _SHA256, "digest": encode_base64(content.digest.value)}
        return {"messageSignature": message}
    if len(content.signatures) != 1:
        raise DecodeError(f"{_WHAT}: an envelope in it has one signature, not {len(content.signatures)}")
    envelope = {
        "payload": encode_base64(content.payload),
        "payloadType": content.payload_type,
        "signatures": [{"sig": encode_base64(content.signatures[0].sig), "keyid": content.signatures[0].keyid}],
    }
    return {"dsseEnvelope": envelope}
