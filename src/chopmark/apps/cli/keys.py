# SPDX-License-Identifier: Apache-2.0
"""``keys`` and ``trust``: which keys are here, and who may say what with them."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.public import public
from chopmark.apps.cli.render import Answer, answers, columns, dim, strong


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


@click.group(cls=Group)
def trust() -> None:
    """root.json and trust.json: who may act, and who may say what.

    \b
    Example:
        chopmark trust show
    """


@trust.command()
@click.pass_obj
@answers
def show(start: Path) -> Answer:
    """Show root, roles, limits and witnesses as they follow from the pin.

    \b
    Example:
        chopmark trust show
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    root, policy = site.root, site.trust
    data = {
        "ok": True,
        "workspace": root.workspace,
        "root": {"version": root.version, "sha256": root.digest, "expires": root.expires, "k": root.rule.k},
        "roles": {
            role.name: {
                "owners": list(role.owners),
                "k": role.k,
                "algorithms": [sorted(map(str, group)) for group in role.algorithms],
                "predicates": list(role.predicates),
            }
            for role in policy.roles.values()
        },
        "max_status_age_s": dict(policy.limits.max_status_age_s),
        "witness_policy": policy.witness_policy,
    }
    rows = [
        (
            role.name,
            f"{role.k} of {len(role.owners)}",
            ", ".join(role.owners),
            " + ".join("|".join(sorted(group)) for group in role.algorithms),
        )
        for role in policy.roles.values()
    ]
    return data, [
        (
            f"{strong(root.workspace)}  root {root.version}, {root.rule.k} of {len(root.rule.owners)} owners, "
            f"expires {root.expires:%Y-%m-%d}"
        ),
        f"  pin {site.workspace.pin}",
        *columns(rows, indent="  "),
    ]
