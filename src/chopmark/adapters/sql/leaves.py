# SPDX-License-Identifier: Apache-2.0
"""Which entry a leaf hash belongs to: the index behind "each entry once", in the log's own SQLite file.

Leaf hashes are random, so a B-tree of them writes a page for nearly every entry. Here they are sorted runs instead, as in a
log-structured merge tree:

    recent   the newest leaves, fewer than 4,096, in a small B-tree: a single append writes one page
    run      4,096 leaves and more, records sorted by hash; eight runs of one size become one of the next
    part     2,048 records of a run, so that one is found without reading all; a run's parts have numbers in a row

A record is the first 8 bytes of a leaf hash and its index (8 bytes, big-endian). That a prefix is the whole hash is looked
up in the level 0 tile. Runs and ``recent`` together cover every entry once, in order: ``start`` and ``count`` say which.

For large batches a filter in memory (4 to 32 bytes an entry) tells nearly all new leaves apart without a look at any run; a
process that appends one by one never makes it.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from math import isqrt
from typing import Final

from chopmark.adapters.sql.database import Database, as_bytes, as_int
from chopmark.errors import VerificationError

SCHEMA: Final = """
CREATE TABLE recent (hash BLOB PRIMARY KEY, idx INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE run (start INTEGER PRIMARY KEY, count INTEGER NOT NULL, part INTEGER NOT NULL) STRICT;
CREATE TABLE part (number INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT
"""
_RUN: Final = 4096
_FANOUT: Final = 8
_TIERS: Final = 3
"""Runs of 2 Mi leaves and more are merged no further, so that no append waits for more than the merge of 32 MiB."""
_PART: Final = 2048
_LAST_PART: Final = 2**53
_PIECES: Final = 16
_RECORD: Final = 16
_WIDTH: Final = 256
_HASH: Final = 32
_LOOKUP: Final = 256  # leaf hashes in one query
_MEND: Final = "run fsck; restore ledger.db from a copy, or import the log's exported files"
_FILTER_FROM: Final = 256
"""Leaves in one look-up from which on the filter is worth making."""


class LeafIndex:
    """The index of one log. Inside a transaction or snapshot of *database*; the caller serialises."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._filter: _Filter | None = None

    def find(self, leaves: Sequence[bytes], size: int) -> dict[bytes, int]:
        """Return the index of each of *leaves* that is in the log of *size* entries.

        Raises:
            VerificationError: the index does not cover the log: nothing could be said to be missing from it.
        """
        runs, recent = self._runs(), self._db.integer("SELECT count(*) FROM recent")
        ends = [0, *(run.start + run.count for run in runs)]
        if [run.start for run in runs] != ends[:-1] or ends[-1] + recent != size:
            raise VerificationError("the index of leaves does not cover the log", code="ledger-corrupt", hint=_MEND)
        found = self._find_recent(leaves) if recent else {}
        left: Sequence[bytes] = [leaf for leaf in leaves if leaf not in found] if found else leaves
        if len(left) >= _FILTER_FROM:
            left = self._filtered(left, size)
        if left:
            found.update(self._find_in_runs(left, runs))
        return found

    def add(self, leaves: Sequence[bytes], start: int) -> None:
        """Index *leaves*, the entries from *start* on; none of them is indexed yet."""
        waiting = self._db.integer("SELECT count(*) FROM recent")
        if waiting + len(leaves) < _RUN:
            rows = zip(leaves, range(start, start + len(leaves)), strict=True)
            self._db.run_many("INSERT INTO recent (hash, idx) VALUES (?, ?)", rows)
        else:
            older = [as_bytes(leaf) for leaf, _ in self._db.all("SELECT hash, idx FROM recent ORDER BY idx")]
            self._db.run("DELETE FROM recent")
            self._write_run(start - len(older), sorted(_records([*older, *leaves], start - len(older))))
            self._merge()

    def count(self) -> int:
        """Return how many leaves are indexed."""
        runs = self._db.integer("SELECT coalesce(sum(count), 0) FROM run")
        return runs + self._db.integer("SELECT count(*) FROM recent NOT INDEXED")

    def problems(self, size: int) -> Iterator[str]:
        """Compare every record with the level 0 tiles; yield what is wrong."""
        covered = 0
        parts = 0
        for run in self._runs():
            if run.start != covered or covered + run.count > size:
                yield f"leaf index: the run at {run.start} does not follow entry {covered}"
                return
            covered += run.count
            parts += run.parts
            if not self._is_right(run):
                yield f"leaf index: the run of entries {run.start} to {covered} is not what the tiles say"
        if self._db.integer("SELECT count(*) FROM part") != parts:
            yield "leaf index: there are parts of no run"
        yield from self._twice()
        recent = sorted((as_int(index), as_bytes(leaf)) for leaf, index in self._db.all("SELECT hash, idx FROM recent"))
        if [index for index, _ in recent] != list(range(covered, size)):
            yield f"leaf index: entries {covered} to {size} are not all indexed once"
        elif any(leaf != self._leaf(index) for index, leaf in recent):
            yield f"leaf index: entries {covered} to {size} are not what the tiles say"

    def _twice(self) -> Iterator[str]:
        """Find leaves that stand in the log more than once; a part of all prefixes at a time, for the memory's sake."""
        keys = [self._read(run, 0, run.count)[0::2] for run in self._runs()]
        for piece in range(_PIECES):
            low, high = (bound * (1 << 64) // _PIECES for bound in (piece, piece + 1))
            some: list[int] = []
            for sorted_keys in keys:
                some += sorted_keys[bisect_left(sorted_keys, low) : bisect_left(sorted_keys, high)]
            some.sort()
            for prefix in {one for one, other in pairwise(some) if one == other}:
                leaves = [self._leaf(index) for run in self._runs() for index in self._search(run, {prefix})]
                if len(set(leaves)) < len(leaves):
                    yield f"leaf index: an entry stands in the log {len(leaves) - len(set(leaves)) + 1} times"

    def _find_recent(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        ordered = sorted(leaves)  # neighbours in the index are read together
        for at in range(0, len(ordered), _LOOKUP):
            some = ordered[at : at + _LOOKUP]
            places = ",".join("?" * len(some))
            rows = self._db.all(f"SELECT hash, idx FROM recent WHERE hash IN ({places})", some)  # noqa: S608 - only "?"
            found.update((as_bytes(leaf), as_int(index)) for leaf, index in rows)
        if any(self._leaf(index) != leaf for leaf, index in found.items()):
            raise VerificationError("the index of leaves is not what the tiles say", code="ledger-corrupt", hint=_MEND)
        return found

    def _filtered(self, leaves: Sequence[bytes], size: int) -> list[bytes]:
        """Return those of *leaves* that may be in the log."""
        # It holds what stood in the tiles when it was asked. One that covers more was asked in a transaction that was undone.
        if self._filter is None or self._filter.covered > size or self._filter.is_full(size + len(leaves)):
            self._filter = _Filter(size + len(leaves))
        while self._filter.covered < size:  # at first all; later what was appended since, by whomever
            first = self._filter.covered // _WIDTH
            rows = self._db.all("SELECT data FROM tile WHERE level = 0 AND idx >= ? ORDER BY idx LIMIT 256", (first,))
            data = b"".join(as_bytes(row[0]) for row in rows)[(self._filter.covered - first * _WIDTH) * _HASH :]
            if not data or len(data) % _HASH:
                raise VerificationError(f"tile {first} of level 0, or one after it, is damaged", code="ledger-corrupt")
            self._filter.add(data)
        return self._filter.matching(leaves)

    def _find_in_runs(self, leaves: Sequence[bytes], runs: Sequence[_Run]) -> Iterator[tuple[bytes, int]]:
        left = set(leaves)
        for run in reversed(runs):
            if not left:
                return
            for index in self._search(run, set(_prefixes(left))):
                leaf = self._leaf(index)  # the prefix may be another leaf's
                if leaf in left:
                    left.remove(leaf)
                    yield leaf, index

    def _search(self, run: _Run, prefixes: set[int]) -> Iterator[int]:
        """Yield the indices under these *prefixes*.

        Hashes are spread evenly, so that each one's place can be guessed; for many it is cheaper to read the whole run.
        """
        low = high = 0
        numbers = keys = array("Q")
        if len(prefixes) > run.parts:
            low, high = 0, run.count
            numbers = self._read(run, low, high)
            keys = numbers[0::2]
        for prefix in prefixes:
            reach = isqrt(run.count)
            while high - low < run.count:  # a few rounds at most, and for hashes that somebody chose
                place = prefix * run.count >> 64
                low, high = max(place - reach, 0), min(place + reach + 1, run.count)
                low, high = low // _PART * _PART, min(-(-high // _PART) * _PART, run.count)
                numbers = self._read(run, low, high)
                keys = numbers[0::2]
                if (low == 0 or keys[0] < prefix) and (high == run.count or keys[-1] > prefix):
                    break
                reach *= 8
            at = bisect_left(keys, prefix)
            while at < len(keys) and keys[at] == prefix:
                yield numbers[2 * at + 1]
                at += 1

    def _read(self, run: _Run, low: int, high: int) -> array[int]:
        """Return the records [low, high) as numbers; both lie between two parts, or at the end."""
        sql = "SELECT data FROM part WHERE number >= ? AND number < ? ORDER BY number"
        rows = self._db.all(sql, (run.part + low // _PART, run.part - (-high // _PART)))
        numbers = _numbers(b"".join([as_bytes(row[0]) for row in rows]))
        if len(numbers) != 2 * (high - low):
            raise VerificationError(f"the leaf index of entries from {run.start} on is damaged", code="ledger-corrupt")
        return numbers

    def _merge(self) -> None:
        """Make one run of the newest eight and more that are of one size, or smaller than that."""
        while True:
            newest = self._runs()[:-129:-1]
            runs = next((some for tier in range(_TIERS) if len(some := _up_to(tier, newest)) >= _FANOUT), None)
            if runs is None:
                return
            records: list[bytes] = []
            for run in runs:
                records += struct.unpack("16s" * run.count, _swapped(self._read(run, 0, run.count)))
                self._db.run("DELETE FROM run WHERE start = ?", (run.start,))
                self._db.run("DELETE FROM part WHERE number >= ? AND number < ?", (run.part, run.part + run.parts))
            records.sort()  # sorted runs one behind the other: Python's sort compares no more than it must
            self._write_run(runs[-1].start, records)

    def _write_run(self, start: int, records: Sequence[bytes]) -> None:
        part = self._db.integer("SELECT coalesce(max(number) + 1, 0) FROM part")
        self._db.run("INSERT INTO run (start, count, part) VALUES (?, ?, ?)", (start, len(records), part))
        parts = (b"".join(records[at : at + _PART]) for at in range(0, len(records), _PART))
        self._db.run_many("INSERT INTO part (number, data) VALUES (?, ?)", enumerate(parts, start=part))

    def _runs(self) -> list[_Run]:
        rows = self._db.all("SELECT start, count, part FROM run ORDER BY start")
        runs = [_Run(as_int(start), as_int(count), as_int(part)) for start, count, part in rows]
        if any(run.count < 1 or not 0 <= run.part <= _LAST_PART for run in runs):
            raise VerificationError("the index of leaves is damaged", code="ledger-corrupt", hint=_MEND)
        return runs

    def _leaf(self, index: int) -> bytes:
        """Return the hash of entry *index* as the tiles have it."""
        tile, offset = divmod(index, _WIDTH)
        sql = "SELECT substr(data, ?, 32) FROM tile WHERE level = 0 AND idx = ?"
        row = self._db.one(sql, (offset * _HASH + 1, tile))
        return as_bytes(row[0] if row else None)

    def _is_right(self, run: _Run) -> bool:
        """Tell whether a run is the sorted records of its entries."""
        start, count = run.start, run.count
        tiles = self._db.all(
            "SELECT data FROM tile WHERE level = 0 AND idx >= ? AND idx <= ? ORDER BY idx",
            (start // _WIDTH, (start + count - 1) // _WIDTH),
        )
        hashes = b"".join(as_bytes(row[0]) for row in tiles)[start % _WIDTH * _HASH :][: count * _HASH]
        prefixes, numbers = _prefixes([hashes]), self._read(run, 0, count)
        keys, indices = numbers[0::2], list(map((-start).__add__, numbers[1::2]))
        if len(prefixes) != count or min(indices) < 0 or max(indices) >= count:
            return False
        # Records in order, none twice, each right about its entry: then every entry has one.
        records = struct.unpack("16s" * count, _swapped(numbers))
        ordered = all(map(operator.lt, records, islice(records, 1, None)))
        return ordered and array("Q", map(prefixes.__getitem__, indices)) == keys


@dataclass(frozen=True, slots=True)
class _Run:
    """Entries [start, start + count); its records are in the parts from *part* on."""

    start: int
    count: int
    part: int

    @property
    def parts(self) -> int:
        return -(-self.count // _PART)


class _Filter:
    """Tells what is certainly not among the leaves that were added: a Bloom filter of words, two bits a leaf.

    Both bits of a leaf are in one word, so that adding or asking touches memory once; a word has 30 bits, which Python
    handles fastest. With a word for each leaf it lets eight in a thousand through that were not added, with four words one.

    Attributes:
        covered: how many leaves were added: the first that many entries of the log.
    """

    _LARGEST_BITS = 26
    """64 Mi words, 256 MiB: a log of more entries looks into its runs more often than is needed."""

    def __init__(self, expected: int) -> None:
        bits = min(max(expected.bit_length() + 2, 16), self._LARGEST_BITS)
        self._words = array("I", bytes(4 << bits))
        self._shift = 32 - bits
        self.covered = 0

    def is_full(self, size: int) -> bool:
        return size > len(self._words) and len(self._words) < 1 << self._LARGEST_BITS

    def add(self, leaves: bytes) -> None:
        """Add leaves that stand side by side."""
        words, shift, masks = self._words, self._shift, _MASKS
        for place, bits in _halves(leaves):
            words[place >> shift] |= masks[bits & 1023]
        self.covered += len(leaves) // _HASH

    def matching(self, leaves: Sequence[bytes]) -> list[bytes]:
        words, shift, masks = self._words, self._shift, _MASKS
        return [
            leaf
            for (place, bits), leaf in zip(_halves(b"".join(leaves)), leaves, strict=True)
            if words[place >> shift] & (mask := masks[bits & 1023]) == mask
        ]


_MASKS: Final = tuple(1 << (low & 31) % 30 | 1 << (low >> 5) % 30 for low in range(1024))


def _halves(leaves: bytes) -> Iterator[tuple[int, int]]:
    """Yield two numbers of 32 bits of each leaf."""
    numbers = array("I")
    numbers.frombytes(leaves)
    return zip(numbers[0::8], numbers[1::8], strict=True)


def _records(leaves: Sequence[bytes], start: int) -> tuple[bytes, ...]:
    """Return the records of *leaves*, unsorted; all of them at once, since one by one takes longer than sorting."""
    numbers = array("Q", bytes(_RECORD * len(leaves)))
    numbers[0::2] = _prefixes(leaves)
    numbers[1::2] = array("Q", range(start, start + len(leaves)))
    return struct.unpack("16s" * len(leaves), _swapped(numbers))


def _prefixes(leaves: Iterable[bytes]) -> array[int]:
    return _numbers(b"".join(leaves))[0::4]


def _numbers(data: bytes) -> array[int]:
    """Return big-endian 64-bit numbers.

    Raises:
        VerificationError: what was stored is no whole number of them.
    """
    if len(data) % 8:
        raise VerificationError("the index of leaves, or a tile, is damaged", code="ledger-corrupt", hint=_MEND)
    numbers = array("Q")
    numbers.frombytes(data)
    return _swapped(numbers)


def _swapped(numbers: array[int]) -> array[int]:
    """Turn *numbers* from big-endian into this machine's order, or back; in place."""
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _up_to(tier: int, newest: Sequence[_Run]) -> list[_Run]:
    return list(takewhile(lambda run: _tier(run.count) <= tier, newest))


def _tier(count: int) -> int:
    """Return which size a run is of: 0 for 4,096 leaves and more, 1 for eight times as many, and so on."""
    return ((count // _RUN).bit_length() - 1) // 3
