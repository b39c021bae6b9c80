# SPDX-License-Identifier: Apache-2.0
"""A trust policy, a clock that stands, and a device that reports: what the fleet's tests are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from chopmark.adapters.alerts.memory import MemorySink
from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import fleet as sql_fleet
from chopmark.adapters.sql.fleet import SqliteFleet
from chopmark.artifacts import Digest
from chopmark.fleet import AlertSink, Device, Fleet
from chopmark.keys import HYBRID, Algorithm, Owner, Signer
from chopmark.statements import PredicateType, decode_envelope
from chopmark.telemetry import (
    VERIFIED,
    Answer,
    EnrolmentRequest,
    Purpose,
    Report,
    decode_report,
    decode_signed_report,
    sign_report,
    verify_answer,
)
from chopmark.trust import Limits, LogKeys, Role, TrustPolicy
from simulators import NOW, StandingClock

CLASSICAL = (frozenset({Algorithm.ED25519, Algorithm.ECDSA_P256}),)
ORIGIN = "log.acme/m"


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
        logs=(LogKeys(origin=ORIGIN, require=("vkey",)),),
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


TOKEN = "an-enrolment-token-of-some-length"


class SimLedger:
    """The organisation's ledger: some roots at some sizes."""

    def __init__(self, roots: dict[int, bytes]) -> None:
        self.roots = roots

    def root_at(self, origin: str, size: int) -> bytes | None:
        return self.roots.get(size) if origin == ORIGIN else None


class BrokenSink(AlertSink):
    def _send(self, finding):
        raise OSError


@dataclass
class World:
    """A fleet with everything it needs."""

    fleet: Fleet
    keys: Keys
    trust: TrustPolicy
    clock: StandingClock
    sink: MemorySink
    store: SqliteFleet

    def enroll(self, name: str = "phone") -> SimDevice:
        signer = kms.generate(Algorithm.ED25519)
        made = self.fleet.enroll(EnrolmentRequest(token=TOKEN, spki=signer.public.spki, name=name))
        return SimDevice(made.device, made.nonce, signer)

    def deliver(self, device: SimDevice, data: bytes) -> Answer:
        """Send a report; the device verifies the answer and takes its next challenge from it."""
        signed = decode_signed_report(data)
        nonce = decode_report(signed.payload).nonce
        answer = verify_answer(decode_envelope(self.fleet.report(data)), self.trust, signed.digest, nonce=nonce)
        device.nonce = answer.next_nonce
        return answer

    def say(self, device: SimDevice, **changes: object) -> Answer:
        return self.deliver(device, device.report(**{"time": self.clock.now()} | changes))

    def device(self, device: SimDevice) -> Device:
        found = self.store.device(device.device)
        assert found is not None
        return found


def world(folder: Path, *, ledger: SimLedger | None = None, sink: AlertSink | None = None) -> World:
    keys, clock, memory = Keys(), StandingClock(), MemorySink()
    trust = trust_policy(keys)
    store = sql_fleet.create(folder / "fleet.db")
    fleet = Fleet(
        workspace="acme",
        store=store,
        alerts=sink or memory,
        verifier=[keys.verifier],
        token=TOKEN.encode,
        clock=clock,
        tolerance=timedelta(seconds=300),
        ledger=ledger,
        snapshot=lambda: 7,
        product_version="0.1.0",
    )
    return World(fleet=fleet, keys=keys, trust=trust, clock=clock, sink=memory, store=store)
