# SPDX-License-Identifier: Apache-2.0
"""The newest head of a log in one tiny SQLite file: ``head.db``. Back it up never, or always newer than the log."""

from __future__ import annotations

from pathlib import Path

from chopmark.adapters.sql.database import Database, as_bytes, as_bytes_or_none, as_int, as_str
from chopmark.errors import VerificationError
from chopmark.ledger import EMPTY_ROOT
from chopmark.ledger.ports import Head, HeadStore

_APPLICATION_ID = 0x43484844  # "CHHD"
_SCHEMA = """
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, size INTEGER NOT NULL,
    root BLOB NOT NULL, note BLOB, witnessed_size INTEGER NOT NULL, witnessed BLOB,
    frozen INTEGER NOT NULL DEFAULT 0, moved_to TEXT NOT NULL DEFAULT '') STRICT
"""


def create(path: Path, origin: str) -> SqliteHead:
    """Make the head of an empty log.

    Raises:
        UsageError: a file is there already.
        UndecidedError: it cannot be written.
    """
    first = ("INSERT INTO head (one, origin, size, root, witnessed_size) VALUES (1, ?, 0, ?, 0)", (origin, EMPTY_ROOT))
    return SqliteHead(Database.create(path, application_id=_APPLICATION_ID, schema=_SCHEMA, rows=[first]))


def load(path: Path) -> SqliteHead:
    """Open a head.

    Raises:
        UndecidedError: it is missing.
        VerificationError: it is not a head.
    """
    return SqliteHead(Database.open(path, application_id=_APPLICATION_ID))


class SqliteHead(HeadStore):
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def close(self) -> None:
        self._db.close()

    def head(self) -> Head:
        row = self._db.one("SELECT origin, size, root, note, witnessed, frozen, moved_to FROM head")
        origin, size, root, note, witnessed, frozen, moved_to = row or (None,) * 7
        if as_int(size) < 0 or len(as_bytes(root)) != len(EMPTY_ROOT):
            raise VerificationError("the head is damaged", code="ledger-corrupt", hint="keep the file; call security")
        return Head(
            origin=as_str(origin),
            size=as_int(size),
            root=as_bytes(root),
            note=as_bytes_or_none(note),
            witnessed=as_bytes_or_none(witnessed),
            frozen=bool(as_int(frozen)),
            moved_to=as_str(moved_to),
        )

    def advance(self, old: Head, *, size: int, root: bytes) -> bool:
        values = (size, root, old.size, old.root, size)
        sql = "UPDATE head SET size = ?, root = ?, note = NULL WHERE size = ? AND root = ? AND size < ? AND NOT frozen"
        return self._db.run(sql, values) == 1

    def keep_note(self, head: Head, note: bytes) -> bytes | None:
        with self._db.transaction():
            where = (head.size, head.root)
            self._db.run(
                "UPDATE head SET note = ? WHERE size = ? AND root = ? AND note IS NULL", (note, head.size, head.root)
            )
            row = self._db.one("SELECT note FROM head WHERE size = ? AND root = ?", where)
        return None if row is None else as_bytes(row[0])

    def freeze(self, head: Head, *, moved_to: str = "") -> bool:
        where = "WHERE size = ? AND root = ? AND (NOT frozen OR moved_to = ?)"
        sql = f"UPDATE head SET frozen = 1, moved_to = ? {where}"  # noqa: S608 - two constants
        return self._db.run(sql, (moved_to, head.size, head.root, moved_to)) == 1

    def keep_witnessed(self, size: int, note: bytes) -> bool:
        sql = "UPDATE head SET witnessed_size = ?, witnessed = ? WHERE witnessed_size <= ?"
        return self._db.run(sql, (size, note, size)) == 1
