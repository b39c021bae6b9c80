# SPDX-License-Identifier: Apache-2.0
"""Is an artifact signed by this key, in this bundle? Pure; a signature says nothing about when, or whether it was logged.

A certificate is read here for its key alone. Who it was given to, by whom and when it was valid is the decision of
Sigstore's own library, behind :class:`chopmark.statements.sigstore.ports.Sigstore`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from chopmark.artifacts import Digest
from chopmark.canonical import encode_base64
from chopmark.errors import DecodeError, UsageError, VerificationError, foreign
from chopmark.keys import Algorithm, PublicKey
from chopmark.statements.model import STATEMENT_TYPE, Envelope
from chopmark.statements.sigstore.model import Bundle, Certificates, KeyHint, MessageSignature
from chopmark.statements.wire import MAX_PAYLOAD_BYTES, MAX_SUBJECTS

_TYPES: Final = frozenset({STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1"})
"""cosign still writes the older; subjects are the same in both."""
_HINT: Final = "do not use this file; get file and bundle anew from whoever signed them"


class _Subject(msgspec.Struct, frozen=True, kw_only=True):
    digest: dict[str, str] = {}


class _Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's statement: read for its subjects alone, so that predicates of any kind pass."""

    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str = msgspec.field(name="predicateType")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What was verified, and what a log entry of it has to be about.

    Attributes:
        digest: of the bytes that were signed: the artifact, or DSSE's encoding of the envelope.
        verifier: DER: the SubjectPublicKeyInfo, or the certificate where the bundle has one.
        predicate_type: of the statement; empty where the artifact itself was signed.
    """

    digest: Digest
    signature: bytes
    verifier: bytes
    certificate: bool
    predicate_type: str = ""


def bundle_of(
    content: MessageSignature | Envelope, public: PublicKey, *, certificate: bytes | None = None, hint: str = ""
) -> Bundle:
    """Return a bundle without log entry around what *public* signed.

    Args:
        certificate: the signer's (DER); None for a key that verifiers have from elsewhere.
        hint: which key that is; default: as cosign names it.

    Raises:
        UsageError: a key that Sigstore's clients do not know, or the certificate is of another key.
        DecodeError: *certificate* is none.
    """
    if public.algorithm is not Algorithm.ECDSA_P256:
        raise UsageError(
            f"Sigstore's clients do not verify {public.algorithm} in a bundle that is logged",
            code="not-loggable",
            hint="sign with an ecdsa-p256 key too",
        )
    if certificate is not None:
        if certified_key(certificate) != public:
            raise UsageError("the certificate is of another key", hint="the signer's certificate stands first")
        return Bundle(material=Certificates(chain=(certificate,)), content=content)
    # By it a reader that has several keys finds the one to try.
    named = hint or encode_base64(hashlib.sha256(public.spki).digest())
    return Bundle(material=KeyHint(hint=named), content=content)


def verify_bundle(bundle: Bundle, artifact: Digest, key: PublicKey) -> Signed:
    """Check that *key* signed *artifact*, directly or by a statement that names it.

    Raises:
        VerificationError: ``bad-signature``; ``bundle-mismatch``: signed over another artifact; ``wrong-key``: the bundle's
            certificate is of another key.
        DecodeError: its certificate or statement cannot be read.
    """
    verifier, certified = key.spki, isinstance(bundle.material, Certificates)
    if isinstance(bundle.material, Certificates):
        verifier = bundle.material.leaf
        if certified_key(verifier) != key:
            raise VerificationError("the certificate in the bundle is of another key", code="wrong-key", hint=_HINT)
    content = bundle.content
    if isinstance(content, MessageSignature):
        if content.digest not in (None, artifact):
            raise VerificationError("the bundle is about another file", code="bundle-mismatch", hint=_HINT)
        digest, predicate_type = artifact, ""
        good = key.verify_digest(content.signature, artifact.value)
    else:
        digest, good = Digest.of(content.message), key.verify(bundle.signature, content.message)
        predicate_type = ""
    if not good:
        raise VerificationError(
            "the signature in the bundle is not this key's over this file", code="bad-signature", hint=_HINT
        )
    if isinstance(content, Envelope):
        predicate_type = check_about(content.payload, artifact)
    return Signed(
        digest=digest,
        signature=bundle.signature,
        verifier=verifier,
        certificate=certified,
        predicate_type=predicate_type,
    )


def certified_key(certificate: bytes) -> PublicKey:
    """Return the key in a certificate (DER).

    Raises:
        DecodeError: not a certificate, or of a key that is not used here.
    """
    # The library raises errors of its own, of OpenSSL's and of its parser's, depending on which byte is wrong.
    with foreign(DecodeError, "not a certificate", code=DecodeError.code, hint=DecodeError.default_hint):
        found = x509.load_der_x509_certificate(certificate)
        if found.public_bytes(serialization.Encoding.DER) != certificate:
            raise DecodeError("a certificate that is not in its one DER form")
        return PublicKey.of(found.public_key())


def read_certificates(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificates (DER) of a PEM file.

    Raises:
        DecodeError: there are none.
    """
    with foreign(DecodeError, "not certificates (PEM)", code=DecodeError.code, hint=DecodeError.default_hint):
        found = x509.load_pem_x509_certificates(pem)
    return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in found)


def check_about(payload: bytes, artifact: Digest) -> str:
    """Check that the statement in *payload* names *artifact*; return its predicate type.

    Raises:
        VerificationError: ``bundle-mismatch``: it does not.
        DecodeError: not an in-toto Statement.
    """
    statement = _read_statement(payload)
    if statement.type not in _TYPES or not 0 < len(statement.subject) <= MAX_SUBJECTS:
        raise DecodeError("statement in the bundle: not an in-toto Statement with a subject")
    if not any(subject.digest.get("sha256") == artifact.hex for subject in statement.subject):
        raise VerificationError("the statement in the bundle is about another file", code="bundle-mismatch", hint=_HINT)
    return statement.predicate_type


def _read_statement(payload: bytes) -> _Statement:
    """Read somebody's statement; unlike in ours, numbers in its predicate may be of any kind."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DecodeError(f"statement in the bundle: more than the {MAX_PAYLOAD_BYTES:,} bytes allowed")
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_members)
        return msgspec.convert(value, _Statement, strict=True)
    except (ValueError, RecursionError) as error:  # msgspec's error is a ValueError
        raise DecodeError(f"statement in the bundle: not one ({type(error).__name__})") from error


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DecodeError("statement in the bundle: a member stands twice")
    return members
