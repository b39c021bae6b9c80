# SPDX-License-Identifier: Apache-2.0
"""``device``: make this machine a device, follow the channel, check what is installed."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, bad, good
from chopmark.artifacts import read_file

MAX_TOKEN_BYTES = 1024
_FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.group(cls=Group)
def device() -> None:
    """A device: it follows the channel, verifies every byte before a parser sees one, and reports what it finds.

    \b
    Example:
        chopmark device enroll kiosks/kiosk-1 --model digits --token-file .chopmark/enrolment-token
        chopmark device run kiosks/kiosk-1
        chopmark device verify kiosks/kiosk-1
    """


@device.command()
@_FOLDER
@click.option("--model", "models", multiple=True, required=True, help="A model that this device runs.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), required=True, help="What the service asks of new devices."
)
@click.option("--name", help="What people call it; default: the folder's name.")
@click.option("--pin", help="Digest of root.json; default: the workspace's.")
@click.option("--channel", help="Default: the workspace's.")
@click.option("--channel-url", help="Where the channel is served; default: by the workspace's service.")
@click.option("--fleet-url", help="Whom to report to; default: the workspace's service.")
@click.option("--poll", "poll_s", default=300, show_default=True, help="Seconds between refreshes.")
@click.pass_obj
@answers
def enroll(
    start: Path,
    folder: Path,
    models: tuple[str, ...],
    token_file: Path,
    name: str | None,
    pin: str | None,
    channel: str | None,
    channel_url: str | None,
    fleet_url: str | None,
    poll_s: int,
) -> Answer:
    """Make FOLDER a device: a key that never leaves it, the pinned root, an id from the service.

    \b
    Example:
        chopmark device enroll kiosks/kiosk-1 --model digits --token-file .chopmark/enrolment-token --poll 5
    """
    import chopmark.apps.agent.main as agent

    if pin is None or channel is None or channel_url is None or fleet_url is None:
        from chopmark.release import open_workspace

        workspace = open_workspace(start)
        pin, channel = pin or str(workspace.pin), channel or workspace.channel
        channel_url = channel_url or f"{workspace.service_url}/channel"
        fleet_url = workspace.service_url if fleet_url is None else fleet_url
    config = agent.enroll(
        folder,
        name=name or folder.resolve().name,
        channel_url=channel_url,
        pin=pin,
        models=models,
        channel=channel,
        fleet_url=fleet_url,
        token=read_file(token_file, max_bytes=MAX_TOKEN_BYTES).decode("utf-8", "replace").strip(),
        poll_s=poll_s,
    )
    body = {"ok": True, "device": config.device, "folder": str(folder), "tier": 1}
    return body, [
        good(f"{config.device} in {folder}: T1, a software key"),
        f"  next: chopmark device run {folder}",
    ]


@device.command()
@_FOLDER
@click.option("--once", is_flag=True, help="One turn: check, refresh, report.")
@answers
def run(folder: Path, *, once: bool) -> Answer:
    """Follow the channel, check what is installed, report; until stopped.

    It talks on stderr. The exit code is that of the last turn: 1 where anything was refused, healed or not.

    \b
    Example:
        chopmark device run kiosks/kiosk-1
        chopmark device run kiosks/kiosk-1 --once --json
    """
    import chopmark.apps.agent.main as agent

    return agent.turn_json(agent.run(folder, once=once)), []


@device.command()
@_FOLDER
@answers
def verify(folder: Path) -> Answer:
    """Check every installed model byte by byte, offline, without loading it.

    \b
    Example:
        chopmark device verify kiosks/kiosk-1
    """
    import chopmark.apps.agent.main as agent

    verdicts = [agent.verdict_json(verdict) for verdict in agent.verify(folder).values()]
    ok = all(verdict["verdict"] == "verified" for verdict in verdicts)
    lines = []
    for verdict in verdicts:
        if verdict["verdict"] == "verified":
            lines.append(good(f"{verdict['model']} v{verdict['version']} in slot {verdict['slot']}: verified"))
        else:
            lines.append(
                bad(f"{verdict['model']}: REFUSED {verdict['verdict']}, step {verdict['step']}: {verdict['message']}")
            )
            lines.append(f"  next: {verdict['hint']}")
    return {"ok": ok, "models": verdicts}, lines


@device.command()
@_FOLDER
@click.argument("model")
@answers
def load(folder: Path, model: str) -> Answer:
    """Load MODEL as an application would, and say that it can be.

    \b
    Example:
        chopmark device load kiosks/kiosk-1 digits
    """
    import chopmark

    with chopmark.load(model, device=folder) as loaded:
        body = {"ok": True, "model": model, "version": loaded.release.version, "slot": loaded.slot, "tier": loaded.tier}
    return body, [good(f"{model} v{body['version']} loaded from sealed memory; T{body['tier']}, a software key")]
