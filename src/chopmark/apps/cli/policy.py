# SPDX-License-Identifier: Apache-2.0
"""``policy``: what a release must show, checked and explained before anybody relies on it."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.adopt import adoption
from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, columns, good

MAX_POLICY_BYTES = 1_000_000


@click.group(cls=Group)
def policy() -> None:
    """Release policies: CEL rules over verified statements. What cannot be evaluated does not hold.

    \b
    Example:
        chopmark policy check release/policies/default.yaml
        chopmark policy adoption --until 2027-06-30
    """


policy.add_command(adoption)


@policy.command()
@click.argument("path", type=click.Path(path_type=Path))
@answers
def check(path: Path) -> Answer:
    """Read the policy in PATH strictly, and type-check every rule.

    \b
    Example:
        chopmark policy check release/policies/default.yaml
    """
    from chopmark.artifacts import read_file
    from chopmark.policy import decode_policy

    found = decode_policy(read_file(path, max_bytes=MAX_POLICY_BYTES))
    body = {
        "ok": True,
        "name": found.name,
        "digest": str(found.digest),
        "rules": [{"id": rule.id, "phase": str(rule.phase), "message": rule.message} for rule in found.rules],
    }
    rows = [(rule.id, str(rule.phase), rule.message) for rule in found.rules]
    return body, [good(f"policy {found.name}: {len(found.rules)} rules  {found.digest}"), *columns(rows, indent="  ")]
