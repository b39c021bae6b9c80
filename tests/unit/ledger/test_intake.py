# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from chopmark.errors import Refused, UndecidedError, UsageError
from chopmark.ledger import verify_proof
from chopmark.ledger.feed import feed
from chopmark.ledger.files import LedgerFiles
from chopmark.ledger.intake import Batcher, Intake
from chopmark.ledger.submit import KnownLog, judged
from unit.ledger.kit import NONE, ORIGIN, AwayClient, DirectClient, close, make_ledger, make_witness, policy_of


@pytest.fixture
def ledger(tmp_path):
    made = make_ledger(tmp_path)
    yield made
    close(made)


def require(ledger):
    return [key.encode() for key in ledger.verifier_keys]


def test_what_waits_while_one_batch_is_worked_on_is_the_next_batch():
    batches, go = [], threading.Semaphore(0)

    def work(items):
        go.acquire()
        batches.append(list(items))
        return [item * 2 for item in items]

    batcher = Batcher(work, capacity=8, max_batch=5)
    futures = [batcher.offer(0)]
    while not batcher._held or batcher._waiting:
        pass
    futures += [batcher.offer(item) for item in range(1, 8)]
    assert batcher.full
    with pytest.raises(UndecidedError) as busy:
        batcher.offer(8)
    assert busy.value.code == "log-busy"
    futures[3].cancel()
    go.release(3)
    batcher.close()
    assert batches == [[0], [1, 2, 4, 5], [6, 7]]
    assert [f.result() for f in futures if not f.cancelled()] == [0, 2, 4, 8, 10, 12, 14]
    with pytest.raises(UndecidedError):
        batcher.offer(9)


def test_an_error_is_the_answer_of_all_or_of_one():
    batcher = Batcher(lambda items: [ValueError("odd") if item else "fine" for item in items])
    assert batcher.offer(0).result() == "fine"
    with pytest.raises(ValueError, match="odd"):
        batcher.offer(1).result()
    batcher.close()
    batcher = Batcher(lambda items: {}[items[0]])
    with pytest.raises(KeyError):
        batcher.offer(1).result()
    batcher.close()


def test_entries_come_back_with_a_proof_and_keep_their_index(ledger):
    intake = Intake(ledger)
    entries = [b"entry %d" % (n % 40) for n in range(120)]
    answers = [future.result() for future in [intake.append(entry) for entry in entries]]
    intake.close()
    for entry, answer in zip(entries, answers, strict=True):
        seen = verify_proof(answer.proof, entry, origin=ORIGIN, require=require(ledger), policy=NONE)
        assert seen.index == answer.index
    assert len({a.index for a in answers}) == ledger.checkpoint.size == 40


def test_an_error_of_the_log_is_every_waiting_clients(ledger):
    intake = Intake(ledger)
    with pytest.raises(UsageError):
        intake.append(bytes(65_536)).result()
    assert intake.append(b"next").result().index == 0
    intake.close()


def test_witnesses_are_asked_once_for_all_that_wait(ledger):
    witnesses = [make_witness(f"w{n}", list(ledger.verifier_keys)) for n in range(2)]
    clients = {f"w{n}": DirectClient(witness) for n, witness in enumerate(witnesses)}
    policy = policy_of(witnesses, 2)
    intake = Intake(ledger, feed=lambda: feed(ledger, policy, clients))
    indices = [intake.append(b"%d" % n).result().index for n in range(8)]
    proofs = [future.result() for future in [intake.cosigned(index) for index in indices]]
    assert clients["w0"].asked <= 8
    for n, proof in enumerate(proofs):
        assert verify_proof(proof, b"%d" % n, origin=ORIGIN, require=require(ledger), policy=policy).cosigned_by
    asked = clients["w0"].asked
    assert intake.cosigned(0).result()
    assert clients["w0"].asked == asked  # it is covered already
    intake.close()


def test_without_a_quorum_the_entry_is_logged_and_the_proof_says_no_more(ledger):
    witness = make_witness("w0", list(ledger.verifier_keys))
    policy = policy_of([witness], 1)
    intake = Intake(ledger, feed=lambda: feed(ledger, policy, {"w0": AwayClient()}))
    appended = intake.append(b"one").result()
    with pytest.raises(Refused):
        intake.cosigned(appended.index).result()
    intake.close()
    known = KnownLog(origin=ORIGIN, require=require(ledger), policy=policy)
    seen = judged(appended.proof, b"one", known)
    assert (seen.witnessed, seen.included.index, seen.included.cosigned_by) == (False, 0, ())


def test_readers_are_never_shown_a_smaller_log_than_before(ledger):
    files = LedgerFiles(store=ledger._store, heads=ledger._heads)
    assert files.find("checkpoint") is None
    ledger.append([b"one"])
    first = ledger.signed_checkpoint()
    ledger.keep_witnessed(first)
    ledger.append([b"two"])
    second = ledger.signed_checkpoint()
    assert files.find("checkpoint") == second
    ledger.append([b"three"])  # its head is not signed yet
    assert files.find("checkpoint") == second
    assert files.find("checkpoint") != ledger.signed_checkpoint() == files.find("checkpoint")


def test_after_the_end_what_is_in_the_log_keeps_its_index(ledger):
    intake = Intake(ledger)
    ledger.append([b"old", b"older"])
    ledger.freeze(moved_to="there")
    answers = intake._commit([b"new", b"older", b"newer", b"old"])
    assert [getattr(each, "index", None) for each in answers] == [None, 1, None, 0]
    assert {each.code for each in answers if isinstance(each, UsageError)} == {"log-frozen"}
    assert verify_proof(answers[1].proof, b"older", origin=ORIGIN, require=require(ledger), policy=NONE).index == 1
    assert intake.append(b"old").result().index == 0
    with pytest.raises(UsageError):
        intake.append(b"newest").result()
    intake.close()
