# SPDX-License-Identifier: Apache-2.0
"""What a monitor remembers of the log that it follows, as one file. A second face, for :mod:`chopmark.ledger.monitor`.

    {"alarm": null, "before": ["log.old/m"], "note": "<base64>", "origin": "log.acme/m", "scanned": 300,
     "promised": "<base64>", "sum": "<sha256>", "v": 1, "watch": ["model:digits"]}

``sum`` is over everything else: it finds a disk that forgot a bit, not somebody who may write the file. The notes are signed
checkpoints, which the monitor verifies again whenever it reads them.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import msgspec

from chopmark import canonical
from chopmark.errors import DecodeError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.note import MAX_NOTE_BYTES, decode_note

MAX_STATE_BYTES: Final = 4 * MAX_NOTE_BYTES
_VERSION: Final = 1


class Alarm(canonical.Strict, frozen=True, kw_only=True):
    """Why a monitor stands still.

    Attributes:
        time: RFC 3339.
        evidence: where the files are that show it.
    """

    code: str
    message: str
    time: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How far a monitor is.

    Attributes:
        note: the largest checkpoint that a quorum saw, as it was signed.
        promised: the largest that the log signed; it may be ahead of the witnesses.
        scanned: so many entries were looked at, and reported where they were asked for.
        watch: what was asked for when they were looked at.
        before: origins of the logs that this one succeeded, oldest first.
    """

    note: bytes
    promised: bytes
    scanned: int
    watch: tuple[str, ...]
    before: tuple[str, ...] = ()
    alarm: Alarm | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        return _read(self.note)


class _State(canonical.Strict, frozen=True, kw_only=True):
    v: int
    origin: str
    note: str
    promised: str
    scanned: int
    watch: tuple[str, ...]
    before: tuple[str, ...]
    alarm: Alarm | None
    sum: str


def encode_followed(followed: Followed) -> bytes:
    """Return the bytes of the file."""
    body: dict[str, object] = {
        "v": _VERSION,
        "origin": followed.checkpoint.origin,
        "note": canonical.encode_base64(followed.note),
        "promised": canonical.encode_base64(followed.promised),
        "scanned": followed.scanned,
        "watch": list(followed.watch),
        "before": list(followed.before),
        "alarm": None if followed.alarm is None else msgspec.to_builtins(followed.alarm),
    }
    return canonical.encode({**body, "sum": hashlib.sha256(canonical.encode(body)).hexdigest()})


def decode_followed(data: bytes) -> Followed:
    """Read the file.

    Raises:
        DecodeError: not what :func:`encode_followed` wrote.
    """
    state = canonical.decode_as(data, _State, what="monitor state", max_bytes=MAX_STATE_BYTES, canonical=True)
    body = msgspec.to_builtins(state)
    if not hmac.compare_digest(body.pop("sum").encode(), hashlib.sha256(canonical.encode(body)).hexdigest().encode()):
        raise DecodeError("monitor state: changed since it was written")
    found = Followed(
        note=canonical.decode_base64(state.note, what="monitor state"),
        promised=canonical.decode_base64(state.promised, what="monitor state"),
        scanned=state.scanned,
        watch=state.watch,
        before=state.before,
        alarm=state.alarm,
    )
    seen, promised = found.checkpoint, _read(found.promised)
    if state.v != _VERSION or {seen.origin, promised.origin} != {state.origin}:
        raise DecodeError("monitor state: another version, or checkpoints of another log")
    if not 0 <= state.scanned <= seen.size <= promised.size:
        raise DecodeError("monitor state: contradicts itself")
    return found


def _read(note: bytes) -> Checkpoint:
    return Checkpoint.decode(decode_note(note).text)
