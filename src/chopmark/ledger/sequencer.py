# SPDX-License-Identifier: Apache-2.0
"""The log itself: puts entries in order, once each, and never promises two histories. A second face, for servers.

The order of an append, and what a crash leaves behind:

1. One transaction of the log store: find duplicates, integrate, write. Killed before it ends: nothing happened.
2. The head store moves from the old head to the new one. Killed before: the entries are there, nobody was promised
   them; opening the log moves the head after it has recomputed that the log still starts with the old head.
3. The caller gets the indices. Giving the same entries again returns the same indices.

A checkpoint is signed only for the head, only after 2, and is kept: of one size there is one root that was ever signed.
Where others read the store's files (``LogStore.public``), that is done, and the checkpoint shown, before 3.
A log that is smaller than its head is a restored copy, one whose history differs is a fork: both are refused with both
sides as evidence, and nothing is written.

Not decided here: whether a witness is enough (:mod:`chopmark.ledger.feed`), what an entry means.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from chopmark.clock import Clock
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm, Signer
from chopmark.ledger.agreement import check_begins, frozen_error, promised, read_edge
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.cosignature import sign_checkpoint
from chopmark.ledger.export import export
from chopmark.ledger.fsck import FsckReport, fsck, root_at
from chopmark.ledger.merkle import Node, consistency_path, inclusion_path, leaf_hash, leaf_hashes
from chopmark.ledger.note import VerifierKey, decode_note, log_key, verify_lines
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import Head, HeadStore, LogStore
from chopmark.ledger.proof import TlogProof
from chopmark.ledger.tiles import EMPTY_EDGE, Edge, Integration, check_lengths, integrate, node_from_tiles

__all__ = ["FsckReport", "Ledger"]


class Ledger:
    """A log that this process may append to. Safe in threads, and beside other processes on the same stores.

    Attributes:
        verifier_keys: the keys of which a verifier requires all.
    """

    def __init__(
        self, *, store: LogStore, heads: HeadStore, origin: str, signers: Sequence[Signer], clock: Clock
    ) -> None:
        """Use :meth:`open`, which checks what this does not."""
        self.origin = origin
        self.verifier_keys: tuple[VerifierKey, ...] = tuple(log_key(origin, signer.public) for signer in signers)
        self._store = store
        self._heads = heads
        self._signers = tuple(signers)
        self._clock = clock
        self._lock = threading.RLock()
        self._edge = EMPTY_EDGE
        self._agreed: tuple[int, bytes] | None = None  # the head that was last found to be a beginning of the log

    @classmethod
    def open(cls, *, store: LogStore, heads: HeadStore, origin: str, signers: Sequence[Signer], clock: Clock) -> Ledger:
        """Open a log: recompute its root from its tiles, compare with the head, finish an interrupted append.

        Args:
            signers: the log's keys; an Ed25519 key among them (C2SP tlog-tiles), an ML-DSA-44 key beside it.

        Raises:
            UsageError: a wrong set of signers, or stores of another log.
            Refused: ``log-rollback``: the log is older than its head, so a copy was restored; ``log-fork``: the
                log does not start with its head. Both heads are in the evidence.
            VerificationError: rows at the edge are damaged, or a kept note is not this log's.
        """
        algorithms = [signer.public.algorithm for signer in signers]
        if algorithms.count(Algorithm.ED25519) != 1 or len(set(algorithms)) != len(algorithms):
            raise UsageError("a log signs with one Ed25519 key, and one ML-DSA-44 key beside it")
        ledger = cls(store=store, heads=heads, origin=origin, signers=signers, clock=clock)
        head = heads.head()
        if not store.state().origin == head.origin == origin:
            raise UsageError(f"these are not the stores of {origin}", evidence={"head": head.origin})
        with ledger._lock, store.turn():
            with store.exclusive():
                ledger._refresh_edge()
            ledger._move_head()
            ledger._check_notes(heads.head())
            if store.public:
                ledger._show()
        return ledger

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest head."""
        head = self._heads.head()
        return Checkpoint(origin=self.origin, size=head.size, root=head.root)

    def append(self, entries: Sequence[bytes]) -> tuple[int, ...]:
        """Log *entries*, each once, and return their indices when they are durable.

        Where the log is ``once``, an entry that is in it already, or twice in *entries*, keeps its one index.

        Raises:
            UsageError: an entry is longer than 65,535 bytes, or the log is frozen; nothing was logged.
            Refused: as :meth:`open`.
            UndecidedError: another process holds the log, or the disk is full; try the same entries again.
        """
        check_lengths(entries)
        leaves = leaf_hashes(entries)
        with self._lock, self._store.turn():
            with self._store.exclusive():
                edge = self._refresh_edge()
                write = self._write_once if self._store.state().once else self._write_all
                indices, edge = write(edge, leaves, entries)
            self._edge = edge
            self._move_head()
            if self._store.public:
                self._show()
        return indices

    def _write_once(
        self, edge: Edge, leaves: Sequence[bytes], entries: Sequence[bytes]
    ) -> tuple[tuple[int, ...], Edge]:
        unique = dict(zip(leaves, entries, strict=True))
        indices = self._store.find(leaves if len(unique) == len(leaves) else tuple(unique))
        if not indices and len(unique) == len(leaves):
            return self._write_all(edge, leaves, entries)
        fresh = [leaf for leaf in unique if leaf not in indices]
        if fresh:
            integration = integrate(edge, [unique[leaf] for leaf in fresh], fresh)
            self._write(integration)
            indices.update(zip(fresh, range(edge.size, integration.edge.size), strict=True))
            edge = integration.edge
        return tuple(indices[leaf] for leaf in leaves), edge

    def _write_all(self, edge: Edge, leaves: Sequence[bytes], entries: Sequence[bytes]) -> tuple[tuple[int, ...], Edge]:
        start = edge.size
        if entries:
            integration = integrate(edge, entries, leaves)
            self._write(integration)
            edge = integration.edge
        return tuple(range(start, edge.size)), edge

    def _write(self, integration: Integration) -> None:
        head = self._heads.head()
        if head.frozen or self._store.state().frozen:
            raise frozen_error(head)
        self._store.write(integration)

    def freeze(self, *, moved_to: str = "") -> bytes:
        """Append nothing any more, for good; return the last checkpoint, signed. Again is the same.

        Killed on the way, nothing is appended any more, and freezing again finishes it.

        Args:
            moved_to: where the log goes on, if it does; decided once.

        Raises:
            UsageError: it is frozen already, and goes on elsewhere.
            Refused, UndecidedError: as :meth:`append` and :meth:`signed_checkpoint`.
        """
        with self._lock, self._store.turn():
            head = self._heads.head()
            if head.frozen and head.moved_to != moved_to:
                raise frozen_error(head)
            with self._store.exclusive():
                self._refresh_edge()
                self._store.freeze()
            self._move_head()
            note = self._show()
            if not self._heads.freeze(self._heads.head(), moved_to=moved_to):
                raise frozen_error(self._heads.head())
        return note

    def entry(self, index: int) -> bytes:
        """Return one entry.

        Raises:
            UsageError: there is no such entry.
        """
        return self.entries(index, index + 1)[0]

    def entries(self, start: int, end: int) -> tuple[bytes, ...]:
        """Return the entries [start, end).

        Raises:
            UsageError: not all of them exist, or one is pruned.
            VerificationError: one is damaged.
        """
        size = self._heads.head().size
        if not 0 <= start <= end <= size:
            raise UsageError(f"the ledger has no entries {start} to {end}: it has {size}")
        minimum = self._store.state().minimum
        if start < min(end, minimum):
            hint = "their hashes are there: whoever kept an entry can still prove it"
            raise UsageError(f"the entries before {minimum} are pruned", code="entry-pruned", hint=hint)
        return self._store.entries(start, end) if start < end else ()

    def find(self, entry: bytes) -> int | None:
        """Return the index of *entry*, or None."""
        leaf = leaf_hash(entry)
        index = self._store.find((leaf,)).get(leaf)
        return index if index is not None and index < self._heads.head().size else None

    def signed_checkpoint(self) -> bytes:
        """Return the newest checkpoint, signed with all keys; the same bytes until the log grows.

        Raises:
            UndecidedError: a key cannot be used now.
            Refused: as :meth:`open`.
        """
        return self._heads.head().note or self._show()

    def witnessed_checkpoint(self) -> bytes | None:
        """Return the newest checkpoint that a quorum cosigned, or None."""
        return self._heads.head().witnessed

    def keep_witnessed(self, note: bytes) -> None:
        """Keep a checkpoint of this log with its cosignatures, unless a larger one is kept.

        Args:
            note: verified by the caller against the witness policy.

        Raises:
            VerificationError: it is not this log's, or it was not kept although it is the largest.
        """
        checkpoint = self._own_checkpoint(note)
        if checkpoint.size > self._heads.head().size or self._root_at(checkpoint.size) != checkpoint.root:
            raise VerificationError("a checkpoint that is not of this log's entries", code="ledger-corrupt")
        if not self._heads.keep_witnessed(checkpoint.size, note):
            kept = self._heads.head().witnessed
            if kept is None or self._own_checkpoint(kept).size < checkpoint.size:
                raise VerificationError("the head keeps no witnessed checkpoint", code="ledger-corrupt")
        if self._store.public:
            self._show()

    def prove(self, index: int) -> bytes:
        """Return the ``.tlog-proof`` of an entry in the newest witnessed checkpoint.

        Raises:
            UsageError: there is no such entry.
            UndecidedError: no witnessed checkpoint covers it yet.
        """
        return self.proofs((index,))[0]

    def proofs(self, indices: Sequence[int], *, witnessed: bool = True) -> tuple[bytes, ...]:
        """Return the ``.tlog-proof`` of each of these entries, all in one checkpoint.

        Args:
            witnessed: in the newest one that a quorum cosigned; else in the log's own newest one.

        Raises:
            UsageError: there is no such entry.
            UndecidedError: no witnessed checkpoint covers it yet, or a key cannot be used now.
        """
        size = self._heads.head().size
        if (missing := next((index for index in indices if not 0 <= index < size), None)) is not None:
            raise UsageError(f"the ledger has no entry {missing}: it has {size}", hint="indices begin at 0")
        note = self.witnessed_checkpoint() if witnessed else self.signed_checkpoint()
        covered = 0 if note is None else Checkpoint.decode(decode_note(note).text).size
        if note is None or max(indices, default=0) >= covered:
            raise UndecidedError(
                f"no witnessed checkpoint covers entry {max(indices, default=0)} yet",
                code="not-witnessed-yet",
                hint="ask the witnesses",
            )
        node = cache(node_from_tiles(cache(self._store.tile)))  # neighbours share most of their paths
        return tuple(
            TlogProof(index=index, path=inclusion_path(index, covered, node), checkpoint_note=note).encode()
            for index in indices
        )

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the path of entry *index* in the tree of the first *size* entries.

        Raises:
            ProofError: there is no such entry.
            UsageError: the ledger is smaller.
        """
        self._check_reached(size)
        return inclusion_path(index, size, self._node())

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of *new* entries starts with the tree of *old* entries.

        Raises:
            ProofError: *old* is 0 or beyond *new*.
            UsageError: the ledger is smaller.
        """
        self._check_reached(new)
        return consistency_path(old, new, self._node())

    def fsck(self, policy: WitnessPolicy | None = None, *, workers: int = 1) -> FsckReport:
        """Re-derive every stored row from the entries and compare.

        Args:
            policy: also check the cosignatures of the witnessed checkpoint.
            workers: how many processes may be used.
        """
        return fsck(self._store, self._heads, self.verifier_keys, policy, workers=workers)

    def export(self, folder: Path) -> Checkpoint:
        """Write the log as static files (C2SP tlog-tiles), the checkpoint last; return it.

        Raises:
            VerificationError: a file there holds other bytes than this log's.
            UndecidedError: the folder cannot be written.
        """
        return export(self._store, folder, signed=self.signed_checkpoint(), witnessed=self.witnessed_checkpoint())

    def _check_reached(self, size: int) -> None:
        have = self._heads.head().size
        if size > have:
            raise UsageError(f"the ledger has {have} entries, not {size}")

    def _refresh_edge(self) -> Edge:
        """Return the edge as the store has it, after a check that it agrees with the head.

        Inside ``exclusive``: another process may have appended, or somebody put another file there.
        """
        state = self._store.state()
        if (state.size, state.root) != (self._edge.size, self._edge.root):
            self._edge = read_edge(self._store, state)
            self._agreed = None
        self._agree(self._heads.head())
        return self._edge

    def _move_head(self) -> None:
        """Move the head to this process's edge, unless another process has moved it further."""
        size, root = self._edge.size, self._edge.root
        while True:
            head = self._heads.head()
            self._agree(head)
            if head.size >= size:
                return
            if head.frozen:
                raise VerificationError("the log goes on after its frozen head", code="ledger-corrupt", hint="run fsck")
            if self._heads.advance(head, size=size, root=root):
                self._agreed = (size, root)
                return

    def _show(self) -> bytes:
        """Sign the head, and have it shown to those who read the store without asking this process."""
        with self._lock, self._store.turn():
            head = self._heads.head()
            while (note := head.note) is None:
                self._agree(head)
                now = int(self._clock.now().timestamp())
                text = Checkpoint(origin=self.origin, size=head.size, root=head.root)
                self._heads.keep_note(head, sign_checkpoint(text, self._signers, timestamp=now).encode())
                head = self._heads.head()  # with the note that was kept, or another one that has moved on
            self._store.show(head)
            return note

    def _agree(self, head: Head) -> None:
        """Check that the log starts with *head*."""
        if (head.size, head.root) == self._agreed:
            return
        check_begins(self._store.state(), head, self._root_at)
        self._agreed = (head.size, head.root)

    def _root_at(self, size: int) -> bytes:
        return self._edge.root if size == self._edge.size else root_at(size, self._node())

    def _check_notes(self, head: Head) -> None:
        if head.note is not None and self._own_checkpoint(head.note) != promised(head):
            raise VerificationError("the signed checkpoint is not that of the head", code="ledger-corrupt")
        if head.witnessed is not None:
            self.keep_witnessed(head.witnessed)

    def _own_checkpoint(self, data: bytes) -> Checkpoint:
        note = decode_note(data)
        signed_by = {line.key for line in verify_lines(note.text, note.signatures, self.verifier_keys)}
        checkpoint = Checkpoint.decode(note.text)
        if signed_by != set(self.verifier_keys) or checkpoint.origin != self.origin:
            raise VerificationError("a checkpoint that this log's keys did not all sign", code="ledger-corrupt")
        return checkpoint

    def _node(self) -> Node:
        return node_from_tiles(self._store.tile)
