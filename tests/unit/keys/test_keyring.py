# SPDX-License-Identifier: Apache-2.0
"""The life of a key, and what hangs on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.errors import VerificationError
from chopmark.keys import Algorithm, Owner
from chopmark.release.keyring import KeyState, expired, impact, in_force, keyring, signed_by, usable
from chopmark.release.live import live_releases
from chopmark.statements import Envelope, Signature
from chopmark.trust import RetiredFor, RetiredKey
from simulators import NOW, SimTrust
from unit.release.kit import Shop, people

SECOND = timedelta(seconds=1)


def until(policy, moment, *owners):
    """Return *policy* with every key of *owners* expiring at *moment*."""
    keys = {key.keyid: moment for owner in owners for key in policy.owners[owner].keys}
    return replace(policy, key_expiry={**policy.key_expiry, **keys})


def states(policy, owner, now=NOW):
    return {key.state for key in keyring(policy, now=now) if key.owner == owner}


def test_a_key_is_current_then_expiring_then_expired():
    trust = until(people().policy, NOW + timedelta(days=60), "tester")
    warning = timedelta(seconds=trust.limits.key_warning_s)
    end = NOW + timedelta(days=60)
    assert states(trust, "tester", end - warning - SECOND) == {KeyState.CURRENT}
    assert states(trust, "tester", end - warning) == {KeyState.EXPIRING}
    assert states(trust, "tester", end - SECOND) == {KeyState.EXPIRING}
    assert states(trust, "tester", end) == {KeyState.EXPIRED}
    assert states(trust, "builder", end) == {KeyState.CURRENT}
    assert not expired(trust, now=end - SECOND)
    assert len(expired(trust, now=end)) == 1


def test_who_expired_counts_for_no_gate_and_nothing_else_changes():
    trust = until(people().policy, NOW, "tester")
    counted = in_force(trust, now=NOW)
    assert counted.owners["tester"].keys == ()
    assert counted.owners["builder"] == trust.owners["builder"]
    assert in_force(trust, now=NOW - SECOND) is trust


def test_an_owner_signs_with_what_trust_knows_and_the_calendar_allows():
    sim = SimTrust()
    old, new = sim.signers["tester"][0], generate(Algorithm.ED25519)
    assert usable([old, new], sim.policy, "tester", now=NOW) == [old], "the new one is not in trust.json yet"
    assert usable([new], sim.policy, "tester", now=NOW) == [new], "counting decides"
    both = Owner(name="tester", keys=(old.public, new.public))
    overlap = replace(sim.policy, owners={**sim.policy.owners, "tester": both})
    assert usable([old, new], overlap, "tester", now=NOW) == [old, new]
    over = replace(overlap, key_expiry={old.public.keyid: NOW})
    assert usable([old, new], over, "tester", now=NOW) == [new]
    with pytest.raises(VerificationError) as refused:
        usable([old], over, "tester", now=NOW)
    assert (refused.value.code, refused.value.hint) == ("key-expired", "chopmark keys rotate tester")


def test_half_of_a_hybrid_is_not_signed_with_silently():
    sim = SimTrust()
    half = next(s for s in sim.signers["owner-a"] if s.public.algorithm is Algorithm.ML_DSA_65)
    trust = replace(sim.policy, key_expiry={half.public.keyid: NOW})
    with pytest.raises(VerificationError, match="ml-dsa-65") as refused:
        usable(sim.keys("owner-a"), trust, "owner-a", now=NOW)
    assert refused.value.code == "key-expired"


def test_a_retired_key_does_not_sign():
    sim = SimTrust()
    old = sim.signers["tester"][0]
    gone = RetiredKey(key=old.public, owner="tester", reason=RetiredFor.COMPROMISED, log="log.acme/m", until=3)
    fresh = Owner(name="tester", keys=(generate(Algorithm.ED25519).public,))
    trust = replace(sim.policy, owners={**sim.policy.owners, "tester": fresh}, retired=(gone,))
    with pytest.raises(VerificationError) as refused:
        usable([old], trust, "tester", now=NOW)
    assert refused.value.code == "key-retired"
    assert [key.state for key in keyring(trust, now=NOW) if key.owner == "tester"] == [
        KeyState.CURRENT,
        KeyState.RETIRED,
    ]


# What hangs on a key: three releases, of which one depends on owner-c.


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    shop = Shop.found(tmp_path_factory.mktemp("three"))
    first = shop.release("1", owners=("owner-a", "owner-b")).checked.release
    second = shop.release("2", owners=("owner-b", "owner-c"), fallbacks=(first.digest,)).checked.release
    shop.release("3", owners=("owner-a", "owner-b", "owner-c"), fallbacks=(second.digest, first.digest))
    return shop


def lost_with(shop, owner, **how):
    keys = [key for key in keyring(shop.trust, now=NOW) if key.owner == owner]
    return impact(
        keys,
        shop.trust,
        live=live_releases(shop.git, shop.main, workspace="acme"),
        entries=shop.ledger.statements(),
        files={"root": {key.keyid for key in keys}, "timestamp": set()},
        root=shop.people.rule,
        **how,
    )


def test_of_three_releases_one_depends_on_the_key(three):
    found = lost_with(three, "owner-c")
    assert [(one.live.release.version, one.lost) for one in found.releases] == [("3", False), ("2", True)]
    assert [(one.live.release.version, one.after.counted) for one in found.lost] == [("2", ("owner-b",))]
    assert found.lost[0].live.assigned == ()
    assert [(role.role, role.lost, role.able) for role in found.roles] == [
        ("approver", False, ("owner-a", "owner-b")),
        ("root", False, ("owner-a", "owner-b")),
    ]
    assert found.files == ("root",)
    assert set(found.powers) == {"approver", "root"}
    assert [one.type for one in found.signed] == ["release", "release"]


def test_without_owner_b_two_are_lost_and_the_newest_stays(three):
    found = lost_with(three, "owner-b")
    assert {one.live.release.version: one.lost for one in found.releases} == {"1": True, "2": True, "3": False}


def test_a_machine_has_no_release_and_its_role_is_lost(three):
    found = lost_with(three, "tester")
    assert found.releases == ()
    assert [(role.role, role.lost) for role in found.roles if role.role != "root"] == [("tester", True)]
    assert {one.type for one in found.signed} == {"test-result"}
    since = found.signed[-1].index
    assert [one.index for one in lost_with(three, "tester", since=since).signed] == [since]


def test_a_key_id_that_somebody_wrote_beside_a_signature_is_not_counted(three):
    keys = [key for key in keyring(three.trust, now=NOW) if key.owner == "tester"]
    forged = Envelope(payload=b"{}", signatures=(Signature(keys[0].keyid, b"\0" * 64),))
    assert signed_by(keys, [(0, forged)]) == ()
