# SPDX-License-Identifier: Apache-2.0
"""Enrolments, reports and answers as types. Invariants that every reader may rely on are checked here, whoever makes the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, UsageError

MAX_REPORT_BYTES: Final = 16 * 1024
"""The longest signed report, as sent."""
MAX_ENROLMENT_BYTES: Final = 16 * 1024
"""The longest request of a new device, and the longest answer to it."""
MAX_MESSAGE_CHARS: Final = 500
MAX_EVIDENCE: Final = 16
MAX_EVIDENCE_CHARS: Final = 256
MAX_VERSIONS: Final = 16
MAX_STEP: Final = 18
MAX_TIER: Final = 4
VERIFIED: Final = "verified"
"""The verdict of a report that refuses nothing; any other verdict is the name of a failure."""

SIGNATURE_DOMAIN: Final = b"chopmark-report-v1\0"
"""Stands before the payload where it is signed, so that a device's signature means a report and nothing else."""

_VERDICT = re.compile(r"[a-z][a-z0-9-]{0,62}")
NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a challenge looks like: a device that took another one could make no report any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """What a new device sends. None of it is believed, and the key is not even read, before the token was compared.

    Attributes:
        token: what the service asks of new devices; a secret.
        spki: the device's public key, DER.
        name: what people call it; the service makes an id of it.
    """

    token: str = field(repr=False)
    spki: bytes
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What a new device gets: its id, and the challenge for its first report."""

    device: str
    nonce: str

    def __post_init__(self) -> None:
        if not NONCE.fullmatch(self.nonce):
            raise DecodeError("enrolment answer: a challenge that is not one")


class Purpose(StrEnum):
    """What the device did when it made the report."""

    REFRESH = "refresh"
    LOAD = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLog:
    """The newest checkpoint that the device verified: the fleet compares them, so that a fork shows."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a device did, decided and runs.

    Attributes:
        seq: place in the device's chain; the first is 1.
        prev: digest of the report before it; None for the first alone.
        nonce: the last challenge that the service gave to this device.
        model: what it is about; "" for a refresh that failed before any model was looked at.
        slot: ``A``, ``B``, or "" where there is none.
        release: the release that was judged.
        running: the release that runs now; None when nothing runs.
        verdict: ``verified`` or the name of a failure.
        step: step of the protocol that decided; 0 <= step <= 18.
        evidence: what was compared, in few and short words; bounded so that a device cannot flood the fleet.
        tier: the device's own claim; the service says in its answer what it grants.
        versions: of the metadata the device has.
        gen: number of its state file.
    """

    device: str
    seq: int
    prev: Digest | None
    time: datetime
    purpose: Purpose
    nonce: str
    model: str
    slot: str
    release: Digest | None
    running: Digest | None
    verdict: str
    step: int
    message: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    tier: int
    log: SeenLog | None
    versions: Mapping[str, int] = field(default_factory=dict)
    gen: int

    def __post_init__(self) -> None:
        try:
            canonical.check_name(self.device, what="report: device")
            if self.model:
                canonical.check_name(self.model, what="report: model")
        except UsageError as error:
            raise DecodeError(error.message) from error
        if not (1 <= self.seq <= canonical.MAX_INTEGER and (self.prev is None) == (self.seq == 1)):
            raise DecodeError("report: the first has number 1 and no predecessor, all others have one")
        if self.slot not in ("", "A", "B") or not _VERDICT.fullmatch(self.verdict) or not NONCE.fullmatch(self.nonce):
            raise DecodeError("report: an unknown slot, or a verdict or challenge that is not one")
        if not (0 <= self.step <= MAX_STEP and 0 <= self.tier <= MAX_TIER and 0 <= self.gen <= canonical.MAX_INTEGER):
            raise DecodeError("report: a step, tier or state number out of range")
        _check_bounds(self)

    @property
    def verified(self) -> bool:
        return self.verdict == VERIFIED


def _check_bounds(report: Report) -> None:
    texts = [*report.evidence, *report.evidence.values(), *report.versions]
    if (
        len(report.message) > MAX_MESSAGE_CHARS
        or len(report.evidence) > MAX_EVIDENCE
        or len(report.versions) > MAX_VERSIONS
        or any(len(text) > MAX_EVIDENCE_CHARS for text in texts)
        or any(name.startswith("x-") for name in (*report.evidence, *report.versions))
    ):
        raise DecodeError("report: more words than a report may have")
    if any(not 0 <= version <= canonical.MAX_INTEGER for version in report.versions.values()):
        raise DecodeError("report: a version out of range")
    log = report.log
    if log is not None and not (
        0 <= log.size <= canonical.MAX_INTEGER and len(log.root) == 32 and 0 < len(log.origin) <= MAX_EVIDENCE_CHARS
    ):
        raise DecodeError("report: a checkpoint that cannot be")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReport:
    """A report as sent: nothing in it is believed before :func:`verify_report`."""

    payload: bytes
    keyid: str
    sig: bytes

    @property
    def digest(self) -> Digest:
        """The report's digest: what the next one names as its predecessor."""
        return Digest.of(self.payload)

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return SIGNATURE_DOMAIN + self.payload


class Result(StrEnum):
    """What the service makes of a report."""

    ACCEPTED = "accepted"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the service signs for one report.

    Attributes:
        report: digest of the report that is answered.
        nonce: the challenge the report carried.
        next_nonce: the challenge for the next report.
        snapshot: version of the channel's newest snapshot that the service knows; 0 when it knows none. A device that
            has a lower one is being kept from the channel.
        tier: the tier the service grants, whatever the device claims.
        reason: for ``held``: why.
    """

    device: str
    report: Digest
    nonce: str
    next_nonce: str
    time: datetime
    snapshot: int
    tier: int
    result: Result
    reason: str = ""

    def __post_init__(self) -> None:
        if not NONCE.fullmatch(self.next_nonce):
            raise DecodeError("answer: a challenge that is not one")
