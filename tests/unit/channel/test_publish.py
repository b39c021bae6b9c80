# SPDX-License-Identifier: Apache-2.0
"""Publishing: the order, the version numbers, and what an operator is told. At once and killed: tests/contracts/."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from datetime import timedelta

import pytest

import simulators
from chopmark.artifacts import Digest
from chopmark.channel import StatusEntry
from chopmark.channel.publish import TIMESTAMP, build_targets, publish_root, read_current
from chopmark.errors import DecodeError, InternalError, UndecidedError, UsageError
from chopmark.statements import publication_leaf
from simulators import MemoryChannel, SimChannel, SimTrust, follower

HOUR = timedelta(hours=1)


@pytest.fixture
def channel():
    return SimChannel()


class Watched(MemoryChannel):
    """Remembers the order of writes."""

    def __init__(self, files):
        super().__init__()
        self.files, self.order = files, []

    def _put_new(self, path, data):
        self.order.append(path)
        return super()._put_new(path, data)

    def _replace(self, path, data):
        self.order.append(path)
        super()._replace(path, data)

    def _swap(self, path, old, new):
        self.order.append(path)
        return super()._swap(path, old, new)


def test_the_tutorial_of_the_simulators():
    assert doctest.testmod(simulators).failed == 0


def test_the_order_shows_no_half(channel):
    channel.store = store = Watched(channel.store.files)
    release = channel.approve()

    def prove(leaf):
        store.order.append("leaf")
        return channel.log.prove(leaf)

    channel.publisher(prove=prove).publish(
        assignments=(simulators.everyone(release),),
        shipments=[channel.shipments[release.digest]],
        targets=channel.trust.targets,
        status=channel.signed_status,
        now=channel.now,
    )
    assert store.order[-3:] == ["leaf", "metadata/1.snapshot.tlog-proof", TIMESTAMP]
    assert store.order.index("metadata/1.production.json") > max(
        n for n, path in enumerate(store.order) if path.startswith("targets/")
    )
    assert store.order[-4] == "metadata/1.snapshot.json"
    assert store.order.count(TIMESTAMP) == 1


def test_what_has_not_changed_keeps_its_version(channel):
    release = channel.approve()
    first = channel.publish(release)
    second = channel.publish(release)
    assert (second.timestamp, second.snapshot, second.channel, second.status) == (2, 1, 1, 1)
    assert first.leaf == second.leaf
    assert channel.log.entries == [publication_leaf(first.leaf)], "the same leaf is not logged twice"
    channel.issue()
    third = channel.publish(release)
    assert (third.timestamp, third.snapshot, third.channel, third.status) == (3, 2, 1, 2)
    fourth = channel.publish(channel.approve(version="2", counter=2))
    assert (fourth.timestamp, fourth.snapshot, fourth.channel, fourth.status) == (4, 3, 2, 2)


def test_the_proof_is_refreshed_with_each_timestamp(channel):
    release = channel.approve()
    channel.publish(release)
    before = channel.store.files[channel.proof_path]
    channel.log.append(b"something else")
    channel.publish(release)
    assert channel.store.files[channel.proof_path] != before
    assert follower(channel).refresh(channel.now) == release


def test_what_grows_old_is_signed_again(channel):
    release = channel.approve()
    channel.publish(release)
    channel.now += timedelta(days=4)
    assert (channel.publish(release).snapshot, channel.publish(release).channel) == (2, 1)
    channel.now += timedelta(days=12)
    renewed = channel.publish(release)
    assert renewed.channel == 2
    assert follower(channel).refresh(channel.now) == release


def test_without_a_proof_nothing_is_shown(channel):
    release = channel.approve()
    channel.publish(release)
    before = channel.store.files[TIMESTAMP]

    def away(leaf):
        raise UndecidedError("no quorum", code="log-unwitnessed")

    channel.issue()
    with pytest.raises(UndecidedError):
        channel.publisher(prove=away).publish(
            assignments=(),
            shipments=[],
            targets=channel.trust.targets,
            status=channel.signed_status,
            now=channel.now,
        )
    assert channel.store.files[TIMESTAMP] == before
    assert follower(channel).refresh(channel.now) == release
    assert channel.publish(release).snapshot == 3, "the number that the failed one used is left out"


@pytest.mark.parametrize("signature", ["00" * 64, "zz", ""])
def test_what_a_stranger_left_under_the_next_number_is_not_used(channel, signature):
    release = channel.approve()
    channel.publish(release)
    before = dict(channel.store.files)
    channel.issue()
    channel.publish(release)
    left = json.loads(channel.store.files["metadata/2.snapshot.json"])
    left["signatures"][0]["sig"] = signature
    channel.store.files.clear()
    channel.store.files |= before | {"metadata/2.snapshot.json": json.dumps(left).encode()}
    assert channel.publish(release).snapshot == 3
    assert follower(channel).refresh(channel.now) == release


def test_an_older_status_or_targets_file_is_not_published(channel):
    release = channel.approve()
    old = channel.signed_status
    channel.issue()
    channel.publish(release)
    channel.signed_status = old
    with pytest.raises(UndecidedError) as undecided:
        channel.publish(release)
    assert undecided.value.code == "older-than-published"


def test_two_files_of_one_version_are_not_published(channel):
    release = channel.approve()
    channel.publish(release)
    channel.signed_status = channel.sign_status(replace(channel.status, issued=channel.now + HOUR))
    with pytest.raises(UndecidedError) as undecided:
        channel.publish(release)
    assert undecided.value.code == "version-taken"
    other, _ = channel.trust.build_root(version=1, reset=5)
    with pytest.raises(UndecidedError) as undecided:
        publish_root(channel.store, replace(channel.trust.root, data=other), channel.trust.trust)
    assert undecided.value.code == "version-taken"
    publish_root(channel.store, channel.trust.root, channel.trust.trust)


def test_a_damaged_package_file_is_noticed_before_it_is_published_again(channel):
    first = channel.approve()
    channel.publish(first)
    (path,) = (path for path in channel.store.files if path.endswith(".model.onnx"))
    channel.store.files[path] = b"damaged"
    channel.approve(version="2", counter=2)
    with pytest.raises(InternalError):
        channel.publish(channel.approve(counter=2))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_what_is_no_metadata_is_not_published(channel, data):
    channel.signed_status = data
    with pytest.raises(DecodeError):
        channel.publish(channel.approve())


def test_a_damaged_channel_is_not_built_upon(channel):
    release = channel.approve()
    channel.publish(release)
    for path in ("metadata/1.snapshot.json", "metadata/1.production.json", TIMESTAMP):
        whole = channel.store.files[path]
        channel.store.files[path] = b"{"
        with pytest.raises(InternalError):
            channel.publish(release)
        channel.store.files[path] = whole
    assert channel.publish(release)


def test_two_channels_share_one_timestamp_and_keep_each_others_files():
    trust = SimTrust(channels=("production", "lab"))
    production, lab = SimChannel(trust), SimChannel(trust, name="lab")
    lab.store = production.store
    lab.signed_status, lab.status = production.signed_status, production.status
    one, two = production.approve(), lab.approve(version="2", counter=2)
    production.publish(one)
    lab.publish(two)
    production.publish(one)
    assert follower(production).refresh(production.now) == one
    assert follower(lab).refresh(lab.now) == two
    assert set(read_current(production.store, "lab").files) == {"targets", "status", "production", "lab"}


@pytest.mark.parametrize("name", ["root", "trust", "targets", "snapshot", "timestamp", "status", "mirrors"])
def test_no_channel_has_the_name_of_a_role(name):
    trust = SimTrust()
    with pytest.raises(UsageError):
        build_targets(version=1, expires=trust.now, channels={name: []}, status=trust.policy.rule("status"))


def test_an_empty_channel_is_a_channel(channel):
    assert read_current(channel.store, "production").timestamp == 0
    channel.publish()
    assert follower(channel).refresh(channel.now) is None


def test_a_held_release_is_published_and_not_run(channel):
    release = channel.approve()
    entry = StatusEntry(kind="release", digest=release.digest, reason="odd", since=channel.now)
    channel.issue(holds=(entry,))
    channel.publish(release)
    assert follower(channel).refresh(channel.now) is None
    channel.issue(holds=())
    channel.publish(release)
    assert follower(channel).refresh(channel.now) == release


def test_only_a_share_of_the_devices_is_assigned(channel):
    release = channel.approve()
    half = replace(simulators.everyone(release), end=5000)
    channel.publish(half)
    seen = [follower(channel, device=f"device-{n}").refresh(channel.now) for n in range(20)]
    assert release in seen
    assert None in seen


def test_digests_name_what_is_served(channel):
    channel.publish(channel.approve())
    for path, data in channel.store.files.items():
        if path.startswith("targets/"):
            assert path.rpartition("/")[2].startswith(Digest.of(data).hex + ".")
