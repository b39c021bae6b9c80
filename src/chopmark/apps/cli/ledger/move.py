# SPDX-License-Identifier: Apache-2.0
"""Bring a log elsewhere: into other stores, or from anybody's static files."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, good, say

_MAX_POLICY_BYTES = 1024 * 1024


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", "kind", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", help="Which stores.")
@click.option("--database", help="With postgresql: a libpq connection string without a password.")
@click.option("--objects", help="With postgresql: file:///folder, s3://bucket/prefix or gs://bucket/prefix.")
@click.option("--option", "options", multiple=True, help="With postgresql: NAME=VALUE of the object store.")
@click.pass_obj
@answers
def migrate(
    start: Path, folder: Path, kind: str, database: str | None, objects: str | None, options: tuple[str, ...]
) -> Answer:
    """Move the log with its keys into FOLDER and other stores; the old one is frozen first, for good.

    It is checked before anything is frozen. Killed on the way, neither side appends; run it again to finish.

    \b
    Example:
        chopmark ledger migrate ../acme-log-moved
        chopmark ledger migrate ../at-scale --to postgresql --database "host=db dbname=log" --objects s3://acme/log
    """
    from chopmark.apps.cli.ledger.meter import Meter
    from chopmark.apps.cli.ledger.moving import migrate as move
    from chopmark.apps.cli.ledger.stores import target_settings
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.errors import VerificationError
    from chopmark.ledger import VerifierKey
    from chopmark.ledger.fsck import fsck
    from chopmark.ledger.helpers import cores

    site = LogSite.at(start)
    store, heads = site.stores
    settings = target_settings(kind, database, objects, options)
    if not store.state().frozen:
        keys = [VerifierKey.decode(vkey) for vkey in site.place.require]
        report = fsck(store, heads, keys, site.place.policy, workers=cores(), progress=Meter("checked"))
        if not report.ok:
            raise VerificationError(f"not moved: {report.problems[0]}", code="ledger-corrupt", hint="ledger fsck")
    place = move(site, folder, settings, progress=Meter("copied"))
    size = LogSite(place).stores[0].state().size
    data = {"ok": True, "folder": str(place.folder), "origin": place.origin, "size": size}
    return data, [
        good(f"{size:,} entries of {place.origin} moved to {place.folder}"),
        "  the old log is frozen; remove its keys when the new one has its backups",
    ]


@click.command("import")
@click.argument("where")
@click.option("--into", "folder", type=click.Path(path_type=Path), required=True, help="The folder of the copy.")
@click.option("--key", "vkeys", multiple=True, help="A vkey that must have signed; several may be given.")
@click.option("--policy", type=click.Path(path_type=Path), help="Which witnesses are enough (C2SP tlog-policy).")
@click.option("--external", multiple=True, help="A witness or group of the policy that somebody else runs.")
@click.option("--keys", type=click.Path(path_type=Path), help="The log's private keys: continue it here.")
@answers
def import_(
    where: str,
    folder: Path,
    vkeys: tuple[str, ...],
    policy: Path | None,
    external: tuple[str, ...],
    keys: Path | None,
) -> Answer:
    """Copy the tlog-tiles log at WHERE (a folder or an address) and check every byte; later, fetch what is new.

    The copy is read, checked and served like any log, and cannot append: its keys are elsewhere. With --keys it goes
    on here; it must have ended there, since two live logs of one name are a fork.

    \b
    Example:
        chopmark ledger import https://log.example/models --into mirror --key log.example/models+5a…
        chopmark ledger import https://log.example/models --into mirror
    """
    from chopmark.apps.cli.ledger.meter import Meter
    from chopmark.apps.cli.ledger.moving import fetch
    from chopmark.artifacts import read_file
    from chopmark.ledger import WitnessPolicy

    witnesses = None if policy is None else WitnessPolicy.parse(read_file(policy, max_bytes=_MAX_POLICY_BYTES))
    site = fetch(where, folder, vkeys=vkeys, policy=witnesses, external=external, keys=keys, progress=Meter("fetched"))
    if keys is not None:
        say(f"note: {site.place.origin} is live here now; it must not go on where it came from")
    state = site.stores[0].state()
    data = {"ok": True, "folder": str(site.place.folder), "origin": state.origin, "size": state.size}
    return data, [good(f"{state.size:,} entries of {state.origin} in {site.place.folder}, every one checked")]
