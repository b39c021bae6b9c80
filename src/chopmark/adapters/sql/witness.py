# SPDX-License-Identifier: Apache-2.0
"""What a witness remembers, in one SQLite file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from chopmark.adapters.sql.database import Database, Value, as_bytes, as_int, as_str
from chopmark.errors import DecodeError, UndecidedError, VerificationError
from chopmark.ledger import Checkpoint, decode_note
from chopmark.ledger.ports import Observed, WitnessStore

_APPLICATION_ID = 0x43485754  # "CHWT"
_SCHEMA = """
CREATE TABLE observed (origin TEXT PRIMARY KEY, origin_hash TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    root BLOB NOT NULL, note BLOB NOT NULL) STRICT, WITHOUT ROWID
"""


def create(path: Path) -> SqliteWitness:
    """Make the memory of a witness that has seen nothing.

    Raises:
        UsageError: a file is there already.
        UndecidedError: it cannot be written.
    """
    return SqliteWitness(Database.create(path, application_id=_APPLICATION_ID, schema=_SCHEMA, rows=[]))


def load(path: Path) -> SqliteWitness:
    """Open the memory of a witness.

    Raises:
        UndecidedError: it is missing.
        VerificationError: it is something else.
    """
    try:
        return SqliteWitness(Database.open(path, application_id=_APPLICATION_ID))
    except UndecidedError as error:
        hint = "mount it; never restore an older one: a witness that forgot is a new witness, with a new key"
        raise UndecidedError(error.message, code=error.code, hint=hint) from error


class SqliteWitness(WitnessStore):
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def newest(self, origin: str) -> Observed | None:
        found = self.by_origin_hash(hashlib.sha256(origin.encode("utf-8")).hexdigest())
        if found is not None and _checkpoint(found).origin != origin:
            raise _damaged()
        return found

    def by_origin_hash(self, origin_hash: str) -> Observed | None:
        rows = self._db.one("SELECT origin, size, root, note FROM observed WHERE origin_hash = ?", (origin_hash,))
        return None if rows is None else _observed(*rows)

    def replace(self, origin: str, old: Observed | None, new: Observed) -> bool:
        if old is None:
            origin_hash = hashlib.sha256(origin.encode("utf-8")).hexdigest()
            sql = "INSERT INTO observed (origin, origin_hash, size, root, note) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            return self._db.run(sql, (origin, origin_hash, new.size, new.root, new.note)) == 1
        sql = (
            "UPDATE observed SET size = ?, root = ?, note = ? WHERE origin = ? AND size = ? AND root = ? AND size <= ?"
        )
        return self._db.run(sql, (new.size, new.root, new.note, origin, old.size, old.root, new.size)) == 1


def _observed(origin: Value, size: Value, root: Value, note: Value) -> Observed:
    """Return a row, which has to say what the checkpoint in it says: the signature over that is the witness's own."""
    found = Observed(size=as_int(size), root=as_bytes(root), note=as_bytes(note))
    said = _checkpoint(found)
    if (said.origin, said.size, said.root) != (as_str(origin), found.size, found.root):
        raise _damaged()
    return found


def _checkpoint(observed: Observed) -> Checkpoint:
    try:
        return Checkpoint.decode(decode_note(observed.note).text)
    except DecodeError as error:
        raise _damaged() from error


def _damaged() -> VerificationError:
    return VerificationError(
        "the witness's memory is damaged",
        code="store-corrupt",
        hint="keep the file; begin a new witness with a new key: an old copy of the memory would cosign a second history",
    )
