# SPDX-License-Identifier: Apache-2.0
"""A connection to PostgreSQL that keeps what it promises: durable commits, one session for a turn, errors turned into ours.

It refuses a server that may forget, and a password in the connection string. Every value that comes out is checked for its
type, as in :mod:`chopmark.adapters.sql.database`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, LiteralString

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from chopmark.errors import UndecidedError, UsageError, VerificationError

WAIT_SECONDS: Final = 30
"""How long one process waits for another's turn."""
_CONNECT_SECONDS: Final = 10
_SECRETS: Final = ("password", "sslpassword")


def check_database(database: str) -> None:
    """Check a libpq connection string.

    Raises:
        UsageError: it is none, or carries a password.
    """
    try:
        parts = conninfo_to_dict(database)
    except psycopg.ProgrammingError:
        # Its message quotes the string, and a password may be in it.
        raise UsageError("not a libpq connection string", hint='e.g. "host=db.example dbname=log user=log"') from None
    if any(name in parts for name in _SECRETS):
        raise UsageError(
            "a password in the connection string ends in files and process lists",
            hint="put it into PGPASSFILE or a service file (PGSERVICEFILE), mode 0600",
        )


class Link:
    """A connection that is made when it is needed, and again when it was lost; threads use it one after another."""

    def __init__(self, database: str, schema: str) -> None:
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        check_database(database)
        self.schema = schema
        self._database = database
        self._lock = threading.RLock()
        self._holds = 0

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        """A command ends with its log open: nothing hangs on it, and the server need not wait for a timeout."""
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep to one connection: once it is lost, what follows in the block fails."""
        with self._lock:
            if not self._holds:
                self._open()
            self._holds += 1
            try:
                yield
            finally:
                self._holds -= 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all of the block or nothing."""
        with self.held(), self._translated(), self._open().transaction():
            yield

    def run(self, sql: LiteralString, values: Sequence[object] = ()) -> int:
        """Execute a statement, with ``{0}`` for the schema; return how many rows it changed."""
        with self._lock, self._translated():
            return self._open().execute(SQL(sql).format(Identifier(self.schema)), values).rowcount

    def all(self, sql: LiteralString, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Return all rows."""
        with self._lock, self._translated():
            return self._open().execute(SQL(sql).format(Identifier(self.schema)), values, binary=True).fetchall()

    def one(self, sql: LiteralString, values: Sequence[object] = ()) -> tuple[object, ...]:
        """Return the one row that there is."""
        rows = self.all(sql, values)
        if len(rows) != 1:
            raise _corrupt()
        return rows[0]

    def _open(self) -> psycopg.Connection[tuple[object, ...]]:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        if self._holds:
            raise UndecidedError("the connection to the database was lost", code="store-busy", hint="try again")
        with self._translated():
            timeout = conninfo_to_dict(self._database).get("connect_timeout") or _CONNECT_SECONDS
            made = psycopg.connect(make_conninfo(self._database, connect_timeout=timeout), autocommit=True)
            try:
                _prepare(made)
            except BaseException:
                made.close()
                raise
        self._connection = made
        return made

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (pg.UndefinedTable, pg.InvalidSchemaName) as error:
            raise UndecidedError(
                f"{self.schema}: the database has no such log",
                code="store-missing",
                hint="restore it, or see whether this is the right database; a new one would forget the past",
            ) from error
        except (pg.IntegrityError, pg.DataError, pg.DuplicateSchema) as error:
            message = f"{self.schema}: {_said(error)}"
            raise VerificationError(message, code="ledger-corrupt", hint="run fsck") from error
        except psycopg.Error as error:
            message = f"the database does not do it: {_said(error)}"
            raise UndecidedError(message, code="store-busy", hint="check the database and who else writes") from error


def _prepare(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Make a session keep what it promises, and refuse a server that cannot."""
    connection.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
    connection.execute("SET default_transaction_isolation = 'read committed'")
    sql = "SELECT current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()"
    row = connection.execute(sql).fetchone() or (None, None, None)
    if row[0] != "on" or row[2] is not False:
        raise UndecidedError(
            "this database may forget what it has promised",
            code="store-unsafe",
            hint="use the primary server, with fsync = on",
        )
    if row[1] in ("off", "local"):
        connection.execute("SET synchronous_commit = on")


def _said(error: psycopg.Error) -> str:
    """Return the first line of what the server or libpq said; neither repeats a password."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def as_int(value: object) -> int:
    """Return a number that a row must hold."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _corrupt()
    return value


def as_str(value: object) -> str:
    """Return a text that a row must hold."""
    if not isinstance(value, str):
        raise _corrupt()
    return value


def as_bool(value: object) -> bool:
    """Return a yes or no that a row must hold."""
    if not isinstance(value, bool):
        raise _corrupt()
    return value


def as_bytes(value: object) -> bytes:
    """Return bytes that a row must hold."""
    if not isinstance(value, bytes):
        raise _corrupt()
    return value


def _corrupt() -> VerificationError:
    return VerificationError("a row is missing or damaged", code="ledger-corrupt", hint="run fsck; restore from a copy")
