# SPDX-License-Identifier: Apache-2.0
"""Whom the feeder asks, what it keeps, and what is said about who saw it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chopmark.errors import DecodeError, Refused, UsageError
from chopmark.keys import Algorithm
from chopmark.ledger import WitnessPolicy, witnessed_by
from chopmark.ledger.carry import answer_to, request_to, take_answers
from chopmark.ledger.feed import Fresh, feed, gather, last_quorum
from chopmark.ledger.witness import AddCheckpoint
from simulators import NOW
from unit.ledger.kit import AwayClient, DirectClient, MemoryWitnessStore, close, make_ledger, make_witness, policy_of

START = int(NOW.timestamp())


@pytest.fixture
def ledger(tmp_path):
    made = make_ledger(tmp_path)
    made.append([b"%d" % n for n in range(5)])
    yield made
    close(made)


def at(later_s, like, ledger):
    """The same witness, some seconds later."""
    made = make_witness("w", ledger.verifier_keys, at=NOW + timedelta(seconds=later_s), store=like._store)
    made._signers, made.verifier_keys = like._signers, like.verifier_keys
    return DirectClient(made)


def test_an_idle_head_is_cosigned_again_when_it_is_due(ledger):
    first = make_witness("w", ledger.verifier_keys, store=MemoryWitnessStore())
    policy = policy_of([first], 1)
    feed(ledger, policy, {"w0": DirectClient(first)})

    def again(later_s):
        client, now = at(later_s, first, ledger), START + later_s
        feed(ledger, policy, {"w0": client}, fresh=Fresh(since=now - 600, until=now + 300))
        return client.asked

    assert again(60) == 0
    assert again(600) == 0
    assert again(601) == 1, "old = size, and an empty proof"
    assert last_quorum(ledger, policy) == NOW + timedelta(seconds=601)
    ledger.append([b"new"])
    assert again(602) == 1, "a head that grew is nobody's yet"


def test_a_witness_that_is_away_keeps_its_line(ledger):
    witnesses = [make_witness(f"w{n}", ledger.verifier_keys) for n in range(2)]
    policy = policy_of(witnesses, 2)
    feed(ledger, policy, {f"w{n}": DirectClient(each) for n, each in enumerate(witnesses)})
    fed = feed(ledger, policy, {"w0": DirectClient(witnesses[0]), "w1": AwayClient()})
    assert fed.witnessed.cosigned_by == ("w0", "w1")
    assert list(fed.failed) == ["w1"]
    ledger.append([b"new"])
    with pytest.raises(Refused) as refused:
        feed(ledger, policy, {"w0": DirectClient(witnesses[0]), "w1": AwayClient()})
    assert "no answer" in refused.value.evidence["failed"]["w1"]
    assert last_quorum(ledger, policy) == NOW, "devices have this one still"


def test_a_witness_with_two_keys_is_asked_once(ledger):
    witness = make_witness("w", ledger.verifier_keys, algorithms=(Algorithm.ED25519, Algorithm.ML_DSA_44))
    ed, ml = (key.encode() for key in witness.verifier_keys)
    policy = WitnessPolicy.parse(f"witness e {ed}\nwitness m {ml}\ngroup w all e m\nquorum w\n")
    client = DirectClient(witness)
    assert feed(ledger, policy, {"e": client, "m": client}).witnessed.cosigned_by == ("e", "m")
    assert client.asked == 1
    ledger.append([b"new"])
    witness._signers, witness.verifier_keys = witness._signers[:1], witness.verifier_keys[:1]
    half = gather(ledger, policy, {"e": client, "m": client})
    assert list(half.failed) == ["m"], "it has lost one of its keys"


def test_no_quorum_yet(ledger):
    assert last_quorum(ledger, WitnessPolicy.parse("quorum none\n")) is None


def test_a_carried_request_goes_on_from_what_is_known(ledger):
    witness = make_witness("w", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    assert AddCheckpoint.decode(request_to(ledger, policy, {}, "w0")).old == 0
    take_answers(ledger, policy, [answer_to(witness, request_to(ledger, policy, {}, "w0"))])
    ledger.append([b"new"])
    request = request_to(ledger, policy, {}, "w0")
    assert AddCheckpoint.decode(request).old == 5
    assert AddCheckpoint.decode(request_to(ledger, policy, {}, "w0", old=3)).old == 3
    assert take_answers(ledger, policy, [answer_to(witness, request)]).witnessed.checkpoint.size == 6
    with pytest.raises(UsageError):
        request_to(ledger, policy, {}, "w9")
    with pytest.raises(UsageError):
        request_to(ledger, policy, {}, "w0", old=7)


def test_answers_about_two_checkpoints_are_two_answers(ledger):
    witness = make_witness("w", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    first = answer_to(witness, request_to(ledger, policy, {}, "w0"))
    ledger.append([b"new"])
    second = answer_to(witness, request_to(ledger, policy, {}, "w0", old=5))
    with pytest.raises(UsageError):
        take_answers(ledger, policy, [first, second])
    take_answers(ledger, policy, [second])
    late = take_answers(ledger, policy, [first])
    assert late.witnessed.checkpoint.size == 5
    kept = ledger.witnessed_checkpoint()
    assert kept is not None
    assert b"\n6\n" in kept, "the larger one stays"


# The phrase


def phrases(ledger):
    one = make_witness("w.example/1", ledger.verifier_keys, algorithms=(Algorithm.ED25519, Algorithm.ML_DSA_44))
    ed, ml = (key.encode() for key in one.verifier_keys)
    two, three = (make_witness(f"w.example/{n}", ledger.verifier_keys).verifier_keys[0].encode() for n in (2, 3))
    return WitnessPolicy.parse(
        f"witness 1-ed {ed}\nwitness 1-ml {ml}\nwitness 2 {two}\nwitness 3 {three}\n"
        "group 1 all 1-ed 1-ml\ngroup others any 2 3\ngroup both all 1 others\nquorum both\n"
    )


@pytest.mark.parametrize(
    ("cosigned", "external", "phrase"),
    [
        ((), (), "not witnessed"),
        ((), ("2",), "not witnessed"),
        (("1-ed", "2"), (), "witnessed: internal only"),
        (("1-ed", "2"), ("3",), "witnessed: internal only"),
        (("2", "1-ml", "1-ed"), ("2",), "witnessed: 1, 2 (external: 2)"),
        (("1-ed", "2"), ("2",), "witnessed: 1-ed, 2 (external: 2)"),
        (("1-ed", "1-ml", "2", "3"), ("others",), "witnessed: 1, 2, 3 (external: 2, 3)"),
        (("1-ed", "1-ml"), ("1",), "witnessed: 1 (external: 1)"),
        (("stranger",), ("both",), "not witnessed"),
    ],
)
def test_one_phrase_says_who_saw_it(ledger, cosigned, external, phrase):
    assert witnessed_by(phrases(ledger), cosigned, external) == phrase


def test_an_external_witness_that_the_policy_does_not_know_is_a_slip(ledger):
    with pytest.raises(DecodeError):
        witnessed_by(phrases(ledger), (), ("w9",))
