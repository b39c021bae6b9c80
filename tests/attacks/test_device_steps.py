# SPDX-License-Identifier: Apache-2.0
"""One attack per failure name of the steps that the device itself decides: 1, 4, 10, 14, 16, 17, and 11 to 13 at load.

The attacker writes the device's folder, sets its clock, or serves its channel. What is loaded in the end is what was
approved, or nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chopmark.adapters.counters.simulated import SimulatedCounter
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.adapters.sql import fleet as sql_fleet
from chopmark.apps.agent.loop import turn
from chopmark.artifacts import Digest
from chopmark.device import Device, FleetClient, Loaded, Refusal, Slot, deliver, open_model, refresh
from chopmark.errors import ChopmarkError, UndecidedError
from chopmark.fleet import Condition, Fleet
from chopmark.telemetry import Result
from unit.device.kit import CHANNEL, MODEL, World, load, package, refused_load, runs
from unit.fleet.kit import TOKEN, MemorySink


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def slot_of(device: Device, slot: Slot = Slot.A):
    return device.folder.slot(MODEL, slot)


def put(device: Device, shipment, slot: Slot = Slot.A) -> None:
    """Write a release into a slot, as somebody who can write files does."""
    place = slot_of(device, slot)
    shutil.rmtree(place / "files")
    (place / "files").mkdir()
    (place / "envelope.json").write_bytes(shipment.envelope)
    (place / "manifest.json").write_bytes(shipment.manifest.encode())
    for name, data in shipment.files.items():
        (place / "files" / name).write_bytes(data)


# 1. The state


def test_state_corrupt(world):
    device = world.installed()
    state = device.folder.state
    state.write_bytes(state.read_bytes().replace(b'"gen":', b'"gen":9'))
    refusal = refused_load(device)
    assert (refusal.code, refusal.step) == ("state-corrupt", 1)
    world.channel.down = True
    with pytest.raises(UndecidedError):
        refresh(device, world.channel)
    assert refused_load(device).code == "state-corrupt"  # nothing is loaded until one refresh completes
    world.channel.down = False
    healed = world.refresh(device).healed
    assert healed is not None
    assert healed.code == "state-corrupt"
    assert runs(device) == "1"
    assert len(list(device.folder.evidence.iterdir())) == 1  # what it was is kept


def test_state_corrupt_of_another_device(world):
    device, other = world.installed(), world.enroll("tablet")
    world.refresh(other)
    shutil.copy(other.folder.state, device.folder.state)
    assert refused_load(device).code == "state-corrupt"


def test_state_restored_with_a_counter(world, tmp_path):
    counter = SimulatedCounter(tmp_path / "chip")
    device = world.installed("1", counter=counter)
    shutil.copytree(device.folder.path, tmp_path / "backup")
    world.publish("2")
    world.refresh(device)
    shutil.rmtree(device.folder.path)
    shutil.copytree(tmp_path / "backup", device.folder.path)
    refusal = refused_load(device)
    assert (refusal.code, refusal.step) == ("state-restored", 1)
    healed = world.refresh(device).healed
    assert healed is not None
    assert healed.code == "state-restored"
    assert runs(device) == "2"
    assert device.store.read().gen == counter.value()


def test_state_restored_and_half_a_refresh_load_nothing(world, tmp_path):
    counter = SimulatedCounter(tmp_path / "chip")
    device = world.installed("1", counter=counter)
    counter.advance(1000)
    world.publish("2", by=["owner-a"])
    assert world.refused(device).code == "release-unapproved"
    with pytest.raises(UndecidedError) as caught:
        open_model(device, MODEL)
    assert caught.value.code == "not-installed"


class LiveFleet(FleetClient):
    """The real fleet, in this process."""

    def __init__(self, world: World, folder) -> None:
        self.store = sql_fleet.create(folder / "fleet.db")
        self.fleet = Fleet(
            workspace="acme",
            store=self.store,
            alerts=MemorySink(),
            verifier=world.trust.keys("verifier"),
            token=TOKEN.encode,
            clock=world.clock,
            tolerance=timedelta(seconds=300),
        )

    def _enroll(self, request):
        return self.fleet.enroll(replace(request, token=TOKEN))

    def _report(self, data):
        return self.fleet.report(data)


def test_state_restored_without_a_counter_shows_at_the_next_report(world, tmp_path):
    live = world.fleet = LiveFleet(world, tmp_path)
    device = world.installed("1")
    shutil.copytree(device.folder.path, tmp_path / "backup")
    world.publish("2")
    world.refresh(device)
    assert deliver(device, live).answer.result is Result.ACCEPTED
    shutil.rmtree(device.folder.path)
    shutil.copytree(tmp_path / "backup", device.folder.path)
    assert device.rollback_memory == "software"
    assert (
        runs(device) == "1"
    )  # the limit of a device without such a counter: an approved, unrevoked release, for a while
    assert deliver(device, live).answer.result is Result.HELD
    known = live.store.device(device.config.device)
    assert known.condition is Condition.HELD
    world.clock.pass_time(days=7, seconds=1)
    assert refused_load(device).code == "status-stale"
    live.store.close()


# 4. The clock


def test_root_expired(world):
    device = world.installed()
    world.clock.moment += timedelta(days=366)
    refusal = world.refused(device)
    assert (refusal.code, refusal.step) == ("root-expired", 4)


def test_clock_1970_keeps_nothing_young(world):
    device = world.installed()
    world.clock.pass_time(days=7, seconds=1)
    world.clock.moment = datetime(1970, 1, 1, tzinfo=UTC)
    assert refused_load(device).code == "status-stale"
    world.clock.boot_id, world.clock.on_s = "boot-2", 60
    assert refused_load(device).code == "status-stale"  # turned off and on again: what was counted stays counted


def test_clock_1970_counts_over_many_boots_without_network(world):
    device = world.installed()
    for boot in range(2, 8):
        assert runs(device) == "1"
        world.clock.pass_time(days=1)
        assert runs(device) == "1"
        world.clock.moment = datetime(1970, 1, 1, tzinfo=UTC)
        world.clock.boot_id, world.clock.on_s = f"boot-{boot}", 1
    world.clock.on_s += 24 * 3600
    assert refused_load(device).code == "status-stale"


def test_clock_2100_loads_nothing_and_breaks_nothing(world):
    device = world.installed()
    now = world.clock.moment
    world.clock.moment = datetime(2100, 1, 1, tzinfo=UTC)
    assert refused_load(device).code == "status-stale"
    assert world.refused(device).code == "root-expired"
    world.clock.moment = now
    assert runs(device) == "1"
    world.refresh(device)


# 10. What was learnt is kept, whatever comes after


def test_what_was_learnt_before_a_failure_is_kept(world):
    device = world.installed("1")
    world.revoke(next(iter(world.channel.shipments)))
    name = next(path for path in sorted(world.channel.store.files, reverse=True) if path.endswith(".production.json"))
    world.channel.store.files[name] = b"{}"
    assert world.refused(device).step in (6, 9)
    state = device.store.read()
    assert state.versions["status"] == 2
    assert refused_load(device).code == "release-revoked"


def test_an_older_publication_is_not_followed_again(world):
    device = world.installed("1")
    old = world.channel.store.files["metadata/timestamp.json"]
    world.publish("2")
    world.refresh(device)
    world.channel.store.files["metadata/timestamp.json"] = old
    assert world.refused(device).code == "channel-rollback"
    assert runs(device) == "2"


# 11 to 13 at load


def test_release_unapproved_at_load(world):
    device = world.installed("1")
    put(device, world.channel.shipments[world.release("1", by=["owner-a"])])
    assert refused_load(device).code == "release-unapproved"


def test_release_unapproved_after_an_approver_was_removed(world):
    device = world.installed("1")
    role = world.trust.policy.roles["approver"]
    roles = {**world.trust.policy.roles, "approver": replace(role, owners=("owner-b", "owner-c"))}
    policy = world.trust.policy = world.trust.renew_policy(roles=roles)
    world.adopt_root(*world.trust.build_root(version=2, policy=policy))
    world.republish()
    assert world.refused(device).code == "release-unapproved"
    assert refused_load(device).code == "release-unapproved"


@pytest.mark.parametrize(
    "changes", [{"model": "other"}, {"workspace": "evil"}, {"channels": ("staging",)}], ids=lambda c: next(iter(c))
)
def test_release_misdirected_at_load(world, changes):
    device = world.installed("1")
    put(device, world.channel.shipments[world.release("2", **changes)])
    refusal = refused_load(device)
    assert (refusal.code, refusal.step) == ("release-misdirected", 12)


def test_release_revoked_at_load_by_epoch(world):
    device = world.installed("1")
    world.channel.issue(min_epoch={MODEL: 2})
    world.channel.publish(*world.assignments)
    assert world.refused(device).code == "release-revoked"
    assert refused_load(device).code == "release-revoked"


def test_release_rollback_at_load(world):
    device = world.installed("1")
    v1 = next(iter(world.channel.shipments))
    world.publish("2")
    world.refresh(device)
    put(device, world.channel.shipments[v1], Slot.B)
    assert refused_load(device).code == "release-rollback"


def test_release_conflict_at_load(world):
    device = world.installed("1")
    put(device, world.channel.shipments[world.release("1", files=package("another"))])
    assert refused_load(device).code == "release-conflict"


def test_release_unassigned_at_load(world):
    device = world.installed("1")
    put(device, world.channel.shipments[world.release("2")])
    refusal = refused_load(device)
    assert (refusal.code, refusal.step) == ("release-unassigned", 13)


# 14. The package


def test_package_incomplete(world):
    device = world.installed()
    (slot_of(device) / "files" / "labels.json").unlink()
    refusal = refused_load(device)
    assert (refusal.code, refusal.step, refusal.evidence["file"]) == ("package-incomplete", 14, "labels.json")


@pytest.mark.parametrize("name", ["envelope.json", "manifest.json"])
def test_package_incomplete_without_its_papers(world, name):
    device = world.installed()
    (slot_of(device) / name).unlink()
    assert refused_load(device).code == "package-incomplete"
    assert world.refresh(device).models[MODEL].action == "installed"
    assert runs(device) == "1"


def test_package_altered(world):
    device = world.installed()
    file = slot_of(device) / "files" / "model.tiny"
    file.write_bytes(package("1", weights=((0, 1), (1, 0)))["model.tiny"])
    refusal = refused_load(device)
    assert (refusal.code, refusal.step) == ("package-altered", 14)
    assert refusal.evidence["got"] == str(Digest.of(file.read_bytes()))


@pytest.mark.parametrize("kind", ["added", "longer", "renamed", "link", "folder", "pipe"])
def test_package_altered_in_other_ways(world, kind, tmp_path):
    device = world.installed()
    files = slot_of(device) / "files"
    match kind:
        case "added":
            (files / "weights.bin").write_bytes(b"")
        case "longer":
            with (files / "labels.json").open("ab") as file:
                file.write(b"\n")
        case "renamed":
            (files / "labels.json").rename(files / "other.json")
        case "link":
            (files / "labels.json").rename(tmp_path / "elsewhere")
            (files / "labels.json").symlink_to(tmp_path / "elsewhere")
        case "folder":
            (files / "labels.json").unlink()
            (files / "labels.json").mkdir()
        case _:
            import os

            (files / "labels.json").unlink()
            os.mkfifo(files / "labels.json")
    assert refused_load(device).code in ("package-altered", "package-incomplete")
    world.refresh(device)
    assert runs(device) == "1"


class SwappingMemory(MemfdMemory):
    """Replaces the file on disk the moment it was copied: between check and load."""

    def __init__(self, device: Device, *, before: bool) -> None:
        self.file = slot_of(device) / "files" / "model.tiny"
        self.before = before

    def _copy(self, name, source, max_bytes):
        evil = package("1", weights=((0, 1), (1, 0)))["model.tiny"]
        if self.before and name == self.file.name:
            self.file.write_bytes(evil)
        copied = super()._copy(name, source, max_bytes)
        if name == self.file.name:
            self.file.unlink()
            self.file.write_bytes(evil)
        return copied


@pytest.mark.parametrize("before", [True, False], ids=["while checking", "after checking"])
def test_a_file_swapped_between_check_and_load(world, before):
    device = world.installed()
    attacked = replace(device, memory=SwappingMemory(device, before=before))
    opened = open_model(attacked, MODEL)
    if before:
        assert isinstance(opened, Refusal)
        assert opened.code == "package-altered"
    else:
        assert isinstance(opened, Loaded)
        assert opened.run([[2.0, 1.0]]) == [[2.0, 1.0]]
        opened.close()
        assert refused_load(device).code == "package-altered"


@pytest.mark.parametrize("part", ["envelopes", "manifests", "packages"])
def test_a_server_that_serves_other_bytes_installs_nothing(world, part):
    device = world.installed("1")
    world.publish("2")
    newest = next(reversed([path for path in world.channel.store.files if f"/{part}/" in path]))
    data = world.channel.store.files[newest]
    world.channel.store.files[newest] = data[:-2] + b"!" + data[-1:]
    assert world.refused(device).code in ("channel-mixed", "package-altered")
    assert runs(device) == "1"


# 16. The self-test


def test_self_test_failed(world):
    device = world.installed("1")
    files = package("2", weights=((1, 1), (0, 1)))
    world.publish("2", files=files)
    refusal = world.refused(device)
    assert (refusal.code, refusal.step) == ("self-test-failed", 16)
    assert runs(device) == "1"


def test_self_test_failed_with_vectors_that_nobody_approved(world):
    device = world.installed("1")
    world.publish("2", self_test=Digest.of(b"other vectors"))
    assert world.refused(device).code == "self-test-failed"
    assert runs(device) == "1"


# 17. The age of the status


def test_status_stale_at_load(world):
    device = world.installed()
    world.clock.pass_time(days=7)
    assert runs(device) == "1"
    world.clock.pass_time(seconds=1)
    refusal = refused_load(device)
    assert (refusal.code, refusal.step) == ("status-stale", 17)
    world.channel.now = world.clock.moment
    world.republish()
    world.refresh(device)
    assert runs(device) == "1"


def test_status_stale_for_a_fallback_too(world):
    device = world.installed("1")
    v1 = next(iter(world.channel.shipments))
    world.publish("2", fallbacks=(v1,))
    world.refresh(device)
    world.publish(v1)
    world.refresh(device)
    world.clock.pass_time(days=7, seconds=1)
    assert refused_load(device).code == "status-stale"


# Everything at once


@pytest.mark.parametrize("positions", [2, pytest.param(128, marks=pytest.mark.slow)])
def test_one_byte_flipped_in_any_file_is_refused_or_healed(world, positions):
    """At the next load, or by the next turn of the agent; in small files, at every position."""
    device = world.installed("1")
    world.publish("2")
    world.refresh(device)
    deliver(device, world.fleet)
    world.republish()
    world.refresh(device)  # one report in the queue, one delivered
    world.fleet.cut = True
    files = {path: path.read_bytes() for path in device.folder.path.rglob("*") if path.is_file()}
    files = {path: data for path, data in files.items() if data}
    assert len(files) > 17
    for path, data in files.items():
        for at in range(0, len(data), max(1, len(data) // positions)):
            for other, whole in files.items():
                if not other.exists() or other.read_bytes() != whole:
                    other.parent.mkdir(parents=True, exist_ok=True)
                    other.write_bytes(whole)
                    other.chmod(0o600)
            flipped = data[:at] + bytes([data[at] ^ (1 << at % 7)]) + data[at + 1 :]
            path.write_bytes(flipped)
            shown = outcome(world, device.folder.path)
            if shown == "2":
                turn(world.open(device.folder.path), world.channel, world.fleet)
                assert not path.exists() or path.read_bytes() != flipped, (path.name, at)
            assert shown == "2" or not shown.isdigit()
            if path.name not in ("device.toml", "key.pem"):  # what enrolment wrote is not written again
                turn(world.open(device.folder.path), world.channel, world.fleet)
                assert outcome(world, device.folder.path) == "2", (path.name, at, shown)


def outcome(world: World, folder) -> str:
    """Return the version that is loaded, or the name of the refusal; anything loaded is the approved model."""
    try:
        opened = open_model(world.open(folder), MODEL)
    except ChopmarkError as error:
        return error.code
    if isinstance(opened, Refusal):
        return opened.code
    with opened:
        assert opened.run([[2.0, 1.0]]) == [[2.0, 1.0]]
        assert opened.read("labels.json") == package("2")["labels.json"]
        return opened.release.version


def test_a_counter_driven_to_its_end_is_taken_back_by_root_alone(world):
    device = world.installed("1")
    world.publish(world.release("2", counter=2**53 - 1))
    world.refresh(device)
    world.publish("3")
    assert world.refused(device).code == "release-rollback"
    world.adopt_root(*world.trust.build_root(version=2, reset=1))
    world.republish()
    world.refresh(device)
    assert runs(device) == "3"


def test_an_assignment_of_a_release_that_is_not_served(world):
    device = world.installed("1")
    unknown = world.release("2")

    def assign_it(signed):
        signed.version += 1
        signed.unrecognized_fields["x-chopmark"]["assign"][0]["release"] = str(unknown)

    world.channel.force({CHANNEL: world.channel.resign(CHANNEL, assign_it)})
    assert world.refused(device).code == "targets-untrusted"
    with load(device) as model:
        assert model.release.version == "1"
