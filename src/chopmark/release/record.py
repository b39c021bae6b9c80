# SPDX-License-Identifier: Apache-2.0
"""What a ledger's statements say about releases: which were approved, and what the gate decided. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chopmark.artifacts import Digest
from chopmark.channel import Release, decode_release
from chopmark.errors import DecodeError
from chopmark.policy import Phase, Summary, Verdict, read_vsa
from chopmark.statements import Envelope, PredicateType, Subject, verified
from chopmark.trust import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """A decision over approvals, with the one over the evidence that it rests on.

    Attributes:
        number: 1 for the first in the ledger; people write ``G1``.
        index: of its entry.
        evidence: None where the ledger has no such decision about the same package and policy.
    """

    number: int
    index: int
    summary: Summary
    evidence: Summary | None

    @property
    def id(self) -> str:
        return f"G{self.number}"

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All rules, those over the evidence first."""
        return (*(self.evidence.verdicts if self.evidence else ()), *self.summary.verdicts)


def decisions(entries: Iterable[tuple[int, Envelope]], trust: TrustPolicy) -> tuple[GateDecision, ...]:
    """Return every gate decision over approvals, in ledger order."""
    found: list[GateDecision] = []
    evidence: dict[tuple[Subject, Digest], Summary] = {}
    for index, statement in verified(entries, trust, kind=PredicateType.VSA, role="gate"):
        try:
            summary = read_vsa(statement.statement)
        except DecodeError:
            continue  # signed by the gate, and no decision that this version can read
        about = (summary.subject, summary.policy)
        if summary.phase is Phase.APPROVAL:
            last = evidence.get(about)
            found.append(GateDecision(number=len(found) + 1, index=index, summary=summary, evidence=last))
        else:
            evidence[about] = summary
    return tuple(found)


def approved_in_ledger(entries: Iterable[tuple[int, Envelope]], trust: TrustPolicy) -> dict[Digest, Release]:
    """Return every release in the ledger that enough approvers signed, by release hash."""
    found = {}
    for _, statement in verified(entries, trust, kind=PredicateType.RELEASE, role="approver"):
        try:
            release = decode_release(statement.envelope.payload)
        except DecodeError:
            continue
        found[release.digest] = release
    return found
