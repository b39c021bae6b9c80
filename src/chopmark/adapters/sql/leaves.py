# SPDX-License-Identifier: Apache-2.0
"""Which entry a leaf hash belongs to: the index behind "each entry once", in the log's own SQLite file.

Leaf hashes are random, so a B-tree of them writes a page for nearly every entry. Here they are sorted runs instead, as in a
log-structured merge tree:

    recent   the newest leaves, fewer than 4,096, in a small B-tree: a single append writes one page
    run      4,096 leaves and more, one blob of records sorted by hash; eight runs of one size become one of the next

A record is the first 8 bytes of a leaf hash and its index (8 bytes, big-endian). That a prefix is the whole hash is looked
up in the level 0 tile. Runs and ``recent`` together cover every entry once, in order: ``start`` and ``count`` say which.

For large batches a filter in memory (8 bytes an entry, two bits set for each) tells most new leaves apart without a look
at any run; a process that appends one by one never makes it.
"""

from __future__ import annotations

import operator
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, takewhile
from math import isqrt
from typing import Final

from chopmark.adapters.sql.database import Database, as_bytes, as_int
from chopmark.errors import VerificationError

SCHEMA: Final = """
CREATE TABLE recent (hash BLOB PRIMARY KEY, idx INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE run (start INTEGER PRIMARY KEY, count INTEGER NOT NULL, data BLOB NOT NULL) STRICT
"""
_RUN: Final = 4096
_FANOUT: Final = 8
_TIERS: Final = 3
"""Runs of 2 Mi leaves and more are merged no further, so that no append waits for more than the merge of 32 MiB."""
_RECORD: Final = 16
_PREFIX: Final = 8
_WIDTH: Final = 256
_HASH: Final = 32
_LOOKUP: Final = 256  # leaf hashes in one query
_FILTER_FROM: Final = 256
"""Leaves in one look-up from which on the filter is worth making."""


class LeafIndex:
    """The index of one log. Inside a transaction or snapshot of *database*; the caller serialises."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._filter: _Filter | None = None

    def find(self, leaves: Sequence[bytes], size: int) -> dict[bytes, int]:
        """Return the index of each of *leaves* that is in the log of *size* entries."""
        found = self._find_recent(leaves)
        left = [leaf for leaf in leaves if leaf not in found]
        if len(left) >= _FILTER_FROM:
            left = self._filtered(left, size)
        if left:
            found.update(self._find_in_runs(left))
        return found

    def add(self, leaves: Sequence[bytes], start: int) -> None:
        """Index *leaves*, the entries from *start* on; none of them is indexed yet."""
        waiting = self._db.integer("SELECT count(*) FROM recent")
        rows = list(zip(leaves, range(start, start + len(leaves)), strict=True))
        if waiting + len(leaves) < _RUN:
            self._db.run_many("INSERT INTO recent (hash, idx) VALUES (?, ?)", rows)
        else:
            older = [(as_bytes(leaf), as_int(index)) for leaf, index in self._db.all("SELECT hash, idx FROM recent")]
            self._db.run("DELETE FROM recent")
            records = sorted(leaf[:_PREFIX] + index.to_bytes(8, "big") for leaf, index in chain(older, rows))
            self._write_run(start - len(older), len(records), b"".join(records))
            self._merge()
        if self._filter is not None and self._filter.covered == start:
            self._filter.add(leaves)

    def count(self) -> int:
        """Return how many leaves are indexed."""
        runs = self._db.integer("SELECT coalesce(sum(count), 0) FROM run")
        return runs + self._db.integer("SELECT count(*) FROM recent NOT INDEXED")

    def problems(self, size: int) -> Iterator[str]:
        """Compare every record with the level 0 tiles; yield what is wrong."""
        covered = 0
        for start, count, data in self._runs():
            if start != covered or len(data) != count * _RECORD or covered + count > size:
                yield f"leaf index: the run at {start} does not follow entry {covered}"
                return
            covered += count
            if not self._is_of(start, count, data):
                yield f"leaf index: the run of entries {start} to {covered} is not what the tiles say"
        recent = sorted((as_int(index), as_bytes(leaf)) for leaf, index in self._db.all("SELECT hash, idx FROM recent"))
        if [index for index, _ in recent] != list(range(covered, size)):
            yield f"leaf index: entries {covered} to {size} are not all indexed once"
        elif any(leaf != self._leaf(index) for index, leaf in recent):
            yield f"leaf index: entries {covered} to {size} are not what the tiles say"

    def _find_recent(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        if self._db.one("SELECT 1 FROM recent LIMIT 1") is None:
            return found
        ordered = sorted(leaves)  # neighbours in the index are read together
        for at in range(0, len(ordered), _LOOKUP):
            some = ordered[at : at + _LOOKUP]
            places = ",".join("?" * len(some))
            rows = self._db.all(f"SELECT hash, idx FROM recent WHERE hash IN ({places})", some)  # noqa: S608 - only "?"
            found.update((as_bytes(leaf), as_int(index)) for leaf, index in rows)
        return found

    def _filtered(self, leaves: Sequence[bytes], size: int) -> list[bytes]:
        """Return those of *leaves* that may be in the log."""
        if self._filter is None or self._filter.is_full(size + len(leaves)):
            self._filter = _Filter(size + len(leaves))
        while self._filter.covered < size:  # at first all; later what other processes appended
            first = self._filter.covered // _WIDTH
            rows = self._db.all("SELECT data FROM tile WHERE level = 0 AND idx >= ? ORDER BY idx LIMIT 256", (first,))
            data = b"".join(as_bytes(row[0]) for row in rows)[(self._filter.covered - first * _WIDTH) * _HASH :]
            if not data:
                raise VerificationError(f"tile {first} of level 0 is missing", code="ledger-corrupt")
            self._filter.add([data[at : at + _HASH] for at in range(0, len(data), _HASH)])
        return self._filter.matching(leaves)

    def _find_in_runs(self, leaves: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        left = set(leaves)
        for row, count in self._db.all("SELECT start, count FROM run ORDER BY start DESC"):
            if not left:
                return
            start, length, prefixes = as_int(row), as_int(count), set(_prefixes(left))
            # A search reads a part of the run for each leaf; for many leaves it is cheaper to read all of it at once.
            if len(left) * 4 * isqrt(length) > length:
                data = self._db.one("SELECT data FROM run WHERE start = ?", (start,))
                hits = _search_all(as_bytes(data[0] if data else None), prefixes)
            else:
                hits = self._search(start, length, prefixes)
            for index in hits:
                leaf = self._leaf(index)  # the prefix may be another leaf's
                if leaf in left:
                    left.remove(leaf)
                    yield leaf, index

    def _search(self, start: int, count: int, prefixes: Iterable[int]) -> list[int]:
        """Return the indices under these *prefixes*: hashes are spread evenly, so each one's place can be guessed."""
        hits: list[int] = []
        with self._db.blob("run", "data", start) as blob:
            for prefix in prefixes:
                guess, reach = prefix * count >> 64, 64 + 2 * isqrt(count)
                while True:  # hashes that somebody chose may lie elsewhere
                    low, high = max(guess - reach, 0), min(guess + reach, count)
                    blob.seek(low * _RECORD)
                    numbers = _numbers(blob.read((high - low) * _RECORD))
                    if (low == 0 or numbers[0] < prefix) and (high == count or numbers[-2] > prefix):
                        break
                    reach *= 4
                hits += _matches(numbers, numbers[0::2], prefix)
        return hits

    def _merge(self) -> None:
        """Make one run of the newest eight and more that are of one size, or smaller than that."""
        while True:
            rows = self._db.all("SELECT start, count FROM run ORDER BY start DESC LIMIT 128")
            newest = [(as_int(start), _tier(as_int(count))) for start, count in rows]
            runs = next((some for tier in range(_TIERS) if len(some := _up_to(tier, newest)) >= _FANOUT), None)
            if runs is None:
                return
            first = runs[-1][0]
            parts = [as_bytes(row[0]) for row in self._db.all("SELECT data FROM run WHERE start >= ?", (first,))]
            # Sorted runs one behind the other: what Python's sort merges without comparing more than it must.
            records = [part[at : at + _RECORD] for part in parts for at in range(0, len(part), _RECORD)]
            records.sort()
            self._db.run("DELETE FROM run WHERE start >= ?", (first,))
            self._write_run(first, len(records), b"".join(records))

    def _write_run(self, start: int, count: int, data: bytes) -> None:
        self._db.run("INSERT INTO run (start, count, data) VALUES (?, ?, ?)", (start, count, data))

    def _runs(self) -> Iterator[tuple[int, int, bytes]]:
        for row in self._db.all("SELECT start, count FROM run ORDER BY start"):
            data = self._db.one("SELECT data FROM run WHERE start = ?", (row[0],))
            yield as_int(row[0]), as_int(row[1]), as_bytes(data[0] if data else None)

    def _leaf(self, index: int) -> bytes:
        """Return the hash of entry *index* as the tiles have it."""
        tile, offset = divmod(index, _WIDTH)
        sql = "SELECT substr(data, ?, 32) FROM tile WHERE level = 0 AND idx = ?"
        row = self._db.one(sql, (offset * _HASH + 1, tile))
        return as_bytes(row[0] if row else None)

    def _is_of(self, start: int, count: int, data: bytes) -> bool:
        """Tell whether a run is the sorted records of its entries."""
        tiles = self._db.all(
            "SELECT data FROM tile WHERE level = 0 AND idx >= ? AND idx <= ? ORDER BY idx",
            (start // _WIDTH, (start + count - 1) // _WIDTH),
        )
        hashes = b"".join(as_bytes(row[0]) for row in tiles)[start % _WIDTH * _HASH :][: count * _HASH]
        prefixes = _numbers(hashes)[0::4]
        numbers = _numbers(data)
        keys, indices = numbers[0::2], [index - start for index in numbers[1::2]]
        if len(prefixes) != count or len(set(indices)) != count or min(indices) != 0 or max(indices) != count - 1:
            return False
        return array("Q", map(prefixes.__getitem__, indices)) == keys and all(map(operator.le, keys, keys[1:]))


class _Filter:
    """Tells what is certainly not among the leaves that were added.

    Attributes:
        covered: how many leaves were added: the first that many entries of the log.
    """

    _LARGEST_BITS = 31
    """256 MiB: a log of more than 32 Mi entries looks into its runs more often than is needed."""

    def __init__(self, expected: int) -> None:
        # 64 to 128 bits an entry once it has grown to twice what is expected.
        self._bits = min(max(expected.bit_length() + 7, 20), self._LARGEST_BITS)
        self._field = bytearray(1 << (self._bits - 3))
        self.covered = 0

    def is_full(self, size: int) -> bool:
        return self._bits < self._LARGEST_BITS and size << 6 > 1 << self._bits

    def add(self, leaves: Sequence[bytes]) -> None:
        field, shift, mask = self._field, 64 - self._bits, (1 << self._bits) - 1
        for prefix in _prefixes(leaves):
            one, other = prefix >> shift, prefix & mask
            field[one >> 3] |= 1 << (one & 7)
            field[other >> 3] |= 1 << (other & 7)
        self.covered += len(leaves)

    def matching(self, leaves: Sequence[bytes]) -> list[bytes]:
        field, shift, mask = self._field, 64 - self._bits, (1 << self._bits) - 1
        some = [
            (prefix & mask, leaf)
            for prefix, leaf in zip(_prefixes(leaves), leaves, strict=True)
            if field[prefix >> shift + 3] >> ((prefix >> shift) & 7) & 1
        ]
        return [leaf for other, leaf in some if field[other >> 3] >> (other & 7) & 1]


def _prefixes(leaves: Iterable[bytes]) -> Sequence[int]:
    return _numbers(b"".join(leaves))[0::4]


def _numbers(data: bytes) -> array[int]:
    """Return big-endian 64-bit numbers."""
    numbers = array("Q")
    numbers.frombytes(data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _search_all(data: bytes, prefixes: Iterable[int]) -> list[int]:
    numbers = _numbers(data)
    keys = numbers[0::2]
    return [hit for prefix in prefixes for hit in _matches(numbers, keys, prefix)]


def _matches(numbers: array[int], keys: array[int], prefix: int) -> Iterator[int]:
    at = bisect_left(keys, prefix)
    while at < len(keys) and keys[at] == prefix:
        yield numbers[2 * at + 1]
        at += 1


def _up_to(tier: int, newest: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return list(takewhile(lambda run: run[1] <= tier, newest))


def _tier(count: int) -> int:
    """Return which size a run is of: 0 for 4,096 leaves and more, 1 for eight times as many, and so on."""
    return ((count // _RUN).bit_length() - 1) // 3
