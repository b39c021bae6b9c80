# SPDX-License-Identifier: Apache-2.0
"""A witness: cosigns that a log only grew. C2SP tlog-witness. A second face, for servers.

Decides from the request, the log's keys and what was seen last; never looks at entries. What it cosigned it remembers,
in one atomic comparison and change, before it answers: two requests at once, or a restart, cannot make it cosign a
smaller tree after a larger one.

The protocol asks for a line by one trusted key of the log. This witness asks for a line by every key that it knows of the
log, unless it is told that any one is enough: a stolen Ed25519 key alone then gets no cosignature.

| status | when |
|---|---|
| 200 | cosigned; the body is the cosignature lines |
| 400 | malformed, or the old size is beyond the checkpoint's |
| 403 | a line by a key of this log is missing, or a bad one |
| 404 | an unknown log |
| 409 | the old size is not the one seen last; the body is the one seen last |
| 422 | the proof does not prove, or two roots of one size |
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chopmark.canonical import encode_base64
from chopmark.clock import Clock
from chopmark.errors import DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Signer
from chopmark.ledger.checkpoint import Checkpoint, decode_decimal, decode_hash
from chopmark.ledger.cosignature import cosign
from chopmark.ledger.merkle import EMPTY_ROOT, MAX_PATH, ProofError, verify_consistency
from chopmark.ledger.note import (
    MAX_NOTE_BYTES,
    SignedNote,
    ValidLine,
    VerifierKey,
    decode_note,
    verify_lines,
    witness_key,
)
from chopmark.ledger.ports import Observed, WitnessClient, WitnessStore

_TRIES = 64
"""Requests for one log that may overtake one; more is no race."""
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 8192
_TEXT = "text/plain; charset=utf-8"
_SIZE = "text/x.tlog.size"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = _TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """An add-checkpoint request."""

    old: int
    proof: tuple[bytes, ...]
    note: SignedNote
    checkpoint: Checkpoint

    def encode(self) -> bytes:
        """Return the request's body."""
        return encode_request(self.old, self.proof, self.note.encode())

    @classmethod
    def decode(cls, body: bytes) -> AddCheckpoint:
        """Read a request's body.

        Raises:
            DecodeError: it is none.
        """
        head, blank, note = body.partition(b"\n\n")
        if len(body) > MAX_REQUEST_BYTES or not blank or not head.isascii():
            raise DecodeError("request: too long, or no checkpoint after an empty line")
        first, *hashes = head.decode("ascii").split("\n")
        if not first.startswith("old ") or len(hashes) > MAX_PATH:
            raise DecodeError("request: no old size, or more than 63 hashes")
        signed = decode_note(note)
        return cls(
            old=decode_decimal(first.removeprefix("old "), what="old size"),
            proof=tuple(decode_hash(line, what="consistency proof") for line in hashes),
            note=signed,
            checkpoint=Checkpoint.decode(signed.text),
        )


def encode_request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return the body of an add-checkpoint request."""
    lines = [f"old {old}", *(encode_base64(value) for value in proof), ""]
    return "".join(f"{line}\n" for line in lines).encode("ascii") + note


class Witness:
    """One witness, with its keys and the logs that it knows.

    Attributes:
        verifier_keys: the keys under which a policy lists this witness.
    """

    def __init__(
        self,
        *,
        name: str,
        signers: Sequence[Signer],
        logs: Mapping[str, Sequence[VerifierKey]],
        store: WitnessStore,
        clock: Clock,
        any_key: Collection[str] = (),
    ) -> None:
        """Make a witness.

        Args:
            name: the key name of its cosignatures.
            logs: origin -> the keys of that log; each of them has to sign.
            any_key: origins of which a line by any one key is enough.
        """
        if not signers:
            raise UsageError("a witness has at least one key")
        self.verifier_keys: tuple[VerifierKey, ...] = tuple(witness_key(name, signer.public) for signer in signers)
        self._name = name
        self._signers = tuple(signers)
        self._logs = dict(logs)
        self._any_key = frozenset(any_key)
        self._store = store
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer an add-checkpoint request.

        Raises:
            UndecidedError: the store or a key cannot be used now (HTTP 503).
        """
        try:
            request = AddCheckpoint.decode(body)
        except DecodeError as error:
            return _refuse(400, error.message)
        checkpoint = request.checkpoint
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return _refuse(404, "unknown log")
        try:
            valid = verify_lines(request.note.text, request.note.signatures, keys)
        except VerificationError as error:
            return _refuse(403, f"invalid signature: {error.message}")
        missing = set(keys) - {line.key for line in valid}
        if not valid or (missing and checkpoint.origin not in self._any_key):
            algorithms = " and ".join(sorted(str(key.kind.algorithm) for key in missing))
            return _refuse(403, f"invalid signature: none by this log's key with {algorithms}")
        for _ in range(_TRIES):
            seen = self._store.newest(checkpoint.origin)
            refusal = judge(request, seen)
            if refusal is not None:
                return refusal
            lines, observed = self._cosign(request, valid)
            if self._store.replace(checkpoint.origin, seen, observed):
                return Answer(status=200, body=lines)
        raise UndecidedError("the witness's memory changes all the time, or is damaged", code="store-busy")

    def checkpoint(self, origin_hash: str) -> Answer:
        """Answer ``GET <origin hash>/checkpoint``: the newest checkpoint that was cosigned."""
        seen = self._store.by_origin_hash(origin_hash) if _HEX.fullmatch(origin_hash) else None
        return _refuse(404, "unknown log") if seen is None else Answer(status=200, body=seen.note)

    def _cosign(self, request: AddCheckpoint, valid: Sequence[ValidLine]) -> tuple[bytes, Observed]:
        timestamp = int(self._clock.now().timestamp())
        text = request.note.text
        own = tuple(cosign(text, signer, self._name, timestamp=timestamp) for signer in self._signers)
        theirs = {line.key: line.line for line in valid}.values()  # a line that stands there twice is kept once
        note = SignedNote(text=text, signatures=(*theirs, *own))
        seen = Observed(size=request.checkpoint.size, root=request.checkpoint.root, note=note.encode())
        return "".join(line.encode() for line in own).encode("utf-8"), seen


class DirectWitness(WitnessClient):
    """A witness in the same process: for a laptop that tries things out, and for tests. Independent of nobody."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def _add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
        answer = self._witness.add_checkpoint(body)
        return answer.status, answer.body


def judge(request: AddCheckpoint, seen: Observed | None) -> Answer | None:
    """Return why a request whose signature is valid must be refused, or None when it may be cosigned.

    Args:
        seen: the newest checkpoint that was cosigned for this log.
    """
    checkpoint, old = request.checkpoint, request.old
    if old > checkpoint.size:
        return _refuse(400, "the old size is beyond the checkpoint's")
    newest = 0 if seen is None else seen.size
    if old != newest:
        return Answer(status=409, body=f"{newest}\n".encode("ascii"), content_type=_SIZE)
    try:
        _check_growth(request, seen)
    except VerificationError as error:
        return _refuse(422, f"invalid consistency proof: {error.message}")
    return None


def _check_growth(request: AddCheckpoint, seen: Observed | None) -> None:
    checkpoint = request.checkpoint
    if checkpoint.size == 0 and not hmac.compare_digest(checkpoint.root, EMPTY_ROOT):
        raise ProofError("an empty tree with a root of its own")
    if seen is not None and seen.size:
        verify_consistency(seen.size, seen.root, checkpoint.size, checkpoint.root, request.proof)
    elif seen is not None and not hmac.compare_digest(seen.root, EMPTY_ROOT):
        raise ProofError("what was seen last is no empty tree, and has no entries")
    elif request.proof:  # the empty tree starts every tree: nothing is proven, so nothing may be sent
        raise ProofError("there is none from size 0")


def _refuse(status: int, message: str) -> Answer:
    return Answer(status=status, body=f"{message}\n".encode())
