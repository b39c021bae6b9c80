# SPDX-License-Identifier: Apache-2.0
"""Take a release back: the revert of its merge, if the state before is a fallback that its approvers named.

The result is what ``git revert -m 1`` makes, except that envelopes stay: a counter that was once approved is never free
again. Anything else than going back to a named fallback is a new release.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.documents import MAX_DOCUMENT_BYTES
from chopmark.errors import UsageError, VerificationError
from chopmark.release.model import MAIN
from chopmark.release.ports import Committer, GitHost
from chopmark.release.repository import head, model_path, read_approved, read_model
from chopmark.trust import TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What was taken back, what stands in its place, and the commit that says so."""

    release: Release
    fallback: Release
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalPlan:
    """What a withdrawal would do: take *release* back to *fallback*, by reverting *merge* to its *parent* on *base*."""

    release: Release
    fallback: Release
    base: str
    merge: str
    parent: str


def plan_withdrawal(model: str, *, host: GitHost, trust: TrustPolicy) -> WithdrawalPlan:
    """Find what taking the current release of *model* back leads to; nothing is changed.

    Raises:
        UsageError: there is no release, or none before it.
        VerificationError: ``fallback-unapproved``: the release before is none of its fallbacks.
    """
    base, path = head(host, MAIN), model_path(model)
    current = read_model(host, base, model, workspace=trust.workspace)
    change = host.last_change(base, path)
    if current is None or change is None:
        raise UsageError(f"there is no release of {model}", hint="see: `chopmark release history`")
    merge, parent = change
    earlier = read_model(host, parent, model, workspace=trust.workspace) if parent else None
    if parent is None or earlier is None:
        raise UsageError(
            f"{model} {current.release.version} is the first release; there is nothing to go back to",
            code="no-fallback",
            hint="revoke it: `chopmark release revoke`",
        )
    release = read_approved(host, base, current.release.digest, trust).release
    fallback = _check_fallback(host, base, release, earlier.release.digest, trust)
    return WithdrawalPlan(release=release, fallback=fallback, base=base, merge=merge, parent=parent)


def withdraw(model: str, *, host: GitHost, trust: TrustPolicy, by: Committer, at: datetime, reason: str) -> Withdrawal:
    """Revert the merge of the current release of *model* on main.

    Raises:
        UsageError, VerificationError: as :func:`plan_withdrawal`.
    """
    plan, path = plan_withdrawal(model, host=host, trust=trust), model_path(model)
    release, fallback = plan.release, plan.fallback
    commit = host.commit(
        MAIN,
        {path: host.read(plan.parent, path, max_bytes=MAX_DOCUMENT_BYTES)},
        parent=plan.base,
        message=(
            f'Revert "Release {model} {release.version}"\n\n'
            f"This reverts commit {plan.merge}, reversing changes made to {plan.parent}.\n\n"
            f"Reason: {' '.join(reason.split()) or 'not given'}\nWithdrawn: {release.digest}\n"
            f"Fallback: {fallback.digest}\n"
        ),
        by=by,
        at=at,
    )
    return Withdrawal(release=release, fallback=fallback, commit=commit)


def _check_fallback(host: GitHost, base: str, release: Release, digest: Digest, trust: TrustPolicy) -> Release:
    if digest not in release.fallbacks:
        raise VerificationError(
            f"the release before {release.model} {release.version} is none of the fallbacks that its approvers named",
            code="fallback-unapproved",
            hint="propose a new release instead",
            evidence={"release": str(release.digest), "before": str(digest)},
        )
    return read_approved(host, base, digest, trust).release
