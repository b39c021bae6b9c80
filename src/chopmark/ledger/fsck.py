# SPDX-License-Identifier: Apache-2.0
"""Check a log against itself: everything that can be derived from its entries is derived again and compared.

Decides nothing about what entries mean. A "no" is a value: the report lists what is wrong, in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chopmark.errors import VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Node, range_root
from chopmark.ledger.note import VerifierKey, decode_note
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import Head, HeadStore, LogCounts, LogState, LogStore
from chopmark.ledger.tiles import EMPTY_EDGE, Edge, Integration, integrate, node_from_tiles, tile_path, tile_shape
from chopmark.ledger.verify import verify_checkpoint

_BATCH = 4096
_MAX_PROBLEMS = 100
_NO_WITNESS = WitnessPolicy(logs=(), witnesses=(), groups=(), quorum="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was looked at, and what is wrong with it (at most 100 findings)."""

    size: int
    root: bytes
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def fsck(
    store: LogStore, heads: HeadStore, keys: Sequence[VerifierKey], policy: WitnessPolicy | None = None
) -> FsckReport:
    """Check every row of both stores.

    Args:
        keys: the log's keys; each must have signed the kept checkpoints.
        policy: which witnesses must have cosigned; None leaves cosignatures unchecked.

    Raises:
        UndecidedError: the stores cannot be read now.
    """
    problems: list[str] = []
    _collect(problems, lambda: problems.extend(store.check()))
    state = LogState(origin="", size=0, root=EMPTY_ROOT)
    edge = EMPTY_EDGE
    try:
        with store.exclusive():  # nobody appends meanwhile
            state = store.state()
            edge = _replay(store, state.size, problems)
            if edge.root != state.root:
                problems.append(f"state: root {state.root.hex()}, but the entries make {edge.root.hex()}")
            expected = _expected_counts(state)
            if store.counts() != expected:
                problems.append(f"rows: {store.counts()}, expected {expected}")
            head = heads.head()
            if head.origin != state.origin:
                problems.append(f"head: of {head.origin!r}, the log is {state.origin!r}")
            _check_head(store, state, head, problems)
            _check_notes(store, head, keys, policy, problems)
    except VerificationError as error:
        problems.append(error.message)
    return FsckReport(size=state.size, root=edge.root, problems=tuple(problems[:_MAX_PROBLEMS]))


def root_at(size: int, node: Node) -> bytes:
    """Return the root of the first *size* entries, from tiles."""
    return range_root(0, size, node) if size else EMPTY_ROOT


def _replay(store: LogStore, size: int, problems: list[str]) -> Edge:
    """Build the tree again from its entries; compare the tiles on the way."""
    edge = EMPTY_EDGE
    for start in range(0, size, _BATCH):
        built = integrate(edge, store.entries(start, min(start + _BATCH, size)))
        _compare(store, built, size, problems)
        edge = built.edge
    return edge


def _compare(store: LogStore, built: Integration, size: int, problems: list[str]) -> None:
    widths = {(level, full): width for level, full, width in tile_shape(size)}
    for tile in built.tiles:
        kept = store.tile(tile.level, tile.index)
        final = widths.get((tile.level, tile.index), 256) * HASH_BYTES
        if len(kept) != final or not kept.startswith(tile.encode()):
            problems.append(f"{tile_path(tile.level, tile.index)}: not what the entries make")


def _expected_counts(state: LogState) -> LogCounts:
    size = state.size
    return LogCounts(
        tiles=sum(full + bool(width) for _, full, width in tile_shape(size)),
        bundles=size // 256,
        tail=size % 256,
        leaves=size if state.once else 0,
    )


def _check_head(store: LogStore, state: LogState, head: Head, problems: list[str]) -> None:
    if head.size > state.size:
        problems.append(f"head: {head.size} entries were promised, the log has {state.size}")
    elif root_at(head.size, node_from_tiles(store.tile)) != head.root:
        problems.append(f"head: the first {head.size} entries make another root than was promised")


def _check_notes(
    store: LogStore, head: Head, keys: Sequence[VerifierKey], policy: WitnessPolicy | None, problems: list[str]
) -> None:
    require = [key.encode() for key in keys]

    def check(note: bytes, policy: WitnessPolicy, what: str) -> None:
        found = verify_checkpoint(note, origin=head.origin, require=require, policy=policy).checkpoint
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


def _collect(problems: list[str], step: Callable[[], None]) -> None:
    try:
        step()
    except VerificationError as error:
        problems.append(error.message)
