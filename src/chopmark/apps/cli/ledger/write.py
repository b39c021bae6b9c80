# SPDX-License-Identifier: Apache-2.0
"""Make a log of its own, and append to one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, good

_BATCH = 4096
_MAX_LINES_BYTES = 1024**3


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--origin", required=True, help="The log's name for ever, e.g. log.example/models (no https://).")
@click.option("--postgres", metavar="CONNINFO", help="Keep the order of entries in this PostgreSQL; no password here.")
@click.option("--objects", metavar="URL", help="…and the files in this object store: s3://, gs:// or file:///.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the object store, e.g. endpoint=URL.")
@click.option("--twice", is_flag=True, help="An entry that is appended again is logged again; appends are faster.")
@answers
def create(
    folder: Path, origin: str, postgres: str | None, objects: str | None, options: tuple[str, ...], *, twice: bool
) -> Answer:
    """Make an empty log in FOLDER: its keys (Ed25519 and ML-DSA-44), its stores, ledger.toml and policy.txt.

    \b
    Example:
        chopmark ledger create acme-log --origin log.example/models
        cd acme-log && chopmark ledger append ../model.json
        chopmark ledger create big-log --origin log.example/all --postgres "host=db dbname=log" --objects s3://acme/log
    """
    from chopmark.apps.cli.ledger.stores import store_settings
    from chopmark.apps.cli.ledger.wiring import create_log

    settings = store_settings(postgres, objects, options)
    place = create_log(folder, origin=origin, once=not twice, settings=settings)
    data = {"ok": True, "folder": str(place.folder), "origin": place.origin, "require": list(place.require)}
    return data, [
        good(f"{place.origin} in {place.folder}"),
        "  its keys lie in keys/: whoever has them can speak for this log",
        "  next: chopmark ledger append FILE; add witnesses to policy.txt",
    ]


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--lines", is_flag=True, help="Each line of the files is an entry (without its end).")
@click.option("--to", "url", help="Append over HTTP to the log at this address; ledger.toml here says who it is.")
@click.option("--token-file", type=click.Path(path_type=Path), help="The token for --to, mode 0600.")
@click.option(
    "--proofs", type=click.Path(path_type=Path), help="With --to: a folder for the proofs, <index>.tlog-proof."
)
@click.pass_obj
@answers
def append(
    start: Path, files: tuple[Path, ...], *, lines: bool, url: str | None, token_file: Path | None, proofs: Path | None
) -> Answer:
    """Log FILES, each an entry of at most 65,535 bytes, and say at which index each stands.

    What is in the log already keeps its index. Over HTTP (--to), an entry counts as logged when its proof verifies.

    \b
    Example:
        chopmark ledger append model.json
        chopmark ledger append --lines digests.txt
        chopmark ledger append --to https://log.example/models --token-file ci.token model.json
    """
    from chopmark.apps.cli.ledger.remote import append_over, read_token
    from chopmark.apps.cli.ledger.wiring import LogSite, open_log_server

    site = LogSite.at(start)
    entries = list(_entries(files, lines=lines))
    if url is not None:
        return append_over(open_log_server(url, read_token(token_file)), entries, site.place, proofs=proofs)
    if site.of_workspace:
        from chopmark.release.evidence import check_leaf

        for entry in entries:
            check_leaf(entry)
    log = site.ledger
    before = log.checkpoint.size
    indices: list[int] = []
    for at in range(0, len(entries), _BATCH):
        indices += log.append(entries[at : at + _BATCH])
    size = log.checkpoint.size
    data = {"ok": True, "size": size, "new": size - before, "indices": indices}
    shown = f"entry {indices[0]}" if len(indices) == 1 else f"{len(indices):,} entries"
    return data, [good(f"{shown}: {size - before:,} new; the log has {size:,}")]


def _entries(files: tuple[Path, ...], *, lines: bool) -> Iterator[bytes]:
    from chopmark.artifacts import read_file
    from chopmark.ledger import MAX_ENTRY_BYTES

    for file in files:
        if lines:
            yield from read_file(file, max_bytes=_MAX_LINES_BYTES).splitlines()
        else:
            yield read_file(file, max_bytes=MAX_ENTRY_BYTES)
