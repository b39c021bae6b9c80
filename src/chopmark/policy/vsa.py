# SPDX-License-Identifier: Apache-2.0
"""A decision as a statement that stock tools read (SLSA VSA v1), and its replay on any machine.

Beyond the standard's members the predicate has ``phase``, ``rules`` (one verdict each), ``previous`` and ``approvals``:
with the policy, the statements that ``inputAttestations`` names, the release and ``timeVerified``, which rules call
``now``, this is all a decision depends on, so :func:`replay` needs nobody's word. That the time is true is another
question: whoever relies on a decision decides again, by a clock of their own. An undecidable outcome is no statement
about anything and is not recorded.

Source: SLSA 1.1, Verification Summary Attestation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import msgspec

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.clock import format_time, parse_time
from chopmark.errors import DecodeError
from chopmark.policy.cel import Engine
from chopmark.policy.decide import decide
from chopmark.policy.model import (
    Allowed,
    Approvals,
    Candidate,
    Decision,
    Denied,
    Fact,
    Phase,
    Policy,
    Previous,
    Unavailable,
    Undecidable,
    Verdict,
)
from chopmark.statements import PredicateType, Statement, Subject

_LEVELS: Final = {Phase.EVIDENCE: "CHOPMARK_EVIDENCE", Phase.APPROVAL: "CHOPMARK_APPROVED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a VSA says.

    Attributes:
        subject: ``model/<name>`` and the package digest.
        inputs: digests of every statement that was decided over, in ledger order.
        approvals: owners that counted; empty in the evidence phase.
        release: the release hash; None in the evidence phase, when there is none yet.
    """

    subject: Subject
    verifier: str
    time: datetime
    resource: str
    policy_uri: str
    policy: Digest
    phase: Phase
    passed: bool
    inputs: tuple[Digest, ...]
    verdicts: tuple[Verdict, ...]
    previous: Previous | None
    approvals: tuple[str, ...]
    release: Digest | None

    @property
    def version(self) -> str:
        """The release's version, as the resource names it."""
        return self.resource.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A decision made again over what a VSA names.

    Attributes:
        differences: what the VSA says and the replay does not confirm; empty: it is confirmed.
    """

    decision: Decision
    differences: tuple[str, ...]

    @property
    def confirmed(self) -> bool:
        return not self.differences


class _Policy(canonical.Strict, frozen=True, kw_only=True):
    uri: str
    digest: dict[str, str]


class _Verifier(canonical.Strict, frozen=True, kw_only=True):
    id: str


class _Input(canonical.Strict, frozen=True, kw_only=True):
    uri: str
    digest: dict[str, str]


class _Verdict(canonical.Strict, frozen=True, kw_only=True):
    id: str
    ok: bool
    message: str
    facts: list[str]


class _Previous(canonical.Strict, frozen=True, kw_only=True):
    counter: int
    release: str


class _Vsa(canonical.Strict, frozen=True, kw_only=True):
    verifier: _Verifier
    time_verified: str = msgspec.field(name="timeVerified")
    resource_uri: str = msgspec.field(name="resourceUri")
    policy: _Policy
    inputs: list[_Input] = msgspec.field(name="inputAttestations")
    result: Literal["PASSED", "FAILED"] = msgspec.field(name="verificationResult")
    levels: list[str] = msgspec.field(name="verifiedLevels")
    phase: Phase
    rules: list[_Verdict]
    previous: _Previous | None
    approvals: list[str]
    release: str | None


def build_vsa(
    decision: Allowed | Denied,
    *,
    policy: Policy,
    facts: Sequence[Fact],
    candidate: Candidate,
    approvals: Approvals,
    at: datetime,
) -> Statement:
    """Return the statement that *decision* was made over *facts* for *candidate*."""
    passed = isinstance(decision, Allowed)
    approving = decision.phase is Phase.APPROVAL
    release, previous = candidate.release, candidate.previous
    return Statement(
        subjects=(Subject(f"model/{release.model}", release.manifest),),
        predicate_type=PredicateType.VSA,
        predicate={
            "verifier": {"id": f"chopmark:{release.workspace}/gate"},
            "timeVerified": format_time(at),
            "resourceUri": _resource(release),
            "policy": {"uri": policy.uri, "digest": {"sha256": policy.digest.hex}},
            "inputAttestations": [
                {"uri": f"chopmark:{fact.type}", "digest": {"sha256": fact.digest.hex}}
                for fact in sorted(facts, key=lambda fact: (fact.index, fact.digest))
            ],
            "verificationResult": "PASSED" if passed else "FAILED",
            "verifiedLevels": [_LEVELS[decision.phase]] if passed else ["FAILED"],
            "phase": str(decision.phase),
            "rules": [
                {"id": v.id, "ok": v.ok, "message": v.message, "facts": [str(digest) for digest in v.facts]}
                for v in decision.verdicts
            ],
            "previous": previous and {"counter": previous.counter, "release": str(previous.release)},
            "approvals": list(approvals.counted) if approving else [],
            "release": str(release.digest) if approving else None,
        },
    )


def read_vsa(statement: Statement) -> Summary:
    """Read what a VSA of ours says.

    Raises:
        DecodeError: another kind of statement, or one of another shape.
    """
    if statement.predicate_type != PredicateType.VSA or len(statement.subjects) != 1:
        raise DecodeError("VSA: not a verification summary about one package")
    wire = canonical.convert(dict(statement.predicate), _Vsa, what="VSA")
    return Summary(
        subject=statement.subject,
        verifier=wire.verifier.id,
        time=parse_time(wire.time_verified, what="VSA"),
        resource=wire.resource_uri,
        policy_uri=wire.policy.uri,
        policy=_sha256(wire.policy.digest),
        phase=wire.phase,
        passed=wire.result == "PASSED",
        inputs=tuple(_sha256(item.digest) for item in wire.inputs),
        verdicts=tuple(
            Verdict(
                id=rule.id,
                phase=wire.phase,
                ok=rule.ok,
                message=rule.message,
                facts=tuple(Digest.parse(text) for text in rule.facts),
            )
            for rule in wire.rules
        ),
        previous=Previous(counter=wire.previous.counter, release=Digest.parse(wire.previous.release))
        if wire.previous is not None
        else None,
        approvals=tuple(wire.approvals),
        release=Digest.parse(wire.release) if wire.release is not None else None,
    )


def replay(
    summary: Summary,
    *,
    policy: Policy,
    facts: Sequence[Fact],
    candidate: Candidate,
    approvals: Approvals,
    engine: Engine | None = None,
) -> Replay:
    """Decide again what *summary* says was decided, and compare.

    Args:
        facts: at least those that the summary names; others are passed over, as they may be newer than it.
        candidate: with today's ``previous``; the one of the summary is used.
        approvals: as counted here; matters in the approval phase.
    """
    known = {fact.digest: fact for fact in facts}
    missing = [digest for digest in summary.inputs if digest not in known]
    decision = decide(
        policy,
        summary.phase,
        facts=Unavailable(reason=f"{len(missing)} statements that the decision names cannot be found")
        if missing
        else [known[digest] for digest in summary.inputs],
        candidate=replace(candidate, previous=summary.previous),
        approvals=approvals,
        now=summary.time,
        engine=engine,
    )
    return Replay(
        decision=decision, differences=tuple(_differences(summary, decision, candidate.release, policy, approvals))
    )


def _differences(
    summary: Summary, decision: Decision, release: Release, policy: Policy, approvals: Approvals
) -> list[str]:
    found = []
    approving = summary.phase is Phase.APPROVAL
    if summary.subject != Subject(f"model/{release.model}", release.manifest) or summary.resource != _resource(release):
        found.append("it is about another package, model, version or workspace")
    if (summary.policy, summary.policy_uri) != (policy.digest, policy.uri):
        found.append(f"it was decided by another policy ({summary.policy_uri}, {summary.policy.short})")
    if summary.release != (release.digest if approving else None):
        found.append("it is about another release")
    if approving and summary.approvals != approvals.counted:
        found.append(f"it counted {', '.join(summary.approvals) or 'nobody'}; here {approvals.explain()}")
    if isinstance(decision, Undecidable):
        found.append(decision.reason)
    elif summary.passed is not isinstance(decision, Allowed):
        found.append(f"it says {'PASSED' if summary.passed else 'FAILED'}; here it is the opposite")
    elif summary.verdicts != decision.verdicts:
        found.append("its verdicts differ from those found here")
    return found


def _resource(release: Release) -> str:
    return f"chopmark:{release.workspace}/{release.model}/{release.version}"


def _sha256(digest: dict[str, str]) -> Digest:
    if set(digest) != {"sha256"}:
        raise DecodeError("VSA: a digest is a SHA-256 alone")
    return Digest.from_hex(digest["sha256"])
