# SPDX-License-Identifier: Apache-2.0
"""Approve a proposal, on the approver's own machine and on nobody's word.

(1) The branch holds one ModelRelease file, its envelope, and nothing else. (2) The payload is generated from the file
and compared with the envelope, byte for byte. (3) The gate's decision is in the ledger and is replayed over the
statements that it names. (4) The evidence is decided again over everything the ledger holds now. (5) Only then the
owner's keys sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.keys import Signer, count_owners
from chopmark.policy import (
    NOBODY,
    Allowed,
    Approvals,
    Candidate,
    Decision,
    Fact,
    Phase,
    Policy,
    Unavailable,
    decide,
    explain,
    lineage,
    replay,
)
from chopmark.release.gate import APPROVER, find_vsa, gather, newest_release
from chopmark.release.keyring import in_force
from chopmark.release.model import MAIN, ModelRelease
from chopmark.release.ports import Committer, EvidenceSource, GitHost, StatementLog
from chopmark.release.propose import check_fallbacks
from chopmark.release.repository import (
    MODELS,
    envelope_path,
    head,
    model_path,
    read_approved,
    read_envelope,
    read_model,
    read_policy,
)
from chopmark.statements import Envelope, PredicateType, add_signatures, decode_envelope, encode_envelope
from chopmark.trust import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What stands on a branch, after its bytes were compared.

    Attributes:
        base: head of main; *fork*: where the branch left it; *commit*: head of the branch.
        policy: from main, never from the branch.
    """

    branch: str
    base: str
    fork: str
    commit: str
    model: ModelRelease
    envelope: Envelope
    policy: Policy

    @property
    def release(self) -> Release:
        return self.model.release


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What came of approving: who has signed by now, and where it stands."""

    release: Release
    approvals: Approvals
    commit: str


def read_proposal(host: GitHost, branch: str, trust: TrustPolicy) -> Proposed:
    """Read what *branch* proposes (steps 1 and 2).

    Raises:
        UsageError: there is no such branch, it proposes nothing, or main has moved under it.
        VerificationError: ``proposal-foreign`` (it changes other files too) or ``release-altered`` (the envelope is not
            what the file says).
    """
    base, commit = head(host, MAIN), head(host, branch)
    fork = host.merge_base(base, commit)
    if fork == commit and commit != base:
        raise UsageError(f"{branch} is merged already", code="already-merged", hint="see: `chopmark release history`")
    changed = set(host.changed(fork, commit)) if fork else set()
    models = sorted(path for path in changed if path.startswith(f"{MODELS}/") and path.endswith(".yaml"))
    if fork is None or len(models) != 1:
        raise UsageError(
            f"{branch} proposes {len(models)} releases; one is expected", hint="`chopmark release propose`"
        )
    name = models[0].removeprefix(f"{MODELS}/").removesuffix(".yaml")
    model = read_model(host, commit, name, workspace=trust.workspace)
    if model is None:
        raise UsageError(f"{branch} removes {models[0]}", hint="take a release back: `chopmark release rollback`")
    release = model.release
    foreign = sorted(changed - {model_path(name), envelope_path(release.digest)})
    envelope = read_envelope(host, commit, release.digest)
    if envelope is None or envelope.payload != model.payload:
        raise VerificationError(
            f"{model_path(name)} says something else than the envelope on {branch}: it was changed after it was proposed",
            code="release-altered",
            hint="propose it again; approvals of other bytes do not count",
            evidence={"release": str(release.digest), "paths": foreign},
        )
    if foreign:
        raise VerificationError(
            f"{branch} changes other files too: {', '.join(foreign[:5])}",
            code="proposal-foreign",
            hint="one branch, one release; change policies and channels in commits of their own",
            evidence={"paths": foreign},
        )
    if model_path(name) in host.changed(fork, base):
        raise UsageError(f"{model_path(name)} has changed on {MAIN} since", code="proposal-stale", hint="propose again")
    policy = read_policy(host, base, model.policy)
    return Proposed(branch=branch, base=base, fork=fork, commit=commit, model=model, envelope=envelope, policy=policy)


def examine(
    proposed: Proposed,
    *,
    host: GitHost,
    facts: tuple[Fact, ...],
    source: EvidenceSource,
    trust: TrustPolicy,
    now: datetime,
) -> tuple[Candidate, Decision]:
    """Check what a proposal rests on (steps 3 and 4); return the candidate and the evidence decision of now.

    Args:
        facts: gathered by what is in force.
        trust: all of it: what devices run, and fall back to, does not depend on the calendar.
        now: by the clock of whoever examines; the gate's decision is replayed with its own.

    Raises:
        VerificationError: ``vsa-missing``, ``vsa-unconfirmed``, ``fallback-unapproved``.
    """
    release = proposed.release
    summary = find_vsa(facts, release.vsa)
    previous = newest_release(host, proposed.base, facts=facts, source=source, trust=trust, besides=release)
    candidate = Candidate(release=release, previous=previous)
    again = replay(summary, policy=proposed.policy, facts=facts, candidate=candidate, approvals=NOBODY)
    differences = list(again.differences)
    if summary.phase is not Phase.EVIDENCE or not summary.passed:
        differences.append("it is not a decision that evidence suffices")
    if summary.inputs != release.evidence:
        differences.append("the release names other statements than it was decided over")
    if differences:
        raise VerificationError(
            f"the evidence decision {release.vsa.short} is not confirmed: {'; '.join(differences)}",
            code="vsa-unconfirmed",
            hint="propose the release again",
            evidence={"vsa": str(release.vsa), "differences": differences},
        )
    check_fallbacks(host, proposed.base, release, trust)
    today = lineage(facts, release.manifest)
    return candidate, decide(proposed.policy, Phase.EVIDENCE, facts=today, candidate=candidate, now=now)


def count_approvals(proposed: Proposed, trust: TrustPolicy) -> Approvals:
    """Return who has signed the envelope, by the rule for approvers of this model and these channels.

    Raises:
        VerificationError: ``statement-forbidden``: nobody may approve this model, or for such a channel.
    """
    role, release = trust.role(APPROVER), proposed.release
    closed = [channel for channel in release.channels if not role.serves(channel)]
    if closed or not role.allows(PredicateType.RELEASE, f"model/{release.model}"):
        what = f"for channel {closed[0]}" if closed else f"releases of {release.model}"
        raise VerificationError(f"the approvers may not approve {what}", code="statement-forbidden")
    envelope = proposed.envelope
    count = count_owners(trust.rule(APPROVER), ((s.keyid, s.sig) for s in envelope.signatures), envelope.message)
    return Approvals.of(count, role.owners)


def approve(
    branch: str,
    *,
    host: GitHost,
    source: EvidenceSource,
    trust: TrustPolicy,
    signers: Sequence[Signer],
    by: Committer,
    at: datetime,
) -> Approval:
    """Sign what *branch* proposes with one owner's keys, and commit the signature there.

    Args:
        signers: all keys of the owner that the role asks for.
        at: now; keys that have expired by then count for nothing.

    Raises:
        VerificationError: anything of steps 1 to 4, ``evidence-denied`` among them; nothing was signed.
        UndecidedError: the ledger cannot be read.
        UsageError: the keys are no approver's, or not all that the role asks for.
    """
    standing, trust = trust, in_force(trust, now=at)
    proposed = read_proposal(host, branch, trust)
    facts = gather(source, trust)
    if isinstance(facts, Unavailable):
        raise UndecidedError(f"the evidence cannot be gathered: {facts.reason}")
    _, decision = examine(proposed, host=host, facts=facts, source=source, trust=standing, now=at)
    if not isinstance(decision, Allowed):
        raise VerificationError(
            "; ".join(explain(decision)), code="evidence-denied", hint="propose it again when it holds"
        )
    if {signer.public.keyid for signer in signers} <= {s.keyid for s in proposed.envelope.signatures}:
        raise UsageError(
            f"{branch} carries these signatures already", code="already-signed", hint="next: `chopmark release check`"
        )
    signed = add_signatures(proposed.envelope, signers)
    before, after = count_approvals(proposed, trust), _recount(proposed, signed, trust)
    fresh = [owner for owner in after.counted if owner not in before.counted]
    if not fresh:
        raise UsageError(
            f"these keys add no approval: {after.explain()}",
            code="not-an-approver",
            hint="use all keys of one owner who has not signed yet",
        )
    release = proposed.release
    commit = host.commit(
        branch,
        {envelope_path(release.digest): encode_envelope(signed)},
        parent=proposed.commit,
        message=f"Approve {release.model} {release.version}\n\nRelease: {release.digest}\nOwner: {', '.join(fresh)}\n",
        by=by,
        at=at,
    )
    return Approval(release=release, approvals=after, commit=commit)


def approve_again(
    release: Digest,
    *,
    host: GitHost,
    log: StatementLog,
    trust: TrustPolicy,
    signers: Sequence[Signer],
    by: Committer,
    at: datetime,
) -> tuple[Approval, int]:
    """Add one owner's signatures to an envelope that is approved already, before other keys are retired; commit it.

    The payload, and with it the release hash, stays; the evidence was decided when it was approved first. It is logged
    before it is committed: what is interrupted in between is begun anew, and no envelope governs that is in no ledger.

    Returns:
        The approval, and the envelope's index in the ledger.

    Raises:
        VerificationError: the release is not in the repository, or not approved now.
        UsageError: the keys add no approval.
    """
    base = head(host, MAIN)
    approved = read_approved(host, base, release, trust)
    envelope = decode_envelope(approved.envelope)
    signed = add_signatures(envelope, signers)
    role = trust.role(APPROVER)
    known = {key.keyid for name in role.owners for key in trust.owners[name].keys}
    fresh = {s.keyid for s in signed.signatures} - {s.keyid for s in envelope.signatures}
    if not fresh or not fresh <= known:
        raise UsageError(
            "these keys add nothing: they signed it already, or are no approver's",
            code="not-an-approver",
            hint="use the keys that stay, of one approver: chopmark trust show",
        )
    about = approved.release
    index = log.log(signed)
    commit = host.commit(
        MAIN,
        {envelope_path(release): encode_envelope(signed)},
        parent=base,
        message=f"Sign {about.model} {about.version} again\n\nRelease: {release}\n",
        by=by,
        at=at,
    )
    count = count_owners(trust.rule(APPROVER), ((s.keyid, s.sig) for s in signed.signatures), signed.message)
    return Approval(release=about, approvals=Approvals.of(count, role.owners), commit=commit), index


def _recount(proposed: Proposed, envelope: Envelope, trust: TrustPolicy) -> Approvals:
    return count_approvals(replace(proposed, envelope=envelope), trust)
