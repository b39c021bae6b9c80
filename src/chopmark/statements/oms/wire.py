# SPDX-License-Identifier: Apache-2.0
"""Bundle bytes -> :class:`Bundle`, payload bytes -> :class:`Listing`: what model_signing wrote since 0.2, and no more.

A payload lists up to hundreds of thousands of files. It is first read by msgspec alone, which is twenty times as fast as
the strict reader of :mod:`chopmark.canonical` and does not see a member that stands twice. So its colons are counted: in
JSON without a backslash every one belongs to a member or to a text that was read. Where the count differs, or the shape is
not the usual one, the strict reader decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from chopmark import canonical
from chopmark.artifacts import Digest, check_file_name
from chopmark.errors import DecodeError
from chopmark.statements.model import PAYLOAD_TYPE, STATEMENT_TYPE, PredicateType
from chopmark.statements.oms.model import MAX_BUNDLE_BYTES, Bundle, Listing, OmsFailure, malformed

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_BUNDLE_TYPES: Final = frozenset(
    {
        BUNDLE_TYPE,
        *(f"application/vnd.dev.sigstore.bundle+json;version=0.{number}" for number in (1, 2, 3)),
    }
)
OLD_PREDICATE: Final = "https://model_signing/Digests/v0.1"
"""What model_signing 0.2 signed: the files are the subjects, and there is no root digest."""

_MAX_CHAIN: Final = 16
_ODD_NAME: Final = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x09\x0b-\x1f\x7f\\]", re.MULTILINE)
_SHARD: Final = "whole files alone are read (method files): stock tools cannot read their own shards back"
_HASHES: Final = "only SHA-256 is read; sign it again with the default hash, which every stock tool can read back"


class _KeyWire(msgspec.Struct, frozen=True, kw_only=True):
    hint: str | None = None
    raw_bytes: str | None = msgspec.field(default=None, name="rawBytes")


class _CertificateWire(msgspec.Struct, frozen=True, kw_only=True):
    raw_bytes: str = msgspec.field(name="rawBytes")


class _ChainWire(msgspec.Struct, frozen=True, kw_only=True):
    certificates: list[_CertificateWire]


class _MaterialWire(msgspec.Struct, frozen=True, kw_only=True):
    public_key: _KeyWire | None = msgspec.field(default=None, name="publicKey")
    chain: _ChainWire | None = msgspec.field(default=None, name="x509CertificateChain")
    certificate: _CertificateWire | None = None


class _SignatureWire(msgspec.Struct, frozen=True, kw_only=True):
    sig: str


class _DsseWire(msgspec.Struct, frozen=True, kw_only=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[_SignatureWire]


class _BundleWire(msgspec.Struct, frozen=True, kw_only=True):
    media_type: str = msgspec.field(name="mediaType")
    material: _MaterialWire = msgspec.field(name="verificationMaterial")
    envelope: _DsseWire = msgspec.field(name="dsseEnvelope")


class _ResourceWire(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    algorithm: str


class _SerializationWire(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    hash_type: str
    ignore_paths: list[str] = []


class _PredicateWire(msgspec.Struct, frozen=True, kw_only=True):
    resources: list[_ResourceWire]
    serialization: _SerializationWire


class _SubjectWire(msgspec.Struct, frozen=True, kw_only=True):
    digest: dict[str, str]
    name: str = ""


class _StatementWire(msgspec.Struct, frozen=True, kw_only=True):
    type: str = msgspec.field(name="_type")
    subject: list[_SubjectWire]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: _PredicateWire


class _OldStatementWire(msgspec.Struct, frozen=True, kw_only=True):
    type: str = msgspec.field(name="_type")
    subject: list[_SubjectWire]
    predicate_type: str = msgspec.field(name="predicateType")


# The usual shape, exactly: every member of it is counted in _usual_colons.


class _UsualResource(_ResourceWire, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _UsualSerialization(_SerializationWire, frozen=True, kw_only=True, forbid_unknown_fields=True):
    allow_symlinks: bool
    ignore_paths: list[str] | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]


class _UsualPredicate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    resources: list[_UsualResource]
    serialization: _UsualSerialization


class _UsualDigest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sha256: str


class _UsualSubject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    digest: _UsualDigest


class _UsualStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str = msgspec.field(name="_type")
    subject: tuple[_UsualSubject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: _UsualPredicate


_USUAL: Final = msgspec.json.Decoder(_UsualStatement)


def decode_bundle(data: bytes) -> Bundle:
    """Read a bundle; its payload is not looked into.

    Raises:
        DecodeError: no such bundle, or one with two signatures or two kinds of key material (``oms-signatures``,
            ``oms-material``), or beyond :data:`MAX_BUNDLE_BYTES`.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise malformed(OmsFailure.TOO_LARGE, f"more than the {MAX_BUNDLE_BYTES:,} bytes allowed")
    wire = canonical.decode_as(data, _BundleWire, what="OMS bundle", max_bytes=MAX_BUNDLE_BYTES)
    if wire.media_type not in _BUNDLE_TYPES or wire.envelope.payload_type != PAYLOAD_TYPE:
        raise DecodeError("OMS bundle: an unknown kind of bundle or payload")
    if len(wire.envelope.signatures) != 1:
        raise malformed(
            OmsFailure.SIGNATURES,
            f"{len(wire.envelope.signatures)} signatures; stock verifiers look at the first only, so exactly one is allowed",
            hint="one signer, one bundle: ask each signer for a bundle of their own",
        )
    _check_material(wire.material)
    key, chain = wire.material.public_key or _KeyWire(), wire.material.chain
    certificates = [] if chain is None else [certificate.raw_bytes for certificate in chain.certificates]
    return Bundle(
        payload=canonical.decode_base64(wire.envelope.payload, what="OMS payload"),
        signature=canonical.decode_base64(wire.envelope.signatures[0].sig, what="OMS signature"),
        chain=tuple(canonical.decode_base64(text, what="OMS certificate") for text in certificates),
        hint=key.hint or "",
        raw_key=canonical.decode_base64(key.raw_bytes or "", what="OMS key"),
    )


def _check_material(wire: _MaterialWire) -> None:
    kinds = [kind for kind in (wire.public_key, wire.chain, wire.certificate) if kind is not None]
    if len(kinds) != 1:
        raise malformed(OmsFailure.MATERIAL, f"{len(kinds)} kinds of key material; it must name one key or one chain")
    if wire.certificate is not None:
        raise malformed(
            OmsFailure.MATERIAL,
            "signed by an identity through Sigstore, not by a key or a certificate of its own",
            hint="model_signing verify sigstore … --identity … --identity_provider … checks such bundles",
        )
    if wire.chain is not None and not 1 <= len(wire.chain.certificates) <= _MAX_CHAIN:
        raise malformed(OmsFailure.MATERIAL, f"a chain of {len(wire.chain.certificates)} certificates")


def decode_listing(payload: bytes) -> Listing:
    """Read the statement in a bundle.

    Raises:
        DecodeError: no such statement, or one with its own name: a method or a hash that is not read, a name that leaves
            the folder, an order that is none, a name that stands twice, a root digest of other files.
    """
    statement: _UsualStatement | _StatementWire | None = _usual(payload)
    if statement is None:
        value = canonical.decode(payload, what="OMS statement", max_bytes=MAX_BUNDLE_BYTES)
        if isinstance(value, dict) and value.get("predicateType") == OLD_PREDICATE:
            return _old_listing(canonical.convert(value, _OldStatementWire, what="OMS statement"))
        _check_method(value)
        statement = canonical.convert(value, _StatementWire, what="OMS statement")
    if statement.type != STATEMENT_TYPE or statement.predicate_type != PredicateType.OMS or len(statement.subject) != 1:
        raise DecodeError("OMS bundle: not a statement over the files of one model")
    predicate, subject = statement.predicate, statement.subject[0]
    _check_method({"predicate": {"serialization": msgspec.to_builtins(predicate.serialization)}})
    _check_algorithms({resource.algorithm for resource in predicate.resources})
    names = [resource.name for resource in predicate.resources]
    _check_names(names)
    raw = _digests([resource.digest for resource in predicate.resources])
    root = Digest.of(raw)
    claimed = {"sha256": subject.digest.sha256} if isinstance(subject, _UsualSubject) else subject.digest
    if claimed != {"sha256": root.hex}:
        raise malformed(OmsFailure.ROOT, "its root digest is not that of the files it lists")
    return Listing(
        subject=subject.name,
        files={name: raw[32 * at : 32 * at + 32] for at, name in enumerate(names)},
        root=root,
        ignored=tuple(predicate.serialization.ignore_paths or ()),
    )


def _usual(payload: bytes) -> _UsualStatement | None:
    """Return *payload* where it has the usual shape and no member twice; None where the strict reader has to look."""
    if b"\\" in payload:
        return None
    try:
        statement = _USUAL.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return statement if payload.count(b":") == _usual_colons(statement) else None


def _usual_colons(statement: _UsualStatement) -> int:
    """Return how many colons JSON without escapes has that says *statement* with every member once."""
    subject, predicate = statement.subject[0], statement.predicate
    how, resources = predicate.serialization, predicate.resources
    ignored = [] if how.ignore_paths is msgspec.UNSET else how.ignore_paths
    members = 4 + 2 + 1 + 2 + 3 + (how.ignore_paths is not msgspec.UNSET) + 3 * len(resources)
    texts = [statement.type, statement.predicate_type, subject.name, subject.digest.sha256, how.method, how.hash_type]
    texts += ignored
    texts += [resource.name for resource in resources]
    texts += [resource.digest for resource in resources]
    texts += [resource.algorithm for resource in resources]
    return members + "".join(texts).count(":")


def _check_method(value: object) -> None:
    """Say what is not supported before the shape is judged: a statement by shards has other members."""
    predicate = value.get("predicate") if isinstance(value, dict) else None
    how = predicate.get("serialization") if isinstance(predicate, dict) else None
    if not isinstance(how, dict):
        return
    if how.get("method") != "files":
        raise malformed(OmsFailure.METHOD, f"files in the form {str(how.get('method'))[:40]!r}", hint=_SHARD)
    _check_algorithms([how.get("hash_type")])


def _check_algorithms(named: Iterable[object]) -> None:
    for other in (name for name in named if name != "sha256"):
        raise malformed(OmsFailure.HASH, f"digests by {str(other)[:40]!r}", hint=_HASHES)


def _check_names(names: list[str]) -> None:
    """Check that each of *names* stays in the folder, and that they are in an order and none stands twice.

    The specification sorts by code point; model_signing sorts by the parts of a path: ``a/b`` before ``a-b``. Both are taken.
    """
    if names != ["."]:
        together = "\n".join(names)
        plain = together.isascii() and together.count("\n") == len(names) - 1 and not _ODD_NAME.search(together)
        if not plain or max(map(len, names), default=0) > 1024:
            for name in names:
                _check_name(name)
    if len(set(names)) != len(names):
        twice = next(name for name in sorted(names) if names.count(name) > 1)
        raise malformed(OmsFailure.DUPLICATE, f"{twice[:80]!r} stands in it twice")
    if names != sorted(names) and names != sorted(names, key=lambda name: name.split("/")):
        raise malformed(OmsFailure.ORDER, "its files are not in the order of their names")


def _check_name(name: str) -> None:
    try:
        check_file_name(name)
    except DecodeError as error:
        message = f"{name[:80]!r} cannot name a file of a model"
        hint = "relative names, NFC, parts separated by '/', no '..', no backslash; do not unpack what came with it"
        raise malformed(OmsFailure.NAME, message, hint=hint) from error


def _digests(digests: list[str]) -> bytes:
    """Return the raw digests, one after another."""
    together = "".join(digests)
    try:
        raw = bytes.fromhex(together)
    except ValueError:
        raw = b""
    if not digests or set(map(len, digests)) != {64} or raw.hex() != together:
        raise DecodeError("OMS bundle: a digest that is no SHA-256 in lower-case hex, or no file at all")
    return raw


def _old_listing(statement: _OldStatementWire) -> Listing:
    if statement.type != STATEMENT_TYPE or any(set(subject.digest) != {"sha256"} for subject in statement.subject):
        raise DecodeError("OMS bundle: not a statement over files by SHA-256")
    names = [subject.name for subject in statement.subject]
    _check_names(names)
    raw = _digests([subject.digest["sha256"] for subject in statement.subject])
    files = {name: raw[32 * at : 32 * at + 32] for at, name in enumerate(names)}
    return Listing(subject="", files=files, root=Digest.of(raw))
