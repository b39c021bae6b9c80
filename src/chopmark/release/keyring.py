# SPDX-License-Identifier: Apache-2.0
"""The keys of a workspace over their life: how long each is used, what it can do, and what hangs on it. Pure.

    keyring(trust, now)      every key with its state: current, expiring, expired, retired
    in_force(trust, now)     the policy that a gate counts by: without what has expired
    usable(signers, ...)     the keys that an owner may sign with now
    impact(keys, ...)        what is lost with some keys, and which live releases have to be signed again

Expiry binds who signs and who decides. It binds no device, and neither operator nor status host: a calendar must not
stop a fleet (ADR 0019).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from chopmark.artifacts import Digest
from chopmark.errors import VerificationError
from chopmark.keys import Algorithm, AlgorithmGroup, OwnerCount, OwnerRule, PublicKey, Signer, count_owners
from chopmark.release.live import Live
from chopmark.statements import Envelope, decode_statement, short_type
from chopmark.trust import RetiredKey, TrustPolicy

APPROVER: Final = "approver"


class KeyState(StrEnum):
    """Where a key is in its life."""

    CURRENT = "current"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key that trust.json knows.

    Attributes:
        left: until it expires; below zero once it has, None where it never does or is retired.
        roles: of its owner, now.
    """

    owner: str
    key: PublicKey
    state: KeyState
    expires: datetime | None
    left: timedelta | None
    roles: tuple[str, ...]
    retired: RetiredKey | None = None

    @property
    def keyid(self) -> str:
        return self.key.keyid

    @property
    def days_left(self) -> int | None:
        """Whole days, rounded down: -1 from the second on in which it expired."""
        return None if self.left is None else self.left.days


def keyring(trust: TrustPolicy, *, now: datetime) -> tuple[KnownKey, ...]:
    """Return every key of *trust*, by owner, retired ones last."""
    warning = timedelta(seconds=trust.limits.key_warning_s)
    found = []
    for owner in trust.owners.values():
        roles = roles_of(trust, owner.name)
        for key in owner.keys:
            expires = trust.key_expiry.get(key.keyid)
            left = None if expires is None else expires - now
            state = KeyState.CURRENT
            if left is not None and left <= warning:
                state = KeyState.EXPIRING if left > timedelta(0) else KeyState.EXPIRED
            found.append(KnownKey(owner=owner.name, key=key, state=state, expires=expires, left=left, roles=roles))
    past = [
        KnownKey(
            owner=old.owner,
            key=old.key,
            state=KeyState.RETIRED,
            expires=None,
            left=None,
            roles=roles_of(trust, old.owner),
            retired=old,
        )
        for old in trust.retired
    ]
    return (*found, *past)


def roles_of(trust: TrustPolicy, owner: str) -> tuple[str, ...]:
    """Return the roles that *owner* holds."""
    return tuple(role.name for role in trust.roles.values() if owner in role.owners)


def expired(trust: TrustPolicy, *, now: datetime) -> frozenset[str]:
    """Return the ids of the keys whose time is over; a key expires at the second that it names."""
    return frozenset(keyid for keyid, moment in trust.key_expiry.items() if moment <= now)


def without(trust: TrustPolicy, keyids: Collection[str]) -> TrustPolicy:
    """Return *trust* as if the keys *keyids* were not in it. A role may then be one that nobody can meet."""
    return replace(
        trust,
        owners={
            name: replace(owner, keys=tuple(key for key in owner.keys if key.keyid not in keyids))
            for name, owner in trust.owners.items()
        },
    )


def in_force(trust: TrustPolicy, *, now: datetime) -> TrustPolicy:
    """Return what gates and approvers count by at *now*: trust without the keys that have expired."""
    over = expired(trust, now=now)
    return without(trust, over) if over else trust


def usable(signers: Sequence[Signer], trust: TrustPolicy, owner: str, *, now: datetime) -> list[Signer]:
    """Return those of *signers* that *owner* may sign a statement with at *now*.

    A key that trust.json does not know yet (the new one of a rotation) is left out beside one that it knows. Where it
    knows none of them, all are returned: counting decides.

    Raises:
        VerificationError: ``key-expired`` or ``key-retired``: a key of some algorithm is there, and none that may still
            be used. Half of a hybrid is never signed with silently.
    """
    known = {k.keyid: k for k in keyring(trust, now=now) if k.owner == owner}
    ours = [signer for signer in signers if signer.public.keyid in known]
    if not ours:
        return list(signers)
    live = [s for s in ours if known[s.public.keyid].state in (KeyState.CURRENT, KeyState.EXPIRING)]
    served = {signer.public.algorithm for signer in live}
    for signer in ours:
        if signer.public.algorithm not in served:
            raise _unusable(known[signer.public.keyid])
    return live


def _unusable(known: KnownKey) -> VerificationError:
    key = known.key
    what = f"the {key.algorithm} key {key.keyid[:16]} of {known.owner}"
    evidence = {"owner": known.owner, "keyid": key.keyid, "algorithm": str(key.algorithm)}
    if known.retired is not None:
        return VerificationError(
            f"{what} is retired ({known.retired.reason}); nobody counts what it signs now",
            code="key-retired",
            hint=f"sign with the new key of {known.owner}, on the machine where it is",
            evidence=evidence | {"reason": str(known.retired.reason)},
        )
    return VerificationError(
        f"{what} expired at {known.expires:%Y-%m-%d %H:%M}Z",
        code="key-expired",
        hint=f"chopmark keys rotate {known.owner}",
        evidence=evidence | {"expires": known.expires},
    )


# What hangs on keys.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseImpact:
    """A live release that one of the keys signed.

    Attributes:
        before, after: who counts with the keys, and without them.
    """

    live: Live
    before: OwnerCount
    after: OwnerCount

    @property
    def lost(self) -> bool:
        """Tell whether devices refuse it once the keys are gone, and did not before."""
        return self.before.met and not self.after.met


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleImpact:
    """A role that the keys' owners hold.

    Attributes:
        able: owners that can still sign with every algorithm, without the keys.
        k: how many are needed.
    """

    role: str
    k: int
    able: tuple[str, ...]

    @property
    def lost(self) -> bool:
        return len(self.able) < self.k


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """An entry of the ledger that a key signed."""

    index: int
    type: str
    subject: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What is lost with some keys.

    Attributes:
        releases: the live releases that one of them signed; the others are not touched.
        files: names of TUF metadata that one of them signs.
        signed: entries that one of them signed, in order.
        powers: what a thief can do, and what stops it, by role.
    """

    keys: tuple[KnownKey, ...]
    roles: tuple[RoleImpact, ...]
    releases: tuple[ReleaseImpact, ...]
    files: tuple[str, ...]
    signed: tuple[Signed, ...]
    powers: Mapping[str, tuple[str, str]]

    @property
    def lost(self) -> tuple[ReleaseImpact, ...]:
        """The live releases that have to be signed again before the keys go."""
        return tuple(one for one in self.releases if one.lost)


def sign_again(found: Impact, one: ReleaseImpact) -> str:
    """Return the command that has *one* signed again, by the first approver that can and does not count for it yet."""
    approvers = next((role.able for role in found.roles if role.role == APPROVER), ())
    owner = next((name for name in approvers if name not in one.after.counted), "OWNER")
    return f"chopmark release sign-again {one.live.release.digest.short} --as {owner}"


def impact(
    keys: Sequence[KnownKey],
    trust: TrustPolicy,
    *,
    live: Iterable[Live],
    entries: Iterable[tuple[int, Envelope]],
    files: Mapping[str, Collection[str]],
    root: OwnerRule,
    since: int = 0,
) -> Impact:
    """Return what is lost with *keys*.

    Args:
        live: every live release.
        entries: the ledger's statements, with their index.
        files: TUF role -> ids of the keys that sign it.
        root: whom root.json counts.
        since: leave out entries with a lower index.
    """
    gone = frozenset(key.keyid for key in keys)
    after = without(trust, gone)
    current = {key.keyid for owner in trust.owners.values() for key in owner.keys}
    roles = [role for role in trust.roles.values() if any(key.owner in role.owners for key in keys)]
    held = dict.fromkeys(name for name, keyids in sorted(files.items()) if gone & set(keyids))
    named = dict.fromkeys([*(role.name for role in roles), *(_FILE_POWERS[f] for f in held if f in _FILE_POWERS)])
    affected = [RoleImpact(role=role.name, k=role.k, able=able(after, role.name)) for role in roles if gone & current]
    if any(key.keyid in gone for owner in root.owners for key in owner.keys):
        affected.append(RoleImpact(role="root", k=root.k, able=_able(root, gone)))
    return Impact(
        keys=tuple(keys),
        roles=tuple(affected),
        releases=tuple(_release_impact(one, trust, after) for one in live if _signers(one.envelope) & gone),
        files=tuple(held),
        signed=signed_by(keys, entries, since=since),
        powers={name: POWERS[name] for name in named if name in POWERS},
    )


def able(trust: TrustPolicy, role: str) -> tuple[str, ...]:
    """Return the owners of *role* that have a key for every algorithm that it asks for."""
    return _able(trust.rule(role), ())


def _able(rule: OwnerRule, gone: Collection[str]) -> tuple[str, ...]:
    return tuple(
        owner.name
        for owner in rule.owners
        if _meets({key.algorithm for key in owner.keys if key.keyid not in gone}, rule.algorithms)
    )


def signed_by(
    keys: Sequence[KnownKey], entries: Iterable[tuple[int, Envelope]], *, since: int = 0
) -> tuple[Signed, ...]:
    """Return the entries that one of *keys* signed: signatures are verified, ids alone are anybody's to write."""
    known = {key.keyid: key.key for key in keys}
    found = []
    for index, envelope in entries:
        if index < since or not _signed_by(envelope, known):
            continue
        try:
            statement = decode_statement(envelope.payload)
            kind, subject = short_type(statement.predicate_type), statement.subject.name
        except VerificationError:
            kind, subject = "?", "?"
        found.append(Signed(index=index, type=kind, subject=subject, digest=envelope.digest))
    return tuple(found)


def _signed_by(envelope: Envelope, known: Mapping[str, PublicKey]) -> bool:
    return any(s.keyid in known and known[s.keyid].verify(s.sig, envelope.message) for s in envelope.signatures)


def _signers(envelope: Envelope) -> set[str]:
    return {signature.keyid for signature in envelope.signatures}


def _release_impact(one: Live, before: TrustPolicy, after: TrustPolicy) -> ReleaseImpact:
    return ReleaseImpact(live=one, before=_count(one.envelope, before), after=_count(one.envelope, after))


def _count(envelope: Envelope, trust: TrustPolicy) -> OwnerCount:
    return count_owners(trust.rule(APPROVER), ((s.keyid, s.sig) for s in envelope.signatures), envelope.message)


def _meets(has: set[Algorithm], groups: tuple[AlgorithmGroup, ...]) -> bool:
    return all(has & group for group in groups)


_FILE_POWERS: Final = {"root": "root", "timestamp": "operator"}

POWERS: Final[Mapping[str, tuple[str, str]]] = {
    "root": (
        "fewer than k owners: nothing; k or more: everything",
        "offline keys, distinct people; a new pin through an application update",
    ),
    "operator": (
        "withhold, freeze, choose among approved releases",
        "devices check envelope, status and ledger; rotation of all its keys",
    ),
    "approver": (
        "k or more owners: approve a bad model",
        "the gate is replayed on each approver's machine; the ledger shows it; the status revokes it",
    ),
    "security": ("k or more owners: revoke or hold (an outage)", "distinct people; hybrid keys"),
    "status": (
        "hide new revocations; revoke everything (an outage); it cannot install anything",
        "a host of its own; max_status_age_s; root's reset",
    ),
    "gate": ("a false decision misleads approvers", "they replay it; no device reads it"),
    **dict.fromkeys(
        ("data-owner", "builder", "tester", "inspector", "packager"), ("false evidence", "several roles; approvers")
    ),
    "git": ("propose, delay", "the release envelope; root is pinned outside the repository"),
    "verifier": (
        "false answers to devices' reports; no release, no revocation",
        "a device loads nothing because of an answer",
    ),
}
"""Role -> the worst that somebody with its key can do, and what limits it; docs/concepts/trust.md, "Keys"."""
