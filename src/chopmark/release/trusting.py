# SPDX-License-Identifier: Apache-2.0
"""A change of trust where releases are known: targets.json that fits it, live releases that it would stop, its commit.

    propose -> (sign, on each owner's machine) -> examine -> apply: one commit of root, trust.json and targets.json

:mod:`chopmark.trust.change` decides everything that needs no release. Here stands what does: what targets.json delegates,
that the ledger and Git can be used under the new trust, and which releases that devices run would lose their approval.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tuf.api.metadata import Metadata, Targets

from chopmark.channel.follow import STATUS, signed_targets
from chopmark.channel.publish import build_targets
from chopmark.errors import ChopmarkError, MovedError, UsageError, VerificationError
from chopmark.ledger import VerifierKey, WitnessPolicy
from chopmark.release.history import GIT_ROLE, allowed_signers
from chopmark.release.live import Live, live_releases
from chopmark.release.model import MAIN
from chopmark.release.ports import Committer, GitHost
from chopmark.release.repository import check_approved, head
from chopmark.statements import encode_envelope
from chopmark.trust import TrustPolicy
from chopmark.trust.change import (
    OPERATOR,
    Accepted,
    Proposal,
    Standing,
    Wanted,
    check,
    complete,
    draft,
    merge,
    trust_of,
    unchanged,
)
from chopmark.trust.difference import Difference, Power, differences, powers

TRUST: Final = "trust"
TARGETS_PATH: Final = f"{TRUST}/targets.json"
_MAX_FILE_BYTES: Final = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What a proposal would do, read from the bytes that are signed.

    Attributes:
        channels: what targets.json delegates to the operator.
    """

    proposal: Proposal
    wanted: Wanted
    channels: tuple[str, ...]
    differences: tuple[Difference, ...]
    powers: tuple[Power, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A live release that would be approved no more, and why."""

    live: Live
    reason: str

    def as_json(self) -> dict[str, object]:
        release = self.live.release
        return {
            "release": str(release.digest),
            "model": release.model,
            "version": release.version,
            "uses": list(self.live.uses),
            "reason": self.reason,
        }

    def explain(self) -> str:
        """Return one line for a person."""
        release = self.live.release
        return (
            f"{release.model} {release.version} ({', '.join(self.live.uses)}), {release.digest.short}…: {self.reason}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A change that governs from now on, and the commit that it stands in."""

    accepted: Accepted
    examined: Examined
    commit: str


def propose(standing: Standing, wanted: Wanted, *, targets: bytes, now: datetime) -> Examined:
    """Return the unsigned proposal that makes *wanted* govern, and what it means.

    Args:
        targets: targets.json of now; the new one delegates the same channels.

    Raises:
        UsageError: ``trust-unchanged``, ``role-unmeetable``.
        VerificationError: as :func:`examine`.
    """
    if wanted == unchanged(standing):
        raise UsageError(
            "nothing would change", code="trust-unchanged", hint="say what to change: chopmark trust change --help"
        )
    before = signed_targets(standing.root, targets)
    policy = trust_of(standing, wanted)
    file = build_targets(
        version=before.version + 1,
        expires=wanted.expires,
        channels=dict.fromkeys(_channels(before), policy.owners[OPERATOR].keys if OPERATOR in policy.owners else ()),
        status=policy.rule(STATUS),
    )
    return examine(standing, draft(standing, wanted, targets=file), now=now)


def examine(standing: Standing, proposal: Proposal, *, now: datetime) -> Examined:
    """Return what *proposal* would do, if it can be done at all.

    Raises:
        VerificationError: as :func:`chopmark.trust.change.check`; ``trust-proposal-unfit``: targets.json delegates
            otherwise than trust.json says, or ledger, witnesses or Git could not be used under it.
    """
    wanted = check(standing, proposal, now=now)
    found = proposal.targets.signed
    channels = _channels(found)
    if not channels:
        raise _unfit("targets.json delegates no channel")
    try:
        fitting = build_targets(
            version=found.version,
            expires=wanted.expires,
            channels=dict.fromkeys(channels, wanted.trust.owners[OPERATOR].keys),
            status=wanted.trust.rule(STATUS),
        )
    except UsageError as error:
        raise _unfit(error.message) from error
    if fitting.signed.to_dict() != _in_order(found, channels):
        raise _unfit("targets.json delegates otherwise than trust.json says")
    _check_usable(wanted.trust)
    before = unchanged(standing)
    return Examined(
        proposal=proposal,
        wanted=wanted,
        channels=channels,
        differences=differences(before, wanted),
        powers=powers(before, wanted),
    )


def losing(live: Sequence[Live], trust: TrustPolicy, after: TrustPolicy) -> tuple[Lost, ...]:
    """Return which of *live* devices would refuse under *after*: they know current keys only.

    One that they refuse under *trust* already is lost by no change, and keeps none from being made.
    """
    found = []
    for one in live:
        envelope = encode_envelope(one.envelope)
        if _refusal(envelope, trust) is None and (reason := _refusal(envelope, after)) is not None:
            found.append(Lost(live=one, reason=reason))
    return tuple(found)


def _refusal(envelope: bytes, trust: TrustPolicy) -> str | None:
    try:
        check_approved(envelope, trust)
    except VerificationError as error:
        return error.message
    return None


def refuse_losing(lost: Sequence[Lost]) -> None:
    """Refuse a change that would stop releases.

    Raises:
        VerificationError: ``releases-would-stop``, with each of them.
    """
    if lost:
        raise VerificationError(
            f"{len(lost)} live release(s) would lose their approval, and devices would refuse them: "
            + "; ".join(one.explain() for one in lost),
            code="releases-would-stop",
            hint="have them signed again first, with keys that stay: chopmark release sign-again; "
            "where they are to stop: --stop-releases",
            evidence={"releases": [one.as_json() for one in lost]},
        )


def apply(
    proposals: Sequence[Proposal],
    *,
    standing: Standing,
    host: GitHost,
    by: Committer,
    committer_keys: Collection[str],
    now: datetime,
    stop_releases: bool = False,
    removing: Collection[str] = (),
) -> Applied:
    """Merge the copies of a proposal and commit what it makes govern: three files, one commit on main.

    Args:
        committer_keys: ids of the keys that *by* signs commits with.
        stop_releases: let live releases lose their approval.
        removing: paths that the commit takes away, such as the proposal's own.

    Raises:
        UsageError: ``trust-proposal-differs``; ``git-signer-removed``: nobody would believe the commit.
        VerificationError: as :func:`examine`; ``trust-proposal-incomplete``, ``releases-would-stop``.
        MovedError: main moved meanwhile; nothing was done.
    """
    examined = examine(standing, merge(standing, proposals, now=now), now=now)
    accepted = complete(standing, examined.proposal, now=now)
    at = head(host, MAIN)
    new = accepted.root
    if host.read(at, root_path(new.version), max_bytes=_MAX_FILE_BYTES) is not None:
        # The workspace reads its files: whoever was stopped between the branch and its files would look for ever.
        raise MovedError(
            f"root {new.version} stands on {MAIN} already",
            code="ref-moved",
            hint="look again; if an apply was cut off: git restore --staged --worktree trust, in the release repository",
        )
    _check_targets(host, at, standing, examined.proposal.targets)
    if not stop_releases:
        live = live_releases(host, at, workspace=standing.trust.workspace)
        refuse_losing(losing(live, standing.trust, accepted.policy))
    signers = {key.keyid for owner in accepted.policy.rule(GIT_ROLE).owners for key in owner.keys}
    if not signers & set(committer_keys):
        raise UsageError(
            f"{by.name}'s key signs commits no more after this change: the operator would not believe this commit",
            code="git-signer-removed",
            hint="let another Git signer apply it",
        )
    files: Mapping[str, bytes | None] = {
        root_path(new.version): new.data,
        f"{TRUST}/{accepted.policy.version}.trust.json": accepted.trust,
        TARGETS_PATH: accepted.targets,
        **dict.fromkeys(removing),
    }
    lines = [f"- {difference.explain()}" for difference in examined.differences]
    message = (
        f"Trust {new.version}: {len(lines)} changes\n\n"
        + "\n".join(lines)
        + f"\n\nProposal: {examined.proposal.digest}\n"
    )
    commit = host.commit(MAIN, files, parent=at, message=message, by=by, at=now)
    return Applied(accepted=accepted, examined=examined, commit=commit)


def root_path(version: int) -> str:
    """Return where a root stands in the repository."""
    return f"{TRUST}/{version}.root.json"


def _check_targets(host: GitHost, commit: str, standing: Standing, targets: Metadata[Targets]) -> None:
    """Check that targets.json follows the one of now: who signed it elsewhere could not know that."""
    data = host.read(commit, TARGETS_PATH, max_bytes=_MAX_FILE_BYTES)
    before = signed_targets(standing.root, data or b"")
    if targets.signed.version != before.version + 1:
        raise VerificationError(
            f"the proposal's targets.json {targets.signed.version} does not follow {before.version}",
            code="trust-proposal-stale",
            hint="make it again on what governs now: chopmark trust change; everybody signs again",
        )


def _channels(targets: Targets) -> tuple[str, ...]:
    roles = targets.delegations.roles if targets.delegations and targets.delegations.roles else {}
    return tuple(name for name in roles if name != STATUS)


def _in_order(targets: Targets, channels: Sequence[str]) -> dict[str, object]:
    """Return what *targets* says, its roles in the order that they are built in."""
    said: dict[str, object] = targets.to_dict()
    delegations = said.get("delegations")
    if isinstance(delegations, dict):
        place = {name: number for number, name in enumerate((*channels, STATUS))}
        delegations["roles"] = sorted(delegations["roles"], key=lambda role: place[role["name"]])
    return said


def _check_usable(policy: TrustPolicy) -> None:
    """Check that ledger, witnesses and Git can be used under *policy*."""
    try:
        WitnessPolicy.parse(policy.witness_policy)
        for log in policy.logs:
            for key in log.require:
                VerifierKey.decode(key)
        policy.active_log  # noqa: B018 - one is needed
        allowed_signers(policy)
    except ChopmarkError as error:
        raise _unfit(error.message) from error


def _unfit(message: str) -> VerificationError:
    return VerificationError(
        f"the proposal's files do not fit: {message}",
        code="trust-proposal-unfit",
        hint="make it with: chopmark trust change",
    )
