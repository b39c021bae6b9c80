# SPDX-License-Identifier: Apache-2.0
"""Groups of commands. One by a table imports a command's module when the command is used, so that a verifier starts fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

from chopmark.errors import InternalError

Table = Mapping[str, tuple[str, str]]
"""Command -> module and object (``read:proof``) below the group's package, and its line in the overview."""


class Group(click.Group):
    """A group that shows the first sentence of each command, whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def lazy_group(package: str, table: Table) -> type[click.Group]:
    """Return the class of a group whose commands stand in *table*."""

    class LazyGroup(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
            return list(table)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
            if cmd_name not in table:
                return None
            module, _, name = table[cmd_name][0].partition(":")
            command = getattr(importlib.import_module(f"{package}.{module}"), name)
            if not isinstance(command, click.Command):
                raise InternalError(f"{cmd_name} is not a command")
            return command

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
            with formatter.section("Commands"):
                formatter.write_dl([(name, line) for name, (_, line) in table.items()])

    return LazyGroup
