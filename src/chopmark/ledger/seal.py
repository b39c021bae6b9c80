# SPDX-License-Identifier: Apache-2.0
r"""A seal: the entry by which a log says whose successor it is, and where that one ended.

    {"checkpoint": "<base64 of the old log's last signed checkpoint>", "kind": "log", "origin": "<old>",
     "root": "<base64>", "size": N, "v": 1}

It is entry 0 of the new log, in canonical JSON. Decides what is a seal and that it does not contradict itself: the checkpoint
in it says the same origin, size and root. Who signed that checkpoint, and whether the old log really ended there, is
the caller's to verify (:func:`chopmark.ledger.verify_checkpoint`); until then a seal is a claim.

    >>> from chopmark.ledger.merkle import EMPTY_ROOT
    >>> note = Checkpoint(origin="old", size=0, root=EMPTY_ROOT).encode().encode() + b"\n\xe2\x80\x94 old AAAAAAA=\n"
    >>> decode_seal(encode_seal(note)).checkpoint.origin
    'old'
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from chopmark import canonical
from chopmark.errors import DecodeError, UsageError
from chopmark.ledger.checkpoint import Checkpoint, decode_hash
from chopmark.ledger.note import decode_note
from chopmark.ledger.tiles import MAX_ENTRY_BYTES

_VERSION = 1
_KIND = "log"


class _Seal(canonical.Strict, frozen=True, kw_only=True):
    v: int
    kind: str
    origin: str
    size: int
    root: str
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a seal says; nothing in it is verified.

    Attributes:
        checkpoint: where the old log ended.
        note: the old log's last signed checkpoint, byte for byte.
    """

    checkpoint: Checkpoint
    note: bytes


def encode_seal(note: bytes) -> bytes:
    """Return the entry that seals the log whose last signed checkpoint is *note*.

    Raises:
        DecodeError: *note* is no signed checkpoint.
        UsageError: it has so many signatures that the entry would be too long, or more entries than JSON counts exactly.
    """
    checkpoint = Checkpoint.decode(decode_note(note).text)
    if checkpoint.size > canonical.MAX_INTEGER:
        raise UsageError(f"a log of more than {canonical.MAX_INTEGER:,} entries cannot be sealed")
    entry = canonical.encode(
        {
            "v": _VERSION,
            "kind": _KIND,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": canonical.encode_base64(checkpoint.root),
            "checkpoint": canonical.encode_base64(note),
        }
    )
    if len(entry) > MAX_ENTRY_BYTES:
        raise UsageError("the last checkpoint has too many signatures to be sealed", hint="leave some witnesses' out")
    return entry


def decode_seal(entry: bytes) -> Seal:
    """Read an entry as a seal.

    Raises:
        DecodeError: it is none, or its checkpoint says something else than the seal.
    """
    wire = canonical.decode_as(entry, _Seal, what="seal", max_bytes=MAX_ENTRY_BYTES, canonical=True)
    if wire.v != _VERSION or wire.kind != _KIND:
        raise DecodeError("seal: another kind of entry, or a version that is not known here")
    note = canonical.decode_base64(wire.checkpoint, what="seal")
    checkpoint = Checkpoint.decode(decode_note(note).text)
    root = decode_hash(wire.root, what="seal")
    same_place = (wire.origin, wire.size) == (checkpoint.origin, checkpoint.size)
    if not same_place or not hmac.compare_digest(root, checkpoint.root):
        raise DecodeError("seal: its checkpoint says another origin, size or root")
    return Seal(checkpoint=checkpoint, note=note)
