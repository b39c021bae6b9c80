# SPDX-License-Identifier: Apache-2.0
"""Was it believed then? Judge a statement by its place in a ledger, also where a key that signed it is used no more. Pure.

    Envelope at (log, index) --judge--> Judged(current | superseded | compromised-before), or an error that says why not

A key that was retired counts for entries below the index that its retirement names, and for nothing else: an index
cannot be invented afterwards, a time in a statement can. Devices and gates never ask here; they know current keys only
(ADR 0019). So nothing here makes a ``VerifiedStatement`` that a policy would take for a fact.

A leaf that holds only the digest of its envelope is judged like one that holds it whole: the digest covers the signatures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from chopmark.artifacts import Digest
from chopmark.errors import VerificationError
from chopmark.keys import Owner
from chopmark.statements.model import Envelope, Statement, VerifiedStatement
from chopmark.statements.verify import verify, verify_any
from chopmark.statements.wire import decode_statement
from chopmark.trust import RetiredFor, RetiredKey, TrustPolicy


class Judgement(StrEnum):
    """How a statement is believed."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    COMPROMISED_BEFORE = "compromised-before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A statement that is believed, and on which keys that rests.

    Attributes:
        owners: the owners that counted.
        retired: the keys of before that it rests on; empty where it is current.
    """

    statement: Statement
    role: str
    owners: tuple[str, ...]
    envelope: Envelope
    judgement: Judgement
    retired: tuple[RetiredKey, ...] = ()

    @property
    def digest(self) -> Digest:
        return self.envelope.digest

    @property
    def note(self) -> str:
        """What a person has to know about it; empty where it is current."""
        # Once for an owner's pair of keys.
        said = (
            f"a key of {old.owner} that signed it was {old.reason} since, from entry {old.until} on"
            for old in self.retired
        )
        return "; ".join(dict.fromkeys(said))


def judge(
    envelope: Envelope,
    trust: TrustPolicy,
    *,
    log: str,
    index: int,
    before: Sequence[TrustPolicy] = (),
    role: str | None = None,
) -> Judged:
    """Judge *envelope*, which stands as entry *index* in *log*.

    Args:
        trust: what governs now; its ``retired`` says which keys of before count, and until where.
        log: origin of the ledger that the entry was read from, and proven to be in.
        before: earlier versions of *trust*, oldest first, each named by a root of the same chain. They say which roles
            an owner held who has left since.
        role: as a statement of this role; None for whichever role signed it.

    Raises:
        VerificationError: ``key-retired`` (a key that signed it was retired before this entry, or in another log, with
            which the index cannot be compared), or as :func:`verify_any`.
        DecodeError: signed properly, and not a statement.
    """
    try:
        found = verify_any(envelope, trust) if role is None else verify(envelope, trust, role)
        return _judged(found, Judgement.CURRENT)
    except VerificationError as error:
        today = error
    signed = tuple(old for old in trust.retired if _signed(envelope, old))
    sound = tuple(old for old in signed if old.log == log and index < old.until)
    if then := _under(envelope, sound, trust, before, role):
        used = tuple(old for old in sound if old.owner in then.owners)
        bad = any(old.reason is RetiredFor.COMPROMISED for old in used)
        return _judged(then, Judgement.COMPROMISED_BEFORE if bad else Judgement.SUPERSEDED, used)
    late = tuple(old for old in signed if old not in sound)
    if late and (then := _under(envelope, signed, trust, before, role)):
        raise _too_late(late[0], role=then.role, log=log, index=index)
    raise today


def judged(
    entries: Iterable[tuple[int, Envelope]],
    trust: TrustPolicy,
    *,
    log: str,
    kind: str,
    role: str,
    before: Sequence[TrustPolicy] = (),
) -> Iterator[tuple[int, Judged]]:
    """Yield the statements of one kind that *role* made, with their index; what is not believed is passed over.

    Args:
        kind: predicate type.
    """
    for index, envelope in entries:
        try:
            if decode_statement(envelope.payload).predicate_type == kind:  # cheap, and believed in nothing
                yield index, judge(envelope, trust, log=log, index=index, before=before, role=role)
        except VerificationError:
            continue


def _judged(found: VerifiedStatement, judgement: Judgement, retired: tuple[RetiredKey, ...] = ()) -> Judged:
    return Judged(
        statement=found.statement,
        role=found.role,
        owners=found.owners,
        envelope=found.envelope,
        judgement=judgement,
        retired=retired,
    )


def _signed(envelope: Envelope, old: RetiredKey) -> bool:
    # The first signature of a key decides, as it does where owners are counted.
    first = next((s.sig for s in envelope.signatures if s.keyid == old.key.keyid), None)
    return first is not None and old.key.verify(first, envelope.message)


def _under(
    envelope: Envelope,
    old: tuple[RetiredKey, ...],
    trust: TrustPolicy,
    before: Sequence[TrustPolicy],
    role: str | None,
) -> VerifiedStatement | None:
    """Verify *envelope* with the keys *old* beside the current ones, as *role* or as the first role that said it."""
    names = dict.fromkeys(name for policy in (trust, *reversed(before)) for name in policy.roles)
    for name in names if role is None else (role,):
        policy = _as_it_was(name, old, trust, before)
        try:
            found = verify(envelope, policy, name) if policy is not None else None
        except VerificationError:
            continue
        # A rule of before is believed for the sake of a key of before: without one, today's rule has decided already.
        if found is not None and any(key.owner in found.owners for key in old):
            return found
    return None


def _as_it_was(
    name: str, old: tuple[RetiredKey, ...], trust: TrustPolicy, before: Sequence[TrustPolicy]
) -> TrustPolicy | None:
    """Return the newest policy in which an owner of one of the keys *old* holds the role *name*, with those keys added.

    A current key counts in it only where its owner still holds the role: no index bounds what it signs.
    """
    for policy in (trust, *reversed(before)):
        role = policy.roles.get(name)
        if role is None or not any(key.owner in role.owners for key in old):
            continue
        held = trust.roles[name].owners if name in trust.roles else ()
        owners = {
            owner: Owner(
                name=owner,
                keys=(
                    *(trust.owners[owner].keys if owner in held else ()),
                    *(key.key for key in old if key.owner == owner),
                ),
            )
            for owner in role.owners
        }
        return replace(policy, owners=owners, roles={name: role})
    return None


def _too_late(old: RetiredKey, *, role: str, log: str, index: int) -> VerificationError:
    evidence = {
        "role": role,
        "owner": old.owner,
        "keyid": old.key.keyid,
        "reason": str(old.reason),
        "until": old.until,
        "retired_in": old.log,
        "log": log,
        "index": index,
    }
    if old.log != log:
        why = f"by an index of {old.log}, and entry {index} stands in {log}: which came first cannot be told"
    elif old.until == 0 and old.reason is RetiredFor.COMPROMISED:
        why = "and nobody knows since when"
    else:
        why = f"from entry {old.until} on, and this is entry {index}"
    return VerificationError(
        f"signed with a key of {old.owner} that was {old.reason} {why}",
        code="key-retired",
        hint=f"have {old.owner} look at it, and sign it with a current key",
        evidence=evidence,
    )
