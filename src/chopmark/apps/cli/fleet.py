# SPDX-License-Identifier: Apache-2.0
"""``fleet``: what the devices say, and what they refused."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, bad, columns, dim, good


@click.group()
def fleet() -> None:
    """Devices, refusals and alerts, from what the devices reported and signed.

    \b
    Example:
        chopmark fleet devices
        chopmark fleet refusals
    """


@fleet.command()
@click.pass_obj
@answers
def devices(start: Path) -> Answer:
    """List the devices, with their tier and what they run.

    \b
    Example:
        chopmark fleet devices --json
    """
    from chopmark.apps.cli.releasing import version_of
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    found = site.fleet.devices()
    body = {
        "ok": True,
        "devices": [
            {
                "id": d.id,
                "name": d.name,
                "condition": str(d.condition),
                "tier": d.tier,
                "running": dict(d.running),
                "seen": d.seen,
            }
            for d in found
        ],
    }
    rows = [
        (
            d.name,
            str(d.condition),
            f"T{d.tier}",
            ", ".join(f"{m} {version_of(site, r)}" for m, r in d.running.items()),
            dim(f"{d.seen:%Y-%m-%d %H:%M:%S}Z" if d.seen else "never seen"),
        )
        for d in found
    ]
    return body, columns(rows)


@fleet.command()
@click.pass_obj
@answers
def refusals(start: Path) -> Answer:
    """List what devices refused, newest first; `chopmark why R1` explains one.

    \b
    Example:
        chopmark fleet refusals
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    names = {d.id: d.name for d in site.fleet.devices()}
    found = site.fleet.refusals()
    body = {
        "ok": True,
        "refusals": [
            {"id": r.id, "device": r.device, "code": r.code, "step": r.step, "message": r.message, "count": r.count}
            for r in found
        ],
    }
    rows = [
        (
            bad(r.id),
            names.get(r.device, r.device),
            r.code,
            f"step {r.step}",
            dim(f"{r.first:%Y-%m-%d %H:%M:%S}Z ×{r.count}"),
        )
        for r in found
    ]
    return body, columns(rows)


@fleet.command()
@click.pass_obj
@answers
def checkpoints(start: Path) -> Answer:
    """List the checkpoints of ledgers that devices saw: what a monitor compares with what it is shown.

    \b
    Example:
        chopmark fleet checkpoints --json > seen.json
        chopmark ledger monitor https://log.example/models --state watch --reported seen.json
    """
    from chopmark.apps.cli.wiring import Site

    found = Site.at(start).fleet.checkpoints()
    body = {
        "ok": True,
        "checkpoints": [
            {"device": device, "origin": log.origin, "size": log.size, "root": log.root.hex()} for device, log in found
        ],
    }
    rows = [(log.origin, f"{log.size:,} entries", f"{log.root.hex()[:16]}…", dim(device)) for device, log in found]
    return body, columns(rows)


@fleet.command()
@click.pass_obj
@answers
def alerts(start: Path) -> Answer:
    """Show the newest alert as it goes to the SIEM (OCSF detection finding).

    \b
    Example:
        chopmark fleet alerts --json
    """
    import json

    from chopmark.artifacts import read_file
    from chopmark.release import open_workspace

    path = open_workspace(start).alert
    if not path.exists():
        return {"ok": True, "alert": None}, [good("no alert was ever raised here")]
    alert = json.loads(read_file(path, max_bytes=1_000_000))
    finding = alert.get("finding_info", {})
    return {"ok": True, "alert": alert}, [bad(str(finding.get("title"))), f"  {finding.get('desc', '')}", f"  {path}"]


@fleet.command()
@click.argument("name")
@click.option("--by", required=True, help="Who decided it; it is written down.")
@click.pass_obj
@answers
def release(start: Path, name: str, by: str) -> Answer:
    """Release the device NAME from a hold, after a person looked at it.

    \b
    Example:
        chopmark fleet release kiosk-2 --by "security-a"
    """
    from chopmark.apps.cli.wiring import Site
    from chopmark.errors import UsageError
    from chopmark.fleet import release_device

    site = Site.at(start)
    found = next((d for d in site.fleet.devices() if name in (d.id, d.name)), None)
    if found is None:
        raise UsageError(f"{name}: no such device", hint="chopmark fleet devices")
    release_device(site.fleet, found.id, by=by, now=site.clock.now())
    return {"ok": True, "device": found.id}, [
        good(f"{found.name} is released by {by}; its next report starts its chain anew")
    ]
