# SPDX-License-Identifier: Apache-2.0
"""Where an index keeps its map and lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from chopmark.ledger.index.lists import ListEdge
from chopmark.ledger.index.trie import EMPTY
from chopmark.ledger.merkle import EMPTY_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """How far a map is.

    Attributes:
        origin: of the log whose entries are in it.
        version: of the function from entries to keys.
        size: how many entries were read, each of them.
        log_root: the root of the log of *size* entries.
        root: of the map.
        compared: how many roots of a published index a mirror compared with this map.
        compared_root: the root of the index's own log of that size.
    """

    origin: str
    version: str
    size: int = 0
    log_root: bytes = EMPTY_ROOT
    root: bytes = EMPTY
    compared: int = 0
    compared_root: bytes = EMPTY_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What some entries change.

    Attributes:
        state: how far the map is then.
        pages: path -> page, of the trie.
        lists: hash of a key -> the new end of its list.
        chunks: hash of a key, number, and the 256 indices of each chunk that became full.
    """

    state: IndexState
    pages: Mapping[bytes, bytes]
    lists: Mapping[bytes, ListEdge]
    chunks: Sequence[tuple[bytes, int, tuple[int, ...]]]


class IndexStore(ABC):
    """A map and its lists: derived from a log, so that losing them costs time and nothing else.

    Guarantees: what is written inside one :meth:`exclusive` block becomes visible and durable together when the block
    ends, or not at all, so that the state never claims entries whose keys are not there; blocks of all processes run one
    after another. All reads inside a :meth:`snapshot` block see one state. Nobody trusts what is read back.
    """

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the map for writing; an exception inside undoes everything.

        Raises:
            UndecidedError: another process holds it for too long, or the disk does not take it.
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Let every read of the block see the same state."""

    @abstractmethod
    def state(self) -> IndexState:
        """Return how far the map is."""

    @abstractmethod
    def page(self, path: bytes) -> bytes | None:
        """Return a page of the trie, or None."""

    @abstractmethod
    def edges(self, keys: Sequence[bytes]) -> dict[bytes, ListEdge]:
        """Return the end of the list of each of these hashes of keys that has one."""

    @abstractmethod
    def indices(self, key: bytes) -> tuple[int, ...]:
        """Return the whole list under the hash of a key; empty where there is none."""

    @abstractmethod
    def write(self, step: Step) -> None:
        """Keep what :func:`chopmark.ledger.index.build.derive` returned; only inside :meth:`exclusive`."""

    @abstractmethod
    def keep_compared(self, compared: int, root: bytes) -> None:
        """Keep how much of a published index was compared; only inside :meth:`exclusive`."""
