# SPDX-License-Identifier: Apache-2.0
"""A change of trust that goes well: drafted, signed in any order, merged, complete; and what it means in words."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from chopmark.artifacts import Digest
from chopmark.channel.follow import signed_targets
from chopmark.errors import UsageError
from chopmark.keys import Algorithm
from chopmark.trust import Frozen, LogKeys, RetiredFor, decode_trust, edit
from chopmark.trust.change import complete, decode_proposal, encode_proposal, merge, progress, sign, unchanged
from chopmark.trust.difference import differences, powers
from simulators import NOW
from simulators.ceremony import SimCeremony, new_keys


def later(wanted):
    return replace(wanted, expires=NOW + timedelta(days=500))


@pytest.fixture
def ceremony():
    return SimCeremony()


def test_a_proposal_is_its_bytes(ceremony):
    proposal = ceremony.signed(later(ceremony.start), "owner-a", "owner-c")
    assert decode_proposal(encode_proposal(proposal)).digest == proposal.digest
    assert encode_proposal(decode_proposal(encode_proposal(proposal))) == encode_proposal(proposal)


def test_any_two_of_three_owners_in_any_order_on_their_own_copies(ceremony):
    proposal = ceremony.propose(later(ceremony.start)).proposal
    copies = {
        o: sign(ceremony.standing, proposal, ceremony.people.keys(o), now=NOW)
        for o in ("owner-a", "owner-b", "owner-c")
    }
    for names in itertools.permutations(copies, 2):
        merged = merge(ceremony.standing, [copies[name] for name in names], now=NOW)
        accepted = complete(ceremony.standing, merged, now=NOW)
        assert accepted.root.version == 2
        assert accepted.root.expires == NOW + timedelta(days=500)
        assert signed_targets(accepted.root, accepted.targets).version == 2
    one = [
        encode_proposal(merge(ceremony.standing, list(order), now=NOW))
        for order in itertools.permutations(copies.values())
    ]
    assert len(set(one)) == 1


def test_signed_in_turn_is_the_same_as_signed_apart(ceremony):
    proposal = ceremony.propose(later(ceremony.start)).proposal
    for owner in ("owner-b", "owner-a"):
        carried = decode_proposal(encode_proposal(proposal))
        proposal = sign(ceremony.standing, carried, ceremony.people.keys(owner), now=NOW)
    assert progress(ceremony.standing, proposal).complete


def test_the_digest_covers_what_is_signed_and_no_signature(ceremony):
    proposal = ceremony.propose(later(ceremony.start)).proposal
    signed = sign(ceremony.standing, proposal, ceremony.people.keys("owner-a"), now=NOW)
    assert signed.digest == proposal.digest
    other = ceremony.propose(edit.change_limits(later(ceremony.start), {"clock_tolerance_s": 301})).proposal
    assert other.digest != proposal.digest


def test_progress_says_who_is_missing_under_both_rules(ceremony):
    wanted = ceremony.add_owner(ceremony.start, "owner-d")
    wanted = edit.change_root(wanted, owners=["owner-b", "owner-c", "owner-d"], k=3)
    proposal = ceremony.signed(wanted, "owner-d")
    found = progress(ceremony.standing, proposal)
    assert (found.old.counted, found.new.counted, found.signed) == ((), ("owner-d",), ("owner-d",))
    assert found.waiting == ("owner-a", "owner-b", "owner-c")
    found = progress(ceremony.standing, ceremony.signed(wanted, "owner-b", "owner-c"))
    assert found.old.met
    assert (found.complete, found.waiting) == (False, ("owner-d",))
    assert progress(ceremony.standing, ceremony.signed(wanted, "owner-b", "owner-c", "owner-d")).complete


def test_an_owner_who_changes_keys_signs_with_both(ceremony):
    old, fresh = ceremony.people.signers["owner-a"], new_keys()
    wanted = ceremony.start
    for signer in fresh:
        wanted = edit.add_key(wanted, "owner-a", signer.public)
    for signer in old:
        wanted = edit.remove_key(wanted, signer.public.keyid, reason=RetiredFor.SUPERSEDED, until=7, log="log.acme/m")
    proposal = ceremony.propose(wanted).proposal
    proposal = sign(ceremony.standing, proposal, [*old, *fresh], now=NOW)
    proposal = sign(ceremony.standing, proposal, ceremony.people.keys("owner-b"), now=NOW)
    accepted = ceremony.adopt(proposal)
    assert {k.keyid for k in accepted.policy.owners["owner-a"].keys} == {s.public.keyid for s in fresh}
    assert [(o.owner, o.until) for o in accepted.policy.retired] == [("owner-a", 7), ("owner-a", 7)]


def test_owners_are_replaced_one_after_the_other(ceremony):
    """Root 1 -> 2 -> 3: after two changes none but one of the first three owners is left."""
    wanted = ceremony.add_owner(ceremony.start, "owner-d")
    wanted = edit.change_root(wanted, owners=["owner-b", "owner-c", "owner-d"])
    ceremony.adopt(ceremony.signed(wanted, "owner-b", "owner-c"))
    wanted = ceremony.add_owner(ceremony.start, "owner-e")
    wanted = edit.change_root(wanted, owners=["owner-c", "owner-d", "owner-e"])
    third = ceremony.adopt(ceremony.signed(wanted, "owner-d", "owner-c"))
    assert (third.root.version, third.policy.version) == (3, 3)
    assert [owner.name for owner in third.root.rule.owners] == ["owner-c", "owner-d", "owner-e"]


def test_a_reset_rises_by_one_and_is_said_to_be_the_last_resort(ceremony):
    examined = ceremony.propose(replace(ceremony.start, reset=1))
    assert ceremony.adopt(ceremony.signed(replace(ceremony.start, reset=1), "owner-a", "owner-b")).root.reset == 1
    (line,) = [d for d in examined.differences if d.what == "reset"]
    assert line.weaker
    assert "forgets" in line.explain()


# Edits


def test_edits_that_cannot_be(ceremony):
    start, key = ceremony.start, new_keys()[0].public
    mine = ceremony.people.signers["owner-a"][0].public
    retired = edit.remove_key(start, mine.keyid, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    origin = start.trust.logs[0].origin
    frozen = edit.freeze_log(start, origin, Frozen(size=3, root=Digest.of(b"")))
    for wrong in (
        lambda: edit.add_owner(start, "owner-a"),
        lambda: edit.add_owner(start, "Owner D"),
        lambda: edit.add_key(start, "owner-d", key),
        lambda: edit.add_key(start, "owner-b", mine),
        lambda: edit.add_key(start, "owner-a", mine),
        lambda: edit.add_key(retired, "owner-a", mine),
        lambda: edit.remove_key(start, mine.keyid[:7], reason=RetiredFor.COMPROMISED, until=0, log="l"),
        lambda: edit.remove_key(start, "00" * 32, reason=RetiredFor.COMPROMISED, until=0, log="l"),
        lambda: edit.remove_owner(start, "owner-d", reason=RetiredFor.COMPROMISED, until=0, log="l"),
        lambda: edit.change_role(start, "emergency", k=1),
        lambda: edit.change_role(start, "approver", k=4),
        lambda: edit.change_role(start, "approver", owners=["owner-a", "owner-a"]),
        lambda: edit.change_root(start, k=4),
        lambda: edit.change_root(start, owners=["owner-a", "owner-a"]),
        lambda: edit.change_root(start, owners=["owner-z"]),
        lambda: edit.freeze_log(start, "log.other", Frozen(size=3, root=Digest.of(b""))),
        lambda: edit.freeze_log(frozen, origin, Frozen(size=4, root=Digest.of(b""))),
        lambda: edit.add_log(start, LogKeys(origin=origin, require=("k",))),
        lambda: edit.change_limits(start, {"patience_s": 1}),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_an_owner_who_leaves_is_in_no_role_and_their_keys_are_kept_as_retired(ceremony):
    wanted = edit.remove_owner(ceremony.start, "owner-c", reason=RetiredFor.SUPERSEDED, until=3, log="log.acme/m")
    accepted = ceremony.adopt(ceremony.signed(wanted, "owner-a", "owner-b"))
    assert "owner-c" not in accepted.policy.owners
    assert accepted.policy.role("approver").owners == ("owner-a", "owner-b")
    assert {old.owner for old in accepted.policy.retired} == {"owner-c"}


def test_too_few_owners_for_a_role_are_said_when_it_is_made(ceremony):
    wanted = ceremony.start
    for name in ("owner-b", "owner-c"):
        wanted = edit.remove_owner(wanted, name, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    with pytest.raises(UsageError, match="approver asks for 2 owners; 1 have") as refused:
        ceremony.propose(wanted)
    assert refused.value.code == "role-unmeetable"


def test_limits_and_the_end_of_keys(ceremony):
    key = new_keys()[0].public
    wanted = edit.add_key(ceremony.start, "builder", key, expires=NOW + timedelta(days=1))
    wanted = edit.change_limits(wanted, {"key_life_s": 1000, "key_warning_s": 100, "max_status_age_s.critical": 60})
    policy = decode_trust(ceremony.propose(wanted).proposal.trust)
    assert policy.key_expiry == {key.keyid: NOW + timedelta(days=1)}
    assert (policy.limits.key_life_s, policy.limits.max_status_age_s["critical"]) == (1000, 60)


def test_nothing_to_change_is_said(ceremony):
    with pytest.raises(UsageError) as refused:
        ceremony.propose(ceremony.start)
    assert refused.value.code == "trust-unchanged"


# Words


def said(before, after):
    return {d.explain(): d.weaker for d in differences(before, after)}


def test_what_asks_for_less_is_marked(ceremony):
    start = ceremony.start
    assert said(start, start) == {}
    more = edit.change_role(start, "approver", k=3)
    assert said(start, more) == {
        "role approver: 2 of owner-a, owner-b, owner-c → 3 of owner-a, owner-b, owner-c": False
    }
    assert set(said(more, start).values()) == {True}
    assert said(start, edit.change_root(start, owners=["owner-a", "owner-b"])) == {
        "root owners: 2 of owner-a, owner-b, owner-c → 2 of owner-a, owner-b": False
    }
    assert list(said(start, edit.change_root(start, k=1)).values()) == [True]
    longer = edit.change_limits(start, {"max_status_age_s.normal": 8 * 86_400})
    assert said(start, longer) == {"max_status_age_s.normal: 604,800 s → 691,200 s": True}


def test_dropping_half_of_a_hybrid_is_marked_and_adding_one_is_not(ceremony):
    start = ceremony.start
    role = start.trust.roles["approver"]
    half = replace(role, algorithms=role.algorithms[:1])
    weaker = replace(start, trust=replace(start.trust, roles={**start.trust.roles, "approver": half}))
    assert list(said(start, weaker).values()) == [True]
    assert list(said(weaker, start).values()) == [False]
    assert list(said(start, replace(start, root_algorithms=(frozenset({Algorithm.ED25519}),))).values()) == [True]


def test_a_key_that_is_dropped_and_not_retired_is_marked(ceremony):
    start = ceremony.start
    keyid = start.trust.owners["owner-a"].keys[0].keyid
    kept = edit.remove_key(start, keyid, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    dropped = replace(kept, trust=replace(kept.trust, retired=()))
    assert list(said(start, kept).values()) == [False]
    assert list(said(start, dropped).values()) == [True]
    assert list(said(kept, dropped).values()) == [True]


def test_who_can_act_counts_those_that_have_the_keys(ceremony):
    start = ceremony.start
    keyid = start.trust.owners["owner-a"].keys[0].keyid
    after = edit.remove_key(start, keyid, reason=RetiredFor.COMPROMISED, until=0, log="log.acme/m")
    changed = {p.who: (p.before, p.after) for p in powers(start, after) if p.changed}
    whole, less = "2 of owner-a, owner-b, owner-c", "2 of owner-b, owner-c"
    assert changed == {"root": (whole, less), "approver": (whole, less)}


def test_ledgers_and_witnesses_are_told(ceremony):
    start = ceremony.start
    origin = start.trust.logs[0].origin
    after = edit.freeze_log(start, origin, Frozen(size=3, root=Digest.of(b"root")))
    after = edit.add_log(after, LogKeys(origin="log.acme/2", require=("log.acme/2+abcd+key",)))
    lines = said(start, after)
    assert any("frozen at 3 entries" in line and not weaker for line, weaker in lines.items())
    assert any(line.startswith("ledger log.acme/2: new: active") for line in lines)
    assert any(said(after, start).values())
    assert unchanged(ceremony.standing) == start
