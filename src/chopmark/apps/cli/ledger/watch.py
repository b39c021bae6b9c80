# SPDX-License-Identifier: Apache-2.0
"""Who watches a log: witnesses that cosign its growth."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
@click.pass_context
def witness(ctx: click.Context) -> None:
    """Run the workspace's witness: a process of its own, with its own key and folder.

    \b
    Example:
        chopmark ledger witness
    """
    from chopmark.apps.cli.services import start_service

    start_service("witness", ctx)
