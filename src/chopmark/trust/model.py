# SPDX-License-Identifier: Apache-2.0
"""trust.json as types: owners, roles, log and witness policy, limits. Root names it by hash; nobody signs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from chopmark.errors import VerificationError
from chopmark.keys import AlgorithmGroup, Owner, OwnerRule


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
class LogKeys:
    """One ledger that publications may stand in.

    Attributes:
        origin: its name in checkpoints.
        require: verifier keys (C2SP vkeys); every one of them must have signed a checkpoint.
        state: ``active``, or ``frozen`` when no publication may be newer.
    """

    origin: str
    require: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old things may be: seconds, by check class."""

    max_status_age_s: Mapping[str, int]
    clock_tolerance_s: int

    @property
    def largest_status_age_s(self) -> int:
        return max(self.max_status_age_s.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """What trust.json says. It governs because root.json names its hash."""

    workspace: str
    version: int
    owners: Mapping[str, Owner]
    roles: Mapping[str, Role]
    logs: tuple[LogKeys, ...]
    witness_policy: str
    limits: Limits

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
