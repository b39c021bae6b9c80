# SPDX-License-Identifier: Apache-2.0
"""Block trees: the fs-verity digest of a file, and the check of some of its blocks without reading the rest.

fs-verity: leaves are SHA-256 of zero-padded blocks; each level packs hashes into zero-padded blocks; the digest is
SHA-256 of a 256-byte descriptor that names size, block size and root (Linux, Documentation/filesystems/fsverity.rst).

A file of leaves (``<name>.leaves``) is the concatenation of a tree's leaf hashes and nothing else. It needs no trust:
the leaves lead to the digest that the manifest names, or they are refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from chopmark.artifacts.model import BLOCK_SIZES, DIGEST_BYTES, Digest, FileEntry
from chopmark.errors import UsageError, VerificationError

LEAF_BLOCK_BYTES: Final = BLOCK_SIZES[-1]
"""The block size of a file of leaves."""

LEAVES_SUFFIX: Final = ".leaves"


class BlockTree:
    """The fs-verity digest of a stream, for one block size."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self._length = 0
        self._rest = b""
        self._leaves = bytearray()

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the stream."""
        self._length += len(data)
        view = memoryview(self._rest + bytes(data)) if self._rest else memoryview(data)
        whole = len(view) - len(view) % self.block_bytes
        self._leaves += block_hashes(view[:whole], self.block_bytes)
        self._rest = bytes(view[whole:])

    def digest(self) -> Digest:
        """Return what ``fsverity digest --block-size`` prints for the bytes so far."""
        last = block_hashes(memoryview(self._rest), self.block_bytes)
        return fsverity_digest(bytes(self._leaves) + last, self._length, self.block_bytes)


def block_hashes(data: memoryview, block_bytes: int) -> bytes:
    """Return the leaf hashes of *data*, its last block padded with zeros."""
    sha256, length = hashlib.sha256, len(data)
    whole = length - length % block_bytes
    hashes = [sha256(data[at : at + block_bytes]).digest() for at in range(0, whole, block_bytes)]
    if whole < length:
        hashes.append(sha256(data[whole:].tobytes().ljust(block_bytes, b"\0")).digest())
    return b"".join(hashes)


def fsverity_digest(leaves: bytes, length: int, block_bytes: int) -> Digest:
    """Return the fs-verity digest of a file of *length* bytes with these *leaves*.

    Args:
        leaves: 32 bytes for each block; none for an empty file.
    """
    level = leaves
    while len(level) > DIGEST_BYTES:
        level = block_hashes(memoryview(level), block_bytes)
    root = level or bytes(DIGEST_BYTES)
    descriptor = struct.pack(
        "<BBBBIQ64s32s144s", 1, 1, block_bytes.bit_length() - 1, 0, 0, length, root.ljust(64, b"\0"), b"", b""
    )
    return Digest.of(descriptor)


def check_leaves(entry: FileEntry, leaves: bytes) -> None:
    """Check that *leaves* are those of the file that *entry* describes.

    Raises:
        VerificationError: ``leaves-altered``: another number of them, or they lead to another digest.
    """
    wanted = entry.fsverity[LEAF_BLOCK_BYTES]
    blocks = -(-entry.length // LEAF_BLOCK_BYTES)
    fits = len(leaves) == blocks * DIGEST_BYTES
    if not fits or not hmac.compare_digest(fsverity_digest(leaves, entry.length, LEAF_BLOCK_BYTES).value, wanted.value):
        raise VerificationError(
            f"{entry.name}: the leaves are not those of the file in the manifest",
            code="leaves-altered",
            hint="get them anew, or make them: `chopmark hash --leaves`",
            evidence={"file": entry.name, "wanted": str(wanted)},
        )


def verify_blocks(
    descriptor: int, entry: FileEntry, leaves: bytes, ranges: Iterable[range]
) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes of *ranges* in pieces of at most a block, each checked before it is given out.

    Only the blocks that a range touches are read. What is yielded is what was checked: whoever reads the file again may
    get something else.

    Args:
        descriptor: of the file, open for reading; its position is neither used nor moved.
        leaves: of blocks of 64 KiB; checked against *entry* before this returns.
        ranges: of byte positions, with step 1, each within the file.

    Returns:
        The position in the file of each piece, and the piece.

    Raises:
        UsageError: a range that is not in the file, or the file cannot be read.
        VerificationError: ``leaves-altered``, or ``block-altered`` with the number of the block.
    """
    check_leaves(entry, leaves)
    return _pieces(descriptor, entry, leaves, ranges)


def _pieces(descriptor: int, entry: FileEntry, leaves: bytes, ranges: Iterable[range]) -> Iterator[tuple[int, bytes]]:
    for wanted in ranges:
        if wanted.step != 1 or not 0 <= wanted.start <= wanted.stop <= entry.length:
            raise UsageError(f"{entry.name}: bytes {wanted.start} to {wanted.stop} are not in the file")
        at = wanted.start
        while at < wanted.stop:
            number, skip = divmod(at, LEAF_BLOCK_BYTES)
            block = _block(descriptor, entry, leaves, number)
            piece = block[skip : skip + wanted.stop - at]
            yield at, piece
            at += len(piece)


def _block(descriptor: int, entry: FileEntry, leaves: bytes, number: int) -> bytes:
    at = number * LEAF_BLOCK_BYTES
    try:
        data = os.pread(descriptor, min(LEAF_BLOCK_BYTES, entry.length - at), at)
    except OSError as error:
        raise UsageError(f"{entry.name}: cannot be read ({error.strerror})") from error
    leaf = hashlib.sha256(data if len(data) == LEAF_BLOCK_BYTES else data.ljust(LEAF_BLOCK_BYTES, b"\0")).digest()
    # A file that was cut inside a block of zeros would pass for whole: its padding is zeros too.
    short = len(data) < min(LEAF_BLOCK_BYTES, entry.length - at)
    if short or not hmac.compare_digest(leaf, leaves[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]):
        raise VerificationError(
            f"{entry.name}: block {number:,} differs from the manifest",
            code="block-altered",
            hint="get the file anew",
            evidence={"file": entry.name, "block": number, "block_bytes": LEAF_BLOCK_BYTES},
        )
    return data
