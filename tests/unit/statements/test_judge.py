# SPDX-License-Identifier: Apache-2.0
"""What an index says about a statement whose keys are used no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.artifacts import Digest
from chopmark.errors import VerificationError
from chopmark.keys import Algorithm, Owner
from chopmark.statements import PredicateType, Statement, Subject, sign
from chopmark.statements.judge import Judgement, judge, judged
from chopmark.trust import RetiredFor, RetiredKey, decode_trust, encode_trust
from simulators import SimTrust

SIM = SimTrust()
NOW = SIM.policy
LOG = NOW.active_log.origin
TESTED = Statement(
    subjects=(Subject("model/digits", Digest.of(b"weights")),),
    predicate_type=PredicateType.TEST_RESULT,
    predicate={"result": "PASSED"},
)
RELEASE = replace(TESTED, predicate_type=PredicateType.RELEASE, predicate={"model": "digits"})


def rotated(owner, *, reason=RetiredFor.SUPERSEDED, until=10, log=LOG, policy=NOW):
    """Return *policy* with every key of *owner* replaced and retired; as trust.json would be read back."""
    old = policy.owners[owner].keys
    fresh = tuple(generate(key.algorithm).public for key in old)
    retired = tuple(RetiredKey(key=key, owner=owner, reason=reason, log=log, until=until) for key in old)
    changed = replace(
        policy,
        version=policy.version + 1,
        owners={**policy.owners, owner: Owner(name=owner, keys=fresh)},
        retired=(*policy.retired, *retired),
    )
    return decode_trust(encode_trust(changed))


def gone(owner, role, **how):
    """Return trust after *owner* left *role* and everything else."""
    policy = rotated(owner, **how)
    roles = dict(policy.roles)
    kept = tuple(name for name in roles[role].owners if name != owner)
    roles[role] = replace(roles[role], owners=kept, k=min(roles[role].k, len(kept)))
    return replace(policy, roles=roles, owners={n: o for n, o in policy.owners.items() if n != owner})


def test_current_keys_need_no_judgement():
    found = judge(sign(TESTED, SIM.keys("tester")), NOW, log=LOG, index=99)
    assert (found.judgement, found.role, found.owners, found.note) == (Judgement.CURRENT, "tester", ("tester",), "")


@pytest.mark.parametrize(
    ("reason", "judgement"),
    [(RetiredFor.SUPERSEDED, Judgement.SUPERSEDED), (RetiredFor.COMPROMISED, Judgement.COMPROMISED_BEFORE)],
)
def test_a_statement_of_before_is_believed_by_its_index(reason, judgement):
    envelope, trust = sign(TESTED, SIM.keys("tester")), rotated("tester", reason=reason)
    for index in (0, 9):
        found = judge(envelope, trust, log=LOG, index=index)
        assert (found.judgement, found.role, found.statement) == (judgement, "tester", TESTED)
        assert f"{reason} since, from entry 10 on" in found.note
    for index in (10, 11):
        with pytest.raises(VerificationError) as refused:
            judge(envelope, trust, log=LOG, index=index)
        assert refused.value.code == "key-retired"
        assert refused.value.evidence["until"] == 10
        assert refused.value.evidence["index"] == index


def test_where_nobody_knows_since_when_nothing_counts():
    trust = rotated("tester", reason=RetiredFor.COMPROMISED, until=0)
    with pytest.raises(VerificationError, match="nobody knows since when") as refused:
        judge(sign(TESTED, SIM.keys("tester")), trust, log=LOG, index=0)
    assert refused.value.code == "key-retired"


def test_an_index_of_another_log_says_nothing():
    trust = rotated("tester", log="log.elsewhere/m")
    with pytest.raises(VerificationError, match="which came first cannot be told") as refused:
        judge(sign(TESTED, SIM.keys("tester")), trust, log=LOG, index=0)
    assert refused.value.code == "key-retired"


def test_a_quorum_of_old_and_current_keys_counts_and_names_the_old():
    trust = rotated("owner-a")
    found = judge(sign(RELEASE, SIM.keys("owner-a", "owner-b")), trust, log=LOG, index=3)
    assert (found.owners, found.judgement) == (("owner-a", "owner-b"), Judgement.SUPERSEDED)
    assert {old.owner for old in found.retired} == {"owner-a"}
    with pytest.raises(VerificationError) as refused:
        judge(sign(RELEASE, SIM.keys("owner-a")), trust, log=LOG, index=3)
    assert refused.value.code == "statement-unsigned"


def test_one_half_of_a_hybrid_is_rotated():
    policy = rotated("owner-a")
    kept = next(key for key in NOW.owners["owner-a"].keys if key.algorithm is Algorithm.ML_DSA_65)
    fresh = next(key for key in policy.owners["owner-a"].keys if key.algorithm is Algorithm.ED25519)
    policy = replace(
        policy,
        owners={**policy.owners, "owner-a": Owner(name="owner-a", keys=(fresh, kept))},
        retired=tuple(old for old in policy.retired if old.key != kept),
    )
    found = judge(sign(RELEASE, SIM.keys("owner-a", "owner-b")), policy, log=LOG, index=3)
    assert [old.key.algorithm for old in found.retired] == [Algorithm.ED25519]


def test_who_left_is_judged_by_the_role_that_they_held():
    trust = gone("owner-a", "approver")
    envelope = sign(RELEASE, SIM.keys("owner-a", "owner-b"))
    found = judge(envelope, trust, log=LOG, index=3, before=(NOW,))
    assert (found.role, found.owners) == ("approver", ("owner-a", "owner-b"))
    with pytest.raises(VerificationError) as refused:  # nobody who reads only today's trust.json knows what they were
        judge(envelope, trust, log=LOG, index=3)
    assert refused.value.code == "statement-unsigned"
    with pytest.raises(VerificationError) as refused:
        judge(envelope, trust, log=LOG, index=10, before=(NOW,))
    assert refused.value.code == "key-retired"


def test_judged_passes_over_what_is_not_believed():
    trust = rotated("tester")
    envelope = sign(TESTED, SIM.keys("tester"))
    entries = [(index, envelope) for index in (9, 10)] + [(11, sign(RELEASE, SIM.keys("owner-a", "owner-b")))]
    found = list(judged(entries, trust, log=LOG, kind=PredicateType.TEST_RESULT, role="tester"))
    assert [(index, one.judgement) for index, one in found] == [(9, Judgement.SUPERSEDED)]
    assert not list(judged(entries, trust, log=LOG, kind=PredicateType.TEST_RESULT, role="builder"))
