# SPDX-License-Identifier: Apache-2.0
"""A witness without a network: request and answer are files that somebody carries. A second face, for servers.

    log:      request_to     an add-checkpoint request, as over HTTP; cosignatures of other witnesses travel along in it
    witness:  answer_to      the same checks and the same memory as over HTTP; the cosigned checkpoint, or a refusal
    log:      take_answers   what comes back, verified like anything else from outside

The answer is the whole cosigned checkpoint, not its new lines alone: meanwhile the log has grown, and keeps no list of
checkpoints that were carried away. Two witnesses that a quorum needs together are asked with one request each for the same
checkpoint, or one after the other, and their answers are taken together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.feed import Fed, cosigned_note, gather, keep, merge
from chopmark.ledger.note import SignedNote, ValidLine, VerifierKey, decode_lines, decode_note, verify_lines
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import WitnessClient
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.witness import MAX_REQUEST_BYTES, AddCheckpoint, Witness, encode_request

MAX_ANSWER_BYTES: Final = MAX_REQUEST_BYTES
_OK: Final = 200
_CONFLICT: Final = 409


def request_to(
    ledger: Ledger,
    policy: WitnessPolicy,
    clients: Mapping[str, WitnessClient],
    name: str,
    *,
    old: int | None = None,
) -> bytes:
    """Return a request about the newest checkpoint, for the witness that the policy calls *name*.

    Args:
        clients: the witnesses with a network; they are asked first, so that their cosignatures are there with the answer.
        old: how many entries that witness has seen; None where the kept checkpoint tells, or it has seen nothing.

    Raises:
        UsageError: the policy has no such witness, or *old* is beyond the log.
        UndecidedError: the log cannot sign now.
    """
    if all(witness.name != name for witness in policy.witnesses):
        raise UsageError(f"the policy names no witness {name}", hint="use a name of its witness lines")
    gathered = gather(ledger, policy, {each: clients[each] for each in clients if each != name})
    size = Checkpoint.decode(gathered.note.text).size
    seen = gathered.seen.get(name, 0) if old is None else old
    if not 0 <= seen <= size:
        raise UsageError(f"the log has {size} entries, and the witness cannot have seen {seen}")
    proof = ledger.prove_consistency(seen, size) if seen else ()
    return encode_request(seen, proof, gathered.note.encode())


def answer_to(witness: Witness, body: bytes) -> bytes:
    """Return the checkpoint of the request *body*, cosigned by *witness*, which remembers it.

    Raises:
        VerificationError: ``witness-refused``: the message begins with the protocol's status.
        UndecidedError: the witness's memory or a key cannot be used now.
    """
    answer = witness.add_checkpoint(body)
    if answer.status != _OK:
        said = answer.body.decode("utf-8", "replace").strip()
        hint = f"carry this back: chopmark ledger feed --old {said} --out FILE" if answer.status == _CONFLICT else ""
        raise VerificationError(
            f"{answer.status}: {f'it has seen {said} entries of this log' if hint else said}",
            code="witness-refused",
            hint=hint,
            evidence={"status": answer.status, "body": said},
        )
    asked = AddCheckpoint.decode(body).note
    own = decode_lines(answer.body.decode("utf-8"))
    return SignedNote(text=asked.text, signatures=asked.signatures + own).encode()


def take_answers(ledger: Ledger, policy: WitnessPolicy, answers: Sequence[bytes]) -> Fed:
    """Take cosigned checkpoints that were carried back, with what is kept already, and keep them where the quorum is met.

    Raises:
        UsageError: no answer, or answers about several checkpoints.
        VerificationError: it is no checkpoint of this log, or holds a bad line of a known key.
        Refused: ``log-unwitnessed``: no quorum.
    """
    notes = [decode_note(answer) for answer in answers]
    texts = {note.text for note in notes}
    if len(texts) != 1:
        raise UsageError("answers are taken together where they are about one checkpoint", hint="take one at a time")
    text = texts.pop()
    newest = ledger.checkpoint.size
    if Checkpoint.decode(text).size > newest:
        raise DecodeError(f"a checkpoint of more entries than the {newest} of this log")
    kept = ledger.witnessed_checkpoint()
    if kept is not None and (known := decode_note(kept)).text == text:
        notes.append(known)
    lines = _lines(text, notes, [witness.key for witness in policy.witnesses])
    own = _lines(text, notes, ledger.verifier_keys)
    signed = SignedNote(text=text, signatures=tuple(line.line for line in own.values()))
    if not lines or not own:
        raise VerificationError("no line of a witness of the policy, or none of this log", code="bad-signature")
    return keep(ledger, policy, cosigned_note(signed, policy, lines), failed={})


def _lines(text: str, notes: Sequence[SignedNote], keys: Sequence[VerifierKey]) -> dict[VerifierKey, ValidLine]:
    found: dict[VerifierKey, ValidLine] = {}
    for note in notes:
        merge(found, verify_lines(text, note.signatures, keys))
    return found
