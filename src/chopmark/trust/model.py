# SPDX-License-Identifier: Apache-2.0
"""trust.json as types: owners, roles, log and witness policy, limits. Root names it by hash; nobody signs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from chopmark.artifacts import Digest
from chopmark.errors import VerificationError
from chopmark.keys import AlgorithmGroup, Owner, OwnerRule, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Which owners, how many, with which algorithms, may say what about which subjects.

    Attributes:
        owners: names of owners, in order.
        k: how many distinct owners are needed; at least 1.
        algorithms: groups that each owner must sign with, all of them.
        predicates: predicate types the role may sign.
        subjects: globs over the name of a statement's first subject.
        channels: globs over channel names; matters for approvers.
    """

    name: str
    owners: tuple[str, ...]
    k: int
    algorithms: tuple[AlgorithmGroup, ...]
    predicates: tuple[str, ...]
    subjects: tuple[str, ...]
    channels: tuple[str, ...] = ("*",)

    def allows(self, predicate_type: str, subject: str) -> bool:
        """Tell whether this role may say *predicate_type* about *subject*."""
        return predicate_type in self.predicates and any(fnmatchcase(subject, glob) for glob in self.subjects)

    def serves(self, channel: str) -> bool:
        """Tell whether this role may approve for *channel*."""
        return any(fnmatchcase(channel, glob) for glob in self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Where a ledger ended: nothing that stands beyond it, and no other tree of that size, is this ledger's."""

    size: int
    root: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """One ledger that publications may stand in.

    Attributes:
        origin: its name in checkpoints.
        require: verifier keys (C2SP vkeys); every one of them must have signed a checkpoint.
        frozen: where it ended; None while it is active.
    """

    origin: str
    require: tuple[str, ...]
    frozen: Frozen | None = None

    @property
    def active(self) -> bool:
        return self.frozen is None


class RetiredFor(StrEnum):
    """Why a key is used no more."""

    SUPERSEDED = "superseded"
    COMPROMISED = "compromised"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredKey:
    """A key that nobody may sign with any more, kept so that what it signed before can be judged.

    Attributes:
        owner: whose it was.
        log: origin of the ledger that *until* counts in.
        until: entries with a lower index were signed while the key was its owner's alone; 0 where nobody knows.
    """

    key: PublicKey
    owner: str
    reason: RetiredFor
    log: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old things may be, in seconds.

    Attributes:
        max_status_age_s: by check class.
        key_life_s: how long a key is used before it is rotated; what `keys new` and `keys rotate` give a key.
        key_warning_s: how long before that everybody is told; the time in which old and new key overlap.
    """

    max_status_age_s: Mapping[str, int]
    clock_tolerance_s: int
    key_life_s: int = 365 * 86_400
    key_warning_s: int = 30 * 86_400

    @property
    def largest_status_age_s(self) -> int:
        return max(self.max_status_age_s.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """What trust.json says. It governs because root.json names its hash.

    Attributes:
        owners: with their current keys; a device knows no others.
        key_expiry: key id -> when it expires. Signers and gates refuse an expired key, devices do not look at it: they
            have no clock to be trusted with that, and a release must not stop because a calendar does (ADR 0019).
        retired: keys of before.
    """

    workspace: str
    version: int
    owners: Mapping[str, Owner]
    roles: Mapping[str, Role]
    logs: tuple[LogKeys, ...]
    witness_policy: str
    limits: Limits
    key_expiry: Mapping[str, datetime] = field(default_factory=dict)
    retired: tuple[RetiredKey, ...] = ()

    @property
    def active_log(self) -> LogKeys:
        """The ledger that is appended to.

        Raises:
            VerificationError: every ledger is frozen.
        """
        for log in self.logs:
            if log.active:
                return log
        raise VerificationError("trust.json names no active ledger", code="no-ledger")

    def role(self, name: str) -> Role:
        """Return the role *name*.

        Raises:
            VerificationError: trust.json has no such role, so nobody can hold it.
        """
        if name not in self.roles:
            raise VerificationError(f"trust.json has no role {name!r}", code="role-unknown")
        return self.roles[name]

    def rule(self, name: str) -> OwnerRule:
        """Return whom to count for the role *name*."""
        role = self.role(name)
        return OwnerRule(
            owners=tuple(self.owners[owner] for owner in role.owners), k=role.k, algorithms=role.algorithms
        )
