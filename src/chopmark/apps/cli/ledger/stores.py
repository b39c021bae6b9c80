# SPDX-License-Identifier: Apache-2.0
"""Where a new log is kept, as options say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chopmark.errors import UsageError

if TYPE_CHECKING:
    from chopmark.ledger.place import PostgresSettings


def store_settings(postgres: str | None, objects: str | None, options: Sequence[str]) -> PostgresSettings | None:
    """Return the settings that *options* make; None for SQLite.

    Raises:
        UsageError: half of them, or an option that is no KEY=VALUE.
    """
    from chopmark.ledger.place import PostgresSettings

    if postgres is None and objects is None and not options:
        return None
    if postgres is None or objects is None:
        raise UsageError("--postgres and --objects go together", hint="or neither, for SQLite")
    pairs = [option.partition("=") for option in options]
    if any(not (name and mark and value) for name, mark, value in pairs):
        raise UsageError("--option is KEY=VALUE", hint="e.g. --option endpoint=https://s3.example")
    return PostgresSettings(database=postgres, objects=objects, options={name: value for name, _, value in pairs})
