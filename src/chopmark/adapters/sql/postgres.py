# SPDX-License-Identifier: Apache-2.0
"""The order of a log's entries, and its head, in PostgreSQL: one schema for each log.

What is kept: size and root, the index of leaves, the newest signed head. Entries and tiles lie elsewhere
(:class:`chopmark.ledger.objects.ObjectLog`), so this stays small, and everything in it is written by comparison.

A turn is an advisory lock of a session, a transaction locks the one row of the state. So a pooler that gives each
transaction another session must not stand between. A password is never part of the connection string: libpq takes it from
``PGPASSFILE`` or a service file.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, LiteralString

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.ledger import EMPTY_ROOT, VerifierKey
from chopmark.ledger.objects import ObjectLog
from chopmark.ledger.ports import Head, HeadStore, ObjectStore, Sequenced, SequenceStore

WAIT_SECONDS: Final = 30
"""How long one process waits for another's turn."""
_CONNECT_SECONDS: Final = 10
_SECRETS: Final = ("password", "sslpassword")
_SCHEMA: Final[LiteralString] = """
CREATE SCHEMA {0};
CREATE TABLE {0}.state (one integer PRIMARY KEY CHECK (one = 1), format integer NOT NULL, origin text NOT NULL,
    size bigint NOT NULL CHECK (size >= 0), root bytea NOT NULL, once boolean NOT NULL, start bigint NOT NULL,
    staged bytea);
CREATE TABLE {0}.leaf (hash bytea PRIMARY KEY, idx bigint NOT NULL);
CREATE TABLE {0}.head (one integer PRIMARY KEY CHECK (one = 1), origin text NOT NULL, size bigint NOT NULL,
    root bytea NOT NULL, note bytea, witnessed_size bigint NOT NULL, witnessed bytea)
"""
_FORMAT: Final = 1


def schema_of(origin: str) -> str:
    """Return the name of the schema of the log *origin*."""
    words = re.sub(r"[^a-z0-9]+", "_", origin.lower()).strip("_")[:32]
    return f"chopmark_{words}_{hashlib.sha256(origin.encode()).hexdigest()[:12]}"


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


def create(database: str, origin: str, *, once: bool = True) -> None:
    """Make the tables of an empty log.

    Args:
        once: each entry stands in it once; else no index of leaves is kept.

    Raises:
        UsageError: they are there already.
        UndecidedError: the database does not answer, or does not let us.
    """
    schema = schema_of(origin)
    link = _Link(database, schema)
    try:
        with link.transaction():
            link.run(_SCHEMA)
            link.run(
                "INSERT INTO {0}.state VALUES (1, %s, %s, 0, %s, %s, 0, NULL)", (_FORMAT, origin, EMPTY_ROOT, once)
            )
            link.run("INSERT INTO {0}.head VALUES (1, %s, 0, %s, NULL, 0, NULL)", (origin, EMPTY_ROOT))
    except VerificationError as error:
        if isinstance(error.__cause__, pg.DuplicateSchema | pg.UniqueViolation):
            hint = "a log is made once, and opened ever after"
            raise UsageError(f"{schema}: this log's tables are there already", hint=hint) from error
        raise
    finally:
        link.close()


def open_log(
    database: str, *, objects: ObjectStore, origin: str, require: Sequence[str]
) -> tuple[ObjectLog, PostgresHead]:
    """Open the stores of a log whose files are in *objects*; nothing is sent yet.

    Args:
        require: the log's keys, as vkeys.

    Raises:
        UsageError: as :func:`load`.
    """
    sequence, heads = load(database, origin)
    keys = [VerifierKey.decode(vkey) for vkey in require]
    return ObjectLog(sequence=sequence, heads=heads, objects=objects, keys=keys), heads


def load(database: str, origin: str) -> tuple[PostgresSequence, PostgresHead]:
    """Open the order and the head of a log; nothing is sent yet.

    Raises:
        UsageError: *database* is no connection string, or carries a password.
    """
    schema = schema_of(origin)
    reader = _Link(database, schema)
    return PostgresSequence(_Link(database, schema), reader), PostgresHead(reader)


class PostgresSequence(SequenceStore):
    """See the module. Reads go over a connection of their own, so that they wait for no append."""

    def __init__(self, writer: _Link, reader: _Link) -> None:
        self._writer = writer
        self._reader = reader
        self._owner = 0  # the thread whose transaction is open
        self._session = 0  # of the database, which has the turn
        key = hashlib.sha256(writer.schema.encode()).digest()[:8]
        self._key = int.from_bytes(key, "big", signed=True)

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reader.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._writer.held():
            row = self._writer.one("SELECT pg_backend_pid() FROM pg_advisory_lock(%s)", (self._key,))
            self._session = _int(row[0])
            try:
                yield
            finally:
                self._give_up()

    def _give_up(self) -> None:
        """End the turn; a connection over which that fails is closed, which ends it too."""
        with suppress(UndecidedError, VerificationError):
            row = self._writer.one("SELECT pg_advisory_unlock(%s), pg_backend_pid()", (self._key,))
            if row == (True, self._session):
                return
        self._writer.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._writer.transaction():
            row = self._writer.one("SELECT pg_backend_pid() FROM {0}.state FOR UPDATE")
            if row != (self._session,):
                raise UsageError(
                    "another database session than the one that has the turn answered",
                    hint="connect to PostgreSQL itself, not through a pooler that changes sessions",
                )
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = 0

    def sequenced(self) -> Sequenced:
        row = self._link().one("SELECT format, origin, size, root, once, start, staged FROM {0}.state")
        kind, origin, size, root, once, start, staged = row
        if kind != _FORMAT:
            raise VerificationError(f"tables of format {kind}", code="ledger-corrupt", hint="use a newer program")
        return Sequenced(
            origin=_str(origin),
            size=_int(size),
            root=_bytes(root),
            once=once is True,
            start=_int(start),
            staged=None if staged is None else _bytes(staged),
        )

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        sql: LiteralString = "SELECT hash, idx FROM {0}.leaf WHERE hash = ANY(%s)"
        return {_bytes(leaf): _int(index) for leaf, index in self._link().all(sql, (list(leaves),))}

    def advance(self, old: Sequenced, new: Sequenced, leaves: Sequence[bytes]) -> bool:
        moved = self._writer.run(
            "UPDATE {0}.state SET size = %s, root = %s, start = %s, staged = %s"
            " WHERE size = %s AND root = %s AND size < %s",
            (new.size, new.root, new.start, new.staged, old.size, old.root, new.size),
        )
        if moved == 1 and leaves:
            # Sorted, so that neighbours in the index are written together.
            rows = sorted(zip(leaves, range(old.size, new.size), strict=True))
            self._writer.run(
                "INSERT INTO {0}.leaf (hash, idx) SELECT * FROM unnest(%s::bytea[], %s::bigint[])",
                ([leaf for leaf, _ in rows], [index for _, index in rows]),
            )
        return moved == 1

    def count(self) -> int:
        return _int(self._link().one("SELECT count(*) FROM {0}.leaf")[0])

    def _link(self) -> _Link:
        """Return the connection with this thread's own transaction, or the one for reading."""
        return self._writer if self._owner == threading.get_ident() else self._reader


class PostgresHead(HeadStore):
    """See the module."""

    def __init__(self, link: _Link) -> None:
        self._db = link

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def head(self) -> Head:
        origin, size, root, note, witnessed = self._db.one("SELECT origin, size, root, note, witnessed FROM {0}.head")
        return Head(
            origin=_str(origin),
            size=_int(size),
            root=_bytes(root),
            note=None if note is None else _bytes(note),
            witnessed=None if witnessed is None else _bytes(witnessed),
        )

    def advance(self, old: Head, *, size: int, root: bytes) -> bool:
        sql: LiteralString = (
            "UPDATE {0}.head SET size = %s, root = %s, note = NULL WHERE size = %s AND root = %s AND size < %s"
        )
        return self._db.run(sql, (size, root, old.size, old.root, size)) == 1

    def keep_note(self, head: Head, note: bytes) -> bytes | None:
        with self._db.transaction():
            where = (head.size, head.root)
            self._db.run("UPDATE {0}.head SET note = %s WHERE size = %s AND root = %s AND note IS NULL", (note, *where))
            rows = self._db.all("SELECT note FROM {0}.head WHERE size = %s AND root = %s", where)
        return _bytes(rows[0][0]) if rows else None

    def keep_witnessed(self, size: int, note: bytes) -> bool:
        sql: LiteralString = "UPDATE {0}.head SET witnessed_size = %s, witnessed = %s WHERE witnessed_size <= %s"
        return self._db.run(sql, (size, note, size)) == 1


class _Link:
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


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _corrupt()
    return value


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise _corrupt()
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise _corrupt()
    return value


def _corrupt() -> VerificationError:
    return VerificationError("a row is missing or damaged", code="ledger-corrupt", hint="run fsck; restore from a copy")
