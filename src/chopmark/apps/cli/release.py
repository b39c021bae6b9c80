# SPDX-License-Identifier: Apache-2.0
"""``release``: from a package to the desired state in Git, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, bad, columns, dim, good, moment

if TYPE_CHECKING:
    from chopmark.artifacts import Digest
    from chopmark.policy import Decision
    from chopmark.release import Checked
    from chopmark.release.record import GateDecision


@click.group(cls=Group)
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
@click.option("--policy", default="default", show_default=True, help="The ReleasePolicy on main that decides.")
@click.pass_obj
@answers
def propose(
    start: Path, package: Path, model: str, label: str, fallback: tuple[str, ...], check_class: str, policy: str
) -> Answer:
    """Gather the evidence about PACKAGE, decide over it, and put what approvers are to sign on a branch.

    \b
    Example:
        chopmark release propose packages/digits-2/package --model digits --version 2 --fallback v1
    """
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    fallbacks = [releasing.named_release(site, text) for text in fallback]
    done = releasing.propose_package(
        site, package, model=model, label=label, fallbacks=fallbacks, check_class=check_class, policy=policy
    )
    body = {
        "ok": done.release is not None,
        "branch": done.branch,
        "commit": done.commit,
        "release": done.release.digest if done.release else None,
        "evidence": done.vsa,
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
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    done = releasing.approve_release(Site.at(start), name, owner)
    counted = list(done.approvals.counted)
    body = {"ok": True, "release": done.release.digest, "approvals": counted, "commit": done.commit}
    return body, [
        good(f"{owner} approved {name}: the evidence was decided again here, and holds"),
        f"  signed by {', '.join(counted)}; next: chopmark release check {name}",
    ]


@release.command("sign-again")
@click.argument("release")
@click.option("--as", "owner", required=True, help="The owner whose keys sign; they must be on this machine.")
@click.pass_obj
@answers
def sign_again(start: Path, release: str, owner: str) -> Answer:
    """Add an approver's signatures to a RELEASE (v2, or digits of its hash) that is approved already.

    For a change of trust that retires keys: what devices run needs enough signatures by keys that stay. The release
    stays the same; operator and devices take over the envelope.

    \b
    Example:
        chopmark release sign-again v2 --as owner-c
    """
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    done, index = releasing.sign_again(Site.at(start), release, owner)
    counted = list(done.approvals.counted)
    about = done.release
    body = {"ok": True, "release": about.digest, "approvals": counted, "commit": done.commit, "index": index}
    return body, [
        good(f"{owner} signed {about.model} {about.version} again: commit {done.commit[:8]}, ledger entry {index}"),
        f"  signed by {', '.join(counted)}; next: chopmark operator once",
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
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    return _checked(releasing.check_release(Site.at(start), name))


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
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    done = releasing.merge_release(Site.at(start), name)
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
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    if not yes:
        planned = releasing.planned_withdrawal(site, model)
        body = {"ok": True, "done": False, "release": planned.release.digest, "fallback": planned.fallback.digest}
        return body, [
            f"{model} would go from v{planned.release.version} back to v{planned.fallback.version}, its approved fallback",
            "  next: the same with --yes",
        ]
    done = releasing.withdraw_release(site, model, reason)
    body = {"ok": True, "done": True, "commit": done.commit, "fallback": done.fallback.digest}
    return body, [
        good(f"{model} v{done.release.version} withdrawn: git revert {done.commit[:8]}"),
        f"  v{done.fallback.version} is what main asks for now; the operator publishes it",
    ]


@release.command()
@click.argument("model")
@click.option("--reason", required=True, help="Why; devices and people read it.")
@click.option("--as", "owners", multiple=True, required=True, help="Security owners whose keys sign; two are needed.")
@click.option("--alone", is_flag=True, help="This release only; another one of the same package may still be made.")
@click.option("--release", "text", help="The release (v2, or digits of its hash); default: the current one.")
@click.pass_obj
@answers
def revoke(start: Path, model: str, reason: str, owners: tuple[str, ...], text: str | None, *, alone: bool) -> Answer:
    """Revoke the package of a release of MODEL for ever: signed by the security owners, published by the security host.

    Every release of that package is refused from then on, on devices and by the gate.

    \b
    Example:
        chopmark release revoke digits --release v2 --reason backdoor --as security-a --as security-b
    """
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    found = site.releases[releasing.named_release(site, text)] if text else releasing.current_release(site, model)
    index = releasing.revoke_release(site, found, reason=reason, owners=owners, alone=alone)
    what = f"release {found.digest.short}…" if alone else f"package {found.manifest.short}…"
    body = {"ok": True, "release": found.digest, "package": None if alone else found.manifest, "entry": index}
    return body, [
        good(f"{found.model} v{found.version}, {what}, is revoked: {reason}"),
        f"  entry {index}; devices refuse it at their next refresh after the operator's next look",
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
    from chopmark.apps.cli import releasing
    from chopmark.apps.cli.wiring import Site
    from chopmark.release.record import decisions

    site = Site.at(start)
    made = decisions(site.statements(), site.trust, before=site.trust_before)
    now = frozenset(wanted.digest for wanted in releasing.wanted_releases(site))
    revoked = releasing.revoked_digests(site)
    body = {
        "ok": True,
        "decisions": [
            {
                "id": found.id,
                "entry": found.index,
                "time": found.summary.time,
                "model": found.summary.subject.name.removeprefix("model/"),
                "version": found.summary.version,
                "allowed": found.summary.passed,
                "release": found.summary.release,
                "approvals": found.summary.approvals,
                "standing": _standing(found, now, revoked),
            }
            for found in made
        ],
    }
    rows = [
        (
            found.id,
            good("allowed") if found.summary.passed else bad("refused"),
            f"{found.summary.subject.name} v{found.summary.version}",
            f"{found.summary.release.short}…" if found.summary.release else "",
            ", ".join(found.summary.approvals),
            _standing(found, now, revoked),
            dim(f"{moment(found.summary.time)}  entry {found.index}"),
        )
        for found in made
    ]
    return body, columns(rows) or [dim("no release was decided over yet; next: chopmark release propose")]


@release.command()
@click.argument("what")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@click.option("--without-package", is_flag=True, help="Leave the model's files out; their digests stay.")
@click.option("--whole-ledger", is_flag=True, help="Every entry of the ledger, so that nothing can have been left out.")
@click.pass_obj
@answers
def export(start: Path, what: str, out: Path, *, without_package: bool, whole_ledger: bool) -> Answer:
    """Write the dossier of WHAT: one file that tells its whole life to whoever has the root, offline.

    WHAT is a model (its current release), a release (digits-1) or a digest. `chopmark trace FILE --root …` reads it.

    \b
    Example:
        chopmark release export digits-1 --out digits-1.chopmark
        chopmark release export digits --without-package --whole-ledger --out digits.chopmark
    """
    from chopmark.apps.cli.exporting import export_dossier
    from chopmark.apps.cli.wiring import Site

    done = export_dossier(Site.at(start), what, out, package=not without_package, whole=whole_ledger)
    opened = done.opened
    body = {
        "ok": True,
        "dossier": str(out),
        "bytes": done.length,
        "about": opened.about,
        "statements": len(opened.entries),
        "size": opened.seen.checkpoint.size,
        "complete": opened.complete,
        "package": opened.package,
        "root": opened.pin,
    }
    return body, [
        good(f"{out}: {len(opened.entries)} statements about {opened.about.short}…, {done.length:,} bytes"),
        f"  next   chopmark trace {out} --root {opened.pin}",
    ]


def _standing(found: GateDecision, now: frozenset[Digest], revoked: frozenset[Digest]) -> str:
    """Return what became of a decision: ``current``, ``revoked``, or nothing to say."""
    if {found.summary.release, found.summary.subject.digest} & revoked:
        return "revoked"
    return "current" if found.summary.passed and found.summary.release in now else ""


def _checked(done: Checked) -> Answer:
    body = {
        "ok": done.allowed,
        "release": done.release.digest,
        "approvals": list(done.approvals.counted),
        "decision": done.vsa,
        "rules": _rules(done.decision),
    }
    line = f"{done.release.model} {done.release.version}  release {done.release.digest.short}…"
    head = good(f"ALLOWED  {line}") if done.allowed else bad(f"REFUSED  {line}")
    return body, [head, *_rule_lines(done.decision), *_next(done)]


def _rules(decision: Decision) -> list[dict[str, object]]:
    return [{"id": v.id, "ok": v.ok, "message": v.message, "facts": v.facts} for v in decision.verdicts]


def _rule_lines(decision: Decision) -> list[str]:
    return columns(
        [(good(v.id) if v.ok else bad(v.id), "" if v.ok else v.message) for v in decision.verdicts], indent="  "
    )


def _next(done: Checked) -> list[str]:
    """Return the next step after a refusal for want of approvals."""
    waiting = [owner for owner in done.approvals.candidates if owner not in done.approvals.counted]
    if done.allowed or not waiting or len(done.approvals.counted) >= done.approvals.k:
        return []
    return [f"  next: chopmark release approve {done.release.model}-{done.release.version} --as {waiting[0]}"]
