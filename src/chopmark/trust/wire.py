# SPDX-License-Identifier: Apache-2.0
"""trust.json bytes <-> :class:`TrustPolicy`, strictly."""

from __future__ import annotations

from typing import Any

from chopmark import canonical
from chopmark.errors import DecodeError
from chopmark.keys import Algorithm, Owner, PublicKey
from chopmark.trust.model import Limits, LogKeys, Role, TrustPolicy

MAX_TRUST_BYTES = 1024 * 1024
MAX_LIMIT_S = 10 * 366 * 86_400
"""Ten years: a longer limit limits nothing, and overflows what counts time."""


class _Key(canonical.Strict, frozen=True, kw_only=True):
    keyid: str
    algorithm: Algorithm
    public: str


class _Role(canonical.Strict, frozen=True, kw_only=True):
    owners: list[str]
    k: int
    algorithms: list[list[Algorithm]]
    predicates: list[str]
    subjects: list[str]
    channels: list[str]


class _Log(canonical.Strict, frozen=True, kw_only=True):
    origin: str
    require: list[str]
    state: str


class _Limits(canonical.Strict, frozen=True, kw_only=True):
    max_status_age_s: dict[str, int]
    clock_tolerance_s: int


class _Evidence(canonical.Strict, frozen=True, kw_only=True):
    roots: list[Any]
    reference_values: list[Any]


class _Trust(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    version: int
    owners: dict[str, list[_Key]]
    roles: dict[str, _Role]
    logs: list[_Log]
    witness_policy: str
    limits: _Limits
    evidence: _Evidence


def encode_trust(trust: TrustPolicy) -> bytes:
    """Return the RFC 8785 bytes of trust.json."""
    return canonical.encode(
        {
            "v": 1,
            "workspace": trust.workspace,
            "version": trust.version,
            "owners": {
                owner.name: [
                    {"keyid": k.keyid, "algorithm": str(k.algorithm), "public": canonical.encode_base64(k.spki)}
                    for k in owner.keys
                ]
                for owner in trust.owners.values()
            },
            "roles": {
                role.name: {
                    "owners": list(role.owners),
                    "k": role.k,
                    "algorithms": [sorted(str(a) for a in group) for group in role.algorithms],
                    "predicates": list(role.predicates),
                    "subjects": list(role.subjects),
                    "channels": list(role.channels),
                }
                for role in trust.roles.values()
            },
            "logs": [{"origin": log.origin, "require": list(log.require), "state": log.state} for log in trust.logs],
            "witness_policy": trust.witness_policy,
            "limits": {
                "max_status_age_s": dict(trust.limits.max_status_age_s),
                "clock_tolerance_s": trust.limits.clock_tolerance_s,
            },
            "evidence": {"roots": [], "reference_values": []},
        }
    )


def decode_trust(data: bytes) -> TrustPolicy:
    """Read trust.json.

    Raises:
        DecodeError: an unknown member, a role whose owners, threshold or algorithms can never be met, a key id that is
            not its key's, a key of two owners.
    """
    wire = canonical.decode_as(data, _Trust, what="trust.json", max_bytes=MAX_TRUST_BYTES)
    canonical.decode_name(wire.workspace, what="trust.json: workspace")
    owners = {name: _owner(name, keys) for name, keys in wire.owners.items()}
    roles = {name: _role(name, role, owners) for name, role in wire.roles.items()}
    keyids = [key.keyid for owner in owners.values() for key in owner.keys]
    if len(keyids) != len(set(keyids)):
        raise DecodeError("trust.json: one key stands twice; a key has one owner")
    if wire.evidence.roots or wire.evidence.reference_values:
        raise DecodeError("trust.json: evidence roots and reference values are not known here yet")
    ages = wire.limits.max_status_age_s
    if wire.v != 1 or wire.version < 1:
        raise DecodeError("trust.json: unknown version")
    if not ages or not all(0 < age <= MAX_LIMIT_S for age in ages.values()):
        raise DecodeError("trust.json: max_status_age_s is above zero and at most ten years")
    if not 0 <= wire.limits.clock_tolerance_s <= MAX_LIMIT_S:
        raise DecodeError("trust.json: clock_tolerance_s is below zero or beyond ten years")
    origins = [log.origin for log in wire.logs]
    if len(set(origins)) != len(origins) or any(origin.startswith("x-") for origin in origins):
        raise DecodeError("trust.json: a log stands twice, or has a name that no reader keeps")
    if any(log.state not in {"active", "frozen"} or not log.require for log in wire.logs):
        raise DecodeError("trust.json: a log needs required keys, and is active or frozen")
    return TrustPolicy(
        workspace=wire.workspace,
        version=wire.version,
        owners=owners,
        roles=roles,
        logs=tuple(LogKeys(origin=x.origin, require=tuple(x.require), state=x.state) for x in wire.logs),
        witness_policy=wire.witness_policy,
        limits=Limits(max_status_age_s=ages, clock_tolerance_s=wire.limits.clock_tolerance_s),
    )


def _owner(name: str, keys: list[_Key]) -> Owner:
    canonical.decode_name(name, what="trust.json: owner")
    found = []
    for key in keys:
        public = PublicKey.from_spki(canonical.decode_base64(key.public, what=f"trust.json: key of {name}"))
        if public.keyid != key.keyid or public.algorithm is not key.algorithm:
            raise DecodeError(f"trust.json: key {key.keyid[:16]!r} of {name} is another key than it says")
        found.append(public)
    return Owner(name=name, keys=tuple(found))


def _role(name: str, role: _Role, owners: dict[str, Owner]) -> Role:
    canonical.decode_name(name, what="trust.json: role")
    unknown = [owner for owner in role.owners if owner not in owners]
    if unknown or len(set(role.owners)) != len(role.owners):
        raise DecodeError(f"trust.json: role {name} names an unknown owner, or one twice")
    able = [owner for owner in role.owners if _can_meet(owners[owner], role.algorithms)]
    if not 1 <= role.k <= len(able) or not role.algorithms or not all(role.algorithms):
        raise DecodeError(f"trust.json: role {name} can never be met, or by nobody")
    return Role(
        name=name,
        owners=tuple(role.owners),
        k=role.k,
        algorithms=tuple(frozenset(group) for group in role.algorithms),
        predicates=tuple(role.predicates),
        subjects=tuple(role.subjects),
        channels=tuple(role.channels),
    )


def _can_meet(owner: Owner, groups: list[list[Algorithm]]) -> bool:
    has = {key.algorithm for key in owner.keys}
    return all(has & set(group) for group in groups)
