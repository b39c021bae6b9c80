# SPDX-License-Identifier: Apache-2.0
"""``channel``: what is published, followed and verified as a device does."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, columns, good


@click.group()
def channel() -> None:
    """The channel: which approved release goes to whom, and the status: what is revoked or held.

    \b
    Example:
        chopmark channel status
    """


@channel.command()
@click.option("--url", help="Follow it over HTTP, from here; default: what is published in the workspace.")
@click.pass_obj
@answers
def status(start: Path, url: str | None) -> Answer:
    """Follow the published channel as a new device would, steps 5 to 9, and show what it says.

    \b
    Example:
        chopmark channel status
        chopmark channel status --url http://127.0.0.1:8420/channel
    """
    from chopmark.apps.cli.releasing import version_of
    from chopmark.apps.cli.wiring import Site
    from chopmark.channel.walk import Seen, to_channel, to_status
    from chopmark.ledger import witnessed_by

    site = Site.at(start)
    fetcher, now, name = (
        site.fetcher(url or site.workspace.published.as_uri()),
        site.clock.now(),
        site.workspace.channel,
    )
    found = to_status(site.root, site.trust, fetcher, seen=Seen(), channel=name, now=now)
    file = to_channel(found, fetcher, name=name, now=now)
    seen = witnessed_by(site.log_place.policy, found.logged.witnesses, site.log_place.external)
    body = {
        "ok": True,
        "channel": file.name,
        "version": file.version,
        "log": {
            "origin": found.logged.origin,
            "size": found.logged.head.size,
            "witnesses": list(found.logged.witnesses),
            "witnessed": seen,
        },
        "status": {"version": found.status.version, "issued": found.status.issued},
        "revoked": [{"of": e.kind, "digest": e.digest, "reason": e.reason} for e in found.status.revoked],
        "assigned": [{"model": a.model, "release": a.release, "buckets": [a.first, a.end]} for a in file.assignments],
    }
    rows = [
        (a.model, version_of(site, a.release), f"{a.release.short}…", f"buckets {a.first} to {a.end}")
        for a in file.assignments
    ]
    revoked = [("revoked", e.kind, f"{e.digest.short}…", e.reason) for e in found.status.revoked]
    witnesses = ", ".join(found.logged.witnesses)
    return body, [
        good(f"{file.name} {file.version}: entry {found.logged.index} of {found.logged.head.size}, by {witnesses}"),
        f"  status {found.status.version}, issued {found.status.issued:%Y-%m-%d %H:%M}Z; {seen}",
        *columns([*rows, *revoked], indent="  "),
    ]
