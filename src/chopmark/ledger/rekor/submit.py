# SPDX-License-Identifier: Apache-2.0
"""Log a signature in somebody's Rekor v2 log, and believe nothing it answers. A second face, for tools.

(1) the entry is asked for; (2) what comes back is verified against the log's key, the witness policy and the leaf that was
asked for; (3) where an equal entry stands there already, its place is read from the log's own files, each checked up to a
checkpoint that was verified. Either way the caller gets an entry that proves its leaf, or an error.

Asking again after an error is safe: Rekor logs a leaf once, as far as it remembers. Where several of its servers take
entries it may log one twice; both are proven, and the first that was kept is enough.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import msgspec

from chopmark.errors import ChopmarkError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger.checkpoint import decode_decimal
from chopmark.ledger.note import VerifierKey
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import LogFiles, RekorAnswer, RekorClient
from chopmark.ledger.rekor.wire import HashedRekord, LogEntry, verify_entry
from chopmark.ledger.static import StaticLog, newest_note
from chopmark.ledger.verify import Included, verify_checkpoint

_MADE: Final = (200, 201)
_FROZEN: Final = 405
_EXISTS: Final = 409
_BUSY: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What came of asking.

    Attributes:
        new: False where it stood in the log before.
    """

    entry: LogEntry
    included: Included
    new: bool


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    message: str = ""


def submit(
    record: HashedRekord, client: RekorClient, files: LogFiles, *, key: VerifierKey, policy: WitnessPolicy
) -> Submitted:
    """Have *record* logged; return its verified entry.

    Args:
        files: the same log's files; read only where the entry stands there already.
        key: the log's key, under its origin.
        policy: which witnesses are enough.

    Raises:
        UsageError: ``log-frozen``: the log takes no entries any more.
        VerificationError: ``not-accepted``: it takes not this one; or ``log-altered``, ``log-incomplete``.
        Refused: ``log-unproven``, ``log-unwitnessed``: what it answered is no proof. It is in the evidence.
        UndecidedError: no answer, too many requests, or no checkpoint that holds the entry yet: ask again.
    """
    answer = client.create_entry(record.request())
    leaf = record.encode()
    if answer.status in _MADE:
        entry, new = _answered(answer), True
    elif answer.status == _EXISTS:
        entry, new = _found(answer, leaf, files, key=key, policy=policy), False
    else:
        raise _not_logged(answer)
    try:
        included = verify_entry(entry, leaf, origin=key.name, require=[key], policy=policy)
    except Refused as error:
        raise Refused(error.code, error.message, evidence={**error.evidence, "answer": answer.body}) from error
    return Submitted(entry=entry, included=included, new=new)


def _answered(answer: RekorAnswer) -> LogEntry:
    try:
        return LogEntry.decode(answer.body)
    except VerificationError as error:
        raise Refused("log-unproven", error.message, evidence={"answer": answer.body}) from error


def _found(answer: RekorAnswer, leaf: bytes, files: LogFiles, *, key: VerifierKey, policy: WitnessPolicy) -> LogEntry:
    """Return the entry of *leaf* at the place that *answer* names, made from the log's files."""
    index = decode_decimal(answer.at, what="the place of the entry that Rekor names")
    note = newest_note(files)
    checkpoint = verify_checkpoint(note, origin=key.name, require=[key], policy=policy).checkpoint
    if index >= checkpoint.size:
        raise UndecidedError(
            f"{key.name}: says that entry {index} is equal; {checkpoint.size} entries are published",
            code="not-published-yet",
            hint="ask again in a minute; if it stays so, ask the log's operator",
        )
    log = StaticLog(files, checkpoint)
    (there,) = log.entries(index, index + 1)
    if not hmac.compare_digest(there, leaf):
        evidence = {"entry": there, "leaf": leaf, "checkpoint": note}
        raise Refused(
            "log-unproven", f"{key.name}: entry {index} is not the one that was to be logged", evidence=evidence
        )
    return LogEntry(index=index, log_id=key.key_hash, path=log.prove_inclusion(index), checkpoint_note=note, body=leaf)


def _not_logged(answer: RekorAnswer) -> ChopmarkError:
    said = f"Rekor answered {answer.status}: {_message(answer.body)}"
    if answer.status == _FROZEN:
        return UsageError(
            said, code="log-frozen", hint="it is closed: use the address and key of the log that follows it"
        )
    if 400 <= answer.status < 500 and answer.status not in _BUSY:
        return VerificationError(
            said, code="not-accepted", hint="does this log take P-256 signatures? ask its operator"
        )
    return UndecidedError(said, code="unreachable", hint="try again; nothing is logged twice")


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Problem).message[:300]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body[:300].decode("utf-8", "replace").strip()
