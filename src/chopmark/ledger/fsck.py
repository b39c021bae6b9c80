# SPDX-License-Identifier: Apache-2.0
"""Check a log against itself: everything that can be derived from its entries is derived again and compared.

Decides nothing about what entries mean. A "no" is a value: the report lists what is wrong, in words. What may change
while the check runs (the right edge, the counts, the heads) is read at once and under the log's lock; full bundles and
tiles never change, so they are read afterwards, range by range and in several processes, while others append. Entries
that were pruned are not there to be hashed: their leaf hashes are taken from the tiles, which the root still binds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from chopmark.errors import VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.helpers import Progress, Reach, counting, do_all
from chopmark.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Node, leaf_hash, range_root
from chopmark.ledger.note import VerifierKey, decode_note
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import Head, HeadStore, LogCounts, LogState, LogStore
from chopmark.ledger.rehash import TILE_BYTES, leaves_of, tile_root, tile_roots
from chopmark.ledger.tiles import (
    TILE_WIDTH,
    edge_of,
    node_from_tiles,
    partial_width,
    tile_levels,
    tile_path,
    tile_shape,
)
from chopmark.ledger.verify import verify_checkpoint

RANGE = 64
"""Bundles in one range: 16,384 entries, about 20 ms."""
MAX_PROBLEMS = 100
_NO_WITNESS = WitnessPolicy(logs=(), witnesses=(), groups=(), quorum="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was looked at, and what is wrong with it (at most 100 findings).

    Attributes:
        minimum: entries before it are pruned; their hashes were checked.
        cosigned_by: the witnesses of the policy under the newest witnessed checkpoint; none where it is not checked.
    """

    size: int
    root: bytes
    problems: tuple[str, ...]
    minimum: int = 0
    cosigned_by: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehashed:
    """What came of a range of full bundles.

    Attributes:
        hashes: for each, the hash over its tile, side by side.
    """

    hashes: bytes
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What may change while the check runs, read at once.

    Attributes:
        partial: for each level, its partial tile; empty where there is none.
        tail: the entries after the last full bundle.
    """

    state: LogState
    counts: LogCounts
    partial: tuple[bytes, ...]
    tail: tuple[bytes, ...]
    head: Head


def fsck(
    store: LogStore,
    heads: HeadStore,
    keys: Sequence[VerifierKey],
    policy: WitnessPolicy | None = None,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> FsckReport:
    """Check every row of both stores.

    Args:
        keys: the log's keys; each must have signed the kept checkpoints.
        policy: which witnesses must have cosigned; None leaves cosignatures unchecked.
        workers: how many processes may be used.
        progress: told how many entries of how many are done.

    Raises:
        UndecidedError: the stores cannot be read now.
    """
    problems: list[str] = []
    size, root, minimum = 0, EMPTY_ROOT, 0
    cosigned_by: tuple[str, ...] = ()
    try:
        seen = _look(store, heads)
        size, minimum = seen.state.size, seen.state.minimum
        count = size // TILE_WIDTH
        jobs: list[Callable[[LogStore], Rehashed]] = [check_below]
        jobs += [
            partial(rehash, first=at, end=min(at + RANGE, count), minimum=minimum) for at in range(0, count, RANGE)
        ]
        reach = Reach(here=store, opener=store.reader())
        told = counting(progress, each=RANGE * TILE_WIDTH, total=size)
        found = do_all(jobs, reach, workers=workers, progress=told)
        for each in found:
            problems.extend(each.problems)
        root = _check_tiles(store, seen, b"".join(each.hashes for each in found), problems)
        _check_state(seen, root, problems)
        _check_head(store, seen, problems)
        cosigned_by = _check_notes(store, seen.head, keys, policy, problems)
    except VerificationError as error:
        problems.append(error.message)
    return FsckReport(
        size=size,
        root=root,
        problems=tuple(problems[:MAX_PROBLEMS]),
        minimum=minimum,
        cosigned_by=cosigned_by,
    )


def root_at(size: int, node: Node) -> bytes:
    """Return the root of the first *size* entries, from tiles."""
    return range_root(0, size, node) if size else EMPTY_ROOT


def check_below(store: LogStore) -> Rehashed:
    """Return what the store finds wrong with itself."""
    problems: list[str] = []
    _collect(problems, lambda: problems.extend(store.check()))
    return Rehashed(hashes=b"", problems=tuple(problems[:MAX_PROBLEMS]))


def rehash(store: LogStore, *, first: int, end: int, minimum: int) -> Rehashed:
    """Hash the full bundles [first, end) again and compare with their tiles."""
    hashes: list[bytes] = []
    problems: list[str] = []
    for index in range(first, end):
        tile = _leaves(store, index, problems, pruned=index * TILE_WIDTH < minimum)
        hashes.append(tile_root(tile))
    return Rehashed(hashes=b"".join(hashes), problems=tuple(problems[:MAX_PROBLEMS]))


def _leaves(store: LogStore, index: int, problems: list[str], *, pruned: bool) -> bytes:
    """Return the leaf hashes under level 0 tile *index*; what cannot be derived any more is what the tile says."""
    kept = leaves = bytes(TILE_BYTES)
    try:
        kept = store.tile(0, index)
        if len(kept) != TILE_BYTES:
            problems.append(f"{tile_path(0, index)}: not what the entries make")
            kept = kept[:TILE_BYTES].ljust(TILE_BYTES, b"\x00")
        leaves = kept if pruned else leaves_of(store.bundle(index))
    except VerificationError as error:
        if store.state().minimum <= index * TILE_WIDTH:  # else it was pruned meanwhile
            problems.append(f"bundle {index}: {error.message}")
        return kept
    if len(leaves) != TILE_BYTES:
        problems.append(f"bundle {index}: has {len(leaves) // HASH_BYTES} entries, not {TILE_WIDTH}")
        return kept
    if leaves != kept:
        problems.append(f"{tile_path(0, index)}: not what the entries make")
    return leaves


def _look(store: LogStore, heads: HeadStore) -> _Seen:
    with store.exclusive():  # nobody appends meanwhile
        state = store.state()
        size = state.size
        if state.minimum % TILE_WIDTH or not 0 <= state.minimum <= max(size, 0):
            raise VerificationError(f"state: entries before {state.minimum} cannot be pruned of {size}")
        tiles: list[bytes] = []
        for level in range(tile_levels(size)):
            there = partial_width(level, size)
            tiles.append(store.tile(level, size >> (8 * (level + 1))) if there else b"")
        tail = store.entries(size - size % TILE_WIDTH, size) if size % TILE_WIDTH else ()
        return _Seen(state=state, counts=store.counts(), partial=tuple(tiles), tail=tail, head=heads.head())


def _check_tiles(store: LogStore, seen: _Seen, row: bytes, problems: list[str]) -> bytes:
    """Compare the tiles above the lowest with *row*, the hashes over the full ones there; return the root."""
    size = seen.state.size
    leaves = [leaf_hash(entry) for entry in seen.tail]
    partials = [b"".join(leaves)]
    for level in range(1, tile_levels(size)):
        whole = len(row) // TILE_BYTES
        for index in range(whole):
            made = row[index * TILE_BYTES : (index + 1) * TILE_BYTES]
            _collect(problems, partial(_same, made, store, level, index, problems))
        partials.append(row[whole * TILE_BYTES :])
        row = tile_roots(row)
    for level, (made, kept) in enumerate(zip(partials, seen.partial, strict=False)):
        if made != kept:
            problems.append(f"{tile_path(level, size >> (8 * (level + 1)))}: not what the entries make")
    return edge_of(size, partials if size else (), seen.tail).root


def _same(made: bytes, store: LogStore, level: int, index: int, problems: list[str]) -> None:
    if store.tile(level, index) != made:
        problems.append(f"{tile_path(level, index)}: not what the entries make")


def _check_state(seen: _Seen, root: bytes, problems: list[str]) -> None:
    state, expected = seen.state, _expected_counts(seen.state)
    if root != state.root:
        problems.append(f"state: root {state.root.hex()}, but the entries make {root.hex()}")
    if seen.counts != expected:
        problems.append(f"rows: {seen.counts}, expected {expected}")
    if state.frozen != seen.head.frozen:
        problems.append(
            f"frozen: the log says {state.frozen}, its head {seen.head.frozen}: finish it (ledger freeze), or a copy was restored"
        )


def _expected_counts(state: LogState) -> LogCounts:
    size = state.size
    return LogCounts(
        tiles=sum(full + bool(width) for _, full, width in tile_shape(size)),
        bundles=(size - state.minimum) // TILE_WIDTH,
        tail=size % TILE_WIDTH,
        leaves=size if state.once else 0,
    )


def _check_head(store: LogStore, seen: _Seen, problems: list[str]) -> None:
    state, head = seen.state, seen.head
    if head.origin != state.origin:
        problems.append(f"head: of {head.origin!r}, the log is {state.origin!r}")
    if head.size > state.size:
        problems.append(f"head: {head.size} entries were promised, the log has {state.size}")
    elif root_at(head.size, node_from_tiles(store.tile)) != head.root:
        problems.append(f"head: the first {head.size} entries make another root than was promised")


def _check_notes(
    store: LogStore, head: Head, keys: Sequence[VerifierKey], policy: WitnessPolicy | None, problems: list[str]
) -> tuple[str, ...]:
    """Check the kept checkpoints; return who cosigned the witnessed one."""
    require = [key.encode() for key in keys]
    cosigned_by: list[str] = []

    def check(note: bytes, policy: WitnessPolicy, what: str) -> None:
        seen = verify_checkpoint(note, origin=head.origin, require=require, policy=policy)
        found = seen.checkpoint
        cosigned_by.extend(seen.cosigned_by)
        own = Checkpoint(
            origin=head.origin, size=found.size, root=root_at(found.size, node_from_tiles(store.tile))
        ).encode()
        if decode_note(note).text != own or (what == "signed" and found.size != head.size):
            problems.append(f"{what} checkpoint: not of this log's entries")

    if head.note is not None:
        signed = head.note
        _collect(problems, lambda: check(signed, _NO_WITNESS, "signed"))
    if head.witnessed is not None:
        witnessed = head.witnessed
        _collect(problems, lambda: check(witnessed, policy or _NO_WITNESS, "witnessed"))
    return tuple(cosigned_by)


def _collect(problems: list[str], step: Callable[[], None]) -> None:
    try:
        step()
    except VerificationError as error:
        problems.append(error.message)
