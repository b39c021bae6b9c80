# SPDX-License-Identifier: Apache-2.0
"""What a ledger's statements say about releases: which were approved, and what the gate decided. Pure.

It is history: what was signed with a key that was retired later is judged by its index, so that a decision keeps its
number when the gate's key is rotated. No decision of today rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chopmark.artifacts import Digest
from chopmark.channel import Release, decode_release
from chopmark.errors import DecodeError
from chopmark.policy import Phase, Summary, Verdict, read_vsa
from chopmark.statements import Envelope, PredicateType, Subject
from chopmark.statements.judge import judged
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


def decisions(
    entries: Iterable[tuple[int, Envelope]], trust: TrustPolicy, *, before: Sequence[TrustPolicy] = ()
) -> tuple[GateDecision, ...]:
    """Return every gate decision over approvals, in the order of the ledger that is appended to.

    Args:
        before: earlier versions of *trust*, as :func:`chopmark.statements.judge.judge` takes them.
    """
    log = trust.active_log.origin
    found: list[GateDecision] = []
    evidence: dict[tuple[Subject, Digest], Summary] = {}
    for index, statement in judged(entries, trust, log=log, kind=PredicateType.VSA, role="gate", before=before):
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


def approved_in_ledger(
    entries: Iterable[tuple[int, Envelope]], trust: TrustPolicy, *, before: Sequence[TrustPolicy] = ()
) -> dict[Digest, Release]:
    """Return every release in the ledger that enough approvers signed, now or then, by release hash."""
    found = {}
    log = trust.active_log.origin
    for _, statement in judged(entries, trust, log=log, kind=PredicateType.RELEASE, role="approver", before=before):
        try:
            release = decode_release(statement.envelope.payload)
        except DecodeError:
            continue
        found[release.digest] = release
    return found
