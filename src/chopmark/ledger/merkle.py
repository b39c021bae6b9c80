# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree of RFC 9162: hashes, roots, inclusion and consistency, both ways.

Makes and checks proofs over hashes; where the hashes are kept is not known here. A maker of proofs is given ``node``, a
function that returns the hash of a *perfect* subtree: ``node(level, index)`` covers the leaves ``index * 2**level`` up to
``(index + 1) * 2**level``. Every other hash is put together from those.

    >>> leaves = [leaf_hash(text) for text in (b"a", b"b", b"c")]
    >>> def node(level, index):
    ...     return root_of(leaves[index << level : (index + 1) << level])
    >>> verify_inclusion(leaves[2], 2, 3, inclusion_path(2, 3, node), root_of(leaves))
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence

from chopmark.errors import VerificationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_SIZE = 2**63 - 1
"""The most leaves a tree can have here: what a signed 64-bit database column keeps."""
MAX_PATH = 63
"""The most hashes in a proof over a tree of at most ``MAX_SIZE`` leaves."""

Node = Callable[[int, int], bytes]


class ProofError(VerificationError):
    """A Merkle proof that does not prove: a wrong shape, or another root."""

    code = "proof-invalid"


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """Return the hash of each of *entries*; a call for each would cost as much as the hashing."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a tree with these leaf hashes (or perfect subtrees of one height)."""
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        odd = [row.pop()] if len(row) % 2 else []
        pairs = iter(row)
        row = [node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)] + odd
    return row[0]


def range_root(start: int, end: int, node: Node) -> bytes:
    """Return the root of the leaves [start, end) from perfect subtrees.

    Args:
        start: a multiple of the smallest power of two that is at least ``end - start``.
        end: > start.
        node: as in the module's docstring.
    """
    parts: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(node(level, start >> level))
        start += 1 << level
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root


def inclusion_path(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """Return the sibling hashes of leaf *index* in the tree of *size* leaves, leaf side first.

    Raises:
        ProofError: there is no such leaf.

    Source: RFC 9162, 2.1.3.1.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"entry {index} is not in a tree of {size} entries")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    return tuple(reversed(path))


def consistency_path(old: int, new: int, node: Node) -> tuple[bytes, ...]:
    """Return the proof that the tree of *new* leaves starts with the tree of *old* leaves; empty when equal.

    Args:
        old: 1 or more; the empty tree needs no proof.
        new: old or more.

    Raises:
        ProofError: *old* is 0 or beyond *new*.

    Source: RFC 9162, 2.1.4.1.
    """
    if not 0 < old <= new <= MAX_SIZE:
        raise ProofError(f"no consistency proof from {old} to {new} entries")
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(middle, end, node))
            end = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    if start:  # else the remaining subtree is the old tree itself, whose root the verifier knows
        path.append(range_root(start, end, node))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that *leaf* is the hash of entry *index* in the tree of *size* leaves with *root*.

    Args:
        leaf: a leaf hash.
        index: 0-based; 0 <= index < size.
        path: sibling hashes, leaf to root.

    Raises:
        ProofError: the path does not fit index and size, or leads to another root (both are in the evidence).

    Source: RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"entry {index} is not in a tree of {size} entries")
    _check_hashes(leaf, root, *path)
    found = leaf
    for sibling, left in _climb(index, size - 1, path, "the inclusion proof"):
        found = node_hash(sibling, found) if left else node_hash(found, sibling)
    _same_root(found, root, "the inclusion proof leads to another root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the tree (new, new_root) starts with the leaves of the tree (old, old_root).

    Args:
        old: 1 or more. That the empty tree starts every tree is the caller's to say (the witness protocol does).
        path: as :func:`consistency_path` makes it.

    Raises:
        ProofError: the path does not fit the sizes, or leads to other roots.

    Source: RFC 9162, 2.1.4.2.
    """
    if not 0 < old <= new <= MAX_SIZE:
        raise ProofError(f"no consistency proof from {old} to {new} entries")
    _check_hashes(old_root, new_root, *path)
    if old == new:
        if path:
            raise ProofError("a consistency proof between equal sizes is empty")
        _same_root(old_root, new_root, "two roots of one size")
        return
    if not path:
        raise ProofError("the consistency proof is empty")
    proof = [old_root, *path] if old & (old - 1) == 0 else list(path)
    position, last = old - 1, new - 1
    while position % 2:
        position, last = position >> 1, last >> 1
    found_old = found_new = proof[0]
    for sibling, left in _climb(position, last, proof[1:], "the consistency proof"):
        found_old = node_hash(sibling, found_old) if left else found_old
        found_new = node_hash(sibling, found_new) if left else node_hash(found_new, sibling)
    _same_root(found_old, old_root, "the consistency proof leads to another old root")
    _same_root(found_new, new_root, "the consistency proof leads to another new root")


def _climb(position: int, last: int, path: Sequence[bytes], what: str) -> Iterator[tuple[bytes, bool]]:
    """Yield each sibling on the way from *position* of a row that ends at *last* to the root, and if it stands left."""
    for sibling in path:
        if last == 0:
            raise ProofError(f"{what} is too long")
        left = position % 2 == 1 or position == last
        yield sibling, left
        while left and position % 2 == 0 and position:  # no siblings on these heights: the row's end is odd
            position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    if last:
        raise ProofError(f"{what} is too short")


def _split(count: int) -> int:
    """Return the largest power of two below *count* (2 or more)."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError("a hash is not 32 bytes")


def _same_root(found: bytes, expected: bytes, message: str) -> None:
    if not hmac.compare_digest(found, expected):
        raise ProofError(message, evidence={"found": found.hex(), "expected": expected.hex()})
