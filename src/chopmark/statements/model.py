# SPDX-License-Identifier: Apache-2.0
"""Statements, envelopes, and the one type that says a statement was verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from chopmark.artifacts import Digest
from chopmark.errors import InternalError

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"


class PredicateType(StrEnum):
    """What kinds of statement there are; the short name is what policies and people say."""

    ADOPTION = "https://chopmark.dev/adoption/v1"
    DATASET = "https://chopmark.dev/dataset/v1"
    PROVENANCE = "https://slsa.dev/provenance/v1"
    TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
    INSPECTION = "https://chopmark.dev/inspection/v1"
    SBOM = "https://cyclonedx.org/bom"
    OMS = "https://model_signing/signature/v1.0"
    VSA = "https://slsa.dev/verification_summary/v1"
    RELEASE = "https://chopmark.dev/release/v1"
    REVOCATION = "https://chopmark.dev/revocation/v1"
    HOLD = "https://chopmark.dev/hold/v1"
    APPRAISAL = "https://chopmark.dev/appraisal/v1"

    @property
    def short(self) -> str:
        """``test-result`` for the test result, and so on."""
        return self.name.lower().replace("_", "-")


_SHORT: Final = {str(known): known.short for known in PredicateType}


def short_type(predicate_type: str) -> str:
    """Return the short name of a predicate type, or the type itself when it is not one of ours."""
    return _SHORT.get(predicate_type, predicate_type)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement is about: a name such as ``model/digits`` and the digest that identifies it."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An in-toto Statement v1: a claim about at least one subject.

    Attributes:
        predicate: a JSON object without floats.
    """

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, object]

    @property
    def subject(self) -> Subject:
        """The first subject: the one roles and policies look at."""
        return self.subjects[0]


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the id of the key that made it; the id is a hint, the key decides."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope: bytes, their type, and signatures over both. Nothing in it is believed yet."""

    payload: bytes
    signatures: tuple[Signature, ...] = ()
    payload_type: str = PAYLOAD_TYPE

    @property
    def digest(self) -> Digest:
        """SHA-256 of the payload: adding a signature does not change it. For a release: the release hash."""
        return Digest.of(self.payload)

    @property
    def message(self) -> bytes:
        """DSSE's pre-authentication encoding: the bytes that are signed."""
        return pae(self.payload_type, self.payload)

    def with_signatures(self, signatures: Iterable[Signature]) -> Envelope:
        """Return this envelope with *signatures* added; one per key id, in order of key id."""
        by_key = {s.keyid: s for s in (*self.signatures, *signatures)}
        return replace(self, signatures=tuple(by_key[keyid] for keyid in sorted(by_key)))


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return ``DSSEv1 len(type) type len(body) body`` (DSSE protocol v1)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


_MADE_BY_VERIFY: Final = object()


class VerifiedStatement:
    """A statement whose signatures were counted against a role. Only ``statements.verify`` makes one.

    Attributes:
        statement: what is claimed.
        role: the role that may claim it.
        owners: the owners that counted.
        envelope: as received.
    """

    __slots__ = ("envelope", "owners", "role", "statement")

    def __init__(
        self, *, statement: Statement, role: str, owners: tuple[str, ...], envelope: Envelope, proof: object
    ) -> None:
        if proof is not _MADE_BY_VERIFY:
            raise InternalError("a VerifiedStatement is made by statements.verify alone")
        self.statement = statement
        self.role = role
        self.owners = owners
        self.envelope = envelope

    @property
    def digest(self) -> Digest:
        """Digest of the signed payload: how other statements name this one."""
        return self.envelope.digest

    def __repr__(self) -> str:
        return f"VerifiedStatement({short_type(self.statement.predicate_type)}, {self.role}, {self.digest.short})"
