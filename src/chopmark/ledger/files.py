# SPDX-License-Identifier: Apache-2.0
"""A log as files: which there are, and what stands in them. C2SP tlog-tiles.

    checkpoint             the newest signed checkpoint, with cosignatures where it has them
    witnessed-checkpoint   the newest one that a quorum cosigned, where there is one
    tile/<L>/<N>[.p/<W>]   tile/entries/<N>[.p/<W>]

:func:`files` lists all of them for :mod:`chopmark.ledger.export`; :class:`LedgerFiles` finds one, :class:`PublishedFiles`
where a log's files are the log already. None needs a private key.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.fsck import root_at
from chopmark.ledger.merkle import HASH_BYTES
from chopmark.ledger.note import MAX_NOTE_BYTES, decode_note
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import Head, HeadStore, LogFiles, LogStore
from chopmark.ledger.static import CHECKPOINT, MAX_BUNDLE_BYTES, WITNESSED_CHECKPOINT, StaticLog
from chopmark.ledger.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    bundle_path,
    encode_bundle,
    node_from_tiles,
    tile_path,
    tile_shape,
)
from chopmark.ledger.verify import verify_checkpoint

_ANY: Final = WitnessPolicy(logs=(), witnesses=(), groups=(), quorum="none")
_PATH: Final = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


def files(store: LogStore, size: int) -> Iterator[tuple[str, bytes, bool]]:
    """Yield path, content and whether it is full, for everything that a checkpoint of *size* promises."""
    for level, full, width in tile_shape(size):
        for index in range(full):
            yield tile_path(level, index), _tile(store, level, index), True
        if width:
            yield tile_path(level, full, width), _tile(store, level, full, width), False
    full, width = divmod(size, TILE_WIDTH)
    for index in range(min(store.state().minimum // TILE_WIDTH, full), full):
        yield bundle_path(index), _bundle(store, index), True
    if width:
        yield bundle_path(full, width), _bundle(store, full, width), False


class LedgerFiles:
    """A log's files straight from its stores, up to the newest head, and its root at any size."""

    def __init__(self, *, store: LogStore, heads: HeadStore) -> None:
        self._store = store
        self._heads = heads
        self._lock = threading.Lock()
        self._shown: tuple[int, bytes | None] = (-1, None)

    def find(self, path: str) -> bytes | None:
        """Return the file *path* of the log, or None."""
        head = self._heads.head()
        if path == CHECKPOINT:
            return self._newest(head)
        if path == WITNESSED_CHECKPOINT:
            return head.witnessed
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        kind, index = match[1], int(match[2].replace("/", "").replace("x", ""))
        width = int(match[3]) if match[3] else TILE_WIDTH
        of_entries = kind == "entries"
        level = 0 if of_entries else int(kind)
        have = head.size >> (TILE_HEIGHT * level)  # hashes on this level; on the lowest, one for each entry
        # A number may be written in several ways, and only one of them is a path.
        own = bundle_path(index, width) if of_entries else tile_path(level, index, width)
        if width > TILE_WIDTH or index * TILE_WIDTH + width > have or own != path:
            return None
        if of_entries and (index + 1) * TILE_WIDTH <= self._store.state().minimum:
            return None  # pruned: denied, as C2SP tlog-tiles has it
        return _bundle(self._store, index, width) if of_entries else _tile(self._store, level, index, width)

    def root_at(self, origin: str, size: int) -> bytes | None:
        """Return the root over the first *size* entries; None for another origin, or a size that is not reached."""
        head = self._heads.head()
        if origin != head.origin or not 0 <= size <= head.size:
            return None
        return root_at(size, node_from_tiles(self._store.tile))

    def _newest(self, head: Head) -> bytes | None:
        """Return the checkpoint of *head* with its cosignatures, where a quorum has seen it; else with the log's own.

        While the head is not signed yet, it is the one that was shown last: a reader who is shown a smaller log than
        before calls it rolled back.
        """
        witnessed = None if head.witnessed is None else (_size(head.witnessed), head.witnessed)
        own = None if head.note is None else (head.size, head.note)
        with self._lock:
            for found in (own, witnessed):  # of one size, the one with more signatures
                if found is not None and found[0] >= self._shown[0]:
                    self._shown = found
            return self._shown[1]


class PublishedFiles:
    """A log's files from where they are published, without its stores, and its root at any size."""

    def __init__(self, published: LogFiles, *, origin: str, require: Sequence[str]) -> None:
        """Take the place; nothing is read yet.

        Args:
            require: the log's keys, as vkeys; :meth:`root_at` believes what all of them signed.
        """
        self._files = published
        self._origin = origin
        self._require = tuple(require)

    def find(self, path: str) -> bytes | None:
        """Return the file *path* of the log, or None; as it is, for readers that verify."""
        if path in (CHECKPOINT, WITNESSED_CHECKPOINT):
            return self._files.find(path, max_bytes=MAX_NOTE_BYTES)
        return self._files.find(path, max_bytes=MAX_BUNDLE_BYTES) if _PATH.fullmatch(path) else None

    def root_at(self, origin: str, size: int) -> bytes | None:
        """Return the root over the first *size* entries; None for another origin, or a size that is not reached.

        Raises:
            VerificationError: the checkpoint or a file is not what the log's keys signed.
        """
        note = self._files.find(CHECKPOINT, max_bytes=MAX_NOTE_BYTES) if origin == self._origin else None
        if note is None:
            return None
        seen = verify_checkpoint(note, origin=origin, require=self._require, policy=_ANY).checkpoint
        return root_at(size, StaticLog(self._files, seen).node()) if 0 <= size <= seen.size else None


def newest_checkpoint(head: Head) -> bytes | None:
    """Return the checkpoint of *head* with its cosignatures, where a quorum has seen it; else with the log's own."""
    witnessed = head.witnessed
    return witnessed if witnessed is not None and _size(witnessed) == head.size else head.note or witnessed


def _size(note: bytes) -> int:
    return Checkpoint.decode(decode_note(note).text).size


def _tile(store: LogStore, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
    return store.tile(level, index)[: width * HASH_BYTES]


def _bundle(store: LogStore, index: int, width: int = TILE_WIDTH) -> bytes:
    start = index * TILE_WIDTH
    return encode_bundle(store.entries(start, start + width))
