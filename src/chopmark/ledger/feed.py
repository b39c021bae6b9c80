# SPDX-License-Identifier: Apache-2.0
"""Ask the witnesses to cosign a log's newest checkpoint. A second face, for servers.

Decides when enough have cosigned, and keeps that checkpoint. The log goes on without it: appending is never blocked,
and devices go on with the last witnessed checkpoint or refuse (``log-unwitnessed``).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chopmark.errors import ChopmarkError, DecodeError, Refused, VerificationError
from chopmark.ledger.checkpoint import Checkpoint, decode_decimal
from chopmark.ledger.note import (
    SignatureLine,
    SignedNote,
    ValidLine,
    VerifierKey,
    decode_lines,
    decode_note,
    verify_lines,
)
from chopmark.ledger.policy import PolicyWitness, WitnessPolicy
from chopmark.ledger.ports import WitnessClient
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.verify import Witnessed, verify_checkpoint
from chopmark.ledger.witness import encode_request

_OK, _CONFLICT = 200, 409
_MAX_WITNESSES_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """What came of asking.

    Attributes:
        note: the checkpoint with its cosignatures, kept as the ledger's witnessed one.
        failed: policy name -> why that witness did not cosign; a witness that has seen a larger log says so here.
    """

    note: bytes
    witnessed: Witnessed
    failed: Mapping[str, str]


def feed(ledger: Ledger, policy: WitnessPolicy, clients: Mapping[str, WitnessClient]) -> Fed:
    """Have the newest checkpoint cosigned, and keep it when the quorum is met.

    Args:
        clients: policy name -> the way to that witness; the others are not asked.

    Raises:
        Refused: ``log-unwitnessed``: no quorum; the evidence says for each witness why. Nothing was kept.
        UndecidedError: the log cannot sign now.
    """
    signed = decode_note(ledger.signed_checkpoint())
    asked = [witness for witness in policy.witnesses if witness.name in clients]
    kept = ledger.witnessed_checkpoint()
    lines = _kept_lines(kept, signed.text, policy)
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=_MAX_WITNESSES_AT_ONCE) as pool:
        answers = pool.map(
            lambda witness: _ask(ledger, signed, witness, clients[witness.name], _seen(kept, witness)),
            asked,
        )
        for witness, answer in zip(asked, answers, strict=True):
            if isinstance(answer, str):
                failed[witness.name] = answer
            else:
                lines[witness.key] = answer.line
    ordered = tuple(lines[witness.key] for witness in policy.witnesses if witness.key in lines)
    note = SignedNote(text=signed.text, signatures=signed.signatures + ordered).encode()
    require = [key.encode() for key in ledger.verifier_keys]
    try:
        witnessed = verify_checkpoint(note, origin=ledger.origin, require=require, policy=policy)
    except Refused as error:
        raise Refused(error.code, error.message, evidence={**error.evidence, "failed": failed}) from error
    ledger.keep_witnessed(note)
    return Fed(note=note, witnessed=witnessed, failed=failed)


def _kept_lines(kept: bytes | None, text: str, policy: WitnessPolicy) -> dict[VerifierKey, SignatureLine]:
    """Return cosignatures of the same checkpoint that are kept already: a witness may be away when asked again."""
    if kept is None or (note := decode_note(kept)).text != text:
        return {}
    try:
        valid = verify_lines(text, note.signatures, [witness.key for witness in policy.witnesses])
    except VerificationError:
        return {}
    return {line.key: line.line for line in valid}


def _seen(kept: bytes | None, witness: PolicyWitness) -> int:
    """Return how far *witness* was when it was last asked; a guess that saves a question."""
    if kept is None:
        return 0
    note = decode_note(kept)
    key = (witness.key.name, witness.key.key_id)
    known = any((line.name, line.key_id) == key for line in note.signatures)
    return Checkpoint.decode(note.text).size if known else 0


def _ask(
    ledger: Ledger, signed: SignedNote, witness: PolicyWitness, client: WitnessClient, old: int
) -> ValidLine | str:
    """Return the witness's verified line, or why there is none."""
    checkpoint = Checkpoint.decode(signed.text)
    try:
        for _ in range(2):  # the first answer may only tell how far the witness is
            proof = ledger.prove_consistency(old, checkpoint.size) if old else ()
            status, body = client.add_checkpoint(encode_request(old, proof, signed.encode()))
            if status != _CONFLICT:
                break
            old = _conflict_size(body)
            if old > checkpoint.size:
                return f"it has seen {old} entries of this log, which has {checkpoint.size}: was an old copy restored?"
        if status != _OK:
            return f"it answered {status}: {body[:200].decode('utf-8', 'replace').strip()}"
        return _cosignature(signed.text, body, witness)
    except ChopmarkError as error:
        return error.message


def _cosignature(text: str, body: bytes, witness: PolicyWitness) -> ValidLine:
    try:
        lines = decode_lines(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DecodeError("it answered with no signature lines") from error
    valid = [line for line in verify_lines(text, lines, [witness.key]) if line.timestamp > 0]
    if not valid:
        raise VerificationError("it answered without a line of the key that the policy lists")
    return max(valid, key=lambda line: line.timestamp)


def _conflict_size(body: bytes) -> int:
    try:
        return decode_decimal(body.decode("ascii").removesuffix("\n"), what="size of the witness")
    except UnicodeDecodeError as error:
        raise DecodeError("it answered 409 without a size") from error
