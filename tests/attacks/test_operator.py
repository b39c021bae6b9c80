# SPDX-License-Identifier: Apache-2.0
"""Attacks on the operator: lying hosts, wrong clocks, two at once, a witness that is away. The channel stays one that
devices follow, and what was withdrawn stays withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from chopmark.artifacts import BlobStore, Digest, Manifest, hash_bytes
from chopmark.channel import Fetcher, MissingError, RuntimeNeed
from chopmark.channel.publish import Lifetimes, Publisher, publish_root
from chopmark.channel.status import StatusHost, build_status, revocation
from chopmark.errors import MovedError, Refused, UndecidedError, VerificationError
from chopmark.release import Draft, withdraw
from chopmark.release.reconcile import Operator, read_operator_status
from chopmark.statements import encode_envelope, sign
from simulators import SimFollower, SimTrust
from simulators.clock import NOW, StandingClock
from simulators.store import MemoryChannel
from unit.release.kit import Shop

ANYTHING = b"""\
kind: ReleasePolicy
metadata: {name: default}
spec:
  rules:
  - {id: anything, phase: evidence, cel: 'true'}
  - {id: two, phase: approval, cel: 'size(approvals) >= 2'}
"""


class MemoryBlobs(BlobStore):
    def __init__(self) -> None:
        self.kept: dict[Digest, bytes] = {}

    def _put(self, data: bytes) -> Digest:
        self.kept[Digest.of(data)] = data
        return Digest.of(data)

    def _get(self, digest: Digest) -> bytes:
        return self.kept[digest]


@dataclass
class Yard:
    """A shop with a channel, a security host and an operator; everything but Git in memory."""

    shop: Shop
    folder: Path
    clock: StandingClock = field(default_factory=StandingClock)
    store: MemoryChannel = field(default_factory=MemoryChannel)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)

    def __post_init__(self) -> None:
        self.host = StatusHost(
            folder=self.folder / "security",
            trust=self.shop.trust,
            signers=self.shop.people.keys("status-host"),
            clock=self.clock,
            interval=timedelta(hours=4),
        )
        self.answer: Callable[[], bytes] = self.host.current
        self.prove: Callable[[bytes], bytes] = self.shop.people.log.prove

    def operator(self, name: str = "operator", *, fetch: Callable[[], bytes] | None = None) -> Operator:
        people = self.shop.people
        publisher = Publisher(
            store=self.store,
            root=people.root,
            channel="production",
            signers=people.keys("operator"),
            prove=lambda leaf: self.prove(leaf),  # noqa: PLW0108 - what is set later counts
            lifetimes=Lifetimes(),
        )
        return Operator(
            git=self.shop.git,
            root=people.root,
            trust=self.shop.trust,
            channel="production",
            targets=people.targets,
            store=self.store,
            publisher=publisher,
            blobs=self.blobs,
            fetch_status=fetch or (lambda: self.answer()),  # noqa: PLW0108
            status_file=self.folder / f"{name}.json",
            clock=self.clock,
        )

    def release(self, version: str, *fallbacks: Digest) -> Digest:
        files = {"model.tiny": f"weights {version}".encode(), "self-test.json": b"{}"}
        manifest = Manifest(files=tuple(hash_bytes(name, data) for name, data in sorted(files.items())))
        for data in (manifest.encode(), *files.values()):
            self.blobs.put(data)
        draft = Draft(
            model="digits",
            version=version,
            manifest=manifest.digest,
            manifest_length=len(manifest.encode()),
            channels=("production",),
            runtime=RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={}),
            self_test=Digest.of(files["self-test.json"]),
            fallbacks=fallbacks,
        )
        self.shop.propose(draft)
        for owner in ("owner-a", "owner-b"):
            self.shop.approve(f"release/digits-{version}", owner)
        merged = self.shop.merge(f"release/digits-{version}")
        assert merged.commit is not None
        return merged.checked.release.digest

    def assigned(self) -> Digest:
        """Return what a device that is new follows to."""
        people = self.shop.people
        device = SimFollower(_Served(self.store), root=people.first, pin=people.pin)
        release = device.refresh(self.clock.now())
        assert release is not None
        return release.digest


class _Served(Fetcher):
    def __init__(self, store: MemoryChannel) -> None:
        self.store = store

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        data = self.store.get(path)
        if data is None or len(data) > max_bytes:
            raise MissingError(path)
        return data


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    shop = Shop.found(tmp_path / "shop", trust=SimTrust(), policy=ANYTHING)
    made = Yard(shop, tmp_path)
    publish_root(made.store, shop.people.root, shop.people.trust)
    return made


def test_a_status_that_nobody_signed_is_not_published_and_stops_nothing(yard: Yard) -> None:
    first = yard.release("1")
    operator = yard.operator()
    operator.once()
    for forged in (
        b'{"signed":{"_type":"targets","version":1125899906842624}}',
        build_status(
            replace(yard.host.status(), version=2**50), max_age_s=10**6, signers=yard.shop.people.keys("operator")
        ),
    ):
        yard.clock.forward(hours=2)
        yard.answer = lambda forged=forged: forged
        done = operator.once()
        assert done.quiet, "the last status stays, and it is said why"
        assert done.as_json()["ok"] is None, "whether anything was revoked meanwhile is not known"
    yard.answer = yard.host.current
    yard.clock.forward(hours=5)
    assert not operator.once().quiet
    assert yard.assigned() == first


def test_a_revocation_is_published_after_somebody_forged_its_version(yard: Yard) -> None:
    first = yard.release("1")
    yard.release("2", first)
    operator = yard.operator()
    operator.once()
    people = yard.shop.people
    forged = build_status(replace(yard.host.status(), version=2), max_age_s=10**6, signers=people.keys("operator"))
    yard.answer = lambda: forged
    yard.clock.forward(hours=2)
    operator.once()
    revoked = revocation(workspace="acme", model="digits", kind="release", digest=first, reason="bad", since=NOW)
    yard.host.apply(encode_envelope(sign(revoked, people.keys("security-a", "security-b"))))
    yard.answer = yard.host.current
    done = operator.once()
    assert not done.quiet
    assert any(line.startswith("status 1 → ") for line in done.explain()), done.explain()
    assert not any("nothing changed" in line for line in done.explain())
    assert b"bad" in (yard.store.get("metadata/2.status.json") or b"")


def test_a_status_host_whose_clock_ran_ahead_recovers(yard: Yard) -> None:
    yard.release("1")
    operator = yard.operator()
    operator.once()
    yard.clock.forward(days=3650)
    future = yard.host.current()
    yard.clock.moment = NOW + timedelta(hours=1)
    yard.answer = lambda: future
    assert "whose clock is wrong" in operator.once().quiet
    yard.answer = yard.host.current
    done = operator.once()
    assert not done.quiet
    yard.assigned()


def test_an_operator_whose_clock_ran_ahead_publishes_again(yard: Yard) -> None:
    yard.release("1")
    operator = yard.operator()
    yard.clock.forward(days=100)
    operator.once()
    yard.clock.moment = NOW
    yard.answer = yard.host.current
    assert operator.once().published is not None
    yard.assigned()


def test_failed_looks_leave_one_file_and_one_leaf(yard: Yard) -> None:
    first = yard.release("1")
    operator = yard.operator()
    operator.once()
    second = yard.release("2", first)
    prove, leaves = yard.prove, set()

    def no_witness(leaf: bytes) -> bytes:
        leaves.add(leaf)
        raise UndecidedError("no witness", code="log-unwitnessed")

    yard.prove = no_witness
    for _ in range(5):
        yard.clock.forward(seconds=5)
        with pytest.raises(UndecidedError):
            operator.once()
    files = [path for path in yard.store.files if path.endswith(".production.json")]
    assert (len(leaves), len(files)) == (1, 2)
    yard.prove = prove
    operator.once()
    assert yard.assigned() == second


def test_the_slower_of_two_operators_does_not_put_back_what_was_withdrawn(yard: Yard) -> None:
    first = yard.release("1")
    yard.operator().once()
    yard.release("2", first)

    def meanwhile() -> bytes:
        """The slow one has read Git; now version 2 is withdrawn, and the other one publishes that."""
        yard.operator("fast").once()
        by = yard.shop.by("maintainer")
        withdraw("digits", host=yard.shop.git, trust=yard.shop.trust, by=by, at=NOW, reason="bad")
        yard.clock.forward(seconds=1)
        yard.operator("fast").once()
        return yard.host.current()

    with pytest.raises(MovedError):
        yard.operator("slow", fetch=meanwhile).once()
    assert yard.assigned() == first


def test_an_expired_root_publishes_nothing(yard: Yard) -> None:
    yard.release("1")
    yard.clock.forward(days=400)
    with pytest.raises(Refused) as refused:
        yard.operator().once()
    assert refused.value.code == "root-expired"


def test_a_long_message_does_not_make_the_operators_memory_unreadable(yard: Yard, tmp_path: Path) -> None:
    yard.release("1")
    operator = yard.operator()

    def talks() -> bytes:
        raise VerificationError("x" * 200_000)

    yard.answer = talks
    with pytest.raises(UndecidedError):
        operator.once()
    assert read_operator_status(tmp_path / "operator.json").last_attempted_revision
    (tmp_path / "operator.json").write_bytes(b"not json")
    yard.answer = yard.host.current
    assert operator.once().published is not None
