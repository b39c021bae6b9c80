# SPDX-License-Identifier: Apache-2.0
"""trust.json and root.json: what they may say. Who must sign them is attacked in tests/attacks/test_channel_steps.py."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata

from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, Refused, VerificationError
from chopmark.keys import Algorithm
from chopmark.release.founding import default_trust, found
from chopmark.statements import PredicateType
from chopmark.trust import (
    count_signed,
    decode_trust,
    encode_trust,
    next_root,
    open_trust,
    pinned_root,
    sign_metadata,
    tuf_key,
)
from simulators import NOW, SimTrust

TRUST = SimTrust()


def test_round_trip():
    assert decode_trust(TRUST.trust) == TRUST.policy
    assert encode_trust(decode_trust(TRUST.trust)) == TRUST.trust
    assert open_trust(TRUST.root, TRUST.trust) == TRUST.policy


def first(members, *path):
    for name in path:
        members = members[name]
    return members


def swap_algorithm(members):
    first(members, "owners", "owner-a")[0]["algorithm"] = "ml-dsa-65"


def share_a_key(members):
    members["owners"]["owner-b"] = members["owners"]["owner-a"]


def half_of_every_owner(members):
    for owner in ("owner-a", "owner-b"):
        members["owners"][owner].pop()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(v=2),
        lambda m: m.update(version=0),
        lambda m: m.update(also=1),
        lambda m: m.pop("limits"),
        lambda m: m.update(workspace="Acme"),
        lambda m: m["owners"].update({"Owner A": []}),
        lambda m: m["owners"]["owner-a"][0].update(keyid="00" * 32),
        lambda m: m["owners"]["owner-a"][0].update(public="AAAA"),
        lambda m: m["owners"]["owner-a"][0].update(algorithm="rsa"),
        lambda m: m["owners"]["owner-a"].append(m["owners"]["owner-a"][0]),
        swap_algorithm,
        share_a_key,
        half_of_every_owner,
        lambda m: m["roles"]["approver"].update(k=0),
        lambda m: m["roles"]["approver"].update(k=4),
        lambda m: m["roles"]["approver"].update(owners=[]),
        lambda m: m["roles"]["approver"].update(owners=["owner-a", "nobody", "owner-b"]),
        lambda m: m["roles"]["approver"].update(owners=["owner-a", "owner-a", "owner-b"]),
        lambda m: m["roles"]["approver"].update(algorithms=[]),
        lambda m: m["roles"]["approver"].update(algorithms=[["ed25519"], []]),
        lambda m: m["roles"]["approver"].update(algorithms=[["ml-dsa-44"]]),
        lambda m: m["roles"]["approver"].update(algorithms=[["rsa"]]),
        lambda m: m["roles"].update({"Approver": m["roles"]["approver"]}),
        lambda m: m["logs"][0].update(state="open"),
        lambda m: m["logs"][0].update(require=[]),
        lambda m: m["limits"].update(max_status_age_s={}),
        lambda m: m["limits"].update(max_status_age_s={"normal": 0}),
        lambda m: m["limits"].update(max_status_age_s={"normal": 2**53 - 1}),
        lambda m: m["limits"].update(clock_tolerance_s=-1),
        lambda m: m["limits"].update(clock_tolerance_s=2**53 - 1),
    ],
)
def test_trust_is_read_strictly(change):
    members = json.loads(TRUST.trust)
    change(members)
    with pytest.raises(DecodeError):
        decode_trust(json.dumps(members).encode())


def test_annotations_change_nothing():
    members = json.loads(TRUST.trust)
    members["x-note"] = members["roles"]["approver"]["x-why"] = "because"
    assert decode_trust(json.dumps(members).encode()) == TRUST.policy


def test_roles_allow_by_glob():
    approver = TRUST.policy.role("approver")
    assert approver.allows(PredicateType.RELEASE, "model/digits")
    assert not approver.allows(PredicateType.RELEASE, "data/digits")
    assert not approver.allows(PredicateType.VSA, "model/digits")
    assert approver.serves("production")
    assert not replace(approver, channels=("staging-?",)).serves("staging-10")
    with pytest.raises(VerificationError):
        TRUST.policy.role("emergency")


def test_the_default_trust_gives_power_to_people_and_facts_to_machines():
    rules = {name: TRUST.policy.rule(name) for name in TRUST.policy.roles}
    people = {name for name, rule in rules.items() if rule.k >= 2}
    assert people == {"approver", "security"}
    assert all(len(rules[name].algorithms) == 2 for name in (*people, "status"))
    for name, role in TRUST.policy.roles.items():
        assert (PredicateType.RELEASE in role.predicates) == (name == "approver")
        assert (PredicateType.REVOCATION in role.predicates) == (name == "security")
    assert not TRUST.policy.roles["status"].predicates
    assert not TRUST.policy.roles["git"].predicates


def test_a_workspace_needs_enough_root_owners():
    owners = {owner: [s.public for s in signers] for owner, signers in TRUST.signers.items()}
    policy = default_trust("acme", owners=owners, logs=(TRUST.log.keys,), witness_policy=TRUST.log.policy)
    for signers in (TRUST.keys("owner-a"), TRUST.keys("operator"), ()):
        with pytest.raises(Refused):
            found(policy, channels=("production",), root_signers=signers, now=NOW)


# root.json


def changed_root(change):
    """Return root 1 after *change*, signed again by owner-a and owner-b."""
    metadata = Metadata.from_bytes(TRUST.first)
    change(metadata.signed)
    metadata.signatures.clear()
    sign_metadata(metadata, TRUST.keys("owner-a", "owner-b"))
    return metadata.to_bytes()


def extension(root):
    return root.unrecognized_fields["x-chopmark"]


def owner_less(root):
    root.keys[root.roles["root"].keyids[0]].unrecognized_fields.pop("x-owner")


def one_owner(root):
    for keyid in root.roles["root"].keyids:
        root.keys[keyid].unrecognized_fields["x-owner"] = "owner-a"


def foreign_key(root):
    key = tuf_key(generate(Algorithm.ED25519).public, owner="owner-a")
    keyid = root.roles["root"].keyids[0]
    root.keys[keyid] = replace_id(key, keyid)


def replace_id(key, keyid):
    key.keyid = keyid
    return key


def two_names_for_one_key(root):
    """A key under a second id would count for two of TUF's threshold."""
    keyid = root.roles["root"].keyids[0]
    copy = tuf_key(TRUST.signers["owner-a"][0].public, owner="owner-d")
    root.keys["ff" * 32] = replace_id(copy, "ff" * 32)
    root.roles["root"].keyids.append("ff" * 32)
    root.roles["targets"].keyids.append("ff" * 32)
    assert keyid


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.unrecognized_fields.clear(),
        lambda root: extension(root).update(also=1),
        lambda root: extension(root).update(workspace=None),
        lambda root: extension(root).pop("trust"),
        lambda root: extension(root)["trust"].update(sha256="sha256:00"),
        lambda root: extension(root)["rule"].update(k=0),
        lambda root: extension(root)["rule"].update(k=4),
        lambda root: extension(root)["rule"].update(algorithms=[]),
        lambda root: extension(root)["rule"].update(algorithms=[[]]),
        lambda root: extension(root)["rule"].update(algorithms=[["rsa"]]),
        lambda root: setattr(root, "consistent_snapshot", False),
        lambda root: root.roles["targets"].keyids.pop(),
        lambda root: root.keys.pop(root.roles["root"].keyids[0]),
        owner_less,
        one_owner,
        foreign_key,
        two_names_for_one_key,
    ],
)
def test_roots_that_no_rule_can_rest_on(change):
    data = changed_root(change)
    with pytest.raises(Refused) as refused:
        pinned_root(data, Digest.of(data))
    assert (refused.value.code, refused.value.step) == ("root-untrusted", 2)


@pytest.mark.parametrize("keyids", [[None], [1], [""], ["00" * 32]])
def test_key_ids_that_are_none(keyids):
    members = json.loads(TRUST.first)
    members["signed"]["roles"]["root"]["keyids"] = members["signed"]["roles"]["targets"]["keyids"] = keyids
    data = json.dumps(members).encode()
    with pytest.raises(Refused):
        pinned_root(data, Digest.of(data))


def test_a_root_says_who_and_until_when():
    assert (TRUST.root.workspace, TRUST.root.version, TRUST.root.reset) == ("acme", 1, 0)
    assert TRUST.root.expires == NOW + timedelta(days=365)
    assert TRUST.root.digest == TRUST.pin
    assert [owner.name for owner in TRUST.root.rule.owners] == ["owner-a", "owner-b", "owner-c"]


def test_roots_follow_one_another_while_owners_change():
    second_trust = SimTrust()
    incoming = replace(TRUST.rule, owners=(*TRUST.rule.owners[:2], second_trust.rule.owners[2]))
    data, _ = TRUST.build_root(version=2, rule=incoming)
    second = next_root(TRUST.root, data)
    by_the_old, _ = TRUST.build_root(version=3, rule=incoming, signers=TRUST.keys("owner-a", "owner-c"))
    with pytest.raises(Refused):
        next_root(second, by_the_old)
    by_the_new, _ = TRUST.build_root(
        version=3, rule=incoming, signers=[*TRUST.keys("owner-a"), *second_trust.keys("owner-c")]
    )
    assert next_root(second, by_the_new).version == 3


def test_an_unknown_role_counts_for_nobody():
    metadata = Metadata.from_bytes(TRUST.targets)
    with pytest.raises(VerificationError):
        count_signed(TRUST.root.tuf, "nobody", metadata, TRUST.root.rule)


def test_metadata_without_a_canonical_form_is_not_counted():
    metadata = Metadata.from_bytes(TRUST.targets)
    metadata.signed.unrecognized_fields["half"] = "\ud800"
    with pytest.raises(VerificationError):
        count_signed(TRUST.root.tuf, "targets", metadata, TRUST.root.rule)
