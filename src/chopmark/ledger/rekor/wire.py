# SPDX-License-Identifier: Apache-2.0
"""What Rekor v2 logs and answers, and how an entry of it, or of a log of ours, is verified. A second face, for tools.

    HashedRekord       the leaf: a digest, a signature over what has it, and the key        ``hashedrekord`` 0.0.2
    LogEntry           leaf, place, path and signed checkpoint in one JSON object           ``TransparencyLogEntry``

Rekor has no kind of leaf for an envelope: what it logs is the SHA-256 of the bytes that were signed (DSSE's encoding), one
leaf for each signature (:mod:`chopmark.ledger.rekor.records` makes them). The same leaf in a log of ours is read by Sigstore
clients as :func:`from_proof` writes it.

An entry is believed in nothing before :func:`verify_entry`: the caller says which leaf it expects, which keys the log has
and which witnesses are enough. What is logged is verified by nobody here: a leaf says that a key signed a digest.

Source: rekor-tiles CLIENTS.md; protobuf-specs sigstore_rekor.proto; specs: C2SP signed-note, tlog-checkpoint.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from chopmark import canonical
from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError, Refused, UsageError
from chopmark.keys import Algorithm, PublicKey
from chopmark.ledger.checkpoint import Checkpoint, decode_decimal, decode_hash
from chopmark.ledger.merkle import MAX_PATH
from chopmark.ledger.note import LineKind, VerifierKey, decode_note, log_key
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.proof import TlogProof
from chopmark.ledger.tiles import MAX_ENTRY_BYTES
from chopmark.ledger.verify import Included, verify_proof

KIND: Final = "hashedrekord"
VERSION: Final = "0.0.2"
_BEGINS: Final = b'{"apiVersion":"0.0.2","kind":"hashedrekord",'
P256: Final = "PKIX_ECDSA_P256_SHA_256"
MAX_LOG_ENTRY_BYTES: Final = 2 * 1024 * 1024
"""A note of the longest, its newlines escaped, beside a leaf of the longest."""

_HASHES: Final[Mapping[str, tuple[str, int]]] = {
    P256: ("SHA2_256", 32),
    "PKIX_ECDSA_P384_SHA_384": ("SHA2_384", 48),
    "PKIX_ECDSA_P521_SHA_512": ("SHA2_512", 64),
    "PKIX_ED25519_PH": ("SHA2_512", 64),
    "PKIX_RSA_PKCS1V15_2048_SHA256": ("SHA2_256", 32),
    "PKIX_RSA_PKCS1V15_3072_SHA256": ("SHA2_256", 32),
    "PKIX_RSA_PKCS1V15_4096_SHA256": ("SHA2_256", 32),
}
"""What Rekor v2 takes: how a key signs -> the hash that goes with it, and its length."""


_FIRST: Final = "0"
"""What a member that is left out says: clients in Go write no zeros."""


class _Raw(canonical.Strict, frozen=True, kw_only=True):
    raw: str = msgspec.field(name="rawBytes")


class _Verifier(canonical.Strict, frozen=True, kw_only=True):
    key_details: str = msgspec.field(name="keyDetails")
    public_key: _Raw | None = msgspec.field(name="publicKey", default=None)
    certificate: _Raw | None = msgspec.field(name="x509Certificate", default=None)


class _Signature(canonical.Strict, frozen=True, kw_only=True):
    content: str
    verifier: _Verifier


class _Data(canonical.Strict, frozen=True, kw_only=True):
    algorithm: str
    digest: str


class _Record(canonical.Strict, frozen=True, kw_only=True):
    data: _Data
    signature: _Signature


class _Spec(canonical.Strict, frozen=True, kw_only=True):
    record: _Record = msgspec.field(name="hashedRekordV002")


class _Leaf(canonical.Strict, frozen=True, kw_only=True):
    api_version: str = msgspec.field(name="apiVersion")
    kind: str
    spec: _Spec


class _LogId(canonical.Strict, frozen=True, kw_only=True):
    key_id: str = msgspec.field(name="keyId")


class _KindVersion(canonical.Strict, frozen=True, kw_only=True):
    kind: str
    version: str


class _Checkpoint(canonical.Strict, frozen=True, kw_only=True):
    envelope: str


class _Proof(canonical.Strict, frozen=True, kw_only=True):
    log_index: str = msgspec.field(name="logIndex", default=_FIRST)
    root_hash: str = msgspec.field(name="rootHash")
    tree_size: str = msgspec.field(name="treeSize")
    hashes: list[str] = []
    checkpoint: _Checkpoint


class _LogEntry(canonical.Strict, frozen=True, kw_only=True):
    log_index: str = msgspec.field(name="logIndex", default=_FIRST)
    log_id: _LogId = msgspec.field(name="logId")
    kind_version: _KindVersion = msgspec.field(name="kindVersion")
    integrated_time: str = msgspec.field(name="integratedTime", default="0")
    inclusion_promise: None = msgspec.field(name="inclusionPromise", default=None)
    inclusion_proof: _Proof = msgspec.field(name="inclusionProof")
    body: str = msgspec.field(name="canonicalizedBody")


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedRekord:
    """A leaf: *verifier* signed something that has this digest. Nothing in it is verified by being read.

    Attributes:
        digest: of the bytes that were signed, by the hash that *key_details* names.
        verifier: DER: a SubjectPublicKeyInfo, or the certificate that holds it.
        key_details: the key's kind, as Sigstore spells it.
    """

    digest: bytes
    signature: bytes
    verifier: bytes
    certificate: bool = False
    key_details: str = P256

    def __post_init__(self) -> None:
        if self.key_details not in _HASHES:
            raise DecodeError(f"{KIND}: {self.key_details[:60]!r} is not a kind of signature that is logged")
        if len(self.digest) != _HASHES[self.key_details][1] or not self.signature or not self.verifier:
            raise DecodeError(f"{KIND}: a digest of another length, or no signature or key")

    def encode(self) -> bytes:
        """Return the leaf's bytes (RFC 8785)."""
        data = {"algorithm": _HASHES[self.key_details][0], "digest": encode_base64(self.digest)}
        record = {"data": data, "signature": self._signature()}
        return canonical.encode({"apiVersion": VERSION, "kind": KIND, "spec": {"hashedRekordV002": record}})

    def request(self) -> bytes:
        """Return what asks Rekor to log it: the body of ``POST /api/v2/log/entries``."""
        record = {"digest": encode_base64(self.digest), "signature": self._signature()}
        return canonical.encode({"hashedRekordRequestV002": record})

    @classmethod
    def decode(cls, data: bytes) -> HashedRekord:
        """Read a leaf.

        Raises:
            DecodeError: not a ``hashedrekord`` 0.0.2 in the one form that it has.
        """
        leaf = canonical.decode_as(data, _Leaf, what=KIND, max_bytes=MAX_ENTRY_BYTES)
        if (leaf.kind, leaf.api_version) != (KIND, VERSION):
            raise DecodeError(f"{KIND}: {leaf.kind[:40]!r} {leaf.api_version[:20]!r} is not known here")
        signature = leaf.spec.record.signature
        key, certificate = signature.verifier.public_key, signature.verifier.certificate
        raw = key or certificate
        if raw is None or (key is not None and certificate is not None):
            raise DecodeError(f"{KIND}: a verifier is a public key or a certificate")
        found = cls(
            digest=decode_base64(leaf.spec.record.data.digest, what="digest"),
            signature=decode_base64(signature.content, what="signature"),
            verifier=decode_base64(raw.raw, what="verifier"),
            certificate=certificate is not None,
            key_details=signature.verifier.key_details,
        )
        if found.encode() != data:  # also: another order, another hash than the key's, members nobody reads
            raise DecodeError(f"{KIND}: not in its one form")
        return found

    def _signature(self) -> dict[str, object]:
        place = "x509Certificate" if self.certificate else "publicKey"
        verifier = {"keyDetails": self.key_details, place: {"rawBytes": encode_base64(self.verifier)}}
        return {"content": encode_base64(self.signature), "verifier": verifier}


def is_hashed_rekord(leaf: bytes) -> bool:
    """Tell whether *leaf* is a ``hashedrekord`` in its one form; all others are somebody else's."""
    if not leaf.startswith(_BEGINS):
        return False
    try:
        HashedRekord.decode(leaf)
    except DecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A ``TransparencyLogEntry``: what Sigstore bundles carry. Nothing in it is verified by being read.

    Attributes:
        index: 0-based.
        log_id: the whole hash whose first bytes are the key id in the checkpoint's line.
        path: sibling hashes, leaf side first.
        checkpoint_note: the signed note, verbatim.
        body: the leaf's bytes.
    """

    index: int
    log_id: bytes
    path: tuple[bytes, ...]
    checkpoint_note: bytes
    body: bytes

    @property
    def proof(self) -> TlogProof:
        """The same without leaf and log id."""
        return TlogProof(index=self.index, path=self.path, checkpoint_note=self.checkpoint_note)

    def encode(self) -> bytes:
        """Return the JSON, as protobuf spells it.

        Raises:
            DecodeError: the checkpoint is none.
        """
        checkpoint = Checkpoint.decode(decode_note(self.checkpoint_note).text)
        proof = {
            "logIndex": str(self.index),
            "rootHash": encode_base64(checkpoint.root),
            "treeSize": str(checkpoint.size),
            "hashes": [encode_base64(value) for value in self.path],
            "checkpoint": {"envelope": self.checkpoint_note.decode("utf-8")},
        }
        return canonical.encode(
            {
                "logIndex": str(self.index),
                "logId": {"keyId": encode_base64(self.log_id)},
                "kindVersion": {"kind": KIND, "version": VERSION},
                "integratedTime": "0",
                "inclusionProof": proof,
                "canonicalizedBody": encode_base64(self.body),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> LogEntry:
        """Read a ``TransparencyLogEntry`` of a ``hashedrekord`` 0.0.2.

        What it says twice (index, size, root) has to be the same both times: other readers may look at the other.

        Raises:
            DecodeError: not such an entry: another kind, a time or promise that Rekor v2 does not give, no proof.
        """
        wire = canonical.decode_as(data, _LogEntry, what="log entry", max_bytes=MAX_LOG_ENTRY_BYTES)
        if (wire.kind_version.kind, wire.kind_version.version) != (KIND, VERSION):
            raise DecodeError(f"log entry: not a {KIND} {VERSION}")
        if wire.integrated_time != "0":
            raise DecodeError("log entry: a time that no signature covers")
        proof = wire.inclusion_proof
        if len(proof.hashes) > MAX_PATH:
            raise DecodeError("log entry: too many hashes")
        body = decode_base64(wire.body, what="log entry body")
        if len(body) > MAX_ENTRY_BYTES:
            raise DecodeError("log entry: the body is longer than an entry can be")
        entry = cls(
            index=decode_decimal(wire.log_index, what="log entry index"),
            log_id=decode_hash(wire.log_id.key_id, what="log id"),
            path=tuple(decode_hash(value, what="log entry hash") for value in proof.hashes),
            checkpoint_note=proof.checkpoint.envelope.encode("utf-8"),
            body=body,
        )
        checkpoint = Checkpoint.decode(decode_note(entry.checkpoint_note).text)
        said = (proof.log_index, proof.tree_size, proof.root_hash)
        if said != (wire.log_index, str(checkpoint.size), encode_base64(checkpoint.root)):
            raise DecodeError("log entry: its index, size or root is not that of its checkpoint")
        return entry


def rekor_key(origin: str, public: PublicKey) -> VerifierKey:
    """Return the verifier key of a Rekor v2 log: Ed25519, or P-256.

    Raises:
        UsageError: another algorithm.
        DecodeError: *origin* is no name.
    """
    if public.algorithm is Algorithm.ECDSA_P256:
        return VerifierKey(name=origin, kind=LineKind.ECDSA, public=public)
    if public.algorithm is Algorithm.ED25519:
        return log_key(origin, public)
    raise UsageError(f"{origin}: no Rekor log signs with {public.algorithm}", hint="its key is Ed25519 or P-256")


def verify_entry(
    entry: LogEntry, leaf: bytes, *, origin: str, require: Sequence[str | VerifierKey], policy: WitnessPolicy
) -> Included:
    """Check that *leaf* is what *entry* proves, and stands in the log *origin*.

    Args:
        leaf: recomputed by the caller from what was signed; never taken from the entry.
        require: keys of the log that must *all* have signed; the entry's log id is that of one of them.
        policy: which witnesses are enough.

    Raises:
        UsageError, Refused: as :func:`chopmark.ledger.verify_proof`.
    """
    if not hmac.compare_digest(entry.body, leaf):
        raise Refused("log-unproven", "the entry is about something else", hint="is it the entry of this signature?")
    found = verify_proof(entry.proof.encode(), leaf, origin=origin, require=require, policy=policy)
    keys = [key if isinstance(key, VerifierKey) else VerifierKey.decode(key) for key in require]
    if entry.log_id not in {key.key_hash for key in keys}:
        raise Refused("log-unproven", "the entry names another log than the one that signed it")
    return found


def from_proof(proof: bytes, leaf: bytes, *, key: VerifierKey) -> LogEntry:
    """Return the ``TransparencyLogEntry`` of a ``hashedrekord`` in a log of ours, as Sigstore clients verify it.

    Args:
        proof: a ``.tlog-proof`` that the caller verified for *leaf*.
        key: the log's Ed25519 key: Sigstore clients know one key for a log, and pass over lines of others.

    Raises:
        UsageError: another key.
        DecodeError: *leaf* is no ``hashedrekord``, or *proof* is none.
    """
    if key.kind is not LineKind.ED25519:
        raise UsageError(f"{key.name}: Sigstore clients need the log's Ed25519 key")
    HashedRekord.decode(leaf)
    found = TlogProof.decode(proof)
    return LogEntry(
        index=found.index,
        log_id=key.key_hash,
        path=found.path,
        checkpoint_note=found.checkpoint_note,
        body=leaf,
    )
