# SPDX-License-Identifier: Apache-2.0
"""``trust show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, columns, strong

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chopmark.keys import Algorithm
    from chopmark.trust import LogKeys, TrustedRoot, TrustPolicy


@click.command()
@click.pass_obj
@answers
def show(start: Path) -> Answer:
    """Show root, roles, keys, ledgers, limits and witnesses as they follow from the pin.

    \b
    Example:
        chopmark trust show
        chopmark trust show --json
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    root, policy = site.root, site.trust
    data = {"ok": True, "workspace": root.workspace, "pin": site.workspace.pin, **_root(root), **_policy(policy)}
    asked = [("root", root.rule.k, [owner.name for owner in root.rule.owners], root.rule.algorithms)]
    asked += [(role.name, role.k, list(role.owners), role.algorithms) for role in policy.roles.values()]
    rows = [(name, f"{k} of {len(owners)}", ", ".join(owners), _asked(groups)) for name, k, owners, groups in asked]
    return data, [
        (
            f"{strong(root.workspace)}  root {root.version}, {root.rule.k} of {len(root.rule.owners)} owners, "
            f"expires {root.expires:%Y-%m-%d}"
        ),
        f"  pin {site.workspace.pin}",
        *columns(rows, indent="  "),
        *(f"  ledger {log.origin}: {_log(log)}" for log in policy.logs),
        *(
            f"  retired {old.key.keyid[:16]} of {old.owner}: {old.reason}, good before entry {old.until:,} of {old.log}"
            for old in policy.retired
        ),
    ]


def _root(root: TrustedRoot) -> dict[str, object]:
    return {
        "root": {
            "version": root.version,
            "sha256": root.digest,
            "expires": root.expires,
            "k": root.rule.k,
            "owners": [owner.name for owner in root.rule.owners],
            "algorithms": [sorted(map(str, group)) for group in root.rule.algorithms],
            "reset": root.reset,
        }
    }


def _policy(policy: TrustPolicy) -> dict[str, object]:
    return {
        "version": policy.version,
        "roles": {
            role.name: {
                "owners": list(role.owners),
                "k": role.k,
                "algorithms": [sorted(map(str, group)) for group in role.algorithms],
                "predicates": list(role.predicates),
                "subjects": list(role.subjects),
                "channels": list(role.channels),
            }
            for role in policy.roles.values()
        },
        "keys": _keys(policy),
        "retired": [
            {
                "keyid": old.key.keyid,
                "algorithm": str(old.key.algorithm),
                "owner": old.owner,
                "reason": str(old.reason),
                "log": old.log,
                "until": old.until,
            }
            for old in policy.retired
        ],
        "logs": [
            {
                "origin": log.origin,
                "require": list(log.require),
                "state": "active" if log.active else "frozen",
                "frozen": None if log.frozen is None else {"size": log.frozen.size, "root": log.frozen.root},
            }
            for log in policy.logs
        ],
        "limits": {
            "max_status_age_s": dict(policy.limits.max_status_age_s),
            "clock_tolerance_s": policy.limits.clock_tolerance_s,
            "key_life_s": policy.limits.key_life_s,
            "key_warning_s": policy.limits.key_warning_s,
        },
        "max_status_age_s": dict(policy.limits.max_status_age_s),
        "witness_policy": policy.witness_policy,
    }


def _asked(algorithms: Iterable[Iterable[Algorithm]]) -> str:
    return " + ".join("|".join(sorted(group)) for group in algorithms)


def _keys(policy: TrustPolicy) -> list[dict[str, object]]:
    return [
        {
            "owner": owner.name,
            "algorithm": str(key.algorithm),
            "keyid": key.keyid,
            "expires": policy.key_expiry.get(key.keyid),
        }
        for owner in policy.owners.values()
        for key in owner.keys
    ]


def _log(log: LogKeys) -> str:
    return "active" if log.frozen is None else f"frozen at {log.frozen.size:,} entries, {log.frozen.root.short}…"
