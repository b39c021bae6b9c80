# SPDX-License-Identifier: Apache-2.0
"""Attacks on witnesses, on who asks them, and on what is carried between them: one history is cosigned, or somebody is told."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from chopmark.adapters.sql import witness as sql_witness
from chopmark.errors import ChopmarkError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger import (
    Checkpoint,
    SignedNote,
    WitnessPolicy,
    decode_note,
    sign_checkpoint,
    verify_checkpoint,
)
from chopmark.ledger.carry import answer_to, request_to, take_answers
from chopmark.ledger.feed import Fresh, feed, last_quorum
from chopmark.ledger.witness import Witness, encode_request
from simulators import NOW, StandingClock
from simulators.crash import at_once
from unit.ledger.kit import (
    LOG_SIGNERS,
    ORIGIN,
    AwayClient,
    DirectClient,
    MemoryWitnessStore,
    close,
    ed25519_signer,
    make_ledger,
    make_witness,
    policy_of,
)

BOTH = (Algorithm.ED25519, Algorithm.ML_DSA_44)
ENV = {"PYTHONPATH": ":".join(sys.path)}


@pytest.fixture
def ledger(tmp_path):
    made = make_ledger(tmp_path)
    made.append([b"%d" % n for n in range(5)])
    yield made
    close(made)


@pytest.fixture
def fork(tmp_path):
    """The same keys, another history."""
    (tmp_path / "fork").mkdir()
    made = make_ledger(tmp_path / "fork")
    made.append([b"%d" % n for n in range(3)] + [b"another", b"history", b"and", b"a", b"longer", b"one"])
    yield made
    close(made)


def two_keys(name, ledger, **options):
    """A witness with two keys, and a policy that asks for both."""
    made = make_witness(name, ledger.verifier_keys, algorithms=BOTH, **options)
    ed, ml = (key.encode() for key in made.verifier_keys)
    policy = f"witness w1-ed {ed}\nwitness w1-mldsa {ml}\ngroup w1 all w1-ed w1-mldsa\nquorum w1\n"
    return made, WitnessPolicy.parse(policy)


# A stolen key


def test_a_stolen_ed25519_log_key_alone_gets_no_cosignature(ledger):
    witness = make_witness("w", ledger.verifier_keys)
    point = Checkpoint(origin=ORIGIN, size=5, root=b"\x13" * 32)
    forged = sign_checkpoint(point, LOG_SIGNERS[:1], timestamp=1).encode()
    answer = witness.add_checkpoint(encode_request(0, (), forged))
    assert (answer.status, b"ml-dsa-44" in answer.body) == (403, True)
    assert witness.add_checkpoint(encode_request(0, (), ledger.signed_checkpoint())).status == 200


def test_any_one_key_is_enough_only_where_the_witness_says_so(ledger):
    store = MemoryWitnessStore()
    loose = Witness(
        name="w",
        signers=[ed25519_signer(b"\x05" * 32)],
        logs={ORIGIN: ledger.verifier_keys},
        any_key=[ORIGIN],
        store=store,
        clock=StandingClock(),
    )
    half = sign_checkpoint(ledger.checkpoint, LOG_SIGNERS[:1], timestamp=1)
    assert loose.add_checkpoint(encode_request(0, (), half.encode())).status == 200
    nobody = SignedNote(
        text=half.text,
        signatures=(sign_checkpoint(ledger.checkpoint, [ed25519_signer(b"\x06" * 32)], timestamp=1).signatures),
    )
    assert loose.add_checkpoint(encode_request(5, (), nobody.encode())).status == 403


def test_a_policy_asks_for_both_algorithms_of_a_witness(ledger):
    """A quantum computer, or a thief of one key, makes one of the two lines; the group asks for all."""
    witness, policy = two_keys("w", ledger)
    fed = feed(ledger, policy, {name: client for client in [DirectClient(witness)] for name in ("w1-ed", "w1-mldsa")})
    assert fed.witnessed.cosigned_by == ("w1-ed", "w1-mldsa")
    note = decode_note(fed.note)
    require = [key.encode() for key in ledger.verifier_keys]
    for key in witness.verifier_keys:
        rest = tuple(line for line in note.signatures if (line.name, line.key_id) != (key.name, key.key_id))
        stripped = SignedNote(text=note.text, signatures=rest).encode()
        with pytest.raises(Refused) as refused:
            verify_checkpoint(stripped, origin=ORIGIN, require=require, policy=policy)
        assert refused.value.code == "log-unwitnessed"


# Killed, twice at once, restored

CRASHING = """
import os, signal, sys
from pathlib import Path
from chopmark.adapters.sql import witness as sql_witness
from unit.ledger.kit import ed25519_signer, open_ledger, make_witness

store = sql_witness.load(Path(sys.argv[1]) / "witness.db")
persist = store.replace

def before(*args):
    os.kill(os.getpid(), signal.SIGKILL)

def after(*args):
    persist(*args)
    os.kill(os.getpid(), signal.SIGKILL)

store.replace = {"before": before, "after": after}[sys.argv[2]]
body = (Path(sys.argv[1]) / "request").read_bytes()
from chopmark.ledger.witness import AddCheckpoint, Witness
from chopmark.ledger import VerifierKey
from simulators import StandingClock
keys = [VerifierKey.decode(vkey) for vkey in sys.argv[3:]]
Witness(name="w", signers=[ed25519_signer(bytes(range(32)))], logs={keys[0].name: keys}, store=store,
    clock=StandingClock()).add_checkpoint(body)
"""


def persistent(folder, ledger):
    return Witness(
        name="w",
        signers=[ed25519_signer(bytes(range(32)))],
        logs={ORIGIN: ledger.verifier_keys},
        store=sql_witness.load(folder / "witness.db"),
        clock=StandingClock(),
    )


@pytest.mark.parametrize(("moment", "remembers"), [("before", 0), ("after", 5)])
def test_killed_between_memory_and_answer(ledger, fork, tmp_path, moment, remembers):
    """What may have been answered is remembered, whether or not the answer went out."""
    sql_witness.create(tmp_path / "witness.db").close()
    (tmp_path / "request").write_bytes(encode_request(0, (), ledger.signed_checkpoint()))
    argv = [sys.executable, "-c", CRASHING, str(tmp_path), moment, *(key.encode() for key in ledger.verifier_keys)]
    assert subprocess.run(argv, env=ENV, check=False).returncode == -signal.SIGKILL
    witness = persistent(tmp_path, ledger)
    other = witness.add_checkpoint(encode_request(remembers, (), fork.signed_checkpoint()))
    assert other.status == (422 if remembers else 200)
    if remembers:  # and the log, which got no answer, asks again
        policy = policy_of([witness], 1)
        assert feed(ledger, policy, {"w0": DirectClient(witness)}).failed == {}
    witness._store.close()


def test_two_processes_of_one_witness_cosign_one_history(ledger, fork, tmp_path):
    sql_witness.create(tmp_path / "witness.db").close()
    bodies = [encode_request(0, (), each.signed_checkpoint()) for each in (ledger, fork)] * 2

    def asked(body):
        return lambda: persistent(tmp_path, ledger).add_checkpoint(body).status == 200

    answers = at_once([asked(body) for body in bodies])
    assert sum(answers) == 1


def test_a_memory_from_yesterday_is_noticed_by_the_feeder_and_outvoted(ledger, fork, tmp_path):
    """The witness itself cannot know; the log that it cosigned for does, and so do the other witnesses."""
    sql_witness.create(tmp_path / "witness.db").close()
    restored = persistent(tmp_path, ledger)
    others = [make_witness(f"w{n}", ledger.verifier_keys) for n in (1, 2)]
    policy = policy_of([restored, *others], 2)
    clients = {f"w{n}": DirectClient(witness) for n, witness in enumerate([restored, *others])}
    three = make_ledger(make_folder(tmp_path / "three"))
    three.append([b"%d" % n for n in range(3)])
    assert restored.add_checkpoint(encode_request(0, (), three.signed_checkpoint())).status == 200
    close(three)
    restored._store.close()
    shutil.copy(tmp_path / "witness.db", tmp_path / "yesterday.db")
    restored._store = sql_witness.load(tmp_path / "witness.db")
    assert feed(ledger, policy, clients).failed == {}
    restored._store.close()
    shutil.copy(tmp_path / "yesterday.db", tmp_path / "witness.db")
    restored._store = sql_witness.load(tmp_path / "witness.db")
    with pytest.raises(Refused) as refused:  # a fork from entry 3 on: the restored one would sign, and is one of three
        feed(fork, policy, clients)
    failed = refused.value.evidence["failed"]
    assert sorted(failed) == ["w1", "w2"]
    assert all(why.startswith("it answered 422") for why in failed.values())
    restored._store.close()
    shutil.copy(tmp_path / "yesterday.db", tmp_path / "witness.db")
    restored._store = sql_witness.load(tmp_path / "witness.db")
    ledger.append([b"more"])
    fed = feed(ledger, policy, clients)
    assert fed.witnessed.cosigned_by == ("w1", "w2")
    assert fed.failed["w0"].startswith("it cosigned 5 entries of this log and remembers 3")
    restored._store.close()


def make_folder(path):
    path.mkdir()
    return path


# Times


def test_an_old_cosignature_replaces_no_newer_one(ledger):
    """A witness whose clock was set back, or somebody who plays an old answer again."""
    store = MemoryWitnessStore()
    young = make_witness("w", ledger.verifier_keys, store=store, at=NOW)
    old = make_witness("w", ledger.verifier_keys, store=store, at=NOW - timedelta(days=1))
    old._signers, old.verifier_keys = young._signers, young.verifier_keys
    policy = policy_of([young], 1)
    newest = feed(ledger, policy, {"w0": DirectClient(young)})
    assert feed(ledger, policy, {"w0": DirectClient(old)}).note == newest.note
    assert last_quorum(ledger, policy) == NOW


def test_a_time_that_is_yet_to_come_is_not_fresh_for_ever(ledger):
    store = MemoryWitnessStore()
    ahead = make_witness("w", ledger.verifier_keys, store=store, at=NOW + timedelta(days=900))
    mended = make_witness("w", ledger.verifier_keys, store=store, at=NOW)
    mended._signers, mended.verifier_keys = ahead._signers, ahead.verifier_keys
    policy, now = policy_of([ahead], 1), int(NOW.timestamp())
    fresh = Fresh(since=now - 600, until=now + 300)
    feed(ledger, policy, {"w0": DirectClient(ahead)}, fresh=fresh)
    feed(ledger, policy, {"w0": DirectClient(mended)}, fresh=fresh)
    assert last_quorum(ledger, policy) == NOW


# Carried files


def test_a_carried_request_is_checked_as_over_http(ledger, fork):
    witness = make_witness("w", ledger.verifier_keys)
    policy = policy_of([witness], 1)
    request = request_to(ledger, policy, {}, "w0")
    answer = answer_to(witness, request)
    with pytest.raises(VerificationError, match=r"^409: it has seen 5 entries") as refused:
        answer_to(witness, request)
    assert (refused.value.code, refused.value.evidence["status"]) == ("witness-refused", 409)
    with pytest.raises(VerificationError, match=r"^422: "):
        answer_to(witness, encode_request(5, [bytes(32)] * 3, fork.signed_checkpoint()))
    with pytest.raises(VerificationError, match=r"^403: "):
        answer_to(witness, encode_request(5, (), request.split(b"\n\n", 1)[1].replace(b"\n5\n", b"\n6\n")))
    with pytest.raises(VerificationError, match=r"^400: "):
        answer_to(witness, b"\x00")
    with pytest.raises(VerificationError, match=r"^404: "):
        answer_to(make_witness("w", ledger.verifier_keys, origin="log.other"), request)
    assert take_answers(ledger, policy, [answer]).witnessed.cosigned_by == ("w0",)


def test_a_forged_answer_is_not_taken(ledger, fork):
    witness, stranger = (make_witness("w", ledger.verifier_keys) for _ in range(2))
    policy = policy_of([witness], 1)
    good = answer_to(witness, request_to(ledger, policy, {}, "w0"))
    note = decode_note(good)
    elsewhere = answer_to(make_witness("w", fork.verifier_keys), request_to(fork, policy, {}, "w0"))
    of_fork = answer_to(witness_of(witness), request_to(fork, policy, {}, "w0"))
    bad_line = note.signatures[-1].signature[:-1] + bytes([note.signatures[-1].signature[-1] ^ 1])
    forged = [
        b"",
        good[:-1],
        good.replace(b"\n5\n", b"\n4\n"),
        ledger.signed_checkpoint(),  # nobody cosigned
        answer_to(stranger, request_to(ledger, policy, {}, "w0")),  # whom the policy does not know
        SignedNote(text=note.text, signatures=note.signatures[2:]).encode(),  # without the log's own lines
        SignedNote(text=note.text, signatures=note.signatures[1:]).encode(),  # without one of them
        SignedNote(text=note.text, signatures=(*note.signatures[:-1], changed(note.signatures[-1], bad_line))).encode(),
        elsewhere,
        of_fork,  # cosigned by the right witness: of a history that is not this log's
    ]
    for data in forged:
        with pytest.raises(ChopmarkError) as refused:
            take_answers(ledger, policy, [data])
        assert not isinstance(refused.value, UndecidedError)
        assert ledger.witnessed_checkpoint() is None
    with pytest.raises(UsageError):
        take_answers(ledger, policy, [])
    assert take_answers(ledger, policy, [good]).witnessed.checkpoint == ledger.checkpoint


def witness_of(like):
    """The same keys with no memory: what a thief of the keys is."""
    thief = make_witness("w", next(iter(like._logs.values())))
    thief._signers, thief.verifier_keys = like._signers, like.verifier_keys
    return thief


def changed(line, signature):
    return type(line)(name=line.name, key_id=line.key_id, signature=signature)


def test_answers_below_the_quorum_are_not_kept(ledger):
    witnesses = [make_witness(f"w{n}", ledger.verifier_keys) for n in range(3)]
    policy = policy_of(witnesses, 3)
    online = {"w0": DirectClient(witnesses[0]), "w1": AwayClient()}
    answers = [answer_to(witnesses[n], request_to(ledger, policy, online, f"w{n}")) for n in (1, 2)]
    with pytest.raises(Refused) as refused:
        take_answers(ledger, policy, answers[:1])
    assert refused.value.code == "log-unwitnessed"
    assert ledger.witnessed_checkpoint() is None
    ledger.append([b"meanwhile the log grows"])
    fed = take_answers(ledger, policy, answers)  # the cosignature of w0 travelled along
    assert (fed.witnessed.checkpoint.size, fed.witnessed.cosigned_by) == (5, ("w0", "w1", "w2"))


def test_a_lost_memory_is_not_made_anew(ledger, tmp_path):
    """Whoever deletes witness.db does not get a witness that cosigns from the start again."""
    from chopmark.apps.service.main import main
    from chopmark.ledger.place import write_witness_config

    vkeys = [key.encode() for key in ledger.verifier_keys]
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "witness.toml").write_bytes(write_witness_config("w", vkeys))
    with pytest.raises(UndecidedError) as caught:
        main(["witness", "--folder", str(tmp_path / "w")])
    assert caught.value.code == "store-missing"
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["witness.toml"]
