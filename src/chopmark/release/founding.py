# SPDX-License-Identifier: Apache-2.0
"""How a workspace begins: who holds which role, and the first root, trust and targets. Pure.

``chopmark init`` makes every key on one machine, which is right for a laptop and wrong for a bank: there the owners make
their keys where they live and only public halves travel. The roles and thresholds are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chopmark.artifacts import Digest
from chopmark.channel.publish import build_targets
from chopmark.keys import HYBRID, Algorithm, AlgorithmGroup, Owner, OwnerRule, PublicKey, Signer
from chopmark.statements import PredicateType
from chopmark.trust import (
    Limits,
    LogKeys,
    Role,
    TrustedRoot,
    TrustFile,
    TrustPolicy,
    build_root,
    encode_trust,
    pinned_root,
    sign_metadata,
)

CLASSICAL: Final[tuple[AlgorithmGroup, ...]] = (frozenset({Algorithm.ED25519, Algorithm.ECDSA_P256}),)
ROOT_OWNERS: Final = ("owner-a", "owner-b", "owner-c")
SECURITY_OWNERS: Final = ("security-a", "security-b")
GIT_SIGNERS: Final = ("maintainer", "operator")
HOLDERS: Final[Mapping[str, str]] = {"adopter": "data-owner"}
"""Machine roles that have no owner of their own: who answers for data from outside answers for models from outside."""
DAY_S: Final = 86_400

_BOTH = (Algorithm.ED25519, Algorithm.ML_DSA_65)
_ONE = (Algorithm.ED25519,)

OWNERS: Final[Mapping[str, tuple[Algorithm, ...]]] = {
    **dict.fromkeys((*ROOT_OWNERS, *SECURITY_OWNERS, "status-host"), _BOTH),
    **dict.fromkeys(
        ("data-owner", "builder", "tester", "inspector", "gate", "verifier", "operator", "maintainer"), _ONE
    ),
    "packager": (Algorithm.ECDSA_P256,),
}
"""Owner -> the algorithms it needs a key of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """The first files of trust, signed."""

    root: TrustedRoot
    trust: bytes
    targets: bytes


def default_trust(
    name: str,
    *,
    owners: Mapping[str, Sequence[PublicKey]],
    logs: tuple[LogKeys, ...],
    witness_policy: str,
    made: datetime | None = None,
) -> TrustPolicy:
    """Return version 1 of trust.json: two of three approvers, hybrid; one key for each machine role.

    Args:
        made: when the keys were made: each expires ``key_life_s`` after that. None for keys that never do.
    """
    any_model = ("model/*",)
    machine = {
        "data-owner": ((PredicateType.DATASET,), ("data/*",)),
        "adopter": ((PredicateType.ADOPTION,), any_model),
        "builder": ((PredicateType.PROVENANCE,), any_model),
        "tester": ((PredicateType.TEST_RESULT,), any_model),
        "inspector": ((PredicateType.INSPECTION, PredicateType.SBOM), any_model),
        "packager": ((PredicateType.OMS,), any_model),
        "gate": ((PredicateType.VSA,), any_model),
        "verifier": ((PredicateType.APPRAISAL,), ("device/*",)),
    }
    roles = {
        role: Role(
            name=role,
            owners=(HOLDERS.get(role, role),),
            k=1,
            algorithms=CLASSICAL,
            predicates=tuple(map(str, predicates)),
            subjects=subjects,
        )
        for role, (predicates, subjects) in machine.items()
    }
    for role in (
        _people("approver", ROOT_OWNERS, (PredicateType.RELEASE,)),
        _people("security", SECURITY_OWNERS, (PredicateType.REVOCATION, PredicateType.HOLD)),
        Role(name="status", owners=("status-host",), k=1, algorithms=HYBRID, predicates=(), subjects=()),
        Role(name="git", owners=GIT_SIGNERS, k=1, algorithms=CLASSICAL, predicates=(), subjects=()),
    ):
        roles[role.name] = role
    limits = Limits(max_status_age_s={"critical": DAY_S, "normal": 7 * DAY_S, "low": 90 * DAY_S}, clock_tolerance_s=300)
    until = None if made is None else made + timedelta(seconds=limits.key_life_s)
    return TrustPolicy(
        workspace=name,
        version=1,
        owners={owner: Owner(name=owner, keys=tuple(keys)) for owner, keys in owners.items()},
        roles=roles,
        logs=logs,
        witness_policy=witness_policy,
        limits=limits,
        key_expiry={} if until is None else {key.keyid: until for keys in owners.values() for key in keys},
    )


def _people(role: str, owners: tuple[str, ...], predicates: tuple[PredicateType, ...]) -> Role:
    return Role(
        name=role, owners=owners, k=2, algorithms=HYBRID, predicates=tuple(map(str, predicates)), subjects=("model/*",)
    )


def found(trust: TrustPolicy, *, channels: Sequence[str], root_signers: Sequence[Signer], now: datetime) -> Founding:
    """Return the first root, trust and targets, signed by the root owners' keys.

    Args:
        root_signers: all keys of at least k root owners.
    """
    encoded = encode_trust(trust)
    operator = trust.owners["operator"].keys
    rule = OwnerRule(owners=tuple(trust.owners[name] for name in ROOT_OWNERS), k=2, algorithms=HYBRID)
    root = build_root(
        workspace=trust.workspace,
        version=1,
        expires=now + timedelta(days=365),
        rule=rule,
        operator=operator,
        trust=TrustFile(version=1, length=len(encoded), sha256=Digest.of(encoded)),
    )
    sign_metadata(root, root_signers)
    data = root.to_bytes()
    targets = build_targets(
        version=1,
        expires=now + timedelta(days=365),
        channels=dict.fromkeys(channels, operator),
        status=trust.rule("status"),
    )
    sign_metadata(targets, root_signers)
    return Founding(root=pinned_root(data, Digest.of(data)), trust=encoded, targets=targets.to_bytes())
