# SPDX-License-Identifier: Apache-2.0
"""Who signed a bundle: somebody whom an authority certified (X.509, RFC 5280), as far as bundles need it.

``cryptography.x509.verification`` knows servers and clients only, and neither P-521 nor a signer that is marked as an
authority, which is how model_signing's own test certificates are made. So the path is checked here, and narrowly: an
extension that is critical and not understood refuses the path. There is no revocation: bundles carry no time to judge it by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from chopmark.errors import DecodeError, UsageError, printable
from chopmark.statements.oms.keys import OmsKey
from chopmark.statements.oms.model import Bundle, OmsFailure, refused

T = TypeVar("T", bound=x509.ExtensionType)

MAX_DEPTH: Final = 8
"""Certificates between the signer's and the authority's, at most."""

_UNDERSTOOD: Final = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
_ASK: Final = "ask the signer for a certificate that code can be signed with"
_WHICH: Final = "name the authority that certified the signer: --certificate-chain ca.pem"
_MIN_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class OmsAuthorities:
    """Certificates of authorities that are trusted, and the time at which everything has to be valid."""

    certificates: tuple[x509.Certificate, ...]
    now: datetime

    @classmethod
    def read(cls, pem: bytes, *, now: datetime) -> OmsAuthorities:
        """Read authorities' certificates from PEM.

        Args:
            now: aware, UTC.

        Raises:
            UsageError: none in it, or one that may not certify anybody.
        """
        try:
            found = tuple(x509.load_pem_x509_certificates(pem))
            anchors = [certificate for certificate in found if _certifies(certificate, below=0)]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError("no certificates (PEM)", hint=_WHICH) from error
        if not found or len(anchors) < len(found):
            raise UsageError("a certificate in it is not that of an authority", hint=_WHICH)
        return cls(certificates=found, now=now)

    def check(self, bundle: Bundle) -> str:
        """Check that a certified key signed *bundle*, and return what to call the signer.

        Raises:
            VerificationError: ``oms-material``, ``oms-certificate``, ``oms-certificate-expired``, ``oms-certificate-use``
                or ``oms-unsigned``.
        """
        if not bundle.chain:
            raise refused(
                OmsFailure.MATERIAL,
                "signed by a bare key, and not with a certificate",
                hint="name the key: --key KEY.pub",
            )
        try:
            leaf, *others = (x509.load_der_x509_certificate(der) for der in bundle.chain)
            key = OmsKey.of(leaf.public_key())
            _check_use(leaf)
            path = _path(leaf, others, self.certificates)
        except DecodeError:
            raise
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            raise DecodeError("OMS bundle: a certificate that cannot be read") from error
        for certificate in path:
            self._check_time(certificate)
        if not key.signed(bundle):
            raise refused(OmsFailure.UNSIGNED, "not signed with the certificate that it carries")
        return _title(leaf)

    def _check_time(self, certificate: x509.Certificate) -> None:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begins <= self.now <= ends:
            raise refused(
                OmsFailure.CERTIFICATE_EXPIRED,
                f"the certificate of {_title(certificate)} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d} only",
                hint="sign it again with a certificate that is valid; check the clock",
            )


def _path(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """Return the certificates from *leaf* to one of *anchors*, each issued by the next.

    Certificates of the bundle are taken in any order, each once, so that the search ends.
    """
    path, left = [leaf], list(others)
    while len(path) <= MAX_DEPTH:
        below = len(path) - 1
        issuer = next((a for a in anchors if _issued(path[-1], a, below=below)), None)
        if issuer is not None:
            return [*path, issuer]
        issuer = next((o for o in left if _issued(path[-1], o, below=below)), None)
        if issuer is None:
            break
        left.remove(issuer)
        path.append(issuer)
    raise refused(
        OmsFailure.CERTIFICATE,
        f"no path from the certificate of {_title(leaf)} to an authority that was named",
        hint="get the authority's certificates from the authority; those in a bundle prove nothing",
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, *, below: int) -> bool:
    """Tell whether *issuer* certified *certificate*, and may: *below* authorities stand between it and the signer."""
    if certificate.issuer != issuer.subject or not _certifies(issuer, below=below) or not _strong(certificate, issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _certifies(certificate: x509.Certificate, *, below: int) -> bool:
    """Tell whether *certificate* is an authority's: basic constraints, path length, key usage, nothing critical unknown."""
    if not _understood(certificate):
        return False
    basic = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if basic is None or not basic.ca or (basic.path_length is not None and basic.path_length < below):
        return False
    return usage is None or usage.key_cert_sign


def _strong(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether *issuer*'s key and the hash it signed with still hold."""
    match issuer.public_key():
        case ed25519.Ed25519PublicKey():
            return True
        case rsa.RSAPublicKey() as key if key.key_size < _MIN_RSA_BITS:
            return False
        case rsa.RSAPublicKey() | ec.EllipticCurvePublicKey():
            algorithm = certificate.signature_hash_algorithm
            return isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512)
        case _:
            return False


def _check_use(leaf: x509.Certificate) -> None:
    """Check that *leaf* says that it signs: where it names uses, they include this one; and it names one."""
    usage, extended = _extension(leaf, x509.KeyUsage), _extension(leaf, x509.ExtendedKeyUsage)
    signs = usage is None or usage.digital_signature
    code = extended is None or x509.oid.ExtendedKeyUsageOID.CODE_SIGNING in extended
    if not _understood(leaf) or (usage is None and extended is None) or not (signs and code):
        raise refused(OmsFailure.CERTIFICATE_USE, f"the certificate of {_title(leaf)} is not for signing", hint=_ASK)


def _understood(certificate: x509.Certificate) -> bool:
    return not any(e.critical and not isinstance(e.value, _UNDERSTOOD) for e in certificate.extensions)


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _title(certificate: x509.Certificate) -> str:
    """Return the certificate's subject, and the beginning of its SHA-256."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return f"{printable(certificate.subject.rfc4514_string()) or 'nobody'} ({hashlib.sha256(der).hexdigest()[:8]})"
