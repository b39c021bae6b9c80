# SPDX-License-Identifier: Apache-2.0
"""Check a proposal, as every pull request does, and merge it.

(1) and (2) as an approver does: the branch's files, the payload byte for byte. (3) Every commit on the branch is signed
by a Git signer of trust.json. (4) The evidence decision is replayed and made again. (5) Approvals are counted by owner
and the approval rules are decided. (6) The decision is logged; the envelope never names it, as it came first.
Keys that have expired count in none of this.

A merge is a check whose answer was yes, for exactly the commit that was checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.policy import (
    NOBODY,
    Allowed,
    Approvals,
    Candidate,
    Decision,
    Phase,
    Unavailable,
    Undecidable,
    decide,
    lineage,
)
from chopmark.release.approve import count_approvals, examine, read_proposal
from chopmark.release.gate import Gate, gather
from chopmark.release.history import verify_range
from chopmark.release.keyring import in_force
from chopmark.release.model import MAIN
from chopmark.release.ports import Committer, GitHost
from chopmark.release.repository import check_approved
from chopmark.statements import Envelope, encode_envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of a check.

    Attributes:
        decision: over the approvals; or over the evidence, where that no longer suffices.
        vsa: digest of the logged decision; None where there was nothing to decide over.
        commit: the commit that was checked.
        envelope: with the signatures that were counted.
        base: head of main at the time.
    """

    decision: Decision
    release: Release
    approvals: Approvals
    vsa: Digest | None
    commit: str
    base: str
    envelope: Envelope

    @property
    def allowed(self) -> bool:
        return isinstance(self.decision, Allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A check and, where it allowed, the merge commit on main."""

    checked: Checked
    commit: str | None


def check(branch: str, *, host: GitHost, gate: Gate) -> Checked:
    """Decide whether what *branch* proposes may become the desired state.

    Raises:
        VerificationError: something is not what it says: altered bytes, an unknown committer, a decision that is not
            confirmed, an unapproved fallback; or policy asks for less than trust.json does.
    """
    now = gate.clock.now()
    trust = in_force(gate.trust, now=now)
    proposed = read_proposal(host, branch, trust)
    verify_range(host, since=proposed.fork, to=proposed.commit, trust=trust)
    approvals = count_approvals(proposed, trust)
    release, policy = proposed.release, proposed.policy
    facts = gather(gate.source, trust)
    vsa = None
    if isinstance(facts, Unavailable):
        candidate = Candidate(release=release)
        decision = decide(policy, Phase.APPROVAL, facts=facts, candidate=candidate, approvals=approvals, now=now)
    else:
        candidate, decision = examine(proposed, host=host, facts=facts, source=gate.source, trust=gate.trust, now=now)
        counted, about = NOBODY, lineage(facts, release.manifest)
        if isinstance(decision, Allowed):
            counted = approvals
            decision = decide(policy, Phase.APPROVAL, facts=about, candidate=candidate, approvals=approvals, now=now)
        if isinstance(decision, Allowed):
            check_approved(encode_envelope(proposed.envelope), trust)  # no policy lowers what trust asks for
        if not isinstance(decision, Undecidable):
            vsa = gate.record(decision, policy=policy, facts=about, candidate=candidate, at=now, approvals=counted)
    return Checked(
        decision=decision,
        release=release,
        approvals=approvals,
        vsa=vsa,
        commit=proposed.commit,
        base=proposed.base,
        envelope=proposed.envelope,
    )


def merge(branch: str, *, host: GitHost, gate: Gate, by: Committer) -> Merge:
    """Check *branch* and, if it is allowed, log its envelope and merge it into main with a signed merge commit.

    Raises:
        VerificationError: as :func:`check`.
        UsageError: it conflicts with main, or files are changed and not committed.
    """
    checked = check(branch, host=host, gate=gate)
    if not checked.allowed:
        return Merge(checked=checked, commit=None)
    gate.ledger.log(checked.envelope)
    release = checked.release
    commit = host.merge(
        checked.commit,
        into=MAIN,
        expect=checked.base,
        message=f"Release {release.model} {release.version}\n\nRelease: {release.digest}\nDecision: {checked.vsa}\n",
        by=by,
        at=gate.clock.now(),
    )
    return Merge(checked=checked, commit=commit)
