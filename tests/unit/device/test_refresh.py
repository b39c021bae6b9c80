# SPDX-License-Identifier: Apache-2.0
"""A device follows its channel: installs, goes forward and back, heals, and keeps what runs when it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark.channel import RuntimeNeed, StatusEntry
from chopmark.device import Action, Refreshed, Refusal, Slot, refresh
from chopmark.errors import UndecidedError
from chopmark.statements import add_signatures, decode_envelope, encode_envelope
from unit.device.kit import MODEL, World, load, no_file_larger_than, package, queued, refused_load, runs


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_release_is_installed_and_loaded(world):
    v1 = world.publish("1")
    device = world.enroll()
    done = world.refresh(device)
    assert done.models[MODEL].action is Action.INSTALLED
    assert done.witnesses == ("witness-1", "witness-2", "witness-3")
    state = device.store.read()
    assert (state.slots[MODEL].active, state.slots[MODEL].release) == (Slot.A, v1)
    assert state.versions == {"timestamp": 1, "snapshot": 1, "targets": 1, "production": 1, "status": 1}
    assert state.assigned == {MODEL: v1}
    with load(device) as model:
        assert (model.slot, model.tier) == ("A", 1)
        assert b"zero" in model.read("labels.json")


def test_a_new_release_goes_to_the_other_slot(world):
    device = world.installed("1")
    v2 = world.publish("2", fallbacks=tuple(world.channel.shipments))
    assert runs(device) == "1"
    world.refresh(device)
    state = device.store.read()
    assert (state.slots[MODEL].active, state.top[MODEL].release) == (Slot.B, v2)
    assert runs(device) == "2"


def test_going_back_to_a_fallback_downloads_nothing(world):
    device = world.installed("1")
    v1 = next(iter(world.channel.shipments))
    world.publish("2", fallbacks=(v1,))
    world.refresh(device)
    world.publish(v1)
    world.channel.fetched.clear()
    assert world.refresh(device).models[MODEL].action is Action.ACTIVATED
    assert not [path for path in world.channel.fetched if path.startswith("targets/")]
    assert runs(device) == "1"
    assert device.store.read().top[MODEL].counter == 2


def test_a_second_refresh_changes_nothing_and_says_nothing(world):
    device = world.installed()
    before, said = device.folder.state.read_bytes(), len(queued(device))
    assert world.refresh(device).models[MODEL].action is Action.UNCHANGED
    assert device.folder.state.read_bytes() == before
    assert len(queued(device)) == said


def test_a_model_without_assignment_keeps_what_runs(world):
    device = world.installed()
    world.assign(next(iter(world.channel.shipments)), model="other")
    assert world.refresh(device).models[MODEL].action is Action.UNASSIGNED
    assert runs(device) == "1"


@pytest.mark.parametrize("kind", ["release", "manifest"])
def test_a_held_release_is_not_installed(world, kind):
    device = world.installed()
    v2 = world.release("2")
    digest = v2 if kind == "release" else world.channel.shipments[v2].manifest.digest
    entry = StatusEntry(kind=kind, digest=digest, reason="looks odd", since=world.channel.now)
    world.channel.issue(holds=(entry,))
    world.publish(v2)
    assert world.refresh(device).models[MODEL].action is Action.HELD
    assert runs(device) == "1"


def test_without_network_what_runs_keeps_running(world):
    device = world.installed()
    world.channel.down = True
    with pytest.raises(UndecidedError):
        refresh(device, world.channel)
    assert runs(device) == "1"


def test_an_interrupted_download_is_continued(world):
    world.publish("1")
    device = world.enroll()
    name = next(path for path in world.channel.store.files if path.endswith(".self-test.json"))
    held_back = world.channel.store.files.pop(name)
    assert world.refused(device).code == "package-incomplete"
    world.channel.store.files[name] = held_back
    world.channel.fetched.clear()
    world.refresh(device)
    fetched = [path for path in world.channel.fetched if "/packages/" in path]
    assert fetched == [name]


def test_a_damaged_slot_is_reported_and_healed(world):
    device = world.installed()
    model = device.folder.slot(MODEL, Slot.A) / "files" / "model.tiny"
    model.write_bytes(model.read_bytes().replace(b"1", b"2"))
    assert refused_load(device).code == "package-altered"
    assert world.refresh(device).models[MODEL].action is Action.INSTALLED
    assert device.store.read().slots[MODEL].active is Slot.B
    assert runs(device) == "1"
    assert model.exists()  # what was altered stays, until the slot is needed


def test_a_new_root_and_trust_are_followed(world):
    device = world.installed()
    policy = world.trust.renew_policy()
    world.trust.policy = policy
    world.adopt_root(*world.trust.build_root(version=2, policy=policy))
    world.republish()
    world.refresh(device)
    state = device.store.read()
    assert state.root.version == 2
    assert state.trust is not None
    assert state.trust.version == 2
    assert runs(device) == "1"


def test_a_damaged_root_file_is_walked_again_from_the_pin(world):
    device = world.installed()
    world.adopt_root(*world.trust.build_root(version=2))
    world.refresh(device)
    device.folder.root(2).write_bytes(b"{}")
    world.refresh(device)
    assert device.folder.root(2).read_bytes() == world.trust.root.data


def test_reset_drops_ratchets_and_keeps_what_is_installed(world):
    device = world.installed("7")
    world.adopt_root(*world.trust.build_root(version=2, reset=1))
    world.channel.store.files.pop("metadata/timestamp.json")
    world.channel.issue(version=1)
    for path in [path for path in world.channel.store.files if path.endswith((".status.json", ".snapshot.json"))]:
        del world.channel.store.files[path]
    v1 = world.publish("1")
    world.refresh(device)
    state = device.store.read()
    assert (state.reset, state.top[MODEL].release) == (1, v1)
    assert state.versions["timestamp"] == 1
    assert runs(device) == "1"


def test_a_revoked_release_is_refused_at_load_after_one_refresh(world):
    device = world.installed()
    world.revoke(next(iter(world.channel.shipments)))
    assert runs(device) == "1"
    assert world.refused(device).code == "release-revoked"
    assert refused_load(device).code == "release-revoked"


def test_one_refresh_at_a_time(world):
    device = world.installed()
    with (
        device.folder.locked(name="refresh.lock"),
        pytest.raises(UndecidedError) as caught,
        device.folder.locked(name="refresh.lock", wait_s=0),
    ):
        pass
    assert caught.value.code == "locked"


def test_a_release_for_another_runtime_is_refused(world):
    device = world.installed()
    world.publish("2", runtime=RuntimeNeed(name="tiny", range=">=2", libraries={}))
    refusal = world.refused(device)
    assert (refusal.code, refusal.step) == ("release-misdirected", 12)
    assert runs(device) == "1"


@pytest.mark.parametrize(
    "changes", [{"min_tier": 2}, {"min_app": "3"}, {"abi": "arm64"}], ids=["tier", "application", "abi"]
)
def test_what_only_a_device_knows_is_checked(world, changes):
    device = world.installed()
    world.publish("2", **changes)
    assert world.refused(device).code == "release-misdirected"


def test_a_full_disk_leaves_the_slot_alone(world):
    device = world.installed()
    world.publish("2", files=package("2") | {"large.bin": b"x" * 200_000})
    with no_file_larger_than(100_000):
        done = refresh(device, world.channel)
        assert isinstance(done, Refreshed)
        assert isinstance(done.models[MODEL].error, UndecidedError)
        assert not device.folder.incoming(MODEL).exists()
        assert runs(device) == "1"
    assert not isinstance(refresh(device, world.channel), Refusal)
    assert runs(device) == "2"


def test_a_release_that_was_signed_again_is_taken_over_and_is_no_damage(world):
    """Approver keys are retired: a device that was away meets the new trust and the new envelope at once."""
    device = world.installed("1")
    (v1,) = world.channel.shipments
    shipment = world.channel.shipments[v1]
    envelope = decode_envelope(shipment.envelope)
    again = encode_envelope(add_signatures(envelope, world.trust.keys("owner-c")))
    world.channel.shipments[v1] = replace(shipment, envelope=again)
    policy = world.trust.renew_policy(
        roles={
            **world.trust.policy.roles,
            "approver": replace(world.trust.policy.roles["approver"], owners=("owner-b", "owner-c")),
        }
    )
    world.adopt_root(*world.trust.build_root(version=2, policy=policy))
    world.assign(v1)
    world.channel.fetched.clear()
    done = world.refresh(device).models[MODEL]
    assert (done.action, done.damaged) == (Action.UNCHANGED, ())
    assert len([path for path in world.channel.fetched if path.startswith("targets/")]) == 1, "the envelope alone"
    assert {report.verdict for report in queued(device)} == {"verified"}
    assert runs(device) == "1"


def test_an_envelope_with_fewer_or_other_signatures_is_not_taken_over(world):
    device = world.installed("1")
    (v1,) = world.channel.shipments
    shipment = world.channel.shipments[v1]
    kept = decode_envelope(shipment.envelope)
    bent = replace(kept, signatures=(replace(kept.signatures[0], sig=bytes(64)), *kept.signatures[1:]))
    slot = device.folder.slot(MODEL, Slot.A)
    (slot / "envelope.json").write_bytes(encode_envelope(bent))
    damaged = world.refresh(device).models[MODEL].damaged
    assert [refusal.code for refusal in damaged] == ["release-unapproved"]
