# SPDX-License-Identifier: Apache-2.0
"""trust.json bytes <-> :class:`TrustPolicy`, strictly."""

from __future__ import annotations

from typing import Any

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.clock import format_time, parse_time
from chopmark.errors import DecodeError
from chopmark.keys import Algorithm, Owner, PublicKey
from chopmark.trust.model import Frozen, Limits, LogKeys, RetiredFor, RetiredKey, Role, TrustPolicy

MAX_TRUST_BYTES = 1024 * 1024
MAX_LIMIT_S = 10 * 366 * 86_400
"""Ten years: a longer limit limits nothing, and overflows what counts time."""


class _Key(canonical.Strict, frozen=True, kw_only=True):
    keyid: str
    algorithm: Algorithm
    public: str
    expires: str | None


class _Retired(canonical.Strict, frozen=True, kw_only=True):
    keyid: str
    algorithm: Algorithm
    public: str
    owner: str
    reason: RetiredFor
    log: str
    until: int


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
    frozen: _Frozen | None


class _Frozen(canonical.Strict, frozen=True, kw_only=True):
    size: int
    root: str


class _Limits(canonical.Strict, frozen=True, kw_only=True):
    max_status_age_s: dict[str, int]
    clock_tolerance_s: int
    key_life_s: int
    key_warning_s: int


class _Evidence(canonical.Strict, frozen=True, kw_only=True):
    roots: list[Any]
    reference_values: list[Any]


class _Trust(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    version: int
    owners: dict[str, list[_Key]]
    retired: list[_Retired]
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
                owner.name: [_key_json(k) | {"expires": _expiry(trust, k)} for k in owner.keys]
                for owner in trust.owners.values()
            },
            "retired": [
                _key_json(old.key) | {"owner": old.owner, "reason": str(old.reason), "log": old.log, "until": old.until}
                for old in trust.retired
            ],
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
            "logs": [
                {"origin": log.origin, "require": list(log.require), "frozen": _frozen_json(log.frozen)}
                for log in trust.logs
            ],
            "witness_policy": trust.witness_policy,
            "limits": {
                "max_status_age_s": dict(trust.limits.max_status_age_s),
                "clock_tolerance_s": trust.limits.clock_tolerance_s,
                "key_life_s": trust.limits.key_life_s,
                "key_warning_s": trust.limits.key_warning_s,
            },
            "evidence": {"roots": [], "reference_values": []},
        }
    )


def _key_json(key: PublicKey) -> dict[str, object]:
    return {"keyid": key.keyid, "algorithm": str(key.algorithm), "public": canonical.encode_base64(key.spki)}


def _expiry(trust: TrustPolicy, key: PublicKey) -> str | None:
    moment = trust.key_expiry.get(key.keyid)
    return None if moment is None else format_time(moment)


def _frozen_json(frozen: Frozen | None) -> dict[str, object] | None:
    return None if frozen is None else {"size": frozen.size, "root": str(frozen.root)}


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
    retired = tuple(_retired(old) for old in wire.retired)
    keyids = [key.keyid for owner in owners.values() for key in owner.keys] + [old.key.keyid for old in retired]
    if len(keyids) != len(set(keyids)):
        raise DecodeError("trust.json: one key stands twice; a key has one owner, and is current or retired")
    if wire.evidence.roots or wire.evidence.reference_values:
        raise DecodeError("trust.json: evidence roots and reference values are not known here yet")
    ages = wire.limits.max_status_age_s
    if wire.v != 1 or wire.version < 1:
        raise DecodeError("trust.json: unknown version")
    if not ages or not all(0 < age <= MAX_LIMIT_S for age in ages.values()):
        raise DecodeError("trust.json: max_status_age_s is above zero and at most ten years")
    if not 0 <= wire.limits.clock_tolerance_s <= MAX_LIMIT_S:
        raise DecodeError("trust.json: clock_tolerance_s is below zero or beyond ten years")
    if not 0 < wire.limits.key_warning_s < wire.limits.key_life_s <= MAX_LIMIT_S:
        raise DecodeError("trust.json: key_warning_s is above zero and below key_life_s, that at most ten years")
    origins = [log.origin for log in wire.logs]
    if len(set(origins)) != len(origins) or any(origin.startswith("x-") for origin in origins):
        raise DecodeError("trust.json: a log stands twice, or has a name that no reader keeps")
    if any(not log.require or (log.frozen is not None and log.frozen.size < 1) for log in wire.logs):
        raise DecodeError("trust.json: a log needs required keys, and a frozen one a size")
    return TrustPolicy(
        workspace=wire.workspace,
        version=wire.version,
        owners=owners,
        roles=roles,
        logs=tuple(_log(log) for log in wire.logs),
        witness_policy=wire.witness_policy,
        limits=Limits(
            max_status_age_s=ages,
            clock_tolerance_s=wire.limits.clock_tolerance_s,
            key_life_s=wire.limits.key_life_s,
            key_warning_s=wire.limits.key_warning_s,
        ),
        key_expiry={
            key.keyid: parse_time(key.expires, what="trust.json: expires")
            for keys in wire.owners.values()
            for key in keys
            if key.expires is not None
        },
        retired=retired,
    )


def _log(log: _Log) -> LogKeys:
    frozen = None if log.frozen is None else Frozen(size=log.frozen.size, root=Digest.parse(log.frozen.root))
    return LogKeys(origin=log.origin, require=tuple(log.require), frozen=frozen)


def _owner(name: str, keys: list[_Key]) -> Owner:
    canonical.decode_name(name, what="trust.json: owner")
    return Owner(name=name, keys=tuple(_public(key, name) for key in keys))


def _retired(old: _Retired) -> RetiredKey:
    canonical.decode_name(old.owner, what="trust.json: owner")
    if old.until < 0:
        raise DecodeError("trust.json: a retired key counts until an index, 0 or above")
    return RetiredKey(key=_public(old, old.owner), owner=old.owner, reason=old.reason, log=old.log, until=old.until)


def _public(key: _Key | _Retired, owner: str) -> PublicKey:
    public = PublicKey.from_spki(canonical.decode_base64(key.public, what=f"trust.json: key of {owner}"))
    if public.keyid != key.keyid or public.algorithm is not key.algorithm:
        raise DecodeError(f"trust.json: key {key.keyid[:16]!r} of {owner} is another key than it says")
    return public


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
