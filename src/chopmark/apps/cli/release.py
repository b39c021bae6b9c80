# SPDX-License-Identifier: Apache-2.0
"""``release``: from a package to the desired state in Git, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, bad, columns, dim, good

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import Digest
    from chopmark.policy import Decision
    from chopmark.release import Approval, Checked, Merge, Proposal, Withdrawal

RANGE = ">=1.20,<2"


@click.group()
def release() -> None:
    """A release is a reviewed change in Git whose envelope enough owners signed.

    \b
    Example:
        chopmark release propose packages/digits-1/package --model digits --version 1
        chopmark release approve digits-1 --as owner-a
        chopmark release approve digits-1 --as owner-b
        chopmark release check digits-1
        chopmark release merge digits-1
    """


@release.command()
@click.argument("package", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", required=True, help="The model's name.")
@click.option("--version", "label", required=True, help="The release's version, for people.")
@click.option("--fallback", multiple=True, help="A release (v1, or digits of its hash) that may be assigned instead.")
@click.option(
    "--check-class", default="normal", show_default=True, help="How often devices check: critical, normal, low."
)
@click.pass_obj
@answers
def propose(start: Path, package: Path, model: str, label: str, fallback: tuple[str, ...], check_class: str) -> Answer:
    """Gather the evidence about PACKAGE, decide over it, and put what approvers are to sign on a branch.

    \b
    Example:
        chopmark release propose packages/digits-2/package --model digits --version 2 --fallback v1
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    fallbacks = [site.release_digest(text) for text in fallback]
    done = propose_package(site, package, model=model, label=label, fallbacks=fallbacks, check_class=check_class)
    body = {
        "ok": done.release is not None,
        "branch": done.branch,
        "commit": done.commit,
        "release": str(done.release.digest) if done.release else None,
        "evidence": str(done.vsa),
        "rules": _rules(done.decision),
    }
    if done.release is None:
        return body, [bad(f"the evidence about {model} {label} does not suffice"), *_rule_lines(done.decision)]
    return body, [
        good(f"{done.branch} at {done.commit[:8]}: {model} {label}, release {done.release.digest.short}…"),
        *_rule_lines(done.decision),
        f"  next: chopmark release approve {model}-{label} --as OWNER",
    ]


@release.command()
@click.argument("name")
@click.option("--as", "owner", required=True, help="The owner whose keys sign; they must be on this machine.")
@click.pass_obj
@answers
def approve(start: Path, name: str, owner: str) -> Answer:
    """Replay the gate's decision here, and sign the release NAME (model-version) with an owner's keys.

    \b
    Example:
        chopmark release approve digits-2 --as owner-a
    """
    from chopmark.apps.cli.wiring import Site

    done = approve_release(Site.at(start), name, owner)
    counted = list(done.approvals.counted)
    body = {"ok": True, "release": str(done.release.digest), "approvals": counted, "commit": done.commit}
    return body, [
        good(f"{owner} approved {name}: the evidence was decided again here, and holds"),
        f"  signed by {', '.join(counted)}; next: chopmark release check {name}",
    ]


@release.command()
@click.argument("name")
@click.pass_obj
@answers
def check(start: Path, name: str) -> Answer:
    """Decide whether the release NAME may become the desired state: what a pull request runs.

    \b
    Example:
        chopmark release check digits-2
    """
    from chopmark.apps.cli.wiring import Site

    return _checked(check_release(Site.at(start), name))


@release.command()
@click.argument("name")
@click.pass_obj
@answers
def merge(start: Path, name: str) -> Answer:
    """Check the release NAME and, if it is allowed, merge it into main with a signed commit.

    \b
    Example:
        chopmark release merge digits-2
    """
    from chopmark.apps.cli.wiring import Site

    done = merge_release(Site.at(start), name)
    body, lines = _checked(done.checked)
    if done.commit is None:
        return body, lines
    return {**body, "commit": done.commit}, [good(f"merged {name}: git merge {done.commit[:8]}"), *lines]


@release.command()
@click.argument("model")
@click.option("--reason", default="", help="Why; it stands in the commit.")
@click.option("--yes", is_flag=True, help="Do it; without this it only shows what would happen.")
@click.pass_obj
@answers
def rollback(start: Path, model: str, reason: str, *, yes: bool) -> Answer:
    """Withdraw the current release of MODEL: revert its merge, so that its approved fallback is published.

    A rollback is a release: the channel's version goes up. Nothing is done without --yes.

    \b
    Example:
        chopmark release rollback digits --reason "misreads sevens"
        chopmark release rollback digits --reason "misreads sevens" --yes
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    if not yes:
        now = site.current_release(model)
        names = [site.version_of(str(digest)) or digest.short for digest in now.fallbacks]
        body = {"ok": True, "done": False, "release": str(now.digest), "fallbacks": [str(d) for d in now.fallbacks]}
        return body, [
            f"{model} is at v{now.version}; its approvers named {', '.join(names) or 'no fallback'} to go back to",
            "  next: the same with --yes",
        ]
    done = withdraw_release(site, model, reason)
    body = {"ok": True, "done": True, "commit": done.commit, "fallback": str(done.fallback.digest)}
    return body, [
        good(f"{model} v{done.release.version} withdrawn: git revert {done.commit[:8]}"),
        f"  v{done.fallback.version} is what main asks for now; the operator publishes it",
    ]


@release.command()
@click.argument("model")
@click.option("--reason", required=True, help="Why; devices and people read it.")
@click.option("--as", "owners", multiple=True, required=True, help="Security owners whose keys sign; two are needed.")
@click.option("--release", "text", help="The release (v2, or digits of its hash); default: the current one.")
@click.pass_obj
@answers
def revoke(start: Path, model: str, reason: str, owners: tuple[str, ...], text: str | None) -> Answer:
    """Revoke a release for ever: signed by the security owners, published by the security host.

    \b
    Example:
        chopmark release revoke digits --reason backdoor --as security-a --as security-b
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    digest = site.release_digest(text) if text else site.current_release(model).digest
    index = revoke_release(site, model, digest, reason=reason, owners=owners)
    body = {"ok": True, "release": str(digest), "entry": index}
    return body, [
        good(f"{model} {digest.short}… is revoked: {reason}"),
        f"  entry {index}; devices refuse it at their next refresh",
    ]


@release.command()
@click.pass_obj
@answers
def history(start: Path) -> Answer:
    """List every release that was decided over, in ledger order.

    \b
    Example:
        chopmark release history
    """
    from chopmark.apps.cli.overview import decisions
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    made = list(enumerate(decisions(site), 1))
    body = {
        "ok": True,
        "decisions": [
            {
                "id": f"G{number}",
                "entry": found.index,
                "allowed": found.summary.passed,
                "release": str(found.summary.release),
                "approvals": list(found.summary.approvals),
            }
            for number, found in made
        ],
    }
    rows = [
        (
            f"G{number}",
            good("allowed") if found.summary.passed else bad("refused"),
            f"{found.summary.subject.name} {site.version_of(str(found.summary.release))}",
            f"{found.summary.release.short}…" if found.summary.release else "",
            ", ".join(found.summary.approvals),
            dim(f"{found.summary.time:%Y-%m-%d %H:%M:%S}Z  entry {found.index}"),
        )
        for number, found in made
    ]
    return body, columns(rows)


def propose_package(
    site: Site, package: Path, *, model: str, label: str, fallbacks: Sequence[Digest], check_class: str = "normal"
) -> Proposal:
    """Propose the package in a folder for the workspace's channel."""
    from chopmark.artifacts import scan
    from chopmark.channel import RuntimeNeed
    from chopmark.errors import UsageError
    from chopmark.release import Draft
    from chopmark.release import propose as propose_draft

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
        runtime=RuntimeNeed(name=site.runtime().name, range=RANGE, libraries={}),
        self_test=self_test.sha256,
        fallbacks=tuple(fallbacks),
        check_class=check_class,
    )
    return propose_draft(draft, host=site.git, gate=site.gate(), by=site.committer("maintainer"))


def approve_release(site: Site, name: str, owner: str) -> Approval:
    """Approve the release *name* with the keys of *owner*."""
    from chopmark.release import approve as approve_branch

    return approve_branch(
        f"release/{name}",
        host=site.git,
        source=site,
        trust=site.trust,
        signers=site.signers(owner),
        by=site.committer("maintainer"),
        at=site.clock.now(),
    )


def check_release(site: Site, name: str) -> Checked:
    """Decide over the release *name*."""
    from chopmark.release import check as check_branch

    return check_branch(f"release/{name}", host=site.git, gate=site.gate())


def merge_release(site: Site, name: str) -> Merge:
    """Check and merge the release *name*."""
    from chopmark.release import merge as merge_branch

    return merge_branch(f"release/{name}", host=site.git, gate=site.gate(), by=site.committer("maintainer"))


def withdraw_release(site: Site, model: str, reason: str) -> Withdrawal:
    """Go back to the fallback of the current release of *model*."""
    from chopmark.release import withdraw

    return withdraw(
        model, host=site.git, trust=site.trust, by=site.committer("maintainer"), at=site.clock.now(), reason=reason
    )


def revoke_release(site: Site, model: str, digest: Digest, *, reason: str, owners: Sequence[str]) -> int:
    """Have the security host revoke *digest*, and log the statement; return its index."""
    from chopmark.channel.status import revocation
    from chopmark.statements import encode_envelope, sign

    keys = [key for owner in owners for key in site.signers(owner)]
    statement = revocation(
        workspace=site.workspace.name, model=model, kind="release", digest=digest, reason=reason, since=site.clock.now()
    )
    envelope = sign(statement, keys)
    site.security_host().submit(encode_envelope(envelope))
    return site.log(envelope)


def _checked(done: Checked) -> Answer:
    body = {
        "ok": done.allowed,
        "release": str(done.release.digest),
        "approvals": list(done.approvals.counted),
        "decision": str(done.vsa),
        "rules": _rules(done.decision),
    }
    line = f"{done.release.model} {done.release.version}  release {done.release.digest.short}…"
    head = good(f"ALLOWED  {line}") if done.allowed else bad(f"REFUSED  {line}")
    return body, [head, *_rule_lines(done.decision)]


def _rules(decision: Decision) -> list[dict[str, object]]:
    return [
        {"id": v.id, "ok": v.ok, "message": v.message, "facts": [str(f) for f in v.facts]} for v in decision.verdicts
    ]


def _rule_lines(decision: Decision) -> list[str]:
    return columns(
        [(good(v.id) if v.ok else bad(v.id), "" if v.ok else v.message) for v in decision.verdicts], indent="  "
    )
