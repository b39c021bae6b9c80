# SPDX-License-Identifier: Apache-2.0
"""``fleet``: what the devices say, and what they refused."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, bad, columns, dim, good, moment


@click.group(cls=Group)
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
            dim(moment(d.seen) if d.seen else "never seen"),
        )
        for d in found
    ]
    return body, columns(rows) or [dim("no device is enrolled yet; next: chopmark device enroll")]


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
            {
                "id": r.id,
                "device": r.device,
                "name": names.get(r.device, ""),
                "code": r.code,
                "step": r.step,
                "message": r.message,
                "first": r.first,
                "last": r.last,
                "count": r.count,
            }
            for r in found
        ],
    }
    rows = [
        (
            bad(r.id),
            names.get(r.device, r.device),
            r.code,
            f"step {r.step}",
            dim(f"{moment(r.first)} ×{r.count}"),
        )
        for r in found
    ]
    return body, columns(rows) or [good("no device refused anything yet")]


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
    """List the alerts, newest first, each as it goes to the SIEM (OCSF detection finding).

    \b
    Example:
        chopmark fleet alerts --json
    """
    from importlib.metadata import version

    from chopmark.apps.cli.wiring import Site
    from chopmark.fleet import detection_finding

    site = Site.at(start)
    names = {d.id: d.name for d in site.fleet.devices()}
    found = [
        (
            refusal,
            detection_finding(
                refusal,
                device_name=names.get(refusal.device, refusal.device),
                workspace=site.workspace.name,
                version=version("chopmark"),
            ),
        )
        for refusal in site.fleet.refusals()
    ]
    file = site.workspace.alert
    body = {"ok": True, "alerts": [alert for _, alert in found], "newest": str(file) if file.exists() else None}
    if not found:
        return body, [good("no alert was ever raised here")]
    rows = [
        (
            bad(str(alert["severity"])),
            refusal.code,
            f"{refusal.model} on {names.get(refusal.device, refusal.device)}".removeprefix(" "),
            dim(moment(refusal.first)),
            "" if refusal.alerted else "not delivered yet",
            dim(f"why {refusal.id}"),
        )
        for refusal, alert in found
    ]
    return body, [*columns(rows), f"  the newest one delivered: {file}"]


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
