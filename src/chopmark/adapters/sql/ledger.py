# SPDX-License-Identifier: Apache-2.0
"""A whole log in one SQLite file: ``ledger.db``.

One row for each full bundle and for each tile (the widest one: narrower ones are its beginnings), one row for each of
the at most 255 entries after the last full bundle, so that an append writes little whatever the entries weigh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from chopmark.adapters.sql import leaves
from chopmark.adapters.sql.database import Database, as_bytes, as_int, as_str
from chopmark.errors import VerificationError
from chopmark.ledger import EMPTY_ROOT, Bundle, Integration, decode_bundle
from chopmark.ledger.ports import LogCounts, LogState, LogStore

_APPLICATION_ID = 0x43484C47  # "CHLG"
_WIDTH = 256
_SCHEMA = (
    """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, size INTEGER NOT NULL,
    root BLOB NOT NULL, once INTEGER NOT NULL CHECK (once IN (0, 1)), frozen INTEGER NOT NULL DEFAULT 0,
    minimum INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE bundle (idx INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE tail (idx INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE tile (level INTEGER NOT NULL, idx INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (level, idx)) STRICT;
"""
    + leaves.SCHEMA
)


def create(path: Path, origin: str, *, once: bool = True) -> SqliteLog:
    """Make an empty log.

    Args:
        once: each entry stands in it once; else no index of leaves is kept.

    Raises:
        UsageError: a file is there already.
        UndecidedError: it cannot be written.
    """
    first = (
        "INSERT INTO state (one, origin, size, root, once) VALUES (1, ?, 0, ?, ?)",
        (origin, EMPTY_ROOT, int(once)),
    )
    return SqliteLog(Database.create(path, application_id=_APPLICATION_ID, schema=_SCHEMA, rows=[first]))


def load(path: Path) -> SqliteLog:
    """Open a log.

    Raises:
        UndecidedError: it is missing.
        VerificationError: it is not a log.
    """
    return SqliteLog(Database.open(path, application_id=_APPLICATION_ID))


class SqliteLog(LogStore):
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._index = leaves.LeafIndex(database)

    def close(self) -> None:
        self._db.close()

    def exclusive(self) -> AbstractContextManager[None]:
        return self._db.transaction()

    def state(self) -> LogState:
        row = self._db.one("SELECT origin, size, root, once, frozen, minimum FROM state")
        origin, size, root, once, frozen, minimum = row or (None, None, None, None, None, None)
        return LogState(
            origin=as_str(origin),
            size=as_int(size),
            root=as_bytes(root),
            once=bool(as_int(once)),
            frozen=bool(as_int(frozen)),
            minimum=as_int(minimum),
        )

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        with self._db.snapshot():
            state = self.state()
            return self._index.find(leaves, state.size) if state.once else {}

    def write(self, integration: Integration) -> None:
        start, size = integration.start, integration.edge.size
        sql = "UPDATE state SET size = ?, root = ? WHERE size = ? AND NOT frozen"
        moved = self._db.run(sql, (size, integration.root, start))
        if moved != 1:
            if self.state().frozen:
                raise VerificationError("the log is frozen", code="log-frozen")
            raise VerificationError("the log is not where this change starts", code="ledger-corrupt")
        self._db.run_many(
            "INSERT OR REPLACE INTO tile (level, idx, data) VALUES (?, ?, ?)",
            ((tile.level, tile.index, tile.encode()) for tile in integration.tiles),
        )
        self._write_bundles(integration.bundles, start)
        if self.state().once:
            self._index.add(integration.leaves, start)

    def _write_bundles(self, bundles: Sequence[Bundle], start: int) -> None:
        full = [bundle for bundle in bundles if len(bundle.entries) == _WIDTH]
        self._db.run_many(
            "INSERT INTO bundle (idx, data) VALUES (?, ?)", ((bundle.index, bundle.encode()) for bundle in full)
        )
        if full:
            self._db.run("DELETE FROM tail")
        rest = bundles[len(full) :]
        self._db.run_many(
            "INSERT INTO tail (idx, data) VALUES (?, ?)",
            (
                (bundle.index * _WIDTH + offset, entry)
                for bundle in rest
                for offset, entry in enumerate(bundle.entries)
                if bundle.index * _WIDTH + offset >= start
            ),
        )

    def tile(self, level: int, index: int) -> bytes:
        row = self._db.one("SELECT data FROM tile WHERE level = ? AND idx = ?", (level, index))
        if row is None:
            raise VerificationError(f"tile {index} of level {level} is missing", code="ledger-corrupt")
        return as_bytes(row[0])

    def entries(self, start: int, end: int) -> tuple[bytes, ...]:
        with self._db.snapshot():  # an append moves entries from tail to bundle
            return self._entries(start, end)

    def _entries(self, start: int, end: int) -> tuple[bytes, ...]:
        found: list[bytes] = []
        rows = self._db.all(
            "SELECT idx, data FROM bundle WHERE idx >= ? AND idx <= ? ORDER BY idx",
            (start // _WIDTH, (end - 1) // _WIDTH),
        )
        for index, data in rows:
            first = as_int(index) * _WIDTH
            bundle = decode_bundle(as_bytes(data))
            if len(bundle) != _WIDTH or first > start + len(found):
                raise VerificationError(f"bundle {first // _WIDTH} or the one before is damaged", code="ledger-corrupt")
            found += bundle[max(start - first, 0) : end - first]
        rows = self._db.all("SELECT idx, data FROM tail WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end))
        for index, data in rows:
            if as_int(index) != start + len(found):
                raise VerificationError(f"entry {start + len(found)} is missing", code="ledger-corrupt")
            found.append(as_bytes(data))
        if len(found) != max(end - start, 0):
            raise VerificationError(f"entry {start + len(found)} is missing", code="ledger-corrupt")
        return tuple(found)

    def bundle(self, index: int) -> bytes:
        row = self._db.one("SELECT data FROM bundle WHERE idx = ?", (index,))
        if row is None:
            raise VerificationError(f"bundle {index} is missing", code="ledger-corrupt")
        return as_bytes(row[0])

    def freeze(self) -> None:
        self._db.run("UPDATE state SET frozen = 1")

    def prune(self, minimum: int) -> None:
        sql = "UPDATE state SET minimum = ? WHERE minimum < ? AND size >= ?"
        if self._db.run(sql, (minimum, minimum, minimum)) == 1:
            self._db.run("DELETE FROM bundle WHERE idx < ?", (minimum // _WIDTH,))

    def reader(self) -> Callable[[], LogStore]:
        return partial(load, self._db.path)

    def counts(self) -> LogCounts:
        # full table scans: an index may disagree with its table
        return LogCounts(
            tiles=self._db.integer("SELECT count(*) FROM tile NOT INDEXED"),
            bundles=self._db.integer("SELECT count(*) FROM bundle"),
            tail=self._db.integer("SELECT count(*) FROM tail"),
            leaves=self._index.count(),
        )

    def check(self) -> tuple[str, ...]:
        rows = [as_str(row[0]) for row in self._db.all("PRAGMA integrity_check")]
        problems = [f"sqlite: {line}" for line in rows if line != "ok"]
        with self._db.snapshot():
            state = self.state()
            return (*problems, *(self._index.problems(state.size) if state.once else ()))
