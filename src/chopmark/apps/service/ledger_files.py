# SPDX-License-Identifier: Apache-2.0
"""The ledger as the service sees it: its checkpoint and tiles, and its root at any size. It holds no key of the log."""

from __future__ import annotations

import re
from typing import Final

from chopmark.ledger import bundle_path, encode_bundle, node_from_tiles, tile_path
from chopmark.ledger.export import CHECKPOINT, WITNESSED_CHECKPOINT
from chopmark.ledger.fsck import root_at
from chopmark.ledger.ports import HeadStore, LogStore

_WIDTH: Final = 256
_HASH_BYTES: Final = 32
_MAX_LEVEL: Final = 7
_PATH: Final = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class LedgerFiles:
    """Serves C2SP tlog-tiles straight from the stores, up to the newest head."""

    def __init__(self, *, store: LogStore, heads: HeadStore) -> None:
        self._store = store
        self._heads = heads

    def find(self, path: str) -> bytes | None:
        """Return the file *path* of the log, or None."""
        head = self._heads.head()
        if path == CHECKPOINT:
            return head.note or head.witnessed
        if path == WITNESSED_CHECKPOINT:
            return head.witnessed
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        index = int(match[2].replace("/", "").replace("x", ""))
        width = int(match[3]) if match[3] else _WIDTH
        if match[1] == "entries":
            return self._bundle(path, index, width, head.size)
        return self._tile(path, int(match[1]), index, width, head.size)

    def root_at(self, origin: str, size: int) -> bytes | None:
        """Return the root over the first *size* entries; None for another origin, or a size that is not reached."""
        head = self._heads.head()
        if origin != head.origin or not 0 <= size <= head.size:
            return None
        return root_at(size, node_from_tiles(self._store.tile))

    def _bundle(self, path: str, index: int, width: int, size: int) -> bytes | None:
        start = index * _WIDTH
        if width > _WIDTH or start + width > size or bundle_path(index, width) != path:
            return None
        return encode_bundle(self._store.entries(start, start + width))

    def _tile(self, path: str, level: int, index: int, width: int, size: int) -> bytes | None:
        have = size >> (8 * level)  # hashes on this level
        if width > _WIDTH or index * _WIDTH + width > have or tile_path(level, index, width) != path:
            return None
        return self._store.tile(level, index)[: width * _HASH_BYTES]
