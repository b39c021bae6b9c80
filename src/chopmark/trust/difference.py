# SPDX-License-Identifier: Apache-2.0
"""What a change of trust means, in words: what differs, and who can act before and after. Pure.

Computed from the two states, of which the second is read from the bytes that are signed. A line that makes less
necessary than before, or lets somebody act who could not, is marked: it is the one to look at twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chopmark.clock import format_time
from chopmark.errors import one_line
from chopmark.keys import AlgorithmGroup, PublicKey
from chopmark.trust.change import Wanted
from chopmark.trust.model import LogKeys, RetiredKey, Role, TrustPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that changes.

    Attributes:
        what: where, e.g. ``role approver``; *before*, *after*: empty where it was not, or will not be.
        weaker: it asks for less than before, or somebody gains power by it.
    """

    what: str
    before: str
    after: str
    weaker: bool = False

    def explain(self) -> str:
        """Return one line for a person; what nobody can see is in it as a mark: names may come from an attacker."""
        if not self.before:
            return one_line(f"{self.what}: new: {self.after}")
        if not self.after:
            return one_line(f"{self.what}: gone: {self.before}")
        return one_line(f"{self.what}: {self.before} → {self.after}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Who can act in one place, before and after; as text, e.g. ``2 of owner-a, owner-b, owner-c``."""

    who: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def differences(before: Wanted, after: Wanted) -> tuple[Difference, ...]:
    """Return everything that *after* says otherwise than *before*."""
    return (
        *_root(before, after),
        *_owners(before.trust, after.trust),
        *_keys(before.trust, after.trust),
        *_retired_keys(before.trust, after.trust),
        *_roles(before.trust, after.trust),
        *_logs(before.trust, after.trust),
        *_rest(before.trust, after.trust),
    )


def powers(before: Wanted, after: Wanted) -> tuple[Power, ...]:
    """Return who can act, for root and every role, before and after."""
    roles = dict.fromkeys([*before.trust.roles, *after.trust.roles])
    return (
        Power(who="root", before=_able_root(before), after=_able_root(after)),
        *(
            Power(who=name, before=_able_role(before.trust, name), after=_able_role(after.trust, name))
            for name in roles
        ),
    )


def _root(before: Wanted, after: Wanted) -> Iterator[Difference]:
    if (before.root_owners, before.root_k) != (after.root_owners, after.root_k):
        yield Difference(
            what="root owners",
            before=f"{before.root_k} of {', '.join(before.root_owners)}",
            after=f"{after.root_k} of {', '.join(after.root_owners)}",
            weaker=after.root_k < before.root_k or bool(set(after.root_owners) - set(before.root_owners)),
        )
    if before.root_algorithms != after.root_algorithms:
        yield Difference(
            what="root algorithms",
            before=_groups(before.root_algorithms),
            after=_groups(after.root_algorithms),
            weaker=_lowered(before.root_algorithms, after.root_algorithms),
        )
    if before.expires != after.expires:
        yield Difference(
            what="root and targets expire", before=format_time(before.expires), after=format_time(after.expires)
        )
    if before.reset != after.reset:
        yield Difference(
            what="reset",
            before=str(before.reset),
            after=f"{after.reset}: every device forgets what it has seen, rollback protection starts anew",
            weaker=True,
        )


def _owners(before: TrustPolicy, after: TrustPolicy) -> Iterator[Difference]:
    for name in dict.fromkeys([*before.owners, *after.owners]):
        if (name in before.owners) != (name in after.owners):
            yield Difference(what="owner", before=name * (name in before.owners), after=name * (name in after.owners))


def _keys(before: TrustPolicy, after: TrustPolicy) -> Iterator[Difference]:
    old, new, retired = _by_id(before), _by_id(after), {o.key.keyid: o for o in after.retired}
    for keyid in dict.fromkeys([*old, *new]):
        if keyid not in new:
            kept = retired.get(keyid)
            yield Difference(
                what=f"key of {old[keyid][0]}",
                before=_key(old[keyid][1]),
                after=_retired(kept) if kept else "gone, and not kept as retired: what it signed cannot be judged",
                weaker=kept is None,
            )
        elif keyid not in old:
            end = after.key_expiry.get(keyid)
            until = f", expires {format_time(end)}" if end else ", never expires"
            yield Difference(what=f"key of {new[keyid][0]}", before="", after=_key(new[keyid][1]) + until, weaker=True)
        elif old[keyid][0] != new[keyid][0]:
            yield Difference(what=_key(new[keyid][1]), before=old[keyid][0], after=new[keyid][0], weaker=True)
        elif before.key_expiry.get(keyid) != after.key_expiry.get(keyid):
            ends = before.key_expiry.get(keyid), after.key_expiry.get(keyid)
            texts = ["never" if end is None else format_time(end) for end in ends]
            later = ends[0] is not None and (ends[1] is None or ends[1] > ends[0])
            yield Difference(
                what=f"expiry of {_key(new[keyid][1])} of {new[keyid][0]}",
                before=texts[0],
                after=texts[1],
                weaker=later,
            )


def _retired_keys(before: TrustPolicy, after: TrustPolicy) -> Iterator[Difference]:
    """Yield what is said otherwise of keys that were no current ones: those that a change retires stand with the keys."""
    current = _by_id(before)
    known, retired = ({o.key.keyid: o for o in policy.retired} for policy in (before, after))
    for keyid in dict.fromkeys([*known, *(k for k in retired if k not in current)]):
        one, other = known.get(keyid), retired.get(keyid)
        if one != other:
            texts = [_retired(o) if o else "" for o in (one, other)]
            yield Difference(what=f"retired key {keyid[:16]}", before=texts[0], after=texts[1], weaker=True)


def _roles(before: TrustPolicy, after: TrustPolicy) -> Iterator[Difference]:
    for name in dict.fromkeys([*before.roles, *after.roles]):
        old, new = before.roles.get(name), after.roles.get(name)
        if old is None or new is None:
            texts = [_whole(role) if role else "" for role in (old, new)]
            yield Difference(what=f"role {name}", before=texts[0], after=texts[1], weaker=old is None)
            continue
        if (old.owners, old.k) != (new.owners, new.k):
            yield Difference(
                what=f"role {name}",
                before=_count(old),
                after=_count(new),
                weaker=new.k < old.k or bool(set(new.owners) - set(old.owners)),
            )
        if old.algorithms != new.algorithms:
            yield Difference(
                what=f"algorithms of role {name}",
                before=_groups(old.algorithms),
                after=_groups(new.algorithms),
                weaker=_lowered(old.algorithms, new.algorithms),
            )
        readers: Mapping[str, Callable[[Role], Sequence[str]]] = {
            "predicates": lambda role: role.predicates,
            "subjects": lambda role: role.subjects,
            "channels": lambda role: role.channels,
        }
        for what, read in readers.items():
            if read(old) != read(new):
                yield Difference(
                    what=f"{what} of role {name}",
                    before=", ".join(read(old)) or "none",
                    after=", ".join(read(new)) or "none",
                    weaker=bool(set(read(new)) - set(read(old))),
                )


def _logs(before: TrustPolicy, after: TrustPolicy) -> Iterator[Difference]:
    old, new = ({log.origin: log for log in policy.logs} for policy in (before, after))
    for origin in dict.fromkeys([*old, *new]):
        one, other = old.get(origin), new.get(origin)
        if one == other:
            continue
        texts = [_log(log) if log else "" for log in (one, other)]
        fewer = one is not None and other is not None and not set(one.require) <= set(other.require)
        reopened = one is not None and not one.active and (other is None or other.active or one.frozen != other.frozen)
        yield Difference(
            what=f"ledger {origin}", before=texts[0], after=texts[1], weaker=one is None or fewer or reopened
        )


def _rest(before: TrustPolicy, after: TrustPolicy) -> Iterator[Difference]:
    if before.witness_policy != after.witness_policy:
        lines = [policy.witness_policy.splitlines() for policy in (before, after)]
        gone = [line for line in lines[0] if line not in lines[1]]
        fresh = [line for line in lines[1] if line not in lines[0]]
        yield Difference(
            what="witness policy", before="; ".join(gone) or "nothing", after="; ".join(fresh) or "nothing", weaker=True
        )
    ages = [policy.limits.max_status_age_s for policy in (before, after)]
    for name in dict.fromkeys([*ages[0], *ages[1]]):
        one, other = ages[0].get(name), ages[1].get(name)
        if one != other:
            texts = ["" if age is None else f"{age:,} s" for age in (one, other)]
            yield Difference(
                what=f"max_status_age_s.{name}", before=texts[0], after=texts[1], weaker=(other or 0) > (one or 0)
            )
    for name in ("clock_tolerance_s", "key_life_s", "key_warning_s"):
        value: tuple[Any, Any] = getattr(before.limits, name), getattr(after.limits, name)
        if value[0] != value[1]:
            yield Difference(what=name, before=f"{value[0]:,} s", after=f"{value[1]:,} s", weaker=value[1] > value[0])


def _by_id(policy: TrustPolicy) -> dict[str, tuple[str, PublicKey]]:
    return {key.keyid: (owner.name, key) for owner in policy.owners.values() for key in owner.keys}


def _key(key: PublicKey) -> str:
    return f"{key.algorithm} {key.keyid[:16]}"


def _retired(old: RetiredKey) -> str:
    if not old.until:
        return f"retired, {old.reason}; nothing that it signed counts"
    return f"retired, {old.reason}; what it signed before entry {old.until:,} of {old.log} can be judged"


def _log(log: LogKeys) -> str:
    keys = ", ".join(key.split("+")[1] if "+" in key else key for key in log.require)
    end = f"frozen at {log.frozen.size:,} entries, {log.frozen.root}" if log.frozen else "active"
    return f"{end}, keys {keys}"


def _groups(groups: Sequence[AlgorithmGroup]) -> str:
    return " + ".join("|".join(sorted(group)) for group in groups)


def _lowered(before: Sequence[AlgorithmGroup], after: Sequence[AlgorithmGroup]) -> bool:
    """Tell whether something that *before* refuses could meet *after*: a group that no group of *after* is within."""
    return any(not any(new <= old for new in after) for old in before)


def _count(role: Role) -> str:
    return f"{role.k} of {', '.join(role.owners)}"


def _whole(role: Role) -> str:
    return f"{_count(role)}, {_groups(role.algorithms)}, signs {', '.join(role.predicates) or 'no statements'}"


def _able_root(wanted: Wanted) -> str:
    return _able(wanted.root_owners, wanted.root_k, wanted.root_algorithms, wanted.trust)


def _able_role(policy: TrustPolicy, name: str) -> str:
    role = policy.roles.get(name)
    return "nobody" if role is None else _able(role.owners, role.k, role.algorithms, policy)


def _able(owners: Sequence[str], k: int, groups: Sequence[AlgorithmGroup], policy: TrustPolicy) -> str:
    """Name those that have the keys a rule asks for: who is named and has none cannot act."""
    able = [
        name for name in owners if all({key.algorithm for key in policy.owners[name].keys} & group for group in groups)
    ]
    return f"{k} of {', '.join(able)}" if able else "nobody"
