# SPDX-License-Identifier: Apache-2.0
"""Where a new log is kept, as options say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from chopmark.errors import UsageError

if TYPE_CHECKING:
    from chopmark.ledger.place import PostgresSettings, StoreSettings

_MIGRATE: Final = "chopmark ledger migrate --help"


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
    return PostgresSettings(database=postgres, objects=objects, options=store_options(options))


def target_settings(kind: str, database: str | None, objects: str | None, options: Sequence[str]) -> StoreSettings:
    """Return the settings of the stores that a log is moved to.

    Raises:
        UsageError: options of the other kind, or one that is missing or no NAME=VALUE.
    """
    from chopmark.ledger.place import PostgresSettings, SqliteSettings

    if kind == "sqlite":
        if database or objects or options:
            raise UsageError("--database, --objects and --option are of --to postgresql", hint=_MIGRATE)
        return SqliteSettings()
    if not database or not objects:
        raise UsageError("--to postgresql needs --database and --objects", hint=_MIGRATE)
    return PostgresSettings(database=database, objects=objects, options=store_options(options))


def store_options(options: Sequence[str]) -> dict[str, str]:
    """Return the options of an object store.

    Raises:
        UsageError: one that is no KEY=VALUE.
    """
    pairs = [option.partition("=") for option in options]
    if any(not (name and mark and value) for name, mark, value in pairs):
        raise UsageError("--option is KEY=VALUE", hint="e.g. --option endpoint=https://s3.example")
    return {name: value for name, _, value in pairs}
