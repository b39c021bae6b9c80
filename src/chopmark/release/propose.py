# SPDX-License-Identifier: Apache-2.0
"""Propose a release: decide over the evidence, and put what the approvers are to sign on a branch.

(1) Facts are gathered from the ledger: statements by keys that have not expired. (2) The evidence rules of the policy on
``main`` are decided. (3) The decision is logged, whatever it says. (4) Only if it allows: the ModelRelease file and the
unsigned envelope, which names that decision, are committed on ``release/<model>-<version>``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.errors import UsageError, VerificationError
from chopmark.policy import Candidate, Decision, Denied, Phase, Unavailable, Undecidable, decide
from chopmark.release.gate import Gate, about, gather, newest_release
from chopmark.release.keyring import in_force
from chopmark.release.model import MAIN, Draft, ModelRelease
from chopmark.release.ports import Committer, GitHost
from chopmark.release.repository import envelope_path, head, model_path, read_approved, read_policy
from chopmark.release.wire import encode_model_release, model_release, with_evidence
from chopmark.statements import Envelope, encode_envelope
from chopmark.trust import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What came of proposing.

    Attributes:
        decision: over the evidence.
        vsa: digest of the logged decision; None where there was nothing to decide over.
        release: what approvers are asked to sign; None unless the decision allows, and then *branch* and *commit* say
            where it stands.
    """

    decision: Decision
    vsa: Digest | None = None
    release: Release | None = None
    branch: str = ""
    commit: str = ""


def branch_name(model: str, version: str) -> str:
    """Return the branch that a release is proposed on."""
    return f"release/{model}-{version}"


def propose(draft: Draft, *, host: GitHost, gate: Gate, by: Committer) -> Proposal:
    """Propose *draft*.

    Raises:
        UsageError: the branch exists, or the policy is not on main.
        DecodeError: a value that no release can have.
        VerificationError: a fallback that is not an approved release of this model and these channels.
    """
    trust = in_force(gate.trust, now=gate.clock.now())
    base, branch = head(host, MAIN), branch_name(draft.model, draft.version)
    first = model_release(_unnumbered(draft, trust.workspace), policy=draft.policy).release
    if host.head(branch) is not None:
        raise UsageError(f"{branch} exists", code="branch-exists", hint=f"approve it, or: `git branch -D {branch}`")
    policy = read_policy(host, base, draft.policy)
    gathered = gather(gate.source, trust)
    previous = newest_release(host, base, facts=gathered, source=gate.source, trust=gate.trust, besides=first)
    release = first if draft.counter is not None or previous is None else replace(first, counter=previous.counter + 1)
    check_fallbacks(host, base, release, gate.trust)
    facts, candidate = about(gathered, release.manifest), Candidate(release=release, previous=previous)
    now = gate.clock.now()
    decision = decide(policy, Phase.EVIDENCE, facts=facts, candidate=candidate, now=now)
    if isinstance(facts, Unavailable) or isinstance(decision, Undecidable):
        return Proposal(decision=decision)
    vsa = gate.record(decision, policy=policy, facts=facts, candidate=candidate, at=now)
    if isinstance(decision, Denied):
        return Proposal(decision=decision, vsa=vsa)
    named = with_evidence(release, vsa=vsa, evidence=tuple(fact.digest for fact in facts))
    model = model_release(named, policy=policy.name)
    commit = host.commit(
        branch,
        _files(model),
        parent=base,
        message=f"Propose {draft.model} {draft.version}\n\nRelease: {model.release.digest}\nEvidence: {vsa}\n",
        by=by,
        at=gate.clock.now(),
    )
    return Proposal(decision=decision, vsa=vsa, release=model.release, branch=branch, commit=commit)


def check_fallbacks(host: GitHost, commit: str, release: Release, trust: TrustPolicy) -> None:
    """Check that every fallback is an approved release of the same model, for all its channels.

    Raises:
        VerificationError: ``fallback-unapproved``.
    """
    for digest in release.fallbacks:
        try:
            fallback = read_approved(host, commit, digest, trust).release
        except VerificationError as error:
            raise VerificationError(
                f"fallback {digest.short}: {error.message}", code="fallback-unapproved", evidence=error.evidence
            ) from error
        if fallback.model != release.model or not set(release.channels) <= set(fallback.channels):
            raise VerificationError(
                f"fallback {digest.short} is {fallback.model} for {', '.join(fallback.channels)}",
                code="fallback-unapproved",
                hint="name a release of the same model that was approved for the same channels",
                evidence={"fallback": str(digest)},
            )


def _files(model: ModelRelease) -> dict[str, bytes]:
    return {
        model_path(model.release.model): encode_model_release(model),
        envelope_path(model.release.digest): encode_envelope(Envelope(payload=model.payload)),
    }


def _unnumbered(draft: Draft, workspace: str) -> Release:
    """Return *draft* as a release; decision and evidence are not known yet and stand for nothing here."""
    return Release(
        digest=draft.manifest,
        workspace=workspace,
        model=draft.model,
        version=draft.version,
        channels=draft.channels,
        counter=draft.counter if draft.counter is not None else 1,
        epoch=draft.epoch,
        manifest=draft.manifest,
        manifest_length=draft.manifest_length,
        fallbacks=draft.fallbacks,
        runtime=draft.runtime,
        abi=draft.abi,
        min_app=draft.min_app,
        min_tier=draft.min_tier,
        check_class=draft.check_class,
        self_test=draft.self_test,
        vsa=draft.manifest,
        evidence=(),
    )
