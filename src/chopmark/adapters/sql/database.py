# SPDX-License-Identifier: Apache-2.0
"""One SQLite file: opened the one way that keeps promises (WAL, synchronous=FULL), errors turned into ours.

A connection is shared by the threads of a process behind a lock; several processes may open the same file. Every value
that comes out is checked for its type, since a damaged file can hold anything.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chopmark.artifacts import sync_folder
from chopmark.errors import ChopmarkError, InternalError, UndecidedError, UsageError, VerificationError

BUSY_SECONDS = 30.0
"""How long one process waits for another to finish its transaction."""

Value = int | str | bytes | None

_RESTORE = "restore this file from a copy"
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
}


class Database:
    """A connection to one file."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def create(
        cls, path: Path, *, application_id: int, schema: str, rows: Sequence[tuple[str, Sequence[Value]]]
    ) -> Database:
        """Make the file with *schema* and its first *rows*, in one transaction.

        Raises:
            UsageError: a file is there already.
            UndecidedError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            raise UsageError(f"{path}: is there already", hint="a store is made once, and opened ever after") from error
        except OSError as error:
            raise UndecidedError(f"{path}: cannot be made ({error.strerror})", code="not-written") from error
        database = cls._connect(path)
        with database.transaction():
            for statement in schema.split(";"):
                database.run(statement)
            for sql, values in rows:
                database.run(sql, values)
            database.run(f"PRAGMA application_id = {application_id}")
        sync_folder(path.parent)
        return database

    @classmethod
    def open(cls, path: Path, *, application_id: int) -> Database:
        """Open a file that :meth:`create` made.

        Raises:
            UndecidedError: it is missing or cannot be read.
            VerificationError: it is something else.
        """
        if not path.is_file():
            raise UndecidedError(
                f"{path}: is missing", code="store-missing", hint="mount or restore it; a new one would forget the past"
            )
        database = cls._connect(path)
        if database.integer("PRAGMA application_id") != application_id:
            raise VerificationError(f"{path}: is not the store it should be", code="ledger-corrupt")
        return database

    @classmethod
    def _connect(cls, path: Path) -> Database:
        with _translated(path):
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        database = cls(connection, path)
        database.run("PRAGMA page_size = 8192")  # of a new file: bundles and tiles are longer than that
        database.run("PRAGMA trusted_schema = OFF")
        database.run("PRAGMA cell_size_check = ON")
        if database.one("PRAGMA journal_mode = WAL") != ("wal",):
            raise UsageError(f"{path}: this file system cannot hold it", hint="use a local disk")
        database.run("PRAGMA synchronous = FULL")
        return database

    def close(self) -> None:
        """Close the connection; nothing committed is lost without it."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write under the file's lock: all of the block or nothing."""
        with self._lock:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                # A rollback that fails changes nothing: closing the file rolls back too.
                with _ignored():
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read of the block see the same state; inside a transaction that is so already."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self.run("BEGIN")
            try:
                yield
            finally:
                with _ignored():
                    self._connection.execute("COMMIT")

    def run(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Execute a statement; return how many rows it changed."""
        with self._lock, _translated(self.path):
            return self._connection.execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Execute a statement for each of *rows*."""
        with self._lock, _translated(self.path):
            self._connection.executemany(sql, rows)

    def all(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Return all rows."""
        with self._lock, _translated(self.path):
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: Sequence[Value] = ()) -> tuple[Value, ...] | None:
        """Return the first row."""
        with self._lock, _translated(self.path):
            row: tuple[Value, ...] | None = self._connection.execute(sql, values).fetchone()
            return row

    def integer(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Return the one number that *sql* selects."""
        row = self.one(sql, values)
        return as_int(row[0] if row else None)


def as_int(value: Value) -> int:
    """Return a number that a row must hold."""
    if not isinstance(value, int):
        raise _corrupt()
    return value


def as_str(value: Value) -> str:
    """Return a text that a row must hold."""
    if not isinstance(value, str):
        raise _corrupt()
    return value


def as_bytes(value: Value) -> bytes:
    """Return bytes that a row must hold."""
    if not isinstance(value, bytes):
        raise _corrupt()
    return value


def as_bytes_or_none(value: Value) -> bytes | None:
    """Return bytes that a row may hold."""
    return None if value is None else as_bytes(value)


def _corrupt() -> VerificationError:
    return VerificationError("a row is missing or damaged", code="ledger-corrupt", hint=_RESTORE)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
        raise InternalError(f"{path.name}: {error}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
            message = f"{path}: {error}"
            raise UndecidedError(message, code="store-busy", hint="check the disk and who else writes") from error
        raise VerificationError(f"{path}: {error}", code="ledger-corrupt", hint=_RESTORE) from error
    except (UnicodeDecodeError, OverflowError) as error:  # the library's, over what a damaged file holds
        raise VerificationError(f"{path}: is damaged", code="ledger-corrupt", hint=_RESTORE) from error


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ChopmarkError):
        return
