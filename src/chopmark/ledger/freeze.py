# SPDX-License-Identifier: Apache-2.0
"""The end of a log, and what its successor begins with. A second face, for servers.

:meth:`chopmark.ledger.sequencer.Ledger.freeze` ends a log. Here stands what may be built on an end: only a head that
both stores call frozen, that is the root of all entries, that every key of the log signed, and that the quorum saw
where the policy asks for one. No private key is needed.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from chopmark.errors import Refused, UndecidedError, UsageError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.fsck import root_at
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import Head, HeadStore, LogStore
from chopmark.ledger.seal import decode_seal, encode_seal
from chopmark.ledger.tiles import node_from_tiles
from chopmark.ledger.verify import Witnessed, verify_checkpoint


def final_note(
    store: LogStore, heads: HeadStore, *, require: Sequence[str], policy: WitnessPolicy
) -> tuple[bytes, Witnessed]:
    """Return the last checkpoint of a frozen log, with its cosignatures where the policy asks for them.

    Raises:
        UsageError: the log is not frozen, or goes on elsewhere.
        Refused: ``log-unproven``: a signature is missing or bad; ``log-unwitnessed``: no quorum saw the last head;
            ``log-fork``, ``log-rollback``: head, signed checkpoint and entries disagree.
        VerificationError: a tile is missing.
        UndecidedError: the last head is not signed yet.
    """
    head, state = heads.head(), store.state()
    if not (head.frozen and state.frozen) or head.moved_to:
        where = f": it goes on in {head.moved_to}" if head.moved_to else ""
        raise UsageError(f"{head.origin} has not ended{where}", code="not-frozen", hint="chopmark ledger freeze")
    if head.size != state.size:
        raise Refused("log-rollback", f"the log has {state.size} entries, its last head {head.size}")
    if not hmac.compare_digest(root_at(head.size, node_from_tiles(store.tile)), head.root):
        raise Refused("log-fork", "the log's tiles lead to another root than its last head")
    note = _newest(head, policy)
    seen = verify_checkpoint(note, origin=head.origin, require=require, policy=policy)
    if seen.checkpoint != Checkpoint(origin=head.origin, size=head.size, root=head.root):
        code = "log-unwitnessed" if seen.checkpoint.size < head.size else "log-fork"
        raise Refused(code, f"the last checkpoint is of {seen.checkpoint.size} entries, the log has {head.size}")
    return note, seen


def seal_of(store: LogStore, heads: HeadStore, *, require: Sequence[str], policy: WitnessPolicy) -> bytes:
    """Return entry 0 of the log that follows a frozen one; raises as :func:`final_note`."""
    note, _ = final_note(store, heads, require=require, policy=policy)
    return encode_seal(note)


def seals(entry: bytes, head: Head) -> bool:
    """Tell whether *entry* is the seal of *head*, whichever cosignatures stand under it.

    Raises:
        DecodeError: it is no seal.
    """
    return decode_seal(entry).checkpoint == Checkpoint(origin=head.origin, size=head.size, root=head.root)


def _newest(head: Head, policy: WitnessPolicy) -> bytes:
    """Return the witnessed checkpoint where witnesses are asked for, or it is of the whole log; else the signed one."""
    if policy.quorum != "none" and head.witnessed is None:
        raise Refused("log-unwitnessed", "no witness saw the last head", hint="have it cosigned, then try again")
    if policy.quorum != "none" and head.witnessed is not None:
        return head.witnessed
    if head.note is None:
        raise UndecidedError("the last head is not signed yet", code="not-signed", hint="chopmark ledger freeze")
    return head.note
