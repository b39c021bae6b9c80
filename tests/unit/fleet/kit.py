# SPDX-License-Identifier: Apache-2.0
"""A trust policy, a clock that stands, and a device that reports: what the fleet's tests are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from chopmark.adapters.kms import file as kms
from chopmark.artifacts import Digest
from chopmark.clock import PowerOn
from chopmark.keys import HYBRID, Algorithm, Owner, Signer
from chopmark.statements import PredicateType
from chopmark.telemetry import VERIFIED, Purpose, Report, decode_signed_report, sign_report
from chopmark.trust import Limits, LogKeys, Role, TrustPolicy

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
CLASSICAL = (frozenset({Algorithm.ED25519, Algorithm.ECDSA_P256}),)
ORIGIN = "log.acme/m"


@dataclass
class StandingClock:
    """Time that moves when told."""

    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment

    def power_on(self) -> PowerOn:
        return PowerOn(boot_id="test", seconds=0)

    def forward(self, **by: float) -> None:
        self.moment += timedelta(**by)


def hybrid() -> tuple[Signer, Signer]:
    return kms.generate(Algorithm.ED25519), kms.generate(Algorithm.ML_DSA_65)


@dataclass
class Keys:
    """Everybody's keys in the tests' workspace."""

    verifier: Signer = field(default_factory=lambda: kms.generate(Algorithm.ED25519))
    status_host: tuple[Signer, Signer] = field(default_factory=hybrid)
    security_a: tuple[Signer, Signer] = field(default_factory=hybrid)
    security_b: tuple[Signer, Signer] = field(default_factory=hybrid)


def trust_policy(keys: Keys) -> TrustPolicy:
    owners = {
        "verifier": (keys.verifier,),
        "status-host": keys.status_host,
        "security-a": keys.security_a,
        "security-b": keys.security_b,
    }
    return TrustPolicy(
        workspace="acme",
        version=1,
        owners={name: Owner(name=name, keys=tuple(s.public for s in signers)) for name, signers in owners.items()},
        roles={
            role.name: role
            for role in (
                Role(
                    name="verifier",
                    owners=("verifier",),
                    k=1,
                    algorithms=CLASSICAL,
                    predicates=(PredicateType.APPRAISAL,),
                    subjects=("device/*",),
                ),
                Role(
                    name="security",
                    owners=("security-a", "security-b"),
                    k=2,
                    algorithms=HYBRID,
                    predicates=(PredicateType.REVOCATION, PredicateType.HOLD),
                    subjects=("*",),
                ),
                Role(name="status", owners=("status-host",), k=1, algorithms=HYBRID, predicates=(), subjects=("*",)),
            )
        },
        logs=(LogKeys(origin=ORIGIN, require=("vkey",), state="active"),),
        witness_policy="",
        limits=Limits(max_status_age_s={"normal": 604_800, "critical": 86_400}, clock_tolerance_s=300),
    )


def a_report(**changes: object) -> Report:
    first = Report(
        device="device-1",
        seq=1,
        prev=None,
        time=NOW,
        purpose=Purpose.LOAD,
        nonce="n1",
        model="digits",
        slot="A",
        release=Digest.of(b"release"),
        running=Digest.of(b"release"),
        verdict=VERIFIED,
        step=18,
        message="",
        tier=1,
        log=None,
        gen=1,
    )
    return replace(first, **changes)  # type: ignore[arg-type]


class SimDevice:
    """A device that signs reports and keeps its chain; it never looks at files."""

    def __init__(self, device: str, nonce: str, signer: Signer) -> None:
        self.device, self.nonce, self.signer = device, nonce, signer
        self.seq, self.head = 0, None

    def report(self, **changes: object) -> bytes:
        """Return the next report, and move the chain on."""
        report = a_report(
            **{"device": self.device, "seq": self.seq + 1, "prev": self.head, "nonce": self.nonce} | changes
        )
        data = sign_report(report, self.signer)
        self.seq, self.head = report.seq, decode_signed_report(data).digest
        return data
