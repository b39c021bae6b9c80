# SPDX-License-Identifier: Apache-2.0
"""The parts of a log whose order is in PostgreSQL and whose files are in an object store. Imports their clients when needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from chopmark.errors import UsageError

if TYPE_CHECKING:
    from chopmark.ledger.place import PostgresSettings, StoreSettings
    from chopmark.ledger.ports import HeadStore, LogStore, ObjectStore

_PROBE: Final = "staging/probe"


def published(settings: PostgresSettings) -> ObjectStore:
    """Return the log's files; UsageError where the store's client is not installed."""
    try:
        from chopmark.adapters.blobs.objects import open_objects
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'chopmark[scale]'") from error
    return open_objects(settings.objects, settings.options)


def scaled_stores(settings: PostgresSettings, *, origin: str, require: Sequence[str]) -> tuple[LogStore, HeadStore]:
    """Return the stores of a log; UsageError where their clients are not installed."""
    try:
        from chopmark.adapters.sql.postgres import open_log
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'chopmark[scale]'") from error
    return open_log(settings.database, objects=published(settings), origin=origin, require=require)


def check_settings(settings: StoreSettings) -> None:
    """Refuse what must not be written into a file: a password, a store that forgets."""
    from chopmark.ledger.place import SqliteSettings

    if not isinstance(settings, SqliteSettings):
        scaled_stores(settings, origin="", require=())
        if settings.objects.startswith("memory:"):
            hint = "file:///folder, s3://bucket/prefix, gs://bucket/prefix"
            raise UsageError("a log is not kept in memory", hint=hint)


def make_scaled(settings: PostgresSettings, *, origin: str, once: bool = True) -> None:
    """Make the tables of an empty log, after a look at the object store: it is empty, and creates an object once."""
    from chopmark.adapters.sql.postgres import create

    objects = published(settings)
    if next(objects.names(""), None) is not None:
        raise UsageError(f"{settings.objects}: is not empty", hint="give each log a prefix of its own")
    created = objects.create(_PROBE, b"1"), objects.create(_PROBE, b"2")
    objects.remove(_PROBE)
    if created != (True, False):
        hint = "it has to honour If-None-Match: * on PUT"
        raise UsageError(f"{settings.objects}: overwrites what is there", hint=hint)
    create(settings.database, origin, once=once)
