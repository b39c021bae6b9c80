# SPDX-License-Identifier: Apache-2.0
"""A workspace that publishes, and a device that follows it: real signatures, real files, one process, no network.

    world = World(tmp_path)
    v1 = world.publish("1")                     # build, approve, publish, assign to everybody
    device = world.enroll()
    world.refresh(device)
    with open_model(device, "digits") as model: ...

What misbehaves is said where it does: ``world.channel.files`` is what the server serves, ``world.log`` can fork, and
``world.clock`` is the device's own clock, which its holder may set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from chopmark import canonical
from chopmark.adapters.counters.software import NoCounter
from chopmark.adapters.kms import file as kms
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.adapters.runtimes.tiny import TinyRuntime
from chopmark.artifacts import Digest, Manifest, hash_bytes, selftest
from chopmark.channel import (
    Assignment,
    Fetcher,
    MissingError,
    Release,
    RuntimeNeed,
    Status,
    StatusEntry,
    release_statement,
)
from chopmark.channel.publish import Lifetimes, Publisher, Shipment, publish_root
from chopmark.channel.status import build_status
from chopmark.clock import PowerOn
from chopmark.device import (
    Counter,
    Device,
    Enrolled,
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
from chopmark.errors import DecodeError, UndecidedError
from chopmark.keys import Algorithm, PublicKey, Signer
from chopmark.statements import encode_envelope, sign
from chopmark.telemetry import (
    Answer,
    Report,
    Result,
    build_answer,
    decode_report,
    decode_signed_report,
    verify_report,
)
from chopmark.trust import pinned_root
from simulators.log import SimLog
from simulators.store import MemoryChannel
from simulators.trust import NOW, SimTrust

MODEL = "digits"
CHANNEL = "production"
ZERO = Digest.of(b"")


@dataclass
class HeldClock:
    """A device's clocks: the one its holder may set, and the time it was on, which nobody sets."""

    moment: datetime = NOW
    boot_id: str = "boot-1"
    on_s: int = 100

    def now(self) -> datetime:
        return self.moment

    def power_on(self) -> PowerOn:
        return PowerOn(boot_id=self.boot_id, seconds=self.on_s)

    def pass_time(self, **by: float) -> None:
        """Let real time pass: both clocks move."""
        self.moment += timedelta(**by)
        self.on_s += int(timedelta(**by).total_seconds())


class SimFetcher(Fetcher):
    """Serves a channel from memory; counts what is asked, and can be cut off."""

    def __init__(self, channel: MemoryChannel) -> None:
        self.channel = channel
        self.cut = False
        self.asked: list[str] = []

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        self.asked.append(path)
        if self.cut:
            raise UndecidedError("cut off", code="unreachable")
        data = self.channel.get(path)
        if data is None:
            raise MissingError(path)
        if len(data) > max_bytes:
            raise DecodeError(f"{path}: too long")
        return data


@dataclass
class SimFleet(FleetClient):
    """A service that takes every report in order, and answers with the workspace's verifier key."""

    trust: SimTrust
    reports: list[Report] = field(default_factory=list)
    keys: dict[str, PublicKey] = field(default_factory=dict)
    cut: bool = False
    forged: bool = False
    snapshot: int = 0

    def _enroll(self, token: str, key: PublicKey, name: str) -> Enrolled:
        self.keys[f"{name}-1"] = key
        return Enrolled(device=f"{name}-1", nonce="c0")

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

    def __init__(self, folder: Path, **trust: object) -> None:
        self.folder = folder
        self.log = SimLog()
        self.trust = SimTrust(log=self.log, **trust)  # type: ignore[arg-type]
        self.channel = MemoryChannel()
        self.fetcher = SimFetcher(self.channel)
        self.fleet = SimFleet(self.trust)
        self.clock = HeldClock()
        self.issued = NOW
        self.status = Status(version=0, issued=NOW, revoked=(), min_epoch={}, holds=())
        self.targets = self.trust.targets
        self.releases: dict[Digest, Shipment] = {}
        publish_root(self.channel, self.trust.root, self.trust.trust)

    def release(
        self,
        version: str,
        *,
        files: dict[str, bytes] | None = None,
        approvers: tuple[str, ...] = ("owner-a", "owner-b"),
        alter: Callable[[Release], Release] = lambda release: release,
        **changes: object,
    ) -> Digest:
        """Build and approve a release; return its hash. Nothing is published yet."""
        files = package(version) if files is None else files
        manifest = Manifest(files=tuple(hash_bytes(name, files[name]) for name in sorted(files)))
        first = Release(
            digest=ZERO,
            workspace="acme",
            model=MODEL,
            version=version,
            channels=(CHANNEL,),
            counter=int(version),
            epoch=1,
            manifest=manifest.digest,
            manifest_length=len(manifest.encode()),
            fallbacks=(),
            runtime=RuntimeNeed(name="tiny", range=">=1,<2", libraries={}),
            abi="any",
            min_app="0",
            min_tier=1,
            check_class="normal",
            self_test=Digest.of(files.get("self-test.json", b"")),
            vsa=ZERO,
            evidence=(),
        )
        made = alter(replace(first, **changes))  # type: ignore[arg-type]
        envelope = sign(release_statement(made), self.trust.keys(*approvers))
        self.releases[envelope.digest] = Shipment(
            release=envelope.digest, envelope=encode_envelope(envelope), manifest=manifest, files=files
        )
        return envelope.digest

    def publish(self, release: Digest | str, **changes: object) -> Digest:
        """Publish *release* (a hash, or a version to make) for everybody, under the newest status."""
        digest = self.release(release, **changes) if isinstance(release, str) else release
        self.assign((Assignment(model=MODEL, runtime="tiny", first=0, end=10_000, release=digest),))
        return digest

    def assign(self, assignments: tuple[Assignment, ...]) -> None:
        self.assignments = assignments
        self.republish()

    def republish(self) -> None:
        """Publish again what stands, with the status issued anew at the device's time."""
        self.status = replace(self.status, version=self.status.version + 1, issued=self.issued)
        limits = self.trust.policy.limits
        publisher = Publisher(
            store=self.channel,
            root=self.trust.root,
            channel=CHANNEL,
            signers=self.trust.keys("operator"),
            prove=self.log.prove,
            lifetimes=Lifetimes(timestamp=timedelta(days=60), snapshot=timedelta(days=90), channel=timedelta(days=90)),
        )
        publisher.publish(
            assignments=self.assignments,
            shipments=[self.releases[release] for release in dict.fromkeys(a.release for a in self.assignments)],
            targets=self.targets,
            status=build_status(
                self.status, max_age_s=limits.largest_status_age_s, signers=self.trust.keys("status-host")
            ),
            now=self.issued,
        )

    def revoke(self, release: Digest, reason: str = "backdoor") -> None:
        entry = StatusEntry(kind="release", digest=release, reason=reason, since=self.issued)
        self.status = replace(self.status, revoked=(*self.status.revoked, entry))
        self.republish()

    def adopt_root(self, data: bytes, trust: bytes) -> None:
        """Publish a new root and make it the workspace's."""
        self.trust.root = pinned_root(data, Digest.of(data))
        self.trust.trust = trust
        publish_root(self.channel, self.trust.root, trust)

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
        done = refresh(device, self.fetcher)
        assert isinstance(done, Refreshed), done
        for outcome in done.models.values():
            assert outcome.error is None, outcome.error
            assert not isinstance(outcome.verdict, Refusal), outcome.verdict
        return done

    def refused(self, device: Device) -> Refusal:
        """Refresh, and expect a refusal: of the channel, or of the one model."""
        done = refresh(device, self.fetcher)
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


def queued(device: Device) -> list[Report]:
    """Return the reports in the queue."""
    paths = sorted(device.folder.queue.glob("*.json"))
    return [decode_report(decode_signed_report(path.read_bytes()).payload) for path in paths]
