# SPDX-License-Identifier: Apache-2.0
"""Bytes <-> statements, envelopes and ledger leaves, strictly."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError
from chopmark.statements.model import PAYLOAD_TYPE, STATEMENT_TYPE, Envelope, Signature, Statement, Subject

MAX_ENVELOPE_BYTES = 4 * 1024 * 1024
MAX_PAYLOAD_BYTES = 3 * 1024 * 1024
MAX_SIGNATURES = 64
MAX_SUBJECTS = 10_000
MAX_KEYID_CHARS = 128
MAX_EMBEDDED_BYTES = 60_000
"""Envelopes up to this length stand in the leaf itself; a leaf holds at most 65,535 bytes."""
MAX_LEAF_BYTES = 65_535


class _Signature(canonical.Strict, frozen=True, kw_only=True):
    sig: str
    keyid: str = ""


class _Envelope(canonical.Strict, frozen=True, kw_only=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[_Signature]


class _Subject(canonical.Strict, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str]


class _Statement(canonical.Strict, frozen=True, kw_only=True):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: dict[str, Any]


def encode_statement(statement: Statement) -> bytes:
    """Return the RFC 8785 bytes of an in-toto Statement v1."""
    return canonical.encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": s.name, "digest": {"sha256": s.digest.hex}} for s in statement.subjects],
            "predicateType": statement.predicate_type,
            "predicate": statement.predicate,
        }
    )


def decode_statement(data: bytes) -> Statement:
    """Read an in-toto Statement v1 whose subjects have a SHA-256.

    Raises:
        DecodeError: not such a statement.
    """
    wire = canonical.decode_as(data, _Statement, what="statement", max_bytes=MAX_PAYLOAD_BYTES)
    if wire.type != STATEMENT_TYPE or not 0 < len(wire.subject) <= MAX_SUBJECTS:
        raise DecodeError("statement: not an in-toto Statement v1 with a subject")
    if any(set(subject.digest) != {"sha256"} for subject in wire.subject):
        raise DecodeError("statement: a subject is named by SHA-256 alone")
    return Statement(
        subjects=tuple(Subject(s.name, Digest.from_hex(s.digest["sha256"])) for s in wire.subject),
        predicate_type=wire.predicate_type,
        predicate=wire.predicate,
    )


def envelope_json(envelope: Envelope) -> dict[str, object]:
    """Return the JSON object of a DSSE envelope, for a file of its own or inside a bundle or leaf."""
    return {
        "payload": canonical.encode_base64(envelope.payload),
        "payloadType": envelope.payload_type,
        "signatures": [{"keyid": s.keyid, "sig": canonical.encode_base64(s.sig)} for s in envelope.signatures],
    }


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the RFC 8785 bytes of a DSSE envelope."""
    return canonical.encode(envelope_json(envelope))


def decode_envelope(data: bytes) -> Envelope:
    """Read a DSSE envelope. Its payload is not looked into.

    Raises:
        DecodeError: not an envelope of an in-toto statement.
    """
    return _envelope(canonical.decode_as(data, _Envelope, what="envelope", max_bytes=MAX_ENVELOPE_BYTES))


def _envelope(wire: _Envelope) -> Envelope:
    if wire.payload_type != PAYLOAD_TYPE:
        raise DecodeError(f"envelope: {wire.payload_type[:80]!r} is not {PAYLOAD_TYPE}")
    if len(wire.signatures) > MAX_SIGNATURES or any(len(s.keyid) > MAX_KEYID_CHARS for s in wire.signatures):
        raise DecodeError(f"envelope: more than {MAX_SIGNATURES} signatures, or a key id that is too long")
    return Envelope(
        payload=canonical.decode_base64(wire.payload, what="envelope payload"),
        signatures=tuple(
            Signature(s.keyid, canonical.decode_base64(s.sig, what="envelope signature")) for s in wire.signatures
        ),
    )


def statement_leaf(envelope: Envelope) -> bytes:
    """Return the ledger leaf that records *envelope*: the envelope itself where it fits, else its digest."""
    encoded = encode_envelope(envelope)
    if len(encoded) <= MAX_EMBEDDED_BYTES:
        return canonical.encode({"v": 1, "kind": "statement", "envelope": envelope_json(envelope)})
    digest = str(Digest.of(encoded))
    return canonical.encode({"v": 1, "kind": "statement-digest", "envelope": digest, "length": len(encoded)})


def publication_leaf(snapshot: Digest) -> bytes:
    """Return the ledger leaf that makes a publication of the channel public, by its snapshot.json."""
    return canonical.encode({"v": 1, "kind": "channel", "snapshot": str(snapshot)})


class _StatementLeaf(canonical.Strict, frozen=True, tag_field="kind", tag="statement"):
    v: int
    envelope: _Envelope


class _DigestLeaf(canonical.Strict, frozen=True, tag_field="kind", tag="statement-digest"):
    v: int
    envelope: str
    length: int


class _ChannelLeaf(canonical.Strict, frozen=True, tag_field="kind", tag="channel"):
    v: int
    snapshot: str


_Leaf = _StatementLeaf | _DigestLeaf | _ChannelLeaf


class _PlainEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """As :class:`_Envelope`, with its members in the order of RFC 8785."""

    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[_PlainSignature]


class _PlainSignature(msgspec.Struct, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _PlainLeaf(msgspec.Struct, forbid_unknown_fields=True):
    envelope: _PlainEnvelope
    kind: Literal["statement"]
    v: Literal[1]


_PLAIN = msgspec.json.Decoder(_PlainLeaf)


def decode_leaf(data: bytes) -> Envelope | Digest | None:
    """Read a ledger leaf.

    Returns:
        The envelope that stands in it; or the digest of the encoded envelope that it names; or None for a publication.

    Raises:
        DecodeError: not a leaf of ours.
    """
    plain = _decode_plain(data)
    if plain is not None:
        return _envelope(plain)
    leaf: _Leaf = canonical.decode_as(data, _Leaf, what="ledger leaf", max_bytes=MAX_LEAF_BYTES, canonical=True)  # type: ignore[arg-type]
    if leaf.v != 1:
        raise DecodeError(f"ledger leaf: version {leaf.v} is not known here")
    match leaf:
        case _StatementLeaf():
            return _envelope(leaf.envelope)
        case _DigestLeaf():
            return Digest.parse(leaf.envelope)
        case _ChannelLeaf():
            Digest.parse(leaf.snapshot)
            return None


def _decode_plain(data: bytes) -> _Envelope | None:
    """Read the leaf that nearly all are, much faster; None where it is another one, or none.

    Plain text without an escape has one way to be written, and what is read is written again and compared: so these
    are the RFC 8785 bytes, whatever the fast reader would have let pass.
    """
    if len(data) > MAX_LEAF_BYTES or not data.isascii() or b"\\" in data:
        return None
    try:
        leaf = _PLAIN.decode(data)
    except msgspec.MsgspecError:
        return None
    if msgspec.json.encode(leaf) != data:
        return None
    signatures = [_Signature(sig=s.sig, keyid=s.keyid) for s in leaf.envelope.signatures]
    return _Envelope(payload=leaf.envelope.payload, payload_type=leaf.envelope.payload_type, signatures=signatures)


def decode_publication(data: bytes) -> Digest:
    """Read the leaf of a publication: the digest of its snapshot.json.

    Raises:
        DecodeError: not such a leaf.
    """
    # Among all leaves: of one kind alone, the member that names the kind could be left out.
    leaf: _Leaf = canonical.decode_as(data, _Leaf, what="ledger leaf", max_bytes=MAX_LEAF_BYTES, canonical=True)  # type: ignore[arg-type]
    if not isinstance(leaf, _ChannelLeaf) or leaf.v != 1:
        raise DecodeError("ledger leaf: not of a publication")
    return Digest.parse(leaf.snapshot)
