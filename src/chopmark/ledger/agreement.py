# SPDX-License-Identifier: Apache-2.0
"""What a log's tiles, its stored root and its head have to say of each other. A second face, for servers.

Tiles make the stored root (:func:`read_edge`); the log starts with what its head promised (:func:`check_begins`). What does
not agree is refused with both sides as evidence: a head that is larger means that an old copy of the log was restored, one
with another root that there are two histories. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable

from chopmark.errors import Refused, UsageError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import HASH_BYTES
from chopmark.ledger.ports import Head, LogState, LogStore
from chopmark.ledger.tiles import Edge, edge_of, partial_width, tile_levels


def read_edge(store: LogStore, state: LogState) -> Edge:
    """Derive the edge from tiles and entries and compare its root with the stored one.

    Raises:
        VerificationError: they differ, or one of them is missing.
    """
    tiles = []
    for level in range(tile_levels(state.size)):
        width = partial_width(level, state.size)
        index = state.size >> (8 * (level + 1))
        tiles.append(store.tile(level, index)[: width * HASH_BYTES] if width else b"")
    tail = store.entries(state.size - state.size % 256, state.size) if state.size % 256 else ()
    edge = edge_of(state.size, tiles, tail)
    if edge.root != state.root:
        evidence = {"size": state.size, "stored": state.root.hex(), "found": edge.root.hex()}
        raise VerificationError(
            "the tiles lead to another root than the one stored",
            code="ledger-corrupt",
            hint="restore a copy of the log",
            evidence=evidence,
        )
    return edge


def check_begins(state: LogState, head: Head, root_at: Callable[[int], bytes]) -> None:
    """Check that the log starts with what *head* promised.

    Args:
        root_at: size -> the root of that many of the log's entries, from its tiles.

    Raises:
        Refused: ``log-rollback``: the log is smaller; ``log-fork``: it starts with something else.
    """
    signed = head.note or head.witnessed
    if head.size > state.size:
        ours = Checkpoint(origin=state.origin, size=state.size, root=state.root)
        raise Refused(
            "log-rollback",
            f"the log has {state.size} entries, but {head.size} were promised: an old copy was restored",
            hint="put the newest copy back; if it is lost, this log ends here and a new origin begins",
            evidence={"head": promised(head).encode(), "log": ours.encode(), "signed": signed},
        )
    found = root_at(head.size)
    if found != head.root:
        ours = Checkpoint(origin=state.origin, size=head.size, root=found)
        raise Refused(
            "log-fork",
            "the log does not start with its own head",
            hint="keep both files; call security",
            evidence={"head": promised(head).encode(), "log": ours.encode(), "signed": signed},
        )


def promised(head: Head) -> Checkpoint:
    """Return the checkpoint of *head*."""
    return Checkpoint(origin=head.origin, size=head.size, root=head.root)


def frozen_error(head: Head) -> UsageError:
    """Return what an append to a frozen log ends in."""
    hint = "append to its successor (chopmark ledger rotate), or where it was moved to"
    where = f"; it goes on in {head.moved_to}" if head.moved_to else ""
    return UsageError(f"{head.origin} is frozen at {head.size} entries{where}", code="log-frozen", hint=hint)
