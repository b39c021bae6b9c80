# SPDX-License-Identifier: Apache-2.0
"""Steps 11 to 13: attacks on what a device runs, by whoever can publish: the operator, or fewer than k approvers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark import canonical
from chopmark.artifacts import Digest, Manifest, hash_bytes
from chopmark.channel import Assignment, Top, approved, current, directed, release_statement
from chopmark.errors import VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import (
    Envelope,
    PredicateType,
    Signature,
    add_signatures,
    build_oms,
    decode_envelope,
    encode_envelope,
    sign,
    verify_oms,
)
from chopmark.trust import Role
from simulators import NOW, RUNTIME, SimChannel, SimTrust, everyone, follower, refuses


@pytest.fixture
def channel():
    """A channel on which release 1 was published."""
    channel = SimChannel()
    channel.publish(channel.approve())
    return channel


@pytest.fixture
def device(channel):
    """A device that runs release 1."""
    device = follower(channel)
    assert device.refresh(NOW).version == "1"
    return device


def ship(channel, device, **release):
    """Approve, publish and refresh; return what the device would run."""
    channel.publish(channel.approve(**release))
    return device.refresh(NOW)


def halves(trust, *pairs):
    return [trust.signers[owner][half] for owner, half in pairs]


# Step 11: release-unapproved


def test_step_11_an_operator_ships_a_package_that_nobody_approved(channel, device):
    for signers in ([], channel.trust.keys("operator"), channel.trust.keys("builder", "tester", "packager", "gate")):
        with refuses("release-unapproved", 11):
            ship(channel, device, version="2", counter=2, signers=signers)


def test_step_11_one_owner_alone_and_one_owner_twice(channel, device):
    alone = channel.trust.keys("owner-a")
    with refuses("release-unapproved", 11) as refused:
        ship(channel, device, version="2", counter=2, signers=alone)
    assert refused.value.evidence["signed"] == "owner-a"
    release, _ = channel.release(version="2", counter=2)
    once = sign(release_statement(release), alone)
    twice = Envelope(payload=once.payload, signatures=once.signatures * 2)
    with refuses("release-unapproved", 11):
        approved(encode_envelope(twice), channel.trust.policy, channel="production")


@pytest.mark.parametrize(
    "pairs",
    [
        [("owner-a", 0), ("owner-b", 0), ("owner-c", 0)],
        [("owner-a", 1), ("owner-b", 1), ("owner-c", 1)],
        [("owner-a", 0), ("owner-b", 1)],
        [("owner-a", 0), ("owner-a", 1), ("owner-b", 0), ("owner-c", 1)],
    ],
    ids=["classical-halves", "post-quantum-halves", "one-half-each", "one-whole-and-two-halves"],
)
def test_step_11_one_hybrid_half_per_owner(channel, device, pairs):
    with refuses("release-unapproved", 11) as refused:
        ship(channel, device, version="2", counter=2, signers=halves(channel.trust, *pairs))
    assert refused.value.evidence["halves"], "a stripped half is named, never silent"
    assert "lacks" in refused.value.message


def test_step_11_a_half_over_other_bytes_does_not_count(channel):
    release, _ = channel.release(version="2", counter=2)
    other, _ = channel.release(version="3", counter=3)
    good = sign(release_statement(release), channel.trust.keys("owner-a") + channel.trust.signers["owner-b"][:1])
    foreign = sign(release_statement(other), channel.trust.signers["owner-b"][1:])
    with refuses("release-unapproved", 11):
        approved(encode_envelope(good.with_signatures(foreign.signatures)), channel.trust.policy, channel="production")


def test_step_11_a_third_signature_changes_no_release_hash_and_harms_nothing(channel):
    release = channel.approve(version="2", counter=2)
    envelope = decode_envelope(channel.shipments[release.digest].envelope)
    more = add_signatures(envelope, channel.trust.keys("owner-c"))
    assert approved(encode_envelope(more), channel.trust.policy, channel="production") == release


def test_step_11_the_payload_is_changed_after_the_approval(channel):
    release = channel.approve(version="2", counter=2)
    envelope = decode_envelope(channel.shipments[release.digest].envelope)
    forged = replace(envelope, payload=envelope.payload.replace(b'"counter":2', b'"counter":3'))
    assert forged.payload != envelope.payload
    with refuses("release-unapproved", 11):
        approved(encode_envelope(forged), channel.trust.policy, channel="production")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x00", b'{"payload":"","payloadType":"x","signatures":[]}', b"9" * 5000]
)
def test_step_11_undecodable(channel, data):
    with refuses("release-unapproved", 11):
        approved(data, channel.trust.policy, channel="production")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"counter":2', b'"counter":9007199254740992'),
        (b'"counter":2', b'"counter":0'),
        (b'"counter":2', b'"counter":-2'),
        (b'"counter":2', b'"counter":2.0'),
        (b'"counter":2', b'"counter":2,"counter":3'),
        (b'"counter":2', b'"counter":"2"'),
        (b'"counter":2', b'"counter":2,"also":1'),
        (b'"v":1', b'"v":2'),
        (b'"sealed":null', b'"sealed":{}'),
        (b'"epoch":1', b'"epoch":0'),
        (b'"name":"model/digits"', b'"name":"model/other"'),
        (b'"model":"digits"', b'"model":"Digits"'),
        (b'"workspace":"acme"', b'"workspace":"x-acme"'),
        (b"release/v1", b"release/v2"),
        (b"https://in-toto.io/Statement/v1", b"https://in-toto.io/Statement/v0.1"),
    ],
)
def test_step_11_approved_properly_and_not_a_release(channel, old, new):
    """Approvers sign bytes; what those bytes cannot mean is not approved. Counter 2^53 is among them."""
    release, _ = channel.release(version="2", counter=2)
    payload = sign(release_statement(release), []).payload
    assert payload.count(old) == 1
    envelope = add_signatures(Envelope(payload=payload.replace(old, new)), channel.trust.keys("owner-a", "owner-b"))
    with refuses("release-unapproved", 11):
        approved(encode_envelope(envelope), channel.trust.policy, channel="production")


def test_step_11_the_largest_counter_is_still_one(channel, device):
    assert ship(channel, device, version="2", counter=canonical.MAX_INTEGER).counter == 2**53 - 1


def test_step_11_another_predicate_that_approvers_signed(channel):
    release, _ = channel.release(version="2", counter=2)
    statement = replace(release_statement(release), predicate_type=PredicateType.VSA)
    envelope = sign(statement, channel.trust.keys("owner-a", "owner-b"))
    with refuses("release-unapproved", 11):
        approved(encode_envelope(envelope), channel.trust.policy, channel="production")


def test_step_11_approvers_of_other_channels_or_models():
    def narrow(**limits):
        return lambda policy: replace(
            policy, roles={**policy.roles, "approver": replace(policy.roles["approver"], **limits)}
        )

    for change in (narrow(channels=("staging-*",)), narrow(channels=()), narrow(subjects=("model/other",))):
        channel = SimChannel(SimTrust(change=change))
        channel.publish(channel.approve())
        with refuses("release-unapproved", 11):
            follower(channel).refresh(NOW)


def test_step_11_an_approver_was_replaced(channel, device):
    """Devices use the keys of now: a release that lost its k is no longer approved."""
    trust = channel.trust
    roles = {
        **trust.policy.roles,
        "approver": replace(trust.policy.roles["approver"], owners=("owner-a", "owner-c", "security-a")),
    }
    data, file = trust.build_root(version=2, policy=trust.renew_policy(roles=roles))
    channel.store.files |= {"metadata/2.root.json": data, "metadata/2.trust.json": file}
    with refuses("release-unapproved", 11):
        device.refresh(NOW)


def test_step_11_nobody_is_an_approver(channel):
    roles: dict[str, Role] = {}
    release = channel.approve(version="2", counter=2)
    with refuses("release-unapproved", 11):
        approved(
            channel.shipments[release.digest].envelope, replace(channel.trust.policy, roles=roles), channel="production"
        )


def test_step_11_a_keyid_is_a_hint_and_the_key_decides(channel):
    release, _ = channel.release(version="2", counter=2)
    mallory = channel.trust.keys("builder", "operator")
    envelope = Envelope(payload=sign(release_statement(release), []).payload)
    owners = channel.trust.keys("owner-a", "owner-b")
    forged = envelope.with_signatures(
        Signature(owner.public.keyid, mallory[n % 2].sign(envelope.message)) for n, owner in enumerate(owners)
    )
    with refuses("release-unapproved", 11):
        approved(encode_envelope(forged), channel.trust.policy, channel="production")


# Step 12: release-misdirected


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("workspace", {"workspace": "other"}),
        ("channel", {"channels": ("staging", "lab")}),
        ("channel", {"channels": ()}),
        ("model", {"model": "letters"}),
    ],
)
def test_step_12_an_approval_for_elsewhere_is_replayed(channel, device, what, change):
    release = channel.approve(version="2", counter=2, **change)
    channel.publish(Assignment(model="digits", runtime=RUNTIME, first=0, end=10_000, release=release.digest))
    with refuses("release-misdirected", 12) as refused:
        device.refresh(NOW)
    assert refused.value.evidence["what"] == what


def test_step_12_another_runtime(channel, device):
    release, _ = channel.release()
    release = channel.approve(version="2", counter=2, runtime=replace(release.runtime, name="tflite"))
    channel.publish(everyone(release))
    with refuses("release-misdirected", 12) as refused:
        device.refresh(NOW)
    assert refused.value.evidence["what"] == "runtime"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.19.9", ">=1.20,<2"),
        ("2.0", ">=1.20,<2"),
        ("1.20.1", ">=1.20.2"),
        ("1.20.1", "==1.20"),
        ("1.20.0", "!=1.20"),
        ("1.20", ">1.20.0"),
        ("1.20", ""),
        ("1.20", ">=1.20,"),
        ("1.20", ">=1.20;<2"),
        ("1.20", "~=1.20"),
        ("1.20", "*"),
        ("", ">=1"),
        ("dev", ">=1"),
        ("²", ">=1"),
        ("9999999999", ">=1"),
        ("1", "<9999999999"),
        ("1.0.0.0.0.0.0.0.1", ">=1"),
    ],
)
def test_step_12_a_runtime_version_outside_the_range(channel, version, wanted):
    release, _ = channel.release()
    release = replace(release, runtime=replace(release.runtime, range=wanted))
    with refuses("release-misdirected", 12) as refused:
        directed(
            release,
            workspace="acme",
            model="digits",
            channel="production",
            runtime_name=RUNTIME,
            runtime_version=version,
        )
    assert refused.value.evidence["what"] == "runtime version"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("1.20", ">=1.20,<2"), ("1.20.0", "==1.20"), ("1.99+cu12", "<2"), ("1.20", " >=1 , !=1.19 "), ("10.0", ">9")],
)
def test_step_12_a_runtime_version_inside_the_range(channel, version, wanted):
    release, _ = channel.release()
    directed(
        replace(release, runtime=replace(release.runtime, range=wanted)),
        workspace="acme",
        model="digits",
        channel="production",
        runtime_name=RUNTIME,
        runtime_version=version,
    )


# Step 13: release-revoked, release-rollback, release-conflict, release-unassigned


def test_step_13_release_revoked_by_its_hash_by_its_package_or_by_the_epoch_floor(channel, device):
    first = device.refresh(NOW)
    for say in (
        lambda: channel.revoke(first.digest),
        lambda: channel.revoke(first.manifest, kind="manifest"),
        lambda: channel.issue(min_epoch={"digits": 2}),
    ):
        say()
        channel.publish(first)
        with refuses("release-revoked", 13):
            device.refresh(NOW)
        channel.issue(revoked=(), min_epoch={})
        device.memory.status = None


def test_step_13_a_manifest_digest_is_no_release_hash(channel, device):
    first = device.refresh(NOW)
    channel.revoke(first.digest, kind="manifest")
    channel.revoke(first.manifest, kind="release")
    channel.issue(min_epoch={"letters": 9})
    channel.publish(first)
    assert device.refresh(NOW) == first


def test_step_13_release_revoked_a_package_that_was_approved_again_under_another_number(channel, device):
    first = device.refresh(NOW)
    channel.revoke(first.manifest, kind="manifest")
    second = channel.approve(version="1", counter=2)
    assert second.manifest == first.manifest
    channel.publish(second)
    with refuses("release-revoked", 13):
        device.refresh(NOW)


def test_step_13_release_revoked_a_fallback_below_the_epoch_floor(channel, device):
    first = device.refresh(NOW)
    second = channel.approve(version="2", counter=2, epoch=2, fallbacks=(first.digest,))
    channel.publish(second)
    device.refresh(NOW)
    channel.issue(min_epoch={"digits": 2})
    channel.publish(first)
    with refuses("release-revoked", 13) as refused:
        device.refresh(NOW)
    assert "floor" in refused.value.message


def test_step_13_release_rollback_an_older_release_that_nobody_named_as_fallback(channel, device):
    first = device.refresh(NOW)
    assert ship(channel, device, version="2", counter=2).version == "2"
    channel.publish(first)
    with refuses("release-rollback", 13) as refused:
        device.refresh(NOW)
    assert (refused.value.evidence["counter"], refused.value.evidence["top"]) == (1, 2)


def test_step_13_release_rollback_the_fallback_of_a_fallback(channel, device):
    first = device.refresh(NOW)
    second = channel.approve(version="2", counter=2, fallbacks=(first.digest,))
    third = channel.approve(version="3", counter=3, fallbacks=(second.digest,))
    for release in (second, third, second):
        channel.publish(release)
        assert device.refresh(NOW) == release
    channel.publish(first)
    with refuses("release-rollback", 13):
        device.refresh(NOW)


def test_step_13_a_rollback_is_a_publication_that_names_an_approved_fallback(channel, device):
    first = device.refresh(NOW)
    second = channel.approve(version="2", counter=2, fallbacks=(first.digest,))
    before = channel.publish(second)
    device.refresh(NOW)
    after = channel.publish(first)
    assert device.refresh(NOW) == first
    assert after.channel > before.channel, "the channel's version goes up while the model's goes down"
    channel.publish(second)
    assert device.refresh(NOW) == second, "and forward again"


def test_step_13_release_conflict_two_releases_with_one_counter(channel, device):
    with refuses("release-conflict", 13):
        ship(channel, device, version="1b", counter=1)


def test_step_13_release_conflict_also_where_it_is_a_fallback(channel, device):
    first = device.refresh(NOW)
    twin = channel.approve(version="1b", counter=2)
    second = channel.approve(version="2", counter=2, fallbacks=(first.digest, twin.digest))
    channel.publish(second)
    device.refresh(NOW)
    channel.publish(twin)
    with refuses("release-conflict", 13):
        device.refresh(NOW)


def test_step_13_release_unassigned_approved_newer_and_not_for_here(channel, device):
    first = device.refresh(NOW)
    second = channel.approve(version="2", counter=2)
    for assigned in (first.digest, None):
        with refuses("release-unassigned", 13):
            device.judge(channel.shipments[second.digest].envelope, assigned)


def test_step_13_release_unassigned_another_envelope_under_the_assigned_name(channel, device):
    """The operator puts an approved envelope where another one's is fetched: both are approved, one is assigned."""
    second = channel.approve(version="2", counter=2)
    third = channel.approve(version="3", counter=3)
    channel.shipments[third.digest] = replace(
        channel.shipments[third.digest], envelope=channel.shipments[second.digest].envelope
    )
    channel.publish(third)
    with refuses("release-unassigned", 13):
        device.refresh(NOW)


def test_step_13_the_name_of_a_failure_does_not_depend_on_what_else_is_wrong(channel):
    """Revocation is said before rollback, rollback before assignment: the worst first."""
    release, _ = channel.release(epoch=1)
    floor = replace(channel.status, min_epoch={"digits": 2})
    top = Top(counter=9, release=Digest.of(b"top"), fallbacks=())
    with refuses("release-revoked", 13):
        current(release, status=floor, top=top, assigned=None)
    with refuses("release-rollback", 13):
        current(release, status=channel.status, top=top, assigned=None)
    with refuses("release-unassigned", 13):
        current(release, status=channel.status, top=None, assigned=None)


# Beside the steps


def test_a_package_renamed_with_the_same_oms_digest(channel):
    """OMS hashes file digests in name order and binds no names: swap two roles, keep the digest. Ours differs."""
    key = channel.trust.signers["packager"][0]
    old, new = b"the old and tested weights", b"weights nobody tested"
    tested = Manifest(files=(hash_bytes("model.onnx", old), hash_bytes("spare.onnx", new)))
    swapped = Manifest(files=(hash_bytes("a.onnx", old), hash_bytes("model.onnx", new)))
    bundle = build_oms(tested, key, name="digits")
    assert verify_oms(bundle, tested, key.public) == verify_oms(
        build_oms(swapped, key, name="digits"), swapped, key.public
    )
    assert tested.digest != swapped.digest
    with pytest.raises(VerificationError) as refused:
        verify_oms(bundle, swapped, key.public)
    assert refused.value.code == "oms-altered"


def test_an_approval_binds_the_package_and_not_its_oms_digest(channel):
    files = {"model.onnx": b"the old and tested weights", "spare.onnx": b"weights nobody tested"}
    renamed = {"a.onnx": files["model.onnx"], "model.onnx": files["spare.onnx"]}
    release = channel.approve(files=files)
    manifest = Manifest(files=tuple(hash_bytes(name, data) for name, data in sorted(renamed.items())))
    assert release.manifest != manifest.digest


def test_only_hybrid_rules_stand_for_approvers_and_root(channel):
    """The default rule: nobody has to remember to ask for both."""
    approver = channel.trust.policy.roles["approver"]
    assert [sorted(group) for group in approver.algorithms] == [
        [Algorithm.ECDSA_P256, Algorithm.ED25519],
        [Algorithm.ML_DSA_65],
    ]
