# SPDX-License-Identifier: Apache-2.0
"""Who signed a bundle: a key that is known beforehand, on one of the three curves of OMS.

P-384 and P-521 are read here and nowhere else: they sign bundles that stock tools made, and never count for a role.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chopmark.errors import DecodeError
from chopmark.keys import PublicKey
from chopmark.statements.model import PAYLOAD_TYPE, pae
from chopmark.statements.oms.model import Bundle, OmsFailure, refused
from chopmark.statements.oms.wire import OLD_PREDICATE

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_COMPARE: Final = "compare the key with the signer's own copy"


@dataclass(frozen=True, slots=True)
class OmsKey:
    """A public key that bundles are verified with.

    Attributes:
        pem: its SubjectPublicKeyInfo.
    """

    pem: bytes
    _key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: object) -> OmsKey:
        """Wrap a key object of ``cryptography``.

        Raises:
            DecodeError: it is not on P-256, P-384 or P-521.
        """
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise DecodeError("a key that signs no OMS bundle", hint="OMS knows ECDSA keys on P-256, P-384 and P-521")
        return cls(
            key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            key,
        )

    @classmethod
    def read(cls, pem: bytes) -> OmsKey:
        """Read a public key from PEM.

        Raises:
            DecodeError: not PEM, or a key of another kind.
        """
        try:
            return cls.of(serialization.load_pem_public_key(pem))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise DecodeError("not a public key (PEM)") from error

    @classmethod
    def from_public(cls, key: PublicKey) -> OmsKey:
        """Take a key of ours.

        Raises:
            DecodeError: it is no P-256 key.
        """
        return cls.read(key.pem.encode("ascii"))

    @property
    def hint(self) -> str:
        """How bundles name the key: SHA-256 of its PEM, hex."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def title(self) -> str:
        """The key, for people."""
        return f"key {self.hint[:8]}"

    def check(self, bundle: Bundle) -> str:
        """Check that this key signed *bundle*, and return what to call the signer.

        Raises:
            VerificationError: ``oms-material``, ``oms-key-mismatch`` or ``oms-unsigned``.
        """
        if bundle.chain:
            raise refused(
                OmsFailure.MATERIAL,
                "signed with a certificate, and not by a bare key",
                hint="name the certificates of the authority that you trust: --certificate-chain ca.pem",
            )
        named = bundle.hint or (hashlib.sha256(bundle.raw_key).hexdigest() if bundle.raw_key else self.hint)
        if named != self.hint:
            raise refused(OmsFailure.KEY, "signed by another key", hint=_COMPARE, named=named, given=self.hint)
        if not self.signed(bundle):
            raise refused(OmsFailure.UNSIGNED, "not signed by this key", hint=_COMPARE)
        return self.title

    def signed(self, bundle: Bundle) -> bool:
        """Tell whether this key signed *bundle*: its payload, in DSSE's encoding."""
        usual = _HASHES[self._key.curve.name]
        if self._verify(bundle.signature, pae(PAYLOAD_TYPE, bundle.payload), usual):
            return True
        # model_signing 0.2 signed Python's way of writing the payload down, and with SHA-256 whatever the curve. It is as
        # binding: no other payload is written so. Taken for statements of that time alone.
        if OLD_PREDICATE.encode() not in bundle.payload:
            return False
        old = f"DSSEV1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(bundle.payload)} {bundle.payload!r}".encode()
        return self._verify(bundle.signature, old, hashes.SHA256())

    def _verify(self, signature: bytes, message: bytes, algorithm: hashes.HashAlgorithm) -> bool:
        try:
            self._key.verify(signature, message, ec.ECDSA(algorithm))
        except (InvalidSignature, ValueError):
            return False
        return True
