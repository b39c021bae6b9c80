# SPDX-License-Identifier: Apache-2.0
"""Fill one pair of stores from another, or from anybody's static files. A second face, for servers.

Both ways go batch by batch, each batch one transaction of the target, and go on where they were killed: what the target
holds already is compared with the source by its root, never trusted. The target's head moves last, once, when all
entries are there; until then nobody is promised anything by it. Only where a target is ``public`` it moves with each
batch, as that store's recovery asks, without a signature, and nothing is shown: that promises nothing either.

Of :func:`copy_log` the source is a store of one's own, and is frozen before (who calls it sees to that: two live logs of
one origin are a fork). Of :func:`mirror` the source is files that somebody serves: every byte is checked against a
checkpoint that was verified.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

from chopmark.errors import MovedError, Refused, VerificationError
from chopmark.ledger.agreement import read_edge
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.fsck import root_at
from chopmark.ledger.helpers import Progress
from chopmark.ledger.merkle import Node
from chopmark.ledger.note import decode_note
from chopmark.ledger.ports import Head, HeadStore, LogState, LogStore
from chopmark.ledger.static import StaticLog
from chopmark.ledger.tiles import TILE_WIDTH, Edge, decode_tile, integrate, node_from_tiles

_BATCH = 16 * TILE_WIDTH

Stores = tuple[LogStore, HeadStore]


def copy_log(source: Stores, target: Stores, *, progress: Progress | None = None) -> LogState:
    """Copy a frozen log with its head, notes and what is pruned; return how far it is.

    The target is live where the source moved to it, and frozen where the source had ended.

    Raises:
        Refused: ``log-fork``: the target holds something else, or the source's entries do not make its root;
            ``log-rollback``: the target holds more.
        VerificationError: an entry or tile of the source is missing or damaged.
        UndecidedError: a store cannot be read or written now.
    """
    (store, heads), (into, into_heads) = source, target
    state, head = store.state(), heads.head()
    if not (state.frozen and head.frozen) or (state.size, state.root) != (head.size, head.root):
        raise VerificationError("only a log that is frozen is copied", code="not-frozen", hint="chopmark ledger freeze")
    whole = Checkpoint(origin=state.origin, size=state.size, root=state.root)
    _begins_with(target, whole, node_from_tiles(store.tile))
    _fill_pruned(store, target, state.minimum, state.size, progress)
    batches = (store.entries(start, end) for start, end in _batches(into.state().size, state.size))
    _fill(target, whole, batches, progress)
    with into.turn():
        _promise(target, whole, note=head.note, witnessed=head.witnessed)
        if not head.moved_to:
            with into.exclusive():
                into.freeze()
            into_heads.freeze(into_heads.head())
    return into.state()


def mirror(
    log: StaticLog,
    target: Stores,
    *,
    note: bytes,
    witnessed: bytes | None,
    progress: Progress | None = None,
) -> LogState:
    """Fetch a log up to the checkpoint of *log*; return how far the target is.

    Args:
        note: that checkpoint, as it is served; the caller verified it.
        witnessed: the newest one that a quorum cosigned, likewise.

    Raises:
        Refused: ``log-fork``: the target, or the witnessed checkpoint, is not a beginning of the log;
            ``log-rollback``: the target holds more than is served.
        VerificationError: a file is missing or altered; what was fetched before it stays.
        UndecidedError: a file cannot be read, or the target cannot be written now.
    """
    into, whole = target[0], log.checkpoint
    _begins_with(target, whole, log.node())
    if witnessed is not None:
        _starts_with(whole, Checkpoint.decode(decode_note(witnessed).text), log.node())
    batches = (tuple(log.entries(start, end)) for start, end in _batches(into.state().size, whole.size))
    _fill(target, whole, batches, progress)
    with into.turn():
        _promise(target, whole, note=note, witnessed=witnessed)
    return into.state()


def _batches(start: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield ranges that end at whole bundles, so that each bundle is read once."""
    while start < size:
        end = min(start - start % _BATCH + _BATCH, size)
        yield start, end
        start = end


def _fill(target: Stores, whole: Checkpoint, batches: Iterator[Sequence[bytes]], progress: Progress | None) -> None:
    """Append *batches* to what is there, and check that they make the root of *whole*."""
    edge = _edge(target)
    for entries in batches:
        edge = _append(target, edge, entries)
        if progress is not None:
            progress(edge.size, whole.size)
    if edge.size != whole.size or not hmac.compare_digest(edge.root, whole.root):
        raise Refused(
            "log-fork",
            "the entries make another root than the checkpoint says",
            hint="nothing is promised by the copy; remove it, and check the source (fsck)",
            evidence={"checkpoint": whole.encode(), "found": edge.root.hex()},
        )


def _edge(target: Stores) -> Edge:
    """Return the edge of what is there, after what a killed run left half done is finished."""
    into = target[0]
    with into.turn():
        with into.exclusive():
            edge = read_edge(into, into.state())
        _follow(target, edge)
    return edge


def _append(
    target: Stores, edge: Edge, entries: Sequence[bytes], leaves: Sequence[bytes] | None = None, *, pruned: int = 0
) -> Edge:
    into, integration = target[0], integrate(edge, entries, leaves)
    with into.turn():
        with into.exclusive():
            if into.state().size != edge.size:
                raise MovedError("another process fills this log", code="moved", hint="wait for it")
            into.write(integration)
            if pruned:
                into.prune(pruned)
        _follow(target, integration.edge)
    return integration.edge


def _follow(target: Stores, edge: Edge) -> None:
    """Let the head of a public store come after what was put, so that what was staged for it can go."""
    into, heads = target
    if into.public:
        into.show(_advanced(heads, size=edge.size, root=edge.root))


def _advanced(heads: HeadStore, *, size: int, root: bytes) -> Head:
    """Move the head to *size*, unless it is there; return it."""
    while (head := heads.head()).size < size:
        if not heads.advance(head, size=size, root=root) and heads.head().frozen:
            raise VerificationError("the copy is frozen, and the log grew", code="log-frozen")
    return head


def _fill_pruned(store: LogStore, target: Stores, minimum: int, size: int, progress: Progress | None) -> None:
    """Copy the hashes of entries that are gone: bundles are written empty, and dropped in the same transaction."""
    edge = _edge(target)
    for start, end in _batches(edge.size, minimum):
        indices = range(start // TILE_WIDTH, end // TILE_WIDTH)
        leaves = [leaf for index in indices for leaf in decode_tile(store.tile(0, index))]
        if len(leaves) != end - start:
            raise VerificationError("a tile of pruned entries is too narrow", code="ledger-corrupt", hint="run fsck")
        edge = _append(target, edge, [b""] * len(leaves), leaves, pruned=end)
        if progress is not None:
            progress(edge.size, size)


def _begins_with(target: Stores, whole: Checkpoint, node: Node) -> None:
    """Check that what the target holds, and what it ever promised, is a beginning of *whole*."""
    state, head = target[0].state(), target[1].head()
    for origin, size, root in ((state.origin, state.size, state.root), (head.origin, head.size, head.root)):
        if origin != whole.origin:
            raise Refused("log-fork", f"this is a copy of {origin!r}, not of {whole.origin!r}")
        _starts_with(whole, Checkpoint(origin=origin, size=size, root=root), node)


def _starts_with(whole: Checkpoint, part: Checkpoint, node: Node) -> None:
    evidence = {"log": whole.encode(), "seen": part.encode()}
    if part.size > whole.size:
        raise Refused("log-rollback", f"{part.size} entries were seen, {whole.size} are shown", evidence=evidence)
    if not hmac.compare_digest(root_at(part.size, node), part.root):
        raise Refused("log-fork", f"the log does not start with the {part.size} entries seen", evidence=evidence)


def _promise(target: Stores, whole: Checkpoint, *, note: bytes | None, witnessed: bytes | None) -> None:
    """Move the target's head to *whole*, keep its checkpoints, and show them where it is public."""
    into, heads = target
    head = _advanced(heads, size=whole.size, root=whole.root)
    if note is not None:
        heads.keep_note(head, note)
    if witnessed is not None:
        heads.keep_witnessed(Checkpoint.decode(decode_note(witnessed).text).size, witnessed)
    into.show(heads.head())
