# SPDX-License-Identifier: Apache-2.0
"""``trust change``: make a proposal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chopmark.apps.cli.render import Answer, answers, dim, good, say

if TYPE_CHECKING:
    from chopmark.apps.cli.trust.places import Now

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_OPTIONS: Final = (
    click.option("--from", "from_file", type=_FILE, help="An edited trust.json (or .yaml) to begin with."),
    click.option("--add-owner", "add_owners", multiple=True, metavar="NAME", help="A new owner; give them keys too."),
    click.option("--add-key", "add_keys", multiple=True, metavar="OWNER=PEM", help="A public key for an owner."),
    click.option("--key-expires", metavar="DATE", help="When added keys expire, or never; default: limit key_life_s."),
    click.option("--remove-key", "remove_keys", multiple=True, metavar="KEYID", help="Retire a key."),
    click.option("--remove-owner", "remove_owners", multiple=True, metavar="NAME", help="Retire all keys of an owner."),
    click.option("--reason", type=click.Choice(["superseded", "compromised"]), help="Why keys are removed."),
    click.option(
        "--until",
        type=click.IntRange(0, 2**53 - 1),
        help="Ledger entries below it were signed while removed keys were good; default: the ledger's size now, "
        "0 where compromised.",
    ),
    click.option("--role", "roles", nargs=2, multiple=True, metavar="NAME SETTING", help="k=3, or owners=a,b,c."),
    click.option("--root-owners", metavar="A,B,C", help="All root owners from then on."),
    click.option("--root-k", type=click.IntRange(1), help="How many root owners have to sign."),
    click.option("--logs", type=_FILE, help="What `ledger freeze --json` or `ledger rotate --json` printed."),
    click.option("--witness-policy", type=_FILE, help="A C2SP tlog-policy file."),
    click.option(
        "--limit", "limits", multiple=True, metavar="NAME=SECONDS", help="key_life_s, max_status_age_s.critical, …"
    ),
    click.option("--expires", metavar="DATE", help="When root expires."),
    click.option("--renew", is_flag=True, help="Let root expire 365 days from now."),
    click.option("--reset", is_flag=True, help="Let every device forget what it has seen. The last resort."),
)


def _with_edits(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_with_edits
@click.option("--stop-releases", is_flag=True, help="Let live releases lose their approval: devices refuse them.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--branch", is_flag=True, help="Commit it on a branch trust/N of the repository.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write it; default: trust-N.proposal.json.")
@click.pass_obj
@answers
def change(
    start: Path, /, *, stop_releases: bool, dry_run: bool, branch: bool, out: Path | None, **options: Any
) -> Answer:
    """Make a proposal that root owners sign: root.json, trust.json and targets.json of the next version.

    It is refused while releases that devices run would lose their approval; they are listed, to be signed again first.

    \b
    Example:
        chopmark trust change --renew
        chopmark trust change --add-key owner-a=new.pem --dry-run
        chopmark trust change --remove-key 3f9ad1c2 --reason compromised --until 120
        chopmark trust change --add-owner owner-d --add-key owner-d=d.pem --root-owners owner-a,owner-b,owner-d
        chopmark trust change --role approver k=3 --branch
    """
    from chopmark.apps.cli.trust.edits import Options, edited
    from chopmark.apps.cli.trust.places import body, branch_of, lines, read_now, write_proposal
    from chopmark.artifacts import read_file
    from chopmark.channel.follow import MAX_TARGETS_BYTES
    from chopmark.errors import UsageError
    from chopmark.release.trusting import losing, propose
    from chopmark.trust.change import progress, unchanged

    now = read_now(start, (), None, None)
    if now.site is None:
        raise UsageError("a proposal is made in a workspace")
    site, standing = now.site, now.standing
    wanted = edited(unchanged(standing), Options(now=site.clock.now(), ledger=_ledger(now, options), **options))
    targets = read_file(site.workspace.targets, max_bytes=MAX_TARGETS_BYTES)
    done = propose(standing, wanted, targets=targets, now=site.clock.now())
    lost = () if stop_releases else losing(_live(now), standing.trust, done.wanted.trust)
    found = progress(standing, done.proposal)
    place = branch_of(done.proposal.version) if branch else str(out or f"trust-{done.proposal.version}.proposal.json")
    data = body(done, found) | {"releases": [one.as_json() for one in lost], "proposal": None if dry_run else place}
    if lost:
        from chopmark.release.trusting import refuse_losing

        for line in lines(done):
            say(line)
        refuse_losing(lost)
    if dry_run:
        return data, [*lines(done), dim("  nothing was written")]
    if not branch and Path(place).exists():
        raise UsageError(f"{place}: exists", hint="name another with --out, or remove it")
    write_proposal(done.proposal, place, now, message=f"Propose trust {done.proposal.version}")
    return data, [
        *lines(done),
        good(f"{place}: to be signed by {', '.join(found.waiting)}; {standing.root.rule.k} needed by the old rule"),
        f"  next, on each owner's machine: chopmark trust sign {place} --keys FOLDER",
    ]


def _ledger(now: Now, options: dict[str, Any]) -> tuple[str, int | None]:
    """Return the ledger that retired keys are judged by, and its size where somebody needs it."""
    site = now.site
    log = now.standing.trust.active_log.origin
    needed = options["reason"] == "superseded" and options["until"] is None
    return log, site.ledger.checkpoint.size if needed and site is not None else None


def _live(now: Now) -> tuple[Any, ...]:
    from chopmark.apps.cli.releasing import head_of_main
    from chopmark.release.live import live_releases

    if now.site is None:
        return ()
    return live_releases(now.site.git, head_of_main(now.site), workspace=now.standing.trust.workspace)
