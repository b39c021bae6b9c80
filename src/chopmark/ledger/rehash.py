# SPDX-License-Identifier: Apache-2.0
"""The inner loops of a check: bundles and tiles hashed again, as fast as Python does it.

What :mod:`chopmark.ledger.tiles` and :mod:`chopmark.ledger.merkle` say, over bytes as they are kept instead of tuples:
taking a bundle apart and putting hashes together again would cost as much as hashing.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct

from chopmark.errors import DecodeError
from chopmark.ledger.merkle import HASH_BYTES
from chopmark.ledger.tiles import TILE_WIDTH

TILE_BYTES = TILE_WIDTH * HASH_BYTES

_PAIRS = tuple(Struct("64s" * count) for count in (128, 64, 32, 16, 8, 4, 2, 1))
_leaf = sha256(b"\x00").copy  # a hash that has its first byte already is copied faster than a new one is made


def leaves_of(bundle: bytes) -> bytes:
    """Return the leaf hashes of a bundle's entries, side by side: its tile.

    Raises:
        DecodeError: as :func:`chopmark.ledger.decode_bundle`.
    """
    hashes: list[bytes] = []
    keep, at, length = hashes.append, 0, len(bundle)
    while at < length - 1:
        start = at + 2
        at = start + (bundle[at] << 8 | bundle[at + 1])
        leaf = _leaf()
        leaf.update(bundle[start:at])
        keep(leaf.digest())
    if at != length or len(hashes) > TILE_WIDTH:
        raise DecodeError("entry bundle: cut short, or more than 256 entries")
    return b"".join(hashes)


def tile_root(tile: bytes) -> bytes:
    """Return the hash over a full tile, which stands in the tile above."""
    row = tile
    for pairs in _PAIRS:
        row = b"".join([sha256(b"\x01" + pair).digest() for pair in pairs.unpack(row)])
    return row


def tile_roots(row: bytes) -> bytes:
    """Return the hashes over the full tiles of a row of hashes, side by side."""
    full = len(row) // TILE_BYTES * TILE_BYTES
    return b"".join([tile_root(row[at : at + TILE_BYTES]) for at in range(0, full, TILE_BYTES)])
