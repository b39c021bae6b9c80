# SPDX-License-Identifier: Apache-2.0
"""What ``release`` does with the parts of a workspace, one function a verb; the demo tells its story with the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from chopmark.apps.cli.wiring import Site
from chopmark.artifacts import Digest, read_file, scan
from chopmark.channel import Release, RuntimeNeed, Status
from chopmark.channel.follow import MAX_STATUS_BYTES, MAX_TARGETS_BYTES, signed_status, signed_targets
from chopmark.channel.status import revocation
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.keys import Signer
from chopmark.policy import Decision, Rule, Undecidable
from chopmark.release import (
    DEFAULT_POLICY,
    MAIN,
    Approval,
    Checked,
    Desired,
    Draft,
    Merge,
    Proposal,
    Withdrawal,
    WithdrawalPlan,
    approve,
    approve_again,
    check,
    desired,
    merge,
    plan_withdrawal,
    propose,
    read_model,
    read_policy,
    withdraw,
)
from chopmark.statements import PredicateType, encode_envelope, sign
from chopmark.statements.judge import judged

RUNTIME_RANGE = ">=1.20,<2"


def head_of_main(site: Site) -> str:
    """Return the commit that is the desired state.

    Raises:
        UsageError: the repository has no main.
    """
    head = site.git.head(MAIN)
    if head is None:
        raise UsageError("the release repository has no branch main", hint="make a workspace: chopmark init DIR")
    return head


def what_main_asks_for(site: Site) -> Desired:
    """Return the desired state."""
    return desired(site.git, head_of_main(site), trust=site.trust, workspace=site.workspace.name)


def policy_rules(site: Site) -> tuple[Rule, ...]:
    """Return the rules of the default policy on main, of both phases."""
    return read_policy(site.git, head_of_main(site), "default").rules


def version_of(site: Site, release: Digest | None) -> str:
    """Return ``v2`` for a release that the ledger knows, and the first digits of its hash for any other.

    A ledger that cannot be read knows none: it is a name for people, and nothing is decided by it.
    """
    if release is None:
        return ""
    with suppress(UndecidedError, VerificationError):
        if found := site.releases.get(release):
            return f"v{found.version}"
    return f"{release.short}…"


def named_release(site: Site, text: str) -> Digest:
    """Return the one approved release that *text* names: ``v2``, or the first digits of its hash.

    Raises:
        UsageError: none or several.
    """
    prefix = text.removeprefix("sha256:").lower()
    found = [d for d, release in site.releases.items() if f"v{release.version}" == text or d.hex.startswith(prefix)]
    if len(found) != 1:
        raise UsageError(f"{text}: names {len(found)} approved releases", hint="see: chopmark release history")
    return found[0]


def current_release(site: Site, model: str) -> Release:
    """Return the release of *model* that main asks for.

    Raises:
        UsageError: there is none.
    """
    found = read_model(site.git, head_of_main(site), model, workspace=site.workspace.name)
    if found is None:
        raise UsageError(f"{model}: main asks for no release of it", hint="chopmark release propose")
    return found.release


def propose_package(
    site: Site,
    package: Path,
    *,
    model: str,
    label: str,
    fallbacks: Sequence[Digest],
    check_class: str = "normal",
    policy: str = DEFAULT_POLICY,
) -> Proposal:
    """Propose the package in a folder for the workspace's channel."""
    manifest = scan(package)
    self_test = manifest.file("self-test.json")
    if self_test is None:
        raise UsageError(f"{package}: has no self-test.json", hint="make it with: chopmark build package")
    draft = Draft(
        model=model,
        version=label,
        manifest=manifest.digest,
        manifest_length=len(manifest.encode()),
        channels=(site.workspace.channel,),
        runtime=RuntimeNeed(name=site.runtime.name, range=RUNTIME_RANGE, libraries={}),
        self_test=self_test.sha256,
        fallbacks=tuple(fallbacks),
        check_class=check_class,
        policy=policy,
    )
    done = propose(draft, host=site.git, gate=site.gate(), by=site.committer("maintainer"))
    _decided(done.decision)
    return done


def approve_release(site: Site, name: str, owner: str) -> Approval:
    """Approve the release *name* with the keys of *owner*.

    Raises:
        UsageError: trust.json knows no such owner.
    """
    return approve(
        f"release/{name}",
        host=site.git,
        source=site.evidence,
        trust=site.trust,
        signers=_owner_keys(site, owner),
        by=site.committer("maintainer"),
        at=site.clock.now(),
    )


def sign_again(site: Site, name: str, owner: str) -> tuple[Approval, int]:
    """Add the signatures of *owner* to an approved release, and log the envelope; return its index too."""
    return approve_again(
        named_release(site, name),
        host=site.git,
        log=site.evidence,
        trust=site.trust,
        signers=_owner_keys(site, owner),
        by=site.committer("maintainer"),
        at=site.clock.now(),
    )


def _owner_keys(site: Site, owner: str) -> list[Signer]:
    if owner not in site.trust.owners:
        raise UsageError(f"{owner}: trust.json has no such owner", code="no-owner", hint="see: chopmark trust show")
    return site.signers(owner)


def check_release(site: Site, name: str) -> Checked:
    """Decide over the release *name*."""
    done = check(f"release/{name}", host=site.git, gate=site.gate())
    _decided(done.decision)
    return done


def merge_release(site: Site, name: str) -> Merge:
    """Check and merge the release *name*."""
    done = merge(f"release/{name}", host=site.git, gate=site.gate(), by=site.committer("maintainer"))
    _decided(done.checked.decision)
    return done


def planned_withdrawal(site: Site, model: str) -> WithdrawalPlan:
    """Return what taking the current release of *model* back would do."""
    return plan_withdrawal(model, host=site.git, trust=site.trust)


def withdraw_release(site: Site, model: str, reason: str) -> Withdrawal:
    """Go back to the fallback of the current release of *model*."""
    return withdraw(
        model, host=site.git, trust=site.trust, by=site.committer("maintainer"), at=site.clock.now(), reason=reason
    )


def revoke_release(site: Site, release: Release, *, reason: str, owners: Sequence[str], alone: bool) -> int:
    """Have the security host revoke a release, and log the statement; return its index.

    Args:
        alone: revoke this release only; else its package, so that no other release can bring it back.

    Raises:
        UsageError: ``already-revoked``: the status says so, and the ledger.
    """
    keys = [key for owner in owners for key in _owner_keys(site, owner)]
    digest = release.digest if alone else release.manifest
    # Where only one of the two knows, an earlier attempt stopped between them: this one completes it.
    if digest in revoked_digests(site) and digest in {entry.digest for entry in _host_status(site).revoked}:
        raise UsageError(
            f"{release.model} v{release.version} is revoked already",
            code="already-revoked",
            hint="it is for ever; see: chopmark channel status",
        )
    statement = revocation(
        workspace=site.workspace.name,
        model=release.model,
        kind="release" if alone else "manifest",
        digest=digest,
        reason=reason,
        since=site.clock.now(),
    )
    envelope = sign(statement, keys)
    site.security_host().submit(encode_envelope(envelope))
    _check_revoked(site, release)
    return site.evidence.log(envelope)


def _check_revoked(site: Site, release: Release) -> None:
    """Look at what the security host says now: a revocation is not done because somebody answered that it is.

    Raises:
        UndecidedError: its newest status cannot be had, or does not revoke *release*.
        Refused: ``status-untrusted``.
    """
    if _host_status(site).revocation(release) is None:
        raise UndecidedError(
            "the security host's status does not say so yet", hint="look at the host, then revoke again"
        )


def _host_status(site: Site) -> Status:
    delegator = signed_targets(site.root, read_file(site.workspace.targets, max_bytes=MAX_TARGETS_BYTES))
    data = site.fetcher(site.workspace.security_url).fetch("status.json", max_bytes=MAX_STATUS_BYTES)
    return signed_status(site.trust, delegator, data)


def wanted_releases(site: Site) -> tuple[Release, ...]:
    """Return the releases that main asks for; none where nothing was released yet."""
    try:
        wanted = what_main_asks_for(site)
    except VerificationError as error:
        if error.code != "desired-empty":
            raise
        return ()
    assigned = dict.fromkeys(a.release for assignments in wanted.channels.values() for a in assignments)
    return tuple(wanted.releases[digest].release for digest in assigned)


def revoked_digests(site: Site) -> frozenset[Digest]:
    """Return the releases and packages that the security owners revoked, by what the ledger holds."""
    log = site.trust.active_log.origin  # a revocation outlives the keys that it was signed with
    found = judged(
        site.statements(),
        site.trust,
        log=log,
        kind=PredicateType.REVOCATION,
        role="security",
        before=site.trust_before,
    )
    return frozenset(one.statement.subject.digest for _, one in found)


def _decided(decision: Decision) -> None:
    """Let "could not be decided" be an error of its own: it is neither yes nor no."""
    if isinstance(decision, Undecidable):
        raise UndecidedError(decision.reason, hint="make the ledger and what it names readable, then run it again")
