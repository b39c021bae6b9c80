# SPDX-License-Identifier: Apache-2.0
"""Take a release back: the revert of its merge, if the state before is a fallback that its approvers named.

The result is what ``git revert -m 1`` makes, except that envelopes stay: a counter that was once approved is never free
again. Going back twice goes back further, as far as the newest release that devices have seen names. Anything else than
going back to a named fallback is a new release.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

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
        VerificationError: ``fallback-unapproved``: the release before is no fallback of the newest that devices have seen.
    """
    base = head(host, MAIN)
    current = read_model(host, base, model, workspace=trust.workspace)
    if current is None:
        raise UsageError(f"there is no release of {model}", hint="see: `chopmark release history`")
    release = newest = current.release
    for merge, parent, before in _earlier(host, base, model, trust):
        if before is not None and before.counter >= release.counter:
            # Withdrawn since, or the same: what devices may go back to is said by the newest that they have seen.
            newest = max(newest, before, key=lambda seen: seen.counter)
            continue
        if before is None or parent is None:
            break
        named = read_approved(host, base, newest.digest, trust).release
        fallback = _check_fallback(host, base, named, before, trust)
        release = read_approved(host, base, release.digest, trust).release
        return WithdrawalPlan(release=release, fallback=fallback, base=base, merge=merge, parent=parent)
    raise UsageError(
        f"{model} {release.version} is the first release; there is nothing to go back to",
        code="no-fallback",
        hint="revoke it: `chopmark release revoke`",
    )


def _earlier(
    host: GitHost, commit: str, model: str, trust: TrustPolicy
) -> Iterator[tuple[str, str | None, Release | None]]:
    """Yield each change of the model's file, newest first: the commit, its parent, and the release before it."""
    at: str | None = commit
    while at is not None and (change := host.last_change(at, model_path(model))):
        merge, at = change
        before = read_model(host, at, model, workspace=trust.workspace) if at else None
        yield merge, at, before.release if before else None


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


def _check_fallback(host: GitHost, base: str, newest: Release, before: Release, trust: TrustPolicy) -> Release:
    if before.digest not in newest.fallbacks:
        raise VerificationError(
            f"{before.model} {before.version} is none of the fallbacks that the approvers of {newest.version} named",
            code="fallback-unapproved",
            hint="propose a new release instead",
            evidence={"release": str(newest.digest), "before": str(before.digest)},
        )
    return read_approved(host, base, before.digest, trust).release
