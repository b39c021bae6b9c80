# SPDX-License-Identifier: Apache-2.0
"""A workspace that publishes, and a device that follows it: real signatures, real files, one process, no network.

    world = World(tmp_path)
    v1 = world.publish("1")                     # build, approve, publish, assign to everybody
    device = world.enroll()
    world.refresh(device)
    with open_model(device, "digits") as model: ...

What misbehaves is said where it does: ``world.channel`` is a :class:`SimChannel`, which can lie, be away and fork its
ledger, and ``world.clock`` is the device's own clock, which its holder may set.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from chopmark import canonical
from chopmark.adapters.counters.software import NoCounter
from chopmark.adapters.kms import file as kms
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.adapters.runtimes.tiny import TinyRuntime
from chopmark.artifacts import Digest, selftest
from chopmark.channel import BUCKETS, Assignment, RuntimeNeed
from chopmark.channel.publish import Lifetimes, publish_root
from chopmark.device import (
    Counter,
    Device,
    Enrolment,
    FleetClient,
    Loaded,
    Refreshed,
    Refusal,
    enroll,
    open_device,
    open_model,
    refresh,
)
from chopmark.keys import Algorithm, PublicKey, Signer
from chopmark.statements import encode_envelope
from chopmark.telemetry import (
    Answer,
    Enrolled,
    EnrolmentRequest,
    Report,
    Result,
    build_answer,
    decode_report,
    decode_signed_report,
    verify_report,
)
from chopmark.trust import pinned_root
from simulators import NOW, HeldClock, SimChannel, SimTrust

MODEL = "digits"
CHANNEL = "production"
TINY = RuntimeNeed(name="tiny", range=">=1,<2", libraries={})
LIFETIMES = Lifetimes(timestamp=timedelta(days=60), snapshot=timedelta(days=90), channel=timedelta(days=90))


@dataclass
class SimFleet(FleetClient):
    """A service that takes every report in order, and answers with the workspace's verifier key."""

    trust: SimTrust
    reports: list[Report] = field(default_factory=list)
    keys: dict[str, PublicKey] = field(default_factory=dict)
    cut: bool = False
    forged: bool = False
    snapshot: int = 0

    def _enroll(self, request: EnrolmentRequest) -> Enrolled:
        device = f"{request.name}-1"
        self.keys[device] = PublicKey.from_spki(request.spki)
        return Enrolled(device=device, nonce="c0")

    def _report(self, data: bytes) -> bytes:
        if self.cut:
            raise OSError
        signed = decode_signed_report(data)
        device = decode_report(signed.payload).device
        report = verify_report(signed, self.keys[device])
        self.reports.append(report)
        answer = Answer(
            device=device,
            report=signed.digest,
            nonce=report.nonce,
            next_nonce=f"c{len(self.reports)}",
            time=NOW,
            snapshot=self.snapshot,
            tier=1,
            result=Result.ACCEPTED,
        )
        signers: Sequence[Signer] = self.trust.keys("operator" if self.forged else "verifier")
        return encode_envelope(build_answer(answer, signers))


def package(version: str, *, weights: Sequence[Sequence[int]] = ((1, 0), (0, 1))) -> dict[str, bytes]:
    """Return the files of a small package: a linear model, its labels, its self-test vectors."""
    model = canonical.encode(
        {"v": 1, "format": "tiny", "weights": [list(row) for row in weights], "bias": [0] * len(weights)}
    )
    cases = (selftest.Case(inputs=(2, 1), expect=(2_000_000, 1_000_000), label=0),)
    return {
        "labels.json": canonical.encode(["zero", "one", version]),
        "model.tiny": model,
        "self-test.json": selftest.encode_vectors(selftest.Vectors(cases=cases, tolerance=10)),
    }


class World:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.channel = SimChannel(name=CHANNEL, runtime=TINY, lifetimes=LIFETIMES)
        self.trust = self.channel.trust
        self.fleet = SimFleet(self.trust)
        self.clock = HeldClock()
        self.assignments: tuple[Assignment, ...] = ()

    def release(self, version: str, *, files: dict[str, bytes] | None = None, **changes: Any) -> Digest:
        """Build and approve a release; return its hash. Nothing is published yet.

        Args:
            changes: as :meth:`SimChannel.approve`; the counter is the version's number.
        """
        files = package(version) if files is None else files
        return self.channel.approve(files=files, version=version, **{"counter": int(version)} | changes).digest

    def publish(self, release: Digest | str, **changes: Any) -> Digest:
        """Publish *release* (a hash, or a version to make) for everybody, under the newest status."""
        digest = self.release(release, **changes) if isinstance(release, str) else release
        self.assign(digest)
        return digest

    def assign(self, release: Digest, *, model: str = MODEL) -> None:
        """Publish that all devices run *release* as *model*."""
        self.assignments = (Assignment(model=model, runtime=TINY.name, first=0, end=BUCKETS, release=release),)
        self.channel.publish(*self.assignments)

    def republish(self) -> None:
        """Publish again what stands, with the status issued anew."""
        self.channel.issue()
        self.channel.publish(*self.assignments)

    def revoke(self, release: Digest) -> None:
        """Revoke *release*, and publish that."""
        self.channel.revoke(release)
        self.channel.publish(*self.assignments)

    def adopt_root(self, data: bytes, trust: bytes) -> None:
        """Publish a new root and make it the workspace's."""
        self.trust.root = pinned_root(data, Digest.of(data))
        self.trust.trust = trust
        publish_root(self.channel.store, self.trust.root, trust)

    def enroll(self, name: str = "phone", *, counter: Counter | None = None) -> Device:
        """Enrol a device in a new folder."""
        path = self.folder / name
        wish = Enrolment(
            name=name,
            root=self.trust.first,
            pin=self.trust.pin,
            channel=CHANNEL,
            models=(MODEL,),
            channel_url="http://channel.example",
            fleet_url="http://fleet.example",
            token="token",
            runtime="tiny",
        )
        enroll(path, wish, fleet=self.fleet, make_signer=make_signer, counter=counter or NoCounter())
        return self.open(path, counter=counter)

    def open(self, path: Path, *, counter: Counter | None = None) -> Device:
        return open_device(
            path,
            load_signer=kms.load,
            clock=self.clock,
            memory=MemfdMemory(),
            counter=counter or NoCounter(),
            runtimes=lambda _: TinyRuntime(),
        )

    def installed(self, release: Digest | str = "1", *, counter: Counter | None = None) -> Device:
        """Publish *release*, enrol a device, and let it refresh once."""
        self.publish(release)
        device = self.enroll(counter=counter)
        self.refresh(device)
        return device

    def refresh(self, device: Device) -> Refreshed:
        """Refresh, and expect that every model ends verified."""
        done = refresh(device, self.channel)
        assert isinstance(done, Refreshed), done
        for outcome in done.models.values():
            assert outcome.error is None, outcome.error
            assert not isinstance(outcome.verdict, Refusal), outcome.verdict
        return done

    def refused(self, device: Device) -> Refusal:
        """Refresh, and expect a refusal: of the channel, or of the one model."""
        done = refresh(device, self.channel)
        if isinstance(done, Refusal):
            return done
        verdict = done.models[MODEL].verdict
        assert isinstance(verdict, Refusal), done
        return verdict


def make_signer(path: Path) -> Signer:
    return kms.load(path) if path.exists() else kms.create(path, Algorithm.ED25519)


def load(device: Device) -> Loaded:
    """Load the model, and expect that it may be."""
    loaded = open_model(device, MODEL)
    assert isinstance(loaded, Loaded), loaded
    return loaded


def refused_load(device: Device) -> Refusal:
    """Load the model, and expect a refusal."""
    opened = open_model(device, MODEL)
    assert isinstance(opened, Refusal)
    return opened


def runs(device: Device) -> str:
    """Return the version that is loaded, after it has computed what it should."""
    with load(device) as model:
        assert model.run([[2.0, 1.0]]) == [[2.0, 1.0]]
        return model.release.version


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """Let this process write no longer file: for want of a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def queued(device: Device) -> list[Report]:
    """Return the reports in the queue."""
    paths = sorted(device.folder.queue.glob("*.json"))
    return [decode_report(decode_signed_report(path.read_bytes()).payload) for path in paths]
