# SPDX-License-Identifier: Apache-2.0
"""What Sigstore's own library is needed for: identities in certificates, timestamps, keyless signing.

Guarantee of every method: an error of ours, whatever the library raises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.errors import UndecidedError, VerificationError, foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who may have signed: exactly this subject, as exactly this issuer knows it."""

    subject: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What the library verified.

    Attributes:
        index: of the log entry.
        valid_from: when the signer's certificate began to be valid.
        predicate_type: of the statement; empty where the artifact itself was signed.
    """

    index: int
    valid_from: datetime
    predicate_type: str = ""


class Sigstore(ABC):
    """Sigstore's client, told whom to trust by the caller; verifying reads no network and no file."""

    @abstractmethod
    def _verify(self, artifact: Digest, bundle: bytes, trusted_root: bytes, identity: Identity) -> Verified: ...

    @abstractmethod
    def _sign(self, artifact: Digest, trust_config: bytes, token: str) -> bytes: ...

    @abstractmethod
    def _timestamp(self, signature: bytes, url: str) -> bytes: ...

    def verify(self, artifact: Digest, bundle: bytes, *, trusted_root: bytes, identity: Identity) -> Verified:
        """Check certificate, time, log entry and signature of *bundle*.

        Raises:
            VerificationError: ``sigstore-refused``, with the library's words.
        """
        with foreign(VerificationError, "Sigstore does not verify it", code="sigstore-refused", quote=True):
            return self._verify(artifact, bundle, trusted_root, identity)

    def sign(self, artifact: Digest, *, trust_config: bytes, token: str) -> bytes:
        """Return a bundle by a certificate that the configured Fulcio gives to whom *token* names.

        Args:
            trust_config: a ``ClientTrustConfig``: which Fulcio, log and timestamp authority, and their keys.
            token: an OpenID Connect identity token: a secret until it expires.

        Raises:
            UndecidedError: ``not-signed``: one of them refused, or does not answer. The token is never quoted.
        """
        hint = "is the token fresh and meant for sigstore? do Fulcio, log and timestamp authority answer?"
        with foreign(UndecidedError, "Sigstore did not sign it", code="not-signed", hint=hint, quote=False):
            return self._sign(artifact, trust_config, token)

    def timestamp(self, signature: bytes, *, url: str) -> bytes:
        """Return an RFC 3161 response (DER) over *signature*; the caller's verifiers decide whether they trust it.

        Raises:
            UndecidedError: ``no-timestamp``: the authority at *url* gives none.
        """
        hint = "check the address; it is called with an RFC 3161 query"
        with foreign(UndecidedError, f"no timestamp from {url}", code="no-timestamp", hint=hint, quote=True):
            return self._timestamp(signature, url)
