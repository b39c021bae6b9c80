# SPDX-License-Identifier: Apache-2.0
"""The verifiable map: one hash over all keys and their lists, and a proof for every key, present or not.

A binary trie over the 256 bits of the hash of the key. A leaf stands where no other key shares its path; so the root
depends on what is in the map alone, and not on the order in which it came. Hashes, each with a prefix of its own:

    EMPTY                                     no key below
    leaf  (hash of the key, count, list root) one key
    inner (left, right)                       two keys or more

Following a key's bits from the root ends at exactly one of EMPTY, its own leaf, or another key's leaf: a root gives one
answer about a key. Nodes are kept in *pages* of four levels, named by their path, a byte for each four bits. A page that is read is
hashed and compared with what the page above it says, so that a damaged store is noticed before it is built upon.
Pure; where pages are kept is the caller's.

    >>> key = key_hash("model:digits")
    >>> grown = grow(lambda page: None, EMPTY, [Change(key, None, b"." * 32)], leaf_of=lambda key: None)
    >>> grown.root == b"." * 32  # one key alone stands at the root
    True
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Final, NamedTuple

from chopmark.errors import UsageError
from chopmark.ledger.index.lists import damaged
from chopmark.ledger.merkle import HASH_BYTES

MAP: Final = "chopmark/map/v1"
"""What the hashes of this module are called in a logged root."""
KEY_BITS: Final = 8 * HASH_BYTES
_KEY, _LEAF, _INNER = (f"{MAP}/{what}\0".encode() for what in ("key", "leaf", "node"))
EMPTY: Final = sha256(f"{MAP}/empty\0".encode()).digest()
_NIBBLE: Final = 4
_WIDTH: Final = 1 << _NIBBLE
_SHAPE_BYTES: Final = 4

Leaf = tuple[bytes, bytes]
"""The hash of a key, and the hash of its leaf."""
Slot = Leaf | bytes | None
"""What stands at the foot of a page: a leaf, the hash of the page below, or nothing."""
ReadPage = Callable[[bytes], bytes | None]
ReadLeaf = Callable[[bytes], bytes | None]


class Change(NamedTuple):
    """A leaf that is new or replaced.

    Attributes:
        old: the hash of the leaf as it was; None where the key is new.
    """

    key: bytes
    old: bytes | None
    new: bytes


@dataclass(frozen=True, slots=True)
class Grown:
    """What changes made: the new root, and every page that differs."""

    root: bytes
    pages: dict[bytes, bytes]


def key_hash(key: str) -> bytes:
    """Return where *key* stands.

    Raises:
        UsageError: it holds half a character, which no key of an entry does.
    """
    try:
        return sha256(_KEY + key.encode("utf-8")).digest()
    except UnicodeEncodeError as error:
        raise UsageError(f"{key[:80]!a} is not a key", hint="such as model:digits, or digest:sha256:91c4…") from error


def map_leaf(key: bytes, count: int, root: bytes) -> bytes:
    """Return the hash of the leaf of a key.

    Args:
        key: its hash.
        count: the length of its list, 1 or more.
        root: of its list.
    """
    return sha256(_LEAF + key + count.to_bytes(8, "big") + root).digest()


def climb(key: bytes, terminal: bytes, path: Sequence[bytes]) -> bytes:
    """Return the root to which *path* leads from *terminal* on the way of *key*.

    Args:
        path: the hashes beside the way, the root's children last; at most 256.
    """
    found, bits = terminal, int.from_bytes(key, "big")
    for height, sibling in enumerate(path, start=KEY_BITS - len(path)):
        left, right = (sibling, found) if bits >> height & 1 else (found, sibling)
        found = sha256(_INNER + left + right).digest()
    return found


def stands_on_path(key: bytes, other: bytes, depth: int) -> bool:
    """Tell whether the first *depth* bits of both hashes are the same."""
    return (int.from_bytes(key, "big") ^ int.from_bytes(other, "big")) >> (KEY_BITS - depth) == 0


def grow(read: ReadPage, root: bytes, changes: Sequence[Change], *, leaf_of: ReadLeaf) -> Grown:
    """Put *changes* into the map with *root*.

    Args:
        read: returns the page of a path, or None.
        changes: in ascending order, each key once.
        leaf_of: returns the leaf of a hash of a key, from its list. A page's hash covers its leaves, and not under which
            key each is kept; so a leaf that has to move is asked for.

    Raises:
        VerificationError: ``index-damaged``: a page is not what the root says.
    """
    if not changes:
        return Grown(root, {})
    grower = _Grower(read, leaf_of)
    new = grower.grow(b"", None if root == EMPTY else root, changes)
    return Grown(new, grower.pages)


def find(read: ReadPage, root: bytes, key: bytes) -> tuple[Leaf | None, tuple[bytes, ...]]:
    """Return what stands at the end of the way of *key*, and the hashes beside the way for :func:`climb`.

    Raises:
        VerificationError: ``index-damaged``.
    """
    path: list[bytes] = []
    prefix, expected = b"", root
    while expected != EMPTY:
        slots = open_page(read, prefix, expected)
        nibble = _nibble(key, len(prefix))
        start, end = 0, _WIDTH
        while end - start > 1:
            if (only := _only_leaf(slots[start:end])) is not None:
                return only, tuple(reversed(path))
            if not any(slots[start:end]):
                return None, tuple(reversed(path))
            middle = (start + end) // 2
            if nibble < middle:
                path.append(_fold(slots[middle:end]))
                end = middle
            else:
                path.append(_fold(slots[start:middle]))
                start = middle
        slot = slots[nibble]
        if not isinstance(slot, bytes):
            return slot, tuple(reversed(path))
        prefix, expected = prefix + bytes([nibble]), slot
    return None, tuple(reversed(path))


def open_page(read: ReadPage, prefix: bytes, expected: bytes) -> list[Slot]:
    """Read the page of *prefix*, whose hash is *expected*.

    Raises:
        VerificationError: ``index-damaged``: it is missing, or another.
    """
    data = read(prefix)
    if data is None or len(prefix) * _NIBBLE >= KEY_BITS:
        raise damaged("a page is missing")
    slots = decode_page(data)
    if not hmac.compare_digest(_fold(slots), expected):
        raise damaged("a page is not what the one above it says")
    return slots


def encode_page(slots: Sequence[Slot]) -> bytes:
    """Return a page as a store keeps it: which slots are leaves, which lead on, then what they hold."""
    leaves = sum(1 << at for at, slot in enumerate(slots) if isinstance(slot, tuple))
    inner = sum(1 << at for at, slot in enumerate(slots) if isinstance(slot, bytes))
    content = b"".join(slot if isinstance(slot, bytes) else b"".join(slot) for slot in slots if slot is not None)
    return leaves.to_bytes(2, "big") + inner.to_bytes(2, "big") + content


def decode_page(data: bytes) -> list[Slot]:
    """Read a page.

    Raises:
        VerificationError: ``index-damaged``.
    """
    leaves, inner = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:_SHAPE_BYTES], "big")
    wanted = _SHAPE_BYTES + HASH_BYTES * (2 * leaves.bit_count() + inner.bit_count())
    if leaves & inner or len(data) != wanted:
        raise damaged("a page has a shape that cannot be")
    slots: list[Slot] = [None] * _WIDTH
    at = _SHAPE_BYTES
    for number in range(_WIDTH):
        if leaves >> number & 1:
            slots[number] = (data[at : at + HASH_BYTES], data[at + HASH_BYTES : at + 2 * HASH_BYTES])
            at += 2 * HASH_BYTES
        elif inner >> number & 1:
            slots[number] = data[at : at + HASH_BYTES]
            at += HASH_BYTES
    return slots


class _Grower:
    """Pages that were opened once and changed."""

    def __init__(self, read: ReadPage, leaf_of: ReadLeaf) -> None:
        self._read = read
        self._leaf_of = leaf_of
        self.pages: dict[bytes, bytes] = {}

    def grow(self, prefix: bytes, expected: bytes | None, changes: Sequence[Change]) -> bytes:
        """Change the page of *prefix* and those below; return its hash.

        Args:
            expected: the hash that it had; None for a page that is new.
        """
        slots: list[Slot] = [None] * _WIDTH if expected is None else open_page(self._read, prefix, expected)
        depth = len(prefix)
        for nibble, group in groupby(changes, lambda change: _nibble(change.key, depth)):
            slots[nibble] = self._slot(prefix + bytes([nibble]), slots[nibble], list(group))
        self.pages[prefix] = encode_page(slots)
        return _fold(slots)

    def _slot(self, below: bytes, slot: Slot, changes: list[Change]) -> Slot:
        if isinstance(slot, bytes):
            return self.grow(below, slot, changes)
        for change in changes:
            was = slot[1] if slot is not None and slot[0] == change.key else None
            if was != change.old:
                raise damaged("a list is not the one that the map names")
        if slot is not None and all(change.key != slot[0] for change in changes):
            if self._leaf_of(slot[0]) != slot[1]:
                raise damaged("a leaf is kept under another key")
            changes = sorted([*changes, Change(slot[0], None, slot[1])])
        if len(changes) == 1:
            return changes[0].key, changes[0].new
        return self.grow(below, None, [change._replace(old=None) for change in changes])


def _fold(slots: Sequence[Slot]) -> bytes:
    """Return the hash over *slots*: 1, 2, 4, 8 or 16 of them."""
    row = [slot[1] if isinstance(slot, tuple) else slot for slot in slots]
    leaf = [isinstance(slot, tuple) for slot in slots]
    count = len(row)
    while count > 1:
        count //= 2
        for at in range(count):
            left, right = row[2 * at], row[2 * at + 1]
            if left is None and (right is None or leaf[2 * at + 1]):
                row[at], leaf[at] = right, leaf[2 * at + 1]  # a leaf alone moves up, and so does nothing at all
            elif right is None and leaf[2 * at]:
                row[at], leaf[at] = left, True
            else:
                row[at], leaf[at] = sha256(_INNER + (left or EMPTY) + (right or EMPTY)).digest(), False
    return row[0] or EMPTY


def _only_leaf(slots: Sequence[Slot]) -> Leaf | None:
    """Return the leaf that is all there is in *slots*."""
    there = [slot for slot in slots if slot is not None]
    return there[0] if len(there) == 1 and isinstance(there[0], tuple) else None


def _nibble(key: bytes, number: int) -> int:
    byte = key[number >> 1]
    return byte & 15 if number & 1 else byte >> 4
