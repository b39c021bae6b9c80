# SPDX-License-Identifier: Apache-2.0
"""``keys``: which keys are here, and what they may say."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.public import public
from chopmark.apps.cli.render import Answer, answers, columns, dim


@click.group(cls=Group)
def keys() -> None:
    """The keys of this workspace. Private halves never leave their files.

    \b
    Example:
        chopmark keys list
    """


@keys.command("list")
@click.pass_obj
@answers
def list_(start: Path) -> Answer:
    """List the keys that trust.json knows, and which are on this machine.

    \b
    Example:
        chopmark keys list --json
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    found = [
        {
            "owner": owner.name,
            "algorithm": str(key.algorithm),
            "keyid": key.keyid,
            "here": (site.workspace.owner_keys(owner.name) / f"{key.algorithm}.pem").exists(),
            "roles": ", ".join(role.name for role in site.trust.roles.values() if owner.name in role.owners),
        }
        for owner in site.trust.owners.values()
        for key in owner.keys
    ]
    rows = [
        (
            str(k["owner"]),
            str(k["algorithm"]),
            str(k["keyid"])[:16],
            "here" if k["here"] else dim("elsewhere"),
            str(k["roles"]),
        )
        for k in found
    ]
    return {"ok": True, "keys": found}, columns([("owner", "algorithm", "key id", "private half", "roles"), *rows])


keys.add_command(public)
