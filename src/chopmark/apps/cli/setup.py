# SPDX-License-Identifier: Apache-2.0
"""``init`` and ``doctor``: how a workspace begins, and what is missing."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, columns, dim, good, marked, say


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="The workspace's name in everything that is signed; default: the folder's.")
@click.option("--channel", default="production", show_default=True, help="The first channel.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_533),
    default=8420,
    show_default=True,
    help="The service's; security host and witness take the next two.",
)
@click.option("--postgres", metavar="CONNINFO", help="Keep the order of the ledger in this PostgreSQL.")
@click.option("--objects", metavar="URL", help="…and its files in this object store: s3://, gs:// or file:///.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the object store, e.g. endpoint=URL.")
@answers
def init(
    folder: Path,
    name: str | None,
    channel: str,
    port: int,
    postgres: str | None,
    objects: str | None,
    options: tuple[str, ...],
) -> Answer:
    """Make a workspace in FOLDER, with all its keys on this machine.

    \b
    Example:
        chopmark init acme
        cd acme && chopmark status

    That is right for a laptop. In an organisation each owner makes keys where they work: docs/guides.
    """
    from chopmark.apps.cli.ledger.stores import store_settings
    from chopmark.apps.cli.wiring import check_new, create_workspace

    label = name if name is not None else folder.resolve().name
    store = store_settings(postgres, objects, options)
    check_new(folder)
    say("making keys, root, trust, ledger and repository …")
    workspace = create_workspace(folder, name=label, channel=channel, port=port, store=store)
    data = {"ok": True, "workspace": workspace.name, "folder": str(workspace.folder), "root": str(workspace.pin)}
    return data, [
        good(f"workspace {workspace.name} in {workspace.folder}"),
        f"  root   {workspace.pin}   the pin: write it down where others can compare it",
        f"  next   cd {folder} && chopmark status",
        dim("  every key of every role is on this machine: fine to learn with, not for a release that matters"),
    ]


@click.command()
@click.pass_obj
@answers
def doctor(start: Path) -> Answer:
    """Tell what is missing on this machine, and in the workspace where there is one.

    \b
    Example:
        chopmark doctor
    """
    from chopmark.apps.cli.health import examine

    findings = examine(start)
    rows = [(marked(f.what, ok=f.ok), f.detail, "" if f.ok else f"hint: {f.hint}") for f in findings]
    ok = all(finding.ok is not False for finding in findings)
    return {"ok": ok, "findings": [f.as_json() for f in findings]}, columns(rows)
