# SPDX-License-Identifier: Apache-2.0
"""The life of a log: written as files, tidied up, closed, succeeded."""

from __future__ import annotations

import json
from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, bad, counted, good


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
@answers
def export(start: Path, folder: Path) -> Answer:
    """Write the ledger into FOLDER as static files that any tlog-tiles client reads.

    \b
    Example:
        chopmark ledger export /srv/ledger
    """
    from chopmark.apps.cli.ledger.wiring import LogSite

    point = LogSite.at(start).export(folder)
    data = {"ok": True, "folder": str(folder), "size": point.size}
    return data, [good(f"{point.size} entries of {point.origin} in {folder}")]


@click.command()
@click.argument("where")
@click.option("--option", "options", multiple=True, help="Of the object store: NAME=VALUE, as in ledger.toml.")
@click.option("--apply", is_flag=True, help="Remove them; without it, only say what would go.")
@answers
def gc(where: str, options: tuple[str, ...], *, apply: bool) -> Answer:
    """Remove partial tiles from the static files at WHERE that nobody needs any more.

    One goes only when its full tile is there and begins with it, and no served checkpoint names it. WHERE is a folder,
    or the object store of a log at scale; what its writers stage is left alone.

    \b
    Example:
        chopmark ledger gc /srv/ledger
        chopmark ledger gc /srv/ledger --apply
        chopmark ledger gc s3://acme-log/models --option region=eu-central-1
    """
    from chopmark.apps.cli.ledger.stores import store_options
    from chopmark.apps.cli.ledger.wiring import open_log_objects
    from chopmark.ledger.collect import collect

    found = collect(open_log_objects(where, store_options(options)), apply=apply)
    data = {
        "ok": not found.odd,
        "applied": apply,
        "files": found.files,
        "freed_bytes": found.freed_bytes,
        "kept": found.kept,
        "odd": list(found.odd),
    }
    did = "removed" if apply else "can go (--apply removes them)"
    lines = [good(f"{counted(found.files, 'partial file')}, {found.freed_bytes:,} bytes: {did}; {found.kept:,} stay")]
    return data, [*lines, *(bad(f"{path}: is not the beginning of its full file; run fsck") for path in found.odd)]


@click.command()
@click.option("--apply", is_flag=True, help="Drop them, for good; without it, only say what would go.")
@click.pass_obj
@answers
def prune(start: Path, *, apply: bool) -> Answer:
    """Drop old entries, as [retention] in ledger.toml says; their hashes stay, and so do all proofs.

    \b
    Example:
        chopmark ledger prune
        chopmark ledger prune --apply
    """
    from chopmark.apps.cli.ledger.wiring import IndexSite, LogSite
    from chopmark.ledger.prune import prune as drop

    site = LogSite.at(start)
    (store, heads), retention = site.stores, site.place.retention
    keep = None if retention is None else retention.keep_newest
    indexed = IndexSite(site).map.state().size if IndexSite.there(site) else None
    done = drop(store, heads, keep_newest=keep, policy=site.place.policy, apply=apply, indexed=indexed)
    data = {
        "ok": True,
        "applied": apply,
        "minimum": done.minimum,
        "entries": done.entries,
        "freed_bytes": done.freed_bytes,
    }
    did = "dropped" if apply else "can go (--apply drops them, for good)"
    what = f"{done.entries:,} entries, {done.freed_bytes:,} bytes: {did}"
    return data, [good(f"{what}; the first that stays is {done.minimum:,}" if done.entries else "nothing to prune")]


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say where it would end.")
@click.pass_obj
@answers
def freeze(start: Path, *, dry_run: bool) -> Answer:
    """End the log: nothing is appended any more, for good. Its last checkpoint stays signed and served.

    \b
    Example:
        chopmark ledger freeze
    """
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.canonical import encode_base64

    log = LogSite.at(start).ledger
    if not dry_run:
        log.freeze()
    point = log.checkpoint
    root = encode_base64(point.root)
    data = {"ok": True, "applied": not dry_run, "origin": point.origin, "size": point.size, "root": root}
    did = "would be frozen" if dry_run else "is frozen"
    return data, [
        good(f"{point.origin} {did} at size {point.size:,}"),
        f"  root {root}",
        "  next: have the last checkpoint witnessed, then chopmark ledger rotate NEWDIR --origin NEW",
    ]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--origin", required=True, help="The successor's name for ever, e.g. log.example/models-2.")
@click.pass_obj
@answers
def rotate(start: Path, folder: Path, origin: str) -> Answer:
    """Make the log that follows this frozen one in FOLDER: new name, new keys, entry 0 seals the old head.

    Run again, it finishes what was begun and says the same.

    \b
    Example:
        chopmark ledger freeze
        chopmark ledger rotate ../acme-log-2 --origin log.example/models-2
    """
    from chopmark.apps.cli.ledger.moving import succeed
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.artifacts import Digest
    from chopmark.canonical import encode_base64

    site = LogSite.at(start)
    new = succeed(site, folder, origin=origin)
    old, head = site.place, site.stores[1].head()
    root = encode_base64(head.root)
    logs = [
        {
            "origin": old.origin,
            "require": list(old.require),
            "frozen": {"size": head.size, "root": str(Digest(head.root))},
        },
        {"origin": new.origin, "require": list(new.require), "frozen": None},
    ]
    policy = [f"log {vkey}" for vkey in new.require]
    sealed = {"origin": old.origin, "size": head.size, "root": root}
    data = {"ok": True, "folder": str(new.folder), "sealed": sealed, "logs": logs, "policy": policy}
    return data, [
        good(f"{new.origin} in {new.folder}; its entry 0 seals {old.origin}"),
        f"  {old.origin}: frozen, size {head.size}, root {root}",
        "  in trust.json:",
        *(f"    {line}" for line in json.dumps({"logs": logs}, indent=2).splitlines()[1:-1]),
        "  in the witness policy, beside the old log's lines:",
        *(f"    {line}" for line in policy),
    ]
