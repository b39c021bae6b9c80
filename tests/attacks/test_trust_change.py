# SPDX-License-Identifier: Apache-2.0
"""A change of trust that somebody bends: altered, stale, foreign, lowered, forged, half-signed, or left half-applied."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta

import click
import pytest
from tuf.api.metadata import Metadata, Signature

from chopmark.apps.cli.render import dim, good, harmless, strong
from chopmark.apps.cli.trust import places
from chopmark.channel.publish import build_targets
from chopmark.errors import ChopmarkError, DecodeError, Refused, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.release.trusting import examine
from chopmark.trust import RetiredFor, decode_trust, edit, encode_trust, sign_metadata
from chopmark.trust.change import (
    MAX_PROPOSAL_BYTES,
    check,
    complete,
    decode_proposal,
    draft,
    encode_proposal,
    merge,
    sign,
    trust_of,
)
from simulators import NOW
from simulators.ceremony import SimCeremony, new_keys


@pytest.fixture
def ceremony():
    return SimCeremony()


def longer(ceremony):
    return replace(ceremony.start, expires=NOW + timedelta(days=500))


def refused(call, code, *words):
    with pytest.raises(ChopmarkError) as error:
        call()
    assert error.value.code == code, error.value
    for word in words:
        assert word in error.value.message
    return error.value


def raw(ceremony, wanted):
    """A proposal that no check of ours was asked about."""
    policy = trust_of(ceremony.standing, wanted)
    targets = build_targets(
        version=2,
        expires=wanted.expires,
        channels=dict.fromkeys(ceremony.people.channels, policy.owners["operator"].keys),
        status=policy.rule("status"),
    )
    return draft(ceremony.standing, wanted, targets=targets)


def signed_by(proposal, *signers):
    """*proposal* signed by people who check nothing."""
    proposal = copy.deepcopy(proposal)
    for metadata in (proposal.root, proposal.targets):
        sign_metadata(metadata, signers)
    return proposal


# Altered after somebody signed


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["root"]["signed"].update(expires="2036-01-01T00:00:00Z"),
        lambda m: m["root"]["signed"]["x-chopmark"]["rule"].update(k=1),
        lambda m: m["trust"]["roles"]["approver"].update(k=1),
        lambda m: m["targets"]["signed"].update(version=9),
        lambda m: m["root"]["signed"].update({"x-note": "harmless"}),
    ],
)
def test_a_proposal_altered_after_a_signature_counts_for_nothing(ceremony, change):
    proposal = ceremony.signed(longer(ceremony), "owner-a", "owner-b")
    members = json.loads(encode_proposal(proposal))
    change(members)
    with pytest.raises(VerificationError):
        examine(ceremony.standing, decode_proposal(json.dumps(members).encode()), now=NOW)


def test_whose_signature_no_longer_fits_is_said(ceremony):
    proposal = ceremony.signed(longer(ceremony), "owner-b")
    other = ceremony.propose(replace(ceremony.start, expires=NOW + timedelta(days=501))).proposal
    other.root.signatures.update(proposal.root.signatures)
    error = refused(lambda: check(ceremony.standing, other, now=NOW), "trust-proposal-altered", "owner-b", "root.json")
    assert error.evidence["digest"] == str(other.digest)


def test_a_bogus_signature_among_good_ones_is_named_and_not_passed_over(ceremony):
    proposal = ceremony.signed(longer(ceremony), "owner-a", "owner-b")
    stranger = new_keys()[0]
    for keyid, words in (
        (stranger.public.keyid, "no root owner"),
        (ceremony.people.signers["owner-c"][0].public.keyid, "owner-c"),
    ):
        bent = copy.deepcopy(proposal)
        bent.targets.signatures[keyid] = Signature(keyid, "00" * 64)
        refused(lambda bent=bent: complete(ceremony.standing, bent, now=NOW), "trust-proposal-altered", words)


def test_a_copy_of_another_proposal_is_not_merged(ceremony):
    one = ceremony.signed(longer(ceremony), "owner-a")
    other = ceremony.signed(replace(ceremony.start, expires=NOW + timedelta(days=501)), "owner-b")
    refused(lambda: merge(ceremony.standing, [one, other], now=NOW), "trust-proposal-differs")


# Too few


def test_nothing_governs_before_enough_owners_signed_under_both_rules(ceremony):
    wanted = ceremony.add_owner(ceremony.start, "owner-d")
    wanted = edit.change_root(wanted, owners=["owner-b", "owner-c", "owner-d"], k=3)
    for owners in ((), ("owner-a",), ("owner-a", "owner-b"), ("owner-c", "owner-d"), ("owner-a", "owner-c", "owner-d")):
        proposal = ceremony.signed(wanted, *owners)
        refused(lambda proposal=proposal: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete")
    complete(ceremony.standing, ceremony.signed(wanted, "owner-b", "owner-c", "owner-d"), now=NOW)


def test_a_lowered_rule_is_signed_under_the_old_one_or_not_at_all(ceremony):
    """One owner lowers root to one of three: new rule met, old rule not."""
    proposal = ceremony.signed(edit.change_root(ceremony.start, k=1), "owner-a")
    refused(lambda: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete", "owner-b")


def test_dropping_the_post_quantum_half_needs_both_halves_once_more(ceremony):
    wanted = replace(ceremony.start, root_algorithms=ceremony.start.root_algorithms[:1])
    proposal = ceremony.propose(wanted).proposal
    classical = [ceremony.people.signers[owner][0] for owner in ("owner-a", "owner-b", "owner-c")]
    proposal = signed_by(proposal, *classical)
    refused(lambda: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete")


def test_half_of_a_hybrid_does_not_count(ceremony):
    proposal = ceremony.propose(longer(ceremony)).proposal
    for owner in ("owner-a", "owner-b", "owner-c"):
        proposal = sign(ceremony.standing, proposal, ceremony.people.keys(owner)[:1], now=NOW)
    refused(lambda: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete")


def test_targets_that_nobody_signed_hold_the_change_back(ceremony):
    proposal = ceremony.signed(longer(ceremony), "owner-a", "owner-b")
    proposal.targets.signatures.clear()
    refused(lambda: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete")


def test_owners_of_the_new_root_alone_take_nothing_over(ceremony):
    wanted = ceremony.start
    for name in ("thief-a", "thief-b"):
        wanted = ceremony.add_owner(wanted, name)
    wanted = edit.change_root(wanted, owners=["thief-a", "thief-b"])
    proposal = ceremony.signed(wanted, "thief-a", "thief-b")
    refused(lambda: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete", "owner-a")


# One person, two names


def test_one_key_under_two_owners_is_refused(ceremony):
    key = ceremony.people.signers["owner-a"][0].public
    refused(lambda: edit.add_key(edit.add_owner(ceremony.start, "owner-z"), "owner-z", key), "key-taken")
    members = json.loads(encode_trust(ceremony.standing.trust))
    members["owners"]["owner-z"] = [members["owners"]["owner-a"][0]]
    with pytest.raises(DecodeError):
        decode_trust(json.dumps(members).encode())


def test_two_owners_do_not_sign_in_one_go(ceremony):
    proposal = ceremony.propose(longer(ceremony)).proposal
    both = ceremony.people.keys("owner-a", "owner-b")
    refused(lambda: sign(ceremony.standing, proposal, both, now=NOW), "two-owners")


def test_two_keys_of_one_owner_are_one_owner(ceremony):
    wanted = ceremony.start
    spare = new_keys()
    for signer in spare:
        wanted = edit.add_key(wanted, "owner-a", signer.public)
    ceremony.adopt(ceremony.signed(wanted, "owner-a", "owner-b"))
    ceremony.people.signers["owner-a"] += spare
    proposal = ceremony.signed(longer(ceremony), "owner-a")
    refused(lambda: complete(ceremony.standing, proposal, now=NOW), "trust-proposal-incomplete", "owner-b")


def test_strangers_and_those_who_signed_add_nothing(ceremony):
    proposal = ceremony.signed(longer(ceremony), "owner-a")
    for keys, code in (
        (new_keys(), "not-a-root-owner"),
        (ceremony.people.keys("gate"), "not-a-root-owner"),
        (ceremony.people.keys("owner-a"), "already-signed"),
    ):
        refused(lambda keys=keys: sign(ceremony.standing, proposal, keys, now=NOW), code)


# The wrong time, the wrong place


def test_a_stale_proposal_is_made_again(ceremony):
    stale = ceremony.signed(longer(ceremony), "owner-a", "owner-b")
    ceremony.adopt(ceremony.signed(replace(ceremony.start, expires=NOW + timedelta(days=400)), "owner-a", "owner-b"))
    for call in (
        lambda: complete(ceremony.standing, stale, now=NOW),
        lambda: sign(ceremony.standing, stale, ceremony.people.keys("owner-c"), now=NOW),
    ):
        refused(call, "trust-proposal-stale", "root 2 governs now")


def test_a_machine_that_is_behind_says_so(ceremony):
    behind = ceremony.standing
    ceremony.adopt(ceremony.signed(longer(ceremony), "owner-a", "owner-b"))
    proposal = ceremony.propose(replace(ceremony.start, expires=NOW + timedelta(days=400))).proposal
    refused(lambda: check(behind, proposal, now=NOW), "trust-root-behind")


def test_another_workspace_and_another_history(ceremony):
    proposal = ceremony.propose(longer(ceremony)).proposal
    elsewhere = SimCeremony()
    refused(lambda: check(elsewhere.standing, proposal, now=NOW), "trust-proposal-foreign")
    foreign = replace(proposal, workspace="emca")
    refused(lambda: check(ceremony.standing, foreign, now=NOW), "trust-proposal-foreign")


@pytest.mark.parametrize("version", [1, 3, 9])
def test_a_root_that_skips_or_repeats_a_version(ceremony, version):
    proposal = ceremony.propose(longer(ceremony)).proposal
    proposal.root.signed.version = version
    refused(lambda: check(ceremony.standing, proposal, now=NOW), "trust-proposal-foreign")


@pytest.mark.parametrize("reset", [-1, 2, 7])
def test_a_reset_rises_by_one_or_stays(ceremony, reset):
    proposal = raw(ceremony, replace(ceremony.start, reset=reset))
    refused(lambda: check(ceremony.standing, proposal, now=NOW), "trust-reset")


def test_a_root_that_would_be_expired(ceremony):
    for days in (0, -1):
        proposal = raw(ceremony, replace(ceremony.start, expires=NOW + timedelta(days=days)))
        with pytest.raises(Refused) as error:
            check(ceremony.standing, proposal, now=NOW)
        assert error.value.code == "root-expired"


def test_an_expired_key_stays_in_no_role(ceremony):
    key = new_keys()[0].public
    wanted = edit.add_key(ceremony.start, "owner-b", key, expires=NOW + timedelta(days=1))
    proposal = ceremony.propose(wanted).proposal
    refused(
        lambda: check(ceremony.standing, proposal, now=NOW + timedelta(days=1)),
        "key-expired",
        key.keyid[:16],
        "owner-b",
    )


# Files that contradict one another


def other_keys_in_root(ceremony):
    """Root gives owner-a a key that trust.json does not know."""
    wanted = ceremony.start
    keys = [s.public for s in (*new_keys(), *ceremony.people.signers["owner-a"])]
    proposal = raw(ceremony, wanted)
    owner = replace(wanted.trust.owners["owner-a"], keys=tuple(keys))
    bent = replace(wanted, trust=replace(wanted.trust, owners={**wanted.trust.owners, "owner-a": owner}))
    return replace(raw(ceremony, bent), trust=proposal.trust)


def stranger_as_operator(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    key = new_keys()[0].public
    from chopmark.trust import tuf_key

    proposal.root.signed.add_key(tuf_key(key, owner="operator"), "timestamp")
    return proposal


def threshold_of_one(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    proposal.root.signed.roles["root"].threshold = 1
    return proposal


def targets_for_a_stranger(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    policy = decode_trust(proposal.trust)
    targets = build_targets(
        version=2,
        expires=proposal.root.signed.expires,
        channels={"production": [new_keys()[0].public]},
        status=policy.rule("status"),
    )
    return replace(proposal, targets=targets)


def status_for_a_stranger(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    policy = decode_trust(proposal.trust)
    rule = replace(policy.rule("status"), owners=policy.rule("approver").owners)
    targets = build_targets(
        version=2,
        expires=proposal.root.signed.expires,
        channels={"production": policy.owners["operator"].keys},
        status=rule,
    )
    return replace(proposal, targets=targets)


def targets_for_ever(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    proposal.targets.signed.expires = NOW + timedelta(days=9000)
    return proposal


def no_channel(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    proposal.targets.signed.delegations.roles.pop("production")
    return proposal


def broken_witness_policy(ceremony):
    start = longer(ceremony)
    return raw(ceremony, replace(start, trust=replace(start.trust, witness_policy="quorum nobody\n")))


def every_ledger_frozen(ceremony):
    from chopmark.artifacts import Digest
    from chopmark.trust import Frozen

    start = longer(ceremony)
    return raw(ceremony, edit.freeze_log(start, start.trust.logs[0].origin, Frozen(size=1, root=Digest.of(b""))))


def two_signatures_for_git(ceremony):
    return raw(ceremony, edit.change_role(longer(ceremony), "git", k=2))


@pytest.mark.parametrize(
    "bend",
    [
        other_keys_in_root,
        stranger_as_operator,
        threshold_of_one,
        targets_for_a_stranger,
        status_for_a_stranger,
        targets_for_ever,
        no_channel,
        broken_witness_policy,
        every_ledger_frozen,
        two_signatures_for_git,
    ],
)
def test_files_that_contradict_one_another_are_signed_by_nobody(ceremony, bend):
    refused(lambda: examine(ceremony.standing, bend(ceremony), now=NOW), "trust-proposal-unfit")


def test_the_trust_json_beside_a_root_is_the_one_it_names(ceremony):
    proposal = raw(ceremony, longer(ceremony))
    other = encode_trust(replace(decode_trust(proposal.trust), version=2, witness_policy="quorum none\n"))
    refused(lambda: check(ceremony.standing, replace(proposal, trust=other), now=NOW), "trust-proposal-unfit")


def test_fewer_owners_than_the_rule_asks_for(ceremony):
    keyid = ceremony.people.signers["owner-c"][1].public.keyid
    wanted = edit.remove_key(ceremony.start, keyid, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    wanted = edit.change_role(wanted, "approver", k=2)
    refused(lambda: raw_check(ceremony, replace(wanted, root_k=3)), "role-unmeetable")


@pytest.mark.parametrize("owner", ["owner-c", "owner-b"])
def test_a_retired_key_does_not_come_back_under_any_name(ceremony, owner):
    """The edits refuse it; whoever writes a proposal without them is refused by every machine that signs."""
    stolen = ceremony.people.signers["owner-c"][0].public
    fresh = new_keys()[0]
    wanted = edit.remove_key(ceremony.start, stolen.keyid, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    ceremony.adopt(ceremony.signed(edit.add_key(wanted, "owner-c", fresh.public), "owner-a", "owner-b"))
    forgotten = replace(ceremony.start, trust=replace(ceremony.start.trust, retired=()))
    refused(lambda: ceremony.propose(edit.add_key(forgotten, owner, stolen)), "key-retired", "compromised", owner)


def raw_check(ceremony, wanted):
    return check(ceremony.standing, raw(ceremony, wanted), now=NOW)


# Bytes


def test_a_proposal_of_a_hundred_megabytes_is_not_parsed():
    with pytest.raises(DecodeError, match=r"allowed|more than"):
        decode_proposal(b'{"v":1,"x":"' + b"a" * 100_000_000 + b'"}')
    assert MAX_PROPOSAL_BYTES < 100_000_000


def test_members_that_stand_twice_or_that_nobody_would_sign(ceremony):
    data = encode_proposal(ceremony.propose(longer(ceremony)).proposal)
    members = json.loads(data)
    for bent in (
        data.replace(b'"workspace":"acme"', b'"workspace":"acme","workspace":"emca"', 1),
        json.dumps({**members, "note": "please"}).encode(),
        json.dumps({**members, "x-summary": "renews the root, nothing else"}).encode(),
        json.dumps({**members, "v": 2}).encode(),
        json.dumps({**members, "root": members["targets"]}).encode(),
        json.dumps({**members, "targets": members["root"]}).encode(),
        json.dumps({**members, "root": {**members["root"], "note": 1}}).encode(),
    ):
        assert bent != data
        with pytest.raises(DecodeError):
            decode_proposal(bent)


def test_one_key_signs_once_in_a_file(ceremony):
    members = json.loads(encode_proposal(ceremony.signed(longer(ceremony), "owner-a")))
    members["root"]["signatures"].append(members["root"]["signatures"][0])
    with pytest.raises(DecodeError):
        decode_proposal(json.dumps(members).encode())


def test_who_signs_is_told_what_the_bytes_say(ceremony):
    """A proposer that says "only a new date" cannot hide a new owner: the difference is made from what is signed."""
    wanted = edit.change_root(ceremony.add_owner(longer(ceremony), "mallory"), owners=["mallory", "owner-b"], k=1)
    proposal = decode_proposal(encode_proposal(ceremony.propose(wanted).proposal))
    told = {d.what: d for d in examine(ceremony.standing, proposal, now=NOW).differences}
    assert told["root owners"].weaker
    assert "mallory" in told["root owners"].after
    assert told["key of mallory"].weaker


def test_no_name_in_a_proposal_moves_the_cursor_or_makes_a_line(ceremony):
    """Subjects are free text: one that rubs out the line with the ``!`` would let an owner sign what they never saw."""
    tester = ceremony.start.trust.roles["tester"]
    bent = replace(
        tester, subjects=(*tester.subjects, "*\x1b[2K\x1b[1A\x1b[8m\r\n  · nobody can do more than before\u202e")
    )
    wanted = replace(
        ceremony.start, trust=replace(ceremony.start.trust, roles={**ceremony.start.trust.roles, "tester": bent})
    )
    examined = ceremony.propose(wanted)
    (difference,) = examined.differences
    assert difference.weaker
    assert difference.explain().isprintable()
    assert all(click.unstyle(harmless(line)).isprintable() for line in places.lines(examined))


def test_what_is_printed_has_styles_and_no_other_control():
    styled = good("fine") + strong("bold") + dim("less")
    assert harmless(styled) == styled
    assert harmless("a\x1b[8mb\x1b]0;t\x07\x9b1A\rc\x1b[1;1Hd\x1b[31me\nf").translate({0xFFFD: None}) == (
        "a[8mb]0;t1Ac[1;1Hd\x1b[31me\nf"
    )


def test_a_signature_by_an_algorithm_that_is_not_asked_for(ceremony):
    signer = new_keys()[0]
    assert signer.public.algorithm is Algorithm.ED25519
    with pytest.raises(UsageError):
        sign(ceremony.standing, ceremony.propose(longer(ceremony)).proposal, [signer], now=NOW)
    assert Metadata  # the files are stock TUF metadata
