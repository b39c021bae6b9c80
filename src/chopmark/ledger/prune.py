# SPDX-License-Identifier: Apache-2.0
"""Drop old entries, and only as a stated policy says. C2SP tlog-tiles, pruning. A second face, for servers.

The policy is one number: how many of the newest entries are kept. Entries carry no time, so ages would have to be
guessed; a number cannot be. Counted is from the newest *published* checkpoint (the witnessed one where the policy asks
for witnesses), so that nothing is dropped that nobody could have read.

Whole bundles go; their hashes stay, so that every root, every proof of an entry that remains, and the proof of a dropped
entry that somebody kept, are what they were. A bundle is dropped only after its entries were hashed once more: what is
damaged is not removed, it is found.

Two things that others stand on are never dropped: the seal that a log begins with, since who comes from its predecessor
starts there; and entries that an index beside the log has not read yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.note import decode_note
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import Head, HeadStore, LogStore
from chopmark.ledger.rehash import leaves_of
from chopmark.ledger.seal import decode_seal
from chopmark.ledger.tiles import TILE_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was dropped, or would be.

    Attributes:
        minimum: the first entry that is kept.
        entries: how many were dropped now.
        freed_bytes: what stood in them.
    """

    minimum: int
    entries: int
    freed_bytes: int


def prune(
    store: LogStore,
    heads: HeadStore,
    *,
    keep_newest: int | None,
    policy: WitnessPolicy,
    apply: bool,
    indexed: int | None = None,
) -> Pruned:
    """Drop the bundles that the retention policy does not keep.

    Args:
        keep_newest: the retention policy: how many entries are kept; None where there is none.
        apply: drop them; else only count.
        indexed: how many entries the index of the log has read; None where it has none.

    Raises:
        UsageError: there is no retention policy; ``log-sealed``: the log begins with a seal; ``index-behind``.
        VerificationError: a bundle is not what its tile says; nothing was dropped.
        UndecidedError: another process holds the log, or a bundle could not be removed; again finishes it.
    """
    if keep_newest is None:
        hint = "state it in ledger.toml: [retention] keep_newest = 1000000"
        raise UsageError("no retention policy is stated, so every entry is kept", code="no-retention", hint=hint)
    before = store.state().minimum
    minimum = (_published(heads.head(), policy) - keep_newest) // TILE_WIDTH * TILE_WIDTH
    if minimum <= before:
        if apply and before:
            _drop(store, before)  # a removal that was killed is finished
        return Pruned(minimum=before, entries=0, freed_bytes=0)
    if not before and _begins_with_a_seal(store):
        raise UsageError(
            "this log begins with the seal of its predecessor, where those who followed that one start",
            code="log-sealed",
            hint="keep it whole; the predecessor can be pruned",
        )
    if indexed is not None and minimum > indexed:
        raise UsageError(
            f"the index has read {indexed:,} entries, and {minimum:,} would go",
            code="index-behind",
            hint="chopmark ledger index update",
        )
    freed = 0
    for index in range(before // TILE_WIDTH, minimum // TILE_WIDTH):  # full bundles never change: no lock is needed
        data = store.bundle(index)
        if leaves_of(data) != store.tile(0, index):
            raise VerificationError(f"bundle {index} is not what its tile says", code="ledger-corrupt", hint="run fsck")
        freed += len(data)
    if apply:
        _drop(store, minimum)
    return Pruned(minimum=minimum, entries=minimum - before, freed_bytes=freed)


def _begins_with_a_seal(store: LogStore) -> bool:
    try:
        decode_seal(store.entries(0, 1)[0])
    except DecodeError:
        return False
    return True


def _drop(store: LogStore, minimum: int) -> None:
    with store.exclusive():
        store.prune(minimum)


def _published(head: Head, policy: WitnessPolicy) -> int:
    """Return the size of the newest checkpoint that a reader may rely on; 0 where there is none."""
    note = head.note or head.witnessed if policy.quorum == "none" else head.witnessed
    return 0 if note is None else Checkpoint.decode(decode_note(note).text).size
