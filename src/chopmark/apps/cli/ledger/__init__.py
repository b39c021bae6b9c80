# SPDX-License-Identifier: Apache-2.0
"""``ledger``: what was logged, proven to whoever asks; and a log of one's own, from its creation to its successor."""

from __future__ import annotations

from typing import Final

import click

from chopmark.apps.cli.lazy import lazy_group

COMMANDS: Final = {
    "create": ("write:create", "make a log of its own: keys, stores, ledger.toml"),
    "append": ("write:append", "log files, each once"),
    "checkpoint": ("read:checkpoint", "the newest signed checkpoint, and which witnesses saw it"),
    "entries": ("read:entries", "what was logged, in order"),
    "proof": ("read:proof", "a .tlog-proof that an entry is in the log"),
    "verify": ("read:verify", "verify a .tlog-proof offline"),
    "fsck": ("check:fsck", "derive everything again from the entries, and compare"),
    "export": ("life:export", "write the log as static files"),
    "index": ("index:index", "every entry about a model, digest or signer, proven complete"),
    "serve": ("serve:serve", "serve it over HTTP: files, and POST /append"),
    "token": ("serve:token", "who may append over HTTP"),
    "witness": ("watch:witness", "cosign that logs only grow"),
    "create-witness": ("watch:create_witness", "make a witness of its own: keys, memory, witness.toml"),
    "cosign": ("watch:cosign", "cosign a request that was carried here, without a network"),
    "feed": ("watch:feed", "have the newest checkpoint cosigned by the policy's witnesses"),
}


@click.group(cls=lazy_group("chopmark.apps.cli.ledger", COMMANDS))
def ledger() -> None:
    """The transparency log: append-only, signed twice, witnessed.

    \b
    Example:
        chopmark ledger fsck
        chopmark ledger proof 7 --out 7.tlog-proof
        chopmark ledger verify 7.tlog-proof --entry 7.json

    Each command is about the nearest log upwards from here: a folder with ledger.toml, or a workspace.
    """
