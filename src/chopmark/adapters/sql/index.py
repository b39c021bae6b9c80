# SPDX-License-Identifier: Apache-2.0
"""The map of an index in one SQLite file: ``map.db``. It holds nothing that the log does not say, and may be removed.

Lists whose last chunk is not full yet are one short row each, since most keys have a handful of entries.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from chopmark.adapters.sql.database import Database, Value, as_bytes, as_int, as_str
from chopmark.errors import UndecidedError, foreign
from chopmark.ledger.index.lists import ListEdge, damaged, decode_edge, decode_indices, encode_edge, encode_indices
from chopmark.ledger.index.ports import IndexState, IndexStore, Step

_APPLICATION_ID = 0x43484958  # "CHIX"
_LOOKUP = 256
_SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, version TEXT NOT NULL,
    size INTEGER NOT NULL, log_root BLOB NOT NULL, root BLOB NOT NULL,
    compared INTEGER NOT NULL, compared_root BLOB NOT NULL) STRICT;
CREATE TABLE page (path BLOB PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE list (key BLOB PRIMARY KEY, edge BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE chunk (key BLOB NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (key, number)) STRICT, WITHOUT ROWID
"""


def opened(path: Path, *, origin: str, version: str) -> SqliteIndex:
    """Open a map; one that is not there is made, and has read nothing yet.

    Raises:
        UndecidedError: it cannot be written.
        VerificationError: it is something else.
    """
    if not path.exists():
        building = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        create(building, origin=origin, version=version).close()
        with foreign(UndecidedError, f"{path}: cannot be made", code="not-written"):
            # Under its name it is whole: what a kill leaves half made is nobody's map.
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(building, path)
            building.unlink()
    return load(path)


def create(path: Path, *, origin: str, version: str) -> SqliteIndex:
    """Make the map of a log of which nothing was read.

    Raises:
        UsageError: a file is there already.
        UndecidedError: it cannot be written.
    """
    state = IndexState(origin=origin, version=version)
    first: tuple[str, Sequence[Value]] = (
        "INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (origin, version, state.size, state.log_root, state.root, state.compared, state.compared_root),
    )
    return SqliteIndex(Database.create(path, application_id=_APPLICATION_ID, schema=_SCHEMA, rows=[first]))


def load(path: Path) -> SqliteIndex:
    """Open a map.

    Raises:
        UndecidedError: it is missing.
        VerificationError: it is something else.
    """
    return SqliteIndex(Database.open(path, application_id=_APPLICATION_ID))


class SqliteIndex(IndexStore):
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def exclusive(self) -> AbstractContextManager[None]:
        return self._db.transaction()

    def snapshot(self) -> AbstractContextManager[None]:
        return self._db.snapshot()

    def state(self) -> IndexState:
        row = self._db.one("SELECT origin, version, size, log_root, root, compared, compared_root FROM state")
        origin, version, size, log_root, root, compared, compared_root = row or (None,) * 7
        return IndexState(
            origin=as_str(origin),
            version=as_str(version),
            size=as_int(size),
            log_root=as_bytes(log_root),
            root=as_bytes(root),
            compared=as_int(compared),
            compared_root=as_bytes(compared_root),
        )

    def page(self, path: bytes) -> bytes | None:
        row = self._db.one("SELECT data FROM page WHERE path = ?", (path,))
        return None if row is None else as_bytes(row[0])

    def edges(self, keys: Sequence[bytes]) -> dict[bytes, ListEdge]:
        found: dict[bytes, ListEdge] = {}
        for at in range(0, len(keys), _LOOKUP):
            some = keys[at : at + _LOOKUP]
            places = ",".join("?" * len(some))
            rows = self._db.all(f"SELECT key, edge FROM list WHERE key IN ({places})", some)  # noqa: S608 - only "?"
            found.update((as_bytes(key), decode_edge(as_bytes(edge))) for key, edge in rows)
        return found

    def indices(self, key: bytes) -> tuple[int, ...]:
        with self._db.snapshot():
            edge = self.edges([key]).get(key)
            rows = self._db.all("SELECT number, data FROM chunk WHERE key = ? ORDER BY number", (key,))
        if [as_int(number) for number, _ in rows] != list(range(len(rows))):
            raise damaged("a chunk of a list is missing")
        full = [index for _, data in rows for index in decode_indices(as_bytes(data))]
        return (*full, *edge.tail) if edge is not None else ()

    def write(self, step: Step) -> None:
        state = step.state
        self._db.run("UPDATE state SET size = ?, log_root = ?, root = ?", (state.size, state.log_root, state.root))
        self._db.run_many("INSERT OR REPLACE INTO page (path, data) VALUES (?, ?)", sorted(step.pages.items()))
        self._db.run_many(
            "INSERT OR REPLACE INTO list (key, edge) VALUES (?, ?)",
            ((key, encode_edge(edge)) for key, edge in step.lists.items()),
        )
        self._db.run_many(
            "INSERT OR REPLACE INTO chunk (key, number, data) VALUES (?, ?, ?)",
            ((key, number, encode_indices(indices)) for key, number, indices in step.chunks),
        )

    def keep_compared(self, compared: int, root: bytes) -> None:
        self._db.run("UPDATE state SET compared = ?, compared_root = ?", (compared, root))
