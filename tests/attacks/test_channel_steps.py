# SPDX-License-Identifier: Apache-2.0
"""Steps 2 to 9: one attack, or several, for each failure name between the pinned root and the channel file.

Each test says what one attacker changes, and what the device calls it. What the device installed is not touched by any
of them: a refresh that fails changes nothing but what an earlier step taught.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tuf.api.metadata import MetaFile

from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest
from chopmark.channel import StatusEntry, follow
from chopmark.keys import Algorithm, OwnerRule
from chopmark.ledger import LineKind
from chopmark.statements import publication_leaf
from chopmark.trust import Frozen, decode_trust, encode_trust, next_root, open_trust, pinned_root
from simulators import NOW, SimChannel, SimLog, SimTrust, follower, refuses

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def channel():
    """A channel on which release 1 was published, and whose next publication will differ."""
    channel = SimChannel()
    channel.publish(channel.approve())
    return channel


@pytest.fixture
def device(channel):
    """A device that has seen the first publication."""
    device = follower(channel)
    assert device.refresh(NOW).version == "1"
    return device


def again(channel, **release):
    """Publish something new: the status of an hour later, and release 2."""
    channel.now += timedelta(hours=1)
    channel.issue()
    return channel.publish(channel.approve(version="2", counter=2, **release))


def halves(trust, *pairs):
    """Return single keys: ``("owner-a", 0)`` is the classical one of owner-a, 1 the post-quantum one."""
    return [trust.signers[owner][half] for owner, half in pairs]


# Step 2: root-untrusted


def test_step_2_root_untrusted_another_root_than_the_pinned():
    mine, other = SimTrust(), SimTrust()
    with refuses("root-untrusted", 2):
        pinned_root(other.first, mine.pin)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"signed":{"_type":"root"},"signatures":[]}', b"[" * 100_000])
def test_step_2_root_untrusted_undecodable(data):
    with refuses("root-untrusted", 2):
        pinned_root(data, Digest.of(data))


def test_step_2_root_untrusted_other_metadata_in_its_place():
    trust = SimTrust()
    with refuses("root-untrusted", 2):
        next_root(trust.root, trust.targets)


def test_step_2_root_untrusted_a_version_is_skipped_or_repeated():
    trust = SimTrust()
    for version in (1, 3):
        with refuses("root-untrusted", 2):
            next_root(trust.root, trust.build_root(version=version)[0])


def test_step_2_root_untrusted_one_owner_signs_alone():
    trust = SimTrust()
    data, _ = trust.build_root(version=2, signers=trust.keys("owner-a"))
    with refuses("root-untrusted", 2) as refused:
        next_root(trust.root, data)
    assert refused.value.evidence["needed"] == "2"


def test_step_2_root_untrusted_stock_tuf_would_count_the_keys_of_two_owners_that_never_signed_whole():
    trust = SimTrust()
    three_and_one = halves(trust, ("owner-a", 0), ("owner-b", 0), ("owner-c", 0), ("owner-a", 1))
    data, _ = trust.build_root(version=2, signers=three_and_one)
    with refuses("root-untrusted", 2) as refused:
        next_root(trust.root, data)
    assert refused.value.evidence["signed"] == "owner-a"
    assert refused.value.evidence["halves"] == "owner-b lacks ml-dsa-65; owner-c lacks ml-dsa-65"


def test_step_2_root_untrusted_one_hybrid_half_of_each_owner():
    trust = SimTrust()
    data, _ = trust.build_root(
        version=2, signers=halves(trust, ("owner-a", 0), ("owner-b", 1), ("owner-c", 0), ("owner-c", 1))
    )
    with refuses("root-untrusted", 2):
        next_root(trust.root, data)


def test_step_2_root_untrusted_a_lower_rule_signed_under_itself_only():
    trust = SimTrust()
    lower = replace(trust.rule, k=1, algorithms=(frozenset({Algorithm.ED25519}),))
    data, _ = trust.build_root(version=2, rule=lower, signers=halves(trust, ("owner-a", 0)))
    with refuses("root-untrusted", 2):
        next_root(trust.root, data)


def test_step_2_a_lower_rule_signed_under_the_old_one_is_followed():
    trust = SimTrust()
    lower = replace(trust.rule, k=1, algorithms=(frozenset({Algorithm.ED25519}),))
    data, _ = trust.build_root(version=2, rule=lower)
    assert next_root(trust.root, data).rule.k == 1


def test_step_2_root_untrusted_new_owners_that_the_old_ones_did_not_sign_in():
    mine, other = SimTrust(), SimTrust()
    data, _ = mine.build_root(version=2, rule=other.rule, signers=other.keys("owner-a", "owner-b"))
    with refuses("root-untrusted", 2):
        next_root(mine.root, data)


def test_step_2_root_untrusted_new_owners_that_did_not_sign_themselves():
    mine, other = SimTrust(), SimTrust()
    data, _ = mine.build_root(version=2, rule=other.rule)
    with refuses("root-untrusted", 2):
        next_root(mine.root, data)


def test_step_2_root_untrusted_another_workspace_or_a_reset_taken_back():
    trust = SimTrust()
    with refuses("root-untrusted", 2):
        next_root(trust.root, trust.build_root(version=2, workspace="other")[0])
    second = next_root(trust.root, trust.build_root(version=2, reset=1)[0])
    with refuses("root-untrusted", 2):
        next_root(second, trust.build_root(version=3, reset=0)[0])


def test_step_2_the_device_meets_it_while_it_follows(channel, device):
    data, _ = channel.trust.build_root(version=2, signers=channel.trust.keys("owner-c"))
    channel.lies["metadata/2.root.json"] = data
    with refuses("root-untrusted", 2):
        device.refresh(NOW)
    assert device.memory.root.version == 1


# Step 3: trust-mismatch


def test_step_3_trust_mismatch_one_key_is_swapped(channel):
    policy = channel.trust.policy
    mallory = (generate(Algorithm.ED25519).public, generate(Algorithm.ML_DSA_65).public)
    owners = {**policy.owners, "owner-c": replace(policy.owners["owner-c"], keys=mallory)}
    channel.lies["metadata/1.trust.json"] = encode_trust(replace(policy, owners=owners))
    with refuses("trust-mismatch", 3):
        follower(channel).refresh(NOW)


def test_step_3_trust_mismatch_of_another_workspace_or_version_than_root_says():
    trust = SimTrust()
    data, named = trust.build_root(version=2, policy=replace(trust.policy, workspace="other"), workspace="acme")
    with refuses("trust-mismatch", 3):
        open_trust(next_root(trust.root, data), named)


def test_step_3_trust_mismatch_not_a_trust_file_at_all():
    trust = SimTrust()
    root = replace(trust.root, trust=replace(trust.root.trust, length=2, sha256=Digest.of(b"{}")))
    with refuses("trust-mismatch", 3):
        open_trust(root, b"{}")


# Step 5: channel-untrusted, channel-rollback, channel-expired


def test_step_5_channel_untrusted_signed_by_somebody_else(channel, device):
    for owner in ("builder", "owner-a", "status-host"):
        channel.lies["metadata/timestamp.json"] = channel.resign(
            "timestamp", lambda signed: None, channel.trust.keys(owner)
        )
        with refuses("channel-untrusted", 5):
            device.refresh(NOW)


def test_step_5_channel_untrusted_a_longer_life_than_was_signed(channel, device):
    stamp = channel.store.files["metadata/timestamp.json"]
    channel.lies["metadata/timestamp.json"] = stamp.replace(b"2026-11-23", b"2027-11-23")
    with refuses("channel-untrusted", 5):
        device.refresh(NOW)


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b"\x80", b'{"signed":1,"signatures":1}'])
def test_step_5_channel_untrusted_undecodable(channel, device, data):
    channel.lies["metadata/timestamp.json"] = data
    with refuses("channel-untrusted", 5):
        device.refresh(NOW)


def test_step_5_channel_untrusted_another_file_that_the_operator_signed(channel, device):
    channel.lies["metadata/timestamp.json"] = channel.store.files[channel.path("snapshot")]
    with refuses("channel-untrusted", 5):
        device.refresh(NOW)


def test_step_5_channel_rollback_an_old_channel_is_served_again(channel, device):
    old = channel.copy()
    again(channel)
    assert device.refresh(channel.now).version == "2"
    channel.store.files = old
    with refuses("channel-rollback", 5) as refused:
        device.refresh(NOW)
    assert refused.value.evidence == {"seen": 2, "served": 1}


def test_step_5_channel_expired_the_channel_is_frozen(channel, device):
    assert device.refresh(NOW + DAY - SECOND)
    with refuses("channel-expired", 5):
        device.refresh(NOW + DAY)


def test_step_5_a_version_beyond_every_number_is_not_read(channel, device):
    stamp = channel.resign("timestamp", lambda signed: setattr(signed, "version", 2**53))
    channel.lies["metadata/timestamp.json"] = stamp
    with refuses("channel-untrusted", 5):
        device.refresh(NOW)


# Step 6: channel-mixed


def test_step_6_channel_mixed_the_snapshot_of_another_publication(channel, device):
    first = channel.store.files["metadata/1.snapshot.json"]
    again(channel)
    channel.lies["metadata/2.snapshot.json"] = first
    with refuses("channel-mixed", 6):
        device.refresh(channel.now)


def test_step_6_channel_mixed_two_channel_files_of_one_version(channel, device):
    second = channel.approve(version="2", counter=2)
    other = channel.resign(
        "production",
        lambda signed: signed.unrecognized_fields["x-chopmark"]["assign"][0].update(release=str(second.digest)),
    )
    path = channel.path("production")
    assert other != channel.store.files[path]
    channel.lies[path] = other
    with refuses("channel-mixed", 6):
        device.refresh(NOW)


def test_a_stolen_operator_who_signs_two_channel_files_of_one_version_leaves_two_leaves(channel, device):
    """Versions cannot tell the two apart; the ledger does: each is a publication of its own that everybody sees."""
    other = channel.resign("production", lambda signed: signed.unrecognized_fields["x-chopmark"].update(assign=[]))
    before = len(channel.log.entries)
    channel.force({"production": other})
    assert device.refresh(NOW) is None
    assert len(channel.log.entries) == before + 1


@pytest.mark.parametrize("role", ["targets", "status", "production"])
def test_step_6_channel_mixed_the_snapshot_names_a_file_without_a_hash(channel, device, role):
    named = channel.store.get(channel.path(role))
    weak = MetaFile(2, len(named), {"md5": "0" * 32})
    for meta in (MetaFile(2), MetaFile(2, len(named)), weak):
        channel.force(meta={role: meta})
        with refuses("channel-mixed", 6):
            device.refresh(NOW)


def test_step_6_channel_mixed_the_snapshot_leaves_the_status_out(channel, device):
    channel.publish(channel.approve(version="2", counter=2))
    snapshot = channel.resign("snapshot", lambda signed: signed.meta.pop("status.json"))
    stamp = follow.TimestampMeta(version=9, snapshot=MetaFile(2, len(snapshot), {"sha256": Digest.of(snapshot).hex}))
    with refuses("channel-mixed", 6):
        follow.snapshot(device.memory.root, stamp, snapshot, last={}, channel="production", now=NOW)


def test_step_6_channel_untrusted_a_snapshot_that_the_operator_did_not_sign(channel, device):
    data = channel.resign("snapshot", lambda signed: None, channel.trust.keys("builder"))
    stamp = follow.TimestampMeta(version=9, snapshot=MetaFile(1, len(data), {"sha256": Digest.of(data).hex}))
    with refuses("channel-untrusted", 5):
        follow.snapshot(device.memory.root, stamp, data, last={}, channel="production", now=NOW)


def test_step_6_channel_rollback_one_file_goes_back_in_a_new_publication(channel, device):
    first = channel.store.files["metadata/1.production.json"]
    again(channel)
    device.refresh(channel.now)
    channel.force({"production": first})
    with refuses("channel-rollback", 5) as refused:
        device.refresh(channel.now)
    assert refused.value.evidence["file"] == "production"


# Step 7: log-unproven, log-unwitnessed, log-rollback, log-fork


def test_step_7_log_unproven_a_publication_that_is_in_no_ledger(channel, device):
    first = channel.store.files[channel.proof_path]
    for proof in (first, b"", b"c2sp.org/tlog-proof@v1\nindex 0\n\n", SimLog().prove(b"x")):
        channel.force(proof=proof)
        with refuses("log-unproven", 7):
            device.refresh(NOW)


def test_step_7_log_unproven_another_ledger_with_its_own_keys(channel, device):
    channel.log = SimLog()
    channel.log.witnesses = channel.trust.log.witnesses
    channel.log.collude()
    channel.force()
    with refuses("log-unproven", 7):
        device.refresh(NOW)


def test_step_7_log_unproven_another_leaf_of_the_same_ledger(channel, device):
    channel.force(proof=channel.log.prove(publication_leaf(Digest.of(b"another snapshot"))))
    with refuses("log-unproven", 7):
        device.refresh(NOW)


@pytest.mark.parametrize("kind", [LineKind.ED25519, LineKind.ML_DSA_44])
def test_step_7_log_unproven_one_half_of_the_logs_signature_is_stripped(channel, device, kind):
    channel.log.drop.add(kind)
    again(channel)
    with refuses("log-unproven", 7) as refused:
        device.refresh(channel.now)
    assert str(kind.algorithm) in refused.value.message


def test_step_7_log_unproven_a_ledger_that_the_root_owners_froze(channel, device):
    policy = channel.trust.renew_policy(logs=(replace(channel.log.keys, frozen=Frozen(size=1, root=Digest.of(b""))),))
    data, trust = channel.trust.build_root(version=2, policy=policy)
    channel.store.files |= {"metadata/2.root.json": data, "metadata/2.trust.json": trust}
    with refuses("log-unproven", 7):
        device.refresh(NOW)


def test_step_7_log_unwitnessed_too_few_witnesses(channel, device):
    channel.log.witnesses[0].away = True
    again(channel)
    device.refresh(channel.now)
    channel.log.witnesses[1].away = True
    again(channel)
    with refuses("log-unwitnessed", 7):
        device.refresh(channel.now)


def test_step_7_log_unwitnessed_honest_witnesses_do_not_cosign_a_fork(channel, device):
    channel.log = channel.log.fork(keep=0)
    again(channel)
    with refuses("log-unwitnessed", 7):
        device.refresh(channel.now)


def test_step_7_log_rollback_a_smaller_ledger_with_colluding_witnesses(channel, device):
    again(channel)
    device.refresh(channel.now)
    channel.log.shrink(0)
    channel.log.collude()
    again(channel)
    with refuses("log-rollback", 7) as refused:
        device.refresh(channel.now)
    assert len(set(refused.value.evidence.values())) > 1, "both sizes are kept for whoever investigates"


def test_step_7_log_fork_two_ledgers_of_one_size_with_colluding_witnesses(channel, device):
    channel.log = channel.log.fork(keep=0)
    channel.log.collude()
    again(channel)
    with refuses("log-fork", 7) as refused:
        device.refresh(channel.now)
    assert len(set(refused.value.evidence.values())) > 1, "both roots are kept for whoever investigates"


# Step 8: status-untrusted, status-rollback, status-stale


def test_step_8_status_untrusted_signed_by_the_operator_or_by_half(channel, device):
    trust = channel.trust
    forged = replace(channel.status, version=channel.status.version + 1)
    for signers in (
        [],
        trust.keys("operator"),
        trust.signers["status-host"][:1],
        trust.signers["status-host"][1:],
        trust.keys("owner-a", "owner-b"),
        trust.keys("security-a", "security-b"),
    ):
        channel.force({"status": channel.sign_status(forged, signers=signers)})
        with refuses("status-untrusted", 8):
            device.refresh(NOW)


def test_step_8_status_untrusted_the_other_half_is_of_another_file(channel, device):
    signed = channel.resign("status", lambda status: None, channel.trust.keys("status-host"))
    wrong = channel.resign("status", lambda status: setattr(status, "version", 9), channel.trust.keys("status-host"))
    body, signature = signed.partition(b'"signed":')[2], wrong.partition(b'"signed":')[0]
    data = signature + b'"signed":' + body
    channel.force({"status": data})
    with refuses("status-untrusted", 8):
        device.refresh(NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda signed: signed.unrecognized_fields.pop("x-chopmark"),
        lambda signed: signed.unrecognized_fields["x-chopmark"].update(v=2),
        lambda signed: signed.unrecognized_fields["x-chopmark"].update(also=1),
        lambda signed: signed.unrecognized_fields["x-chopmark"].update(issued="2026-11-22T10:00:00+00:00"),
        lambda signed: signed.unrecognized_fields["x-chopmark"].update(min_epoch={"digits": -1}),
        lambda signed: signed.unrecognized_fields["x-chopmark"].update(revoked=[{"reason": "", "since": ""}]),
    ],
)
def test_step_8_status_untrusted_signed_properly_and_not_a_status(channel, device, change):
    channel.force({"status": channel.resign("status", change, channel.trust.keys("status-host"))})
    with refuses("status-untrusted", 8):
        device.refresh(NOW)


def test_step_8_status_untrusted_the_delegation_alone_does_not_make_a_security_owner(channel, device):
    """Root owners delegate to new keys, and trust.json still names the old: both must say so."""
    keys = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_65))
    rule = channel.trust.policy.rule("status")
    swapped = OwnerRule(
        owners=(replace(rule.owners[0], keys=tuple(k.public for k in keys)),), k=1, algorithms=rule.algorithms
    )
    forged = replace(channel.status, version=2)
    channel.force(
        {
            "targets": channel.trust.build_targets(version=2, status_rule=swapped),
            "status": channel.sign_status(forged, signers=keys),
        }
    )
    with refuses("status-untrusted", 8):
        device.refresh(NOW)


def test_step_8_status_rollback_an_older_status_in_a_new_publication(channel, device):
    first = channel.signed_status
    again(channel)
    device.refresh(channel.now)
    channel.force({"status": first})
    with refuses("status-rollback", 8):
        device.refresh(channel.now)


def test_step_8_status_rollback_older_by_a_second(channel, device):
    channel.issue(at=NOW - SECOND)
    channel.publish(channel.approve(version="2", counter=2))
    with refuses("status-rollback", 8):
        device.refresh(NOW)


def test_step_8_status_rollback_a_revocation_is_taken_back(channel, device):
    second = channel.approve(version="2", counter=2)
    channel.revoke(Digest.of(b"some release"))
    channel.publish(second)
    device.refresh(NOW)
    for revoked in ((), (StatusEntry(kind="manifest", digest=Digest.of(b"some release"), reason="", since=NOW),)):
        channel.issue(revoked=revoked)
        channel.publish(second)
        with refuses("status-rollback", 8) as refused:
            device.refresh(NOW)
        assert refused.value.evidence["taken back"] == [f"release {Digest.of(b'some release')}"]


def test_step_8_status_rollback_an_epoch_is_lowered_or_forgotten(channel, device):
    second = channel.approve(version="2", counter=2, epoch=5)
    channel.issue(min_epoch={"digits": 5})
    channel.publish(second)
    device.refresh(NOW)
    for floor in ({"digits": 4}, {}, {"other": 9}):
        channel.issue(min_epoch=floor)
        channel.publish(second)
        with refuses("status-rollback", 8) as refused:
            device.refresh(NOW)
        assert refused.value.evidence["lowered"] == ["digits"]


def test_step_8_status_stale_the_operator_keeps_newer_ones_back(channel, device):
    largest = timedelta(seconds=channel.trust.policy.limits.largest_status_age_s)
    channel.now = NOW + largest
    first = channel.approve(version="2", counter=2)
    channel.publish(first)
    assert device.refresh(NOW + largest)
    with refuses("status-stale", 8):
        device.refresh(NOW + largest + SECOND)


# Step 9: targets-untrusted


def test_step_9_targets_untrusted_signed_by_fewer_than_k_whole_owners(channel, device):
    trust = channel.trust
    for signers in (
        [],
        trust.keys("operator"),
        trust.keys("owner-a"),
        halves(trust, ("owner-a", 0), ("owner-b", 1), ("owner-c", 0), ("owner-c", 1)),
        halves(trust, ("owner-a", 0), ("owner-b", 0), ("owner-c", 0), ("owner-a", 1)),
    ):
        channel.force({"targets": trust.build_targets(version=2, signers=signers)})
        with refuses("targets-untrusted", 9):
            device.refresh(NOW)


def test_step_9_targets_untrusted_an_operator_swaps_the_status_keys(channel, device):
    keys = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_65))
    rule = channel.trust.policy.rule("status")
    mine = replace(rule, owners=(replace(rule.owners[0], keys=tuple(k.public for k in keys)),))
    forged = replace(channel.status, version=2)
    channel.force(
        {
            "targets": channel.trust.build_targets(version=2, status_rule=mine, signers=channel.trust.keys("operator")),
            "status": channel.sign_status(forged, signers=keys),
        }
    )
    with refuses("targets-untrusted", 9):
        device.refresh(NOW)


def test_step_9_targets_untrusted_a_channel_file_of_another_signer(channel, device):
    for signers in ([], channel.trust.keys("builder"), channel.trust.keys("owner-a", "owner-b")):
        channel.force({"production": channel.resign("production", lambda signed: None, signers)})
        with refuses("targets-untrusted", 9):
            device.refresh(NOW)


def test_step_9_targets_untrusted_nobody_delegated_this_channel(channel):
    trust = SimTrust(channels=("staging",), log=channel.log)
    other = SimChannel(trust, name="production")
    other.publish(other.approve())
    with refuses("targets-untrusted", 9):
        follower(other).refresh(NOW)


@pytest.mark.parametrize("buckets", [[0, 10_001], [5, 5], [9, 1], [-1, 5], [0], "all"])
def test_step_9_targets_untrusted_signed_properly_and_not_a_channel_file(channel, device, buckets):
    def change(signed):
        signed.unrecognized_fields["x-chopmark"]["assign"][0]["buckets"] = buckets

    channel.force({"production": channel.resign("production", change)})
    with refuses("targets-untrusted", 9):
        device.refresh(NOW)


def test_step_9_channel_expired_an_operator_that_was_replaced_long_ago(channel, device):
    def change(signed):
        signed.expires = NOW - SECOND
        signed.version += 1

    channel.force({"production": channel.resign("production", change)})
    with refuses("channel-expired", 5):
        device.refresh(NOW)


# The way back


def test_a_root_that_raises_reset_is_the_only_way_back(channel, device):
    """Somebody drove the versions to their end; the root owners start them again."""
    device.memory.versions = dict.fromkeys(("timestamp", "snapshot", "production", "status", "targets"), 2**53 - 1)
    with refuses("channel-rollback", 5):
        device.refresh(NOW)
    data, trust = channel.trust.build_root(version=2, reset=1)
    assert decode_trust(trust) == channel.trust.policy
    channel.store.files["metadata/2.root.json"] = data
    assert device.refresh(NOW).version == "1"
