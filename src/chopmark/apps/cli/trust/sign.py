# SPDX-License-Identifier: Apache-2.0
"""``trust sign``, ``trust status``, ``trust merge``: a proposal on its way from one owner to the next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, good, say
from chopmark.apps.cli.trust.places import with_standing

if TYPE_CHECKING:
    from chopmark.trust.change import Proposal


@click.command()
@click.argument("proposal")
@click.option("--keys", "keys", multiple=True, required=True, help="One owner's keys: a folder, a file or a URI.")
@click.option("--digest", help="The digest that was agreed on; with it nothing is asked.")
@click.option("--yes", is_flag=True, help="Sign without asking.")
@click.option("--out", help="Where to write the signed copy; default: in its place.")
@with_standing
@click.pass_obj
@answers
def sign(
    start: Path,
    *,
    proposal: str,
    keys: tuple[str, ...],
    digest: str | None,
    yes: bool,
    out: str | None,
    roots: tuple[Path, ...],
    trust_file: Path | None,
    pin: str | None,
) -> Answer:
    """Show what PROPOSAL (a file, or a branch trust/N) would do, and add one root owner's signatures.

    What is shown is read from the bytes that are signed. Owners sign in any order, on the same copy or on copies of
    their own. On a machine without a workspace, --root and --trust say what governs now.

    \b
    Example:
        chopmark trust sign trust-2.proposal.json --keys /media/stick/owner-a
        chopmark trust sign trust-2.proposal.json --keys a.pem --keys a-pq.pem --root 1.root.json --trust 1.trust.json
        chopmark trust sign trust/2 --keys .chopmark/keys/owner-a
    """
    from chopmark.apps.cli.trust.places import (
        body,
        lines,
        progress_lines,
        read_now,
        read_proposal,
        spoken,
        write_proposal,
    )
    from chopmark.apps.cli.wiring import open_keys
    from chopmark.clock import SystemClock
    from chopmark.errors import UsageError
    from chopmark.release.trusting import examine
    from chopmark.trust import change

    now, moment = read_now(start, roots, trust_file, pin), SystemClock().now()
    asked = read_proposal(proposal, now)
    examined = examine(now.standing, asked, now=moment)
    if digest is not None and digest.replace(" ", "").removeprefix("sha256:") != asked.digest.hex:
        raise UsageError(
            f"this proposal is {spoken(asked.digest)}, not the one that was agreed on",
            code="trust-proposal-differs",
            hint="find out who has which copy; nothing was signed",
        )
    signers = [signer for place in keys for signer in open_keys(place)]
    for line in lines(examined):
        say(line)
    if not (yes or digest is not None or click.confirm("Sign this?", err=True)):
        raise UsageError("nothing was signed", code="stopped")
    signed = change.sign(now.standing, asked, signers, now=moment)
    place = write_proposal(signed, out or proposal, now, message=f"Sign trust {signed.version}")
    found = change.progress(now.standing, signed)
    fresh = sorted(set(found.signed) - set(change.progress(now.standing, asked).signed))
    data = body(examined, found) | {"proposal": place, "added": fresh}
    whose = ", ".join(fresh) or "an owner, with keys that do not suffice yet"
    return data, [good(f"signed by {whose}: {place}"), *progress_lines(found)[:-1], *_next(found.complete, place)]


@click.command()
@click.argument("proposals", nargs=-1, required=True, metavar="PROPOSAL...")
@with_standing
@click.pass_obj
@answers
def status(
    start: Path, proposals: tuple[str, ...], roots: tuple[Path, ...], trust_file: Path | None, pin: str | None
) -> Answer:
    """Say what a proposal would do, who has signed it, and who is missing; of several copies, together.

    Exit code 1 while it is not complete.

    \b
    Example:
        chopmark trust status trust-2.proposal.json
        chopmark trust status a.json b.json --root 1.root.json --trust 1.trust.json
    """
    from chopmark.apps.cli.trust.places import body, lines, progress_lines, read_now, read_proposal
    from chopmark.clock import SystemClock
    from chopmark.release.trusting import examine
    from chopmark.trust.change import merge as merge_copies
    from chopmark.trust.change import progress

    now, moment = read_now(start, roots, trust_file, pin), SystemClock().now()
    merged = merge_copies(now.standing, [read_proposal(place, now) for place in proposals], now=moment)
    examined, found = examine(now.standing, merged, now=moment), progress(now.standing, merged)
    data = body(examined, found) | {"ok": found.complete}
    return data, [*lines(examined), *progress_lines(found)]


@click.command()
@click.argument("proposals", nargs=-1, required=True, metavar="PROPOSAL...")
@click.option("--out", required=True, help="Where to write the merged proposal.")
@with_standing
@click.pass_obj
@answers
def merge(
    start: Path,
    *,
    proposals: tuple[str, ...],
    out: str,
    roots: tuple[Path, ...],
    trust_file: Path | None,
    pin: str | None,
) -> Answer:
    """Make one proposal of copies that were signed apart; their order does not matter.

    \b
    Example:
        chopmark trust merge from-a.json from-b.json --out trust-2.proposal.json
    """
    from chopmark.apps.cli.trust.places import body, progress_lines, read_now, read_proposal, write_proposal
    from chopmark.clock import SystemClock
    from chopmark.release.trusting import examine
    from chopmark.trust.change import merge as merge_copies
    from chopmark.trust.change import progress

    now, moment = read_now(start, roots, trust_file, pin), SystemClock().now()
    copies: list[Proposal] = [read_proposal(place, now) for place in proposals]
    merged = merge_copies(now.standing, copies, now=moment)
    examined, found = examine(now.standing, merged, now=moment), progress(now.standing, merged)
    place = write_proposal(merged, out, now, message=f"Merge copies of trust {merged.version}")
    data = body(examined, found) | {"proposal": place}
    return data, [good(f"{len(copies)} copies in {place}"), *progress_lines(found)[:-1], *_next(found.complete, place)]


def _next(complete: bool, place: str) -> list[str]:  # noqa: FBT001 - said once
    return [f"  next: chopmark trust apply {place}" if complete else f"  next: the others sign {place}, or their copy"]
