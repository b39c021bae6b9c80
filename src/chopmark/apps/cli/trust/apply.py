# SPDX-License-Identifier: Apache-2.0
"""``trust apply``: let a complete proposal govern."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, good


@click.command()
@click.argument("proposals", nargs=-1, required=True, metavar="PROPOSAL...")
@click.option("--by", "committer", default="maintainer", show_default=True, help="The Git signer that commits.")
@click.option("--stop-releases", is_flag=True, help="Let live releases lose their approval: devices refuse them.")
@click.pass_obj
@answers
def apply(start: Path, proposals: tuple[str, ...], committer: str, *, stop_releases: bool) -> Answer:
    """Verify a complete proposal as every device will, and commit root.json, trust.json and targets.json together.

    Takes several copies and merges them. The operator publishes them in its next pass; devices then follow.

    \b
    Example:
        chopmark trust apply trust-2.proposal.json
        chopmark trust apply from-a.json from-b.json from-c.json
        chopmark trust apply trust/2
    """
    from chopmark.apps.cli.trust.places import body, lines, read_now, read_proposal
    from chopmark.apps.cli.wiring import Site
    from chopmark.release import trusting
    from chopmark.trust.change import progress

    now = read_now(start, (), None, None)
    site = now.site or Site.at(start)
    done = trusting.apply(
        [read_proposal(place, now) for place in proposals],
        standing=now.standing,
        host=site.git,
        by=site.committer(committer),
        committer_keys=[signer.public.keyid for signer in site.signers(committer)],
        now=site.clock.now(),
        stop_releases=stop_releases,
    )
    root = done.accepted.root
    data = body(done.examined, progress(now.standing, done.examined.proposal))
    data |= {"root": {"version": root.version, "sha256": root.digest}, "commit": done.commit}
    return data, [
        *lines(done.examined),
        good(f"root {root.version} governs: {root.digest}, commit {done.commit[:8]}"),
        "  next: chopmark operator once, or the running operator's next pass; devices follow",
        "  a service, security host or witness that runs is started again, to read it",
    ]
