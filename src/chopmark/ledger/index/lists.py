# SPDX-License-Identifier: Apache-2.0
"""The list of one key: ledger indices in ascending order under one hash, which grows without being read again.

The hash is the root of RFC 9162 over the indices, eight bytes each, big-endian. Full chunks of 256 are put away and never
change; what is needed to go on is the *edge*: the roots of the perfect subtrees of full chunks, and the indices after them.

    >>> edge, chunks = extend(EMPTY_LIST, range(300))
    >>> edge.root == list_root(range(300)), len(edge.tail), len(chunks)
    (True, 44, 1)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chopmark.errors import VerificationError
from chopmark.ledger.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash, root_of

CHUNK: Final = 256
_INDEX_BYTES: Final = 8
_COUNT: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class ListEdge:
    """What is needed of a list to append to it.

    Attributes:
        peaks: the roots of the perfect subtrees of full chunks, the largest first.
        tail: the indices after the last full chunk, at most 255.
    """

    count: int
    peaks: tuple[bytes, ...]
    tail: tuple[int, ...]

    @property
    def root(self) -> bytes:
        parts = list(self.peaks)
        if self.tail or not parts:
            parts.append(_root(self.tail))
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root


EMPTY_LIST: Final = ListEdge(0, (), ())


def extend(edge: ListEdge, indices: Iterable[int]) -> tuple[ListEdge, tuple[tuple[int, tuple[int, ...]], ...]]:
    """Append *indices*; return the new edge, and number and content of each chunk that became full."""
    tail = [*edge.tail, *indices]
    count = edge.count - len(edge.tail) + len(tail)
    peaks, number = list(edge.peaks), edge.count // CHUNK
    chunks: list[tuple[int, tuple[int, ...]]] = []
    while len(tail) >= CHUNK:
        chunk, tail = tuple(tail[:CHUNK]), tail[CHUNK:]
        chunks.append((number, chunk))
        peak, above = _root(chunk), number
        while above % 2:
            peak, above = node_hash(peaks.pop(), peak), above // 2
        peaks.append(peak)
        number += 1
    return ListEdge(count, tuple(peaks), tuple(tail)), tuple(chunks)


def list_root(indices: Iterable[int]) -> bytes:
    """Return the hash of a whole list."""
    return extend(EMPTY_LIST, indices)[0].root


def encode_indices(indices: Sequence[int]) -> bytes:
    """Return a chunk or tail as a store keeps it."""
    return struct.pack(f">{len(indices)}Q", *indices)


def decode_indices(data: bytes) -> tuple[int, ...]:
    """Read a chunk or tail.

    Raises:
        VerificationError: ``index-damaged``.
    """
    if len(data) % _INDEX_BYTES or len(data) > CHUNK * _INDEX_BYTES:
        raise damaged("a part of a list has a length that cannot be")
    return struct.unpack(f">{len(data) // _INDEX_BYTES}Q", data)


def encode_edge(edge: ListEdge) -> bytes:
    """Return an edge as a store keeps it."""
    return _COUNT.pack(edge.count) + b"".join(edge.peaks) + encode_indices(edge.tail)


def decode_edge(data: bytes) -> ListEdge:
    """Read an edge.

    Raises:
        VerificationError: ``index-damaged``.
    """
    if len(data) < _COUNT.size:
        raise damaged("the end of a list is cut short")
    (count,) = _COUNT.unpack_from(data)
    cut = _COUNT.size + HASH_BYTES * (count // CHUNK).bit_count()
    tail = decode_indices(data[cut:])
    if cut > len(data) or len(tail) != count % CHUNK:
        raise damaged("the end of a list does not fit its length")
    return ListEdge(count, tuple(data[at : at + HASH_BYTES] for at in range(_COUNT.size, cut, HASH_BYTES)), tail)


def damaged(message: str) -> VerificationError:
    """Return the error for whatever a store holds that its root does not say."""
    return VerificationError(
        f"the index's map is damaged: {message}",
        code="index-damaged",
        hint="remove the map's file and update the index: it is derived from the log again",
    )


def _root(indices: Sequence[int]) -> bytes:
    return root_of([leaf_hash(_COUNT.pack(index)) for index in indices]) if indices else EMPTY_ROOT
