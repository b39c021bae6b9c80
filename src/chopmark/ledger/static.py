# SPDX-License-Identifier: Apache-2.0
"""Read a log from its static files, trusting nobody who keeps them. C2SP tlog-tiles.

Everything that is returned was checked against the root of a checkpoint that the caller verified: the tiles at the right
edge are hashed up to the root, any other tile to the hash of it in the tile above, entries to the hashes in their tile.

    seen = verify_checkpoint(note, origin=…, require=…, policy=…)
    log = StaticLog(files, seen.checkpoint)
    log.entries(0, 256)
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from chopmark.errors import DecodeError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Node, consistency_path, inclusion_path, root_of
from chopmark.ledger.note import MAX_NOTE_BYTES
from chopmark.ledger.ports import LogFiles
from chopmark.ledger.rehash import leaves_of, tile_root
from chopmark.ledger.tiles import (
    MAX_ENTRY_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    bundle_path,
    decode_bundle,
    decode_tile,
    node_from_tiles,
    partial_width,
    tile_levels,
    tile_path,
)

CHECKPOINT: Final = "checkpoint"
WITNESSED_CHECKPOINT: Final = "witnessed-checkpoint"
"""Ours beside the one of the specification: the newest that a quorum cosigned."""
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
_KEPT_TILES: Final = 1024


def newest_note(files: LogFiles, path: str = CHECKPOINT) -> bytes:
    """Return a checkpoint as it is served; the caller verifies it.

    Raises:
        VerificationError: there is none.
        UndecidedError: it cannot be read now.
    """
    note = files.find(path, max_bytes=MAX_NOTE_BYTES)
    if note is None:
        raise VerificationError(f"{path}: the log has none", code="log-incomplete", hint="is this the log's prefix?")
    return note


def witnessed_note(files: LogFiles) -> bytes | None:
    """Return the newest checkpoint that a quorum cosigned as it is served, or None; the caller verifies it.

    Raises:
        UndecidedError: it cannot be read now.
    """
    return files.find(WITNESSED_CHECKPOINT, max_bytes=MAX_NOTE_BYTES)


class StaticLog:
    """A log of one size, as *checkpoint* says. One thread at a time uses it."""

    def __init__(self, files: LogFiles, checkpoint: Checkpoint) -> None:
        """Take a checkpoint that was verified; nothing is read yet."""
        self.checkpoint = checkpoint
        self._files = files
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._edge: dict[tuple[int, int], bytes] | None = None

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the entries [start, end), each checked.

        Raises:
            VerificationError: ``log-incomplete``: a file is missing; ``log-altered``: one is not what the root says.
            UndecidedError: a file cannot be read now.
        """
        for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH) if start < end else 0):
            first = index * TILE_WIDTH
            yield from self.bundle(index)[max(start - first, 0) : end - first]

    def bundle(self, index: int) -> tuple[bytes, ...]:
        """Return the entries under the level 0 tile *index*, checked; raises as :meth:`entries`."""
        data, width = self._bundle(index)
        return decode_bundle(data)[:width]

    def check_bundle(self, index: int) -> None:
        """Check the bundle *index* and the tiles above it; raises as :meth:`entries`."""
        self._bundle(index)

    def _bundle(self, index: int) -> tuple[bytes, int]:
        """Return a bundle, checked, and how many of its entries there are at this size."""
        tile = self.tile(0, index)
        width = len(tile) // HASH_BYTES
        path = bundle_path(index, width)
        data = self._file(path, bundle_path(index), MAX_BUNDLE_BYTES)
        try:
            leaves = leaves_of(data)
        except DecodeError as error:
            raise _altered(path) from error
        if not hmac.compare_digest(leaves[: len(tile)], tile):
            raise _altered(path)
        return data, width

    def tile(self, level: int, index: int) -> bytes:
        """Return a tile as wide as it is at this size, checked; raises as :meth:`entries`."""
        edge = self._right_edge()
        if (level, index) in edge:
            return edge[level, index]
        if (level, index) not in self._tiles:
            self._tiles[level, index] = self._checked(level, index)
            while len(self._tiles) > _KEPT_TILES:
                self._tiles.popitem(last=False)
        self._tiles.move_to_end((level, index))
        return self._tiles[level, index]

    def node(self) -> Node:
        """Return the ``node`` function that proofs are made with."""
        return node_from_tiles(self.tile)

    def prove_inclusion(self, index: int) -> tuple[bytes, ...]:
        """Return the path of entry *index*; ProofError where there is none."""
        return inclusion_path(index, self.checkpoint.size, self.node())

    def prove_consistency(self, old: int) -> tuple[bytes, ...]:
        """Return the proof that this log starts with its first *old* entries; ProofError where it has fewer."""
        return consistency_path(old, self.checkpoint.size, self.node())

    def _checked(self, level: int, index: int) -> bytes:
        """Return a full tile whose root the tile above holds."""
        size = self.checkpoint.size
        if level >= tile_levels(size) or index >= size >> (TILE_HEIGHT * (level + 1)):
            raise VerificationError(f"{tile_path(level, index)}: not in a log of {size}", code="log-incomplete")
        path = tile_path(level, index)
        data = self._file(path, path, TILE_WIDTH * HASH_BYTES)
        above, position = divmod(index, TILE_WIDTH)
        wanted = self.tile(level + 1, above)[position * HASH_BYTES : (position + 1) * HASH_BYTES]
        if len(data) != TILE_WIDTH * HASH_BYTES or not hmac.compare_digest(tile_root(data), wanted):
            raise _altered(path)
        return data

    def _right_edge(self) -> dict[tuple[int, int], bytes]:
        """Return the partial tiles, which lead to the root; read once."""
        if self._edge is None:
            size = self.checkpoint.size
            edge: dict[tuple[int, int], bytes] = {}
            parts: list[bytes] = []  # perfect subtrees from the right
            for level in range(tile_levels(size)):
                width, index = partial_width(level, size), size >> (TILE_HEIGHT * (level + 1))
                if width:
                    path = tile_path(level, index, width)
                    data = self._file(path, tile_path(level, index), TILE_WIDTH * HASH_BYTES)[: width * HASH_BYTES]
                    if len(data) != width * HASH_BYTES:
                        raise _altered(path)
                    edge[level, index] = data
                    parts += _subtrees(decode_tile(data))
            if not hmac.compare_digest(_joined(parts), self.checkpoint.root):
                raise _altered(f"the tiles at the edge of {self.checkpoint.origin}")
            self._edge = edge
        return self._edge

    def _file(self, path: str, full: str, max_bytes: int) -> bytes:
        """Return a file, or the full one in its place: partial ones may be gone then."""
        data = self._files.find(path, max_bytes=max_bytes)
        if data is None and path != full:
            data = self._files.find(full, max_bytes=max_bytes)
        if data is None:
            raise VerificationError(f"{path}: is missing", code="log-incomplete", hint="ask the log's operator")
        return data


def _subtrees(hashes: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the perfect subtrees of a tile, the rightmost first."""
    end = len(hashes)
    for height in range(TILE_HEIGHT):
        width = 1 << height
        if len(hashes) & width:
            yield root_of(hashes[end - width : end])
            end -= width


def _joined(parts: list[bytes]) -> bytes:
    """Return the root over perfect subtrees that are listed from the right."""
    if not parts:
        return EMPTY_ROOT
    root, *others = parts
    for left in others:
        root = root_of([left, root])
    return root


def _altered(path: str) -> VerificationError:
    return VerificationError(
        f"{path}: is not what the checkpoint's root says", code="log-altered", hint="keep it; ask the log's operator"
    )
