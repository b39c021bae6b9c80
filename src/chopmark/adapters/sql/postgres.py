# SPDX-License-Identifier: Apache-2.0
"""The order of a log's entries, and its head, in PostgreSQL: one schema for each log.

What is kept: size and root, the index of leaves, the newest signed head, an end, what is pruned. Entries and tiles lie elsewhere
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

from psycopg import errors as pg

from chopmark.adapters.sql.link import Link, as_bool, as_bytes, as_int, as_str
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.ledger import EMPTY_ROOT, VerifierKey
from chopmark.ledger.objects import ObjectLog
from chopmark.ledger.ports import Head, HeadStore, ObjectStore, Sequenced, SequenceStore

_SCHEMA: Final[LiteralString] = """
CREATE SCHEMA {0};
CREATE TABLE {0}.state (one integer PRIMARY KEY CHECK (one = 1), format integer NOT NULL, origin text NOT NULL,
    size bigint NOT NULL CHECK (size >= 0), root bytea NOT NULL, once boolean NOT NULL, start bigint NOT NULL,
    staged bytea, frozen boolean NOT NULL DEFAULT false, minimum bigint NOT NULL DEFAULT 0,
    removed bigint NOT NULL DEFAULT 0, maker text NOT NULL);
CREATE TABLE {0}.leaf (hash bytea PRIMARY KEY, idx bigint NOT NULL);
CREATE TABLE {0}.head (one integer PRIMARY KEY CHECK (one = 1), origin text NOT NULL, size bigint NOT NULL,
    root bytea NOT NULL, note bytea, witnessed_size bigint NOT NULL, witnessed bytea,
    frozen boolean NOT NULL DEFAULT false, moved_to text NOT NULL DEFAULT '')
"""
_FORMAT: Final = 1


def schema_of(origin: str) -> str:
    """Return the name of the schema of the log *origin*."""
    words = re.sub(r"[^a-z0-9]+", "_", origin.lower()).strip("_")[:32]
    return f"chopmark_{words}_{hashlib.sha256(origin.encode()).hexdigest()[:12]}"


def create(database: str, origin: str, *, once: bool = True, maker: str = "") -> None:
    """Make the tables of an empty log.

    Args:
        once: each entry stands in it once; else no index of leaves is kept.
        maker: who makes them, in words that nobody else uses: an empty log that they made already is the same one.

    Raises:
        UsageError: they are there already.
        UndecidedError: the database does not answer, or does not let us.
    """
    schema = schema_of(origin)
    link = Link(database, schema)
    try:
        with link.transaction():
            link.run(_SCHEMA)
            link.run(
                "INSERT INTO {0}.state (one, format, origin, size, root, once, start, maker)"
                " VALUES (1, %s, %s, 0, %s, %s, 0, %s)",
                (_FORMAT, origin, EMPTY_ROOT, once, maker),
            )
            link.run(
                "INSERT INTO {0}.head (one, origin, size, root, witnessed_size) VALUES (1, %s, 0, %s, 0)",
                (origin, EMPTY_ROOT),
            )
    except VerificationError as error:
        if isinstance(error.__cause__, pg.DuplicateSchema | pg.UniqueViolation):
            if maker and link.one("SELECT maker, size, once FROM {0}.state") == (maker, 0, once):
                return
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
    reader = Link(database, schema)
    return PostgresSequence(Link(database, schema), reader), PostgresHead(reader)


class PostgresSequence(SequenceStore):
    """See the module. Reads go over a connection of their own, so that they wait for no append."""

    def __init__(self, writer: Link, reader: Link) -> None:
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
            self._session = as_int(row[0])
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
        sql: LiteralString = (
            "SELECT format, origin, size, root, once, start, staged, frozen, minimum, removed FROM {0}.state"
        )
        kind, origin, size, root, once, start, staged, frozen, minimum, removed = self._link().one(sql)
        if kind != _FORMAT:
            raise VerificationError(f"tables of format {kind}", code="ledger-corrupt", hint="use a newer program")
        return Sequenced(
            origin=as_str(origin),
            size=as_int(size),
            root=as_bytes(root),
            once=as_bool(once),
            start=as_int(start),
            staged=None if staged is None else as_bytes(staged),
            frozen=as_bool(frozen),
            minimum=as_int(minimum),
            removed=as_int(removed),
        )

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        sql: LiteralString = "SELECT hash, idx FROM {0}.leaf WHERE hash = ANY(%s)"
        return {as_bytes(leaf): as_int(index) for leaf, index in self._link().all(sql, (list(leaves),))}

    def advance(self, old: Sequenced, new: Sequenced, leaves: Sequence[bytes]) -> bool:
        moved = self._writer.run(
            "UPDATE {0}.state SET size = %s, root = %s, start = %s, staged = %s"
            " WHERE size = %s AND root = %s AND size < %s AND NOT frozen",
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

    def freeze(self) -> None:
        self._writer.run("UPDATE {0}.state SET frozen = true")

    def prune(self, minimum: int) -> None:
        sql: LiteralString = "UPDATE {0}.state SET minimum = %s WHERE minimum < %s AND size >= %s"
        self._writer.run(sql, (minimum, minimum, minimum))

    def keep_removed(self, end: int) -> None:
        sql: LiteralString = "UPDATE {0}.state SET removed = %s WHERE removed < %s AND minimum >= %s"
        self._writer.run(sql, (end, end, end))

    def count(self) -> int:
        return as_int(self._link().one("SELECT count(*) FROM {0}.leaf")[0])

    def _link(self) -> Link:
        """Return the connection with this thread's own transaction, or the one for reading."""
        return self._writer if self._owner == threading.get_ident() else self._reader


class PostgresHead(HeadStore):
    """See the module."""

    def __init__(self, link: Link) -> None:
        self._db = link

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def head(self) -> Head:
        sql: LiteralString = "SELECT origin, size, root, note, witnessed, frozen, moved_to FROM {0}.head"
        origin, size, root, note, witnessed, frozen, moved_to = self._db.one(sql)
        return Head(
            origin=as_str(origin),
            size=as_int(size),
            root=as_bytes(root),
            note=None if note is None else as_bytes(note),
            witnessed=None if witnessed is None else as_bytes(witnessed),
            frozen=as_bool(frozen),
            moved_to=as_str(moved_to),
        )

    def advance(self, old: Head, *, size: int, root: bytes) -> bool:
        sql: LiteralString = (
            "UPDATE {0}.head SET size = %s, root = %s, note = NULL"
            " WHERE size = %s AND root = %s AND size < %s AND NOT frozen"
        )
        return self._db.run(sql, (size, root, old.size, old.root, size)) == 1

    def keep_note(self, head: Head, note: bytes) -> bytes | None:
        with self._db.transaction():
            where = (head.size, head.root)
            self._db.run("UPDATE {0}.head SET note = %s WHERE size = %s AND root = %s AND note IS NULL", (note, *where))
            rows = self._db.all("SELECT note FROM {0}.head WHERE size = %s AND root = %s", where)
        return as_bytes(rows[0][0]) if rows else None

    def freeze(self, head: Head, *, moved_to: str = "") -> bool:
        sql: LiteralString = (
            "UPDATE {0}.head SET frozen = true, moved_to = %s"
            " WHERE size = %s AND root = %s AND (NOT frozen OR moved_to = %s)"
        )
        return self._db.run(sql, (moved_to, head.size, head.root, moved_to)) == 1

    def keep_witnessed(self, size: int, note: bytes) -> bool:
        sql: LiteralString = "UPDATE {0}.head SET witnessed_size = %s, witnessed = %s WHERE witnessed_size <= %s"
        return self._db.run(sql, (size, note, size)) == 1
