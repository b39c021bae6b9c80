# SPDX-License-Identifier: Apache-2.0
"""The gate: gather facts from the ledger, have them decided, record the decision as a signed statement.

An approver's machine gathers and decides the same way and believes no gate: see :func:`examine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.clock import Clock
from chopmark.errors import UndecidedError, VerificationError
from chopmark.keys import Signer
from chopmark.policy import (
    NOBODY,
    Allowed,
    Approvals,
    Candidate,
    Denied,
    Fact,
    Policy,
    Previous,
    Summary,
    Unavailable,
    build_vsa,
    lineage,
    read_vsa,
)
from chopmark.release.ports import EvidenceSource, GitHost, StatementLog
from chopmark.release.record import approved_in_ledger
from chopmark.release.repository import approved_releases
from chopmark.statements import sign, verify_any
from chopmark.trust import TrustPolicy

GATE = "gate"
APPROVER = "approver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the machine that decides has at hand.

    Attributes:
        signers: keys of the role ``gate``.
    """

    trust: TrustPolicy
    source: EvidenceSource
    ledger: StatementLog
    signers: Sequence[Signer]
    clock: Clock

    def record(
        self,
        decision: Allowed | Denied,
        *,
        policy: Policy,
        facts: Sequence[Fact],
        candidate: Candidate,
        at: datetime,
        approvals: Approvals = NOBODY,
    ) -> Digest:
        """Sign and log the VSA of *decision*; return its digest.

        Args:
            at: the ``now`` that was decided with.
        """
        statement = build_vsa(decision, policy=policy, facts=facts, candidate=candidate, approvals=approvals, at=at)
        envelope = sign(statement, self.signers)
        self.ledger.log(envelope)
        return envelope.digest


def gather(source: EvidenceSource, trust: TrustPolicy) -> tuple[Fact, ...] | Unavailable:
    """Return every statement of the ledger that a role of *trust* may have made; any other is no fact."""
    found: dict[Digest, Fact] = {}
    try:
        for index, envelope in source.statements():
            if envelope.digest not in found:
                try:
                    found[envelope.digest] = Fact(verified=verify_any(envelope, trust), index=index)
                except VerificationError:
                    continue
    except UndecidedError as error:
        return Unavailable(reason=error.message)
    return tuple(found.values())


def about(facts: tuple[Fact, ...] | Unavailable, manifest: Digest) -> tuple[Fact, ...] | Unavailable:
    """Return the facts about a package and what it was made from."""
    return facts if isinstance(facts, Unavailable) else lineage(facts, manifest)


def newest_release(
    host: GitHost,
    commit: str,
    *,
    facts: tuple[Fact, ...] | Unavailable,
    source: EvidenceSource,
    trust: TrustPolicy,
    besides: Release,
) -> Previous | None:
    """Return the approved release of the same model with the highest counter, other than *besides* itself.

    Looks at the repository and at the ledger: a revert by hand takes an envelope out of the one, never of the other. It
    is a floor, and devices remember it: so it rests on every key of *trust*, expired ones and those of before as well.
    """
    known = approved_releases(host, commit, trust)
    if not isinstance(facts, Unavailable):
        known |= approved_in_ledger(source.statements(), trust)
    of_model = [
        release
        for digest, release in known.items()
        if (release.workspace, release.model) == (trust.workspace, besides.model) and digest != besides.digest
    ]
    newest = max(of_model, key=lambda release: (release.counter, release.digest), default=None)
    return Previous(counter=newest.counter, release=newest.digest) if newest is not None else None


def find_vsa(facts: Sequence[Fact], digest: Digest) -> Summary:
    """Return the gate's decision *digest*.

    Raises:
        VerificationError: ``vsa-missing``: no gate signed it, or it is not in the ledger.
    """
    found = next((f for f in facts if f.digest == digest and f.role == GATE and f.type == "vsa"), None)
    if found is None:
        raise VerificationError(
            f"the evidence decision {digest.short} that the release names is not in the ledger, or is not the gate's",
            code="vsa-missing",
            hint="propose the release again",
            evidence={"vsa": str(digest)},
        )
    return read_vsa(found.verified.statement)
