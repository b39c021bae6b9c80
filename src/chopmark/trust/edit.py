# SPDX-License-Identifier: Apache-2.0
"""The usual edits of trust, each one a function of :class:`Wanted`. Pure; the owners' half.

None of them decides whether the result may govern: :func:`chopmark.trust.change.check` does, on every machine that signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from chopmark.canonical import check_name
from chopmark.errors import UsageError
from chopmark.keys import Owner, PublicKey
from chopmark.trust.change import Wanted
from chopmark.trust.model import Frozen, LogKeys, RetiredFor, RetiredKey, Role, TrustPolicy

MIN_KEYID_CHARS: Final = 8
_SEE: Final = "see: chopmark trust show"


def add_owner(wanted: Wanted, name: str) -> Wanted:
    """Name a new owner, who has no key yet.

    Raises:
        UsageError: there is one, or it is no name.
    """
    check_name(name, what="owner")
    if name in wanted.trust.owners:
        raise UsageError(f"{name}: is an owner already", hint=_SEE)
    return _with_owners(wanted, {**wanted.trust.owners, name: Owner(name=name, keys=())})


def add_key(wanted: Wanted, owner: str, key: PublicKey, *, expires: datetime | None = None) -> Wanted:
    """Give *owner* one more key.

    Raises:
        UsageError: no such owner; the key is another owner's, this one's already, or retired.
    """
    policy = wanted.trust
    person = _owner(policy, owner)
    for other in policy.owners.values():
        if any(held.keyid == key.keyid for held in other.keys):
            raise UsageError(
                f"key {key.keyid[:16]} is {other.name}'s; a key has one owner",
                code="key-taken",
                hint="each person makes keys of their own",
            )
    if any(old.key.keyid == key.keyid for old in policy.retired):
        raise UsageError(
            f"key {key.keyid[:16]} was retired; it does not come back", code="key-retired", hint="make a new one"
        )
    wanted = _with_owners(wanted, {**policy.owners, owner: Owner(name=owner, keys=(*person.keys, key))})
    if expires is None:
        return wanted
    return replace(wanted, trust=replace(wanted.trust, key_expiry={**wanted.trust.key_expiry, key.keyid: expires}))


def remove_key(wanted: Wanted, keyid: str, *, reason: RetiredFor, until: int, log: str) -> Wanted:
    """Retire the key whose id starts with *keyid*: nobody signs with it any more, and what it signed can be judged.

    Args:
        until: entries of *log* with a lower index were signed while the key was its owner's alone; 0: nobody knows.

    Raises:
        UsageError: no such key, several, or too short to name one.
    """
    owner, key = find_key(wanted.trust, keyid)
    kept = tuple(held for held in owner.keys if held.keyid != key.keyid)
    wanted = _with_owners(wanted, {**wanted.trust.owners, owner.name: Owner(name=owner.name, keys=kept)})
    old = RetiredKey(key=key, owner=owner.name, reason=reason, log=log, until=until)
    policy = wanted.trust
    expiry = {k: moment for k, moment in policy.key_expiry.items() if k != key.keyid}
    return replace(wanted, trust=replace(policy, key_expiry=expiry, retired=(*policy.retired, old)))


def remove_owner(wanted: Wanted, name: str, *, reason: RetiredFor, until: int, log: str) -> Wanted:
    """Retire all keys of *name*, and take the name out of every role and of root.

    Raises:
        UsageError: no such owner.
    """
    person = _owner(wanted.trust, name)
    for key in person.keys:
        wanted = remove_key(wanted, key.keyid, reason=reason, until=until, log=log)
    roles = {
        role.name: replace(role, owners=tuple(owner for owner in role.owners if owner != name))
        for role in wanted.trust.roles.values()
    }
    owners = {other: person for other, person in wanted.trust.owners.items() if other != name}
    root_owners = tuple(owner for owner in wanted.root_owners if owner != name)
    return replace(wanted, trust=replace(wanted.trust, owners=owners, roles=roles), root_owners=root_owners)


def find_key(policy: TrustPolicy, keyid: str) -> tuple[Owner, PublicKey]:
    """Return the current key whose id starts with *keyid*, and its owner.

    Raises:
        UsageError: no such key, several, or too short to name one.
    """
    found = [(owner, key) for owner in policy.owners.values() for key in owner.keys if key.keyid.startswith(keyid)]
    if len(found) != 1 or len(keyid) < MIN_KEYID_CHARS:
        raise UsageError(
            f"{keyid[:80]}: names {len(found)} current keys",
            code="no-key",
            hint=f"give {MIN_KEYID_CHARS} digits or more; {_SEE}",
        )
    return found[0]


def change_role(wanted: Wanted, name: str, *, k: int | None = None, owners: Sequence[str] | None = None) -> Wanted:
    """Change how many owners, or which, the role *name* asks for.

    Raises:
        UsageError: no such role or owner.
    """
    role = wanted.trust.roles.get(name)
    if role is None:
        raise UsageError(f"{name}: trust.json has no such role", hint=_SEE)
    for owner in owners or ():
        _owner(wanted.trust, owner)
    changed = replace(role, k=role.k if k is None else k, owners=role.owners if owners is None else tuple(owners))
    return replace(wanted, trust=replace(wanted.trust, roles={**wanted.trust.roles, name: _checked(changed)}))


def change_root(wanted: Wanted, *, owners: Sequence[str] | None = None, k: int | None = None) -> Wanted:
    """Change who the root owners are, or how many of them have to sign.

    Raises:
        UsageError: no such owner, one twice, or a number that can never be met.
    """
    names = wanted.root_owners if owners is None else tuple(owners)
    for owner in names:
        _owner(wanted.trust, owner)
    number = wanted.root_k if k is None else k
    if len(set(names)) != len(names) or not 1 <= number <= len(names):
        raise UsageError(
            f"root: {number} of {len(names)} owners",
            code="role-unmeetable",
            hint="name each owner once, and at most all of them",
        )
    return replace(wanted, root_owners=names, root_k=number)


def freeze_log(wanted: Wanted, origin: str, frozen: Frozen) -> Wanted:
    """Say where the ledger *origin* ended.

    Raises:
        UsageError: no such ledger, or it ended already.
    """
    logs = [replace(log, frozen=frozen) if log.origin == origin and log.active else log for log in wanted.trust.logs]
    if tuple(logs) == wanted.trust.logs:
        raise UsageError(f"{origin}: trust.json has no active ledger of that name", hint=_SEE)
    return replace(wanted, trust=replace(wanted.trust, logs=tuple(logs)))


def add_log(wanted: Wanted, log: LogKeys) -> Wanted:
    """Add a ledger that publications may stand in.

    Raises:
        UsageError: there is one of that name.
    """
    if any(known.origin == log.origin for known in wanted.trust.logs):
        raise UsageError(f"{log.origin}: is in trust.json already", hint=_SEE)
    return replace(wanted, trust=replace(wanted.trust, logs=(*wanted.trust.logs, log)))


def change_limits(wanted: Wanted, values: Mapping[str, int]) -> Wanted:
    """Change limits, in seconds: ``clock_tolerance_s``, ``key_life_s``, ``key_warning_s``, or a check class's age.

    Raises:
        UsageError: no such limit.
    """
    limits = wanted.trust.limits
    for name, seconds in values.items():
        if name == "clock_tolerance_s":
            limits = replace(limits, clock_tolerance_s=seconds)
        elif name == "key_life_s":
            limits = replace(limits, key_life_s=seconds)
        elif name == "key_warning_s":
            limits = replace(limits, key_warning_s=seconds)
        elif name.startswith("max_status_age_s."):
            ages = {**limits.max_status_age_s, name.partition(".")[2]: seconds}
            limits = replace(limits, max_status_age_s=ages)
        else:
            raise UsageError(
                f"{name[:80]}: is no limit",
                hint="clock_tolerance_s, key_life_s, key_warning_s, max_status_age_s.CLASS",
            )
    return replace(wanted, trust=replace(wanted.trust, limits=limits))


def _owner(policy: TrustPolicy, name: str) -> Owner:
    if name not in policy.owners:
        raise UsageError(
            f"{name[:80]}: trust.json has no such owner", code="no-owner", hint=f"add one: --add-owner; {_SEE}"
        )
    return policy.owners[name]


def _checked(role: Role) -> Role:
    if not 1 <= role.k <= len(role.owners) or len(set(role.owners)) != len(role.owners):
        raise UsageError(
            f"role {role.name}: {role.k} of {len(role.owners)} owners",
            code="role-unmeetable",
            hint="name each owner once, and at most all of them",
        )
    return role


def _with_owners(wanted: Wanted, owners: Mapping[str, Owner]) -> Wanted:
    return replace(wanted, trust=replace(wanted.trust, owners=owners))
