# SPDX-License-Identifier: Apache-2.0
"""``trust``: who may act, who may say what, and how several people change that together."""

from __future__ import annotations

from typing import Final

import click

from chopmark.apps.cli.lazy import lazy_group

COMMANDS: Final = {
    "show": ("show:show", "root, roles, keys, ledgers and limits as they follow from the pin"),
    "change": ("change:change", "make a proposal: the next root, trust.json and targets.json, unsigned"),
    "status": ("sign:status", "what a proposal would do, who has signed it, who is missing"),
    "sign": ("sign:sign", "add one root owner's signatures to a proposal; needs no workspace"),
    "merge": ("sign:merge", "one proposal of copies that were signed apart"),
    "apply": ("apply:apply", "let a complete proposal govern: one commit"),
}


@click.group(cls=lazy_group("chopmark.apps.cli.trust", COMMANDS))
def trust() -> None:
    """root.json and trust.json: who may act, and who may say what.

    \b
    Example:
        chopmark trust show
        chopmark trust change --renew --out renew.json
        chopmark trust sign renew.json --keys /media/stick/owner-a
        chopmark trust apply renew.json
    """
