# SPDX-License-Identifier: Apache-2.0
"""Counting owners: every group, distinct people, no half."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.keys import HYBRID, Algorithm, Owner, OwnerRule, count_owners, count_valid

MESSAGE = b"approved"
SIGNERS = {
    name: (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_65)) for name in ("owner-a", "owner-b", "owner-c")
}
RULE = OwnerRule(
    owners=tuple(Owner(name=n, keys=tuple(s.public for s in keys)) for n, keys in SIGNERS.items()),
    k=2,
    algorithms=HYBRID,
)
ALL = [(name, half) for name in SIGNERS for half in (0, 1)]


def signed(*halves, message=MESSAGE):
    return [(SIGNERS[o][half].public.keyid, SIGNERS[o][half].sign(message)) for o, half in halves]


@pytest.mark.parametrize("size", range(7))
def test_every_subset_of_halves(size):
    """Of all 64 subsets: an owner counts if and only if both halves are there."""
    for halves in combinations(ALL, size):
        count = count_owners(RULE, signed(*halves), MESSAGE)
        whole = tuple(name for name in SIGNERS if {(name, 0), (name, 1)} <= set(halves))
        half = {name for name in SIGNERS if len({(name, 0), (name, 1)} & set(halves)) == 1}
        assert (count.counted, set(count.partial), count.met) == (whole, half, len(whole) >= 2)


def test_it_explains_who_is_missing_what():
    count = count_owners(RULE, signed(("owner-a", 0), ("owner-a", 1), ("owner-b", 0)), MESSAGE)
    assert count.explain() == "1 of 2 owners signed (owner-a); owner-b lacks ml-dsa-65"
    assert count_owners(RULE, [], MESSAGE).explain() == "0 of 2 owners signed"


def test_one_owner_with_many_keys_counts_once():
    more = (generate(Algorithm.ED25519), generate(Algorithm.ECDSA_P256), generate(Algorithm.ML_DSA_65))
    rule = replace(
        RULE, owners=(replace(RULE.owners[0], keys=(*RULE.owners[0].keys, *(s.public for s in more))), *RULE.owners[1:])
    )
    signatures = signed(("owner-a", 0), ("owner-a", 1)) + [(s.public.keyid, s.sign(MESSAGE)) for s in more]
    count = count_owners(rule, signatures, MESSAGE)
    assert count.counted == ("owner-a",)
    assert not count.met


def test_any_algorithm_inside_a_group_will_do():
    p256 = generate(Algorithm.ECDSA_P256)
    rule = replace(RULE, k=1, owners=(Owner(name="owner-d", keys=(p256.public, SIGNERS["owner-a"][1].public)),))
    signatures = [(p256.public.keyid, p256.sign(MESSAGE)), *signed(("owner-a", 1))]
    assert count_owners(rule, signatures, MESSAGE).met


def test_unknown_keys_and_bad_signatures_do_not_count_and_do_not_harm():
    good = signed(("owner-a", 0), ("owner-a", 1), ("owner-b", 0), ("owner-b", 1))
    stranger = generate(Algorithm.ED25519)
    noise = [("", b""), ("00" * 32, b"x"), (stranger.public.keyid, stranger.sign(MESSAGE)), ("\ud800", b"")]
    assert count_owners(RULE, noise + good + noise, MESSAGE).met
    other = signed(("owner-b", 1), message=b"something else")
    assert not count_owners(RULE, good[:3] + other, MESSAGE).met


def test_a_signature_under_another_keys_id_does_not_count():
    keyid = SIGNERS["owner-b"][0].public.keyid
    borrowed = [(keyid, SIGNERS["owner-a"][0].sign(MESSAGE)), *signed(("owner-b", 1))]
    assert count_owners(RULE, borrowed, MESSAGE).counted == ()


def test_the_first_signature_of_a_key_decides():
    """So that a thousand copies cost one verification: who adds a signature before it can only take away."""
    good = signed(("owner-a", 0), ("owner-a", 1), ("owner-b", 0), ("owner-b", 1))
    bad = [(keyid, b"bad") for keyid, _ in good]
    assert count_owners(RULE, good + bad * 1000, MESSAGE).met
    assert not count_owners(RULE, bad + good, MESSAGE).met


def test_rules_that_ask_for_nothing_are_met_by_nobody():
    signatures = signed(*ALL)
    assert not count_owners(replace(RULE, k=0), signatures, MESSAGE).met
    assert not count_owners(replace(RULE, algorithms=()), signatures, MESSAGE).met
    assert not count_owners(replace(RULE, algorithms=(frozenset(),)), signatures, MESSAGE).met
    assert not count_owners(replace(RULE, owners=()), signatures, MESSAGE).met


def test_counting_verified_key_ids():
    keyids = {SIGNERS[name][half].public.keyid for name, half in ALL[:4]}
    assert count_valid(RULE, keyids).counted == ("owner-a", "owner-b")
    assert count_valid(RULE, ()).counted == ()
