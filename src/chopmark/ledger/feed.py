# SPDX-License-Identifier: Apache-2.0
"""Ask the witnesses to cosign a log's newest checkpoint. A second face, for servers.

Decides when enough have cosigned, and keeps that checkpoint. The log goes on without it: appending is never blocked,
and devices go on with the last witnessed checkpoint or refuse (``log-unwitnessed``).

A log that does not grow is cosigned again where the caller says from when on a cosignature is fresh: devices measure how
old their view may be by the witnesses' times. Of two lines of one key the newer counts.

A witness that cosigned a checkpoint and answers that it has seen less was restored from an old copy, and could be made to
cosign another history. Its word is not taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from chopmark.errors import ChopmarkError, DecodeError, Refused, VerificationError
from chopmark.ledger.checkpoint import Checkpoint, decode_decimal
from chopmark.ledger.note import (
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
class Fresh:
    """Which cosignatures of the newest checkpoint need not be made again: those made between two POSIX seconds.

    Attributes:
        until: a witness that claims a later time has a clock that is wrong.
    """

    since: int
    until: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The newest signed checkpoint with every cosignature that is known; whether they are enough is not decided.

    Attributes:
        seen: the size that each policy name is known to have cosigned before it was asked; no entry where it is not known.
        failed: as in :class:`Fed`.
    """

    note: SignedNote
    seen: Mapping[str, int]
    failed: Mapping[str, str]


def feed(
    ledger: Ledger, policy: WitnessPolicy, clients: Mapping[str, WitnessClient], *, fresh: Fresh | None = None
) -> Fed:
    """Have the newest checkpoint cosigned, and keep it when the quorum is met.

    Args:
        clients: policy name -> the way to that witness; the others are not asked. Names with one client are one witness
            with several keys, which is asked once.
        fresh: whoever has cosigned this checkpoint in that time is not asked; None asks everybody.

    Raises:
        Refused: ``log-unwitnessed``: no quorum; the evidence says for each witness why. Nothing was kept.
        UndecidedError: the log cannot sign now.
    """
    gathered = gather(ledger, policy, clients, fresh=fresh)
    return keep(ledger, policy, gathered.note, failed=gathered.failed)


def last_quorum(ledger: Ledger, policy: WitnessPolicy) -> datetime | None:
    """Return how new the quorum is that the kept checkpoint has; None where there is none, or *policy* asks for none."""
    kept = ledger.witnessed_checkpoint()
    if kept is None:
        return None
    require = [key.encode() for key in ledger.verifier_keys]
    try:
        return verify_checkpoint(kept, origin=ledger.origin, require=require, policy=policy).cosigned_at
    except Refused:
        return None


def gather(
    ledger: Ledger, policy: WitnessPolicy, clients: Mapping[str, WitnessClient], *, fresh: Fresh | None = None
) -> Gathered:
    """Ask the witnesses as :func:`feed` does, and decide and keep nothing."""
    signed = decode_note(ledger.signed_checkpoint())
    kept, kept_text = _kept_lines(ledger.witnessed_checkpoint(), policy, fresh)
    size = Checkpoint.decode(kept_text).size if kept_text else 0
    lines = dict(kept) if kept_text == signed.text else {}
    parties = [party for party in _parties(policy, clients) if not _is_fresh(party, lines, fresh)]
    olds = [size if any(witness.key in kept for witness in party.witnesses) else 0 for party in parties]
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=_MAX_WITNESSES_AT_ONCE) as pool:
        for found, why in pool.map(lambda party, old: _ask(ledger, signed, party, old), parties, olds):
            failed |= why
            merge(lines, found)
    seen = {witness.name: size for witness in policy.witnesses if witness.key in kept}
    return Gathered(note=cosigned_note(signed, policy, lines), seen=seen, failed=failed)


def keep(ledger: Ledger, policy: WitnessPolicy, note: SignedNote, *, failed: Mapping[str, str]) -> Fed:
    """Keep a cosigned checkpoint of *ledger* where the quorum is met; for the rest see :func:`feed`."""
    data = note.encode()
    require = [key.encode() for key in ledger.verifier_keys]
    try:
        witnessed = verify_checkpoint(data, origin=ledger.origin, require=require, policy=policy)
    except Refused as error:
        raise Refused(error.code, error.message, evidence={**error.evidence, "failed": dict(failed)}) from error
    ledger.keep_witnessed(data)
    return Fed(note=data, witnessed=witnessed, failed=failed)


def cosigned_note(signed: SignedNote, policy: WitnessPolicy, lines: Mapping[VerifierKey, ValidLine]) -> SignedNote:
    """Return *signed*, which has the log's lines alone, with the lines of the policy's witnesses in its order."""
    own = tuple(lines[witness.key].line for witness in policy.witnesses if witness.key in lines)
    return SignedNote(text=signed.text, signatures=signed.signatures + own)


def merge(into: dict[VerifierKey, ValidLine], lines: Sequence[ValidLine]) -> None:
    """Add cosignatures of one checkpoint; of two by one key, the newer stays."""
    for line in lines:
        if line.key not in into or line.timestamp >= into[line.key].timestamp:
            into[line.key] = line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Party:
    """One witness, under each of its names in the policy."""

    client: WitnessClient
    witnesses: tuple[PolicyWitness, ...]

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        return tuple(witness.key for witness in self.witnesses)

    def failed(self, why: str) -> dict[str, str]:
        return {witness.name: why for witness in self.witnesses}


def _parties(policy: WitnessPolicy, clients: Mapping[str, WitnessClient]) -> list[_Party]:
    found: dict[int, list[PolicyWitness]] = {}
    for witness in policy.witnesses:
        if witness.name in clients:
            found.setdefault(id(clients[witness.name]), []).append(witness)
    return [_Party(client=clients[each[0].name], witnesses=tuple(each)) for each in found.values()]


def _kept_lines(
    kept: bytes | None, policy: WitnessPolicy, fresh: Fresh | None
) -> tuple[Mapping[VerifierKey, ValidLine], str]:
    """Return cosignatures that are kept already, and of which text: a witness may be away when asked again."""
    if kept is None:
        return {}, ""
    note = decode_note(kept)
    try:
        valid = verify_lines(note.text, note.signatures, [witness.key for witness in policy.witnesses])
    except VerificationError:
        return {}, ""
    found: dict[VerifierKey, ValidLine] = {}
    # A time that is yet to come would stand there as the newest for ever.
    merge(found, [line for line in valid if fresh is None or line.timestamp <= fresh.until])
    return found, note.text


def _is_fresh(party: _Party, lines: Mapping[VerifierKey, ValidLine], fresh: Fresh | None) -> bool:
    return fresh is not None and all(key in lines and lines[key].timestamp >= fresh.since for key in party.keys)


def _ask(ledger: Ledger, signed: SignedNote, party: _Party, known: int) -> tuple[list[ValidLine], dict[str, str]]:
    """Return the witness's verified lines, and for each name without one why.

    Args:
        known: how many entries it is known to have cosigned, 0 where that is not known.
    """
    try:
        body = _cosignatures(ledger, signed, party, known)
        lines = _decode_lines(signed.text, body, party.keys)
    except ChopmarkError as error:
        return [], party.failed(error.message)
    found = {line.key for line in lines}
    missing = [witness for witness in party.witnesses if witness.key not in found]
    return lines, {witness.name: "it answered without a line of the key that the policy lists" for witness in missing}


def _cosignatures(ledger: Ledger, signed: SignedNote, party: _Party, known: int) -> bytes:
    size = Checkpoint.decode(signed.text).size
    old = known
    for _ in range(2):  # the first answer may only tell how far the witness is
        proof = ledger.prove_consistency(old, size) if old else ()
        status, body = party.client.add_checkpoint(encode_request(old, proof, signed.encode()))
        if status != _CONFLICT:
            break
        old = _conflict_size(body)
        if old > size:
            raise VerificationError(
                f"it has seen {old} entries of this log, which has {size}: was an old copy restored?"
            )
        if old < known:
            raise VerificationError(
                f"it cosigned {known} entries of this log and remembers {old}: its memory was restored from an old copy,"
                " and it may cosign another history; replace it by a new witness with new keys"
            )
    if status != _OK:
        raise VerificationError(f"it answered {status}: {body[:200].decode('utf-8', 'replace').strip()}")
    return body


def _decode_lines(text: str, body: bytes, keys: Sequence[VerifierKey]) -> list[ValidLine]:
    try:
        lines = decode_lines(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DecodeError("it answered with no signature lines") from error
    return [line for line in verify_lines(text, lines, keys) if line.timestamp > 0]


def _conflict_size(body: bytes) -> int:
    try:
        return decode_decimal(body.decode("ascii").removesuffix("\n"), what="size of the witness")
    except UnicodeDecodeError as error:
        raise DecodeError("it answered 409 without a size") from error
