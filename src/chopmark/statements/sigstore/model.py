# SPDX-License-Identifier: Apache-2.0
"""What a Sigstore bundle holds. Nothing in it is believed by being read."""

from __future__ import annotations

from dataclasses import dataclass

from chopmark.artifacts import Digest
from chopmark.statements.model import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHint:
    """Signed by a key that the reader has from elsewhere; the hint names it and proves nothing."""

    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Signed by the key in a certificate.

    Attributes:
        chain: DER, the signer's first; at least one.
        alone: written as ``certificate``, the form of v0.3; otherwise as ``x509CertificateChain``.
    """

    chain: tuple[bytes, ...]
    alone: bool = True

    @property
    def leaf(self) -> bytes:
        return self.chain[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignature:
    """A signature over the artifact itself.

    Attributes:
        digest: of the artifact, as the bundle says; None where it says none.
    """

    digest: Digest | None
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle.

    Attributes:
        content: a signature over the artifact, or an envelope with one signature over a statement about it.
        entries: of transparency logs: each a ``TransparencyLogEntry`` in JSON, not looked into here.
        timestamps: RFC 3161 responses (DER) over the signature.
    """

    material: KeyHint | Certificates
    content: MessageSignature | Envelope
    entries: tuple[bytes, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    @property
    def signature(self) -> bytes:
        """The one signature: what is logged and timestamped."""
        if isinstance(self.content, MessageSignature):
            return self.content.signature
        return self.content.signatures[0].sig
