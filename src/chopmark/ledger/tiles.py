# SPDX-License-Identifier: Apache-2.0
"""Tiles and entry bundles, and how a tree grows. C2SP tlog-tiles.

Pure: :func:`integrate` takes the right edge of a tree and new entries, and returns every tile and bundle that changed,
the new root and the new edge. A store keeps them; a tile of width w is the first w hashes of any wider one, so it is
enough to keep the widest.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.ledger.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, Node, leaf_hashes, node_hash, root_of

TILE_HEIGHT = 8
TILE_WIDTH = 256
MAX_ENTRY_BYTES = 65_535
_LENGTH = struct.Struct(">H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """1 to 256 hashes of perfect subtrees of ``256 ** level`` leaves, side by side."""

    level: int
    index: int
    hashes: tuple[bytes, ...]

    def encode(self) -> bytes:
        return b"".join(self.hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """1 to 256 entries, side by side; they are the leaves under the level 0 tile of the same index."""

    index: int
    entries: tuple[bytes, ...]

    def encode(self) -> bytes:
        return encode_bundle(self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What is needed of a tree to append to it.

    Attributes:
        tiles: for each level of tiles, the hashes of its partial tile (none to 255).
        tail: the entries of the partial bundle (none to 255).
        frontier: for each height, the perfect subtree that is not yet paired; None where there is none.
    """

    size: int
    tiles: tuple[tuple[bytes, ...], ...]
    tail: tuple[bytes, ...]
    frontier: tuple[bytes | None, ...]

    @property
    def root(self) -> bytes:
        root: bytes | None = None
        for subtree in self.frontier:
            if subtree is not None:
                root = subtree if root is None else node_hash(subtree, root)
        return EMPTY_ROOT if root is None else root


EMPTY_EDGE = Edge(size=0, tiles=(), tail=(), frontier=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What appending changed.

    Attributes:
        leaves: the hashes of the new entries, in order.
        tiles: every tile that is new or wider, the last of each level possibly partial.
        bundles: likewise.
    """

    start: int
    leaves: tuple[bytes, ...]
    tiles: tuple[Tile, ...]
    bundles: tuple[Bundle, ...]
    edge: Edge

    @property
    def root(self) -> bytes:
        return self.edge.root


def integrate(edge: Edge, entries: Sequence[bytes], leaves: Sequence[bytes] | None = None) -> Integration:
    """Append *entries* to the tree with this *edge*.

    Args:
        leaves: the leaf hashes of *entries*, from a caller that has computed them already.

    Raises:
        UsageError: an entry is longer than 65,535 bytes, or the tree would be too large.
    """
    check_lengths(entries)
    if edge.size + len(entries) > MAX_SIZE:
        raise UsageError("the ledger is full")
    size = edge.size + len(entries)
    leaves = tuple(leaf_hashes(entries) if leaves is None else leaves)
    rows, frontier = _grow(edge.frontier, leaves)
    tiles: list[Tile] = []
    partial: list[tuple[bytes, ...]] = []
    for level, new in enumerate(rows):
        old = edge.tiles[level] if level < len(edge.tiles) else ()
        chunks = _chunks(old + tuple(new))
        if new:
            first = (edge.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
            tiles += [Tile(level=level, index=first + n, hashes=chunk) for n, chunk in enumerate(chunks)]
        partial.append(chunks[-1] if chunks and len(chunks[-1]) < TILE_WIDTH else ())
    groups = _chunks(edge.tail + tuple(entries))
    first = edge.size // TILE_WIDTH
    return Integration(
        start=edge.size,
        leaves=leaves,
        tiles=tuple(tiles),
        bundles=tuple(Bundle(index=first + n, entries=group) for n, group in enumerate(groups)) if entries else (),
        edge=Edge(
            size=size,
            tiles=tuple(partial),
            tail=groups[-1] if groups and len(groups[-1]) < TILE_WIDTH else (),
            frontier=frontier,
        ),
    )


def edge_of(size: int, tiles: Sequence[bytes], tail: Sequence[bytes]) -> Edge:
    """Put the edge of a tree together from what a store kept.

    Args:
        tiles: for each level, the bytes of its partial tile at this *size*.
        tail: the entries of the partial bundle.

    Raises:
        VerificationError: widths that do not fit the size, or entries that are not the leaves of the tile.
    """
    levels = tile_levels(size)
    partial = [tuple(decode_tile(data)) if data else () for data in tiles]
    if len(partial) != levels or any(len(partial[level]) != partial_width(level, size) for level in range(levels)):
        raise VerificationError("the tiles at the edge do not fit the size", code="ledger-corrupt")
    if tuple(leaf_hashes(tail)) != (partial[0] if levels else ()):
        raise VerificationError("the last entries are not those of the last tile", code="ledger-corrupt")
    frontier: list[bytes | None] = []
    for hashes in partial:
        for height in range(TILE_HEIGHT):
            # A subtree stands at each bit of the width, right of all larger ones.
            end = len(hashes) >> height << height
            unpaired = len(hashes) >> height & 1
            frontier.append(root_of(hashes[end - (1 << height) : end]) if unpaired else None)
    return Edge(size=size, tiles=tuple(partial), tail=tuple(tail), frontier=tuple(frontier))


def tile_levels(size: int) -> int:
    """Return how many levels of tiles a tree of *size* leaves has."""
    return (size.bit_length() + TILE_HEIGHT - 1) // TILE_HEIGHT


def partial_width(level: int, size: int) -> int:
    """Return the width of the partial tile of *level* in a tree of *size* leaves; 0 where there is none."""
    return (size >> (TILE_HEIGHT * level)) % TILE_WIDTH


def tile_shape(size: int) -> tuple[tuple[int, int, int], ...]:
    """Return (level, number of full tiles, width of the partial one) for every level of a tree of *size* leaves."""
    return tuple(
        (level, size >> (TILE_HEIGHT * (level + 1)), partial_width(level, size)) for level in range(tile_levels(size))
    )


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile under the log's prefix, e.g. ``tile/0/x001/x234/067.p/5``."""
    return f"tile/{level}/{_index_path(index, width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of an entry bundle under the log's prefix."""
    return f"tile/entries/{_index_path(index, width)}"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return entries with their lengths before them.

    Raises:
        UsageError: an entry is longer than 65,535 bytes.
    """
    check_lengths(entries)
    return b"".join([_LENGTH.pack(len(entry)) + entry for entry in entries])


def check_lengths(entries: Sequence[bytes]) -> None:
    """Raise UsageError where an entry is longer than 65,535 bytes."""
    if max(map(len, entries), default=0) > MAX_ENTRY_BYTES:
        raise UsageError(f"an entry is longer than {MAX_ENTRY_BYTES:,} bytes", hint="log its digest instead")


def decode_bundle(data: bytes) -> tuple[bytes, ...]:
    """Read an entry bundle.

    Raises:
        DecodeError: cut short, or more than 256 entries.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if len(data) < at + 2 or end > len(data) or len(entries) == TILE_WIDTH:
            raise DecodeError("entry bundle: cut short, or more than 256 entries")
        entries.append(data[at + 2 : end])
        at = end
    return tuple(entries)


def decode_tile(data: bytes) -> tuple[bytes, ...]:
    """Read a tile.

    Raises:
        DecodeError: not 1 to 256 hashes.
    """
    if not data or len(data) % HASH_BYTES or len(data) > TILE_WIDTH * HASH_BYTES:
        raise DecodeError("tile: not 1 to 256 hashes")
    return tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))


def node_from_tiles(read: Callable[[int, int], bytes]) -> Node:
    """Return the ``node`` function that :mod:`chopmark.ledger.merkle` makes proofs with.

    Args:
        read: (level, index) -> the bytes of the widest tile kept there. Called once per tile.

    Raises:
        VerificationError: (by the function) a tile is too narrow for a tree that has this node.
    """
    cache: dict[tuple[int, int], bytes] = {}

    def node(height: int, index: int) -> bytes:
        level, inner = divmod(height, TILE_HEIGHT)
        tile, position = divmod(index << inner, TILE_WIDTH)
        key = (level, tile)
        if key not in cache:
            cache[key] = read(level, tile)
        end = (position + (1 << inner)) * HASH_BYTES
        data = cache[key][position * HASH_BYTES : end]
        if len(cache[key]) < end:
            raise VerificationError(f"{tile_path(level, tile)} is too narrow", code="ledger-corrupt")
        return root_of([data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])

    return node


def _grow(
    frontier: Sequence[bytes | None], leaves: Sequence[bytes]
) -> tuple[list[Sequence[bytes]], tuple[bytes | None, ...]]:
    """Return the new perfect subtrees for each level of tiles, and the new frontier. Height by height, not leaf by leaf."""
    rows: list[Sequence[bytes]] = []
    grown: list[bytes | None] = []
    nodes: Sequence[bytes] = leaves
    sha256 = hashlib.sha256
    height = 0
    while nodes or height < len(frontier):
        if height % TILE_HEIGHT == 0:
            rows.append(nodes)
        waiting = frontier[height] if height < len(frontier) else None
        row = [waiting, *nodes] if waiting is not None else list(nodes)
        grown.append(row.pop() if len(row) % 2 else None)
        pairs = iter(row)
        nodes = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
        height += 1
    return rows, tuple(grown)


def _chunks(items: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    return [items[at : at + TILE_WIDTH] for at in range(0, len(items), TILE_WIDTH)]


def _index_path(index: int, width: int) -> str:
    digits = f"{index:03}"
    digits = digits.zfill(-len(digits) % 3 + len(digits))
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return path if width == TILE_WIDTH else f"{path}.p/{width}"
